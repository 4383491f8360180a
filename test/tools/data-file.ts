/** Files measured by others, read where they lie (`dataDirectory`) and never copied into the tree. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { dataDirectory } from "./processes.ts";

/**
 * The path of `name`; undefined when it is not there, and then the run says so. Where ISOCHRONE_DATA names the directory a
 * missing file is not forgiven: the path is returned and the suite fails.
 */
export function dataFile(name: string): string | undefined {
  const directory = dataDirectory();
  const path = directory === undefined ? undefined : join(directory, name);
  if (path !== undefined && (existsSync(path) || process.env["ISOCHRONE_DATA"] !== undefined)) return path;
  console.log(`what reads the real ${name} is skipped: it is not there (set ISOCHRONE_DATA)`);
  return undefined;
}

import { IsochroneError } from "../errors.ts";
import { readFileIfThere } from "./files.ts";

/** A world of thousands of sites is smaller; more is a mistake or an attack. `parseWorld` has the same limit, in characters. */
const WORLD_BYTES_MAX = 16 * 1024 * 1024;

/**
 * The text of a world file, for `parseWorld` of `#kit/world`. Apart from it, because most processes read no world and should
 * not load a YAML reader. Throws IsochroneError (source "configuration") that names the file and says what to do.
 */
export function readWorldText(path: string): string {
  const bytes = readFileIfThere(path, WORLD_BYTES_MAX);
  if (bytes === undefined)
    throw new IsochroneError(
      `Cannot read ${JSON.stringify(path)}: no such file; name a world file, such as deploy/worlds/demo.yaml`,
      { code: "ENOENT", source: "configuration", retry: "never" },
    );
  return bytes.toString("utf8");
}

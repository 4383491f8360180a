import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { IsochroneError } from "../errors.ts";
import { readFileIfThere } from "./files.ts";

/** A world of thousands of sites is smaller; more is a mistake or an attack. `parseWorld` has the same limit, in characters. */
const WORLD_BYTES_MAX = 16 * 1024 * 1024;

const shipped = (name: string) => fileURLToPath(new URL(`../../deploy/worlds/${name}.yaml`, import.meta.url));

/**
 * The path that a person means: a path as it is, else the name of a world that comes with Isochrone ("demo", "small").
 * Throws IsochroneError (source "configuration") when it is neither, and says what to do.
 */
export function resolveWorldPath(nameOrPath: string): string {
  if (existsSync(nameOrPath)) return nameOrPath;
  if (/^[a-z0-9-]{1,64}$/.test(nameOrPath) && existsSync(shipped(nameOrPath))) return shipped(nameOrPath);
  throw new IsochroneError(
    `Cannot read ${JSON.stringify(nameOrPath)}: no such file; name a world file, or "demo" or "small" for the ones that come with Isochrone`,
    { code: "ENOENT", source: "configuration", retry: "never" },
  );
}

/**
 * The text of a world, by path or name, for `parseWorld` of `#kit/world`. Apart from it, because most processes read no
 * world and should not load a YAML reader. Throws IsochroneError (source "configuration") that names the file and says what to do.
 */
export function readWorldText(nameOrPath: string): string {
  const path = resolveWorldPath(nameOrPath);
  const bytes = readFileIfThere(path, WORLD_BYTES_MAX);
  if (bytes === undefined)
    throw new IsochroneError(`Cannot read ${JSON.stringify(path)}: it was there a moment ago; try again`, {
      code: "ENOENT",
      source: "configuration",
      retry: "never",
    });
  return bytes.toString("utf8");
}

/** Reads the world that is to be simulated: a path, or the name of one that comes with Isochrone. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { readFileIfThere } from "#kit/io";
import { parseWorld, type World } from "#kit/world";

/** A world of the size that the schema allows is far smaller. */
const WORLD_BYTES_MAX = 16 * 1024 * 1024;

/** No such file. */
export class NoWorldError extends Error {
  constructor(nameOrPath: string) {
    super(
      `No world file ${JSON.stringify(nameOrPath)}; give a path, or "demo" or "small" for the ones that come with Isochrone`,
    );
    this.name = "NoWorldError";
  }
}

/** Throws NoWorldError, IsochroneError (unreadable, too large) or WorldError (file:line:column, path, value, expectation). */
export function readWorld(nameOrPath: string): World {
  const shipped = fileURLToPath(new URL(`../../deploy/worlds/${nameOrPath}.yaml`, import.meta.url));
  const isName = /^[a-z0-9-]+$/.test(nameOrPath);
  const path = existsSync(nameOrPath) ? nameOrPath : isName && existsSync(shipped) ? shipped : undefined;
  const data = path === undefined ? undefined : readFileIfThere(path, WORLD_BYTES_MAX);
  if (path === undefined || data === undefined) throw new NoWorldError(nameOrPath);
  return parseWorld(data.toString("utf8"), path);
}

/** Finding and reading world files: a path, or the name of one that comes with Isochrone. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { readWorldText } from "#kit/io";
import { UsageError } from "./usage.ts";

const shipped = (name: string) => fileURLToPath(new URL(`../deploy/worlds/${name}.yaml`, import.meta.url));

/** `demo`, `small`, or a path; without one the demo world. */
export function resolveWorldPath(nameOrPath = "demo"): string {
  if (existsSync(nameOrPath)) return nameOrPath;
  if (/^[a-z0-9-]+$/.test(nameOrPath) && existsSync(shipped(nameOrPath))) return shipped(nameOrPath);
  throw new UsageError(
    `No world file ${JSON.stringify(nameOrPath)}; give a path, or "demo" or "small" for the ones that come with Isochrone`,
  );
}

/** Text of a world file; {@link UsageError} when there is none of that name, IsochroneError when it cannot be read. */
export function readWorldFile(nameOrPath: string): string {
  return readWorldText(resolveWorldPath(nameOrPath));
}

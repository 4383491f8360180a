/** Finding and reading world files: a path, or the name of one that comes with Isochrone. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { readFileIfThere } from "#kit/io";
import { UsageError } from "./usage.ts";

/** A world of the size that the schema allows is far smaller; more is a mistake or an attack. */
const WORLD_BYTES_MAX = 16 * 1024 * 1024;

const shipped = (name: string) => fileURLToPath(new URL(`../deploy/worlds/${name}.yaml`, import.meta.url));

/** `demo`, `small`, or a path; without one the demo world. */
export function resolveWorldPath(nameOrPath = "demo"): string {
  if (existsSync(nameOrPath)) return nameOrPath;
  if (/^[a-z0-9-]+$/.test(nameOrPath) && existsSync(shipped(nameOrPath))) return shipped(nameOrPath);
  throw new UsageError(
    `No world file ${JSON.stringify(nameOrPath)}; give a path, or "demo" or "small" for the ones that come with Isochrone`,
  );
}

/** Text of a world file; {@link UsageError} when it is missing or too large. */
export function readWorldFile(nameOrPath: string): string {
  const path = resolveWorldPath(nameOrPath);
  const data = readFileIfThere(path, WORLD_BYTES_MAX);
  if (data === undefined) throw new UsageError(`No world file ${JSON.stringify(path)}`);
  return data.toString("utf8");
}

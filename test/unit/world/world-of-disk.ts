import { readFileSync } from "node:fs";
import { parseWorld, type World } from "#kit/world";

/** One of the worlds of deploy/worlds. */
export function worldOfDisk(name: "demo" | "small"): World {
  return parseWorld(
    readFileSync(new URL(`../../../deploy/worlds/${name}.yaml`, import.meta.url), "utf8"),
    `${name}.yaml`,
  );
}

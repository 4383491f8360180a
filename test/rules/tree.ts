/** The tree as the rules see it: what lies in it, without what tools and runs leave behind. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Manifest } from "./layers.ts";

/** The root of the checkout. */
export const ROOT = join(import.meta.dirname, "..", "..");

const SKIPPED = new Set(["node_modules", "dist", "coverage"]);

/** Paths of every source file of ours, relative to the root, sorted. Files of the top level (configuration) are left out. */
export function sourcePaths(): string[] {
  return globSync("*/**/*.{ts,tsx,js,mjs,cjs,mts,cts}", {
    cwd: ROOT,
    exclude: (name) => SKIPPED.has(name.split("/").at(-1) ?? ""),
  })
    .map((path) => path.replaceAll("\\", "/"))
    .toSorted();
}

/** The text of a file of the tree. */
export function textOf(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** package.json as the rules need it. */
export interface PackageJson extends Manifest {
  readonly allowScripts: Readonly<Record<string, boolean>>;
}

/** Reads package.json; its shape is npm's, and a missing table fails the tests that ask for it. */
export function packageJson(): PackageJson {
  return JSON.parse(textOf("package.json")) as PackageJson;
}

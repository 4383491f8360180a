/** Goal: the layer table holds over the whole tree. Method: every import of every file is read from its syntax tree. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { breaksOf, importsOf, ROOMS, TOP_LEVEL } from "./layers.ts";
import { packageJson, ROOT, sourcePaths, textOf } from "./tree.ts";

const paths = sourcePaths();
const manifest = packageJson();

describe("the layer table", () => {
  test("is looked at over a tree that is really there", () => {
    expect(paths).toContain("test/rules/layers.test.ts");
    expect(paths).toContain("cli/isochrone.js");
    const imports = paths.flatMap((path) => importsOf(path, textOf(path)));
    expect(imports.length).toBeGreaterThan(paths.length);
  }, 60_000);

  test("is kept by every import", () => {
    expect(paths.flatMap((path) => breaksOf(path, textOf(path), manifest))).toEqual([]);
  });
});

describe("the house", () => {
  test("has nothing at the top level that the design does not name", () => {
    const strangers = readdirSync(ROOT).filter((name) => !name.startsWith(".") && !TOP_LEVEL.includes(name));
    expect(strangers).toEqual([]);
  });

  const built = ROOMS.filter((room) => existsSync(join(ROOT, room)));
  test.each(built)("%s has a face and a page that explains it", (room) => {
    expect(existsSync(join(ROOT, room, "mod.ts")), `${room}/mod.ts`).toBe(true);
    expect(existsSync(join(ROOT, room, "README.md")), `${room}/README.md`).toBe(true);
    expect(manifest.imports[`#${room}`]).toBe(`./${room}/mod.ts`);
  });
});

describe("package.json", () => {
  test("names every package by an exact version", () => {
    const versions = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies });
    expect(versions.length).toBeGreaterThan(0);
    expect(versions.filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version))).toEqual([]);
  });

  test("is locked, with every platform's optional package: npm ci refuses a lock file that leaves one out", () => {
    const { packages } = JSON.parse(textOf("package-lock.json")) as {
      packages: Record<string, { optionalDependencies?: Record<string, string> }>;
    };
    const locked = Object.keys(packages);
    const wanted = Object.values(packages).flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}));
    expect(wanted.length).toBeGreaterThan(0);
    expect(wanted.filter((name) => !locked.some((key) => key.endsWith(`node_modules/${name}`)))).toEqual([]);
  });

  test("allows install scripts only where one is needed: Node itself", () => {
    expect(manifest.allowScripts).toEqual({ node: true, koffi: false });
  });
});

/**
 * Goal: each rule can fail. Method: breaks are planted, for the layer table as sources that are in no file, for the linter
 * as files of a temporary tree that is checked with the real configuration; beside each break stands a twin that is allowed.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { breaksOf } from "./layers.ts";
import { packageJson, ROOT } from "./tree.ts";

const manifest = packageJson();

/** Path, source, and whether the layer table refuses it. */
const LAYER_CASES: readonly (readonly [path: string, source: string, isRefused: boolean])[] = [
  ["edge/core/a.ts", `import { x } from "#kit";`, false],
  ["edge/core/a.ts", `import { x } from "./b.ts";`, false],
  ["edge/core/a.ts", `import type { World } from "#kit/world";`, false],
  ["edge/core/a.ts", `import { parseWorld } from "#kit/world";`, true],
  ["edge/core/a.ts", `import { x } from "#kit/io";`, true],
  ["edge/core/a.ts", `import { x } from "#transport";`, true],
  ["edge/core/a.ts", `import { x } from "../io/b.ts";`, true],
  ["edge/core/a.ts", `import { x } from "../config.ts";`, true],
  ["edge/core/a.ts", `import type { x } from "../../mapping/core/b.ts";`, true],
  ["edge/core/a.ts", `import { readFileSync } from "node:fs";`, true],
  ["edge/core/a.ts", `import type { Agent } from "undici";`, true],
  ["edge/core/a.ts", `export const a = import("node:fs");`, true],
  ["edge/core/a.ts", `export const a = (name: string) => import(name);`, true],
  ["edge/core/a.ts", `export type A = import("undici").Agent;`, true],
  [
    "edge/io/a.ts",
    `import { x } from "../core/b.ts"; import { y } from "#control"; import "node:net";`,
    false,
  ],
  ["edge/io/a.ts", `import { x } from "#mapping";`, true],
  ["edge/io/a.ts", `import type { x } from "#mapping";`, true],
  ["edge/io/a.ts", `export { x } from "#mapping";`, true],
  ["edge/io/a.ts", `export * from "../../mapping/mod.ts";`, true],
  ["edge/io/a.ts", `const { x } = await import("#mapping");`, true],
  ["edge/io/a.ts", `import { x } from "../../transport/mod.ts";`, true],
  ["edge/io/a.ts", `import { x } from "#nowhere";`, true],
  ["edge/main.ts", `import { test } from "vitest";`, true],
  ["edge/main.ts", `import { x } from "left-pad";`, true],
  ["mapping/io/a.ts", `import { x } from "#edge";`, true],
  ["mapping/io/a.ts", `import { x } from "#transport";`, false],
  ["transport/io/a.ts", `import { x } from "#control";`, true],
  ["control/io/a.ts", `import { x } from "#transport";`, false],
  ["control/io/a.ts", `import { x } from "#analytics";`, true],
  ["analytics/io/a.ts", `import { x } from "#control";`, false],
  ["analytics/io/a.ts", `import { x } from "#portal";`, true],
  ["portal/io/a.ts", `import { x } from "#control";`, false],
  ["portal/io/a.ts", `import { x } from "#edge";`, true],
  ["portal/web/a.tsx", `import { render } from "preact"; export const a = <p />;`, false],
  ["portal/web/a.tsx", `import { readFileSync } from "node:fs";`, true],
  ["portal/web/a.tsx", `import { x } from "../io/a.ts";`, true],
  ["kit/a.ts", `import { x } from "./b.ts";`, false],
  ["kit/a.ts", `import { x } from "./io/b.ts";`, true],
  ["kit/a.ts", `import xxhash from "xxhash-wasm";`, true],
  ["kit/hash.ts", `import xxhash from "xxhash-wasm";`, false],
  ["kit/hash.ts", `import { parse } from "yaml";`, true],
  ["kit/world/a.ts", `import { parse } from "yaml"; import { x } from "#kit";`, false],
  ["kit/world/a.ts", `import { readFileSync } from "node:fs";`, true],
  ["kit/documents/a.ts", `import { parse } from "yaml";`, true],
  ["kit/io/a.ts", `import { readFileSync } from "node:fs"; import { x } from "#kit";`, false],
  ["kit/io/a.ts", `import { x } from "#edge";`, true],
  ["sim/io/a.ts", `import { x } from "../../edge/core/b.ts"; import { y } from "#mapping";`, false],
  ["sim/io/a.ts", `import { x } from "../../edge/io/b.ts";`, true],
  ["sim/core/a.ts", `import { x } from "../../edge/core/b.ts";`, true],
  ["origin-sim/io/a.ts", `import { x } from "#edge";`, true],
  ["cli/a.ts", `import { x } from "#edge"; const b = await import(name);`, false],
  ["cli/a.ts", `import { x } from "../edge/io/b.ts";`, true],
  ["cli/a.ts", `const { main } = await import("../mapping/main-dns.ts");`, false],
  ["sim/io/a.ts", `const { main } = await import("../../mapping/main.ts");`, true],
  ["test/unit/a.test.ts", `import { test } from "vitest"; import { x } from "../../edge/core/b.ts";`, false],
  ["test/unit/a.test.ts", `import { x } from "../../edge/io/b.ts";`, true],
  ["attic/a.ts", `export const a = 1;`, true],
];

test.each(LAYER_CASES)("%s: %s (refused: %s)", (path, source, isRefused) => {
  const breaks = breaksOf(path, source, manifest);
  expect(breaks.length, breaks.join("\n")).toBe(isRefused ? 1 : 0);
});

test("a file that does not parse is not passed over", () => {
  expect(() => breaksOf("edge/core/a.ts", "import {", manifest)).toThrow(/Cannot parse "edge\/core\/a.ts"/);
});

/** File, source, and the rules that must refuse it (empty: the twin that is allowed). */
const LINT_CASES: readonly (readonly [path: string, source: string, rules: readonly string[]])[] = [
  ["edge/core/date-now.ts", "export const a = (): number => Date.now();", ["no-restricted-globals"]],
  ["edge/core/new-date.ts", "export const a = (x: number) => new Date(x);", ["no-restricted-globals"]],
  ["edge/core/clock.ts", "export const a = () => performance.now();", ["no-restricted-globals"]],
  ["edge/core/dice.ts", "export const a = (): number => Math.random();", ["no-restricted-properties"]],
  ["edge/core/dice-taken.ts", "export const { random } = Math;", ["no-restricted-properties"]],
  ["edge/core/timer.ts", "export const a = () => setTimeout(() => {}, 1);", ["no-restricted-globals"]],
  ["edge/core/env.ts", "export const a = () => process.env;", ["no-restricted-globals"]],
  ["edge/core/bytes.ts", 'export const a = () => Buffer.from("");', ["no-restricted-globals"]],
  ["edge/core/uuid.ts", "export const a = () => crypto.randomUUID();", ["no-restricted-globals"]],
  ["edge/core/hidden.ts", "export const a = () => globalThis.Date.now();", ["no-restricted-globals"]],
  [
    "edge/core/locale.ts",
    "export const a = (x: string) => x.localeCompare(x);",
    ["no-restricted-properties"],
  ],
  ["edge/core/async.ts", "export async function a(): Promise<void> {}", ["no-async-await"]],
  ["edge/core/async-arrow.ts", "export const a = async (): Promise<number> => 1;", ["no-async-await"]],
  ["edge/core/promise.ts", "export const a = () => Promise.resolve(1);", ["no-restricted-globals"]],
  ["edge/core/deep/node.ts", 'export { readFileSync } from "node:fs";', ["no-restricted-imports"]],
  [
    "edge/io/http.ts",
    'import { request } from "node:http";\nexport const a = request;',
    ["no-restricted-imports"],
  ],
  ["edge/core/package.ts", 'export { Agent } from "undici";', ["no-restricted-imports"]],
  ["edge/core/driver.ts", 'export { a } from "#kit/io";', ["no-restricted-imports"]],
  ["kit/time.ts", "export const a = () => Date.now();", ["no-restricted-globals"]],
  ["kit/documents/a.ts", 'export { parse } from "yaml";', ["no-restricted-imports"]],
  ["kit/world/yaml.ts", 'export { parse } from "yaml";', []],
  ["kit/world/node.ts", 'export { readFileSync } from "node:fs";', ["no-restricted-imports"]],
  ["kit/world/dice.ts", "export const a = () => Math.random();", ["no-restricted-properties"]],
  ["kit/hash.ts", 'export { default } from "xxhash-wasm";', []],
  ["kit/io/clock.ts", "export const a = (): number => Date.now() + Math.random();", []],
  ["edge/io/clock.ts", 'export { Agent } from "undici";\nexport const a = (): number => Date.now();', []],
  [
    "edge/io/floating.ts",
    "const a = async (): Promise<void> => {};\nexport const b = () => { a(); };",
    ["no-floating-promises"],
  ],
  [
    "edge/io/misused.ts",
    'export const a = async (): Promise<boolean> => true;\nif (a()) throw new Error("");',
    ["no-misused-promises"],
  ],
  [
    "edge/io/round-1.ts",
    'import { b } from "./round-2.ts";\nexport const a = (): number => b();',
    ["no-cycle"],
  ],
  [
    "edge/io/round-2.ts",
    'import { a } from "./round-1.ts";\nexport const b = (): number => a();',
    ["no-cycle"],
  ],
  ["transport/mod.ts", 'export { c } from "./io/c.ts";\nexport const face = 1;', ["no-cycle"]],
  [
    "transport/io/c.ts",
    'import { face } from "#transport";\nexport const c = (): number => face;',
    ["no-cycle"],
  ],
  ["edge/io/line.ts", 'import { a } from "./clock.ts";\nexport const b = (): number => a();', []],
];

interface LintReport {
  readonly diagnostics: readonly { readonly code: string; readonly filename: string }[];
  readonly number_of_files: number;
}

describe("the linter with the real configuration", () => {
  let directory = "";
  let report: LintReport;
  let exitCode: number | null;

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "isochrone-rules-"));
    for (const name of [".oxlintrc.json", "tsconfig.json", "package.json"]) {
      copyFileSync(join(ROOT, name), join(directory, name));
    }
    symlinkSync(join(ROOT, "node_modules"), join(directory, "node_modules"));
    for (const [path, source] of LINT_CASES) {
      mkdirSync(dirname(join(directory, path)), { recursive: true });
      writeFileSync(join(directory, path), `${source}\n`);
    }
    const run = spawnSync(join(ROOT, "node_modules", ".bin", "oxlint"), ["--format", "json"], {
      cwd: directory,
      encoding: "utf8",
    });
    exitCode = run.status;
    report = JSON.parse(run.stdout) as LintReport;
  }, 60_000);

  afterAll(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  test("reads every planted file and fails", () => {
    expect(report.number_of_files).toBe(LINT_CASES.length);
    expect(exitCode).toBe(1);
  });

  test.each(LINT_CASES)("%s", (path, _source, rules) => {
    const codes = report.diagnostics
      .filter(({ filename }) => filename.replaceAll("\\", "/") === path)
      .map(({ code }) => code.replace(/^.*\((.*)\)$/, "$1"));
    if (rules.length === 0) expect(codes).toEqual([]);
    else expect(codes).toEqual(expect.arrayContaining([...rules]));
  });
});

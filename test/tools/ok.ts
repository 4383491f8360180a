/**
 * The one gate, `npm run ok`: format, types, lint, dead code and the fast tests, one after the other. Every step runs
 * even when an earlier one failed, so that one run tells everything; the exit code is 1 when any step failed.
 *
 * `--skip NAME` leaves a step out (`.ci/run` skips `tests`, because it runs the whole suite right after).
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

const root = join(import.meta.dirname, "..", "..");
const binDirectory = join(root, "node_modules", ".bin");

/** Name, program of node_modules/.bin, arguments. In the order of how fast they fail. */
const STEPS = [
  ["format", "biome", ["format", "."]],
  ["types", "tsc", ["--noEmit", "-p", "."]],
  ["lint", "oxlint", []],
  ["dead-code", "knip", ["--no-config-hints"]],
  ["tests", "vitest", ["run", "--project", "fast"]],
] as const;

const names: readonly string[] = STEPS.map(([name]) => name);
const skipped = new Set<string>();
for (let index = 2; index < process.argv.length; index += 2) {
  const [flag, name = ""] = process.argv.slice(index, index + 2);
  if (flag !== "--skip" || !names.includes(name)) {
    console.error(`ok: "${flag ?? ""} ${name}" is not understood, expected --skip ${names.join("|")}`);
    process.exit(2);
  }
  skipped.add(name);
}
if (!existsSync(binDirectory)) {
  console.error(`ok: ${binDirectory} does not exist: run "npm ci"`);
  process.exit(2);
}

const results: string[] = [];
let isFailed = false;
for (const [name, program, args] of STEPS) {
  if (skipped.has(name)) continue;
  console.log(`== ${name}: ${program} ${args.join(" ")}`);
  const startedMs = performance.now();
  const { status, error } = spawnSync(join(binDirectory, program), args, {
    cwd: root,
    stdio: "inherit",
    // The tools are scripts that ask for `node`: they get the pinned one, however this file was started.
    env: { ...process.env, PATH: `${binDirectory}${delimiter}${process.env["PATH"] ?? ""}` },
  });
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  if (error !== undefined) console.error(`ok: cannot run ${program}: ${error.message}`);
  if (status !== 0) isFailed = true;
  results.push(`${status === 0 ? "ok    " : "FAILED"} ${name} (${seconds} s)`);
}
console.log(`== summary\n${results.join("\n")}`);
process.exitCode = isFailed ? 1 : 0;

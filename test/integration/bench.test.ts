/** The benchmarks run and say what they should; what they measure is nobody's business here. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BenchResult } from "../bench/tools/measure.ts";
import { requireProgram } from "../tools/processes.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const wrk = requireProgram("wrk");

/** Runs `npm run bench -- ARGS` without npm. */
async function bench(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [join(ROOT, "test", "bench", "run.ts"), ...args], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (output.stderr += text));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, ...output };
}

describe.skipIf(wrk === undefined)("npm run bench", () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "isochrone-bench-test-"));
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  test("hit measures hits only, and report makes a page of what it kept", async () => {
    const kept = join(directory, "hit.json");
    // A peer that is not installed is left out; nginx shows the comparison where it is.
    const only = ["--only", "isochrone/default,nginx/tuned", "--workloads", "1KiB-c32,304-c32"];
    const { code, stdout, stderr } = await bench(
      "hit",
      ...only,
      "--seconds=1",
      "--rounds=1",
      "--warm-up=0",
      `--out=${kept}`,
    );
    expect(stderr).toContain("us CPU a request");
    const result = JSON.parse(stdout) as BenchResult;
    expect(JSON.parse(readFileSync(kept, "utf8"))).toEqual(result);
    expect(result.leftOut).toEqual([]);
    expect(code).toBe(0);
    const ours = result.runs.filter((run) => run.server === "isochrone");
    expect(ours.map((run) => run.workload)).toEqual(["1KiB-c32", "304-c32"]);
    for (const run of ours) {
      expect(run.requests).toBeGreaterThan(0);
      expect(run.cpuSeconds).toBeGreaterThan(0);
      expect(run.pssBytes).toBeGreaterThan(0);
      expect(run.errors).toBe(0);
    }
    expect(result.machine.cores).toBeGreaterThan(0);

    const report = await bench("report", "--from", directory, "--to", directory);
    expect(report.code).toBe(0);
    expect(existsSync(join(directory, "report.html"))).toBe(true);
    expect(readFileSync(join(directory, "headline.md"), "utf8")).toContain("| 1 KiB, 32 connections |");
  });

  test("rules tells every case, and that each request met the rules that it should", async () => {
    const { code, stdout } = await bench("rules", "--ms=1", "--rounds=1");
    expect(code).toBe(0);
    const { cases, hostile } = JSON.parse(stdout) as Record<"cases" | "hostile", readonly unknown[]>;
    expect([cases.length, hostile.length]).toEqual([16, 15]);
  });

  test("options are refused with what was expected", async () => {
    const { code, stderr } = await bench("hit", "--only", "apache");
    expect(code).toBe(2);
    expect(stderr).toContain('--only: got "apache", expected some of isochrone');
  });
});

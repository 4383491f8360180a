/** Goal: the command's exit codes and its one line for bad input. Method: the one command in this process, output caught. */
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { run } from "../../../cli/main.ts";

const main = (argv: readonly string[]): Promise<number> => run(["sim", ...argv]);

const caught = (): { out: string[]; err: string[] } => {
  const out: string[] = [];
  const err: string[] = [];
  vi.spyOn(console, "log").mockImplementation((line: string) => void out.push(line));
  vi.spyOn(console, "error").mockImplementation((line: string) => void err.push(line));
  return { out, err };
};
afterEach(() => vi.restoreAllMocks());

test.each([
  [["no-such-world"], 'no such file; name a world file, or "demo"'],
  [["small", "demo"], "One world"],
  [["small", "--seconds", "5"], "--seconds"],
  [["small", "--faults", "meteor"], "--faults"],
  [["small", "--sed", "1"], "--sed"],
])("%j is refused with code 2 and one line", async (argv, says) => {
  const { out, err } = caught();
  expect(await main(argv)).toBe(2);
  expect(out).toEqual([]);
  expect(err).toHaveLength(1);
  expect(err[0]).toContain(says);
  expect(err[0]).not.toContain("\n");
});

test("a world with a fault is refused with file, line and column", async () => {
  const path = join(mkdtempSync(join(tmpdir(), "isochrone-sim-")), "bad.yaml");
  writeFileSync(path, "name: bad\nregions: []\nclients: []\nsurprise: 1\n");
  const { err } = caught();
  expect(await main([path])).toBe(2);
  expect(err[0]).toMatch(/bad\.yaml:\d+:\d+/);
});

test("a short run reports as JSON and writes its trace", async () => {
  const trace = join(mkdtempSync(join(tmpdir(), "isochrone-sim-")), "trace.txt");
  const { out } = caught();
  expect(
    await main([
      "small",
      "--seed",
      "2",
      "--seconds",
      "40",
      "--faults",
      "cluster-loss",
      "--json",
      "--trace",
      trace,
    ]),
  ).toBe(0);
  const report = JSON.parse(out[0] ?? "") as { verdict: string; fired: Record<string, number> };
  expect(report.verdict).toBe("ok");
  expect(report.fired["cluster-loss"]).toBeGreaterThan(0);
  expect(readFileSync(trace, "utf8")).toContain("cluster-loss");
});

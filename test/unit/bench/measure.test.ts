import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, expect, test } from "vitest";
import { zipfSequence } from "../../bench/tools/load.ts";
import { mediansOf, ratiosOf, type Run } from "../../bench/tools/measure.ts";
import { treeOf, usageOf } from "../../bench/tools/process-tree.ts";
import { sampleRun } from "./sample-run.ts";

function run(server: string, round: number, requestsPerCpuSecond: number): Run {
  return sampleRun({
    server,
    round,
    requests: requestsPerCpuSecond,
    requestsPerSecond: requestsPerCpuSecond,
    requestsPerCpuSecond,
  });
}

describe("comparing runs", () => {
  const runs = [
    run("isochrone", 1, 60_000),
    run("nginx", 1, 40_000),
    run("isochrone", 2, 70_000),
    run("nginx", 2, 50_000),
    // A noisy round of ours must not move the median.
    run("isochrone", 3, 10_000),
    run("nginx", 3, 50_000),
  ];

  test("the median of each figure stands for the rounds", () => {
    expect(mediansOf(runs).map((one) => [one.server, one.requestsPerCpuSecond, one.round])).toEqual([
      ["isochrone", 60_000, 0],
      ["nginx", 50_000, 0],
    ]);
  });

  test("a ratio is of medians, and its spread is over the pairs of a round", () => {
    expect(ratiosOf(runs, "isochrone/default")).toEqual([
      {
        workload: "1KiB-c32",
        server: "isochrone/default",
        peer: "nginx/default",
        ratio: 1.2,
        ratioMin: 0.2,
        ratioMax: 1.5,
      },
    ]);
  });

  test("a peer alone has no ratio", () => {
    expect(ratiosOf([run("nginx", 1, 1)], "isochrone/default")).toEqual([]);
  });
});

describe("the popularity law", () => {
  const sequence = zipfSequence(10_000, 65_536);

  test("is the same for every server and stays within its ranks", () => {
    expect(zipfSequence(10_000, 65_536)).toEqual(sequence);
    expect(Math.min(...sequence)).toBe(0);
    expect(Math.max(...sequence)).toBeLessThan(10_000);
  });

  test("asks the first rank about 2^0.9 times as often as the second, and most ranks at all", () => {
    const count = (rank: number): number => sequence.filter((one) => one === rank).length;
    expect(count(0) / count(1)).toBeGreaterThan(1.6);
    expect(count(0) / count(1)).toBeLessThan(2.2);
    expect(new Set(sequence).size).toBeGreaterThan(6000);
  });
});

describe.skipIf(process.platform !== "linux")("the cost of a process tree", () => {
  test("counts children while they live and after they were reaped", async () => {
    // A shell that runs one busy child to its end, then says so and waits.
    const shell = spawn(
      "sh",
      ["-c", "i=0; (while [ $i -lt 300000 ]; do i=$((i+1)); done); echo done; read x"],
      {
        stdio: ["pipe", "pipe", "inherit"],
      },
    );
    try {
      const pid = shell.pid ?? 0;
      await once(shell.stdout, "data");
      const usage = usageOf([pid]);
      expect(usage.cpuSeconds).toBeGreaterThan(0.01);
      expect(usage.userSeconds).toBeLessThanOrEqual(usage.cpuSeconds);
      expect(usage.rssBytes).toBeGreaterThan(0);
      expect(treeOf(process.pid)).toContain(pid);
    } finally {
      shell.kill("SIGKILL");
    }
  });

  test("a process that is gone costs nothing", () => {
    expect(usageOf([2 ** 30]).cpuSeconds).toBe(0);
  });
});

import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import type { Run } from "../../bench/tools/measure.ts";
import { hasCpuQuota, limitEach } from "../../bench/tools/cpu-quota.ts";
import { usageOf } from "../../bench/tools/process-tree.ts";
import { scaling } from "../../bench/workers.ts";
import { sampleRun } from "./sample-run.ts";

function run(form: string, workload: string, requestsPerSecond: number, requestsPerCpuSecond: number): Run {
  return sampleRun({
    server: "isochrone",
    form,
    workload,
    requests: requestsPerSecond,
    requestsPerSecond,
    requestsPerCpuSecond,
  });
}

test("full workers scale by what they completed, free ones by twice the work of a CPU-second", () => {
  const ratios = scaling([
    run("1-worker", "1KiB-c64", 70_000, 100_000),
    run("2-workers", "1KiB-c64", 60_000, 80_000),
    run("1-worker", "1KiB-full", 15_000, 100_000),
    run("2-workers", "1KiB-full", 28_500, 90_000),
  ]);
  expect(ratios.map(({ workload, server, ratio }) => [workload, server, ratio])).toEqual([
    ["1KiB-full", "isochrone/2-workers", 1.9],
    ["1KiB-c64", "isochrone/2-workers", 1.6],
  ]);
});

test.runIf(hasCpuQuota)(
  "a process gets its part of a core, and all that there is when it is let go",
  async () => {
    const child = spawn(process.execPath, ["-e", "for (;;);"], { stdio: "ignore" });
    const pid = child.pid ?? -1;
    try {
      await once(child, "spawn");
      const letGo = limitEach([pid], 0.15);
      const before = usageOf([pid]).cpuSeconds;
      const startedMs = performance.now();
      await sleep(400);
      const share = (usageOf([pid]).cpuSeconds - before) / ((performance.now() - startedMs) / 1_000);
      letGo();
      // Its first instant, before the limit, and a period that has begun.
      expect(share).toBeLessThan(0.25);
      expect(() => limitEach([pid], 0.15)()).not.toThrow();
    } finally {
      child.kill("SIGKILL");
    }
  },
);

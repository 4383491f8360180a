/**
 * What a second worker adds. On a machine whose cores the load generator shares, requests a second cannot double; what can be seen
 * there is the work of each CPU-second: with two workers it must stay what it was with one, or coordination eats the second.
 * So the scaling is 2 x (requests per CPU-second with two workers) / (the same with one); requests a second stand beside it.
 */
import { isochrone } from "./peers/isochrone.ts";
import { nginx } from "./peers/nginx.ts";
import type { Server } from "./peers/peer.ts";
import { labelOf, measure, type Ratio, ratiosOf, type Run, type Workload } from "./tools/measure.ts";
import { benchOptions, publish } from "./tools/options.ts";
import { startOrigin } from "./tools/origin.ts";
import { hitWorkload, KIBIBYTE, zipfWorkload } from "./tools/workloads.ts";

export const summary = "one worker and two: the work of a CPU-second, 1 KiB hits of one URL and of 10,000";

const COUNTS = [1, 2];
/** Connections for two workers, so that each has as many as the one of the other benchmarks. */
const CONNECTIONS = 64;

const WORKLOADS: readonly Workload[] = [
  hitWorkload("1KiB-c64", "1 KiB, one URL, 64 connections", KIBIBYTE, CONNECTIONS, { threads: 2 }),
  zipfWorkload("zipf-c64", CONNECTIONS, { threads: 2 }),
];

function withWorkers(server: Server, workers: number): Server {
  const form = `${workers}-worker${workers > 1 ? "s" : ""}`;
  return { ...server, form, note: `${server.note}; ${workers} worker${workers > 1 ? "s" : ""}` };
}

function workersOf(server: { readonly form: string }): number {
  return Number.parseInt(server.form, 10);
}

/** For each program: two workers against one; times two, because the second has a CPU of its own where there is one. */
function scaling(runs: readonly Run[]): Ratio[] {
  const names = [...new Set(runs.map((run) => run.server))];
  return names.flatMap((name) => {
    const own = runs.filter((run) => run.server === name);
    const two = own.find((run) => workersOf(run) === 2);
    if (two === undefined) return [];
    return ratiosOf(own, labelOf(two)).map((ratio) => ({
      ...ratio,
      ratio: 2 * ratio.ratio,
      ratioMin: 2 * ratio.ratioMin,
      ratioMax: 2 * ratio.ratioMax,
    }));
  });
}

export async function main(argv: readonly string[]): Promise<number> {
  const kinds = [
    ...isochrone.filter((server) => server.form === "default"),
    ...nginx.filter((server) => server.form === "tuned"),
  ];
  const servers = kinds.flatMap((server) => COUNTS.map((count) => withWorkers(server, count)));
  const options = benchOptions(argv, "workers", summary, servers, WORKLOADS);
  if (options === undefined) return 0;
  const origin = await startOrigin();
  try {
    const result = await measure({
      name: "workers",
      ...options,
      origin,
      setting: { role: "cache", workers: 1 },
      settingOf: (server) => ({ workers: workersOf(server) }),
    });
    return publish({ ...result, ratios: scaling(result.runs) }, options.out);
  } finally {
    origin.stop();
  }
}

/**
 * What a second worker adds, in two ways.
 *
 * Full: each worker may take a small part of a core, so that one and two have all that they can do while the clients, on the same cores,
 * have room: then the completed requests tell. On a machine whose cores its clients share this is the fair one: workers that wait for
 * clients are woken more often, by clients of other cores the more of them there are, and that is no work of theirs.
 *
 * Free: without that limit. Requests a second cannot double there; what can be seen is the work of each CPU-second, so the scaling is
 * 2 x (requests per CPU-second with two workers) / (the same with one).
 */
import { isochrone } from "./peers/isochrone.ts";
import { nginx } from "./peers/nginx.ts";
import type { Server } from "./peers/peer.ts";
import { labelOf, measure, type Ratio, ratiosOf, type Run, type Workload } from "./tools/measure.ts";
import { hasCpuQuota, limitEach } from "./tools/cpu-quota.ts";
import { benchOptions, publish } from "./tools/options.ts";
import { startOrigin } from "./tools/origin.ts";
import { treeOf } from "./tools/process-tree.ts";
import { hitWorkload, KIBIBYTE, zipfWorkload } from "./tools/workloads.ts";

export const summary = "one worker and two, full and free: 1 KiB hits of one URL and of 10,000";

const COUNTS = [1, 2];
/** Connections for two workers, so that each has as many as the one of the other benchmarks. */
const CONNECTIONS = 64;

/** For each full worker: so many that requests always wait, for what it takes in at once must not be what differs. */
const FULL_CONNECTIONS = 128;
/** Of a core, for each full worker: with 0.3 the clients on two cores could not always keep two of them full. */
const CORE_SHARE = 0.2;
/** A worker that has taken less of its part than this was not full. */
const FULL_SHARE_MIN = 0.9;

const FULL_NOTE = `full workers (${FULL_CONNECTIONS} connections and ${CORE_SHARE * 100} % of a core each)`;

const FREE: readonly Workload[] = [
  hitWorkload("1KiB-c64", "1 KiB, one URL, 64 connections", KIBIBYTE, CONNECTIONS, { threads: 2 }),
  zipfWorkload("zipf-c64", CONNECTIONS, { threads: 2 }),
];
const FULL: readonly Workload[] = [
  hitWorkload("1KiB-full", `1 KiB, one URL, ${FULL_NOTE}`, KIBIBYTE, FULL_CONNECTIONS, { threads: 2 }),
  {
    ...zipfWorkload("zipf-full", FULL_CONNECTIONS, { threads: 2 }),
    note: `1 KiB, 10,000 URLs by a Zipf law of exponent 0.9, ${FULL_NOTE}`,
  },
];

function isFull({ workload }: { readonly workload: string }): boolean {
  return FULL.some(({ name }) => name === workload);
}

function withWorkers(server: Server, workers: number): Server {
  const form = `${workers}-worker${workers > 1 ? "s" : ""}`;
  return { ...server, form, note: `${server.note}; ${workers} worker${workers > 1 ? "s" : ""}` };
}

function workersOf(server: { readonly form: string }): number {
  return Number.parseInt(server.form, 10);
}

/** For each program two workers against one: by completed requests where they were full, else by the work of as many CPU-seconds. */
export function scaling(runs: readonly Run[]): Ratio[] {
  const names = [...new Set(runs.map((run) => run.server))];
  return names.flatMap((name) => {
    const own = runs.filter((run) => run.server === name);
    const two = own.find((run) => workersOf(run) === 2);
    if (two === undefined) return [];
    return [
      ...ratiosOf(own.filter(isFull), labelOf(two), (run) => run.requestsPerSecond),
      ...ratiosOf(
        own.filter((run) => !isFull(run)),
        labelOf(two),
        (run) => workersOf(run) * run.requestsPerCpuSecond,
      ),
    ];
  });
}

/** How much of its part a worker took, in the mean of a run's. */
function takenShare(run: Run): number {
  return run.cpuSeconds / (run.seconds * workersOf(run) * CORE_SHARE);
}

export async function main(argv: readonly string[]): Promise<number> {
  const kinds = [
    ...isochrone.filter((server) => server.form === "default"),
    ...nginx.filter((server) => server.form === "tuned"),
  ];
  const servers = kinds.flatMap((server) => COUNTS.map((count) => withWorkers(server, count)));
  const options = benchOptions(argv, "workers", summary, servers, [...FREE, ...FULL]);
  if (options === undefined) return 0;
  if (!hasCpuQuota) console.error("left out, no writable cpu controller of cgroup v1: full workers");
  const origin = await startOrigin();
  try {
    const result = await measure({
      name: "workers",
      ...options,
      workloads: options.workloads.filter(({ name }) => hasCpuQuota || !isFull({ workload: name })),
      origin,
      setting: { role: "cache", workers: 1 },
      settingOf: (server) => ({ workers: workersOf(server) }),
      connectionsOf: (server, { name, load }) =>
        isFull({ workload: name }) ? load.connections * workersOf(server) : load.connections,
      // A process that is no worker is idle and needs no part of its own.
      confine: (running, { name }) =>
        isFull({ workload: name }) ? limitEach(running.pids.flatMap(treeOf), CORE_SHARE) : undefined,
    });
    for (const run of result.runs.filter(isFull))
      if (takenShare(run) < FULL_SHARE_MIN)
        console.error(
          `${run.workload} round ${run.round} ${labelOf(run)} was not full: ${(takenShare(run) * 100).toFixed(0)} % of its part`,
        );
    return publish({ ...result, ratios: scaling(result.runs) }, options.out);
  } finally {
    origin.stop();
  }
}

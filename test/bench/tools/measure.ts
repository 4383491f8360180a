/**
 * How servers are compared: all of them run at once, their loads take turns (A B C A B C ...), so that a noisy minute hits all alike;
 * the figure is requests per CPU-second of the server's process tree, its median over the rounds. Before each load one answer is
 * looked at: right status, right length, out of the cache; after it the origin is asked what reached it.
 */
import { loadavg } from "node:os";
import { messageOf } from "../../../cli/usage.ts";
import { header, type RunningServer, type Server, type Setting } from "../peers/peer.ts";
import { type Answer, ask, type Question } from "./ask.ts";
import { decoded } from "./coding.ts";
import { type Load, type LoadResult, runLoad } from "./load.ts";
import { describeCommit, describeMachine, type Machine } from "./machine.ts";
import type { Origin } from "./origin.ts";
import { usageOf } from "./process-tree.ts";

/** What one load asks for, and what a right answer is. */
export interface Workload {
  /** `1KiB-c32`: short, for tables and `--workloads`. */
  readonly name: string;
  readonly note: string;
  readonly load: Omit<Load, "port" | "seconds">;
  /** How much longer than others it is warmed up; 1 where absent. */
  readonly warmUpTimes?: number;
  readonly expected: {
    readonly status: number;
    /** Of the content, without its coding. */
    readonly bodyBytes: number;
    /** Whether it must come compressed, in whatever coding. */
    readonly isCoded?: boolean;
    /** Whether every answer must come out of the cache. */
    readonly isHit: boolean;
  };
}

/** One load on one server. */
export interface Run extends LoadResult {
  readonly server: string;
  readonly form: string;
  readonly workload: string;
  /** 1, 2, ...; 0 in a median. */
  readonly round: number;
  readonly requestsPerCpuSecond: number;
  readonly cpuMicrosecondsPerRequest: number;
  /** User + system time of the server's process tree during the load. */
  readonly cpuSeconds: number;
  readonly userSeconds: number;
  /** At the end of the load. */
  readonly rssBytes: number;
  readonly pssBytes: number;
  /** Requests that reached the origin during the load. */
  readonly originRequests: number;
  /** The machine's one-minute load average: much above the number of cores is a noisy run. */
  readonly loadAverage: number;
}

/** How one server stands beside another in one workload: above 1 it does more work. */
export interface Ratio {
  readonly workload: string;
  readonly server: string;
  readonly peer: string;
  readonly ratio: number;
  /** Smallest and largest ratio of the pairs of runs of one round: how far noise reaches. */
  readonly ratioMin: number;
  readonly ratioMax: number;
}

/** What a benchmark prints and `--out` keeps. */
export interface BenchResult {
  readonly name: string;
  readonly date: string;
  readonly commit: string;
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  readonly notes: Readonly<Record<string, string>>;
  readonly options: { readonly seconds: number; readonly rounds: number };
  readonly workloads: readonly { readonly name: string; readonly note: string }[];
  readonly runs: readonly Run[];
  readonly medians: readonly Run[];
  readonly ratios: readonly Ratio[];
  readonly leftOut: readonly LeftOut[];
}

/** What could not be measured, and why. */
export interface LeftOut {
  readonly server: string;
  readonly workload: string;
  readonly why: string;
  /** A wrong answer, not a limit of the tools. */
  readonly isFault: boolean;
}

export interface MeasureOptions {
  readonly name: string;
  readonly servers: readonly Server[];
  readonly workloads: readonly Workload[];
  readonly origin: Origin;
  readonly setting: Omit<Setting, "originPort">;
  /** Where forms differ in more than their configuration: what of the setting is another for this server. */
  readonly settingOf?: (server: Server) => Partial<Setting>;
  /** Where servers are asked by different numbers of connections: how many for this one. */
  readonly connectionsOf?: (server: Server, workload: Workload) => number;
  /** What a server is held to during the loads that count; the result lets it go again. */
  readonly confine?: (running: RunningServer, workload: Workload) => (() => void) | undefined;
  readonly seconds: number;
  readonly rounds: number;
  /** Seconds of load before the first round of each workload, not counted: caches fill, code is compiled. */
  readonly warmUpSeconds: number;
}

/** `nginx/tuned` */
export function labelOf(one: { readonly form: string } & ({ name: string } | { server: string })): string {
  return `${"name" in one ? one.name : one.server}/${one.form}`;
}

/** Longest time that a server may take to make a compressed form in the background; between two looks. */
const SETTLE_TIMEOUT_MS = 30_000;
const SETTLE_PAUSE_MS = 100;
/** Share of requests that may reach the origin although all must be hits: one revalidation is no miss storm. */
const ORIGIN_SHARE_MAX = 0.001;

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >>> 1;
  const high = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? 0) + high) / 2;
}

/** The median of each figure over the runs of one server and workload. */
function medianRun(runs: readonly Run[]): Run {
  const [first] = runs;
  if (first === undefined) throw new Error("A median of no runs");
  const entries = Object.entries(first).map(([key, value]) =>
    typeof value === "number"
      ? [key, median(runs.map((run) => run[key as keyof Run] as number))]
      : [key, value],
  );
  return { ...(Object.fromEntries(entries) as unknown as Run), round: 0 };
}

/** Medians of a list of runs, in the order in which servers and workloads first appear. */
export function mediansOf(runs: readonly Run[]): Run[] {
  const groups = Map.groupBy(runs, (run) => `${run.workload} ${labelOf(run)}`);
  return [...groups.values()].map(medianRun);
}

/**
 * Ours against every other form.
 *
 * @param ours a label such as `isochrone/default`
 * @param figureOf what is compared: more is better
 */
export function ratiosOf(
  runs: readonly Run[],
  ours: string,
  figureOf = (run: Run): number => run.requestsPerCpuSecond,
): Ratio[] {
  const medians = mediansOf(runs);
  const of = (workload: string, label: string): Run[] =>
    runs.filter((run) => run.workload === workload && labelOf(run) === label);
  return medians
    .filter((run) => labelOf(run) !== ours)
    .flatMap((peer): Ratio[] => {
      const own = medians.find((run) => run.workload === peer.workload && labelOf(run) === ours);
      if (own === undefined || figureOf(peer) === 0) return [];
      const peers = of(peer.workload, labelOf(peer));
      const pairs = of(peer.workload, ours).flatMap((run) => {
        const pair = peers.find((other) => other.round === run.round);
        return pair === undefined ? [] : [figureOf(run) / figureOf(pair)];
      });
      return [
        {
          workload: peer.workload,
          server: ours,
          peer: labelOf(peer),
          ratio: figureOf(own) / figureOf(peer),
          ratioMin: Math.min(...pairs),
          ratioMax: Math.max(...pairs),
        },
      ];
    });
}

/** Fills the cache, then looks at one answer. @throws Error that says what is wrong with it */
async function check(server: Server, running: RunningServer, workload: Workload, isPriming: boolean) {
  const { load, expected } = workload;
  const port = portOf(running, load);
  const request = { scheme: load.scheme, protocol: load.protocol, port, headers: load.headers };
  const paths = load.isUnique === true ? [`${load.paths[0] ?? "/"}-check-${performance.now()}`] : load.paths;
  // Twice: what a server stores only after its first answer has gone is there at the second.
  if (isPriming)
    for (let time = 0; time < 2; time += 1) await ask({ ...request, headers: {}, paths, isQuiet: true });
  const first = paths.slice(0, 1);
  const [answer] = await (isPriming && expected.isCoded === true
    ? settled(server, { ...request, paths: first, isQuiet: false })
    : ask({ ...request, paths: first, isQuiet: false }));
  const fault = (what: string, head = answer?.headers): Error =>
    new Error(`${what}; head: ${JSON.stringify(head)}`);
  if (answer === undefined) throw fault("no answer");
  if (answer.status !== expected.status) throw fault(`status ${answer.status}, expected ${expected.status}`);
  const coding = header(answer.headers, "content-encoding");
  if ((coding !== "") !== (expected.isCoded ?? false))
    throw fault(`content coding ${JSON.stringify(coding)}`);
  const bodyBytes = coding === "" ? answer.bodyBytes : decoded(answer.content, coding).byteLength;
  if (bodyBytes !== expected.bodyBytes)
    throw fault(`${bodyBytes} body bytes, expected ${expected.bodyBytes}`);
  if (!expected.isHit) return;
  // Without conditions, because some servers say less in a 304.
  const [whole] = await ask({ ...request, headers: {}, paths: first, isQuiet: false });
  if (!server.isHit(whole?.headers ?? {})) throw fault("the answer is not a hit", whole?.headers);
}

/** Asks until the answer is the one that the server stays with. */
async function settled(server: Server, question: Question): Promise<Answer[]> {
  for (const endMs = performance.now() + SETTLE_TIMEOUT_MS; ; ) {
    const answers = await ask(question);
    if (server.isSettled?.(answers[0]?.headers ?? {}) ?? true) return answers;
    if (performance.now() > endMs) throw new Error(`no compressed form after ${SETTLE_TIMEOUT_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, SETTLE_PAUSE_MS));
  }
}

function loadOf(server: Server, workload: Workload, { connectionsOf }: MeasureOptions): Workload["load"] {
  const { load } = workload;
  return { ...load, connections: connectionsOf?.(server, workload) ?? load.connections };
}

function portOf(running: RunningServer, load: Workload["load"]): number {
  const port = load.scheme === "https" ? running.tlsPort : running.port;
  if (port === undefined) throw new Error("The server has no TLS port");
  return port;
}

/** Starts all servers, takes turns, stops them. Talks on stderr. */
export async function measure(options: MeasureOptions): Promise<BenchResult> {
  const { servers, workloads, origin } = options;
  const started: { server: Server; running: RunningServer }[] = [];
  const runs: Run[] = [];
  const leftOut: LeftOut[] = [];
  const leaveOut = (server: Server, workload: Workload, why: string, isFault: boolean): void => {
    leftOut.push({ server: labelOf(server), workload: workload.name, why, isFault });
    console.error(`${workload.name.padEnd(14)} ${labelOf(server)} left out: ${why}`);
  };
  const versions: Record<string, string> = {};
  try {
    for (const server of servers) {
      versions[server.name] ??= await server.version();
      const running = await server.start({
        ...options.setting,
        ...options.settingOf?.(server),
        originPort: origin.port,
      });
      started.push({ server, running });
      console.error(`${labelOf(server)} runs: pid ${running.pids.join(", ")}, port ${running.port}`);
    }
    for (const workload of workloads) {
      const able = new Set<(typeof started)[number]>();
      for (const one of started) {
        const { protocol } = one.server;
        if (protocol !== undefined && protocol !== workload.load.protocol) {
          leaveOut(one.server, workload, `it speaks ${protocol} only`, false);
          continue;
        }
        try {
          await check(one.server, one.running, workload, true);
          if (options.warmUpSeconds > 0)
            await runLoad({
              ...loadOf(one.server, workload, options),
              port: portOf(one.running, workload.load),
              seconds: options.warmUpSeconds * (workload.warmUpTimes ?? 1),
            });
          able.add(one);
        } catch (error) {
          leaveOut(one.server, workload, messageOf(error), true);
        }
      }
      for (let round = 1; round <= options.rounds; round += 1)
        for (const one of able) {
          const { server, running } = one;
          try {
            await check(server, running, workload, false);
            const run = await runOnce(server, running, workload, round, options);
            if (run.requests === 0) {
              // wrk waits for a body when a 304 has Content-Length, which RFC 9110, 8.6 allows.
              leaveOut(server, workload, "the load generator saw no complete answer", false);
              able.delete(one);
              continue;
            }
            runs.push(run);
            console.error(line(run));
          } catch (error) {
            leaveOut(server, workload, messageOf(error), true);
            able.delete(one);
          }
        }
    }
  } finally {
    for (const { running } of started) await running.stop();
  }
  const [ours = servers[0]] = servers.filter((server) => server.name === "isochrone");
  return {
    name: options.name,
    date: new Date().toISOString(),
    commit: describeCommit(),
    machine: describeMachine(),
    versions,
    notes: Object.fromEntries(servers.map((server) => [labelOf(server), server.note])),
    options: { seconds: options.seconds, rounds: options.rounds },
    workloads: workloads.map(({ name, note }) => ({ name, note })),
    runs,
    medians: mediansOf(runs),
    ratios: ours === undefined ? [] : ratiosOf(runs, labelOf(ours)),
    leftOut,
  };
}

function line(run: Run): string {
  return (
    `${run.workload.padEnd(14)} round ${run.round}  ${labelOf(run).padEnd(22)}` +
    `${run.cpuMicrosecondsPerRequest.toFixed(1).padStart(9)} us CPU a request` +
    `${run.requestsPerSecond.toFixed(0).padStart(9)}/s  p99 ${run.p99Ms.toFixed(2)} ms` +
    (run.errors > 0 ? `  ${run.errors} ERRORS` : "")
  );
}

async function runOnce(
  server: Server,
  running: RunningServer,
  workload: Workload,
  round: number,
  options: MeasureOptions,
): Promise<Run> {
  const requestsBefore = await options.origin.requests();
  const letGo = options.confine?.(running, workload);
  const before = usageOf(running.pids);
  const result = await runLoad({
    ...loadOf(server, workload, options),
    port: portOf(running, workload.load),
    seconds: options.seconds,
  }).finally(letGo);
  const after = usageOf(running.pids);
  const originRequests = (await options.origin.requests()) - requestsBefore;
  if (workload.expected.isHit && originRequests > Math.max(2, result.requests * ORIGIN_SHARE_MAX))
    throw new Error(`${originRequests} of ${result.requests} requests reached the origin, expected hits`);
  const cpuSeconds = after.cpuSeconds - before.cpuSeconds;
  return {
    server: server.name,
    form: server.form,
    workload: workload.name,
    round,
    ...result,
    requestsPerCpuSecond: cpuSeconds > 0 ? result.requests / cpuSeconds : 0,
    cpuMicrosecondsPerRequest: result.requests > 0 ? (cpuSeconds * 1e6) / result.requests : 0,
    cpuSeconds,
    userSeconds: after.userSeconds - before.userSeconds,
    rssBytes: after.rssBytes,
    pssBytes: after.pssBytes,
    originRequests,
    loadAverage: loadavg()[0] ?? 0,
  };
}

/**
 * Name servers beside each other: answers by client network with ECS, under dnsperf. The figure is queries per server CPU-second.
 * All servers run at once and take turns; before each load a sample of the queries is asked and its answers are checked.
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { loadavg } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { messageOf, UsageError } from "../../cli/usage.ts";
import { positiveNumber, wholeNumber } from "../tools/flags.ts";
import { freePort, waitFor } from "../tools/processes.ts";
import { addressesFor, type Deployment, drawDeployment } from "./name-servers/deployment.ts";
import { isochrone } from "./name-servers/isochrone.ts";
import type { NameServer, RunningNameServer } from "./name-servers/name-server.ts";
import { peers } from "./name-servers/peers.ts";
import { addressesOf, namesAsked, queryBytes, queryFile, type QueryShape } from "./name-servers/queries.ts";
import { hasCpuQuota, limitEach } from "./tools/cpu-quota.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";
import { treeOf, usageOf } from "./tools/process-tree.ts";
import { findProgram, runToEnd, scratchDirectory } from "./tools/program.ts";

export const summary =
  "answers by client network with ECS, beside gdnsd, Knot, PowerDNS, BIND and dns2 under dnsperf";

const HELP = `Usage: npm run bench -- dns [options]

${summary}

  --seconds N     length of one load (default 4)
  --rounds N      how often each server takes its turn (default 3); the figure is the median
  --warm-up N     seconds of load before the first round (default 2)
  --networks N    client networks (default 10000)
  --clusters N    clusters of two servers (default 30)
  --outstanding N queries that dnsperf has under way for each worker of a server (default 256)
  --rate N        at most so many queries a second: what one costs where the server is not full (default: as many as it answers)
  --core-share N  each process of a server has this share of a core, so that servers and their workers are full while dnsperf
                  has room (default: all they can have); needs a writable cpu controller of cgroup v1
  --only LIST     servers by name or name/form (default: all found on PATH)
  --workloads LIST  ecs, policies, plain (default: all)
  --out FILE      keep the JSON there too
  --help
`;

const WORKLOADS: Readonly<Record<string, QueryShape & { readonly note: string }>> = {
  ecs: {
    note: "A (80 %) and AAAA, each with EDNS and a client subnet of its own",
    aaaaRatio: 0.2,
    hasEcs: true,
  },
  policies: {
    note: "A (80 %) and AAAA of names that are decided by weight, by failover and by the client's network, with ECS as above",
    aaaaRatio: 0.2,
    hasEcs: true,
    isOfPolicies: true,
  },
  plain: { note: "A (80 %) and AAAA, no EDNS", aaaaRatio: 0.2, hasEcs: false },
};
const QUERIES_IN_FILE = 100_000;
const CHECKED_QUERIES = 50;
const ASK_TIMEOUT_MS = 2_000;
const CHECK_TIMEOUT_MS = 20_000;
/** Sockets that dnsperf sends from: enough for the kernel to spread them evenly over workers. */
const CLIENTS = 64;
const SEED = 20261126;

interface DnsRun {
  readonly server: string;
  readonly workload: string;
  readonly round: number;
  readonly queriesPerCpuSecond: number;
  readonly cpuMicrosecondsPerQuery: number;
  readonly queries: number;
  readonly lost: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly userSeconds: number;
  readonly latencyMeanMs: number;
  readonly answerBytesMean: number;
  readonly rssBytes: number;
  readonly loadAverage: number;
}

const labelOf = (server: NameServer): string => `${server.name}/${server.form}`;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      seconds: { type: "string", default: "4" },
      rounds: { type: "string", default: "3" },
      "warm-up": { type: "string", default: "2" },
      networks: { type: "string", default: "10000" },
      clusters: { type: "string", default: "30" },
      outstanding: { type: "string", default: "256" },
      rate: { type: "string" },
      "core-share": { type: "string" },
      only: { type: "string" },
      workloads: { type: "string" },
      out: { type: "string" },
      help: { type: "boolean" },
    },
  });
  const known = [...isochrone, ...peers];
  if (values.help === true) {
    console.log(
      `${HELP}\nServers:\n${known.map((one) => `  ${labelOf(one).padEnd(22)}${one.note}`).join("\n")}`,
    );
    return 0;
  }
  const seconds = wholeNumber("seconds", values.seconds, 1, 600);
  const rounds = wholeNumber("rounds", values.rounds, 1, 100);
  const warmUpSeconds = wholeNumber("warm-up", values["warm-up"], 0, 600);
  const networks = wholeNumber("networks", values.networks, 10, 200_000);
  const clusters = wholeNumber("clusters", values.clusters, 3, 200);
  const outstanding = wholeNumber("outstanding", values.outstanding, 1, 65_536);
  const rate = values.rate === undefined ? undefined : wholeNumber("rate", values.rate, 1, 10_000_000);
  const coreShare =
    values["core-share"] === undefined ? undefined : positiveNumber("core-share", values["core-share"], 1);
  if (coreShare !== undefined && !hasCpuQuota)
    throw new UsageError("--core-share: no writable cpu controller of cgroup v1 here");
  const dnsperf = findProgram("dnsperf");
  if (dnsperf === undefined) throw new UsageError("dnsperf is not on PATH: apt-get install dnsperf");
  const wanted = chosen("only", values.only, known, (one) => [one.name, labelOf(one)]);
  const workloads = chosen("workloads", values.workloads, Object.keys(WORKLOADS), (name) => [name]);
  const missing = wanted.filter((one) => one.program === undefined).map((one) => one.name);
  if (missing.length > 0) console.error(`left out, not on PATH: ${missing.join(", ")}`);

  const livez = createServer((_request, response) => response.end("ok")).listen(0, "0.0.0.0");
  await once(livez, "listening");
  const { port } = livez.address() as AddressInfo;
  const deployment = drawDeployment({ networks, clusters, seed: SEED, port, dnsPort: 53 });
  const started: { server: NameServer; running: RunningNameServer }[] = [];
  const runs: DnsRun[] = [];
  const leftOut: { server: string; why: string }[] = [];
  const versions: Record<string, string> = {};
  try {
    for (const server of wanted.filter((one) => one.program !== undefined)) {
      try {
        versions[server.name] ??= (await server.version()).trim();
        started.push({ server, running: await server.start(deployment, await freePort()) });
        console.error(`${labelOf(server)} runs`);
      } catch (error) {
        leftOut.push({ server: labelOf(server), why: messageOf(error) });
        console.error(`${labelOf(server)} left out: ${messageOf(error)}`);
      }
    }
    for (const workload of workloads) {
      const shape = WORKLOADS[workload] as QueryShape;
      const file = join(scratchDirectory("dnsperf", true), "queries");
      writeFileSync(file, queryFile(deployment, shape, QUERIES_IN_FILE, SEED));
      const load = ({ workers = 1 }: NameServer, at: number, length: number) => {
        const args = dnsperfArguments(at, file, length, outstanding * workers, rate);
        return runToEnd(dnsperf, args, 60_000 + length * 2_000);
      };
      for (let round = 0; round <= rounds; round += 1)
        for (const { server, running } of started) {
          if (shape.isOfPolicies === true && server.hasPolicies !== true) continue;
          // A server of the deployment that was slow to say that it lives is back soon.
          await waitFor(() => check(server, running.port, deployment, shape), {
            timeoutMs: CHECK_TIMEOUT_MS,
            what: `right answers of ${labelOf(server)}`,
          }).catch((error: Error) => {
            throw new Error(`${error.message}: ${messageOf(error.cause)}`, { cause: error });
          });
          if (round === 0) {
            if (warmUpSeconds > 0) await load(server, running.port, warmUpSeconds);
            continue;
          }
          const unconfine =
            coreShare === undefined ? undefined : limitEach(running.pids.flatMap(treeOf), coreShare);
          const before = usageOf(running.pids);
          const output = await load(server, running.port, seconds).finally(() => unconfine?.());
          const run = runOf(output, before, usageOf(running.pids), labelOf(server), workload, round);
          runs.push(run);
          console.error(
            `${workload.padEnd(6)} round ${round}  ${run.server.padEnd(22)}${run.cpuMicrosecondsPerQuery.toFixed(2).padStart(7)} us CPU a query` +
              `${Math.round(run.queriesPerCpuSecond).toString().padStart(8)} per CPU-second, ${Math.round(run.queries / run.seconds)}/s, lost ${run.lost}`,
          );
        }
    }
  } finally {
    for (const { running } of started) await running.stop();
    livez.closeAllConnections();
    livez.close();
  }
  const result = {
    name: "dns",
    date: new Date().toISOString(),
    commit: describeCommit(),
    machine: describeMachine(),
    versions,
    notes: Object.fromEntries(started.map(({ server }) => [labelOf(server), server.note])),
    options: {
      seconds,
      rounds,
      warmUpSeconds,
      networks,
      clusters,
      clients: CLIENTS,
      outstanding,
      rate,
      coreShare,
    },
    workloads: workloads.map((name) => ({ name, note: WORKLOADS[name]?.note })),
    runs,
    summary: summarise(runs),
    leftOut,
  };
  const text = JSON.stringify(result, undefined, 1);
  console.log(text);
  if (values.out !== undefined) {
    mkdirSync(dirname(values.out), { recursive: true });
    writeFileSync(values.out, `${text}\n`);
  }
  for (const one of result.summary)
    console.error(
      `${one.workload.padEnd(6)} ${one.server.padEnd(22)}${Math.round(one.queriesPerCpuSecond).toString().padStart(8)} per CPU-second, isochrone is ${one.isochroneRatio.toFixed(2)} x (rounds ${one.ratioMin.toFixed(2)} to ${one.ratioMax.toFixed(2)})`,
    );
  return leftOut.length > 0 ? 1 : 0;
}

function chosen<T>(
  flag: string,
  list: string | undefined,
  all: readonly T[],
  namesOf: (one: T) => readonly string[],
): readonly T[] {
  if (list === undefined) return all;
  const wanted = list.split(",");
  const unknown = wanted.find((name) => !all.some((one) => namesOf(one).includes(name)));
  if (unknown !== undefined)
    throw new UsageError(
      `--${flag}: got ${JSON.stringify(unknown)}, expected some of ${all.flatMap(namesOf).join(", ")}`,
    );
  return all.filter((one) => namesOf(one).some((name) => wanted.includes(name)));
}

function dnsperfArguments(
  port: number,
  file: string,
  seconds: number,
  outstanding: number,
  rate: number | undefined,
): string[] {
  const at = ["-s", "127.0.0.1", "-p", String(port), "-f", "inet"];
  return [
    ...at,
    "-B",
    "-d",
    file,
    "-l",
    String(seconds),
    "-c",
    String(CLIENTS),
    "-q",
    String(outstanding),
    "-T",
    "1",
    ...(rate === undefined ? [] : ["-Q", String(rate)]),
  ];
}

/** @throws Error that says which answer is wrong */
async function check(
  server: NameServer,
  port: number,
  deployment: Deployment,
  shape: QueryShape,
): Promise<true> {
  const step = Math.max(1, Math.floor(deployment.networks.length / CHECKED_QUERIES));
  for (let index = 0; index < deployment.networks.length; index += step) {
    const network = deployment.networks[index];
    const names = namesAsked(deployment, shape);
    const name = names[index % names.length];
    if (network === undefined || name === undefined) continue;
    const ecs = shape.hasEcs ? network : undefined;
    const query = queryBytes({ id: index & 0xffff, name, type: 1, ecs, hasEdns: shape.hasEcs });
    const got = addressesOf(query, await ask(port, query))?.toSorted();
    if (shape.isOfPolicies === true) {
      if (got?.length !== 1 || !deployment.targets.some(({ address }) => address === got[0]))
        throw new Error(
          `${labelOf(server)} answers ${name} for ${network.prefix} with ${got?.join() ?? "nothing"}, expected one target`,
        );
      continue;
    }
    const expected =
      server.isMapped && shape.hasEcs ? addressesFor(deployment, network) : (deployment.addresses[0] ?? []);
    if (got?.join() !== [...expected].toSorted().join())
      throw new Error(
        `${labelOf(server)} answers ${name} for ${network.prefix} with ${got?.join() ?? "nothing"}, expected ${expected.join()}`,
      );
  }
  return true;
}

async function ask(port: number, query: Buffer): Promise<Buffer> {
  const socket = createSocket("udp4");
  try {
    const signal = AbortSignal.timeout(ASK_TIMEOUT_MS);
    const reply = once(socket, "message", { signal });
    socket.send(query, port, "127.0.0.1");
    return (await reply)[0] as Buffer;
  } finally {
    socket.close();
  }
}

type Usage = ReturnType<typeof usageOf>;

function runOf(
  output: string,
  before: Usage,
  after: Usage,
  server: string,
  workload: string,
  round: number,
): DnsRun {
  const figure = (pattern: RegExp): number => {
    const text = pattern.exec(output)?.[1];
    if (text === undefined)
      throw new Error(`dnsperf did not say ${pattern.source}:\n${output.slice(-2_048)}`);
    return Number(text);
  };
  const queries = figure(/Queries completed:\s+(\d+)/);
  const answered = figure(/NOERROR (\d+)/);
  if (answered !== queries)
    throw new Error(`${server}: ${queries - answered} of ${queries} answers were not NOERROR:\n${output}`);
  const cpuSeconds = after.cpuSeconds - before.cpuSeconds;
  return {
    server,
    workload,
    round,
    queriesPerCpuSecond: queries / cpuSeconds,
    cpuMicrosecondsPerQuery: (cpuSeconds * 1e6) / queries,
    queries,
    lost: figure(/Queries lost:\s+(\d+)/),
    seconds: figure(/Run time \(s\):\s+([\d.]+)/),
    cpuSeconds,
    userSeconds: after.userSeconds - before.userSeconds,
    latencyMeanMs: figure(/Average Latency \(s\):\s+([\d.]+)/) * 1_000,
    answerBytesMean: figure(/Average packet size:\s+request \d+, response (\d+)/),
    rssBytes: after.rssBytes,
    loadAverage: loadavg()[0] ?? 0,
  };
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >>> 1] ?? 0;

/** Medians, and how much more work ours does with a CPU-second, with the spread over the pairs of a round. */
function summarise(runs: readonly DnsRun[]) {
  const rate = (run: DnsRun | undefined): number => run?.queriesPerCpuSecond ?? 0;
  const ours = labelOf(isochrone[0] as NameServer);
  const groups = Map.groupBy(runs, (run) => `${run.workload} ${run.server}`);
  return [...groups.values()].map((group) => {
    const { workload, server } = group[0] as DnsRun;
    const own = groups.get(`${workload} ${ours}`) ?? [];
    const pairs = group.map((run) => rate(own.find(({ round }) => round === run.round)) / rate(run));
    return {
      workload,
      server,
      queriesPerCpuSecond: median(group.map(rate)),
      isochroneRatio: median(own.map(rate)) / median(group.map(rate)),
      ratioMin: Math.min(...pairs),
      ratioMax: Math.max(...pairs),
    };
  });
}

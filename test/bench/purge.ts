/**
 * How long purges take in a world: from control's number to the last server's acknowledgement, over the world's links. A purge
 * cannot be faster than the round trip to the farthest server; the goal is the way there and 150 ms. Of those that are later
 * the report says which server was the last and on which way the time went: there, in the server, or back.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { type PropertyId, Random, summary as summaryOf } from "#kit";
import { createLogger, readWorldText, resolveWorldPath } from "#kit/io";
import { parseWorld, type World, WorldLinks } from "#kit/world";
import { ControlClient, type PurgeProgress } from "#control";
import { runningWorlds } from "../../cli/runtime.ts";
import { wholeNumber } from "../tools/flags.ts";
import { freePort, startIsochrone } from "../tools/processes.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";

export const summary = "time of purges over the links of a world, and which servers are late on which way";

const HELP = `Usage: npm run bench -- purge [options]

${summary}

  --world NAME    a world file, "demo" (default) or "small"
  --purges N      how many, one after the other (default 300)
  --settle S      seconds from the world's readiness to the first purge (default 5)
  --out FILE      the JSON to a file too
  --help

Starts the world with \`isochrone up\` on free ports. Needs a quiet machine: thirty processes share its cores.
JSON on stdout. Exit code: 0 measured, 1 a purge was not acknowledged by all, 2 bad usage.
`;

/** The goal beside the longest way there, ms. */
const GOAL_BESIDE_MS = 150;
/** Between two purges, ms: drawn, so that nothing periodic hides or shows itself. */
const PAUSE_MS_MIN = 50;
const PAUSE_MS_MAX = 450;
/** Late purges that are told one by one. */
const LATE_TOLD_MAX = 50;

interface Acknowledgement {
  readonly serverId: string;
  readonly elapsedMs: number;
}

interface Timed {
  readonly purgeSeq: number;
  /** When control had numbered it, of this machine's clock. */
  readonly startedAtEpochMs: number;
  readonly elapsedMs: number;
  readonly acks: readonly Acknowledgement[];
  readonly unacknowledged: readonly string[];
}

/** Round trips from control's site, ms, by server id. */
function roundTrips(world: World): ReadonlyMap<string, number> {
  const links = new WorldLinks(world);
  const clusters = world.regions.flatMap((region) => region.clusters);
  const service = clusters.find((cluster) => cluster.role === "service");
  if (service === undefined) throw new Error(`The world ${world.name} has no site for control`);
  const found = new Map<string, number>();
  for (const { id, role, servers } of clusters) {
    if (role !== "edge" && role !== "parent") continue;
    const { rttMs } = links.between(service.id, id);
    for (let n = 1; n <= servers; n++) found.set(`${id}-${n}`, rttMs);
  }
  return found;
}

async function purgeOnce(client: ControlClient, number: number): Promise<Timed> {
  const acks: Acknowledgement[] = [];
  let startedAtEpochMs = 0;
  const onProgress = (progress: PurgeProgress): void => {
    if (progress.type === "accepted") startedAtEpochMs = Date.now();
    if (progress.type === "ack") acks.push(progress);
  };
  const urls = [`http://www.shop.example/purged/${number}.html`];
  const request = { propertyId: "shop-www" as PropertyId, urls, tags: [], mode: "hard" } as const;
  const { purgeSeq, elapsedMs, unacknowledged } = await client.purge(request, onProgress);
  return { purgeSeq, startedAtEpochMs, elapsedMs, acks, unacknowledged };
}

/** When each server heard each purge first and had it applied, from the log records that nodes write for it. */
function readTraces(logDirectory: string): ReadonlyMap<string, { heardMs?: number; appliedMs?: number }> {
  const traces = new Map<string, { heardMs?: number; appliedMs?: number }>();
  for (const name of readdirSync(logDirectory)) {
    for (const line of readFileSync(join(logDirectory, name), "utf8").split("\n")) {
      if (!line.includes('"purge-heard"') && !line.includes('"purge-applied"')) continue;
      const { event, time, id, purgeSeq } = JSON.parse(line) as Record<string, string>;
      const key = `${id}/${purgeSeq}`;
      const trace = traces.get(key) ?? {};
      const atMs = Date.parse(time ?? "");
      if (event === "purge-heard") trace.heardMs ??= atMs;
      else trace.appliedMs ??= atMs;
      traces.set(key, trace);
    }
  }
  return traces;
}

function reportOf(timed: readonly Timed[], rtts: ReadonlyMap<string, number>, logDirectory: string) {
  const goalMs = GOAL_BESIDE_MS + Math.max(...rtts.values()) / 2;
  const traces = readTraces(logDirectory);
  const late = timed
    .filter(({ elapsedMs }) => elapsedMs > goalMs)
    .map(({ purgeSeq, startedAtEpochMs, elapsedMs, acks, unacknowledged }) => {
      const last = acks.at(-1);
      const trace = traces.get(`${last?.serverId}/${purgeSeq}`);
      const rttMs = rtts.get(last?.serverId ?? "") ?? 0;
      const { heardMs, appliedMs } = trace ?? {};
      return {
        purgeSeq,
        elapsedMs: round(elapsedMs),
        last: last?.serverId,
        rttMs: round(rttMs),
        thereLateMs: heardMs === undefined ? null : round(heardMs - startedAtEpochMs - rttMs / 2),
        inServerMs: heardMs === undefined || appliedMs === undefined ? null : appliedMs - heardMs,
        backLateMs:
          appliedMs === undefined || last === undefined
            ? null
            : round(startedAtEpochMs + last.elapsedMs - appliedMs - rttMs / 2),
        othersLate: acks.filter((ack) => ack.elapsedMs > goalMs).length - 1,
        unacknowledged,
      };
    });
  const servers = [...rtts].map(([serverId, rttMs]) => {
    const own = timed.flatMap(({ acks }) => acks.filter((ack) => ack.serverId === serverId));
    const beyond = summaryOf(own.map(({ elapsedMs }) => elapsedMs - rttMs));
    return {
      serverId,
      rttMs: round(rttMs),
      acks: own.length,
      /** Of the acknowledgements: time beyond the round trip. */
      beyondMs: { p50: round(beyond.p50), p99: round(beyond.p99), max: round(beyond.max) },
      late: own.filter(({ elapsedMs }) => elapsedMs > goalMs).length,
    };
  });
  const all = summaryOf(timed.map(({ elapsedMs }) => elapsedMs));
  return {
    purges: timed.length,
    goalMs: round(goalMs),
    withinGoal: timed.length - late.length,
    elapsedMs: { p50: round(all.p50), p95: round(all.p95), p99: round(all.p99), max: round(all.max) },
    firstMs: timed.slice(0, 5).map(({ elapsedMs }) => round(elapsedMs)),
    unacknowledged: timed.filter((one) => one.unacknowledged.length > 0).length,
    servers,
    late: late.slice(0, LATE_TOLD_MAX),
  };
}

const round = (ms: number): number => Math.round(ms * 10) / 10;

async function measure(worldName: string, purges: number, settleSeconds: number) {
  const file = resolveWorldPath(worldName);
  const world = parseWorld(readWorldText(file), worldName);
  const state = mkdtempSync(join(tmpdir(), "isochrone-bench-purge-"));
  const [port, dnsPort] = [await freePort("127.10.0.1"), await freePort("127.10.0.1")];
  const args = ["up", worldName, "--port", String(port), "--dns-port", String(dnsPort), "--state", state];
  const up = await startIsochrone(args, { timeoutMs: 180_000, env: { ISOCHRONE_LOG: "debug" } });
  try {
    console.error(up.readyLine);
    const running = runningWorlds().find((one) => one.stateDirectory === state);
    if (running === undefined) throw new Error(`The world in ${state} is not registered`);
    const client = new ControlClient({
      url: running.controlUrl,
      token: running.token,
      nodeId: "bench",
      logger: createLogger({ role: "bench", id: "purge" }, { level: "warn" }),
    });
    const random = new Random(1);
    const timed: Timed[] = [];
    const pause = async (ms: number) => await new Promise((resolve) => setTimeout(resolve, ms));
    await pause(settleSeconds * 1_000);
    const loadBefore = loadavg()[0] ?? 0;
    for (let number = 0; number < purges; number++) {
      timed.push(await purgeOnce(client, number));
      await pause(PAUSE_MS_MIN + random.float() * (PAUSE_MS_MAX - PAUSE_MS_MIN));
    }
    const load = { cores: availableParallelism(), before: loadBefore, after: loadavg()[0] ?? 0 };
    await client.close();
    return { load, ...reportOf(timed, roundTrips(world), join(state, "logs")) };
  } finally {
    await up.stop(15_000);
    rmSync(state, { recursive: true, force: true });
  }
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      world: { type: "string", default: "demo" },
      purges: { type: "string", default: "300" },
      settle: { type: "string", default: "5" },
      out: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const purges = wholeNumber("purges", values.purges, 1, 100_000);
  const settleSeconds = wholeNumber("settle", values.settle, 0, 600);
  const run = await measure(values.world, purges, settleSeconds);
  const result = {
    name: "purge",
    date: new Date().toISOString(),
    commit: describeCommit(),
    machine: describeMachine(),
    world: values.world,
    ...run,
  };
  const text = JSON.stringify(result, undefined, 1);
  console.log(text);
  if (values.out !== undefined) {
    mkdirSync(dirname(values.out), { recursive: true });
    writeFileSync(values.out, `${text}\n`);
  }
  return run.unacknowledged === 0 ? 0 : 1;
}

/** `npm run lab -- overload`: an origin of 200 requests a second is asked for twice and five times as much. */
import { readFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { haproxy } from "../bench/peers/haproxy.ts";
import { nginx } from "../bench/peers/nginx.ts";
import { varnish } from "../bench/peers/varnish.ts";
import { describeMachine } from "../bench/tools/machine.ts";
import { latencies, recoveryMs, runLoad, tally } from "../tools/overload/load.ts";
import { ORIGIN_KINDS, type OriginKind, startLimitedOrigin } from "../tools/overload/origin.ts";
import { startIsochrone } from "../tools/processes.ts";
import { positiveNumber, wholeNumber } from "../tools/flags.ts";

export const summary =
  "overload: goodput of an origin of 200 requests a second at 2 x and 5 x, and afterwards";

const HELP = `Usage: npm run lab -- overload [options]

Clients that wait for one second ask for what is not stored, at half of the origin's capacity, then at a multiple, then at half
again; beside them 50 a second ask for one stored object. Goodput: answers 200 within the patience, as a share of what the origin
could have answered. Prints JSON; no figure is a failure.

  --servers LIST     of isochrone,nginx,varnish,haproxy (default all that are on PATH; each in its default form)
  --origins LIST     of ${ORIGIN_KINDS.join(",")} (default all)
  --times LIST       multiples of the capacity (default 2,5)
  --seconds N        of overload (default 10)
  --workers N        of the origin, each N / 200 s a request (default 4: 20 ms; 100: half of the patience)
`;

const CAPACITY = 200;
const PATIENCE_MS = 1_000;
const HITS_PER_SECOND = 50;
const CALM_SECONDS = 3;
const AFTER_SECONDS = 6;

interface Subject {
  readonly port: number;
  /** Latency of answers 503 to these paths as the server's own log has it, ms; undefined: it has none. */
  shedMs?(paths: ReadonlySet<string>): Promise<readonly number[]>;
  stop(): Promise<unknown>;
}

async function startEdge(originPort: number): Promise<Subject> {
  const directory = await mkdtemp(join(tmpdir(), "isochrone-overload-"));
  const log = join(directory, "access.log");
  const edge = await startIsochrone([
    "edge",
    "--listen",
    "127.0.0.1:0",
    "--origin",
    `http://127.0.0.1:${originPort}`,
    "--access-log",
    log,
  ]);
  return {
    port: Number(/^ready edge [^ ]*:([0-9]+) /.exec(edge.readyLine)?.[1]),
    shedMs: async (paths) =>
      (await readFile(log, "utf8").catch(() => ""))
        .split("\n")
        .filter((line) => line.startsWith("{") && line.endsWith("}"))
        .map((line) => JSON.parse(line) as { status: number; path: string; ttfbMs: number })
        .filter(({ status, path }) => status === 503 && paths.has(path))
        .map(({ ttfbMs }) => ttfbMs),
    stop: async () => {
      await edge.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

const STARTERS: readonly (readonly [name: string, start: (originPort: number) => Promise<Subject>])[] = [
  ["isochrone", startEdge],
  ...[nginx, varnish, haproxy].flatMap((forms) =>
    forms
      .filter((server) => server.form === "default" && server.program !== undefined)
      .map(
        (server) =>
          [
            server.name,
            (originPort: number) => server.start({ originPort, role: "cache", workers: 1 }),
          ] as const,
      ),
  ),
];

async function measure(
  start: (originPort: number) => Promise<Subject>,
  kind: OriginKind,
  times: number,
  seconds: number,
  workers: number,
) {
  const origin = await startLimitedOrigin({ kind, workers, serviceMs: (workers * 1_000) / CAPACITY });
  const subject = await start(origin.port);
  try {
    // What is stored is stored before.
    await (await fetch(`http://127.0.0.1:${subject.port}/hit/1`)).text();
    const servedBefore = await origin.served();
    const all = await runLoad({
      port: subject.port,
      phases: [
        { seconds: CALM_SECONDS, perSecond: CAPACITY / 2 },
        { seconds, perSecond: CAPACITY * times },
        { seconds: AFTER_SECONDS, perSecond: CAPACITY / 2 },
      ],
      hitsPerSecond: HITS_PER_SECOND,
      patienceMs: PATIENCE_MS,
      seed: times,
    });
    const fromMs = CALM_SECONDS * 1_000;
    const toMs = fromMs + seconds * 1_000;
    const over = tally(all, fromMs, toMs);
    const calm = tally(all, 0, fromMs);
    const hits = all.filter((one) => one.isHit && one.atMs >= fromMs && one.atMs < toMs);
    const shed = all.filter((one) => one.ending === "shed");
    // The log is written a moment later.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    // Whoever closed his side is told, too; nobody who left has read it.
    const shedMs = (await subject.shedMs?.(new Set(shed.map(({ path }) => path)))) ?? [];
    return {
      goodputShare: round(over.good / (CAPACITY * seconds)),
      over,
      calmGoodShare: round(calm.good / calm.asked),
      recoverySeconds: secondsOf(recoveryMs(all, toMs, toMs + AFTER_SECONDS * 1_000)),
      shedAtClient: latencies(shed.map((one) => one.tookMs)),
      shedInServer: latencies(shedMs),
      /** The rest waited for a place that did not come. */
      shedInServerWithin5MsShare: round(shedMs.filter((ms) => ms <= 5).length / Math.max(1, shedMs.length)),
      shedWithRetryAfter: round(shed.filter((one) => one.hasRetryAfter).length / Math.max(1, shed.length)),
      hits: {
        goodShare: round(hits.filter((one) => one.ending === "good").length / Math.max(1, hits.length)),
        ...latencies(hits.map((one) => one.tookMs)),
      },
      servedByOrigin: (await origin.served()) - servedBefore,
    };
  } finally {
    await subject.stop();
    await origin.stop();
  }
}

const round = (share: number): number => Math.round(share * 1_000) / 1_000;
const secondsOf = (ms: number | null): number | null => (ms === null ? null : ms / 1_000);

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      servers: { type: "string", default: STARTERS.map(([name]) => name).join(",") },
      origins: { type: "string", default: ORIGIN_KINDS.join(",") },
      times: { type: "string", default: "2,5" },
      seconds: { type: "string", default: "10" },
      workers: { type: "string", default: "4" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const servers = STARTERS.filter(([name]) => values.servers.split(",").includes(name));
  const kinds = ORIGIN_KINDS.filter((kind) => values.origins.split(",").includes(kind));
  const timesOf = values.times.split(",").map((text) => positiveNumber("times", text, 1_000));
  const seconds = wholeNumber("seconds", values.seconds, 1, 3_600);
  const workers = wholeNumber("workers", values.workers, 1, 400);
  const results = [];
  for (const kind of kinds)
    for (const times of timesOf)
      for (const [server, start] of servers) {
        console.error(`${server}, origin that does ${kind}, ${times} x`);
        const found = await measure(start, kind, times, seconds, workers);
        results.push({ server, origin: kind, times, ...found });
      }
  console.log(
    JSON.stringify(
      {
        name: "overload",
        machine: describeMachine(),
        capacityPerSecond: CAPACITY,
        patienceMs: PATIENCE_MS,
        results,
      },
      undefined,
      2,
    ),
  );
  return 0;
}

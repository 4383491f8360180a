/** `npm run lab -- slow-clients`: slow and greedy clients against the edge, with honest ones meanwhile. */
import { readdirSync, readFileSync } from "node:fs";
import { once } from "node:events";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import type { HonestResult } from "../tools/hostile/honest-load.ts";
import { startNginx } from "../tools/hostile/peers.ts";
import { ask, hold } from "../tools/hostile/slow-clients.ts";
import { startIsochrone } from "../tools/processes.ts";
import { residentBytesOf } from "../tools/resident.ts";
import { positiveNumber, wholeNumber } from "../tools/flags.ts";

export const summary = "slow and greedy clients: closing times, memory, honest clients meanwhile";

const HELP = `Usage: npm run lab -- slow-clients [options]

Phases, each with honest clients meanwhile (open loop, hits and misses in turn): 5,000 connections that send a byte of a head
or of content every two seconds; 2,000 that ask for 10 MiB and read nothing; unique keys; requests with 10,000 fields;
5,000 idle connections. Prints when the server closed them, the resident memory of its process tree and the honest
clients' latencies, all counted at the client. The cap is --memory plus the memory at rest (measured).

  --keys N             unique keys (default 1000000)
  --scale SHARE        of all counts, such as 0.1 (default 1)
  --memory SIZE        the edge's memory store (default 256MiB)
  --workers N          the edge's workers (default 1)
  --only LIST          of drip,readers,keys,fields,idle
  --no-peers           without nginx's closing times
`;

const PHASES = ["drip", "readers", "keys", "fields", "idle"] as const;
const HONEST_PER_SECOND = 50;
const DRIP_EVERY_MS = 2_000;

/** Resident bytes of a process and all its descendants. */
function residentBytes(root: number): number {
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc")) {
    if (!/^[0-9]+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "latin1");
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // It ended meanwhile.
    }
  }
  const isOurs = (pid: number): boolean => {
    for (let at: number | undefined = pid; at !== undefined && at > 1; at = parents.get(at))
      if (at === root) return true;
    return false;
  };
  let bytes = 0;
  for (const pid of parents.keys()) if (isOurs(pid)) bytes += residentBytesOf(pid);
  return bytes;
}

const mebibytes = (bytes: number): number => Math.round((bytes / 2 ** 20) * 10) / 10;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      keys: { type: "string", default: "1000000" },
      scale: { type: "string", default: "1" },
      memory: { type: "string", default: "256MiB" },
      workers: { type: "string", default: "1" },
      only: { type: "string", default: PHASES.join(",") },
      "no-peers": { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const scale = positiveNumber("scale", values.scale, 10);
  const keys = wholeNumber("keys", values.keys, 1, 1_000_000_000);
  const workers = wholeNumber("workers", values.workers, 1, 64);
  const wanted = values.only.split(",");
  const origin = new Worker(new URL("../tools/hostile/lab-origin.ts", import.meta.url));
  origin.unref();
  const [originPort] = (await once(origin, "message")) as [number];
  const edge = await startIsochrone([
    "edge",
    "--listen",
    "127.0.0.1:0",
    "--origin",
    `http://127.0.0.1:${originPort}`,
    "--memory",
    values.memory,
    "--workers",
    values.workers,
  ]);
  const port = Number(/^ready edge [^ ]*:([0-9]+) /.exec(edge.readyLine)?.[1]);
  const honest = new Worker(new URL("../tools/hostile/honest-load.ts", import.meta.url), {
    workerData: { port, perSecond: HONEST_PER_SECOND },
  });
  honest.unref();
  let peak = 0;
  const sampler = setInterval(() => {
    peak = Math.max(peak, residentBytes(edge.pid));
  }, 250);
  const nextPhase = async (phase: string): Promise<{ honest: HonestResult; peakMiB: number }> => {
    honest.postMessage({ phase });
    const [result] = (await once(honest, "message")) as [HonestResult];
    peak = Math.max(peak, residentBytes(edge.pid));
    const peakMiB = mebibytes(peak);
    peak = 0;
    return { honest: result, peakMiB };
  };
  const results: Record<string, unknown> = {};
  const run = async (name: (typeof PHASES)[number], phase: () => Promise<unknown>): Promise<void> => {
    if (!wanted.includes(name)) return;
    console.error(`slow-clients: ${name}`);
    await nextPhase(name);
    const startedMs = performance.now();
    const counted = await phase();
    const seconds = Math.round((performance.now() - startedMs) / 100) / 10;
    results[name] = { ...(await nextPhase("between")), seconds, counted };
    await new Promise((resolve) => setTimeout(resolve, 3_000));
  };

  // At rest: the code is warm, the store nearly empty.
  await new Promise((resolve) => setTimeout(resolve, 5_000));
  const rest = await nextPhase("between");
  const baseBytes = residentBytes(edge.pid);

  const dripping = async (target: number) =>
    await hold({
      port: target,
      connections: Math.round(5_000 * scale),
      // Three in five drip a head, two in five content.
      opening: (index) =>
        index % 5 < 3
          ? "GET /drip HTTP/1.1\r\nHost: slow.test\r\nX-Slow: "
          : "POST /drip HTTP/1.1\r\nHost: slow.test\r\nContent-Length: 1000000\r\n\r\n",
      drip: { everyMs: DRIP_EVERY_MS, text: () => "a" },
      isReading: true,
      watchMs: 20_000,
      limitsMs: [10_000, 12_000, 15_000, 20_000],
      perSecond: 2_500,
    });
  const stalling = async (target: number) =>
    await hold({
      port: target,
      connections: Math.round(2_000 * scale),
      opening: () => "GET /large HTTP/1.1\r\nHost: slow.test\r\n\r\n",
      isReading: false,
      watchMs: 75_000,
      limitsMs: [30_000, 35_000, 45_000, 75_000],
      perSecond: 500,
    });
  await run("drip", () => dripping(port));
  await run("readers", () => stalling(port));
  await run("keys", () =>
    ask({
      port,
      connections: 64,
      pipelined: 4,
      count: Math.round(keys * scale),
      bytes: (index) => `GET /key/${index} HTTP/1.1\r\nHost: keys.test\r\n\r\n`,
    }),
  );
  const manyFields = `GET /fields HTTP/1.1\r\nHost: fields.test\r\n${"a: b\r\n".repeat(10_000)}\r\n`;
  await run("fields", () =>
    ask({ port, connections: 32, pipelined: 1, count: Math.round(5_000 * scale), bytes: () => manyFields }),
  );
  await run("idle", () =>
    hold({
      port,
      connections: Math.round(5_000 * scale),
      opening: () => "",
      isReading: true,
      watchMs: 15_000,
      limitsMs: [12_000, 15_000],
      perSecond: 2_500,
    }),
  );
  clearInterval(sampler);
  const endBytes = residentBytes(edge.pid);
  await honest.terminate();
  await edge.stop(40_000);

  const peers: Record<string, unknown> = {};
  const nginx = values["no-peers"] ? undefined : await startNginx(originPort);
  if (nginx !== undefined) {
    console.error("slow-clients: nginx");
    if (wanted.includes("drip")) peers["nginxDrip"] = await dripping(nginx.port);
    if (wanted.includes("readers")) peers["nginxReaders"] = await stalling(nginx.port);
    await nginx.stop();
  }
  await origin.terminate();
  console.log(
    JSON.stringify(
      {
        memoryStore: values.memory,
        workers,
        baseMiB: mebibytes(baseBytes),
        atRest: rest.honest,
        phases: results,
        endMiB: mebibytes(endBytes),
        peers,
      },
      undefined,
      2,
    ),
  );
  return 0;
}

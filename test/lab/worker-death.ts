/**
 * `npm run lab -- worker-death`: workers of one edge are killed under load. Counted at the clients: requests that were lost
 * on connections of the dead worker, which is to be expected, and beyond them, which is not; how long a new connection
 * waited at most; afterwards how much of the disk store is still there.
 */
import { createServer } from "node:http";
import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { KeepAliveClient, LostError, type LostRequest } from "../tools/keep-alive-client.ts";
import { freePort, startIsochrone, waitFor } from "../tools/processes.ts";
import { wholeNumber } from "../tools/flags.ts";

export const summary =
  "workers are killed under load: what is lost beyond their own connections, and the gap";

const HELP = `Usage: npm run lab -- worker-death [options]

  --workers N   workers of the edge (default 2)
  --kills N     workers that are killed, one after the other (default 20)
  --clients N   keep-alive connections that ask without a pause (default 32)
  --objects N   objects that they ask for (default 1000)
`;

export interface WorkerDeathOptions {
  readonly workers: number;
  readonly kills: number;
  readonly clients: number;
  readonly objects: number;
  readonly log: (line: string) => void;
}

export interface WorkerDeathResult {
  readonly requests: number;
  readonly kills: number;
  /** Requests on connections that the dead worker had accepted. */
  readonly lostOwn: number;
  /** All others that were lost. */
  readonly lostBeyond: number;
  readonly lostBeyondBy: Readonly<Record<string, number>>;
  /** Requests on connections of their own, one after the other all the time. */
  readonly probes: number;
  readonly probesFailed: number;
  /** From each kill: the longest time that such a request took from then on, ms. */
  readonly gapMs: readonly number[];
  readonly gapMsMax: number;
  /** The longest that such a request took between the deaths: what the machine itself does to it, ms. */
  readonly quietMsMax: number;
  readonly replacedMs: readonly number[];
  /** Objects that a restarted edge answers from its disk, of those that were asked for. */
  readonly readableRatio: number;
  readonly damaged: number;
}

/** From one probe's end to the next one's begin, ms. */
const PROBE_PAUSE_MS = 2;
const OBJECT_BYTES = 2_000;

export async function workerDeath(options: WorkerDeathOptions): Promise<WorkerDeathResult> {
  const directory = await mkdtemp(join(tmpdir(), "isochrone-lab-"));
  const origin = createServer((_request, response) => {
    response.writeHead(200, { "cache-control": "max-age=3600", "content-length": OBJECT_BYTES });
    response.end("x".repeat(OBJECT_BYTES));
  }).listen(0, "127.0.0.1");
  await once(origin, "listening");
  const port = await freePort();
  const adminPort = await freePort();
  const { port: originPort } = origin.address() as AddressInfo;
  const argv = [
    `edge --memory 64MiB --disk-size 256MiB --workers ${options.workers} --run ${join(directory, "run")}`,
    `--listen 127.0.0.1:${port} --admin 127.0.0.1:${adminPort} --disk ${join(directory, "disk")}`,
    `--origin http://127.0.0.1:${originPort}`,
  ].flatMap((part) => part.split(" "));
  const env = { ISOCHRONE_LOG: "error" };
  const metric = async (name: string): Promise<number> => {
    const text = await (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text();
    return Number(new RegExp(`^isochrone_edge_${name} ([0-9]+)`, "m").exec(text)?.[1] ?? 0);
  };
  let edge = await startIsochrone(argv, { env });
  const lostOwn: LostRequest[] = [];
  const lostBeyond: LostRequest[] = [];
  const deadPorts = new Set<number>();
  let requests = 0;
  let isOver = false;
  const gapMs: number[] = [];
  const replacedMs: number[] = [];
  let probes = 0;
  let probesFailed = 0;
  let slowestProbeMs = 0;
  let killedMs = 0;
  let quietMsMax = 0;
  try {
    for (let n = 0; n < options.objects; n++)
      await new KeepAliveClient(port).get(`/object-${n}`, { isLast: true });
    const clients = Array.from({ length: options.clients }, async (_, number) => {
      const client = new KeepAliveClient(port);
      for (let n = number; !isOver; n++) {
        try {
          await client.get(`/object-${(n * 7919) % options.objects}`);
          requests++;
        } catch (error) {
          if (!(error instanceof LostError)) throw error;
          (deadPorts.has(error.lost.localPort) ? lostOwn : lostBeyond).push(error.lost);
        }
      }
      client.close();
    });
    const prober = (async () => {
      for (let n = 0; !isOver; n++) {
        const client = new KeepAliveClient(port);
        const fromMs = performance.now();
        try {
          await client.get(`/object-${n % options.objects}`, { isLast: true });
          probes++;
        } catch (error) {
          // The one that was under way at the death may have been the dead worker's own.
          if (error instanceof LostError && !(fromMs < killedMs && error.lost.localPort !== 0))
            probesFailed++;
        }
        // What it had waited for before the death is no part of the gap.
        slowestProbeMs = Math.max(slowestProbeMs, performance.now() - Math.max(fromMs, killedMs));
        await new Promise((resolve) => setTimeout(resolve, PROBE_PAUSE_MS));
      }
    })();
    for (let kill = 0; kill < options.kills; kill++) {
      const before = requests;
      await waitFor(() => requests > before + 200, { timeoutMs: 60_000, what: "load" });
      const workers = childrenOf(edge.pid);
      const victim = workers[kill % workers.length];
      if (victim === undefined) throw new Error("The edge has no workers");
      const quiet = probes;
      slowestProbeMs = 0;
      await waitFor(() => probes > quiet + 20, { timeoutMs: 20_000, what: "probes before the death" });
      quietMsMax = Math.max(quietMsMax, Math.round(slowestProbeMs));
      // Its connections are long-lived; the look at them takes a while, so that it comes before the clock starts.
      for (const localPort of peersOf(victim, port)) deadPorts.add(localPort);
      await new Promise((resolve) => setTimeout(resolve, PROBE_PAUSE_MS));
      slowestProbeMs = 0;
      killedMs = performance.now();
      process.kill(victim, "SIGKILL");
      await waitFor(() => childrenOf(edge.pid).filter((pid) => !workers.includes(pid)).length > 0, {
        timeoutMs: 10_000,
        what: "a replacement",
        intervalMs: 5,
      });
      replacedMs.push(Math.round(performance.now() - killedMs));
      const seen = probes;
      await waitFor(() => probes > seen + 20, { timeoutMs: 20_000, what: "probes after the death" });
      gapMs.push(Math.round(slowestProbeMs));
      options.log(
        `kill ${kill + 1}: gap ${gapMs.at(-1)} ms, ${lostOwn.length} own lost, ${lostBeyond.length} beyond`,
      );
      // A worker that lived shortly is replaced with a growing pause: the next kill waits until all serve.
      await waitFor(async () => (await metric("workers_living")) === options.workers, {
        timeoutMs: 20_000,
        what: "all workers",
      });
    }
    isOver = true;
    await Promise.all([...clients, prober]);
    await edge.stop();
    edge = await startIsochrone(argv, { env });
    let readable = 0;
    for (let n = 0; n < options.objects; n++) {
      const { head } = await new KeepAliveClient(port).get(`/object-${n}`, { isLast: true });
      if (/\r\ncache-status: [^\r]*; hit/i.test(head)) readable++;
    }
    const damaged = await metric("disk_damaged_total");
    const lostBeyondBy: Record<string, number> = {};
    for (const { why } of lostBeyond) lostBeyondBy[why] = (lostBeyondBy[why] ?? 0) + 1;
    return {
      requests,
      kills: options.kills,
      lostOwn: lostOwn.length,
      lostBeyond: lostBeyond.length,
      lostBeyondBy,
      probes,
      probesFailed,
      gapMs,
      gapMsMax: Math.max(...gapMs),
      quietMsMax,
      replacedMs,
      readableRatio: readable / options.objects,
      damaged,
    };
  } finally {
    isOver = true;
    await edge.stop();
    origin.close();
    origin.closeAllConnections();
    await rm(directory, { recursive: true, force: true });
  }
}

/** Process ids of the direct children, from /proc. */
function childrenOf(pid: number): readonly number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
    .trim()
    .split(" ")
    .filter(Boolean)
    .map(Number);
}

/** The clients' ports of the connections that a process has accepted on `port`, from /proc. */
function peersOf(pid: number, port: number): readonly number[] {
  const inodes = new Set(
    readdirSync(`/proc/${pid}/fd`).map((fd) => {
      try {
        return /^socket:\[([0-9]+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
      } catch {
        return undefined;
      }
    }),
  );
  return readFileSync("/proc/net/tcp", "utf8")
    .split("\n")
    .slice(1)
    .flatMap((line) => {
      const [, local = "", remote = "", , , , , , , inode] = line.trim().split(/\s+/);
      return Number.parseInt(local.slice(9), 16) === port && inodes.has(inode)
        ? [Number.parseInt(remote.slice(9), 16)]
        : [];
    });
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      workers: { type: "string", default: "2" },
      kills: { type: "string", default: "20" },
      clients: { type: "string", default: "32" },
      objects: { type: "string", default: "1000" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const whole = (flag: Exclude<keyof typeof values, "help">, min: number, max: number): number =>
    wholeNumber(flag, values[flag], min, max);
  const result = await workerDeath({
    workers: whole("workers", 2, 64),
    kills: whole("kills", 1, 100_000),
    clients: whole("clients", 1, 10_000),
    objects: whole("objects", 1, 1_000_000),
    log: (line) => process.stderr.write(`${line}\n`),
  });
  process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
  return result.lostBeyond + result.probesFailed + result.damaged === 0 ? 0 : 1;
}

/**
 * `npm run lab -- rolling-restart`: the edge is replaced again and again under keep-alive clients that never retry and
 * under downloads that take half a minute. What is lost is counted at the clients.
 */
import { createServer } from "node:http";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { KeepAliveClient, LostError, type LostRequest } from "../tools/keep-alive-client.ts";
import { freePort, runIsochrone, startIsochrone, waitFor, isAlive } from "../tools/processes.ts";
import { wholeNumber } from "../tools/flags.ts";

export const summary = "the edge is replaced under load: requests and downloads that were lost (goal: none)";

const HELP = `Usage: npm run lab -- rolling-restart [options]

  --requests N      until so many requests were answered (default 1000000)
  --restarts N      replacements, spread over them (default 8)
  --workers N       workers of the edge (default 2)
  --clients N       keep-alive connections that ask without a pause (default 32)
  --idlers N        keep-alive connections that ask every 2 s (default 16)
  --downloads N     downloads at any time (default 4)
  --download-ms MS  how long a download takes (default 30000)
`;

export interface RollingRestartOptions {
  readonly requests: number;
  readonly restarts: number;
  readonly workers: number;
  readonly clients: number;
  readonly idlers: number;
  readonly downloads: number;
  readonly downloadMs: number;
  readonly log: (line: string) => void;
}

export interface RollingRestartResult {
  readonly requests: number;
  readonly lost: number;
  readonly lostBy: Readonly<Record<string, number>>;
  readonly failedStatuses: number;
  /** The same by status and Cache-Status. */
  readonly failedBy: Readonly<Record<string, number>>;
  readonly restarts: number;
  readonly restartMs: readonly number[];
  readonly downloadsFinished: number;
  readonly downloadsBroken: number;
  /** Downloads that were begun before a replacement and ended after it. */
  readonly downloadsAcrossRestart: number;
  readonly diskObjectsAfter: number;
  readonly seconds: number;
  readonly requestsPerSecond: number;
}

/** Objects that the clients ask for: small enough that all are hits soon. */
const OBJECTS = 200;
const IDLE_PAUSE_MS = 2_000;
const DOWNLOAD_PIECES = 60;
const DOWNLOAD_PIECE_BYTES = 1_000;

export async function rollingRestart(options: RollingRestartOptions): Promise<RollingRestartResult> {
  const directory = await mkdtemp(join(tmpdir(), "isochrone-lab-"));
  const origin = createServer((request, response) => {
    if (request.url?.startsWith("/download-") !== true) {
      response.writeHead(200, { "cache-control": "max-age=3600", "content-length": 1_024 });
      response.end("x".repeat(1_024));
      return;
    }
    response.writeHead(200, {
      "cache-control": "no-store",
      "content-length": DOWNLOAD_PIECES * DOWNLOAD_PIECE_BYTES,
    });
    let pieces = 0;
    const timer = setInterval(() => {
      response.write("y".repeat(DOWNLOAD_PIECE_BYTES));
      if (++pieces < DOWNLOAD_PIECES) return;
      clearInterval(timer);
      response.end();
    }, options.downloadMs / DOWNLOAD_PIECES);
    response.once("close", () => clearInterval(timer));
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
  const env = { ISOCHRONE_LOG: "warn" };
  const first = await startIsochrone(argv, { env });
  let pid = first.pid;

  const lost: LostRequest[] = [];
  let answered = 0;
  let failedStatuses = 0;
  const failedBy: Record<string, number> = {};
  let isOver = false;
  const ask = async (client: KeepAliveClient, path: string): Promise<void> => {
    try {
      const { status, head } = await client.get(path);
      answered++;
      if (status === 200) return;
      failedStatuses++;
      const cacheStatus = /^cache-status: [^;\r]*;?([^\r]*)/im.exec(head)?.[1] ?? "";
      const why = `${status}${cacheStatus}`;
      failedBy[why] = (failedBy[why] ?? 0) + 1;
    } catch (error) {
      if (!(error instanceof LostError)) throw error;
      lost.push(error.lost);
    }
  };
  const startedMs = performance.now();
  const clients = Array.from({ length: options.clients }, async (_, number) => {
    const client = new KeepAliveClient(port);
    for (let n = number; !isOver; n++) await ask(client, `/object-${(n * 7919) % OBJECTS}`);
    client.close();
  });
  const idlers = Array.from({ length: options.idlers }, async (_, number) => {
    const client = new KeepAliveClient(port);
    while (!isOver) {
      await ask(client, `/object-${number}`);
      await new Promise((resolve) => setTimeout(resolve, IDLE_PAUSE_MS));
    }
    client.close();
  });
  let restarts = 0;
  let downloads = 0;
  let downloadsFinished = 0;
  let downloadsBroken = 0;
  let downloadsAcrossRestart = 0;
  const downloaders = Array.from({ length: options.downloads }, async (_, number) => {
    // Staggered, so that each replacement meets some at their beginning and some near their end.
    await new Promise((resolve) =>
      setTimeout(resolve, (number * options.downloadMs) / options.downloads / 2),
    );
    while (!isOver) {
      const client = new KeepAliveClient(port);
      const before = restarts;
      try {
        const { status } = await client.get(`/download-${++downloads}`, { isLast: true });
        if (status === 200) downloadsFinished++;
        else downloadsBroken++;
        if (restarts > before) downloadsAcrossRestart++;
      } catch {
        downloadsBroken++;
      }
    }
  });

  const restartMs: number[] = [];
  let seconds = 0;
  let metrics = "";
  try {
    const step = options.requests / (options.restarts + 1);
    while (restarts < options.restarts) {
      const wanted = step * (restarts + 1);
      await waitFor(() => answered >= wanted, {
        timeoutMs: 600_000,
        what: `${wanted} answers`,
        intervalMs: 20,
      });
      const begunMs = performance.now();
      const command = await runIsochrone([...argv, "--replace"], { env, timeoutMs: 60_000 });
      if (command.code !== 0) throw new Error(`The edge was not replaced: ${command.stderr}`);
      pid = Number(/by process ([0-9]+)/.exec(command.stdout)?.[1]);
      restarts++;
      restartMs.push(Math.round(performance.now() - begunMs));
      options.log(`restart ${restarts}: ${answered} answered, ${lost.length} lost, ${restartMs.at(-1)} ms`);
    }
    await waitFor(() => answered >= options.requests, {
      timeoutMs: 600_000,
      what: `${options.requests} answers`,
      intervalMs: 20,
    });
    seconds = (performance.now() - startedMs) / 1_000;
    isOver = true;
    await Promise.all([...clients, ...idlers, ...downloaders]);
    metrics = await (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text();
  } finally {
    isOver = true;
    process.kill(pid, "SIGTERM");
    await waitFor(() => !isAlive(pid), { timeoutMs: 15_000, what: "the last edge's end" }).catch(() =>
      process.kill(pid, "SIGKILL"),
    );
    await first.exit;
    origin.close();
    origin.closeAllConnections();
    await rm(directory, { recursive: true, force: true });
  }
  const lostBy: Record<string, number> = {};
  for (const { why } of lost) lostBy[why] = (lostBy[why] ?? 0) + 1;
  return {
    requests: answered,
    lost: lost.length,
    lostBy,
    failedStatuses,
    failedBy,
    restarts,
    restartMs,
    downloadsFinished,
    downloadsBroken,
    downloadsAcrossRestart,
    diskObjectsAfter: Number(/^isochrone_edge_disk_objects ([0-9]+)/m.exec(metrics)?.[1] ?? 0),
    seconds: Math.round(seconds * 10) / 10,
    requestsPerSecond: Math.round(answered / seconds),
  };
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      requests: { type: "string", default: "1000000" },
      restarts: { type: "string", default: "8" },
      workers: { type: "string", default: "2" },
      clients: { type: "string", default: "32" },
      idlers: { type: "string", default: "16" },
      downloads: { type: "string", default: "4" },
      "download-ms": { type: "string", default: "30000" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const whole = (flag: Exclude<keyof typeof values, "help">, min: number, max: number): number =>
    wholeNumber(flag, values[flag], min, max);
  const result = await rollingRestart({
    requests: whole("requests", 1, 1_000_000_000),
    restarts: whole("restarts", 1, 10_000),
    workers: whole("workers", 1, 64),
    clients: whole("clients", 1, 10_000),
    idlers: whole("idlers", 0, 10_000),
    downloads: whole("downloads", 0, 1_000),
    downloadMs: whole("download-ms", 0, 600_000),
    log: (line) => process.stderr.write(`${line}\n`),
  });
  process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
  return result.lost + result.failedStatuses + result.downloadsBroken === 0 ? 0 : 1;
}

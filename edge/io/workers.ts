/** N workers of one alone edge: processes that share the port, each with its part of the memory; a dead one is replaced. */
import cluster, { type Worker } from "node:cluster";
import { createServer } from "node:net";
import { AggregatorRegistry } from "prom-client";
import { IsochroneError } from "#kit";
import { type Logger, listenErrorHint, systemClock } from "#kit/io";
import type { EdgeSettings } from "../config.ts";
import { Admin } from "./admin.ts";
import { EdgeMetrics } from "./metrics.ts";
import { EdgeServer } from "./server.ts";
import type { TlsOptions } from "./tls/serve-tls.ts";

/** The port that workers share, for those that the primary started with port 0. */
export const WORKER_PORT_VARIABLE = "ISOCHRONE_EDGE_WORKER_PORT";
/** Number of the worker, for its part of the disk store. */
export const WORKER_NUMBER_VARIABLE = "ISOCHRONE_EDGE_WORKER_NUMBER";

/** The TLS port that workers share, and the secret of their session tickets in hexadecimal digits. */
const WORKER_TLS_PORT_VARIABLE = "ISOCHRONE_EDGE_WORKER_TLS_PORT";
const WORKER_TICKET_SECRET_VARIABLE = "ISOCHRONE_EDGE_WORKER_TICKET_SECRET";

/** In a worker: the TLS port that the primary has reserved; undefined without TLS. */
export function sharedTlsPort(): number | undefined {
  const text = process.env[WORKER_TLS_PORT_VARIABLE];
  return text === undefined ? undefined : Number(text);
}

/** In a worker: the primary's ticket secret, which then stands in the environment no more. */
export function takeTicketSecret(): Uint8Array {
  const text = process.env[WORKER_TICKET_SECRET_VARIABLE] ?? "";
  delete process.env[WORKER_TICKET_SECRET_VARIABLE];
  return Buffer.from(text, "hex");
}

/** Back-off before a worker that died is replaced, ms: at once the first time, then doubling while it keeps dying. */
const RESTART_MIN_MS = 10;
const RESTART_MAX_MS = 5_000;
/** A worker that lived so long starts again without back-off, ms. */
const HEALTHY_AFTER_MS = 10_000;

export interface WorkersOptions {
  readonly host: string;
  readonly port: number;
  readonly count: number;
  readonly admin: { readonly host: string; readonly port: number } | undefined;
  readonly tls: TlsOptions | undefined;
  readonly settings: EdgeSettings;
  readonly logger: Logger;
}

export interface RunningWorkers {
  readonly port: number;
  readonly adminPort: number | undefined;
  readonly tlsPort: number | undefined;
  /** Has every worker look at its certificate files. */
  readonly reload: () => void;
  readonly stop: () => Promise<void>;
}

/**
 * Whether nobody holds the address, and which port it is. Sockets that share a port by SO_REUSEPORT would join another
 * process's without an error, so this is asked first, without sharing.
 */
async function reserve(host: string, port: number): Promise<number> {
  return await new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", (cause) =>
      reject(
        new IsochroneError(listenErrorHint(cause, host, port), {
          code: (cause as NodeJS.ErrnoException).code ?? "listen",
          source: "configuration",
          retry: "never",
          cause,
        }),
      ),
    );
    probe.listen({ host, port, exclusive: true }, () => {
      const address = probe.address();
      const bound = typeof address === "object" && address !== null ? address.port : port;
      probe.close(() => resolve(bound));
    });
  });
}

/** Starts the workers and resolves when each has said that it serves. */
export async function startWorkers(options: WorkersOptions): Promise<RunningWorkers> {
  const { logger, settings } = options;
  const port = await reserve(options.host, options.port);
  const tlsPort = options.tls && (await reserve(options.tls.host, options.tls.port));
  let isStopping = false;
  const backOff = new Map<number, number>();
  const fork = (number: number): Worker => {
    const startedMs = performance.now();
    const worker = cluster.fork({
      [WORKER_PORT_VARIABLE]: String(port),
      [WORKER_NUMBER_VARIABLE]: String(number),
      ...(options.tls !== undefined && {
        [WORKER_TLS_PORT_VARIABLE]: String(tlsPort),
        [WORKER_TICKET_SECRET_VARIABLE]: Buffer.from(options.tls.ticketSecret).toString("hex"),
      }),
    });
    worker.once("exit", (code, signal) => {
      if (isStopping) return;
      const livedMs = performance.now() - startedMs;
      const delayMs = livedMs > HEALTHY_AFTER_MS ? RESTART_MIN_MS : (backOff.get(number) ?? RESTART_MIN_MS);
      backOff.set(number, Math.min(delayMs * 2, RESTART_MAX_MS));
      logger.warn("worker-died", { worker: number, code, signal, restartInMs: delayMs });
      setTimeout(() => {
        if (!isStopping) fork(number);
      }, delayMs);
    });
    return worker;
  };
  const first = Array.from({ length: options.count }, (_, number) => fork(number));
  await Promise.all(
    first.map(
      (worker) =>
        new Promise<void>((resolve, reject) => {
          worker.once("message", () => resolve());
          worker.once("exit", (code) =>
            reject(
              new IsochroneError(
                `A worker ended with code ${code} before it served; its own line above says why`,
                {
                  code: "worker",
                  source: "configuration",
                  retry: "never",
                },
              ),
            ),
          );
        }),
    ),
  ).catch((error: unknown) => {
    isStopping = true;
    for (const worker of Object.values(cluster.workers ?? {})) worker?.process.kill("SIGTERM");
    throw error;
  });
  const adminServer = options.admin && adminOf(settings, logger, () => isStopping);
  const adminPort = options.admin && (await adminServer?.listen(options.admin.host, options.admin.port));
  return {
    port,
    adminPort,
    tlsPort,
    reload: () => {
      for (const worker of Object.values(cluster.workers ?? {})) worker?.process.kill("SIGHUP");
    },
    stop: async () => {
      isStopping = true;
      const workers = Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined);
      await Promise.all(
        workers.map(
          (worker) =>
            new Promise<void>((resolve) => {
              worker.once("exit", () => resolve());
              worker.process.kill("SIGTERM");
            }),
        ),
      );
      await adminServer?.drain();
    },
  };
}

function adminOf(settings: EdgeSettings, logger: Logger, isStopping: () => boolean): EdgeServer {
  const aggregator = new AggregatorRegistry();
  const admin = new Admin({
    serverId: "edge",
    clock: systemClock,
    token: undefined,
    notReady: () => (isStopping() ? "draining" : undefined),
    metrics: () => aggregator.clusterMetrics(),
    report: () => undefined,
    parts: () => undefined,
  });
  return new EdgeServer({
    handle: (inbound) => admin.answer(inbound),
    admin: undefined,
    verifier: undefined,
    settings,
    clock: systemClock,
    metrics: new EdgeMetrics(),
    logger,
    onServed: undefined,
  });
}

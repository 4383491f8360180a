/**
 * An origin of a fixed capacity, in a thread of its own so that the load's own work does not slow it down: some workers, each of
 * which takes the same time for a request. Timers may be late; what a worker begins next begins when the last one should have
 * ended, so that the capacity is exact.
 *
 * `/hit/*` is answered at once, storable for an hour, and takes no worker; all else may not be stored.
 */
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

/**
 * What happens to a request that finds no worker free: `queue`: it waits, and is dropped when its client goes; `ignore-aborts`: it
 * waits, and is worked on whether or not anybody waits for it; `reject`: 503 at once.
 */
export type OriginKind = "queue" | "ignore-aborts" | "reject";
export const ORIGIN_KINDS: readonly OriginKind[] = ["queue", "ignore-aborts", "reject"];

export interface OriginOptions {
  readonly kind: OriginKind;
  readonly workers: number;
  readonly serviceMs: number;
}

export interface LimitedOrigin {
  readonly port: number;
  /** Requests that workers have ended so far, whoever waited for them. */
  served(): Promise<number>;
  stop(): Promise<void>;
}

export async function startLimitedOrigin(options: OriginOptions): Promise<LimitedOrigin> {
  const worker = new Worker(new URL(import.meta.url), { workerData: options });
  const [port] = (await once(worker, "message")) as [number];
  return {
    port,
    served: async () => {
      worker.postMessage("served");
      const [count] = (await once(worker, "message")) as [number];
      return count;
    },
    stop: async () => void (await worker.terminate()),
  };
}

interface Job {
  readonly response: ServerResponse;
  isGone: boolean;
}

/** The thread. */
function serve({ kind, workers, serviceMs }: OriginOptions): void {
  const waiting: Job[] = [];
  let busy = 0;
  let served = 0;
  const next = (): Job | undefined => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift())
      if (!job.isGone || kind === "ignore-aborts") return job;
    return undefined;
  };
  const work = (job: Job, atMs: number): void => {
    const doneAtMs = atMs + serviceMs;
    setTimeout(
      () => {
        served++;
        job.response.setHeader("Cache-Control", "no-store");
        job.response.end("made with some effort\n");
        const following = next();
        if (following === undefined) busy--;
        else work(following, doneAtMs);
      },
      Math.max(0, doneAtMs - performance.now()),
    );
  };
  const server = createServer((request, response) => {
    if (request.url?.startsWith("/hit/") === true) {
      response.setHeader("Cache-Control", "max-age=3600");
      response.end("stored\n");
      return;
    }
    const job: Job = { response, isGone: false };
    response.once("close", () => {
      job.isGone = true;
    });
    if (busy < workers) {
      busy++;
      work(job, performance.now());
    } else if (kind === "reject") {
      response.writeHead(503, { "Cache-Control": "no-store" });
      response.end("busy\n");
    } else waiting.push(job);
  });
  server.keepAliveTimeout = 60_000;
  server.listen({ host: "127.0.0.1", port: 0, backlog: 4_096 }, () =>
    parentPort?.postMessage((server.address() as AddressInfo).port),
  );
  parentPort?.on("message", () => parentPort?.postMessage(served));
}

if (!isMainThread && workerData !== null) serve(workerData as OriginOptions);

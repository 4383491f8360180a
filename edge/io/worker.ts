/** A worker process: what its primary asks of it, and how it divides the server with the others. */
import type { Logger } from "#kit/io";
import { systemClock } from "#kit/io";
import type { EdgeSettings } from "../config.ts";
import { shardsOf, shareOf } from "../core/worker-plan.ts";
import { Channel } from "./channel.ts";
import { isListenHandle, type ListenHandle } from "./listening.ts";
import { EdgeMetrics } from "./metrics.ts";
import type { RunningEdge } from "./alone.ts";
import { Siblings } from "./siblings.ts";
import {
  type PrimaryMethods,
  type SocketName,
  WORKER_VARIABLE,
  type WorkerMethods,
  type WorkerPlace,
} from "./worker-methods.ts";

/** Limits of the server that its workers divide among those that live. */
const SHARED_LIMITS = [
  "connectionsMax",
  "joinedMax",
  "fillsMax",
  "forwardsMax",
  "propertyForwardsMax",
  "hopForwardsMax",
  "hopForwardsInitial",
  "hopBurst",
  "hopQueueMax",
  "prefetchConcurrency",
  "prefetchPropertyMax",
] as const;

/** This process's place among the workers; undefined: it is no worker. */
export function workerPlace(): WorkerPlace | undefined {
  const text = process.env[WORKER_VARIABLE];
  // It holds a secret: what this process starts needs none of it.
  delete process.env[WORKER_VARIABLE];
  return text === undefined || process.send === undefined ? undefined : (JSON.parse(text) as WorkerPlace);
}

/** What a worker's edge is started with, beside what every edge is. */
export interface WorkerParts {
  /** Memory divided by the number of workers; limits change as workers come and go. */
  readonly settings: EdgeSettings;
  readonly metrics: EdgeMetrics;
  readonly siblings: Siblings;
  readonly shards: readonly number[];
  readonly mayOpenDisk: boolean;
  /** To the primary. */
  readonly channel: Channel<WorkerMethods, PrimaryMethods>;
}

/** Serves until the primary says that it is over, or has gone. Resolves with the exit code. */
export async function serveAsWorker(...parameters: Parameters<typeof serveWorker>): Promise<number> {
  try {
    return await serveWorker(...parameters);
  } finally {
    // The channel alone would keep the process. It is gone already when the primary was killed.
    if (process.connected) process.disconnect();
  }
}

/** Beyond this part of a worker's memory rendered answers would cost more hits than they make cheaper. */
const HOT_SHARE_MAX = 1 / 4;

async function serveWorker(
  place: WorkerPlace,
  settings: EdgeSettings,
  logger: Logger,
  start: (
    parts: WorkerParts,
  ) => Promise<Pick<RunningEdge, "fronts" | "edge" | "openDisk" | "closeDisk" | "drain" | "close">>,
): Promise<number> {
  const own = {
    ...settings,
    memoryBytes: Math.floor(settings.memoryBytes / place.workers),
    // What is hot is hot at every worker: rendered answers are not divided as keys are.
    hotShare: Math.min(HOT_SHARE_MAX, settings.hotShare * place.workers),
  };
  const all = Array.from({ length: place.workers }, (_, number) => number);
  const divide = (living: readonly number[]): void => {
    for (const limit of SHARED_LIMITS) own[limit] = shareOf(settings[limit], place.number, living);
    own.serverShare = settings.serverShare / Math.max(1, living.length);
  };
  divide(all);
  const metrics = new EdgeMetrics();
  const channel = new Channel<WorkerMethods, PrimaryMethods>(process);
  const siblings = new Siblings({
    place,
    clock: systemClock,
    logger,
    metrics,
    invalidateElsewhere: async (keys) => {
      await channel.call("invalidate", keys);
    },
    prefetchedElsewhere: async (news) => {
      await channel.call("prefetched", news);
    },
  });
  const running = await start({
    settings: own,
    metrics,
    siblings,
    shards: shardsOf(place.number, place.workers),
    mayOpenDisk: place.mayOpenDisk,
    channel,
  });
  const ended = Promise.withResolvers<void>();
  const sockets = new Map<SocketName, ListenHandle>();
  const frontOf = (name: SocketName) => running.fronts[name.startsWith("tls") ? "tls" : "main"];
  channel.answer("listen", async (name, handle) => {
    if (!isListenHandle(handle)) throw new Error(`socket "${name}" did not come with the message`);
    sockets.set(name, handle);
    await frontOf(name)?.listenOn(handle);
    return undefined;
  });
  channel.answer("release", (name) => {
    const handle = sockets.get(name);
    sockets.delete(name);
    if (handle !== undefined) frontOf(name)?.stopListening(handle);
    return undefined;
  });
  channel.answer("view", (view) => {
    siblings.setView(view);
    divide(view.living);
    return undefined;
  });
  channel.answer("metrics", async () => await metrics.registry.getMetricsAsJSON());
  channel.answer("invalidate", (keys) => {
    siblings.applyInvalidation(keys);
    return undefined;
  });
  channel.answer("prefetched", (news) => {
    running.edge.prefetcher.hear(news);
    return undefined;
  });
  channel.answer("openDisk", async () => {
    await running.openDisk();
    return undefined;
  });
  channel.answer("closeDisk", async () => {
    await running.closeDisk();
    return undefined;
  });
  channel.answer("drain", async (idleMs) => {
    await running.drain(idleMs);
    return undefined;
  });
  channel.answer("end", () => {
    ended.resolve();
    return undefined;
  });
  // A primary that is gone replaces nobody: a worker does not outlive it. Who starts the server anew must not wait for the
  // downloads that end here: the disk is let go first. Other workers' clients may read what this one owns: they come last.
  const leave = async (): Promise<void> => {
    await Promise.allSettled([running.closeDisk(), running.drain(0)]);
    await siblings.settled();
    ended.resolve();
  };
  channel.onClosed = () => void leave();
  try {
    // It may have gone while this process started.
    if (!process.connected) return 0;
    await siblings.listen(running.edge.siblingParts);
    await Promise.race([channel.call("up", undefined), ended.promise]);
    await ended.promise;
    return 0;
  } catch (error) {
    // Called in vain because nobody is there any more: that is the end, and no fault.
    if (process.connected) throw error;
    return 0;
  } finally {
    // Whatever happened, its sockets and timers must not keep a process that serves nobody.
    await siblings.close();
    await running.close();
  }
}

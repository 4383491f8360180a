/**
 * Clients that come whether or not the ones before them were served (an open loop), each with a patience after which it leaves,
 * and a few that ask for what is stored. Everything is counted at the client.
 */
import { Agent, request } from "node:http";
import { quantile, Random } from "#kit";

export type Ending = "good" | "shed" | "failed" | "left";

export interface Asked {
  /** Since the load began, ms. */
  readonly atMs: number;
  readonly path: string;
  readonly isHit: boolean;
  ending: Ending | undefined;
  /** Until the head of the answer, or until it left, ms. */
  tookMs: number;
  /** Whether a 503 said when to come again. */
  hasRetryAfter: boolean;
}

export interface Phase {
  readonly seconds: number;
  /** Requests for what is not stored, each of another URL. */
  readonly perSecond: number;
}

export interface LoadOptions {
  readonly port: number;
  readonly phases: readonly Phase[];
  readonly hitsPerSecond: number;
  readonly patienceMs: number;
  readonly seed: number;
}

/** Resolves with every request in order when all have ended. */
export async function runLoad(options: LoadOptions): Promise<readonly Asked[]> {
  const { port, patienceMs } = options;
  const random = new Random(options.seed);
  const agent = new Agent({ keepAlive: true, maxSockets: 5_000, maxFreeSockets: 5_000, scheduling: "fifo" });
  const all: Asked[] = [];
  const ends: Promise<void>[] = [];
  const startedMs = performance.now();
  const ask = (path: string, isHit: boolean): void => {
    const sentMs = performance.now();
    const asked: Asked = {
      atMs: sentMs - startedMs,
      path,
      isHit,
      ending: undefined,
      tookMs: 0,
      hasRetryAfter: false,
    };
    all.push(asked);
    const { promise, resolve } = Promise.withResolvers<void>();
    ends.push(promise);
    const end = (ending: Ending): void => {
      if (asked.ending !== undefined) return;
      asked.ending = ending;
      asked.tookMs = performance.now() - sentMs;
      clearTimeout(timer);
      resolve();
    };
    const outgoing = request({ host: "127.0.0.1", port, path, agent }, (response) => {
      asked.hasRetryAfter = response.headers["retry-after"] !== undefined;
      const status = response.statusCode ?? 0;
      end(status === 200 ? "good" : status === 503 ? "shed" : "failed");
      response.on("error", () => {});
      response.resume();
    });
    outgoing.on("error", () => end("failed"));
    const timer = setTimeout(() => {
      end("left");
      outgoing.destroy();
    }, patienceMs);
    outgoing.end();
  };
  /** Sends at random times of a given rate until `endMs`; what a late timer missed is sent then. */
  const run = async (perSecond: number, endMs: number, path: () => string, isHit: boolean): Promise<void> => {
    if (perSecond <= 0) return;
    let dueMs = performance.now() + random.exponential(1_000 / perSecond);
    while (dueMs < endMs) {
      const waitMs = dueMs - performance.now();
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      while (dueMs <= performance.now() && dueMs < endMs) {
        ask(path(), isHit);
        dueMs += random.exponential(1_000 / perSecond);
      }
    }
  };
  const totalMs = options.phases.reduce((sum, phase) => sum + phase.seconds * 1_000, 0);
  let urls = 0;
  const misses = async (): Promise<void> => {
    let endMs = startedMs;
    for (const phase of options.phases) {
      endMs += phase.seconds * 1_000;
      await run(phase.perSecond, endMs, () => `/miss/${options.seed}-${urls++}`, false);
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, endMs - performance.now())));
    }
  };
  await Promise.all([misses(), run(options.hitsPerSecond, startedMs + totalMs, () => "/hit/1", true)]);
  await Promise.all(ends);
  agent.destroy();
  return all;
}

export interface LatencySummary {
  readonly count: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export function latencies(tookMs: readonly number[]): LatencySummary | null {
  if (tookMs.length === 0) return null;
  const sorted = tookMs.toSorted((a, b) => a - b);
  const at = (share: number): number => Math.round(10 * quantile(sorted, share)) / 10;
  return { count: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
}

/** Requests that arrived in [fromMs, toMs), by how they ended. */
export function tally(all: readonly Asked[], fromMs: number, toMs: number): Record<Ending | "asked", number> {
  const counts = { asked: 0, good: 0, shed: 0, failed: 0, left: 0 };
  for (const one of all) {
    if (one.isHit || one.atMs < fromMs || one.atMs >= toMs || one.ending === undefined) continue;
    counts.asked++;
    counts[one.ending]++;
  }
  return counts;
}

/** From `sinceMs` on: how long until a second comes in which 99 % of what arrives is served, ms; null: it does not come. */
export function recoveryMs(all: readonly Asked[], sinceMs: number, endMs: number): number | null {
  for (let fromMs = sinceMs; fromMs + 1_000 <= endMs; fromMs += 50) {
    const { asked, good } = tally(all, fromMs, fromMs + 1_000);
    if (asked > 0 && good >= 0.99 * asked) return fromMs - sinceMs;
  }
  return null;
}

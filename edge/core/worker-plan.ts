/**
 * How the workers of one server divide it: who owns a cache key, who accepts from which socket, and what part of a limit
 * each may use. All of it is computed from the number of workers and from which of them live, so that the primary and
 * every worker come to the same answer without asking each other.
 */
import { xxh32 } from "#kit";

/**
 * Parts of the key space, each with a directory of its own on disk. A fixed number, so that what is on disk finds its
 * owner again after the number of workers has changed; 16 divides evenly among 1, 2, 4, 8 and 16 workers, and among others within one part.
 */
export const SHARDS = 16;

/** The part that a key falls into, 0..SHARDS-1. */
export function shardOf(key: string): number {
  return xxh32(key) % SHARDS;
}

/**
 * The worker that owns a part: it stores it, on disk too, and asks the next hop for it. Fixed: a dead worker's parts wait
 * for its replacement, which is there within a second; to move them would mean to open their directories twice.
 */
export function ownerOf(shard: number, workers: number): number {
  return shard % workers;
}

/** The parts that a worker owns, ascending. */
export function shardsOf(worker: number, workers: number): readonly number[] {
  return Array.from({ length: SHARDS }, (_, shard) => shard).filter(
    (shard) => ownerOf(shard, workers) === worker,
  );
}

/**
 * Which sockets each living worker accepts from: its own (the one with its number), and in turn those whose worker is
 * away; a worker without a socket of its own shares one. Every socket has at least one worker as long as one lives, and
 * every living worker has at least one socket. `living`: numbers, ascending.
 */
export function socketsOf(
  sockets: number,
  living: readonly number[],
): ReadonlyMap<number, readonly number[]> {
  const plan = new Map<number, number[]>(living.map((worker) => [worker, []]));
  let next = 0;
  for (let socket = 0; socket < sockets; socket++) {
    const own = plan.get(socket);
    if (own !== undefined) own.push(socket);
    else {
      const worker = living[next++ % living.length];
      if (worker !== undefined) plan.get(worker)?.push(socket);
    }
  }
  for (const [worker, own] of plan) if (own.length === 0) own.push(worker % sockets);
  return plan;
}

/**
 * A worker's part of a limit that holds for the server: an equal one among the living, whole, at least 1; what does not
 * divide goes to the first ones. The sum is the limit, unless there are more workers than it has units.
 */
export function shareOf(limit: number, worker: number, living: readonly number[]): number {
  const place = living.indexOf(worker);
  if (place < 0 || living.length === 0) return Math.max(1, Math.floor(limit));
  const whole = Math.floor(limit / living.length);
  return Math.max(1, whole + (place < limit % living.length ? 1 : 0));
}

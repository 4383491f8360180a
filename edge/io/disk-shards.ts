/**
 * The disk store of one process: one directory, or the parts of the key space that a worker owns, each in a directory of
 * its own. It can be closed and opened again while the server goes on, since a successor may not write where its
 * predecessor still does: closed, it holds nothing and takes nothing.
 */
import { join } from "node:path";
import type { Logger } from "#kit/io";
import type { CacheKey } from "../core/cache-key.ts";
import { requestKeyOf } from "../core/slices.ts";
import { SHARDS, shardOf } from "../core/worker-plan.ts";
import { type DiskCounters, DiskStore } from "./disk-store.ts";
import type { StoredObject } from "./memory-store.ts";

export interface DiskShardsOptions {
  readonly directory: string;
  /** Parts that this process owns; undefined: it owns everything, and the directory is one store. */
  readonly shards: readonly number[] | undefined;
  /** Bytes of the whole server's disk store. */
  readonly bytesMax: number;
  readonly logger: Logger;
}

const WHOLE = 0;

export class DiskShards {
  readonly #o: DiskShardsOptions;
  /** By part; empty while it is closed. */
  readonly #stores = new Map<number, DiskStore>();

  constructor(options: DiskShardsOptions) {
    this.#o = options;
  }

  /** Opens what this process owns. Rejects with IsochroneError when the directory cannot be used. */
  async open(): Promise<void> {
    const { directory, shards, bytesMax, logger } = this.#o;
    const opened = await Promise.all(
      (shards ?? [WHOLE]).map(async (shard) => {
        const store =
          shards === undefined
            ? new DiskStore(directory, bytesMax, logger)
            : new DiskStore(
                join(directory, `shard-${String(shard).padStart(2, "0")}`),
                Math.floor(bytesMax / SHARDS),
                logger,
              );
        await store.open();
        return [shard, store] as const;
      }),
    );
    for (const [shard, store] of opened) this.#stores.set(shard, store);
  }

  /** Writes what waits to be written and lets go of the directory. */
  async close(): Promise<void> {
    const stores = [...this.#stores.values()];
    this.#stores.clear();
    await Promise.all(stores.map(async (store) => await store.flush()));
  }

  #of(key: CacheKey): DiskStore | undefined {
    return this.#stores.get(this.#o.shards === undefined ? WHOLE : shardOf(requestKeyOf(key)));
  }

  has(key: CacheKey): boolean {
    return this.#of(key)?.has(key) === true;
  }

  async load(key: CacheKey): Promise<readonly StoredObject[]> {
    return (await this.#of(key)?.load(key)) ?? [];
  }

  /** Another worker's keys are not taken: its directory holds them. */
  put(key: CacheKey, object: StoredObject): void {
    this.#of(key)?.put(key, object);
  }

  delete(key: CacheKey): void {
    this.#of(key)?.delete(key);
  }

  async flush(): Promise<void> {
    await Promise.all([...this.#stores.values()].map(async (store) => await store.flush()));
  }

  get bytes(): number {
    return this.#sum((store) => store.bytes);
  }
  get objects(): number {
    return this.#sum((store) => store.objects);
  }
  get counters(): DiskCounters {
    const sum: DiskCounters = { writes: 0, reads: 0, damaged: 0, evictions: 0, skipped: 0, errors: 0 };
    for (const { counters } of this.#stores.values())
      for (const name of Object.keys(sum) as (keyof DiskCounters)[]) sum[name] += counters[name];
    return sum;
  }

  #sum(of: (store: DiskStore) => number): number {
    let sum = 0;
    for (const store of this.#stores.values()) sum += of(store);
    return sum;
  }
}

/**
 * The disk store of one process: one directory, or the parts of the key space that a worker owns, each in a directory of
 * its own. It can be closed and opened again while the server goes on, since a successor may not write where its
 * predecessor still does: closed, it holds nothing and takes nothing, and what is deleted then is deleted when it is opened.
 */
import { readdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { IsochroneError, xxh32 } from "#kit";
import { type Logger, makeDirectory } from "#kit/io";
import type { CacheKey } from "../core/cache-key.ts";
import { MissedKeys } from "../core/missed-keys.ts";
import { requestKeyOf } from "../core/slices.ts";
import { WriteAdmission, type WriteOccasion } from "../core/disk/write-admission.ts";
import { SHARDS, shardOf } from "../core/worker-plan.ts";
import { DirectoryLock } from "./directory-lock.ts";
import { type DiskCounters, DiskStore, type PutOccasion } from "./disk-store.ts";
import type { StoredObject } from "./memory-store.ts";
import { isSegmentName } from "./segment-files.ts";

export interface DiskShardsOptions {
  readonly directory: string;
  /** Parts that this process owns; undefined: it owns everything, and the directory is one store. */
  readonly shards: readonly number[] | undefined;
  /** Bytes of the whole server's disk store. */
  readonly bytesMax: number;
  readonly logger: Logger;
}

/** The disk store of a process; undefined: it has memory alone. */
export function diskOf(
  options: Omit<DiskShardsOptions, "directory"> & { readonly directory: string | undefined },
): DiskShards | undefined {
  const { directory } = options;
  return directory === undefined ? undefined : new DiskShards({ ...options, directory });
}

const WHOLE = 0;
/** Bytes that may wait to be written in all parts of a server together: they are beside the memory store's. */
const PENDING_BYTES_MAX = 64 * 1_024 * 1_024;
/** Keys whose first request is remembered, by bytes of the store: about as many as it holds objects; 20 bits each. */
const BYTES_A_REMEMBERED_KEY = 16 * 1_024;
const REMEMBERED_KEYS_MIN = 65_536;
const REMEMBERED_KEYS_MAX = 4_194_304;

export class DiskShards {
  readonly #o: DiskShardsOptions;
  /** By part; empty while it is closed. */
  readonly #stores = new Map<number, DiskStore>();
  /** Deleted while it was closed. */
  readonly #missed = new MissedKeys();
  /** A full disk takes what is likely to be read from it: most objects never are, and would push out those that were. */
  readonly #admission: WriteAdmission;
  /** Whether memory holds a key's objects; see DiskOptions. */
  isInMemory: ((key: CacheKey) => boolean) | undefined;
  /** Told before an orderly end: the last moment to put something. */
  onClosing: (() => void) | undefined;

  readonly #directories: ReadonlyMap<number, string>;
  #closing: Promise<unknown> = Promise.resolve();

  constructor(options: DiskShardsOptions) {
    this.#o = options;
    const keys = Math.max(REMEMBERED_KEYS_MIN, options.bytesMax / BYTES_A_REMEMBERED_KEY);
    const { directory, shards } = options;
    this.#admission = new WriteAdmission({
      diskBytes: (options.bytesMax * (shards?.length ?? SHARDS)) / SHARDS,
      keys: Math.min(REMEMBERED_KEYS_MAX, keys),
    });
    this.#directories = new Map(
      shards?.map((shard) => [shard, directoryOf(directory, shard)]) ?? [[WHOLE, directory]],
    );
  }

  /** Makes the directories, which harms nobody who uses them. Rejects with IsochroneError when they cannot be had. */
  prepare(): void {
    for (const directory of this.#directories.values()) {
      try {
        makeDirectory(directory);
      } catch (cause) {
        throw new IsochroneError(
          `Cannot use the disk store ${JSON.stringify(directory)}: ${cause instanceof Error ? cause.message : String(cause)}; name a directory that this process may write`,
          { code: "disk-store", source: "configuration", retry: "never", cause },
        );
      }
    }
  }

  /** Opens what this process owns. Rejects with IsochroneError when the directory cannot be used. */
  async open(): Promise<void> {
    await this.#removeOtherLayout();
    const stores = [...this.#directories].map(
      ([shard, directory]) => [shard, this.#make(directory)] as const,
    );
    try {
      await Promise.all(stores.map(async ([, store]) => await store.open()));
    } catch (error) {
      // None of them stays behind with a lock.
      await Promise.allSettled(stores.map(async ([, store]) => await store.close()));
      throw error;
    }
    for (const [shard, store] of stores) this.#stores.set(shard, store);
    const missed = this.#missed.take();
    if (missed === undefined) return;
    if (missed === "all") this.clear();
    else for (const key of missed) this.delete(key);
    await this.flush();
  }

  /**
   * Removes what a server of one process left for one of several, or the other way round. It has missed every invalidation
   * and purge since, so that it must not be found by the next such server; and it takes room that is ours.
   */
  async #removeOtherLayout(): Promise<void> {
    const { directory, shards, logger } = this.#o;
    const all = Array.from({ length: SHARDS }, (_, shard) => shard);
    // Of several processes the owner of the first part does it.
    const others =
      shards === undefined
        ? all.map((shard) => directoryOf(directory, shard))
        : shards.includes(0)
          ? [directory]
          : [];
    for (const other of others) await removeStore(other, logger);
  }

  #make(directory: string): DiskStore {
    const { shards, bytesMax, logger } = this.#o;
    const common = {
      logger,
      admit: (key: CacheKey, bodyBytes: number, occasion: WriteOccasion, isFull: boolean) => {
        const hash = xxh32(key);
        const { writtenBytes } = this;
        if (occasion === "fetched") this.#admission.returned(hash, writtenBytes);
        return this.#admission.admits(hash, bodyBytes, occasion, writtenBytes, isFull);
      },
      isInMemory: (key: CacheKey) => this.isInMemory?.(key) === true,
    };
    return shards === undefined
      ? new DiskStore({ ...common, directory, bytesMax })
      : new DiskStore({
          ...common,
          directory,
          bytesMax: Math.floor(bytesMax / SHARDS),
          pendingBytesMax: PENDING_BYTES_MAX / SHARDS,
        });
  }

  /** Writes what waits to be written and lets go of the directory. Resolves when that is done, whoever began it. */
  async close(): Promise<void> {
    if (this.#stores.size > 0) this.onClosing?.();
    const stores = [...this.#stores.values()];
    this.#stores.clear();
    this.#closing = Promise.all([this.#closing, ...stores.map((store) => store.close())]);
    await this.#closing;
  }

  #of(key: CacheKey): DiskStore | undefined {
    return this.#stores.get(this.#o.shards === undefined ? WHOLE : shardOf(requestKeyOf(key)));
  }

  has(key: CacheKey): boolean {
    return this.#of(key)?.has(key) === true;
  }

  async load(key: CacheKey): Promise<readonly StoredObject[]> {
    const store = this.#of(key);
    if (store === undefined) return [];
    this.#admission.returned(xxh32(key), this.writtenBytes);
    return await store.load(key);
  }

  /** Whether it is written. Another worker's keys are not taken: its directory holds them. `occasion`: see DiskStore. */
  put(key: CacheKey, object: StoredObject, occasion: PutOccasion): boolean {
    const store = this.#of(key);
    return store !== undefined && store.put(key, object, occasion) === undefined;
  }

  /** See {@link DiskStore.supplement}. */
  supplement(key: CacheKey, object: StoredObject): void {
    this.#of(key)?.supplement(key, object);
  }

  delete(key: CacheKey): void {
    if (this.#stores.size === 0) this.#missed.add([key]);
    this.#of(key)?.delete(key);
  }

  /** Forgets everything that this process owns. */
  clear(): void {
    if (this.#stores.size === 0) this.#missed.add("all");
    for (const store of this.#stores.values()) store.clear();
  }

  /** Resolves when what was put and deleted before has been written: true; or given up because a disk refuses: false. */
  async flush(): Promise<boolean> {
    const flushed = await Promise.all([...this.#stores.values()].map(async (store) => await store.flush()));
    return flushed.every(Boolean);
  }

  get bytes(): number {
    return this.#sum((store) => store.bytes);
  }
  /** Written since it was opened. */
  get writtenBytes(): number {
    return this.#sum((store) => store.counters.writtenBytes);
  }
  get objects(): number {
    return this.#sum((store) => store.objects);
  }
  get segments(): number {
    return this.#sum((store) => store.segments);
  }
  get indexBytes(): number {
    return this.#sum((store) => store.indexBytes);
  }
  get pendingBytes(): number {
    return this.#sum((store) => store.pendingBytes);
  }
  get evictions(): number {
    return this.#sum((store) => store.evictions);
  }
  /** How many of the stores stand before a disk that refuses. */
  get failing(): number {
    return this.#sum((store) => (store.isFailing ? 1 : 0));
  }
  /** Of all stores together. */
  count(of: (counters: DiskCounters) => number): number {
    return this.#sum(({ counters }) => of(counters));
  }

  #sum(of: (store: DiskStore) => number): number {
    let sum = 0;
    for (const store of this.#stores.values()) sum += of(store);
    return sum;
  }
}

function directoryOf(directory: string, shard: number): string {
  return join(directory, `shard-${String(shard).padStart(2, "0")}`);
}

/** Removes the segments of a store that nobody uses. Rejects with IsochroneError when somebody does; a disk that refuses is told. */
async function removeStore(directory: string, logger: Logger): Promise<void> {
  try {
    const names = (await readdir(directory)).filter((name) => isSegmentName(name));
    if (names.length === 0) return;
    const lock = new DirectoryLock(directory);
    try {
      for (const name of names) await unlink(join(directory, name));
    } finally {
      lock.release(true);
    }
    logger.info("disk-layout-removed", { directory, segments: names.length });
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT") return;
    if (code === "directory-in-use") throw error;
    logger.warn("disk-layout-not-removed", { directory, error });
  }
}

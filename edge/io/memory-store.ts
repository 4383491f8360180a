/** Stored responses in memory, least recently used out first, bounded by the bytes they really take. */
import { LRUCache } from "lru-cache";
import type { CacheKey } from "../core/cache-key.ts";
import type { StoredHead } from "../core/messages.ts";
import { isSameVariant, VARIANTS_MAX } from "../core/vary.ts";
import type { ObjectBody } from "./object-body.ts";

/** A stored response with its content, which is complete and retained. */
export interface StoredObject extends StoredHead {
  readonly body: ObjectBody;
}

/** What an entry costs beside the bytes of its strings and content: objects, arrays, buffers and map slots. Measured with 15,000
 * objects of 1 KiB and eight fields: 3.3 KiB each on the heap and beside it. */
const ENTRY_OVERHEAD_BYTES = 1_600;
const FIELD_OVERHEAD_BYTES = 80;

/** Bytes that a stored response takes: content, header fields, key and bookkeeping. */
export function storedBytes(key: CacheKey, object: StoredObject): number {
  let bytes =
    ENTRY_OVERHEAD_BYTES + key.length + object.body.bytes + object.body.chunks.length * FIELD_OVERHEAD_BYTES;
  for (const [name, value] of object.fields) bytes += FIELD_OVERHEAD_BYTES + name.length + value.length;
  for (const value of object.nominatedValues) bytes += FIELD_OVERHEAD_BYTES + (value?.length ?? 0);
  for (const tag of object.tags) bytes += FIELD_OVERHEAD_BYTES + tag.length;
  return bytes;
}

export interface StoreCounters {
  puts: number;
  evictions: number;
  /** Objects that did not fit and were not kept. */
  refused: number;
}

export class MemoryStore {
  readonly #lru: LRUCache<CacheKey, readonly StoredObject[]>;
  readonly #bytesMax: number;
  readonly counters: StoreCounters = { puts: 0, evictions: 0, refused: 0 };
  #objects = 0;
  /** Told of each object that leaves by itself. */
  onEvicted: ((key: CacheKey, objects: readonly StoredObject[]) => void) | undefined;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#lru = new LRUCache<CacheKey, readonly StoredObject[]>({
      maxSize: bytesMax,
      sizeCalculation: (objects, key) => objects.reduce((sum, object) => sum + storedBytes(key, object), 0),
      dispose: (objects, key, reason) => {
        this.#objects -= objects.length;
        if (reason !== "evict") return;
        this.counters.evictions += objects.length;
        this.onEvicted?.(key, objects);
      },
    });
  }

  /** Bytes in use. */
  get bytes(): number {
    return this.#lru.calculatedSize;
  }
  /** Stored responses, each variant by itself. */
  get objects(): number {
    return this.#objects;
  }
  /** Largest content that is kept: an eighth of the store, so that one object never empties it. */
  get objectBytesMax(): number {
    return Math.floor(this.#bytesMax / 8);
  }

  /** The variants under a key, oldest first; counts as a use. */
  lookup(key: CacheKey): readonly StoredObject[] {
    return this.#lru.get(key) ?? NONE;
  }

  /** The variants without counting as a use. */
  peek(key: CacheKey): readonly StoredObject[] {
    return this.#lru.peek(key) ?? NONE;
  }

  /** Keeps an object; one of the same variant is replaced, and beyond VARIANTS_MAX the oldest goes. */
  put(key: CacheKey, object: StoredObject): boolean {
    if (object.body.bytes > this.objectBytesMax) {
      this.counters.refused++;
      return false;
    }
    const kept = (this.#lru.peek(key) ?? NONE).filter((other) => !isSameVariant(other, object));
    this.#set(key, [...kept.slice(Math.max(0, kept.length - VARIANTS_MAX + 1)), object]);
    this.counters.puts++;
    return true;
  }

  /** Replaces one stored response by its freshened form, if it is still there. */
  replace(key: CacheKey, old: StoredObject, replacement: StoredObject): boolean {
    const present = this.#lru.peek(key);
    if (!present?.includes(old)) return false;
    this.#set(
      key,
      present.map((object) => (object === old ? replacement : object)),
    );
    return true;
  }

  /** Changes every variant under a key; undefined drops one. Returns how many there were. */
  update(key: CacheKey, change: (object: StoredObject) => StoredObject | undefined): number {
    const present = this.#lru.peek(key);
    if (present === undefined) return 0;
    this.#set(
      key,
      present.flatMap((object) => change(object) ?? []),
    );
    return present.length;
  }

  /** Drops the variants that `isGone` names, whatever their key. Returns how many. Costs a walk over all keys. */
  sweep(isGone: (key: CacheKey, object: StoredObject) => boolean): number {
    let removed = 0;
    for (const [key, objects] of Array.from(this.#lru.entries())) {
      const kept = objects.filter((object) => !isGone(key, object));
      if (kept.length === objects.length) continue;
      removed += objects.length - kept.length;
      this.#set(key, kept);
    }
    return removed;
  }

  #set(key: CacheKey, objects: readonly StoredObject[]): void {
    if (objects.length === 0) {
      this.#lru.delete(key);
      return;
    }
    // A set that is larger than the store is dropped by the LRU without a word; count from what it kept.
    this.#objects += objects.length;
    this.#lru.set(key, objects);
    if (!this.#lru.has(key)) this.#objects -= objects.length;
  }
}

const NONE: readonly StoredObject[] = [];

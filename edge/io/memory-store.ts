/** Stored responses in memory, bounded by the bytes they really take; an eviction policy of the core says which ones stay. */
import { xxh32 } from "#kit";
import type { CacheKey } from "../core/cache-key.ts";
import { EVICTION_POLICIES, type EvictionPolicyName, evictionPolicy } from "../core/eviction/policies.ts";
import { EvictionNode, type EvictionPolicy } from "../core/eviction/policy.ts";
import type { StoredHead } from "../core/messages.ts";
import { SharedFields, stringBytes } from "../core/shared-fields.ts";
import { isSameVariant, VARIANTS_MAX } from "../core/vary.ts";
import type { ObjectBody } from "./object-body.ts";

/** A stored response with its content, which is complete and retained. */
export interface StoredObject extends StoredHead {
  readonly body: ObjectBody;
}

/** What an object takes beside its fields, strings and content: itself, its body's state, its entry or its place among the
 * variants, the key's slot in the map: 700 live, and 200 that the heap of small objects grows by between two collections. Measured by
 * test/bench/memory.ts. */
const OBJECT_BYTES = 900;
/**
 * What V8 and the allocator hold beside what lives, while a full store is written to: dead objects until the next collection, pages
 * that are not given back. V8 collects when 64 MiB of content have come; of a small store that would be most, so it gives an eighth
 * and grows beyond its bytes by the rest. Measured with the flags of
 * process-memory.ts by test/bench/memory.ts. An edge's own process sets it by what it takes (resident-watch.ts).
 */
const GARBAGE_BYTES_MAX = 64 * 2 ** 20;
const GARBAGE_SHARE = 1 / 8;

/** Part of what its policy may take from which on a store counts as full. */
const FULL_SHARE = 15 / 16;

/** Share of the store for field lines that its objects have in common, and the most of it. */
const SHARED_FIELDS_SHARE = 1 / 256;
const SHARED_FIELDS_BYTES_MAX = 512 * 1_024;

interface StoreCounters {
  puts: number;
  evictions: number;
  /** Objects that did not fit and were not kept. */
  refused: number;
}

/**
 * What a holder of a {@link StoredObject} keeps beside it, to see in one read whether the store still has exactly the
 * variants that it had: any change under the key (stored, freshened, invalidated, purged, evicted) ends the cell for good.
 */
export interface EntryCell {
  readonly isLive: boolean;
  /** The holder's: the generation of the hot table in which a hit of it was last offered, -1 for none. */
  offeredIn: number;
}

/** The cell as the store writes it: it leads back to the entry without the key's hash. */
class LiveCell implements EntryCell {
  isLive = true;
  offeredIn = -1;
  readonly entry: Entry;

  constructor(entry: Entry) {
    this.entry = entry;
  }
}

/** All variants under one key. They stay and go together: a request for one of them keeps the others. */
class Entry extends EvictionNode {
  readonly key: CacheKey;
  /** Oldest first, never empty while the store has the entry. */
  objects: readonly StoredObject[];
  isUsed = false;
  /** Made when somebody asks for it: most entries are never hot. */
  cell: LiveCell | undefined = undefined;

  constructor(key: CacheKey, hash: number, bytes: number, objects: readonly StoredObject[]) {
    super(hash, bytes);
    this.key = key;
    this.objects = objects;
  }

  /** Tells the holders of this entry's objects that they may be out of date. */
  endCell(): void {
    if (this.cell === undefined) return;
    this.cell.isLive = false;
    this.cell = undefined;
  }
}

/** Keys that are looked at in one turn of a sweep: about a millisecond. */
const SWEEP_KEYS = 2_000;

export class MemoryStore {
  readonly #entries = new Map<CacheKey, Entry>();
  readonly #policy: EvictionPolicy<Entry>;
  /** What it was given. */
  readonly bytesMax: number;
  readonly #sharedFields: SharedFields;
  /** Bytes that the shared fields may take: counted whole, from the start. */
  readonly #sharedBytes: number;
  #garbageBytes: number;
  readonly counters: StoreCounters = { puts: 0, evictions: 0, refused: 0 };
  #objects = 0;
  /** Told of all objects that leave by the policy's decision; `isUsed`: some were used while they were here. */
  onEvicted: ((key: CacheKey, objects: readonly StoredObject[], isUsed: boolean) => void) | undefined;

  constructor(bytesMax: number, eviction: EvictionPolicyName = EVICTION_POLICIES[0]) {
    this.bytesMax = bytesMax;
    this.#sharedBytes = Math.min(SHARED_FIELDS_BYTES_MAX, Math.floor(bytesMax * SHARED_FIELDS_SHARE));
    this.#sharedFields = new SharedFields(this.#sharedBytes);
    this.#garbageBytes = Math.min(GARBAGE_BYTES_MAX, Math.floor(bytesMax * GARBAGE_SHARE));
    this.#policy = evictionPolicy(eviction, bytesMax - this.#sharedBytes - this.#garbageBytes, (entry) =>
      this.#evicted(entry),
    );
  }

  /** Bytes in use, what is kept free for garbage included: never above what the store was given. */
  get bytes(): number {
    return this.#policy.bytes + this.#policy.overheadBytes + this.#sharedBytes + this.#garbageBytes;
  }
  /** Of them, what is kept free for garbage, below half of what the store was given. Entries go at once for a larger one. */
  get garbageBytes(): number {
    return this.#garbageBytes;
  }
  set garbageBytes(garbageBytes: number) {
    this.#garbageBytes = garbageBytes;
    this.#policy.bytesMax = this.bytesMax - this.#sharedBytes - garbageBytes;
  }
  /** Another object of ordinary size may push others out. */
  get isFull(): boolean {
    return this.#policy.bytes + this.#policy.overheadBytes > this.#policy.bytesMax * FULL_SHARE;
  }
  /** Stored responses, each variant by itself. */
  get objects(): number {
    return this.#objects;
  }
  /** Largest content that is kept: an eighth of the store, so that one object never empties it. */
  get objectBytesMax(): number {
    return Math.floor(this.bytesMax / 8);
  }

  /** The variants under a key, oldest first; counts as a use. */
  lookup(key: CacheKey): readonly StoredObject[] {
    const entry = this.#entries.get(key);
    if (entry === undefined) return NONE;
    this.#use(entry, 1);
    return entry.objects;
  }

  /** The variants without counting as a use. */
  peek(key: CacheKey): readonly StoredObject[] {
    return this.#entries.get(key)?.objects ?? NONE;
  }

  /** The cell of a key's present variants; undefined when there are none. Not a use. */
  cellOf(key: CacheKey): EntryCell | undefined {
    const entry = this.#entries.get(key);
    return entry === undefined ? undefined : (entry.cell ??= new LiveCell(entry));
  }

  /** Counts uses of a cell's variants as `lookup` would, without looking at the key. False: the cell is no longer live. */
  touch(cell: EntryCell, uses = 1): boolean {
    if (!(cell instanceof LiveCell) || !cell.isLive) return false;
    this.#use(cell.entry, uses);
    return true;
  }

  #use(entry: Entry, uses: number): void {
    entry.isUsed = true;
    this.#policy.hit(entry, uses);
  }

  /** Keeps an object; one of the same variant is replaced, and beyond VARIANTS_MAX the oldest goes. False: it is not kept. */
  put(key: CacheKey, object: StoredObject): boolean {
    if (object.body.bytes > this.objectBytesMax) {
      this.counters.refused++;
      return false;
    }
    this.#compact(object);
    const kept = this.peek(key).filter((other) => !isSameVariant(other, object));
    const isKept = this.#set(key, [...kept.slice(Math.max(0, kept.length - VARIANTS_MAX + 1)), object]);
    if (isKept) this.counters.puts++;
    else this.counters.refused++;
    return isKept;
  }

  /** Replaces one stored response by its freshened form, if it is still there. */
  replace(key: CacheKey, old: StoredObject, replacement: StoredObject): boolean {
    const present = this.peek(key);
    if (!present.includes(old)) return false;
    this.#compact(replacement);
    this.#set(
      key,
      present.map((object) => (object === old ? replacement : object)),
    );
    return true;
  }

  /**
   * Counts what a body under a key takes now that another form of it is kept with it, and ends what was remembered of the key.
   */
  recount(key: CacheKey, body: ObjectBody): void {
    const present = this.peek(key);
    if (present.some((object) => object.body === body)) this.#set(key, present);
  }

  /** Changes every variant under a key; undefined drops one. Returns how many there were. */
  update(key: CacheKey, change: (object: StoredObject) => StoredObject | undefined): number {
    const present = this.peek(key);
    if (present.length > 0)
      this.#set(
        key,
        present.flatMap((object) => change(object) ?? []),
      );
    return present.length;
  }

  /** What was used since it was put, the newest keys first. */
  used(): readonly (readonly [key: CacheKey, objects: readonly StoredObject[]])[] {
    const used = [...this.#entries.values()].filter(({ isUsed }) => isUsed);
    return used.reverse().map(({ key, objects }) => [key, objects]);
  }

  /** Drops the variants that `isGone` names, whatever their key. Returns how many. Costs a walk over all keys. */
  sweep(isGone: (key: CacheKey, object: StoredObject) => boolean): number {
    const walk = this.sweeping(isGone);
    for (;;) {
      const { done, value } = walk.next();
      if (done === true) return value;
    }
  }

  /**
   * Drops the variants that `isGone` names, whatever their key, and gives their number. Costs a walk over all keys, which
   * pauses after each {@link SWEEP_KEYS}; what comes under new keys meanwhile is not looked at.
   */
  *sweeping(isGone: (key: CacheKey, object: StoredObject) => boolean): Generator<void, number> {
    let removed = 0;
    let left = this.#entries.size;
    let looked = 0;
    // A Map's iterator bears deletions, also of the key that it stands on; new keys come behind those of the beginning.
    for (const [key, { objects }] of this.#entries) {
      if (left-- <= 0) break;
      if (looked++ === SWEEP_KEYS) {
        looked = 1;
        yield;
      }
      const kept = objects.filter((object) => !isGone(key, object));
      if (kept.length === objects.length) continue;
      removed += objects.length - kept.length;
      this.#set(key, kept);
    }
    return removed;
  }

  /** Sets the variants under a key. False: the policy did not keep them. */
  #set(key: CacheKey, objects: readonly StoredObject[]): boolean {
    const present = this.#entries.get(key);
    if (present === undefined) {
      if (objects.length === 0) return true;
      const entry = new Entry(key, xxh32(key), this.#bytesOf(key, objects), objects);
      this.#entries.set(key, entry);
      this.#objects += objects.length;
      return this.#policy.admit(entry);
    }
    present.endCell();
    this.#objects += objects.length - present.objects.length;
    present.objects = objects;
    if (objects.length === 0) {
      this.#policy.remove(present);
      this.#entries.delete(key);
      return true;
    }
    return this.#policy.resize(present, this.#bytesOf(key, objects));
  }

  /** Replaces parts of an object that is about to be stored by equal ones that take less: shared lines, one empty list. */
  #compact(object: StoredObject): void {
    const parts = object as { -readonly [Part in keyof StoredObject]: StoredObject[Part] };
    parts.fields = this.#sharedFields.share(object.fields);
    if (object.nominatedFields.length === 0) parts.nominatedFields = NO_TEXTS;
    if (object.nominatedValues.length === 0) parts.nominatedValues = NO_TEXTS;
    if (object.tags.length === 0) parts.tags = NO_TEXTS;
  }

  /** Memory that the variants under a key take. */
  #bytesOf(key: CacheKey, objects: readonly StoredObject[]): number {
    let bytes = stringBytes(key);
    for (const { fields, body, nominatedFields, nominatedValues, tags } of objects) {
      bytes += OBJECT_BYTES + this.#sharedFields.bytesOf(fields) + body.memoryBytes;
      for (const list of [nominatedFields, nominatedValues, tags])
        for (const text of list) bytes += stringBytes(text ?? "");
    }
    return bytes;
  }

  #evicted(entry: Entry): void {
    entry.endCell();
    this.#entries.delete(entry.key);
    this.#objects -= entry.objects.length;
    this.counters.evictions += entry.objects.length;
    this.onEvicted?.(entry.key, entry.objects, entry.isUsed);
  }
}

const NONE: readonly StoredObject[] = [];
const NO_TEXTS: readonly string[] = [];

/** The store that the handler sees: memory in front, disk behind when there is one. */
import type { CacheKey } from "../core/cache-key.ts";
import type { StoredHead } from "../core/messages.ts";
import { isSameVariant } from "../core/vary.ts";
import type { DiskShards } from "./disk-shards.ts";
import type { MemoryStore, StoredObject } from "./memory-store.ts";
import type { ObjectBody } from "./object-body.ts";

export class ObjectStore {
  readonly memory: MemoryStore;
  readonly disk: DiskShards | undefined;
  /** Reads from disk in flight: those who ask meanwhile share their bytes. */
  readonly #loads = new Map<CacheKey, Promise<readonly StoredObject[]>>();

  constructor(memory: MemoryStore, disk?: DiskShards) {
    this.memory = memory;
    this.disk = disk;
    if (disk === undefined) return;
    disk.isInMemory = (key) => memory.peek(key).length > 0;
    // Admission may have kept off what was used since. What it is worth shows when memory has it no more: its uses up to then were no
    // reads from disk.
    memory.onEvicted = (key, objects, isUsed) => {
      if (isUsed && !disk.has(key)) for (const object of objects) disk.put(key, object, "leaving-memory");
    };
    // As much as may wait to be written: what is in use is found after the next start without asking the origin.
    disk.onClosing = () => {
      for (const [key, objects] of memory.used())
        if (!disk.has(key)) for (const object of objects) disk.put(key, object, "closing");
    };
  }

  /** The variants under a key: at once from memory; from disk as a promise, and then they are in memory too. */
  lookup(key: CacheKey): readonly StoredObject[] | Promise<readonly StoredObject[]> {
    const objects = this.memory.lookup(key);
    if (objects.length > 0 || this.disk === undefined || !this.disk.has(key)) return objects;
    const present = this.#loads.get(key);
    if (present !== undefined) return present;
    const load: Promise<readonly StoredObject[]> = this.#load(this.disk, key).finally(() => {
      if (this.#loads.get(key) === load) this.#loads.delete(key);
    });
    this.#loads.set(key, load);
    return load;
  }

  async #load(disk: DiskShards, key: CacheKey): Promise<readonly StoredObject[]> {
    const loaded = await disk.load(key);
    // While it was read a newer one may have been stored: memory is right then.
    const present = this.memory.peek(key);
    if (present.length > 0) return present;
    // Forgotten while it was read: by an unsafe request (RFC 9111, section 4.4) or because a newer answer is not stored.
    if (!disk.has(key)) return [];
    for (const object of loaded) this.memory.put(key, object);
    return loaded;
  }

  /** Whether anything is stored under a key; not a use of it. */
  has(key: CacheKey): boolean {
    return this.memory.peek(key).length > 0 || this.disk?.has(key) === true;
  }

  /** Keeps an object in memory, and on disk as its admission decides. False: it is kept nowhere. */
  put(key: CacheKey, object: StoredObject): boolean {
    const isInMemory = this.memory.put(key, object);
    // An older form of what memory does not take is no longer the present state.
    if (!isInMemory) this.memory.update(key, (other) => (isSameVariant(other, object) ? undefined : other));
    const isOnDisk = this.disk?.put(key, object, "fetched") === true;
    return isInMemory || isOnDisk;
  }

  /**
   * Counts another form of the content of a stored body, and writes it to where the object lies on disk. Nothing when the body has left
   * the store.
   */
  keepForm(key: CacheKey, body: ObjectBody): void {
    this.memory.recount(key, body);
    const object = this.memory.peek(key).find((one) => one.body === body);
    if (object !== undefined) this.disk?.supplement(key, object);
  }

  /** The freshened form of a stored response: same content, new head. */
  freshen(key: CacheKey, old: StoredObject, head: StoredHead): StoredObject {
    const replacement: StoredObject = { ...head, body: old.body };
    // What admission has kept off is no new candidate for it.
    if (this.memory.replace(key, old, replacement) && this.disk?.has(key) === true)
      this.disk.put(key, replacement, "fetched");
    return replacement;
  }

  /** Marks every variant under a key as invalidated (RFC 9111, section 4.4). Returns how many. */
  invalidate(key: CacheKey): number {
    const count = this.memory.update(key, (object) => ({ ...object, isInvalidated: true }));
    this.disk?.delete(key);
    return count;
  }

  /** Drops every variant under a key. Returns how many were in memory. */
  delete(key: CacheKey): number {
    const count = this.memory.update(key, () => undefined);
    this.disk?.delete(key);
    return count;
  }

  /** Drops everything. Returns how many were in memory. */
  clear(): number {
    this.disk?.clear();
    return this.memory.sweep(() => true);
  }
}

/** Copies of hot keys that other servers own: the clock, the timer and the store of core/hot-keys.ts. */
import type { Clock } from "#kit";
import type { CacheKey } from "../core/cache-key.ts";
import { HotKeys, type HotKeySettings } from "../core/hot-keys.ts";
import type { StoredHead } from "../core/messages.ts";
import type { MemoryStore, StoredObject } from "./memory-store.ts";

/** Largest content that is copied: beyond it the way through the owner costs little beside the bytes. */
export const COPY_BYTES_MAX = 1_048_576;

export class Copies {
  readonly #hot: HotKeys;
  readonly #clock: Clock;
  readonly #memory: MemoryStore;
  /** Whether this server owns a key by now: then what is stored is no copy any more. */
  readonly #isOwn: (key: CacheKey) => boolean;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    settings: HotKeySettings,
    clock: Clock,
    memory: MemoryStore,
    isOwn: (key: CacheKey) => boolean,
  ) {
    this.#hot = new HotKeys(settings, clock.monotonic());
    this.#clock = clock;
    this.#memory = memory;
    this.#isOwn = isOwn;
  }

  /** For gauges. */
  get hot(): Pick<HotKeys, "copies" | "bytes" | "counters"> {
    return this.#hot;
  }

  has(key: CacheKey): boolean {
    return this.#hot.has(key);
  }

  /** Counts a request for another server's key; true: its answer is to be kept. */
  handleRequest(key: CacheKey): boolean {
    return this.#hot.handleRequest(key, this.#clock.monotonic());
  }

  /** Keeps a copy, in memory alone. False: there is no room for it. */
  put(key: CacheKey, object: StoredObject): boolean {
    if (!this.#hot.handleCopy(key, object.body.bytes, this.#clock.monotonic())) return false;
    this.#arm();
    return this.#memory.put(key, object);
  }

  /** The freshened form of a stored copy. It ends when it would have ended. */
  freshen(key: CacheKey, old: StoredObject, head: StoredHead): StoredObject {
    const replacement: StoredObject = { ...head, body: old.body };
    this.#memory.replace(key, old, replacement);
    return replacement;
  }

  #arm(): void {
    const next = this.#hot.pollTimeout();
    if (this.#timer !== undefined || next === undefined) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        for (const key of this.#hot.handleTimeout(this.#clock.monotonic()))
          if (!this.#isOwn(key as CacheKey)) this.#memory.update(key as CacheKey, () => undefined);
        this.#arm();
      },
      Math.max(1, Math.ceil(next - this.#clock.monotonic())),
    );
    this.#timer.unref();
  }
}

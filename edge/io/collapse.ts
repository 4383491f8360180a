/**
 * Fills in flight, and who waits for them. A fill asks the next hop once for a key; requests for the same key meanwhile wait
 * for its outcome and read the same content as it arrives. A fill belongs to no client: it goes on when the one that
 * began it leaves. What turns out not to be shareable sets all waiters free at once, and the key is remembered for a
 * while, so that such answers are never served one after the other.
 */
import { LRUCache } from "lru-cache";
import { countBounded } from "./count-bounded.ts";
import type { ClusterId } from "#kit";
import type { Freshness } from "../core/freshness.ts";
import type { Fields } from "../core/headers.ts";
import type { ResponseHead, StoredHead } from "../core/messages.ts";
import type { NotStoredReason } from "../core/storable.ts";
import type { StoredObject } from "./memory-store.ts";
import type { ObjectBody } from "./object-body.ts";

/** What came of a fill. */
export type FillOutcome =
  /** An answer that is (being) stored; `isShareable`: also for those who waited. */
  | {
      readonly kind: "stored";
      readonly head: StoredHead;
      readonly body: ObjectBody;
      /** Length of the content if known: stated, or complete. */
      readonly totalBytes: number | undefined;
      readonly fresh: Freshness;
      readonly isShareable: boolean;
      readonly isStored: boolean;
      /** Status of the next hop's answer: 304 when the stored one was freshened. */
      readonly fwdStatus: number;
      readonly upstreamCacheStatus: string | undefined;
      readonly hopName: string;
      readonly via: ClusterId | null;
    }
  /** An answer for the one that began the fill only. */
  | {
      readonly kind: "private";
      readonly response: ResponseHead;
      readonly body: ObjectBody;
      readonly totalBytes: number | undefined;
      readonly reason: NotStoredReason;
      readonly upstreamCacheStatus: string | undefined;
      readonly generation: number;
      readonly hopName: string;
      readonly via: ClusterId | null;
    }
  /** The next hop failed and the stored response covers it. */
  | {
      readonly kind: "stale";
      readonly stored: StoredObject;
      readonly fresh: Freshness;
      readonly detail: string;
      readonly fwdStatus: number | undefined;
    }
  | { readonly kind: "failed"; readonly code: string; readonly message: string };

export interface Fill {
  readonly key: string;
  /** Newest purge that was applied when the fill began. */
  readonly generation: number;
  readonly outcome: Promise<FillOutcome>;
  /** Tags of the answer once its head is here. */
  tags: readonly string[] | undefined;
}

/** Keys whose answers are known not to be shareable, and field names that keys are known to vary by. */
const REMEMBERED_KEYS_MAX = 100_000;

export class CollapseTable {
  readonly #fills = new Map<string, Fill>();
  readonly #unshareable: LRUCache<string, true>;
  readonly #nominated = new LRUCache<string, readonly string[]>(countBounded(REMEMBERED_KEYS_MAX));
  #joined = 0;
  #begun = 0;

  constructor(unshareableMemoryMs: number) {
    this.#unshareable = new LRUCache<string, true>({
      ...countBounded(REMEMBERED_KEYS_MAX),
      ttl: unshareableMemoryMs,
    });
  }

  get active(): number {
    return this.#fills.size;
  }
  get counters(): { readonly begun: number; readonly joined: number } {
    return { begun: this.#begun, joined: this.#joined };
  }

  get(key: string): Fill | undefined {
    return this.#fills.get(key);
  }

  /** Counts a request that waits for a fill. */
  join(): void {
    this.#joined++;
  }

  /** Enters a fill; `release` is called when late requests can no longer read its content from here. */
  begin(key: string, generation: number, outcome: Promise<FillOutcome>): Fill {
    const fill: Fill = { key, generation, outcome, tags: undefined };
    this.#fills.set(key, fill);
    this.#begun++;
    return fill;
  }

  release(fill: Fill): void {
    if (this.#fills.get(fill.key) === fill) this.#fills.delete(fill.key);
  }

  isUnshareable(key: string): boolean {
    return this.#unshareable.has(key);
  }
  setShareable(key: string, isShareable: boolean): void {
    if (isShareable) this.#unshareable.delete(key);
    else this.#unshareable.set(key, true);
  }

  /** Field names that the key's last answer varied by, so that waiting requests are told apart before the answer is here. */
  nominatedOf(key: string): readonly string[] {
    return this.#nominated.get(key) ?? NONE;
  }
  setNominated(key: string, names: readonly string[]): void {
    if (names.length > 0) this.#nominated.set(key, names);
    else this.#nominated.delete(key);
  }
}

const NONE: readonly string[] = [];

/** Upstream's Cache-Status, taken from fields. */
export function cacheStatusOf(fields: Fields): string | undefined {
  const lines = fields.filter(([name]) => name.toLowerCase() === "cache-status").map(([, value]) => value);
  return lines.length === 0 ? undefined : lines.join(", ");
}

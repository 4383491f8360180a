/**
 * Fills in flight, and who waits for them. A fill asks the next hop once for a key; requests for the same key meanwhile wait
 * for its outcome and read the same content as it arrives. A fill that was sent belongs to no client: it goes on when the one
 * that began it leaves (one that still waits for a place does not: fill-audience.ts). What turns out not to be shareable sets all
 * waiters free at once, and the key is remembered for a while, so that such answers are never served one after the other.
 */
import { LRUCache } from "lru-cache";
import { countBounded } from "./count-bounded.ts";
import { type Clock, type ClusterId, type EpochMs, IsochroneError, type ServerId } from "#kit";
import type { SpokenProtocol } from "#transport";
import type { CacheKey } from "../core/cache-key.ts";
import { type Freshness, freshness } from "../core/freshness.ts";
import type { Fields } from "../core/headers.ts";
import type { ResponseHead, StoredHead } from "../core/messages.ts";
import type { RequestPolicy } from "../core/policy.ts";
import { Families } from "../core/shareability.ts";
import { mayServeStaleIfError } from "../core/stale.ts";
import type { NotSlicedReason } from "../core/slices.ts";
import type { NotStoredReason } from "../core/storable.ts";
import type { FillAudience } from "./fill-audience.ts";
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
      /** Content-Range of the next hop's answer, where what is kept is a part. */
      readonly statedRange?: string | undefined;
      /** Status of the next hop's answer: 304 when the stored one was freshened. */
      readonly fwdStatus: number;
      readonly upstreamCacheStatus: string | undefined;
      readonly hopName: string;
      readonly via: ClusterId | null;
      readonly protocol: SpokenProtocol | undefined;
    }
  /** An answer for the one that began the fill only. */
  | {
      readonly kind: "private";
      readonly response: ResponseHead;
      readonly body: ObjectBody;
      readonly totalBytes: number | undefined;
      readonly reason: NotStoredReason | NotSlicedReason;
      readonly upstreamCacheStatus: string | undefined;
      readonly generation: number;
      readonly hopName: string;
      readonly via: ClusterId | null;
      readonly protocol: SpokenProtocol | undefined;
    }
  | StaleOutcome
  /** A part that cannot be kept: each request asks for its own range. */
  | { readonly kind: "unsliceable" }
  | {
      readonly kind: "failed";
      readonly code: string;
      readonly message: string;
      /** When it was shed. */
      readonly retryAfterSeconds?: number | undefined;
    };

/** The next hop failed, or has not answered in time, and the stored response covers it. */
export interface StaleOutcome {
  readonly kind: "stale";
  readonly stored: StoredObject;
  readonly fresh: Freshness;
  readonly detail: string;
}

/** A stored response in place of an answer that did not come; undefined when it may not be served. */
export function staleOutcome(
  stored: StoredObject,
  policy: RequestPolicy,
  now: EpochMs,
  detail: string,
): StaleOutcome | undefined {
  const fresh = freshness(stored, policy, now);
  const isAllowed = !stored.isInvalidated && mayServeStaleIfError(stored, policy, fresh);
  return isAllowed ? { kind: "stale", stored, fresh, detail } : undefined;
}

export interface Fill {
  readonly key: string;
  /** Newest purge that was applied when the fill began. */
  readonly generation: number;
  /** Undefined: it was released, and nobody finds it any more. */
  outcome: Promise<FillOutcome> | undefined;
  /** Servers of ours that it may wait for. */
  readonly servers: readonly ServerId[];
  /** Tags of the answer once its head is here. */
  tags: readonly string[] | undefined;
  /** Who waits for it; undefined: it goes on without anybody. */
  audience: FillAudience | undefined;
  /** Requests that did not wait for it. */
  passedBy: number;
}

/** Keys whose answers are known not to be shareable, and field names that keys are known to vary by. */
const REMEMBERED_KEYS_MAX = 100_000;
/** Requests for one key that are sent on by themselves on the expectation alone that the answer cannot be shared. */
const PASSED_BY_MAX = 128;
/** Keys for which nobody could be reached within about a second; an error is about 1 KiB. */
const REMEMBERED_FAILURES_MAX = 10_000;
/** Next hops that let a request wait too long: while one has not answered anything since, nobody with a stale answer waits for it. */
const SILENT_HOPS_MAX = 1_000;
const SILENT_HOP_MS = 10_000;

export class CollapseTable {
  readonly #fills = new Map<string, Fill>();
  readonly #unshareable: LRUCache<string, true>;
  readonly #nominated = new LRUCache<string, readonly string[]>(countBounded(REMEMBERED_KEYS_MAX));
  readonly #unsliceable: LRUCache<string, true>;
  readonly #failures: LRUCache<string, IsochroneError>;
  readonly #silentHops = new LRUCache<string, true>({ ...countBounded(SILENT_HOPS_MAX), ttl: SILENT_HOP_MS });
  readonly #families: Families;
  readonly #clock: Clock;
  #joined = 0;
  #begun = 0;
  #failuresUsed = 0;
  #passedBy = 0;

  /**
   * @param unshareableMemoryMs for how long a key is remembered whose answers cannot be shared, or cut into slices
   * @param failureMemoryMs for how long a key is remembered for which nobody could be reached; 0: not at all
   */
  constructor(unshareableMemoryMs: number, failureMemoryMs: number, clock: Clock) {
    this.#clock = clock;
    this.#families = new Families(unshareableMemoryMs);
    const bound = countBounded(REMEMBERED_KEYS_MAX);
    this.#unshareable = new LRUCache({ ...bound, ttl: unshareableMemoryMs });
    this.#unsliceable = new LRUCache({ ...bound, ttl: unshareableMemoryMs });
    // lru-cache takes 0 for "for ever".
    this.#failures = new LRUCache({
      ...countBounded(failureMemoryMs > 0 ? REMEMBERED_FAILURES_MAX : 1),
      ttl: Math.max(1, failureMemoryMs),
    });
  }

  get active(): number {
    return this.#fills.size;
  }
  get counters(): {
    readonly begun: number;
    readonly joined: number;
    readonly passedBy: number;
    readonly failuresUsed: number;
  } {
    return {
      begun: this.#begun,
      joined: this.#joined,
      passedBy: this.#passedBy,
      failuresUsed: this.#failuresUsed,
    };
  }

  get(key: string): Fill | undefined {
    return this.#fills.get(key);
  }

  /** Counts a request that waits for a fill. */
  join(): void {
    this.#joined++;
  }

  /** Enters a fill; `release` is called when late requests can no longer read its content from here. */
  begin(
    key: string,
    generation: number,
    outcome: Promise<FillOutcome>,
    servers: readonly ServerId[],
    audience?: FillAudience,
  ): Fill {
    const fill: Fill = { key, generation, outcome, servers, audience, tags: undefined, passedBy: 0 };
    this.#fills.set(key, fill);
    this.#begun++;
    return fill;
  }

  release(fill: Fill): void {
    if (this.#fills.get(fill.key) === fill) this.#fills.delete(fill.key);
    // A table that was outgrown keeps what it held, and the next table, until the old generation is collected: what hangs on it would stay too.
    fill.outcome = undefined;
    fill.audience = undefined;
  }

  isUnshareable(key: string): boolean {
    return this.#unshareable.has(key);
  }
  /** Takes note of an answer: of its collapse key, and of its cache key's family. */
  setShareable(collapseKey: string, key: CacheKey, status: number, isShareable: boolean): void {
    if (isShareable) this.#unshareable.delete(collapseKey);
    else this.#unshareable.set(collapseKey, true);
    // A next hop that fails says nothing of its answers' kind, and must not be asked more for it.
    if (status < 500) this.#families.handleAnswer(key, isShareable, this.#clock.epoch());
  }

  /**
   * Whether a request goes by itself beside a fill for its key that is in flight, since the answer is expected to be for one
   * client only. So many at most that a wrong guess does not become a stampede. Counts it.
   */
  mayPassBy(fill: Fill, key: CacheKey): boolean {
    if (fill.passedBy >= PASSED_BY_MAX || !this.#families.isUnshareable(key, this.#clock.epoch()))
      return false;
    fill.passedBy++;
    this.#passedBy++;
    return true;
  }

  /** Whether ranges of a key are passed on as they are, because its parts cannot be put together. */
  isUnsliceable(key: CacheKey): boolean {
    return this.#unsliceable.has(key);
  }
  setUnsliceable(key: CacheKey): void {
    this.#unsliceable.set(key, true);
  }

  /** The failure to reach any next hop for a key a moment ago: nobody is asked again so soon. Counts as a use. */
  failureOf(key: CacheKey): IsochroneError | undefined {
    const failure = this.#failures.get(key);
    if (failure !== undefined) this.#failuresUsed++;
    return failure;
  }
  /** Remembers a failure of the next hop; of ourselves, or of what a client did, nothing is remembered. */
  setFailure(key: CacheKey, error: unknown): void {
    if (error instanceof IsochroneError && error.source === "upstream") this.#failures.set(key, error);
  }

  /** Whether a next hop has let a request wait too long, and has answered none since. */
  isSilent(hop: string): boolean {
    return this.#silentHops.has(hop);
  }
  setSilent(hop: string, isSilent: boolean): void {
    if (isSilent) this.#silentHops.set(hop, true);
    else this.#silentHops.delete(hop);
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

/**
 * What prefetching may cost, and whether it is of use. Every prefetched object is remembered until it is asked for (used) or
 * {@link LedgerLimits.useWithinMs} have passed (wasted). A source (one kind of content of one property) of which too few are used stops,
 * and is sampled again after a pause that doubles. Time is an argument.
 */
import type { MonotonicMs, PrefetchKind } from "#kit";

/** Why something that was found is not asked for. */
export type SuppressReason = "recent" | "unused" | "bytes" | "busy";

export interface LedgerLimits {
  /** An object that is asked for later than this was wasted. */
  readonly useWithinMs: number;
  /** Outcomes until a source is judged. */
  readonly judgedAfter: number;
  /** Share of used objects below which a source stops. */
  readonly usedRatioMin: number;
  readonly pauseMs: number;
  readonly pauseMsMax: number;
  /** Objects that are remembered; sources that are remembered. */
  readonly objectsMax: number;
  readonly sourcesMax: number;
}

export const LEDGER_LIMITS: LedgerLimits = {
  // A page that was asked for is shown within seconds; a segment is asked for while the one before plays.
  useWithinMs: 30_000,
  judgedAfter: 40,
  // One object in four: a prefetch that is used saves a client a round trip, three that are not cost spare bytes.
  usedRatioMin: 0.25,
  pauseMs: 60_000,
  pauseMsMax: 3_600_000,
  objectsMax: 20_000,
  sourcesMax: 5_000,
};

interface Source {
  used: number;
  wasted: number;
  pausedUntil: number;
  pauseMs: number;
  /** Since a pause has ended: how many may still be asked for before the source is judged again. */
  sample: number | undefined;
}

interface Issued {
  /** Undefined: another worker of this server asked for it, and judges. */
  readonly source: string | undefined;
  readonly at: MonotonicMs;
  bytes: number;
  isUsed: boolean;
}

interface Bucket {
  bytes: number;
  at: MonotonicMs;
  inFlight: number;
}

export interface LedgerCounters {
  /** Prefetches that brought their object. */
  fetched: number;
  used: number;
  wasted: number;
  wastedBytes: number;
}

export class PrefetchLedger {
  readonly #limits: LedgerLimits;
  /** Oldest first: each is entered once, and leaves from the front. */
  readonly #issued = new Map<string, Issued>();
  readonly #sources = new Map<string, Source>();
  readonly #buckets = new Map<string, Bucket>();
  readonly counters: LedgerCounters = { fetched: 0, used: 0, wasted: 0, wastedBytes: 0 };

  constructor(limits: LedgerLimits = LEDGER_LIMITS) {
    this.#limits = limits;
  }

  /** Objects whose use is still open or that were asked for lately. */
  get size(): number {
    return this.#issued.size;
  }

  /** Sources that are paused at `now`. */
  paused(now: MonotonicMs): number {
    let count = 0;
    for (const source of this.#sources.values()) if (source.pausedUntil > now) count++;
    return count;
  }

  /**
   * Asks for leave; undefined: go, and {@link end} must follow. `name`: the object; `bytesPerSecond`, `inFlightMax`: the property's budget.
   */
  begin(
    propertyId: string,
    kind: PrefetchKind,
    name: string,
    now: MonotonicMs,
    budget: { readonly bytesPerSecond: number; readonly inFlightMax: number },
  ): SuppressReason | undefined {
    this.sweep(now);
    if (this.#issued.has(name)) return "recent";
    const sourceName = `${propertyId} ${kind}`;
    const source = this.#source(sourceName);
    if (source.pausedUntil > now || source.sample === 0) return "unused";
    const bucket = this.#bucket(propertyId, now, budget.bytesPerSecond);
    if (bucket.bytes <= 0) return "bytes";
    if (bucket.inFlight >= budget.inFlightMax) return "busy";
    if (source.sample !== undefined) source.sample--;
    bucket.inFlight++;
    this.#issued.set(name, { source: sourceName, at: now, bytes: 0, isUsed: false });
    if (this.#issued.size > this.#limits.objectsMax) this.#leave(this.#oldest(), now);
    return undefined;
  }

  /** Another worker of this server asks for an object: it is not asked for here too, and a use is told there. */
  handleElsewhere(name: string, now: MonotonicMs): void {
    this.sweep(now);
    if (this.#issued.has(name)) return;
    this.#issued.set(name, { source: undefined, at: now, bytes: 0, isUsed: false });
    if (this.#issued.size > this.#limits.objectsMax) this.#leave(this.#oldest(), now);
  }

  /** The prefetch has ended: `bytes` came from the next hop. Undefined: it came to nothing, and is not judged. */
  end(propertyId: string, name: string, bytes: number | undefined): void {
    const bucket = this.#buckets.get(propertyId);
    if (bucket !== undefined) {
      bucket.inFlight = Math.max(0, bucket.inFlight - 1);
      bucket.bytes -= bytes ?? 0;
    }
    const issued = this.#issued.get(name);
    if (bytes === undefined) this.#forget(name, issued);
    else {
      this.counters.fetched++;
      if (issued !== undefined) issued.bytes = bytes;
    }
  }

  #forget(name: string, issued: Issued | undefined): void {
    if (issued?.source === undefined) return;
    this.#issued.delete(name);
    const source = this.#sources.get(issued.source);
    if (source?.sample !== undefined) source.sample++;
  }

  /** A client asks for an object. Whose prefetch this is the first use of: this worker's or another's; undefined: nobody's. */
  use(name: string, now: MonotonicMs): "here" | "elsewhere" | undefined {
    const issued = this.#issued.get(name);
    if (issued === undefined || issued.isUsed || now - issued.at > this.#limits.useWithinMs) return undefined;
    issued.isUsed = true;
    if (issued.source === undefined) return "elsewhere";
    this.counters.used++;
    const source = this.#source(issued.source);
    source.used++;
    this.#judge(source, now);
    return "here";
  }

  /** Lets go of what was not used in time. */
  sweep(now: MonotonicMs): void {
    for (const [name, issued] of this.#issued) {
      if (now - issued.at <= this.#limits.useWithinMs) return;
      this.#leave([name, issued], now);
    }
  }

  #oldest(): [string, Issued] | undefined {
    for (const entry of this.#issued) return entry;
    return undefined;
  }

  #leave(entry: [string, Issued] | undefined, now: MonotonicMs): void {
    if (entry === undefined) return;
    const [name, issued] = entry;
    this.#issued.delete(name);
    if (issued.isUsed || issued.source === undefined) return;
    this.counters.wasted++;
    this.counters.wastedBytes += issued.bytes;
    const source = this.#source(issued.source);
    source.wasted++;
    this.#judge(source, now);
  }

  #judge(source: Source, now: MonotonicMs): void {
    const { judgedAfter, usedRatioMin, pauseMs, pauseMsMax } = this.#limits;
    const settled = source.used + source.wasted;
    if (settled < judgedAfter) return;
    if (source.used < usedRatioMin * settled) {
      source.pausedUntil = now + source.pauseMs;
      source.pauseMs = Math.min(pauseMsMax, source.pauseMs * 2);
      source.used = source.wasted = 0;
      // What is still open when the pause begins settles within it.
      source.sample = judgedAfter;
      return;
    }
    source.pauseMs = pauseMs;
    source.sample = undefined;
    // The past counts half, so that a change shows.
    source.used /= 2;
    source.wasted /= 2;
  }

  #source(name: string): Source {
    let source = this.#sources.get(name);
    if (source === undefined) {
      source = { used: 0, wasted: 0, pausedUntil: 0, pauseMs: this.#limits.pauseMs, sample: undefined };
      if (this.#sources.size >= this.#limits.sourcesMax) dropFirst(this.#sources);
      this.#sources.set(name, source);
    }
    return source;
  }

  /** Of each property, refilled by its rate, at most for two seconds. */
  #bucket(propertyId: string, now: MonotonicMs, bytesPerSecond: number): Bucket {
    let bucket = this.#buckets.get(propertyId);
    if (bucket === undefined) {
      bucket = { bytes: bytesPerSecond * 2, at: now, inFlight: 0 };
      if (this.#buckets.size >= this.#limits.sourcesMax) dropFirst(this.#buckets);
      this.#buckets.set(propertyId, bucket);
    }
    bucket.bytes = Math.min(bytesPerSecond * 2, bucket.bytes + ((now - bucket.at) / 1_000) * bytesPerSecond);
    bucket.at = now;
    return bucket;
  }
}

function dropFirst(map: Map<string, unknown>): void {
  for (const key of map.keys()) {
    map.delete(key);
    return;
  }
}

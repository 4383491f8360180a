/** One version of one object in slices while somebody reads or streams it: who reads where, and what is kept for them. */
import type { Readable } from "node:stream";
import type { ServerId } from "#kit";
import type { CacheKey } from "../core/cache-key.ts";
import type { SlicedHead } from "../core/slices.ts";
import type { FillBudget } from "./fill-budget.ts";
import type { ObjectBody } from "./object-body.ts";
import type { Place } from "./sliced-readable.ts";

/** Slices kept for readers that are behind, for each object that is being read; all of them at most half of what fills may hold. */
const RECENT_MAX = 8;

/** A slice that is arriving, for whoever brings it. */
export interface ArrivingSlice {
  readonly body: ObjectBody;
  readonly missingBytes: number;
  /** Ends it: whole, it is stored as of this generation; else it fails. */
  readonly finish: (generation: number) => void;
}

/** A whole that is being cut into slices. */
export interface Stream {
  readonly generation: number;
  /** Slice that is arriving. */
  index: number;
  readonly lastIndex: number;
  piece: ArrivingSlice | undefined;
  /** Wakes whoever waits for the stream to get on, and the stream when it waits for readers. */
  readonly wake: Set<() => void>;
  readonly content: Readable;
  /** Servers of ours that it may come from. */
  readonly servers: readonly ServerId[];
}

interface RecentSlice {
  readonly index: number;
  readonly generation: number;
  readonly body: ObjectBody;
  /** Set aside of what all fills may hold. */
  readonly bytes: number;
}

export interface SliceSet {
  readonly setKey: string;
  readonly key: CacheKey;
  readonly purgeScope: string;
  readonly head: SlicedHead;
  readonly places: Set<Place>;
  stream: Stream | undefined;
  /**
   * Slices that came while a reader was behind them, oldest first: the store may let them go before that reader comes, and
   * what a streamed whole has brought would then be asked for again.
   */
  readonly recent: RecentSlice[];
}

/** The slice that the fastest reader is at. */
export function fastestIndex(set: SliceSet): number {
  let fastest = 0;
  for (const place of set.places) fastest = Math.max(fastest, place.index);
  return fastest;
}

/** Whether a reader needs the oldest recent slice, which the slice `index` would push out. */
export function hasStraggler(set: SliceSet, index: number): boolean {
  for (const place of set.places) if (place.index === index - RECENT_MAX) return true;
  return false;
}

export function wake(stream: Stream | undefined): void {
  if (stream === undefined || stream.wake.size === 0) return;
  const waiting = [...stream.wake];
  stream.wake.clear();
  for (const resolve of waiting) resolve();
}

/** The recent slices of all sets: what they hold is part of what fills may hold, and at most half of it. */
export class RecentSlices {
  readonly #budget: FillBudget;
  #bytes = 0;

  constructor(budget: FillBudget) {
    this.#budget = budget;
  }

  /** A slice that has come stays for readers that are behind it, out of what was set aside for its arrival. */
  keep(set: SliceSet, recent: RecentSlice): void {
    if (this.#bytes + recent.bytes > this.#budget.bytesMax / 2) {
      this.#budget.unreserve(recent.bytes);
      return;
    }
    this.#bytes += recent.bytes;
    set.recent.push(recent);
    this.letGo(set);
    const oldest = set.recent.length > RECENT_MAX ? set.recent.shift() : undefined;
    if (oldest !== undefined) this.#forget(oldest);
  }

  /** Lets go of recent slices that every reader has passed. */
  letGo(set: SliceSet): void {
    if (set.recent.length === 0) return;
    let slowest = Number.POSITIVE_INFINITY;
    for (const place of set.places) slowest = Math.min(slowest, place.index);
    for (let at = set.recent.length - 1; at >= 0; at--) {
      const recent = set.recent[at];
      if (recent === undefined || recent.index >= slowest) continue;
      set.recent.splice(at, 1);
      this.#forget(recent);
    }
  }

  #forget(recent: RecentSlice): void {
    this.#bytes -= recent.bytes;
    this.#budget.unreserve(recent.bytes);
  }
}

/**
 * How a limit grows while nothing has shown that requests wait for each other: with each answer that comes as soon as ever while
 * others are held back (slow start, RFC 5681, section 3.1).
 *
 * What is too much shows one answer later, when there are so many times as many again: so it is 1.75 times as many in the time of an answer,
 * not twice. Where an answer takes half of what clients wait for, all that twice as many were asked came too late. It ends as soon as
 * every answer has waited a little (HyStart++, RFC 9406, section 4.2), long before one is late.
 */
import type { MonotonicMs } from "#kit";

/** Places more for each answer. */
const GROWTH = 0.75;
/** So many answers in a row that waited, however shortly, are no chance. */
const RISEN = 8;
/** After a cut that was undone nothing grows for so long, ms: by chance the wrong one may have been undone, once in twenty. */
const PAUSE_MS = 1_000;
/** For so long it does not go beyond what was shown to be too much, ms (slow start threshold, RFC 5681, section 3.1). */
const BOUND_MS = 60_000;

export class SlowStart {
  #risen = 0;
  #pausedUntil = Number.NEGATIVE_INFINITY;
  #grownAt = Number.NEGATIVE_INFINITY;
  #bound = Number.POSITIVE_INFINITY;
  #boundUntil = Number.NEGATIVE_INFINITY;

  /** A good answer came; `hasWaited`: later than without any wait. */
  handleGood(hasWaited: boolean): void {
    this.#risen = hasWaited ? this.#risen + 1 : 0;
  }

  mayGrow(limit: number, now: MonotonicMs): boolean {
    if (this.#risen >= RISEN || now < this.#pausedUntil) return false;
    return now >= this.#boundUntil || limit < this.#bound;
  }

  /** The limit after one more answer. */
  grown(limit: number, now: MonotonicMs): number {
    this.#grownAt = now;
    return limit + GROWTH;
  }

  /** How many times as long as an answer takes until `ahead` more than now have been let go. */
  roundsOf(ahead: number, limit: number): number {
    return Math.log1p((ahead * GROWTH) / ((1 + GROWTH) * limit)) / Math.log1p(GROWTH);
  }

  /** Whether what was sent then had less company than there is now, because it has grown since. */
  hasGrownSince(sentAt: MonotonicMs): boolean {
    return sentAt <= this.#grownAt;
  }

  /** More than so many have shown to be too much. */
  end(bound: number, now: MonotonicMs): void {
    this.#bound = bound;
    this.#boundUntil = now + BOUND_MS;
    this.#grownAt = Number.NEGATIVE_INFINITY;
  }

  /** That has turned out to be wrong. */
  reopen(now: MonotonicMs): void {
    this.#boundUntil = now;
  }

  /** A cut was undone. */
  pause(now: MonotonicMs): void {
    this.#boundUntil = now;
    this.#pausedUntil = now + PAUSE_MS;
  }
}

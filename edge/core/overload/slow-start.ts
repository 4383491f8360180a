/**
 * How a limit grows while nothing has shown that requests wait for each other: with each answer that comes as soon as ever while
 * others are held back (slow start, RFC 5681, section 3.1).
 *
 * What is too much shows one answer later, when there are so many times as many again: so it is 1.75 times as many in the time of an answer,
 * not twice. Where an answer takes half of what clients wait for, all that twice as many were asked came too late. It ends as soon as
 * every answer has waited a little (HyStart++, RFC 9406, section 4.2), long before one is late, and goes back at once to as many as the first of
 * them had for company: held where it had come to by then, it sent for another answer's time what came too late.
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
  /** The newest that was sent and did not wait. */
  #unhurtSentAt = Number.NEGATIVE_INFINITY;
  /** Answers that have waited to requests that were sent after it, since when, and with how many at most. */
  #waiting = 0;
  #waitingSince = Number.NEGATIVE_INFINITY;
  #company = 0;
  #pausedUntil = Number.NEGATIVE_INFINITY;
  #grownAt = Number.NEGATIVE_INFINITY;
  #bound = Number.POSITIVE_INFINITY;
  #boundUntil = Number.NEGATIVE_INFINITY;

  /**
   * A good answer came; `hasWaited`: later than without any wait; `inFlight`: how many were with it when it was sent. Returns how many there
   * may be, when it shows that all wait that were asked for since a certain one.
   */
  handleGood(hasWaited: boolean, sentAt: MonotonicMs, inFlight: number): number | undefined {
    this.#risen = hasWaited ? this.#risen + 1 : 0;
    if (!hasWaited) {
      this.#unhurtSentAt = Math.max(this.#unhurtSentAt, sentAt);
      if (sentAt >= this.#waitingSince) this.#waiting = 0;
      return undefined;
    }
    // Of a burst the slow ones come last: they were asked for among those that had not waited.
    if (sentAt <= this.#unhurtSentAt) return undefined;
    if (this.#waiting === 0) {
      this.#waitingSince = sentAt;
      this.#company = inFlight;
    }
    this.#waitingSince = Math.min(this.#waitingSince, sentAt);
    this.#company = Math.max(this.#company, inFlight);
    this.#waiting++;
    return this.#waiting === RISEN ? this.#company : undefined;
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

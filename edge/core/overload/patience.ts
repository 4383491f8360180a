/**
 * How long clients wait for an answer before they leave, as those show who left of late: who would have to wait for longer is better told at
 * once, and what is sent for one who is about to leave is worked on for nobody.
 *
 * The longest wait counts, of those who left and of those who stayed for their answer: one who stays long only takes the knowledge
 * away, and one who leaves early tells nothing. Where hardly anybody leaves, nothing is learnt; what is known holds on for a while, since
 * it is why nobody leaves: forgotten with the last who did, all that it spares was done again every twenty seconds.
 */
import type { MonotonicMs } from "#kit";

/** Who ended longer ago than one to two of these no longer counts, ms. */
const PERIOD_MS = 10_000;
/** What was shown is known for so long after, ms. */
const KNOWN_MS = 60_000;
/** So many have to have left, and such a share of all whose wait has ended. */
const LEFT_MIN = 8;
const LEFT_SHARE_MIN = 0.05;

interface Period {
  left: number;
  ended: number;
  longestMs: number;
}

const emptyPeriod = (): Period => ({ left: 0, ended: 0, longestMs: 0 });

export class Patience {
  #now = emptyPeriod();
  #before = emptyPeriod();
  #turnsAt = Number.NEGATIVE_INFINITY;
  #knownMs = 0;
  #knownUntil = Number.NEGATIVE_INFINITY;

  /** A client's wait has ended after so many ms, with or without its answer. */
  handleEnd(waitedMs: number, hasLeft: boolean, now: MonotonicMs): void {
    this.#turn(now);
    this.#now.ended++;
    this.#now.left += hasLeft ? 1 : 0;
    this.#now.longestMs = Math.max(this.#now.longestMs, waitedMs);
    this.#knownMs = Math.max(this.#knownMs, waitedMs);
    if (hasLeft && this.#isShown()) {
      this.#knownMs = Math.max(this.#now.longestMs, this.#before.longestMs);
      this.#knownUntil = now + KNOWN_MS;
    }
  }

  /** How long they wait at most, ms; undefined: nothing says that they would leave. */
  ms(now: MonotonicMs): number | undefined {
    return now < this.#knownUntil ? this.#knownMs : undefined;
  }

  #isShown(): boolean {
    const left = this.#now.left + this.#before.left;
    return left >= LEFT_MIN && left >= LEFT_SHARE_MIN * (this.#now.ended + this.#before.ended);
  }

  #turn(now: MonotonicMs): void {
    if (now < this.#turnsAt) return;
    this.#before = now < this.#turnsAt + PERIOD_MS ? this.#now : emptyPeriod();
    this.#now = emptyPeriod();
    this.#turnsAt = now + PERIOD_MS;
  }
}

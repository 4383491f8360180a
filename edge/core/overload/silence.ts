/**
 * For how long an origin owes answers and gives none. One that has too much goes on answering; one whose answers take longer than
 * before is silent first, for about as long as they take now.
 */
import type { MonotonicMs } from "#kit";

/** Answers that took so many times as long as a silence belong to it. */
const EXPLAINS = 1.2;

export class Silence {
  #unanswered = 0;
  /** When the last answer came, or, if later, the first of those that have none was sent. */
  #heardAt = Number.NEGATIVE_INFINITY;
  /** The last one that was long, ms, and until when the answers are those to what was asked meanwhile. */
  #longMs = 0;
  #echoUntil = Number.NEGATIVE_INFINITY;

  /** Until now, ms; 0: nothing is owed. */
  ms(now: MonotonicMs): number {
    return this.#unanswered === 0 ? 0 : now - this.#heardAt;
  }

  handleSent(now: MonotonicMs): void {
    if (this.#unanswered++ === 0) this.#heardAt = now;
  }

  /** A request has ended: answered or not; `isLong`: whether the silence until now was one that an answer is late for. */
  handleEnd(isAnswered: boolean, isLong: boolean, now: MonotonicMs): void {
    const silentMs = this.ms(now);
    this.#unanswered--;
    if (!isAnswered) return;
    this.#heardAt = now;
    if (!isLong) return;
    this.#longMs = Math.max(silentMs, now <= this.#echoUntil ? this.#longMs : 0);
    this.#echoUntil = Math.max(this.#echoUntil, now + silentMs);
  }

  /** Whether answers that take so long now, ms, are those that a silence announced. */
  explains(latencyMs: number, now: MonotonicMs): boolean {
    return now <= this.#echoUntil && latencyMs <= EXPLAINS * this.#longMs;
  }
}

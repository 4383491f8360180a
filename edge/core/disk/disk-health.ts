/** Whether a disk is used: after an error not until a pause is over, and each further error doubles the pause. */
import type { MonotonicMs } from "#kit";

/** First pause, ms: a disk that was full for a moment is soon used again. */
const PAUSE_MS_MIN = 1_000;
/** Longest pause, ms: a disk that was repaired is used within a minute. */
const PAUSE_MS_MAX = 60_000;

export class DiskHealth {
  #pauseMs = 0;
  #pausedUntil = Number.NEGATIVE_INFINITY;

  /** False while it is left alone. */
  isUsable(now: MonotonicMs): boolean {
    return now >= this.#pausedUntil;
  }

  /** Whether the last thing that it was asked for failed. */
  get isFailing(): boolean {
    return this.#pauseMs > 0;
  }

  /** It refused. Returns the pause, ms. */
  fail(now: MonotonicMs): number {
    this.#pauseMs = Math.min(PAUSE_MS_MAX, Math.max(PAUSE_MS_MIN, this.#pauseMs * 2));
    this.#pausedUntil = now + this.#pauseMs;
    return this.#pauseMs;
  }

  /** It did what it was asked for. */
  succeed(): void {
    this.#pauseMs = 0;
    this.#pausedUntil = Number.NEGATIVE_INFINITY;
  }
}

/** How often something may be done: so many times at once, and so many a second for ever. */
import type { MonotonicMs } from "#kit";

export class Allowance {
  readonly #burst: number;
  readonly #perSecond: number;
  #left: number;
  #at: MonotonicMs;

  constructor(burst: number, perSecond: number, now: MonotonicMs) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#left = burst;
    this.#at = now;
  }

  /** False: too often. */
  take(now: MonotonicMs): boolean {
    const gained = ((now - this.#at) / 1_000) * this.#perSecond;
    this.#at = now;
    this.#left = Math.min(this.#burst, this.#left + gained) - 1;
    return this.#left >= 0;
  }
}

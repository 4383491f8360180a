/**
 * Bounds how much load repeats may add: a failing upstream must not be asked twice by everybody. A bucket of tokens that
 * first tries fill and repeats empty, after Finagle's RetryBudget and gRPC's retry throttling (gRFC A6).
 */
import type { MonotonicMs } from "#kit";

export type RetryBudgetSettings = {
  /** Repeats allowed for each first try, 0..1. */
  readonly ratio: number;
  /** Repeats a second that are allowed however little traffic there is, >= 0. */
  readonly minPerSecond: number;
  /** Most repeats that can be saved up, >= 1. */
  readonly max: number;
  /** Repeats at the start, at least a second's trickle, >= 0. */
  readonly initial: number;
};

/**
 * One repeat for ten first tries, and one each two seconds where hardly anybody asks: of 200 requests a second that is a
 * quarter of a percent. What a busy target has saved up lets the requests that its death cuts off at one moment be
 * asked elsewhere; a new one gets half of that.
 */
export const retryBudgetDefaults: RetryBudgetSettings = {
  ratio: 0.1,
  minPerSecond: 0.5,
  max: 100,
  initial: 50,
};

export class RetryBudget {
  readonly #settings: RetryBudgetSettings;
  #tokens: number;
  #at: MonotonicMs;
  #granted = 0;
  #refused = 0;

  constructor(settings: Partial<RetryBudgetSettings>, now: MonotonicMs) {
    this.#settings = { ...retryBudgetDefaults, ...settings };
    const { ratio, minPerSecond, max, initial } = this.#settings;
    if (!(ratio >= 0 && ratio <= 1) || !(minPerSecond >= 0) || !(max >= 1) || !(initial >= 0))
      throw new RangeError(
        `Retry budget needs ratio 0..1, minPerSecond >= 0, max >= 1, initial >= 0, got ${ratio}, ${minPerSecond}, ${max}, ${initial}`,
      );
    this.#tokens = Math.min(max, Math.max(minPerSecond, initial));
    this.#at = now;
  }

  /** A request was sent for the first time. */
  handleFirstTry(now: MonotonicMs): void {
    this.#refill(now);
    this.#tokens = Math.min(this.#settings.max, this.#tokens + this.#settings.ratio);
  }

  /** Takes a repeat out of the budget, of which `least` have to be left; false: do not repeat. */
  take(now: MonotonicMs, least = 0): boolean {
    this.#refill(now);
    // Ten first tries of 0.1 must pay for one repeat in spite of binary fractions.
    if (this.#tokens < 1 + least - 1e-9) {
      this.#refused++;
      return false;
    }
    this.#tokens = Math.max(0, this.#tokens - 1);
    this.#granted++;
    return true;
  }

  get granted(): number {
    return this.#granted;
  }
  get refused(): number {
    return this.#refused;
  }

  #refill(now: MonotonicMs): void {
    const seconds = Math.max(0, now - this.#at) / 1000;
    this.#at = now;
    this.#tokens = Math.min(this.#settings.max, this.#tokens + seconds * this.#settings.minPerSecond);
  }
}

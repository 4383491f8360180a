/**
 * What an answer of an origin takes where nothing waits, as it is believed now, and from when on one is late for it. Nobody sees
 * it under lasting overload, and it moves when the mix of requests does (concurrency-limit.ts tells how it is found).
 */

/** An answer is slow, beyond late, when it took longer than the baseline and so many allowances. */
const SLOW = 1.5;
/** Share of the allowance beyond which an answer has waited. */
const WAITED_SHARE = 0.25;
/** Share of the baseline that is added to the allowance. */
const ALLOWANCE_SHARE = 0.25;

export class Baseline {
  readonly #settings: { readonly allowanceMs: number };
  #ms: number | undefined;
  #leastMs: number | undefined;
  /** Whether a probe has shown it; else it is only the least that was seen. */
  isProven = false;

  /** `allowanceMs`: how long requests may wait at the origin, ms. */
  constructor(settings: { readonly allowanceMs: number }) {
    this.#settings = settings;
  }

  /** Median latency, ms; undefined before the first cohort. */
  get ms(): number | undefined {
    return this.#ms;
  }
  /** As far as is known, by a single good answer too, ms; undefined before that. */
  get serviceMs(): number | undefined {
    return this.#ms ?? this.#leastMs;
  }

  /** A good answer came. */
  handleGood(latencyMs: number): void {
    this.#leastMs = Math.min(this.#leastMs ?? latencyMs, latencyMs);
  }

  set(ms: number): void {
    this.#ms = ms;
  }
  /** Moves part of the way. */
  follow(ms: number, share: number): void {
    if (!Number.isFinite(ms)) return;
    const known = this.#ms ?? ms;
    this.#ms = known + share * (ms - known);
  }

  /** How long requests may wait where an answer takes `ms`, ms. */
  allowanceMs(ms: number): number {
    return this.#settings.allowanceMs + ALLOWANCE_SHARE * ms;
  }
  /** From when on an answer is slow where one takes `ms`, ms. */
  slowMs(ms: number): number {
    return ms + SLOW * this.allowanceMs(ms);
  }
  /** Whether an answer took longer than one that waits for nothing, by more than chance. */
  hasWaited(latencyMs: number): boolean {
    const { serviceMs } = this;
    return serviceMs !== undefined && latencyMs > serviceMs + WAITED_SHARE * this.allowanceMs(serviceMs);
  }
  /** Whether an answer took longer than the allowance lets it wait. */
  isLate(latencyMs: number): boolean {
    const { serviceMs } = this;
    return serviceMs !== undefined && latencyMs > serviceMs + this.allowanceMs(serviceMs);
  }
}

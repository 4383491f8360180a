/** Requests and failures of the last seconds, in ten parts of equal length: what is older is forgotten a part at a time. */
import type { MonotonicMs } from "#kit";

const PARTS = 10;

export type OutcomeSums = { readonly requests: number; readonly failures: number };

export class OutcomeWindow {
  readonly #partMs: number;
  readonly #requests = new Uint32Array(PARTS);
  readonly #failures = new Uint32Array(PARTS);
  /** Number of the newest part since time 0. */
  #newest = 0;

  /** @param windowMs > 0 */
  constructor(windowMs: number) {
    this.#partMs = windowMs / PARTS;
  }

  add(isFailure: boolean, now: MonotonicMs): void {
    this.#turn(now);
    const at = this.#newest % PARTS;
    this.#requests[at] = (this.#requests[at] ?? 0) + 1;
    if (isFailure) this.#failures[at] = (this.#failures[at] ?? 0) + 1;
  }

  sums(now: MonotonicMs): OutcomeSums {
    this.#turn(now);
    let requests = 0;
    let failures = 0;
    for (let at = 0; at < PARTS; at++) {
      requests += this.#requests[at] ?? 0;
      failures += this.#failures[at] ?? 0;
    }
    return { requests, failures };
  }

  clear(): void {
    this.#requests.fill(0);
    this.#failures.fill(0);
  }

  #turn(now: MonotonicMs): void {
    const part = Math.floor(now / this.#partMs);
    const passed = Math.min(PARTS, part - this.#newest);
    for (let step = 1; step <= passed; step++) {
      const at = (this.#newest + step) % PARTS;
      this.#requests[at] = 0;
      this.#failures[at] = 0;
    }
    // With a jump past the whole window every part was cleared, whichever they were.
    if (part > this.#newest) this.#newest = part;
  }
}

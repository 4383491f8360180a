/** Spaces packets at a rate (RFC 9002, section 7.7): a bucket that fills at the rate, and holds a burst after a pause. */
import { type MonotonicMs, plusMs } from "#kit";

/** A timer is late, and others have their turn of the event loop: what the rate lets through meanwhile may leave at once. */
const TIMER_MS = 4;
/** What time that is no whole number may leave over, bytes. */
const ROUNDING_BYTES = 1;

export class Pacer {
  readonly #burstBytes: number;
  #credit: number;
  #at: MonotonicMs;
  #isLate = false;

  /** `burstBytes`: what may leave at once after a pause. */
  constructor(burstBytes: number, now: MonotonicMs) {
    this.#burstBytes = burstBytes;
    this.#credit = burstBytes;
    this.#at = now;
  }

  handleSent(bytes: number): void {
    this.#credit -= bytes;
  }

  /** Whether it was asked so late since the last call that less has left than the rate lets through. */
  takeLate(): boolean {
    const isLate = this.#isLate;
    this.#isLate = false;
    return isLate;
  }

  /** When the next packet may leave; `now` or before: at once. */
  readyAt(rate: number, now: MonotonicMs): MonotonicMs {
    const burst = Math.max(this.#burstBytes, TIMER_MS * rate);
    const credit = this.#credit + rate * (now - this.#at);
    if (credit > burst && this.#credit < 0) this.#isLate = true;
    this.#credit = Math.min(burst, credit);
    this.#at = now;
    return this.#credit > -ROUNDING_BYTES ? now : plusMs(now, -this.#credit / rate);
  }
}

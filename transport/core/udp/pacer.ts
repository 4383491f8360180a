/** Spaces packets at a rate (RFC 9002, section 7.7): a bucket that fills at the rate, and holds a burst after a pause. */
import { type MonotonicMs, plusMs } from "#kit";

/** A timer is late: what the rate lets through meanwhile may leave at once. */
const TIMER_MS = 4;
/** What a sender makes up for at once that comes late to its turns while content waits, as part of a round trip: a shorter queue than is taken for one. On a shorter path so many ms: a process that shares its processor waits that long for a turn, and would never reach the path's rate. */
const LATE_PART = 1 / 8;
const LATE_MS = 10;
/** What time that is no whole number may leave over, bytes. */
const ROUNDING_BYTES = 1;

export class Pacer {
  readonly #burstBytes: number;
  #credit: number;
  #at: MonotonicMs;
  #isLate = false;
  #isIdle = true;

  /** `burstBytes`: what may leave at once after a pause. */
  constructor(burstBytes: number, now: MonotonicMs) {
    this.#burstBytes = burstBytes;
    this.#credit = burstBytes;
    this.#at = now;
  }

  handleSent(bytes: number): void {
    this.#credit -= bytes;
  }

  /** Nothing waits: what could leave meanwhile is no arrears. */
  handleIdle(): void {
    this.#isIdle = true;
  }

  /** Whether it was asked so late since the last call that less has left than the rate lets through. */
  takeLate(): boolean {
    const isLate = this.#isLate;
    this.#isLate = false;
    return isLate;
  }

  /** When the next packet may leave; `now` or before: at once. */
  readyAt(rate: number, srttMs: number, now: MonotonicMs): MonotonicMs {
    const burst = Math.max(this.#burstBytes, TIMER_MS * rate);
    const most = this.#isIdle ? burst : Math.max(burst, Math.max(LATE_MS, LATE_PART * srttMs) * rate);
    const credit = this.#credit + rate * (now - this.#at);
    if (!this.#isIdle && this.#credit < 0 && credit > most) this.#isLate = true;
    this.#credit = Math.min(most, credit);
    this.#at = now;
    this.#isIdle = false;
    return this.#credit > -ROUNDING_BYTES ? now : plusMs(now, -this.#credit / rate);
  }
}

/**
 * When a process has more to do than it can: its event loop comes late to everything, hits included.
 *
 * As CoDel (RFC 8289, section 3) does with packets: what counts is the least delay over an interval. One long turn or a burst
 * makes some turns late; only a queue that stands makes all of them late. Unlike it this sheds a share of what comes, which grows
 * while the delay stands and falls when it is gone: the work of a request that is let in shows up later than a packet's.
 */
import type { MonotonicMs } from "#kit";

export interface LoopDelaySettings {
  /** Delay of the loop from which the process counts as busy when it stands, ms. */
  readonly loopDelayTargetMs: number;
}

/** CoDel's 100 ms is a round trip; here the work of several turns. */
const INTERVAL_MS = 500;
/** An interval lasts until it has so many samples. */
const SAMPLES_MIN = 5;
/** What an interval that was late adds to the share, and one that was not takes off: all after two to three seconds, none after five. */
const MORE_SHARE = 0.25;
const LESS_SHARE = 0.1;

export class LoopDelay {
  readonly #settings: LoopDelaySettings;
  #startedAt = Number.NEGATIVE_INFINITY;
  #samples = 0;
  #leastMs = Number.POSITIVE_INFINITY;
  #standingMs = 0;
  #share = 0;
  /** Part of a request that is still to be shed. */
  #owed = 0;

  constructor(settings: LoopDelaySettings) {
    this.#settings = settings;
  }

  /** Least delay of the last whole interval, ms. */
  get standingMs(): number {
    return this.#standingMs;
  }
  /** Share of what is not in the store that is shed, 0..1. */
  get share(): number {
    return this.#share;
  }

  /** A timer came so late, ms, 0 or more. Called every few milliseconds while there is anything to decide. */
  handleDelay(delayMs: number, now: MonotonicMs): void {
    if (this.#samples === 0) this.#startedAt = now;
    this.#samples++;
    this.#leastMs = Math.min(this.#leastMs, delayMs);
    if (this.#samples < SAMPLES_MIN || now - this.#startedAt < INTERVAL_MS) return;
    this.#standingMs = this.#leastMs;
    const isBusy = this.#leastMs >= this.#settings.loopDelayTargetMs;
    this.#share = isBusy ? Math.min(1, this.#share + MORE_SHARE) : Math.max(0, this.#share - LESS_SHARE);
    if (this.#share < LESS_SHARE / 2) this.#share = 0;
    this.#samples = 0;
    this.#leastMs = Number.POSITIVE_INFINITY;
  }

  /** Whether the next one is shed: evenly, so that the share holds for few too. Nobody waits for what is in the background. */
  sheds(isBackground: boolean): boolean {
    if (this.#share === 0) return false;
    if (isBackground) return true;
    this.#owed += this.#share;
    if (this.#owed < 1) return false;
    this.#owed -= 1;
    return true;
  }
}

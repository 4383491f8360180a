/**
 * When a process has more to do than it can: its event loop comes late to everything, hits included.
 *
 * As CoDel (RFC 8289, section 3) does with packets: what counts is the least delay over an interval. One long turn or a burst
 * makes some turns late; only a queue that stands makes all of them late. Unlike it this sheds a share of what comes, which grows
 * while the delay stands and falls when it is gone: the work of a request that is let in shows up later than a packet's.
 *
 * A loop is late as well when it has little to do and others hold the processor: then fewer requests would not make it sooner. What
 * tells is how long it was active. Alone on a processor it can have slept only until a look was due, so its own work fills the delay; kept
 * waiting after each sleep it was active for less than that. One that never comes to sleep has more than it can do of the
 * processor that it gets, and counts as busy, whoever else is.
 */
import type { MonotonicMs } from "#kit";

export interface LoopDelaySettings {
  /** Delay of the loop from which the process counts as busy when it stands, ms. */
  readonly loopDelayTargetMs: number;
}

/** One look at the event loop: a timer that came. */
export interface LoopLook {
  /** How late it came, ms, 0 or more. */
  readonly delayMs: number;
  /** Time since the look before, ms. */
  readonly elapsedMs: number;
  /** Part of it in which the loop did not sleep, ms. Waiting to be woken counts as sleep, an interruption at work does not. */
  readonly activeMs: number;
}

/** CoDel's 100 ms is a round trip; here the work of several turns. */
const INTERVAL_MS = 500;
/** An interval lasts until it has so many samples. */
const SAMPLES_MIN = 5;
/** Part of the delay that own work fills, from which it is its own: the rest is the grain of timers, 1 ms of each look. */
const OWN_PART = 0.9;
/** What an interval that was busy adds to the share, and one that was not takes off: all after two to three seconds, none after five. */
const MORE_SHARE = 0.25;
const LESS_SHARE = 0.1;

export class LoopDelay {
  readonly #settings: LoopDelaySettings;
  #startedAt = Number.NEGATIVE_INFINITY;
  #samples = 0;
  #leastMs = Number.POSITIVE_INFINITY;
  #delayMs = 0;
  #activeMs = 0;
  #elapsedMs = 0;
  #standingMs = 0;
  #activeRatio = 0;
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
  /** Share of the last whole interval in which the loop was active, 0..1. */
  get activeRatio(): number {
    return this.#activeRatio;
  }
  /** Share of what is not in the store that is shed, 0..1. */
  get share(): number {
    return this.#share;
  }

  /** Called every few milliseconds while there is anything to decide. */
  handleLook({ delayMs, elapsedMs, activeMs }: LoopLook, now: MonotonicMs): void {
    if (this.#samples === 0) this.#startedAt = now;
    this.#samples++;
    this.#leastMs = Math.min(this.#leastMs, delayMs);
    this.#delayMs += delayMs;
    this.#elapsedMs += elapsedMs;
    this.#activeMs += activeMs;
    if (this.#samples < SAMPLES_MIN || now - this.#startedAt < INTERVAL_MS) return;
    this.#standingMs = this.#leastMs;
    this.#activeRatio = this.#elapsedMs === 0 ? 0 : Math.min(1, this.#activeMs / this.#elapsedMs);
    const isOwn = this.#activeMs >= OWN_PART * this.#delayMs;
    const isBusy = isOwn && this.#leastMs >= this.#settings.loopDelayTargetMs;
    this.#share = isBusy ? Math.min(1, this.#share + MORE_SHARE) : Math.max(0, this.#share - LESS_SHARE);
    if (this.#share < LESS_SHARE / 2) this.#share = 0;
    this.#samples = 0;
    this.#leastMs = Number.POSITIVE_INFINITY;
    this.#delayMs = this.#elapsedMs = this.#activeMs = 0;
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

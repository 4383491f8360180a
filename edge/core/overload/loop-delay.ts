/**
 * When a process has more to do than it can: its event loop comes late to everything, hits included.
 *
 * As CoDel (RFC 8289, section 3) does with packets: what counts is the least delay over an interval. One long turn or a burst
 * makes some turns late; only a queue that stands makes all of them late. Unlike it this sheds a share of what comes, which grows
 * while the delay stands and falls when it is gone: the work of a request that is let in shows up later than a packet's.
 *
 * A loop is late as well when it has little to do and others hold the processor: then fewer requests would not make it sooner. What
 * tells is the processor time that it took from one look to the next: with less than the target it would be on time if it had the processor
 * alone. What it gets too little of the processor for piles up, and makes its turns longer, until its own work is enough to be late by.
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
  /** Processor time of the loop's thread since the look before, ms. */
  readonly workMs: number;
}

/** CoDel's 100 ms is a round trip; here the work of several turns. */
const INTERVAL_MS = 500;
/** An interval lasts until it has so many samples. */
const SAMPLES_MIN = 5;
/** Part of the target that own work has to be: the rest is the grain of clocks and timers, and what the system takes meanwhile. */
const OWN_PART = 0.9;
/** What an interval that was busy adds to the share, and one that was not takes off: all after two to three seconds, none after five. */
const MORE_SHARE = 0.25;
const LESS_SHARE = 0.1;

export class LoopDelay {
  readonly #settings: LoopDelaySettings;
  #startedAt = Number.NEGATIVE_INFINITY;
  #samples = 0;
  #leastMs = Number.POSITIVE_INFINITY;
  #workSumMs = 0;
  #standingMs = 0;
  #workMs = 0;
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
  /** Processor time between two looks of the last whole interval, mean, ms. */
  get workMs(): number {
    return this.#workMs;
  }
  /** Share of what is not in the store that is shed, 0..1. */
  get share(): number {
    return this.#share;
  }

  /** Called every few milliseconds while there is anything to decide. */
  handleLook({ delayMs, workMs }: LoopLook, now: MonotonicMs): void {
    if (this.#samples === 0) this.#startedAt = now;
    this.#samples++;
    this.#leastMs = Math.min(this.#leastMs, delayMs);
    this.#workSumMs += workMs;
    if (this.#samples < SAMPLES_MIN || now - this.#startedAt < INTERVAL_MS) return;
    this.#standingMs = this.#leastMs;
    this.#workMs = this.#workSumMs / this.#samples;
    const { loopDelayTargetMs } = this.#settings;
    const isBusy = this.#leastMs >= loopDelayTargetMs && this.#workMs >= OWN_PART * loopDelayTargetMs;
    this.#share = isBusy ? Math.min(1, this.#share + MORE_SHARE) : Math.max(0, this.#share - LESS_SHARE);
    if (this.#share < LESS_SHARE / 2) this.#share = 0;
    this.#samples = 0;
    this.#leastMs = Number.POSITIVE_INFINITY;
    this.#workSumMs = 0;
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

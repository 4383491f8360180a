/**
 * Spares a server that does not answer, and those who would wait for it (Nygard, "Release It!", chapter 5.2): after
 * some failures in a row nothing is sent for a while; then a few requests try it, and it closes when they succeed.
 */
import { type MonotonicMs, plusMs } from "#kit";

export type BreakerSettings = {
  /** Failures in a row until it opens, >= 1. */
  readonly failures: number;
  /** First pause, ms; each pause that follows without a success between is twice as long, up to the other. */
  readonly openMs: number;
  readonly openMsMax: number;
  /** Requests under way at once after a pause, and successes among them until it closes, >= 1. */
  readonly halfOpenRequestsMax: number;
  readonly halfOpenSuccesses: number;
};

export type BreakerState = "closed" | "open" | "half-open";

/** A request that goes. What ends after the state has changed says nothing about the new one. */
export type BreakerPass = { readonly period: number; readonly isTrial: boolean };

export class CircuitBreaker {
  readonly #settings: BreakerSettings;
  /** Grows with every change of state. */
  #period = 0;
  /** Undefined: closed. */
  #openUntil: MonotonicMs | undefined;
  #failures = 0;
  #pauses = 0;
  #trials = 0;
  #successes = 0;
  /** All only grow. */
  readonly counters = { opened: 0, closed: 0, trials: 0 };

  constructor(settings: BreakerSettings) {
    this.#settings = settings;
  }

  state(now: MonotonicMs): BreakerState {
    if (this.#openUntil === undefined) return "closed";
    return now < this.#openUntil ? "open" : "half-open";
  }

  /** Whether one more request may go. `isRepeatable`: it could be asked elsewhere if it fails; only such ones try. */
  mayPass(now: MonotonicMs, isRepeatable: boolean): boolean {
    const state = this.state(now);
    if (state !== "half-open") return state === "closed";
    return isRepeatable && this.#trials < this.#settings.halfOpenRequestsMax;
  }

  /** A request goes; exactly one of the three below ends it. */
  begin(now: MonotonicMs): BreakerPass {
    const isTrial = this.state(now) === "half-open";
    if (isTrial) {
      this.#trials++;
      this.counters.trials++;
    }
    return { period: this.#period, isTrial };
  }

  handleSuccess(pass: BreakerPass): void {
    if (pass.period !== this.#period) return;
    this.#failures = 0;
    if (!pass.isTrial) return;
    this.#trials--;
    if (++this.#successes < this.#settings.halfOpenSuccesses) return;
    this.#change(undefined);
    this.#pauses = 0;
    this.counters.closed++;
  }

  handleFailure(pass: BreakerPass, now: MonotonicMs): void {
    if (pass.period !== this.#period) return;
    const isEnough = this.#openUntil === undefined && ++this.#failures >= this.#settings.failures;
    if (!isEnough && !pass.isTrial) return;
    const { openMs, openMsMax } = this.#settings;
    this.#change(plusMs(now, Math.min(openMsMax, openMs * 2 ** Math.min(this.#pauses, 30))));
    this.#pauses++;
    this.counters.opened++;
  }

  /** It ended without saying anything about the server. */
  handleNothing(pass: BreakerPass): void {
    if (pass.period === this.#period && pass.isTrial) this.#trials--;
  }

  /** When requests may try it; undefined: it is not open. */
  openUntil(now: MonotonicMs): MonotonicMs | undefined {
    return this.state(now) === "open" ? this.#openUntil : undefined;
  }

  #change(openUntil: MonotonicMs | undefined): void {
    this.#period++;
    this.#openUntil = openUntil;
    this.#failures = 0;
    this.#trials = 0;
    this.#successes = 0;
  }
}

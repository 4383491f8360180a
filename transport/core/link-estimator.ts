/**
 * Travel time and loss of one path, from probes over connections that are already open. Round-trip time after RFC 6298
 * section 2; loss as the share of recent probes that were lost or came a retransmission late. No clock: time is an argument.
 */
import type { MonotonicMs } from "#kit";

/** RFC 6298 section 2: alpha = 1/8, beta = 1/4, K = 4. */
const ALPHA = 1 / 8;
const BETA = 1 / 4;
const K = 4;

export type LinkEstimatorSettings = {
  /** Lowest retransmission timeout, ms. RFC 6298 (2.4) says 1 s; Linux uses 200 ms (TCP_RTO_MIN), which is what delays us. */
  readonly rtoMinMs: number;
  /** Highest, ms: RFC 6298 (2.5) allows a bound of at least 60 s. */
  readonly rtoMaxMs: number;
  /** Timeout before the first sample, ms: RFC 6298 (2.1). */
  readonly rtoInitialMs: number;
  /** Outcomes that the loss ratio looks back on, 8..1024. */
  readonly lossWindow: number;
};

export const linkEstimatorDefaults: LinkEstimatorSettings = {
  rtoMinMs: 200,
  rtoMaxMs: 60_000,
  rtoInitialMs: 1_000,
  lossWindow: 64,
};

/** Samples a retransmission late in a row after which the path is believed to have become longer, not lossy. */
const LATE_IN_A_ROW_MAX = 4;

/** How a sample was taken: as a time, or as evidence of a retransmission (Karn: such a time is no round trip). */
export type SampleVerdict = "sample" | "retransmission" | "level-shift";

export class LinkEstimator {
  readonly #settings: LinkEstimatorSettings;
  #srttMs: number | undefined;
  #rttvarMs = 0;
  #samples = 0;
  #lastAt: MonotonicMs | undefined;
  #lateInARow = 0;
  /** Ring of the last outcomes, 1 = lost. */
  readonly #outcomes: Uint8Array;
  #outcomeCount = 0;
  #outcomeNext = 0;
  #lostInWindow = 0;

  constructor(settings: Partial<LinkEstimatorSettings> = {}) {
    this.#settings = { ...linkEstimatorDefaults, ...settings };
    const { lossWindow, rtoMinMs, rtoMaxMs } = this.#settings;
    if (!Number.isSafeInteger(lossWindow) || lossWindow < 8 || lossWindow > 1024)
      throw new RangeError(`Link estimator setting lossWindow must be 8..1024, got ${lossWindow}`);
    if (!(rtoMinMs >= 0) || !(rtoMaxMs >= rtoMinMs))
      throw new RangeError(`Link estimator needs 0 <= rtoMinMs <= rtoMaxMs, got ${rtoMinMs}, ${rtoMaxMs}`);
    this.#outcomes = new Uint8Array(lossWindow);
  }

  /**
   * A measured round trip. One that is later than a retransmission would make it counts as a loss and leaves srtt alone
   * (RFC 6298 section 3, Karn's algorithm), unless that happens four times in a row: then the path has become longer and the
   * estimate starts anew. Throws RangeError unless rttMs is finite and >= 0.
   */
  handleSample(rttMs: number, now: MonotonicMs): SampleVerdict {
    if (!Number.isFinite(rttMs) || rttMs < 0)
      throw new RangeError(`A round-trip time must be a finite number of ms >= 0, got ${rttMs}`);
    this.#lastAt = now;
    this.#samples++;
    if (this.isLate(rttMs)) {
      this.#lateInARow++;
      if (this.#lateInARow < LATE_IN_A_ROW_MAX) {
        this.#outcome(1);
        return "retransmission";
      }
      this.#forgetLosses(this.#lateInARow - 1);
      this.#first(rttMs);
      this.#outcome(0);
      return "level-shift";
    }
    this.#lateInARow = 0;
    this.#outcome(0);
    if (this.#srttMs === undefined) this.#first(rttMs);
    else {
      // (2.3): rttvar first, with the old srtt.
      this.#rttvarMs = (1 - BETA) * this.#rttvarMs + BETA * Math.abs(this.#srttMs - rttMs);
      this.#srttMs = (1 - ALPHA) * this.#srttMs + ALPHA * rttMs;
    }
    return "sample";
  }

  /**
   * An upper bound of the round trip seen in passing (first byte of a real answer, which holds the server's own time).
   * It is a sample only when it lies clearly below srtt, that is when the path has become shorter than the probes know: a
   * busy server must not make its path look long, and ordinary variation must not be taken from below only. Returns
   * whether it was used.
   */
  handleUpperBound(rttMs: number, now: MonotonicMs): boolean {
    if (this.#srttMs === undefined || !(rttMs >= 0) || rttMs >= this.#srttMs - 2 * this.#rttvarMs)
      return false;
    this.handleSample(rttMs, now);
    return true;
  }

  /** A probe that no answer came for in time. */
  handleLoss(now: MonotonicMs): void {
    this.#lastAt = now;
    this.#outcome(1);
  }

  /** Whether such a round trip would be taken for a retransmission. */
  isLate(rttMs: number): boolean {
    return this.#srttMs !== undefined && rttMs >= this.#lateFromMs();
  }

  /** The newest `count` outcomes were no losses of packets after all, but the beginning of an outage. */
  forgive(count: number): void {
    this.#forgetLosses(count);
  }

  /** Forgets everything, for a path that was rebuilt. */
  reset(): void {
    this.#srttMs = undefined;
    this.#rttvarMs = 0;
    this.#samples = 0;
    this.#lastAt = undefined;
    this.#lateInARow = 0;
    this.#outcomes.fill(0);
    this.#outcomeCount = 0;
    this.#outcomeNext = 0;
    this.#lostInWindow = 0;
  }

  /** Smoothed round-trip time, ms; undefined before the first sample. */
  get srttMs(): number | undefined {
    return this.#srttMs;
  }
  /** Mean deviation, ms; 0 before the first sample. */
  get rttvarMs(): number {
    return this.#rttvarMs;
  }
  /** Samples ever taken, late ones included. */
  get samples(): number {
    return this.#samples;
  }
  /** Share of the last `lossWindow` outcomes that were lost or a retransmission late, 0..1. */
  get lossRatio(): number {
    return this.#outcomeCount === 0 ? 0 : this.#lostInWindow / this.#outcomeCount;
  }
  /** Retransmission timeout, ms (RFC 6298 (2.1) to (2.5)). */
  get rtoMs(): number {
    const { rtoInitialMs, rtoMinMs, rtoMaxMs } = this.#settings;
    if (this.#srttMs === undefined) return rtoInitialMs;
    return Math.min(rtoMaxMs, Math.max(rtoMinMs, this.#srttMs + K * this.#rttvarMs));
  }
  /** Time since the last outcome, ms; undefined before the first. */
  ageMs(now: MonotonicMs): number | undefined {
    return this.#lastAt === undefined ? undefined : now - this.#lastAt;
  }

  /** A retransmission costs at least the lowest timeout on top of the trip; ordinary variation stays below K deviations. */
  #lateFromMs(): number {
    const srtt = this.#srttMs ?? 0;
    return srtt + Math.max(this.#settings.rtoMinMs * 0.9, K * this.#rttvarMs);
  }

  /** (2.2) */
  #first(rttMs: number): void {
    this.#srttMs = rttMs;
    this.#rttvarMs = rttMs / 2;
    this.#lateInARow = 0;
  }

  #outcome(lost: 0 | 1): void {
    if (this.#outcomeCount === this.#outcomes.length) {
      this.#lostInWindow -= this.#outcomes[this.#outcomeNext] ?? 0;
    } else this.#outcomeCount++;
    this.#outcomes[this.#outcomeNext] = lost;
    this.#lostInWindow += lost;
    this.#outcomeNext = (this.#outcomeNext + 1) % this.#outcomes.length;
  }

  /** The newest `count` outcomes were no losses after all. */
  #forgetLosses(count: number): void {
    for (let back = 1; back <= Math.min(count, this.#outcomeCount); back++) {
      const at = (this.#outcomeNext - back + this.#outcomes.length) % this.#outcomes.length;
      this.#lostInWindow -= this.#outcomes[at] ?? 0;
      this.#outcomes[at] = 0;
    }
  }
}

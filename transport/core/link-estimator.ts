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
  lossWindow: 256,
};

/** Samples in a row that are a retransmission late, or far off on one side: the path has become another one, it is not lossy. */
const SHIFT_SAMPLES = 3;
/** Far off is beyond K deviations, and beyond this much, ms: below it the average follows soon enough. */
const SHIFT_MS_MIN = 5;
/** Samples that the typical round trip looks back on: half a minute at the usual pace. */
const RECENT_SAMPLES = 32;
/** Wilson's score interval, one standard deviation. */
const WILSON_Z = 1;

/** Samples in a row on one side of what was known before the first of them. */
interface Run {
  readonly side: 1 | -1;
  readonly fromMs: number;
  readonly rttvarMs: number;
  readonly rttsMs: number[];
}

/** How a sample was taken: as a time, or as evidence of a retransmission (Karn: such a time is no round trip). */
export type SampleVerdict = "sample" | "retransmission" | "level-shift";

export class LinkEstimator {
  readonly #settings: LinkEstimatorSettings;
  #srttMs: number | undefined;
  #rttvarMs = 0;
  #samples = 0;
  #lastAt: MonotonicMs | undefined;
  #lateInARow = 0;
  #run: Run | undefined;
  /** The newest samples since the last change of level; a ring. */
  readonly #recent: number[] = [];
  #recentNext = 0;
  #typical: { readonly medianMs: number; readonly deviationMs: number } | undefined;
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
   * (RFC 6298 section 3, Karn's algorithm), unless that happens three times in a row: then the path has become longer and the
   * estimate starts anew, as it does after three samples in a row far above or far below what was known. Throws RangeError unless rttMs is finite and >= 0.
   */
  handleSample(rttMs: number, now: MonotonicMs): SampleVerdict {
    if (!Number.isFinite(rttMs) || rttMs < 0)
      throw new RangeError(`A round-trip time must be a finite number of ms >= 0, got ${rttMs}`);
    this.#lastAt = now;
    this.#samples++;
    if (this.isLate(rttMs)) {
      this.#lateInARow++;
      if (this.#lateInARow < SHIFT_SAMPLES) {
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
    if (this.#isShifted(rttMs)) return "level-shift";
    if (this.#srttMs === undefined) this.#first(rttMs);
    else {
      // (2.3): rttvar first, with the old srtt.
      this.#rttvarMs = (1 - BETA) * this.#rttvarMs + BETA * Math.abs(this.#srttMs - rttMs);
      this.#srttMs = (1 - ALPHA) * this.#srttMs + ALPHA * rttMs;
      this.#remember(rttMs);
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
    this.#run = undefined;
    this.#forgetRecent();
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
  /**
   * Median of the newest samples and their mean deviation from it, ms; undefined before the first. Steadier than srtt, which a
   * single slow answer moves by an eighth of it: for comparing paths, not for timers.
   */
  get typical(): { readonly medianMs: number; readonly deviationMs: number } | undefined {
    if (this.#recent.length === 0) return undefined;
    this.#typical ??= typicalOf(this.#recent);
    return this.#typical;
  }
  /** Samples ever taken, late ones included. */
  get samples(): number {
    return this.#samples;
  }
  /** Share of the last `lossWindow` outcomes that were lost or a retransmission late, 0..1. */
  get lossRatio(): number {
    return this.#outcomeCount === 0 ? 0 : this.#lostInWindow / this.#outcomeCount;
  }
  /**
   * Upper end of the loss ratio's interval (Wilson, one standard deviation), 0..1: a path of which little is known is not taken for
   * a clean one. 1 before any outcome.
   */
  get lossRatioUpper(): number {
    const n = this.#outcomeCount;
    const z2 = WILSON_Z * WILSON_Z;
    const p = this.lossRatio;
    if (n === 0) return 1;
    return (p + z2 / (2 * n) + WILSON_Z * Math.sqrt((p * (1 - p)) / n + z2 / (4 * n * n))) / (1 + z2 / n);
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

  /** Whether `SHIFT_SAMPLES` in a row lie far off on the same side: then their median is the new level, as steady as the old one. */
  #isShifted(rttMs: number): boolean {
    if (this.#srttMs === undefined) return false;
    const run = this.#run ?? {
      side: rttMs > this.#srttMs ? 1 : -1,
      fromMs: this.#srttMs,
      rttvarMs: this.#rttvarMs,
      rttsMs: [],
    };
    if ((rttMs - run.fromMs) * run.side <= Math.max(SHIFT_MS_MIN, K * run.rttvarMs)) {
      this.#run = undefined;
      return false;
    }
    this.#run = run;
    run.rttsMs.push(rttMs);
    const levelMs = run.rttsMs.toSorted((a, b) => a - b)[SHIFT_SAMPLES >> 1];
    if (run.rttsMs.length < SHIFT_SAMPLES || levelMs === undefined) return false;
    this.#first(levelMs);
    this.#rttvarMs = run.rttvarMs;
    return true;
  }

  /** (2.2) */
  #first(rttMs: number): void {
    this.#srttMs = rttMs;
    this.#rttvarMs = rttMs / 2;
    this.#lateInARow = 0;
    this.#run = undefined;
    this.#forgetRecent();
    this.#remember(rttMs);
  }

  #remember(rttMs: number): void {
    this.#recent[this.#recentNext] = rttMs;
    this.#recentNext = (this.#recentNext + 1) % RECENT_SAMPLES;
    this.#typical = undefined;
  }

  #forgetRecent(): void {
    this.#recent.length = 0;
    this.#recentNext = 0;
    this.#typical = undefined;
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

function typicalOf(rttsMs: readonly number[]): { readonly medianMs: number; readonly deviationMs: number } {
  const sorted = rttsMs.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  const upper = sorted[half] ?? 0;
  const medianMs = sorted.length % 2 === 1 ? upper : ((sorted[half - 1] ?? upper) + upper) / 2;
  let deviations = 0;
  for (const rttMs of rttsMs) deviations += Math.abs(rttMs - medianMs);
  return { medianMs, deviationMs: deviations / rttsMs.length };
}

/**
 * What is known about the travel time of each measured pair (client network or cluster -> cluster), from samples that are
 * noisy, late and now and then missing. Bounded memory, no clock: time is an argument.
 */
import { ChangeDetector } from "./change-points.ts";
import { type Coordinates, fibreRttMsMin, greatCircleKm, type MonotonicMs, quantile } from "#kit";

export interface EstimatorSettings {
  /** Samples kept a pair, 4..256: the newest. */
  readonly samplesMax: number;
  /** Samples older than this are left out as long as a younger one exists, ms. */
  readonly windowMs: number;
  /**
   * The quantile of the round-trip times that stands for the pair, 0..0.5. Queues only ever add to the travel time, so a low
   * quantile is the path itself; not the minimum, which one wrong clock or one lucky route would hold for a whole window.
   */
  readonly rttQuantile: number;
  /** Age of the newest sample at which the confidence is halved, ms. Paths change over hours: what is measured less often is not worse. */
  readonly confidenceHalfLifeMs: number;
  /** A pair without any sample for this long is forgotten, ms. */
  readonly forgetAfterMs: number;
  /** Pairs kept; beyond it the one that was updated the longest ago is dropped and counted. */
  readonly pairsMax: number;
  /** Loss that is believed before any sample, 0..1, with the weight of `lossPriorSamples` samples. */
  readonly lossPrior: number;
  /** One lost sample of four must not look like 25 % loss: typical loss is far below what a window can resolve. */
  readonly lossPriorSamples: number;
}

export const estimatorDefaults: EstimatorSettings = {
  samplesMax: 24,
  windowMs: 120_000,
  rttQuantile: 0.25,
  confidenceHalfLifeMs: 600_000,
  forgetAfterMs: 3_600_000,
  pairsMax: 100_000,
  lossPrior: 0.002,
  lossPriorSamples: 100,
};

/** Lost samples in a row from which a pair is held to be cut, whatever its window says: 0.01^3 by chance. */
const LOST_IN_A_ROW_MIN = 3;

export interface Estimate {
  readonly rttMs: number;
  /** Interquartile range of the window, ms. */
  readonly spreadMs: number;
  readonly lossRatio: number;
  /** Since the newest sample, lost ones included, ms. */
  readonly ageMs: number;
  /** 1 - 2^-n for n samples of the window, halved with each half-life of age; a guess from geography has little. */
  readonly confidence: number;
  readonly samples: number;
  /** What age has left of the confidence, 0..1; 1 unless given. */
  readonly freshness?: number;
  /** Measured; undefined: never. */
  readonly throughputBps?: number;
}

export interface EstimatorCounters {
  samples: number;
  lost: number;
  /** Refused: not finite, negative or above a minute. */
  samplesRefused: number;
  pairsDropped: number;
  /** Times that a pair's path was found to have changed. */
  changes: number;
}

const RTT_MS_MAX = 60_000;
/** In the ring: the sample was lost. */
const LOST = -1;

interface Pair {
  readonly rtts: Float64Array;
  readonly ats: Float64Array;
  next: number;
  count: number;
  lostInARow: number;
  readonly changes: ChangeDetector;
  /** The last quantile that was computed while there were answers: what stands when all of a window is lost. */
  lastRttMs: number | undefined;
}

/** All pairs. Deterministic: the same calls give the same estimates. */
export class Estimator {
  readonly #settings: EstimatorSettings;
  /** Least recently updated first (insertion order). */
  readonly #pairs = new Map<string, Pair>();
  readonly counters: EstimatorCounters = {
    samples: 0,
    lost: 0,
    samplesRefused: 0,
    pairsDropped: 0,
    changes: 0,
  };

  /** Throws RangeError if a setting is outside of its range. */
  constructor(settings: Partial<EstimatorSettings> = {}) {
    this.#settings = { ...estimatorDefaults, ...settings };
    const { samplesMax, rttQuantile, lossPrior, pairsMax } = this.#settings;
    const check = (name: string, value: number, holds: boolean, expected: string): void => {
      if (!holds) throw new RangeError(`Estimator setting ${name} must be ${expected}, got ${value}`);
    };
    check(
      "samplesMax",
      samplesMax,
      Number.isSafeInteger(samplesMax) && samplesMax >= 4 && samplesMax <= 256,
      "4..256",
    );
    check("rttQuantile", rttQuantile, rttQuantile >= 0 && rttQuantile <= 0.5, "0..0.5");
    check("lossPrior", lossPrior, lossPrior >= 0 && lossPrior <= 1, "0..1");
    check("pairsMax", pairsMax, Number.isSafeInteger(pairsMax) && pairsMax >= 1, "a whole number >= 1");
    for (const name of ["windowMs", "confidenceHalfLifeMs", "forgetAfterMs"] as const)
      check(
        name,
        this.#settings[name],
        this.#settings[name] > 0 && this.#settings[name] < Infinity,
        "finite and > 0",
      );
    check(
      "lossPriorSamples",
      this.#settings.lossPriorSamples,
      this.#settings.lossPriorSamples > 0 && this.#settings.lossPriorSamples < 1e6,
      "above 0 and below 1e6",
    );
  }

  get size(): number {
    return this.#pairs.size;
  }

  /**
   * One measurement of the pair; `rttMs` null: it was lost. A time that cannot be (not finite, negative, above a minute) is
   * counted and left out. Returns whether it was used.
   */
  handleSample(from: string, to: string, rttMs: number | null, now: MonotonicMs): boolean {
    if (rttMs !== null && !(rttMs >= 0 && rttMs <= RTT_MS_MAX)) {
      this.counters.samplesRefused++;
      return false;
    }
    const key = pairKey(from, to);
    let pair = this.#pairs.get(key);
    if (pair === undefined) {
      if (this.#pairs.size >= this.#settings.pairsMax) this.#dropOldest();
      pair = this.#newPair();
    } else this.#pairs.delete(key);
    this.#pairs.set(key, pair);

    pair.rtts[pair.next] = rttMs ?? LOST;
    pair.ats[pair.next] = now;
    pair.next = (pair.next + 1) % pair.rtts.length;
    pair.count = Math.min(pair.count + 1, pair.rtts.length);
    this.counters.samples++;
    if (rttMs === null) {
      this.counters.lost++;
      pair.lostInARow++;
    } else {
      pair.lostInARow = 0;
      pair.lastRttMs = rttMs;
      const change = pair.changes.handleSample(rttMs);
      if (change !== undefined) {
        // What was measured before says nothing of the path that there is now.
        pair.count = Math.min(pair.count, change.samples);
        this.counters.changes++;
      }
    }
    return true;
  }

  /** What is known of a measured pair; undefined when it was never measured, or so long ago that it is forgotten. */
  estimate(from: string, to: string, now: MonotonicMs): Estimate | undefined {
    const pair = this.#pairs.get(pairKey(from, to));
    if (pair === undefined) return undefined;
    const { windowMs, forgetAfterMs, confidenceHalfLifeMs, lossPrior, lossPriorSamples, rttQuantile } =
      this.#settings;
    const capacity = pair.rtts.length;
    const newest = (pair.next - 1 + capacity) % capacity;
    const newestAt = pair.ats[newest] as number;
    const ageMs = Math.max(0, now - newestAt);
    if (ageMs > forgetAfterMs) return undefined;

    const answered: number[] = [];
    let lost = 0;
    for (let back = 0; back < pair.count; back++) {
      const at = (newest - back + capacity) % capacity;
      // The window ends at the newest sample: a pair that is no longer measured keeps its last picture, with less confidence.
      if (newestAt - (pair.ats[at] as number) > windowMs) break;
      const rtt = pair.rtts[at] as number;
      if (rtt === LOST) lost++;
      else answered.push(rtt);
    }
    const rttMs =
      answered.length > 0
        ? quantile(
            answered.sort((a, b) => a - b),
            rttQuantile,
          )
        : pair.lastRttMs;
    // Never once answered: nothing is known but that it does not answer.
    if (rttMs === undefined) return undefined;
    if (answered.length > 0) pair.lastRttMs = rttMs;
    const count = answered.length + lost;
    const windowLoss = (lost + lossPrior * lossPriorSamples) / (count + lossPriorSamples);
    const cutLoss = pair.lostInARow >= LOST_IN_A_ROW_MIN ? 1 - 2 ** -pair.lostInARow : 0;
    return {
      rttMs,
      spreadMs: answered.length > 1 ? quantile(answered, 0.75) - quantile(answered, 0.25) : 0,
      lossRatio: Math.max(windowLoss, cutLoss),
      ageMs,
      confidence: (1 - 2 ** -count) * 2 ** (-ageMs / confidenceHalfLifeMs),
      freshness: 2 ** (-ageMs / confidenceHalfLifeMs),
      samples: count,
    };
  }

  /** Samples in a row without an answer, 0 for an unknown pair; tells "unmeasured" from "measured and silent". */
  lostInARow(from: string, to: string): number {
    return this.#pairs.get(pairKey(from, to))?.lostInARow ?? 0;
  }

  /** Drops pairs that were not updated for `forgetAfterMs`. Cost: the pairs that are dropped. */
  handleTimeout(now: MonotonicMs): void {
    for (const [key, pair] of this.#pairs) {
      const newest = (pair.next - 1 + pair.rtts.length) % pair.rtts.length;
      if (now - (pair.ats[newest] as number) <= this.#settings.forgetAfterMs) return;
      this.#pairs.delete(key);
    }
  }

  #newPair(): Pair {
    const { samplesMax } = this.#settings;
    return {
      rtts: new Float64Array(samplesMax),
      ats: new Float64Array(samplesMax),
      next: 0,
      count: 0,
      lostInARow: 0,
      changes: new ChangeDetector(),
      lastRttMs: undefined,
    };
  }

  #dropOldest(): void {
    for (const key of this.#pairs.keys()) {
      this.#pairs.delete(key);
      this.counters.pairsDropped++;
      return;
    }
  }
}

/** Ids never hold a blank. */
function pairKey(from: string, to: string): string {
  return `${from} ${to}`;
}

/** Confidence of a guess from coordinates: labels lie and fibre does not run along great circles. */
export const GEOGRAPHY_CONFIDENCE = 0.05;
/** Confidence when not even coordinates are known. */
export const NOTHING_CONFIDENCE = 0.01;
/** Fibre over great circle; the median of measured pairs is between 1.5 and 2 (Katz-Bassett et al., IMC 2006, section 3). */
const FIBRE_DETOUR = 1.75;
/** Access and processing at both ends, ms. */
const ACCESS_MS = 6;
/** What a pair costs of which nothing is known, ms: a far continent. */
const NOTHING_RTT_MS = 250;

/** The travel time that is usual for the distance, ms. */
export function geographyRttMs(from: Coordinates, to: Coordinates): number {
  return usualRttMs(greatCircleKm(from, to));
}

/** The same by the distance, km. */
export function usualRttMs(km: number): number {
  return ACCESS_MS + fibreRttMsMin(km) * FIBRE_DETOUR;
}

/** A guess for a pair that was never measured; without coordinates of one end it is the worst ordinary case. */
export function estimateByGeography(
  from: Coordinates | null,
  to: Coordinates | null,
  lossPrior = 0.002,
): Estimate {
  const isKnown = from !== null && to !== null;
  const rttMs = isKnown ? geographyRttMs(from, to) : NOTHING_RTT_MS;
  return {
    rttMs,
    spreadMs: rttMs * 0.1,
    lossRatio: lossPrior,
    ageMs: Infinity,
    confidence: isKnown ? GEOGRAPHY_CONFIDENCE : NOTHING_CONFIDENCE,
    samples: 0,
  };
}

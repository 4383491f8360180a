/**
 * What a week of windows says of a pair now: the lower quantile over the windows since its path was last seen to change. It stands where the estimator has
 * few samples or none: pairs that are measured once an hour, samples that were imported, the time after a restart.
 */
import type { EpochMs, MonotonicMs } from "#kit";
import type { Estimate } from "../estimator.ts";
import type { MeasurementMethod } from "./sample.ts";
import type { MeasurementStore, PathWindow } from "./store.ts";

/** A time to first byte has the server's work in it. */
const METHODS: readonly MeasurementMethod[] = ["icmp", "udp", "tcp"];
const HOUR_MS = 3_600_000;
/** First what there is in windows of 10 minutes, then in those of an hour. */
const SPANS_MS = [6 * HOUR_MS, 168 * HOUR_MS];
/** Low, and both sides of the spread; as `EstimatorSettings.rttQuantile`. */
const QUANTILES = [0.25, 0.5, 0.75];
/** Windows are joined from the newest on until there are so many answers to compare an older one with. */
const LEVEL_ANSWERS_MIN = 3;
/** An older window of another level is before a change, ms and as a share: half of the labelled changes are smaller than 6.5 ms. */
const CHANGE_MS = 3;
const CHANGE_RATIO = 0.15;
/** Samples from which more say nothing new. */
const ANSWERS_ENOUGH = 64;
/**
 * Paths of the labelled series change every 33 hours: so long it takes until what is known is as likely of another path as not. What is left then
 * is still of the same two ends: a matrix of 2018 paid 1.033 in 2024 (`isochrone evaluate years`), more than neighbours are worth.
 */
const HALF_LIFE_MS = 23 * HOUR_MS;
const FRESHNESS_MIN = 0.4;
/** As `EstimatorSettings`. */
const LOSS_PRIOR = 0.002;
const LOSS_PRIOR_SAMPLES = 100;
const LOST_ONLY_MIN = 3;
/** What was found is good for so long while nothing comes in, ms: windows leave the span. */
const KEPT_MS = 300_000;

interface Kept {
  readonly samples: number;
  readonly at: EpochMs;
  readonly figures: Figures | undefined;
}
interface Figures extends Pick<Estimate, "rttMs" | "spreadMs" | "lossRatio" | "samples"> {
  readonly newestAt: number;
}

export class MeasuredHistory {
  readonly #store: MeasurementStore;
  readonly #epochOf: (now: MonotonicMs) => EpochMs;
  /** By from, then to; only of pairs of the store. */
  readonly #kept = new Map<string, Map<string, Kept>>();

  constructor(store: MeasurementStore, epochOf: (now: MonotonicMs) => EpochMs) {
    this.#store = store;
    this.#epochOf = epochOf;
  }

  targetsOf(from: string): Iterable<string> | undefined {
    return this.#store.targetsOf(from);
  }

  /** Undefined: nothing is kept of the pair, or it never answered. */
  estimate(from: string, to: string, now: MonotonicMs): Estimate | undefined {
    const epoch = this.#epochOf(now);
    const figures = this.#figures(from, to, epoch);
    if (figures === undefined) return undefined;
    const { newestAt, ...rest } = figures;
    const ageMs = Math.max(0, epoch - newestAt);
    const freshness = FRESHNESS_MIN + (1 - FRESHNESS_MIN) * 2 ** (-ageMs / HALF_LIFE_MS);
    return { ...rest, ageMs, freshness, confidence: (1 - 2 ** -rest.samples) * freshness };
  }

  #figures(from: string, to: string, epoch: EpochMs): Figures | undefined {
    const samples = this.#store.samplesOf(from, to);
    let ofFrom = this.#kept.get(from);
    const kept = ofFrom?.get(to);
    if (kept !== undefined && kept.samples === samples && epoch - kept.at < KEPT_MS) return kept.figures;
    if (samples === 0) {
      ofFrom?.delete(to);
      if (ofFrom?.size === 0) this.#kept.delete(from);
      return undefined;
    }
    const figures = figuresOf(this.#store, from, to, epoch);
    if (ofFrom === undefined) this.#kept.set(from, (ofFrom = new Map()));
    ofFrom.set(to, { samples, at: epoch, figures });
    return figures;
  }
}

function figuresOf(store: MeasurementStore, from: string, to: string, epoch: EpochMs): Figures | undefined {
  for (const spanMs of SPANS_MS) {
    const query = { spanMs, quantiles: QUANTILES, methods: METHODS };
    const windows = store.windows(from, to, query, epoch);
    const first = firstOfLevel(windows);
    if (first === undefined) continue;
    const found = store.figures(from, to, { ...query, spanMs: epoch - first.at }, epoch);
    if (found === undefined || found.answered === 0) continue;
    const [low, , high] = found.rttMs as [number, number, number];
    const { answered, lost } = found;
    const newest = windows.at(-1);
    const isCut = newest !== undefined && newest.answered === 0 && newest.lost >= LOST_ONLY_MIN;
    const lossRatio = (lost + LOSS_PRIOR * LOSS_PRIOR_SAMPLES) / (answered + lost + LOSS_PRIOR_SAMPLES);
    return {
      rttMs: low,
      spreadMs: high - low,
      lossRatio: isCut ? Math.max(lossRatio, 1 - 2 ** -newest.lost) : lossRatio,
      samples: answered + lost,
      newestAt: epoch - found.ageMs,
    };
  }
  return undefined;
}

/** From the newest window back to the first one that another path has measured, or until there is enough; undefined: none was answered. */
function firstOfLevel(windows: readonly PathWindow[]): PathWindow | undefined {
  let first: PathWindow | undefined;
  let level = 0;
  let answered = 0;
  for (const window of windows.toReversed()) {
    if (window.answered === 0) continue;
    const [low] = window.rttMs as [number];
    const isOther = Math.abs(low - level) > Math.max(CHANGE_MS, CHANGE_RATIO * level);
    if (answered >= LEVEL_ANSWERS_MIN && isOther) break;
    level = (level * answered + low * window.answered) / (answered + window.answered);
    answered += window.answered;
    first = window;
    if (answered >= ANSWERS_ENOUGH) break;
  }
  return first;
}

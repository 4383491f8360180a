/**
 * Durations in buckets whose width grows with the value, so that a quantile of a minute or of a year, of one server or of
 * all, takes the same few hundred bytes and is at most 5 % off. After DDSketch (Masson, Rim, Lee, VLDB 2019, section 2) with
 * fixed bounds: merging is adding.
 */

/** Each bound is 1.1 times the one before: the middle of a bucket is within 5 % of all its values. */
const GROWTH = 1.1;
/** Below the first bound (10 microseconds) and beyond the last (about 17 minutes) values are told by `minUs` and `maxUs`. */
const FIRST_BOUND_US = 10;
const BUCKETS = 195;

/** Upper bounds, microseconds. Made by multiplication alone, so that they are the same on every machine. */
const bounds = ((): Float64Array => {
  const made = new Float64Array(BUCKETS);
  let bound = FIRST_BOUND_US;
  for (let n = 0; n < BUCKETS; n++) {
    made[n] = bound;
    bound *= GROWTH;
  }
  return made;
})();

/** Whole microseconds throughout: sums of whole numbers do not depend on their order, so merging is associative to the bit. */
export interface Histogram {
  /** Per bucket: values above the bound before and up to the bound; one more for what is beyond the last. */
  readonly counts: Float64Array;
  readonly count: number;
  readonly sumUs: number;
  /** 0 when there are none. */
  readonly minUs: number;
  readonly maxUs: number;
}

type Draft = { -readonly [K in keyof Histogram]: Histogram[K] };

/** A histogram without values. */
export function emptyHistogram(): Histogram {
  return { counts: new Float64Array(BUCKETS + 1), count: 0, sumUs: 0, minUs: 0, maxUs: 0 };
}

/** Adds one duration to the histogram in place. Negative and non-finite ones count as 0. */
export function addDuration(histogram: Histogram, durationMs: number): void {
  const draft = histogram as Draft;
  const us = durationMs > 0 && Number.isFinite(durationMs) ? Math.round(durationMs * 1_000) : 0;
  const bucket = bucketOf(us);
  draft.counts[bucket] = (draft.counts[bucket] ?? 0) + 1;
  draft.minUs = draft.count === 0 ? us : Math.min(draft.minUs, us);
  draft.maxUs = Math.max(draft.maxUs, us);
  draft.count++;
  draft.sumUs += us;
}

/** A new histogram of both's values. */
export function mergeHistograms(a: Histogram, b: Histogram): Histogram {
  return {
    counts: a.counts.map((count, n) => count + (b.counts[n] ?? 0)),
    count: a.count + b.count,
    sumUs: a.sumUs + b.sumUs,
    minUs: a.count === 0 ? b.minUs : b.count === 0 ? a.minUs : Math.min(a.minUs, b.minUs),
    maxUs: Math.max(a.maxUs, b.maxUs),
  };
}

/** The quantile q (0..1), ms, within 5 % (nearest rank); NaN when there are no values. */
export function quantileMs(histogram: Histogram, q: number): number {
  if (histogram.count === 0) return Number.NaN;
  const rank = Math.max(1, Math.ceil(Math.min(1, Math.max(0, q)) * histogram.count));
  let seen = 0;
  for (let n = 0; n <= BUCKETS; n++) {
    seen += histogram.counts[n] ?? 0;
    if (seen >= rank) return Math.min(histogram.maxUs, Math.max(histogram.minUs, middleUs(n))) / 1_000;
  }
  return histogram.maxUs / 1_000;
}

/** The mean, ms; NaN when there are no values. */
export function meanMs(histogram: Histogram): number {
  return histogram.count === 0 ? Number.NaN : histogram.sumUs / histogram.count / 1_000;
}

function middleUs(bucket: number): number {
  if (bucket === 0) return 0;
  const high = bounds[bucket];
  const low = bounds[bucket - 1];
  // Beyond the last bound: the clamp to the largest value decides.
  if (high === undefined || low === undefined) return Number.MAX_VALUE;
  return (low + high) / 2;
}

/** First bucket whose bound is at least the value, by bisection. */
function bucketOf(us: number): number {
  let low = 0;
  let high = BUCKETS;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((bounds[middle] as number) >= us) high = middle;
    else low = middle + 1;
  }
  return low;
}

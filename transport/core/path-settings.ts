/** The settings of path choice: unit, range and why of each; `config.ts` of the room takes a partial of them. */
import type { LinkEstimatorSettings } from "./link-estimator.ts";

export type PathChooserSettings = {
  /** A path that is cheaper than the one in use by this share of its cost, 0..1... */
  readonly switchMarginRatio: number;
  /** ...and by this much, ms, takes over... */
  readonly switchMarginMs: number;
  /**
   * ...when it has been so for this long, ms. A smaller gain takes longer, by the square of its share of the margin: noise may not move
   * traffic, and a small gain that lasts is a gain. Also the least time between two switches that no failure forced.
   */
  readonly holdDownMs: number;
  /** What is cheaper by less than this share, 0..1, or this much, ms, never takes over: the user feels nothing of it. */
  readonly indifferenceRatio: number;
  readonly indifferenceMs: number;
  /** Weight of the mean deviation from the median in the cost of a small answer: 1 prices a mean wait, more the tail. */
  readonly deviationWeight: number;
  /**
   * Weight of the expected retransmission delay, lossRatio * max(200 ms, 1.5 median), of a small answer, which crosses in several trips.
   * The ratio is the upper end of its interval: what was hardly measured does not pass for clean.
   */
  readonly lossWeight: number;
  /** Samples before a relay path may be chosen, >= 1. */
  readonly samplesMin: number;
  /** Between probes of a path, ms. Fresh paths are probed at `warmUpIntervalMs` until `samplesMin` is reached. */
  readonly probeIntervalMs: number;
  readonly warmUpIntervalMs: number;
  /** A probe on an open connection is lost after the retransmission timeout plus a margin, but at least this long, ms. */
  readonly probeTimeoutMs: number;
  /** Longest that a probe may take when its connection has to be opened first, ms; also the limit before any sample. */
  readonly probeConnectMsMax: number;
  /** Lost probes in a row after which a path has failed, >= 1. */
  readonly probeLossesMax: number;
  /** Good probes in a row after which a failed path may be used again, >= 1. */
  readonly recoverSamples: number;
  /** A path that failed is not used again for this long, ms; doubles with each failure up to the maximum, falls with time. */
  readonly failedHoldMs: number;
  readonly failedHoldMsMax: number;
  /** An estimate older than this is not used for a relay, ms. */
  readonly ageMaxMs: number;
  /** Candidates beside direct, 0..7; the rest is ignored. */
  readonly relaysMax: number;
  readonly estimator: Partial<LinkEstimatorSettings>;
};

export const pathChooserDefaults: PathChooserSettings = {
  switchMarginRatio: 0.1,
  switchMarginMs: 5,
  holdDownMs: 2_000,
  indifferenceRatio: 0.01,
  indifferenceMs: 1,
  deviationWeight: 1,
  lossWeight: 2,
  samplesMin: 3,
  probeIntervalMs: 1_000,
  warmUpIntervalMs: 150,
  probeTimeoutMs: 500,
  probeConnectMsMax: 3_000,
  probeLossesMax: 2,
  recoverSamples: 5,
  failedHoldMs: 3_000,
  failedHoldMsMax: 60_000,
  ageMaxMs: 15_000,
  relaysMax: 3,
  estimator: {},
};

import type { Random } from "#kit";

/** How the Internet disturbs a measurement. */
export interface NoiseModel {
  /** Share of probes that no answer comes for, on top of the path's own loss. */
  readonly lossRatio: number;
  /** Median of the lognormal jitter, which only ever adds: so much, ms... */
  readonly jitterMs: number;
  /** ...plus this share of the travel time. */
  readonly jitterRatio: number;
  /** Standard deviation of the jitter's logarithm. */
  readonly jitterSpread: number;
  /** Share of samples that meet a queue, and how long that one is on the mean, ms. */
  readonly spikeRatio: number;
  readonly spikeMs: number;
}

export const noiseDefaults: NoiseModel = {
  lossRatio: 0.005,
  jitterMs: 0.5,
  jitterRatio: 0.01,
  jitterSpread: 0.8,
  spikeRatio: 0.03,
  spikeMs: 60,
};

/**
 * One measurement of a path of `rttMs` and `lossRatio`: the time that a prober would see, or null when it sees nothing. A
 * travel time of NaN is a path that does not exist. Draws the same number of values whatever comes out.
 */
export function noisySample(
  rttMs: number,
  lossRatio: number,
  random: Random,
  noise: NoiseModel = noiseDefaults,
): number | null {
  const isLost = random.chance(1 - (1 - lossRatio) * (1 - noise.lossRatio));
  const jitter =
    Math.exp(random.normal(0, noise.jitterSpread)) * (noise.jitterMs + noise.jitterRatio * rttMs || 0);
  const spike = random.exponential(noise.spikeMs);
  const isSpike = random.chance(noise.spikeRatio);
  if (isLost || Number.isNaN(rttMs)) return null;
  return rttMs + jitter + (isSpike ? spike : 0);
}

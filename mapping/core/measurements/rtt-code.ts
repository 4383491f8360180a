/** Round-trip times in 16 bits each, and sets of them cut down to a few that have the same quantiles. */
import { RTT_MS_MAX } from "./sample.ts";

/** Below this the steps are even, above it they grow with the time, ms: no clock of an agent is better. */
const LINEAR_MS = 0.1;
const CODE_MAX = 65_535;
const STEP = Math.log1p(RTT_MS_MAX / LINEAR_MS) / CODE_MAX;

/** Order is kept; decoding is within 0.011 % and 0.1 µs of what was encoded. `rttMs`: 0..RTT_MS_MAX. */
export function encodeRtt(rttMs: number): number {
  return Math.round(Math.log1p(rttMs / LINEAR_MS) / STEP);
}

export function decodeRtt(code: number): number {
  return Math.expm1(code * STEP) * LINEAR_MS;
}

/**
 * Cuts a sorted set of codes down to `count` that stand for an equal share of it each, by the rank in the middle of the share:
 * quantiles between those of the first and the last middle are kept, what lies beyond (a single late answer) is cut off.
 */
export function middleRanks(sorted: ArrayLike<number>, count: number): number[] {
  return Array.from({ length: count }, (_, n) => {
    const position = ((n + 0.5) / count) * sorted.length - 0.5;
    const below = Math.max(0, Math.floor(position));
    const low = sorted[below] as number;
    const high = sorted[Math.min(below + 1, sorted.length - 1)] as number;
    return Math.round(low + (high - low) * Math.max(0, position - below));
  });
}

/** Codes of several windows, each with the number of samples that it stands for. */
export interface WeightedCodes {
  readonly codes: number[];
  readonly weights: number[];
}

/**
 * Quantiles of weighted codes, ms: a code stands in the middle of its weight, between two middles it is linear (for equal weights
 * type 5 of Hyndman and Fan, "Sample quantiles in statistical packages", 1996). NaN when there are no codes.
 *
 * @param quantiles 0..1, ascending
 */
export function weightedQuantilesMs(
  { codes, weights }: WeightedCodes,
  quantiles: readonly number[],
): number[] {
  const order = Uint32Array.from(codes.keys()).sort(
    (a, b) => (codes[a] as number) - (codes[b] as number) || a - b,
  );
  let total = 0;
  for (const weight of weights) total += weight;
  const codeAt = (n: number): number => codes[order[n] as number] as number;
  const weightAt = (n: number): number => weights[order[n] as number] as number;
  let n = 0;
  let middle = order.length === 0 ? 0 : weightAt(0) / 2;
  return quantiles.map((q) => {
    if (order.length === 0) return Number.NaN;
    const wanted = q * total;
    while (n + 1 < order.length) {
      const gap = (weightAt(n) + weightAt(n + 1)) / 2;
      if (middle + gap > wanted)
        return decodeRtt(codeAt(n) + (codeAt(n + 1) - codeAt(n)) * Math.max(0, (wanted - middle) / gap));
      middle += gap;
      n++;
    }
    return decodeRtt(codeAt(n));
  });
}

/** Figures about a set of numbers, all in the unit of the numbers; NaN (but for count) if there are none. */
export type Summary = {
  readonly mean: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
  readonly count: number;
};

/**
 * The quantile `q` (0..1, clamped) by linear interpolation between order statistics: type 7 of Hyndman and Fan,
 * "Sample quantiles in statistical packages", The American Statistician 50(4), 1996. NaN if there are no values.
 *
 * @param sortedAscending must be sorted; not checked
 */
export function quantile(sortedAscending: ArrayLike<number>, q: number): number {
  const count = sortedAscending.length;
  if (count === 0) return Number.NaN;
  const position = Math.min(1, Math.max(0, q)) * (count - 1);
  const below = Math.floor(position);
  const low = sortedAscending[below] as number;
  const high = sortedAscending[Math.min(below + 1, count - 1)] as number;
  // The fraction is 0 at a whole position, where an infinite neighbour would make NaN of 0 * Infinity.
  return position === below ? low : low + (high - low) * (position - below);
}

/** The arithmetic mean, NaN if there are no values. */
export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let index = 0; index < values.length; index++) sum += values[index] as number;
  return values.length === 0 ? Number.NaN : sum / values.length;
}

/** The usual figures; `values` in any order and not changed. */
export function summary(values: ArrayLike<number>): Summary {
  const sorted = Float64Array.from(values).sort();
  return {
    mean: mean(sorted),
    p50: quantile(sorted, 0.5),
    p95: quantile(sorted, 0.95),
    p99: quantile(sorted, 0.99),
    max: quantile(sorted, 1),
    count: sorted.length,
  };
}

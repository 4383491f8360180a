/** What a cache entry of a resolver costs its name server in queries. */

export interface QueryModel {
  /** Names that are asked for. */
  readonly names: number;
  /**
   * Their popularity is Zipf's law with this exponent: 0.64 to 0.83 for pages (Breslau, Cao, Fan, Phillips, Shenker, INFOCOM 1999), more for names.
   */
  readonly zipfExponent: number;
  readonly ttlSeconds: number;
}

/** Look-ups a second between which the figure is interpolated; below them hardly anybody shares an entry. */
const LOOKUPS_MIN = 1e-4;
const STEPS_PER_DECADE = 16;
const DECADES = 12;

/**
 * Queries a second for the entries of one scope, one for each name, which so many look-ups a second of all names share: an entry of lifetime T that is looked
 * up r times a second (Poisson) is asked for r / (1 + r T) times. Within 1 % of the sum over the names; concave, 0 at 0, never more than the look-ups.
 *
 * Throws RangeError for a model that means nothing.
 */
export function queriesPerSecondOf({
  names,
  zipfExponent,
  ttlSeconds,
}: QueryModel): (lookupsPerSecond: number) => number {
  if (!(Number.isInteger(names) && names >= 1 && names <= 1e5 && zipfExponent >= 0 && ttlSeconds >= 0))
    throw new RangeError(
      `A query model needs 1 to 100000 names, an exponent and a TTL of 0 or more, got ${names}, ${zipfExponent}, ${ttlSeconds} s`,
    );
  const weights = Float64Array.from({ length: names }, (_, n) => (n + 1) ** -zipfExponent);
  const sum = weights.reduce((total, weight) => total + weight, 0);
  const exact = (lookups: number): number =>
    weights.reduce((total, weight) => {
      const rate = (lookups * weight) / sum;
      return total + rate / (1 + rate * ttlSeconds);
    }, 0);
  const table = Float64Array.from({ length: DECADES * STEPS_PER_DECADE + 1 }, (_, step) =>
    exact(LOOKUPS_MIN * 10 ** (step / STEPS_PER_DECADE)),
  );
  return (lookups) => {
    if (lookups <= LOOKUPS_MIN) return (lookups / LOOKUPS_MIN) * (table[0] as number);
    const at = Math.min(table.length - 1, Math.log10(lookups / LOOKUPS_MIN) * STEPS_PER_DECADE);
    const step = Math.min(table.length - 2, Math.floor(at));
    const [low, high] = [table[step] as number, table[step + 1] as number];
    // Chords of the curve over the look-ups, not their logarithm: those of a concave curve are concave.
    const [from, to] = [step, step + 1].map((one) => LOOKUPS_MIN * 10 ** (one / STEPS_PER_DECADE)) as [
      number,
      number,
    ];
    return low + ((high - low) * (Math.min(lookups, to) - from)) / (to - from);
  };
}

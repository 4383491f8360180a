/**
 * Travel times between networks of cities, for worlds with more places than anybody measured all pairs of. What was measured is
 * taken; the rest is drawn from a model that was fitted on what was measured.
 */
import { type Coordinates, fibreRttMsMin, greatCircleKm, quantile, Random } from "#kit";
import type { RttMatrix } from "../matrix.ts";
import type { City } from "./places.ts";

/** Networks of one place: an own site needs no exchange. */
const SAME_NETWORK_MS = 1;
/**
 * How much two pairs of networks between the same two cities differ (standard deviation of the logarithm). The matrix has one
 * host a city and cannot tell; the spread of its pairs of near cities, which have no fibre to blame, is several times that.
 */
const NETWORK_SPREAD = 0.1;
/** Equipment at both ends, and what stands in where no two near cities were measured. */
const BASE_MS_MIN = 0.5;
/** Upper ends of the classes of distance that residuals are drawn from, km. */
const CLASS_KM = [100, 500, 2_000, 6_000, Infinity] as const;
/** Passes of the alternating fit of city terms; the third one changes nothing that can be seen. */
const FIT_PASSES = 5;

const SLOTS_MAX = 16;

interface Network {
  /** Index of its city. */
  readonly city: number;
  /** Which of the networks of that city, below 16. */
  readonly slot: number;
}

/**
 * rtt = (base + perFibreMs * least time of light in fibre) * exp(term of one city + term of the other + residual): base and factor are
 * medians over measured pairs, city terms the medians of what remains (a city with bad access is slow to everywhere), residuals are
 * drawn, seeded by pair, from the measured ones of the same class of distance. A city that was not measured has the term of the
 * nearest one that was.
 */
export class DelayModel {
  readonly #cities: readonly City[];
  readonly #matrix: RttMatrix;
  readonly #random: Random;
  readonly #terms: Float64Array;
  readonly #residuals: readonly (readonly number[])[];
  /** What was drawn already; drawing costs more than looking it up. */
  readonly #drawn = new Map<number, number>();
  readonly baseMs: number;
  readonly perFibreMs: number;

  constructor(cities: readonly City[], matrix: RttMatrix, seed: number) {
    this.#cities = cities;
    this.#matrix = matrix;
    this.#random = new Random(seed).split("delays");
    const pairs = measuredPairs(cities, matrix);
    const near = pairs.filter(({ km }) => km < 300).map(({ rttMs, fibreMs }) => rttMs - fibreMs);
    this.baseMs = near.length === 0 ? BASE_MS_MIN : Math.max(BASE_MS_MIN, median(near));
    this.perFibreMs = median(
      pairs.filter(({ km }) => km > 1_000).map(({ rttMs, fibreMs }) => (rttMs - this.baseMs) / fibreMs),
    );
    const logRatios = pairs.map(({ rttMs, fibreMs }) => Math.log(rttMs / this.#plainMs(fibreMs)));
    this.#terms = cityTerms(cities, pairs, logRatios);
    this.#residuals = CLASS_KM.map((to, index) =>
      pairs.flatMap(({ a, b, km }, n) =>
        km < to && km >= (CLASS_KM[index - 1] ?? 0)
          ? [(logRatios[n] as number) - (this.#terms[a] as number) - (this.#terms[b] as number)]
          : [],
      ),
    );
  }

  /** Symmetric; the same pair always costs the same. */
  rttMs(one: Network, other: Network): number {
    if (one.city === other.city && one.slot === other.slot) return SAME_NETWORK_MS;
    const isOrdered = one.city < other.city || (one.city === other.city && one.slot < other.slot);
    const [a, b] = isOrdered ? [one, other] : [other, one];
    const key = (a.city * SLOTS_MAX + a.slot) * this.#cities.length * SLOTS_MAX + b.city * SLOTS_MAX + b.slot;
    const known = this.#drawn.get(key);
    if (known !== undefined) return known;
    const random = this.#random.split(`${a.city}/${a.slot}|${b.city}/${b.slot}`);
    const spread = Math.exp(random.normal(0, NETWORK_SPREAD));
    const measured = this.#measuredMs(a.city, b.city);
    const rttMs = Math.max(SAME_NETWORK_MS, (measured ?? this.#drawnMs(a.city, b.city)) * spread);
    this.#drawn.set(key, rttMs);
    return rttMs;
  }

  #measuredMs(a: number, b: number): number | undefined {
    const from = this.#cities[a]?.measured ?? null;
    const to = this.#cities[b]?.measured ?? null;
    if (a === b || from === null || to === null) return undefined;
    const rttMs = this.#matrix.rttMs(from, to);
    return Number.isNaN(rttMs) ? undefined : rttMs;
  }

  #drawnMs(a: number, b: number): number {
    const km = greatCircleKm(place(this.#cities, a), place(this.#cities, b));
    const residuals = this.#residuals[CLASS_KM.findIndex((to) => km < to)] ?? [];
    const residual = residuals.length === 0 ? 0 : this.#random.split(`${a}|${b}`).pick(residuals);
    const ratio = Math.exp((this.#terms[a] as number) + (this.#terms[b] as number) + residual);
    return Math.max(fibreRttMsMin(km), this.#plainMs(fibreRttMsMin(km)) * ratio);
  }

  #plainMs(fibreMs: number): number {
    return this.baseMs + this.perFibreMs * fibreMs;
  }
}

interface Pair {
  readonly a: number;
  readonly b: number;
  readonly km: number;
  readonly fibreMs: number;
  readonly rttMs: number;
}

function measuredPairs(cities: readonly City[], matrix: RttMatrix): Pair[] {
  const pairs: Pair[] = [];
  for (const [a, one] of cities.entries())
    for (let b = 0; b < a; b++) {
      const other = cities[b] as City;
      if (one.measured === null || other.measured === null) continue;
      const rttMs = matrix.rttMs(one.measured, other.measured);
      const km = greatCircleKm(one.coordinates, other.coordinates);
      const fibreMs = fibreRttMsMin(km);
      // Faster than light: a label lies, and says nothing of distance.
      if (rttMs > 0 && rttMs >= fibreMs) pairs.push({ a, b, km, fibreMs, rttMs });
    }
  return pairs;
}

function cityTerms(
  cities: readonly City[],
  pairs: readonly Pair[],
  logRatios: readonly number[],
): Float64Array {
  const terms = new Float64Array(cities.length);
  for (let pass = 0; pass < FIT_PASSES; pass++) {
    const rest = cities.map((): number[] => []);
    for (const [n, { a, b }] of pairs.entries()) {
      rest[a]?.push((logRatios[n] as number) - (terms[b] as number));
      rest[b]?.push((logRatios[n] as number) - (terms[a] as number));
    }
    // Half of the way: both ends of a pair move at once.
    for (const [city, values] of rest.entries())
      if (values.length > 0) terms[city] = ((terms[city] as number) + median(values)) / 2;
  }
  for (const [city, { measured, coordinates }] of cities.entries())
    if (measured === null) terms[city] = terms[nearestMeasured(cities, coordinates)] ?? 0;
  return terms;
}

function nearestMeasured(cities: readonly City[], coordinates: Coordinates): number {
  let best = -1;
  let bestKm = Infinity;
  for (const [index, city] of cities.entries()) {
    if (city.measured === null) continue;
    const km = greatCircleKm(city.coordinates, coordinates);
    if (km >= bestKm) continue;
    best = index;
    bestKm = km;
  }
  return best;
}

function place(cities: readonly City[], index: number): Coordinates {
  return (cities[index] as City).coordinates;
}

function median(values: readonly number[]): number {
  return quantile(
    values.toSorted((a, b) => a - b),
    0.5,
  );
}

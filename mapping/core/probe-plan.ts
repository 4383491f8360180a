/**
 * Which sites a client network should be measured against, when there are far more sites than probes to spend. It only ranks
 * what to measure; who is sent where is decided by what was measured.
 */
import { type Coordinates, fibreRttMsMin, greatCircleKm } from "#kit";

export interface ProbeSite<C extends string> {
  readonly clusterId: C;
  readonly coordinates: Coordinates | null;
}

export interface ProbePlanInput<C extends string> {
  readonly sites: readonly ProbeSite<C>[];
  /** Where a label says that the client network is; null when none does. */
  readonly coordinates: Coordinates | null;
  /** What has been measured so far: round-trip times, ms; Infinity for a site that did not answer. */
  readonly measured: ReadonlyMap<C, number>;
  /** Measured round trip between two sites, ms; undefined: unmeasured. */
  readonly siteRttMs: (a: C, b: C) => number | undefined;
}

/**
 * A label is taken for a lie when a measurement is this much shorter than light in fibre could be from there. Some slack,
 * because a city's label is its centre.
 */
const LIE_SLACK_MS = 2;
/** Landmarks before the first guess, when there are no coordinates: with one, a whole circle of sites looks alike. */
const LANDMARKS_WITHOUT_COORDINATES = 2;

/**
 * The next site to measure, undefined when all have been. Ties by id. With believable coordinates: the nearest by geography
 * first, then what geography and the measurements together promise. Without: two landmarks, then triangulation.
 *
 * Triangulation: for a site s and a measured site j the travel time is at least |rtt(j) - rtt(j, s)|. The largest of these
 * bounds ranks the sites (the idea of Guyton and Schwartz, "Locating nearby copies of replicated Internet servers", SIGCOMM 1995).
 */
export function nextProbe<C extends string>(input: ProbePlanInput<C>): C | undefined {
  const { sites, measured } = input;
  const rest = sites.filter((site) => !measured.has(site.clusterId));
  if (rest.length === 0) return undefined;
  const coordinates = isBelievable(input) ? input.coordinates : null;
  if (coordinates === null && measured.size < LANDMARKS_WITHOUT_COORDINATES) return landmark(input, rest);
  return lowest(rest, (site) => promise(site, coordinates, input));
}

/** What is to be expected of a site that was not measured, ms. Only good for comparing sites. */
function promise<C extends string>(
  site: ProbeSite<C>,
  coordinates: Coordinates | null,
  { measured, siteRttMs }: ProbePlanInput<C>,
): number {
  let bound = 0;
  let sum = 0;
  let count = 0;
  for (const [other, rttMs] of measured) {
    const between = siteRttMs(site.clusterId, other);
    if (between === undefined || rttMs === Infinity) continue;
    const least = Math.abs(rttMs - between);
    bound = Math.max(bound, least);
    sum += least;
    count++;
  }
  // The mean of the bounds breaks the many ties that the largest one leaves.
  const triangulated = count === 0 ? 0 : bound + 0.5 * (sum / count);
  if (coordinates === null || site.coordinates === null) return triangulated;
  return GEOGRAPHY_WEIGHT * fibreRttMsMin(greatCircleKm(coordinates, site.coordinates)) + triangulated;
}

/** Geography against triangulation: on WonderNetwork geography alone finds the optimum with 5 probes; bounds are noisy. */
const GEOGRAPHY_WEIGHT = 3;

/** False once a measurement is faster than light could be from where the label says. */
function isBelievable<C extends string>({ sites, coordinates, measured }: ProbePlanInput<C>): boolean {
  if (coordinates === null) return false;
  for (const site of sites) {
    const rttMs = measured.get(site.clusterId);
    if (rttMs === undefined || site.coordinates === null) continue;
    if (rttMs + LIE_SLACK_MS < fibreRttMsMin(greatCircleKm(coordinates, site.coordinates))) return false;
  }
  return true;
}

/** The most central site first, then the one farthest from those that were measured. */
function landmark<C extends string>(
  { sites, measured, siteRttMs }: ProbePlanInput<C>,
  rest: readonly ProbeSite<C>[],
): C | undefined {
  if (measured.size === 0)
    return lowest(rest, (site) =>
      sites.reduce((sum, other) => sum + (siteRttMs(site.clusterId, other.clusterId) ?? 0), 0),
    );
  return lowest(
    rest,
    (site) => -Math.min(...[...measured.keys()].map((other) => siteRttMs(site.clusterId, other) ?? 0)),
  );
}

function lowest<C extends string>(sites: readonly ProbeSite<C>[], valueOf: (site: ProbeSite<C>) => number): C | undefined {
  let best: C | undefined;
  let bestValue = Infinity;
  for (const site of sites) {
    const value = valueOf(site);
    if (value < bestValue || (value === bestValue && best !== undefined && site.clusterId < best)) {
      best = site.clusterId;
      bestValue = value;
    }
  }
  return best;
}

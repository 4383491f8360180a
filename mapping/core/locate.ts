/**
 * Where something is, by the travel times from it to places that are known: whether its label can be true, and, where it cannot,
 * which of the places in question fits best. Light in fibre sets the bound; a detour in all directions at once raises suspicion.
 * Source of the idea: Gueye, Ziviani, Crovella, Fdida, "Constraint-based geolocation of Internet hosts", IMC 2004.
 */
import { type Coordinates, fibreRttMsMin, greatCircleKm } from "#kit";
import { geographyRttMs } from "./estimator.ts";

/** A travel time to a known place. */
export interface Sighting {
  readonly coordinates: Coordinates;
  readonly rttMs: number;
}

/** `measured`: the label cannot be true, or there is none, and the place fits the travel times. */
export type PlaceSource = "label" | "measured" | "unknown";

export interface BelievedPlace {
  /** Null only with the source `unknown`. */
  readonly coordinates: Coordinates | null;
  readonly source: PlaceSource;
}

/** A label lies when a measurement is shorter than light in fibre by more than this, ms; a city's label is its centre. */
const LIE_SLACK_MS = 2;
/** Travel times are off from geography by this factor on the mean before a label that could be true is doubted. */
const DOUBT_RATIO = 3;
/** And another place has to explain the times this much better (share of the logarithms' error) to take its place. */
const BETTER_RATIO = 0.5;
/** With fewer sightings a label that could be true stays: a bad access looks the same. */
const DOUBT_SIGHTINGS_MIN = 3;
/** Added to both times before they are compared, ms: below it they are all access. */
const ACCESS_MS = 3;
/** Sightings count by 1 / (rtt + this), ms: the near ones say where something is. */
const NEAR_MS = 10;

export interface ProbeSite<C extends string> {
  readonly clusterId: C;
  /** Null: unknown, or not believed (`believableSites`). */
  readonly coordinates: Coordinates | null;
}

/** The shortest time that can be true between two labels, ms. */
function leastRttMs(from: Coordinates, to: Coordinates): number {
  return Math.max(0, fibreRttMsMin(greatCircleKm(from, to)) - LIE_SLACK_MS);
}

/** Whether the time is too short for the distance. */
export function isTooFast(rttMs: number, from: Coordinates, to: Coordinates): boolean {
  return rttMs < leastRttMs(from, to);
}

/**
 * @param label null: there is none
 * @param candidates places where it may be instead: those of sites and of other networks that are believed; order decides ties
 */
export function believedPlace(
  label: Coordinates | null,
  sightings: readonly Sighting[],
  candidates: readonly Coordinates[],
): BelievedPlace {
  const ofLabel = label === null ? Infinity : misfit(label, sightings);
  const isDoubted = ofLabel > Math.log(DOUBT_RATIO) && sightings.length >= DOUBT_SIGHTINGS_MIN;
  if (label !== null && ofLabel < Infinity && !isDoubted) return { coordinates: label, source: "label" };
  let best: Coordinates | null = null;
  let bestMisfit = Infinity;
  if (sightings.length > 0)
    for (const candidate of candidates) {
      const one = misfit(candidate, sightings);
      if (one < bestMisfit) {
        best = candidate;
        bestMisfit = one;
      }
    }
  if (label !== null && ofLabel < Infinity && !(bestMisfit < ofLabel * BETTER_RATIO))
    return { coordinates: label, source: "label" };
  return best === null ? { coordinates: null, source: "unknown" } : { coordinates: best, source: "measured" };
}

/** {@link meanError}, Infinity where light would be too slow. */
function misfit(place: Coordinates, sightings: readonly Sighting[]): number {
  if (sightings.some(({ coordinates, rttMs }) => isTooFast(rttMs, place, coordinates))) return Infinity;
  return meanError(place, sightings);
}

/** Of the times' logarithms, near sightings first; 0 without sightings. */
function meanError(place: Coordinates, sightings: readonly Sighting[]): number {
  let sum = 0;
  let weights = 0;
  for (const { coordinates, rttMs } of sightings) {
    const weight = 1 / (rttMs + NEAR_MS);
    sum +=
      weight * Math.abs(Math.log((rttMs + ACCESS_MS) / (geographyRttMs(place, coordinates) + ACCESS_MS)));
    weights += weight;
  }
  return weights === 0 ? 0 : sum / weights;
}

/**
 * The sites, with the coordinates taken from those whose label cannot be true: travel times between sites that are shorter than
 * light allows accuse both ends, and the one that most others accuse goes first, each accusation counting by how badly the label of the accused fits
 * all its times: two sites on one coast with labels far away would else take an honest one beyond the sea with them. Cost O(n^2) look-ups.
 */
function believableSites<C extends string>(
  sites: readonly ProbeSite<C>[],
  siteRttMs: (a: C, b: C) => number | undefined,
): ProbeSite<C>[] {
  const accusers = new Map<ProbeSite<C>, Set<ProbeSite<C>>>();
  for (const [n, one] of sites.entries())
    for (const other of sites.slice(n + 1)) {
      const rttMs = siteRttMs(one.clusterId, other.clusterId);
      if (rttMs === undefined || one.coordinates === null || other.coordinates === null) continue;
      if (!isTooFast(rttMs, one.coordinates, other.coordinates)) continue;
      accusers.set(one, (accusers.get(one) ?? new Set()).add(other));
      accusers.set(other, (accusers.get(other) ?? new Set()).add(one));
    }
  const guilts = new Map(
    [...accusers.keys()].map((site) => [site, guiltOf(site, sites, accusers, siteRttMs)]),
  );
  const liars = new Set<ProbeSite<C>>();
  for (;;) {
    let liar: ProbeSite<C> | undefined;
    let most = 0;
    for (const [site, others] of accusers) {
      const guilt = others.size * (guilts.get(site) ?? 0);
      if (guilt <= most) continue;
      liar = site;
      most = guilt;
    }
    if (liar === undefined) break;
    liars.add(liar);
    for (const other of accusers.get(liar) ?? []) accusers.get(other)?.delete(liar);
    accusers.delete(liar);
  }
  return sites.map((site) => (liars.has(site) ? { ...site, coordinates: null } : site));
}

/**
 * How much more it counts that a site could stand elsewhere. WonderNetwork, 30 sites, 5 probes, seeds 101 to 120, greatest mean over the optimum: 1.189 by the
 * number of accusations alone and with 1 (only ties are settled by the labels' errors: 19 of 20 seeds), 1.114 with 2, 2.2 with 1,000.
 */
const ELSEWHERE_GUILT = 2;

/**
 * How much an accusation counts, above 0: the error of the label over the times to those that nobody accuses, and more where these times and
 * those to the accusers themselves allow another place: who lies is somewhere else, and an honest site is nowhere else.
 */
function guiltOf<C extends string>(
  site: ProbeSite<C>,
  sites: readonly ProbeSite<C>[],
  accusers: ReadonlyMap<ProbeSite<C>, ReadonlySet<ProbeSite<C>>>,
  siteRttMs: (a: C, b: C) => number | undefined,
): number {
  const sightingsOf = (some: readonly ProbeSite<C>[]): Sighting[] =>
    some.flatMap(({ clusterId, coordinates }) => {
      const rttMs = clusterId === site.clusterId ? undefined : siteRttMs(site.clusterId, clusterId);
      return rttMs === undefined || coordinates === null ? [] : [{ coordinates, rttMs }];
    });
  const unaccused = sites.filter((other) => !accusers.has(other));
  const bounds = sightingsOf([...unaccused, ...(accusers.get(site) ?? [])]);
  const isElsewhere = unaccused.some(
    ({ coordinates }) => coordinates !== null && misfit(coordinates, bounds) < Infinity,
  );
  const honest = sightingsOf(unaccused);
  const error =
    site.coordinates === null ? 0 : meanError(site.coordinates, honest.length > 0 ? honest : bounds);
  return Math.max(error, Number.MIN_VALUE) * (isElsewhere ? ELSEWHERE_GUILT : 1);
}

/**
 * The sites with the places that are believed: those whose label cannot be true get the one that fits their times to the others,
 * among the others' places and `candidates`; null where nothing fits.
 */
export function placedSites<C extends string>(
  sites: readonly ProbeSite<C>[],
  siteRttMs: (a: C, b: C) => number | undefined,
  candidates: readonly Coordinates[],
): ProbeSite<C>[] {
  const believable = believableSites(sites, siteRttMs);
  const known = believable.flatMap(({ clusterId, coordinates }) =>
    coordinates === null ? [] : [{ clusterId, coordinates }],
  );
  const places = [...known.map(({ coordinates }) => coordinates), ...candidates];
  return believable.map((site) => {
    if (site.coordinates !== null) return site;
    const sightings = known.flatMap(({ clusterId, coordinates }): Sighting[] => {
      const rttMs = siteRttMs(site.clusterId, clusterId);
      return rttMs === undefined ? [] : [{ coordinates, rttMs }];
    });
    return { ...site, coordinates: believedPlace(null, sightings, places).coordinates };
  });
}

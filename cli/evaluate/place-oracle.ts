/**
 * What the place of a client tells, where everything else is known: for clients that nobody measures, a choice by their neighbours that knows the true times of everybody
 * else to all sites. Production has five noisy ones of each. What even this loses lies in labels, and in paths that no neighbour has.
 */
import { type ClusterId, type Coordinates, greatCircleKm } from "#kit";
import { placedSites } from "#mapping";
import { drawn } from "./mapping.ts";
import type { RttMatrix } from "./matrix.ts";
import { chooseSites, round } from "./sites.ts";

/**
 * Of 132 ways to ask the neighbours (their times corrected by geography and averaged; Gaussian processes of times and of logarithms; what each site would cost each of them
 * over its best one) the best on seeds 101 to 120: the last one, by the 16 nearest, each by 1 / (km + 30), no loss counting more than 120 ms.
 */
const NEIGHBOURS = 16;
const NEAR_KM = 30;
const LOSS_MS_MAX = 120;
/** Fibre: 100 km cost a round trip of 1 ms, the usual detour 1.75 of it. */
const USUAL_MS_PER_KM = 0.0175;

export interface PlaceOracle {
  /** Mean over the optimum of the clients that nobody measures. */
  readonly labels: number;
  /** The same with the label of everybody else put where the times fit, if light contradicts it: what measurements of them can bring about. */
  readonly othersMended: number;
  /** And their own as well, which nobody can know. */
  readonly allMended: number;
}

type Places = readonly (Coordinates | null)[];

/** The clients are those that `evaluateMapping` leaves unmeasured. Throws RangeError for a matrix without places. */
export function evaluatePlaceOracle(
  matrix: RttMatrix,
  {
    sites: count,
    seed,
    unmeasuredRatio,
  }: { readonly sites: number; readonly seed: number; readonly unmeasuredRatio: number },
): PlaceOracle {
  const { coordinates } = matrix;
  if (coordinates === null) throw new RangeError("the matrix has no places");
  const sites = chooseSites(matrix, count, seed);
  const cities = [...coordinates.keys()].filter((city) =>
    sites.some((site) => !Number.isNaN(matrix.rttMs(city, site))),
  );
  const clients = cities.filter((city) => !sites.includes(city));
  const unmeasured = drawn(clients, unmeasuredRatio, seed, "unmeasured");
  const known = cities.filter((city) => !unmeasured.has(city));
  const ratio = (own: Places, others: Places): number => {
    let [paid, least] = [0, 0];
    for (const client of unmeasured) {
      const times = sites
        .map((site) => matrix.rttMs(client, site))
        .map((ms) => (Number.isNaN(ms) ? Infinity : ms));
      const cost = times[choiceBy(matrix, own[client] ?? null, others, known, sites)] as number;
      // What the matrix has no time for counts as the worst that it has.
      paid += cost === Infinity ? Math.max(...times.filter((ms) => ms < Infinity)) : cost;
      least += Math.min(...times);
    }
    return round(paid / least);
  };
  const mended = mendedPlaces(matrix);
  return {
    labels: ratio(coordinates, coordinates),
    othersMended: ratio(coordinates, mended),
    allMended: ratio(mended, mended),
  };
}

/** The number of the site that costs the neighbours least over their best one. */
function choiceBy(
  matrix: RttMatrix,
  here: Coordinates | null,
  places: Places,
  known: readonly number[],
  sites: readonly number[],
): number {
  const near = known
    .map((city) => ({ city, km: kmOf(here, places[city] ?? null) }))
    .sort((a, b) => a.km - b.km || a.city - b.city)
    .slice(0, NEIGHBOURS);
  const losses = sites.map(() => 0);
  for (const { city, km } of near) {
    const expected = sites.map((site) => {
      const there = places[site] ?? null;
      const ms = city === site ? 0 : matrix.rttMs(city, site);
      const nearer = (kmOf(here, there) - kmOf(places[city] ?? null, there)) * USUAL_MS_PER_KM;
      return Number.isNaN(ms) ? Infinity : Math.max(0, ms + nearer);
    });
    const best = Math.min(...expected);
    for (const [s, ms] of expected.entries())
      losses[s] = (losses[s] as number) + Math.min(ms - best, LOSS_MS_MAX) / (km + NEAR_KM);
  }
  return losses.indexOf(Math.min(...losses));
}

const NOWHERE_KM = 5_000;
function kmOf(a: Coordinates | null, b: Coordinates | null): number {
  return a === null || b === null ? NOWHERE_KM : greatCircleKm(a, b);
}

/** Whose label light contradicts stands where its times to the others fit. */
export function mendedPlaces(matrix: RttMatrix): (Coordinates | null)[] {
  const ids = matrix.names.map((_, index) => `city-${index}` as ClusterId);
  const indexOf = new Map(ids.map((id, index) => [id, index]));
  return placedSites(
    ids.map((clusterId, index) => ({ clusterId, coordinates: matrix.coordinates?.[index] ?? null })),
    (a, b) => {
      const rttMs = matrix.rttMs(indexOf.get(a) as number, indexOf.get(b) as number);
      return Number.isNaN(rttMs) ? undefined : rttMs;
    },
    [],
  ).map(({ coordinates }) => coordinates);
}

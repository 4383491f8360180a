/**
 * Which sites a client network should be measured against, when there are far more sites than probes to spend. It only ranks
 * what to measure; who is sent where is decided by what was measured.
 */
import { type Coordinates, fibreRttMsMin, greatCircleKm } from "#kit";

export interface ProbeSite<C extends string> {
  readonly clusterId: C;
  /** Null: unknown, or not believed (`believableSites`). */
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
  /**
   * What others have measured: round-trip times of other client networks, and of the sites themselves. Who sees the same sites
   * at the same times is near, and what it sees of the other sites is to be expected. The first `PEERS_MAX` count.
   */
  readonly peers?: readonly ReadonlyMap<C, number>[];
}

/** A label lies when a measurement is shorter than light in fibre by more than this, ms; a city's label is its centre. */
const LIE_SLACK_MS = 2;
/** Probes that go by geography before measurements take over: with fewer there is nothing to compare. */
const PROBES_BY_GEOGRAPHY = 3;
/** The same without coordinates. */
const PROBES_BY_LANDMARK = 2;
/** Bounds the work of one choice. */
const PEERS_MAX = 1_000;
/** Sites that both must have measured before a peer is believed to be near. */
const SHARED_SITES_MIN = 2;
/**
 * Peers that know a site and speak for it, nearest first, and the distance, ms, below which peers count about alike. The best
 * of 12 settings (2 or 3 probes by geography, 5, 8 or 12 peers, 3 or 6 ms) on WonderNetwork, seeds 1 to 8, noise included; the
 * others were within 1.5 % of it on the mean.
 */
const NEAREST_PEERS = 12;
const NEAR_MS = 3;
/** Between the least and the most that triangulation allows, what is to be expected, as a share of the way; swept over 0..1. */
const EXPECTED_BETWEEN_BOUNDS = 0.2;

/**
 * The next site to measure, undefined when all have been. Ties by id. First the nearest by geography (or landmarks, without a
 * believable label), then the one of which the nearest peers report the shortest time (k nearest neighbours), or, where no
 * peer knows it, triangulation promises one. A site that is too far for its promise by the speed of light waits.
 *
 * Triangulation: for a site s and a measured site j the travel time lies between |rtt(j) - rtt(j, s)| and rtt(j) + rtt(j, s).
 * The tightest bounds over all j rank the sites. Source of the idea: Guyton and Schwartz, "Locating nearby copies of
 * replicated Internet servers", SIGCOMM 1995, section 4.2.
 */
export function nextProbe<C extends string>(input: ProbePlanInput<C>): C | undefined {
  const { sites, measured } = input;
  const rest = sites.filter((site) => !measured.has(site.clusterId));
  if (rest.length === 0) return undefined;
  const { coordinates } = input;
  if (coordinates === null || !isBelievable(input)) {
    if (measured.size < PROBES_BY_LANDMARK) return landmark(input, rest);
  } else if (measured.size < PROBES_BY_GEOGRAPHY) {
    const placed = rest.filter((site) => site.coordinates !== null);
    if (placed.length > 0)
      return lowest(placed, (site) => greatCircleKm(coordinates, site.coordinates ?? coordinates));
  }
  const peers = nearestPeers(input);
  const place = coordinates !== null && isBelievable(input) ? coordinates : null;
  return lowest(rest, (site) => {
    const promised = expectedByPeers(site.clusterId, peers) ?? expectedByTriangulation(site.clusterId, input);
    if (place === null || site.coordinates === null) return promised;
    return Math.max(promised, fibreRttMsMin(greatCircleKm(place, site.coordinates)));
  });
}

interface Peer<C extends string> {
  readonly distanceMs: number;
  readonly rttMs: ReadonlyMap<C, number>;
}

/** Peers by the mean difference over the sites that both measured; those that share more sites are believed more. */
function nearestPeers<C extends string>({ measured, peers = [] }: ProbePlanInput<C>): Peer<C>[] {
  const found: Peer<C>[] = [];
  for (const rttMs of peers.slice(0, PEERS_MAX)) {
    let sum = 0;
    let shared = 0;
    for (const [site, own] of measured) {
      const other = rttMs.get(site);
      if (other === undefined || other === Infinity || own === Infinity) continue;
      sum += Math.abs(own - other);
      shared++;
    }
    if (shared >= SHARED_SITES_MIN) found.push({ distanceMs: (sum / shared) * (1 + 1 / shared), rttMs });
  }
  return found.sort((a, b) => a.distanceMs - b.distanceMs);
}

/** Mean over the nearest peers that know the site, weighted by the inverse square of their distance. */
function expectedByPeers<C extends string>(
  clusterId: C,
  nearestFirst: readonly Peer<C>[],
): number | undefined {
  let weights = 0;
  let sum = 0;
  let count = 0;
  for (const { distanceMs, rttMs } of nearestFirst) {
    const known = rttMs.get(clusterId);
    if (known === undefined || known === Infinity) continue;
    const weight = 1 / (distanceMs + NEAR_MS) ** 2;
    weights += weight;
    sum += weight * known;
    if (++count >= NEAREST_PEERS) break;
  }
  return count === 0 ? undefined : sum / weights;
}

/**
 * The sites, with the coordinates taken from those whose label cannot be true: travel times between sites that are shorter than
 * light allows accuse both ends, and the one that most others accuse goes first. Cost O(n^2) look-ups.
 */
export function believableSites<C extends string>(
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
  const liars = new Set<ProbeSite<C>>();
  for (;;) {
    let liar: ProbeSite<C> | undefined;
    for (const [site, others] of accusers)
      if (others.size > (liar === undefined ? 0 : (accusers.get(liar)?.size ?? 0))) liar = site;
    if (liar === undefined) break;
    liars.add(liar);
    for (const other of accusers.get(liar) ?? []) accusers.get(other)?.delete(liar);
    accusers.delete(liar);
  }
  return sites.map((site) => (liars.has(site) ? { ...site, coordinates: null } : site));
}

function isTooFast(rttMs: number, from: Coordinates, to: Coordinates): boolean {
  return rttMs + LIE_SLACK_MS < fibreRttMsMin(greatCircleKm(from, to));
}

/** What is to be expected of a site that was not measured, ms; Infinity when nothing is known of it. */
function expectedByTriangulation<C extends string>(
  clusterId: C,
  { measured, siteRttMs }: ProbePlanInput<C>,
): number {
  let least = 0;
  let most = Infinity;
  for (const [other, rttMs] of measured) {
    const between = siteRttMs(clusterId, other);
    if (between === undefined || rttMs === Infinity) continue;
    least = Math.max(least, Math.abs(rttMs - between));
    most = Math.min(most, rttMs + between);
  }
  return least + EXPECTED_BETWEEN_BOUNDS * (most - least);
}

/** False once a measurement is faster than light could be from where the client's label says. */
function isBelievable<C extends string>({ sites, coordinates, measured }: ProbePlanInput<C>): boolean {
  if (coordinates === null) return false;
  for (const site of sites) {
    const rttMs = measured.get(site.clusterId);
    if (rttMs === undefined || site.coordinates === null) continue;
    if (isTooFast(rttMs, coordinates, site.coordinates)) return false;
  }
  return true;
}

/**
 * The site that brings all sites closest to a landmark, given the ones that were measured (greedy k-median): the most central
 * one, then the centre of the far side. Not the farthest one: that is often a site with a bad access, which tells little.
 */
function landmark<C extends string>(
  { sites, measured, siteRttMs }: ProbePlanInput<C>,
  rest: readonly ProbeSite<C>[],
): C | undefined {
  const landmarks = [...measured.keys()];
  const nearest = (from: C, to: readonly C[]): number =>
    Math.min(...to.map((other) => (from === other ? 0 : (siteRttMs(from, other) ?? Infinity))));
  return lowest(rest, (candidate) =>
    sites.reduce((sum, { clusterId }) => {
      const rttMs = nearest(clusterId, [...landmarks, candidate.clusterId]);
      return rttMs === Infinity ? sum : sum + rttMs;
    }, 0),
  );
}

function lowest<C extends string>(
  sites: readonly ProbeSite<C>[],
  valueOf: (site: ProbeSite<C>) => number,
): C | undefined {
  let best: C | undefined;
  let bestValue = Infinity;
  for (const site of sites) {
    const value = valueOf(site);
    if (best === undefined || value < bestValue || (value === bestValue && site.clusterId < best)) {
      best = site.clusterId;
      bestValue = value;
    }
  }
  return best;
}

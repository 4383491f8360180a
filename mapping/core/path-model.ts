/**
 * What travel times a network is likely to see, before and after a few of them were measured: normal distributions of logarithms. At a place the
 * mean is that of geography, corrected by what those see who are near it. What one network sees differs from its place by an offset towards all
 * sites, by one towards sites that are near each other, and by chance: so a measured pair tells of the others, most of those to sites beside its own.
 * Gaussian process regression: Rasmussen, Williams, "Gaussian Processes for Machine Learning", 2006, section 2.2; sites are as far from each
 * other as their links are long, since labels lie.
 */
import type { Coordinates } from "#kit";
import { usualRttMs } from "./estimator.ts";
import { factorise, forward, normalCdf } from "./gaussian.ts";
import { believedPlace, type ProbeSite, type Sighting } from "./locate.ts";
import { kmBetween, type Vector, vectorOf } from "./sphere.ts";

/** Who has measured: a client network, or a site (which sees itself at `SITE_ACCESS_MS`). */
export interface ProbePeer<C extends string> {
  readonly id: string;
  readonly coordinates: Coordinates | null;
  /** ms; Infinity for a site that did not answer. */
  readonly rttMs: ReadonlyMap<C, number>;
}

/** A measured time by the number of the site. */
export interface KnownTime {
  readonly site: number;
  readonly rttMs: number;
  /** {@link logOf} it. */
  readonly log: number;
}

/** By site: logarithm of what is to be expected, and its variance. */
export interface ExpectedRow {
  readonly mean: Float32Array;
  readonly variance: Float32Array;
}

interface ModelPeer {
  readonly id: string;
  /** Where it is believed to be. */
  readonly place: Coordinates | null;
  readonly vector: Vector | null;
  readonly known: readonly KnownTime[];
  /** Of each known time: how much more its logarithm is than geography's; NaN without a place. */
  readonly residuals: Float64Array;
}

/** Added to times before their logarithm is taken, ms: below it a difference is nobody's concern. */
const ACCESS_MS = 20;
/** From a site to a network beside it, ms. */
const SITE_ACCESS_MS = 2;
/** What is expected where nothing is known at all, ms. */
const UNKNOWN_MS = 200;
/** Between the least and the most that triangulation allows, what is to be expected, as a share of the way. */
const EXPECTED_BETWEEN_BOUNDS = 0.2;

/**
 * Constants in logarithms, the best of some fifteen draws at random: WonderNetwork, 30 sites, 5 probes, seeds 101 to 108, labels as they are and a
 * tenth of them wrong. Peers count by 1 / (1 + km / `NEAR_KM`), geography as much as one would with `GEOGRAPHY_WEIGHT`.
 */
const NEAR_KM = 400;
const GEOGRAPHY_WEIGHT = 0.05;
/** Deviation of what a place sees from geography. */
const PLACE_DEVIATION = 0.25;
/** Without a place. */
const TRIANGULATED_DEVIATION = 0.5;
/** Of a network from its place: towards all sites, towards sites near each other (falls by e in `LINK_MS` of travel time), towards each by chance. */
const OFFSET_VARIANCE = 0.05 ** 2;
const REGION_VARIANCE = 0.2 ** 2;
const CHANCE_VARIANCE = 0.06 ** 2;
const LINK_MS = 40;
export const OWN_VARIANCE = OFFSET_VARIANCE + REGION_VARIANCE + CHANCE_VARIANCE;
/** Of a measured time. */
export const MEASURED_VARIANCE = 0.03 ** 2;
const VARIANCE_MIN = 1e-4;

/** Peers around a place that are asked, and of those that know a site so many. */
const NEAR_PEERS_MAX = 40;
const PEERS_EACH_MAX = 6;
/** Measured times that tell of others, the shortest ones. */
export const KNOWN_MAX = 6;
/** Who has measured this much is known. */
const COMPLETE_MIN = 17;

export function logOf(rttMs: number): number {
  return Math.log(rttMs + ACCESS_MS);
}

/** What is to be gained over `bestMs` by a time whose logarithm has this mean and deviation: the mean of max(0, best - time), ms. */
export function expectedFallMs(bestMs: number, mean: number, deviation: number): number {
  const best = bestMs + ACCESS_MS;
  const d = (Math.log(best) - mean) / deviation;
  return best * normalCdf(d) - Math.exp(mean + deviation ** 2 / 2) * normalCdf(d - deviation);
}

/** So many deviations below what is expected nothing is hoped for. */
const HOPELESS = 5;

/** Whether {@link expectedFallMs} is next to nothing for every variance up to this. */
export function isHopeless(bestMs: number, mean: number, variance: number): boolean {
  const off = mean - Math.log(bestMs + ACCESS_MS);
  return off > 0 && off * off > HOPELESS ** 2 * variance;
}

/** Rows are computed when they are needed first: for a thousand peers and sites that is a second's work in all. */
export class PathModel<C extends string> {
  readonly peers: readonly ModelPeer[];
  readonly #sites: readonly ProbeSite<C>[];
  readonly #vectors: readonly (Vector | null)[];
  readonly #indexOf: ReadonlyMap<C, number>;
  readonly #siteRttMs: (a: C, b: C) => number | undefined;
  readonly #rows: (ExpectedRow | undefined)[] = [];
  readonly #covariances: (Float32Array | undefined)[] = [];
  readonly #chords: Float64Array;
  readonly #weights: Float64Array;
  readonly #sums: Float64Array;
  readonly #counts: Uint8Array;

  /**
   * @param sites with the places that are believed
   * @param siteRttMs measured round trip between two sites, ms; undefined: unmeasured
   * @param sitesAsPeers numbers of the sites that are peers, before all others
   */
  constructor(
    sites: readonly ProbeSite<C>[],
    siteRttMs: (a: C, b: C) => number | undefined,
    sitesAsPeers: readonly number[],
    peers: readonly ProbePeer<C>[],
  ) {
    this.#sites = sites;
    this.#siteRttMs = siteRttMs;
    this.#vectors = sites.map(({ coordinates }) => (coordinates === null ? null : vectorOf(coordinates)));
    this.#indexOf = new Map(sites.map(({ clusterId }, index) => [clusterId, index]));
    const places = [...sitesAsPeers.map((s) => sites[s] as ProbeSite<C>), ...peers].flatMap(
      ({ coordinates }) => coordinates ?? [],
    );
    this.peers = [
      ...sitesAsPeers.map((s) => this.#sitePeer(s)),
      ...peers.map(({ id, coordinates, rttMs }) => {
        const known = this.knownOf(rttMs);
        return this.#peer(id, believedPlace(coordinates, this.#sightings(known), places).coordinates, known);
      }),
    ];
    this.#chords = new Float64Array(this.peers.length);
    this.#weights = new Float64Array(sites.length);
    this.#sums = new Float64Array(sites.length);
    this.#counts = new Uint8Array(sites.length);
  }

  /** What was measured and answered, in the order of the map. */
  knownOf(rttMs: ReadonlyMap<C, number>): KnownTime[] {
    const known: KnownTime[] = [];
    for (const [clusterId, time] of rttMs) {
      const site = this.#indexOf.get(clusterId);
      if (site !== undefined && time !== Infinity) known.push({ site, rttMs: time, log: logOf(time) });
    }
    return known;
  }

  /** What peer `p` is likely to see, its own measurements included. */
  rowOf(p: number): ExpectedRow {
    let row = this.#rows[p];
    if (row === undefined) {
      const peer = this.peers[p] as ModelPeer;
      row =
        peer.known.length < this.#sites.length
          ? this.rowAt(peer.vector, peer.known, peer.id)
          : this.#emptyRow();
      this.#complete(row, peer.known);
      this.#rows[p] = row;
    }
    return row;
  }

  /**
   * What those see who are at a place; without one what triangulation allows: for a measured site j a time lies between |rtt(j) - rtt(j, s)| and rtt(j) + rtt(j, s)
   * (Guyton and Schwartz, "Locating nearby copies of replicated Internet servers", SIGCOMM 1995, section 4.2).
   *
   * @param except the peer that is not asked: itself
   */
  rowAt(vector: Vector | null, known: readonly KnownTime[], except: string): ExpectedRow {
    const row = this.#emptyRow();
    if (vector !== null) this.#askNear(vector, except);
    for (let s = 0; s < this.#vectors.length; s++) {
      const site = this.#vectors[s] ?? null;
      if (vector === null || site === null) {
        row.mean[s] = logOf(this.#triangulatedMs(known, s));
        row.variance[s] = TRIANGULATED_DEVIATION ** 2;
        continue;
      }
      const weight = (this.#weights[s] as number) + GEOGRAPHY_WEIGHT;
      row.mean[s] = logOf(usualRttMs(kmBetween(vector, site))) + (this.#sums[s] as number) / weight;
      row.variance[s] = (PLACE_DEVIATION ** 2 * GEOGRAPHY_WEIGHT) / weight;
    }
    return row;
  }

  /** Of what a network sees of a site and of each site beyond its place. */
  covariancesOf(site: number): Float32Array {
    let row = this.#covariances[site];
    if (row === undefined) {
      const { clusterId } = this.#sites[site] as ProbeSite<C>;
      row = Float32Array.from(this.#sites, ({ clusterId: other }, s) => {
        if (s === site) return OWN_VARIANCE;
        const rttMs = this.#siteRttMs(clusterId, other) ?? this.#siteRttMs(other, clusterId) ?? UNKNOWN_MS;
        return OFFSET_VARIANCE + REGION_VARIANCE * Math.exp(-rttMs / LINK_MS);
      });
      this.#covariances[site] = row;
    }
    return row;
  }

  /** Into `#weights` and `#sums`: who is near and knows a site, the nearest of them. */
  #askNear(vector: Vector, except: string): void {
    this.#weights.fill(0);
    this.#sums.fill(0);
    this.#counts.fill(0);
    for (const { peer, km } of this.#nearest(vector, except)) {
      const weight = NEAR_KM / (km + NEAR_KM);
      for (let n = 0; n < peer.known.length; n++) {
        const { site } = peer.known[n] as KnownTime;
        const residual = peer.residuals[n] as number;
        if (Number.isNaN(residual) || (this.#counts[site] as number) >= PEERS_EACH_MAX) continue;
        this.#counts[site] = (this.#counts[site] as number) + 1;
        this.#weights[site] = (this.#weights[site] as number) + weight;
        this.#sums[site] = (this.#sums[site] as number) + weight * residual;
      }
    }
  }

  #nearest(vector: Vector, except: string): { readonly peer: ModelPeer; readonly km: number }[] {
    const chords = this.#chords;
    for (const [p, peer] of this.peers.entries())
      chords[p] = peer.vector === null || peer.id === except ? Infinity : chordSquared(peer.vector, vector);
    const last = chords.toSorted()[Math.min(NEAR_PEERS_MAX, chords.length) - 1] ?? Infinity;
    const near: { peer: ModelPeer; km: number }[] = [];
    for (const [p, peer] of this.peers.entries())
      if ((chords[p] as number) <= last && (chords[p] as number) < Infinity)
        near.push({ peer, km: kmBetween(peer.vector as Vector, vector) });
    return near.sort((a, b) => a.km - b.km).slice(0, NEAR_PEERS_MAX);
  }

  #emptyRow(): ExpectedRow {
    return {
      mean: new Float32Array(this.#sites.length),
      variance: new Float32Array(this.#sites.length),
    };
  }

  /** Conditions the row on what was measured. */
  #complete({ mean, variance }: ExpectedRow, all: readonly KnownTime[]): void {
    if (all.length > 0 && all.length < COMPLETE_MIN) {
      const known = shortest(all);
      const size = known.length;
      const factor = new Float64Array(size * size);
      const off = new Float64Array(size);
      const cross = new Float64Array(size);
      const covariances = known.map(({ site }) => this.covariancesOf(site));
      for (const [a, { site, log }] of known.entries()) {
        for (const [b, other] of known.entries())
          factor[a * size + b] = covariances[a]?.[other.site] as number;
        factor[a * size + a] = OWN_VARIANCE + (variance[site] as number) + MEASURED_VARIANCE;
        off[a] = log - (mean[site] as number);
      }
      factorise(factor, size);
      forward(factor, size, off);
      for (let s = 0; s < mean.length; s++) {
        for (let a = 0; a < size; a++) cross[a] = (covariances[a] as Float32Array)[s] as number;
        const explained = forward(factor, size, cross);
        for (let a = 0; a < size; a++)
          mean[s] = (mean[s] as number) + (cross[a] as number) * (off[a] as number);
        variance[s] = Math.max((variance[s] as number) + OWN_VARIANCE - explained, VARIANCE_MIN);
      }
    }
    for (const { site, log } of all) {
      mean[site] = log;
      variance[site] = MEASURED_VARIANCE;
    }
  }

  #triangulatedMs(known: readonly KnownTime[], s: number): number {
    const { clusterId } = this.#sites[s] as ProbeSite<C>;
    let least = 0;
    let most = Infinity;
    for (const { site, rttMs } of known) {
      const between = this.#siteRttMs(clusterId, (this.#sites[site] as ProbeSite<C>).clusterId);
      if (between === undefined) continue;
      least = Math.max(least, Math.abs(rttMs - between));
      most = Math.min(most, rttMs + between);
    }
    return most === Infinity ? UNKNOWN_MS : least + EXPECTED_BETWEEN_BOUNDS * (most - least);
  }

  #sitePeer(s: number): ModelPeer {
    const { clusterId, coordinates } = this.#sites[s] as ProbeSite<C>;
    const known: KnownTime[] = [];
    for (const [site, other] of this.#sites.entries()) {
      const rttMs = site === s ? SITE_ACCESS_MS : this.#siteRttMs(clusterId, other.clusterId);
      if (rttMs !== undefined) known.push({ site, rttMs, log: logOf(rttMs) });
    }
    return this.#peer(clusterId, coordinates, known);
  }

  #peer(id: string, place: Coordinates | null, known: readonly KnownTime[]): ModelPeer {
    const vector = place === null ? null : vectorOf(place);
    const residuals = Float64Array.from(known, ({ site, log }) => {
      const there = this.#vectors[site] ?? null;
      return vector === null || there === null
        ? Number.NaN
        : log - logOf(usualRttMs(kmBetween(vector, there)));
    });
    return { id, place, vector, known, residuals };
  }

  #sightings(known: readonly KnownTime[]): Sighting[] {
    return known.flatMap(({ site, rttMs }): Sighting[] => {
      const { coordinates } = this.#sites[site] as ProbeSite<C>;
      return coordinates === null ? [] : [{ coordinates, rttMs }];
    });
  }
}

/** The measured times that tell of others. */
export function shortest(known: readonly KnownTime[]): KnownTime[] {
  return known.toSorted((a, b) => a.rttMs - b.rttMs || a.site - b.site).slice(0, KNOWN_MAX);
}

/** Grows with the distance. */
function chordSquared(a: Vector, b: Vector): number {
  return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2;
}

/**
 * What to measure next, when there are far more sites than probes to spend: the site of which the greatest improvement is to be
 * expected. What a network has to expect is a mixture: it may be where its label says, and see what those see who are there, or it
 * may be like any peer that sees the measured sites at the same times. It only ranks what to measure; who is sent where is decided
 * by what was measured. Expected improvement: Jones, Schonlau, Welch, "Efficient Global Optimization of Expensive Black-Box
 * Functions", Journal of Global Optimization 13, 1998, section 4.1.
 */
import { type Coordinates, greatCircleKm } from "#kit";
import { geographyRttMs } from "./estimator.ts";
import { isTooFast, type ProbeSite } from "./locate.ts";

/** Who has measured: a client network, or a site (which sees itself at `SITE_ACCESS_MS`). */
export interface ProbePeer<C extends string> {
  readonly id: string;
  readonly coordinates: Coordinates | null;
  /** ms; Infinity for a site that did not answer. */
  readonly rttMs: ReadonlyMap<C, number>;
}

/** Whose turn it is. */
export interface ProbeSubject<C extends string> {
  /** Its own entry among the peers says nothing about it. */
  readonly id: string;
  /** Where a label says that it is; null when none does. */
  readonly coordinates: Coordinates | null;
  /** What has been measured so far, ms; Infinity for a site that did not answer. */
  readonly measured: ReadonlyMap<C, number>;
}

export interface ProbeChoice<C extends string> {
  readonly clusterId: C;
  /** By how much the best known travel time is expected to fall, ms, >= 0; without any, from `NOTHING_MS`. */
  readonly gainMs: number;
}

/** Peers beyond it are not asked: bounds the work of one choice. */
export const PEERS_MAX = 1_000;
/** Of more sites so many are peers, spread over them: the rest is for networks. */
export const SITE_PEERS_MAX = 300;
/** And of those only the most alike speak about the sites that are not measured. */
const LIKELY_MAX = 128;
/**
 * A label is believed as if networks lay around it with a density that falls by e in so many km; all peers together, wherever they
 * are, get `ELSEWHERE` of what one beside the label gets: so much is a label doubted. `FIT` is the mean error of the logarithm of a
 * travel time that makes a peer less likely by e. WonderNetwork, 30 sites, 5 probes, seeds 1 to 8, over the optimum on the mean: 1.054,
 * with 10 % wrong labels 1.115; 100 to 200 km, 0.3 to 1 and 0.25 to 0.3 gave 1.054 to 1.073 and 1.108 to 1.119. The nearest three sites
 * first and then what peers see: 1.054 and 1.141. On PlanetLab, which has no labels, 1.17 instead of 1.29.
 */
const LABEL_KM = 150;
const ELSEWHERE = 0.5;
const FIT = 0.3;
/** Of a figure that geography guesses so much of the error counts. */
const GUESSED_WEIGHT = 0.5;
/** What a speed above light's costs, in errors of the logarithm. */
const TOO_FAST = 3;
/** Added to times before they are compared, ms. */
const ACCESS_MS = 5;
/** From a site to a network beside it, ms. */
const SITE_ACCESS_MS = 2;
/** What is expected where nothing is known at all, ms. */
const UNKNOWN_MS = 200;
/** The best known time before the first measurement, ms. */
const NOTHING_MS = 300;
/** Between the least and the most that triangulation allows, what is to be expected, as a share of the way. */
const EXPECTED_BETWEEN_BOUNDS = 0.2;

interface Peer<C extends string> {
  readonly id: string;
  readonly coordinates: Coordinates | null;
  readonly rttMs: ReadonlyMap<C, number>;
}

/** Made for one round of choices: what the peers have to expect of each site is computed once. */
export class ProbePlanner<C extends string> {
  readonly #sites: readonly ProbeSite<C>[];
  readonly #indexOf: ReadonlyMap<C, number>;
  readonly #siteRttMs: (a: C, b: C) => number | undefined;
  readonly #peers: readonly Peer<C>[];
  /** By peer and site, ms: measured or expected. */
  readonly #expected: Float64Array;

  /**
   * @param sites with the places that are believed (`placedSites`); order decides ties
   * @param siteRttMs measured round trip between two sites, ms; undefined: unmeasured
   * @param peers client networks; the sites, at most `SITE_PEERS_MAX` of them, are peers by themselves. The first `PEERS_MAX` of all count
   */
  constructor(
    sites: readonly ProbeSite<C>[],
    siteRttMs: (a: C, b: C) => number | undefined,
    peers: readonly ProbePeer<C>[],
  ) {
    this.#sites = sites;
    this.#indexOf = new Map(sites.map(({ clusterId }, index) => [clusterId, index]));
    this.#siteRttMs = siteRttMs;
    const step = Math.max(1, sites.length / SITE_PEERS_MAX);
    const spread = Array.from(
      { length: Math.min(sites.length, SITE_PEERS_MAX) },
      (_, n) => sites[Math.floor(n * step)] as ProbeSite<C>,
    );
    const asPeers = spread.map(({ clusterId, coordinates }): ProbePeer<C> => {
      const rttMs = new Map<C, number>();
      for (const other of sites) {
        const time = other.clusterId === clusterId ? SITE_ACCESS_MS : siteRttMs(clusterId, other.clusterId);
        if (time !== undefined) rttMs.set(other.clusterId, time);
      }
      return { id: clusterId, coordinates, rttMs };
    });
    this.#peers = [...asPeers, ...peers].slice(0, PEERS_MAX);
    this.#expected = new Float64Array(this.#peers.length * sites.length);
    for (const [p, peer] of this.#peers.entries())
      for (const [s, site] of sites.entries())
        this.#expected[p * sites.length + s] =
          peer.rttMs.get(site.clusterId) ?? this.#guess(peer.coordinates, peer.rttMs, site);
  }

  /** The next site to measure; undefined when all have been. Ties in the order of the sites. */
  next(subject: ProbeSubject<C>): ProbeChoice<C> | undefined {
    const { measured } = subject;
    let bestMs = NOTHING_MS;
    for (const rttMs of measured.values()) bestMs = Math.min(bestMs, rttMs);
    let choice: ProbeChoice<C> | undefined;
    let leastMs = Infinity;
    for (const { clusterId, gainMs, expectedMs } of this.#outlook(subject, bestMs)) {
      const isBetter =
        choice === undefined || gainMs > choice.gainMs || (gainMs === choice.gainMs && expectedMs < leastMs);
      if (!isBetter) continue;
      choice = { clusterId, gainMs };
      leastMs = expectedMs;
    }
    return choice;
  }

  /** For each site that was not measured: what is gained over `bestMs` and what is to be expected, both on the mean. */
  *#outlook(
    subject: ProbeSubject<C>,
    bestMs: number,
  ): Generator<{ clusterId: C; gainMs: number; expectedMs: number }> {
    const likely = this.#likely(subject);
    const width = this.#sites.length;
    for (const [s, site] of this.#sites.entries()) {
      if (subject.measured.has(site.clusterId)) continue;
      const own = this.#guess(subject.coordinates, subject.measured, site);
      let gainMs = 0;
      let expectedMs = 0;
      for (const { peer, weight } of likely) {
        // What the peers that did not get an answer would pay is beyond all bounds; it must not outweigh the others.
        const rttMs = Math.min(peer < 0 ? own : (this.#expected[peer * width + s] as number), NOTHING_MS);
        gainMs += weight * Math.max(0, bestMs - rttMs);
        expectedMs += weight * rttMs;
      }
      yield { clusterId: site.clusterId, gainMs, expectedMs };
    }
  }

  /** Whom the subject is like, and how likely (sum 1); peer -1 is the subject itself, where its label says, by geography alone. */
  #likely(subject: ProbeSubject<C>): { readonly peer: number; weight: number }[] {
    const measured = [...subject.measured].flatMap(([clusterId, rttMs]) => {
      const s = this.#indexOf.get(clusterId);
      return s === undefined || rttMs === Infinity ? [] : [{ s, rttMs }];
    });
    const all = this.#peers.flatMap((peer, p) =>
      peer.id === subject.id ? [] : [{ peer: p, weight: this.#logWeight(p, subject.coordinates, measured) }],
    );
    if (subject.coordinates !== null)
      all.push({ peer: -1, weight: this.#logWeight(-1, subject.coordinates, measured) });
    all.sort((a, b) => b.weight - a.weight || a.peer - b.peer);
    const likely = all.slice(0, LIKELY_MAX);
    const most = likely[0]?.weight ?? 0;
    let sum = 0;
    for (const one of likely) sum += one.weight = Math.exp(one.weight - most);
    for (const one of likely) one.weight /= sum;
    return likely;
  }

  #logWeight(
    p: number,
    label: Coordinates | null,
    measured: readonly { readonly s: number; readonly rttMs: number }[],
  ): number {
    const peer = this.#peers[p];
    const place = peer === undefined ? label : peer.coordinates;
    const beside = label === null || place === null ? 0 : Math.exp(-greatCircleKm(label, place) / LABEL_KM);
    let error = 0;
    for (const { s, rttMs } of measured) {
      const site = this.#sites[s] as ProbeSite<C>;
      const isKnown = peer?.rttMs.has(site.clusterId) ?? false;
      const expected =
        peer === undefined ? geography(place, site) : (this.#expected[p * this.#sites.length + s] as number);
      if (expected === Infinity) continue;
      const off = Math.abs(Math.log((rttMs + ACCESS_MS) / (expected + ACCESS_MS)));
      error += isKnown ? off : GUESSED_WEIGHT * off;
      if (place !== null && site.coordinates !== null && isTooFast(rttMs, place, site.coordinates))
        error += TOO_FAST;
    }
    return Math.log(beside + ELSEWHERE / (this.#peers.length + 1)) - error / FIT;
  }

  /**
   * What somebody has to expect of a site that he did not measure: by his place, else by triangulation: for a measured site j the time
   * lies between |rtt(j) - rtt(j, s)| and rtt(j) + rtt(j, s) (Guyton and Schwartz, "Locating nearby copies of replicated Internet
   * servers", SIGCOMM 1995, section 4.2).
   */
  #guess(place: Coordinates | null, measured: ReadonlyMap<C, number>, site: ProbeSite<C>): number {
    if (place !== null && site.coordinates !== null) return geographyRttMs(place, site.coordinates);
    let least = 0;
    let most = Infinity;
    for (const [other, rttMs] of measured) {
      const between = this.#siteRttMs(site.clusterId, other);
      if (between === undefined || rttMs === Infinity) continue;
      least = Math.max(least, Math.abs(rttMs - between));
      most = Math.min(most, rttMs + between);
    }
    return most === Infinity ? UNKNOWN_MS : least + EXPECTED_BETWEEN_BOUNDS * (most - least);
  }
}

function geography<C extends string>(place: Coordinates | null, site: ProbeSite<C>): number {
  return place === null || site.coordinates === null ? UNKNOWN_MS : geographyRttMs(place, site.coordinates);
}

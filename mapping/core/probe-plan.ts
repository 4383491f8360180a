/**
 * What to measure next, when there are far more sites than probes to spend: the site of which the greatest improvement is to be
 * expected. What a network has to expect is a mixture: it may be where its label says, and see what those see who are there, or it
 * may be like any peer that sees the measured sites at the same times; for each of these the measured times tell of the others (`path-model.ts`).
 * It only ranks what to measure; who is sent where is decided by what was measured. Expected improvement: Jones, Schonlau, Welch,
 * "Efficient Global Optimization of Expensive Black-Box Functions", Journal of Global Optimization 13, 1998, section 4.1.
 */
import type { Coordinates } from "#kit";
import { backward, factorise, forward } from "./gaussian.ts";
import { isTooFast, type ProbeSite } from "./locate.ts";
import {
  type ExpectedRow,
  expectedFallMs,
  isHopeless,
  KNOWN_MAX,
  type KnownTime,
  MEASURED_VARIANCE,
  OWN_VARIANCE,
  PathModel,
  type ProbePeer,
  shortest,
} from "./path-model.ts";
import { kmBetween, type Vector, vectorOf } from "./sphere.ts";

export type { ProbePeer } from "./path-model.ts";

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
const LIKELY_MAX = 24;
/** And of those none that is less likely. */
const WEIGHT_MIN = 1e-3;
/**
 * A label is believed as if networks lay around it with a density that falls by e in so many km; all peers together, wherever they
 * are, get `ELSEWHERE` of what one beside the label gets: so much is a label doubted.
 */
const LABEL_KM = 300;
const ELSEWHERE = 0.3;
/** Degrees of freedom of Student's distribution, by which misfits count: a peer that is far off once is not out of the question. */
const FREEDOM = 6;
/** What a speed above light's costs, in logarithms of the likelihood. */
const TOO_FAST = 3;
/** Variance by which a network differs from a peer that it is like, beyond its own offsets. */
const PEER_VARIANCE = 0.05 ** 2;
/** Of the variance of what a peer has to expect so much counts against those that fit by being vague. */
const VAGUE_RATIO = 0.5;
/**
 * Of the variance of a time so much counts for its promise: a bold probe that fails is one less for the sites nearby. WonderNetwork, 30 sites, 5 probes,
 * seeds 101 to 120, mean over the optimum (median of the seeds): 1.035, with 0.2 1.038, with 1 1.044; without Student's process 1.034, but more clients over 10 ms.
 */
const HOPE_RATIO = 0.35;
/** The best known time before the first measurement, ms. */
const NOTHING_MS = 300;
/** Rows of peers that are computed in some milliseconds. */
const ROWS_STEP = 10;

/** One that the subject may be like. */
interface Likeness {
  readonly row: ExpectedRow;
  /** Added to the variances of the row. */
  readonly more: number;
  readonly place: Coordinates | null;
  /** Logarithm of the likelihood; then the probability. */
  weight: number;
}

/** Made for one round of choices: what the peers have to expect of each site is computed once. */
export class ProbePlanner<C extends string> {
  readonly #sites: readonly ProbeSite<C>[];
  readonly #model: PathModel<C>;
  readonly #factor = new Float64Array(KNOWN_MAX ** 2);
  readonly #off = new Float64Array(KNOWN_MAX);
  readonly #cross = new Float64Array(KNOWN_MAX);

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
    const step = Math.max(1, sites.length / SITE_PEERS_MAX);
    const spread = Array.from({ length: Math.min(sites.length, SITE_PEERS_MAX) }, (_, n) =>
      Math.floor(n * step),
    );
    this.#model = new PathModel(sites, siteRttMs, spread, peers.slice(0, PEERS_MAX - spread.length));
  }

  /** Computes what `next` would compute when it is first called, in steps of some milliseconds. */
  *prepareInSteps(): Generator<void> {
    for (const p of this.#model.peers.keys()) {
      this.#model.rowOf(p);
      if (p % ROWS_STEP === ROWS_STEP - 1) yield;
    }
  }

  /** The next site to measure; undefined when all have been. Ties in the order of the sites. */
  next(subject: ProbeSubject<C>): ProbeChoice<C> | undefined {
    let bestMs = NOTHING_MS;
    for (const rttMs of subject.measured.values()) bestMs = Math.min(bestMs, rttMs);
    const gains = this.#gains(subject, bestMs);
    let choice: ProbeChoice<C> | undefined;
    for (const [s, { clusterId }] of this.#sites.entries()) {
      const gainMs = gains[s] as number;
      if (!subject.measured.has(clusterId) && !(choice !== undefined && choice.gainMs >= gainMs))
        choice = { clusterId, gainMs };
    }
    return choice;
  }

  /** By site, what measuring it promises, ms. */
  #gains(subject: ProbeSubject<C>, bestMs: number): Float64Array {
    const known = shortest(this.#model.knownOf(subject.measured));
    const gains = new Float64Array(this.#sites.length);
    for (const likeness of this.#likenesses(subject, known)) this.#addGains(gains, likeness, known, bestMs);
    return gains;
  }

  #addGains(
    gains: Float64Array,
    { row, more, weight }: Likeness,
    known: readonly KnownTime[],
    bestMs: number,
  ): void {
    const size = known.length;
    const factor = this.#factor;
    const off = this.#off;
    const cross = this.#cross;
    const { squares } = this.#fit(row, more, known);
    // Student's process: what was worse predicted than thought is vaguer than thought (Shah, Wilson, Ghahramani, AISTATS 2014, lemma 3).
    const vagueness = (HOPE_RATIO * (FREEDOM + squares)) / (FREEDOM + size);
    const own = OWN_VARIANCE + more;
    const covariances = known.map(({ site }) => this.#model.covariancesOf(site));
    backward(factor, size, off);
    for (let s = 0; s < gains.length; s++) {
      let mean = row.mean[s] as number;
      for (let a = 0; a < size; a++) {
        cross[a] = (covariances[a] as Float32Array)[s] as number;
        mean += (cross[a] as number) * (off[a] as number);
      }
      const most = (row.variance[s] as number) + own;
      if (isHopeless(bestMs, mean, vagueness * most)) continue;
      const variance = Math.max(most - forward(factor, size, cross), MEASURED_VARIANCE);
      const fallMs = expectedFallMs(bestMs, mean, Math.sqrt(vagueness * variance));
      gains[s] = (gains[s] as number) + weight * fallMs;
    }
  }

  /** Into `#factor` and `#off`: the factor of the covariances of what was measured, if the subject is like the row, and by what it is off. */
  #fit(
    row: ExpectedRow,
    more: number,
    known: readonly KnownTime[],
  ): { readonly squares: number; readonly logDeterminant: number } {
    const size = known.length;
    const factor = this.#factor;
    const off = this.#off;
    for (let a = 0; a < size; a++) {
      const { site, log } = known[a] as KnownTime;
      const covariances = this.#model.covariancesOf(site);
      for (let b = 0; b <= a; b++) factor[a * size + b] = covariances[(known[b] as KnownTime).site] as number;
      const vague = VAGUE_RATIO * (row.variance[site] as number);
      factor[a * size + a] = (factor[a * size + a] as number) + vague + more + MEASURED_VARIANCE;
      off[a] = log - (row.mean[site] as number);
    }
    const logDeterminant = factorise(factor, size);
    return { logDeterminant, squares: forward(factor, size, off) };
  }

  /** Whom the subject is like, and how likely (sum 1, but for those that hardly are): itself where its label says, or a peer. */
  #likenesses(subject: ProbeSubject<C>, known: readonly KnownTime[]): Likeness[] {
    const label = subject.coordinates;
    const vector = label === null ? null : vectorOf(label);
    const all: Likeness[] = [];
    const add = (row: ExpectedRow, more: number, place: Coordinates | null, prior: number): void => {
      all.push({ row, more, place, weight: Math.log(prior) + this.#logLikelihood(row, more, place, known) });
    };
    if (vector !== null) add(this.#model.rowAt(vector, known, subject.id), 0, label, 1);
    for (const [p, peer] of this.#model.peers.entries()) {
      if (peer.id === subject.id) continue;
      const beside = nearness(vector, peer.vector);
      add(this.#model.rowOf(p), PEER_VARIANCE, peer.place, beside + ELSEWHERE / this.#model.peers.length);
    }
    all.sort((a, b) => b.weight - a.weight);
    const likely = all.slice(0, LIKELY_MAX);
    const most = likely[0]?.weight ?? 0;
    let sum = 0;
    for (const one of likely) sum += one.weight = Math.exp(one.weight - most);
    for (const one of likely) one.weight /= sum;
    return likely.filter(({ weight }) => weight >= WEIGHT_MIN);
  }

  #logLikelihood(
    row: ExpectedRow,
    more: number,
    place: Coordinates | null,
    known: readonly KnownTime[],
  ): number {
    const size = known.length;
    if (size === 0) return 0;
    const { squares, logDeterminant } = this.#fit(row, more, known);
    let tooFast = 0;
    for (const { site, rttMs } of known) {
      const { coordinates } = this.#sites[site] as ProbeSite<C>;
      if (place !== null && coordinates !== null && isTooFast(rttMs, place, coordinates)) tooFast += TOO_FAST;
    }
    return -((FREEDOM + size) * Math.log1p(squares / FREEDOM) + logDeterminant) / 2 - tooFast;
  }
}

function nearness(a: Vector | null, b: Vector | null): number {
  return a === null || b === null ? 0 : Math.exp(-kmBetween(a, b) / LABEL_KM);
}

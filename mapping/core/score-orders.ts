import { type TrafficClass, trafficClasses } from "#kit";
import type { EstimateRows } from "./estimate-rows.ts";
import type { Estimate } from "./estimator.ts";
import { type Score, SCORE_MAX, type ScoreParameters, scoreOf } from "./score.ts";

/** What a score says of a cluster itself, by number. */
export interface ScoredCluster {
  /** Observed load, >= 0. */
  readonly load: number;
  readonly pricePerGb: number;
  /** What operators multiply its scores with. */
  readonly factor: number;
  readonly isInService: boolean;
}

/** `score` is `factor` (what operators say) times the sum of the terms. */
export interface ExplainedScore extends Score {
  readonly factor: number;
  /** False: it stands behind all that are, whatever its score. */
  readonly isInService: boolean;
}

/** Added to clusters that can take nobody: they stay in the order, at its end, for when all others are gone. */
export const OUT_OF_SERVICE_PRICE = 1e6;
/** Scores are kept to a thousandth: a snapshot is shorter and its diffs are free of the last bits. */
const STEPS = 1e3;
const PLACES = 2 ** 16;
/** What is made larger gets so many times what it needs. */
const GROWTH = 1.1;

/** For each row and class the row's clusters by score, best first, ties by number. Order `row * classes + k` is that of class `k`. */
export class ScoreOrders {
  readonly #rows: EstimateRows;
  readonly #clusters: readonly ScoredCluster[];
  readonly #parameters: readonly ScoreParameters[];
  #scored = 0;
  /** Clusters and scores of all orders, one after the other; as many for each row and class as the row has entries. Behind them may be room. */
  clusters: Uint16Array;
  scores: Float32Array;
  /** Order `o` lies from `begins[o]` up to `begins[o + 1]`. */
  begins: Uint32Array;

  constructor(
    rows: EstimateRows,
    clusters: readonly ScoredCluster[],
    parameters: Readonly<Record<TrafficClass, ScoreParameters>>,
  ) {
    this.#rows = rows;
    this.#clusters = clusters;
    this.#parameters = trafficClasses.map((trafficClass) => parameters[trafficClass]);
    const size = (rows.offsets[rows.rows] as number) * trafficClasses.length;
    this.clusters = new Uint16Array(size);
    this.scores = new Float32Array(size);
    this.begins = new Uint32Array(rows.rows * trafficClasses.length + 1);
    this.#setBegins(0);
    this.#scoreRows();
  }

  /** Scores the rows that have come since. There is room for some more, so that a death copies nothing. */
  extend(): void {
    const { offsets, rows } = this.#rows;
    if (rows === this.#scored) return;
    const size = (offsets[rows] as number) * trafficClasses.length;
    if (size > this.clusters.length) {
      const { clusters, scores } = this;
      this.clusters = new Uint16Array(Math.ceil(size * GROWTH));
      this.clusters.set(clusters);
      this.scores = new Float32Array(Math.ceil(size * GROWTH));
      this.scores.set(scores);
    }
    if (rows * trafficClasses.length >= this.begins.length) {
      const { begins } = this;
      this.begins = new Uint32Array(Math.ceil(rows * trafficClasses.length * GROWTH) + 1);
      this.begins.set(begins);
    }
    this.#setBegins(this.#scored);
    this.#scoreRows();
  }

  /** The score by which a cluster is ranked: with what operators say of it, and behind all others when it is out of service. */
  ranked(score: number, cluster: number): number {
    const { factor, isInService } = this.#clusters[cluster] as ScoredCluster;
    return Math.min(SCORE_MAX, score * factor) + (isInService ? 0 : OUT_OF_SERVICE_PRICE);
  }

  /** By class, what the score of a cluster is the sum of; for people. */
  explain(estimate: Estimate, cluster: number): ExplainedScore[] {
    const { load, pricePerGb, factor, isInService } = this.#clusters[cluster] as ScoredCluster;
    return this.#parameters.map((parameters): ExplainedScore => {
      const { score, terms } = scoreOf({ ...estimate, load, pricePerGb }, parameters);
      return { terms, factor, isInService, score: Math.min(SCORE_MAX, score * factor) };
    });
  }

  /** The score of a cluster that an order may not have. */
  scoreOf(estimate: Estimate, cluster: number, trafficClass: number): number {
    const { load, pricePerGb } = this.#clusters[cluster] as ScoredCluster;
    const input = { ...estimate, load, pricePerGb };
    const { score } = scoreOf(input, this.#parameters[trafficClass] as ScoreParameters);
    return Math.round(this.ranked(score, cluster) * STEPS) / STEPS;
  }

  /** Where order `order` begins in `clusters` and `scores`. */
  begin(order: number): number {
    return this.begins[order] as number;
  }

  /** Where it ends. */
  end(order: number): number {
    return this.begins[order + 1] as number;
  }

  /** Of the rows from `from` on. */
  #setBegins(from: number): void {
    const { offsets, rows } = this.#rows;
    const { begins } = this;
    const classes = trafficClasses.length;
    for (let row = from; row < rows; row++) {
      const start = offsets[row] as number;
      const length = (offsets[row + 1] as number) - start;
      for (let k = 0; k < classes; k++) begins[row * classes + k] = start * classes + k * length;
    }
    begins[rows * classes] = (offsets[rows] as number) * classes;
  }

  #scoreRows(): void {
    while (this.#scored < this.#rows.rows) this.#score(this.#scored++);
  }

  #score(row: number): void {
    const { offsets, clusters } = this.#rows;
    const start = offsets[row] as number;
    const length = (offsets[row + 1] as number) - start;
    // Score and place in the row in one float, which sorts natively.
    const keys = new Float64Array(length);
    for (const [k, parameters] of this.#parameters.entries()) {
      for (let n = 0; n < length; n++) keys[n] = this.#stepsOf(start + n, parameters) * PLACES + n;
      keys.sort();
      const begin = start * trafficClasses.length + k * length;
      for (let n = 0; n < length; n++) {
        const key = keys[n] as number;
        const place = key % PLACES;
        this.clusters[begin + n] = clusters[start + place] as number;
        this.scores[begin + n] = (key - place) / PLACES / STEPS;
      }
    }
  }

  #stepsOf(entry: number, parameters: ScoreParameters): number {
    const { rttMs, spreadMs, lossRatio, confidence, freshness, throughputBps, clusters } = this.#rows;
    const cluster = clusters[entry] as number;
    const { load, pricePerGb } = this.#clusters[cluster] as ScoredCluster;
    const { score } = scoreOf(
      {
        rttMs: rttMs[entry] as number,
        spreadMs: spreadMs[entry] as number,
        lossRatio: lossRatio[entry] as number,
        confidence: confidence[entry] as number,
        freshness: freshness[entry] as number,
        throughputBps: throughputBps[entry],
        load,
        pricePerGb,
      },
      parameters,
    );
    return Math.round(this.ranked(score, cluster) * STEPS);
  }
}

/**
 * The score: what sending a client network to a cluster costs for a traffic class. Unitless, lower is better, comparable
 * only within one class. One pure function, so that maps, `isochrone where` and evaluations cannot disagree.
 */
import { number, object, type Parsed, refine, type TrafficClass } from "#kit";

const weight = () => number({ min: 0, max: 100 });

/** The knobs of one class. A score is a time in ms where `rttWeight` is 1. */
const parameters = object({
  /** Cost of one ms of round-trip time. */
  rttWeight: weight(),
  /** Cost of one ms of spread: a steady path over one that is as short but jumps. */
  spreadWeight: weight(),
  /**
   * Cost of loss for short exchanges: loss ratio times the wait for a retransmission (`RTO_FLOOR_MS` + rtt), times this.
   * 1: one round trip at risk a request.
   */
  lossWeight: weight(),
  /**
   * Cost of slow transfers: `THROUGHPUT_COST_BPS` over the throughput, times this. Where none was measured it is predicted from
   * rtt * sqrt(lossRatio), which is in inverse proportion to what a loss-driven sender reaches (Mathis, Semke, Mahdavi, Ott, "The
   * macroscopic behavior of the TCP congestion avoidance algorithm", CCR 27(3), 1997).
   */
  throughputWeight: weight(),
  /** Cost of a cluster at full load, ms; grows with the square of what lies above `loadKnee`. */
  loadWeightMs: number({ min: 0, max: 10_000, unit: "ms" }),
  /** Load below which it costs nothing, so that ordinary traffic moves nobody. */
  loadKnee: number({ min: 0, max: 0.99 }),
  /** Cost of too few samples: (1 - confidence of fresh samples) times rtt, times this. 2: a pure guess must be a third of what a measurement says. */
  doubtWeight: weight(),
  /**
   * Cost of old samples: what age has taken off the confidence, times rtt, times this. `confidence` is the product of what the
   * samples were worth when they were new and of what is left of that (`freshness`); the first factor pays doubt, the second one age, so
   * nothing is paid twice, and with equal weights the two add up to doubt about `confidence` as a whole. At most `doubtWeight`: an old
   * measurement is never worse than none.
   */
  ageWeight: weight(),
  /** Cost of one unit of money a gigabyte, ms: what a saving is worth in time. */
  priceWeightMs: number({ min: 0, max: 1e6, unit: "ms for one unit a GB" }),
});
export const scoreParameters = refine(parameters, ({ ageWeight, doubtWeight }) =>
  ageWeight <= doubtWeight
    ? undefined
    : { at: ["ageWeight"], value: ageWeight, expected: `at most doubtWeight (${doubtWeight})` },
);
export type ScoreParameters = Parsed<typeof scoreParameters>;

export const scoreDefaults: Readonly<Record<TrafficClass, ScoreParameters>> = {
  // Pages: round trips count, a lost packet costs one wait.
  interactive: scoreParameters.parse({
    rttWeight: 1,
    spreadWeight: 0.1,
    lossWeight: 1,
    throughputWeight: 0,
    loadWeightMs: 100,
    loadKnee: 0.8,
    doubtWeight: 2,
    ageWeight: 2,
    priceWeightMs: 20,
  }),
  // Downloads: throughput counts; distance matters through loss, a loaded cluster is worse than a far one, and bytes have a price.
  bulk: scoreParameters.parse({
    rttWeight: 0.3,
    spreadWeight: 0,
    lossWeight: 0,
    throughputWeight: 3,
    loadWeightMs: 300,
    loadKnee: 0.7,
    doubtWeight: 0.5,
    ageWeight: 0.5,
    priceWeightMs: 500,
  }),
  // Live streams: segments in time, so both, and steadiness.
  live: scoreParameters.parse({
    rttWeight: 0.7,
    spreadWeight: 0.5,
    lossWeight: 2,
    throughputWeight: 1.5,
    loadWeightMs: 200,
    loadKnee: 0.75,
    doubtWeight: 0.7,
    ageWeight: 0.7,
    priceWeightMs: 200,
  }),
};

/** Lowest retransmission timeout of common senders, ms (Linux TCP_RTO_MIN). */
const RTO_FLOOR_MS = 200;
/** A path that loses more than this carries no page: whatever the class, it comes after every path that works. */
const UNUSABLE_LOSS_RATIO = 0.5;
const UNUSABLE_COST = 10_000;
/**
 * Throughput at which it costs 1: with it the cost by a measurement is that by Mathis et al., rtt * sqrt(loss) = MSS * C / throughput, with an
 * MSS of 1460 bytes and C = sqrt(3 / 2) (every packet acknowledged, loss at random), in ms.
 */
const THROUGHPUT_COST_BPS = 1_460 * 8 * Math.sqrt(3 / 2) * 1_000;

/** No input may make a score that the snapshot's schema refuses. */
export const SCORE_MAX = 1e8;

export interface ScoreInput {
  readonly rttMs: number;
  readonly spreadMs: number;
  /** 0..1. */
  readonly lossRatio: number;
  /** Demand over capacity, >= 0; above 1 is overload. */
  readonly load: number;
  /** 0..1. */
  readonly confidence: number;
  /** What age has left of the confidence, 0..1; 1 unless given. */
  readonly freshness?: number;
  /** Measured, > 0; undefined or 0: to be predicted. */
  readonly throughputBps?: number | undefined;
  /** Of the cluster, with the contracts that it falls under, >= 0; 0 unless given. */
  readonly pricePerGb?: number;
}

export interface Score {
  readonly score: number;
  /** The addends of `score`. */
  readonly terms: {
    readonly rtt: number;
    readonly spread: number;
    readonly loss: number;
    readonly throughput: number;
    readonly load: number;
    readonly doubt: number;
    readonly age: number;
    readonly price: number;
  };
}

/**
 * Scores one cluster. Never below 0, never decreasing in rtt, spread, loss, load and price, never increasing in confidence, freshness and
 * measured throughput.
 * Throws RangeError on an input that is not a finite number of its range: a NaN must not decide anything.
 */
export function scoreOf(input: ScoreInput, parameters: ScoreParameters): Score {
  const {
    rttMs,
    spreadMs,
    lossRatio,
    load,
    confidence,
    freshness = 1,
    throughputBps = 0,
    pricePerGb = 0,
  } = input;
  if (
    !(
      rttMs >= 0 &&
      rttMs < Infinity &&
      spreadMs >= 0 &&
      spreadMs < Infinity &&
      load >= 0 &&
      load < Infinity &&
      throughputBps >= 0 &&
      pricePerGb >= 0 &&
      pricePerGb < Infinity
    ) ||
    !(
      lossRatio >= 0 &&
      lossRatio <= 1 &&
      confidence >= 0 &&
      confidence <= 1 &&
      freshness >= 0 &&
      freshness <= 1
    )
  )
    throw new RangeError(
      `Cannot score rtt ${rttMs} ms, spread ${spreadMs} ms, loss ${lossRatio}, load ${load}, confidence ${confidence}, freshness ${freshness}, throughput ${throughputBps} bit/s, price ${pricePerGb}: all are finite and >= 0, ratios 0..1`,
    );
  const aboveKnee = Math.max(0, load - parameters.loadKnee) / (1 - parameters.loadKnee);
  const unusable = lossRatio > UNUSABLE_LOSS_RATIO ? UNUSABLE_COST * (1 + lossRatio) : 0;
  // What the samples were worth when they were new; the rest of the doubt is age.
  const fresh = freshness === 0 ? 0 : Math.min(1, confidence / freshness);
  const slowness = throughputBps > 0 ? THROUGHPUT_COST_BPS / throughputBps : rttMs * Math.sqrt(lossRatio);
  const terms = {
    rtt: parameters.rttWeight * rttMs,
    spread: parameters.spreadWeight * spreadMs,
    loss: parameters.lossWeight * lossRatio * (RTO_FLOOR_MS + rttMs) + unusable,
    throughput: parameters.throughputWeight * slowness,
    load: parameters.loadWeightMs * aboveKnee ** 2,
    doubt: parameters.doubtWeight * (1 - fresh) * rttMs,
    age: parameters.ageWeight * fresh * (1 - freshness) * rttMs,
    price: parameters.priceWeightMs * pricePerGb,
  };
  let sum = terms.rtt + terms.spread + terms.loss + terms.throughput;
  sum += terms.load + terms.doubt + terms.age + terms.price;
  return { score: Math.min(sum, SCORE_MAX), terms };
}

/** What the scores of one client network rest on, as a mapper answers and `isochrone where` prints: measured, remembered or borrowed, and from whom. */
import {
  array,
  boolean,
  type ClientNetworkId,
  type ClusterId,
  id,
  integer,
  nullable,
  number,
  object,
  oneOf,
  type Parsed,
  string,
} from "#kit";
import type { NetworkEstimate } from "./engine-events.ts";
import type { EstimateSource } from "./network-rows.ts";

const sources = [
  "measured",
  "inherited",
  "last-hop",
  "as-and-city",
  "prefix",
  "nearby",
  "geography",
] as const satisfies readonly EstimateSource[];

/** What a score is the sum of, in units of the score, and what operators multiply the sum with. */
const reportedScore = object({
  terms: object({
    rtt: number(),
    spread: number(),
    loss: number(),
    throughput: number(),
    load: number(),
    doubt: number(),
    age: number(),
    price: number(),
  }),
  factor: number(),
  /** False: it stands behind all that are, whatever its score. */
  isInService: boolean(),
  score: number(),
});

const reportedEstimate = object({
  clusterId: id<ClusterId>(),
  rttMs: number(),
  spreadMs: number(),
  lossRatio: number(),
  confidence: number(),
  /** Since the newest own sample, ms; null: there is none. */
  ageMs: nullable(number()),
  /** Own samples in it; 0 for what is not measured. */
  samples: integer(),
  source: oneOf(sources),
  /** Client networks and clusters, those that count most first; at most {@link LENDERS_MAX}. */
  lenders: array(string()),
  /** Other clusters whose own measurements have corrected what was borrowed. */
  correctedBy: integer(),
  /** Null: the mapper has made no map since networks or clusters have changed. */
  scores: nullable(object({ interactive: reportedScore, bulk: reportedScore, live: reportedScore })),
});

/** `/.isochrone/estimates` of a mapper. */
export const estimateReport = object({
  clientNetworkId: id<ClientNetworkId>(),
  estimates: array(reportedEstimate),
});
export type EstimateReport = Parsed<typeof estimateReport>;

const LENDERS_MAX = 16;

export function reportEstimates(
  clientNetworkId: ClientNetworkId,
  estimates: readonly NetworkEstimate[],
): EstimateReport {
  return {
    clientNetworkId,
    estimates: estimates.map(({ clusterId, estimate, source, lenders, correctedBy, scores }) => ({
      clusterId,
      rttMs: estimate.rttMs,
      spreadMs: estimate.spreadMs,
      lossRatio: estimate.lossRatio,
      confidence: estimate.confidence,
      ageMs: Number.isFinite(estimate.ageMs) ? estimate.ageMs : null,
      samples: estimate.samples,
      source,
      lenders: lenders.slice(0, LENDERS_MAX),
      correctedBy,
      scores: scoresOf(scores),
    })),
  };
}

function scoresOf([
  interactive,
  bulk,
  live,
]: NetworkEstimate["scores"]): EstimateReport["estimates"][number]["scores"] {
  return interactive === undefined || bulk === undefined || live === undefined
    ? null
    : { interactive, bulk, live };
}

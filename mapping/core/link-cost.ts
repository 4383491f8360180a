/** What a link between two clusters costs, by the terms of `score.ts`: the same for parents and for paths. */
import type { LinkEstimate } from "./link-table.ts";
import { scoreOf, scoreParameters } from "./score.ts";

/**
 * A miss is one exchange, and a parent at full load waits as an edge does. Without weights for doubt a guess costs what it says: paths
 * have a surcharge of their own for it, and of parents one has to be asked. Half of the round trip for what is nearly forgotten.
 */
const parameters = scoreParameters.parse({
  rttWeight: 1,
  spreadWeight: 0,
  lossWeight: 1,
  throughputWeight: 0,
  loadWeightMs: 100,
  loadKnee: 0.8,
  doubtWeight: 0.5,
  ageWeight: 0.5,
  priceWeightMs: 0,
});

export interface LinkCost {
  readonly rttMs: number;
  readonly lossMs: number;
  readonly ageMs: number;
  /** Of the cluster at the far end. */
  readonly loadMs: number;
}

/** @param load of the cluster at the far end, over capacity, >= 0; 0: unknown, or it does not count */
export function linkCost({ rttMs, lossRatio, freshness }: LinkEstimate, load = 0): LinkCost {
  const { terms } = scoreOf(
    { rttMs, spreadMs: 0, lossRatio, load, confidence: freshness, freshness },
    parameters,
  );
  // What has no freshness left is worth as little as a guess: that much it may cost.
  return { rttMs: terms.rtt, lossMs: terms.loss, ageMs: terms.age + terms.doubt, loadMs: terms.load };
}

export function sumOfCost({ rttMs, lossMs, ageMs, loadMs }: LinkCost): number {
  return rttMs + lossMs + ageMs + loadMs;
}

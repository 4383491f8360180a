/** What to expect of a pair that was never measured, given what was measured of the same client network. */
import { quantile } from "#kit";
import type { Estimate } from "./estimator.ts";

/** A site that the client network was measured against. */
export interface MeasuredSite<C> {
  readonly clusterId: C;
  readonly rttMs: number;
  /** What geography alone would have said of it, ms. */
  readonly guessMs: number;
}

/** A network that is this much slower than geography everywhere has a bad access or a wrong label; more is not inferred. */
const SLOWER_RATIO_MAX = 10;

/**
 * Corrects a guess from geography. Where the network is slower than geography says to the sites that were measured (median), it
 * will be slower here too; and the travel time is at least the difference between its way to a measured site and that
 * site's way here (triangle inequality). Without measurements the guess stands. Confidence stays that of a guess.
 *
 * @param siteRttMs measured round trip between two sites, ms; undefined: unmeasured
 */
export function guessUnmeasured<C, E extends Estimate>(
  guess: E,
  clusterId: C,
  measured: readonly MeasuredSite<C>[],
  siteRttMs: (a: C, b: C) => number | undefined,
): E {
  if (measured.length === 0) return guess;
  const ratios = measured.map(({ rttMs, guessMs }) => rttMs / Math.max(guessMs, 1)).sort((a, b) => a - b);
  let rttMs = guess.rttMs * Math.min(SLOWER_RATIO_MAX, Math.max(1, quantile(ratios, 0.5)));
  for (const site of measured) {
    const between = siteRttMs(site.clusterId, clusterId);
    if (between !== undefined) rttMs = Math.max(rttMs, Math.abs(site.rttMs - between));
  }
  return { ...guess, rttMs };
}

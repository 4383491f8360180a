/**
 * What speaks against the part of a map that edges and transport use; they do not decode its client networks. Who answers clients, and who
 * publishes, asks more (`snapshotProblems` of mapping), and this among it: nobody refuses what was published with good reason.
 */
import type { MapSnapshot } from "./map-snapshot.ts";

export type RouteProblemReason = "paths-emptied" | "paths-all-zero" | "mostly-suspended";

export interface RouteProblem {
  readonly reason: RouteProblemReason;
  /** One sentence with the figures. */
  readonly detail: string;
}

/** Of clusters and of figures: more than this share is more likely a fault of ours than the state of the world. */
const ABSURD_RATIO = 0.5;
/** Fewer figures than this prove nothing by being alike. */
const FIGURES_MIN = 4;
/** A map in force that is older says little of what the next one must be like, ms. */
const COMPARED_AGE_MS_MAX = 3_600_000;

/** The map in force, where the next one may be measured by it: not when an operator takes responsibility, nor when it is an hour old. */
export function comparedWith(next: MapSnapshot, inForce: MapSnapshot | undefined): MapSnapshot | undefined {
  const isAccepted = next.isChangeAccepted === true || next.reason === "rollback";
  return isAccepted || next.createdAtEpochMs - (inForce?.createdAtEpochMs ?? 0) > COMPARED_AGE_MS_MAX
    ? undefined
    : inForce;
}

/** Empty: nothing. @param inForce what it is to replace; without it only the laws that need none are asked */
export function routeProblems(next: MapSnapshot, inForce: MapSnapshot | undefined): RouteProblem[] {
  const problems: RouteProblem[] = [];
  if (next.paths.length === 0 && (inForce?.paths.length ?? 0) > 0)
    problems.push({
      reason: "paths-emptied",
      detail: `it has no path between clusters, the one in force has ${inForce?.paths.length}`,
    });
  const clusters = new Set<string>(Object.keys(next.suspended));
  let figures = 0;
  let zeros = 0;
  for (const { fromClusterId, toClusterId, candidates } of next.paths) {
    clusters.add(fromClusterId).add(toClusterId);
    figures += candidates.length;
    for (const { rttMs } of candidates) if (rttMs === 0) zeros++;
  }
  if (figures >= FIGURES_MIN && zeros > figures * ABSURD_RATIO)
    problems.push({
      reason: "paths-all-zero",
      detail: `${zeros} of ${figures} paths have a travel time of 0`,
    });
  const suspended = Object.values(next.suspended).filter(Boolean).length;
  if (next.paths.length > 0 && suspended > clusters.size * ABSURD_RATIO)
    problems.push({
      reason: "mostly-suspended",
      detail: `${suspended} of ${clusters.size} clusters are suspended`,
    });
  return problems;
}

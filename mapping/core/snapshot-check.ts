/**
 * The last question before a map is published: could this be? A map that has lost most of its client networks, or sends all
 * of them to one place, is more likely a fault of ours than the state of the world; the last good one stays in force.
 */
import { type ClientNetworkEntry, type MapSnapshot, type RankedCluster, trafficClasses } from "#kit";

export type SnapshotProblemReason =
  | "version-not-newer"
  | "emptied"
  | "shrunk"
  | "prefixes-shrunk"
  | "fewer-clusters"
  | "one-cluster-for-all"
  | "mostly-suspended"
  | "metric-not-a-number"
  | "metric-all-zero";

export interface SnapshotProblem {
  readonly reason: SnapshotProblemReason;
  /** One sentence with the figures. */
  readonly detail: string;
}

/** A change of more than this share is absurd: deployments do not halve between two cycles. */
const SHRINK_RATIO_MIN = 0.5;
/** Below this number of first choices "one for all" is no surprise: one of two may well be gone. */
const FIRST_CHOICES_MIN = 3;

/**
 * What speaks against `next`; empty: nothing. Without a previous snapshot only the laws that need none are asked.
 * The schema is another matter: this looks at parsed snapshots and at ones that the engine has just made.
 */
export function snapshotProblems(next: MapSnapshot, previous: MapSnapshot | undefined): SnapshotProblem[] {
  const problems: SnapshotProblem[] = [];
  const refuse = (reason: SnapshotProblemReason, detail: string): void =>
    void problems.push({ reason, detail });

  if (next.clientNetworks.length === 0) refuse("emptied", "it has no client network");
  let zeros = 0;
  let entries = 0;
  let bad: string | undefined;
  for (const [where, ranking] of rankings(next)) {
    for (const { clusterId, score, terms } of ranking) {
      entries++;
      if (terms.rttMs === 0 || score === 0) zeros++;
      for (const value of [score, terms.rttMs, terms.lossRatio, terms.load, terms.confidence])
        if (!(value >= 0 && value < Infinity))
          bad ??= `cluster "${clusterId}" for ${where} has a metric of ${value}`;
    }
    if (ranking.length === 0) bad ??= `${where} has no cluster`;
  }
  if (bad !== undefined) refuse("metric-not-a-number", bad);
  if (entries > 0 && zeros > entries * SHRINK_RATIO_MIN)
    refuse("metric-all-zero", `${zeros} of ${entries} rankings have a travel time or score of 0`);

  const ranked = clusterCount(next);
  const suspended = Object.values(next.suspended).filter(Boolean).length;
  if (ranked >= 2 && suspended > ranked * SHRINK_RATIO_MIN)
    refuse("mostly-suspended", `${suspended} of ${ranked} clusters are suspended`);
  if (previous === undefined) return problems;

  if (next.mapVersion <= previous.mapVersion)
    refuse(
      "version-not-newer",
      `it has version ${next.mapVersion}, the one in force has ${previous.mapVersion}`,
    );
  const shrunk = (reason: SnapshotProblemReason, what: string, now: number, before: number): void => {
    if (now < before * SHRINK_RATIO_MIN)
      refuse(reason, `it has ${now} ${what}, the one in force has ${before}`);
  };
  shrunk("shrunk", "client networks", next.clientNetworks.length, previous.clientNetworks.length);
  shrunk("prefixes-shrunk", "prefixes", prefixCount(next), prefixCount(previous));
  shrunk("fewer-clusters", "clusters", ranked, clusterCount(previous));

  for (const trafficClass of trafficClasses) {
    const first = (network: ClientNetworkEntry): string | undefined =>
      network.clusters[trafficClass][0]?.clusterId;
    const before = new Set(previous.clientNetworks.map(first));
    const now = new Set(next.clientNetworks.map(first));
    if (before.size >= FIRST_CHOICES_MIN && now.size === 1 && ranked - suspended > 1) {
      refuse(
        "one-cluster-for-all",
        `every client network is sent to "${[...now][0]}" for ${trafficClass}, before they went to ${before.size} clusters`,
      );
      break;
    }
  }
  return problems;
}

/** Clusters that some ranking names. A ranking alone may be cut short. */
function clusterCount(snapshot: MapSnapshot): number {
  const named = new Set(Object.keys(snapshot.suspended));
  for (const [, ranking] of rankings(snapshot)) for (const { clusterId } of ranking) named.add(clusterId);
  return named.size;
}

function prefixCount(snapshot: MapSnapshot): number {
  return snapshot.clientNetworks.reduce((sum, network) => sum + network.prefixes.length, 0);
}

function* rankings(snapshot: MapSnapshot): Generator<readonly [string, readonly RankedCluster[]]> {
  for (const network of snapshot.clientNetworks)
    for (const trafficClass of trafficClasses)
      yield [`client network "${network.clientNetworkId}", ${trafficClass}`, network.clusters[trafficClass]];
  for (const trafficClass of trafficClasses)
    yield [`the fallback, ${trafficClass}`, snapshot.fallback[trafficClass]];
}

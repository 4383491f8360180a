/**
 * Where a resolver is best sent whose queries tell nothing of its clients (no ECS): client-aware name-server mapping of Chen,
 * Sitaraman and Torres, "End-User Mapping: Next Generation Request Routing for Content Delivery", SIGCOMM 2015. The answer is the one that
 * costs the clients behind the resolver least, weighted by how much each of them asks; where the resolver itself stands plays no part.
 */
import {
  type ClientNetworkEntry,
  type ClientNetworkId,
  type ClusterId,
  type RankedCluster,
  type ResolverEntry,
  type TrafficClass,
  trafficClasses,
} from "#kit";
import { rounded } from "./link-table.ts";
import type { ResolverEvidence } from "./resolver-pairs.ts";

/** The ranking of one client network, and how much of a resolver's demand is its. */
export interface ResolverClient {
  /** Above 0; only the ratio to the others counts. */
  readonly weight: number;
  /** Best first; at least one. */
  readonly ranking: readonly RankedCluster[];
}

interface Sum {
  score: number;
  rttMs: number;
  lossRatio: number;
  confidence: number;
  /** Of the rankings that name the cluster. */
  weight: number;
  load: number;
}

/**
 * The order of clusters by the mean of their scores over the clients, weighted. A ranking that does not name a cluster says that it costs at least
 * what its last one costs: that is what it counts with. Terms are the means over the rankings that name the cluster. Ties by id. Empty without clients.
 */
export function clientAwareRanking(clients: readonly ResolverClient[], rankingMax: number): RankedCluster[] {
  const sums = new Map<ClusterId, Sum>();
  let weights = 0;
  let lastScores = 0;
  for (const { weight, ranking } of clients) {
    const lastScore = ranking.at(-1)?.score;
    if (lastScore === undefined) continue;
    weights += weight;
    lastScores += weight * lastScore;
    for (const { clusterId, score, terms } of ranking) {
      let sum = sums.get(clusterId);
      if (sum === undefined) {
        sum = { score: 0, rttMs: 0, lossRatio: 0, confidence: 0, weight: 0, load: 0 };
        sums.set(clusterId, sum);
      }
      // What it is better by than the last one: so those that do not name it need not be visited.
      sum.score += weight * (score - lastScore);
      sum.rttMs += weight * terms.rttMs;
      sum.lossRatio += weight * terms.lossRatio;
      sum.confidence += weight * terms.confidence;
      sum.weight += weight;
      sum.load = Math.max(sum.load, terms.load);
    }
  }
  return [...sums]
    .map(
      ([clusterId, sum]): RankedCluster => ({
        clusterId,
        score: rounded(Math.max(0, (sum.score + lastScores) / weights)),
        terms: {
          rttMs: rounded(sum.rttMs / sum.weight),
          lossRatio: rounded(sum.lossRatio / sum.weight, 1e5),
          load: sum.load,
          // Of clients that do not name it nothing is known.
          confidence: rounded(sum.confidence / weights),
        },
      }),
    )
    .sort((a, b) => a.score - b.score || (a.clusterId < b.clusterId ? -1 : 1))
    .slice(0, rankingMax);
}

/**
 * What a map holds of resolvers: for each of which enough is known, the ranking for its clients. A client network that the map does not have
 * plays no part; a resolver without any that it has is left out.
 *
 * @param evidence heaviest first, as `ResolverTable.evidence` has it; the first `entriesMax` that lead to an entry count
 */
export function resolverEntries(
  evidence: readonly ResolverEvidence[],
  clientNetworkOf: (id: ClientNetworkId) => Pick<ClientNetworkEntry, "clusters"> | undefined,
  rankingMax: number,
  entriesMax: number,
): ResolverEntry[] {
  const entries: ResolverEntry[] = [];
  for (const { address, weight, clients } of evidence) {
    if (entries.length >= entriesMax) break;
    const known = clients.flatMap((client) => {
      const network = clientNetworkOf(client.clientNetworkId);
      return network === undefined ? [] : [{ weight: client.weight, clusters: network.clusters }];
    });
    if (known.length === 0) continue;
    const ranked = (trafficClass: TrafficClass): RankedCluster[] =>
      clientAwareRanking(
        known.map((one) => ({ weight: one.weight, ranking: one.clusters[trafficClass] })),
        rankingMax,
      );
    const clusters = { interactive: ranked("interactive"), bulk: ranked("bulk"), live: ranked("live") };
    // A map's rankings are never empty; a hand-made one may be.
    if (trafficClasses.some((trafficClass) => clusters[trafficClass].length === 0)) continue;
    entries.push({ address, clientNetworks: known.length, weight: rounded(weight), clusters });
  }
  return entries;
}

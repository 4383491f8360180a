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
  /**
   * The round trip that is to be expected to a cluster which the ranking does not name, ms; undefined: nothing is known. A ranking names
   * a few clusters near one client, and what all clients of a resolver have in common may be far from some of them.
   */
  readonly expectedRttMs?: (clusterId: ClusterId) => number | undefined;
}

/** What the order is made from. */
export interface ResolverKnowledge {
  /** Undefined: the map does not have the network. */
  readonly clustersOf: (id: ClientNetworkId) => ClientNetworkEntry["clusters"] | undefined;
  readonly expectedRttMs: (id: ClientNetworkId, clusterId: ClusterId) => number | undefined;
  /** Rankings of the network that the resolver stands in; undefined: none of the map's. */
  readonly ownOf?: (address: string) => ClientNetworkEntry["clusters"] | undefined;
}

/** Clusters that are compared for one resolver, and the clients that they are compared for: bounds the work of one order. */
const CANDIDATES_MAX = 64;
const CLIENTS_MAX = 256;
/**
 * Where the resolver itself would be sent goes first unless another cluster costs its clients less by this share: the best of many clusters of
 * which most is expected and little measured is the one whose times are underrated most. Chosen on seeds 1 and 101 of `isochrone evaluate resolvers`: of 0, 0.1
 * and 0.2 the public resolver's clients do best with 0.1.
 */
const OWN_MARGIN_RATIO = 0.1;
/** Of each client so many at least are candidates, heaviest client first. */
const CANDIDATES_EACH_MIN = 2;

/**
 * The order of clusters by the mean of their scores over the clients, weighted; the heaviest 256 clients and what they rank first count. Where a ranking does not
 * name a cluster, its last score stands, raised as the expected round trip is longer than that of its last cluster: a cluster that one client names is
 * not near to the others for that. What the resolver's own network is sent to goes before what is hardly better. Terms are means too; confidence is of the rankings that name the cluster. Ties by id. Empty without clients.
 */
export function clientAwareRanking(
  some: readonly ResolverClient[],
  rankingMax: number,
  own?: ClusterId,
): RankedCluster[] {
  const clients = some
    .filter(({ ranking }) => ranking.length > 0)
    .sort((a, b) => b.weight - a.weight)
    .slice(0, CLIENTS_MAX)
    .map((client) => ({
      ...client,
      named: new Map(client.ranking.map((entry) => [entry.clusterId, entry])),
    }));
  const weights = clients.reduce((sum, { weight }) => sum + weight, 0);
  if (clients.length === 0) return [];
  const candidates = new Set([...candidatesOf(clients), ...(own === undefined ? [] : [own])]);
  const order = [...candidates]
    .map((clusterId): RankedCluster => {
      const sum = { score: 0, rttMs: 0, lossRatio: 0, confidence: 0, load: 0 };
      for (const { weight, ranking, named, expectedRttMs } of clients) {
        const own = named.get(clusterId);
        const last = ranking.at(-1) as RankedCluster;
        const terms = own?.terms ?? last.terms;
        const rttMs = own ? terms.rttMs : Math.max(terms.rttMs, expectedRttMs?.(clusterId) ?? 0);
        sum.score += weight * (own?.score ?? unnamedScore(last, rttMs));
        sum.rttMs += weight * rttMs;
        sum.lossRatio += weight * terms.lossRatio;
        sum.confidence += own ? weight * terms.confidence : 0;
        if (own) sum.load = Math.max(sum.load, terms.load);
      }
      return {
        clusterId,
        score: rounded(sum.score / weights),
        terms: {
          rttMs: rounded(sum.rttMs / weights),
          lossRatio: rounded(sum.lossRatio / weights, 1e5),
          load: sum.load,
          confidence: rounded(sum.confidence / weights),
        },
      };
    })
    .sort((a, b) => a.score - b.score || (a.clusterId < b.clusterId ? -1 : 1));
  return withOwnFirst(order, own).slice(0, rankingMax);
}

/** It is shown with the best one's score: those that were passed over cost at least what the first one costs. */
function withOwnFirst(order: RankedCluster[], own: ClusterId | undefined): RankedCluster[] {
  const place = order.findIndex(({ clusterId }) => clusterId === own);
  const [best, at] = [order[0], order[place]];
  if (place <= 0 || best === undefined || at === undefined) return order;
  if (best.score < (1 - OWN_MARGIN_RATIO) * at.score) return order;
  return [{ ...at, score: best.score }, ...order.slice(0, place), ...order.slice(place + 1)];
}

/** What a cluster costs that a ranking does not name: no less than its last one. */
export function unnamedScore({ score, terms }: RankedCluster, rttMs: number): number {
  // The score grows with the round trip; by how much is the class's business, and the last entry tells.
  return score * Math.max(1, rttMs / Math.max(1, terms.rttMs));
}

/** What the clients rank first, in turn by rank, so that each has a say before the bound is met. */
function candidatesOf(clients: readonly Pick<ResolverClient, "ranking">[]): ClusterId[] {
  const candidates = new Set<ClusterId>();
  const each = Math.max(CANDIDATES_EACH_MIN, Math.ceil(CANDIDATES_MAX / Math.max(1, clients.length)));
  for (let rank = 0; rank < each; rank++)
    for (const { ranking } of clients) {
      const clusterId = ranking[rank]?.clusterId;
      if (clusterId !== undefined && candidates.size < CANDIDATES_MAX) candidates.add(clusterId);
    }
  return [...candidates];
}

/**
 * What a map holds of resolvers: for each of which enough is known, the ranking for its clients. A client network that the map does not have
 * plays no part; a resolver without any that it has is left out.
 *
 * @param evidence heaviest first, as `ResolverTable.evidence` has it; the first `entriesMax` that lead to an entry count
 */
export function resolverEntries(
  evidence: readonly ResolverEvidence[],
  { clustersOf, expectedRttMs, ownOf }: ResolverKnowledge,
  rankingMax: number,
  entriesMax: number,
): ResolverEntry[] {
  const entries: ResolverEntry[] = [];
  for (const { address, weight, clients } of evidence) {
    if (entries.length >= entriesMax) break;
    const known = clients.slice(0, CLIENTS_MAX).flatMap(({ clientNetworkId, weight: own }) => {
      const clusters = clustersOf(clientNetworkId);
      // The classes ask for the same pairs.
      const asked = new Map<ClusterId, number | undefined>();
      const expected = (clusterId: ClusterId): number | undefined => {
        if (!asked.has(clusterId)) asked.set(clusterId, expectedRttMs(clientNetworkId, clusterId));
        return asked.get(clusterId);
      };
      return clusters === undefined ? [] : [{ weight: own, clusters, expected }];
    });
    if (known.length === 0) continue;
    const own = ownOf?.(address);
    const ranked = (trafficClass: TrafficClass): RankedCluster[] =>
      clientAwareRanking(
        known.map((one) => ({
          weight: one.weight,
          ranking: one.clusters[trafficClass],
          expectedRttMs: one.expected,
        })),
        rankingMax,
        own?.[trafficClass][0]?.clusterId,
      );
    const clusters = { interactive: ranked("interactive"), bulk: ranked("bulk"), live: ranked("live") };
    // A map's rankings are never empty; a hand-made one may be.
    if (trafficClasses.some((trafficClass) => clusters[trafficClass].length === 0)) continue;
    entries.push({ address, clientNetworks: known.length, weight: rounded(weight), clusters });
  }
  return entries;
}

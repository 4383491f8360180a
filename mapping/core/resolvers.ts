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
 * which most is expected and little measured is the one whose times are underrated most. Chosen on seed 1 of `isochrone evaluate resolvers`,
 * 40 sites: of 0, 0.02, 0.05 and 0.1 all users do best with 0.02 (49.2, 49.1, 49.1, 49.2 ms).
 */
const OWN_MARGIN_RATIO = 0.02;
/** Of each client so many at least are candidates, heaviest client first. */
const CANDIDATES_EACH_MIN = 2;

/**
 * The order of clusters by the mean of what they cost the clients ({@link ClientCosts}), weighted; the heaviest 256 clients and what they rank first count. What the
 * resolver's own network is sent to goes before what is hardly better. Terms are means too; confidence is of the rankings that name the
 * cluster. Ties by id. Empty without clients.
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
    .map((client) => ({ ...client, costs: new ClientCosts(client.ranking, client.expectedRttMs) }));
  const weights = clients.reduce((sum, { weight }) => sum + weight, 0);
  if (clients.length === 0) return [];
  const candidates = new Set([...candidatesOf(clients), ...(own === undefined ? [] : [own])]);
  const order = [...candidates]
    .map((clusterId): RankedCluster => {
      const sum = { score: 0, rttMs: 0, lossRatio: 0, confidence: 0, load: 0 };
      for (const { weight, costs } of clients) {
        const named = costs.named(clusterId);
        const { terms } = named ?? costs.last;
        const { score, rttMs } = costs.of(clusterId);
        sum.score += weight * score;
        sum.rttMs += weight * rttMs;
        sum.lossRatio += weight * terms.lossRatio;
        sum.confidence += named ? weight * terms.confidence : 0;
        if (named) sum.load = Math.max(sum.load, terms.load);
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

/** Entries of a ranking that are surer than this rest on measurements: their scores stand. */
const SURE_CONFIDENCE = 0.5;

/**
 * What clusters cost one client. Of a cluster that its ranking does not name, or names by a guess, the round trip is expected from measured
 * ways beside it, and costs what a millisecond costs on the client's own measured ways: the doubt that a guess pays is there to choose
 * among one client's clusters, and would count clients by how little is known of them.
 */
export class ClientCosts {
  readonly #named: ReadonlyMap<ClusterId, RankedCluster>;
  /** Of the ranking. */
  readonly last: RankedCluster;
  readonly #scorePerMs: number;
  readonly #expectedRttMs: ((clusterId: ClusterId) => number | undefined) | undefined;

  /** @param ranking best first; at least one */
  constructor(
    ranking: readonly RankedCluster[],
    expectedRttMs?: (clusterId: ClusterId) => number | undefined,
  ) {
    this.#named = new Map(ranking.map((entry) => [entry.clusterId, entry]));
    this.last = ranking.at(-1) as RankedCluster;
    const sure = ranking.filter(isSure);
    // The least: what does not grow with the round trip (loss, load, price) is in the scores too.
    this.#scorePerMs = Math.min(
      ...(sure.length > 0 ? sure : ranking).map(({ score, terms }) => score / Math.max(1, terms.rttMs)),
    );
    this.#expectedRttMs = expectedRttMs;
  }

  named(clusterId: ClusterId): RankedCluster | undefined {
    return this.#named.get(clusterId);
  }

  of(clusterId: ClusterId): { readonly score: number; readonly rttMs: number } {
    const named = this.#named.get(clusterId);
    if (named !== undefined && isSure(named)) return { score: named.score, rttMs: named.terms.rttMs };
    const rttMs = this.#expectedRttMs?.(clusterId) ?? named?.terms.rttMs ?? this.last.terms.rttMs;
    const score = this.#scorePerMs * Math.max(1, rttMs);
    return { score: named === undefined ? score : Math.min(score, named.score), rttMs };
  }
}

function isSure({ terms }: RankedCluster): boolean {
  return terms.confidence > SURE_CONFIDENCE;
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

/** What orders and scopes of resolvers are made from, of one map. */
import type { ClientNetworkId, ClusterMapTable, Coordinates, Rankings } from "#kit";
import type { ExpectedTimes } from "./expected-times.ts";
import { networkFinder } from "./map-index.ts";
import type { ScopeKnowledge } from "./resolver-scopes.ts";

/** @param requestsPerSecond of all client networks */
export function mapKnowledge(
  table: ClusterMapTable,
  clientPlaces: ReadonlyMap<ClientNetworkId, Coordinates | null>,
  times: ExpectedTimes,
  requestsPerSecond: number,
): ScopeKnowledge {
  const rankings = new Map<ClientNetworkId, Rankings | undefined>();
  const clustersOf = (id: ClientNetworkId): Rankings | undefined => {
    if (!rankings.has(id)) {
      const network = table.networks.indexOf(id);
      rankings.set(id, network === undefined ? undefined : table.rankings(network));
    }
    return rankings.get(id);
  };
  const numberAt = networkFinder(table.networks);
  return {
    ownOf: (address) => {
      const network = numberAt(address);
      return network === undefined ? undefined : table.rankings(network);
    },
    clustersOf,
    expectedRttMs: (id, clusterId) =>
      times.rttMs(clientPlaces.get(id) ?? null, clustersOf(id)?.interactive ?? [], clusterId),
    prefixesOf: (id) => {
      const network = table.networks.indexOf(id);
      return network === undefined ? [] : table.networks.prefixesOf(network);
    },
    requestsPerSecond,
  };
}

/** How widely answers may hold for each resolver that tells its clients' subnets, kept from map to map. */
import {
  type ClientNetworkEntry,
  type ClientNetworkId,
  type ClusterId,
  comparePrefixes,
  formatPrefix,
  type IpFamily,
  type MonotonicMs,
  parsePrefix,
  type RankedCluster,
  type ResolverEntry,
} from "#kit";
import { type QueryModel, queriesPerSecondOf } from "./query-model.ts";
import type { ResolverEvidence } from "./resolver-pairs.ts";
import { ClientCosts, type ResolverKnowledge } from "./resolvers.ts";
import { cutScopes, type ScopeCutCosts, type ScopeLeaf } from "./scope-cut.ts";

export interface ScopeSettings {
  /**
   * What one query more must spare to be asked, ms: the round trips of the look-ups that it serves, summed over them. 0: scopes are as wide as
   * answers are the same, whoever asks. In the world of `isochrone evaluate resolvers` with 1,280 sites 16 spares 7 % of the queries for
   * less than 0.1 ms on the mean; what more of it spares and costs stands in test/bench/results/mapping/report.md.
   */
  readonly queryPriceMs: number;
  /** Look-ups of names that a client network's requests bring about: connections are kept, stubs cache. */
  readonly lookupsPerRequest: number;
  /** What a scope costs in queries. */
  readonly queries: QueryModel;
  /** From one cut to the next, ms: what it rests on changes over hours, and it costs some 20 us a prefix. */
  readonly intervalMs: number;
  /** Resolvers that have scopes of their own, those with the heaviest clients; and the prefixes of their clients in all. */
  readonly resolversMax: number;
  readonly prefixesMax: number;
}

export const scopeDefaults: ScopeSettings = {
  queryPriceMs: 16,
  lookupsPerRequest: 0.1,
  queries: { names: 1_000, zipfExponent: 0.9, ttlSeconds: 20 },
  intervalMs: 600_000,
  resolversMax: 256,
  prefixesMax: 50_000,
};

/** Of one resolver in a map; the rest is answered by the map's own scopes. */
const SCOPES_MAX = 4_096;

type Scopes = NonNullable<ResolverEntry["scopes"]>;

export interface ScopeKnowledge extends ResolverKnowledge {
  readonly prefixesOf: (id: ClientNetworkId) => readonly string[];
  /** Of all client networks. */
  readonly requestsPerSecond: number;
}

/** A client network of a resolver, with what clusters cost it. */
class ScopedNetwork {
  readonly id: ClientNetworkId;
  readonly first: ClusterId;
  readonly #costs: ClientCosts;
  readonly #costMs = new Map<ClusterId, number>();

  constructor(
    id: ClientNetworkId,
    ranking: readonly [RankedCluster, ...RankedCluster[]],
    expectedRttMs: (clusterId: ClusterId) => number | undefined,
  ) {
    this.id = id;
    this.first = ranking[0].clusterId;
    this.#costs = new ClientCosts(ranking, expectedRttMs);
  }

  costMs(clusterId: ClusterId): number {
    let cost = this.#costMs.get(clusterId);
    if (cost === undefined) this.#costMs.set(clusterId, (cost = this.#costs.of(clusterId).score));
    return cost;
  }
}

/** Cuts anew after an interval, or when told that the networks have changed; in between a death or a full cluster moves the network that a scope goes by. */
export class ResolverScopes {
  #settings: ScopeSettings;
  #byResolver: ReadonlyMap<string, Scopes> = new Map();
  #cutAt: MonotonicMs | undefined;
  readonly #queriesPerSecond: (lookupsPerSecond: number) => number;

  /** Throws RangeError for settings that mean nothing. */
  constructor(settings: Partial<ScopeSettings> = {}) {
    this.#settings = checked({ ...scopeDefaults, ...settings });
    this.#queriesPerSecond = queriesPerSecondOf(this.#settings.queries);
  }

  /** Throws RangeError for a price below 0. Cuts anew at the next map. */
  handlePrice(queryPriceMs: number): void {
    this.#settings = checked({ ...this.#settings, queryPriceMs });
    this.#cutAt = undefined;
  }

  /** Networks or clusters have changed. */
  handleChanged(): void {
    this.#cutAt = undefined;
  }

  /** @param evidence heaviest first */
  update(
    evidence: readonly ResolverEvidence[],
    knowledge: ScopeKnowledge,
    now: MonotonicMs,
  ): ReadonlyMap<string, Scopes> {
    const { queryPriceMs, intervalMs, resolversMax, lookupsPerRequest } = this.#settings;
    if (this.#cutAt !== undefined && now - this.#cutAt < intervalMs) return this.#byResolver;
    this.#cutAt = now;
    const weight = evidence.reduce((sum, one) => sum + one.weight, 0);
    const lookupsPerWeight = (knowledge.requestsPerSecond * lookupsPerRequest) / Math.max(weight, 1e-9);
    const byResolver = new Map<string, Scopes>();
    let left = this.#settings.prefixesMax;
    for (const { address, clients } of queryPriceMs === 0 ? [] : evidence.slice(0, resolversMax)) {
      const leaves = leavesOf(clients, knowledge, lookupsPerWeight);
      left -= leaves[4].length + leaves[6].length;
      if (left < 0) break;
      const scopes = [leaves[4], leaves[6]].flatMap((some) => this.#cut(some));
      if (scopes.length > 0) byResolver.set(address, scopes.slice(0, SCOPES_MAX));
    }
    this.#byResolver = byResolver;
    return byResolver;
  }

  #cut(leaves: readonly ScopeLeaf<ScopedNetwork>[]): Scopes {
    const costs: ScopeCutCosts<ScopedNetwork> = {
      firstOf: ({ first }) => first,
      costMs: (network, clusterId) => network.costMs(clusterId),
      queriesPerSecond: this.#queriesPerSecond,
      queryPriceMs: this.#settings.queryPriceMs,
    };
    return cutScopes(leaves, costs).map(({ prefix, network }) => ({
      prefix: formatPrefix(prefix),
      clientNetworkId: network.id,
    }));
  }
}

function checked(settings: ScopeSettings): ScopeSettings {
  const { queryPriceMs, lookupsPerRequest } = settings;
  if (queryPriceMs >= 0 && lookupsPerRequest > 0) return settings;
  throw new RangeError(
    `Scopes need queryPriceMs >= 0 and lookupsPerRequest > 0, got ${queryPriceMs} and ${lookupsPerRequest}`,
  );
}

/** The prefixes of a resolver's clients, sorted; what a network looks up is spread over its prefixes by their size, as nothing better is known. */
function leavesOf(
  clients: ResolverEvidence["clients"],
  { clustersOf, expectedRttMs, prefixesOf }: ScopeKnowledge,
  lookupsPerWeight: number,
): Record<IpFamily, ScopeLeaf<ScopedNetwork>[]> {
  const leaves: Record<IpFamily, ScopeLeaf<ScopedNetwork>[]> = { 4: [], 6: [] };
  for (const { clientNetworkId, weight } of clients) {
    const ranking: ClientNetworkEntry["clusters"]["interactive"] =
      clustersOf(clientNetworkId)?.interactive ?? [];
    const [first, ...others] = ranking;
    if (first === undefined) continue;
    const network = new ScopedNetwork(clientNetworkId, [first, ...others], (clusterId) =>
      expectedRttMs(clientNetworkId, clusterId),
    );
    const prefixes = prefixesOf(clientNetworkId).flatMap((text) => parsePrefix(text) ?? []);
    // A /48 of IPv6 is as much as a /24 of IPv4: a site.
    const sizes = prefixes.map(
      ({ address, prefixLength }) => 2 ** ((address.family === 4 ? 24 : 48) - prefixLength),
    );
    const size = sizes.reduce((sum, one) => sum + one, 0);
    for (const [n, prefix] of prefixes.entries())
      leaves[prefix.address.family].push({
        prefix,
        network,
        lookupsPerSecond: (weight * lookupsPerWeight * (sizes[n] as number)) / size,
      });
  }
  for (const some of [leaves[4], leaves[6]]) some.sort((a, b) => comparePrefixes(a.prefix, b.prefix));
  return leaves;
}

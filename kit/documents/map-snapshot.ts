/**
 * The map: one immutable, versioned snapshot that name servers (cluster map), edges (tier map) and transport (path map)
 * read together, so that all three decide from the same measurements.
 */
import { type ClientNetworkId, type ClusterId, id, type ServerId } from "../ids.ts";
import { formatPrefix, parsePrefix } from "../ip.ts";
import {
  array,
  boolean,
  integer,
  nullable,
  number,
  object,
  oneOf,
  optional,
  type Parsed,
  type Path,
  record,
  refine,
  string,
  text,
} from "../schema.ts";
import { type TrafficClass, trafficClasses } from "./property.ts";
import { addressText } from "./topology.ts";

const rttMs = () => number({ min: 0, max: 60_000, unit: "ms" });
const ratio = () => number({ min: 0, max: 1 });

export function prefixText() {
  return text((value) => {
    const prefix = parsePrefix(value);
    return prefix === undefined ? undefined : formatPrefix(prefix);
  }, 'an address prefix without host bits, such as "192.0.2.0/24"');
}

/** One cluster as seen from one client network; the terms are what `isochrone where` prints. Lower score is better. */
const rankedCluster = object({
  clusterId: id<ClusterId>(),
  score: number({ min: 0, max: 1e9 }),
  terms: object({
    rttMs: rttMs(),
    lossRatio: ratio(),
    /** Demand over capacity of the cluster after allocation. */
    load: number({ min: 0, max: 1e6 }),
    /** 0: guessed from geography, 1: measured often and lately. */
    confidence: ratio(),
  }),
});
export type RankedCluster = Parsed<typeof rankedCluster>;

const ranking = () => array(rankedCluster, { min: 1, max: 64, uniqueBy: (entry) => entry.clusterId });

const clientNetwork = object({
  clientNetworkId: id<ClientNetworkId>(),
  prefixes: array(prefixText(), { min: 1, max: 10_000 }),
  /** Best first, for each traffic class. */
  clusters: object({ interactive: ranking(), bulk: ranking(), live: ranking() } satisfies Record<
    TrafficClass,
    unknown
  >),
});
export type ClientNetworkEntry = Parsed<typeof clientNetwork>;

/** A resolver whose queries tell nothing of its clients, with the order of clusters for the clients that are known to be behind it. */
const resolver = object({
  address: addressText(),
  /** How many client networks the order was made for. */
  clientNetworks: integer({ min: 1 }),
  /** What that rests on: pairs of resolver and client that were seen, the older ones counting less. */
  weight: number({ min: 0, max: 1e15 }),
  clusters: object({ interactive: ranking(), bulk: ranking(), live: ranking() } satisfies Record<
    TrafficClass,
    unknown
  >),
});
export type ResolverEntry = Parsed<typeof resolver>;

/** For one edge cluster and one origin cluster (or "any"): parent clusters, best first. */
const tierEntry = object({
  edgeClusterId: id<ClusterId>(),
  originClusterId: nullable(id<ClusterId>()),
  parents: array(object({ clusterId: id<ClusterId>(), costMs: rttMs() }), { max: 16 }),
});
export type TierEntry = Parsed<typeof tierEntry>;

/** Candidate paths for an ordered pair of clusters, cheapest first; `via` null is the direct path. */
const pathEntry = object({
  fromClusterId: id<ClusterId>(),
  toClusterId: id<ClusterId>(),
  candidates: array(object({ via: nullable(id<ClusterId>()), rttMs: rttMs(), lossRatio: ratio() }), {
    min: 1,
    max: 8,
  }),
});
export type PathEntry = Parsed<typeof pathEntry>;

export const mapSnapshot = refine(
  object({
    /** Grows by one with each snapshot; control numbers the document as well, this one is the engine's own. */
    mapVersion: integer({ min: 1 }),
    createdAtEpochMs: integer(),
    /** Why it was made: the cycle, a change that bypassed it, a new publisher's first one, an operator's return to an older one. */
    reason: oneOf(["cycle", "liveness", "topology", "overrides", "first", "takeover", "rollback"]),
    /** Who published it, in which term of control's lease; absent: without an election (evaluations, tests, older versions). */
    publication: optional(object({ term: integer({ min: 1, max: 1e12 }), publisherId: string({ max: 63 }) })),
    clientNetworks: array(clientNetwork, {
      min: 1,
      max: 500_000,
      uniqueBy: (entry) => entry.clientNetworkId,
    }),
    /** Order for addresses that no client network holds. */
    fallback: object({ interactive: ranking(), bulk: ranking(), live: ranking() } satisfies Record<
      TrafficClass,
      unknown
    >),
    /** For queries without ECS; a resolver that is not named is like any address of its client network. */
    resolvers: optional(array(resolver, { max: 100_000, uniqueBy: (entry) => entry.address })),
    tiers: array(tierEntry, { max: 100_000 }),
    paths: array(pathEntry, { max: 1_000_000 }),
    /** Clusters that the engine holds to be dead or suspended; name servers apply their own liveness on top. */
    suspended: record(id<ClusterId>(), boolean(), { max: 5_000 }),
    /** Servers that operators empty: no answer names them while another one of their cluster lives. */
    drained: optional(array(id<ServerId>(), { max: 100_000 })),
  }),
  (snapshot) => {
    const owner = new Map<string, number>();
    for (const [n, network] of snapshot.clientNetworks.entries()) {
      for (const [p, prefix] of network.prefixes.entries()) {
        if (owner.has(prefix)) {
          return {
            at: ["clientNetworks", n, "prefixes", p],
            value: prefix,
            expected: "a prefix that no other client network has",
          };
        }
        owner.set(prefix, n);
      }
      const wrong = unordered(network.clusters, ["clientNetworks", n, "clusters"]);
      if (wrong !== undefined) return wrong;
    }
    for (const [n, entry] of (snapshot.resolvers ?? []).entries()) {
      const wrong = unordered(entry.clusters, ["resolvers", n, "clusters"]);
      if (wrong !== undefined) return wrong;
    }
    return undefined;
  },
);
export type MapSnapshot = Parsed<typeof mapSnapshot>;

function unordered(clusters: ClientNetworkEntry["clusters"], path: Path) {
  for (const trafficClass of trafficClasses) {
    const ranks = clusters[trafficClass];
    for (let i = 1; i < ranks.length; i++)
      if ((ranks[i]?.score ?? 0) < (ranks[i - 1]?.score ?? 0))
        return {
          at: [...path, trafficClass, i],
          value: ranks[i]?.score,
          expected: "scores in ascending order",
        };
  }
  return undefined;
}

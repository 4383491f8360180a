/**
 * The map: one immutable, versioned snapshot that name servers (cluster map), edges (tier map) and transport (path map)
 * read together, so that all three decide from the same measurements.
 */
import { type ClientNetworkId, type ClusterId, id, type ServerId } from "../ids.ts";
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
} from "../schema.ts";
import type { Rankings } from "./cluster-map/cluster-map-table.ts";
import { packedClusterMap } from "./cluster-map/packed.ts";
import { type TrafficClass, trafficClasses } from "./property.ts";
import { addressText, prefixText } from "./topology.ts";

const rttMs = () => number({ min: 0, max: 60_000, unit: "ms" });
const ratio = () => number({ min: 0, max: 1 });

/** One cluster as seen from the clients of a resolver. Lower score is better. */
const rankedCluster = object({
  clusterId: id<ClusterId>(),
  score: number({ min: 0, max: 1e9 }),
  terms: object({
    rttMs: rttMs(),
    lossRatio: ratio(),
    load: number({ min: 0, max: 1e6 }),
    confidence: ratio(),
  }),
});

const ranking = () => array(rankedCluster, { min: 1, max: 64, uniqueBy: (entry) => entry.clusterId });

/** A resolver: the order of clusters for the clients that are known to be behind it, for queries that tell nothing of them; and how widely answers hold where they do. */
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
  /**
   * For its queries with a client subnet: who is in the prefix is answered like that client network, so that one answer serves all of it. The
   * longest prefix counts; whom none holds is answered as to any other resolver, and so is a network that the map does not have.
   */
  scopes: optional(
    array(object({ prefix: prefixText(), clientNetworkId: id<ClientNetworkId>() }), {
      max: 4_096,
      uniqueBy: (entry) => entry.prefix,
    }),
  ),
});
export type ResolverEntry = Parsed<typeof resolver>;

/** For one edge cluster and one origin cluster (or "any"): parent clusters, best first. */
export const tierEntry = object({
  edgeClusterId: id<ClusterId>(),
  originClusterId: nullable(id<ClusterId>()),
  parents: array(
    object({
      clusterId: id<ClusterId>(),
      costMs: rttMs(),
      /** What the cost is the sum of; to the origin null where the entry is for any. Absent: of an older version. */
      terms: optional(
        object({
          toParentMs: rttMs(),
          /** False: guessed from geography. */
          isToParentMeasured: boolean(),
          toOriginMs: nullable(rttMs()),
          isToOriginMeasured: nullable(boolean()),
          /** What loss and age of both links and the load of the parent add to the cost. Absent: of an older version. */
          lossMs: optional(rttMs()),
          ageMs: optional(rttMs()),
          loadMs: optional(rttMs()),
        }),
      ),
    }),
    { max: 16 },
  ),
});
export type TierEntry = Parsed<typeof tierEntry>;

/** `measured`: end to end, by servers. `sum`: of two measured links. `guessed`: a link of it is geography's guess. */
const pathBases = ["measured", "sum", "guessed"] as const;
export type PathBasis = (typeof pathBases)[number];

/** Candidate paths for an ordered pair of clusters, cheapest first; `via` null is the direct path. */
export const pathEntry = object({
  fromClusterId: id<ClusterId>(),
  toClusterId: id<ClusterId>(),
  candidates: array(
    object({
      via: nullable(id<ClusterId>()),
      rttMs: rttMs(),
      lossRatio: ratio(),
      /** Absent: of an older version. */
      basis: optional(oneOf(pathBases)),
      /** Round trip with what loss and age add: by it they are ordered. Absent: of an older version. */
      costMs: optional(rttMs()),
    }),
    { min: 1, max: 8 },
  ),
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
    /**
     * For each client network and traffic class the clusters in order: one text of base64, since half a million networks are too many
     * for objects. Looked into only by those who answer clients; they must do so before they put the map in force.
     */
    clusterMap: packedClusterMap,
    /** For queries without ECS; a resolver that is not named is like any address of its client network. */
    resolvers: optional(array(resolver, { max: 100_000, uniqueBy: (entry) => entry.address })),
    tiers: array(tierEntry, { max: 100_000 }),
    paths: array(pathEntry, { max: 1_000_000 }),
    /** Clusters that the engine holds to be dead or suspended; name servers apply their own liveness on top. */
    suspended: record(id<ClusterId>(), boolean(), { max: 5_000 }),
    /** Servers that operators empty: no answer names them while another one of their cluster lives. */
    drained: optional(array(id<ServerId>(), { max: 100_000 })),
    /** An operator has said that it may differ from the one before by however much it does: receivers do not compare the two. */
    isChangeAccepted: optional(boolean()),
  }),
  (snapshot) => {
    if (snapshot.clusterMap.mapVersion !== snapshot.mapVersion)
      return {
        at: ["clusterMap"],
        value: snapshot.clusterMap.mapVersion,
        expected: `a cluster map of version ${snapshot.mapVersion}, as the snapshot's`,
      };
    for (const [n, entry] of (snapshot.resolvers ?? []).entries()) {
      const wrong = unordered(entry.clusters, ["resolvers", n, "clusters"]);
      if (wrong !== undefined) return wrong;
    }
    return undefined;
  },
);
export type MapSnapshot = Parsed<typeof mapSnapshot>;

function unordered(clusters: Rankings, path: Path) {
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

/** What the clusters may take: their own capacity and uplink, their share of all, and what the topology says of several together. */
import { type ClusterId, ownLimitNames, type RegionId, type TopologyLimit } from "#kit";
import type { PlacementLimit } from "./placement-problem.ts";

/** Resources that are allocated, by their number in a placement problem. */
export const REQUESTS = 0;
export const BITS = 1;

/** An edge cluster as the allocation sees it. */
export interface EdgeInput {
  readonly clusterId: ClusterId;
  readonly regionId: RegionId;
  /** Of the servers that are in service; 0: it can take nobody. */
  readonly capacityPerSecond: number;
  /** It can take nobody because operators empty it. */
  readonly isDrained: boolean;
  /** What the uplinks of those servers carry; undefined: one of them states nothing. */
  readonly bitsPerSecondMax: number | undefined;
  /** Requests that its servers in service report; undefined: one of them reports nothing. */
  readonly observedPerSecond: number | undefined;
  /** Load that the map does not send there, over capacity: what scores pay for. What the map sends is the allocation's business. */
  readonly observedLoad: number;
  /** Its own and that of the limits (contracts) that it falls under. */
  readonly pricePerGb: number;
}

export interface NamedLimits {
  readonly limits: readonly PlacementLimit[];
  /** Of each limit its number in `names`. */
  readonly nameOf: readonly number[];
  readonly names: readonly string[];
  /** Of each cluster by number: the limit that is its own capacity; -1: it has none because it is out of service. */
  readonly capacityOf: readonly number[];
}

/**
 * @param edges by cluster number; those without capacity take nobody and have no limit
 * @param demandPerSecond requests of all client networks together
 * @param ceilingRatio of a cluster's own capacity and uplink so much may be allocated; what the topology states holds as it is
 */
export function namedLimits(
  edges: readonly EdgeInput[],
  limits: readonly TopologyLimit[],
  shareMax: number,
  demandPerSecond: number,
  ceilingRatio: number,
): NamedLimits {
  const made: PlacementLimit[] = [];
  const nameOf: number[] = [];
  const add = (name: number, resource: number, max: number, clusters: readonly number[]): number => {
    nameOf.push(name);
    return made.push({ resource, max, clusters }) - 1;
  };
  const inService = edges.filter((edge) => edge.capacityPerSecond > 0).length;
  // Of three clusters each must be allowed a third.
  const share = Math.max(shareMax, inService === 0 ? 1 : 1 / inService);
  const capacityOf = edges.map(({ capacityPerSecond, bitsPerSecondMax }, c) => {
    if (capacityPerSecond === 0) return -1;
    const own = add(0, REQUESTS, capacityPerSecond * ceilingRatio, [c]);
    if (bitsPerSecondMax !== undefined) add(1, BITS, bitsPerSecondMax * ceilingRatio, [c]);
    if (share < 1) add(2, REQUESTS, share * demandPerSecond, [c]);
    return own;
  });
  for (const [n, limit] of limits.entries()) {
    const named = new Set<string>(limit.clusterIds);
    const clusters = [...edges.keys()].filter((c) => {
      const edge = edges[c] as EdgeInput;
      return edge.capacityPerSecond > 0 && (named.has(edge.clusterId) || edge.regionId === limit.regionId);
    });
    if (clusters.length === 0) continue;
    const name = ownLimitNames.length + n;
    if (limit.requestsPerSecondMax !== undefined) add(name, REQUESTS, limit.requestsPerSecondMax, clusters);
    if (limit.bitsPerSecondMax !== undefined) add(name, BITS, limit.bitsPerSecondMax, clusters);
  }
  return { limits: made, nameOf, names: [...ownLimitNames, ...limits.map(({ name }) => name)], capacityOf };
}

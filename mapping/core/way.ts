/** From the edge cluster of an answer on: the parents that the same map names for the property, and the paths to its origin. */
import {
  array,
  type ClusterEntry,
  type ClusterId,
  id,
  type MapSnapshot,
  nullable,
  object,
  oneOf,
  type Parsed,
  type PropertyDocument,
  pathEntry,
  type TopologyDocument,
  tierEntry,
} from "#kit";

/** All of it from one snapshot; what a server does besides is for `isochrone explain` to tell. */
export const wayReport = object({
  tiering: oneOf(["parent", "direct"]),
  /** Where the property's first origin stands; null: in no cluster of the topology. */
  originClusterId: nullable(id<ClusterId>()),
  /** Parents of the edge cluster, cheapest first; null: it asks none, or the map names none. */
  tier: nullable(tierEntry),
  /** From each cluster to the next, up to the origin's. */
  paths: array(pathEntry, { max: 3 }),
});
export type WayReport = Parsed<typeof wayReport>;

/** What the map says of requests for a property that come in at an edge cluster. */
export function wayOf(
  snapshot: MapSnapshot,
  topology: TopologyDocument,
  edgeClusterId: ClusterId,
  property: PropertyDocument,
): WayReport {
  const [origin] = property.origins;
  const isAtOrigin = ({ servers }: ClusterEntry): boolean =>
    servers.some(({ address, port }) => address === origin?.host && port === origin.port);
  const originClusterId = topology.clusters.find(isAtOrigin)?.clusterId ?? null;
  const ofEdge = snapshot.tiers.filter((one) => one.edgeClusterId === edgeClusterId);
  const tier =
    property.tiering === "direct"
      ? undefined
      : (ofEdge.find((one) => one.originClusterId === originClusterId) ??
        ofEdge.find((one) => one.originClusterId === null));
  const parent = tier?.parents[0]?.clusterId;
  const stops = [
    edgeClusterId,
    ...(parent === undefined ? [] : [parent]),
    ...(originClusterId === null ? [] : [originClusterId]),
  ];
  const paths = stops
    .slice(1)
    .flatMap(
      (to, n) => snapshot.paths.find((one) => one.fromClusterId === stops[n] && one.toClusterId === to) ?? [],
    );
  return { tiering: property.tiering, originClusterId, tier: tier ?? null, paths };
}

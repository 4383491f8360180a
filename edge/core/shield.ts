/**
 * The parent cluster that asks an origin on behalf of all others. Edges ask the parent that is best for them; without one
 * parent in front of the origin each region's would ask it once for every object.
 */
import { type ClusterEntry, type ClusterId, type PathEntry, rendezvousOrder } from "#kit";

/**
 * Parent clusters in the order in which they shield an origin: nearest to it by the path map, those of which the map knows
 * no way to it last. Ties, so all of them without a map or when the origin stands in no cluster, by the property's rendezvous
 * order. Every server with the same map has the same order.
 */
export function shieldOrder(
  propertyId: string,
  originClusterId: ClusterId | null,
  parents: readonly ClusterEntry[],
  paths: readonly PathEntry[],
): readonly ClusterEntry[] {
  const rttOf = new Map<ClusterId, number>();
  if (originClusterId !== null)
    for (const { fromClusterId, toClusterId, candidates } of paths)
      if (toClusterId === originClusterId) rttOf.set(fromClusterId, candidates[0]?.rttMs ?? Infinity);
  const rttTo = ({ clusterId }: ClusterEntry): number => rttOf.get(clusterId) ?? Infinity;
  return rendezvousOrder(
    propertyId,
    parents.map((cluster) => ({ id: cluster.clusterId as string, cluster })),
  )
    .map(({ cluster }) => cluster)
    .sort((a, b) => (rttTo(a) === rttTo(b) ? 0 : rttTo(a) - rttTo(b)));
}

/**
 * The parent cluster that asks an origin on behalf of all others. Edges ask the parent that is best for them; without one
 * parent in front of the origin each region's would ask it once for every object.
 */
import { type ClusterEntry, type ClusterId, type PathEntry, rendezvousOrder } from "#kit";

/** Round trips up to the first bound, ms, and between each bound and the next, by this factor, are equally near. */
const NEAR_MS = 5;
const STEP_RATIO = 1.25;

/**
 * Parent clusters in the order in which they shield an origin: nearest to it by the path map, those of which the map knows
 * no way to it last. Round trips of one step count as equal: a shield that moved with every measurement would cost the origin
 * what the one before has. Ties, so all of them without a map or when the origin stands in no cluster, by the property's
 * rendezvous order. Every server with the same map has the same order.
 */
export function shieldOrder(
  propertyId: string,
  originClusterId: ClusterId | null,
  parents: readonly ClusterEntry[],
  paths: readonly PathEntry[],
): readonly ClusterEntry[] {
  const stepOf = new Map<ClusterId, number>();
  if (originClusterId !== null)
    for (const { fromClusterId, toClusterId, candidates } of paths)
      if (toClusterId === originClusterId) stepOf.set(fromClusterId, nearness(candidates[0]?.rttMs));
  const stepTo = ({ clusterId }: ClusterEntry): number => stepOf.get(clusterId) ?? Infinity;
  return rendezvousOrder(
    propertyId,
    parents.map((cluster) => ({ id: cluster.clusterId as string, cluster })),
  )
    .map(({ cluster }) => cluster)
    .sort((a, b) => (stepTo(a) === stepTo(b) ? 0 : stepTo(a) - stepTo(b)));
}

/** The step of a round trip, 0 the nearest; counted up, since a logarithm may differ between machines. */
function nearness(rttMs = Infinity): number {
  if (rttMs === Infinity) return Infinity;
  let step = 0;
  for (let boundMs = NEAR_MS; rttMs >= boundMs; boundMs *= STEP_RATIO) step++;
  return step;
}

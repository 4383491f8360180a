/** What is not to be used: servers that are believed to be dead, in which clusters, and those that operators empty. */
import type { ClusterId, MapSnapshot, MonotonicMs, ServerId } from "#kit";
import type { Overrides } from "./overrides.ts";
import { type Suspension, type SuspensionSettings, suspend } from "./suspension.ts";
import type { TopologyIndex } from "./topology-index.ts";

/** Each server role is its own pool of capacity: dead relays say nothing about edges. */
export function suspensionOf(
  topology: TopologyIndex,
  downSince: ReadonlyMap<ServerId, MonotonicMs>,
  settings: SuspensionSettings,
): Suspension {
  const pools = Map.groupBy(topology.servers.values(), ({ cluster }) => cluster.role);
  const all = [...pools.values()].map((pool) =>
    suspend(
      pool.map(({ server, cluster }) => ({
        serverId: server.serverId,
        clusterId: cluster.clusterId,
        regionId: cluster.regionId,
        capacityPerSecond: server.capacityPerSecond,
        downSince: downSince.get(server.serverId),
      })),
      settings,
    ),
  );
  return {
    out: new Set(all.flatMap((one) => [...one.out])),
    doubted: new Set(all.flatMap((one) => [...one.doubted])),
    clusters: new Set(all.flatMap((one) => [...one.clusters])),
    quotaPerSecond: all.reduce((sum, one) => sum + one.quotaPerSecond, 0),
  };
}

function byName(a: string, b: string): number {
  return a < b ? -1 : 1;
}

export function usableOf(
  topology: TopologyIndex,
  suspension: Suspension,
  { drained }: Overrides,
): (clusterId: ClusterId) => boolean {
  return (clusterId) =>
    !suspension.clusters.has(clusterId) &&
    (drained.size === 0 ||
      topology.clusters.get(clusterId)?.servers.every(({ serverId }) => drained.has(serverId)) !== true);
}

/** What a snapshot says of edge clusters and servers that are not to be used. */
export function outOfService(
  topology: TopologyIndex,
  isUsable: (clusterId: ClusterId) => boolean,
  { drained }: Overrides,
): Pick<MapSnapshot, "suspended" | "drained"> {
  const suspended = Object.create(null) as Record<ClusterId, boolean>;
  for (const clusterId of topology.edgeClusters.keys()) if (!isUsable(clusterId)) suspended[clusterId] = true;
  return { suspended, ...(drained.size > 0 && { drained: [...drained].sort(byName) }) };
}

export function othersOut(topology: TopologyIndex, { clusters }: Suspension): string {
  return [...clusters]
    .filter((clusterId) => !topology.edgeClusters.has(clusterId))
    .sort(byName)
    .join(" ");
}

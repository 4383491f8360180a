/** The tier map: which parent cluster an edge cluster asks for content of an origin. */
import type { ClusterEntry, ClusterId, MonotonicMs, TierEntry, TopologyDocument } from "#kit";
import { linkCost, sumOfCost } from "./link-cost.ts";
import { type LinkTable, rounded } from "./link-table.ts";

/** Parents named for each pair: enough to try the next one and the one after, not so many that a snapshot swells. */
const PARENTS_MAX = 4;
/** What a snapshot may hold as a cost. */
const COST_MS_MAX = 60_000;

/**
 * For each edge cluster and each origin cluster: parents by cost, cheapest first, ties by id. The cost is that of the links
 * edge -> parent and parent -> origin (round trip, loss, age: `link-cost.ts`) and of the parent's load. With origin null ("any": origins that
 * stand in no cluster): edge -> parent alone.
 *
 * @param loadOf what is observed of a parent, over capacity; 0 where nothing is
 * @param isUsable false for clusters that are dead or suspended; they come last, with their true cost no longer deciding,
 *   and are left out as long as one parent is usable
 */
export function tierMap(
  topology: TopologyDocument,
  links: LinkTable,
  isUsable: (clusterId: ClusterId) => boolean,
  now: MonotonicMs,
  loadOf: (parent: ClusterEntry) => number = () => 0,
): TierEntry[] {
  const parents = topology.clusters.filter(
    (cluster) => cluster.role === "parent" && cluster.servers.length > 0,
  );
  const origins = topology.clusters.filter((cluster) => cluster.role === "origin");
  const usable = parents.filter((parent) => isUsable(parent.clusterId));
  const candidates = usable.length > 0 ? usable : parents;
  if (candidates.length === 0) return [];
  const loads = new Map(candidates.map((parent) => [parent.clusterId, loadOf(parent)]));
  const entries: TierEntry[] = [];
  for (const edge of topology.clusters) {
    if (edge.role !== "edge") continue;
    for (const origin of [null, ...origins])
      entries.push({
        edgeClusterId: edge.clusterId,
        originClusterId: origin?.clusterId ?? null,
        parents: rank(edge, origin, candidates, links, loads, now),
      });
  }
  return entries;
}

function rank(
  edge: ClusterEntry,
  origin: ClusterEntry | null,
  parents: readonly ClusterEntry[],
  links: LinkTable,
  loads: ReadonlyMap<ClusterId, number>,
  now: MonotonicMs,
): TierEntry["parents"] {
  return parents
    .map((parent) => {
      const down = links.link(edge, parent, now);
      const up = origin === null ? undefined : links.link(parent, origin, now);
      const bounded = (ms: number): number => Math.min(COST_MS_MAX, rounded(ms));
      const near = linkCost(down, loads.get(parent.clusterId));
      const far = up === undefined ? undefined : linkCost(up);
      return {
        clusterId: parent.clusterId,
        costMs: bounded(sumOfCost(near) + (far === undefined ? 0 : sumOfCost(far))),
        terms: {
          toParentMs: bounded(down.rttMs),
          isToParentMeasured: down.isMeasured,
          toOriginMs: up === undefined ? null : bounded(up.rttMs),
          isToOriginMeasured: up?.isMeasured ?? null,
          lossMs: bounded(near.lossMs + (far?.lossMs ?? 0)),
          ageMs: bounded(near.ageMs + (far?.ageMs ?? 0)),
          loadMs: bounded(near.loadMs),
        },
      };
    })
    .sort((a, b) => a.costMs - b.costMs || (a.clusterId < b.clusterId ? -1 : 1))
    .slice(0, PARENTS_MAX);
}

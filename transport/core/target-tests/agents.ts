/** Which edges test the targets of a policy beside the name servers: few, wherever they stand, the same by everybody's reckoning. */
import { rendezvousOrder, type ServerId, type TopologyDocument } from "#kit";

/** However many edges there are, a target is asked by no more of them than these. */
export const EDGE_AGENTS_MAX = 5;

/**
 * The edges that test a policy, one of a cluster, of as many regions as can be. Follows from the topology and the policy's id alone, so a change
 * of the topology moves few policies.
 */
export function edgeAgentsOf(
  policyId: string,
  { clusters }: Pick<TopologyDocument, "clusters">,
): readonly ServerId[] {
  const ordered = rendezvousOrder(
    policyId,
    clusters.flatMap((cluster) =>
      cluster.role === "edge" && cluster.servers.length > 0 ? [{ id: cluster.clusterId, cluster }] : [],
    ),
  ).map(({ cluster }) => cluster);
  const regions = new Set<string>();
  const firsts: typeof ordered = [];
  const others: typeof ordered = [];
  for (const cluster of ordered) {
    (regions.has(cluster.regionId) ? others : firsts).push(cluster);
    regions.add(cluster.regionId);
  }
  return [...firsts, ...others].slice(0, EDGE_AGENTS_MAX).flatMap(({ servers }) => {
    const [first] = rendezvousOrder(
      policyId,
      servers.map(({ serverId }) => ({ id: serverId })),
    );
    return first === undefined ? [] : [first.id];
  });
}

/** {@link edgeAgentsOf} by one topology, each found once: whoever has many policies asks for all of them whenever one changes. */
export class EdgeAgents {
  readonly #topology: Pick<TopologyDocument, "clusters">;
  readonly #known = new Map<string, readonly ServerId[]>();

  constructor(topology: Pick<TopologyDocument, "clusters">) {
    this.#topology = topology;
  }

  of(policyId: string): readonly ServerId[] {
    let agents = this.#known.get(policyId);
    if (agents === undefined) {
      agents = edgeAgentsOf(policyId, this.#topology);
      this.#known.set(policyId, agents);
    }
    return agents;
  }
}

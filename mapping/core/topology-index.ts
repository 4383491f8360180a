import type { ClusterEntry, ClusterId, ServerEntry, ServerId, TopologyDocument } from "#kit";

/** The servers of one edge cluster that have an address of one family, in the order of the topology. */
type ServersByFamily = { readonly 4: readonly ServerEntry[]; readonly 6: readonly ServerEntry[] };

/** What of one edge cluster a name server needs. */
export type EdgeCluster = { readonly entry: ClusterEntry; readonly servers: ServersByFamily };

/**
 * A topology by id. Built once a document, so that a query costs look-ups and no scan.
 * Invariant: `edgeClusters` keeps the order of the document, which is the order of last resort.
 */
export class TopologyIndex {
  readonly topology: TopologyDocument;
  /** Every cluster, whatever its role. */
  readonly clusters: ReadonlyMap<ClusterId, ClusterEntry>;
  /** Clusters of role `edge` with at least one server. */
  readonly edgeClusters: ReadonlyMap<ClusterId, EdgeCluster>;
  readonly servers: ReadonlyMap<ServerId, { readonly server: ServerEntry; readonly cluster: ClusterEntry }>;

  constructor(topology: TopologyDocument) {
    this.topology = topology;
    const clusters = new Map<ClusterId, ClusterEntry>();
    const edgeClusters = new Map<ClusterId, EdgeCluster>();
    const servers = new Map<ServerId, { server: ServerEntry; cluster: ClusterEntry }>();
    for (const entry of topology.clusters) {
      clusters.set(entry.clusterId, entry);
      for (const server of entry.servers) servers.set(server.serverId, { server, cluster: entry });
      if (entry.role !== "edge" || entry.servers.length === 0) continue;
      const isIpv6 = (server: ServerEntry): boolean => server.address.includes(":");
      edgeClusters.set(entry.clusterId, {
        entry,
        servers: {
          4: entry.servers.filter((server) => !isIpv6(server)),
          6: entry.servers.filter(isIpv6),
        },
      });
    }
    this.clusters = clusters;
    this.edgeClusters = edgeClusters;
    this.servers = servers;
  }
}

/** Documents are immutable, so an index belongs to its document for as long as that one is referenced. */
const indexes = new WeakMap<TopologyDocument, TopologyIndex>();

/** The index of a topology; the same object for the same document. */
export function topologyIndexOf(topology: TopologyDocument | TopologyIndex): TopologyIndex {
  if (topology instanceof TopologyIndex) return topology;
  let index = indexes.get(topology);
  if (index === undefined) {
    index = new TopologyIndex(topology);
    indexes.set(topology, index);
  }
  return index;
}

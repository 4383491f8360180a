import { snapshotFrom } from "./map-snapshot.ts";
/** Documents of a world of tiers: edge clusters whose first parents differ, parent clusters at their distances from an origin. */
export const HOST = "www.shop.example";

export interface TierWorld {
  readonly topology: Record<string, unknown>;
  readonly map: Record<string, unknown>;
  readonly property: Record<string, unknown>;
  /** By cluster. */
  readonly servers: Readonly<Record<string, readonly string[]>>;
}

/** Edge clusters e1, e2, ... of `edgesPerCluster`; parent clusters p1, p2, ... of `serversPerParent`, p1 nearest to the origin. */
export function tierWorld(options: {
  readonly edgeClusters: number;
  readonly edgesPerCluster: number;
  readonly parents: number;
  /** Default 1. */
  readonly serversPerParent?: number;
  readonly originPort: number;
  readonly portOf: (serverId: string) => number;
}): TierWorld {
  const { originPort, portOf } = options;
  const named = (letter: string, count: number): string[] =>
    Array.from({ length: count }, (_, n) => `${letter}${n + 1}`);
  const servers: Record<string, string[]> = {};
  for (const id of named("e", options.edgeClusters))
    servers[id] = named("", options.edgesPerCluster).map((n) => `${id}-${n}`);
  const parents = named("p", options.parents);
  for (const id of parents) servers[id] = named("", options.serversPerParent ?? 1).map((n) => `${id}-${n}`);
  const cluster = (clusterId: string, role: string, ids: readonly string[], port = portOf) => ({
    clusterId,
    regionId: "r",
    role,
    city: clusterId,
    coordinates: { latitude: 50, longitude: 8 },
    servers: ids.map((serverId) => ({ serverId, address: "127.0.0.1", port: port(serverId) })),
  });
  const edges = named("e", options.edgeClusters);
  const ranked = edges.map((clusterId) => ({
    clusterId,
    score: 1,
    terms: { rttMs: 1, lossRatio: 0, load: 0, confidence: 1 },
  }));
  const classes = { interactive: ranked, bulk: ranked, live: ranked };
  return {
    servers,
    topology: {
      name: "world",
      clusters: [
        ...edges.map((id) => cluster(id, "edge", servers[id] ?? [])),
        ...parents.map((id) => cluster(id, "parent", servers[id] ?? [])),
        cluster("origin", "origin", ["origin-1"], () => originPort),
      ],
      nameService: { zones: [], nameServers: [] },
    },
    map: snapshotFrom({
      clientNetworks: [{ clientNetworkId: "all", prefixes: ["0.0.0.0/0"], clusters: classes }],
      fallback: classes,
      tiers: edges.map((edgeClusterId, n) => ({
        edgeClusterId,
        originClusterId: "origin",
        parents: parents.map((_, p) => ({ clusterId: parents[(n + p) % parents.length], costMs: p })),
      })),
      paths: parents.map((fromClusterId, p) => ({
        fromClusterId,
        toClusterId: "origin",
        candidates: [{ via: null, rttMs: 10 * (p + 1), lossRatio: 0 }],
      })),
    }),
    property: {
      propertyId: "shop",
      customerId: "acme",
      hostnames: [HOST],
      origins: [{ scheme: "http", host: "127.0.0.1", port: originPort }],
    },
  };
}

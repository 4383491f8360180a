/** Routing of a node in a deployment: hosts by property documents, owner by rendezvous, parents by the map's tier entries. */
import type {
  ClusterEntry,
  ClusterId,
  MapSnapshot,
  PropertyDocument,
  ServerId,
  TopologyDocument,
} from "#kit";
import { rendezvousOrder } from "#kit";
import type { KnownOrigin } from "#transport";
import type { EdgeSettings } from "../config.ts";
import type { CacheKey } from "../core/cache-key.ts";
import { type ClusterPeer, ownersOf } from "../core/owner.ts";
import type { HopFields } from "./exchange.ts";
import type { Hop, PropertyView, Routing } from "./routing.ts";

export class NodeRouting implements Routing {
  readonly #self: ServerId;
  readonly #settings: EdgeSettings;
  readonly #isUp: (id: ServerId) => boolean;
  readonly #properties = new Map<string, PropertyDocument>();
  readonly #byHost = new Map<string, PropertyDocument>();
  #topology: TopologyDocument;
  #cluster: ClusterEntry | undefined;
  #peers: readonly ClusterPeer[] = [];
  #snapshot: MapSnapshot | undefined;
  #propertyVersion = 0;

  constructor(
    self: ServerId,
    topology: TopologyDocument,
    settings: EdgeSettings,
    isUp: (id: ServerId) => boolean,
  ) {
    this.#self = self;
    this.#settings = settings;
    this.#isUp = isUp;
    this.#topology = topology;
    this.setTopology(topology);
  }

  setTopology(topology: TopologyDocument): void {
    this.#topology = topology;
    this.#cluster = clusterOf(topology, this.#self);
    this.#peers = peersOf(this.#cluster);
  }

  setSnapshot(snapshot: MapSnapshot): void {
    this.#snapshot = snapshot;
  }

  /** Puts a property in force. Its host names replace those of its last version. */
  setProperty(property: PropertyDocument): void {
    this.#propertyVersion++;
    this.#properties.set(property.propertyId, property);
    this.#byHost.clear();
    for (const one of this.#properties.values()) {
      if (!one.isActive) continue;
      for (const host of one.hostnames) if (!this.#byHost.has(host)) this.#byHost.set(host, one);
    }
  }

  get propertyVersion(): number {
    return this.#propertyVersion;
  }
  property(propertyId: string): PropertyDocument | undefined {
    return this.#properties.get(propertyId);
  }
  get properties(): number {
    return this.#properties.size;
  }
  get cluster(): ClusterEntry | undefined {
    return this.#cluster;
  }
  /** 0: edge; 1: parent. */
  get tier(): number {
    return this.#cluster?.role === "parent" ? 1 : 0;
  }

  /** Every origin of every property, for transport to keep measured; with its cluster when it stands in the topology. */
  knownOrigins(): readonly KnownOrigin[] {
    return [...this.#properties.values()]
      .filter((property) => property.isActive)
      .flatMap((property) =>
        property.origins.map((origin) => ({
          origin,
          clusterId: this.#clusterOfAddress(origin.host, origin.port),
        })),
      );
  }

  propertyOf(host: string): { readonly property: PropertyView; readonly keyHost: string } | undefined {
    const keyHost = withoutPort(host);
    const property = this.#byHost.get(keyHost);
    return property && { property, keyHost };
  }

  isOwner(key: CacheKey, hop: HopFields): boolean {
    return hop.isOwner || this.ownerOf(key) === this.#self;
  }

  ownerOf(key: CacheKey): ServerId | undefined {
    return ownersOf(key, this.#peers, this.#self, this.#isUp)[0];
  }

  hopsFor(
    property: PropertyView,
    key: CacheKey,
    keyHost: string,
    hop: HopFields,
    isBypass: boolean,
  ): readonly Hop[] {
    const hops: Hop[] = [];
    const owner = this.ownerOf(key);
    if (!isBypass && !hop.isOwner && owner !== undefined && owner !== this.#self)
      hops.push({ kind: "owner", target: { kind: "server", serverId: owner }, name: owner, host: keyHost });
    if (!isBypass && this.tier === 0 && property.tiering === "parent")
      hops.push(...this.#parents(property, key, keyHost));
    const document =
      property.propertyId === undefined ? undefined : this.#properties.get(property.propertyId);
    for (const origin of document?.origins ?? [])
      hops.push({
        kind: "origin",
        target: { kind: "origin", origin },
        name: "origin",
        host: origin.hostHeader ?? keyHost,
      });
    return hops;
  }

  #parents(property: PropertyView, key: CacheKey, keyHost: string): readonly Hop[] {
    const { parentClustersMax, serversPerParentMax } = this.#settings;
    return this.#parentClusters(property)
      .filter((cluster) => cluster.servers.length > 0)
      .flatMap((cluster) => {
        const servers = ownersOf(key, peersOf(cluster), undefined, this.#isUp).slice(0, serversPerParentMax);
        return servers.length === 0 ? [] : [{ cluster, servers }];
      })
      .slice(0, parentClustersMax)
      .flatMap(({ servers }) =>
        servers.map(
          (serverId): Hop => ({
            kind: "parent",
            target: { kind: "server", serverId },
            name: serverId,
            host: keyHost,
          }),
        ),
      );
  }

  /**
   * Parent clusters, best first: what the map says for this cluster and the property's origin, else for any origin. Without
   * a map all parents in an order that every edge computes alike, so that they still meet at one parent.
   */
  #parentClusters(property: PropertyView): readonly ClusterEntry[] {
    const parents = this.#topology.clusters.filter((cluster) => cluster.role === "parent");
    const selfCluster = this.#cluster?.clusterId;
    const document =
      property.propertyId === undefined ? undefined : this.#properties.get(property.propertyId);
    const origin = document?.origins[0];
    const originCluster = origin === undefined ? null : this.#clusterOfAddress(origin.host, origin.port);
    const own = this.#snapshot?.tiers.filter((tier) => tier.edgeClusterId === selfCluster) ?? [];
    const entry =
      own.find((tier) => tier.originClusterId === originCluster) ??
      own.find((tier) => tier.originClusterId === null);
    const ranked = entry?.parents.flatMap(
      ({ clusterId }) => parents.find((one) => one.clusterId === clusterId) ?? [],
    );
    if (ranked !== undefined && ranked.length > 0) return ranked;
    return rendezvousOrder(
      property.propertyId ?? "",
      parents.map((cluster) => ({ id: cluster.clusterId as string, cluster })),
    ).map(({ cluster }) => cluster);
  }

  #clusterOfAddress(host: string, port: number): ClusterId | null {
    for (const cluster of this.#topology.clusters)
      if (cluster.servers.some((server) => server.address === host && server.port === port))
        return cluster.clusterId;
    return null;
  }
}

/** The cluster that a server stands in. */
export function clusterOf(topology: TopologyDocument, serverId: ServerId): ClusterEntry | undefined {
  return topology.clusters.find((cluster) => cluster.servers.some((server) => server.serverId === serverId));
}

function peersOf(cluster: ClusterEntry | undefined): readonly ClusterPeer[] {
  return (cluster?.servers ?? []).map((server) => ({
    id: server.serverId,
    weight: server.capacityPerSecond,
  }));
}

/** A host without its port; an IPv6 literal keeps its brackets. */
export function withoutPort(host: string): string {
  return host.replace(/:[0-9]+$/, "");
}

/** Routing of a node in a deployment: hosts by property documents, owner by rendezvous, parents by the map's tier entries. */
import type {
  ClusterEntry,
  ClusterId,
  MapSnapshot,
  PropertyDocument,
  ServerId,
  TopologyDocument,
} from "#kit";
import { originsOf } from "#kit";
import type { KnownOrigin } from "#transport";
import type { EdgeSettings } from "../config.ts";
import type { CacheKey } from "../core/cache-key.ts";
import { type ClusterPeer, ownersOf, placeOf } from "../core/owner.ts";
import { shieldOrder } from "../core/shield.ts";
import type { HopFields } from "./exchange.ts";
import { type Hop, originHop, type PropertyView, type Routing } from "./routing.ts";

/** Owners of a key that are asked, one after the other, before the parents: the second one when the first has just died. */
const OWNERS_MAX = 2;

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
  /** Requests of this server that a peer of its cluster has not answered to the end. */
  readonly #inFlight = new Map<ServerId, number>();
  /** Shields by property; made when they are asked for, gone with what they rest on. */
  readonly #shields = new Map<string, readonly ClusterEntry[]>();

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
    this.#shields.clear();
  }

  setSnapshot(snapshot: MapSnapshot): void {
    this.#snapshot = snapshot;
    this.#shields.clear();
  }

  /** Puts a property in force. Its host names replace those of its last version. */
  setProperty(property: PropertyDocument): void {
    this.#propertyVersion++;
    this.#shields.clear();
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
        originsOf(property).map((origin) => ({
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
    return placeOf(key, this.#peers, this.#self, this.#isUp, (id) => this.#inFlight.get(id) ?? 0);
  }

  hopsFor(
    property: PropertyView,
    key: CacheKey,
    keyHost: string,
    hop: HopFields,
    isBypass: boolean,
  ): readonly Hop[] {
    const hops: Hop[] = [];
    // Who asks the owner has been asked by a tier itself: the owner must know which, or a parent's would ask the shield twice.
    const askedBy = Math.min(this.tier, hop.tier ?? 0);
    if (!isBypass && !hop.isOwner) {
      const place = this.ownerOf(key);
      const ranked = ownersOf(key, this.#peers, this.#self, this.#isUp);
      const order = place === undefined ? [] : [place, ...ranked.filter((id) => id !== place)];
      // Where this server's own turn comes, it goes on as the owner would.
      const turn = order.indexOf(this.#self);
      for (const owner of order.slice(0, Math.min(OWNERS_MAX, turn === -1 ? OWNERS_MAX : turn)))
        hops.push({
          ...this.#server("owner", owner, keyHost),
          tier: askedBy,
          handleLoad: (change) => this.#inFlight.set(owner, (this.#inFlight.get(owner) ?? 0) + change),
        });
    }
    if (!isBypass && property.tiering === "parent") {
      if (this.tier === 0) hops.push(...this.#parents(property, key, keyHost));
      else if (askedBy === 0) hops.push(...this.#shield(property, key, keyHost));
    }
    for (const origin of this.#documentOf(property)?.origins ?? []) hops.push(originHop(origin, keyHost));
    return hops;
  }

  #server(kind: "owner" | "parent", serverId: ServerId, host: string): Hop {
    return { kind, target: { kind: "server", serverId }, name: serverId, host };
  }

  #documentOf(property: PropertyView): PropertyDocument | undefined {
    return property.propertyId === undefined ? undefined : this.#properties.get(property.propertyId);
  }

  /** Live servers of a parent cluster that are asked for a key, in its order. */
  #serversOf(cluster: ClusterEntry, key: CacheKey): readonly ServerId[] {
    return ownersOf(key, peersOf(cluster), undefined, this.#isUp).slice(
      0,
      this.#settings.serversPerParentMax,
    );
  }

  #parents(property: PropertyView, key: CacheKey, keyHost: string): readonly Hop[] {
    return this.#parentClusters(property)
      .map((cluster) => this.#serversOf(cluster, key))
      .filter((servers) => servers.length > 0)
      .slice(0, this.#settings.parentClustersMax)
      .flatMap((servers) => servers.map((id) => this.#server("parent", id, keyHost)));
  }

  /** What a parent asks before the origin: the first live parent cluster in front of it, unless that is its own. */
  #shield(property: PropertyView, key: CacheKey, keyHost: string): readonly Hop[] {
    const self = this.#cluster?.clusterId;
    for (const cluster of this.#shieldClusters(property)) {
      if (cluster.clusterId === self) return [];
      const servers = this.#serversOf(cluster, key);
      if (servers.length > 0) return servers.map((id) => this.#server("parent", id, keyHost));
    }
    return [];
  }

  #shieldClusters(property: PropertyView): readonly ClusterEntry[] {
    const propertyId = property.propertyId ?? "";
    const known = this.#shields.get(propertyId);
    if (known !== undefined) return known;
    const parents = this.#topology.clusters.filter((cluster) => cluster.role === "parent");
    const order = shieldOrder(
      propertyId,
      this.#originClusterOf(property),
      parents,
      this.#snapshot?.paths ?? [],
    );
    this.#shields.set(propertyId, order);
    return order;
  }

  #originClusterOf(property: PropertyView): ClusterId | null {
    const origin = this.#documentOf(property)?.origins[0];
    return origin === undefined ? null : this.#clusterOfAddress(origin.host, origin.port);
  }

  /**
   * Parent clusters, best first: what the map says for this cluster and the property's origin, else for any origin. Without
   * a map the order in which they shield the origin, which every server computes alike, so that they still meet at one.
   */
  #parentClusters(property: PropertyView): readonly ClusterEntry[] {
    const parents = this.#topology.clusters.filter((cluster) => cluster.role === "parent");
    const selfCluster = this.#cluster?.clusterId;
    const originCluster = this.#originClusterOf(property);
    const own = this.#snapshot?.tiers.filter((tier) => tier.edgeClusterId === selfCluster) ?? [];
    const entry =
      own.find((tier) => tier.originClusterId === originCluster) ??
      own.find((tier) => tier.originClusterId === null);
    const ranked = entry?.parents.flatMap(
      ({ clusterId }) => parents.find((one) => one.clusterId === clusterId) ?? [],
    );
    if (ranked !== undefined && ranked.length > 0) return ranked;
    return this.#shieldClusters(property);
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

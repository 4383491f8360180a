/**
 * Whom of its own kind a server asks for a key before it asks the origin: the key's owner in its cluster, parent clusters in
 * the order of the tier map, and in front of the origin the parent cluster that shields it.
 */
import type { ClusterEntry, ClusterId, MapSnapshot, PropertyId, ServerId, TopologyDocument } from "#kit";
import type { Fields } from "./headers.ts";
import { type ClusterPeer, ownersOf, placeOf } from "./owner.ts";
import { shieldOrder } from "./shield.ts";

export interface TierSettings {
  /** Servers of one parent cluster that are asked, one after the other. */
  readonly serversPerParentMax: number;
  /** Parent clusters that are asked, one after the other. */
  readonly parentClustersMax: number;
}

/** What of a property decides its way. */
export interface TierProperty {
  readonly propertyId: PropertyId;
  readonly tiering: "parent" | "direct";
  /** Where its origin stands; null: in no cluster that the topology knows. */
  readonly originClusterId: ClusterId | null;
}

/** On whose behalf a server is asked. */
export interface HopFields {
  /** Tier of the sender: 0 edge, 1 parent. Undefined: not a peer. */
  readonly tier: number | undefined;
  /** Asked as the owner of the key: must not be handed to another owner. */
  readonly isOwner: boolean;
  /** The codings that the sender's client takes, in its own fields: the key's owner may answer in a form that it keeps. */
  readonly codings?: Fields;
}

/** A server to ask. */
export interface TierHop {
  readonly kind: "owner" | "parent";
  readonly serverId: ServerId;
  readonly told: HopFields;
}

/** Owners of a key that are asked, one after the other, before the parents: the second one when the first has just died. */
const OWNERS_MAX = 2;

export class Tiers {
  readonly #self: ServerId;
  readonly #settings: TierSettings;
  readonly #isUp: (id: ServerId) => boolean;
  #topology!: TopologyDocument;
  #cluster: ClusterEntry | undefined;
  #peers: readonly ClusterPeer[] = [];
  #parents: readonly ClusterEntry[] = [];
  #snapshot: MapSnapshot | undefined;
  /** Requests of this server that a peer of its cluster has not answered to the end. */
  readonly #inFlight = new Map<ServerId, number>();
  /** Shields by property and place of its origin; made when they are asked for, gone with what they rest on. */
  readonly #shields = new Map<string, readonly ClusterEntry[]>();

  constructor(
    self: ServerId,
    topology: TopologyDocument,
    settings: TierSettings,
    isUp: (id: ServerId) => boolean,
  ) {
    this.#self = self;
    this.#settings = settings;
    this.#isUp = isUp;
    this.setTopology(topology);
  }

  setTopology(topology: TopologyDocument): void {
    this.#topology = topology;
    this.#cluster = clusterOf(topology, this.#self);
    this.#peers = peersOf(this.#cluster);
    this.#parents = topology.clusters.filter(({ role }) => role === "parent");
    this.#shields.clear();
  }

  setSnapshot(snapshot: MapSnapshot): void {
    this.#snapshot = snapshot;
    this.#shields.clear();
  }

  /** Of the map that parents and shields are taken from. */
  get mapVersion(): number | undefined {
    return this.#snapshot?.mapVersion;
  }
  get topology(): TopologyDocument {
    return this.#topology;
  }
  get cluster(): ClusterEntry | undefined {
    return this.#cluster;
  }
  /** 0: edge; 1: parent. */
  get tier(): number {
    return this.#cluster?.role === "parent" ? 1 : 0;
  }

  /** A request of this server to a peer of its cluster begins (1) or has ended (-1). */
  handleLoad(serverId: ServerId, change: 1 | -1): void {
    this.#inFlight.set(serverId, (this.#inFlight.get(serverId) ?? 0) + change);
  }

  /** The server of the own cluster that answers for a key now. */
  ownerOf(key: string): ServerId | undefined {
    return placeOf(key, this.#peers, this.#self, this.#isUp, (id) => this.#inFlight.get(id) ?? 0);
  }

  /** Servers to ask for a key, best first; the origin comes after them. */
  hopsFor(property: TierProperty, key: string, asker: HopFields): readonly TierHop[] {
    const hops: TierHop[] = [];
    // Who asks the owner has been asked by a tier itself: the owner must know which, or a parent's would ask the shield twice.
    const askedBy = Math.min(this.tier, asker.tier ?? 0);
    if (!asker.isOwner) {
      const place = this.ownerOf(key);
      const ranked = ownersOf(key, this.#peers, this.#self, this.#isUp);
      const order = place === undefined ? [] : [place, ...ranked.filter((id) => id !== place)];
      // Where this server's own turn comes, it goes on as the owner would.
      const turn = order.indexOf(this.#self);
      for (const serverId of order.slice(0, Math.min(OWNERS_MAX, turn === -1 ? OWNERS_MAX : turn)))
        hops.push({ kind: "owner", serverId, told: { tier: askedBy, isOwner: true } });
    }
    if (property.tiering === "direct") return hops;
    if (this.tier === 0) hops.push(...this.#asked(this.#parentsOf(property), key));
    else if (askedBy === 0) hops.push(...this.#asked(this.#shieldsOf(property), key));
    return hops;
  }

  /** The live servers of parent clusters that are asked for a key, in its order; clusters without any are passed by. */
  #asked(clusters: readonly ClusterEntry[], key: string): readonly TierHop[] {
    const { serversPerParentMax, parentClustersMax } = this.#settings;
    const hops: TierHop[] = [];
    let clustersAsked = 0;
    for (const cluster of clusters) {
      const ranked = ownersOf(key, peersOf(cluster), undefined, () => true);
      const live = ranked.filter(this.#isUp).slice(0, serversPerParentMax);
      // Who stands in for the first one may not have noticed yet that it is gone, and would ask it.
      for (const serverId of live) {
        const told = { tier: this.tier, isOwner: serverId !== ranked[0] };
        hops.push({ kind: "parent", serverId, told });
      }
      if (live.length > 0 && ++clustersAsked === parentClustersMax) break;
    }
    return hops;
  }

  /**
   * What a parent asks before the origin: the parent clusters that shield it before its own. More than the first, so that
   * those who had an object from it when it died meet at the next one for the rest.
   */
  #shieldsOf(property: TierProperty): readonly ClusterEntry[] {
    const order = this.#shieldOrder(property);
    const own = order.findIndex(({ clusterId }) => clusterId === this.#cluster?.clusterId);
    return own === -1 ? order : order.slice(0, own);
  }

  #shieldOrder({ propertyId, originClusterId }: TierProperty): readonly ClusterEntry[] {
    const name = `${propertyId}\n${originClusterId ?? ""}`;
    const known = this.#shields.get(name);
    if (known !== undefined) return known;
    const order = shieldOrder(propertyId, originClusterId, this.#parents, this.#snapshot?.paths ?? []);
    this.#shields.set(name, order);
    return order;
  }

  /**
   * Parent clusters, best first: what the map says for this cluster and the property's origin, else for any origin. Without
   * a map the order in which they shield the origin, which every server computes alike, so that they still meet at one.
   */
  #parentsOf(property: TierProperty): readonly ClusterEntry[] {
    const own = this.#snapshot?.tiers.filter((tier) => tier.edgeClusterId === this.#cluster?.clusterId) ?? [];
    const entry =
      own.find((tier) => tier.originClusterId === property.originClusterId) ??
      own.find((tier) => tier.originClusterId === null);
    const ranked = entry?.parents.flatMap(
      ({ clusterId }) => this.#parents.find((one) => one.clusterId === clusterId) ?? [],
    );
    return ranked !== undefined && ranked.length > 0 ? ranked : this.#shieldOrder(property);
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

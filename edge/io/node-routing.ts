/** Routing of a node in a deployment: hosts by property documents, the servers to ask by core/tiers.ts. */
import type {
  ClusterEntry,
  ClusterId,
  MapSnapshot,
  OriginAuth,
  PropertyDocument,
  ServerId,
  TopologyDocument,
} from "#kit";
import { ORIGIN_POLICY, originSetsOf, originsOf, type OriginTarget } from "#kit";
import type { KnownOrigin, OriginGroupStated, OriginIdentity } from "#transport";
import type { CacheKey } from "../core/cache-key.ts";
import { type TierSettings, Tiers } from "../core/tiers.ts";
import type { HopFields } from "../core/tiers.ts";
import { type Hop, originHops, type PropertyView, type Routing } from "./routing.ts";

/** Who a property is to its origins, by its document. */
type IdentityOf = (originAuth: OriginAuth) => OriginIdentity | undefined;

export class NodeRouting implements Routing {
  readonly #self: ServerId;
  readonly #tiers: Tiers;
  readonly #properties = new Map<string, PropertyDocument>();
  readonly #probeDomains = new Set<string>();
  readonly #byHost = new Map<string, PropertyDocument>();
  /** Names of groups, by the list of a document that they are. */
  readonly #groups = new WeakMap<readonly OriginTarget[], string>();
  #propertyVersion = 0;

  constructor(
    self: ServerId,
    topology: TopologyDocument,
    settings: TierSettings,
    isUp: (id: ServerId) => boolean,
  ) {
    this.#self = self;
    this.#tiers = new Tiers(self, topology, settings, isUp);
  }

  setTopology(topology: TopologyDocument): void {
    this.#tiers.setTopology(topology);
  }

  setSnapshot(snapshot: MapSnapshot): void {
    this.#tiers.setSnapshot(snapshot);
  }

  /** Puts a property in force. Its host names replace those of its last version. */
  setProperty(property: PropertyDocument): void {
    this.#propertyVersion++;
    this.#properties.set(property.propertyId, property);
    for (const { name, origins } of originSetsOf(property)) this.#groups.set(origins, name);
    this.#byHost.clear();
    this.#probeDomains.clear();
    for (const one of this.#properties.values()) {
      if (!one.isActive) continue;
      for (const host of one.hostnames) if (!this.#byHost.has(host)) this.#byHost.set(host, one);
      if (one.beacon?.probeDomain !== undefined) this.#probeDomains.add(one.beacon.probeDomain);
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
  get mapVersion(): number | undefined {
    return this.#tiers.mapVersion;
  }
  get cluster(): ClusterEntry | undefined {
    return this.#tiers.cluster;
  }
  /** 0: edge; 1: parent. */
  get tier(): number {
    return this.#tiers.tier;
  }

  /** Every origin of every property, for transport to keep measured; with its cluster when it stands in the topology. */
  knownOrigins(identityOf: IdentityOf = () => undefined): readonly KnownOrigin[] {
    return [...this.#properties.values()]
      .filter((property) => property.isActive)
      .flatMap((property) =>
        originsOf(property).map((origin) => ({
          origin,
          clusterId: this.#clusterOfAddress(origin.host, origin.port),
          identity: property.originAuth && identityOf(property.originAuth),
        })),
      );
  }

  /** The same origins as the groups that stand in for each other. */
  originGroups(identityOf: IdentityOf = () => undefined): readonly OriginGroupStated[] {
    return [...this.#properties.values()]
      .filter((property) => property.isActive)
      .flatMap((property) =>
        originSetsOf(property).map(({ name, origins }) => ({
          name,
          origins,
          policy: property.originPolicy ?? ORIGIN_POLICY,
          identity: property.originAuth && identityOf(property.originAuth),
        })),
      );
  }

  groupOf(origins: readonly OriginTarget[]): string | undefined {
    return this.#groups.get(origins);
  }

  /** Whether it is a name that a cluster has for beacons: one label before the domain of a property. */
  isProbeHost(host: string): boolean {
    const name = withoutPort(host);
    return this.#probeDomains.has(name.slice(name.indexOf(".") + 1));
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
    return this.#tiers.ownerOf(key);
  }

  hopsFor(
    property: PropertyView,
    key: CacheKey,
    keyHost: string,
    hop: HopFields,
    isBypass: boolean,
  ): readonly Hop[] {
    const document = property.propertyId && this.#properties.get(property.propertyId);
    if (document === undefined) return [];
    const [origin] = document.origins;
    const way = {
      propertyId: document.propertyId,
      tiering: property.tiering,
      originClusterId: origin === undefined ? null : this.#clusterOfAddress(origin.host, origin.port),
    };
    const servers = isBypass ? [] : this.#tiers.hopsFor(way, key, hop);
    return [
      ...servers.map(
        ({ kind, serverId, told }): Hop => ({
          kind,
          target: { kind: "server", serverId },
          name: serverId,
          host: keyHost,
          told,
          ...(kind === "owner" && { handleLoad: (change) => this.#tiers.handleLoad(serverId, change) }),
        }),
      ),
      ...originHops(document.origins, keyHost, this.#groups.get(document.origins), document.originAuth),
    ];
  }

  #clusterOfAddress(host: string, port: number): ClusterId | null {
    for (const cluster of this.#tiers.topology.clusters)
      if (cluster.servers.some((server) => server.address === host && server.port === port))
        return cluster.clusterId;
    return null;
  }
}

/** A host without its port; an IPv6 literal keeps its brackets. */
export function withoutPort(host: string): string {
  return host.replace(/:[0-9]+$/, "");
}

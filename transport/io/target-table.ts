/**
 * Which targets exist and which relays are candidates for each: from the topology, the origins of this server's
 * properties, and the path map once there is one.
 */
import {
  type ClusterEntry,
  type ClusterId,
  fibreRttMsMin,
  greatCircleKm,
  type IpPrefix,
  type MapSnapshot,
  type OriginTarget,
  type PathEntry,
  type Role,
  type ServerEntry,
  type ServerId,
  type TopologyDocument,
} from "#kit";
import { type AddressRefusal, privateOriginsOf, refusedAddress } from "../core/address-guard.ts";
import type { PathChooserSettings } from "../core/path-settings.ts";
import type { RelayCandidate } from "../core/path-words.ts";
import { formatAuthority } from "../core/relay-policy.ts";
import type { KnownOrigin, OriginIdentity } from "./face.ts";
import { Target, type TargetContext } from "./target.ts";

export type TargetTableOptions = {
  readonly selfServerId: ServerId;
  readonly selfClusterId: ClusterId;
  readonly topology: TopologyDocument;
  readonly mayUseRelays: boolean;
  readonly paths: Partial<PathChooserSettings>;
  readonly context: TargetContext;
};

/** Origins nobody configured, asked for all the same (alone mode, races with a new property). */
const LOOSE_ORIGINS_MAX = 1_000;

export class TargetTable {
  readonly #options: TargetTableOptions;
  #clusters = new Map<ClusterId, ClusterEntry>();
  #relays: readonly ClusterEntry[] = [];
  #entries = new Map<ServerId, { server: ServerEntry; cluster: ClusterEntry }>();
  /** Address of a server -> its cluster, to know a world origin by its address. */
  #clusterAt = new Map<string, ClusterId>();
  #selfRole: Role = "edge";
  readonly #servers = new Map<ServerId, Target>();
  #origins = new Map<string, Target>();
  readonly #looseOrigins = new Map<string, Target>();
  /** Of the snapshot, by target cluster. */
  #paths = new Map<ClusterId, PathEntry>();
  #measured: readonly Target[] = [];
  #privateAllowed: readonly IpPrefix[] = [];

  constructor(options: TargetTableOptions) {
    this.#options = options;
    this.setTopology(options.topology);
  }

  setTopology(topology: TopologyDocument): void {
    const { selfClusterId } = this.#options;
    this.#clusters = new Map(topology.clusters.map((cluster) => [cluster.clusterId, cluster]));
    this.#relays = topology.clusters.filter((one) => one.role === "relay" && one.servers.length > 0);
    this.#entries = new Map();
    this.#clusterAt = new Map();
    for (const cluster of topology.clusters) {
      for (const server of cluster.servers) {
        this.#entries.set(server.serverId, { server, cluster });
        this.#clusterAt.set(formatAuthority(server.address, server.port), cluster.clusterId);
      }
    }
    this.#selfRole = this.#clusters.get(selfClusterId)?.role ?? "edge";
    this.#privateAllowed = privateOriginsOf(topology);
    for (const [id, target] of this.#servers) {
      const now = this.#entries.get(id);
      const isSame =
        now?.server.address === target.endpoint.host &&
        now.server.port === target.endpoint.port &&
        now.cluster.clusterId === target.clusterId &&
        this.#isMeasured(now.cluster) === (target.chooser !== undefined);
      if (isSame) continue;
      this.#servers.delete(id);
      void target.close();
    }
    for (const [id, { cluster }] of this.#entries)
      if (this.#isMeasured(cluster) || this.#isPeer(id, cluster)) this.server(id);
    this.refreshRelays();
  }

  setOrigins(origins: readonly KnownOrigin[]): void {
    const next = new Map<string, Target>();
    for (const { origin, clusterId, identity } of origins) {
      const key = keyOfOrigin(origin, identity);
      if (next.has(key)) continue;
      const target = this.#origins.get(key) ?? this.#makeOrigin(origin, identity, clusterId, true);
      target.setIdentity(identity);
      next.set(key, target);
    }
    for (const [key, target] of this.#origins) if (!next.has(key)) void target.close();
    for (const key of next.keys()) {
      const loose = this.#looseOrigins.get(key);
      if (!loose) continue;
      this.#looseOrigins.delete(key);
      // Its exchanges end by themselves; new ones go to the measured target.
      loose.closeIdle(0);
    }
    this.#origins = next;
    this.refreshRelays();
  }

  setSnapshot(snapshot: MapSnapshot): void {
    this.#paths = new Map();
    for (const entry of snapshot.paths)
      if (entry.fromClusterId === this.#options.selfClusterId) this.#paths.set(entry.toClusterId, entry);
    this.refreshRelays();
  }

  /** Gives every measured target its candidate relays anew. */
  refreshRelays(): void {
    this.#measured = [...this.#servers.values(), ...this.#origins.values()].filter((one) => one.chooser);
    const now = this.#options.context.now();
    for (const target of this.#measured) target.chooser?.setRelays(this.#relaysFor(target), now);
  }

  server(id: ServerId): Target | undefined {
    const known = this.#servers.get(id);
    if (known) return known;
    const entry = this.#entries.get(id);
    if (!entry) return undefined;
    const { server, cluster } = entry;
    const target = new Target({
      key: `server ${id}`,
      label: `${cluster.role} ${JSON.stringify(id)}`,
      endpoint: {
        host: server.address,
        port: server.port,
        isTls: false,
        isOrigin: false,
        mayLink: cluster.role === "edge" || cluster.role === "parent",
      },
      clusterId: cluster.clusterId,
      // Its own address as Host: the admin surface, which answers whatever the cache does.
      probe: { method: "GET", path: "/livez", host: formatAuthority(server.address, server.port) },
      server,
      isNamedByConfiguration: true,
      paths: this.#isMeasured(cluster) ? this.#options.paths : undefined,
      context: this.#options.context,
    });
    this.#servers.set(id, target);
    return target;
  }

  origin(origin: OriginTarget, identity?: OriginIdentity): Target {
    const key = keyOfOrigin(origin, identity);
    const known = this.#origins.get(key) ?? this.#looseOrigins.get(key);
    if (known) {
      known.setIdentity(identity);
      return known;
    }
    if (this.#looseOrigins.size >= LOOSE_ORIGINS_MAX) {
      const oldest = this.#looseOrigins.entries().next();
      if (!oldest.done) {
        this.#looseOrigins.delete(oldest.value[0]);
        oldest.value[1].closeIdle(0);
      }
    }
    const target = this.#makeOrigin(origin, identity, null, false);
    this.#looseOrigins.set(key, target);
    return target;
  }

  /** A server of a relay cluster, one that is up if there is any; which one depends on this server, to spread load. */
  relayServer(via: ClusterId, isUp: (id: ServerId) => boolean): ServerEntry | undefined {
    const servers = this.#relays.find((one) => one.clusterId === via)?.servers ?? [];
    const live = servers.filter((one) => isUp(one.serverId));
    const usable = live.length > 0 ? live : servers;
    let sum = 0;
    for (const char of this.#options.selfServerId) sum += char.codePointAt(0) ?? 0;
    return usable[sum % Math.max(1, usable.length)];
  }

  /** Why no origin may have an address; undefined: it may. */
  refusedAddress(address: string, port: number, isNamed: boolean): AddressRefusal | undefined {
    const clusterId = this.#clusterAt.get(formatAuthority(address, port));
    const role = clusterId === undefined ? undefined : this.#clusters.get(clusterId)?.role;
    return refusedAddress({
      address,
      isNamed,
      isOwn: role !== undefined && role !== "origin",
      isOperators: role === "origin" && !isNamed,
      privateAllowed: this.#privateAllowed,
    });
  }

  /** Targets with a chooser. */
  get measured(): readonly Target[] {
    return this.#measured;
  }
  /** Servers whose liveness is followed: the measured ones and the own cluster's, which own a share of the keys. */
  get watched(): ReadonlyMap<ServerId, Target> {
    return new Map(
      [...this.#servers].filter(([id, target]) => {
        const cluster = this.#entries.get(id)?.cluster;
        return target.chooser !== undefined || (cluster !== undefined && this.#isPeer(id, cluster));
      }),
    );
  }
  get all(): readonly Target[] {
    return [...this.#servers.values(), ...this.#origins.values(), ...this.#looseOrigins.values()];
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map((target) => target.close()));
  }

  /** Edges and parents measure parents, relays and origins; relays measure parents and origins. Never the own cluster. */
  #isMeasured(cluster: ClusterEntry): boolean {
    if (cluster.clusterId === this.#options.selfClusterId) return false;
    return cluster.role === "parent" || (cluster.role === "relay" && this.#selfRole !== "relay");
  }

  #isPeer(id: ServerId, { clusterId, role }: ClusterEntry): boolean {
    const { selfServerId, selfClusterId } = this.#options;
    return clusterId === selfClusterId && id !== selfServerId && (role === "edge" || role === "parent");
  }

  #makeOrigin(
    origin: OriginTarget,
    identity: OriginIdentity | undefined,
    clusterId: ClusterId | null,
    isMeasured: boolean,
  ): Target {
    const { scheme, host, port, hostHeader, protocol, connectionsMax } = origin;
    const isDefaultPort = port === (scheme === "https" ? 443 : 80);
    return new Target({
      key: `origin ${keyOfOrigin(origin, identity)}`,
      label: `origin "${scheme}://${formatAuthority(host, port)}"`,
      endpoint: { host, port, isTls: scheme === "https", isOrigin: true, protocol, identity },
      clusterId: clusterId ?? this.#clusterAt.get(formatAuthority(host, port)) ?? null,
      probe: {
        method: "HEAD",
        path: "/",
        host: hostHeader ?? (isDefaultPort ? host : formatAuthority(host, port)),
      },
      isNamedByConfiguration: hostHeader !== undefined,
      connectionsMax,
      paths: isMeasured ? this.#options.paths : undefined,
      context: this.#options.context,
    });
  }

  #relaysFor(target: Target): RelayCandidate[] {
    const { selfClusterId, mayUseRelays } = this.#options;
    if (!mayUseRelays || this.#selfRole === "relay" || target.clusterId === selfClusterId) return [];
    const role = target.clusterId === null ? "origin" : this.#clusters.get(target.clusterId)?.role;
    if (role === "relay") return [];
    const known = new Map(
      this.#relays.filter((one) => one.clusterId !== selfClusterId).map((one) => [one.clusterId, one]),
    );
    const entry = target.clusterId === null ? undefined : this.#paths.get(target.clusterId);
    if (entry) {
      const direct = entry.candidates.find((one) => one.via === null);
      const rest: RelayCandidate[] = [];
      for (const { via, rttMs } of entry.candidates) {
        if (via !== null && known.has(via)) rest.push({ via, mapRttMs: rttMs });
      }
      target.chooser?.setMapRtt(direct?.rttMs);
      return rest;
    }
    return [...known.values()]
      .map((relay) => ({ via: relay.clusterId, estimateMs: this.#estimateMs(relay, target.clusterId) }))
      .sort((a, b) => a.estimateMs - b.estimateMs || (a.via < b.via ? -1 : 1))
      .map(({ via }) => ({ via }));
  }

  /** Own measured link to the relay where there is one, geography for the rest: only an order for who is measured first. */
  #estimateMs(relay: ClusterEntry, toClusterId: ClusterId | null): number {
    const now = this.#options.context.now();
    let ownMs: number | undefined;
    for (const { serverId } of relay.servers) {
      const srttMs = this.#servers.get(serverId)?.chooser?.states(now)[0]?.srttMs;
      if (srttMs !== undefined) ownMs = Math.min(ownMs ?? srttMs, srttMs);
    }
    const self = this.#clusters.get(this.#options.selfClusterId);
    const to = toClusterId === null ? undefined : this.#clusters.get(toClusterId);
    ownMs ??= self ? fibreRttMsMin(greatCircleKm(self.coordinates, relay.coordinates)) : 0;
    return ownMs + (to ? fibreRttMsMin(greatCircleKm(relay.coordinates, to.coordinates)) : 0);
  }
}

/** Two properties with the same origin share its connections, unless they ask for it by different names, state another protocol or other bounds, or show a certificate. */
function keyOfOrigin(origin: OriginTarget, identity: OriginIdentity | undefined): string {
  const { scheme, host, port, hostHeader, protocol = "http/1.1", connectionsMax } = origin;
  const name = hostHeader === undefined ? "" : `#${hostHeader}`;
  const bound = connectionsMax === undefined ? "" : ` connectionsMax ${connectionsMax}`;
  const shown = identity === undefined ? "" : ` as ${identity.owner}`;
  const spoken = protocol === "http/1.1" ? "" : ` ${protocol}`;
  return `${scheme}://${formatAuthority(host, port)}${name}${spoken}${bound}${shown}`;
}

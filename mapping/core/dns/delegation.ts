/**
 * Two levels of name servers (Nygren, Sitaraman, Sun, "The Akamai Network", section 5.2): those at the top refer whoever asks below the
 * delegated zone to a few that stand with edge clusters near the resolver, and are not asked again for an hour. The names handed out
 * are always the same ones; their addresses depend on who asks, by the map. So the NS set is one set, on both sides of the cut.
 */
import {
  type ClusterId,
  formatAddress,
  type IpAddress,
  type IpFamily,
  parseAddress,
  type ServerId,
  type TopologyDocument,
} from "#kit";
import { type MapIndex, NO_NETWORK } from "../map-index.ts";
import type { TopologyIndex } from "../topology-index.ts";
import { dnsClasses, dnsTypes } from "./constants.ts";
import type { DnsRecord } from "./message.ts";
import { type DomainName, nameFromText } from "./name.ts";

/** What decides who is near: a name server's context, replaced as a whole when any of it changes. */
interface MapState {
  readonly topology: TopologyIndex;
  readonly snapshot: MapIndex | null;
  readonly isUp: (serverId: ServerId) => boolean;
}

/** A name server that stands with an edge cluster. */
interface LowLevelServer {
  readonly serverId: ServerId;
  readonly clusterId: ClusterId;
  readonly address: IpAddress;
}

export interface Delegation {
  readonly origin: DomainName;
  /** The NS set, n1 to nK below the zone. */
  readonly ns: readonly DnsRecord[];
  readonly names: readonly DomainName[];
  readonly ttlSeconds: number;
  readonly servers: readonly LowLevelServer[];
}

/** Undefined where the topology delegates nothing. */
export function delegationOf(topology: TopologyDocument): Delegation | undefined {
  const { delegation, nameServers } = topology.nameService;
  const origin = delegation === undefined ? undefined : nameFromText(delegation.zone);
  if (delegation === undefined || origin === undefined) return undefined;
  const { ttlSeconds, nameServersMax } = delegation;
  const servers = nameServers.flatMap(({ serverId, edgeClusterId, address: text }): LowLevelServer[] => {
    const address = parseAddress(text);
    return edgeClusterId === undefined || address === undefined
      ? []
      : [{ serverId, clusterId: edgeClusterId, address }];
  });
  const names = Array.from(
    { length: nameServersMax },
    (_, n) => nameFromText(`n${n + 1}.${delegation.zone}`) as DomainName,
  );
  const ns = names.map(
    (name): DnsRecord => ({
      name: origin,
      type: dnsTypes.NS,
      class: dnsClasses.IN,
      ttlSeconds,
      data: { kind: "name", name },
    }),
  );
  return { origin, ns, names, ttlSeconds, servers };
}

/** Resolvers whose name servers are kept; a context lives for seconds. */
const KEPT_MAX = 4_096;
const kept = new WeakMap<MapState, Map<string, readonly IpAddress[]>>();

/**
 * The addresses of n1 to nK for a resolver, nearest first; as many as there are names, the first ones again where there are fewer
 * servers. Empty: there is no name server of the family.
 *
 * Order of clusters as for an answer to the resolver itself. One server of each cluster first, live and not suspended; the last one of
 * another region than all before it where there is one, so that no region's death leaves a resolver alone. All down means all up.
 */
export function nameServersFor(
  context: MapState,
  delegation: Delegation,
  resolver: IpAddress,
  family: IpFamily,
): readonly IpAddress[] {
  let byResolver = kept.get(context);
  if (byResolver === undefined || byResolver.size >= KEPT_MAX) {
    byResolver = new Map();
    kept.set(context, byResolver);
  }
  const key = `${family} ${networkKey(context, resolver)}`;
  let addresses = byResolver.get(key);
  if (addresses === undefined) {
    addresses = choose(context, delegation, resolver, family);
    byResolver.set(key, addresses);
  }
  return addresses;
}

/** All resolvers of one client network are told the same; one that the map knows by its address has its own. */
function networkKey({ snapshot }: MapState, resolver: IpAddress): string {
  if (snapshot === null) return "";
  return snapshot.resolver(resolver) === undefined
    ? String(snapshot.lookup(resolver))
    : formatAddress(resolver);
}

function choose(
  context: MapState,
  { servers, names }: Delegation,
  resolver: IpAddress,
  family: IpFamily,
): readonly IpAddress[] {
  const own = servers.filter((server) => server.address.family === family);
  const byCluster = Map.groupBy(own, (server) => server.clusterId);
  const order = clusterOrder(context, resolver).filter((clusterId) => byCluster.has(clusterId));
  const suspended = context.snapshot?.snapshot.suspended ?? {};
  const isLive = ({ serverId }: LowLevelServer): boolean => context.isUp(serverId);
  const liveOf = (clusterId: ClusterId): LowLevelServer[] => (byCluster.get(clusterId) ?? []).filter(isLive);
  const best = order
    .filter((clusterId) => suspended[clusterId] !== true)
    .flatMap((clusterId) => liveOf(clusterId).slice(0, 1));
  const chosen = new Set<LowLevelServer>(withOtherRegion(context, best, names.length));
  const everyone = order.flatMap((clusterId) => byCluster.get(clusterId) ?? []);
  for (const server of everyone) if (chosen.size < names.length && isLive(server)) chosen.add(server);
  const named = chosen.size > 0 ? [...chosen] : everyone.slice(0, names.length);
  if (named.length === 0) return [];
  return names.map((_, n) => (named[n % named.length] as LowLevelServer).address);
}

/** The first `count` of `servers`, the last of them of another region when they would all be of one. */
function withOtherRegion(
  { topology }: MapState,
  servers: readonly LowLevelServer[],
  count: number,
): readonly LowLevelServer[] {
  const regionOf = ({ clusterId }: LowLevelServer) => topology.clusters.get(clusterId)?.regionId;
  const first = servers.slice(0, count);
  const [nearest] = first;
  if (nearest === undefined || first.length < count || count < 2) return first;
  if (first.some((server) => regionOf(server) !== regionOf(nearest))) return first;
  const other = servers.find((server) => regionOf(server) !== regionOf(nearest));
  return other === undefined ? first : [...first.slice(0, -1), other];
}

/** Edge clusters in the order in which the resolver itself would be sent to them. */
function clusterOrder({ snapshot, topology }: MapState, resolver: IpAddress): readonly ClusterId[] {
  const order = new Set<ClusterId>();
  if (snapshot !== null) {
    const { table } = snapshot;
    const add = (subject: number): void => {
      for (let place = 0; place < table.rankingLength(subject, 0); place++)
        order.add(table.clusterIds[table.clusterAt(subject, 0, place)] as ClusterId);
    };
    const known = snapshot.resolver(resolver);
    if (known !== undefined) for (const { clusterId } of known.clusters.interactive) order.add(clusterId);
    const network = snapshot.lookup(resolver);
    if (network !== NO_NETWORK) add(network);
    add(table.fallbackNumber);
  }
  for (const clusterId of topology.edgeClusters.keys()) order.add(clusterId);
  return [...order];
}

/**
 * Who listens where when a world runs on one machine, and the documents that follow. Every server gets a loopback address
 * of its own and the same port, as servers in the field would; where the range 127.0.0.0/8 is not bound to the loopback
 * interface (macOS), all share 127.0.0.1 and each has a port of its own.
 */
import {
  type ClusterId,
  type PropertyDocument,
  propertyDocument,
  type RegionId,
  type Role,
  type ServerId,
  type TopologyDocument,
  topologyDocument,
} from "#kit";
import { rawPropertyDocument } from "./property-of.ts";
import type { World, WorldCluster } from "./world.ts";

export interface AddressPlanOptions {
  /** First two octets of the loopback addresses, such as "127.10"; undefined: 127.0.0.1 with a port for each process. */
  readonly loopback: string | undefined;
  /** HTTP port of every server; the first of the ports in a row without a loopback range. */
  readonly port: number;
  /** DNS port of every name server; the first of the ports in a row without a loopback range. */
  readonly dnsPort: number;
}

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** A process and the site it stands at. */
export interface PlannedProcess extends Endpoint {
  readonly clusterId: ClusterId;
}

export interface PlannedMapper extends PlannedProcess {
  /** "mapper", "mapper-2" ... */
  readonly mapperId: string;
}

export interface PlannedServer extends PlannedProcess {
  readonly serverId: ServerId;
  readonly regionId: RegionId;
  readonly role: Role;
  readonly city: string;
  /** Null unless the role is nameserver. */
  readonly dnsPort: number | null;
}

export interface AddressPlan {
  /** Control and portal stand at one site, and the mapper unless the world says otherwise. */
  readonly control: PlannedProcess;
  /** At least one. */
  readonly mappers: readonly PlannedMapper[];
  readonly portal: PlannedProcess;
  /** In file order; `<cluster>-<n>`, n from 1. A site of role service has none: control, mapper and portal are its processes. */
  readonly servers: readonly PlannedServer[];
  /** Site of every planned address, keyed "address", or "address:port" when one address is shared. Prototype-free. */
  readonly siteOfAddress: Readonly<Record<string, ClusterId>>;
}

/** `fra`, 2 -> `fra-2`. */
export function serverIdOf(clusterId: ClusterId, n: number): ServerId {
  return `${clusterId}-${n}` as ServerId;
}

/**
 * Cluster number c (from 1, in file order) and server n (from 1): 127.10.c.n; from the 256th cluster on the second octet
 * carries over. Control, mapper and portal are 127.10.0.1, .2 and .3 and stand at the first cluster of role service, else
 * of role parent, else at the first cluster; further mappers are .4 and on, and stand where the world says.
 *
 * Throws RangeError when the world does not fit: addresses beyond 127.255.255.255, ports beyond 65535 or DNS ports that
 * overlap the HTTP ports.
 */
export function planAddresses(world: World, options: AddressPlanOptions): AddressPlan {
  const sites = sitesOf(world);
  const next = allocator(world, options);
  const clusterId = serviceSite(sites.map((site) => site.cluster));
  const control = { clusterId, ...next.service(1) };
  const [mapperSite = clusterId, ...otherMapperSites] = world.mappers ?? [];
  const mapper = { mapperId: "mapper", clusterId: mapperSite, ...next.service(2) };
  const portal = { clusterId, ...next.service(3) };
  const mappers: PlannedMapper[] = [mapper];
  for (const [n, site] of otherMapperSites.entries())
    mappers.push({ mapperId: `mapper-${n + 2}`, clusterId: site, ...next.service(4 + n) });
  const servers: PlannedServer[] = [];
  for (const [c, { regionId, cluster }] of sites.entries()) {
    for (let n = 1; n <= serversIn(cluster); n++) {
      servers.push({
        serverId: serverIdOf(cluster.id, n),
        clusterId: cluster.id,
        regionId,
        role: cluster.role,
        city: cluster.city,
        ...next.server(c + 1, n),
        dnsPort: cluster.role === "nameserver" ? next.dnsPort() : null,
      });
    }
  }
  const siteOfAddress = Object.create(null) as Record<string, ClusterId>;
  const key = (at: Endpoint) => (options.loopback === undefined ? `${at.address}:${at.port}` : at.address);
  for (const one of [control, ...mappers, portal]) siteOfAddress[key(one)] = one.clusterId;
  for (const one of servers) {
    siteOfAddress[key(one)] = one.clusterId;
    if (one.dnsPort !== null && options.loopback === undefined) {
      siteOfAddress[`${one.address}:${one.dnsPort}`] = one.clusterId;
    }
  }
  return { control, mappers, portal, servers, siteOfAddress };
}

/** The topology document: names, places and addresses; no travel time. Its name is the world's. */
export function topologyOf(world: World, plan: AddressPlan): TopologyDocument {
  const byCluster = Map.groupBy(plan.servers, (server) => server.clusterId);
  const { zone, hostmaster, delegation } = world.nameService;
  const edgeClusters = new Map(sitesOf(world).map(({ cluster }) => [cluster.id, cluster.edgeCluster]));
  const withEdge = (edgeClusterId: ClusterId | undefined) => edgeClusterId !== undefined && { edgeClusterId };
  const customerZones = world.customers.flatMap((customer) => customer.zones);
  return topologyDocument.parse({
    name: world.name,
    clusters: sitesOf(world).map(({ regionId, cluster }) => ({
      clusterId: cluster.id,
      regionId,
      role: cluster.role,
      city: cluster.city,
      coordinates: cluster.coordinates,
      ...(cluster.pricePerGb !== undefined && { pricePerGb: cluster.pricePerGb }),
      servers: (byCluster.get(cluster.id) ?? []).map((server) => ({
        serverId: server.serverId,
        address: server.address,
        port: server.port,
        capacityPerSecond: cluster.capacityPerSecond,
        ...(cluster.bitsPerSecondMax !== undefined && { bitsPerSecondMax: cluster.bitsPerSecondMax }),
      })),
    })),
    shareMax: world.shareMax,
    limits: world.limits,
    nameService: {
      zones: [...customerZones, zone],
      hostmaster,
      nameServers: plan.servers
        .filter((server) => server.dnsPort !== null)
        .map((server, index) => ({
          serverId: server.serverId,
          name: `ns${index + 1}.${zone}`,
          address: server.address,
          dnsPort: server.dnsPort,
          ...withEdge(edgeClusters.get(server.clusterId)),
        })),
      ...(delegation !== undefined && { delegation }),
    },
  });
}

/** One document a property, in file order. An origin cluster becomes the address of its first server. */
export function propertiesOf(world: World, plan: AddressPlan): PropertyDocument[] {
  const first = new Map<ClusterId, PlannedServer>();
  for (const server of plan.servers) if (!first.has(server.clusterId)) first.set(server.clusterId, server);
  return world.customers.flatMap((customer) =>
    customer.properties.map((property) =>
      propertyDocument.parse(
        rawPropertyDocument(customer.id, property, (clusterId) => {
          const server = first.get(clusterId);
          if (server === undefined)
            throw new RangeError(`Cannot plan property ${property.id}: no server in ${clusterId}`);
          return server;
        }),
      ),
    ),
  );
}

function sitesOf(world: World): { readonly regionId: RegionId; readonly cluster: WorldCluster }[] {
  return world.regions.flatMap((region) =>
    region.clusters.map((cluster) => ({ regionId: region.id, cluster })),
  );
}

function serversIn(cluster: WorldCluster): number {
  return cluster.role === "service" ? 0 : cluster.servers;
}

function serviceSite(clusters: readonly WorldCluster[]): ClusterId {
  const site =
    clusters.find((cluster) => cluster.role === "service") ??
    clusters.find((cluster) => cluster.role === "parent") ??
    clusters[0];
  if (site === undefined) throw new RangeError("Cannot plan addresses: the world has no cluster");
  return site.id;
}

interface Allocator {
  service(n: number): Endpoint;
  server(clusterNumber: number, n: number): Endpoint;
  dnsPort(): number;
}

function allocator(world: World, options: AddressPlanOptions): Allocator {
  const { loopback, port, dnsPort } = options;
  if (loopback !== undefined) {
    const parts = /^127\.([0-9]{1,3})$/.exec(loopback);
    const second = Number(parts?.[1] ?? Number.NaN);
    const at = (clusterNumber: number, n: number): Endpoint => {
      const octet = second + Math.floor(clusterNumber / 256);
      if (!(octet <= 255) || n > 254) {
        throw new RangeError(
          `Cannot plan addresses for "${world.name}" from loopback ${JSON.stringify(loopback)}: expected "127." and an octet with room for its clusters`,
        );
      }
      return { address: `127.${octet}.${clusterNumber % 256}.${n}`, port };
    };
    return { service: (n) => at(0, n), server: at, dnsPort: () => dnsPort };
  }
  const counts = { http: 0, dns: 0 };
  const count = sitesOf(world).reduce(
    (sum, { cluster }) => sum + serversIn(cluster),
    2 + Math.max(1, world.mappers?.length ?? 0),
  );
  const dnsCount = sitesOf(world).reduce(
    (sum, { cluster }) => sum + (cluster.role === "nameserver" ? cluster.servers : 0),
    0,
  );
  const overlaps = dnsCount > 0 && port < dnsPort + dnsCount && dnsPort < port + count;
  if (port + count - 1 > 65_535 || dnsPort + dnsCount - 1 > 65_535 || overlaps) {
    throw new RangeError(
      `Cannot plan ports for "${world.name}": ${count} from ${port} and ${dnsCount} DNS ports from ${dnsPort} must end by 65535 and not overlap`,
    );
  }
  const take = (): Endpoint => ({ address: "127.0.0.1", port: port + counts.http++ });
  return { service: take, server: take, dnsPort: () => dnsPort + counts.dns++ };
}

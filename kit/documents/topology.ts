/**
 * Who is who: sites, servers and the name service. Names, places and addresses only - no travel time stands here, because
 * travel times are measured, never declared.
 */
import { type ClusterId, hostname, id, type RegionId, type ServerId } from "../ids.ts";
import { formatAddress, formatPrefix, parseAddress, parsePrefix } from "../ip.ts";
import {
  array,
  defaulted,
  integer,
  line,
  number,
  object,
  oneOf,
  optional,
  type Parsed,
  type Path,
  refine,
  text,
} from "../schema.ts";

/** What the servers of a cluster do. A `service` site holds control, mapper and portal. */
export const roles = ["edge", "parent", "relay", "origin", "nameserver", "service"] as const;
export type Role = (typeof roles)[number];

/** An address in canonical text form (RFC 5952 for IPv6). */
export function addressText() {
  return text((value) => {
    const address = parseAddress(value);
    return address === undefined ? undefined : formatAddress(address);
  }, "an IPv4 or IPv6 address");
}

/** `prefix/length` in canonical text form. */
export function prefixText() {
  return text((value) => {
    const prefix = parsePrefix(value);
    return prefix === undefined ? undefined : formatPrefix(prefix);
  }, 'an address prefix without host bits, such as "192.0.2.0/24"');
}

export const coordinates = object({
  latitude: number({ min: -90, max: 90, unit: "degrees" }),
  longitude: number({ min: -180, max: 180, unit: "degrees" }),
});

function bitsPerSecond() {
  return number({ min: 1, max: 1e15, unit: "bits per second" });
}

/** In any one currency: the mapper weighs it in milliseconds, by traffic class. */
export function pricePerGb() {
  return number({ min: 0, max: 1_000, unit: "money for a gigabyte to clients" });
}

const server = object({
  serverId: id<ServerId>(),
  address: addressText(),
  /** HTTP port (data plane, and the admin surface when Host is the server's own address). */
  port: integer({ min: 1, max: 65_535 }),
  /** What the server can answer, for allocation and the suspension quota. */
  capacityPerSecond: defaulted(number({ min: 1, max: 1e9, unit: "requests per second" }), 1_000),
  /** What its uplink carries. A cluster of which one server states none is bounded by requests alone. */
  bitsPerSecondMax: optional(bitsPerSecond()),
});
export type ServerEntry = Parsed<typeof server>;

const cluster = object({
  clusterId: id<ClusterId>(),
  regionId: id<RegionId>(),
  role: oneOf(roles),
  city: line(80),
  coordinates,
  pricePerGb: optional(pricePerGb()),
  servers: array(server, { max: 1_000, uniqueBy: (entry) => entry.serverId }),
});
export type ClusterEntry = Parsed<typeof cluster>;

/** What limits every cluster by itself: its servers' requests, their uplinks, its share of all demand. */
export const ownLimitNames = ["capacity", "bandwidth", "share"] as const;

/**
 * What some clusters may take together, beside what each can take alone: the uplink of a region, the commitment of a contract.
 * It holds as stated: no ceiling is taken off it. Counted is what clients are sent to edge clusters for.
 */
const limit = object({
  /** What `isochrone where` calls it. */
  name: id(),
  /** Either the clusters by name or all of a region. */
  clusterIds: optional(array(id<ClusterId>(), { min: 1, max: 5_000, uniqueBy: (clusterId) => clusterId })),
  regionId: optional(id<RegionId>()),
  requestsPerSecondMax: optional(number({ min: 1, max: 1e12, unit: "requests per second" })),
  bitsPerSecondMax: optional(bitsPerSecond()),
  /** Of a contract: on top of what each of its clusters costs by itself. */
  pricePerGb: optional(pricePerGb()),
});
export type TopologyLimit = Parsed<typeof limit>;

/** `shareMax` and `limits` of a deployment, the same words in a topology and in a world file. */
export const limitFields = {
  /** No single cluster is sent more than this share of all demand, however near it is; 1: off. Never below an equal share. */
  shareMax: defaulted(number({ min: 0.001, max: 1 }), 1),
  limits: defaulted(array(limit, { max: 1_000, uniqueBy: (entry) => entry.name }), []),
};

/** A zone that name servers near the resolvers answer for; the same words in a topology and in a world file. */
export const delegationSchema = object({
  zone: hostname(),
  /** Of the NS set and the name servers' addresses: how long a resolver does not ask at the top. */
  ttlSeconds: defaulted(integer({ min: 1, max: 604_800, unit: "seconds" }), 3_600),
  /** Name servers that a resolver is told of. */
  nameServersMax: defaulted(integer({ min: 2, max: 8 }), 4),
});

const nameService = object({
  /** Zones that the name servers are authoritative for. */
  zones: array(hostname(), { max: 1_000, uniqueBy: (zone) => zone }),
  /** Contact in the SOA record, as a domain name. */
  hostmaster: defaulted(hostname(), "hostmaster.invalid"),
  nameServers: array(
    object({
      serverId: id<ServerId>(),
      name: hostname(),
      address: addressText(),
      dnsPort: integer({ min: 1, max: 65_535 }),
      /** It stands with this edge cluster and answers for the delegated zone alone; without it, it is one of those at the top. */
      edgeClusterId: optional(id<ClusterId>()),
    }),
    { max: 10_000, uniqueBy: (entry) => entry.serverId },
  ),
  /** A zone below one of `zones` that name servers near the resolvers answer for: each property has a name there, its id. */
  delegation: optional(delegationSchema),
});
type NameService = Parsed<typeof nameService>;

export const topologyDocument = refine(
  object({
    /** World or deployment name. */
    name: id(),
    clusters: array(cluster, { min: 1, max: 5_000, uniqueBy: (entry) => entry.clusterId }),
    ...limitFields,
    /**
     * Networks that no one routes between strangers (RFC 1918, 4193, 6598, loopback) in which customers may have origins, beside the
     * origins of this document. Absent: those kinds of networks that its other servers stand in themselves.
     */
    privateOrigins: optional(array(prefixText(), { max: 100, uniqueBy: (prefix) => prefix })),
    nameService,
  }),
  (topology) => {
    const seen = new Set<string>();
    for (const [c, one] of topology.clusters.entries()) {
      for (const [s, entry] of one.servers.entries()) {
        if (seen.has(entry.serverId)) {
          return {
            at: ["clusters", c, "servers", s, "serverId"],
            value: entry.serverId,
            expected: "a name that no other server has",
          };
        }
        seen.add(entry.serverId);
      }
    }
    return limitProblem(topology.limits, topology.clusters) ?? delegationProblem(topology);
  },
);
export type TopologyDocument = Parsed<typeof topologyDocument>;

function delegationProblem({
  clusters,
  nameService: { zones, nameServers, delegation },
}: {
  readonly clusters: readonly ClusterEntry[];
  readonly nameService: NameService;
}): { readonly at: Path; readonly value: unknown; readonly expected: string } | undefined {
  const edges = new Set(clusters.filter(({ role }) => role === "edge").map(({ clusterId }) => clusterId));
  for (const [n, { edgeClusterId }] of nameServers.entries()) {
    const at = ["nameService", "nameServers", n, "edgeClusterId"];
    if (edgeClusterId !== undefined && !edges.has(edgeClusterId))
      return { at, value: edgeClusterId, expected: "the name of an edge cluster" };
    if (edgeClusterId !== undefined && delegation === undefined)
      return { at, value: edgeClusterId, expected: "nothing: no zone is delegated" };
  }
  if (delegation === undefined) return undefined;
  const at = ["nameService", "delegation", "zone"];
  const { zone } = delegation;
  if (zones.includes(zone) || !zones.some((one) => zone.endsWith(`.${one}`)))
    return { at, value: zone, expected: "a name below one of the zones, and not one of them" };
  const inside = zones.find((one) => one.endsWith(`.${zone}`));
  if (inside !== undefined) return { at, value: zone, expected: `a name that "${inside}" is not below` };
  if (nameServers.every(({ edgeClusterId }) => edgeClusterId === undefined))
    return { at, value: zone, expected: "name servers with an edgeClusterId, to delegate it to" };
  return undefined;
}

/** The first limit that names what is not there, both or neither of clusters and region, or bounds nothing. */
export function limitProblem(
  limits: readonly TopologyLimit[],
  clusters: readonly Pick<ClusterEntry, "clusterId" | "regionId">[],
): { readonly at: Path; readonly value: unknown; readonly expected: string } | undefined {
  const clusterIds = new Set(clusters.map(({ clusterId }) => clusterId));
  const regionIds = new Set(clusters.map(({ regionId }) => regionId));
  for (const [
    n,
    { name, clusterIds: named, regionId, requestsPerSecondMax, bitsPerSecondMax, pricePerGb: price },
  ] of limits.entries()) {
    const at = ["limits", n];
    if (ownLimitNames.some((own) => own === name))
      return { at: [...at, "name"], value: name, expected: "a name that is not a cluster's own limit's" };
    if ((named === undefined) === (regionId === undefined))
      return { at, value: limits[n], expected: "either clusterIds or regionId" };
    if (requestsPerSecondMax === undefined && bitsPerSecondMax === undefined && price === undefined)
      return { at, value: limits[n], expected: "requestsPerSecondMax, bitsPerSecondMax or pricePerGb" };
    if (regionId !== undefined && !regionIds.has(regionId))
      return { at: [...at, "regionId"], value: regionId, expected: "a region that has a cluster" };
    const unknown = named?.findIndex((clusterId) => !clusterIds.has(clusterId)) ?? -1;
    if (unknown !== -1)
      return { at: [...at, "clusterIds", unknown], value: named?.[unknown], expected: "a cluster's name" };
  }
  return undefined;
}

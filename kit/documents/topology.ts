/**
 * Who is who: sites, servers and the name service. Names, places and addresses only - no travel time stands here, because
 * travel times are measured, never declared.
 */
import { type ClusterId, hostname, id, type RegionId, type ServerId } from "../ids.ts";
import { formatAddress, parseAddress } from "../ip.ts";
import {
  array,
  defaulted,
  integer,
  line,
  number,
  object,
  oneOf,
  type Parsed,
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

export const coordinates = object({
  latitude: number({ min: -90, max: 90, unit: "degrees" }),
  longitude: number({ min: -180, max: 180, unit: "degrees" }),
});

const server = object({
  serverId: id<ServerId>(),
  address: addressText(),
  /** HTTP port (data plane, and the admin surface when Host is the server's own address). */
  port: integer({ min: 1, max: 65_535 }),
  /** What the server can answer, for allocation and the suspension quota. */
  capacityPerSecond: defaulted(number({ min: 1, max: 1e9, unit: "requests per second" }), 1_000),
});
export type ServerEntry = Parsed<typeof server>;

const cluster = object({
  clusterId: id<ClusterId>(),
  regionId: id<RegionId>(),
  role: oneOf(roles),
  city: line(80),
  coordinates,
  servers: array(server, { max: 1_000, uniqueBy: (entry) => entry.serverId }),
});
export type ClusterEntry = Parsed<typeof cluster>;

export const topologyDocument = refine(
  object({
    /** World or deployment name. */
    name: id(),
    clusters: array(cluster, { min: 1, max: 5_000, uniqueBy: (entry) => entry.clusterId }),
    nameService: object({
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
        }),
        { max: 100, uniqueBy: (entry) => entry.serverId },
      ),
    }),
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
    return undefined;
  },
);
export type TopologyDocument = Parsed<typeof topologyDocument>;

/**
 * A world: a whole deployment in one file - sites, links, servers, clients, customers and their properties. It is what
 * `isochrone up` starts, what the simulator runs and what a stand-alone name server reads.
 */
import {
  array,
  boolean,
  type ClientNetworkId,
  type ClusterId,
  type CustomerId,
  coordinates,
  delegationSchema,
  defaulted,
  either,
  hostname,
  id,
  integer,
  limitFields,
  line,
  number,
  object,
  oneOf,
  optional,
  type Parsed,
  ParseError,
  type PropertyId,
  prefixText,
  pricePerGb,
  propertyDocument,
  type RegionId,
  roles,
  type Schema,
  string,
} from "#kit";

const siteId = () => id<ClusterId>();
const rttMs = () => number({ min: 0, max: 10_000, unit: "ms" });
const lossRatio = () => number({ min: 0, max: 1 });
const bandwidthMbps = () => number({ min: 0.1, max: 1_000_000, unit: "Mbit/s" });

const cluster = object({
  id: siteId(),
  city: line(80),
  country: optional(string({ min: 2, max: 2, pattern: /^[A-Z]{2}$/, expected: "a two-letter country code" })),
  coordinates,
  role: oneOf(roles),
  /** Of no meaning for role `service`, where control, mapper and portal stand. At most 250, so that a cluster fits one last octet of the loopback range (address-plan.ts). */
  servers: defaulted(integer({ min: 1, max: 250 }), 1),
  /** Of a name server: the edge cluster with which it stands. It answers for the delegated zone alone. */
  edgeCluster: optional(siteId()),
  /** Of a name server: it takes documents so much later, and answers only while no other one does (`isochrone dns --input-delay`). */
  inputDelaySeconds: optional(integer({ min: 1, max: 86_400, unit: "seconds" })),
  /** What one server of this cluster can answer. */
  capacityPerSecond: defaulted(number({ min: 1, max: 1e9 }), 1_000),
  /** What the uplink of one server of this cluster carries. */
  bitsPerSecondMax: optional(number({ min: 1, max: 1e15, unit: "bits per second" })),
  /** What a gigabyte from here to clients costs. */
  pricePerGb: optional(pricePerGb()),
  /** Time between the site and the nearest exchange, there and back; part of the generated round-trip times. */
  accessMs: optional(number({ min: 0, max: 1_000, unit: "ms" })),
});
export type WorldCluster = Parsed<typeof cluster>;

const region = object({
  id: id<RegionId>(),
  name: optional(line(80)),
  clusters: array(cluster, { min: 1, max: 1_000 }),
});

const clientNetwork = object({
  id: id<ClientNetworkId>(),
  city: line(80),
  country: optional(string({ min: 2, max: 2, pattern: /^[A-Z]{2}$/, expected: "a two-letter country code" })),
  continent: oneOf(["africa", "asia", "europe", "north-america", "oceania", "south-america"]),
  coordinates,
  prefixes: array(prefixText(), { min: 1, max: 1_000 }),
  /** Requests a second that its users make when the simulator or the feed needs demand. */
  demandPerSecond: defaulted(number({ min: 0, max: 1e9 }), 10),
  accessMs: optional(number({ min: 0, max: 1_000, unit: "ms" })),
});
export type WorldClientNetwork = Parsed<typeof clientNetwork>;

/** A link that is known, in place of the generated one; both ways unless `isOneWay`. Ends are cluster or client network ids. */
const givenLink = object({
  from: id(),
  to: id(),
  rttMs: optional(rttMs()),
  lossRatio: optional(lossRatio()),
  bandwidthMbps: optional(bandwidthMbps()),
  isOneWay: optional(boolean()),
});

const links = object({
  model: defaulted(
    object({
      /** Length of the fibre over the great circle; 1.5 is usual between well-connected cities. */
      fibreDetour: defaulted(number({ min: 1, max: 10 }), 1.5),
      /** Spread of the detour from pair to pair (standard deviation of its logarithm). */
      detourSpread: defaulted(number({ min: 0, max: 2 }), 0.15),
      /** Access cost of a site that states none, both ways. */
      siteAccessMs: defaulted(number({ min: 0, max: 1_000, unit: "ms" }), 0.5),
      clientAccessMs: defaulted(number({ min: 0, max: 1_000, unit: "ms" }), 8),
      lossPerThousandKm: defaulted(lossRatio(), 0.0005),
      bandwidthMbps: defaulted(bandwidthMbps(), 1_000),
    }),
    {
      fibreDetour: 1.5,
      detourSpread: 0.15,
      siteAccessMs: 0.5,
      clientAccessMs: 8,
      lossPerThousandKm: 0.0005,
      bandwidthMbps: 1_000,
    },
  ),
  given: defaulted(array(givenLink, { max: 100_000 }), []),
});

/** Names of the name servers themselves: `ns1.<zone>`, `ns2.<zone>` ...; `.invalid` (RFC 6761 section 6.4) where nothing is stated. */
const nameService = object({
  zone: defaulted(hostname(), "isochrone.invalid"),
  /** Contact in the SOA record, as a domain name (RFC 1035 section 3.3.13). */
  hostmaster: defaulted(hostname(), "hostmaster.invalid"),
  /** Below `zone`; for name servers with an `edgeCluster`. */
  delegation: optional(delegationSchema),
});

/** What origin-sim can serve; see origin-sim/README.md. */
export const contentKinds = ["static", "page", "download", "hls"] as const;
export type ContentKind = (typeof contentKinds)[number];

/** Fields of the property document that a world may state: all but those that it says in its own way. */
const SETTINGS = [
  "trafficClass",
  "tiering",
  "caching",
  "rules",
  "prefetch",
  "compression",
  "beacon",
  "access",
  "forwardsMax",
  "dnsTtlSeconds",
] as const;

/** A property as the world states it: the document, with the origin named by cluster or by URL parts. */
const worldProperty = object({
  id: id<PropertyId>(),
  hostnames: array(hostname(), { min: 1, max: 100, uniqueBy: (name) => name }),
  /** The cluster of role `origin` that holds it, or an address outside of the world. */
  origin: either(
    object({ cluster: siteId() }),
    object({
      url: string({
        max: 2_048,
        pattern: /^https?:\/\/[^/?#]+\/?$/,
        expected: "an http or https URL without path",
      }),
    }),
    "a mapping with cluster or url",
  ),
  /** What origin-sim serves for it. */
  content: optional(oneOf(contentKinds)),
  /** Any further field of the property document (trafficClass, tiering, caching, rules, prefetch, compression, access, ...). */
  settings: optional(passThrough()),
});
export type WorldProperty = Parsed<typeof worldProperty>;

/** Checked as part of the property document that is made of it, so that its errors carry that document's words. */
function passThrough(): Schema<Readonly<Record<string, unknown>>> {
  const described = propertyDocument.jsonSchema() as { properties: Record<string, unknown> };
  const allowed = Object.fromEntries(SETTINGS.map((name) => [name, described.properties[name]]));
  const known = Object.keys(allowed);
  return {
    parse(value, path = []) {
      if (typeof value !== "object" || value === null || Array.isArray(value)) {
        throw new ParseError(path, value, `a mapping with ${known.join(", ")}`);
      }
      const given = value as Record<string, unknown>;
      for (const key of Object.keys(given)) {
        if (!known.includes(key)) {
          throw new ParseError([...path, key], given[key], `no such key; known keys are ${known.join(", ")}`);
        }
      }
      return { ...given };
    },
    jsonSchema: () => ({ type: "object", properties: allowed, additionalProperties: false }),
  };
}

const customer = object({
  id: id<CustomerId>(),
  name: line(200),
  /** Zones of the customer that our name servers are authoritative for. */
  zones: defaulted(array(hostname(), { max: 100 }), []),
  properties: array(worldProperty, { max: 1_000 }),
});
export type WorldCustomer = Parsed<typeof customer>;

/** Shape only; the laws that span it (unique names, known ends, origins that exist) are in `parse-world.ts`. */
export const worldSchema = object({
  name: id(),
  /** Everything generated (links, noise) follows from it. */
  seed: defaulted(integer(), 1),
  regions: array(region, { min: 1, max: 1_000 }),
  /** Sites at which a mapper stands, one process each; control elects which of them publishes. Unless told, one beside control. */
  mappers: optional(array(siteId(), { min: 1, max: 8 })),
  clients: array(clientNetwork, { min: 1, max: 100_000 }),
  links: defaulted(links, links.parse({})),
  ...limitFields,
  nameService: defaulted(nameService, nameService.parse({})),
  customers: array(customer, { max: 1_000 }),
});
export type World = Parsed<typeof worldSchema>;
export type LinkModel = World["links"]["model"];

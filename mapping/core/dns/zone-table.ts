/**
 * What the name service is authoritative for, by name: the zones of the topology, the properties' host names in them, the
 * name servers' own names, and the empty names between. Built once for a set of documents; a look-up is one hash.
 */
import {
  type IpAddress,
  isAtOrBelow,
  isOneTimeLabel,
  type PropertyDocument,
  parseAddress,
  type PropertyId,
  type ServerId,
  type TopologyDocument,
} from "#kit";
import { type Delegation, delegationOf } from "./delegation.ts";
import { dnsClasses, dnsTypes } from "./constants.ts";
import { HostedZone } from "../zone/hosted-zone.ts";
import type { CompiledPolicy } from "../policy/compile.ts";
import type { ZoneSet } from "../zone/resolve.ts";
import type { DnsRecord } from "./message.ts";
import { type DomainName, nameFromText, parentText, rootName } from "./name.ts";

/** NS, SOA and name-server addresses change with the deployment, not with the map. */
const INFRASTRUCTURE_TTL_SECONDS = 3_600;
/** How long "no such name" may be believed (RFC 2308 section 5): a new host name works after this at the latest. */
const NEGATIVE_TTL_SECONDS = 60;
/** Clusters' names for beacons, all properties together: 40 properties of 2,500 clusters. */
const PROBE_NAMES_MAX = 100_000;
/** One server stands for its cluster, another one for that one. */
const PROBE_ADDRESSES_MAX = 2;
/** For secondaries, of which there are none yet; RIPE-203 values, so that zone checkers are content. */
const SOA_TIMERS = { refreshSeconds: 7_200, retrySeconds: 1_800, expireSeconds: 1_209_600 } as const;

export interface Zone {
  readonly origin: DomainName;
  readonly soa: DnsRecord;
  /** The SOA as it stands in a negative answer: TTL is the lesser of its own and the minimum (RFC 2308 section 3). */
  readonly negativeSoa: DnsRecord;
  readonly ns: readonly DnsRecord[];
}

/** A name that exists in a zone. Without any of the rest it is an empty non-terminal (RFC 8020 section 2). */
export interface ZoneNode {
  readonly zone: Zone;
  readonly isApex: boolean;
  /** Address answers come from the map. */
  readonly property: PropertyDocument | undefined;
  /** The name is a name server's or, for beacons, a cluster's: its own addresses, which win over a property. */
  readonly addresses: readonly IpAddress[];
  /** A and AAAA are the policy's to decide, whatever else stands at the name; but a name server's addresses win. */
  readonly policy?: CompiledPolicy;
  /** The name is one of the delegated zone's name servers: its place among them; addresses depend on who asks. */
  readonly delegatedNumber?: number;
  /** The name has the form of one that is asked for once (kit/one-time-name.ts); whether we made it is to be looked at. */
  readonly oneTimeLabel?: string;
}

export type ZoneLookup =
  | { readonly kind: "node"; readonly node: ZoneNode }
  | { readonly kind: "no-such-name"; readonly zone: Zone }
  /** At or below the cut to name servers near the resolvers; `zone` is the one above. */
  | { readonly kind: "delegation"; readonly zone: Zone; readonly delegation: Delegation }
  /** In a customer's zone, which says what stands there (`resolve`). */
  | { readonly kind: "hosted" }
  | { readonly kind: "outside-zones" };

export interface ZoneTableInput {
  readonly topology: TopologyDocument;
  readonly properties: readonly PropertyDocument[];
  /** Zones of customers; one that the topology names too is the deployment's. */
  readonly hostedZones?: readonly HostedZone[];
  /** Traffic management of customers; only what is active. */
  readonly policies?: readonly CompiledPolicy[];
  /** Which of the topology's name servers this is: one that stands with an edge cluster has the delegated zone alone. */
  readonly serverId?: ServerId | undefined;
  /** SOA serial: grows when one of the documents does; the same on every name server with the same documents. */
  readonly serial: number;
}

type MutableNode = { -readonly [K in keyof ZoneNode]: ZoneNode[K] };

/** Immutable. Properties are taken in the order of their ids, so that every name server builds the same table. */
export class ZoneTable implements ZoneSet {
  readonly #zones = new Map<string, Zone | HostedZone>();
  readonly #nodes = new Map<string, MutableNode>();
  /** Addresses of name servers by name, whether or not the name lies in a zone of ours. */
  readonly #nameServers = new Map<
    string,
    { readonly name: DomainName; readonly addresses: IpAddress[]; readonly isTopLevel: boolean }
  >();
  /** The zone that is delegated to name servers near the resolvers; undefined where there is none. */
  readonly delegation: Delegation | undefined;
  /** Below which names stand that are asked for once, each with the property by which they are answered. */
  readonly #oneTimeDomains = new Map<string, { readonly zone: Zone; readonly property: PropertyDocument }>();
  /** The delegated zone is below a cut: other name servers answer for it. */
  readonly #cut: Delegation | undefined;
  /** Host names of active properties that lie in no zone: the customer must point them here by CNAME. */
  readonly hostnamesOutside: readonly string[];
  /** Host names that an earlier property, or policy, has already. */
  readonly hostnamesTaken: readonly string[];
  /** Some zone came with signatures of its primary. */
  readonly hasZonesSignedByOthers: boolean;
  readonly policies: readonly CompiledPolicy[];
  readonly #properties: ReadonlyMap<PropertyId, PropertyDocument>;

  constructor({ topology, properties, hostedZones = [], policies = [], serverId, serial }: ZoneTableInput) {
    const { nameService } = topology;
    this.policies = policies;
    this.#properties = new Map(properties.map((property) => [property.propertyId, property]));
    this.delegation = delegationOf(topology);
    const isLowLevel = nameService.nameServers.some(
      (one) => one.serverId === serverId && one.edgeClusterId !== undefined,
    );
    if (isLowLevel && this.delegation !== undefined) {
      this.#cut = undefined;
      this.hostnamesOutside = [];
      this.hostnamesTaken = [];
      this.hasZonesSignedByOthers = false;
      this.#serveDelegated(this.delegation, topology, properties, serial);
      return;
    }
    this.#cut = this.delegation;
    for (const server of nameService.nameServers) {
      const name = nameFromText(server.name);
      const address = parseAddress(server.address);
      if (name === undefined || address === undefined) continue; // The schema has refused such a document.
      const known = this.#nameServers.get(name.text);
      const isTopLevel = server.edgeClusterId === undefined;
      if (known === undefined) this.#nameServers.set(name.text, { name, addresses: [address], isTopLevel });
      else known.addresses.push(address);
    }
    const hostmasterName = nameFromText(nameService.hostmaster) ?? rootName;
    for (const text of nameService.zones) {
      const origin = nameFromText(text);
      if (origin !== undefined) this.#zones.set(origin.text, this.#makeZone(origin, hostmasterName, serial));
    }
    for (const zone of hostedZones)
      if (!this.#zones.has(zone.origin.text)) this.#zones.set(zone.origin.text, zone);
    this.hasZonesSignedByOthers = hostedZones.some(({ signatures }) => signatures !== undefined);
    for (const zone of this.#zones.values()) {
      if (zone instanceof HostedZone) continue;
      this.#nodes.set(zone.origin.text, { zone, isApex: true, property: undefined, addresses: [] });
    }
    // A zone below another one of ours stands on names of that one: they are there, if empty.
    const below = new Map<HostedZone, string[]>();
    for (const { origin } of this.#zones.values()) {
      const above = parentText(origin.text);
      if (above === undefined) continue;
      const zone = this.zoneOf(above);
      if (zone instanceof HostedZone) listAt(below, zone).push(above);
      else this.#makeNode(above);
    }
    for (const { name, addresses } of this.#nameServers.values()) {
      // In a customer's zone the customer says what stands at the name.
      if (this.zoneOf(name.text) instanceof HostedZone) continue;
      const node = this.#makeNode(name.text);
      if (node !== undefined) node.addresses = addresses;
    }
    const outside: string[] = [];
    const taken: string[] = [];
    for (const property of [...properties].sort((a, b) => (a.propertyId < b.propertyId ? -1 : 1))) {
      for (const hostname of property.hostnames) {
        const isBelowCut = this.#cut !== undefined && isAtOrBelow(hostname, this.#cut.origin.text);
        const node = isBelowCut ? undefined : this.#makeNode(hostname);
        if (node === undefined) outside.push(hostname);
        else if (node.property !== undefined) taken.push(hostname);
        // A withdrawn property keeps its name: NODATA, which comes back faster than "no such name" when it returns.
        else node.property = property;
      }
    }
    this.#addPolicies(outside, taken);
    this.#addProbeNames(topology, properties);
    this.#addOneTimeDomains(properties);
    this.#addHostNames(below);
    this.hostnamesOutside = outside;
    this.hostnamesTaken = taken;
  }

  /** In the order of their ids; a name that is below the cut is asked of other name servers, by property. */
  #addPolicies(outside: string[], taken: string[]): void {
    const { policies } = this;
    for (const policy of [...policies].sort((a, b) => (a.document.policyId < b.document.policyId ? -1 : 1)))
      for (const name of policy.document.names) {
        const isBelowCut = this.#cut !== undefined && isAtOrBelow(name, this.#cut.origin.text);
        const node = isBelowCut ? undefined : this.#makeNode(name);
        if (node === undefined) outside.push(name);
        else if (node.policy !== undefined) taken.push(name);
        else node.policy = policy;
      }
  }

  /** Undefined: there is no such property, or it is withdrawn. */
  property(propertyId: PropertyId): PropertyDocument | undefined {
    const property = this.#properties.get(propertyId);
    return property?.isActive === true ? property : undefined;
  }

  /** Name servers that stand in the zones' NS sets. */
  #topLevel() {
    return [...this.#nameServers.values()].filter(({ isTopLevel }) => isTopLevel);
  }

  /** Each edge cluster's name below the probe domains of properties; names that are there already stay what they are. */
  #addProbeNames({ clusters }: TopologyDocument, properties: readonly PropertyDocument[]): void {
    const domains = new Set(
      properties.flatMap(({ isActive, beacon }) => (isActive ? (beacon?.probeDomain ?? []) : [])),
    );
    let left = PROBE_NAMES_MAX;
    for (const domain of [...domains].sort())
      for (const { clusterId, role, servers } of clusters) {
        if (role !== "edge" || left === 0) continue;
        const addresses = servers
          .flatMap(({ address }) => parseAddress(address) ?? [])
          .slice(0, PROBE_ADDRESSES_MAX);
        const node = addresses.length === 0 ? undefined : this.#makeNode(`${clusterId}.${domain}`);
        if (node === undefined || node.property !== undefined || node.addresses.length > 0) continue;
        if (node.policy !== undefined) continue;
        node.addresses = addresses;
        left--;
      }
  }

  /** In the order of their ids: where two properties have one domain, all name servers take the same one. */
  #addOneTimeDomains(properties: readonly PropertyDocument[]): void {
    for (const property of [...properties].sort((a, b) => (a.propertyId < b.propertyId ? -1 : 1))) {
      const domain = property.isActive ? property.beacon?.probeDomain : undefined;
      if (domain === undefined || this.#oneTimeDomains.has(domain)) continue;
      const node = this.#makeNode(domain);
      if (node !== undefined) this.#oneTimeDomains.set(domain, { zone: node.zone, property });
    }
  }

  #oneTimeNode(name: string): ZoneNode | undefined {
    if (this.#oneTimeDomains.size === 0) return undefined;
    const dot = name.indexOf(".");
    const oneTimeLabel = name.slice(0, Math.max(0, dot));
    const domain = isOneTimeLabel(oneTimeLabel) ? this.#oneTimeDomains.get(name.slice(dot + 1)) : undefined;
    return domain && { ...domain, isApex: false, addresses: [], oneTimeLabel };
  }

  /** Names, empty ones included. */
  get size(): number {
    return this.#nodes.size;
  }

  get zoneCount(): number {
    return this.#zones.size;
  }

  /**
   * What stands at `name` (lower-case text) for a question of `type`. DS at the top of a zone belongs to the zone above,
   * when that one is ours (RFC 4035 section 3.1.4.1).
   */
  lookup(name: string, type: number): ZoneLookup {
    if (this.#cut !== undefined && isAtOrBelow(name, this.#cut.origin.text)) return this.#atCut(name, type);
    const node = this.#nodes.get(name);
    if (node !== undefined && (!(node.zone instanceof HostedZone) || isMapType(node, type))) {
      if (type === dnsTypes.DS && node.isApex) {
        const above = parentText(name);
        const zone = above === undefined ? undefined : this.zoneOf(above);
        if (zone !== undefined) {
          return { kind: "node", node: { zone, isApex: false, property: undefined, addresses: [] } };
        }
      }
      return { kind: "node", node };
    }
    const oneTime = this.#oneTimeNode(name);
    if (oneTime !== undefined) return { kind: "node", node: oneTime };
    const zone = this.zoneOf(name);
    if (zone instanceof HostedZone) {
      const above = type === dnsTypes.DS && zone.origin.text === name ? parentText(name) : undefined;
      const parent = above === undefined ? undefined : this.zoneOf(above);
      if (parent === undefined || parent instanceof HostedZone) return { kind: "hosted" };
      return { kind: "node", node: { zone: parent, isApex: false, property: undefined, addresses: [] } };
    }
    return zone === undefined ? { kind: "outside-zones" } : { kind: "no-such-name", zone };
  }

  /** A referral; but the DS of the delegated zone is the zone's above (RFC 4035 section 3.1.4.1). */
  #atCut(name: string, type: number): ZoneLookup {
    const delegation = this.#cut as Delegation;
    const zone = this.zoneOf(name);
    if (zone === undefined || zone instanceof HostedZone) return { kind: "outside-zones" };
    if (type === dnsTypes.DS && name === delegation.origin.text)
      return { kind: "node", node: { zone, isApex: false, property: undefined, addresses: [] } };
    return { kind: "delegation", zone, delegation };
  }

  /** The delegated zone and nothing else: its name servers' names, and one for each property. */
  #serveDelegated(
    delegation: Delegation,
    { nameService }: TopologyDocument,
    properties: readonly PropertyDocument[],
    serial: number,
  ): void {
    const { origin, ns, names } = delegation;
    const hostmasterName = nameFromText(nameService.hostmaster) ?? rootName;
    const zone = { ...this.#makeZone(origin, hostmasterName, serial, names[0]), ns };
    this.#zones.set(origin.text, zone);
    this.#nodes.set(origin.text, { zone, isApex: true, property: undefined, addresses: [] });
    for (const [delegatedNumber, { text }] of names.entries())
      this.#nodes.set(text, { zone, isApex: false, property: undefined, addresses: [], delegatedNumber });
    for (const property of properties) {
      const node = this.#makeNode(`${property.propertyId}.${origin.text}`);
      // A name server's name is its own.
      if (node !== undefined && node.delegatedNumber === undefined) node.property = property;
    }
  }

  zoneFor(name: string, type: number): HostedZone | undefined {
    const zone = this.zoneOf(name);
    const above = type === dnsTypes.DS && zone?.origin.text === name ? parentText(name) : undefined;
    const parent = above === undefined ? undefined : this.zoneOf(above);
    const asked = parent ?? zone;
    return asked instanceof HostedZone ? asked : undefined;
  }

  isMapped(name: string, type: number): boolean {
    const zone = this.zoneOf(name);
    if (zone === undefined) return false;
    if (!(zone instanceof HostedZone)) return true;
    const node = this.#nodes.get(name);
    return node !== undefined && isMapType(node, type);
  }

  /** Names whose addresses the map or a policy decides, each with its node. */
  *mappedNodes(): IterableIterator<{ readonly name: DomainName; readonly node: ZoneNode }> {
    for (const [text, node] of this.#nodes) {
      if (node.addresses.length > 0 || (node.property?.isActive !== true && node.policy === undefined))
        continue;
      const name = nameFromText(text);
      if (name !== undefined) yield { name, node };
    }
  }

  /** Addresses of the name servers that a zone's NS records name, for the additional section. */
  glueOf(zone: Zone): readonly DnsRecord[] {
    const records: DnsRecord[] = [];
    for (const ns of zone.ns) {
      if (ns.data.kind !== "name") continue;
      const { name } = ns.data;
      // Only what we are authoritative for may be said (RFC 2181 section 5.4.1).
      if (this.zoneOf(name.text) === undefined) continue;
      for (const address of this.#nameServers.get(name.text)?.addresses ?? []) {
        records.push(addressRecord(name, address, INFRASTRUCTURE_TTL_SECONDS));
      }
    }
    return records;
  }

  /** Whether a zone of ours begins at `name` (lower-case text), here or below the cut. */
  isOrigin(name: string): boolean {
    return this.#zones.has(name) || this.#cut?.origin.text === name;
  }

  /** The zone whose origin is the longest suffix of `name` (lower-case text). */
  zoneOf(name: string): Zone | HostedZone | undefined {
    for (let at: string | undefined = name; at !== undefined; at = parentText(at)) {
      const zone = this.#zones.get(at);
      if (zone !== undefined) return zone;
    }
    return undefined;
  }

  /** The node of a name, made with all empty ones above it; undefined when no zone holds it. */
  #makeNode(name: string): MutableNode | undefined {
    const zone = this.zoneOf(name);
    if (zone === undefined) return undefined;
    if (zone instanceof HostedZone) {
      // Below a cut the name is another server's, what is not here says nothing of cuts, and what another one has signed is told as it is.
      if (!zone.isLoaded || zone.signatures !== undefined || zone.cutAbove(name) !== undefined)
        return undefined;
      const isApex = zone.origin.text === name;
      if (!this.#nodes.has(name)) this.#nodes.set(name, { zone, isApex, property: undefined, addresses: [] });
      return this.#nodes.get(name);
    }
    for (let at: string | undefined = name; at !== undefined && !this.#nodes.has(at); at = parentText(at)) {
      this.#nodes.set(at, { zone, isApex: false, property: undefined, addresses: [] });
    }
    return this.#nodes.get(name);
  }

  /** Host names, and what other zones stand on, exist in customers' zones, whatever else stands there. */
  #addHostNames(added: Map<HostedZone, string[]>): void {
    for (const [text, { zone }] of this.#nodes)
      if (zone instanceof HostedZone) listAt(added, zone).push(text);
    for (const [zone, texts] of added) {
      const names = texts.map(nameFromText).filter((name) => name !== undefined);
      this.#zones.set(zone.origin.text, zone.withNames(names));
    }
  }

  #makeZone(
    origin: DomainName,
    hostmasterName: DomainName,
    serial: number,
    primaryName: DomainName | undefined = this.#topLevel()[0]?.name,
  ): Zone {
    const servers = this.#topLevel();
    const soa: DnsRecord = {
      name: origin,
      type: dnsTypes.SOA,
      class: dnsClasses.IN,
      ttlSeconds: INFRASTRUCTURE_TTL_SECONDS,
      data: {
        kind: "soa",
        soa: {
          primaryName: primaryName ?? origin,
          hostmasterName,
          // RFC 1982: 32 bits; 0 is allowed but some secondaries take it for "none".
          serial: serial >>> 0 || 1,
          ...SOA_TIMERS,
          minimumSeconds: NEGATIVE_TTL_SECONDS,
        },
      },
    };
    return {
      origin,
      soa,
      negativeSoa: { ...soa, ttlSeconds: Math.min(INFRASTRUCTURE_TTL_SECONDS, NEGATIVE_TTL_SECONDS) },
      ns: servers.map(({ name }) => ({
        name: origin,
        type: dnsTypes.NS,
        class: dnsClasses.IN,
        ttlSeconds: INFRASTRUCTURE_TTL_SECONDS,
        data: { kind: "name", name },
      })),
    };
  }
}

/** The list that is kept under a key, made where there is none. */
function listAt<K, V>(lists: Map<K, V[]>, key: K): V[] {
  const known = lists.get(key);
  if (known !== undefined) return known;
  const made: V[] = [];
  lists.set(key, made);
  return made;
}

/** What the map, or a policy, says of a host name; all other types are its zone's. A policy's HTTPS record is the customer's to write. */
function isMapType({ policy }: ZoneNode, type: number): boolean {
  return type === dnsTypes.A || type === dnsTypes.AAAA || (type === dnsTypes.HTTPS && policy === undefined);
}

/** An A or AAAA record, as the address is. */
export function addressRecord(name: DomainName, address: IpAddress, ttlSeconds: number): DnsRecord {
  return {
    name,
    type: address.family === 4 ? dnsTypes.A : dnsTypes.AAAA,
    class: dnsClasses.IN,
    ttlSeconds,
    data: { kind: "address", address },
  };
}

/** TTL of records that follow the deployment rather than the map. */
export const infrastructureTtlSeconds = INFRASTRUCTURE_TTL_SECONDS;

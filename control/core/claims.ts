/**
 * Whose a name is: laws among zones, properties and policies, checked before a version of one of them comes into force. Within a customer's
 * zone only that customer names anything, and no zone takes in what others have; first come, first served.
 */
import {
  ParseError,
  type PolicyDocument,
  type PropertyDocument,
  type TopologyDocument,
  type ZoneDocument,
} from "#kit";

/** What claims ask of a zone: not its records, which may be many. */
export type ZoneClaim = Pick<ZoneDocument, "zoneId" | "customerId" | "origin" | "isActive">;

/** What is in force beside a document, its own earlier version among it or not. */
export interface ActiveDocuments {
  readonly properties: Iterable<PropertyDocument>;
  readonly zones: Iterable<ZoneClaim>;
  readonly policies: Iterable<PolicyDocument>;
}

/**
 * A zone that name servers sign has its records here, and nobody else serves it: others would do so without signatures, which is bogus.
 * @param signed origins of the zones that are signed; asked where the zone is one to be looked at
 */
export function checkSignable(
  { isActive, origin, transfer, secondary }: ZoneDocument,
  signed: () => ReadonlySet<string>,
): void {
  const at = secondary !== undefined ? "secondary" : transfer !== undefined ? "transfer" : undefined;
  if (!isActive || at === undefined || !signed().has(origin)) return;
  throw new ParseError(
    [at],
    at === "transfer" ? transfer?.keyName : secondary?.primaries[0]?.address,
    `nothing while ${origin} is signed here ("isochrone dnssec unsign ${origin}" ends that)`,
  );
}

/**
 * A name is the top of one active zone, and of none of the deployment's own. Between customers zones do not lie in each other, and one begins
 * above no name that another customer's property or policy has.
 * @param topology the one in force; undefined when there is none
 */
export function checkZone(
  zone: ZoneClaim,
  { properties, zones, policies }: ActiveDocuments,
  topology: TopologyDocument | undefined,
): void {
  if (!zone.isActive) return;
  const { origin, customerId, zoneId } = zone;
  const refuse = (expected: string): never => {
    throw new ParseError(["origin"], origin, expected);
  };
  if (topology?.nameService.zones.includes(origin) === true)
    refuse("a name at which no other zone begins (the topology has it)");
  for (const other of zones) {
    if (other.zoneId === zoneId || !other.isActive) continue;
    const whose = `zone "${other.zoneId}" has ${other.origin}`;
    if (other.origin === origin) refuse(`a name at which no other zone begins (${whose})`);
    if (other.customerId === customerId) continue;
    if (isAtOrBelow(origin, other.origin)) refuse(`a name in no other customer's zone (${whose})`);
    if (isAtOrBelow(other.origin, origin)) refuse(`a name above no other customer's zone (${whose})`);
  }
  const refuseAbove = (names: Iterable<string>, whose: string): void => {
    for (const name of names)
      if (isAtOrBelow(name, origin)) refuse(`a name above no other customer's ${name} (${whose} has it)`);
  };
  for (const { propertyId, isActive, customerId: owner, hostnames } of properties)
    if (isActive && owner !== customerId) refuseAbove(hostnames, `property "${propertyId}"`);
  for (const { policyId, isActive, customerId: owner, names } of policies)
    if (isActive && owner !== customerId) refuseAbove(names, `policy "${policyId}"`);
}

/**
 * A host name belongs to one active property, lies in no other customer's zone and is decided by no other customer's policy. A withdrawn
 * property (`isActive: false`) holds none and takes none.
 */
export function checkProperty(
  property: PropertyDocument,
  { properties, zones, policies }: ActiveDocuments,
): void {
  if (!property.isActive) return;
  const { customerId, propertyId, hostnames, beacon } = property;
  const wanted = new Map(hostnames.map((name, index) => [name, index]));
  const refuse = (name: string, expected: string): void => {
    const index = wanted.get(name);
    if (index !== undefined) throw new ParseError(["hostnames", index], name, expected);
  };
  for (const other of properties)
    if (other.propertyId !== propertyId && other.isActive)
      for (const name of other.hostnames)
        refuse(name, `a host name that no other active property has ("${other.propertyId}" has it)`);
  for (const policy of policies)
    if (policy.isActive && policy.customerId !== customerId)
      for (const name of policy.names)
        refuse(name, `a name that is no other customer's (policy "${policy.policyId}" has it)`);
  const origins = byOrigin(zones);
  const others = (name: string): string | undefined => {
    const zone = zoneAbove(origins, name);
    return zone === undefined || zone.customerId === customerId ? undefined : zone.zoneId;
  };
  const expected = (zoneId: string): string =>
    `a name in no other customer's zone (it lies in zone "${zoneId}")`;
  for (const [index, name] of hostnames.entries()) {
    const zoneId = others(name);
    if (zoneId !== undefined) throw new ParseError(["hostnames", index], name, expected(zoneId));
  }
  // Below a host name of the property's own, but a zone may begin between the two.
  const domain = beacon?.probeDomain;
  const zoneId = domain === undefined ? undefined : others(domain);
  if (zoneId !== undefined) throw new ParseError(["beacon", "probeDomain"], domain, expected(zoneId));
}

/**
 * A policy decides names of its own customer alone, and no two decide one. The edges that a target names are those of the customer's property.
 */
export function checkPolicy(policy: PolicyDocument, { properties, zones, policies }: ActiveDocuments): void {
  if (!policy.isActive) return;
  const { customerId, policyId, names, targets } = policy;
  const takenBy = new Map<string, string>();
  for (const other of policies)
    if (other.policyId !== policyId && other.isActive)
      for (const name of other.names) takenBy.set(name, `policy "${other.policyId}" has it`);
  const own = new Set<string>();
  for (const property of properties) {
    if (!property.isActive) continue;
    if (property.customerId === customerId) own.add(property.propertyId);
    else for (const name of property.hostnames) takenBy.set(name, `property "${property.propertyId}" has it`);
  }
  const origins = byOrigin(zones);
  for (const [n, name] of names.entries()) {
    const zone = zoneAbove(origins, name);
    const whose =
      takenBy.get(name) ??
      (zone !== undefined && zone.customerId !== customerId ? `it lies in zone "${zone.zoneId}"` : undefined);
    if (whose !== undefined)
      throw new ParseError(["names", n], name, `a name that is no other customer's or policy's (${whose})`);
  }
  for (const [n, { propertyId }] of targets.entries())
    if (propertyId !== undefined && !own.has(propertyId))
      throw new ParseError(
        ["targets", n, "propertyId"],
        propertyId,
        `an active property of customer "${customerId}"`,
      );
}

function byOrigin(zones: Iterable<ZoneClaim>): ReadonlyMap<string, ZoneClaim> {
  const origins = new Map<string, ZoneClaim>();
  for (const zone of zones) if (zone.isActive) origins.set(zone.origin, zone);
  return origins;
}

/** The zone whose origin is the longest suffix of a name. */
function zoneAbove(origins: ReadonlyMap<string, ZoneClaim>, name: string): ZoneClaim | undefined {
  for (let at: string | undefined = name; at !== undefined; ) {
    const zone = origins.get(at);
    if (zone !== undefined) return zone;
    const dot: number = at.indexOf(".");
    at = dot < 0 ? undefined : at.slice(dot + 1);
  }
  return undefined;
}

function isAtOrBelow(name: string, origin: string): boolean {
  return name === origin || name.endsWith(`.${origin}`);
}

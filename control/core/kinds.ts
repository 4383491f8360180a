/** What each kind of document must be: its schema, and the laws that it obeys among the others. */
import {
  certificateDocument,
  dnssecDocument,
  id,
  type MapOverrides,
  mapOverrides,
  mapSnapshot,
  overridesProblem,
  ParseError,
  type PolicyDocument,
  policyDocument,
  type PropertyDocument,
  type PurgeRequest,
  propertyDocument,
  type Schema,
  type TopologyDocument,
  topologyDocument,
  type ZoneDocument,
  zoneDocument,
} from "#kit";
import type { DocumentKind } from "./words.ts";

export interface KindRules {
  readonly schema: Schema<unknown>;
  /** Whether an appended version comes into force unless the sender says otherwise. */
  readonly activatesByDefault: boolean;
  /** Largest request body, bytes. */
  readonly bodyBytesMax: number;
  /** The field that must say the same as the id in the path; undefined: the kind carries none. */
  readonly idField: string | undefined;
}

const MIB = 1024 * 1024;

export const kindRules: Readonly<Record<DocumentKind, KindRules>> = {
  topology: { schema: topologyDocument, activatesByDefault: true, bodyBytesMax: 16 * MIB, idField: "name" },
  // A person writes it and looks at its diff before it is in force.
  property: { schema: propertyDocument, activatesByDefault: false, bodyBytesMax: MIB, idField: "propertyId" },
  map: { schema: mapSnapshot, activatesByDefault: true, bodyBytesMax: 256 * MIB, idField: undefined },
  certificate: {
    schema: certificateDocument,
    activatesByDefault: true,
    bodyBytesMax: MIB,
    idField: "certificateId",
  },
  // Written in haste, to be undone in haste.
  overrides: { schema: mapOverrides, activatesByDefault: true, bodyBytesMax: 4 * MIB, idField: "name" },
  dnssec: { schema: dnssecDocument, activatesByDefault: true, bodyBytesMax: 4 * MIB, idField: "name" },
  policy: { schema: policyDocument, activatesByDefault: true, bodyBytesMax: MIB, idField: "policyId" },
  zone: { schema: zoneDocument, activatesByDefault: true, bodyBytesMax: 16 * MIB, idField: "zoneId" },
};

const documentId = id();

/** The document in its canonical form. Throws ParseError with the path within the body; `id` for a fault of the id itself. */
export function parseDocument(kind: DocumentKind, documentIdText: string, body: unknown): unknown {
  documentId.parse(documentIdText, ["id"]);
  const { schema, idField } = kindRules[kind];
  const parsed = schema.parse(body);
  if (idField !== undefined) {
    const named = (parsed as Readonly<Record<string, unknown>>)[idField];
    if (named !== documentIdText) {
      throw new ParseError(
        [idField],
        named,
        `${JSON.stringify(documentIdText)}, the id that it is stored under`,
      );
    }
  }
  return parsed;
}

/**
 * A property's id, or a zone's, belongs to the customer whose first version made it.
 * @param owner `customerId` of any earlier version; undefined when there is none
 */
export function checkOwner(
  document: Pick<PropertyDocument, "customerId">,
  what: string,
  owner: string | undefined,
): void {
  if (owner !== undefined && document.customerId !== owner) {
    throw new ParseError(
      ["customerId"],
      document.customerId,
      `${JSON.stringify(owner)}, the customer that owns the ${what}`,
    );
  }
}

/**
 * A name is the top of one active zone, and of none of the deployment's own: checked before a version comes into force.
 * @param active the versions in force, the zone's own among them or not
 * @param topology the one in force; undefined when there is none
 */
export function checkOrigin(
  zone: ZoneDocument,
  active: Iterable<ZoneDocument>,
  topology: TopologyDocument | undefined,
): void {
  if (!zone.isActive) return;
  const refuse = (whose: string): never => {
    throw new ParseError(["origin"], zone.origin, `a name at which no other zone begins (${whose} has it)`);
  };
  if (topology?.nameService.zones.includes(zone.origin) === true) refuse("the topology");
  for (const other of active)
    if (other.zoneId !== zone.zoneId && other.isActive && other.origin === zone.origin)
      refuse(JSON.stringify(other.zoneId));
}

/** What is in force beside a document, its own earlier version among it or not. */
export interface ActiveDocuments {
  readonly properties: Iterable<PropertyDocument>;
  readonly zones: Iterable<ZoneDocument>;
  readonly policies: Iterable<PolicyDocument>;
}

/**
 * A policy decides names of its own customer alone, and no two decide one: checked before a version comes into force. The edges that a target
 * names are those of the customer's property.
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
  const origins = new Map<string, ZoneDocument>();
  for (const zone of zones) if (zone.isActive) origins.set(zone.origin, zone);
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

/** A name that another customer's policy decides cannot become a host name, and no zone begins above one. */
export function checkAgainstPolicies(
  document: PropertyDocument | ZoneDocument,
  policies: Iterable<PolicyDocument>,
): void {
  if (!document.isActive) return;
  for (const { customerId, policyId, isActive, names } of policies) {
    if (!isActive || customerId === document.customerId) continue;
    for (const name of names) {
      const whose = `policy "${policyId}" has it`;
      if ("origin" in document && (name === document.origin || name.endsWith(`.${document.origin}`)))
        throw new ParseError(
          ["origin"],
          document.origin,
          `a name above no other customer's ${name} (${whose})`,
        );
      const index = "hostnames" in document ? document.hostnames.indexOf(name) : -1;
      if (index >= 0)
        throw new ParseError(["hostnames", index], name, `a name that is no other customer's (${whose})`);
    }
  }
}

/** The zone whose origin is the longest suffix of a name. */
function zoneAbove(origins: ReadonlyMap<string, ZoneDocument>, name: string): ZoneDocument | undefined {
  for (let at: string | undefined = name; at !== undefined; ) {
    const zone = origins.get(at);
    if (zone !== undefined) return zone;
    const dot: number = at.indexOf(".");
    at = dot < 0 ? undefined : at.slice(dot + 1);
  }
  return undefined;
}

/**
 * A host name belongs to one active property: checked before a version comes into force. A withdrawn property
 * (`isActive: false`) holds none and takes none.
 * @param active the versions in force, the property's own among them or not
 */
export function checkHostnames(property: PropertyDocument, active: Iterable<PropertyDocument>): void {
  if (!property.isActive) return;
  const wanted = new Map(property.hostnames.map((name, index) => [name, index]));
  for (const other of active) {
    if (other.propertyId === property.propertyId || !other.isActive) continue;
    for (const name of other.hostnames) {
      const index = wanted.get(name);
      if (index !== undefined) {
        throw new ParseError(
          ["hostnames", index],
          name,
          `a host name that no other active property has ("${other.propertyId}" has it)`,
        );
      }
    }
  }
}

/**
 * Overrides name clusters and servers that there are: checked when they come, since a topology may change under them.
 * @param topology the one in force under the same name; undefined when there is none
 */
export function checkOverrides(overrides: MapOverrides, topology: TopologyDocument | undefined): void {
  if (topology === undefined)
    throw new ParseError(["name"], overrides.name, "the name of a topology that is in force");
  const wrong = overridesProblem(overrides, topology);
  if (wrong !== undefined) throw new ParseError(wrong.at, wrong.value, wrong.expected);
}

/**
 * A purge may name only what belongs to its property: its customer and URLs at its host names.
 * @param property the version in force; undefined when there is none
 */
export function checkPurge(request: PurgeRequest, property: PropertyDocument | undefined): void {
  if (property === undefined) {
    throw new ParseError(["propertyId"], request.propertyId, "a property of which a version is active");
  }
  if (request.customerId !== undefined && request.customerId !== property.customerId) {
    throw new ParseError(
      ["customerId"],
      request.customerId,
      `the customer that owns "${property.propertyId}"`,
    );
  }
  const named = property.hostnames.join(", ");
  for (const field of ["urls", "prefixes"] as const) {
    for (const [index, url] of (request[field] ?? []).entries()) {
      const host = hostOf(url);
      if (host !== undefined && property.hostnames.includes(host)) continue;
      throw new ParseError([field, index], url, `a URL at a host name of "${property.propertyId}": ${named}`);
    }
  }
  for (const [index, host] of (request.hosts ?? []).entries())
    if (!property.hostnames.includes(host))
      throw new ParseError(["hosts", index], host, `a host name of "${property.propertyId}": ${named}`);
}

/** Host of an absolute http URL in lower case, without port and without a trailing dot (RFC 3986 section 3.2.2). */
function hostOf(url: string): string | undefined {
  const host = /^https?:\/\/([a-z0-9._-]+)(?::\d{1,5})?(?:[/?#]|$)/i.exec(url)?.[1];
  return host?.toLowerCase().replace(/\.$/, "");
}

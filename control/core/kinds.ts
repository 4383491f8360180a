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

/** What a secondary zone holds is fetched from its primaries, and stands in no document. */
export function checkSecondary({ secondary, sets }: ZoneDocument): void {
  if (secondary !== undefined && sets.length > 0)
    throw new ParseError(
      ["sets"],
      `${sets.length} RRsets`,
      "none where `secondary` says whom they come from",
    );
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

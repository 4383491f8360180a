/**
 * A customer's zone: its RRsets in the words of a zone file. It is kept in one canonical form (absolute names, each RRset once, in the
 * order of RFC 4034 section 6.1), so that two versions differ where the zone does. What no server could serve is refused whole.
 */
import { compareCanonically, type DomainName, nameFromText, nameToText } from "../dns/name.ts";
import { rdataText } from "../dns/rdata-write.ts";
import { recordTypes, typeText } from "../dns/record-types.ts";
import { type RrSet, type ZoneData, zoneDataOf } from "../dns/zone-data.ts";
import { readZoneFile, type ZoneRecord } from "../dns/zone-file.ts";
import { ttlSecondsMax, ZoneTextError } from "../dns/zone-text.ts";
import { addressText } from "./topology.ts";
import { type CustomerId, hostname, id } from "../ids.ts";
import {
  array,
  boolean,
  defaulted,
  integer,
  object,
  oneOf,
  optional,
  type Parsed,
  ParseError,
  type Path,
  type Schema,
  string,
} from "../schema.ts";

/** Everything a zone of a document may hold: 16 MiB of text. */
const SETS_MAX = 50_000;
const RECORDS_PER_SET_MAX = 1_000;

export const rrSetFields = {
  /** As in a zone file: absolute with a dot at its end, else below the origin; `@` is the origin. */
  name: string({
    max: 1_024,
    pattern: /^[^\s;()"$]+$/,
    expected: 'a domain name as in a zone file, "@" for the zone itself',
  }),
  type: string({ max: 10, pattern: /^[A-Za-z0-9]+$/, expected: "a record type such as MX or TYPE65280" }),
  ttlSeconds: integer({ min: 0, max: ttlSecondsMax, unit: "seconds" }),
  /** RDATA of each record, as in a zone file. */
  data: array(
    string({ max: 300_000, pattern: /^[^\r\n]*$/, expected: "RDATA in one line, as in a zone file" }),
    { min: 1, max: RECORDS_PER_SET_MAX },
  ),
};
const rrSet = object(rrSetFields);
export type ZoneSetText = Parsed<typeof rrSet>;

const fields = object({
  zoneId: id(),
  customerId: id<CustomerId>(),
  origin: hostname(),
  /** A withdrawn zone is answered for no more. */
  isActive: defaulted(boolean(), true),
  /** None in the document of a secondary zone; with them it is what a name server has fetched. */
  sets: defaulted(array(rrSet, { max: SETS_MAX }), []),
  /** Its records are fetched by each name server from the customer's own (AXFR, IXFR). Absent: they stand in `sets`. */
  secondary: optional(
    object({
      /** The next is asked where one does not answer, or sends what is refused. */
      primaries: array(
        object({
          address: addressText(),
          port: defaulted(integer({ min: 1, max: 65_535 }), 53),
          /** Name of the TSIG key that both sides sign with; the name servers have its secret from `--tsig-keys`. Absent: unsigned. */
          keyName: optional(hostname()),
        }),
        { min: 1, max: 8 },
      ),
      /** Whose NOTIFY is heeded beside the primaries'. */
      notifiers: defaulted(array(addressText(), { max: 32 }), []),
    }),
  ),
  /** Name servers that may fetch the zone, and are told when it changes. Without it nobody may. */
  transfer: optional(
    object({
      /** Name of a TSIG key that requests must be signed with; the name servers have its secret from `--tsig-keys`. */
      keyName: hostname(),
      /**
       * `kept`: as TYPE65401, for who knows it; `expanded`: as the A and AAAA that the fetching server would be answered at that time. Its
       * serial does not grow when those change.
       */
      aliases: defaulted(oneOf(["kept", "expanded"]), "kept"),
      /** Addresses and ports that NOTIFY is sent to (RFC 1996). */
      notify: defaulted(
        array(
          object({
            address: addressText(),
            port: defaulted(integer({ min: 1, max: 65_535 }), 53),
          }),
          { max: 32 },
        ),
        [],
      ),
    }),
  ),
});

export type ZoneDocument = Parsed<typeof fields>;

/** Refuses with the path of the set that is at fault; gives the canonical form. */
export const zoneDocument: Schema<ZoneDocument> = {
  parse: (value, path = []) => {
    const document = fields.parse(value, path);
    if (!hasRecords(document)) return document;
    const read = readSets(document);
    if ("zone" in read) return { ...document, sets: setsOfZone(read.zone) };
    const { at, value: wrong, expected } = read.problem;
    throw new ParseError([...path, ...at], wrong, expected);
  },
  jsonSchema: () => fields.jsonSchema(),
};

/** False: of a secondary zone of which nothing is here; {@link zoneOfDocument} refuses it. */
export function hasRecords({ secondary, sets }: Pick<ZoneDocument, "secondary" | "sets">): boolean {
  return secondary === undefined || sets.length > 0;
}

/** What a document that {@link zoneDocument} has read says. Throws {@link ParseError} for another one. */
export function zoneOfDocument(document: ZoneDocument): ZoneData {
  const read = readSets(document);
  if ("problem" in read) throw new ParseError(read.problem.at, read.problem.value, read.problem.expected);
  return read.zone;
}

interface Problem {
  readonly at: Path;
  readonly value: unknown;
  readonly expected: string;
}

function readSets(
  document: Pick<ZoneDocument, "origin" | "sets" | "secondary">,
): { readonly zone: ZoneData } | { readonly problem: Problem } {
  const origin = nameFromText(document.origin) as DomainName;
  const lines: string[] = [];
  /** By line: the set that stands there. */
  const setAt: number[] = [];
  for (const [n, { name, type, ttlSeconds, data }] of document.sets.entries())
    for (const one of data) {
      lines.push(`${name} ${ttlSeconds} IN ${type} ${one}`);
      setAt.push(n);
    }
  const problemAt = (line: number, value: string, expected: string): { readonly problem: Problem } => {
    const n = setAt[line - 1];
    return { problem: { at: n === undefined ? ["sets"] : ["sets", n], value, expected } };
  };
  if (!document.sets.some(({ type }) => type.toUpperCase() === "SOA"))
    return problemAt(0, document.origin, "a SOA record at the top of the zone");
  let records: readonly ZoneRecord[];
  try {
    // Only primaries of others send zones that are signed.
    const mayBeSigned = document.secondary !== undefined;
    ({ records } = readZoneFile(lines.join("\n"), { origin, recordsMax: SETS_MAX * 4, mayBeSigned }));
  } catch (error) {
    if (error instanceof ZoneTextError) return problemAt(error.line, error.value, error.expected);
    throw error;
  }
  const read = zoneDataOf(origin, records);
  if (read.ok) return { zone: read.zone };
  const { line, name, type, expected } = read.problem;
  return problemAt(line, `${name} ${type}`, expected);
}

/** The sets of a zone in canonical order, names absolute. */
export function setsOfZone(zone: ZoneData): readonly ZoneSetText[] {
  const sets: RrSet[] = [...zone.sets.values()].flatMap((atName) => [...atName.values()]);
  // The SOA first, as transfers and files have it.
  const rank = (set: RrSet): number => (set.type === recordTypes.SOA ? -1 : set.type);
  sets.sort((a, b) => compareCanonically(a.name, b.name) || rank(a) - rank(b));
  return sets.map(({ name, type, ttlSeconds, rdata }) => ({
    name: nameToText(name),
    type: typeText(type),
    ttlSeconds,
    data: rdata.map((octets) => rdataText(type, octets) ?? ""),
  }));
}

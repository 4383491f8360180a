/**
 * Record types by name and by number, and of what their RDATA is made, in the order in which it stands (IANA "Domain Name System
 * (DNS) Parameters"). One table for text and for octets; what is not in it has the generic form of RFC 3597.
 */

/** One field of RDATA. `text`, `hex`, `base64`, `strings` and `params` take all the rest. */
export type RdataField =
  | "u8"
  | "u16"
  | "u32"
  /** 32 bits, seconds; units (`1h30m`) are allowed in text. */
  | "time"
  | "ipv4"
  | "ipv6"
  | "name"
  /** A character string of up to 255 octets. */
  | "string"
  | "strings"
  /** CAA's property tag: letters and digits (RFC 8659 section 4.1). */
  | "tag"
  /** One text without a length of its own. */
  | "text"
  | "hex"
  | "base64"
  /** Six or eight octets as pairs of hex digits (RFC 7043). */
  | "eui48"
  | "eui64"
  /** RFC 1876. */
  | "location"
  /** RFC 9460 section 2.1. */
  | "params";

interface RecordType {
  readonly name: string;
  readonly code: number;
  readonly fields: readonly RdataField[];
}

const table: readonly RecordType[] = [
  { name: "A", code: 1, fields: ["ipv4"] },
  { name: "NS", code: 2, fields: ["name"] },
  { name: "CNAME", code: 5, fields: ["name"] },
  { name: "SOA", code: 6, fields: ["name", "name", "u32", "time", "time", "time", "time"] },
  { name: "PTR", code: 12, fields: ["name"] },
  { name: "HINFO", code: 13, fields: ["string", "string"] },
  { name: "MX", code: 15, fields: ["u16", "name"] },
  { name: "TXT", code: 16, fields: ["strings"] },
  { name: "RP", code: 17, fields: ["name", "name"] },
  { name: "AFSDB", code: 18, fields: ["u16", "name"] },
  { name: "AAAA", code: 28, fields: ["ipv6"] },
  { name: "LOC", code: 29, fields: ["location"] },
  { name: "SRV", code: 33, fields: ["u16", "u16", "u16", "name"] },
  { name: "NAPTR", code: 35, fields: ["u16", "u16", "string", "string", "string", "name"] },
  { name: "KX", code: 36, fields: ["u16", "name"] },
  { name: "CERT", code: 37, fields: ["u16", "u16", "u8", "base64"] },
  { name: "DNAME", code: 39, fields: ["name"] },
  { name: "DS", code: 43, fields: ["u16", "u8", "u8", "hex"] },
  { name: "SSHFP", code: 44, fields: ["u8", "u8", "hex"] },
  { name: "DNSKEY", code: 48, fields: ["u16", "u8", "u8", "base64"] },
  { name: "DHCID", code: 49, fields: ["base64"] },
  { name: "TLSA", code: 52, fields: ["u8", "u8", "u8", "hex"] },
  { name: "SMIMEA", code: 53, fields: ["u8", "u8", "u8", "hex"] },
  { name: "CDS", code: 59, fields: ["u16", "u8", "u8", "hex"] },
  { name: "CDNSKEY", code: 60, fields: ["u16", "u8", "u8", "base64"] },
  { name: "OPENPGPKEY", code: 61, fields: ["base64"] },
  { name: "ZONEMD", code: 63, fields: ["u32", "u8", "u8", "hex"] },
  { name: "SVCB", code: 64, fields: ["u16", "name", "params"] },
  { name: "HTTPS", code: 65, fields: ["u16", "name", "params"] },
  { name: "SPF", code: 99, fields: ["strings"] },
  { name: "EUI48", code: 108, fields: ["eui48"] },
  { name: "EUI64", code: 109, fields: ["eui64"] },
  { name: "URI", code: 256, fields: ["u16", "u16", "text"] },
  { name: "CAA", code: 257, fields: ["u8", "tag", "text"] },
  // Of nobody's registry, from the range for private use (RFC 6895 section 3.1); PowerDNS has the same number.
  { name: "ALIAS", code: 65_401, fields: ["name"] },
];

/** Numbers of the types that rules are about. */
export const recordTypes = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  NAPTR: 35,
  DNAME: 39,
  DS: 43,
  RRSIG: 46,
  NSEC: 47,
  NSEC3: 50,
  NSEC3PARAM: 51,
  SVCB: 64,
  HTTPS: 65,
  CAA: 257,
  /** A name whose addresses are answered as this one's own. */
  ALIAS: 65_401,
} as const;

const byName = new Map(table.map((entry) => [entry.name, entry.code]));
const byCode = new Map(table.map((entry) => [entry.code, entry]));

/** Types that no zone holds: 0 and 41 (OPT), those of questions and messages (128 to 255). */
export function mayStandInZone(type: number): boolean {
  return type !== 0 && type !== 41 && !(type >= 128 && type <= 255);
}

/** Signatures and denials: who signs a zone makes them, nobody writes them. */
export function isSignatureType(type: number): boolean {
  return signatureTypes.values().some((one) => one === type);
}

/** The number of `MX`, `mx` or `TYPE15`; undefined for no such name. */
export function typeFromText(text: string): number | undefined {
  const upper = text.toUpperCase();
  const known = byName.get(upper) ?? signatureTypes.get(upper);
  if (known !== undefined) return known;
  const generic = /^TYPE(\d{1,5})$/.exec(upper)?.[1];
  return generic !== undefined && Number(generic) <= 0xffff ? Number(generic) : undefined;
}

/** `MX`, or `TYPE65280` (RFC 3597 section 5). */
export function typeText(type: number): string {
  return byCode.get(type)?.name ?? `TYPE${type}`;
}

/** Undefined: the type is only known by its number. */
export function fieldsOfType(type: number): readonly RdataField[] | undefined {
  return byCode.get(type)?.fields;
}

/** Known by name, so that a signed zone's file is refused for what it is. */
const signatureTypes: ReadonlyMap<string, number> = new Map([
  ["RRSIG", 46],
  ["NSEC", 47],
  ["NSEC3", 50],
  ["NSEC3PARAM", 51],
]);

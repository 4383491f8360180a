/** Records to RRsets by name, and the laws without which a zone cannot be served at all. */
import { type DomainName, isAtOrBelow, nameToText } from "./name.ts";
import { rdataText } from "./rdata-write.ts";
import { recordTypes, typeText } from "./record-types.ts";
import type { ZoneRecord } from "./zone-file.ts";

/** All records of one name and type (RFC 2181 section 5). */
export interface RrSet {
  readonly name: DomainName;
  readonly type: number;
  /** The least of its records' (RFC 2181 section 5.2). */
  readonly ttlSeconds: number;
  /** Each once, in the order in which they came. */
  readonly rdata: readonly Uint8Array[];
  /** Of its first record. */
  readonly line: number;
}

export interface ZoneData {
  readonly origin: DomainName;
  readonly serial: number;
  /** By lower-case owner, then type. */
  readonly sets: ReadonlyMap<string, ReadonlyMap<number, RrSet>>;
}

export interface ZoneProblem {
  /** 0 where the records came from no file. */
  readonly line: number;
  readonly name: string;
  readonly type: string;
  readonly expected: string;
}

/** The longest message (RFC 1035 section 4.2.2), without header, question and OPT record but for their names. */
const SET_BYTES_MAX = 65_535 - 12 - 4 - 11;
/** A pointer to the owner, type, class, TTL, length of the RDATA. */
const RECORD_BYTES = 12;
/** As BIND has it: a name's types are gone through for each denial. */
const TYPES_PER_NAME_MAX = 100;

/** RFC 2181 sections 5 and 10.1, RFC 1034 section 3.6.2, RFC 6672 section 2.4: never throws. */
export function zoneDataOf(
  origin: DomainName,
  records: readonly ZoneRecord[],
): { readonly ok: true; readonly zone: ZoneData } | { readonly ok: false; readonly problem: ZoneProblem } {
  const sets = new Map<string, Map<number, RrSet & { rdata: Uint8Array[] }>>();
  /** Of sets with several records: what tells them apart. */
  const identities = new Map<readonly Uint8Array[], Set<string>>();
  for (const { name, type, ttlSeconds, rdata, line } of records) {
    if (!isAtOrBelow(name.text, origin.text))
      return refused(name, type, line, `a name at or below ${nameToText(origin)}`);
    let atName = sets.get(name.text);
    if (atName === undefined) sets.set(name.text, (atName = new Map()));
    const set = atName.get(type);
    if (set === undefined) {
      atName.set(type, { name, type, ttlSeconds, rdata: [rdata], line });
      continue;
    }
    let known = identities.get(set.rdata);
    if (known === undefined)
      identities.set(set.rdata, (known = new Set(set.rdata.map((one) => identity(type, one)))));
    const key = identity(type, rdata);
    if (known.has(key)) continue;
    known.add(key);
    set.rdata.push(rdata);
    if (ttlSeconds < set.ttlSeconds) atName.set(type, { ...set, ttlSeconds });
  }
  const apex = sets.get(origin.text);
  const soa = apex?.get(recordTypes.SOA);
  if (soa === undefined) return refused(origin, recordTypes.SOA, 0, "a SOA record at the top of the zone");
  if (!apex?.has(recordTypes.NS))
    return refused(origin, recordTypes.NS, 0, "NS records at the top of the zone");
  for (const atName of sets.values()) {
    for (const { name, type, line, rdata } of atName.values()) {
      if (atName.size > TYPES_PER_NAME_MAX)
        return refused(name, type, line, `at most ${TYPES_PER_NAME_MAX} types at a name`);
      const bytes = rdata.reduce((sum, one) => sum + RECORD_BYTES + one.length, name.wire.length);
      // A secondary has the signatures of all of a name's sets in one.
      if (bytes > SET_BYTES_MAX && type !== recordTypes.RRSIG)
        return refused(name, type, line, `a set that one message can hold, ${SET_BYTES_MAX} octets`);
      if (type === recordTypes.SOA && (name.text !== origin.text || rdata.length > 1))
        return refused(name, type, line, "one SOA record, at the top of the zone");
      // RFC 4035 section 2.5: but for what proves it.
      const others = type === recordTypes.CNAME ? [...atName.keys()].filter((one) => one !== type) : [];
      if (
        type === recordTypes.CNAME &&
        (rdata.length > 1 || others.some((one) => one !== recordTypes.RRSIG && one !== recordTypes.NSEC))
      )
        return refused(
          name,
          type,
          line,
          "a CNAME alone: no second one and no record of another type at its name",
        );
      const hasAddress = atName.has(recordTypes.A) || atName.has(recordTypes.AAAA);
      if (type === recordTypes.ALIAS && (rdata.length > 1 || hasAddress))
        return refused(
          name,
          type,
          line,
          "one ALIAS and no A or AAAA beside it, which are those of its target",
        );
      if (type === recordTypes.DNAME && rdata.length > 1)
        return refused(name, type, line, "one DNAME at a name");
      if (type === recordTypes.DS && name.text === origin.text)
        return refused(name, type, line, "no DS at the top: it belongs to the zone above");
    }
  }
  const [bytes] = soa.rdata as [Uint8Array];
  const serial = new DataView(bytes.buffer, bytes.byteOffset + bytes.length - 20).getUint32(0);
  return { ok: true, zone: { origin, serial, sets } };
}

function refused(name: DomainName, type: number, line: number, expected: string) {
  return { ok: false, problem: { line, name: nameToText(name), type: typeText(type), expected } } as const;
}

/** Records that differ in letters of names only are one (RFC 4034 section 6.3 by RFC 4343). */
function identity(type: number, rdata: Uint8Array): string {
  const hasNames =
    type === recordTypes.NS ||
    type === recordTypes.CNAME ||
    type === recordTypes.PTR ||
    type === recordTypes.MX;
  if (!hasNames) return hex(rdata);
  return (rdataText(type, rdata) ?? "").toLowerCase();
}

function hex(bytes: Uint8Array): string {
  let text = "";
  for (const octet of bytes) text += String.fromCharCode(octet);
  return text;
}

/** The canonical form of records (RFC 4034 section 6, RFC 6840 section 5.1), over which signatures are made. */
import { addressToBytes } from "#kit";
import { dnsTypes } from "../constants.ts";
import type { DnsRecord, RecordData } from "../message.ts";
import { lowerCase } from "../name-table.ts";

/** Of the last message that was finished, for the next one: memory is what a short message costs most. */
let spare: Uint8Array | undefined;
const OCTETS_MIN = 256;
const SPARE_OCTETS_MAX = 4_096;
const none = new Uint8Array();

/** Octets of a growing message. */
export class Octets {
  #bytes = spare ?? new Uint8Array(OCTETS_MIN);
  #length = 0;

  constructor() {
    spare = undefined;
  }

  get length(): number {
    return this.#length;
  }

  u8(value: number): void {
    this.#room(1);
    this.#bytes[this.#length++] = value;
  }

  u16(value: number): void {
    this.#room(2);
    this.#bytes[this.#length++] = value >>> 8;
    this.#bytes[this.#length++] = value;
  }

  u32(value: number): void {
    this.u16(value >>> 16);
    this.u16(value & 0xffff);
  }

  put(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** A copy of what was put in, which is forgotten here. */
  bytes(): Uint8Array {
    const written = this.#bytes.slice(0, this.#length);
    if (this.#bytes.length <= SPARE_OCTETS_MAX) spare = this.#bytes;
    this.#bytes = none;
    this.#length = 0;
    return written;
  }

  #room(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, OCTETS_MIN, this.#length + count));
    grown.set(this.#bytes);
    this.#bytes = grown;
  }
}

/** A wire name, or any octets of names, in lower case; length octets are below 64 and stay. */
export function lowerName(wire: Uint8Array): Uint8Array {
  const lower = new Uint8Array(wire.length);
  for (let index = 0; index < wire.length; index++) lower[index] = lowerCase[wire[index] as number] as number;
  return lower;
}

/** Number of labels as an RRSIG counts them: without the root and without a leading "*" (RFC 4034 section 3.1.3). */
export function rrsigLabels(wire: Uint8Array): number {
  let labels = 0;
  for (let at = 0; wire[at] !== 0 && at < wire.length; at += 1 + (wire[at] as number)) labels++;
  const isWildcard = wire[0] === 1 && wire[1] === 0x2a;
  return isWildcard ? labels - 1 : labels;
}

/**
 * Where names stand in the RDATA of types that are lower-cased (RFC 4034 section 6.2, item 3): octets before the first, character
 * strings after those, and how many names follow. NSEC and RRSIG are not among them any more (RFC 6840 section 5.1).
 */
const nameLayouts: ReadonlyMap<number, readonly [fixed: number, strings: number, names: number]> = new Map([
  [dnsTypes.NS, [0, 0, 1]],
  [3 /* MD */, [0, 0, 1]],
  [4 /* MF */, [0, 0, 1]],
  [dnsTypes.CNAME, [0, 0, 1]],
  [dnsTypes.SOA, [0, 0, 2]],
  [7 /* MB */, [0, 0, 1]],
  [8 /* MG */, [0, 0, 1]],
  [9 /* MR */, [0, 0, 1]],
  [dnsTypes.PTR, [0, 0, 1]],
  [14 /* MINFO */, [0, 0, 2]],
  [dnsTypes.MX, [2, 0, 1]],
  [17 /* RP */, [0, 0, 2]],
  [18 /* AFSDB */, [2, 0, 1]],
  [21 /* RT */, [2, 0, 1]],
  [26 /* PX */, [2, 0, 2]],
  [dnsTypes.SRV, [6, 0, 1]],
  [35 /* NAPTR */, [4, 3, 1]],
  [36 /* KX */, [2, 0, 1]],
  [39 /* DNAME */, [0, 0, 1]],
]);

/** Lower-cases the names in RDATA that is given as octets; what does not fit its type stays as it is. */
function lowerOpaque(type: number, bytes: Uint8Array): Uint8Array {
  const layout = nameLayouts.get(type);
  if (layout === undefined) return bytes;
  const [fixed, strings, names] = layout;
  const lower = bytes.slice();
  let at = fixed;
  for (let n = 0; n < strings; n++) at += 1 + (bytes[at] ?? 0);
  for (let n = 0; n < names; n++) {
    while (at < bytes.length && bytes[at] !== 0) {
      const next = at + 1 + (bytes[at] as number);
      for (at++; at < next && at < bytes.length; at++) lower[at] = lowerCase[bytes[at] as number] as number;
    }
    at++;
  }
  return lower;
}

/** RDATA in canonical form: no compression, names in lower case where the type is one of those that have it so. */
export function canonicalData(type: number, data: RecordData): Uint8Array {
  switch (data.kind) {
    case "address":
      return addressToBytes(data.address);
    case "name":
      return lowerName(data.name.wire);
    case "soa": {
      const { soa } = data;
      const out = new Octets();
      out.put(lowerName(soa.primaryName.wire));
      out.put(lowerName(soa.hostmasterName.wire));
      out.u32(soa.serial);
      out.u32(soa.refreshSeconds);
      out.u32(soa.retrySeconds);
      out.u32(soa.expireSeconds);
      out.u32(soa.minimumSeconds);
      return out.bytes();
    }
    case "strings": {
      const out = new Octets();
      for (const string of data.strings) {
        out.u8(string.length);
        out.put(string);
      }
      return out.bytes();
    }
    case "opaque":
      return lowerOpaque(type, data.bytes);
  }
}

/** As octets without sign, the shorter first where one begins the other (RFC 4034 section 6.3). */
export function compareOctets(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index++) {
    const difference = (a[index] as number) - (b[index] as number);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/**
 * A set of records of one owner, type and class as it is signed (RFC 4034 section 3.1.8.1, second part): sorted, each once, with the
 * TTL of the first.
 */
export function canonicalSet(records: readonly DnsRecord[]): Uint8Array {
  const [first] = records;
  if (first === undefined) throw new RangeError("canonicalSet: no records");
  const { type, ttlSeconds } = first;
  const owner = lowerName(first.name.wire);
  const datas = records.map((record) => canonicalData(type, record.data));
  if (datas.length > 1) datas.sort(compareOctets);
  const out = new Octets();
  let last: Uint8Array | undefined;
  for (const data of datas) {
    // RFC 4034 section 6.3: of equal records one counts.
    if (last !== undefined && compareOctets(last, data) === 0) continue;
    last = data;
    out.put(owner);
    out.u16(type);
    out.u16(first.class);
    out.u32(ttlSeconds);
    out.u16(data.length);
    out.put(data);
  }
  return out.bytes();
}

/** A zone as another one has signed it: its sets with signatures in form alone (they tell what they are of), and a chain of denial. */
import { createHash } from "node:crypto";
import {
  compareCanonically,
  type DomainName,
  isAtOrBelow,
  labelsOf,
  nameFromLabels,
  parentText,
  recordTypes,
  type ZoneData,
  zoneDataOf,
  type ZoneRecord,
} from "#kit";
import { typeBitmap } from "../../../mapping/core/dns/dnssec/nsec.ts";

export interface Nsec3Parameters {
  readonly iterations: number;
  readonly salt: Uint8Array;
  /** Lower-case names of delegations that have no record (opt-out). */
  readonly optedOut: readonly string[];
}

export const sha1 = (bytes: Uint8Array): Uint8Array => createHash("sha1").update(bytes).digest();

/** @param nsec3 undefined: NSEC */
export function signedByOther(zone: ZoneData, nsec3?: Nsec3Parameters): ZoneData {
  const { origin } = zone;
  const records: ZoneRecord[] = [];
  const put = (name: DomainName, type: number, ttlSeconds: number, rdata: Uint8Array): void =>
    void records.push({ name, type, ttlSeconds, rdata, line: 0 });
  const sign = (name: DomainName, type: number, ttlSeconds: number): void =>
    put(name, recordTypes.RRSIG, ttlSeconds, signatureOf(name, type, origin));
  const names = new Map<
    string,
    { readonly name: DomainName; readonly types: number[]; readonly isCut: boolean }
  >();
  if (nsec3 !== undefined) put(origin, recordTypes.NSEC3PARAM, 0, Buffer.concat([parametersOf(nsec3, 0)]));
  for (const [text, sets] of zone.sets) {
    const cut = cutAbove(zone, text);
    const [first] = [...sets.values()];
    if (first !== undefined && (cut === undefined || cut === text))
      names.set(text, { name: first.name, types: [], isCut: cut === text });
    for (const { name, type, ttlSeconds, rdata } of sets.values()) {
      for (const one of rdata) put(name, type, ttlSeconds, one);
      const at = names.get(text);
      if (at === undefined || (at.isCut && type !== recordTypes.DS && type !== recordTypes.NS)) continue;
      at.types.push(type);
      if (!at.isCut || type === recordTypes.DS) sign(name, type, ttlSeconds);
    }
  }
  if (nsec3 === undefined) {
    const all = [...names.values()].sort((a, b) => compareCanonically(a.name, b.name));
    for (const [n, { name, types }] of all.entries()) {
      const next = all[(n + 1) % all.length]!.name;
      const bits = typeBitmap([...types, recordTypes.NSEC, recordTypes.RRSIG]);
      put(name, recordTypes.NSEC, 60, Buffer.concat([next.wire, bits]));
      sign(name, recordTypes.NSEC, 60);
    }
  } else {
    sign(origin, recordTypes.NSEC3PARAM, 0);
    for (const text of nsec3.optedOut) names.delete(text);
    for (const { name } of names.values())
      for (
        let n = 1, text = parentText(name.text);
        text !== undefined && isAtOrBelow(text, origin.text);
        n++
      ) {
        if (!names.has(text))
          names.set(text, { name: nameFromLabels(labelsOf(name).slice(n))!, types: [], isCut: false });
        text = parentText(text);
      }
    const all = [...names.values()]
      .map(({ name, types, isCut }) => ({ hash: nsec3Hash(name, nsec3), types, isCut }))
      .sort((a, b) => Buffer.compare(a.hash, b.hash));
    for (const [n, { hash, types, isCut }] of all.entries()) {
      const owner = nameFromLabels([Buffer.from(base32Hex(hash)), ...labelsOf(origin)])!;
      const isSigned = types.length > 0 && (!isCut || types.includes(recordTypes.DS));
      const head = [parametersOf(nsec3, nsec3.optedOut.length > 0 ? 1 : 0), Uint8Array.of(20)];
      const bits = typeBitmap(isSigned ? [...types, recordTypes.RRSIG] : types);
      put(owner, recordTypes.NSEC3, 60, Buffer.concat([...head, all[(n + 1) % all.length]!.hash, bits]));
      sign(owner, recordTypes.NSEC3, 60);
    }
  }
  const read = zoneDataOf(origin, records);
  if (!read.ok) throw new Error(JSON.stringify(read.problem));
  return read.zone;
}

/** RFC 4034 section 3.1; its signature is the owner's text. */
function signatureOf(name: DomainName, type: number, signer: DomainName): Uint8Array {
  const labels = labelsOf(name);
  const head = Buffer.alloc(18);
  head.writeUInt16BE(type, 0);
  head[2] = 13;
  head[3] = labels.length - (Buffer.from(labels[0] ?? []).toString() === "*" ? 1 : 0);
  return Buffer.concat([head, signer.wire, Buffer.from(`by ${name.text || "."}`)]);
}

function parametersOf({ iterations, salt }: Nsec3Parameters, flags: number): Uint8Array {
  return Buffer.from([1, flags, iterations >> 8, iterations & 255, salt.length, ...salt]);
}

function nsec3Hash(name: DomainName, { iterations, salt }: Nsec3Parameters): Uint8Array {
  let octets: Uint8Array = Buffer.from(Buffer.from(name.wire).toString("latin1").toLowerCase(), "latin1");
  for (let n = 0; n <= iterations; n++) octets = sha1(Buffer.concat([octets, salt]));
  return octets;
}

function base32Hex(octets: Uint8Array): string {
  const bits = Array.from(octets, (octet) => octet.toString(2).padStart(8, "0")).join("");
  return bits.replaceAll(/.{5}/g, (five) => Number.parseInt(five, 2).toString(32));
}

/** The highest cut at or above a name. */
function cutAbove({ sets, origin }: ZoneData, text: string): string | undefined {
  let cut: string | undefined;
  for (let at: string | undefined = text; at !== undefined && at !== origin.text; at = parentText(at))
    if (sets.get(at)?.has(recordTypes.NS) === true) cut = at;
  return cut;
}

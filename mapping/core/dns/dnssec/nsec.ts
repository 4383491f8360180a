/** NSEC records made for one question (RFC 9824): the least name that follows, and the types that a name has. */
import { dnsClasses, dnsTypes } from "../constants.ts";
import type { DnsRecord } from "../message.ts";
import { type DomainName, labelBytesMax, nameBytesMax } from "../name.ts";
import { lowerName, Octets } from "./canonical.ts";

/** Octets of letters in upper case are no octets of a canonical name. */
function octetAfter(octet: number): number {
  return octet === 0x40 ? 0x5b : octet + 1;
}

/**
 * A name behind `wire` in canonical order with hardly anything between them: `\000.` in front (RFC 9824 section 3.1); where that has
 * no room, the first label one octet longer or, at the limit, its end counted up (RFC 4471 section 3.1.2, the modified method).
 * Undefined: nothing follows within the zone (all of its first label is 0xff at the limit of length).
 *
 * @param wire in lower case, not the root
 */
export function nextName(wire: Uint8Array): Uint8Array | undefined {
  if (wire.length + 2 <= nameBytesMax) {
    const next = new Uint8Array(wire.length + 2);
    next[0] = 1;
    next.set(wire, 2);
    return next;
  }
  const labelLength = wire[0] as number;
  if (labelLength < labelBytesMax && wire.length + 1 <= nameBytesMax) {
    const next = new Uint8Array(wire.length + 1);
    next[0] = labelLength + 1;
    next.set(wire.subarray(1, 1 + labelLength), 1);
    next.set(wire.subarray(1 + labelLength), 2 + labelLength);
    return next;
  }
  let last = labelLength;
  while (last > 0 && wire[last] === 0xff) last--;
  if (last === 0) return undefined;
  const next = new Uint8Array(wire.length - (labelLength - last));
  next[0] = last;
  next.set(wire.subarray(1, 1 + last), 1);
  next[last] = octetAfter(wire[last] as number);
  next.set(wire.subarray(1 + labelLength), 1 + last);
  return next;
}

/** Type bit maps (RFC 4034 section 4.1.2). */
export function typeBitmap(types: readonly number[]): Uint8Array {
  const out = new Octets();
  const sorted = [...new Set(types)].sort((a, b) => a - b);
  for (let at = 0; at < sorted.length; ) {
    const window = (sorted[at] as number) >>> 8;
    const bits = new Uint8Array(32);
    let last = 0;
    for (; at < sorted.length && (sorted[at] as number) >>> 8 === window; at++) {
      const low = (sorted[at] as number) & 0xff;
      last = low >>> 3;
      (bits[last] as number) |= 0x80 >>> (low & 7);
    }
    out.u8(window);
    out.u8(last + 1);
    out.put(bits.subarray(0, last + 1));
  }
  return out.bytes();
}

/** What stands at a name that is denied something: its types, or nothing at all and nothing below it. */
export type TypesAtName = readonly number[] | "nothing";

const bitmapOfNothing = typeBitmap([dnsTypes.NXNAME, dnsTypes.RRSIG, dnsTypes.NSEC]);

/**
 * The NSEC record that says what `name` has. Its own name and the next one are in lower case, so that the letters of a question (0x20)
 * make no other signature.
 *
 * @param apex where the next name wraps around to when nothing can follow
 */
export function nsecRecord(
  name: DomainName,
  types: TypesAtName,
  ttlSeconds: number,
  apex: DomainName,
): DnsRecord {
  const out = new Octets();
  out.put(nextName(lowerName(name.wire)) ?? lowerName(apex.wire));
  out.put(types === "nothing" ? bitmapOfNothing : typeBitmap([...types, dnsTypes.RRSIG, dnsTypes.NSEC]));
  return {
    name,
    type: dnsTypes.NSEC,
    class: dnsClasses.IN,
    ttlSeconds,
    data: { kind: "opaque", bytes: out.bytes() },
  };
}

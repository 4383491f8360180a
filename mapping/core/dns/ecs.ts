/** The EDNS Client Subnet option (RFC 7871), read strictly and echoed exactly. */
import { addressFromBytes, type IpAddress } from "#kit";

/** Address families of the option (RFC 7871 section 6, IANA "Address Family Numbers"). 0 is "no address told". */
export const ecsFamilies = { none: 0, ipv4: 1, ipv6: 2 } as const;

export interface ClientSubnet {
  readonly family: 0 | 1 | 2;
  /** Leading bits of the address that the resolver tells: 0..32 or 0..128. */
  readonly sourcePrefixLength: number;
  /** In a query 0; in an answer the leading bits for which the answer holds. */
  readonly scopePrefixLength: number;
  /** The ADDRESS field as it came: exactly the octets that the source prefix needs, bits after it zero. */
  readonly address: Uint8Array;
}

/** Why an option was refused; each is answered with FORMERR (RFC 7871 section 6). */
export const ecsFaults = [
  /** Shorter than its four fixed octets. */
  "ecs-short",
  /** Neither IPv4 nor IPv6, nor family 0 with an empty prefix. */
  "ecs-family",
  /** More bits than an address of the family has. */
  "ecs-source-too-long",
  /** A query must say scope 0; an answer no more bits than an address has. */
  "ecs-scope",
  /** Too few or too many ADDRESS octets for the source prefix. */
  "ecs-address-length",
  /** Bits set after the source prefix. */
  "ecs-dirty-tail",
  /** A second ECS option in one message. */
  "ecs-duplicate",
] as const;
export type EcsFault = (typeof ecsFaults)[number];

export type EcsRead =
  | { readonly ok: true; readonly ecs: ClientSubnet }
  | { readonly ok: false; readonly fault: EcsFault };

const FIXED_BYTES = 4;
const familyBits = { 0: 0, 1: 32, 2: 128 } as const;

/**
 * Reads the data of an ECS option. `from` tells whether it stands in a query, where the scope must be 0 (RFC 7871
 * section 6), or in an answer. Never throws.
 */
export function parseEcs(data: Uint8Array, from: "query" | "answer"): EcsRead {
  if (data.length < FIXED_BYTES) return { ok: false, fault: "ecs-short" };
  const family = ((data[0] as number) << 8) | (data[1] as number);
  const sourcePrefixLength = data[2] as number;
  const scopePrefixLength = data[3] as number;
  if (family !== 0 && family !== 1 && family !== 2) return { ok: false, fault: "ecs-family" };
  // Family 0 says "use no address of mine": it can carry none (RFC 7871 section 7.1.2).
  if (family === 0 && sourcePrefixLength !== 0) return { ok: false, fault: "ecs-family" };
  const bits = familyBits[family];
  if (sourcePrefixLength > bits) return { ok: false, fault: "ecs-source-too-long" };
  if (scopePrefixLength > (from === "query" ? 0 : bits)) return { ok: false, fault: "ecs-scope" };
  const addressBytes = Math.ceil(sourcePrefixLength / 8);
  if (data.length !== FIXED_BYTES + addressBytes) return { ok: false, fault: "ecs-address-length" };
  const tailBits = addressBytes * 8 - sourcePrefixLength;
  if (tailBits > 0 && ((data[data.length - 1] as number) & ((1 << tailBits) - 1)) !== 0) {
    return { ok: false, fault: "ecs-dirty-tail" };
  }
  return {
    ok: true,
    ecs: { family, sourcePrefixLength, scopePrefixLength, address: data.slice(FIXED_BYTES) },
  };
}

/**
 * The option data of an answer: family, source prefix length and address exactly as asked (RFC 7871 section 7.2.1, else
 * the resolver drops the answer), with the given scope. The scope is cut to the source: we never claim to know more of the
 * client than we were told, and a resolver would have to store such an answer under the source prefix anyway
 * (RFC 7871 section 7.3.1).
 */
export function echoEcs(asked: ClientSubnet, scopePrefixLength: number): Uint8Array {
  return encodeEcs({
    ...asked,
    scopePrefixLength: Math.max(0, Math.min(scopePrefixLength, asked.sourcePrefixLength)),
  });
}

/** Option data of `ecs`, field by field. */
export function encodeEcs(ecs: ClientSubnet): Uint8Array {
  const data = new Uint8Array(FIXED_BYTES + ecs.address.length);
  data[0] = ecs.family >> 8;
  data[1] = ecs.family & 0xff;
  data[2] = ecs.sourcePrefixLength;
  data[3] = ecs.scopePrefixLength;
  data.set(ecs.address, FIXED_BYTES);
  return data;
}

/** The address told, zeros after the source prefix; undefined when none is told (family 0, or a source prefix of 0). */
export function ecsAddress(ecs: ClientSubnet): IpAddress | undefined {
  if (ecs.family === 0 || ecs.sourcePrefixLength === 0) return undefined;
  return addressFromBytes(ecs.family === 1 ? 4 : 6, ecs.address);
}

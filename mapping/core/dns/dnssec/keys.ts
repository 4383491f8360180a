/** Keys of a signed zone as records: DNSKEY and DS (RFC 4034 sections 2 and 5), CDS and CDNSKEY (RFC 7344). */
import { dnsClasses, dnsTypes } from "../constants.ts";
import type { DnsRecord } from "../message.ts";
import type { DomainName } from "../name.ts";
import { lowerName, Octets } from "./canonical.ts";

/** ECDSA on curve P-256 with SHA-256 (RFC 6605). */
export const ecdsaP256Sha256 = 13;
/** Zone key and secure entry point (RFC 4034 section 2.1.1): one key does both, see `key-roll.ts`. */
const CSK_FLAGS = 257;
const PROTOCOL = 3;
/** SHA-256 (RFC 4509). */
const DIGEST_SHA256 = 2;

/** RDATA that asks for no DS at all, `0 0 0 00` and `0 3 0 AA==` (RFC 8078 section 4, with erratum 5049). */
const CDS_DELETE = Uint8Array.of(0, 0, 0, 0, 0);
const CDNSKEY_DELETE = Uint8Array.of(0, 0, PROTOCOL, 0, 0);

/** One key of a zone, whose private part is somewhere behind `sign`. */
export interface ZoneKey {
  /** x and y, 32 octets each (RFC 6605 section 4). */
  readonly publicKey: Uint8Array;
  /** r and s, 32 octets each, over the SHA-256 of `bytes`. Throws when the private part cannot be used. */
  readonly sign: (bytes: Uint8Array) => Uint8Array;
}

/** RDATA of the key's DNSKEY. */
export function dnskeyData(publicKey: Uint8Array): Uint8Array {
  const out = new Octets();
  out.u16(CSK_FLAGS);
  out.u8(PROTOCOL);
  out.u8(ecdsaP256Sha256);
  out.put(publicKey);
  return out.bytes();
}

/** RFC 4034 appendix B. */
export function keyTagOf(publicKey: Uint8Array): number {
  let sum = 0;
  for (const [index, octet] of dnskeyData(publicKey).entries()) sum += index % 2 === 0 ? octet << 8 : octet;
  return (sum + (sum >>> 16)) & 0xffff;
}

/**
 * RDATA of the DS with SHA-256 (RFC 4509 section 2).
 *
 * @param sha256 the digest of octets
 */
export function dsData(
  origin: DomainName,
  publicKey: Uint8Array,
  sha256: (bytes: Uint8Array) => Uint8Array,
): Uint8Array {
  const signed = new Octets();
  signed.put(lowerName(origin.wire));
  signed.put(dnskeyData(publicKey));
  const out = new Octets();
  out.u16(keyTagOf(publicKey));
  out.u8(ecdsaP256Sha256);
  out.u8(DIGEST_SHA256);
  out.put(sha256(signed.bytes()));
  return out.bytes();
}

function opaqueRecord(name: DomainName, type: number, ttlSeconds: number, bytes: Uint8Array): DnsRecord {
  return { name, type, class: dnsClasses.IN, ttlSeconds, data: { kind: "opaque", bytes } };
}

/** What of a zone's keys is in force at one time. Private parts are reached through `sign` alone. */
export interface ZoneKeySet {
  readonly origin: DomainName;
  /** All that stand in the DNSKEY set. */
  readonly published: readonly ZoneKey[];
  /** Those that sign DNSKEY, CDS and CDNSKEY: all that a DS may point at. */
  readonly apexSigners: readonly ZoneKey[];
  /** Those that sign everything else; one but for the moment of a change. */
  readonly signers: readonly ZoneKey[];
  /** Those that the parent is to have a DS of. */
  readonly delegated: readonly ZoneKey[];
  /** The parent is asked to have none any more (RFC 8078 section 4). */
  readonly isWithdrawn?: boolean;
  readonly dnskeyTtlSeconds: number;
  /** Of the DS set in the zone above, where that one is ours. */
  readonly dsTtlSeconds: number;
}

export interface KeyRecords {
  readonly dnskey: readonly DnsRecord[];
  readonly cds: readonly DnsRecord[];
  readonly cdnskey: readonly DnsRecord[];
  /** What the zone above says, when it is ours. */
  readonly ds: readonly DnsRecord[];
}

export function keyRecords(keys: ZoneKeySet, sha256: (bytes: Uint8Array) => Uint8Array): KeyRecords {
  const { origin, dnskeyTtlSeconds: ttl } = keys;
  const ds = keys.delegated.map(({ publicKey }) => dsData(origin, publicKey, sha256));
  const isWithdrawn = keys.isWithdrawn === true;
  return {
    dnskey: keys.published.map(({ publicKey }) =>
      opaqueRecord(origin, dnsTypes.DNSKEY, ttl, dnskeyData(publicKey)),
    ),
    cds: (isWithdrawn ? [CDS_DELETE] : ds).map((data) => opaqueRecord(origin, dnsTypes.CDS, ttl, data)),
    cdnskey: (isWithdrawn
      ? [CDNSKEY_DELETE]
      : keys.delegated.map(({ publicKey }) => dnskeyData(publicKey))
    ).map((data) => opaqueRecord(origin, dnsTypes.CDNSKEY, ttl, data)),
    ds: ds.map((data) => opaqueRecord(origin, dnsTypes.DS, keys.dsTtlSeconds, data)),
  };
}

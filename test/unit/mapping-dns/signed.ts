/** The deployment of `fixture.ts` with keys: shop.example and media.example are signed, sub.shop.example is not unless asked for. */
import type { ZoneKey, ZoneKeySet } from "../../../mapping/core/dns/dnssec/keys.ts";
import type { ZoneSigners } from "../../../mapping/core/dns/dnssec/secure.ts";
import { SignatureCache, type SignatureTiming, ZoneSigner } from "../../../mapping/core/dns/dnssec/signer.ts";
import { nameFromText } from "../../../mapping/core/dns/name.ts";
import { makeZoneKey, sha256, zoneKeyOf } from "#mapping";

export const newKey = (): ZoneKey => zoneKeyOf(makeZoneKey().privateKeyPem);

export function keySet(origin: string, key: ZoneKey, more: Partial<ZoneKeySet> = {}): ZoneKeySet {
  return {
    origin: nameFromText(origin)!,
    published: [key],
    apexSigners: [key],
    signers: [key],
    delegated: [key],
    dnskeyTtlSeconds: 3_600,
    dsTtlSeconds: 7_200,
    ...more,
  };
}

export function signersOf(
  keySets: readonly ZoneKeySet[],
  cache = new SignatureCache(1_000),
  timing?: SignatureTiming,
): ZoneSigners {
  return new Map(keySets.map((keys) => [keys.origin.text, new ZoneSigner(keys, sha256, cache, timing)]));
}

/** `shop.example. IN DS 12345 13 2 ...`, as trust anchors are written. */
export function dsText(keys: ZoneKeySet): string {
  const [ds] = new ZoneSigner(keys, sha256, new SignatureCache(2)).records.ds;
  if (ds?.data.kind !== "opaque") throw new Error("no DS");
  const bytes = Buffer.from(ds.data.bytes);
  return `${keys.origin.text}. IN DS ${bytes.readUInt16BE(0)} ${bytes[2]} ${bytes[3]} ${bytes.subarray(4).toString("hex").toUpperCase()}`;
}

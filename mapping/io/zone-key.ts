/** Private keys of signed zones: ECDSA on P-256 by node:crypto. A private part leaves here only sealed. */
import { createHash, createPrivateKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import type { DnssecKey, DnssecZone } from "#kit";
import { seal, type SealPurpose, systemClock, unseal } from "#kit/io";
import { peerKeyFromEnvironment } from "#transport";
import { rawSignatureOf } from "../core/dns/dnssec/ecdsa.ts";
import { dsData, type ZoneKey, type ZoneKeySet } from "../core/dns/dnssec/keys.ts";
import { nameFromText, rootName } from "../core/dns/name.ts";

/** A key pair: what the zone shows, and what is to be sealed. */
export interface MadeZoneKey {
  /** x and y. */
  readonly publicKey: Uint8Array;
  /** PKCS #8 in PEM. */
  readonly privateKeyPem: string;
}

export function makeZoneKey(): MadeZoneKey {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return {
    publicKey: publicPartOf(privateKey),
    privateKeyPem: privateKey.export({ type: "pkcs8", format: "pem" }) as string,
  };
}

/** Throws what node:crypto throws when the text is no private key on P-256. */
export function zoneKeyOf(privateKeyPem: string): ZoneKey {
  const key = createPrivateKey(privateKeyPem);
  if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1")
    throw new Error("the private key is not on P-256");
  return { publicKey: publicPartOf(key), sign: (bytes) => rawSignatureOf(sign("sha256", bytes, key)) };
}

function publicPartOf(privateKey: KeyObject): Uint8Array {
  const { x, y } = privateKey.export({ format: "jwk" });
  return Uint8Array.from(
    Buffer.concat([Buffer.from(x ?? "", "base64url"), Buffer.from(y ?? "", "base64url")]),
  );
}

/** Of NSEC3 alone (RFC 5155 section 11), which knows no other. */
export function sha1(bytes: Uint8Array): Uint8Array {
  return createHash("sha1").update(bytes).digest();
}

export function sha256(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(bytes).digest();
}

/** A private key opens for its own zone and public key alone. */
const purposeOf = (zone: string, publicKey: string): SealPurpose => ({
  purpose: "isochrone dnssec key v1",
  boundTo: `${zone} ${publicKey}`,
});

/** A new key as it stands in the document of kind `dnssec`. */
export function makeSealedKey(
  zone: string,
  keyId: string,
  peerKey: Uint8Array,
): Pick<DnssecKey, "keyId" | "publicKey" | "sealedKey"> {
  const { publicKey: point, privateKeyPem } = makeZoneKey();
  const publicKey = Buffer.from(point).toString("base64");
  return { keyId, publicKey, sealedKey: seal(privateKeyPem, purposeOf(zone, publicKey), peerKey) };
}

/** The key of the environment; undefined where none is set. Throws IsochroneError for one that cannot be a key. */
export function peerKeyIfSet(): Uint8Array | undefined {
  return (process.env["ISOCHRONE_PEER_KEY"] ?? "") === "" ? undefined : peerKeyFromEnvironment();
}

/** A zone with one key that signs from now on and that the parent may have the DS of at once; for a server by itself. */
export function newSignedZone(zone: string, peerKey: Uint8Array) {
  const at = Math.floor(systemClock.epoch());
  const key = { ...makeSealedKey(zone, "key-1", peerKey), publishedAtEpochMs: at, activeAtEpochMs: at };
  return { zone, keys: [{ ...key, delegatedAtEpochMs: at }] } as const;
}

/** `shop.example. IN DS 12345 13 2 AB...`: what the parent is to have, and what a trust anchor says. */
export function dsTextOf(zone: string, publicKey: string): string {
  const data = dsData(nameFromText(zone) ?? rootName, Buffer.from(publicKey, "base64"), sha256);
  const bytes = Buffer.from(data);
  const digest = bytes.subarray(4).toString("hex").toUpperCase();
  return `${zone}. IN DS ${bytes.readUInt16BE(0)} ${bytes[2]} ${bytes[3]} ${digest}`;
}

export interface OpenedZone {
  readonly keys: ZoneKeySet;
  /** Why keys could not be opened; what they are to sign gets SERVFAIL. Names no secret. */
  readonly problems: readonly string[];
}

/**
 * The keys of a zone that are in force. One that does not open is there all the same and fails when it is to sign: an answer without
 * signatures would be bogus, and SERVFAIL sends the resolver to another name server.
 */
export function openZone(zone: DnssecZone, peerKey: Uint8Array | undefined): OpenedZone {
  const problems: string[] = [];
  const opened = zone.keys.map((one) => {
    const { publicKey, sealedKey, keyId } = one;
    try {
      if (peerKey === undefined) throw new Error("ISOCHRONE_PEER_KEY is not set");
      const key = zoneKeyOf(unseal(sealedKey, purposeOf(zone.zone, publicKey), peerKey));
      if (Buffer.from(key.publicKey).toString("base64") !== publicKey)
        throw new Error("the sealed key has another public part");
      return { one, key };
    } catch (cause) {
      const why = `Cannot open key "${keyId}" of zone "${zone.zone}": ${peerKey === undefined ? "ISOCHRONE_PEER_KEY is not set" : "it was sealed with another ISOCHRONE_PEER_KEY, or is damaged"}`;
      problems.push(why);
      const key: ZoneKey = {
        publicKey: Uint8Array.from(Buffer.from(publicKey, "base64")),
        sign: () => {
          throw new Error(why, { cause });
        },
      };
      return { one, key };
    }
  });
  const keysThat = (has: (one: DnssecKey) => boolean): ZoneKey[] =>
    opened.filter(({ one }) => has(one)).map(({ key }) => key);
  return {
    keys: {
      origin: nameFromText(zone.zone) ?? rootName,
      published: keysThat(() => true),
      apexSigners: keysThat(() => true),
      signers: keysThat((one) => one.activeAtEpochMs !== undefined && one.retiredAtEpochMs === undefined),
      delegated: keysThat(
        (one) => one.delegatedAtEpochMs !== undefined && one.undelegatedAtEpochMs === undefined,
      ),
      isWithdrawn: zone.withdrawnAtEpochMs !== undefined,
      dnskeyTtlSeconds: zone.dnskeyTtlSeconds,
      dsTtlSeconds: zone.dsTtlSeconds,
    },
    problems,
  };
}

/** Private keys of signed zones: ECDSA on P-256 by node:crypto. A private part leaves here only sealed. */
import { createHash, createPrivateKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import type { ZoneKey } from "../core/dns/dnssec/keys.ts";

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
  // RFC 6605 section 4: r and s as they are, not in DER.
  const parameters = { key, dsaEncoding: "ieee-p1363" } as const;
  return { publicKey: publicPartOf(key), sign: (bytes) => sign("sha256", bytes, parameters) };
}

function publicPartOf(privateKey: KeyObject): Uint8Array {
  const { x, y } = privateKey.export({ format: "jwk" });
  return Uint8Array.from(
    Buffer.concat([Buffer.from(x ?? "", "base64url"), Buffer.from(y ?? "", "base64url")]),
  );
}

export function sha256(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(bytes).digest();
}

/**
 * The keys that properties' tokens (core/access/token.ts) and requests to their origins (core/access/origin-auth.ts) are signed with:
 * sealed in the document, opened here.
 */
import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from "node:crypto";
import { type AccessPolicy, type EpochMs, id, type OriginAuth } from "#kit";
import { type Logger, seal, type SealPurpose, unseal } from "#kit/io";
import { formatOriginAuth, type OriginAuthRequest, originAuthText } from "../core/access/origin-auth.ts";
import { type MacCheck, tokenText } from "../core/access/token.ts";

/** Shorter ones can be guessed: 128 bits need as many characters at least. */
const SECRET_CHARACTERS_MIN = 16;
const SECRET_CHARACTERS_MAX = 256;

const purposeOf = (propertyId: string, keyId: string): SealPurpose => ({
  purpose: "isochrone access key v1",
  boundTo: `${propertyId} ${keyId}`,
});

export class AccessKeys {
  readonly #peerKey: Uint8Array;
  readonly #logger: Logger;
  /** By the document's part that they stand in: another version has its own. */
  readonly #opened = new WeakMap<AccessPolicy | OriginAuth, ReadonlyMap<string, KeyObject>>();

  constructor(peerKey: Uint8Array, logger: Logger) {
    this.#peerKey = peerKey;
    this.#logger = logger;
  }

  /** Opens a property's keys. One that does not open is logged and counts as unknown: the rest of the property is served. */
  open({
    propertyId,
    access,
    originAuth,
  }: {
    readonly propertyId: string;
    readonly access?: AccessPolicy | undefined;
    readonly originAuth?: OriginAuth | undefined;
  }): void {
    for (const part of [access, originAuth])
      if (part !== undefined) this.#opened.set(part, this.#keysOf(propertyId, part.keys));
  }

  #keysOf(propertyId: string, sealed: AccessPolicy["keys"]): ReadonlyMap<string, KeyObject> {
    const keys = new Map<string, KeyObject>();
    for (const { keyId, sealedSecret } of sealed)
      try {
        const secret = unseal(sealedSecret, purposeOf(propertyId, keyId), this.#peerKey);
        keys.set(keyId, createSecretKey(secret, "utf8"));
      } catch {
        this.#logger.error("access-key-not-opened", {
          propertyId,
          keyId,
          reason:
            'sealed with another ISOCHRONE_PEER_KEY or for another property; make it again with "isochrone token key"',
        });
      }
    return keys;
  }

  /** The value that proves a request to an origin; undefined: no key of it opens here, which was logged. */
  proofFor(auth: OriginAuth, request: OriginAuthRequest, now: EpochMs): string | undefined {
    const [first] = this.#opened.get(auth) ?? [];
    if (first === undefined) return undefined;
    const [keyId, key] = first;
    const epochSeconds = Math.floor(now / 1_000);
    const mac = macOf(originAuthText(keyId, epochSeconds, request), key).toString("hex");
    return formatOriginAuth(keyId, epochSeconds, mac);
  }

  /** Knows no key of a policy that was not opened. */
  checkOf(access: AccessPolicy): MacCheck {
    const keys = this.#opened.get(access);
    return (keyId, text, mac) => {
      const key = keys?.get(keyId);
      return key && timingSafeEqual(macOf(text, key), Buffer.from(mac, "hex"));
    };
  }
}

/** A key for a property's document. `secret`: 16 to 256 visible characters. Throws RangeError when it is not. */
export function makeAccessKey(
  propertyId: string,
  keyId: string,
  secret: string,
  peerKey: Uint8Array,
): AccessPolicy["keys"][number] {
  if (
    secret.length < SECRET_CHARACTERS_MIN ||
    secret.length > SECRET_CHARACTERS_MAX ||
    !/^[!-~]+$/.test(secret)
  )
    throw new RangeError(
      `the secret has ${secret.length} characters, expected ${SECRET_CHARACTERS_MIN} to ${SECRET_CHARACTERS_MAX} visible ASCII ones`,
    );
  return {
    keyId: id().parse(keyId, ["KEY"]),
    sealedSecret: seal(secret, purposeOf(propertyId, keyId), peerKey),
  };
}

/** A token that ends at `expiresAt` (whole seconds, rounded down). */
export function makeToken(
  secret: string,
  keyId: string,
  expiresAt: EpochMs,
  covers: Parameters<typeof tokenText>[2],
): string {
  const text = tokenText(expiresAt, keyId, covers);
  const mac = macOf(text, createSecretKey(secret, "utf8")).toString("hex");
  return `${"acl" in covers ? text : text.slice(0, text.indexOf("~path="))}~hmac=${mac}`;
}

function macOf(text: string, key: KeyObject): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

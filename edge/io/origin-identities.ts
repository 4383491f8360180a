/**
 * The client certificates by which origins know that a connection is a property's (cloaking by mutual TLS): chain and sealed key stand in
 * its document, opened here.
 */
import type { OriginAuth } from "#kit";
import { type Logger, seal, type SealPurpose, unseal } from "#kit/io";
import type { OriginIdentity } from "#transport";
import { parsePair } from "./tls/certificate.ts";

type ClientCertificate = NonNullable<OriginAuth["clientCertificate"]>;

/** Bound to the property: in another one's document it does not open. */
const purposeOf = (propertyId: string, fingerprint: string): SealPurpose => ({
  purpose: "isochrone client certificate key v1",
  boundTo: `${propertyId} ${fingerprint}`,
});

export class OriginIdentities {
  readonly #peerKey: Uint8Array;
  readonly #logger: Logger;
  /** By the document's part that they stand in: another version has its own. */
  readonly #opened = new WeakMap<OriginAuth, OriginIdentity>();

  constructor(peerKey: Uint8Array, logger: Logger) {
    this.#peerKey = peerKey;
    this.#logger = logger;
  }

  /** Opens a property's certificate. One that does not open is logged, and the origin is asked without: it is for it to refuse. */
  open({
    propertyId,
    originAuth,
  }: {
    readonly propertyId: string;
    readonly originAuth?: OriginAuth | undefined;
  }): void {
    if (originAuth?.clientCertificate === undefined) return;
    const { chainPem, sealedKey, fingerprint } = originAuth.clientCertificate;
    try {
      const keyPem = unseal(sealedKey, purposeOf(propertyId, fingerprint), this.#peerKey);
      const { chainPem: chain } = parsePair(chainPem, keyPem, `of property ${propertyId}`);
      this.#opened.set(originAuth, { owner: propertyId, chainPem: chain, keyPem, fingerprint });
    } catch {
      this.#logger.error("client-certificate-not-opened", {
        propertyId,
        fingerprint,
        reason:
          'sealed with another ISOCHRONE_PEER_KEY or for another property; make it again with "isochrone token certificate"',
      });
    }
  }

  /** Undefined: there is none, or it did not open. */
  of(originAuth: OriginAuth): OriginIdentity | undefined {
    return this.#opened.get(originAuth);
  }
}

/**
 * `originAuth.clientCertificate` for a property's document, and what its origins will see. Throws IsochroneError when chain and key do not
 * fit; `name` is what it calls them.
 */
export function makeClientCertificate(
  propertyId: string,
  chainPem: string,
  keyPem: string,
  peerKey: Uint8Array,
  name: string,
): {
  readonly clientCertificate: ClientCertificate;
  readonly about: Omit<ReturnType<typeof parsePair>, "keyPem" | "chainPem">;
} {
  const { chainPem: chain, keyPem: key, ...about } = parsePair(chainPem, keyPem, name);
  const sealedKey = seal(key, purposeOf(propertyId, about.fingerprint), peerKey);
  return { clientCertificate: { chainPem: chain, fingerprint: about.fingerprint, sealedKey }, about };
}

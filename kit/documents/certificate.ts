/**
 * A server certificate for some host names: the chain in the open, the private key sealed under the deployment's peer key, so
 * that neither control nor its backups, logs or readers ever hold it.
 */
import { id } from "../ids.ts";
import { array, boolean, defaulted, object, type Parsed, string } from "../schema.ts";

/** As in a certificate: a host name, or "*" as the leftmost label above at least two more (RFC 9525, section 6.3). */
const certificateName = () =>
  string({
    max: 253,
    pattern:
      /^(\*\.(?=[^.]+\.[^.]))?[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/,
    expected: 'a host name in lower case, or one with "*." in front',
  });

/** A chain in the open with its private key sealed. */
export const chainWithKey = {
  /** PEM: the holder's own certificate first, then each issuer. */
  chainPem: string({
    max: 65_536,
    pattern: /^\s*-----BEGIN CERTIFICATE-----/,
    expected: "certificates in PEM, nothing else",
  }),
  /** `v1.` and base64url of nonce, ciphertext and tag (AES-256-GCM). Made by `isochrone certificate push`, `isochrone token certificate`. */
  sealedKey: string({
    max: 32_768,
    pattern: /^v1\.[A-Za-z0-9_-]{40,}$/,
    expected:
      'a sealed private key as "isochrone certificate push" or "token certificate" makes it, never a plain one',
  }),
  /** SHA-256 of the first certificate, as `openssl x509 -fingerprint -sha256` prints it. */
  fingerprint: string({
    max: 95,
    pattern: /^([0-9A-F]{2}:){31}[0-9A-F]{2}$/,
    expected: "a SHA-256 fingerprint such as AB:CD:...",
  }),
} as const;

export const certificateDocument = object({
  certificateId: id(),
  /** What it is served for; each must be a name of the certificate itself. */
  hostnames: array(certificateName(), { min: 1, max: 100, uniqueBy: (name) => name }),
  ...chainWithKey,
  /** False: served no more. */
  isActive: defaulted(boolean(), true),
});
export type CertificateDocument = Parsed<typeof certificateDocument>;

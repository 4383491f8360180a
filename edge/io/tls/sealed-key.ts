/**
 * Private keys of certificates as they travel through control: AES-256-GCM under a key derived from the deployment's peer key
 * (RFC 5869). Bound to the certificate: a sealed key put beside another chain does not open.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { IsochroneError } from "#kit";

const PREFIX = "v1.";
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** What the key belongs to. */
export interface KeyBinding {
  readonly certificateId: string;
  readonly fingerprint: string;
}

function sealingKey(peerKey: Uint8Array): Buffer {
  return Buffer.from(hkdfSync("sha256", peerKey, "", "isochrone certificate key v1", 32));
}

const boundTo = ({ certificateId, fingerprint }: KeyBinding): Buffer =>
  Buffer.from(`${certificateId} ${fingerprint}`);

export function sealPrivateKey(keyPem: string, binding: KeyBinding, peerKey: Uint8Array): string {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv("aes-256-gcm", sealingKey(peerKey), nonce);
  cipher.setAAD(boundTo(binding));
  const sealed = Buffer.concat([nonce, cipher.update(keyPem, "utf8"), cipher.final(), cipher.getAuthTag()]);
  return `${PREFIX}${sealed.toString("base64url")}`;
}

/** Throws IsochroneError (`key-sealed-otherwise`): another peer key, another certificate, or damaged. */
export function openPrivateKey(sealedKey: string, binding: KeyBinding, peerKey: Uint8Array): string {
  const bytes = Buffer.from(sealedKey.slice(PREFIX.length), "base64url");
  try {
    const decipher = createDecipheriv("aes-256-gcm", sealingKey(peerKey), bytes.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(boundTo(binding));
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
    return (
      decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES), undefined, "utf8") + decipher.final("utf8")
    );
  } catch (cause) {
    throw new IsochroneError(
      `Cannot open the private key of certificate "${binding.certificateId}": it was sealed with another ISOCHRONE_PEER_KEY or for another certificate; push it again`,
      { code: "key-sealed-otherwise", source: "configuration", retry: "never", cause },
    );
  }
}

/**
 * Secrets as they travel through control: AES-256-GCM under a key derived from the deployment's peer key (RFC 5869), one for each
 * purpose. Bound to what they belong to: sealed text that is put elsewhere does not open.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";

const PREFIX = "v1.";
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

export interface SealPurpose {
  readonly purpose: string;
  readonly boundTo: string;
}

function sealingKey(peerKey: Uint8Array, purpose: string): Buffer {
  return Buffer.from(hkdfSync("sha256", peerKey, "", purpose, 32));
}

/** `v1.` and base64url of nonce, ciphertext and tag. */
export function seal(secret: string, { purpose, boundTo }: SealPurpose, peerKey: Uint8Array): string {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv("aes-256-gcm", sealingKey(peerKey, purpose), nonce);
  cipher.setAAD(Buffer.from(boundTo));
  const sealed = Buffer.concat([nonce, cipher.update(secret, "utf8"), cipher.final(), cipher.getAuthTag()]);
  return `${PREFIX}${sealed.toString("base64url")}`;
}

/** Throws when it was sealed with another key, for something else, or is damaged. */
export function unseal(sealed: string, { purpose, boundTo }: SealPurpose, peerKey: Uint8Array): string {
  const bytes = Buffer.from(sealed.slice(PREFIX.length), "base64url");
  const nonce = bytes.subarray(0, NONCE_BYTES);
  const decipher = createDecipheriv("aes-256-gcm", sealingKey(peerKey, purpose), nonce, {
    authTagLength: TAG_BYTES,
  });
  decipher.setAAD(Buffer.from(boundTo));
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
  return decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES), undefined, "utf8") + decipher.final("utf8");
}

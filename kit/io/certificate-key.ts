/** Private keys of certificates as they travel through control. */
import { IsochroneError } from "#kit";
import { seal, type SealPurpose, unseal } from "./sealing.ts";

/** What the key belongs to: put beside another chain it does not open. */
export interface KeyBinding {
  readonly certificateId: string;
  readonly fingerprint: string;
}

const purposeOf = ({ certificateId, fingerprint }: KeyBinding): SealPurpose => ({
  purpose: "isochrone certificate key v1",
  boundTo: `${certificateId} ${fingerprint}`,
});

export function sealPrivateKey(keyPem: string, binding: KeyBinding, peerKey: Uint8Array): string {
  return seal(keyPem, purposeOf(binding), peerKey);
}

/** Throws IsochroneError (`key-sealed-otherwise`): another peer key, another certificate, or damaged. */
export function openPrivateKey(sealedKey: string, binding: KeyBinding, peerKey: Uint8Array): string {
  try {
    return unseal(sealedKey, purposeOf(binding), peerKey);
  } catch (cause) {
    throw new IsochroneError(
      `Cannot open the private key of certificate "${binding.certificateId}": it was sealed with another ISOCHRONE_PEER_KEY or for another certificate; push it again`,
      { code: "key-sealed-otherwise", source: "configuration", retry: "never", cause },
    );
  }
}

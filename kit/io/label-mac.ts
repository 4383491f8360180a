import { createHmac, hkdfSync } from "node:crypto";
import type { LabelMac } from "../one-time-name.ts";

/** What seals the names of a deployment that are asked for once: every edge makes them, every name server reads them. */
export function labelMac(peerKey: Uint8Array): LabelMac {
  const key = Buffer.from(hkdfSync("sha256", peerKey, "", "isochrone one-time names v1", 32));
  return (text) => createHmac("sha256", key).update(text).digest();
}

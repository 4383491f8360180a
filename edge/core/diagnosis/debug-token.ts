/**
 * A token that opens diagnosis to whoever holds it, until it ends: `v1.EXPIRY.SCOPE.MAC`. EXPIRY: seconds since the epoch;
 * SCOPE: a property id, or "*" for all of them; MAC: made over the rest with a key that only our servers and operators
 * have. What a cache says about its insides (keys, reasons, times) is nobody else's business.
 */
import type { EpochMs } from "#kit";

/** A token that was read; not yet one whose MAC was found right. */
export interface DebugToken {
  /** What the MAC covers. */
  readonly signedText: string;
  /** In base64url. */
  readonly mac: string;
  readonly expiresAt: EpochMs;
  readonly scope: string;
}

/** HMAC-SHA256 in base64url without padding. */
const MAC_LENGTH = 43;
const FORM = /^(v1\.([0-9]{1,11})\.(\*|[a-z0-9][a-z0-9-]{0,62}))\.([A-Za-z0-9_-]{43})$/;
const TOKEN_LENGTH_MAX = "v1.".length + 11 + 1 + 63 + 1 + MAC_LENGTH;

/** Reads a token; undefined: it has not the form. */
export function parseDebugToken(text: string): DebugToken | undefined {
  if (text.length > TOKEN_LENGTH_MAX) return undefined;
  const match = FORM.exec(text);
  if (match === null) return undefined;
  const [, signedText = "", expiry = "", scope = "", mac = ""] = match;
  return { signedText, mac, expiresAt: (Number(expiry) * 1_000) as EpochMs, scope };
}

/** What is signed for a token of `scope` that ends at `expiresAt` (whole seconds, rounded down). */
export function debugTokenText(expiresAt: EpochMs, scope: string): string {
  return `v1.${Math.floor(expiresAt / 1_000)}.${scope}`;
}

/** Whether a token of `scope` opens what concerns a property; undefined: of none, which takes a token for all. */
export function coversProperty(scope: string, propertyId: string | undefined): boolean {
  return scope === "*" || scope === propertyId;
}

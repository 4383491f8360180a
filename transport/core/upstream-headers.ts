/** Which of a caller's header fields go on the wire: the hop's own are made anew, never passed on. */
import { peerProofHeader } from "./peer-proof.ts";

/** Dropped from what callers send: of this hop only (RFC 9110 section 7.6.1, RFC 9112 section 6.1), or made by us. */
const DROPPED = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authorization",
  "proxy-authenticate",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
  "expect",
  "host",
  peerProofHeader.toLowerCase(),
]);

/**
 * Host first, then the caller's fields in their order, without those of this hop: the fixed ones, and what Connection names
 * (RFC 9110, 7.6.1). Framing is the sender's own matter. Never throws.
 */
export function upstreamHeaders(
  given: readonly (readonly [string, string])[],
  host: string,
): (readonly [string, string])[] {
  let named: Set<string> | undefined;
  for (const [name, value] of given) {
    if (name.length !== CONNECTION.length || name.toLowerCase() !== CONNECTION) continue;
    named ??= new Set();
    for (const part of value.split(",")) named.add(part.trim().toLowerCase());
  }
  const headers: (readonly [string, string])[] = [["Host", host]];
  for (const field of given) {
    const lower = field[0].toLowerCase();
    if (!DROPPED.has(lower) && named?.has(lower) !== true) headers.push(field);
  }
  return headers;
}
const CONNECTION = "connection";

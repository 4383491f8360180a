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

const DROPPED_LENGTHS: readonly (true | undefined)[] = Array.from(
  { length: Math.max(...Array.from(DROPPED, ({ length }) => length)) + 1 },
  (_, length) => (Array.from(DROPPED).some((name) => name.length === length) ? true : undefined),
);

/**
 * Host first, then the caller's fields in their order, without those of this hop: the fixed ones, and what Connection names
 * (RFC 9110, 7.6.1). Framing is the sender's own matter. Never throws.
 */
export function upstreamHeaders(
  given: readonly (readonly [string, string])[],
  host: string,
): (readonly [string, string])[] {
  let named: Set<string> | undefined;
  for (const field of given) {
    if (field[0].length !== CONNECTION.length || field[0].toLowerCase() !== CONNECTION) continue;
    named ??= new Set();
    for (const part of field[1].split(",")) named.add(part.trim().toLowerCase());
  }
  const headers: (readonly [string, string])[] = [["Host", host]];
  for (const field of given) {
    // Most names are as long as none that is dropped.
    if (named === undefined && DROPPED_LENGTHS[field[0].length] === undefined) headers.push(field);
    else {
      const lower = field[0].toLowerCase();
      if (!DROPPED.has(lower) && named?.has(lower) !== true) headers.push(field);
    }
  }
  return headers;
}
const CONNECTION = "connection";

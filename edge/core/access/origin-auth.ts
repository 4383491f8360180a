/**
 * How an origin knows that a request comes from this CDN, so that it may turn away everybody else: a field with a keyed hash
 * over what is asked for and when. It tells nothing to who does not have the secret, and is of no use for another request.
 */

/** Clients cannot send it: fields of this prefix are dropped from their requests. */
export const ORIGIN_AUTH_FIELD = "Isochrone-Origin-Auth";

export type OriginAuthRequest = {
  readonly method: string;
  /** As sent in the Host field. */
  readonly host: string;
  /** Path and query as sent. */
  readonly target: string;
};

/** What is hashed. A host holds no separator and a target begins with "/" or is "*", so two requests never share a text. */
export function originAuthText(keyId: string, epochSeconds: number, request: OriginAuthRequest): string {
  const { method, host, target } = request;
  return `v1|${keyId}|${epochSeconds}|${method}|${host.toLowerCase()}|${target}`;
}

/** `mac`: 64 lower-case hexadecimal digits (HMAC-SHA-256). */
export function formatOriginAuth(keyId: string, epochSeconds: number, mac: string): string {
  return `v1;kid=${keyId};ts=${epochSeconds};mac=${mac}`;
}

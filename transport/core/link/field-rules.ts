/** What may stand in a head (RFC 9110, sections 5.1, 5.5 and 9.1; RFC 9113, section 8.2.2): the same rules for who writes and who reads. */

/** Bits of {@link CLASS_OF}. */
export const TOKEN = 1;
/** A token without capitals: field names. */
export const NAME = 2;
export const VALUE = 4;
export const PATH = 8;
export const AUTHORITY = 16;

/** By octet: what it may be part of. */
export const CLASS_OF: Uint8Array = classes();

function classes(): Uint8Array {
  const table = new Uint8Array(256);
  const allow = (bit: number, characters: string): void => {
    for (let at = 0; at < characters.length; at++) {
      const code = characters.charCodeAt(at);
      table[code] = (table[code] as number) | bit;
    }
  };
  const digits = "0123456789";
  const small = "abcdefghijklmnopqrstuvwxyz";
  // tchar, RFC 9110, section 5.6.2.
  allow(TOKEN | NAME, `!#$%&'*+-.^_\`|~${digits}${small}`);
  allow(TOKEN, small.toUpperCase());
  allow(AUTHORITY, `-._~!$&'()*+,;=:[]%${digits}${small}${small.toUpperCase()}`);
  for (let code = 0x21; code < 0x100; code++)
    if (code !== 0x7f) table[code] = (table[code] as number) | VALUE | PATH;
  allow(VALUE, " \t");
  return table;
}

/** Of one connection of HTTP/1.1 (RFC 9113, section 8.2.2), or what a link says in its own way (host). */
const FORBIDDEN: ReadonlySet<string> = new Set([
  "connection",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Whether no link carries a field of that name, which is in lower case. */
export function isForbidden(name: string): boolean {
  return FORBIDDEN.has(name);
}

/** Digits of a content length: what a number of JavaScript holds exactly. */
const LENGTH_DIGITS_MAX = 15;

/** The length that Content-Length states; undefined: it is none. */
export function parseContentLength(value: string): number | undefined {
  return value.length <= LENGTH_DIGITS_MAX && /^[0-9]+$/.test(value) ? Number(value) : undefined;
}

/**
 * Interim answers are 100 and 102 to 199: 101 is of one connection (RFC 9110, section 15.2.2). Origins say what has three digits and no
 * class (section 15); what HTTP/1.1 carries is carried here.
 */
export function isStatus(status: number): boolean {
  return status >= 100 && status <= 999 && status !== 101;
}

/** A method that asks for a stream of its own kind has no form here (RFC 9110, section 9.3.6). */
export const isMethod = (method: string): boolean => method !== "CONNECT";

/** A blank at an end of a value belongs to no value (RFC 9110, section 5.5). */
export const isBlank = (code: number): boolean => code === 0x20 || code === 0x09;

/** Whether a path may be asked for with a method, if its characters may. */
export function isWholePath(method: string, path: string): boolean {
  return path.charCodeAt(0) === 0x2f || (path === "*" && method === "OPTIONS");
}

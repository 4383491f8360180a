/** What a request wants of its path, told by the bytes that it asks for. */
import type { RequestClass } from "./path-words.ts";

/** From here on the time of an answer is that of its bytes rather than of its round trips. */
const LARGE_BYTES = 512 * 1024;
const RANGE = /^bytes=(?:(\d{1,15})-(\d{0,15})|-(\d{1,15}))$/;

/**
 * Large: one range (RFC 9110, 14.1.2) of 512 KiB or more, as slices of large objects are asked for, or one without an end, as the
 * rest of a broken body is. Everything else is small: what nobody knows the length of is mostly short. Never throws.
 */
export function requestClassOf(headers: readonly (readonly [string, string])[]): RequestClass {
  for (const field of headers) {
    if (field[0].length !== "range".length || field[0].toLowerCase() !== "range") continue;
    const [, first, last, suffix] = RANGE.exec(field[1]) ?? [];
    if (suffix !== undefined) return Number(suffix) >= LARGE_BYTES ? "large" : "small";
    if (first === undefined) return "small";
    if (last === undefined || last === "") return "large";
    return Number(last) - Number(first) + 1 >= LARGE_BYTES ? "large" : "small";
  }
  return "small";
}

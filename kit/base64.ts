/** Base64 (RFC 4648, section 4) for cores, which have no Buffer: strict, canonical, of any length. */
import { allSteps, type Steps } from "./steps.ts";

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const PAD = "=".charCodeAt(0);
const NO_DIGIT = 255;

const digits = Uint8Array.from(ALPHABET, (character) => character.charCodeAt(0));
const valueOf = new Uint8Array(128).fill(NO_DIGIT);
for (const [value, code] of digits.entries()) valueOf[code] = value;

const decoder = new TextDecoder("latin1");

/** The text of `bytes`, with padding. */
export function toBase64(bytes: Uint8Array): string {
  const codes = new Uint8Array(Math.ceil(bytes.length / 3) * 4);
  let to = 0;
  for (let at = 0; at < bytes.length; at += 3) {
    const group = ((bytes[at] as number) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
    codes[to++] = digits[group >>> 18] as number;
    codes[to++] = digits[(group >>> 12) & 63] as number;
    codes[to++] = at + 1 < bytes.length ? (digits[(group >>> 6) & 63] as number) : PAD;
    codes[to++] = at + 2 < bytes.length ? (digits[group & 63] as number) : PAD;
  }
  return decoder.decode(codes);
}

/**
 * The bytes of a text; undefined for anything that `toBase64` does not write: other characters, white space, missing
 * padding, bits set behind the last byte (RFC 4648, 3.5). Never throws.
 */
export function fromBase64(text: string): Uint8Array | undefined {
  return allSteps(fromBase64InSteps(text));
}

/** Characters between two pauses: a millisecond or two. */
const STEP_CHARACTERS = 2 ** 18;

/** As {@link fromBase64}, in steps. */
export function* fromBase64InSteps(text: string): Steps<Uint8Array | undefined> {
  if (text.length % 4 !== 0) return undefined;
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const bytes = new Uint8Array((text.length / 4) * 3 - padding);
  const digitCount = text.length - padding;
  let to = 0;
  let bits = 0;
  let bitCount = 0;
  for (let at = 0; at < digitCount; at++) {
    if (at % STEP_CHARACTERS === STEP_CHARACTERS - 1) yield;
    const code = text.charCodeAt(at);
    const value = code < 128 ? (valueOf[code] as number) : NO_DIGIT;
    if (value === NO_DIGIT) return undefined;
    bits = ((bits << 6) | value) & 0xff_ffff;
    bitCount += 6;
    if (bitCount >= 8) {
      bitCount -= 8;
      bytes[to++] = bits >>> bitCount;
    }
  }
  return (bits & ((1 << bitCount) - 1)) === 0 ? bytes : undefined;
}

/** Base64 (RFC 4648, section 4) for cores, which have no Buffer: strict, canonical, of any length. */
import { allSteps, type Steps } from "./steps.ts";
import type { TextPieces } from "./text-pieces.ts";

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

/** Bytes of one piece of a text, a millisecond or two; whole groups of three, so that pieces follow on each other. */
const PIECE_BYTES = 3 * 2 ** 16;

/** As {@link toBase64}, piece by piece. */
export function* base64Pieces(bytes: Uint8Array): Generator<string, undefined> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield toBase64(bytes.subarray(at, at + PIECE_BYTES));
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
const encoder = new TextEncoder();

/** As {@link fromBase64}, in steps. */
export function* fromBase64InSteps(text: string | TextPieces): Steps<Uint8Array | undefined> {
  if (text.length % 4 !== 0) return undefined;
  const bytes = new Uint8Array((text.length / 4) * 3);
  let to = 0;
  let bits = 0;
  let bitCount = 0;
  let padding = 0;
  for (const piece of codesOf(text)) {
    yield;
    for (const code of piece) {
      if (code === PAD) {
        padding++;
        continue;
      }
      const value = code < 128 ? (valueOf[code] as number) : NO_DIGIT;
      if (value === NO_DIGIT || padding > 0) return undefined;
      bits = ((bits << 6) | value) & 0xff_ffff;
      bitCount += 6;
      if (bitCount >= 8) {
        bitCount -= 8;
        bytes[to++] = bits >>> bitCount;
      }
    }
  }
  // As many as the last group lacks: two digits hold one byte, three hold two.
  if (padding > 2 || bytes.length - to !== padding) return undefined;
  return (bits & ((1 << bitCount) - 1)) === 0 ? bytes.subarray(0, to) : undefined;
}

/** What is no ASCII becomes bytes that are no digits. */
function* codesOf(text: string | TextPieces): Generator<Uint8Array, undefined> {
  if (typeof text === "string")
    for (let at = 0; at < text.length; at += STEP_CHARACTERS)
      yield encoder.encode(text.slice(at, at + STEP_CHARACTERS));
  else
    for (const piece of text.pieces)
      for (let at = 0; at < piece.length; at += STEP_CHARACTERS)
        yield piece.subarray(at, at + STEP_CHARACTERS);
}

/**
 * Bytes into heads. Strict: everything has one form, is within its bounds and is used up to the last byte, or the head is refused
 * whole with the reason. Never throws.
 */
import { ByteReader } from "./bytes.ts";
import {
  AUTHORITY,
  CLASS_OF,
  isBlank,
  isForbidden,
  isMethod,
  isStatus,
  isWholePath,
  NAME,
  PATH,
  TOKEN,
  VALUE,
} from "./field-rules.ts";
import { KNOWN_NAME, PAIR, SHORT_NAME_MAX } from "./head-encoder.ts";
import { KNOWN_METHODS, KNOWN_NAMES, KNOWN_PAIRS } from "./static-table.ts";
import {
  type FlatFields,
  FIELDS_MAX,
  type LinkRequestHead,
  type LinkResponseHead,
  type StreamReason,
  urgencies,
} from "./words.ts";

const decoder = new TextDecoder();

/** The text of a head, cut from the front. */
class Text {
  readonly #bytes: Uint8Array;
  readonly #from: number;
  readonly #text: string;
  #at = 0;

  constructor(bytes: Uint8Array, from: number, to: number) {
    this.#bytes = bytes;
    this.#from = from;
    this.#text = latin1Of(bytes, from, to);
  }

  get isEmpty(): boolean {
    return this.#at === this.#text.length;
  }

  /** The next so many characters, all of which have the bit; undefined: there are not so many, or others among them. */
  take(length: number, bit: number): string | undefined {
    const from = this.#from + this.#at;
    const end = this.#at + length;
    if (length < 0 || end > this.#text.length) return undefined;
    for (let at = from; at < from + length; at++)
      if (((CLASS_OF[this.#bytes[at] as number] as number) & bit) === 0) return undefined;
    const taken = this.#text.slice(this.#at, end);
    this.#at = end;
    return taken;
  }
}

/** One call for all of it, as nearly all text is ASCII. */
function latin1Of(bytes: Uint8Array, from: number, to: number): string {
  let all = 0;
  for (let at = from; at < to; at++) all |= bytes[at] as number;
  if (all < 0x80) return decoder.decode(bytes.subarray(from, to));
  let text = "";
  for (let at = from; at < to; at++) text += String.fromCharCode(bytes[at] as number);
  return text;
}

/** The two halves of a payload; undefined: the first is longer than the payload. */
function halvesOf(
  bytes: Uint8Array,
  from: number,
  to: number,
): { readonly structure: ByteReader; readonly text: Text } | undefined {
  const whole = new ByteReader(bytes, from, to);
  const structureBytes = whole.number();
  const textFrom = whole.at + structureBytes;
  if (structureBytes < 0 || textFrom > to) return undefined;
  return { structure: new ByteReader(bytes, whole.at, textFrom), text: new Text(bytes, textFrom, to) };
}

export function decodeRequest(bytes: Uint8Array, from: number, to: number): LinkRequestHead | StreamReason {
  const halves = halvesOf(bytes, from, to);
  if (halves === undefined) return "head-form";
  const { structure, text } = halves;
  const first = structure.byte();
  if (first < 0) return "head-form";
  const urgency = urgencies[first >>> 4];
  if (urgency === undefined) return "urgency";
  let method: string | undefined = KNOWN_METHODS[first & 0x0f];
  if (method === "") {
    method = text.take(structure.number(), TOKEN);
    // A known one has one form.
    if (method === "" || (method !== undefined && (!isMethod(method) || KNOWN_METHODS.includes(method))))
      return "method";
  }
  if (method === undefined) return "method";
  const authority = text.take(structure.number(), AUTHORITY);
  if (authority === undefined) return "authority";
  const path = text.take(structure.number(), PATH);
  if (path === undefined || !isWholePath(method, path)) return "path";
  const fields = decodeFields(structure, text);
  return typeof fields === "string" ? fields : { method, authority, path, urgency, fields };
}

export function decodeResponse(bytes: Uint8Array, from: number, to: number): LinkResponseHead | StreamReason {
  const halves = halvesOf(bytes, from, to);
  if (halves === undefined) return "head-form";
  const { structure, text } = halves;
  const high = structure.byte();
  const low = structure.byte();
  if (high < 0 || low < 0) return "head-form";
  const status = (high << 8) | low;
  if (!isStatus(status)) return "status";
  const fields = decodeFields(structure, text);
  return typeof fields === "string" ? fields : { status, fields };
}

export function decodeTrailers(bytes: Uint8Array, from: number, to: number): FlatFields | StreamReason {
  const halves = halvesOf(bytes, from, to);
  return halves === undefined ? "head-form" : decodeFields(halves.structure, halves.text);
}

function decodeFields(structure: ByteReader, text: Text): FlatFields | StreamReason {
  const fields: string[] = [];
  while (structure.at < structure.end) {
    if (fields.length === 2 * FIELDS_MAX) return "field-count";
    const first = structure.byte();
    if (first >= PAIR) {
      const pair = KNOWN_PAIRS[first - PAIR];
      if (pair === undefined) return "field-name";
      fields.push(pair[0], pair[1]);
      continue;
    }
    let name: string | undefined;
    if (first >= KNOWN_NAME) name = KNOWN_NAMES[first - KNOWN_NAME];
    else {
      const length = first === 0 ? structure.number() : first;
      // A length that fits the first byte stands there; -1 is caught by `take`.
      if (first === 0 && length >= 0 && length <= SHORT_NAME_MAX) return "field-name";
      name = text.take(length, NAME);
      if (name !== undefined && isForbidden(name)) return "field-name";
    }
    if (name === undefined) return "field-name";
    const value = text.take(structure.number(), VALUE);
    if (value === undefined || isBlank(value.charCodeAt(0)) || isBlank(value.charCodeAt(value.length - 1)))
      return "field-value";
    fields.push(name, value);
  }
  return text.isEmpty ? fields : "head-form";
}

/** RDATA from the words of a zone file to octets, names uncompressed (RFC 1035 section 5, RFC 3597 section 5, and each type's own). */
import { fromBase64 } from "../base64.ts";
import { addressToBytes, parseAddress } from "../ip.ts";
import { readLocation } from "./location.ts";
import { type DomainName, labelsOf, nameBytesMax, nameFromLabels, rootName } from "./name.ts";
import { rdataText } from "./rdata-write.ts";
import { fieldsOfType, type RdataField, typeText } from "./record-types.ts";
import { readParams } from "./service-params.ts";
import {
  octetsOf,
  readCharacter,
  secondsFromText,
  type Place,
  type Token,
  ZoneTextError,
} from "./zone-text.ts";

/** What of a line is still to be read. */
export class Words {
  readonly #tokens: readonly Token[];
  readonly #end: Place;
  #at = 0;

  /** @param end the place that is told when a word is missing */
  constructor(tokens: readonly Token[], end: Place) {
    this.#tokens = tokens;
    this.#end = end;
  }

  get isEmpty(): boolean {
    return this.#at >= this.#tokens.length;
  }

  peek(): Token | undefined {
    return this.#tokens[this.#at];
  }

  /** Throws {@link ZoneTextError} when nothing is left. */
  next(expected: string): Token {
    const token = this.#tokens[this.#at];
    if (token === undefined) throw new ZoneTextError(this.#end, "the end of the record", expected);
    this.#at++;
    return token;
  }

  /** All that is left, at least one. */
  rest(expected: string): readonly Token[] {
    const first = this.next(expected);
    const tokens = [first, ...this.#tokens.slice(this.#at)];
    this.#at = this.#tokens.length;
    return tokens;
  }

  /** Throws {@link ZoneTextError} when something is left. */
  end(what: string): void {
    const token = this.peek();
    if (token !== undefined) throw new ZoneTextError(token, token.raw, `no more after ${what}`);
  }
}

export const rdataBytesMax = 65_535;

/** The name of a word: absolute with a dot at its end, else below `origin`; `@` is the origin. Throws {@link ZoneTextError}. */
export function nameOfToken(token: Token, origin: DomainName): DomainName {
  const { raw } = token;
  if (raw === "@" && !token.isQuoted) return origin;
  if (raw === ".") return rootName;
  const plain = plainName(raw, origin);
  if (plain !== undefined) return plain;
  const labels: Uint8Array[] = [];
  let label: number[] = [];
  let isAbsolute = false;
  for (let at = 0; at < raw.length; ) {
    const { octets, next, isEscaped } = readCharacter(token, at);
    if (!isEscaped && octets[0] === 0x2e) {
      labels.push(Uint8Array.from(label));
      label = [];
      isAbsolute = next === raw.length;
    } else label.push(...octets);
    at = next;
  }
  if (!isAbsolute) labels.push(Uint8Array.from(label), ...labelsOf(origin));
  const name = nameFromLabels(labels);
  if (name === undefined)
    throw new ZoneTextError(token, raw, "a domain name: labels of 1 to 63 octets, at most 255 in all");
  return name;
}

const PLAIN_NAME = /^[A-Za-z0-9_*-]{1,63}(\.[A-Za-z0-9_*-]{1,63})*\.?$/;
const DOT = 0x2e;

/** As nearly all names are written, read at a twentieth of the price; undefined: it has other characters, or is too long. */
function plainName(raw: string, origin: DomainName): DomainName | undefined {
  const isAbsolute = raw.endsWith(".");
  const bytes = raw.length + 1 + (isAbsolute ? 0 : origin.wire.length);
  if (bytes > nameBytesMax || !PLAIN_NAME.test(raw)) return undefined;
  const wire = new Uint8Array(bytes);
  let lengthAt = 0;
  for (let at = 0; at < raw.length; at++) {
    const code = raw.charCodeAt(at);
    if (code === DOT) {
      wire[lengthAt] = at - lengthAt;
      lengthAt = at + 1;
    } else wire[at + 1] = code;
  }
  const own = (isAbsolute ? raw.slice(0, -1) : raw).toLowerCase().replaceAll("*", "\\042");
  if (isAbsolute) return { wire, text: own };
  wire[lengthAt] = raw.length - lengthAt;
  wire.set(origin.wire, raw.length + 1);
  return { wire, text: origin.text === "" ? own : `${own}.${origin.text}` };
}

/**
 * The RDATA of a record of `type`; takes the words to their end. The generic form `\# 4 c0000201` is taken for every type. Throws
 * {@link ZoneTextError}.
 */
export function readRdata(type: number, words: Words, origin: DomainName): Uint8Array {
  const fields = fieldsOfType(type);
  const first = words.peek();
  let bytes: Uint8Array;
  if (first?.raw === "\\#" && !first.isQuoted) bytes = readGeneric(type, words, first);
  else if (fields === undefined)
    throw new ZoneTextError(
      first ?? words.next("RDATA"),
      first?.raw ?? "",
      `\\# LENGTH HEX, the form of a type that is known by number only (${typeText(type)})`,
    );
  else {
    const parts = fields.map((field) => readField(field, words, origin));
    bytes = joined(parts);
    words.end(`the ${typeText(type)} record`);
  }
  if (bytes.length > rdataBytesMax)
    throw new ZoneTextError(
      first as Token,
      `${bytes.length} octets`,
      `RDATA of at most ${rdataBytesMax} octets`,
    );
  return bytes;
}

function readGeneric(type: number, words: Words, place: Token): Uint8Array {
  words.next("\\#");
  const length = numberOf(words.next("the length of the RDATA"), 0xffff);
  const digits = words.isEmpty
    ? ""
    : words
        .rest("hex digits")
        .map((token) => token.raw)
        .join("");
  const bytes = /^([0-9a-f]{2})*$/i.test(digits) ? bytesOfHex(digits) : undefined;
  if (bytes === undefined || bytes.length !== length)
    throw new ZoneTextError(place, digits, `${length} octets as pairs of hex digits`);
  if (fieldsOfType(type) !== undefined && rdataText(type, bytes) === undefined)
    throw new ZoneTextError(place, digits, `octets that are the RDATA of ${typeText(type)}`);
  return bytes;
}

function readField(field: RdataField, words: Words, origin: DomainName): Uint8Array {
  switch (field) {
    case "u8":
      return Uint8Array.of(numberOf(words.next("a number from 0 to 255"), 0xff));
    case "u16": {
      const value = numberOf(words.next("a number from 0 to 65535"), 0xffff);
      return Uint8Array.of(value >> 8, value);
    }
    case "u32":
      return u32(numberOf(words.next("a number from 0 to 4294967295"), 0xffff_ffff));
    case "time": {
      const token = words.next("a time in seconds");
      const seconds = secondsFromText(token.raw);
      if (seconds === undefined)
        throw new ZoneTextError(token, token.raw, "a time from 0 to 2147483647 s, such as 3600 or 1h30m");
      return u32(seconds);
    }
    case "ipv4":
    case "ipv6": {
      const family = field === "ipv4" ? 4 : 6;
      const token = words.next(`an IPv${family} address`);
      const address = parseAddress(token.raw);
      if (address?.family !== family) throw new ZoneTextError(token, token.raw, `an IPv${family} address`);
      return addressToBytes(address);
    }
    case "name":
      return nameOfToken(words.next("a domain name"), origin).wire;
    case "string":
      return characterString(words.next("a character string"));
    case "strings":
      return joined(words.rest("a character string").map(characterString));
    case "tag": {
      const token = words.next("a property tag");
      if (!/^[A-Za-z0-9]{1,255}$/.test(token.raw))
        throw new ZoneTextError(token, token.raw, "a property tag of letters and digits, such as issue");
      return characterString(token);
    }
    case "text":
      return octetsOf(words.next("a text"));
    case "hex":
      return packed(words.rest("hex digits"), /^([0-9a-f]{2})+$/i, bytesOfHex, "pairs of hex digits");
    case "base64":
      return packed(words.rest("base64"), /^[A-Za-z0-9+/]+=*$/, fromBase64, "base64 with its padding");
    case "eui48":
    case "eui64": {
      const octets = field === "eui48" ? 6 : 8;
      const token = words.next(`${octets} pairs of hex digits`);
      if (!new RegExp(`^[0-9a-f]{2}(-[0-9a-f]{2}){${octets - 1}}$`, "i").test(token.raw))
        throw new ZoneTextError(token, token.raw, `${octets} pairs of hex digits with hyphens between`);
      return bytesOfHex(token.raw.replaceAll("-", ""));
    }
    case "location":
      return readLocation(words.rest("latitude, longitude and altitude"));
    case "params":
      return readParams(words.isEmpty ? [] : words.rest("parameters"));
  }
}

function packed(
  tokens: readonly Token[],
  pattern: RegExp,
  read: (text: string) => Uint8Array | undefined,
  expected: string,
): Uint8Array {
  const text = tokens.map((token) => token.raw).join("");
  const bytes = pattern.test(text) ? read(text) : undefined;
  if (bytes === undefined) throw new ZoneTextError(tokens[0] as Token, text, expected);
  return bytes;
}

function characterString(token: Token): Uint8Array {
  const octets = octetsOf(token);
  if (octets.length > 255)
    throw new ZoneTextError(
      token,
      `${octets.length} octets`,
      "a string of at most 255 octets; longer text is written as several",
    );
  return joined([Uint8Array.of(octets.length), octets]);
}

/** Throws {@link ZoneTextError}. */
export function numberOf(token: Token, max: number): number {
  const value = /^\d{1,10}$/.test(token.raw) ? Number(token.raw) : Number.NaN;
  if (!(value <= max)) throw new ZoneTextError(token, token.raw, `a whole number from 0 to ${max}`);
  return value;
}

function u32(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

function bytesOfHex(text: string): Uint8Array {
  return Uint8Array.from({ length: text.length / 2 }, (_, at) =>
    Number.parseInt(text.slice(at * 2, at * 2 + 2), 16),
  );
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

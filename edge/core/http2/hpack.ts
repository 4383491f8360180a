/**
 * Header compression for a server (RFC 7541). The decoder has a dynamic table of the size that HTTP/2 begins with, 4,096; the encoder
 * keeps none, so that a header block is the same bytes on every connection. Everything that a peer states is bounded. Pure.
 */
import { huffmanBytes, huffmanDecode, huffmanEncode } from "./huffman.ts";

/** Appendix A: names, and values behind "=" . */
const STATIC_TABLE = (
  ":authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|:status=204|:status=206|" +
  ":status=304|:status=400|:status=404|:status=500|accept-charset|accept-encoding=gzip, deflate|accept-language|accept-ranges|accept|" +
  "access-control-allow-origin|age|allow|authorization|cache-control|content-disposition|content-encoding|content-language|" +
  "content-length|content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|" +
  "if-none-match|if-range|if-unmodified-since|last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|" +
  "referer|refresh|retry-after|server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
)
  .split("|")
  .map((text): readonly [string, string] => {
    const at = text.indexOf("=");
    return at === -1 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
  });
const STATIC_COUNT = STATIC_TABLE.length;

/** SETTINGS_HEADER_TABLE_SIZE's initial value (RFC 9113, section 6.5.2): we state no other. */
export const TABLE_BYTES_MAX = 4_096;
/** What an entry counts beside its name and value (RFC 7541, section 4.1). */
const ENTRY_OVERHEAD_BYTES = 32;
/** Far above all that may be stated here, and small enough for bit operations. */
const INTEGER_MAX = 2 ** 28;

export interface HeaderLimits {
  /** Fields, pseudo fields too. */
  readonly fieldsMax: number;
  /** Names, values and 32 for each field (RFC 9113, section 6.5.2). */
  readonly listBytesMax: number;
}

/** `broken`: the two ends do not agree any more: the connection ends. `too-large`: the tables agree, the list was not kept. */
export type HeaderFault = "broken" | "too-large";

class Broken extends Error {}

/** Reads header blocks in the order in which they come. */
export class HpackDecoder {
  readonly #limits: HeaderLimits;
  /** Newest first. */
  #entries: (readonly [string, string])[] = [];
  #bytes = 0;
  #bytesMax = TABLE_BYTES_MAX;
  #block: Uint8Array = new Uint8Array(0);
  #at = 0;
  #end = 0;
  /** The last block without effect on the table, what it said, and whether the table is still the same. */
  #last: Uint8Array | undefined;
  #lastFields: readonly string[] = [];
  #hasChanged = false;

  constructor(limits: HeaderLimits) {
    this.#limits = limits;
  }

  /** Names and values in turn, latin1; the very same list for a block that repeats the last one. */
  decode(block: Uint8Array, from = 0, to = block.byteLength): readonly string[] | HeaderFault {
    if (this.#last !== undefined && isEqual(this.#last, block, from, to)) return this.#lastFields;
    this.#block = block;
    this.#at = from;
    this.#end = to;
    this.#hasChanged = false;
    try {
      const fields = this.#fields();
      this.#last = undefined;
      if (typeof fields !== "string" && !this.#hasChanged) {
        // Not `slice`, which copies nothing where the block is a Buffer.
        this.#last = new Uint8Array(block.subarray(from, to));
        this.#lastFields = fields;
      }
      return fields;
    } catch (error) {
      if (error instanceof Broken) return "broken";
      throw error;
    } finally {
      this.#block = NOTHING;
    }
  }

  #fields(): readonly string[] | "too-large" {
    const { fieldsMax, listBytesMax } = this.#limits;
    const fields: string[] = [];
    let listBytes = 0;
    let isFirst = true;
    let isTooLarge = false;
    while (this.#at < this.#end) {
      const octet = this.#block[this.#at] as number;
      // Section 4.2: changes of the size stand before the first field.
      if (octet >= 0x20 && octet < 0x40) {
        const bytes = this.#integer(5);
        if (!isFirst || bytes > TABLE_BYTES_MAX) throw new Broken();
        this.#bytesMax = bytes;
        this.#hasChanged = true;
        this.#evict(0);
        continue;
      }
      isFirst = false;
      let name: string;
      let value: string;
      if (octet >= 0x80) [name, value] = this.#entry(this.#integer(7));
      else {
        const isIndexed = octet >= 0x40;
        const index = this.#integer(isIndexed ? 6 : 4);
        name = index === 0 ? this.#text() : this.#entry(index)[0];
        value = this.#text();
        if (isIndexed) this.#insert(name, value);
      }
      listBytes += name.length + value.length + ENTRY_OVERHEAD_BYTES;
      // Read on, for the table's sake, and keep nothing.
      isTooLarge ||= listBytes > listBytesMax || fields.length >= 2 * fieldsMax;
      if (!isTooLarge) fields.push(name, value);
    }
    return isTooLarge ? "too-large" : fields;
  }

  #entry(index: number): readonly [string, string] {
    const entry = index <= STATIC_COUNT ? STATIC_TABLE[index - 1] : this.#entries[index - STATIC_COUNT - 1];
    if (entry === undefined) throw new Broken();
    return entry;
  }

  #insert(name: string, value: string): void {
    this.#hasChanged = true;
    const bytes = name.length + value.length + ENTRY_OVERHEAD_BYTES;
    this.#evict(bytes);
    // Section 4.4: what is larger than the table empties it, and is no error.
    if (bytes > this.#bytesMax) return;
    this.#entries.unshift([name, value]);
    this.#bytes += bytes;
  }

  /** Makes room for `bytes`. */
  #evict(bytes: number): void {
    while (this.#bytes + bytes > this.#bytesMax) {
      const entry = this.#entries.pop();
      if (entry === undefined) break;
      this.#bytes -= entry[0].length + entry[1].length + ENTRY_OVERHEAD_BYTES;
    }
  }

  /** Section 5.1. */
  #integer(prefixBits: number): number {
    const mask = (1 << prefixBits) - 1;
    let value = (this.#block[this.#at++] as number) & mask;
    if (value < mask) return value;
    for (let shift = 0; ; shift += 7) {
      if (this.#at >= this.#end || shift > 21) throw new Broken();
      const octet = this.#block[this.#at++] as number;
      value += (octet & 0x7f) * 2 ** shift;
      if (value > INTEGER_MAX) throw new Broken();
      if (octet < 0x80) return value;
    }
  }

  /** Section 5.2. */
  #text(): string {
    if (this.#at >= this.#end) throw new Broken();
    const isHuffman = (this.#block[this.#at] as number) >= 0x80;
    const bytes = this.#integer(7);
    const from = this.#at;
    const to = from + bytes;
    if (to > this.#end) throw new Broken();
    this.#at = to;
    const text = isHuffman ? huffmanDecode(this.#block, from, to) : latin1(this.#block, from, to);
    if (text === undefined) throw new Broken();
    return text;
  }
}

const NOTHING = new Uint8Array(0);

function isEqual(last: Uint8Array, block: Uint8Array, from: number, to: number): boolean {
  if (last.byteLength !== to - from) return false;
  for (let at = 0; at < last.byteLength; at++) if (last[at] !== block[from + at]) return false;
  return true;
}

function latin1(bytes: Uint8Array, from: number, to: number): string {
  let text = "";
  for (let at = from; at < to; at++) text += String.fromCharCode(bytes[at] as number);
  return text;
}

/** Index of each name's first entry in the static table, and of each whole entry. */
const STATIC_NAMES = new Map<string, number>();
const STATIC_ENTRIES = new Map<string, number>();
for (const [at, [name, value]] of STATIC_TABLE.entries()) {
  if (!STATIC_NAMES.has(name)) STATIC_NAMES.set(name, at + 1);
  if (value !== "") STATIC_ENTRIES.set(`${name}=${value}`, at + 1);
}

/** "The table has no room": what an encoder without a table says first, whatever size the other end allows (section 4.2). */
export const EMPTY_TABLE = new Uint8Array([0x20]);

/** A header block of names and values in turn (latin1), without use of the dynamic table. */
export function hpackEncode(raw: readonly string[]): Uint8Array {
  // A text takes at most its octets and the six of its length.
  let bytesMax = 0;
  for (const text of raw) bytesMax += text.length + 6;
  const bytes = new Uint8Array(bytesMax + raw.length);
  let at = 0;
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = raw[index] as string;
    const value = raw[index + 1] as string;
    const whole = STATIC_ENTRIES.get(`${name}=${value}`);
    if (whole !== undefined) {
      bytes[at++] = 0x80 | whole;
      continue;
    }
    // Never to be indexed by anybody on the way (section 7.1.3): a cookie must not be guessed by its length.
    const flag = name === "set-cookie" ? 0x10 : 0x00;
    const known = STATIC_NAMES.get(name);
    at = writeInteger(bytes, at, flag, 4, known ?? 0);
    if (known === undefined) at = writeText(bytes, at, name);
    at = writeText(bytes, at, value);
  }
  return bytes.subarray(0, at);
}

function writeInteger(
  bytes: Uint8Array,
  start: number,
  flags: number,
  prefixBits: number,
  value: number,
): number {
  let at = start;
  const mask = (1 << prefixBits) - 1;
  if (value < mask) {
    bytes[at++] = flags | value;
    return at;
  }
  bytes[at++] = flags | mask;
  let rest = value - mask;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes[at++] = (rest % 0x80) | 0x80;
  bytes[at++] = rest;
  return at;
}

function writeText(bytes: Uint8Array, start: number, text: string): number {
  let at = start;
  const coded = huffmanBytes(text);
  if (coded < text.length) {
    at = writeInteger(bytes, at, 0x80, 7, coded);
    return huffmanEncode(text, bytes, at);
  }
  at = writeInteger(bytes, at, 0x00, 7, text.length);
  for (let index = 0; index < text.length; index++) bytes[at++] = text.charCodeAt(index);
  return at;
}

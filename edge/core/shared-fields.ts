/**
 * Field lines that many stored responses have in common (Content-Type, Cache-Control, Server ...), kept once: a line of its own
 * takes some 150 bytes, a shared one 8. Bounded, and never forgets: what is shared is counted here, once and for all, so that
 * no stored response has to answer for it. A line is taken in when it is seen again, so what only one response has is not.
 */
import { xxh32 } from "#kit";
import { SecondHitFilter } from "./eviction/second-hit.ts";
import type { Field, Fields } from "./headers.ts";

/** Names are few; more than these are somebody's invention for each response. */
const NAMES_MAX = 512;
/** Longer lines are worth their own bytes. */
const LINE_CHARACTERS_MAX = 256;
/** Lines whose first sight is remembered, 2.5 bytes each. */
const ONCE_SEEN_LINES = 8_192;

/** Sizes in V8 without pointer compression: a string's header and padding, an array with its elements' header, a slot. */
const STRING_BYTES = 20;
const PAIR_BYTES = 64;
const SLOT_BYTES = 8;
/** A map entry with its share of the table's slack; and a map with a few. */
const ENTRY_BYTES = 64;
const MAP_BYTES = 256;

/** What a string of Latin-1 takes. */
export function stringBytes(text: string): number {
  return STRING_BYTES + text.length;
}

interface Name {
  readonly text: string;
  /** By value: a text of both would have to be made for each look. Made for the first. */
  lines: Map<string, Field> | undefined;
}

export class SharedFields {
  readonly #bytesMax: number;
  readonly #names = new Map<string, Name>();
  readonly #onceSeen = new SecondHitFilter(ONCE_SEEN_LINES);
  #bytes = 0;

  /** `bytesMax`: for lines and names that are shared, beside the fixed filter. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** The same fields in an array of their very length, shared lines and names in place of equal ones. */
  share(fields: Fields): Fields {
    const shared: Field[] = fields.slice();
    for (let index = 0; index < fields.length; index++)
      shared[index] = this.#shareLine(fields[index] as Field);
    return shared;
  }

  /** Memory that fields take which came out of `share`, without what is shared. */
  bytesOf(fields: Fields): number {
    let bytes = PAIR_BYTES;
    for (const field of fields) {
      bytes += SLOT_BYTES;
      const name = this.#names.get(field[0]);
      if (name?.lines?.get(field[1]) === field) continue;
      bytes += PAIR_BYTES + stringBytes(field[1]);
      if (name === undefined) bytes += stringBytes(field[0]);
    }
    return bytes;
  }

  #shareLine(field: Field): Field {
    const [text, value] = field;
    const name = this.#names.get(text) ?? this.#shareName(text);
    const line = name?.lines?.get(value);
    if (line !== undefined) return line;
    const own: Field = [name?.text ?? text, value];
    if (name === undefined || text.length + value.length > LINE_CHARACTERS_MAX) return own;
    if (!this.#onceSeen.isSecond(xxh32(`${text}:${value}`))) return own;
    const mapBytes = name.lines === undefined ? MAP_BYTES : 0;
    if (!this.#take(PAIR_BYTES + stringBytes(value) + ENTRY_BYTES + mapBytes)) return own;
    (name.lines ??= new Map()).set(value, own);
    return own;
  }

  #shareName(text: string): Name | undefined {
    if (this.#names.size >= NAMES_MAX || text.length > LINE_CHARACTERS_MAX) return undefined;
    if (!this.#take(stringBytes(text) + ENTRY_BYTES + PAIR_BYTES)) return undefined;
    const name: Name = { text, lines: undefined };
    this.#names.set(text, name);
    return name;
  }

  /** Whether there are so many bytes left for what is shared; they are counted then. */
  #take(bytes: number): boolean {
    if (this.#bytes + bytes > this.#bytesMax) return false;
    this.#bytes += bytes;
    return true;
  }
}

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
/** A map entry with its share of the table's slack, and the text that it is found by. */
const ENTRY_BYTES = 64;

/** What a string of Latin-1 takes. */
export function stringBytes(text: string): number {
  return STRING_BYTES + text.length;
}

export class SharedFields {
  readonly #bytesMax: number;
  readonly #lines = new Map<string, Field>();
  readonly #names = new Map<string, string>();
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
      if (this.#lines.get(textOf(field)) === field) continue;
      bytes += PAIR_BYTES + stringBytes(field[1]);
      if (!this.#names.has(field[0])) bytes += stringBytes(field[0]);
    }
    return bytes;
  }

  #shareLine(field: Field): Field {
    const text = textOf(field);
    const line = this.#lines.get(text);
    if (line !== undefined) return line;
    const name = this.#shareName(field[0]);
    const own: Field = [name, field[1]];
    if (text.length > LINE_CHARACTERS_MAX || !this.#onceSeen.isSecond(xxh32(text))) return own;
    const bytes = PAIR_BYTES + stringBytes(field[1]) + ENTRY_BYTES + stringBytes(text);
    if (this.#bytes + bytes > this.#bytesMax) return own;
    this.#bytes += bytes;
    this.#lines.set(text, own);
    return own;
  }

  #shareName(name: string): string {
    const shared = this.#names.get(name);
    if (shared !== undefined) return shared;
    const bytes = stringBytes(name) + ENTRY_BYTES;
    if (
      this.#names.size < NAMES_MAX &&
      name.length <= LINE_CHARACTERS_MAX &&
      this.#bytes + bytes <= this.#bytesMax
    ) {
      this.#bytes += bytes;
      this.#names.set(name, name);
    }
    return name;
  }
}

/** No field name holds a colon (RFC 9110, section 5.1). */
const textOf = ([name, value]: Field): string => `${name}:${value}`;

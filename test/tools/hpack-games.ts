/** A client's header compression that uses all that RFC 7541 lets it: the table in every way, sizes, both forms of text. */
import { huffmanBytes, huffmanEncode } from "../../edge/core/http2/huffman.ts";
import type { Random } from "#kit";

const STATIC_COUNT = 61;
const TABLE_BYTES_MAX = 4_096;
type HeaderField = readonly [string, string];

export class HpackGames {
  readonly #random: Random;
  /** Newest first, as the server must have it. */
  #entries: HeaderField[] = [];
  #bytes = 0;
  #bytesMax = TABLE_BYTES_MAX;

  constructor(random: Random) {
    this.#random = random;
  }

  encode(fields: readonly HeaderField[]): Buffer {
    const random = this.#random;
    const pieces: Buffer[] = [];
    if (random.int(20) === 0) {
      this.#bytesMax = random.int(3) === 0 ? TABLE_BYTES_MAX : random.int(TABLE_BYTES_MAX + 1);
      this.#evict(0);
      pieces.push(integer(0x20, 5, this.#bytesMax));
    }
    for (const [name, value] of fields) {
      const at = this.#entries.findIndex((entry) => entry[0] === name && entry[1] === value);
      if (at !== -1 && random.int(5) > 0) {
        pieces.push(integer(0x80, 7, STATIC_COUNT + 1 + at));
        continue;
      }
      const named = this.#entries.findIndex((entry) => entry[0] === name);
      const isKept = random.int(2) === 0;
      const bits = isKept ? 6 : 4;
      const flags = isKept ? 0x40 : random.int(2) * 0x10;
      if (named !== -1 && random.int(2) === 0) pieces.push(integer(flags, bits, STATIC_COUNT + 1 + named));
      else pieces.push(integer(flags, bits, 0), this.#text(name));
      pieces.push(this.#text(value));
      if (isKept) this.#insert([name, value]);
    }
    return Buffer.concat(pieces);
  }

  #insert(field: HeaderField): void {
    const bytes = field[0].length + field[1].length + 32;
    this.#evict(bytes);
    if (bytes > this.#bytesMax) return;
    this.#entries.unshift(field);
    this.#bytes += bytes;
  }

  #evict(bytes: number): void {
    while (this.#bytes + bytes > this.#bytesMax) {
      const entry = this.#entries.pop();
      if (entry === undefined) break;
      this.#bytes -= entry[0].length + entry[1].length + 32;
    }
  }

  #text(text: string): Buffer {
    if (this.#random.int(2) === 0)
      return Buffer.concat([integer(0, 7, text.length), Buffer.from(text, "latin1")]);
    const coded = Buffer.alloc(huffmanBytes(text));
    huffmanEncode(text, coded, 0);
    return Buffer.concat([integer(0x80, 7, coded.byteLength), coded]);
  }
}

/** Section 5.1. */
function integer(flags: number, prefixBits: number, value: number): Buffer {
  const mask = 2 ** prefixBits - 1;
  if (value < mask) return Buffer.from([flags | value]);
  const octets = [flags | mask];
  let rest = value - mask;
  for (; rest >= 128; rest = Math.floor(rest / 128)) octets.push((rest % 128) | 128);
  return Buffer.from([...octets, rest]);
}

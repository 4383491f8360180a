/**
 * The Huffman code of HPACK (RFC 7541, section 5.2 and appendix B). The code is canonical: its lengths tell all of it. Decoding
 * goes through tables of 256 places, one a byte of the code. Pure.
 */

/** Bits of the code of each octet, and of the end of string (256); "n*m" stands for m of n bits. */
const LENGTHS = (
  "13 23 28*7 24 30 28*2 30 28*8 30 28*9 6 10*2 12 13 6 8 11 10*2 8 11 8 6*3 5*3 6*7 7 8 15 6 12 10 13 6 7*22 8 7 8 13 19 13 14 6 15 " +
  "5 6 5 6 5 6*3 5 7*2 6*3 5 6 7 6 5*2 6 7*5 15 11 14 13 28 20 22 20*2 22*3 23 22 23*5 24 23 24*2 22 23 24 23*4 21 22 23 22 23*2 24 " +
  "22 21 20 22*2 23*2 21 23 22*2 24 21 22 23*2 21*2 22 21 23 22 23*2 20 22*3 23 22*2 23 26*2 20 19 22 23 22 25 26*3 27*2 26 24 25 " +
  "19 21 26 27*2 26 27 24 21*2 26*2 28 27*3 20 24 20 21 22 21*2 23 22*2 25*2 24*2 26 23 26 27 26*2 27*5 28 27*5 26 30"
)
  .split(" ")
  .flatMap((text) => {
    const [bits, times = "1"] = text.split("*");
    return Array.from({ length: Number(times) }, () => Number(bits));
  });
const END_OF_STRING = 256;

/** The codes, right-aligned: of equal lengths in the order of their octets, each length continuing where the shorter ended. */
const CODES = ((): readonly number[] => {
  const codes = LENGTHS.map(() => 0);
  let next = 0;
  for (let bits = 1; bits <= 30; bits++) {
    next *= 2;
    for (const [symbol, length] of LENGTHS.entries()) if (length === bits) codes[symbol] = next++;
  }
  return codes;
})();

/** Places of a table: at least 0: symbol + (bits used of this byte << 9); below 0: -(number of the next table); ABSENT. */
const ABSENT = -(2 ** 30);
const TABLES = ((): readonly Int32Array[] => {
  const tables = [new Int32Array(256).fill(ABSENT)];
  for (const [symbol, length] of LENGTHS.entries()) {
    const code = CODES[symbol] as number;
    let table = tables[0] as Int32Array;
    let left = length;
    for (; left > 8; left -= 8) {
      const byte = (code >>> (left - 8)) & 0xff;
      if (table[byte] === ABSENT) {
        table[byte] = -tables.length;
        tables.push(new Int32Array(256).fill(ABSENT));
      }
      table = tables[-(table[byte] as number)] as Int32Array;
    }
    const first = (code << (8 - left)) & 0xff;
    table.fill(symbol | (left << 9), first, first + (1 << (8 - left)));
  }
  return tables;
})();

/** Longest padding, bits. */
const PADDING_MAX = 7;

/**
 * Text (latin1) of `bytes[from, to)`. Undefined: not a Huffman text: the end of string within it, padding of more than seven bits
 * or of other bits than ones (RFC 7541, section 5.2).
 */
export function huffmanDecode(bytes: Uint8Array, from: number, to: number): string | undefined {
  let text = "";
  /** Bits that were read and not used, right-aligned. */
  let held = 0;
  let heldBits = 0;
  let table = TABLES[0] as Int32Array;
  /** Bits of a code that has begun and not ended. */
  let begunBits = 0;
  let at = from;
  for (;;) {
    if (heldBits < 8 && at < to) {
      held = ((held << 8) | (bytes[at++] as number)) & 0xffff;
      heldBits += 8;
    }
    if (heldBits === 0) break;
    // Towards the end the missing bits are ones, which is what padding is.
    const byte =
      heldBits >= 8
        ? (held >>> (heldBits - 8)) & 0xff
        : ((held << (8 - heldBits)) | (0xff >>> heldBits)) & 0xff;
    const place = table[byte] as number;
    if (place === ABSENT) return undefined;
    if (place < 0) {
      if (heldBits < 8) {
        begunBits += heldBits;
        return isPadding(held, heldBits, begunBits) ? text : undefined;
      }
      table = TABLES[-place] as Int32Array;
      heldBits -= 8;
      begunBits += 8;
      // The bits before were of one octet's code: as padding they are too many.
      if (heldBits === 0 && at === to) return undefined;
      continue;
    }
    const used = place >>> 9;
    if (used > heldBits) {
      begunBits += heldBits;
      return isPadding(held, heldBits, begunBits) ? text : undefined;
    }
    const symbol = place & 0x1ff;
    if (symbol === END_OF_STRING) return undefined;
    text += String.fromCharCode(symbol);
    heldBits -= used;
    begunBits = 0;
    table = TABLES[0] as Int32Array;
  }
  return begunBits === 0 ? text : undefined;
}

function isPadding(held: number, heldBits: number, begunBits: number): boolean {
  const ones = (1 << heldBits) - 1;
  return begunBits <= PADDING_MAX && (held & ones) === ones;
}

/** Octets that `text` takes as Huffman text; Infinity: it is not latin1. */
export function huffmanBytes(text: string): number {
  let bits = 0;
  for (let at = 0; at < text.length; at++) {
    const symbol = text.charCodeAt(at);
    if (symbol >= END_OF_STRING) return Number.POSITIVE_INFINITY;
    bits += LENGTHS[symbol] as number;
  }
  return (bits + 7) >>> 3;
}

/** Writes `text` (latin1) to `bytes` from `at` on; returns where it ends. */
export function huffmanEncode(text: string, bytes: Uint8Array, at: number): number {
  /** Below 2 ** 8 * 2 ** 30: more than 32 bits, so it is divided, not shifted. */
  let held = 0;
  let heldBits = 0;
  for (let index = 0; index < text.length; index++) {
    const symbol = text.charCodeAt(index);
    const length = LENGTHS[symbol] as number;
    held = held * 2 ** length + (CODES[symbol] as number);
    heldBits += length;
    while (heldBits >= 8) {
      const unit = 2 ** (heldBits - 8);
      const byte = Math.floor(held / unit);
      bytes[at++] = byte;
      held -= byte * unit;
      heldBits -= 8;
    }
  }
  if (heldBits > 0) bytes[at++] = held * 2 ** (8 - heldBits) + (2 ** (8 - heldBits) - 1);
  return at;
}

/** Numbers and growing buffers of the link protocol. A number has 1, 2 or 4 bytes, as in RFC 9000, section 16, and its shortest form. */

/** Longest number, bytes. */
export const NUMBER_BYTES_MAX = 4;

export function numberBytes(value: number): number {
  return value < 0x40 ? 1 : value < 0x4000 ? 2 : NUMBER_BYTES_MAX;
}

/** Writes it and returns where it ends. */
export function writeNumber(bytes: Uint8Array, at: number, value: number): number {
  if (value < 0x40) {
    bytes[at] = value;
    return at + 1;
  }
  if (value < 0x4000) {
    bytes[at] = 0x40 | (value >>> 8);
    bytes[at + 1] = value;
    return at + 2;
  }
  bytes[at] = 0x80 | (value >>> 24);
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
  return at + NUMBER_BYTES_MAX;
}

/** Length of the number that begins with `first`; 0: none does. */
export function numberBytesOf(first: number): 0 | 1 | 2 | 4 {
  return first < 0x40 ? 1 : first < 0x80 ? 2 : first < 0xc0 ? 4 : 0;
}

/** The number at `at`, all of which is there; -1: not in its shortest form, or none. */
export function readNumber(bytes: Uint8Array, at: number): number {
  const first = bytes[at] as number;
  if (first < 0x40) return first;
  if (first < 0x80) {
    const value = ((first & 0x3f) << 8) | (bytes[at + 1] as number);
    return value < 0x40 ? -1 : value;
  }
  if (first >= 0xc0) return -1;
  const value =
    ((first & 0x3f) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number);
  return value < 0x4000 ? -1 : value;
}

/** Bytes that are read one after the other, and never past their end. */
export class ByteReader {
  readonly bytes: Uint8Array;
  at: number;
  readonly end: number;

  constructor(bytes: Uint8Array, from: number, to: number) {
    this.bytes = bytes;
    this.at = from;
    this.end = to;
  }

  /** -1: there is none. */
  byte(): number {
    return this.at < this.end ? (this.bytes[this.at++] as number) : -1;
  }

  /** -1: there is none that is whole and in its shortest form. */
  number(): number {
    if (this.at >= this.end) return -1;
    const length = numberBytesOf(this.bytes[this.at] as number);
    if (length === 0 || this.at + length > this.end) return -1;
    const value = readNumber(this.bytes, this.at);
    this.at += length;
    return value;
  }
}

const INITIAL_BYTES = 1_024;

export class ByteWriter {
  bytes = new Uint8Array(INITIAL_BYTES);
  length = 0;

  /** Makes room for so many more. */
  reserve(more: number): void {
    const needed = this.length + more;
    if (needed <= this.bytes.byteLength) return;
    const grown = new Uint8Array(Math.max(needed, 2 * this.bytes.byteLength));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }

  byte(value: number): void {
    if (this.length === this.bytes.byteLength) this.reserve(1);
    this.bytes[this.length++] = value;
  }

  number(value: number): void {
    this.reserve(NUMBER_BYTES_MAX);
    this.length = writeNumber(this.bytes, this.length, value);
  }

  append(bytes: Uint8Array): void {
    this.reserve(bytes.byteLength);
    this.bytes.set(bytes, this.length);
    this.length += bytes.byteLength;
  }

  /** One byte a character, all of which must have the bit in `classOf`. False: one does not, and nothing counts as written. */
  characters(text: string, classOf: Uint8Array, bit: number): boolean {
    const { length } = text;
    this.reserve(length);
    const { bytes, length: from } = this;
    let all = bit;
    for (let index = 0; index < length; index++) {
      const code = text.charCodeAt(index);
      // Beyond the table: no class.
      all &= classOf[code] ?? 0;
      bytes[from + index] = code;
    }
    if (all === 0) return false;
    this.length = from + length;
    return true;
  }

  view(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }
}

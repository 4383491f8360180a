/** Fields of any number of bits in a row of bytes, highest bit first, as compact documents are written. */

/** Widest field of one call: with the 7 bits before it, it still fits into a word. */
export const BIT_WIDTH_MAX = 24;

/** Bits that hold every number below `count`; 0 for one number or none. */
export function bitsBelow(count: number): number {
  return count <= 1 ? 0 : 32 - Math.clz32(count - 1);
}

/** Small differences of either sign as small numbers: 0, -1, 1, -2, 2 ... */
export function zigzag(difference: number): number {
  return difference >= 0 ? difference * 2 : -difference * 2 - 1;
}

export function unzigzag(code: number): number {
  return code % 2 === 0 ? code / 2 : -(code + 1) / 2;
}

export class BitWriter {
  #bytes: Uint8Array;
  #length = 0;
  /** The bits that do not fill a byte yet. */
  #rest = 0;
  #restCount = 0;

  constructor(bytesHint = 1024) {
    this.#bytes = new Uint8Array(Math.max(16, bytesHint));
  }

  /** The lowest `width` bits (0..24) of `value`. */
  write(value: number, width: number): void {
    let rest = (this.#rest << width) | value;
    let count = this.#restCount + width;
    if (this.#length + 4 > this.#bytes.length) this.#grow();
    while (count >= 8) {
      count -= 8;
      this.#bytes[this.#length++] = rest >>> count;
    }
    rest &= (1 << count) - 1;
    this.#rest = rest;
    this.#restCount = count;
  }

  write32(value: number): void {
    this.write(value >>> 16, 16);
    this.write(value & 0xffff, 16);
  }

  /** A whole number of up to 32 bits in 5 bits for its length and as many as it has. */
  writeNumber(value: number): void {
    const width = 32 - Math.clz32(value);
    if (width > BIT_WIDTH_MAX) {
      this.write(31, 5);
      this.write32(value);
      return;
    }
    this.write(width, 5);
    this.write(value, width);
  }

  /** Everything written, the last byte filled up with zeros. The writer must not be used afterwards. */
  bytes(): Uint8Array {
    if (this.#restCount > 0) this.write(0, 8 - this.#restCount);
    return this.#bytes.subarray(0, this.#length);
  }

  #grow(): void {
    const larger = new Uint8Array(this.#bytes.length * 2);
    larger.set(this.#bytes);
    this.#bytes = larger;
  }
}

/** Why a reading stopped: place is in bits from the start. */
export class BitsError extends Error {
  readonly bitOffset: number;
  constructor(bitOffset: number, message: string) {
    super(message);
    this.name = "BitsError";
    this.bitOffset = bitOffset;
  }
}

/** Reads what `BitWriter` wrote. Throws {@link BitsError} where the bytes end too early or are not as a writer leaves them. */
export class BitReader {
  readonly #view: DataView;
  readonly #end: number;
  #at = 0;

  /** At most 256 MiB. */
  constructor(bytes: Uint8Array) {
    // Four bytes behind the end, so that a field can be cut out of one word that begins anywhere; mostly there are some, and 18 MB need not be copied.
    const { buffer, byteOffset, length } = bytes;
    if (byteOffset + length + 4 <= buffer.byteLength) this.#view = new DataView(buffer, byteOffset);
    else {
      const padded = new Uint8Array(length + 4);
      padded.set(bytes);
      this.#view = new DataView(padded.buffer);
    }
    this.#end = bytes.length * 8;
  }

  get bitOffset(): number {
    return this.#at;
  }
  get bitsLeft(): number {
    return this.#end - this.#at;
  }

  fail(message: string): never {
    throw new BitsError(this.#at, message);
  }

  /** `width`: 0..24. */
  read(width: number): number {
    if (width === 0) return 0;
    const at = this.#at;
    if (at + width > this.#end) this.fail("more bytes");
    this.#at = at + width;
    return (this.#view.getUint32(at >>> 3) << (at & 7)) >>> (32 - width);
  }

  read32(): number {
    const high = this.read(16);
    return high * 65_536 + this.read(16);
  }

  readNumber(): number {
    const width = this.read(5);
    if (width <= BIT_WIDTH_MAX) {
      const value = this.read(width);
      if (width > 0 && value < 2 ** (width - 1)) this.fail("a number without leading zeros");
      return value;
    }
    if (width !== 31) this.fail("the length of a number");
    const value = this.read32();
    if (value < 2 ** BIT_WIDTH_MAX) this.fail("a number without leading zeros");
    return value;
  }

  /** A number below `limit`. */
  readBelow(limit: number, what: string): number {
    const value = this.read(bitsBelow(limit));
    if (value >= limit) this.fail(`${what} below ${limit}`);
    return value;
  }

  /** Nothing but the zeros that fill the last byte may follow. */
  end(): void {
    if (this.bitsLeft >= 8 || this.read(this.bitsLeft) !== 0) this.fail("the end");
  }
}

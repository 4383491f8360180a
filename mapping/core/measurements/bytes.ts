/** Numbers and texts as octets, little endian: what a snapshot of the store is made of. */

const FIRST_CAPACITY = 8_192;

export class ByteWriter {
  #bytes = new Uint8Array(FIRST_CAPACITY);
  #view = new DataView(this.#bytes.buffer);
  #size = 0;

  u8(value: number): void {
    this.#view.setUint8(this.#room(1), value);
  }
  u16(value: number): void {
    this.#view.setUint16(this.#room(2), value, true);
  }
  u32(value: number): void {
    this.#view.setUint32(this.#room(4), value, true);
  }
  u64(value: bigint): void {
    this.#view.setBigUint64(this.#room(8), value, true);
  }
  f64(value: number): void {
    this.#view.setFloat64(this.#room(8), value, true);
  }
  bytes(value: Uint8Array): void {
    const at = this.#room(value.length);
    this.#bytes.set(value, at);
  }

  /** A copy of what was written; the writer is empty again. */
  take(): Uint8Array {
    const taken = this.#bytes.slice(0, this.#size);
    this.#size = 0;
    return taken;
  }

  #room(count: number): number {
    const at = this.#size;
    this.#size += count;
    if (this.#size > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#size, 2 * this.#bytes.length));
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }
}

/** Reads of what is not there throw {@link RangeError}. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#view.getUint8(this.#skip(1));
  }
  u16(): number {
    return this.#view.getUint16(this.#skip(2), true);
  }
  u32(): number {
    return this.#view.getUint32(this.#skip(4), true);
  }
  u64(): bigint {
    return this.#view.getBigUint64(this.#skip(8), true);
  }
  f64(): number {
    return this.#view.getFloat64(this.#skip(8), true);
  }
  bytes(count: number): Uint8Array {
    const at = this.#skip(count);
    return this.#bytes.subarray(at, at + count);
  }

  #skip(count: number): number {
    if (count > this.left) throw new RangeError(`it ends ${count - this.left} octets too early`);
    const at = this.#at;
    this.#at += count;
    return at;
  }
}

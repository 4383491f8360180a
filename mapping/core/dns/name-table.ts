/** Names on the wire to numbers, by one hash over their octets: what stands in a packet is looked up without making anything of it. */

/** Letters to lower case, everything else as it is (RFC 4343); length octets are below 64 and stay. */
export const lowerCase: Uint8Array = Uint8Array.from({ length: 256 }, (_, octet) =>
  octet >= 0x41 && octet <= 0x5a ? octet + 0x20 : octet,
);

/** FNV-1a (Fowler, Noll, Vo), 32 bits: start it with this, and put in octet by octet. */
export const nameHashStart = 0x811c_9dc5 | 0;
export function nameHashNext(hash: number, lowerOctet: number): number {
  return Math.imul(hash ^ lowerOctet, 0x0100_0193);
}

/** Share of slots in use at most is 1 / this. */
const SLOTS_A_NAME = 4;

/** Immutable; a look-up reads a few slots. Only our own names are in it, so nobody outside can make it slow. */
export class NameTable {
  readonly #mask: number;
  /** Number of the name, -1: empty. */
  readonly #slots: Int32Array;
  readonly #hashes: Int32Array;
  /** Where each name begins in `#octets`, and one more element for the end. */
  readonly #offsets: Uint32Array;
  readonly #octets: Uint8Array;

  /** @param names wire form with the root label, any case; a name's number is its place */
  constructor(names: readonly Uint8Array[]) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(1, names.length) * SLOTS_A_NAME));
    this.#mask = size - 1;
    this.#slots = new Int32Array(size).fill(-1);
    this.#hashes = new Int32Array(names.length);
    this.#offsets = new Uint32Array(names.length + 1);
    this.#octets = new Uint8Array(names.reduce((sum, name) => sum + name.length, 0));
    let at = 0;
    for (const [number, name] of names.entries()) {
      let hash = nameHashStart;
      this.#offsets[number] = at;
      for (const octet of name) {
        const lower = lowerCase[octet] as number;
        hash = nameHashNext(hash, lower);
        this.#octets[at++] = lower;
      }
      this.#hashes[number] = hash;
      let slot = hash & this.#mask;
      while ((this.#slots[slot] as number) >= 0) slot = (slot + 1) & this.#mask;
      this.#slots[slot] = number;
    }
    this.#offsets[names.length] = at;
  }

  /** The number of the name of `length` octets at `bytes[at]`, whose hash is `hash`; -1: none of ours. */
  find(bytes: Uint8Array, at: number, length: number, hash: number): number {
    for (let slot = hash & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const number = this.#slots[slot] as number;
      if (number < 0) return -1;
      if (this.#hashes[number] === hash && this.#is(number, bytes, at, length)) return number;
    }
  }

  #is(number: number, bytes: Uint8Array, at: number, length: number): boolean {
    const start = this.#offsets[number] as number;
    if ((this.#offsets[number + 1] as number) - start !== length) return false;
    const octets = this.#octets;
    for (let index = 0; index < length; index++)
      if (octets[start + index] !== lowerCase[bytes[at + index] as number]) return false;
    return true;
  }
}

/**
 * How often keys were used lately, estimated in bounded memory: a count-min sketch of four rows with 4-bit counters, which
 * are all halved when the uses counted reach the sample size, so that the past fades (TinyLFU: Einziger, Friedman, Manes,
 * "TinyLFU: A Highly Efficient Cache Admission Policy", ACM TOS 13(4), 2017, sections 3.2 and 3.3).
 */

const ROWS = 4;
/** Largest count that a 4-bit counter holds. */
const COUNT_MAX = 15;
/** Odd multipliers, one a row: high bits of the product are mixed from all bits of the hash (Dietzfelbinger et al., 1997). */
const MULTIPLIERS = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f] as const;

export class FrequencySketch {
  /** Row r of column c is the r-th nibble of element c. */
  readonly #counters: Uint16Array;
  readonly #shift: number;
  #uses = 0;

  /** `columns` is rounded up to a power of two, at least 16; two bytes each. */
  constructor(columns: number) {
    const bits = Math.max(4, Math.ceil(Math.log2(columns)));
    this.#counters = new Uint16Array(2 ** bits);
    this.#shift = 32 - bits;
  }

  /** Memory of a sketch of so many columns. */
  static bytesFor(columns: number): number {
    return 2 * 2 ** Math.max(4, Math.ceil(Math.log2(columns)));
  }

  /** Counts `uses`, >= 1. `sampleUses`: after how many uses all counts are halved, >= 1. */
  add(hash: number, sampleUses: number, uses = 1): void {
    const counters = this.#counters;
    let counted = 0;
    for (let row = 0; row < ROWS; row++) {
      const column = Math.imul(hash, MULTIPLIERS[row] as number) >>> this.#shift;
      const present = counters[column] as number;
      const added = Math.min(uses, COUNT_MAX - ((present >>> (row * 4)) & COUNT_MAX));
      if (added === 0) continue;
      counters[column] = present + (added << (row * 4));
      if (added > counted) counted = added;
    }
    this.#uses += counted;
    if (counted > 0 && this.#uses >= sampleUses) this.halve();
  }

  /** The estimated count, 0..15: never less than the true one since the last halving, but for saturation. */
  count(hash: number): number {
    let least = COUNT_MAX;
    for (let row = 0; row < ROWS; row++) {
      const column = Math.imul(hash, MULTIPLIERS[row] as number) >>> this.#shift;
      const count = ((this.#counters[column] as number) >>> (row * 4)) & COUNT_MAX;
      if (count < least) least = count;
    }
    return least;
  }

  /** Halves all counts. */
  halve(): void {
    const counters = this.#counters;
    // All four nibbles at once: what each shift pushes into its lower neighbour is masked away.
    for (let column = 0; column < counters.length; column++)
      counters[column] = ((counters[column] as number) >>> 1) & 0x7777;
    this.#uses = Math.floor(this.#uses / 2);
  }
}

import { xxh32 } from "./hash.ts";

const TWO_32 = 0x1_0000_0000;
const TWO_53 = 0x20_0000_0000_0000;
/** Outputs thrown away after seeding, so that similar seeds have diverged; PractRand's own seeding uses 12 to 18. */
const WARM_UP_ROUNDS = 16;

/**
 * A seeded stream of pseudo-random numbers: the same seed gives the same numbers on every machine.
 *
 * Generator: sfc32, "Small Fast Chaotic" of C. Doty-Humphrey's PractRand 0.94 (128 bits of state, one word of it a
 * counter, so the period is at least 2^32 outputs and about 2^127 on average). Seeding: the four words are xxh32 of
 * the seed's text with the xxHash seeds 0..3, then 16 outputs are thrown away. Not for secrets.
 *
 * `normal` and `exponential` use Math.log and Math.cos, whose last bit ECMA-262 leaves to the engine; all others
 * are exact integer arithmetic.
 */
export class Random {
  readonly #identity: string;
  #a: number;
  #b: number;
  #c: number;
  #counter: number;

  /** A number seeds like its decimal text: `new Random(7)` and `new Random("7")` are the same stream. */
  constructor(seed: string | number) {
    const text = String(seed);
    this.#a = xxh32(text, 0) | 0;
    this.#b = xxh32(text, 1) | 0;
    this.#c = xxh32(text, 2) | 0;
    this.#counter = xxh32(text, 3) | 0;
    this.#identity = [this.#a, this.#b, this.#c, this.#counter]
      .map((word) => (word >>> 0).toString(16).padStart(8, "0"))
      .join("");
    for (let round = 0; round < WARM_UP_ROUNDS; round++) this.#next();
  }

  /** The next 32 bits, 0..2^32-1. */
  #next(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (this.#c << 21) | (this.#c >>> 11);
    this.#c = (this.#c + sum) | 0;
    return sum >>> 0;
  }

  /** The next 53 bits, 0..2^53-1. */
  #next53(): number {
    const high = this.#next() >>> 5;
    const low = this.#next() >>> 6;
    return high * 0x400_0000 + low;
  }

  /** Uniform in [0, 1), a multiple of 2^-53. */
  float(): number {
    return this.#next53() / TWO_53;
  }

  /**
   * Uniform integer in 0..belowExclusive-1, without modulo bias (draws above the last whole multiple are refused).
   * Throws RangeError unless `belowExclusive` is an integer in 1..2^53-1.
   */
  int(belowExclusive: number): number {
    if (!Number.isSafeInteger(belowExclusive) || belowExclusive < 1)
      throw new RangeError(`Random.int needs an integer bound in 1..2^53-1, got ${belowExclusive}`);
    const isWide = belowExclusive > TWO_32;
    const span = isWide ? TWO_53 : TWO_32;
    const limit = span - (span % belowExclusive);
    for (;;) {
      const draw = isWide ? this.#next53() : this.#next();
      if (draw < limit) return draw % belowExclusive;
    }
  }

  /** Uniform in [lo, hi). Throws RangeError unless both are finite and lo <= hi. */
  uniform(lo: number, hi: number): number {
    if (!Number.isFinite(lo) || !Number.isFinite(hi) || lo > hi)
      throw new RangeError(`Random.uniform needs finite lo <= hi, got ${lo} and ${hi}`);
    return lo + (hi - lo) * this.float();
  }

  /** Normal distribution (Box and Muller, 1958; the second value is not kept, so every call takes two draws). */
  normal(mean: number, sd: number): number {
    if (!Number.isFinite(mean) || !Number.isFinite(sd) || sd < 0)
      throw new RangeError(`Random.normal needs a finite mean and sd >= 0, got ${mean} and ${sd}`);
    // 1 - float() is in (0, 1]: the logarithm stays finite.
    const radius = Math.sqrt(-2 * Math.log(1 - this.float()));
    return mean + sd * radius * Math.cos(2 * Math.PI * this.float());
  }

  /** Exponential distribution by inversion, >= 0. Throws RangeError unless mean is finite and >= 0. */
  exponential(mean: number): number {
    if (!Number.isFinite(mean) || mean < 0)
      throw new RangeError(`Random.exponential needs a finite mean >= 0, got ${mean}`);
    return -mean * Math.log(1 - this.float());
  }

  /** True with probability `p`; 0 is never, 1 is always. Takes one draw whatever `p` is. RangeError outside 0..1. */
  chance(p: number): boolean {
    if (!(p >= 0 && p <= 1)) throw new RangeError(`Random.chance needs a probability in 0..1, got ${p}`);
    return this.float() < p;
  }

  /** One element, each equally likely. Throws RangeError on an empty array. */
  pick<T>(array: readonly T[]): T {
    if (array.length === 0)
      throw new RangeError("Random.pick needs at least one element, got an empty array");
    return array[this.int(array.length)] as T;
  }

  /** A new array with the same elements in random order (Fisher-Yates); the argument is not changed. */
  shuffle<T>(array: readonly T[]): T[] {
    const shuffled = array.slice();
    for (let last = shuffled.length - 1; last > 0; last--) {
      const other = this.int(last + 1);
      const kept = shuffled[last] as T;
      shuffled[last] = shuffled[other] as T;
      shuffled[other] = kept;
    }
    return shuffled;
  }

  /**
   * An independent stream named `label`. It depends on this stream's seed and the label only, not on how many
   * numbers were drawn, and it draws none from this one: adding a consumer does not change the others' numbers.
   */
  split(label: string): Random {
    return new Random(`${this.#identity}/${label}`);
  }
}

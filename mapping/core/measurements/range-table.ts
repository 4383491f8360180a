/** What is known of ranges of addresses, by the hundred thousand: flat arrays, look-up by binary search. */
import { addressBits, formatAddress, type IpAddress, type IpFamily } from "#kit";

/** Why a range was not taken. */
export type RangeRefusal = "backwards" | "out-of-order" | "full";

/** A doubling grows past this at most once. */
const FIRST_CAPACITY = 1_024;

/**
 * Disjoint ranges, inclusive at both ends, handed over in ascending order for each family, as the tables of registries and
 * geolocation are sorted. Equal values, as `keyOf` says, are kept once. About 12 bytes a range of IPv4, 36 of IPv6.
 */
export class AddressRangeTable<T> {
  readonly #halves: Readonly<Record<IpFamily, Half>>;
  readonly #values: T[] = [];
  readonly #valueByKey = new Map<string, number>();
  readonly #keyOf: (value: T) => string;

  /** @param rangesMax of each family */
  constructor(keyOf: (value: T) => string, rangesMax: number) {
    this.#keyOf = keyOf;
    this.#halves = { 4: new Half(1, rangesMax), 6: new Half(4, rangesMax) };
  }

  /** Ranges of both families. */
  get size(): number {
    return this.#halves[4].count + this.#halves[6].count;
  }

  /** Different values. */
  get valueCount(): number {
    return this.#values.length;
  }

  /** What the flat arrays take, the values left out. */
  get bytes(): number {
    return this.#halves[4].bytes + this.#halves[6].bytes;
  }

  /** Undefined: taken. Throws RangeError if the ends are of two families. */
  add(first: IpAddress, last: IpAddress, value: T): RangeRefusal | undefined {
    if (first.family !== last.family)
      throw new RangeError(`A range cannot reach from ${formatAddress(first)} to ${formatAddress(last)}`);
    const half = this.#halves[first.family];
    const refusal = half.refusal(first.words, last.words);
    if (refusal !== undefined) return refusal;
    const key = this.#keyOf(value);
    let index = this.#valueByKey.get(key);
    if (index === undefined) {
      index = this.#values.push(value) - 1;
      this.#valueByKey.set(key, index);
    }
    half.push(first.words, last.words, index);
    return undefined;
  }

  /** The values by number. */
  get values(): readonly T[] {
    return this.#values;
  }

  /** Every range of a family, ascending, with the number of its value. */
  forEach(family: IpFamily, visit: (first: IpAddress, last: IpAddress, value: number) => void): void {
    const half = this.#halves[family];
    for (let range = 0; range < half.count; range++)
      visit(
        { family, words: half.words(range * 2) },
        { family, words: half.words(range * 2 + 1) },
        half.valueOf(range),
      );
  }

  /** The value of the range that holds the address; undefined when none does. */
  lookup(address: IpAddress): T | undefined {
    const index = this.#halves[address.family].find(address.words);
    return index === undefined ? undefined : this.#values[index];
  }
}

/** The ranges of one family. */
class Half {
  readonly #wordCount: number;
  readonly #rangesMax: number;
  /** First address, then last address, `#wordCount` words each. */
  #ends: Uint32Array;
  #values: Uint32Array;
  count = 0;

  constructor(wordCount: number, rangesMax: number) {
    this.#wordCount = wordCount;
    this.#rangesMax = rangesMax;
    this.#ends = new Uint32Array(0);
    this.#values = new Uint32Array(0);
  }

  get bytes(): number {
    return this.#ends.byteLength + this.#values.byteLength;
  }

  /** An end's address: ends are numbered first, last, first, last ... */
  words(end: number): number[] {
    return [...this.#ends.subarray(end * this.#wordCount, (end + 1) * this.#wordCount)];
  }

  valueOf(range: number): number {
    return this.#values[range] as number;
  }

  refusal(first: readonly number[], last: readonly number[]): RangeRefusal | undefined {
    if (this.count >= this.#rangesMax) return "full";
    if (compareWords(first, last) > 0) return "backwards";
    return this.count > 0 && this.#compareEnd(this.count * 2 - 1, first) >= 0 ? "out-of-order" : undefined;
  }

  push(first: readonly number[], last: readonly number[], value: number): void {
    if (this.count === this.#values.length) this.#grow();
    this.#ends.set(first, this.count * 2 * this.#wordCount);
    this.#ends.set(last, (this.count * 2 + 1) * this.#wordCount);
    this.#values[this.count++] = value;
  }

  find(words: readonly number[]): number | undefined {
    // The last range that does not begin after the address.
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#compareEnd(middle * 2, words) <= 0) low = middle + 1;
      else high = middle;
    }
    const range = low - 1;
    return range >= 0 && this.#compareEnd(range * 2 + 1, words) >= 0 ? this.#values[range] : undefined;
  }

  #compareEnd(end: number, words: readonly number[]): number {
    const at = end * this.#wordCount;
    for (let index = 0; index < this.#wordCount; index++) {
      const difference = (this.#ends[at + index] as number) - (words[index] as number);
      if (difference !== 0) return difference;
    }
    return 0;
  }

  #grow(): void {
    const capacity = Math.min(Math.max(FIRST_CAPACITY, this.#values.length * 2), this.#rangesMax);
    const ends = new Uint32Array(capacity * 2 * this.#wordCount);
    ends.set(this.#ends);
    this.#ends = ends;
    const values = new Uint32Array(capacity);
    values.set(this.#values);
    this.#values = values;
  }
}

function compareWords(a: readonly number[], b: readonly number[]): number {
  for (const [index, word] of a.entries()) {
    const difference = word - (b[index] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The address whose number in decimal is `text` (the `-num` tables); undefined when it is none of the family. */
export function addressOfNumber(text: string, family: IpFamily): IpAddress | undefined {
  if (!/^[0-9]{1,39}$/.test(text)) return undefined;
  let rest = BigInt(text);
  const words: number[] = [];
  for (let n = addressBits(family) / 32; n > 0; n--) {
    words.unshift(Number(rest & 0xffff_ffffn));
    rest >>= 32n;
  }
  return rest === 0n ? { family, words } : undefined;
}

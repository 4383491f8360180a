import { addressBits, type IpFamily } from "./ip.ts";
import { allSteps, type Steps } from "./steps.ts";

/** No prefix covers the range. */
export const NONE = -1;
/** Prefixes or ranges between two pauses: a millisecond or two, more where they are asked about for the first time. */
const STEP = 1_024;
/** The same where next to nothing is done for each. */
const LIGHT_STEP = 65_536;
/** With fewer ranges than this an index of the first bits costs more than the search it saves. */
const INDEXED_RANGES_MIN = 1024;
/** Bits that the index of IPv4 goes by, and from how many ranges on it has the finer of the two (4 MiB). */
const INDEX_BITS_COARSE = 16;
const INDEX_BITS_FINE = 20;
const FINE_RANGES_MIN = 65_536;

/** Prefixes of one family in columns, sorted by address, then the shorter first; none twice. */
export interface PrefixColumns {
  /** Addresses, 1 word each (IPv4) or 4 (IPv6), host bits zero. */
  readonly words: Uint32Array;
  readonly lengths: Uint8Array;
  /** What each prefix stands for, a number >= 0. Equal numbers are the same thing. */
  readonly values: Uint32Array;
}

/** Disjoint runs of addresses that cover a family: run i reaches from its first address to the one before run i+1. */
export interface PrefixRuns {
  /** First addresses, 1 word each (IPv4) or 4 (IPv6), ascending; run 0 begins at the family's first address. */
  readonly starts: Uint32Array;
  readonly values: Uint32Array;
}

/**
 * Nested prefixes of one family, flattened once into disjoint ranges that cover it, sorted by their first address: a look-up
 * is a binary search in one flat Uint32Array, for IPv4 narrowed by an index of the first bits, and allocates nothing. Range i reaches
 * from its first address to the one before range i+1. Source of the idea: gdnsd's libgdmaps flattens its networks the same way.
 */
export class PrefixRanges {
  readonly #bits: number;
  /** Words in an address: 1 or 4. */
  readonly #wordCount: number;
  /** First addresses, `#wordCount` words a range, ascending; range 0 begins at the family's first address. */
  readonly #starts: Uint32Array;
  /** The longest prefix that covers the range, by its place in the columns, or NONE. */
  readonly #entries: Int32Array;
  /** The value of that prefix, or NONE. */
  readonly #values: Int32Array;
  /** First range of each run of ranges with one value, ascending, with the range count as a last element. */
  readonly #runStarts: Uint32Array;
  /** The run of each range. */
  readonly #runOf: Uint32Array;
  /** For each value h of IPv4's first bits: the range that holds the first address with them; one more element for the end. */
  readonly #index: Uint32Array | undefined;
  readonly #indexShift: number;

  constructor(family: IpFamily, columns: PrefixColumns, parts = allSteps(partsOf(family, columns))) {
    this.#bits = addressBits(family);
    this.#wordCount = this.#bits / 32;
    this.#starts = parts.starts;
    this.#entries = parts.entries;
    this.#values = parts.values;
    this.#runStarts = parts.runStarts;
    this.#runOf = parts.runOf;
    this.#index = parts.index;
    this.#indexShift = 32 - indexBitsFor(parts.entries.length);
  }

  /** As the constructor, in steps. */
  static *inSteps(family: IpFamily, columns: PrefixColumns): Steps<PrefixRanges> {
    return new PrefixRanges(family, columns, yield* partsOf(family, columns));
  }

  /** Bytes of the arrays. */
  get byteLength(): number {
    const arrays = [this.#starts, this.#entries, this.#values, this.#runStarts, this.#runOf];
    return arrays.reduce((sum, one) => sum + one.byteLength, this.#index?.byteLength ?? 0);
  }

  /** The prefix that was found for the range, by its place in the columns; NONE: no prefix holds it. */
  entryOf(range: number): number {
    return this.#entries[range] as number;
  }

  /** The value of the range; NONE: no prefix holds it. */
  valueOf(range: number): number {
    return this.#values[range] as number;
  }

  /** The whole family in runs of neighbouring ranges that `numberOf` gives the same number; it is asked for each value or NONE. */
  joined(numberOf: (value: number) => number): PrefixRuns {
    return allSteps(this.joinedInSteps(numberOf));
  }

  /** As {@link joined}, in steps. */
  *joinedInSteps(numberOf: (value: number) => number): Steps<PrefixRuns> {
    const count = this.#values.length;
    const values = new Uint32Array(count);
    const starts = new Uint32Array(count * this.#wordCount);
    let runs = 0;
    for (let range = 0; range < count; range++) {
      if (range % STEP === STEP - 1) yield;
      const number = numberOf(this.#values[range] as number);
      if (runs > 0 && values[runs - 1] === number) continue;
      for (let word = 0; word < this.#wordCount; word++)
        starts[runs * this.#wordCount + word] = this.#starts[range * this.#wordCount + word] as number;
      values[runs++] = number;
    }
    return { starts: starts.slice(0, runs * this.#wordCount), values: values.slice(0, runs) };
  }

  /** The range that holds the address: the last one that does not begin after it. */
  find(words: readonly number[]): number {
    const starts = this.#starts;
    let low = 0;
    let high = this.#entries.length - 1;
    if (this.#wordCount === 1) {
      const word = words[0] as number;
      if (this.#index) {
        const first = word >>> this.#indexShift;
        low = this.#index[first] as number;
        high = this.#index[first + 1] as number;
      }
      while (low < high) {
        const middle = (low + high + 1) >>> 1;
        if ((starts[middle] as number) <= word) low = middle;
        else high = middle - 1;
      }
      return low;
    }
    const [w0, w1, w2, w3] = words as readonly [number, number, number, number];
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      const at = middle * 4;
      const difference =
        (starts[at] as number) - w0 ||
        (starts[at + 1] as number) - w1 ||
        (starts[at + 2] as number) - w2 ||
        (starts[at + 3] as number) - w3;
      if (difference <= 0) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /**
   * The shortest prefix length L such that every address in `words`/L has a value that is `same` as that of `range`, which
   * holds it. `same` must be an equivalence; it is asked once for each run of neighbouring ranges of one value.
   *
   * The block around the address is limited by the nearest address on each side that is not known to be the same:
   * it must be longer than what the address has in common with either. The side with more in common is the one that
   * keeps the block small (they cannot be equal: the first bit that differs is 1 on the left, 0 on the right), so its
   * neighbouring run is asked about next. Nothing is allocated, no run is asked about twice.
   *
   * @param runsMax neighbouring runs that are asked about at most; then the length is one that holds, but a shorter one might
   */
  scopeOf(
    words: readonly number[],
    range: number,
    same: (a: number, b: number) => boolean,
    runsMax = Number.POSITIVE_INFINITY,
  ): number {
    const value = this.valueOf(range);
    let first = this.#runOf[range] as number;
    let last = first;
    let left = this.#bitsCommonBefore(first, words);
    let right = this.#bitsCommonWith(last + 1, words);
    for (let asked = 0; left >= 0 || right >= 0; asked++) {
      if (asked >= runsMax) return Math.max(left, right) + 1;
      if (left > right) {
        if (!same(value, this.valueOf(this.#runStarts[first - 1] as number))) return left + 1;
        left = this.#bitsCommonBefore(--first, words);
      } else {
        if (!same(value, this.valueOf(this.#runStarts[last + 1] as number))) return right + 1;
        right = this.#bitsCommonWith(++last + 1, words);
      }
    }
    return 0;
  }

  /** Leading bits that `words` has in common with the first address of `run`; -1 if there is no such run. */
  #bitsCommonWith(run: number, words: readonly number[]): number {
    if (run >= this.#runStarts.length - 1) return -1;
    const at = (this.#runStarts[run] as number) * this.#wordCount;
    for (let index = 0; index < this.#wordCount; index++) {
      const difference = (this.#starts[at + index] as number) ^ (words[index] as number);
      if (difference !== 0) return index * 32 + Math.clz32(difference);
    }
    return this.#bits;
  }

  /** Leading bits that `words` has in common with the last address before `run`; -1 if `run` is the first. */
  #bitsCommonBefore(run: number, words: readonly number[]): number {
    if (run === 0) return -1;
    const at = (this.#runStarts[run] as number) * this.#wordCount;
    // One less than the start: words of zeros at its end borrow from the word before them.
    let borrowFrom = this.#wordCount - 1;
    while (this.#starts[at + borrowFrom] === 0) borrowFrom--;
    for (let index = 0; index < this.#wordCount; index++) {
      const word = (this.#starts[at + index] as number) - (index >= borrowFrom ? 1 : 0);
      const difference = word ^ (words[index] as number);
      if (difference !== 0) return index * 32 + Math.clz32(difference);
    }
    return this.#bits;
  }
}

/** Ranges as they are found, first addresses and covering prefixes. A range that begins where the last one does replaces it. */
class RangeList {
  readonly #wordCount: number;
  readonly #starts: Uint32Array;
  readonly #entries: Int32Array;
  #count = 1;

  /** Each prefix begins one range and ends one. */
  constructor(prefixes: number, wordCount: number) {
    this.#wordCount = wordCount;
    this.#starts = new Uint32Array((2 * prefixes + 1) * wordCount);
    this.#entries = new Int32Array(2 * prefixes + 1);
    this.#entries[0] = NONE;
  }

  /** From `words[at]` on, `entry` covers. */
  emit(words: Uint32Array, at: number, entry: number): void {
    const last = (this.#count - 1) * this.#wordCount;
    let isSame = true;
    for (let index = 0; index < this.#wordCount && isSame; index++)
      isSame = this.#starts[last + index] === words[at + index];
    if (isSame) {
      this.#entries[this.#count - 1] = entry;
      return;
    }
    for (let index = 0; index < this.#wordCount; index++)
      this.#starts[last + this.#wordCount + index] = words[at + index] as number;
    this.#entries[this.#count++] = entry;
  }

  get ranges(): { readonly starts: Uint32Array; readonly entries: Int32Array } {
    return {
      starts: this.#starts.slice(0, this.#count * this.#wordCount),
      entries: this.#entries.slice(0, this.#count),
    };
  }
}

/**
 * Nested prefixes to disjoint ranges, by one sweep with a stack of the prefixes that are open. Prefixes either nest
 * or are disjoint, so the top of the stack is always the longest that covers the current address.
 */
function* flatten(family: IpFamily, { words, lengths }: PrefixColumns): Steps<RangeList["ranges"]> {
  const wordCount = addressBits(family) / 32;
  const list = new RangeList(lengths.length, wordCount);
  /** The open prefixes, and for each the first address after it; those that end with the family are never closed. */
  const open: number[] = [];
  const after = new Uint32Array((wordCount * 32 + 1) * wordCount);
  const openEntry = (depth: number): number => open[depth] ?? NONE;
  for (let entry = 0; entry < lengths.length; entry++) {
    if (entry % STEP === STEP - 1) yield;
    const at = entry * wordCount;
    while (open.length > 0) {
      const top = (open.length - 1) * wordCount;
      if (isBeforeFirst(after, top, wordCount) || compareWords(after, top, words, at, wordCount) > 0) break;
      open.pop();
      list.emit(after, top, openEntry(open.length - 1));
    }
    list.emit(words, at, entry);
    writeAfter(words, at, lengths[entry] as number, after, open.length * wordCount, wordCount);
    open.push(entry);
  }
  while (open.length > 0) {
    open.pop();
    const top = open.length * wordCount;
    if (!isBeforeFirst(after, top, wordCount)) list.emit(after, top, openEntry(open.length - 1));
  }
  return list.ranges;
}

/** The address after the family's last one, as `writeAfter` leaves it: all zeros. */
function isBeforeFirst(words: Uint32Array, at: number, wordCount: number): boolean {
  for (let index = 0; index < wordCount; index++) if (words[at + index] !== 0) return false;
  return true;
}

/** The first address after the prefix to `to[toAt]`; all zeros if the prefix ends with the family. */
function writeAfter(
  words: Uint32Array,
  at: number,
  length: number,
  to: Uint32Array,
  toAt: number,
  wordCount: number,
): void {
  for (let index = 0; index < wordCount; index++)
    to[toAt + index] = length === 0 ? 0 : (words[at + index] as number);
  if (length === 0) return;
  let step = 2 ** (31 - ((length - 1) & 31));
  for (let index = (length - 1) >>> 5; index >= 0; index--) {
    const sum = (to[toAt + index] as number) + step;
    to[toAt + index] = sum >>> 0;
    if (sum <= 0xffff_ffff) return;
    step = 1; // Carry into the word before.
  }
}

function compareWords(a: Uint32Array, aAt: number, b: Uint32Array, bAt: number, wordCount: number): number {
  for (let index = 0; index < wordCount; index++) {
    const difference = (a[aAt + index] as number) - (b[bAt + index] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The arrays of a {@link PrefixRanges}, as it has them. */
interface RangeParts {
  readonly starts: Uint32Array;
  readonly entries: Int32Array;
  readonly values: Int32Array;
  readonly runStarts: Uint32Array;
  readonly runOf: Uint32Array;
  readonly index: Uint32Array | undefined;
}

function* partsOf(family: IpFamily, columns: PrefixColumns): Steps<RangeParts> {
  const { starts, entries } = yield* flatten(family, columns);
  const count = entries.length;
  const values = new Int32Array(count);
  const runOf = new Uint32Array(count);
  const runStarts = new Uint32Array(count + 1);
  let runs = 0;
  for (let range = 0; range < count; range++) {
    if (range % LIGHT_STEP === LIGHT_STEP - 1) yield;
    const entry = entries[range] as number;
    const value = entry === NONE ? NONE : (columns.values[entry] as number);
    values[range] = value;
    if (range === 0 || values[range - 1] !== value) runStarts[runs++] = range;
    runOf[range] = runs - 1;
  }
  runStarts[runs] = count;
  const index =
    family === 4 && count >= INDEXED_RANGES_MIN
      ? yield* indexFirstBits(starts, indexBitsFor(count))
      : undefined;
  return { starts, entries, values, runStarts: runStarts.slice(0, runs + 1), runOf, index };
}

function indexBitsFor(ranges: number): number {
  return ranges >= FINE_RANGES_MIN ? INDEX_BITS_FINE : INDEX_BITS_COARSE;
}

/** Element h: the range that holds the first address with first bits h; the last element: the last range. */
function* indexFirstBits(starts: Uint32Array, bits: number): Steps<Uint32Array> {
  const index = new Uint32Array(2 ** bits + 1);
  const step = 2 ** (32 - bits);
  let range = 0;
  for (let high = 0; high < 2 ** bits; high++) {
    if (high % LIGHT_STEP === LIGHT_STEP - 1) yield;
    while (range + 1 < starts.length && (starts[range + 1] as number) <= high * step) range++;
    index[high] = range;
  }
  index[2 ** bits] = starts.length - 1;
  return index;
}

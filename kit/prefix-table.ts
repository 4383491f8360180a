import type { IpAddress, IpFamily, IpPrefix } from "./ip.ts";
import { addressBits, comparePrefixes, formatPrefix } from "./ip.ts";

/** What a look-up finds. */
export type PrefixMatch<T> = { readonly prefix: IpPrefix; readonly value: T };

/** No entry covers the range. */
const NONE = -1;
/** With fewer ranges than this the 256 KiB index of IPv4's first 16 bits costs more than the search it saves. */
const IPV4_INDEX_RANGES_MIN = 1024;

/**
 * An immutable table from prefixes to values with longest-match look-up.
 *
 * The prefixes, which may nest, are flattened once into disjoint ranges that cover the whole family, sorted by their
 * first address; a look-up is a binary search in one flat Uint32Array, for IPv4 narrowed by an index of the first 16
 * bits. Nothing is allocated by a look-up. Source of the idea: gdnsd's libgdmaps flattens its networks the same way.
 */
export class PrefixTable<T> {
  /** Number of entries, both families. */
  readonly size: number;
  readonly #ipv4: RangeTable<T>;
  readonly #ipv6: RangeTable<T>;

  /** Throws RangeError if a prefix occurs twice. The order of the entries does not matter. */
  constructor(entries: Iterable<readonly [IpPrefix, T]>) {
    const matches: PrefixMatch<T>[] = [];
    for (const [prefix, value] of entries) matches.push({ prefix, value });
    matches.sort((a, b) => comparePrefixes(a.prefix, b.prefix));
    for (let index = 1; index < matches.length; index++) {
      const { prefix } = matches[index] as PrefixMatch<T>;
      if (comparePrefixes((matches[index - 1] as PrefixMatch<T>).prefix, prefix) === 0)
        throw new RangeError(`Prefix ${formatPrefix(prefix)} occurs more than once in a prefix table`);
    }
    this.size = matches.length;
    this.#ipv4 = new RangeTable(
      4,
      matches.filter((match) => match.prefix.address.family === 4),
    );
    this.#ipv6 = new RangeTable(
      6,
      matches.filter((match) => match.prefix.address.family === 6),
    );
  }

  /** The entry with the longest prefix that contains `address`, or undefined. Never throws. */
  lookup(address: IpAddress): PrefixMatch<T> | undefined {
    const table = address.family === 4 ? this.#ipv4 : this.#ipv6;
    return table.matchOf(table.find(address.words));
  }

  /**
   * What `lookup` finds, with how far it is valid: the shortest prefix length L such that every address in
   * `address`/L looks up a value that is `same` as this one (undefined stands for "no entry"); 0 is the whole family.
   * This is the SCOPE PREFIX-LENGTH of a DNS answer that depends on the value only (RFC 7871, 7.2.1).
   *
   * `same` must be an equivalence. It is asked once for each run of neighbouring ranges whose values are identical
   * (Object.is), so sharing equal values makes this cheap; the cost is proportional to the runs within the scope.
   */
  lookupScope(
    address: IpAddress,
    same: (a: T | undefined, b: T | undefined) => boolean,
  ): { value: T | undefined; scopePrefixLength: number } {
    const table = address.family === 4 ? this.#ipv4 : this.#ipv6;
    const range = table.find(address.words);
    return {
      value: table.matchOf(range)?.value,
      scopePrefixLength: table.scopeOf(address.words, range, same),
    };
  }
}

/** The ranges of one family. Range i reaches from its first address to the one before range i+1. */
class RangeTable<T> {
  readonly #bits: number;
  /** Words in an address: 1 or 4. */
  readonly #wordCount: number;
  readonly #matches: readonly PrefixMatch<T>[];
  /** First addresses, `#wordCount` words a range, ascending; range 0 begins at the family's first address. */
  readonly #starts: Uint32Array;
  /** Index into `#matches`, or NONE. */
  readonly #matchIndex: Int32Array;
  /** First range of each run of ranges with identical values, ascending, with the range count as a last element. */
  readonly #runStarts: Uint32Array;
  /** The run of each range. */
  readonly #runOf: Uint32Array;
  /** For each value h of IPv4's first 16 bits: the range that holds h.0.0; one more element for the end. */
  readonly #index: Uint32Array | undefined;

  /** `matches`: of this family only, sorted by comparePrefixes. */
  constructor(family: IpFamily, matches: readonly PrefixMatch<T>[]) {
    this.#bits = addressBits(family);
    this.#wordCount = this.#bits / 32;
    this.#matches = matches;
    const flat = flatten(matches, this.#wordCount);
    this.#starts = Uint32Array.from(flat.starts);
    this.#matchIndex = Int32Array.from(flat.matchIndex);
    const runStarts: number[] = [];
    this.#runOf = new Uint32Array(this.#matchIndex.length);
    for (let range = 0; range < this.#matchIndex.length; range++) {
      if (range === 0 || !Object.is(this.#valueOf(range - 1), this.#valueOf(range))) runStarts.push(range);
      this.#runOf[range] = runStarts.length - 1;
    }
    runStarts.push(this.#matchIndex.length);
    this.#runStarts = Uint32Array.from(runStarts);
    this.#index =
      family === 4 && this.#starts.length >= IPV4_INDEX_RANGES_MIN ? indexFirst16(this.#starts) : undefined;
  }

  matchOf(range: number): PrefixMatch<T> | undefined {
    return this.#matches[this.#matchIndex[range] as number];
  }

  #valueOf(range: number): T | undefined {
    return this.matchOf(range)?.value;
  }

  /** The range that holds the address: the last one that does not begin after it. */
  find(words: readonly number[]): number {
    const starts = this.#starts;
    let low = 0;
    let high = this.#matchIndex.length - 1;
    if (this.#wordCount === 1) {
      const word = words[0] as number;
      if (this.#index) {
        low = this.#index[word >>> 16] as number;
        high = this.#index[(word >>> 16) + 1] as number;
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
   * The block around the address is limited by the nearest address on each side that is not known to be the same:
   * it must be longer than what the address has in common with either. The side with more in common is the one that
   * keeps the block small (they cannot be equal: the first bit that differs is 1 on the left, 0 on the right), so its
   * neighbouring run is asked about next. Nothing is allocated, no run is asked about twice.
   */
  scopeOf(
    words: readonly number[],
    range: number,
    same: (a: T | undefined, b: T | undefined) => boolean,
  ): number {
    const value = this.#valueOf(range);
    let first = this.#runOf[range] as number;
    let last = first;
    let left = this.#bitsCommonBefore(first, words);
    let right = this.#bitsCommonWith(last + 1, words);
    while (left >= 0 || right >= 0) {
      if (left > right) {
        if (!same(value, this.#valueOf(this.#runStarts[first - 1] as number))) return left + 1;
        left = this.#bitsCommonBefore(--first, words);
      } else {
        if (!same(value, this.#valueOf(this.#runStarts[last + 1] as number))) return right + 1;
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

/**
 * Nested prefixes to disjoint ranges, by one sweep with a stack of the prefixes that are open. Prefixes either nest
 * or are disjoint, so the top of the stack is always the longest that covers the current address.
 */
function flatten<T>(
  matches: readonly PrefixMatch<T>[],
  wordCount: number,
): { starts: number[]; matchIndex: number[] } {
  const starts: number[] = Array.from({ length: wordCount }, () => 0);
  const matchIndex: number[] = [NONE];
  const open: { readonly index: number; readonly after: readonly number[] | undefined }[] = [];

  const emit = (start: readonly number[], index: number): void => {
    const at = starts.length - wordCount;
    if (start.every((word, offset) => word === starts[at + offset])) {
      matchIndex[matchIndex.length - 1] = index; // A longer prefix, or the next one, begins at the same address.
      return;
    }
    for (const word of start) starts.push(word);
    matchIndex.push(index);
  };
  const close = (): void => {
    const closed = open.pop();
    if (closed?.after) emit(closed.after, open.at(-1)?.index ?? NONE);
  };

  for (const [index, { prefix }] of matches.entries()) {
    const start = prefix.address.words;
    for (;;) {
      const after = open.at(-1)?.after;
      if (!after || compareWords(after, start) > 0) break;
      close();
    }
    emit(start, index);
    open.push({ index, after: wordsAfter(prefix) });
  }
  while (open.length > 0) close();
  return { starts, matchIndex };
}

/** The first address after the prefix, or undefined if the prefix ends with the family. */
function wordsAfter(prefix: IpPrefix): number[] | undefined {
  const words = prefix.address.words.slice();
  if (prefix.prefixLength === 0) return undefined;
  let wordIndex = (prefix.prefixLength - 1) >>> 5;
  let step = 2 ** (31 - ((prefix.prefixLength - 1) & 31));
  for (; wordIndex >= 0; wordIndex--) {
    const sum = (words[wordIndex] as number) + step;
    words[wordIndex] = sum >>> 0;
    if (sum <= 0xffff_ffff) return words;
    step = 1; // Carry into the word before.
  }
  return undefined;
}

function compareWords(a: readonly number[], b: readonly number[]): number {
  for (let index = 0; index < a.length; index++) {
    const difference = (a[index] as number) - (b[index] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Element h: the range that holds the first address with first 16 bits h; element 2^16: the last range. */
function indexFirst16(starts: Uint32Array): Uint32Array {
  const index = new Uint32Array(0x1_0001);
  let range = 0;
  for (let high = 0; high < 0x1_0000; high++) {
    while (range + 1 < starts.length && (starts[range + 1] as number) <= high * 0x1_0000) range++;
    index[high] = range;
  }
  index[0x1_0000] = starts.length - 1;
  return index;
}

import {
  addressBits,
  comparePrefixes,
  formatPrefix,
  type IpAddress,
  type IpFamily,
  type IpPrefix,
} from "./ip.ts";
import { PrefixRanges } from "./prefix-ranges.ts";

/** What a look-up finds. */
export type PrefixMatch<T> = { readonly prefix: IpPrefix; readonly value: T };

/** An immutable table from prefixes to values with longest-match look-up; nothing is allocated by a look-up. See `prefix-ranges.ts`. */
export class PrefixTable<T> {
  /** Number of entries, both families. */
  readonly size: number;
  readonly #ipv4: Family<T>;
  readonly #ipv6: Family<T>;

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
    this.#ipv4 = familyOf(4, matches);
    this.#ipv6 = familyOf(6, matches);
  }

  /** The entry with the longest prefix that contains `address`, or undefined. Never throws. */
  lookup(address: IpAddress): PrefixMatch<T> | undefined {
    const { ranges, matches } = address.family === 4 ? this.#ipv4 : this.#ipv6;
    return matches[ranges.entryOf(ranges.find(address.words))];
  }

  /**
   * What `lookup` finds, with how far it is valid: the shortest prefix length L such that every address in
   * `address`/L looks up a value that is `same` as this one (undefined stands for "no entry"); 0 is the whole family.
   * This is the SCOPE PREFIX-LENGTH of a DNS answer that depends on the value only (RFC 7871, 7.2.1).
   *
   * `same` must be an equivalence. It is asked once for each run of neighbouring ranges whose values are identical
   * (as a Map has it), so sharing equal values makes this cheap; the cost is proportional to the runs within the scope. After `runsMax` of them
   * the scope is what holds so far: narrower than it could be, and right.
   */
  lookupScope(
    address: IpAddress,
    same: (a: T | undefined, b: T | undefined) => boolean,
    runsMax?: number,
  ): { value: T | undefined; scopePrefixLength: number } {
    const { ranges, values } = address.family === 4 ? this.#ipv4 : this.#ipv6;
    const range = ranges.find(address.words);
    return {
      value: values[ranges.valueOf(range)],
      scopePrefixLength: ranges.scopeOf(address.words, range, (a, b) => same(values[a], values[b]), runsMax),
    };
  }
}

interface Family<T> {
  readonly matches: readonly PrefixMatch<T>[];
  /** The distinct values, by the numbers that `ranges` knows them under. */
  readonly values: readonly T[];
  readonly ranges: PrefixRanges;
}

/** `all`: sorted by comparePrefixes. */
function familyOf<T>(family: IpFamily, all: readonly PrefixMatch<T>[]): Family<T> {
  const matches = all.filter((match) => match.prefix.address.family === family);
  const numbers = new Map<T, number>();
  const wordCount = addressBits(family) / 32;
  const columns = {
    words: new Uint32Array(matches.length * wordCount),
    lengths: new Uint8Array(matches.length),
    values: new Uint32Array(matches.length),
  };
  for (const [index, { prefix, value }] of matches.entries()) {
    let number = numbers.get(value);
    if (number === undefined) {
      number = numbers.size;
      numbers.set(value, number);
    }
    columns.words.set(prefix.address.words, index * wordCount);
    columns.lengths[index] = prefix.prefixLength;
    columns.values[index] = number;
  }
  return { matches, values: [...numbers.keys()], ranges: new PrefixRanges(family, columns) };
}

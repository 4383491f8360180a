import type { ClientNetworkId } from "../../ids.ts";
import { addressBits, formatPrefix, type IpFamily, type IpPrefix, parsePrefix } from "../../ip.ts";
import type { PrefixColumns } from "../../prefix-ranges.ts";

export const CLIENT_NETWORKS_MAX = 1_000_000;
export const CLIENT_PREFIXES_MAX = 4_000_000;

export interface ClientNetworkPrefixes {
  readonly clientNetworkId: ClientNetworkId;
  /** Canonical; no two networks share one; at least one. */
  readonly prefixes: readonly string[];
}

/**
 * The client networks of a map: their names and prefixes. Numbered by their lowest prefix (IPv4 before IPv6, by address, the
 * shorter first), so that equal sets are equal tables whatever the order that they came in. Immutable.
 */
export class ClientNetworkTable {
  /** Names by number. */
  readonly ids: readonly ClientNetworkId[];
  /** Sorted prefixes of a family; the values are network numbers. */
  readonly ipv4: PrefixColumns;
  readonly ipv6: PrefixColumns;
  #numbers: Map<ClientNetworkId, number> | undefined;
  /** For each network the place of its first prefix in `#prefixes`, and the end. */
  #offsets: Uint32Array | undefined;
  #prefixes: Uint32Array | undefined;

  /** For those who have columns that obey the laws above already; others use `of`. */
  constructor(ids: readonly ClientNetworkId[], ipv4: PrefixColumns, ipv6: PrefixColumns) {
    this.ids = ids;
    this.ipv4 = ipv4;
    this.ipv6 = ipv6;
  }

  /**
   * Throws RangeError for a prefix that is not canonical or occurs twice, a network without one, a name that occurs twice, or more than
   * 1,000,000 networks or 4,000,000 prefixes.
   */
  static of(networks: Iterable<ClientNetworkPrefixes>): ClientNetworkTable {
    const names: ClientNetworkId[] = [];
    const ipv4 = new Columns(4);
    const ipv6 = new Columns(6);
    for (const { clientNetworkId, prefixes } of networks) {
      if (prefixes.length === 0) throw new RangeError(`Client network "${clientNetworkId}" has no prefix`);
      for (const text of prefixes) {
        const prefix = parsePrefix(text);
        if (prefix === undefined)
          throw new RangeError(
            `Client network "${clientNetworkId}" has the prefix ${JSON.stringify(text)}, which is none`,
          );
        (prefix.address.family === 4 ? ipv4 : ipv6).add(prefix, names.length);
      }
      names.push(clientNetworkId);
    }
    if (names.length > CLIENT_NETWORKS_MAX || ipv4.size + ipv6.size > CLIENT_PREFIXES_MAX)
      throw new RangeError(
        `${names.length} client networks with ${ipv4.size + ipv6.size} prefixes are more than ${CLIENT_NETWORKS_MAX} with ${CLIENT_PREFIXES_MAX}`,
      );
    if (new Set(names).size < names.length)
      throw new RangeError(`The client network "${twice(names)}" occurs more than once`);
    const order = new NetworkOrder(names.length);
    const sorted4 = ipv4.sorted(order);
    const sorted6 = ipv6.sorted(order);
    return new ClientNetworkTable(
      Array.from(order.given, (index) => names[index] as ClientNetworkId),
      sorted4,
      sorted6,
    );
  }

  get size(): number {
    return this.ids.length;
  }
  get prefixCount(): number {
    return this.ipv4.lengths.length + this.ipv6.lengths.length;
  }
  /** Bytes of the arrays; names not counted. */
  get byteLength(): number {
    return [this.ipv4, this.ipv6].reduce(
      (sum, { words, lengths, values }) => sum + words.byteLength + lengths.byteLength + values.byteLength,
      (this.#offsets?.byteLength ?? 0) + (this.#prefixes?.byteLength ?? 0),
    );
  }

  idOf(network: number): ClientNetworkId {
    const name = this.ids[network];
    if (name === undefined) throw new RangeError(`There is no client network ${network} of ${this.size}`);
    return name;
  }

  /** The number of a network; undefined if there is none of that name. The first call builds an index of the names. */
  indexOf(clientNetworkId: ClientNetworkId): number | undefined {
    this.#numbers ??= new Map(this.ids.map((name, number) => [name, number]));
    return this.#numbers.get(clientNetworkId);
  }

  /** Canonical texts, lowest first. The first call builds an index of the prefixes by network. */
  prefixesOf(network: number): string[] {
    if (this.#offsets === undefined || this.#prefixes === undefined) this.#indexPrefixes();
    const texts: string[] = [];
    const end = this.#offsets?.[network + 1] ?? 0;
    for (let at = this.#offsets?.[network] ?? 0; at < end; at++)
      texts.push(formatPrefix(this.#prefixAt(this.#prefixes?.[at] as number)));
    return texts;
  }

  #prefixAt(place: number): IpPrefix {
    const isIpv4 = place < this.ipv4.lengths.length;
    const columns = isIpv4 ? this.ipv4 : this.ipv6;
    const at = isIpv4 ? place : place - this.ipv4.lengths.length;
    const wordCount = isIpv4 ? 1 : 4;
    const words = Array.from(columns.words.subarray(at * wordCount, (at + 1) * wordCount));
    return {
      address: { family: isIpv4 ? 4 : 6, words },
      prefixLength: columns.lengths[at] as number,
    };
  }

  #indexPrefixes(): void {
    const offsets = new Uint32Array(this.size + 2);
    const families = [this.ipv4.values, this.ipv6.values];
    for (const values of families) for (const network of values) (offsets[network + 2] as number)++;
    for (let network = 2; network < offsets.length; network++)
      (offsets[network] as number) += offsets[network - 1] as number;
    const prefixes = new Uint32Array(this.prefixCount);
    let place = 0;
    for (const values of families)
      for (const network of values) {
        const at = offsets[network + 1] as number;
        prefixes[at] = place++;
        offsets[network + 1] = at + 1;
      }
    this.#offsets = offsets;
    this.#prefixes = prefixes;
  }
}

function twice<T>(values: readonly T[]): T | undefined {
  const seen = new Set<T>();
  return values.find((value) => seen.size === seen.add(value).size);
}

/** Networks in the order in which the sorted prefixes name them first. */
class NetworkOrder {
  /** Place in the order by given number; 0xffffffff: not named yet. */
  readonly #places: Uint32Array;
  /** Given numbers in order. */
  readonly given: Uint32Array;
  #count = 0;

  constructor(size: number) {
    this.#places = new Uint32Array(size).fill(0xffff_ffff);
    this.given = new Uint32Array(size);
  }

  placeOf(given: number): number {
    const place = this.#places[given] as number;
    if (place !== 0xffff_ffff) return place;
    this.given[this.#count] = given;
    this.#places[given] = this.#count;
    return this.#count++;
  }
}

/** Prefixes of a family as they come. */
class Columns {
  readonly #family: IpFamily;
  readonly #words: number[] = [];
  readonly #lengths: number[] = [];
  readonly #owners: number[] = [];

  constructor(family: IpFamily) {
    this.#family = family;
  }

  get size(): number {
    return this.#lengths.length;
  }

  add(prefix: IpPrefix, owner: number): void {
    for (const word of prefix.address.words) this.#words.push(word);
    this.#lengths.push(prefix.prefixLength);
    this.#owners.push(owner);
  }

  sorted(order: NetworkOrder): PrefixColumns {
    const wordCount = addressBits(this.#family) / 32;
    const words = Uint32Array.from(this.#words);
    const lengths = Uint8Array.from(this.#lengths);
    const compare = (a: number, b: number): number => {
      for (let index = 0; index < wordCount; index++) {
        const difference =
          (words[a * wordCount + index] as number) - (words[b * wordCount + index] as number);
        if (difference !== 0) return difference;
      }
      return (lengths[a] as number) - (lengths[b] as number);
    };
    const places = Uint32Array.from(lengths.keys());
    if (!isAscending(places, compare)) places.sort(compare);
    const columns = {
      words: new Uint32Array(words.length),
      lengths: new Uint8Array(lengths.length),
      values: new Uint32Array(lengths.length),
    };
    for (const [to, from] of places.entries()) {
      for (let index = 0; index < wordCount; index++)
        columns.words[to * wordCount + index] = words[from * wordCount + index] as number;
      columns.lengths[to] = lengths[from] as number;
      columns.values[to] = order.placeOf(this.#owners[from] as number);
      if (to > 0 && compare(places[to - 1] as number, from) === 0) {
        const address = {
          family: this.#family,
          words: this.#words.slice(from * wordCount, (from + 1) * wordCount),
        };
        const prefix = formatPrefix({ address, prefixLength: lengths[from] as number });
        throw new RangeError(`Prefix ${prefix} belongs to more than one client network, or to one twice`);
      }
    }
    return columns;
  }
}

function isAscending(places: Uint32Array, compare: (a: number, b: number) => number): boolean {
  for (let at = 1; at < places.length; at++) if (compare(at - 1, at) > 0) return false;
  return true;
}

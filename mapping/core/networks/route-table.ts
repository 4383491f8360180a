/**
 * Routes of BGP tables, brought to what client networks are cut by: which prefixes are announced, by whom, and which of them are routed alike.
 * Prefixes that every collector's peer reaches over the same path are one policy atom (Afek, Ben-Shalom, Bremler-Barr, "On the structure
 * and application of BGP policy atoms", IMW 2002): whoever measures one of them has measured all.
 */
import { xxh32 } from "#kit";
import type { BgpRoute, BgpSink } from "../measurements/bgp.ts";
import { ReadTally } from "../measurements/tally.ts";
import { CELL_PREFIX_LENGTH, cellCount, cellOf, prefixTextOf } from "./cells.ts";
import { type CellRuns, flattenPrefixes } from "./cell-runs.ts";
import { grown } from "./columns.ts";

/**
 * `too-long`: finer than a cell; `too-wide`: a default route or a mistake, nobody was given so much (IANA gave out /8 and, of IPv6, /12);
 * `full`: the table has as many prefixes as it takes.
 */
export type RouteSkipReason = "too-long" | "too-wide" | "full";

/** Full tables had 1,000,000 prefixes of IPv4 and 220,000 of IPv6 in 2025. */
const PREFIXES_MAX = 8_000_000;
const PREFIX_LENGTH_MIN = { 4: 8, 6: 12 } as const;
/** Of the widest prefix, in cells. */
const CELLS_MAX = 2 ** (CELL_PREFIX_LENGTH[6] - PREFIX_LENGTH_MIN[6]);
const FIRST_CAPACITY = 1_024;

/** What a prefix's routes have in common. */
export interface RouteClass {
  /** Of the most routes; ties: the lowest. */
  readonly originAs: number;
  /** Of the paths of all peers: equal for prefixes of one atom. */
  readonly signature: number;
}

/** Bounded; the order in which routes come in does not matter. */
export class RouteTable implements BgpSink {
  readonly tally = new ReadTally<RouteSkipReason>();
  /** By cell and size in one number: odd times a power of two, unique for each prefix. */
  readonly #indexOf = new Map<number, number>();
  #firsts = new Float64Array(FIRST_CAPACITY);
  #sizes = new Float64Array(FIRST_CAPACITY);
  #origins = new Uint32Array(FIRST_CAPACITY);
  #signatures = new Uint32Array(FIRST_CAPACITY);
  /** Routes by origin, of the few prefixes that several announce. */
  readonly #manyOrigins = new Map<number, Map<number, number>>();
  #routes = new Uint32Array(FIRST_CAPACITY);
  #count = 0;

  get prefixCount(): number {
    return this.#count;
  }

  route({ prefix, originAs, asPath, peerAs, peerAddress }: BgpRoute): void {
    const { family } = prefix.address;
    const isTooLong = prefix.prefixLength > CELL_PREFIX_LENGTH[family];
    if (isTooLong || prefix.prefixLength < PREFIX_LENGTH_MIN[family]) {
      this.tally.skip(
        isTooLong ? "too-long" : "too-wide",
        "routes",
        `a prefix of ${prefix.prefixLength} bits`,
      );
      return;
    }
    const first = cellOf(prefix.address);
    const size = cellCount(prefix);
    const origin = originAs.length === 0 ? peerAs : originAs.reduce((a, b) => Math.min(a, b));
    let index = this.#indexOf.get(2 * first + size);
    if (index === undefined) {
      if (this.#count >= PREFIXES_MAX) {
        this.tally.skip("full", "routes", `${PREFIXES_MAX} prefixes are held already`);
        return;
      }
      if (this.#count === this.#firsts.length) this.#grow();
      index = this.#count++;
      this.#indexOf.set(2 * first + size, index);
      this.#firsts[index] = first;
      this.#sizes[index] = size;
      this.#origins[index] = origin;
    }
    this.tally.take();
    this.#noteOrigin(index, origin);
    (this.#routes[index] as number)++;
    // A sum, so that the order of peers does not matter.
    (this.#signatures[index] as number) += xxh32(`${peerAddress} ${asPath.join(" ")}`);
  }

  /** The announced space, each cell by the longest prefix that holds it; values are numbers of `classes`. */
  build(): { readonly runs: CellRuns; readonly classes: readonly RouteClass[] } {
    const classes: RouteClass[] = [];
    const numberOf = new Map<string, number>();
    const values = new Int32Array(this.#count);
    for (let index = 0; index < this.#count; index++) {
      const originAs = this.#originOf(index);
      const signature = this.#signatures[index] as number;
      const key = `${originAs} ${signature}`;
      let number = numberOf.get(key);
      if (number === undefined) {
        number = classes.push({ originAs, signature }) - 1;
        numberOf.set(key, number);
      }
      values[index] = number;
    }
    const count = this.#count;
    return {
      runs: flattenPrefixes(this.#firsts.subarray(0, count), this.#sizes.subarray(0, count), values),
      classes,
    };
  }

  /** The longest announced prefix that holds the cell, canonical; undefined: none does. */
  prefixOf(cell: number): string | undefined {
    for (let size = 1; size <= CELLS_MAX; size *= 2) {
      const first = cell - (cell % size);
      if (this.#indexOf.has(2 * first + size)) return prefixTextOf(first, size);
    }
    return undefined;
  }

  #noteOrigin(index: number, origin: number): void {
    let counts = this.#manyOrigins.get(index);
    if (counts === undefined) {
      if (this.#origins[index] === origin) return;
      counts = new Map([[this.#origins[index] as number, this.#routes[index] as number]]);
      this.#manyOrigins.set(index, counts);
    }
    counts.set(origin, (counts.get(origin) ?? 0) + 1);
  }

  #originOf(index: number): number {
    let best = this.#origins[index] as number;
    let most = 0;
    for (const [origin, routes] of this.#manyOrigins.get(index) ?? [])
      if (routes > most || (routes === most && origin < best)) {
        best = origin;
        most = routes;
      }
    return best;
  }

  #grow(): void {
    const capacity = this.#firsts.length * 2;
    this.#firsts = grown(this.#firsts, capacity);
    this.#sizes = grown(this.#sizes, capacity);
    this.#origins = grown(this.#origins, capacity);
    this.#signatures = grown(this.#signatures, capacity);
    this.#routes = grown(this.#routes, capacity);
  }
}

/**
 * A drawn world of client blocks, of the size that Akamai has published (3.76 million /24 blocks with clients; Chen, Sitaraman, Torres, SIGCOMM 2015):
 * prefixes of origin ASes in cities, sites in the largest cities, and travel times that depend on city, AS, prefix and block. Lengths of prefixes
 * are about those of a full table; a fifth of the prefixes lies in several cities. The same seed gives the same world.
 */
import { epochMs, fibreRttMsMin, greatCircleKm, type IpPrefix, Random } from "#kit";
import {
  AddressRangeTable,
  BlockDemand,
  MeasuredBlocks,
  type Place,
  RouteTable,
  runsOfRanges,
} from "#mapping";

export interface ClientWorldOptions {
  readonly blocks: number;
  readonly sites: number;
  /** Share of the blocks of which travel times are known, to the sites that are nearest by geography. */
  readonly measuredRatio: number;
  readonly seed: number;
}

const CITIES = 1_500;
const SYSTEMS = 45_000;
const COUNTRIES = ["AA", "BB", "CC", "DD", "EE", "FF", "GG", "HH", "II", "JJ"] as const;
/** Share of prefixes by length. */
const LENGTHS = [
  [24, 0.5],
  [23, 0.1],
  [22, 0.12],
  [21, 0.08],
  [20, 0.08],
  [19, 0.06],
  [18, 0.03],
  [17, 0.015],
  [16, 0.015],
] as const;
const MANY_CITIES_RATIO = 0.2;
/** Cables are longer than great circles, and queues add. */
const STRETCH = 1.6;
const SITES_MEASURED = 8;
const FIRST_CELL = 0x01_0000;

/** A number of 0..1 that hangs on three numbers alone. */
function mixed(a: number, b: number, seed: number): number {
  let h = Math.imul(a ^ seed, 0x9e37_79b1) ^ Math.imul(b + 0x7f4a_7c15, 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b_3c6d);
  h = Math.imul(h ^ (h >>> 12), 0x297a_2d39);
  return ((h ^ (h >>> 15)) >>> 0) / 2 ** 32;
}

export class ClientWorld {
  readonly blocks: number;
  readonly sites: number;
  readonly demand: Float32Array;
  readonly prefixCount: number;
  readonly #seed: number;
  readonly #measuredRatio: number;
  readonly #cityOf: Uint16Array;
  readonly #prefixOf: Uint32Array;
  /** Of the line of /24s, ascending. */
  readonly #cells: Uint32Array;
  readonly #systemOf: Uint16Array;
  readonly #prefixes: readonly IpPrefix[];
  readonly #places: readonly Place[];
  /** City by site, ms. */
  readonly #base: Float32Array;
  readonly #nearest: readonly (readonly number[])[];

  constructor({ blocks, sites, measuredRatio, seed }: ClientWorldOptions) {
    const random = new Random(seed);
    this.blocks = blocks;
    this.sites = sites;
    this.#seed = seed;
    this.#measuredRatio = measuredRatio;
    // Half of the people live in a few regions.
    const centres = Array.from(
      { length: 12 },
      () => [random.float() * 110 - 45, random.float() * 340 - 170] as const,
    );
    this.#places = Array.from({ length: CITIES }, (_, n): Place => {
      const [latitude, longitude] = centres[Math.floor(random.float() * centres.length)] ?? [0, 0];
      const isRemote = random.float() < 0.2;
      return {
        country: COUNTRIES[n % COUNTRIES.length] ?? null,
        city: `city-${n}`,
        coordinates: {
          latitude: isRemote ? random.float() * 120 - 50 : latitude + 12 * (random.float() - 0.5),
          longitude: isRemote
            ? random.float() * 360 - 180
            : Math.min(179, Math.max(-179, longitude + 20 * (random.float() - 0.5))),
        },
      };
    });
    this.#base = Float32Array.from({ length: CITIES * sites }, (_, at) => {
      const [from, to] = [
        this.#places[Math.floor(at / sites)]?.coordinates,
        this.#places[at % sites]?.coordinates,
      ];
      return from && to ? STRETCH * fibreRttMsMin(greatCircleKm(from, to)) : 0;
    });
    this.#nearest = this.#places.map((_, city) =>
      Array.from({ length: sites }, (__, site) => site)
        .sort((a, b) => (this.#base[city * sites + a] as number) - (this.#base[city * sites + b] as number))
        .slice(0, SITES_MEASURED),
    );
    const homes = Array.from({ length: SYSTEMS }, () => Math.floor(CITIES * random.float() ** 2));
    this.demand = Float32Array.from({ length: blocks }, () =>
      Math.min(500, (1 - random.float()) ** (-1 / 1.2)),
    );
    this.#cityOf = new Uint16Array(blocks);
    this.#prefixOf = new Uint32Array(blocks);
    this.#cells = new Uint32Array(blocks);
    let cell = FIRST_CELL;
    const systemOf: number[] = [];
    const prefixes: IpPrefix[] = [];
    for (let block = 0; block < blocks; ) {
      let draw = random.float();
      const [length] = LENGTHS.find(([, share]) => (draw -= share) < 0) ?? LENGTHS[0];
      const size = 2 ** (24 - length);
      const count = block + size <= blocks ? size : 1;
      // Prefixes are aligned to their size; what is left out between them is announced by nobody.
      cell = Math.ceil(cell / count) * count;
      const system = Math.floor(SYSTEMS * random.float() ** 3);
      const home = homes[system] ?? 0;
      const cities =
        random.float() < MANY_CITIES_RATIO
          ? [home, ...Array.from({ length: 3 }, () => Math.floor(CITIES * random.float() ** 2))]
          : [random.float() < 0.7 ? home : Math.floor(CITIES * random.float() ** 2)];
      for (let n = 0; n < count; n++) {
        this.#cityOf[block + n] = cities[Math.floor((n * cities.length) / count)] ?? home;
        this.#prefixOf[block + n] = prefixes.length;
        this.#cells[block + n] = cell + n;
      }
      systemOf.push(system);
      prefixes.push({
        address: { family: 4, words: [(cell * 256) >>> 0] },
        prefixLength: 24 - Math.log2(count),
      });
      block += count;
      cell += count;
    }
    if (cell > 2 ** 24)
      throw new RangeError(`${blocks} blocks and the gaps between them are more than IPv4 has`);
    this.#systemOf = Uint16Array.from(systemOf);
    this.#prefixes = prefixes;
    this.prefixCount = prefixes.length;
  }

  /** The travel time, ms: of the city, 0 to 30 ms by AS and site (peering), 0 to 12 by prefix, 0 to 4 by block. */
  rttMs(block: number, site: number): number {
    const prefix = this.#prefixOf[block] as number;
    const base = this.#base[(this.#cityOf[block] as number) * this.sites + site] as number;
    return (
      3 +
      base +
      30 * mixed(this.#systemOf[prefix] as number, site, this.#seed) ** 3 +
      12 * mixed(prefix, site, this.#seed + 1) ** 4 +
      4 * mixed(block, site, this.#seed + 2) ** 4
    );
  }

  /** The prefix that a block is announced in. */
  prefixOf(block: number): number {
    return this.#prefixOf[block] as number;
  }

  /** The number of its /24. */
  cellOf(block: number): number {
    return this.#cells[block] as number;
  }

  routes(): RouteTable {
    const table = new RouteTable();
    for (const [n, prefix] of this.#prefixes.entries()) {
      const origin = 1 + (this.#systemOf[n] as number);
      // Two upstreams for most; some prefixes go by another one.
      const via = 60_000 + Math.floor(3 * mixed(n, origin, this.#seed + 3) ** 3);
      table.route({
        prefix,
        asPath: [via, origin],
        originAs: [origin],
        peerAs: 64_500,
        peerAddress: "192.0.2.1",
        pathId: null,
        at: epochMs(0),
      });
    }
    return table;
  }

  places() {
    const table = new AddressRangeTable<Place>(({ city }) => city ?? "", this.blocks);
    const address = (cell: number, last: number) => ({
      family: 4 as const,
      words: [(cell * 256 + last) >>> 0],
    });
    for (let block = 0; block < this.blocks; ) {
      const city = this.#cityOf[block] as number;
      const first = this.cellOf(block);
      let last = first;
      while (++block < this.blocks && this.#cityOf[block] === city && this.cellOf(block) === last + 1) last++;
      table.add(address(first, 0), address(last, 255), this.#places[city] as Place);
    }
    return runsOfRanges(table);
  }

  demands(): BlockDemand {
    const demand = new BlockDemand();
    for (let block = 0; block < this.blocks; block++)
      demand.add(this.#prefixAt(block), this.demand[block] as number);
    return demand;
  }

  measured() {
    const measured = new MeasuredBlocks();
    for (let block = 0; block < this.blocks; block++) {
      if (mixed(block, 7, this.#seed + 4) >= this.#measuredRatio) continue;
      const near = this.#nearest[this.#cityOf[block] as number] ?? [];
      measured.add(
        this.#prefixAt(block),
        near.map((site) => ({ clusterId: `s${site}`, rttMs: this.rttMs(block, site) })),
      );
    }
    return measured.build();
  }

  #prefixAt(block: number): IpPrefix {
    return { address: { family: 4, words: [(this.cellOf(block) * 256) >>> 0] }, prefixLength: 24 };
  }
}

/**
 * Users with their addresses, demand and resolvers: the address space of a real BGP table, peopled by a seeded model. What is
 * measured, what is published and what is assumed stands at each constant; everything drawn follows from the seed.
 */
import { createReadStream } from "node:fs";
import { createGunzip } from "node:zlib";
import { formatPrefix, type IpPrefix, prefixContains, Random } from "#kit";
import { BgpTextReader } from "#mapping";
import type { City, Part } from "./places.ts";
import type { DelayModel } from "./delay-model.ts";

/**
 * First octets whose announcements are taken whole, so that neighbours in address space are real ones, and the part of the world
 * that the registry of each hands out to (IANA IPv4 Address Space Registry: 24 ARIN, 61 and 118 APNIC, 62 and 80 RIPE, 189 LACNIC,
 * 41 AfriNIC). Demand: shares of the world's Internet users (ITU 2015, rounded), which is an assumption about anybody's CDN.
 */
const REGIONS = [
  { octets: [24], parts: ["North America"], demandRatio: 0.2 },
  { octets: [62, 80], parts: ["Europe", "Middle East"], demandRatio: 0.25 },
  { octets: [61, 118], parts: ["Asia Pacific", "Oceania"], demandRatio: 0.38 },
  { octets: [189], parts: ["South America"], demandRatio: 0.11 },
  { octets: [41], parts: ["Africa"], demandRatio: 0.06 },
] as const satisfies readonly {
  readonly octets: readonly number[];
  readonly parts: readonly Part[];
  readonly demandRatio: number;
}[];

/** An announcement wider than this is the provider's business inside: pieces of this length stand in different cities. */
const PIECE_LENGTH = 20;
/** Finer than this resolvers do not say (RFC 7871 section 11.1). */
const SOURCE_LENGTH = 24;
/** Networks that a city is divided among. */
const SLOTS_PER_CITY = 4;
/** Cities of one provider: the square root of its pieces over this. */
const PIECES_ROOT_PER_CITY = 1.5;
/** A piece stands where the one before it does, unless... : providers number regions, not streets. */
const SAME_CITY_RATIO = 0.85;
/** Cities by size: Zipf's law (exponent 1) over a seeded order. Demand of equal pieces: lognormal, this deviation of the logarithm. */
const DEMAND_SPREAD = 1.5;
/**
 * Share of the demand behind public resolvers (8 %) and, as a check, the distances of clients to resolvers: medians of 162 miles for all and
 * 1,028 miles for those of public resolvers. Source: Chen, Sitaraman, Torres, SIGCOMM 2015, section 3.
 */
export const published = { publicRatio: 0.08, medianKm: 261, publicMedianKm: 1_654 } as const;
/**
 * Queries a second that Akamai's name servers got before and after the roll-out of end-user mapping to public resolvers: all, and those of the public resolvers alone; and the
 * share of the latter, before, by names that were asked for about once each TTL. Source: the same, section 5.2 and figure 24.
 */
export const publishedQueries = {
  before: { all: 870_000, public: 33_500 },
  after: { all: 1_170_000, public: 270_000 },
  popularRatio: 0.11,
} as const;
/**
 * Providers with several cities that keep all their resolvers in the main one; the others have one in every so many cities, and
 * their users ask the nearest. Assumed, so that the published median comes out.
 */
const CENTRAL_RATIO = 0.25;
const CITIES_PER_RESOLVER = 3;
/** Places of the public resolver; a client is routed to the nearest one with this chance, else to one of the next ones. */
const PUBLIC_SITES = 24;
const PUBLIC_NEAREST_RATIO = 0.35;
const PUBLIC_NEXT = 5;
/** Access of the users of a network, round trip, ms: median, and deviation of the logarithm. The same wherever they are sent. */
const ACCESS_MS = 5;
const ACCESS_SPREAD = 0.5;

/** A network of a city: what is measured and mapped as one. */
export interface Place {
  readonly city: number;
  readonly slot: number;
  readonly accessMs: number;
}

/** A prefix whose users are all in one place and use one pair of resolvers. */
export interface Piece {
  readonly prefix: IpPrefix;
  readonly place: number;
  /** AS number. */
  readonly provider: number;
  readonly demand: number;
  /** The provider's resolver, and the public one, as indexes into `resolvers`. */
  readonly resolver: number;
  readonly publicResolver: number;
}

export interface Resolver {
  readonly kind: "provider" | "public";
  /** Where it stands. */
  readonly place: number;
  /** Where it asks from. */
  readonly address: IpPrefix["address"];
}

export interface UserWorld {
  readonly places: readonly Place[];
  readonly pieces: readonly Piece[];
  readonly resolvers: readonly Resolver[];
  /** Share of each piece's demand that is behind its public resolver. */
  readonly publicRatio: number;
  readonly providers: number;
}

export interface Block {
  readonly prefix: IpPrefix;
  /** The AS that announces the longest prefix around it. */
  readonly as: number;
}

/**
 * The address space under the octets of `REGIONS` by who announces it: disjoint, in order, nothing wider than a piece. Reads a
 * BGP table as `bgpdump -m` prints it, gzipped. Throws RangeError when it has nothing there.
 */
export async function readBlocks(path: string): Promise<Block[]> {
  const octets = REGIONS.flatMap((region): number[] => [...region.octets]).sort((a, b) => a - b);
  const found = new Map<string, Block>();
  const reader = new BgpTextReader({
    route: ({ prefix, originAs }) => {
      const as = originAs[0];
      if (as === undefined || prefix.address.family !== 4 || prefix.prefixLength > SOURCE_LENGTH) return;
      if (prefix.prefixLength < 8 || !octets.includes((prefix.address.words[0] as number) >>> 24)) return;
      found.set(formatPrefix(prefix), { prefix, as });
    },
  });
  for await (const chunk of createReadStream(path).pipe(createGunzip())) reader.read(chunk as Uint8Array);
  reader.end();
  const sorted = [...found.values()].sort(
    (a, b) => wordOf(a) - wordOf(b) || a.prefix.prefixLength - b.prefix.prefixLength,
  );
  const blocks: Block[] = [];
  for (const octet of octets) {
    const all: IpPrefix = { address: { family: 4, words: [(octet << 24) >>> 0] }, prefixLength: 8 };
    cutDisjoint(
      all,
      undefined,
      sorted.filter(({ prefix }) => prefixContains(all, prefix.address)),
      blocks,
    );
  }
  if (blocks.length === 0) throw new RangeError(`${path} has no route under ${octets.join(", ")}.0.0.0/8`);
  return blocks;
}

/** @param inside announcements within `prefix`, sorted, the prefix itself first if it is announced */
function cutDisjoint(
  prefix: IpPrefix,
  as: number | undefined,
  inside: readonly Block[],
  blocks: Block[],
): void {
  const [first] = inside;
  if (first?.prefix.prefixLength === prefix.prefixLength) {
    cutDisjoint(prefix, first.as, inside.slice(1), blocks);
    return;
  }
  if (first === undefined && as === undefined) return;
  if (first === undefined && as !== undefined && prefix.prefixLength >= PIECE_LENGTH) {
    blocks.push({ prefix, as });
    return;
  }
  const prefixLength = prefix.prefixLength + 1;
  const word = prefix.address.words[0] as number;
  for (const start of [word, (word + 2 ** (32 - prefixLength)) >>> 0]) {
    const half: IpPrefix = { address: { family: 4, words: [start] }, prefixLength };
    cutDisjoint(
      half,
      as,
      inside.filter((one) => prefixContains(half, one.prefix.address)),
      blocks,
    );
  }
}

export function peopleWorld(
  blocks: readonly Block[],
  cities: readonly City[],
  delays: DelayModel,
  seed: number,
): UserWorld {
  const random = new Random(seed).split("users");
  const weights = cityWeights(cities, random.split("cities"));
  const access = random.split("access");
  const places = cities.flatMap((_, city) =>
    Array.from(
      { length: SLOTS_PER_CITY },
      (_slot, slot): Place => ({
        city,
        slot,
        accessMs: ACCESS_MS * Math.exp(access.normal(0, ACCESS_SPREAD)),
      }),
    ),
  );
  const publicSites = publicPlaces(cities, weights);
  const resolvers: Resolver[] = publicSites.map((place, n) => ({
    kind: "public",
    place,
    // TEST-NET-1 and -2 (RFC 5737) are in no table: one /24 a place would not fit, one /27 does.
    address: {
      family: 4,
      words: [((n < 8 ? 0xc000_0200 : n < 16 ? 0xc633_6400 : 0xcb00_7100) + (n % 8) * 32) >>> 0],
    },
  }));
  const pieces: Piece[] = [];
  const byProvider = Map.groupBy(blocks, ({ as }) => as);
  for (const [as, own] of [...byProvider].sort(([a], [b]) => a - b)) {
    const provider = random.split(`as/${as}`);
    const octet = ((own[0] as Block).prefix.address.words[0] as number) >>> 24;
    const region = REGIONS.findIndex(({ octets }) => (octets as readonly number[]).includes(octet));
    const parts: readonly Part[] = REGIONS[region]?.parts ?? [];
    const spanned = spannedCities(cities, weights, parts, own.length, provider);
    let at = 0;
    const homes = spanned.map((city) => city * SLOTS_PER_CITY + provider.int(SLOTS_PER_CITY));
    const isCentral = provider.chance(CENTRAL_RATIO);
    const hubs = homes.slice(0, isCentral ? 1 : Math.ceil(homes.length / CITIES_PER_RESOLVER));
    const hubOf = homes.map((home) => nearestOf(hubs, home, places, delays));
    const publicOf = homes.map((home) => routed(publicSites, places, home, delays, provider));
    const resolverOf = new Map<number, number>();
    const standing = own.map((_, n) => {
      // The first pieces are at the main places, so that each resolver has an address where it stands.
      at = n < hubs.length ? n : provider.chance(SAME_CITY_RATIO) ? at : provider.int(homes.length);
      return at;
    });
    for (const [hub, place] of hubs.entries()) {
      const block = own[standing.indexOf(hub)];
      if (block === undefined) continue;
      resolverOf.set(hub, resolvers.length);
      resolvers.push({
        kind: "provider",
        place,
        address: { family: 4, words: [(wordOf(block) | 53) >>> 0] },
      });
    }
    for (const [n, { prefix }] of own.entries()) {
      const home = standing[n] as number;
      pieces.push({
        prefix,
        place: homes[home] as number,
        provider: as,
        demand: 2 ** (SOURCE_LENGTH - prefix.prefixLength) * Math.exp(provider.normal(0, DEMAND_SPREAD)),
        resolver: resolverOf.get(hubOf[home] as number) ?? (resolverOf.get(0) as number),
        publicResolver: publicOf[home] as number,
      });
    }
  }
  return {
    places,
    pieces: scaled(pieces),
    resolvers,
    publicRatio: published.publicRatio,
    providers: byProvider.size,
  };
}

/** Demand sums to 1 in all, and to its share in each region. */
function scaled(pieces: readonly Piece[]): Piece[] {
  const regionOf = ({ prefix }: Piece): number =>
    REGIONS.findIndex(({ octets }) =>
      (octets as readonly number[]).includes((prefix.address.words[0] as number) >>> 24),
    );
  const sums = REGIONS.map(() => 0);
  for (const piece of pieces) sums[regionOf(piece)] = (sums[regionOf(piece)] as number) + piece.demand;
  const present = REGIONS.reduce(
    (sum, { demandRatio }, n) => sum + ((sums[n] as number) > 0 ? demandRatio : 0),
    0,
  );
  return pieces.map((piece) => {
    const region = regionOf(piece);
    const share = (REGIONS[region]?.demandRatio ?? 0) / present;
    return { ...piece, demand: (piece.demand / (sums[region] as number)) * share };
  });
}

function cityWeights(cities: readonly City[], random: Random): Float64Array {
  const weights = new Float64Array(cities.length);
  // Large CDNs are in the large cities, and those are what was measured: they come first in the order, seeded among themselves.
  const order = [...random.shuffle([...cities.keys()])].sort(
    (a, b) => Number(cities[a]?.measured === null) - Number(cities[b]?.measured === null),
  );
  for (const [rank, city] of order.entries()) weights[city] = 1 / (rank + 1);
  return weights;
}

/** The cities of one provider, the main one first: drawn by weight among those of its part of the world, each once. */
function spannedCities(
  cities: readonly City[],
  weights: Float64Array,
  parts: readonly Part[],
  pieces: number,
  random: Random,
): number[] {
  const candidates = [...cities.keys()].filter((city) => parts.includes((cities[city] as City).part));
  const count = Math.min(
    candidates.length,
    Math.max(1, Math.round(Math.sqrt(pieces) / PIECES_ROOT_PER_CITY)),
  );
  // Efraimidis and Spirakis (2006): the largest u^(1/w) are a weighted sample without replacement.
  return candidates
    .map((city) => ({ city, key: Math.log(random.float() || Number.MIN_VALUE) / (weights[city] as number) }))
    .sort((a, b) => b.key - a.key)
    .slice(0, count)
    .map(({ city }) => city);
}

/** The heaviest cities of each part of the world in turn. */
function publicPlaces(cities: readonly City[], weights: Float64Array): number[] {
  const byPart = Map.groupBy([...cities.keys()], (city) => (cities[city] as City).part);
  const queues = [...byPart.values()].map((part) =>
    part.toSorted((a, b) => (weights[b] as number) - (weights[a] as number)),
  );
  const chosen: number[] = [];
  const count = Math.min(PUBLIC_SITES, cities.length);
  for (let rank = 0; chosen.length < count; rank++)
    for (const queue of queues) {
      const city = queue[rank];
      if (city !== undefined && chosen.length < count) chosen.push(city * SLOTS_PER_CITY);
    }
  return chosen;
}

/** The index of the hub with the shortest way. */
function nearestOf(
  hubs: readonly number[],
  home: number,
  places: readonly Place[],
  delays: DelayModel,
): number {
  const rttMs = (hub: number): number => delays.rttMs(places[home] as Place, places[hub] as Place);
  let best = 0;
  for (const [n, hub] of hubs.entries()) if (rttMs(hub) < rttMs(hubs[best] as number)) best = n;
  return best;
}

/** Which place of the public resolver anycast brings a network to: mostly a near one, seldom the nearest. */
function routed(
  sites: readonly number[],
  places: readonly Place[],
  home: number,
  delays: DelayModel,
  random: Random,
): number {
  const order = sites
    .map((place, n) => ({ n, rttMs: delays.rttMs(places[home] as Place, places[place] as Place) }))
    .sort((a, b) => a.rttMs - b.rttMs || a.n - b.n);
  return (
    order[random.chance(PUBLIC_NEAREST_RATIO) ? 0 : random.int(Math.min(PUBLIC_NEXT, order.length))] as {
      n: number;
    }
  ).n;
}

function wordOf({ prefix }: Block): number {
  return prefix.address.words[0] as number;
}

/**
 * A map reduced to what decides answers: runs of neighbouring addresses whose client networks rank the clusters alike. Built
 * once for a map and a traffic class; liveness does not enter, so a death costs no walk over the map.
 */
import {
  addressBits,
  type ClientNetworkEntry,
  type IpAddress,
  type IpFamily,
  parseAddress,
  type RankedCluster,
  type ResolverEntry,
  type TrafficClass,
} from "#kit";
import type { MapIndex } from "../map-index.ts";

/** The runs of one family: run i reaches from its first address to the one before run i+1; run 0 begins the family. */
export interface FamilyRuns {
  readonly wordCount: 1 | 4;
  /** First addresses, `wordCount` words each, ascending. */
  readonly starts: Uint32Array;
  /** Index into {@link RankingRuns.rankings}. */
  readonly rankingOf: Uint32Array;
}

/** Resolvers that the map knows by their address, ascending. */
export interface FamilyResolvers {
  /** `wordCount` words each, as in the runs. */
  readonly words: Uint32Array;
  readonly rankingOf: Uint32Array;
}

/** Number of the ranking of addresses that no client network holds. */
const NO_NETWORK = 0;

export class RankingRuns {
  /** Distinct rankings, each by a client network or resolver that has it; undefined: no client network, the fallback's order. */
  readonly rankings: readonly (ClientNetworkEntry | ResolverEntry | undefined)[];
  readonly #runs: Readonly<Record<IpFamily, FamilyRuns>>;
  readonly #resolvers: Readonly<Record<IpFamily, FamilyResolvers>>;

  /** @param map null: there is none, one run without a client network */
  constructor(map: MapIndex | null, trafficClass: TrafficClass) {
    const rankings: (ClientNetworkEntry | ResolverEntry | undefined)[] = [undefined];
    const byOrder = new Map<string, number>();
    const resolverOrders = new Map<string, number>();
    const byNetwork = new Map<ClientNetworkEntry, number>();
    const numberOf = (network: ClientNetworkEntry | undefined): number => {
      if (network === undefined) return NO_NETWORK;
      let number = byNetwork.get(network);
      if (number === undefined) {
        number = numbered(byOrder, network);
        byNetwork.set(network, number);
      }
      return number;
    };
    const numbered = (orders: Map<string, number>, entry: ClientNetworkEntry | ResolverEntry): number => {
      const order = orderText(entry.clusters[trafficClass]);
      const known = orders.get(order);
      if (known !== undefined) return known;
      orders.set(order, rankings.length);
      return rankings.push(entry) - 1;
    };
    this.#runs = { 4: runsOf(map, 4, numberOf), 6: runsOf(map, 6, numberOf) };
    const resolvers = map?.snapshot.resolvers ?? [];
    // Apart from client networks of the same order: the answer's reason is another.
    const resolverNumber = (entry: ResolverEntry): number => numbered(resolverOrders, entry);
    this.#resolvers = {
      4: resolversOf(resolvers, 4, resolverNumber),
      6: resolversOf(resolvers, 6, resolverNumber),
    };
    this.rankings = rankings;
  }

  runs(family: IpFamily): FamilyRuns {
    return this.#runs[family];
  }

  resolvers(family: IpFamily): FamilyResolvers {
    return this.#resolvers[family];
  }
}

/** Ids of clusters hold no space. */
function orderText(ranking: readonly RankedCluster[]): string {
  let text = "";
  for (const { clusterId } of ranking) text += `${clusterId} `;
  return text;
}

function resolversOf(
  resolvers: readonly ResolverEntry[],
  family: IpFamily,
  numberOf: (resolver: ResolverEntry) => number,
): FamilyResolvers {
  const entries = resolvers.flatMap((resolver) => {
    const address = parseAddress(resolver.address);
    return address?.family === family ? [{ address, number: numberOf(resolver) }] : [];
  });
  const difference = (a: readonly number[], b: readonly number[]): number => {
    const index = a.findIndex((word, n) => word !== b[n]);
    return index < 0 ? 0 : (a[index] as number) - (b[index] as number);
  };
  entries.sort((a, b) => difference(a.address.words, b.address.words));
  return {
    words: Uint32Array.from(entries.flatMap(({ address }) => address.words)),
    rankingOf: Uint32Array.from(entries, ({ number }) => number),
  };
}

/** Walks the family from block to block: each block is the widest prefix of one ranking around its first address. */
function runsOf(
  map: MapIndex | null,
  family: IpFamily,
  numberOf: (network: ClientNetworkEntry | undefined) => number,
): FamilyRuns {
  const wordCount = family === 4 ? 1 : 4;
  const bits = addressBits(family);
  if (map === null) {
    return { wordCount, starts: new Uint32Array(wordCount), rankingOf: Uint32Array.of(NO_NETWORK) };
  }
  const starts: number[] = [];
  const rankingOf: number[] = [];
  const words: number[] = Array.from({ length: wordCount }, () => 0);
  const address: IpAddress = { family, words };
  const same = (a: ClientNetworkEntry | undefined, b: ClientNetworkEntry | undefined): boolean =>
    numberOf(a) === numberOf(b);
  for (;;) {
    const { value, scopePrefixLength } = map.lookupScope(address, same);
    const ranking = numberOf(value);
    if (rankingOf.at(-1) !== ranking) {
      for (const word of words) starts.push(word);
      rankingOf.push(ranking);
    }
    if (!advance(words, scopePrefixLength, bits)) break;
  }
  return { wordCount, starts: Uint32Array.from(starts), rankingOf: Uint32Array.from(rankingOf) };
}

/** Moves `words` to the first address behind its block of this prefix length; false when the family ends there. */
function advance(words: number[], prefixLength: number, bits: number): boolean {
  if (prefixLength === 0) return false;
  let index = (prefixLength - 1) >>> 5;
  let step = 2 ** (31 - ((prefixLength - 1) & 31));
  for (let after = index + 1; after < bits / 32; after++) words[after] = 0;
  for (; index >= 0; index--) {
    const sum = (words[index] as number) + step;
    words[index] = sum >>> 0;
    if (sum <= 0xffff_ffff) return true;
    step = 1; // Carry into the word before.
  }
  return false;
}

/** One for each map and class, for as long as the map is referenced. */
const kept = new WeakMap<MapIndex, Map<TrafficClass, RankingRuns>>();
const withoutMap = new RankingRuns(null, "interactive");

export function rankingRunsOf(map: MapIndex | null, trafficClass: TrafficClass): RankingRuns {
  if (map === null) return withoutMap;
  let byClass = kept.get(map);
  if (byClass === undefined) {
    byClass = new Map();
    kept.set(map, byClass);
  }
  let runs = byClass.get(trafficClass);
  if (runs === undefined) {
    runs = new RankingRuns(map, trafficClass);
    byClass.set(trafficClass, runs);
  }
  return runs;
}

/**
 * A map reduced to what decides answers: runs of neighbouring addresses whose client networks rank the clusters alike. Built
 * once for a map and a traffic class; liveness does not enter, so a death costs no walk over the map.
 */
import {
  allSteps,
  type ClusterMapTable,
  compareAddresses,
  type IpFamily,
  parseAddress,
  type ResolverEntry,
  type Steps,
  type TrafficClass,
  trafficClasses,
} from "#kit";
import { type MapIndex, NO_NETWORK } from "../map-index.ts";

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

/** Resolvers that have scopes of their own, by their address, ascending. */
export interface ScopedResolvers {
  readonly words: Uint32Array;
  /** For each of them the runs of either family; {@link UNSCOPED} where none of its scopes holds. */
  readonly runs: readonly Readonly<Record<IpFamily, FamilyRuns>>[];
}

/** Stands for a ranking where the map's own runs decide. */
export const UNSCOPED = 2 ** 32 - 1;

/** Number of the ranking of addresses that no client network holds. */
const FALLBACK = 0;
const CLUSTERS = 2 ** 16;

export class RankingRuns {
  /** Distinct rankings, each by a client network (its number in the map) or a resolver that has it; NO_NETWORK: the fallback's order. */
  readonly rankings: readonly (number | ResolverEntry)[];
  readonly #runs: Readonly<Record<IpFamily, FamilyRuns>>;
  readonly #resolvers: Readonly<Record<IpFamily, FamilyResolvers>>;
  readonly #scoped: Readonly<Record<IpFamily, ScopedResolvers>>;

  private constructor(
    map: MapIndex | null,
    trafficClass: TrafficClass,
    rankings: (number | ResolverEntry)[],
    runs: Readonly<Record<IpFamily, FamilyRuns>>,
    scoped: Readonly<Record<IpFamily, ScopedResolvers>>,
  ) {
    this.#runs = runs;
    this.#scoped = scoped;
    const resolvers = map?.snapshot.resolvers ?? [];
    const byOrder = new Map<string, number>();
    // Apart from client networks of the same order: the answer's reason is another.
    const resolverNumber = (entry: ResolverEntry): number => {
      const order = entry.clusters[trafficClass].map(({ clusterId }) => clusterId).join(" ");
      const known = byOrder.get(order);
      if (known !== undefined) return known;
      byOrder.set(order, rankings.length);
      return rankings.push(entry) - 1;
    };
    this.#resolvers = {
      4: resolversOf(resolvers, 4, resolverNumber),
      6: resolversOf(resolvers, 6, resolverNumber),
    };
    this.rankings = rankings;
  }

  /** @param map null: there is none, one run without a client network */
  static *inSteps(map: MapIndex | null, trafficClass: TrafficClass): Steps<RankingRuns> {
    const rankings: (number | ResolverEntry)[] = [NO_NETWORK];
    const numberOf = map === null ? () => FALLBACK : rankingNumbers(map.table, trafficClass, rankings);
    const runs = { 4: yield* runsOf(map, 4, numberOf), 6: yield* runsOf(map, 6, numberOf) };
    const scoped = { 4: yield* scopedOf(map, 4, numberOf), 6: yield* scopedOf(map, 6, numberOf) };
    return new RankingRuns(map, trafficClass, rankings, runs, scoped);
  }

  runs(family: IpFamily): FamilyRuns {
    return this.#runs[family];
  }

  resolvers(family: IpFamily): FamilyResolvers {
    return this.#resolvers[family];
  }

  /** By the family of the resolver's address. */
  scopedResolvers(family: IpFamily): ScopedResolvers {
    return this.#scoped[family];
  }
}

/**
 * Number of the ranking of a client network, or NO_NETWORK; new ones are added to `rankings`. Networks of one row that are sent to the same
 * place rank alike, which settles most; others may have the same order by other figures.
 */
function rankingNumbers(
  table: ClusterMapTable,
  trafficClass: TrafficClass,
  rankings: (number | ResolverEntry)[],
): (network: number) => number {
  const k = trafficClasses.indexOf(trafficClass);
  const byOrder = new Map<string, number>();
  const byRow = new Map<number, number>();
  return (network) => {
    if (network === NO_NETWORK) return FALLBACK;
    const key = table.rowOf(network) * CLUSTERS + table.firstCluster(network, k);
    let number = byRow.get(key);
    if (number === undefined) {
      const order = orderText(table, network, k);
      number = byOrder.get(order);
      if (number === undefined) {
        number = rankings.push(network) - 1;
        byOrder.set(order, number);
      }
      byRow.set(key, number);
    }
    return number;
  };
}

/** A character a cluster: their numbers are below 2^16. */
function orderText(table: ClusterMapTable, network: number, trafficClass: number): string {
  let text = "";
  const length = table.rankingLength(network, trafficClass);
  for (let place = 0; place < length; place++)
    text += String.fromCharCode(table.clusterAt(network, trafficClass, place));
  return text;
}

function resolversOf(
  resolvers: readonly ResolverEntry[],
  family: IpFamily,
  numberOf: (resolver: ResolverEntry) => number,
): FamilyResolvers {
  const entries = byAddress(resolvers, family).map(({ address, resolver }) => ({
    address,
    number: numberOf(resolver),
  }));
  return {
    words: Uint32Array.from(entries.flatMap(({ address }) => address.words)),
    rankingOf: Uint32Array.from(entries, ({ number }) => number),
  };
}

/** Those with an address of the family, ascending. */
function byAddress(resolvers: readonly ResolverEntry[], family: IpFamily) {
  return resolvers
    .flatMap((resolver) => {
      const address = parseAddress(resolver.address);
      return address?.family === family ? [{ address, resolver }] : [];
    })
    .sort((a, b) => compareAddresses(a.address, b.address));
}

function* scopedOf(
  map: MapIndex | null,
  family: IpFamily,
  numberOf: (network: number) => number,
): Steps<ScopedResolvers> {
  if (map === null) return { words: new Uint32Array(0), runs: [] };
  const scoped = byAddress(
    (map.snapshot.resolvers ?? []).filter(({ scopes }) => scopes !== undefined),
    family,
  );
  const runs: Record<IpFamily, FamilyRuns>[] = [];
  for (const { resolver } of scoped) {
    yield;
    const scopes = map.scopesOf(resolver);
    const of = function* (clients: IpFamily): Steps<FamilyRuns> {
      const { starts, values } = yield* scopes[clients].joinedInSteps((network) =>
        network === NO_NETWORK ? UNSCOPED : numberOf(network),
      );
      return { wordCount: clients === 4 ? 1 : 4, starts, rankingOf: values };
    };
    runs.push({ 4: yield* of(4), 6: yield* of(6) });
  }
  return { words: Uint32Array.from(scoped.flatMap(({ address }) => address.words)), runs };
}

function* runsOf(
  map: MapIndex | null,
  family: IpFamily,
  numberOf: (network: number) => number,
): Steps<FamilyRuns> {
  const wordCount = family === 4 ? 1 : 4;
  if (map === null)
    return { wordCount, starts: new Uint32Array(wordCount), rankingOf: Uint32Array.of(FALLBACK) };
  const { starts, values } = yield* map.runs(family, numberOf);
  return { wordCount, starts, rankingOf: values };
}

/** One for each map and class, for as long as the map is referenced. */
const kept = new WeakMap<MapIndex, Map<TrafficClass, RankingRuns>>();
const withoutMap = allSteps(RankingRuns.inSteps(null, "interactive"));

/** In steps; the same ones cost nothing afterwards. */
export function* rankingRunsInSteps(map: MapIndex | null, trafficClass: TrafficClass): Steps<RankingRuns> {
  if (map === null) return withoutMap;
  let byClass = kept.get(map);
  if (byClass === undefined) {
    byClass = new Map();
    kept.set(map, byClass);
  }
  let runs = byClass.get(trafficClass);
  if (runs === undefined) {
    runs = yield* RankingRuns.inSteps(map, trafficClass);
    byClass.set(trafficClass, runs);
  }
  return runs;
}

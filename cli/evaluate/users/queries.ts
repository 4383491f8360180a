/**
 * How many queries resolvers ask for the answers of a map. A resolver keeps an answer for its TTL and gives it to every client
 * in the answer's scope (RFC 7871 section 7.3.1); who comes next after that asks again. With arrivals of rate r (Poisson) a
 * cache entry of lifetime T is so asked for r / (1 + r T) times a second: a lifetime of T, then 1/r on the mean until the next one comes.
 */
import { formatPrefix, maskAddress } from "#kit";
import type { Answer } from "#mapping";
import { round } from "../sites.ts";
import { SOURCE_LENGTH, type UserMap } from "./user-map.ts";
import type { Piece, Resolver, UserWorld } from "./world.ts";

export interface QuerySettings {
  readonly ttlSeconds: number;
  /** Names that are asked for, with Zipf's law of this exponent. */
  readonly names: number;
  readonly zipfExponent: number;
  /** Look-ups a second that the resolvers get from all clients together, for all names. */
  readonly lookupsPerSecond: number;
}

/**
 * TTL as issued by the map's names. Popularity: Zipf-like with 0.64 to 0.83 for pages (Breslau, Cao, Fan, Phillips, Shenker, INFOCOM 1999),
 * steeper for names of sites; assumed. Look-ups: the level at which answers with the map's scopes cost about the published 8 times the
 * queries of answers without (Chen et al., SIGCOMM 2015, section 5): nothing better is known of anybody's.
 */
export const queryDefaults: QuerySettings = {
  ttlSeconds: 20,
  names: 1_000,
  zipfExponent: 0.9,
  lookupsPerSecond: 1e5,
};

/**
 * Which clients share an entry of a resolver: all; those that are sent to the same cluster (the least that end-user mapping needs,
 * whatever the addresses); those in the scope of an answer; those of one /24.
 */
export const sharings = ["resolver", "cluster", "scope", "source"] as const;
export type Sharing = (typeof sharings)[number];

/** Look-ups a second, by group of clients of the public resolver that share its entries. */
export function groupsOf(
  { pieces, publicRatio }: UserWorld,
  sharing: Sharing,
  answerTo: (piece: Piece) => Pick<Answer, "scopePrefixLength" | "clusterId">,
  lookupsPerSecond: number,
): Float64Array {
  const groups = new Map<string, number>();
  const add = (key: string, lookups: number): void => {
    groups.set(key, (groups.get(key) ?? 0) + lookups);
  };
  for (const piece of pieces) {
    const lookups = lookupsPerSecond * publicRatio * piece.demand;
    const { address, prefixLength } = piece.prefix;
    const { scopePrefixLength, clusterId } = answerTo(piece);
    if (sharing === "resolver") add(`${piece.publicResolver}`, lookups);
    else if (sharing === "cluster") add(`${piece.publicResolver} ${clusterId}`, lookups);
    else if (sharing === "scope") {
      const scope = { address: maskAddress(address, scopePrefixLength), prefixLength: scopePrefixLength };
      add(`${piece.publicResolver} ${formatPrefix(scope)}`, lookups);
    } else {
      const sources = 2 ** Math.max(0, SOURCE_LENGTH - prefixLength);
      for (let n = 0; n < sources; n++) add(`${formatPrefix(piece.prefix)} ${n}`, lookups / sources);
    }
  }
  return Float64Array.from(groups.values());
}

/** Shares of the look-ups that name 1, 2, ... has; they sum to 1. */
export function nameShares({
  names,
  zipfExponent,
}: Pick<QuerySettings, "names" | "zipfExponent">): Float64Array {
  const weights = Float64Array.from({ length: names }, (_, n) => (n + 1) ** -zipfExponent);
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}

/** Queries a second for one name of which each group looks up its share. */
export function queriesOfName(groups: Float64Array, share: number, ttlSeconds: number): number {
  let queries = 0;
  for (const lookups of groups) {
    const rate = lookups * share;
    queries += rate / (1 + rate * ttlSeconds);
  }
  return queries;
}

export interface QueryFigures {
  readonly lookupsPerSecond: number;
  readonly ttlSeconds: number;
  /** Of the public resolver, all its places, for answers that hold for everyone behind one. */
  readonly queriesPerSecond: number;
  /** Over that; `none`: every look-up is asked. */
  readonly factor: Readonly<Record<Sharing | "none", number>>;
  /** Queries of everybody's resolvers, those of providers included (which tell no client's subnet): the public resolver's share, and all over all as it tells subnets. */
  readonly ofAll: { readonly publicRatio: number; readonly factor: number };
  /** Share of the public resolver's queries, without subnets, by names of which a place asks at least `POPULAR_RATIO` of one query each TTL. */
  readonly popularRatio: number;
  /** Groups of clients that share entries. */
  readonly groups: Readonly<Record<Sharing, number>>;
  /** The factor of the map's scopes for single names, by rank of popularity. */
  readonly byName: readonly { readonly rank: number; readonly factor: number }[];
}

/** Of one query each TTL, which is the most: the top bucket of figure 24 of Chen et al., whose bounds are not given. */
const POPULAR_RATIO = 0.9;
const RANKS = [1, 3, 10, 30, 100, 300, 1_000] as const;

/** What the public resolver is answered for each prefix. */
export function publicAnswers(
  { pieces, resolvers }: UserWorld,
  map: UserMap,
): Map<Piece, Pick<Answer, "scopePrefixLength" | "clusterId">> {
  return new Map(
    pieces.map((piece) => {
      const { address } = resolvers[piece.publicResolver] as Resolver;
      const { scopePrefixLength, clusterId } = map.answer(piece.prefix.address, address);
      return [piece, { scopePrefixLength, clusterId }];
    }),
  );
}

/** Queries a second of the public resolver for all names. */
export function queriesOf(groups: Float64Array, settings: QuerySettings): number {
  return nameShares(settings).reduce(
    (sum, share) => sum + queriesOfName(groups, share, settings.ttlSeconds),
    0,
  );
}

export function evaluateQueries(world: UserWorld, map: UserMap, settings: QuerySettings): QueryFigures {
  const answers = publicAnswers(world, map);
  const shares = nameShares(settings);
  const { ttlSeconds, lookupsPerSecond } = settings;
  const groups = Object.fromEntries(
    sharings.map((sharing) => [
      sharing,
      groupsOf(world, sharing, (piece) => answers.get(piece) as Answer, lookupsPerSecond),
    ]),
  ) as Record<Sharing, Float64Array>;
  const queries = (sharing: Sharing): number => queriesOf(groups[sharing], settings);
  const base = queries("resolver");
  const ofProviders = queriesOf(providerGroups(world, lookupsPerSecond), settings);
  return {
    lookupsPerSecond,
    ttlSeconds,
    queriesPerSecond: round(base),
    factor: {
      resolver: 1,
      cluster: round(queries("cluster") / base),
      scope: round(queries("scope") / base),
      source: round(queries("source") / base),
      none: round((lookupsPerSecond * world.publicRatio) / base),
    },
    ofAll: {
      publicRatio: ratio(base, base + ofProviders),
      factor: round((queries("scope") + ofProviders) / (base + ofProviders)),
    },
    popularRatio: ratio(popularQueries(groups.resolver, shares, ttlSeconds), base),
    groups: {
      resolver: groups.resolver.length,
      cluster: groups.cluster.length,
      scope: groups.scope.length,
      source: groups.source.length,
    },
    byName: RANKS.filter((rank) => rank <= shares.length).map((rank) => {
      const share = shares[rank - 1] as number;
      const without = queriesOfName(groups.resolver, share, ttlSeconds);
      return { rank, factor: round(queriesOfName(groups.scope, share, ttlSeconds) / without) };
    }),
  };
}

/** Look-ups a second of each provider's resolver. */
function providerGroups({ pieces, publicRatio }: UserWorld, lookupsPerSecond: number): Float64Array {
  const groups = new Map<number, number>();
  for (const { resolver, demand } of pieces)
    groups.set(resolver, (groups.get(resolver) ?? 0) + lookupsPerSecond * (1 - publicRatio) * demand);
  return Float64Array.from(groups.values());
}

function popularQueries(groups: Float64Array, shares: Float64Array, ttlSeconds: number): number {
  let sum = 0;
  for (const share of shares)
    for (const lookups of groups) {
      const queries = queriesOfName(Float64Array.of(lookups), share, ttlSeconds);
      if (queries * ttlSeconds >= POPULAR_RATIO) sum += queries;
    }
  return sum;
}

function ratio(part: number, all: number): number {
  return Math.round((part / all) * 1e4) / 1e4;
}

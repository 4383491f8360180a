/** Users behind distant resolvers: what each way to decide for them costs them, and how many queries it costs us. */
import { join } from "node:path";
import { greatCircleKm, Random } from "#kit";
import { mendedPlaces } from "../place-oracle.ts";
import { readMatrix } from "../matrix.ts";
import { type FigureTable, fixed, percent } from "../table.ts";
import { DelayModel } from "./delay-model.ts";
import { type City, readCities } from "./places.ts";
import { evaluatePolicies, type PolicyFigures, policies } from "./policies.ts";
import { evaluatePrices, type PriceFigures } from "./prices.ts";
import {
  evaluateQueries,
  type QueryFigures,
  queryDefaults,
  type QuerySettings,
  sharings,
} from "./queries.ts";
import { mapUsers } from "./user-map.ts";
import { peopleWorld, type Place, published, publishedQueries, readBlocks, type UserWorld } from "./world.ts";

/** Files of the data directory that are read. */
export const resolverData = {
  matrix: "wondernetwork2018.json.gz",
  table: join("bgp", "rib-2010-07-01.txt.gz"),
} as const;

export interface ResolversOptions {
  /** How many sites, each set part of the next larger one. */
  readonly sites: readonly number[];
  readonly seed: number;
  readonly queries: Partial<QuerySettings>;
}

export interface ResolversEvaluation {
  readonly world: {
    readonly cities: number;
    readonly citiesMeasured: number;
    /** Networks of cities that have users. */
    readonly places: number;
    readonly prefixes: number;
    readonly providers: number;
    readonly resolvers: number;
    /** Demand-weighted quantiles of the distance from users to their resolvers, km; and what was published of Akamai's. */
    readonly distanceKm: Readonly<Record<"resolver" | "publicResolver", Readonly<Record<Quantile, number>>>>;
    readonly published: typeof published;
  };
  readonly policies: readonly PolicyFigures[];
  /** For three of the numbers of sites: what a price of a query spares and costs. */
  readonly prices: readonly PriceFigures[];
  readonly queries: readonly (QueryFigures & { readonly sites: number })[];
}

const QUANTILES = { p25: 0.25, p50: 0.5, p75: 0.75, p90: 0.9 } as const;
type Quantile = keyof typeof QUANTILES;

/** Levels of demand and lifetimes beside the default ones, for one number of sites: what the factor hangs on. */
const VARIATIONS: readonly Partial<QuerySettings>[] = [
  { lookupsPerSecond: 1e4 },
  { lookupsPerSecond: 1e6 },
  { ttlSeconds: 60 },
  { ttlSeconds: 300 },
];

/** Times the queries that answers by the resolver cost: the goal for answers by the user. */
const QUERIES_GOAL = 3;

export const siteCounts = [40, 80, 160, 320, 640, 1_280] as const;

/** @param onStep told what is done */
export async function evaluateResolvers(
  directory: string,
  options: ResolversOptions,
  onStep: (what: string) => void = () => {},
): Promise<ResolversEvaluation> {
  const measured = readMatrix(join(directory, resolverData.matrix));
  const matrix = { ...measured, coordinates: mendedPlaces(measured) };
  const cities = readCities(directory, matrix);
  const delays = new DelayModel(cities, matrix, options.seed);
  const world = peopleWorld(
    await readBlocks(join(directory, resolverData.table)),
    cities,
    delays,
    options.seed,
  );
  onStep(`${world.pieces.length} prefixes of ${world.providers} providers in ${cities.length} cities`);
  const order = new Random(options.seed).split("sites").shuffle([...world.places.keys()]);
  const settings = { ...queryDefaults, ...options.queries };
  const found: PolicyFigures[] = [];
  const queries: (QueryFigures & { sites: number })[] = [];
  const prices: PriceFigures[] = [];
  const priced = [0, Math.floor(options.sites.length / 2), options.sites.length - 1].map(
    (n) => options.sites[n],
  );
  for (const sites of options.sites) {
    if (sites > order.length)
      throw new RangeError(`${sites} sites are more than the world's ${order.length} places`);
    const map = mapUsers(world, cities, delays, order.slice(0, sites), options.seed);
    found.push(evaluatePolicies(world, delays, map));
    queries.push({ sites, ...evaluateQueries(world, map, settings) });
    if (sites === options.sites[Math.floor((options.sites.length - 1) / 2)])
      for (const variation of VARIATIONS)
        queries.push({ sites, ...evaluateQueries(world, map, { ...settings, ...variation }) });
    if (priced.includes(sites)) prices.push(...evaluatePrices(world, delays, map, settings));
    onStep(`${sites} sites`);
  }
  return {
    world: {
      cities: cities.length,
      citiesMeasured: cities.filter(({ measured }) => measured !== null).length,
      places: new Set(world.pieces.map(({ place }) => place)).size,
      prefixes: world.pieces.length,
      providers: world.providers,
      resolvers: world.resolvers.length,
      distanceKm: {
        resolver: distanceKm(world, cities, "resolver"),
        publicResolver: distanceKm(world, cities, "publicResolver"),
      },
      published,
    },
    policies: found,
    prices,
    queries,
  };
}

function distanceKm(
  { pieces, places, resolvers }: UserWorld,
  cities: readonly City[],
  kind: "resolver" | "publicResolver",
): Record<Quantile, number> {
  const at = (place: number) => (cities[(places[place] as Place).city] as City).coordinates;
  const sorted = pieces
    .map((piece) => ({
      km: greatCircleKm(
        at(piece.place),
        at((resolvers[piece[kind]] as UserWorld["resolvers"][number]).place),
      ),
      demand: piece.demand,
    }))
    .sort((a, b) => a.km - b.km);
  // Demand sums to 1.
  const quantile = (q: number): number => {
    let below = 0;
    return Math.round(sorted.find(({ demand }) => (below += demand) >= q)?.km ?? Number.NaN);
  };
  return { p25: quantile(0.25), p50: quantile(0.5), p75: quantile(0.75), p90: quantile(0.9) };
}

/** How far users are from their resolvers, beside what was published. */
export function distancesTable({ world }: ResolversEvaluation): FigureTable {
  const row = (name: string, kind: "resolver" | "publicResolver", median: number): string[] => [
    name,
    ...Object.keys(QUANTILES).map((q) => String(world.distanceKm[kind][q as Quantile])),
    String(median),
  ];
  return {
    head: ["km to", ...Object.keys(QUANTILES), "median published"],
    rows: [
      row("their provider's resolver", "resolver", world.published.medianKm),
      row("the public one", "publicResolver", world.published.publicMedianKm),
    ],
  };
}

export function pricesTable({ prices }: ResolversEvaluation): FigureTable {
  return {
    head: ["sites", "price of a query, ms", "x queries", "scopes", "mean, ms", "p50", "p95", "p99"],
    rows: prices.map(({ sites, queryPriceMs, factor, scopes, behindPublic: { mean, p50, p95, p99 } }) => [
      String(sites),
      String(queryPriceMs),
      fixed(factor, 2),
      String(scopes),
      ...[mean, p50, p95, p99].map((value) => fixed(value, 1)),
    ]),
  };
}

/** Mean over the factor of queries, the coarsest answers first: by resolver alone, then by falling price. */
export function priceCurve(
  { policies: all, prices }: ResolversEvaluation,
  sites: number,
): (readonly [factor: number, meanMs: number])[] {
  const byResolver = all.find((one) => one.sites === sites)?.behindPublic;
  const coarsest = Math.min(
    byResolver?.resolver.mean ?? Infinity,
    byResolver?.["client-aware"].mean ?? Infinity,
  );
  return [
    [1, coarsest] as const,
    ...prices
      .filter((one) => one.sites === sites)
      .map(({ factor, behindPublic }) => [factor, behindPublic.mean] as const),
  ].sort(([a], [b]) => a - b);
}

/** What so many times the queries buy, between the points of the curve, ms. */
export function meanAtFactor(curve: readonly (readonly [number, number])[], factor: number): number {
  const above = curve.findIndex(([x]) => x >= factor);
  const [x1, y1] = curve[Math.max(0, above)] ?? [Number.NaN, Number.NaN];
  if (above <= 0) return y1;
  const [x0, y0] = curve[above - 1] as readonly [number, number];
  return x1 === x0 ? y1 : y0 + ((y1 - y0) * (factor - x0)) / (x1 - x0);
}

/** One sentence for each number of sites that prices were tried for. */
export function pricesSentences(evaluation: ResolversEvaluation): string[] {
  return [...new Set(evaluation.prices.map(({ sites }) => sites))].map((sites) => {
    const curve = priceCurve(evaluation, sites);
    const [coarse, fine] = [curve[0], curve.at(-1)] as [readonly [number, number], readonly [number, number]];
    const at = [QUERIES_GOAL, 5].map((factor) => {
      const mean = meanAtFactor(curve, factor);
      return `${fixed(mean, 1)} ms at ${factor} x (${percent((coarse[1] - mean) / (coarse[1] - fine[1]), 0)} of the gain)`;
    });
    return `${sites} sites: ${fixed(coarse[1], 1)} ms by the resolver alone, ${at.join(", ")}, ${fixed(fine[1], 1)} ms at ${fixed(fine[0], 1)} x.`;
  });
}

/** Why end-user quality costs more than the goal allows, whatever the addresses and however well they are grouped. */
export function leastQueriesSentence({ queries }: ResolversEvaluation): string {
  const usual = queries.filter(
    (one) =>
      one.lookupsPerSecond === queryDefaults.lookupsPerSecond && one.ttlSeconds === queryDefaults.ttlSeconds,
  );
  const few = usual.filter(({ factor }) => factor.cluster <= QUERIES_GOAL);
  const least = usual.map(({ sites, factor }) => `${fixed(factor.cluster, 2)} x at ${sites}`).join(", ");
  return `The goal is the quality of answers by the user at ${QUERIES_GOAL} x the queries. A resolver must ask once a lifetime for each of our answers that its clients are to be told apart by, so the least is one entry for each cluster that they are sent to, which no grouping of addresses undercuts ("x by cluster"): ${least} sites. ${few.length === 0 ? `That is more than ${QUERIES_GOAL} x at every number of sites` : `${QUERIES_GOAL} x suffice for ${few.map(({ sites }) => sites).join(", ")} sites alone`}, at ${queryDefaults.lookupsPerSecond} look-ups a second and a TTL of ${queryDefaults.ttlSeconds} s; with fewer look-ups for a name or a shorter TTL the factor falls, since fewer entries are asked for again before they end. What ${QUERIES_GOAL} x buy of the gain stands before this.`;
}

export function policiesTable(evaluation: ResolversEvaluation, who: "all" | "behindPublic"): FigureTable {
  return {
    head: ["sites", "decided by", "mean", "p50", "p95", "p99"],
    rows: evaluation.policies.flatMap((one) =>
      policies.map((policy) => {
        const { mean, p50, p95, p99 } = one[who][policy];
        return [String(one.sites), policy, ...[mean, p50, p95, p99].map((value) => fixed(value, 1))];
      }),
    ),
  };
}

export function queriesTable({ queries }: ResolversEvaluation): FigureTable {
  return {
    head: [
      "sites",
      "look-ups/s",
      "TTL, s",
      "queries/s by resolver",
      "by scope",
      ...sharings.slice(1).map((one) => `x by ${one}`),
      "x uncached",
    ],
    rows: queries.map(({ sites, lookupsPerSecond, ttlSeconds, queriesPerSecond, factor }) => [
      String(sites),
      String(lookupsPerSecond),
      String(ttlSeconds),
      queriesPerSecond.toFixed(0),
      (queriesPerSecond * factor.scope).toFixed(0),
      ...[factor.cluster, factor.scope, factor.source, factor.none].map((one) => fixed(one, 2)),
    ]),
  };
}

/** Two denominators: the public resolver's own queries, and everybody's. Beside what was published, for the last number of sites. */
export function queriesSentence({ queries }: ResolversEvaluation): string {
  const last = queries.at(-1);
  if (last === undefined) return "";
  const { before, after, popularRatio } = publishedQueries;
  return `${last.sites} sites: as the public resolver tells its clients' subnets, its own queries grow ${fixed(last.factor.scope, 2)} x (published ${fixed(after.public / before.public, 2)}), those of all resolvers together ${fixed(last.ofAll.factor, 2)} x (published ${fixed(after.all / before.all, 2)}, ordinary growth included). Before, ${percent(last.ofAll.publicRatio)} of all queries are the public resolver's (published ${percent(before.public / before.all)}), ${percent(last.popularRatio, 0)} of these for names that a place of it asks for about once each TTL (published ${percent(popularRatio, 0)}).`;
}

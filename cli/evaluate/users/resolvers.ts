/** Users behind distant resolvers: what each way to decide for them costs them, and how many queries it costs us. */
import { join } from "node:path";
import { type ClusterId, greatCircleKm, Random } from "#kit";
import { placedSites } from "#mapping";
import { readMatrix, type RttMatrix } from "../matrix.ts";
import { type FigureTable, fixed } from "../table.ts";
import { DelayModel } from "./delay-model.ts";
import { type City, readCities } from "./places.ts";
import { evaluatePolicies, type PolicyFigures, policies, weighted } from "./policies.ts";
import {
  evaluateQueries,
  type QueryFigures,
  queryDefaults,
  type QuerySettings,
  sharings,
} from "./queries.ts";
import { mapUsers } from "./user-map.ts";
import { peopleWorld, type Place, published, readBlocks, type UserWorld } from "./world.ts";

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
    /** Demand-weighted medians of the distance from users to their resolvers, km; and what was published of Akamai's. */
    readonly medianKm: number;
    readonly publicMedianKm: number;
    readonly published: typeof published;
  };
  readonly policies: readonly PolicyFigures[];
  readonly queries: readonly (QueryFigures & { readonly sites: number })[];
}

/** Levels of demand and lifetimes beside the default ones, for one number of sites: what the factor hangs on. */
const VARIATIONS: readonly Partial<QuerySettings>[] = [
  { lookupsPerSecond: 1e4 },
  { lookupsPerSecond: 1e6 },
  { ttlSeconds: 60 },
  { ttlSeconds: 300 },
];

export const siteCounts = [40, 80, 160, 320, 640, 1_280] as const;

/** @param onStep told what is done */
export async function evaluateResolvers(
  directory: string,
  options: ResolversOptions,
  onStep: (what: string) => void = () => {},
): Promise<ResolversEvaluation> {
  const matrix = believed(readMatrix(join(directory, resolverData.matrix)));
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
  for (const sites of options.sites) {
    if (sites > order.length)
      throw new RangeError(`${sites} sites are more than the world's ${order.length} places`);
    const map = mapUsers(world, cities, delays, order.slice(0, sites), options.seed);
    found.push(evaluatePolicies(world, delays, map));
    queries.push({ sites, ...evaluateQueries(world, map, settings) });
    if (sites === options.sites[Math.floor((options.sites.length - 1) / 2)])
      for (const variation of VARIATIONS)
        queries.push({ sites, ...evaluateQueries(world, map, { ...settings, ...variation }) });
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
      medianKm: medianKm(world, cities, "resolver", 1),
      publicMedianKm: medianKm(world, cities, "publicResolver", 1),
      published,
    },
    policies: found,
    queries,
  };
}

/** The matrix with places that light does not contradict: whose label cannot be true stands where its times fit, or nowhere. */
function believed(matrix: RttMatrix): RttMatrix {
  const sites = placedSites(
    matrix.names.map((_, index) => ({
      clusterId: `city-${index}` as ClusterId,
      coordinates: matrix.coordinates?.[index] ?? null,
    })),
    (a, b) => {
      const rttMs = matrix.rttMs(Number(a.slice("city-".length)), Number(b.slice("city-".length)));
      return Number.isNaN(rttMs) ? undefined : rttMs;
    },
    [],
  );
  return { ...matrix, coordinates: sites.map(({ coordinates }) => coordinates) };
}

function medianKm(
  { pieces, places, resolvers }: UserWorld,
  cities: readonly City[],
  kind: "resolver" | "publicResolver",
  digits: number,
): number {
  const at = (place: number) => (cities[(places[place] as Place).city] as City).coordinates;
  const { p50 } = weighted(
    pieces.map((piece) => ({
      rttMs: greatCircleKm(
        at(piece.place),
        at((resolvers[piece[kind]] as UserWorld["resolvers"][number]).place),
      ),
      demand: piece.demand,
    })),
  );
  return Number(p50.toFixed(digits));
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

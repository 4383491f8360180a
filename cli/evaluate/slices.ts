/**
 * What a map is worth when it is used later than it was measured: the engine decides on one time slice of an all-pairs matrix, and
 * what its decisions cost is read from the next slices. Whoever decides never sees the slice that is paid.
 */
import { greatCircleKm, type MonotonicMs, mean, plusMs, quantile } from "#kit";
import { START } from "./deployment.ts";
import type { RttMatrix } from "./matrix.ts";
import { chooseSites, round } from "./sites.ts";
import { type FigureTable, fixed, percent } from "./table.ts";
import { MappingTrial } from "./trial.ts";

/**
 * From one slice to the next, ms. The archive states no times (the slices of PlanetLab are about half a day long); it only has to
 * be longer than the estimator remembers, so that each map rests on its own slice.
 */
const SLICE_MS = 12 * 3_600_000;
/** Of the probes of a slice so many go to the nearest sites that are known; the others look for better ones. */
const AGAIN_MAX = 3;
/** With fewer probes than sites the first maps are made while most is unknown: ages are counted from this slice on. */
const WARM_UP_SLICES = 5;
/** A user notices a page that takes this much longer a round trip. */
const WORSE_MS = 10;

export interface SlicesOptions {
  readonly sites: number;
  readonly probes: number;
  readonly seed: number;
  /** Deployments, with seeds `seed`, `seed + 1`, ...; figures are means over all of them. */
  readonly seeds: number;
}

/** A decision of one slice, paid in another. */
export interface PaidFigures {
  /** Mean cost over the mean cost of the best sites of the slice that is paid. */
  readonly meanRatio: number;
  readonly p95Ratio: number;
  /** Share of clients that pay more than 10 ms more than at their best site, 0..1. */
  readonly worse10ms: number;
}

export interface AgeFigures {
  /** Slices between the measurements and their use; 0: paid in the slice that was measured. */
  readonly slices: number;
  readonly map: PaidFigures;
  /** Each client at its best site of the slice that was measured: what a map without any error would have cost. */
  readonly perfect: PaidFigures;
}

export interface SlicesEvaluation {
  readonly clients: number;
  readonly slices: number;
  /** Ages that no two slices are apart are left out. */
  readonly ages: readonly AgeFigures[];
  /** The first slice whose map counts for the ages, from 1. */
  readonly countedFrom: number;
  /** Everyone at the nearest site by the coordinates, mean over all slices but the first; null without coordinates. */
  readonly nearest: PaidFigures | null;
  /** Share of clients that are sent elsewhere than in the slice before, mean over slices; and whose best site is another one. */
  readonly churn: { readonly map: number; readonly perfect: number };
  /** Age 1 for each slice that is paid, for a plot: slice number (from 2) and the ratios on the mean. */
  readonly bySlice: readonly { readonly slice: number; readonly map: number; readonly perfect: number }[];
}

/** Where everyone is sent in each slice, and what each client would pay where in each slice. */
interface Deployment {
  readonly sites: readonly number[];
  readonly clients: readonly number[];
  readonly map: readonly ReadonlyMap<number, number>[];
  readonly perfect: readonly ReadonlyMap<number, number>[];
}

/** Throws RangeError for fewer than two slices, or more sites than leave a client. @param onSeed told when a deployment is done */
export function evaluateSlices(
  slices: readonly RttMatrix[],
  options: SlicesOptions,
  onSeed: (seed: number) => void = () => {},
): SlicesEvaluation {
  const [first] = slices;
  if (first === undefined || slices.length < 2)
    throw new RangeError(`expected at least 2 time slices, got ${slices.length}`);
  if (options.sites >= first.size)
    throw new RangeError(`${options.sites} sites leave no client among ${first.size} places`);
  const deployments = Array.from({ length: options.seeds }, (_, n) => {
    const seed = options.seed + n;
    const deployment = deploy(slices, { ...options, seed });
    onSeed(seed);
    return deployment;
  });
  const paid = (who: "map" | "perfect", decided: number, at: number): PaidFigures =>
    meanOf(deployments.map((one) => pay(slices[at] as RttMatrix, one, one[who][decided] as Choice)));
  const from = options.probes >= options.sites || slices.length <= 2 * WARM_UP_SLICES ? 0 : WARM_UP_SLICES;
  const overSlices = (who: "map" | "perfect", age: number): PaidFigures =>
    meanOf(Array.from({ length: slices.length - from - age }, (_, n) => paid(who, from + n, from + n + age)));
  const churnOf = (who: "map" | "perfect"): number =>
    round(
      mean(
        deployments.flatMap((one) =>
          one[who].slice(1).map((choice, t) => churn(one[who][t] as Choice, choice)),
        ),
      ),
    );
  return {
    clients: deployments[0]?.clients.length ?? 0,
    slices: slices.length,
    countedFrom: from + 1,
    nearest:
      first.coordinates === null
        ? null
        : meanOf(
            deployments.flatMap((one) =>
              slices.slice(1).map((slice) => pay(slice, one, nearestByPlace(slice, one))),
            ),
          ),
    ages: slices.slice(from).map((_, age) => ({
      slices: age,
      map: overSlices("map", age),
      perfect: overSlices("perfect", age),
    })),
    churn: { map: churnOf("map"), perfect: churnOf("perfect") },
    bySlice: slices.slice(1).map((_, t) => ({
      slice: t + 2,
      map: paid("map", t, t + 1).meanRatio,
      perfect: paid("perfect", t, t + 1).meanRatio,
    })),
  };
}

type Choice = ReadonlyMap<number, number>;

/** One engine from the first slice to the last: it measures anew in each and stays where it is when nothing better shows. */
function deploy(slices: readonly RttMatrix[], { sites: count, probes, seed }: SlicesOptions): Deployment {
  const first = slices[0] as RttMatrix;
  const sites = chooseSites(first, count, seed);
  const isSite = new Set(sites);
  const clients = Array.from({ length: first.size }, (_, index) => index).filter((one) => !isSite.has(one));
  const trial = new MappingTrial({ matrix: first, sites, clients, labels: first.coordinates });
  return {
    sites,
    clients,
    map: slices.map((slice, t) => {
      const at: MonotonicMs = plusMs(START, t * SLICE_MS);
      return trial.decide(
        trial.measure(slice, { probes, again: AGAIN_MAX, seed: seed * slices.length + t }, at),
      );
    }),
    perfect: slices.map(
      (slice) => new Map(clients.map((client) => [client, bestSite(slice, client, sites)])),
    ),
  };
}

function bestSite(slice: RttMatrix, client: number, sites: readonly number[]): number {
  return sites.reduce((best, site) => (slice.rttMs(client, site) < slice.rttMs(client, best) ? site : best));
}

function pay(slice: RttMatrix, { sites, clients }: Deployment, choice: Choice): PaidFigures {
  const best = clients.map((client) => slice.rttMs(client, bestSite(slice, client, sites)));
  const paid = clients.map((client) => slice.rttMs(client, choice.get(client) as number));
  const worse = paid.filter((rttMs, n) => rttMs > (best[n] as number) + WORSE_MS).length;
  const p95 = (values: readonly number[]): number =>
    quantile(
      values.toSorted((a, b) => a - b),
      0.95,
    );
  return {
    meanRatio: mean(paid) / mean(best),
    p95Ratio: p95(paid) / p95(best),
    worse10ms: worse / clients.length,
  };
}

/** Clients and sites without a place are nowhere near. */
function nearestByPlace({ coordinates }: RttMatrix, { sites, clients }: Deployment): Choice {
  const km = (client: number, site: number): number => {
    const here = coordinates?.[client];
    const there = coordinates?.[site];
    return here && there ? greatCircleKm(here, there) : Infinity;
  };
  return new Map(
    clients.map((client) => [
      client,
      sites.reduce((best, site) => (km(client, site) < km(client, best) ? site : best)),
    ]),
  );
}

function churn(before: Choice, after: Choice): number {
  let moved = 0;
  for (const [client, site] of after) if (before.get(client) !== site) moved++;
  return moved / after.size;
}

function meanOf(figures: readonly PaidFigures[]): PaidFigures {
  const of = (name: keyof PaidFigures): number => round(mean(figures.map((one) => one[name])));
  return { meanRatio: of("meanRatio"), p95Ratio: of("p95Ratio"), worse10ms: of("worse10ms") };
}

export function slicesTable({ ages }: SlicesEvaluation): FigureTable {
  return {
    head: [
      "age of the map, slices",
      "mean",
      "p95",
      "> 10 ms worse",
      "no error: mean",
      "p95",
      "> 10 ms worse",
    ],
    rows: ages.map(({ slices, map, perfect }) => [
      String(slices),
      ...[map, perfect].flatMap((one) => [fixed(one.meanRatio), fixed(one.p95Ratio), percent(one.worse10ms)]),
    ]),
  };
}

/**
 * Address space cut into as few sets of clients as decisions allow. It begins with what is announced: prefixes of one AS in one place are one set,
 * apart by AS path where nothing else is known. A set is split where measurements of its blocks want other decisions (`GroupSplitter`), and
 * where there are more sets than the map is to hold, those that lose least are merged (`mergeToBound`). Source of the unit: Chen, Sitaraman, Torres, "End-User
 * Mapping", SIGCOMM 2015, where BGP's prefixes brought 3.76 million /24 blocks with clients to about 444,000.
 */
import type { AutonomousSystem, Place } from "../measurements/places.ts";
import type { BlockDemand, Profiles } from "./block-figures.ts";
import { mergeToBound } from "./bounded-merge.ts";
import { prefixCountOfCells } from "./cells.ts";
import { type CellRuns, CellRunsBuilder, type LayeredRuns, layRuns } from "./cell-runs.ts";
import { FineSets, type SetColumns } from "./fine-sets.ts";
import { hilbertOf, placeKey } from "./place-grid.ts";
import type { SplitSettings } from "./profile-groups.ts";
import type { RouteClass } from "./route-table.ts";
import { demandsOf, weightsOf } from "./run-demands.ts";

/** Runs whose values are numbers of `values`. */
export interface LabelledRuns<T> {
  readonly runs: CellRuns;
  readonly values: readonly T[];
}

export interface CutInput {
  /** The space that is cut: what is not announced belongs to no network, and the map's fallback answers it. */
  readonly routes: { readonly runs: CellRuns; readonly classes: readonly RouteClass[] };
  readonly places: LabelledRuns<Place> | null;
  /** Where it says something it is believed more than the origin of the route: customers of a provider are announced by that one. */
  readonly autonomousSystems: LabelledRuns<AutonomousSystem> | null;
  readonly measured: { readonly runs: CellRuns; readonly profiles: Profiles } | null;
  readonly demand: BlockDemand | null;
}

export interface CutSettings extends SplitSettings {
  /** Sets at most; only where a single one had more prefixes than it may have it is a few more. */
  readonly countMax: number;
  /** Places nearer than this, as light in fibre goes there and back, are one, ms. */
  readonly placeMs: number;
  /** Demand in all when none is told by block, requests per second; spread by size. */
  readonly demandPerSecond: number;
}

export const cutDefaults: CutSettings = {
  countMax: 444_000,
  differenceMsMax: 1,
  spillRatio: 0.1,
  placeMs: 1,
  demandPerSecond: 0,
};

/** Sets by number, in the order of their lowest cells. */
export interface NetworkSets {
  readonly count: number;
  /** Disjoint runs of cells, ascending; `values` are numbers of sets. */
  readonly runs: CellRuns;
  readonly demandPerSecond: Float64Array;
  readonly asNumbers: Uint32Array;
  /** Where most of a set is; null: unknown. */
  readonly placeOf: (set: number) => Place | null;
  /** Of the input: what lies in no announced prefix, requests per second. */
  readonly unroutedDemandPerSecond: number;
  /** Sets before the bound was kept. */
  readonly countUnbounded: number;
}

/** Prefixes that one client network may have in a map. */
const PREFIXES_MAX = 10_000;
const BOUND_TRIES_MAX = 3;
/** Deterministic whatever the order of routes, blocks and tables. Throws RangeError for settings that make no sense. */
export function cutClientNetworks(input: CutInput, some: Partial<CutSettings> = {}): NetworkSets {
  const settings: CutSettings = { ...cutDefaults, ...some };
  check(settings);
  const { classes } = input.routes;
  const places = joinedPlaces(input.places, settings.placeMs);
  const layers = layRuns(input.routes.runs, [
    places.runs,
    input.autonomousSystems?.runs ?? NO_RUNS,
    input.measured?.runs ?? NO_RUNS,
  ]);
  const { demands, unrouted } = demandsOf(layers, input.demand, settings.demandPerSecond);
  const [routeOf, placeNumbers, systems, profiles] = layers.values as [
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
  ];
  const asOf = (run: number): number =>
    (input.autonomousSystems?.values[systems[run] as number] ?? undefined)?.asNumber ??
    (classes[routeOf[run] as number] as RouteClass).originAs;
  const fine = new FineSets(input.measured?.profiles ?? NO_PROFILES, settings);
  const setOf = fine.assign(
    {
      count: layers.count,
      asNumbers: Uint32Array.from({ length: layers.count }, (_, run) => asOf(run)),
      places: placeNumbers,
      signatures: Float64Array.from(routeOf, (route) => (classes[route] as RouteClass).signature),
      profiles,
    },
    weightsOf(layers, demands),
  );
  const columns = fine.columns();
  const order = neighbourhood(columns, (place) => places.values[place]);
  const rest = { placeOf: (place: number) => places.values[place] ?? null, unrouted };
  let bound = settings.countMax;
  for (let tries = 0; ; tries++) {
    const into = mergeToBound(
      { ...columns, placeOf: (place) => places.values[place] as Place },
      order,
      bound,
      settings.spillRatio,
    );
    const sets = result(layers, demands, setOf, into, columns, rest);
    // Sets that had too many prefixes for one were cut, which made more of them than there may be.
    const excess = sets.count - settings.countMax;
    if (excess <= 0 || bound <= excess || tries >= BOUND_TRIES_MAX) return sets;
    bound -= excess;
  }
}

function check({ countMax, differenceMsMax, spillRatio, placeMs, demandPerSecond }: CutSettings): void {
  if (!(Number.isInteger(countMax) && countMax >= 1 && countMax <= 8_000_000))
    throw new RangeError(`countMax must be 1..8000000, got ${countMax}`);
  if (!(differenceMsMax >= 0 && spillRatio >= 0 && spillRatio <= 0.5))
    throw new RangeError(
      `differenceMsMax must not be negative and spillRatio be 0..0.5, got ${differenceMsMax}, ${spillRatio}`,
    );
  if (!(placeMs > 0 && placeMs <= 100 && demandPerSecond >= 0))
    throw new RangeError(
      `placeMs must be above 0 and at most 100, demandPerSecond not negative, got ${placeMs}, ${demandPerSecond}`,
    );
}

const NO_RUNS: CellRuns = new CellRunsBuilder().build();
const NO_PROFILES: Profiles = {
  offsets: new Uint32Array(1),
  sites: new Uint16Array(0),
  rttMs: new Float32Array(0),
  siteCount: 0,
};

/** Places that count as one get one number; the first in the order of addresses stands for them. */
function joinedPlaces(places: LabelledRuns<Place> | null, placeMs: number): LabelledRuns<Place> {
  if (places === null) return { runs: NO_RUNS, values: [] };
  const { runs } = places;
  const values: Place[] = [];
  const numberByKey = new Map<string, number>();
  const numberOf = new Int32Array(places.values.length).fill(-1);
  const joined = new CellRunsBuilder();
  for (let run = 0; run < runs.count; run++) {
    const original = runs.values[run] as number;
    if (numberOf[original] === -1) {
      const place = places.values[original] as Place;
      const key = placeKey(place, placeMs);
      const known = numberByKey.get(key) ?? values.push(place) - 1;
      numberByKey.set(key, known);
      numberOf[original] = known;
    }
    joined.push(runs.firsts[run] as number, runs.ends[run] as number, numberOf[original] as number);
  }
  return { runs: joined.build(), values };
}

/** An order in which like sets are side by side: by place, then by the nearest site, then by AS, then by address. */
function neighbourhood(sets: SetColumns, placeOf: (place: number) => Place | undefined): Uint32Array {
  const { count, asNumbers, places, profiles } = sets;
  const curve = new Map<number, number>();
  const position = (place: number): number => {
    let at = curve.get(place);
    if (at === undefined) {
      const coordinates = placeOf(place)?.coordinates ?? null;
      at = coordinates === null ? 2 ** 31 + place : hilbertOf(coordinates);
      curve.set(place, at);
    }
    return at;
  };
  const positions = Float64Array.from(places, position);
  const nearest = Int32Array.from({ length: count }, (_, set) => {
    const from = profiles.offsets[set] as number;
    return (profiles.offsets[set + 1] as number) > from ? (profiles.sites[from] as number) : -1;
  });
  return Uint32Array.from({ length: count }, (_, set) => set).sort(
    (a, b) =>
      (positions[a] as number) - (positions[b] as number) ||
      (nearest[a] as number) - (nearest[b] as number) ||
      (asNumbers[a] as number) - (asNumbers[b] as number) ||
      a - b,
  );
}

/** The sets that are left, by their lowest cells; one with too many prefixes is cut in the order of addresses. */
function result(
  layers: LayeredRuns,
  demands: Float64Array,
  setOf: Uint32Array,
  into: Uint32Array,
  columns: SetColumns,
  rest: { readonly placeOf: (place: number) => Place | null; readonly unrouted: number },
): NetworkSets {
  const numberOf = new Int32Array(columns.count).fill(-1);
  const prefixCounts: number[] = [];
  const heads: number[] = [];
  const builder = new CellRunsBuilder();
  const sums: number[] = [];
  for (let run = 0; run < layers.count; run++) {
    const [first, end] = [layers.firsts[run] as number, layers.ends[run] as number];
    const head = into[setOf[run] as number] as number;
    const more = prefixCountOfCells(first, end);
    let number = numberOf[head] as number;
    if (number === -1 || (prefixCounts[number] as number) + more > PREFIXES_MAX) {
      number = heads.push(head) - 1;
      numberOf[head] = number;
      prefixCounts.push(0);
      sums.push(0);
    }
    (prefixCounts[number] as number) += more;
    builder.push(first, end, number);
    (sums[number] as number) += demands[run] as number;
  }
  const chiefs = heaviestMembers(columns, into);
  return {
    count: heads.length,
    runs: builder.build(),
    demandPerSecond: Float64Array.from(sums),
    asNumbers: Uint32Array.from(heads, (head) => columns.asNumbers[chiefs[head] as number] as number),
    placeOf: (set) => rest.placeOf(columns.places[chiefs[heads[set] as number] as number] as number),
    unroutedDemandPerSecond: rest.unrouted,
    countUnbounded: columns.count,
  };
}

/** By head: the member whose AS and place stand for all. */
function heaviestMembers({ count, weights }: SetColumns, into: Uint32Array): Uint32Array {
  const chiefs = into.slice();
  for (let set = 0; set < count; set++) {
    const head = into[set] as number;
    const chief = chiefs[head] as number;
    if ((weights[set] as number) > (weights[chief] as number)) chiefs[head] = set;
  }
  return chiefs;
}

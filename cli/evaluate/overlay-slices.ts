/**
 * What relays are worth when the network moves: one chooser for each pair lives through all time slices of an archive. In each slice
 * it begins with the path and the candidates of the slice before, which may be wrong by now, and goes on probing.
 */
import { type ClusterId, type MonotonicMs, mean, plusMs, Random } from "#kit";
import { noisySample } from "#mapping";
import { clusterIdOf, START } from "./deployment.ts";
import type { RttMatrix } from "./matrix.ts";
import { bestRttMs, pathRttMs, RelayNaming } from "./overlay.ts";
import { PathWatch } from "./path-watch.ts";
import { chooseSites } from "./sites.ts";

export interface OverlaySlicesOptions {
  readonly sites: number;
  /** Relays that are probed for each pair, 1..7. */
  readonly candidates: number;
  readonly seed: number;
}

/** Means over all pairs in one slice, ms. */
export interface OverlaySlice {
  readonly direct: number;
  readonly optimal: number;
  /** The path in use at each moment of the slice. */
  readonly chosen: number;
  /** The path in use at the slice's end, in this slice: what the decision promises the next one. */
  readonly atEnd: number;
  /** The path in use at the end of the slice before, never looked at again; direct in the first slice. */
  readonly frozen: number;
}

export interface OverlaySlicesEvaluation {
  readonly pairs: number;
  readonly slices: readonly OverlaySlice[];
  /** Gain of the chosen paths in the slices from the second on, over the gain that the slices before promised, 0.. */
  readonly realised: number;
  /** The same for paths that were never measured again. */
  readonly frozenRealised: number;
  /** Gain over the possible gain, mean over the slices from the second on, 0..1. */
  readonly possible: number;
  /** Of all windows of ten slices in a row: the greatest mean of chosen over direct. Below 1: never slower on the mean. */
  readonly worstTenOverDirect: number;
  /** Share of pairs for which some window of ten slices is slower than direct by more than 1 ms on the mean, 0..1. */
  readonly pairsSlower: number;
  /** Switches for each pair and slice. */
  readonly switches: number;
}

/** Virtual length of a slice, ms: the archive states none (about half a day); what is lost at its start so counts far too much. */
const SLICE_MS = 300_000;
/** How often what is paid is read, ms. */
const STEP_MS = 1_000;
/** A new path map comes so long after the network has changed, ms: an interval of reports and one of the mapper. */
const MAP_DELAY_MS = 20_000;
const WINDOW = 10;
const SLOWER_MS = 1;

/** Throws RangeError for fewer than two slices or sites than places. @param onSlice told when a slice is done, from 1 */
export function evaluateOverlaySlices(
  slices: readonly RttMatrix[],
  options: OverlaySlicesOptions,
  onSlice: (slice: number) => void = () => {},
): OverlaySlicesEvaluation {
  const [first] = slices;
  if (first === undefined || slices.length < 2)
    throw new RangeError(`expected at least 2 time slices, got ${slices.length}`);
  if (options.sites > first.size)
    throw new RangeError(`the matrix has ${first.size} places, not enough for ${options.sites} sites`);
  const sites = chooseSites(first, options.sites, options.seed);
  const naming = new RelayNaming(first, sites, options.candidates);
  const pairs = sites.flatMap((from) =>
    sites.filter((to) => to !== from).map((to) => new Pair(from, to, options)),
  );
  const figures = slices.map((matrix, index) => {
    const at = plusMs(START, index * SLICE_MS);
    if (index === 0) naming.measure(matrix, sites, options.seed, at);
    const named = plusMs(at, MAP_DELAY_MS);
    for (const pair of pairs) pair.enter(matrix, sites, index === 0 ? naming : undefined, named);
    if (index > 0) naming.measure(matrix, sites, options.seed + index, named);
    for (const pair of pairs) pair.live(naming, plusMs(at, SLICE_MS));
    onSlice(index + 1);
    const of = (name: keyof OverlaySlice): number =>
      mean(pairs.map((pair) => pair.slices[index]?.[name] ?? Number.NaN));
    return {
      direct: of("direct"),
      optimal: of("optimal"),
      chosen: of("chosen"),
      atEnd: of("atEnd"),
      frozen: of("frozen"),
    };
  });
  const gains = (paid: (slice: OverlaySlice) => number): number =>
    mean(figures.slice(1).map((one) => one.direct - paid(one)));
  const promised = mean(figures.slice(0, -1).map((one) => one.direct - one.atEnd));
  const windows = windowsOf(figures);
  return {
    pairs: pairs.length,
    slices: figures,
    realised: gains((one) => one.chosen) / promised,
    frozenRealised: gains((one) => one.frozen) / promised,
    possible: gains((one) => one.chosen) / gains((one) => one.optimal),
    worstTenOverDirect: Math.max(...windows.map(({ chosen, direct }) => chosen / direct)),
    pairsSlower:
      pairs.filter((pair) => windowsOf(pair.slices).some(({ chosen, direct }) => chosen > direct + SLOWER_MS))
        .length / pairs.length,
    switches: mean(pairs.map((pair) => pair.switches / slices.length)),
  };
}

/** Means over every ten slices in a row, or over all where there are fewer. */
function windowsOf(slices: readonly OverlaySlice[]): { readonly chosen: number; readonly direct: number }[] {
  const length = Math.min(WINDOW, slices.length);
  return Array.from({ length: slices.length - length + 1 }, (_, from) => {
    const window = slices.slice(from, from + length);
    return { chosen: mean(window.map((one) => one.chosen)), direct: mean(window.map((one) => one.direct)) };
  });
}

/** One ordered pair with its chooser. */
class Pair {
  readonly slices: OverlaySlice[] = [];
  readonly #from: number;
  readonly #to: number;
  readonly #watch: PathWatch;
  readonly #noise: Random;
  #matrix: RttMatrix | undefined;
  #sites: readonly number[] = [];
  #now: MonotonicMs = START;
  #paidMs: number[] = [];
  #frozenMs = 0;

  constructor(from: number, to: number, options: OverlaySlicesOptions) {
    this.#from = from;
    this.#to = to;
    this.#watch = new PathWatch(options.candidates, START);
    this.#noise = new Random(options.seed).split(`pair/${from}/${to}`);
  }

  get switches(): number {
    return this.#watch.switches;
  }

  /** The network is another one; until the next map the candidates are the old ones. @param naming for the first slice alone */
  enter(
    matrix: RttMatrix,
    sites: readonly number[],
    naming: RelayNaming | undefined,
    until: MonotonicMs,
  ): void {
    this.#matrix = matrix;
    this.#sites = sites;
    this.#paidMs = [];
    this.#frozenMs = this.#over(this.#watch.via);
    if (naming) this.#watch.setRelays(naming.relaysOf(this.#from, this.#to));
    this.#pay(until);
  }

  /** The slice to its end, with the candidates of a new map. */
  live(naming: RelayNaming, until: MonotonicMs): void {
    this.#watch.setRelays(naming.relaysOf(this.#from, this.#to));
    this.#pay(until);
    const matrix = this.#matrix as RttMatrix;
    this.slices.push({
      direct: matrix.rttMs(this.#from, this.#to),
      optimal: bestRttMs(matrix, this.#from, this.#to, this.#sites),
      chosen: mean(this.#paidMs),
      atEnd: this.#over(this.#watch.via),
      frozen: this.#frozenMs,
    });
  }

  #pay(until: MonotonicMs): void {
    while (this.#now < until) {
      this.#now = plusMs(this.#now, STEP_MS);
      this.#watch.run(this.#now, (via) => noisySample(this.#over(via), 0, this.#noise));
      this.#paidMs.push(this.#over(this.#watch.via));
    }
  }

  #over(via: ClusterId | null): number {
    const relay = via === null ? undefined : this.#sites.find((site) => clusterIdOf(site) === via);
    return pathRttMs(this.#matrix as RttMatrix, this.#from, this.#to, relay);
  }
}

/**
 * As few sets as are wanted: of neighbours in an order that puts like ones side by side, those that lose least by one decision are merged first,
 * until few enough are left. What is lost is counted in requests times milliseconds, so a heavy set is merged last.
 */
import { type Coordinates, fibreRttMsMin, greatCircleKm } from "#kit";
import type { Profiles } from "./block-figures.ts";
import { lossesOf, ProfileSum, SHARED_SITES_MIN, TwoBest } from "./site-profile.ts";

/** Sets by number, column by column. */
export interface MergeInput {
  readonly count: number;
  /** Above 0. */
  readonly weights: Float64Array;
  readonly asNumbers: Uint32Array;
  /** Number of the place; -1: unknown. */
  readonly places: Int32Array;
  readonly placeOf: (place: number) => {
    readonly country: string | null;
    readonly coordinates: Coordinates | null;
  };
  /** What was measured of each set; one without has no entries. Nearest first. */
  readonly profiles: Profiles;
}

/**
 * What is to be expected where nothing was measured, ms: only an order of what to merge first, same path before same AS before same country.
 * Light in fibre says the rest.
 */
const OTHER_AS_MS = 2;
const SAME_AS_MS = 0.5;
const SAME_COUNTRY_MS = 10;
const UNKNOWN_PLACE_MS = 50;
/** Of a merged set so many sites are kept. */
export const SITES_KEPT = 8;

/**
 * The set that each is merged into; at most `countMax` are left, each named by its first member in the order of the input. `order` is the
 * neighbourhood (a permutation of the sets). Deterministic; ties by place in the order.
 */
export function mergeToBound(
  input: MergeInput,
  order: Uint32Array,
  countMax: number,
  spillRatio: number,
): Uint32Array {
  const into = Uint32Array.from({ length: input.count }, (_, n) => n);
  if (input.count <= countMax) return into;
  const merging = new Merging(input, order, spillRatio);
  for (let left = input.count; left > countMax; left--) merging.mergeCheapest();
  return merging.results();
}

const NONE = 0xffff_ffff;

class Merging {
  readonly #input: MergeInput;
  readonly #order: Uint32Array;
  readonly #spillRatio: number;
  /** By position in the order. */
  readonly #next: Uint32Array;
  readonly #before: Uint32Array;
  readonly #weights: Float64Array;
  /** The heaviest member, whose place and AS stand for all. */
  readonly #heaviest: Uint32Array;
  readonly #heaviestWeights: Float64Array;
  readonly #sites: Uint16Array;
  readonly #rttMs: Float32Array;
  readonly #siteCounts: Uint8Array;
  readonly #heap: CostHeap;
  readonly #scratch: ProfileSum;

  constructor(input: MergeInput, order: Uint32Array, spillRatio: number) {
    const { count, profiles } = input;
    this.#input = input;
    this.#order = order;
    this.#spillRatio = spillRatio;
    this.#next = Uint32Array.from({ length: count }, (_, at) => (at + 1 < count ? at + 1 : NONE));
    this.#before = Uint32Array.from({ length: count }, (_, at) => (at > 0 ? at - 1 : NONE));
    this.#weights = Float64Array.from(order, (set) => input.weights[set] as number);
    this.#heaviestWeights = this.#weights.slice();
    this.#heaviest = order.slice();
    this.#sites = new Uint16Array(count * SITES_KEPT);
    this.#rttMs = new Float32Array(count * SITES_KEPT);
    this.#siteCounts = new Uint8Array(count);
    for (let at = 0; at < count; at++) {
      const from = profiles.offsets[order[at] as number] as number;
      const kept = Math.min(SITES_KEPT, (profiles.offsets[(order[at] as number) + 1] as number) - from);
      this.#sites.set(profiles.sites.subarray(from, from + kept), at * SITES_KEPT);
      this.#rttMs.set(profiles.rttMs.subarray(from, from + kept), at * SITES_KEPT);
      this.#siteCounts[at] = kept;
    }
    this.#scratch = new ProfileSum(profiles.siteCount);
    this.#heap = new CostHeap(count);
    for (let at = 0; at + 1 < count; at++) this.#heap.set(at, this.#cost(at, at + 1));
  }

  mergeCheapest(): void {
    const at = this.#heap.lowest();
    const gone = this.#next[at] as number;
    this.#join(at, gone);
    const after = this.#next[gone] as number;
    this.#heap.remove(gone);
    this.#next[at] = after;
    if (after === NONE) this.#heap.remove(at);
    else {
      this.#before[after] = at;
      this.#heap.set(at, this.#cost(at, after));
    }
    const before = this.#before[at] as number;
    if (before !== NONE) this.#heap.set(before, this.#cost(before, at));
    this.#before[gone] = NONE;
    this.#next[gone] = NONE;
  }

  results(): Uint32Array {
    const into = new Uint32Array(this.#order.length);
    for (let at = 0; at !== NONE; at = this.#next[at] as number) {
      const end = this.#next[at] === NONE ? this.#order.length : (this.#next[at] as number);
      let name = NONE;
      for (let member = at; member < end; member++) name = Math.min(name, this.#order[member] as number);
      for (let member = at; member < end; member++) into[this.#order[member] as number] = name;
    }
    return into;
  }

  /** What merging two neighbours costs, requests times ms; above 0, so that light ones go first where nothing is lost. */
  #cost(a: number, b: number): number {
    const least = Math.min(this.#weights[a] as number, this.#weights[b] as number);
    const lost = this.#measuredLoss(a, b) ?? least * this.#expectedMs(a, b);
    return lost + least * 1e-3;
  }

  /** Requests times ms; undefined when the two have too little in common. A site that only one knows costs the other at least its last one. */
  #measuredLoss(a: number, b: number): number | undefined {
    const [wa, wb] = [this.#weights[a] as number, this.#weights[b] as number];
    const [own, other, joint] = [new TwoBest(), new TwoBest(), new TwoBest()];
    const offer = (ownMs: number, otherMs: number): void => {
      own.offer(ownMs, ownMs, otherMs);
      other.offer(otherMs, ownMs, otherMs);
      joint.offer(wa * ownMs + wb * otherMs, ownMs, otherMs);
    };
    const [aFrom, bFrom] = [a * SITES_KEPT, b * SITES_KEPT];
    const [aEnd, bEnd] = [aFrom + (this.#siteCounts[a] as number), bFrom + (this.#siteCounts[b] as number)];
    let shared = 0;
    for (let at = aFrom; at < aEnd; at++) {
      const match = this.#find(this.#sites[at] as number, bFrom, bEnd);
      if (match >= 0) shared++;
      offer(this.#rttMs[at] as number, this.#rttMs[match >= 0 ? match : bEnd - 1] as number);
    }
    if (shared < SHARED_SITES_MIN) return undefined;
    for (let at = bFrom; at < bEnd; at++)
      if (this.#find(this.#sites[at] as number, aFrom, aEnd) < 0)
        offer(this.#rttMs[aEnd - 1] as number, this.#rttMs[at] as number);
    const { ownMs, otherMs } = lossesOf(own, other, joint, this.#spillRatio);
    return wa * ownMs + wb * otherMs;
  }

  #find(site: number, from: number, end: number): number {
    for (let at = from; at < end; at++) if (this.#sites[at] === site) return at;
    return -1;
  }

  #expectedMs(a: number, b: number): number {
    const { asNumbers, places, placeOf } = this.#input;
    const [one, other] = [this.#heaviest[a] as number, this.#heaviest[b] as number];
    const as = asNumbers[one] === asNumbers[other] ? SAME_AS_MS : OTHER_AS_MS;
    if (places[one] === places[other]) return as;
    const [from, to] = [places[one] as number, places[other] as number];
    if (from < 0 || to < 0) return as + UNKNOWN_PLACE_MS;
    const [here, there] = [placeOf(from), placeOf(to)];
    if (here.coordinates === null || there.coordinates === null)
      return as + (here.country === there.country ? SAME_COUNTRY_MS : UNKNOWN_PLACE_MS);
    return as + fibreRttMsMin(greatCircleKm(here.coordinates, there.coordinates));
  }

  /** The sites of both, those that only one knows as they are; the nearest are kept. */
  #join(a: number, b: number): void {
    const [wa, wb] = [this.#weights[a] as number, this.#weights[b] as number];
    const scratch = this.#scratch;
    scratch.clear();
    for (const [of, weight] of [
      [a, wa],
      [b, wb],
    ] as const) {
      const end = of * SITES_KEPT + (this.#siteCounts[of] as number);
      for (let at = of * SITES_KEPT; at < end; at++)
        scratch.add(this.#sites[at] as number, this.#rttMs[at] as number, weight);
    }
    const nearest = scratch.sites
      .map((site) => ({ site, ms: scratch.meanMs(site) }))
      .sort((x, y) => x.ms - y.ms || x.site - y.site)
      .slice(0, SITES_KEPT);
    for (const [n, { site, ms }] of nearest.entries()) {
      this.#sites[a * SITES_KEPT + n] = site;
      this.#rttMs[a * SITES_KEPT + n] = ms;
    }
    this.#siteCounts[a] = nearest.length;
    this.#weights[a] = wa + wb;
    if ((this.#heaviestWeights[b] as number) > (this.#heaviestWeights[a] as number)) {
      this.#heaviest[a] = this.#heaviest[b] as number;
      this.#heaviestWeights[a] = this.#heaviestWeights[b] as number;
    }
  }
}

/** The lowest of many costs that change, by number; ties: the lowest number. An indexed binary heap. */
class CostHeap {
  readonly #costs: Float64Array;
  readonly #heap: Uint32Array;
  /** Place in the heap; NONE: not in it. */
  readonly #at: Uint32Array;
  #size = 0;

  constructor(count: number) {
    this.#costs = new Float64Array(count);
    this.#heap = new Uint32Array(count);
    this.#at = new Uint32Array(count).fill(NONE);
  }

  /** Needs at least one. */
  lowest(): number {
    return this.#heap[0] as number;
  }

  set(item: number, cost: number): void {
    this.#costs[item] = cost;
    let at = this.#at[item] as number;
    if (at === NONE) {
      at = this.#size++;
      this.#put(at, item);
    }
    if (!this.#up(at)) this.#down(at);
  }

  remove(item: number): void {
    const at = this.#at[item] as number;
    if (at === NONE) return;
    this.#at[item] = NONE;
    const last = this.#heap[--this.#size] as number;
    if (last === item) return;
    this.#put(at, last);
    if (!this.#up(at)) this.#down(at);
  }

  #isBefore(a: number, b: number): boolean {
    const difference = (this.#costs[a] as number) - (this.#costs[b] as number);
    return difference < 0 || (difference === 0 && a < b);
  }

  #put(at: number, item: number): void {
    this.#heap[at] = item;
    this.#at[item] = at;
  }

  #up(from: number): boolean {
    const item = this.#heap[from] as number;
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      const above = this.#heap[parent] as number;
      if (!this.#isBefore(item, above)) break;
      this.#put(at, above);
      at = parent;
    }
    this.#put(at, item);
    return at !== from;
  }

  #down(from: number): void {
    const item = this.#heap[from] as number;
    let at = from;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= this.#size) break;
      if (
        child + 1 < this.#size &&
        this.#isBefore(this.#heap[child + 1] as number, this.#heap[child] as number)
      )
        child++;
      const below = this.#heap[child] as number;
      if (!this.#isBefore(below, item)) break;
      this.#put(at, below);
      at = child;
    }
    this.#put(at, item);
  }
}

/** Demand to clusters: what a unit (a client network's traffic of one class) prefers, what it is worth to move, and why it is where it is. */
import { BITS, type NamedLimits } from "./limits.ts";
import { NOWHERE } from "./network-rows.ts";
import { Placement } from "./placement.ts";
import { OUT_OF_SERVICE_PRICE } from "./score-orders.ts";
import type { PlacementProblem } from "./placement-problem.ts";

/** Units and clusters are numbers. */
export interface AllocationProblem {
  readonly clusterCount: number;
  /** By resource what each unit takes of it wherever it is. */
  readonly demands: readonly Float32Array[];
  /** Orders of clusters, best first, scores ascending; unit `u` has the order `orderOf[u]`, of which there is at least one entry. */
  readonly orders: {
    readonly clusters: Uint16Array;
    readonly scores: Float32Array;
    /** Order `o` lies from `begins[o]` up to `begins[o + 1]`. */
    readonly begins: Uint32Array;
  };
  readonly orderOf: Uint32Array;
  /** Where each unit is now, or NOWHERE. */
  readonly current: Uint16Array;
  /** What operators have pinned each unit to, or NOWHERE. It stays there as long as the cluster is in service and pins alone do not fill it. */
  readonly pinned: Uint16Array;
  /** By cluster: 1 for those that may take somebody. */
  readonly isInService: Uint8Array;
  /** By cluster: 1 for those that operators empty; not in service either. */
  readonly isDrained: Uint8Array;
  readonly limits: NamedLimits;
  /** Places for which a unit competes; beyond them it goes where the fallback says that there is room. */
  readonly placesMax: number;
  readonly fallback?: NonNullable<PlacementProblem["fallback"]>;
}

export interface AllocationSettings {
  /**
   * A unit stays where it is unless another cluster's score is lower by this share: less churn, warmer caches, and no
   * flapping between two that are as good. 0..1.
   */
  readonly switchMarginRatio: number;
  /** And by at least this much, for scores so small that a share of them is noise. */
  readonly switchMargin: number;
  /** A unit that is at a full cluster goes only for one that would lose this much more, in units of the score: see `placement-problem.ts`. */
  readonly yieldMargin: number;
  /**
   * Everyone is placed again only for so much gain, in units of the score, for each request that then goes elsewhere. Without it a tenth of
   * the demand of full clusters changes places each cycle, for nothing.
   */
  readonly moveGainMin: number;
  /** Share of a cluster's capacity that may be allocated, 0..1; the rest is for bursts and for the neighbours' deaths. */
  readonly ceilingRatio: number;
}

export const allocationDefaults: AllocationSettings = {
  switchMarginRatio: 0.1,
  switchMargin: 2,
  yieldMargin: 10,
  moveGainMin: 2,
  ceilingRatio: 0.85,
};

/** Why a unit is where it is. */
export const allocationReasons = [
  /** Its best cluster. */
  "best",
  /** A better one exists, but not by the margin. */
  "kept",
  /** Operators want it there. */
  "pinned",
  /** Operators empty a better one. */
  "drained",
  /** Better ones are full: the limit says which one of the best was. */
  "spilled",
  /** No cluster has room for it: placed where the load grows least. */
  "overflow",
] as const;
export function noReasons(): Record<AllocationReason, number> {
  return { best: 0, kept: 0, pinned: 0, drained: 0, spilled: 0, overflow: 0 };
}
export type AllocationReason = (typeof allocationReasons)[number];

/** Who is where. After it was made, clusters may go down and limits shrink without a new one. */
export class Allocation {
  readonly #problem: AllocationProblem;
  readonly #placement: Placement;
  readonly #isInService: Uint8Array;
  readonly #hasDrained: boolean;
  /** Entries of the orders when it was made; others came behind them. */
  readonly #ranked: number;
  /** Clusters have gone down or shrunk since it was made. */
  #isTouched = false;

  /**
   * Places every unit that ranks a cluster in service: see `placement.ts`. Stable: no unit and cluster both prefer each other to
   * what they have. Deterministic; of two units that lose as much the one with the larger number goes.
   *
   * @param isWhole false: who is somewhere stays there, unless a limit does not hold it or a better place has room, and nobody changes places
   */
  constructor(problem: AllocationProblem, settings: AllocationSettings, isWhole = true) {
    this.#problem = problem;
    this.#ranked = rankedOf(problem);
    this.#isInService = problem.isInService.slice();
    this.#hasDrained = problem.isDrained.includes(1);
    const places = placementProblem(problem, settings);
    this.#placement = isWhole ? whole(places, settings) : settled(places, settings);
  }

  /** NOWHERE: it ranks no cluster that is in service. */
  clusterOf(unit: number): number {
    return this.#placement.clusterOf(unit) ?? NOWHERE;
  }

  reasonOf(unit: number): AllocationReason {
    const { current, pinned } = this.#problem;
    const cluster = this.clusterOf(unit);
    if (this.#placement.isOverflow(unit)) return "overflow";
    if (pinned[unit] === cluster) return "pinned";
    const isBest = this.#isBest(unit, cluster);
    if (!isBest && !(current[unit] === cluster && this.#placement.isBest(unit))) return "spilled";
    return this.#isBestDrained(unit, cluster) ? "drained" : isBest ? "best" : "kept";
  }

  #isBest(unit: number, cluster: number): boolean {
    const { orders, orderOf } = this.#problem;
    const order = orderOf[unit] as number;
    const end = orders.begins[order + 1] as number;
    let at = orders.begins[order] as number;
    while (at < end && this.#isInService[orders.clusters[at] as number] === 0) at++;
    return orders.clusters[at] === cluster;
  }

  /** Whether a cluster that is being emptied would score better than the one where the unit is. */
  #isBestDrained(unit: number, cluster: number): boolean {
    const { orders, orderOf, isDrained } = this.#problem;
    if (!this.#hasDrained) return false;
    const order = orderOf[unit] as number;
    let own = Infinity;
    for (let at = orders.begins[order] as number; at < (orders.begins[order + 1] as number); at++) {
      const other = orders.clusters[at] as number;
      const score = orders.scores[at] as number;
      // Those out of service come last.
      if (other === cluster) own = score;
      else if (isDrained[other] === 1 && score - OUT_OF_SERVICE_PRICE < own) return true;
    }
    return false;
  }

  /** Number of the name of the limit that kept it from the best place that it asked for; -1: none did. */
  limitNameOf(unit: number): number {
    const limit = this.#placement.turnedAwayBy(unit);
    return limit === undefined ? -1 : (this.#problem.limits.nameOf[limit] as number);
  }

  /**
   * Whether it answers this problem as well: the same but for where the units are, and they are where it has put them. A placement is no
   * fixed point of itself in every last unit, since units go as a whole; what has not changed must move nobody.
   */
  answers(problem: AllocationProblem): boolean {
    const own = this.#problem;
    return (
      !this.#isTouched &&
      own.clusterCount === problem.clusterCount &&
      own.placesMax === problem.placesMax &&
      own.demands.length === problem.demands.length &&
      own.demands.every((demand, resource) => isEqual(demand, problem.demands[resource] ?? [])) &&
      isEqual(own.orderOf, problem.orderOf) &&
      isEqual(
        own.orders.scores.subarray(0, this.#ranked),
        problem.orders.scores.subarray(0, rankedOf(problem)),
      ) &&
      isEqual(
        own.orders.clusters.subarray(0, this.#ranked),
        problem.orders.clusters.subarray(0, rankedOf(problem)),
      ) &&
      isEqual(own.pinned, problem.pinned) &&
      isEqual(own.isInService, problem.isInService) &&
      isEqual(own.isDrained, problem.isDrained) &&
      isEqual(own.limits.nameOf, problem.limits.nameOf) &&
      own.limits.limits.every(({ resource, max, clusters }, limit) => {
        const other = problem.limits.limits[limit];
        return other?.resource === resource && other.max === max && isEqual(clusters, other.clusters);
      }) &&
      problem.current.every((cluster, unit) => cluster === this.clusterOf(unit))
    );
  }

  /** What is taken of a cluster's own capacity, requests per second; 0 for one that is out of service. */
  demandPerSecond(cluster: number): number {
    const limit = this.#problem.limits.capacityOf[cluster] ?? -1;
    return limit === -1 ? 0 : this.#placement.used(limit);
  }

  /** The cluster's units go elsewhere; nobody else moves. Returns who was placed anew. */
  handleDown(cluster: number): readonly number[] {
    this.#isInService[cluster] = 0;
    this.#isTouched = true;
    this.#placement.handleDown(cluster);
    return this.#placement.moved;
  }

  /** A cluster has less capacity: those who lose least leave. Returns who was placed anew. */
  handleCapacity(cluster: number, requestsPerSecondMax: number, bitsPerSecondMax: number): readonly number[] {
    const { limits } = this.#problem.limits;
    const capacity = this.#problem.limits.capacityOf[cluster] ?? -1;
    if (capacity === -1) return [];
    this.#isTouched = true;
    this.#placement.handleLimit(capacity, requestsPerSecondMax);
    const moved = this.#placement.moved;
    // Its uplink, where it has one, stands right behind its capacity.
    const uplink = limits[capacity + 1];
    if (uplink?.resource !== BITS || uplink.clusters.length !== 1 || uplink.clusters[0] !== cluster)
      return moved;
    this.#placement.handleLimit(capacity + 1, bitsPerSecondMax);
    return [...moved, ...this.#placement.moved];
  }
}

/**
 * Everyone placed again, if that is worth the moves: stable allocation has many answers for units that go as a whole, and a little noise is
 * enough for another one in which thousands have changed places for nothing.
 */
function whole(places: PlacementProblem, settings: AllocationSettings): Placement {
  const anew = new Placement(places);
  anew.place();
  if (places.incumbents?.clusters.every((cluster) => cluster === NOWHERE) !== false) return anew;
  const stay = new Placement(places);
  stay.settle();
  const { loss, moved } = stay.lossAgainst(anew);
  return stay.overflows > anew.overflows || loss > moved * settings.moveGainMin ? anew : stay;
}

/** Everyone where he was as far as that goes; placed again where somebody then has no room. */
function settled(places: PlacementProblem, settings: AllocationSettings): Placement {
  const stay = new Placement(places);
  stay.settle();
  return stay.overflows > 0 ? whole(places, settings) : stay;
}

/** Up to where the orders are used. */
function rankedOf({ orders, orderOf }: AllocationProblem): number {
  let end = 0;
  for (let unit = 0; unit < orderOf.length; unit++)
    end = Math.max(end, orders.begins[(orderOf[unit] as number) + 1] as number);
  return end;
}

function isEqual(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let n = 0; n < a.length; n++) if (a[n] !== b[n]) return false;
  return true;
}

/** The score below which another cluster is worth the move from one with score `current`. */
export function switchBelow(current: number, settings: AllocationSettings): number {
  return Math.min(current * (1 - settings.switchMarginRatio), current - settings.switchMargin);
}

/** What a pinned unit loses by going elsewhere: more than any score, so that those go who are not pinned. */
const PIN_LOSS = 1e9;

/** The order of each unit, with the cluster where it is drawn forward by what a move must be worth. */
function placementProblem(problem: AllocationProblem, settings: AllocationSettings): PlacementProblem {
  const { orders, orderOf, current, pinned, isInService, placesMax } = problem;
  const units = current.length;
  const { begins } = orders;
  const offsets = new Uint32Array(units + 1);
  let size = 0;
  for (let unit = 0; unit < units; unit++) {
    const order = orderOf[unit] as number;
    size += Math.min(placesMax + 2, (begins[order + 1] as number) - (begins[order] as number));
  }
  const clusters = new Uint16Array(size);
  const costs = new Float32Array(size);
  let filled = 0;
  for (let unit = 0; unit < units; unit++) {
    const order = orderOf[unit] as number;
    const end = begins[order + 1] as number;
    const first = filled;
    const last = first + placesMax;
    const now = current[unit] as number;
    const pin = pinned[unit] as number;
    // Where it is and what it is pinned to get a place however far behind they are.
    let named = (now === NOWHERE ? 0 : 1) + (pin === NOWHERE || pin === now ? 0 : 1);
    for (let at = begins[order] as number; at < end && (named > 0 || filled < last); at++) {
      const cluster = orders.clusters[at] as number;
      const isNamed = cluster === now || cluster === pin;
      if (isNamed) named--;
      if (isInService[cluster] === 0 || (filled >= last && !isNamed)) continue;
      const score = orders.scores[at] as number;
      let place = filled++;
      let cost = score;
      if (isNamed) {
        cost = cluster === pin ? -PIN_LOSS : Math.fround(switchBelow(score, settings));
        for (; place > first && (costs[place - 1] as number) > cost; place--) {
          clusters[place] = clusters[place - 1] as number;
          costs[place] = costs[place - 1] as number;
        }
      }
      clusters[place] = cluster;
      costs[place] = cost;
    }
    offsets[unit + 1] = filled;
  }
  return {
    clusterCount: problem.clusterCount,
    demands: problem.demands,
    offsets,
    clusters: clusters.subarray(0, filled),
    costs: costs.subarray(0, filled),
    limits: problem.limits.limits,
    // The fallback's orders name them as well, and no limit keeps anybody out of what has no capacity.
    isClosed: isInService.map((isIn) => 1 - isIn),
    incumbents: { clusters: current, yieldMargin: settings.yieldMargin },
    ...(problem.fallback !== undefined && { fallback: problem.fallback }),
  };
}

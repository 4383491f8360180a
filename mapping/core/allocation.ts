/** Demand to clusters by name: what a client network's class prefers, what it is worth to move, and why it is where it is. */
import { Placement, type PlacementLimit } from "./placement.ts";

/** One thing to place: a client network's traffic of one class. It goes to one cluster as a whole. */
export interface AllocationUnit<C extends string> {
  readonly id: string;
  readonly demandPerSecond: number;
  /** Best first, scores ascending, each cluster at most once; at least one. */
  readonly ranking: readonly { readonly clusterId: C; readonly score: number }[];
  /** Where it is now, if anywhere. */
  readonly current: C | undefined;
}

export interface AllocationSettings {
  /**
   * A unit stays where it is unless another cluster's score is lower by this share: less churn, warmer caches, and no
   * flapping between two that are as good. 0..1.
   */
  readonly switchMarginRatio: number;
  /** And by at least this much, for scores so small that a share of them is noise. */
  readonly switchMargin: number;
  /** Share of a cluster's capacity that may be allocated, 0..1; the rest is for bursts and for the neighbours' deaths. */
  readonly ceilingRatio: number;
}

export const allocationDefaults: AllocationSettings = {
  switchMarginRatio: 0.1,
  switchMargin: 2,
  ceilingRatio: 0.85,
};

/** Why a unit is where it is. */
export type AllocationReason =
  /** Its best cluster. */
  | "best"
  /** A better one exists, but not by the margin. */
  | "kept"
  /** Better ones are full. */
  | "spilled"
  /** No cluster has room for it: placed where the load grows least. */
  | "overflow";

export interface Placed<C extends string> {
  readonly clusterId: C;
  readonly reason: AllocationReason;
}

export interface Allocation<C extends string> {
  readonly placements: ReadonlyMap<string, Placed<C>>;
  /** Demand over capacity (not over ceiling), for each cluster with capacity. */
  readonly load: ReadonlyMap<C, number>;
  readonly demandPerSecond: ReadonlyMap<C, number>;
}

/**
 * Places every unit that has a cluster with capacity in its ranking: see `placement.ts`. Stable: no unit and cluster both prefer
 * each other to what they have. Deterministic, whatever the order of the units.
 *
 * @param capacityOf capacity of each usable cluster, per second, > 0; clusters that are absent take nobody
 */
export function allocate<C extends string>(
  units: readonly AllocationUnit<C>[],
  capacityOf: ReadonlyMap<C, number>,
  settings: AllocationSettings = allocationDefaults,
): Allocation<C> {
  const clusterIds = [...capacityOf.keys()].sort();
  const numberOf = new Map(clusterIds.map((clusterId, number) => [clusterId, number]));
  const limits = clusterIds.map((clusterId, number): PlacementLimit => {
    const capacity = capacityOf.get(clusterId) as number;
    if (!(capacity > 0 && capacity < Infinity))
      throw new RangeError(`The capacity of cluster "${clusterId}" must be finite and > 0, got ${capacity}`);
    return { resource: 0, max: capacity * settings.ceilingRatio, clusters: [number] };
  });
  const sorted = [...units].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  const offsets = new Uint32Array(sorted.length + 1);
  const clusters: number[] = [];
  const costs: number[] = [];
  for (const [n, unit] of sorted.entries()) {
    for (const { number, cost } of preference(unit, numberOf, settings)) {
      clusters.push(number);
      costs.push(cost);
    }
    offsets[n + 1] = clusters.length;
  }
  const placement = new Placement({
    clusterCount: clusterIds.length,
    demands: [Float64Array.from(sorted, ({ demandPerSecond }) => demandPerSecond)],
    offsets,
    clusters: Uint16Array.from(clusters),
    costs: Float64Array.from(costs),
    limits,
  });
  placement.place();

  const placements = new Map<string, Placed<C>>();
  for (const [n, unit] of sorted.entries()) {
    const number = placement.clusterOf(n);
    if (number === undefined) continue;
    const clusterId = clusterIds[number] as C;
    const reason = placement.isOverflow(n) ? "overflow" : reasonOf(unit, clusterId, numberOf);
    placements.set(unit.id, { clusterId, reason });
  }
  const demandPerSecond = new Map(clusterIds.map((clusterId, number) => [clusterId, placement.used(number)]));
  const load = new Map(
    [...demandPerSecond].map(([clusterId, demand]) => [
      clusterId,
      demand / (capacityOf.get(clusterId) as number),
    ]),
  );
  return { placements, load, demandPerSecond };
}

/** The score below which another cluster is worth the move from one with score `current`. */
export function switchBelow(current: number, settings: AllocationSettings): number {
  return Math.min(current * (1 - settings.switchMarginRatio), current - settings.switchMargin);
}

function preference<C extends string>(
  unit: AllocationUnit<C>,
  numberOf: ReadonlyMap<C, number>,
  settings: AllocationSettings,
): { number: number; cost: number }[] {
  const order: { number: number; cost: number }[] = [];
  for (const { clusterId, score } of unit.ranking) {
    const number = numberOf.get(clusterId);
    if (number === undefined) continue;
    order.push({ number, cost: clusterId === unit.current ? switchBelow(score, settings) : score });
  }
  return order.sort((a, b) => a.cost - b.cost || a.number - b.number);
}

function reasonOf<C extends string>(
  unit: AllocationUnit<C>,
  clusterId: C,
  usable: ReadonlyMap<C, number>,
): AllocationReason {
  for (const entry of unit.ranking) {
    if (!usable.has(entry.clusterId)) continue;
    if (entry.clusterId === clusterId) return "best";
    return clusterId === unit.current ? "kept" : "spilled";
  }
  return "best";
}

/**
 * Demand to clusters under capacity: a stable allocation, after Maggs and Sitaraman, "Algorithmic nuggets in content delivery",
 * CCR 45(3), 2015, section 2 (Gale and Shapley's deferred acceptance with demands and capacities).
 */

/** One thing to place: a client network's traffic of one class. It goes to one cluster as a whole. */
/** Sums of fractions are not exact: a cluster that is exactly full must not let anyone go. */
const CEILING_SLACK = 1 + 1e-9;

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

export interface Placement<C extends string> {
  readonly clusterId: C;
  readonly reason: AllocationReason;
}

export interface Allocation<C extends string> {
  readonly placements: ReadonlyMap<string, Placement<C>>;
  /** Demand over capacity (not over ceiling), for each cluster with capacity. */
  readonly load: ReadonlyMap<C, number>;
  readonly demandPerSecond: ReadonlyMap<C, number>;
}

interface Proposal<C extends string> {
  readonly unit: AllocationUnit<C>;
  /** Clusters in the order in which it proposes: by score with the margin granted to the current one. */
  readonly order: readonly { readonly clusterId: C; readonly cost: number }[];
  /** Next place in `order` to propose to. */
  next: number;
}

/**
 * Places every unit that has a cluster with capacity in its ranking. Units propose to clusters in order of preference; a
 * cluster over its ceiling lets go those that lose least by moving on (the difference to their next choice), ties by id.
 * Stable: no unit and cluster both prefer each other to what they have. Deterministic, whatever the order of the units.
 *
 * @param capacityOf capacity of each usable cluster, per second, > 0; clusters that are absent take nobody
 */
export function allocate<C extends string>(
  units: readonly AllocationUnit<C>[],
  capacityOf: ReadonlyMap<C, number>,
  settings: AllocationSettings = allocationDefaults,
): Allocation<C> {
  const sites = new Map<C, Site<C>>();
  for (const [clusterId, capacity] of capacityOf) {
    if (!(capacity > 0 && capacity < Infinity))
      throw new RangeError(`The capacity of cluster "${clusterId}" must be finite and > 0, got ${capacity}`);
    sites.set(clusterId, new Site(capacity * settings.ceilingRatio));
  }
  const homeless: Proposal<C>[] = [];
  const waiting: Proposal<C>[] = [];
  const sorted = [...units].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  for (const unit of sorted) {
    const order = preference(unit, sites, settings);
    if (order.length > 0) waiting.push({ unit, order, next: 0 });
  }
  // As a stack: the result of deferred acceptance does not depend on who proposes when, only the work does.
  waiting.reverse();
  for (let proposal = waiting.pop(); proposal !== undefined; proposal = waiting.pop()) {
    const choice = proposal.order[proposal.next];
    if (choice === undefined) {
      homeless.push(proposal);
      continue;
    }
    const after = proposal.order[proposal.next + 1];
    proposal.next++;
    const site = sites.get(choice.clusterId) as Site<C>;
    site.take(proposal, after === undefined ? Infinity : after.cost - choice.cost);
    waiting.push(...site.letGo());
  }

  const placements = new Map<string, Placement<C>>();
  for (const [clusterId, site] of sites)
    for (const { unit } of site.held())
      placements.set(unit.id, { clusterId, reason: reasonOf(unit, clusterId, sites) });
  // Larger ones first: what is left is packed best so.
  homeless.sort(
    (a, b) => b.unit.demandPerSecond - a.unit.demandPerSecond || (a.unit.id < b.unit.id ? -1 : 1),
  );
  for (const { unit, order } of homeless) {
    // Units are not split, so room may have come up after this one was let go.
    const roomy = order.find(({ clusterId }) =>
      (sites.get(clusterId) as Site<C>).hasRoom(unit.demandPerSecond),
    );
    if (roomy !== undefined) {
      (sites.get(roomy.clusterId) as Site<C>).force(unit.demandPerSecond);
      placements.set(unit.id, { clusterId: roomy.clusterId, reason: reasonOf(unit, roomy.clusterId, sites) });
      continue;
    }
    let best = order[0]?.clusterId as C;
    let bestLoad = Infinity;
    for (const { clusterId } of order) {
      const capacity = capacityOf.get(clusterId) as number;
      const load = ((sites.get(clusterId) as Site<C>).demandPerSecond + unit.demandPerSecond) / capacity;
      if (load < bestLoad) {
        best = clusterId;
        bestLoad = load;
      }
    }
    (sites.get(best) as Site<C>).force(unit.demandPerSecond);
    placements.set(unit.id, { clusterId: best, reason: "overflow" });
  }
  const load = new Map<C, number>();
  const demandPerSecond = new Map<C, number>();
  for (const [clusterId, site] of sites) {
    demandPerSecond.set(clusterId, site.demandPerSecond);
    load.set(clusterId, site.demandPerSecond / (capacityOf.get(clusterId) as number));
  }
  return { placements, load, demandPerSecond };
}

/** The score below which another cluster is worth the move from one with score `current`. */
export function switchBelow(current: number, settings: AllocationSettings): number {
  return Math.min(current * (1 - settings.switchMarginRatio), current - settings.switchMargin);
}

function preference<C extends string>(
  unit: AllocationUnit<C>,
  sites: ReadonlyMap<C, Site<C>>,
  settings: AllocationSettings,
): { clusterId: C; cost: number }[] {
  const order: { clusterId: C; cost: number }[] = [];
  for (const { clusterId, score } of unit.ranking) {
    if (!sites.has(clusterId)) continue;
    order.push({ clusterId, cost: clusterId === unit.current ? switchBelow(score, settings) : score });
  }
  return order.sort((a, b) => a.cost - b.cost || (a.clusterId < b.clusterId ? -1 : 1));
}

function reasonOf<C extends string>(
  unit: AllocationUnit<C>,
  clusterId: C,
  sites: ReadonlyMap<C, Site<C>>,
): AllocationReason {
  for (const entry of unit.ranking) {
    if (!sites.has(entry.clusterId)) continue;
    if (entry.clusterId === clusterId) return "best";
    return clusterId === unit.current ? "kept" : "spilled";
  }
  return "best";
}

/** What one cluster holds: a binary heap, the unit that loses least by leaving on top. */
class Site<C extends string> {
  readonly #ceiling: number;
  readonly #heap: { readonly proposal: Proposal<C>; readonly advantage: number }[] = [];
  #demand = 0;

  constructor(ceiling: number) {
    this.#ceiling = ceiling;
  }

  get demandPerSecond(): number {
    return this.#demand;
  }

  held(): Proposal<C>[] {
    return this.#heap.map((entry) => entry.proposal);
  }

  hasRoom(demandPerSecond: number): boolean {
    return this.#demand + demandPerSecond <= this.#ceiling * CEILING_SLACK;
  }

  /** Adds demand that no longer competes for its place. */
  force(demandPerSecond: number): void {
    this.#demand += demandPerSecond;
  }

  take(proposal: Proposal<C>, advantage: number): void {
    this.#heap.push({ proposal, advantage });
    this.#demand += proposal.unit.demandPerSecond;
    for (let place = this.#heap.length - 1; place > 0; ) {
      const above = (place - 1) >> 1;
      if (!this.#isBefore(place, above)) break;
      this.#swap(place, above);
      place = above;
    }
  }

  /** Lets go until the rest fits. A unit that alone is over the ceiling leaves as well. */
  letGo(): Proposal<C>[] {
    const gone: Proposal<C>[] = [];
    while (this.#demand > this.#ceiling * CEILING_SLACK && this.#heap.length > 0) {
      const top = this.#heap[0] as { proposal: Proposal<C> };
      const last = this.#heap.pop() as { proposal: Proposal<C>; advantage: number };
      if (this.#heap.length > 0) {
        this.#heap[0] = last;
        this.#sink();
      }
      this.#demand -= top.proposal.unit.demandPerSecond;
      gone.push(top.proposal);
    }
    if (this.#heap.length === 0) this.#demand = 0;
    return gone;
  }

  #sink(): void {
    let place = 0;
    for (;;) {
      let least = place;
      for (const child of [2 * place + 1, 2 * place + 2])
        if (child < this.#heap.length && this.#isBefore(child, least)) least = child;
      if (least === place) return;
      this.#swap(place, least);
      place = least;
    }
  }

  #isBefore(a: number, b: number): boolean {
    const one = this.#heap[a] as { proposal: Proposal<C>; advantage: number };
    const other = this.#heap[b] as { proposal: Proposal<C>; advantage: number };
    if (one.advantage !== other.advantage) return one.advantage < other.advantage;
    return one.proposal.unit.id > other.proposal.unit.id;
  }

  #swap(a: number, b: number): void {
    const kept = this.#heap[a] as { proposal: Proposal<C>; advantage: number };
    this.#heap[a] = this.#heap[b] as { proposal: Proposal<C>; advantage: number };
    this.#heap[b] = kept;
  }
}

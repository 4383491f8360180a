/**
 * Demand to clusters under several capacities at once: a stable allocation, after Maggs and Sitaraman, "Algorithmic nuggets in
 * content delivery", CCR 45(3), 2015, section 2 (Gale and Shapley's deferred acceptance with demands and capacities).
 *
 * Made for a million units and thousands of clusters: units and clusters are numbers, everything about them lies in typed
 * arrays, and a cluster that has room for all who want it costs no more than a sum.
 */

import { LeaverQueue } from "./leaver-queue.ts";
import { checkPlacement, type PlacementLimit, type PlacementProblem } from "./placement-problem.ts";

/** Sums of fractions are not exact: a limit that is exactly met must not let anyone go. */
const LIMIT_SLACK = 1 + 1e-9;
/** Rounds in which those who were turned away look for room that came up behind them. Each round only improves. */
const REPAIR_ROUNDS_MAX = 4;
/** From here on nobody who comes from afar looks whether he fits into the rest. */
const FULL_RATIO = 0.99;
/** A limit of which so much was taken before has no room to count on. */
const WAS_FULL_RATIO = 0.95;
const NONE = -1;

/**
 * Who is where. `place()` puts everyone somewhere; after it, `handleDown` moves those of one cluster. Deterministic; of two that lose as much, the one with the larger number goes.
 */
export class Placement {
  readonly #problem: PlacementProblem;
  readonly #unitCount: number;
  /** Of each unit: the place for which it competes; the end of its places: none is left. */
  readonly #at: Uint32Array;
  /** Of each unit: the cluster that holds it, or NONE. */
  readonly #cluster: Int32Array;
  /** The limit that turned each unit away from the best place that it asked for, or NONE. */
  readonly #turnedBy: Int32Array;
  /** Placed where there was no room. */
  readonly #isOverflow: Uint8Array;
  #overflowing: number[] = [];
  readonly #isDown: Uint8Array;
  /** By cluster: 1 where those who were there before leave no room. Nobody finds a place there by being turned away elsewhere. */
  readonly #wasFull: Uint8Array;
  /** Who holds a place at a cluster: doubly linked lists through the units. */
  readonly #first: Int32Array;
  readonly #after: Int32Array;
  readonly #before: Int32Array;
  /** The limits of cluster `c`: `#limitIds` from `#limitOffsets[c]` up to `#limitOffsets[c + 1]`. */
  readonly #limitOffsets: Uint32Array;
  readonly #limitIds: Uint32Array;
  readonly #max: Float64Array;
  readonly #used: Float64Array;
  /** The largest loss with which a unit was let go: of those that stay nobody loses less. 0: nobody was. */
  readonly #bar: Float64Array;
  #tightest = NONE;
  /** Who stays where he is loses what the next place but his own would cost: he has that one. */
  #isSettling = false;
  #moved: readonly number[] = [];
  /** For limits that were once exceeded: who would lose least by leaving, on top. */
  readonly #queues: (LeaverQueue | undefined)[];

  /** @throws RangeError when the arrays do not fit each other or a number is out of its range */
  constructor(problem: PlacementProblem) {
    checkPlacement(problem);
    this.#problem = problem;
    const { clusterCount, offsets, limits } = problem;
    this.#unitCount = offsets.length - 1;
    this.#at = offsets.slice(0, this.#unitCount);
    this.#cluster = new Int32Array(this.#unitCount).fill(NONE);
    this.#turnedBy = new Int32Array(this.#unitCount).fill(NONE);
    this.#isOverflow = new Uint8Array(this.#unitCount);
    this.#isDown = problem.isClosed?.slice() ?? new Uint8Array(clusterCount);
    this.#wasFull = new Uint8Array(clusterCount);
    this.#first = new Int32Array(clusterCount).fill(NONE);
    this.#after = new Int32Array(this.#unitCount);
    this.#before = new Int32Array(this.#unitCount);
    this.#max = Float64Array.from(limits, ({ max }) => max * LIMIT_SLACK);
    this.#used = new Float64Array(limits.length);
    this.#bar = new Float64Array(limits.length);
    this.#queues = limits.map(() => undefined);
    const counts = new Uint32Array(clusterCount + 1);
    for (const { clusters } of limits) for (const cluster of clusters) (counts[cluster + 1] as number)++;
    for (let c = 0; c < clusterCount; c++) (counts[c + 1] as number) += counts[c] as number;
    this.#limitOffsets = counts.slice();
    this.#limitIds = new Uint32Array(counts[clusterCount] as number);
    for (const [limit, { clusters }] of limits.entries())
      for (const cluster of clusters) this.#limitIds[(counts[cluster] as number)++] = limit;
    this.#findFull();
  }

  #findFull(): void {
    const { demands, limits, incumbents } = this.#problem;
    if (incumbents === undefined) return;
    const perCluster = demands.map(() => new Float64Array(this.#isDown.length));
    for (const [resource, sums] of perCluster.entries()) {
      const demand = demands[resource] as Float32Array;
      for (let unit = 0; unit < this.#unitCount; unit++) {
        const cluster = incumbents.clusters[unit] as number;
        if (cluster < sums.length) (sums[cluster] as number) += demand[unit] as number;
      }
    }
    for (const { resource, max, clusters } of limits) {
      const sums = perCluster[resource] as Float64Array;
      const used = clusters.reduce((sum, cluster) => sum + (sums[cluster] as number), 0);
      if (used > max * WAS_FULL_RATIO) for (const cluster of clusters) this.#wasFull[cluster] = 1;
    }
  }

  /** The cluster of a unit; undefined: it ranks none that is up. */
  clusterOf(unit: number): number | undefined {
    const cluster = this.#cluster[unit] as number;
    return cluster === NONE ? undefined : cluster;
  }

  /** Whether it is there although there was no room. */
  isOverflow(unit: number): boolean {
    return this.#isOverflow[unit] === 1;
  }

  /** Whether it is at the first cluster of its ranking that is up. */
  isBest(unit: number): boolean {
    const { offsets, clusters } = this.#problem;
    const end = offsets[unit + 1] as number;
    for (let place = offsets[unit] as number; place < end; place++)
      if (this.#isDown[clusters[place] as number] === 0) return clusters[place] === this.#cluster[unit];
    return false;
  }

  /** The limit that kept it from the best place that it asked for; undefined: it was turned away nowhere. */
  turnedAwayBy(unit: number): number | undefined {
    const limit = this.#turnedBy[unit] as number;
    return limit === NONE ? undefined : limit;
  }

  /** Who was placed anew by the last `handleDown` or `handleLimit`. */
  get moved(): readonly number[] {
    return this.#moved;
  }

  /** What is taken of a limit, overflow included. */
  used(limit: number): number {
    return this.#used[limit] as number;
  }

  /**
   * A cluster takes nobody any more: each of its units goes where it likes best of what has room. Nobody else moves, except who
   * was somewhere without room: a death must be answered at once, and not by a wave of moves; the next whole placement is the better one.
   * Returns how many units were there.
   */
  handleDown(cluster: number): number {
    if (this.#isDown[cluster] === 1) return 0;
    this.#isDown[cluster] = 1;
    const homeless = this.#overflowing;
    let moved = homeless.filter((unit) => this.#cluster[unit] === cluster).length;
    for (const unit of homeless) this.#leave(unit);
    for (let unit = this.#first[cluster] as number; unit !== NONE; unit = this.#first[cluster] as number) {
      this.#leave(unit);
      homeless.push(unit);
      moved++;
    }
    this.#house(homeless);
    this.#moved = homeless;
    this.#overflowing = homeless.filter((unit) => this.#isOverflow[unit] === 1);
    return moved;
  }

  /**
   * A limit becomes another: if it is exceeded now, those that lose least go, each where it likes best of what has room. Nobody
   * else moves, as in `handleDown`, and nobody comes back to a limit that has grown. Returns how many left.
   */
  handleLimit(limit: number, max: number): number {
    if (!(max >= 0)) throw new RangeError(`A limit must be >= 0, got ${max}`);
    this.#max[limit] = max * LIMIT_SLACK;
    // Who came after everyone was placed is in no queue.
    this.#queues[limit] = undefined;
    const left: number[] = [];
    this.#letGo(limit, left);
    const homeless = this.#overflowing.filter((unit) => this.#cluster[unit] !== NONE);
    for (const unit of homeless) this.#leave(unit);
    homeless.push(...left);
    this.#house(homeless);
    this.#moved = homeless;
    this.#overflowing = homeless.filter((unit) => this.#isOverflow[unit] === 1);
    return left.length;
  }

  /**
   * Places everyone who ranks a cluster that is up; to be called once, and not after `settle`. Proposals until nobody waits, then a roof for the
   * homeless, then those that were turned away look again for room.
   */
  place(): void {
    const wasTurnedAway = new Uint8Array(this.#unitCount);
    const homeless: number[] = [];
    this.#propose(Array.from(this.#at.keys()), homeless, wasTurnedAway);
    this.#roof(homeless, wasTurnedAway);
  }

  /**
   * Everyone stays where the incumbents are, and only those propose who are nowhere or whom a limit does not hold any more; then whoever has a
   * better place with room takes it. Instead of `place`: moves follow from what has changed, but who could change places stays.
   */
  settle(): void {
    this.#isSettling = true;
    const { offsets, clusters, incumbents, limits } = this.#problem;
    const proposing: number[] = [];
    const isBehind = new Uint8Array(this.#unitCount);
    for (let unit = 0; unit < this.#unitCount; unit++) {
      const own = incumbents?.clusters[unit];
      const begin = offsets[unit] as number;
      const end = offsets[unit + 1] as number;
      let at = begin;
      while (at < end && clusters[at] !== own) at++;
      if (at === end || this.#isDown[own as number] === 1) {
        proposing.push(unit);
        continue;
      }
      this.#at[unit] = at;
      if (at > begin) isBehind[unit] = 1;
      this.#hold(unit, own as number);
    }
    for (let limit = 0; limit < limits.length; limit++)
      if ((this.#used[limit] as number) > (this.#max[limit] as number)) this.#letGo(limit, proposing);
    const homeless: number[] = [];
    this.#propose(proposing, homeless, isBehind);
    this.#roof(homeless, isBehind);
  }

  /** Those without a place look for one from where they are in their order on; who finds none is added to `homeless`. */
  #propose(first: number[], homeless: number[], wasTurnedAway: Uint8Array): void {
    const { offsets, clusters } = this.#problem;
    // In rounds: who would be pushed out again by another of the same round is not put into a queue first.
    for (let proposing = first; proposing.length > 0; ) {
      const exceeded = new Set<number>();
      for (const unit of proposing) {
        const end = offsets[unit + 1] as number;
        let at = this.#at[unit] as number;
        for (; at < end; at++) {
          const cluster = clusters[at] as number;
          if (this.#isDown[cluster] === 1) continue;
          this.#at[unit] = at;
          const limit = this.#hopelessAt(unit, cluster);
          if (limit === NONE) break;
          this.#turnAway(unit, limit);
          wasTurnedAway[unit] = 1;
        }
        this.#at[unit] = at;
        if (at === end) {
          homeless.push(unit);
          continue;
        }
        const cluster = clusters[at] as number;
        this.#hold(unit, cluster);
        const last = this.#limitOffsets[cluster + 1] as number;
        for (let i = this.#limitOffsets[cluster] as number; i < last; i++) {
          const limit = this.#limitIds[i] as number;
          this.#queues[limit]?.push(unit, at, this.#loss(unit));
          if ((this.#used[limit] as number) > (this.#max[limit] as number)) exceeded.add(limit);
        }
      }
      const out: number[] = [];
      for (const limit of exceeded) this.#letGo(limit, out);
      for (const unit of out) wasTurnedAway[unit] = 1;
      proposing = out;
    }
  }

  #roof(homeless: number[], wasTurnedAway: Uint8Array): void {
    this.#house(homeless);
    this.#repair(wasTurnedAway);
    // Room that came up by that is for those who had none.
    const overflowing = homeless.filter((unit) => this.#isOverflow[unit] === 1);
    for (const unit of overflowing) this.#leave(unit);
    this.#house(overflowing);
    this.#overflowing = overflowing.filter((unit) => this.#isOverflow[unit] === 1);
  }

  /** Units that are where there was no room. */
  get overflows(): number {
    return this.#overflowing.length;
  }

  /**
   * What is lost by being here instead of where `other` has everyone, cost times demand of the first resource; and the demand that is elsewhere
   * there. Beyond its places a unit pays as at the last one.
   */
  lossAgainst(other: Placement): { readonly loss: number; readonly moved: number } {
    const size = this.#problem.demands[0] as Float64Array;
    let loss = 0;
    let moved = 0;
    for (let unit = 0; unit < this.#unitCount; unit++) {
      if (this.#cluster[unit] === other.#cluster[unit]) continue;
      moved += size[unit] as number;
      loss += (size[unit] as number) * (this.#cost(unit) - other.#cost(unit));
    }
    return { loss, moved };
  }

  #cost(unit: number): number {
    const { offsets, costs } = this.#problem;
    const begin = offsets[unit] as number;
    const last = (offsets[unit + 1] as number) - 1;
    return last < begin ? 0 : (costs[Math.min(this.#at[unit] as number, last)] as number);
  }

  #turnAway(unit: number, limit: number): void {
    if (this.#turnedBy[unit] === NONE) this.#turnedBy[unit] = limit;
  }

  /** The limit that it would make exceed and of which it would be the first to go, so that it need not come; NONE: it may come. */
  #hopelessAt(unit: number, cluster: number): number {
    const { demands, limits } = this.#problem;
    let loss = Number.NaN;
    const last = this.#limitOffsets[cluster + 1] as number;
    for (let i = this.#limitOffsets[cluster] as number; i < last; i++) {
      const limit = this.#limitIds[i] as number;
      const bar = this.#bar[limit] as number;
      if (bar === 0) continue;
      const demand = demands[(limits[limit] as PlacementLimit).resource]?.[unit] as number;
      if ((this.#used[limit] as number) + demand <= (this.#max[limit] as number)) continue;
      if (Number.isNaN(loss)) loss = this.#loss(unit);
      if (loss < bar) return limit;
    }
    return NONE;
  }

  /** Lets those go from a limit that lose least, until the rest fits. A unit that alone is over it leaves as well. */
  #letGo(limit: number, out: number[]): void {
    let queue = this.#queues[limit];
    if (queue === undefined) {
      queue = new LeaverQueue();
      this.#queues[limit] = queue;
      for (const cluster of this.#problem.limits[limit]?.clusters ?? [])
        for (let unit = this.#first[cluster] as number; unit !== NONE; unit = this.#after[unit] as number)
          queue.push(unit, this.#at[unit] as number, this.#loss(unit));
    }
    while ((this.#used[limit] as number) > (this.#max[limit] as number)) {
      const unit = queue.pop();
      if (unit === undefined) return;
      // It has left since by another limit, and holds another place or none.
      if (this.#cluster[unit] === NONE || this.#at[unit] !== queue.poppedPlace) continue;
      this.#leave(unit);
      this.#turnAway(unit, limit);
      this.#at[unit]++;
      this.#bar[limit] = Math.max(this.#bar[limit] as number, queue.poppedLoss);
      out.push(unit);
    }
  }

  /** What a unit loses by going on to its next choice that is up and was not full before; to its last one where all were. */
  #loss(unit: number): number {
    const { offsets, costs, clusters, incumbents } = this.#problem;
    const at = this.#at[unit] as number;
    const end = offsets[unit + 1] as number;
    const isIncumbent = incumbents !== undefined && at < end && incumbents.clusters[unit] === clusters[at];
    const margin = isIncumbent ? incumbents.yieldMargin : 0;
    let last = Number.POSITIVE_INFINITY;
    for (let place = at + 1; place < end; place++) {
      const cluster = clusters[place] as number;
      if (this.#isDown[cluster] === 1) continue;
      last = (costs[place] as number) - (costs[at] as number) + margin;
      if (this.#wasFull[cluster] === 0 || (this.#isSettling && incumbents?.clusters[unit] === cluster))
        return last;
    }
    return last;
  }

  /** Those that nobody took: where there is room by now, else where it is exceeded least. Larger ones first, they pack best so. */
  #house(homeless: number[]): void {
    const { demands, offsets, clusters, fallback } = this.#problem;
    const size = demands[0] as Float64Array;
    homeless.sort((a, b) => (size[b] as number) - (size[a] as number) || a - b);
    /** Of each order: how many of its first clusters are full to the rim. */
    const fullUpTo = new Map<number, number>();
    for (const unit of homeless) {
      let best = NONE;
      let bestLoad = Number.POSITIVE_INFINITY;
      const look = (cluster: number): boolean => {
        if (this.#isDown[cluster] === 1) return false;
        const load = this.#loadWith(unit, cluster);
        if (load > 1) this.#turnAway(unit, this.#tightest);
        if (best === NONE || load < bestLoad) {
          best = cluster;
          bestLoad = load;
        }
        return load <= 1;
      };
      const end = offsets[unit + 1] as number;
      let place = offsets[unit] as number;
      while (place < end && !look(clusters[place] as number)) place++;
      this.#at[unit] = place;
      if (bestLoad > 1 && fallback !== undefined) {
        const orderNumber = fallback.orderOf[unit] as number;
        const order = fallback.orders[orderNumber] as Uint16Array;
        let from = fullUpTo.get(orderNumber) ?? 0;
        while (from < order.length && this.#isFull(order[from] as number)) from++;
        fullUpTo.set(orderNumber, from);
        let n = from;
        while (n < order.length && !look(order[n] as number)) n++;
        // Nothing beyond has room: then what is left at the rims must do.
        for (n = n < order.length ? from : 0; n < from && !look(order[n] as number); ) n++;
      }
      this.#isOverflow[unit] = best !== NONE && bestLoad > 1 ? 1 : 0;
      if (best === NONE) continue;
      this.#hold(unit, best);
    }
  }

  #isFull(cluster: number): boolean {
    if (this.#isDown[cluster] === 1) return true;
    const last = this.#limitOffsets[cluster + 1] as number;
    for (let i = this.#limitOffsets[cluster] as number; i < last; i++) {
      const limit = this.#limitIds[i] as number;
      if ((this.#used[limit] as number) > (this.#max[limit] as number) * FULL_RATIO) return true;
    }
    return false;
  }

  /** The largest of used over max among a cluster's limits, were the unit there; at most 1: there is room. `#tightest` says which. */
  #loadWith(unit: number, cluster: number): number {
    const { demands, limits } = this.#problem;
    let load = 0;
    const last = this.#limitOffsets[cluster + 1] as number;
    for (let i = this.#limitOffsets[cluster] as number; i < last; i++) {
      const limit = this.#limitIds[i] as number;
      const demand = demands[(limits[limit] as PlacementLimit).resource]?.[unit] as number;
      const used = (this.#used[limit] as number) + demand;
      // What takes nothing of a resource is not kept out by its being exhausted.
      if (demand === 0) continue;
      const own = used / (this.#max[limit] as number);
      if (own <= load) continue;
      load = own;
      this.#tightest = limit;
    }
    return load;
  }

  /**
   * A place that turned a unit away may have room later: units go as a whole, and who holds back one limit may leave by another.
   * So nobody stays behind a better place that would take it for nothing.
   */
  #repair(wasTurnedAway: Uint8Array): void {
    const { offsets, clusters } = this.#problem;
    let waiting: number[] = [];
    for (let unit = 0; unit < this.#unitCount; unit++) if (wasTurnedAway[unit] === 1) waiting.push(unit);
    for (let round = 0; round < REPAIR_ROUNDS_MAX && waiting.length > 0; round++) {
      let moves = 0;
      const free = this.#freeByResource();
      waiting = waiting.filter((unit) => {
        const held = this.#cluster[unit] as number;
        if (held === NONE) return false;
        const end = this.#at[unit] as number;
        for (let place = offsets[unit] as number; place < end; place++) {
          const cluster = clusters[place] as number;
          // Who has stayed where it was has not asked yet who would turn it away.
          if (
            this.#turnedBy[unit] === NONE &&
            this.#isDown[cluster] === 0 &&
            this.#loadWith(unit, cluster) > 1
          )
            this.#turnAway(unit, this.#tightest);
          if (!this.#mayFit(unit, cluster, free)) continue;
          // Where it is it counts already.
          if (this.#isDown[cluster] === 1 || cluster === held || this.#loadWith(unit, cluster) > 1) continue;
          this.#leave(unit);
          this.#at[unit] = place;
          this.#isOverflow[unit] = 0;
          this.#hold(unit, cluster);
          this.#setFree(held, free);
          moves++;
          return place > (offsets[unit] as number);
        }
        return true;
      });
      if (moves === 0) return;
    }
  }

  /** What each cluster can still take of each resource, by the scarcest of the limits that it has for itself. */
  #freeByResource(): Float64Array[] {
    const { clusterCount, demands } = this.#problem;
    const free = demands.map(() => new Float64Array(clusterCount));
    for (let cluster = 0; cluster < clusterCount; cluster++) this.#setFree(cluster, free);
    return free;
  }

  #setFree(cluster: number, free: readonly Float64Array[]): void {
    for (const own of free) own[cluster] = Number.POSITIVE_INFINITY;
    const last = this.#limitOffsets[cluster + 1] as number;
    for (let i = this.#limitOffsets[cluster] as number; i < last; i++) {
      const limit = this.#limitIds[i] as number;
      const { resource, clusters } = this.#problem.limits[limit] as PlacementLimit;
      if (clusters.length > 1) continue;
      const own = free[resource] as Float64Array;
      const left = (this.#max[limit] as number) - (this.#used[limit] as number);
      own[cluster] = Math.min(own[cluster] as number, left);
    }
  }

  /** A first look, at what the cluster has for itself: most places are full, and a look at all limits is dear. */
  #mayFit(unit: number, cluster: number, free: readonly Float64Array[]): boolean {
    const { demands } = this.#problem;
    for (let resource = 0; resource < free.length; resource++) {
      const demand = demands[resource]?.[unit] as number;
      if (demand > 0 && demand > ((free[resource] as Float64Array)[cluster] as number)) return false;
    }
    return true;
  }

  #hold(unit: number, cluster: number): void {
    const { demands, limits } = this.#problem;
    this.#cluster[unit] = cluster;
    const first = this.#first[cluster] as number;
    this.#after[unit] = first;
    this.#before[unit] = NONE;
    if (first !== NONE) this.#before[first] = unit;
    this.#first[cluster] = unit;
    const last = this.#limitOffsets[cluster + 1] as number;
    for (let i = this.#limitOffsets[cluster] as number; i < last; i++) {
      const limit = this.#limitIds[i] as number;
      (this.#used[limit] as number) += demands[(limits[limit] as PlacementLimit).resource]?.[unit] as number;
    }
  }

  #leave(unit: number): void {
    const { demands, limits } = this.#problem;
    const cluster = this.#cluster[unit] as number;
    this.#cluster[unit] = NONE;
    const before = this.#before[unit] as number;
    const after = this.#after[unit] as number;
    if (before === NONE) this.#first[cluster] = after;
    else this.#after[before] = after;
    if (after !== NONE) this.#before[after] = before;
    const last = this.#limitOffsets[cluster + 1] as number;
    for (let i = this.#limitOffsets[cluster] as number; i < last; i++) {
      const limit = this.#limitIds[i] as number;
      const { resource, clusters } = limits[limit] as PlacementLimit;
      (this.#used[limit] as number) -= demands[resource]?.[unit] as number;
      // Rounding must not leave a trace of those who left.
      if (this.#first[cluster] === NONE && clusters.length === 1) this.#used[limit] = 0;
    }
  }
}

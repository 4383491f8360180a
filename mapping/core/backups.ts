/**
 * Who goes where when a region is lost: for each group of client networks clusters outside of the region that serves it, the nearest with
 * room for what the group asks, counted over all groups of that region. They are the last places of a ranking
 * (`backup-places.ts`), so that a name server that sees a region die needs nobody to tell it where there is room.
 *
 * Each cluster is outside of the region; the second one is in another region than the first one, where there are three. Kept from one map to the next as long as they fit, so that maps differ little.
 */
import type { EdgeInput } from "./limits.ts";

export const NO_BACKUP = 0xffff;

/** What may be allocated to a backup anew, and what it may keep, over capacity: nothing moves back and forth. */
const NEW_LOAD_MAX = 0.9;
const KEPT_LOAD_MAX = 1;
/** A cluster with less room than this, over its capacity, is passed over for good. */
const ROOM_RATIO_MIN = 0.01;
/** Clusters with some room that are looked at for a group that none of them fits. */
const LOOKED_AT_MAX = 64;

/** Client networks that are sent alike when their region is lost. */
export interface BackupGroups {
  /** Of each group: what it asks, requests per second. */
  readonly demand: Float64Array;
  /** Of each group: the cluster that serves most of it, by number; NO_BACKUP: nobody serves it. */
  readonly home: Uint16Array;
  /** Of each group: which of `orders` lists the clusters by their distance from it. */
  readonly orderOf: Uint32Array;
  readonly orders: readonly Uint16Array[];
  /** Clusters that its networks rank anyway: no backups of it. */
  readonly isRanked: (group: number, cluster: number) => boolean;
}

/**
 * `count` clusters for each group, one group after the other, NO_BACKUP where there are fewer.
 *
 * @param edges by number
 * @param allocated by cluster, requests per second
 * @param before of the map before, for the same groups
 */
export function backupsOf(
  groups: BackupGroups,
  edges: readonly EdgeInput[],
  allocated: (cluster: number) => number,
  count: number,
  before?: Uint16Array,
): Uint16Array {
  const backups = new Uint16Array(groups.demand.length * count).fill(NO_BACKUP);
  const regionNumbers = new Map<string, number>();
  const regions = Uint16Array.from(edges, ({ regionId }) => {
    const number = regionNumbers.get(regionId) ?? regionNumbers.size;
    regionNumbers.set(regionId, number);
    return number;
  });
  const used = Float64Array.from(edges, (_, c) => allocated(c));
  const byRegion = Array.from({ length: regionNumbers.size }, (): number[] => []);
  for (let group = 0; group < groups.home.length; group++) {
    const home = groups.home[group] as number;
    if (home !== NO_BACKUP) byRegion[regions[home] as number]?.push(group);
  }
  for (const [region, lost] of byRegion.entries())
    if (lost.length > 0)
      new LostRegion(groups, edges, regions, region, used.slice(), count, backups).place(lost, before);
  return backups;
}

interface Outside {
  readonly clusters: readonly number[];
  from: number;
}

/** The loss of one region, as if nothing else happened. */
class LostRegion {
  readonly #groups: BackupGroups;
  readonly #edges: readonly EdgeInput[];
  readonly #regions: Uint16Array;
  readonly #region: number;
  readonly #used: Float64Array;
  readonly #count: number;
  readonly #backups: Uint16Array;
  /** Of each order: the clusters outside. */
  readonly #outside = new Map<number, Outside>();

  constructor(
    groups: BackupGroups,
    edges: readonly EdgeInput[],
    regions: Uint16Array,
    region: number,
    used: Float64Array,
    count: number,
    backups: Uint16Array,
  ) {
    this.#groups = groups;
    this.#edges = edges;
    this.#regions = regions;
    this.#region = region;
    this.#used = used;
    this.#count = count;
    this.#backups = backups;
  }

  /** First those that stay, then the others, large ones first: they pack best so. Ties by number. */
  place(lost: readonly number[], before: Uint16Array | undefined): void {
    const { demand } = this.#groups;
    const open = before === undefined ? [...lost] : lost.filter((group) => !this.#keep(group, before));
    open.sort((a, b) => (demand[b] as number) - (demand[a] as number) || a - b);
    for (const group of open) this.#set(group, 0, this.#find(group));
    // The others are for when the first one is gone as well: they promise no room.
    for (const group of lost) this.#addSpares(group, before);
  }

  #keep(group: number, before: Uint16Array): boolean {
    const cluster = before[group * this.#count] as number;
    if (cluster === NO_BACKUP || !this.#isOpen(group, cluster)) return false;
    const demand = this.#groups.demand[group] as number;
    if ((this.#used[cluster] as number) + demand > this.#capacity(cluster) * KEPT_LOAD_MAX) return false;
    this.#set(group, 0, cluster);
    return true;
  }

  #set(group: number, place: number, cluster: number): void {
    this.#backups[group * this.#count + place] = cluster;
    if (place === 0 && cluster !== NO_BACKUP)
      (this.#used[cluster] as number) += this.#groups.demand[group] as number;
  }

  /** The nearest with room, else the one that it loads least. */
  #find(group: number): number {
    const { clusters, from } = this.#outsideOf(this.#groups.orderOf[group] as number);
    const demand = this.#groups.demand[group] as number;
    let best = NO_BACKUP;
    let bestLoad = Infinity;
    for (let n = from, looked = 0; n < clusters.length && looked < LOOKED_AT_MAX; n++) {
      const cluster = clusters[n] as number;
      if (!this.#isOpen(group, cluster)) continue;
      looked++;
      const load = ((this.#used[cluster] as number) + demand) / this.#capacity(cluster);
      if (load <= NEW_LOAD_MAX) return cluster;
      if (load >= bestLoad) continue;
      best = cluster;
      bestLoad = load;
    }
    return best;
  }

  #addSpares(group: number, before: Uint16Array | undefined): void {
    const own = group * this.#count;
    const first = this.#backups[own] as number;
    if (first === NO_BACKUP) return;
    const isSame = before !== undefined && before[own] === first;
    if (isSame && this.#areOpen(group, before)) {
      this.#backups.set(before.subarray(own, own + this.#count), own);
      return;
    }
    const { clusters } = this.#outsideOf(this.#groups.orderOf[group] as number);
    const isOther = (cluster: number): boolean => this.#regions[cluster] !== this.#regions[first];
    let place = 1;
    for (const mustBeOther of [true, false])
      for (const cluster of clusters) {
        if (place >= (mustBeOther ? Math.min(2, this.#count) : this.#count)) break;
        if ((mustBeOther && !isOther(cluster)) || !this.#isOpen(group, cluster)) continue;
        if (this.#backups.subarray(own, own + place).includes(cluster)) continue;
        this.#set(group, place++, cluster);
      }
  }

  #areOpen(group: number, before: Uint16Array): boolean {
    for (let place = 1; place < this.#count; place++) {
      const cluster = before[group * this.#count + place] as number;
      if (cluster !== NO_BACKUP && !this.#isOpen(group, cluster)) return false;
    }
    return true;
  }

  #isOpen(group: number, cluster: number): boolean {
    return (
      this.#regions[cluster] !== this.#region &&
      this.#capacity(cluster) > 0 &&
      !this.#groups.isRanked(group, cluster)
    );
  }

  /** Nearest first, from `from` on: before it all are full. */
  #outsideOf(orderNumber: number): Outside {
    let outside = this.#outside.get(orderNumber);
    if (outside === undefined) {
      const clusters: number[] = [];
      for (const cluster of this.#groups.orders[orderNumber] ?? [])
        if (this.#regions[cluster] !== this.#region && this.#capacity(cluster) > 0) clusters.push(cluster);
      outside = { clusters, from: 0 };
      this.#outside.set(orderNumber, outside);
    }
    const { clusters } = outside;
    while (outside.from + LOOKED_AT_MAX < clusters.length && this.#isFull(clusters[outside.from] as number))
      outside.from++;
    return outside;
  }

  #isFull(cluster: number): boolean {
    return (this.#used[cluster] as number) > this.#capacity(cluster) * (NEW_LOAD_MAX - ROOM_RATIO_MIN);
  }

  #capacity(cluster: number): number {
    return (this.#edges[cluster] as EdgeInput).capacityPerSecond;
  }
}

/** The backups of every client network of a map, made of who is where. */
import { trafficClasses } from "#kit";
import type { RankingPlaces } from "./backup-places.ts";
import { type BackupGroups, backupsOf, NO_BACKUP } from "./backups.ts";
import type { Allocation } from "./allocation.ts";
import type { EdgeInput } from "./limits.ts";
import { type NetworkRows, NOWHERE } from "./network-rows.ts";
import type { ScoreOrders } from "./score-orders.ts";

/** Networks that share a row are divided into at most so many groups, so that no group asks more than a share of the median cluster. */
const VARIANTS_MAX = 16;
const GROUP_SHARE_MAX = 0.25;
const NOBODY: readonly number[] = [];

/** Who is where, and what they rank. */
interface PlacedNetworks {
  readonly input: {
    readonly networks: readonly { readonly demandPerSecond: number }[];
    readonly edges: readonly EdgeInput[];
    readonly rows: NetworkRows;
  };
  readonly allocation: Allocation;
  readonly orders: ScoreOrders;
  /** Of a unit: the number of its order. */
  orderOf(unit: number): number;
}

export class BackupPlan {
  readonly places: RankingPlaces;
  /** By network: its group. Networks of one shared row are one group, or several where they ask much. */
  readonly groupOf: Uint32Array;
  readonly groups: number;
  readonly #backups: Uint16Array;

  constructor(map: PlacedNetworks, places: RankingPlaces, before?: BackupPlan) {
    this.places = places;
    const { rows, networks, edges } = map.input;
    const count = places.backups;
    this.groupOf = new Uint32Array(rows.rowOf.length);
    if (count === 0) {
      this.groups = 0;
      this.#backups = new Uint16Array(0);
      return;
    }
    const variants = variantsOf(map);
    const numbers = new Int32Array(rows.sharedRows * VARIANTS_MAX).fill(-1);
    const first: number[] = [];
    for (let n = 0; n < this.groupOf.length; n++) {
      const row = rows.sharedRowOf(n);
      const key = row * VARIANTS_MAX + (n % (variants[row] as number));
      if (numbers[key] === -1) numbers[key] = first.push(n) - 1;
      this.groupOf[n] = numbers[key] as number;
    }
    this.groups = first.length;
    const natural = places.places - count;
    const groups: BackupGroups = {
      demand: new Float64Array(first.length),
      home: new Uint16Array(first.length).fill(NO_BACKUP),
      orderOf: Uint32Array.from(first, (n) => rows.orderNumber(n)),
      orders: rows.nearest.orders,
      isRanked: (group, cluster) => {
        const unit = (first[group] as number) * trafficClasses.length;
        for (let k = 0; k < trafficClasses.length; k++) {
          const order = map.orderOf(unit + k);
          const begin = map.orders.begin(order);
          const end = Math.min(map.orders.end(order), begin + natural);
          for (let at = begin; at < end; at++) if (map.orders.clusters[at] === cluster) return true;
        }
        return false;
      },
    };
    const most = new Float64Array(first.length);
    for (let n = 0; n < this.groupOf.length; n++) {
      const { demandPerSecond } = networks[n] as (typeof networks)[number];
      const group = this.groupOf[n] as number;
      (groups.demand[group] as number) += demandPerSecond;
      const cluster = map.allocation.clusterOf(n * trafficClasses.length);
      if (cluster === NOWHERE || demandPerSecond < (most[group] as number)) continue;
      if (groups.home[group] !== NO_BACKUP && demandPerSecond === most[group]) continue;
      most[group] = demandPerSecond;
      groups.home[group] = cluster;
    }
    const allocated = (c: number): number => map.allocation.demandPerSecond(c);
    this.#backups = backupsOf(groups, edges, allocated, count, before && keptOf(before, first, count));
  }

  /** Clusters that take a network when the region of its cluster is lost, the first one first. */
  of(n: number): readonly number[] {
    const { backups } = this.places;
    if (backups === 0) return NOBODY;
    const at = (this.groupOf[n] as number) * backups;
    const own: number[] = [];
    for (let place = at; place < at + backups; place++)
      if (this.#backups[place] !== NO_BACKUP) own.push(this.#backups[place] as number);
    return own;
  }

  /** Those of a network, at `to[at]` and behind it. */
  copy(n: number, to: Uint16Array, at: number): void {
    const { backups } = this.places;
    const from = (this.groupOf[n] as number) * backups;
    to.set(this.#backups.subarray(from, from + backups), at);
  }
}

/** What the map before had for the first network of each group. */
function keptOf(before: BackupPlan, first: readonly number[], count: number): Uint16Array | undefined {
  if (before.places.backups !== count || before.groupOf.length < first.length) return undefined;
  const kept = new Uint16Array(first.length * count);
  for (const [group, n] of first.entries()) before.copy(n, kept, group * count);
  return kept;
}

/** Of each shared row: into how many groups its networks are divided, a power of two. */
function variantsOf({ input }: PlacedNetworks): Uint8Array {
  const { rows, networks, edges } = input;
  const demand = new Float64Array(rows.sharedRows);
  for (const [n, { demandPerSecond }] of networks.entries())
    (demand[rows.sharedRowOf(n)] as number) += demandPerSecond;
  const capacities = Float64Array.from(edges, ({ capacityPerSecond }) => capacityPerSecond).sort();
  const share = GROUP_SHARE_MAX * (capacities[capacities.length >> 1] as number);
  return Uint8Array.from(demand, (sum) => {
    let variants = 1;
    while (variants < VARIANTS_MAX && sum > share * variants) variants *= 2;
    return variants;
  });
}

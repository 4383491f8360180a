/**
 * Where clients go between two maps, when the cluster that the map sends them to has gone. A name server knows which clusters serve
 * and, from the map, what each of them carries; so it sends what a dead one leaves to where there is room, nearest first, and not
 * everyone to the same next one. Pure: every name server that sees the same clusters serve decides the same.
 */
import { type ClusterId, type RegionId, rendezvousOrder } from "#kit";
import { backupPlaces } from "./backup-places.ts";

/** An edge cluster as a name server sees it. */
export interface SpillCluster {
  readonly clusterId: ClusterId;
  readonly regionId: RegionId;
  /** Of all its servers, and of those that live, requests per second. */
  readonly capacityPerSecond: number;
  readonly livePerSecond: number;
  /** Demand over capacity, as the map has allocated it. */
  readonly load: number;
  readonly isServing: boolean;
}

/**
 * The nearest clusters that have this many times the room that is needed share it: who shares draws by lot, and others may draw the same
 * clusters.
 */
const SHARED_ROOM_RATIO = 2;
/** A region that has less than this many times the room of what its dead leave does not take them. */
const REGION_ROOM_RATIO = 1.25;

interface Place {
  readonly id: ClusterId;
  readonly regionId: RegionId;
  readonly isServing: boolean;
  /** What it can still take, requests per second; 0 where it does not serve. */
  readonly room: number;
  readonly livePerSecond: number;
  /** What it leaves, requests per second; 0 where it serves. */
  readonly lost: number;
}

interface RegionSums {
  room: number;
  lost: number;
}

export class Spill {
  readonly #places = new Map<ClusterId, Place>();
  readonly #regions = new Map<RegionId, RegionSums>();

  /** @param clusters all edge clusters that have addresses to give */
  constructor(clusters: Iterable<SpillCluster>) {
    for (const cluster of clusters) {
      const { clusterId, regionId, capacityPerSecond, livePerSecond, load, isServing } = cluster;
      const room = isServing ? Math.max(0, 1 - load) * livePerSecond : 0;
      const lost = isServing ? 0 : load * capacityPerSecond;
      this.#places.set(clusterId, { id: clusterId, regionId, isServing, room, livePerSecond, lost });
      const sums = this.#regions.get(regionId) ?? { room: 0, lost: 0 };
      sums.room += room;
      sums.lost += lost;
      this.#regions.set(regionId, sums);
    }
  }

  /**
   * The cluster that takes those whose ranking this is, the first of which does not serve. A region takes what its own dead leave as long as
   * it has room for that; else they go to near clusters of others that have it, then to the backups that the map names for that, then
   * to wherever in the ranking there is room, and at last to any cluster that serves, by its room. Undefined: none serves.
   *
   * @param hasBackups its last places are backups: see `backups.ts`
   */
  next(ranking: readonly ClusterId[], hasBackups: boolean): ClusterId | undefined {
    const known = (ids: readonly ClusterId[]): Place[] => ids.flatMap((id) => this.#places.get(id) ?? []);
    const region = this.#places.get(ranking[0] as ClusterId)?.regionId;
    const sums = region === undefined ? undefined : this.#regions.get(region);
    const backupsFrom = ranking.length - (hasBackups ? backupPlaces(ranking.length) : 0);
    const natural = known(ranking.slice(0, backupsFrom));
    const backups = known(ranking.slice(backupsFrom));
    const key = ranking.join(" ");
    let taken: ClusterId | undefined;
    if (sums !== undefined && sums.room >= sums.lost * REGION_ROOM_RATIO) {
      const home = natural.filter(({ regionId }) => regionId === region);
      const lost = home.reduce((sum, place) => sum + place.lost, 0);
      taken = drawn(key, nearest(home, lost) ?? home);
    }
    if (taken === undefined && sums !== undefined) {
      const away = natural.filter(({ regionId }) => regionId !== region);
      taken = drawn(key, nearest(away, sums.lost) ?? []);
    }
    taken ??= backups.find((one) => one.room > 0 && one.regionId !== region)?.id;
    return taken ?? drawn(key, [...natural, ...backups]) ?? this.#anywhere(key);
  }

  /** No room is left anywhere: then by what is alive. */
  #anywhere(key: string): ClusterId | undefined {
    const serving = [...this.#places.values()].filter(({ isServing }) => isServing);
    return drawn(key, serving) ?? rendezvousOrder(key, serving.map(byCapacity))[0]?.id;
  }
}

/** The first ones that together have the room; undefined: all of them have not. */
function nearest(places: readonly Place[], lost: number): readonly Place[] | undefined {
  let room = 0;
  for (const [n, place] of places.entries()) {
    room += place.room;
    if (room > 0 && room >= lost * SHARED_ROOM_RATIO) return places.slice(0, n + 1);
  }
  return undefined;
}

/** One of them, by room; undefined: none has any. */
function drawn(key: string, places: readonly Place[]): ClusterId | undefined {
  const open = places.filter(({ room }) => room > 0);
  return rendezvousOrder(
    key,
    open.map(({ id, room }) => ({ id, weight: room })),
  )[0]?.id;
}

function byCapacity({ id, livePerSecond }: Place): { readonly id: ClusterId; readonly weight: number } {
  return { id, weight: livePerSecond };
}

/**
 * What to expect of a client network that nobody has measured: what others measured who share its way or its place. In this order:
 * the same last routers before it, the same AS and city, the same routed prefix, then whoever is near by geography, then geography
 * alone. Networks that share all of that share one group, and with it every estimate: half a million networks are some thousand groups.
 *
 * Client networks and clusters go by their numbers in the engine.
 */
import {
  type ClientNetworkId,
  type Coordinates,
  fibreRttMsMin,
  greatCircleKm,
  quantile,
  type Steps,
} from "#kit";
import { type Estimate, estimateByGeography, GEOGRAPHY_CONFIDENCE, usualRttMs } from "./estimator.ts";
import { type BelievedPlace, believedPlace, type Sighting } from "./locate.ts";
import { type Anchor, NearbySpots, type NearSpot } from "./nearby.ts";
import { kmBetween, type Vector, vectorOf } from "./sphere.ts";
import { guessUnmeasured, type MeasuredSite } from "./unmeasured.ts";

/** What is known of a client network besides measurements. */
export interface NetworkFeatures {
  readonly clientNetworkId: ClientNetworkId;
  /** Where a label says that it is; null when none does. */
  readonly coordinates: Coordinates | null;
  /** Origin of the route to it (RFC 6793). */
  readonly asNumber?: number;
  /** A key of the city, the same for all networks that the label puts there. */
  readonly city?: string;
  /** The announced prefix that covers it, canonical. */
  readonly routedPrefix?: string;
}

/** From whom an estimate is borrowed, the most specific first. `geography`: from nobody. */
export type BorrowKind = "last-hop" | "as-and-city" | "prefix" | "nearby" | "geography";

export interface BorrowedEstimate extends Estimate {
  readonly kind: BorrowKind;
}

export interface NeighboursInput {
  /** By number. */
  readonly networks: readonly NetworkFeatures[];
  /** Clusters by number, with the places that are believed. */
  readonly clusters: readonly { readonly clusterId: string; readonly coordinates: Coordinates | null }[];
  /** Client networks that have own measurements, and their round-trip times by cluster, ms. */
  readonly rows: ReadonlyMap<number, ReadonlyMap<number, number>>;
  /** Measured round trip between two clusters, ms. */
  readonly siteRttMs: (a: number, b: number) => number | undefined;
  /** Routers that answered last before a network, the nearest to it first. */
  readonly lastHopsOf: (clientNetworkId: ClientNetworkId) => readonly string[];
}

interface Shared {
  readonly kind: BorrowKind;
  readonly key: string;
  readonly members: readonly Anchor[];
}

/** All networks of one group have the same estimates. */
class Group {
  readonly place: Coordinates | null;
  readonly vector: Vector | null;
  /** Those who share the way, by how, the most specific first. */
  readonly shared: readonly Shared[];
  /** Clusters that those who share the way have measured. */
  readonly clusters: readonly number[];
  /** Both are found when they are needed first. */
  spots: readonly NearSpot[] | undefined;
  pooled: readonly MeasuredSite<number>[] | undefined;

  constructor(place: Coordinates | null, shared: readonly Shared[]) {
    this.place = place;
    this.vector = place === null ? null : vectorOf(place);
    this.shared = shared;
    const clusters = new Set(shared.flatMap(({ members }) => members.flatMap(({ measured }) => measured)));
    this.clusters = [...clusters].slice(0, CLUSTERS_MAX);
  }
}
export type NeighbourGroup = Group;

/** Never as much as a measurement has that is as old as its window. */
const CONFIDENCE: Readonly<Record<BorrowKind, number>> = {
  "last-hop": 0.35,
  "as-and-city": 0.3,
  prefix: 0.25,
  nearby: 0.15,
  geography: GEOGRAPHY_CONFIDENCE,
};
/** What is believed more was measured, whatever rounding has done to it. */
export const BORROWED_CONFIDENCE_MAX = 0.37;

/** Measured networks of one group that speak for it. */
const PEERS_MAX = 16;
/**
 * Places that speak for a pair by geography, the nearest that know the site among the nearest `SPOTS_MAX`; they count by
 * 1 / (distance + `NEAR_KM`), and the slowest and the fastest `TRIM_RATIO` of the weight are left out, as a label may lie. On
 * WonderNetwork with a quarter, half and three quarters unmeasured, 6 to 12 places, 50 to 200 km and 0.1 to 0.3 are within 2 %.
 */
const NEARBY_MAX = 8;
const SPOTS_MAX = 32;
const NEAR_KM = 100;
const TRIM_RATIO = 0.2;
/** Members of a group that disagree by more (interquartile range over median, and ms) have nothing to do with each other. */
const DISAGREE_RATIO = 0.5;
const DISAGREE_MS = 10;
/** A label this far from all who share its way is not believed, km. */
const ELSEWHERE_KM = 1_000;
/** Bounds the search for the place of one network. */
const PLACES_MAX = 1_000;
/** From a site to a client network beside it, ms. */
const SITE_ACCESS_MS = 2;
/** Labels are centres of cities: so much less than light in fibre allows is still believed, ms. */
const LABEL_SLACK_MS = 2;
/** Clusters of those who share the way that a group looks at. */
const CLUSTERS_MAX = 32;

/** As of one moment: made anew when there is more to borrow. */
export class Neighbours {
  readonly #input: NeighboursInput;
  /** Measured networks by what they share. */
  readonly #byLastHop = new Map<string, Anchor[]>();
  /** City, then AS. */
  readonly #byCity = new Map<string, Map<number, Anchor[]>>();
  readonly #byPrefix = new Map<string, Anchor[]>();
  /** Of the measured networks. */
  readonly #places = new Map<number, BelievedPlace>();
  readonly #nearby = new NearbySpots();
  readonly #vectors: readonly (Vector | null)[];
  /** Those that share nothing but their place, by it; the others by all that they share. */
  readonly #bareGroups = new Map<number, Group>();
  readonly #groups = new Map<string, Group>();
  readonly #times = new Float64Array(NEARBY_MAX);
  readonly #weights = new Float64Array(NEARBY_MAX);

  private constructor(input: NeighboursInput) {
    this.#input = input;
    this.#vectors = input.clusters.map(({ coordinates }) =>
      coordinates === null ? null : vectorOf(coordinates),
    );
  }

  /** In steps of a few milliseconds: the place of everyone who was measured is looked for. */
  static *inSteps(input: NeighboursInput): Steps<Neighbours> {
    const neighbours = new Neighbours(input);
    yield* neighbours.#fill();
    return neighbours;
  }

  *#fill(): Steps<void> {
    const { networks, clusters, rows, siteRttMs } = this.#input;
    const inQuestion = distinctPlaces([
      ...clusters.map(({ coordinates }) => coordinates),
      ...rows.keys().map((n) => networks[n]?.coordinates ?? null),
    ]);
    for (const [own, { clusterId, coordinates }] of clusters.entries())
      this.#nearby.add({
        id: clusterId,
        coordinates,
        rttMs: (other) => (other === own ? SITE_ACCESS_MS : siteRttMs(own, other)),
        measured: [],
      });
    for (const [n, row] of rows) {
      yield;
      const network = networks[n];
      if (network === undefined || row.size === 0) continue;
      const place = believedPlace(network.coordinates, this.#sightings(row), inQuestion);
      this.#places.set(n, place);
      const anchor: Anchor = {
        id: network.clientNetworkId,
        coordinates: place.coordinates,
        rttMs: (cluster) => row.get(cluster),
        measured: [...row.keys()],
      };
      this.#nearby.add(anchor);
      this.#join(network, anchor);
    }
  }

  /**
   * Where the network is believed to be: a measured one by its times; another one where those are who share its way, if all of them are
   * far from its label.
   */
  placeOf(n: number): BelievedPlace {
    const network = this.#input.networks[n] as NetworkFeatures;
    return this.#places.get(n) ?? this.#unmeasuredPlace(network, this.#shared(network));
  }

  groupOf(n: number): Group {
    const network = this.#input.networks[n] as NetworkFeatures;
    const shared = this.#shared(network);
    const place = (this.#places.get(n) ?? this.#unmeasuredPlace(network, shared)).coordinates;
    const cell = place === null ? NOWHERE_CELL : cellOf(place);
    if (shared.length === 0) {
      const bare = this.#bareGroups.get(cell) ?? new Group(place, shared);
      this.#bareGroups.set(cell, bare);
      return bare;
    }
    const key = `${shared.map((one) => one.key).join("|")}@${cell}`;
    const group = this.#groups.get(key) ?? new Group(place, shared);
    this.#groups.set(key, group);
    return group;
  }

  /** What the group has to expect of a cluster. */
  estimate(group: Group, cluster: number): BorrowedEstimate {
    for (const { kind, members } of group.shared) {
      const shared = sharedEstimate(kind, members, cluster);
      if (shared !== undefined) return shared;
    }
    const { siteRttMs } = this.#input;
    return guessUnmeasured(this.#byPlace(group, cluster), cluster, this.#pooled(group), siteRttMs);
  }

  /** Who speaks for the group, client networks and clusters by their ids, the ones that count most first. */
  lendersOf(group: Group, cluster: number): readonly string[] {
    for (const { kind, members } of group.shared)
      if (sharedEstimate(kind, members, cluster) !== undefined)
        return members.filter((one) => one.rttMs(cluster) !== undefined).map(({ id }) => id);
    return this.#spotsOf(group)
      .filter(({ spot }) => spot.rttMs(cluster) !== undefined)
      .slice(0, NEARBY_MAX)
      .map(({ spot }) => (spot.anchors[0] as Anchor).id);
  }

  /** Whoever is near, each corrected by how much farther or nearer geography says that the site is from there. */
  #byPlace(group: Group, cluster: number): BorrowedEstimate {
    const { place, vector } = group;
    const site = this.#vectors[cluster] ?? null;
    if (place === null || vector === null || site === null) return { ...NOTHING_KNOWN, kind: "geography" };
    const km = kmBetween(vector, site);
    const usualMs = usualRttMs(km);
    // Flat, kept sorted by insertion, without an object for each: this is done for every pair of a place and a candidate.
    const times = this.#times;
    const weights = this.#weights;
    let count = 0;
    for (const near of this.#spotsOf(group)) {
      const there = near.spot.rttMs(cluster);
      if (there === undefined) continue;
      const rttMs = there + usualMs - usualRttMs(kmBetween(near.spot.vector, site));
      let at = count++;
      for (; at > 0 && (times[at - 1] as number) > rttMs; at--) {
        times[at] = times[at - 1] as number;
        weights[at] = weights[at - 1] as number;
      }
      times[at] = rttMs;
      weights[at] = 1 / (near.km + NEAR_KM);
      if (count >= NEARBY_MAX) break;
    }
    const { lossRatio } = NOTHING_KNOWN;
    const known = { lossRatio, ageMs: Infinity, samples: 0 };
    if (count === 0)
      return {
        ...known,
        rttMs: usualMs,
        spreadMs: usualMs * 0.1,
        confidence: CONFIDENCE.geography,
        kind: "geography",
      };
    return {
      ...known,
      rttMs: Math.max(trimmedMean(times, weights, count), fibreRttMsMin(km) - LABEL_SLACK_MS),
      spreadMs: spreadOf(times.subarray(0, count)),
      confidence: CONFIDENCE.nearby,
      kind: "nearby",
    };
  }

  /** Places of those who share the way are none of them: what they measured is compared with what the others promise. */
  #spotsOf(group: Group): readonly NearSpot[] {
    if (group.spots !== undefined) return group.spots;
    const near = group.place === null ? [] : this.#nearby.nearest(group.place, SPOTS_MAX);
    const own = new Set(group.shared.flatMap(({ members }) => members));
    group.spots =
      own.size === 0 ? near : near.filter(({ spot }) => !spot.anchors.every((one) => own.has(one)));
    return group.spots;
  }

  /** What those who share the way measured of any cluster, beside what their place had promised. */
  #pooled(group: Group): readonly MeasuredSite<number>[] {
    if (group.pooled !== undefined) return group.pooled;
    group.pooled = [];
    for (const { kind, members } of group.shared) {
      group.pooled = group.clusters.flatMap((cluster): MeasuredSite<number>[] => {
        const estimate = sharedEstimate(kind, members, cluster);
        if (estimate === undefined) return [];
        const guessMs = this.#byPlace(group, cluster).rttMs;
        return [{ clusterId: cluster, rttMs: estimate.rttMs, guessMs }];
      });
      if (group.pooled.length > 0) break;
    }
    return group.pooled;
  }

  #unmeasuredPlace(network: NetworkFeatures, shared: readonly Shared[]): BelievedPlace {
    const { coordinates } = network;
    for (const { members } of shared) {
      const places = members.flatMap((member) => member.coordinates ?? []);
      const [first] = places;
      if (first === undefined) continue;
      const isElsewhere = (place: Coordinates): boolean =>
        coordinates === null || greatCircleKm(place, coordinates) > ELSEWHERE_KM;
      if (places.every(isElsewhere)) return { coordinates: first, source: "measured" };
      break;
    }
    return { coordinates, source: coordinates === null ? "unknown" : "label" };
  }

  #sightings(row: ReadonlyMap<number, number>): Sighting[] {
    return [...row].flatMap(([cluster, rttMs]): Sighting[] => {
      const coordinates = this.#input.clusters[cluster]?.coordinates;
      return coordinates ? [{ coordinates, rttMs }] : [];
    });
  }

  #join(network: NetworkFeatures, anchor: Anchor): void {
    const { clientNetworkId, asNumber, city, routedPrefix } = network;
    for (const address of this.#input.lastHopsOf(clientNetworkId)) join(this.#byLastHop, address, anchor);
    if (asNumber !== undefined && city !== undefined) {
      const ofCity = this.#byCity.get(city) ?? new Map<number, Anchor[]>();
      this.#byCity.set(city, ofCity);
      join(ofCity, asNumber, anchor);
    }
    if (routedPrefix !== undefined) join(this.#byPrefix, routedPrefix, anchor);
  }

  /** What the network shares with measured ones. */
  #shared(network: NetworkFeatures): readonly Shared[] {
    const { clientNetworkId, asNumber, city, routedPrefix } = network;
    let found: Shared[] | undefined;
    const add = (kind: BorrowKind, key: string | number, members: Anchor[] | undefined): void => {
      if (members !== undefined) (found ??= []).push({ kind, key: `${kind} ${key}`, members });
    };
    if (this.#byLastHop.size > 0)
      for (const address of this.#input.lastHopsOf(clientNetworkId))
        add("last-hop", address, this.#byLastHop.get(address));
    if (asNumber !== undefined && city !== undefined) {
      const members = this.#byCity.get(city)?.get(asNumber);
      if (members !== undefined) add("as-and-city", `${asNumber} ${city}`, members);
    }
    if (routedPrefix !== undefined) add("prefix", routedPrefix, this.#byPrefix.get(routedPrefix));
    return found ?? NOTHING;
  }
}

const NOTHING: readonly Shared[] = [];
const NOTHING_KNOWN = estimateByGeography(null, null);

function join<K>(groups: Map<K, Anchor[]>, key: K, anchor: Anchor): void {
  const members = groups.get(key);
  if (members === undefined) groups.set(key, [anchor]);
  else if (members.length < PEERS_MAX) members.push(anchor);
}

/** One of each place, the first ones: among them a network is looked for whose label cannot be true. */
function distinctPlaces(all: Iterable<Coordinates | null>): Coordinates[] {
  const found = new Map<number, Coordinates>();
  for (const place of all) {
    if (place === null || found.has(cellOf(place))) continue;
    found.set(cellOf(place), place);
    if (found.size >= PLACES_MAX) break;
  }
  return [...found.values()];
}

/** About 10 km. */
function cellOf({ latitude, longitude }: Coordinates): number {
  return Math.round(latitude * 10) * 10_000 + Math.round(longitude * 10);
}
const NOWHERE_CELL = Number.NaN;

/** The median of the members' times; undefined when none has one, or they disagree. */
function sharedEstimate(
  kind: BorrowKind,
  members: readonly Anchor[],
  cluster: number,
): BorrowedEstimate | undefined {
  const times: number[] = [];
  for (const member of members) {
    const rttMs = member.rttMs(cluster);
    if (rttMs !== undefined) times.push(rttMs);
  }
  if (times.length === 0) return undefined;
  times.sort((a, b) => a - b);
  const rttMs = quantile(times, 0.5);
  const spreadMs = spreadOf(times);
  if (times.length > 2 && spreadMs > Math.max(DISAGREE_MS, DISAGREE_RATIO * rttMs)) return undefined;
  return {
    ...NOTHING_KNOWN,
    rttMs,
    spreadMs,
    confidence: CONFIDENCE[kind],
    kind,
  };
}

/** Interquartile range; of one value a tenth of it. */
function spreadOf(sorted: ArrayLike<number>): number {
  if (sorted.length === 1) return (sorted[0] as number) * 0.1;
  return quantile(sorted, 0.75) - quantile(sorted, 0.25);
}

/** Weighted mean of what is left when `TRIM_RATIO` of the weight is cut off at both ends. */
function trimmedMean(sorted: Float64Array, weights: Float64Array, count: number): number {
  let total = 0;
  for (let n = 0; n < count; n++) total += weights[n] as number;
  let before = 0;
  let sum = 0;
  let kept = 0;
  for (let n = 0; n < count; n++) {
    const from = Math.max(before / total, TRIM_RATIO);
    before += weights[n] as number;
    const share = Math.max(0, Math.min(before / total, 1 - TRIM_RATIO) - from);
    sum += share * (sorted[n] as number);
    kept += share;
  }
  return sum / kept;
}

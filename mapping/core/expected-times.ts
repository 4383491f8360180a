/** What a client network has to expect of clusters that nobody measured it against, where clusters measure each other. */
import { type ClusterId, type Coordinates, greatCircleKm, type RankedCluster } from "#kit";
import { estimateByGeography, geographyRttMs } from "./estimator.ts";

/** Of a network's clusters so many of the nearest are asked for their ways; and of a cluster so many around it stand in for it. */
const NEAR_MAX = 4;
const STAND_INS_MAX = 16;

/**
 * A network that is near to a cluster has the ways of that cluster: the round trip to it and its measured link are what is to be expected. A cluster
 * without a link is as far as one around it that has one, and the way between the two. Without any of it, geography. For one map; answers are kept.
 */
export class ExpectedTimes {
  readonly #clusterIds: readonly ClusterId[];
  readonly #numbers: ReadonlyMap<ClusterId, number>;
  readonly #places: readonly (Coordinates | null)[];
  readonly #linkRttMs: (from: ClusterId, to: ClusterId) => number | undefined;
  readonly #between = new Map<number, number>();
  readonly #around = new Map<number, readonly number[]>();

  /** @param linkRttMs measured, of two clusters; undefined: nobody has */
  constructor(
    clusterIds: readonly ClusterId[],
    places: readonly (Coordinates | null)[],
    linkRttMs: (from: ClusterId, to: ClusterId) => number | undefined,
  ) {
    this.#clusterIds = clusterIds;
    this.#numbers = new Map(clusterIds.map((clusterId, number) => [clusterId, number]));
    this.#places = places;
    this.#linkRttMs = linkRttMs;
  }

  /** @param ranking the network's clusters with their round trips; measured or not */
  rttMs(place: Coordinates | null, ranking: readonly RankedCluster[], to: ClusterId): number {
    const number = this.#numbers.get(to);
    let least = Infinity;
    for (const { clusterId, terms } of nearest(ranking)) {
      const from = this.#numbers.get(clusterId);
      if (from === undefined || number === undefined || terms.rttMs >= least) continue;
      least = Math.min(least, terms.rttMs + this.#linkMs(from, number));
    }
    if (least < Infinity) return least;
    return estimateByGeography(place, number === undefined ? null : (this.#places[number] ?? null)).rttMs;
  }

  /** Infinity where no link tells. */
  #linkMs(from: number, to: number): number {
    if (from === to) return 0;
    const key = from * 2 ** 16 + to;
    let rttMs = this.#between.get(key);
    if (rttMs === undefined) {
      rttMs = this.#measured(from, to) ?? this.#viaStandIn(from, to);
      this.#between.set(key, rttMs);
    }
    return rttMs;
  }

  #viaStandIn(from: number, to: number): number {
    for (const near of this.#nearOf(to)) {
      const there = near === from ? undefined : this.#measured(from, near);
      if (there === undefined) continue;
      const [place, other] = [this.#places[near], this.#places[to]];
      return there + (this.#measured(near, to) ?? (place && other ? geographyRttMs(place, other) : Infinity));
    }
    return Infinity;
  }

  #measured(from: number, to: number): number | undefined {
    return this.#linkRttMs(this.#clusterIds[from] as ClusterId, this.#clusterIds[to] as ClusterId);
  }

  /** Clusters around one, the nearest first. */
  #nearOf(cluster: number): readonly number[] {
    let near = this.#around.get(cluster);
    if (near === undefined) {
      const place = this.#places[cluster];
      near = !place
        ? []
        : this.#places
            .flatMap((other, number) =>
              other && number !== cluster ? [{ number, km: greatCircleKm(place, other) }] : [],
            )
            .sort((a, b) => a.km - b.km || a.number - b.number)
            .slice(0, STAND_INS_MAX)
            .map(({ number }) => number);
      this.#around.set(cluster, near);
    }
    return near;
  }
}

function nearest(ranking: readonly RankedCluster[]): RankedCluster[] {
  return ranking.toSorted((a, b) => a.terms.rttMs - b.terms.rttMs).slice(0, NEAR_MAX);
}

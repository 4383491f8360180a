/**
 * From who is where to what a snapshot says. The order of a ranking is the order of the scores, with one addition: a cluster that would be
 * better but is full, or not better by the switch margin, costs what the chosen one costs. So the first of each ranking is where
 * the allocation sends the client network, and the next ones are where it spills to.
 */
import {
  type CandidateRow,
  ClientNetworkTable,
  ClusterMapBuilder,
  type ClusterMapTable,
  placementReasons,
  type RankedCluster,
  type Rankings,
  rowOfRankings,
  type TrafficClass,
  trafficClasses,
} from "#kit";
import type { ClientNetworkInput, ClusterMap } from "./cluster-map.ts";
import type { EdgeInput } from "./limits.ts";
import { rounded } from "./link-table.ts";
import { NOWHERE } from "./network-rows.ts";
import { type ScoreParameters, scoreOf } from "./score.ts";

/** Candidates that a row of the table has at most; the orders of three classes may name different ones. */
const ROW_CANDIDATES_MAX = 64;
/** With more clusters than that, places that each class has for sure, one of them for where a unit has been put. */
const PLACES_MAX = Math.floor(ROW_CANDIDATES_MAX / trafficClasses.length) - 1;

/** The client networks of the engine as the map numbers them. */
export class NumberedNetworks {
  readonly table: ClientNetworkTable;
  /** By the engine's number. */
  readonly numbers: Uint32Array;

  /** Throws RangeError: see {@link ClientNetworkTable.of}. */
  constructor(networks: readonly ClientNetworkInput[]) {
    this.table = ClientNetworkTable.of(networks);
    this.numbers = Uint32Array.from(
      networks,
      ({ clientNetworkId }) => this.table.indexOf(clientNetworkId) as number,
    );
  }
}

/** Everybody's rankings. Networks that share a row of estimates share one of the table. */
export function clusterMapTable(
  map: ClusterMap,
  networks: NumberedNetworks,
  scores: Readonly<Record<TrafficClass, ScoreParameters>>,
  rankingMax: number,
  mapVersion: number,
): ClusterMapTable {
  const { edges, rows } = map.input;
  const clusters = edges.map(({ clusterId }, c) => ({ clusterId, load: map.load(c) }));
  const builder = new ClusterMapBuilder({
    mapVersion,
    networks: networks.table,
    clusters,
    limitNames: map.limitNames,
  });
  const writer = writerOf(map, rankingMax);
  const rowNumbers = new Int32Array(rows.rows.rows).fill(-1);
  const chosen = [0, 0, 0];
  for (let n = 0; n < rows.rowOf.length; n++) {
    const estimates = rows.rowOf[n] as number;
    const isShared = writer.places(n, chosen);
    let row = isShared ? (rowNumbers[estimates] as number) : -1;
    if (row < 0) {
      row = builder.row(writer.write(n, chosen));
      if (isShared) rowNumbers[estimates] = row;
    }
    place(builder, map, networks, n, row, chosen);
  }
  const numberOf = new Map(edges.map(({ clusterId }, c) => [clusterId, c]));
  builder.placeFallback(
    builder.row(
      rowOfRankings(
        fallbackRankings(map, scores, rankingMax),
        (clusterId) => numberOf.get(clusterId) as number,
      ),
    ),
  );
  return builder.build();
}

/** The table of before, with some units elsewhere: what has not moved costs a copy of arrays. */
export function movedClusterMapTable(
  map: ClusterMap,
  networks: NumberedNetworks,
  before: ClusterMapTable,
  moved: readonly number[],
  rankingMax: number,
  mapVersion: number,
): ClusterMapTable {
  const clusters = map.input.edges.map(({ clusterId }, c) => ({ clusterId, load: map.load(c) }));
  const head = { mapVersion, networks: networks.table, clusters, limitNames: map.limitNames };
  const builder = new ClusterMapBuilder(head, before);
  const writer = writerOf(map, rankingMax);
  const chosen = [0, 0, 0];
  for (const n of new Set(moved.map((unit) => Math.floor(unit / trafficClasses.length)))) {
    writer.places(n, chosen);
    place(builder, map, networks, n, builder.row(writer.write(n, chosen)), chosen);
  }
  return builder.build();
}

function writerOf(map: ClusterMap, rankingMax: number): RowWriter {
  const isSmall = map.input.edges.length <= ROW_CANDIDATES_MAX;
  return new RowWriter(map, isSmall ? rankingMax : Math.min(rankingMax, PLACES_MAX));
}

const reasons = [0, 0, 0];
const limits = [0, 0, 0];
/** With the reason of each class; the two arrays are scratch. */
function place(
  builder: ClusterMapBuilder,
  map: ClusterMap,
  networks: NumberedNetworks,
  n: number,
  row: number,
  chosen: readonly number[],
): void {
  for (let k = 0; k < trafficClasses.length; k++) {
    const unit = n * trafficClasses.length + k;
    const isSomewhere = map.allocation.clusterOf(unit) !== NOWHERE;
    reasons[k] = isSomewhere ? placementReasons.indexOf(map.allocation.reasonOf(unit)) : 0;
    limits[k] = isSomewhere ? map.allocation.limitNameOf(unit) : -1;
  }
  builder.place(networks.numbers[n] as number, row, chosen, reasons, limits);
}

/** Makes rows out of the orders of estimates; its arrays are used again for each. */
class RowWriter {
  readonly #map: ClusterMap;
  readonly #placesMax: number;
  readonly #clusters = new Uint16Array(ROW_CANDIDATES_MAX);
  readonly #rttMs = new Float64Array(ROW_CANDIDATES_MAX);
  readonly #lossRatio = new Float64Array(ROW_CANDIDATES_MAX);
  readonly #confidence = new Float64Array(ROW_CANDIDATES_MAX);
  readonly #orders = trafficClasses.map(() => ({
    length: 0,
    positions: new Uint8Array(ROW_CANDIDATES_MAX),
    scores: new Float64Array(ROW_CANDIDATES_MAX),
  }));
  /** Place of a cluster in the row + 1; 0: it is not in it. */
  readonly #positionOf: Uint8Array;

  constructor(map: ClusterMap, placesMax: number) {
    this.#map = map;
    this.#placesMax = placesMax;
    this.#positionOf = new Uint8Array(map.input.edges.length);
  }

  /** Writes the places of a network's chosen clusters in their orders to `chosen`; false: one is beyond what is kept of an order. */
  places(n: number, chosen: number[]): boolean {
    const { orders, allocation } = this.#map;
    let isWithin = true;
    for (let k = 0; k < trafficClasses.length; k++) {
      const unit = n * trafficClasses.length + k;
      const cluster = allocation.clusterOf(unit);
      chosen[k] = 0;
      if (cluster === NOWHERE) continue;
      const order = this.#map.orderOf(unit);
      const begin = orders.begin(order);
      const end = orders.end(order);
      let place = begin;
      while (place < end && orders.clusters[place] !== cluster) place++;
      chosen[k] = place === end ? 0 : place - begin;
      if ((chosen[k] as number) >= this.#placesMax) isWithin = false;
    }
    return isWithin;
  }

  /** The row of a network. A chosen cluster beyond what is kept of an order comes last in it, and `chosen` says so. */
  write(n: number, chosen: number[]): CandidateRow {
    const { orders } = this.#map;
    let count = 0;
    for (const [k, to] of this.#orders.entries()) {
      const order = this.#map.orderOf(n * trafficClasses.length + k);
      const begin = orders.begin(order);
      const wanted = chosen[k] as number;
      to.length = Math.min(this.#placesMax, orders.end(order) - begin);
      if (wanted >= to.length) chosen[k] = to.length - 1;
      for (let place = 0; place < to.length; place++) {
        const from = begin + (place === chosen[k] ? wanted : place);
        const cluster = orders.clusters[from] as number;
        if (this.#positionOf[cluster] === 0) {
          this.#candidate(n, cluster, count);
          this.#positionOf[cluster] = ++count;
        }
        to.positions[place] = (this.#positionOf[cluster] as number) - 1;
        to.scores[place] = orders.scores[from] as number;
      }
    }
    for (let position = 0; position < count; position++)
      this.#positionOf[this.#clusters[position] as number] = 0;
    return {
      count,
      clusters: this.#clusters,
      rttMs: this.#rttMs,
      lossRatio: this.#lossRatio,
      confidence: this.#confidence,
      orders: this.#orders as unknown as CandidateRow["orders"],
    };
  }

  #candidate(n: number, cluster: number, position: number): void {
    const { rows } = this.#map.input;
    const entry = rows.rows.entryOf(rows.rowOf[n] as number, cluster) as number;
    this.#clusters[position] = cluster;
    this.#rttMs[position] = rows.rows.rttMs[entry] as number;
    this.#lossRatio[position] = rows.rows.lossRatio[entry] as number;
    this.#confidence[position] = rows.rows.confidence[entry] as number;
  }
}

/** Of all client networks so many with the largest demand stand for the rest where each is scored against every cluster. */
const FALLBACK_NETWORKS_MAX = 64;

/** What a cluster costs the average request: the order for addresses of which nothing is known. */
function fallbackRankings(
  map: ClusterMap,
  scores: Readonly<Record<TrafficClass, ScoreParameters>>,
  rankingMax: number,
): Rankings {
  const heaviest = heaviestNetworks(map);
  const ranked = (trafficClass: TrafficClass): RankedCluster[] =>
    map.input.edges
      .map((_, c) => averageCost(map, c, heaviest, scores[trafficClass]))
      .sort((a, b) => a.score - b.score || (a.clusterId < b.clusterId ? -1 : 1))
      .slice(0, rankingMax);
  return { interactive: ranked("interactive"), bulk: ranked("bulk"), live: ranked("live") };
}

/** Of equals those with the lower numbers. */
function heaviestNetworks(map: ClusterMap): number[] {
  const count = map.input.networks.length;
  if (count <= FALLBACK_NETWORKS_MAX) return [...map.input.networks.keys()];
  const demands = Float64Array.from(map.input.networks, (_, n) => demandOf(map, n));
  const least = demands.slice().sort()[count - FALLBACK_NETWORKS_MAX] as number;
  const above: number[] = [];
  const equal: number[] = [];
  for (const [n, demand] of demands.entries())
    if (demand > least) above.push(n);
    else if (demand === least && equal.length < FALLBACK_NETWORKS_MAX) equal.push(n);
  return [...above, ...equal].slice(0, FALLBACK_NETWORKS_MAX);
}

/** A network without demand still is somewhere. */
function demandOf(map: ClusterMap, n: number): number {
  return Math.max((map.input.networks[n] as ClientNetworkInput).demandPerSecond, 1e-6);
}

function averageCost(
  map: ClusterMap,
  c: number,
  networks: readonly number[],
  parameters: ScoreParameters,
): RankedCluster {
  const { edges, rows } = map.input;
  const edge = edges[c] as EdgeInput;
  const sum = { weight: 0, score: 0, rttMs: 0, lossRatio: 0 };
  for (const n of networks) {
    const weight = demandOf(map, n);
    const estimate = rows.estimate(n, c);
    sum.weight += weight;
    sum.score +=
      weight *
      scoreOf({ ...estimate, load: edge.observedLoad, pricePerGb: edge.pricePerGb }, parameters).score;
    sum.rttMs += weight * estimate.rttMs;
    sum.lossRatio += weight * estimate.lossRatio;
  }
  return {
    clusterId: edge.clusterId,
    score: rounded(map.orders.ranked(sum.score / sum.weight, c)),
    // Nothing was measured for these addresses, whatever was for others.
    terms: {
      rttMs: rounded(sum.rttMs / sum.weight),
      lossRatio: rounded(sum.lossRatio / sum.weight, 1e5),
      load: rounded(map.load(c)),
      confidence: 0,
    },
  };
}

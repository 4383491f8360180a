/**
 * From who is where to what a snapshot says. The order of a ranking is the order of the scores, with one addition: a cluster that would be
 * better but is full, or not better by the switch margin, costs what the chosen one costs. So the first of each ranking is where
 * the allocation sends the client network, and the next ones are where it spills to.
 */
import {
  type CandidateRow,
  CANDIDATES_MAX,
  type ClientNetworkId,
  ClientNetworkTable,
  type ClusterId,
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
  const writer = new RowWriter(map);
  const ownRows = rows.rows.rows;
  const rowNumbers = new Int32Array(ownRows + map.backups.groups).fill(-1);
  const chosen = [0, 0, 0];
  for (let n = 0; n < rows.rowOf.length; n++) {
    const estimates = rows.rowOf[n] as number;
    // Of a shared row there is one for each group, which have different backups.
    const isDivided = map.backups.groups > 0 && estimates < rows.sharedRows;
    const key = isDivided ? ownRows + (map.backups.groupOf[n] as number) : estimates;
    const isShared = writer.places(n, chosen);
    let row = isShared ? (rowNumbers[key] as number) : -1;
    if (row < 0) {
      row = builder.row(writer.write(n, chosen));
      if (isShared) rowNumbers[key] = row;
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

/** The table of before, with some units elsewhere: what has not moved costs a copy of arrays. `changed`: the networks that were placed anew, as the map numbers them. */
export function movedClusterMapTable(
  map: ClusterMap,
  networks: NumberedNetworks,
  before: ClusterMapTable,
  moved: readonly number[],
  mapVersion: number,
): { readonly table: ClusterMapTable; readonly changed: readonly number[] } {
  const clusters = map.input.edges.map(({ clusterId }, c) => ({ clusterId, load: map.load(c) }));
  const head = { mapVersion, networks: networks.table, clusters, limitNames: map.limitNames };
  const builder = new ClusterMapBuilder(head, before);
  const writer = new RowWriter(map);
  const chosen = [0, 0, 0];
  const changed: number[] = [];
  for (const n of new Set(moved.map((unit) => Math.floor(unit / trafficClasses.length)))) {
    writer.places(n, chosen);
    place(builder, map, networks, n, builder.row(writer.write(n, chosen)), chosen);
    changed.push(networks.numbers[n] as number);
  }
  return { table: builder.build(), changed };
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

interface WrittenOrder {
  length: number;
  readonly positions: Uint8Array;
  readonly scores: Float64Array;
}

/**
 * Makes rows out of the orders of estimates: the best of each order, and behind them the backups, which cost at least what the last of these does.
 * Its arrays are used again for each.
 */
class RowWriter {
  readonly #map: ClusterMap;
  readonly #clusters = new Uint16Array(CANDIDATES_MAX);
  readonly #rttMs = new Float64Array(CANDIDATES_MAX);
  readonly #lossRatio = new Float64Array(CANDIDATES_MAX);
  readonly #confidence = new Float64Array(CANDIDATES_MAX);
  readonly #orders = trafficClasses.map(
    (): WrittenOrder => ({
      length: 0,
      positions: new Uint8Array(CANDIDATES_MAX),
      scores: new Float64Array(CANDIDATES_MAX),
    }),
  );
  /** Place of a cluster in the row + 1; 0: it is not in it. */
  readonly #positionOf: Uint8Array;
  #count = 0;

  constructor(map: ClusterMap) {
    this.#map = map;
    this.#positionOf = new Uint8Array(map.input.edges.length);
  }

  /** Writes the places of a network's chosen clusters in their orders to `chosen`; false: one is beyond what is kept of an order. */
  places(n: number, chosen: number[]): boolean {
    const { orders, allocation, backups } = this.#map;
    const planned = backups.of(n);
    const natural = backups.places.places - planned.length;
    let isWithin = true;
    for (let k = 0; k < trafficClasses.length; k++) {
      const unit = n * trafficClasses.length + k;
      const cluster = allocation.clusterOf(unit);
      chosen[k] = 0;
      if (cluster === NOWHERE) continue;
      if (planned.includes(cluster)) isWithin = false;
      const order = this.#map.orderOf(unit);
      const end = orders.end(order);
      let rank = 0;
      let at = orders.begin(order);
      for (; at < end && orders.clusters[at] !== cluster; at++)
        if (!planned.includes(orders.clusters[at] as number)) rank++;
      chosen[k] = at === end ? 0 : rank;
      if (rank >= natural) isWithin = false;
    }
    return isWithin;
  }

  /** The row of a network. A chosen cluster beyond what is kept of an order comes last in it, before the backups, and `chosen` says so. */
  write(n: number, chosen: number[]): CandidateRow {
    const planned = this.#map.backups.of(n);
    this.#count = 0;
    for (let k = 0; k < trafficClasses.length; k++) this.#writeOrder(n, k, planned, chosen);
    for (let position = 0; position < this.#count; position++)
      this.#positionOf[this.#clusters[position] as number] = 0;
    return {
      count: this.#count,
      clusters: this.#clusters,
      rttMs: this.#rttMs,
      lossRatio: this.#lossRatio,
      confidence: this.#confidence,
      orders: this.#orders as unknown as CandidateRow["orders"],
    };
  }

  #writeOrder(n: number, k: number, planned: readonly number[], chosen: number[]): void {
    const { orders, allocation, backups } = this.#map;
    const unit = n * trafficClasses.length + k;
    const order = this.#map.orderOf(unit);
    const own = allocation.clusterOf(unit);
    const isBackup = (cluster: number): boolean => cluster !== own && planned.includes(cluster);
    let spares = 0;
    for (const cluster of planned) if (isBackup(cluster)) spares++;
    const natural = backups.places.places - spares;
    const to = this.#orders[k] as WrittenOrder;
    const end = orders.end(order);
    const wanted = chosen[k] as number;
    to.length = 0;
    let rank = 0;
    let score = 0;
    for (let at = orders.begin(order); at < end && to.length < natural; at++) {
      const cluster = orders.clusters[at] as number;
      if (isBackup(cluster)) continue;
      const isLast = to.length === natural - 1;
      if (rank++ < wanted && isLast) continue;
      if (rank - 1 === wanted) chosen[k] = to.length;
      score = orders.scores[at] as number;
      this.#push(to, n, cluster, score);
    }
    for (const cluster of planned) {
      if (!isBackup(cluster)) continue;
      const estimate = this.#map.input.rows.estimate(n, cluster);
      score = Math.max(score, orders.scoreOf(estimate, cluster, k));
      this.#push(to, n, cluster, score);
    }
  }

  #push(to: WrittenOrder, n: number, cluster: number, score: number): void {
    if (this.#positionOf[cluster] === 0) {
      this.#candidate(n, cluster, this.#count);
      this.#positionOf[cluster] = ++this.#count;
    }
    to.positions[to.length] = (this.#positionOf[cluster] as number) - 1;
    to.scores[to.length++] = score;
  }

  #candidate(n: number, cluster: number, position: number): void {
    const { rows } = this.#map.input;
    const entry = rows.rows.entryOf(rows.rowOf[n] as number, cluster);
    this.#clusters[position] = cluster;
    if (entry === undefined) {
      const { rttMs, lossRatio, confidence } = rows.estimate(n, cluster);
      this.#rttMs[position] = rttMs;
      this.#lossRatio[position] = lossRatio;
      this.#confidence[position] = confidence;
      return;
    }
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
  const costs = map.input.edges.map((_, c) => averageCosts(map, c, heaviest, scores));
  const ranked = (k: number): RankedCluster[] =>
    costs
      .map((ofCluster) => ofCluster[k] as RankedCluster)
      .sort((a, b) => a.score - b.score || (a.clusterId < b.clusterId ? -1 : 1))
      .slice(0, rankingMax);
  return { interactive: ranked(0), bulk: ranked(1), live: ranked(2) };
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

/** By class. */
function averageCosts(
  map: ClusterMap,
  c: number,
  networks: readonly number[],
  parameters: Readonly<Record<TrafficClass, ScoreParameters>>,
): RankedCluster[] {
  const { edges, rows } = map.input;
  const { clusterId, observedLoad, pricePerGb } = edges[c] as EdgeInput;
  const scores = trafficClasses.map(() => 0);
  const sum = { weight: 0, rttMs: 0, lossRatio: 0 };
  for (const n of networks) {
    const weight = demandOf(map, n);
    const estimate = rows.estimate(n, c);
    sum.weight += weight;
    sum.rttMs += weight * estimate.rttMs;
    sum.lossRatio += weight * estimate.lossRatio;
    const input = { ...estimate, load: observedLoad, pricePerGb };
    for (const [k, trafficClass] of trafficClasses.entries())
      (scores[k] as number) += weight * scoreOf(input, parameters[trafficClass]).score;
  }
  // Nothing was measured for these addresses, whatever was for others.
  const terms = {
    rttMs: rounded(sum.rttMs / sum.weight),
    lossRatio: rounded(sum.lossRatio / sum.weight, 1e5),
    load: rounded(map.load(c)),
    confidence: 0,
  };
  return scores.map((score) => ({
    clusterId,
    score: rounded(map.orders.ranked(score / sum.weight, c)),
    terms,
  }));
}

/** Where a map sends each unit, for the networks and clusters that there are now: by number, {@link NOWHERE} where it does not say. */
export function currentUnits(
  table: ClusterMapTable | undefined,
  networks: readonly ClientNetworkInput[],
  clusterIds: readonly ClusterId[],
): Uint16Array {
  const classes = trafficClasses.length;
  const current = new Uint16Array(networks.length * classes).fill(NOWHERE);
  const clusterNumber = new Map(clusterIds.map((clusterId, c) => [clusterId, c]));
  const networkNumber = new Map(networks.map(({ clientNetworkId }, n) => [clientNetworkId, n]));
  for (let network = 0; network < (table?.networks.size ?? 0); network++) {
    const n = networkNumber.get(table?.networks.idOf(network) as ClientNetworkId);
    if (table === undefined || n === undefined) continue;
    for (let k = 0; k < classes; k++) {
      const c = clusterNumber.get(table.clusterIds[table.firstCluster(network, k)] as ClusterId);
      if (c !== undefined) current[n * classes + k] = c;
    }
  }
  return current;
}

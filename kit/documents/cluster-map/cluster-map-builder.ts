import type { ClusterId } from "../../ids.ts";
import { trafficClasses } from "../property.ts";
import { type CandidateRow, CandidateRows, CLASS_COUNT } from "./candidate-rows.ts";
import { ClientNetworkTable } from "./client-network-table.ts";
import {
  type ClientNetworkEntry,
  ClusterMapTable,
  placementReasons,
  type RankedCluster,
  type Rankings,
} from "./cluster-map-table.ts";

export const MAP_CLUSTERS_MAX = 65_536;
export const LIMIT_NAMES_MAX = 4_096;

const NOT_PLACED = 0xffff_ffff;
const BEST = [0, 0, 0] as const;
const UNKNOWN = [0, 0, 0] as const;
const NO_LIMITS = [-1, -1, -1] as const;

export interface ClusterMapHead {
  readonly mapVersion: number;
  readonly networks: ClientNetworkTable;
  /** Ascending by name; `load`: demand over capacity after allocation. */
  readonly clusters: readonly { readonly clusterId: ClusterId; readonly load: number }[];
  readonly limitNames?: readonly string[];
}

/**
 * Makes a {@link ClusterMapTable}: rows of candidates, each content once, and for every client network its row. Everything is copied.
 */
export class ClusterMapBuilder {
  readonly #head: ClusterMapHead;
  #rows: CandidateRows;
  /** Whether `#rows` are the previous map's, to be copied before the first addition. */
  #areRowsShared: boolean;
  readonly #rowOf: Uint32Array;
  readonly #chosen: Uint8Array;
  readonly #reasons: Uint8Array;
  readonly #limits: Uint16Array;

  /**
   * @param previous the map that this one differs from in few places: everybody is placed as there until placed anew, and its rows keep their
   * numbers. A change of a few thousand places then costs some copies of arrays.
   *
   * Throws RangeError when the clusters are not ascending, or too many, or when `previous` has other networks, clusters or limits.
   */
  constructor(head: ClusterMapHead, previous?: ClusterMapTable) {
    const { clusters, networks, limitNames = [] } = head;
    if (clusters.length > MAP_CLUSTERS_MAX || limitNames.length > LIMIT_NAMES_MAX)
      throw new RangeError(`A map has at most ${MAP_CLUSTERS_MAX} clusters and ${LIMIT_NAMES_MAX} limits`);
    for (const [number, { clusterId }] of clusters.entries())
      if (number > 0 && clusterId <= (clusters[number - 1]?.clusterId ?? ""))
        throw new RangeError(
          `Clusters ascend by name, got "${clusterId}" after "${clusters[number - 1]?.clusterId}"`,
        );
    this.#head = head;
    this.#areRowsShared = previous !== undefined;
    if (previous !== undefined) {
      const { parts } = previous;
      const { rows, chosen, reasons, limits } = parts.placements;
      if (
        parts.networks !== networks ||
        parts.clusterIds.length !== clusters.length ||
        parts.clusterIds.some((clusterId, number) => clusterId !== clusters[number]?.clusterId) ||
        parts.limitNames.some((name, number) => name !== limitNames[number])
      )
        throw new RangeError("A map follows another only with the same client networks, clusters and limits");
      this.#rows = parts.rows;
      this.#rowOf = rows.slice();
      this.#chosen = chosen.slice();
      this.#reasons = reasons.slice();
      this.#limits = limits.slice();
      return;
    }
    this.#rows = new CandidateRows();
    const subjects = networks.size + 1;
    this.#rowOf = new Uint32Array(subjects).fill(NOT_PLACED);
    this.#chosen = new Uint8Array(CLASS_COUNT * subjects);
    this.#reasons = new Uint8Array(CLASS_COUNT * subjects);
    this.#limits = new Uint16Array(CLASS_COUNT * subjects);
  }

  /** The number of the row with this content, a new one or one that there is. Throws RangeError: see {@link CandidateRows.add}. */
  row(row: CandidateRow): number {
    if (this.#areRowsShared) {
      this.#rows = this.#rows.reopened();
      this.#areRowsShared = false;
    }
    return this.#rows.add(row, this.#head.clusters.length);
  }

  /**
   * Where a client network is sent; by class: the place in the row's order that comes first, why (a place in `placementReasons`), and the
   * limit that turned it away from a better one (a place in `limitNames`, -1 for none). Throws RangeError for a number that does not exist.
   */
  place(
    network: number,
    row: number,
    chosen: ArrayLike<number> = BEST,
    reasons: ArrayLike<number> = UNKNOWN,
    limits: ArrayLike<number> = NO_LIMITS,
  ): void {
    if (!(network >= 0 && network < this.#rowOf.length && row >= 0 && row < this.#rows.size))
      throw new RangeError(
        `Cannot place client network ${network} of ${this.#head.networks.size} on row ${row}`,
      );
    this.#rowOf[network] = row;
    for (let k = 0; k < CLASS_COUNT; k++) {
      const at = network * CLASS_COUNT + k;
      const [place, reason, limit] = [chosen[k] as number, reasons[k] as number, limits[k] as number];
      if (
        !(place >= 0 && place < this.#rows.lengthOf(row, k)) ||
        placementReasons[reason] === undefined ||
        !(limit >= -1 && limit < (this.#head.limitNames?.length ?? 0))
      )
        throw new RangeError(
          `Cannot place client network ${network}: choice ${place}, reason ${reason} or limit ${limit} does not exist`,
        );
      this.#chosen[at] = place;
      this.#reasons[at] = reason;
      this.#limits[at] = limit + 1;
    }
  }

  /** For addresses that no client network holds. */
  placeFallback(row: number): void {
    this.place(this.#head.networks.size, row);
  }

  /** The builder must not be used afterwards. Throws RangeError while somebody has no place. */
  build(): ClusterMapTable {
    const { mapVersion, networks, clusters, limitNames = [] } = this.#head;
    const missing = this.#rowOf.indexOf(NOT_PLACED);
    if (missing >= 0)
      throw new RangeError(
        missing === networks.size
          ? "The fallback has no place"
          : `Client network "${networks.idOf(missing)}" has no place`,
      );
    return new ClusterMapTable({
      mapVersion,
      networks,
      clusterIds: clusters.map(({ clusterId }) => clusterId),
      loads: Float32Array.from(clusters, ({ load }) => load),
      limitNames,
      // Numbered by who uses them first: equal maps are equal tables, whatever the order in which they were built.
      ...inOrderOfUse(this.#rows, this.#rowOf, this.#chosen, this.#reasons, this.#limits),
    });
  }
}

function inOrderOfUse(
  rows: CandidateRows,
  rowOf: Uint32Array,
  chosen: Uint8Array,
  reasons: Uint8Array,
  limits: Uint16Array,
): Pick<ClusterMapTable["parts"], "rows" | "placements"> {
  const numbers = new Uint32Array(rows.size).fill(NOT_PLACED);
  const used = new Uint32Array(rows.size);
  let next = 0;
  let entries = 0;
  let isInOrder = true;
  for (let network = 0; network < rowOf.length; network++) {
    const row = rowOf[network] as number;
    if (numbers[row] !== NOT_PLACED) continue;
    if (row !== next) isInOrder = false;
    used[next] = row;
    numbers[row] = next++;
    entries += rows.countOf(row);
  }
  if (isInOrder && next === rows.size)
    return { rows: rows.closed(), placements: { rows: rowOf, chosen, reasons, limits } };
  const ordered = new CandidateRows();
  ordered.expect(entries, next);
  // Neighbours stay neighbours in most places: they are copied as one.
  for (let first = 0; first < next; ) {
    let end = first + 1;
    while (end < next && used[end] === (used[end - 1] as number) + 1) end++;
    ordered.appendRange(rows, used[first] as number, end - first);
    first = end;
  }
  for (let network = 0; network < rowOf.length; network++)
    rowOf[network] = numbers[rowOf[network] as number] as number;
  return { rows: ordered.closed(), placements: { rows: rowOf, chosen, reasons, limits } };
}

/** A map as a person writes it: the first of each ranking is where the network is sent, scores ascend. */
export interface WrittenClusterMap {
  readonly mapVersion: number;
  readonly clientNetworks: readonly ClientNetworkEntry[];
  readonly fallback: Rankings;
}

/** A small map from objects. Throws RangeError as the builder and {@link ClientNetworkTable.of} do. */
export function clusterMapOf({ mapVersion, clientNetworks, fallback }: WrittenClusterMap): ClusterMapTable {
  const all = [...clientNetworks.map(({ clusters }) => clusters), fallback];
  const loads = new Map<ClusterId, number>();
  for (const rankings of all)
    for (const trafficClass of trafficClasses)
      for (const { clusterId, terms } of rankings[trafficClass]) loads.set(clusterId, terms.load);
  const clusters = [...loads]
    .map(([clusterId, load]) => ({ clusterId, load }))
    .sort((a, b) => (a.clusterId < b.clusterId ? -1 : 1));
  const numberOf = new Map(clusters.map(({ clusterId }, number) => [clusterId, number]));
  const number = (clusterId: ClusterId): number => numberOf.get(clusterId) as number;
  const networks = ClientNetworkTable.of(clientNetworks);
  const builder = new ClusterMapBuilder({ mapVersion, networks, clusters });
  for (const { clientNetworkId, clusters: rankings } of clientNetworks)
    builder.place(networks.indexOf(clientNetworkId) as number, builder.row(rowOfRankings(rankings, number)));
  builder.placeFallback(builder.row(rowOfRankings(fallback, number)));
  return builder.build();
}

/** A row from objects; scores ascend in each ranking. */
export function rowOfRankings(rankings: Rankings, numberOf: (clusterId: ClusterId) => number): CandidateRow {
  const positions = new Map<ClusterId, number>();
  const candidates: RankedCluster[] = [];
  for (const trafficClass of trafficClasses)
    for (const entry of rankings[trafficClass]) {
      if (positions.has(entry.clusterId)) continue;
      positions.set(entry.clusterId, candidates.length);
      candidates.push(entry);
    }
  const orderOf = (ranking: readonly RankedCluster[]): CandidateRow["orders"][number] => ({
    length: ranking.length,
    positions: ranking.map(({ clusterId }) => positions.get(clusterId) as number),
    scores: ranking.map(({ score }) => score),
  });
  return {
    count: candidates.length,
    clusters: candidates.map(({ clusterId }) => numberOf(clusterId)),
    rttMs: candidates.map(({ terms }) => terms.rttMs),
    lossRatio: candidates.map(({ terms }) => terms.lossRatio),
    confidence: candidates.map(({ terms }) => terms.confidence),
    orders: [orderOf(rankings.interactive), orderOf(rankings.bulk), orderOf(rankings.live)],
  };
}

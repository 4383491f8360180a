import type { ClientNetworkId, ClusterId } from "../../ids.ts";
import { type TrafficClass, trafficClasses } from "../property.ts";
import { CLASS_COUNT, type CandidateRows } from "./candidate-rows.ts";
import type { ClientNetworkTable } from "./client-network-table.ts";
import { confidenceOfCode, lossOfCode, rttOfCode, scoreOfCode } from "./codes.ts";

/** One cluster as seen from one client network; the terms are what `isochrone where` prints. Lower score is better. */
export interface RankedCluster {
  readonly clusterId: ClusterId;
  readonly score: number;
  readonly terms: {
    readonly rttMs: number;
    /** 0..1. */
    readonly lossRatio: number;
    /** Demand over capacity of the cluster after allocation. */
    readonly load: number;
    /** 0: guessed from geography, 1: measured often and lately. */
    readonly confidence: number;
  };
}

/** Best first, for each traffic class. */
export type Rankings = Readonly<Record<TrafficClass, readonly RankedCluster[]>>;

/** A client network with all that the map says of it. */
export interface ClientNetworkEntry {
  readonly clientNetworkId: ClientNetworkId;
  readonly prefixes: readonly string[];
  readonly clusters: Rankings;
}

/** Why a client network's class is where it is; appended to, never reordered: documents hold the places. */
export const placementReasons = [
  /** Not said: the fallback, and maps that were written by hand. */
  "unknown",
  /** Its best cluster. */
  "best",
  /** A better one exists, but not by the margin. */
  "kept",
  /** Better ones are full. */
  "spilled",
  /** No cluster has room for it. */
  "overflow",
  /** An operator wants it there. */
  "pinned",
  /** A better one is being drained. */
  "drained",
  /** An operator's weights send it past a better one. */
  "weighted",
] as const;
export type PlacementReason = (typeof placementReasons)[number];

/** `limits`: 0 is none, else 1 + the place in `limitNames`. */
export interface Placements {
  /** Row of each client network, and of the fallback behind them. */
  readonly rows: Uint32Array;
  /** `CLASS_COUNT` for each of them, as are the next two: the place in the class's order that comes first. */
  readonly chosen: Uint8Array;
  readonly reasons: Uint8Array;
  readonly limits: Uint16Array;
}

export interface ClusterMapParts {
  readonly mapVersion: number;
  readonly networks: ClientNetworkTable;
  /** Ascending; candidates name them by number. */
  readonly clusterIds: readonly ClusterId[];
  /** Demand over capacity after allocation, by cluster. */
  readonly loads: Float32Array;
  /** Names of the limits that turned somebody away. */
  readonly limitNames: readonly string[];
  readonly rows: CandidateRows;
  readonly placements: Placements;
}

/**
 * The cluster map: for each client network and traffic class the clusters in order, with their terms. Immutable, in typed arrays: 444,000
 * networks of eight candidates are about 60 MB and no objects; what `ranking` returns is made when it is read.
 *
 * Stored are the candidates with their terms, the order of each class with its scores, and which place of the order comes first
 * for whom (networks that see the same share a row). Derived is what a score is shown as: the clusters that were passed over cost at least
 * what the chosen one costs. Figures are rounded (`codes.ts`), orders are not.
 */
export class ClusterMapTable {
  readonly parts: ClusterMapParts;

  constructor(parts: ClusterMapParts) {
    this.parts = parts;
  }

  get mapVersion(): number {
    return this.parts.mapVersion;
  }
  get networks(): ClientNetworkTable {
    return this.parts.networks;
  }
  get clusterIds(): readonly ClusterId[] {
    return this.parts.clusterIds;
  }
  /** Takes the place of a network's number for addresses that no network holds. */
  get fallbackNumber(): number {
    return this.parts.networks.size;
  }
  /** Bytes of the arrays; names not counted. */
  get byteLength(): number {
    const { networks, rows, placements, loads } = this.parts;
    const { rows: places, chosen, reasons, limits } = placements;
    return [networks, rows, places, chosen, reasons, limits, loads].reduce(
      (sum, one) => sum + one.byteLength,
      0,
    );
  }

  /** The same map under another version. */
  withVersion(mapVersion: number): ClusterMapTable {
    return new ClusterMapTable({ ...this.parts, mapVersion });
  }

  /** How many clusters are ranked for the network; at least one. */
  rankingLength(network: number, trafficClass: number): number {
    return this.parts.rows.lengthOf(this.rowOf(network), trafficClass);
  }

  /** Number of the cluster at this place of the ranking; 0 is where the network is sent. Allocates nothing. */
  clusterAt(network: number, trafficClass: number, place: number): number {
    const { rows, placements } = this.parts;
    const row = this.rowOf(network);
    const chosen = placements.chosen[network * CLASS_COUNT + trafficClass] as number;
    const rank = place === 0 ? chosen : place <= chosen ? place - 1 : place;
    const position = rows.orders[rows.orderOffsetOf(row, trafficClass) + rank] as number;
    return rows.clusters[rows.offsetOf(row) + position] as number;
  }

  /** Number of the cluster that the network is sent to. Allocates nothing. */
  firstCluster(network: number, trafficClass: number): number {
    return this.clusterAt(network, trafficClass, 0);
  }

  /** The clusters of a network (or the fallback) for a class, best first; made anew at each call. */
  ranking(network: number, trafficClass: TrafficClass): RankedCluster[] {
    const k = trafficClasses.indexOf(trafficClass);
    const { rows, placements, clusterIds, loads } = this.parts;
    const row = this.rowOf(network);
    const at = rows.offsetOf(row);
    const order = rows.orderOffsetOf(row, k);
    const chosen = placements.chosen[network * CLASS_COUNT + k] as number;
    const floor = rows.scores[order + chosen] as number;
    return Array.from({ length: rows.lengthOf(row, k) }, (_, place): RankedCluster => {
      const rank = place === 0 ? chosen : place <= chosen ? place - 1 : place;
      const candidate = at + (rows.orders[order + rank] as number);
      const cluster = rows.clusters[candidate] as number;
      const quality = rows.qualities[candidate] as number;
      return {
        clusterId: clusterIds[cluster] as ClusterId,
        score: scoreOfCode(Math.max(floor, rows.scores[order + rank] as number)),
        terms: {
          rttMs: rttOfCode(rows.rtts[candidate] as number),
          lossRatio: lossOfCode(quality),
          load: Math.round((loads[cluster] as number) * 1e3) / 1e3,
          confidence: confidenceOfCode(quality),
        },
      };
    });
  }

  /** Rankings of all classes. */
  rankings(network: number): Rankings {
    return {
      interactive: this.ranking(network, "interactive"),
      bulk: this.ranking(network, "bulk"),
      live: this.ranking(network, "live"),
    };
  }

  /** Why the network's class is where it is, and the limit that turned it away from a better place, if one did. */
  reason(
    network: number,
    trafficClass: TrafficClass,
  ): { readonly reason: PlacementReason; readonly limitName: string | null } {
    const at = network * CLASS_COUNT + trafficClasses.indexOf(trafficClass);
    const { reasons, limits } = this.parts.placements;
    return {
      reason: placementReasons[reasons[at] as number] ?? "unknown",
      limitName: this.parts.limitNames[(limits[at] as number) - 1] ?? null,
    };
  }

  /** Every client network with its rankings as objects, made as they are read. For small maps, and for people. */
  *entries(): Generator<ClientNetworkEntry> {
    const { networks } = this.parts;
    for (let network = 0; network < networks.size; network++)
      yield {
        clientNetworkId: networks.idOf(network),
        prefixes: networks.prefixesOf(network),
        clusters: this.rankings(network),
      };
  }

  /** Networks of one row see the same clusters by the same figures. */
  rowOf(network: number): number {
    const row = this.parts.placements.rows[network];
    if (row === undefined)
      throw new RangeError(`There is no client network ${network} of ${this.networks.size}`);
    return row;
  }
}

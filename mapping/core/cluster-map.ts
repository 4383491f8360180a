/** The cluster map: for each client network and traffic class the edge clusters in order, under capacity. */
import {
  type ClientNetworkEntry,
  type ClientNetworkId,
  type ClusterId,
  type Coordinates,
  type MapSnapshot,
  type RankedCluster,
  type TrafficClass,
  trafficClasses,
} from "#kit";
import {
  type AllocationReason,
  type AllocationSettings,
  type AllocationUnit,
  allocate,
} from "./allocation.ts";
import type { Estimate } from "./estimator.ts";
import { rounded } from "./link-table.ts";
import { type ScoreParameters, scoreOf } from "./score.ts";

/** A client network as the engine is told of it: who it is and what it asks for, no travel times. */
export interface ClientNetworkInput {
  readonly clientNetworkId: ClientNetworkId;
  /** Canonical prefixes; no two networks share one. */
  readonly prefixes: readonly string[];
  /** Where a label says that it is; null when none does. Only a last resort: labels lie. */
  readonly coordinates: Coordinates | null;
  /** All traffic classes together. */
  readonly demandPerSecond: number;
}

/** An edge cluster as the allocation sees it. */
export interface EdgeInput {
  readonly clusterId: ClusterId;
  /** Of the servers that are in service; 0: it can take nobody. */
  readonly capacityPerSecond: number;
  /** Observed requests over capacity, smoothed, >= 0. */
  readonly observedLoad: number;
}

export interface ClusterMapSettings {
  readonly score: Readonly<Record<TrafficClass, ScoreParameters>>;
  readonly allocation: AllocationSettings;
  /** Share of a client network's demand that is of the class; sums to 1. */
  readonly demandRatio: Readonly<Record<TrafficClass, number>>;
  /** Clusters named for each client network: what an answer can spill to before the fallback's order. 1..64. */
  readonly rankingMax: number;
}

export interface ClusterMap {
  readonly clientNetworks: readonly ClientNetworkEntry[];
  readonly fallback: MapSnapshot["fallback"];
  /** How many placements came about for which reason. */
  readonly reasons: Readonly<Record<AllocationReason, number>>;
  readonly load: ReadonlyMap<ClusterId, number>;
}

/** Added to clusters that can take nobody: they stay in the order, at its end, for when all others are gone. */
const OUT_OF_SERVICE_PRICE = 1e6;

interface Scored {
  readonly clusterId: ClusterId;
  readonly score: number;
  readonly estimate: Estimate;
}

/**
 * Scores every pair, places the demand, and ranks. The order of a ranking is the order of the scores, with one addition: a
 * cluster that would be better but is full, or not better by the switch margin, costs what the chosen one costs. So the first
 * of each ranking is where the allocation sends the client network, and the next ones are where it spills to.
 *
 * @param estimatesOf what is known or guessed of the network to every edge cluster
 * @param currentOf the cluster that the network's class is sent to now, if any
 */
export function clusterMap(
  networks: readonly ClientNetworkInput[],
  edges: readonly EdgeInput[],
  estimatesOf: (network: ClientNetworkInput) => ReadonlyMap<ClusterId, Estimate>,
  currentOf: (clientNetworkId: ClientNetworkId, trafficClass: TrafficClass) => ClusterId | undefined,
  settings: ClusterMapSettings,
): ClusterMap {
  // When nothing is in service, all is: an order by score is worth more than none.
  const isAnyUp = edges.some((edge) => edge.capacityPerSecond > 0);
  const inService = new Set(
    edges.filter((edge) => !isAnyUp || edge.capacityPerSecond > 0).map((edge) => edge.clusterId),
  );
  const capacityOf = new Map(
    edges
      .filter((edge) => inService.has(edge.clusterId))
      .map((edge) => [edge.clusterId, isAnyUp ? edge.capacityPerSecond : 1]),
  );

  const estimates = networks.map(estimatesOf);
  const scored: Record<TrafficClass, Scored[][]> = { interactive: [], bulk: [], live: [] };
  const units: AllocationUnit<ClusterId>[] = [];
  for (const [n, network] of networks.entries()) {
    for (const trafficClass of trafficClasses) {
      const ranking = edges
        .map((edge): Scored => {
          const estimate = estimates[n]?.get(edge.clusterId) as Estimate;
          const { score } = scoreOf({ ...estimate, load: edge.observedLoad }, settings.score[trafficClass]);
          const price = inService.has(edge.clusterId) ? 0 : OUT_OF_SERVICE_PRICE;
          return { clusterId: edge.clusterId, score: rounded(score + price), estimate };
        })
        .sort(byScore);
      scored[trafficClass].push(ranking);
      units.push({
        id: unitId(network.clientNetworkId, trafficClass),
        demandPerSecond: network.demandPerSecond * settings.demandRatio[trafficClass],
        ranking,
        current: currentOf(network.clientNetworkId, trafficClass),
      });
    }
  }
  const { placements, load } = allocate(units, capacityOf, settings.allocation);
  const reasons: Record<AllocationReason, number> = { best: 0, kept: 0, spilled: 0, overflow: 0 };
  for (const { reason } of placements.values()) reasons[reason]++;

  const clientNetworks = networks.map((network, n): ClientNetworkEntry => {
    const ranked = (trafficClass: TrafficClass): RankedCluster[] => {
      const chosen = placements.get(unitId(network.clientNetworkId, trafficClass))?.clusterId;
      return rankingOf(scored[trafficClass][n] as Scored[], chosen, load, settings.rankingMax);
    };
    return {
      clientNetworkId: network.clientNetworkId,
      prefixes: network.prefixes,
      clusters: { interactive: ranked("interactive"), bulk: ranked("bulk"), live: ranked("live") },
    };
  });
  const fallback = (trafficClass: TrafficClass): RankedCluster[] =>
    rankingOf(averaged(networks, scored[trafficClass]), undefined, load, settings.rankingMax);
  return {
    clientNetworks,
    fallback: { interactive: fallback("interactive"), bulk: fallback("bulk"), live: fallback("live") },
    reasons,
    load,
  };
}

function unitId(clientNetworkId: ClientNetworkId, trafficClass: TrafficClass): string {
  return `${clientNetworkId} ${trafficClass}`;
}

function byScore(a: Scored, b: Scored): number {
  return a.score - b.score || (a.clusterId < b.clusterId ? -1 : 1);
}

function rankingOf(
  scored: readonly Scored[],
  chosen: ClusterId | undefined,
  load: ReadonlyMap<ClusterId, number>,
  rankingMax: number,
): RankedCluster[] {
  const first = scored.find((entry) => entry.clusterId === chosen);
  const floor = first?.score ?? 0;
  // `scored` is ascending, so with the floor it still is, and those raised to it keep their order among themselves.
  const order = first === undefined ? scored : [first, ...scored.filter((entry) => entry !== first)];
  return order.slice(0, rankingMax).map(({ clusterId, score, estimate }) => ({
    clusterId,
    score: Math.max(score, floor),
    terms: {
      rttMs: rounded(estimate.rttMs),
      lossRatio: rounded(estimate.lossRatio, 1e5),
      load: rounded(load.get(clusterId) ?? 0),
      confidence: rounded(estimate.confidence),
    },
  }));
}

/** What a cluster costs the average request: the order for addresses of which nothing is known. */
function averaged(
  networks: readonly ClientNetworkInput[],
  rankings: readonly (readonly Scored[])[],
): Scored[] {
  const sums = new Map<
    ClusterId,
    { weight: number; score: number; rttMs: number; lossRatio: number; estimate: Estimate }
  >();
  for (const [n, ranking] of rankings.entries()) {
    // A network without demand still is somewhere.
    const weight = Math.max(networks[n]?.demandPerSecond ?? 0, 1e-6);
    for (const { clusterId, score, estimate } of ranking) {
      const sum = sums.get(clusterId) ?? { weight: 0, score: 0, rttMs: 0, lossRatio: 0, estimate };
      sum.weight += weight;
      sum.score += weight * score;
      sum.rttMs += weight * estimate.rttMs;
      sum.lossRatio += weight * estimate.lossRatio;
      sums.set(clusterId, sum);
    }
  }
  return [...sums]
    .map(
      ([clusterId, { weight, score, rttMs, lossRatio, estimate }]): Scored => ({
        clusterId,
        score: rounded(score / weight),
        // Nothing was measured for these addresses, whatever was for others.
        estimate: { ...estimate, rttMs: rttMs / weight, lossRatio: lossRatio / weight, confidence: 0 },
      }),
    )
    .sort(byScore);
}

/**
 * From who is where to what a snapshot says. The order of a ranking is the order of the scores, with one addition: a cluster that would be
 * better but is full, or not better by the switch margin, costs what the chosen one costs. So the first of each ranking is where
 * the allocation sends the client network, and the next ones are where it spills to.
 */
import {
  type ClientNetworkEntry,
  type MapSnapshot,
  type RankedCluster,
  type TrafficClass,
  trafficClasses,
} from "#kit";
import type { ClientNetworkInput, ClusterMap } from "./cluster-map.ts";
import type { Estimate } from "./estimator.ts";
import type { EdgeInput } from "./limits.ts";
import { rounded } from "./link-table.ts";
import { NOWHERE } from "./network-rows.ts";
import { type ScoreParameters, scoreOf } from "./score.ts";

/** Of all client networks so many with the largest demand stand for the rest where each is scored against every cluster. */
const FALLBACK_NETWORKS_MAX = 256;

/** The entry of client network `n`. */
export function networkEntry(map: ClusterMap, n: number, rankingMax: number): ClientNetworkEntry {
  const { clientNetworkId, prefixes } = map.input.networks[n] as ClientNetworkInput;
  const ranked = (k: number): RankedCluster[] => ranking(map, n, k, rankingMax);
  return {
    clientNetworkId,
    prefixes,
    clusters: { interactive: ranked(0), bulk: ranked(1), live: ranked(2) } satisfies Record<
      TrafficClass,
      unknown
    >,
  };
}

function ranking(map: ClusterMap, n: number, k: number, rankingMax: number): RankedCluster[] {
  const { orders, allocation } = map;
  const unit = n * trafficClasses.length + k;
  const order = map.orderOf(unit);
  const begin = orders.begin(order);
  const end = orders.end(order);
  const chosen = allocation.clusterOf(unit);
  const at = chosen === NOWHERE ? -1 : orders.clusters.subarray(begin, end).indexOf(chosen);
  const ranked: RankedCluster[] = [];
  const floor = at === -1 ? 0 : (orders.scores[begin + at] as number);
  if (at !== -1) ranked.push(rankedCluster(map, n, begin + at, floor));
  for (let place = begin; place < end && ranked.length < rankingMax; place++)
    if (place !== begin + at) ranked.push(rankedCluster(map, n, place, floor));
  return ranked;
}

function rankedCluster(map: ClusterMap, n: number, place: number, floor: number): RankedCluster {
  const { edges, rows } = map.input;
  const cluster = map.orders.clusters[place] as number;
  const entry = rows.rows.entryOf(rows.rowOf[n] as number, cluster) as number;
  return {
    clusterId: (edges[cluster] as EdgeInput).clusterId,
    score: rounded(Math.max(map.orders.scores[place] as number, floor)),
    terms: termsOf(rows.rows.at(entry), map.load(cluster)),
  };
}

function termsOf({ rttMs, lossRatio, confidence }: Estimate, load: number): RankedCluster["terms"] {
  return {
    rttMs: rounded(rttMs),
    lossRatio: rounded(lossRatio, 1e5),
    load: rounded(load),
    confidence: rounded(confidence),
  };
}

/** What a cluster costs the average request: the order for addresses of which nothing is known. */
export function fallbackRankings(
  map: ClusterMap,
  scores: Readonly<Record<TrafficClass, ScoreParameters>>,
  rankingMax: number,
): MapSnapshot["fallback"] {
  const heaviest = [...map.input.networks.keys()]
    .sort((a, b) => demandOf(map, b) - demandOf(map, a) || a - b)
    .slice(0, FALLBACK_NETWORKS_MAX);
  const ranked = (trafficClass: TrafficClass): RankedCluster[] =>
    map.input.edges
      .map((_, c) => averageCost(map, c, heaviest, scores[trafficClass]))
      .sort((a, b) => a.score - b.score || (a.clusterId < b.clusterId ? -1 : 1))
      .slice(0, rankingMax);
  return { interactive: ranked("interactive"), bulk: ranked("bulk"), live: ranked("live") };
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
    sum.score += weight * scoreOf({ ...estimate, load: edge.observedLoad }, parameters).score;
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

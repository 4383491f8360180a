/**
 * What are relays worth? Every ordered pair of sites is a path; the map names relay candidates from what the sites' servers
 * measured of their links (half-paths, with noise), transport's chooser probes those few end to end and decides; what the
 * decision costs is read from the matrix.
 */
import { type ClusterId, type MonotonicMs, plusMs, Random } from "#kit";
import { LinkTable, noisySample, pathEntry, pathMapDefaults, TopologyIndex } from "#mapping";
import type { RelayCandidate } from "../../transport/core/path-chooser.ts";
import { clusterIdOf, linkReports, START, topologyOfSites } from "./deployment.ts";
import type { RttMatrix } from "./matrix.ts";
import { PathWatch } from "./path-watch.ts";
import { chooseSites, type Figures, figures } from "./sites.ts";

export interface OverlayOptions {
  readonly sites: number;
  /** Relays that are probed for each pair, 1..7. */
  readonly candidates: number;
  readonly seed: number;
}

export interface OverlayFigures {
  readonly direct: Figures;
  readonly chosen: Figures;
  /** The best of direct and one relay among the other sites, by the matrix. */
  readonly optimal: Figures;
  /** Share of the pairs for which any relay is faster, and for which one is by 10 % and 5 ms, 0..1. */
  readonly gainful: { readonly any: number; readonly clear: number };
}

export interface OverlayEvaluation {
  readonly figures: OverlayFigures;
  readonly pairs: number;
  /** Pairs that were left out because the matrix has no time for them. */
  readonly skipped: number;
  /** Pairs whose requests cross a relay at the end. */
  readonly relayed: number;
}

/** What a relay adds to a round trip, ms: two more crossings of a server. */
export const RELAY_MS = 2;
/** How long transport watches a pair before its choice counts, ms: small gains take a while to tell from noise. */
const WATCH_MS = 300_000;

/** A gain that a user may notice. */
const CLEAR_MS = 5;
const CLEAR_RATIO = 0.1;

/** The way over one relay, or none, in a matrix, ms. NaN where the matrix has no time. */
export function pathRttMs(matrix: RttMatrix, from: number, to: number, relay: number | undefined): number {
  if (relay === undefined) return matrix.rttMs(from, to);
  return matrix.rttMs(from, relay) + matrix.rttMs(relay, to) + RELAY_MS;
}

/** The fastest of direct and one relay, ms. */
export function bestRttMs(matrix: RttMatrix, from: number, to: number, sites: readonly number[]): number {
  const over = sites
    .filter((relay) => relay !== from && relay !== to)
    .map((relay) => pathRttMs(matrix, from, to, relay))
    .filter((rttMs) => rttMs >= 0);
  return Math.min(matrix.rttMs(from, to), ...over);
}

/** The path map's candidates for pairs of sites, from what the sites' servers measure of their links at a time. */
export class RelayNaming {
  readonly #topology: TopologyIndex;
  readonly #links = new LinkTable();
  readonly #relaysMax: number;
  #at: MonotonicMs = START;

  constructor(matrix: RttMatrix, sites: readonly number[], relaysMax: number) {
    const roles = sites.map((site) => [site, "relay"] as const);
    this.#topology = new TopologyIndex(topologyOfSites(matrix, roles));
    this.#relaysMax = relaysMax;
  }

  /** The links of all sites, measured with noise just before `at`. */
  measure(matrix: RttMatrix, sites: readonly number[], seed: number, at: MonotonicMs): void {
    for (const one of linkReports(matrix, sites, seed, at)) this.#links.handleReport(one.report, one.at);
    this.#at = at;
  }

  /** Relays worth a probe, best first. */
  relaysOf(from: number, to: number): RelayCandidate[] {
    const { clusters, topology } = this.#topology;
    const fromEntry = clusters.get(clusterIdOf(from));
    const toEntry = clusters.get(clusterIdOf(to));
    if (fromEntry === undefined || toEntry === undefined)
      throw new RangeError("a site is not in its own topology");
    const settings = { ...pathMapDefaults, relaysMax: this.#relaysMax, relayOverheadMs: RELAY_MS };
    const { candidates } = pathEntry(fromEntry, toEntry, topology.clusters, this.#links, this.#at, settings);
    return candidates.flatMap(({ via, rttMs }) => (via === null ? [] : [{ via, mapRttMs: rttMs }]));
  }
}

/** Throws RangeError when the matrix has fewer cities than sites. */
export function evaluateOverlay(matrix: RttMatrix, options: OverlayOptions): OverlayEvaluation {
  if (options.sites > matrix.size)
    throw new RangeError(`the matrix has ${matrix.size} cities, not enough for ${options.sites} sites`);
  const sites = chooseSites(matrix, options.sites, options.seed);
  const naming = new RelayNaming(matrix, sites, options.candidates);
  naming.measure(matrix, sites, options.seed, START);
  const siteOf = new Map(sites.map((site) => [clusterIdOf(site), site]));

  const paid: Record<"direct" | "chosen" | "optimal", number[]> = { direct: [], chosen: [], optimal: [] };
  const gainful = { any: 0, clear: 0 };
  let skipped = 0;
  let relayed = 0;
  for (const from of sites)
    for (const to of sites) {
      if (from === to) continue;
      const direct = matrix.rttMs(from, to);
      if (Number.isNaN(direct)) {
        skipped++;
        continue;
      }
      const over = (via: ClusterId | null): number =>
        pathRttMs(matrix, from, to, via === null ? undefined : siteOf.get(via));
      const noise = new Random(options.seed).split(`pair/${from}/${to}`);
      const watch = new PathWatch(options.candidates, START);
      watch.setRelays(naming.relaysOf(from, to));
      watch.run(plusMs(START, WATCH_MS), (way) => noisySample(over(way), 0, noise));
      const { via } = watch;
      const best = bestRttMs(matrix, from, to, sites);
      if (via !== null) relayed++;
      paid.direct.push(direct);
      paid.chosen.push(over(via));
      paid.optimal.push(best);
      if (best < direct) gainful.any++;
      if (direct - best >= Math.max(CLEAR_MS, CLEAR_RATIO * direct)) gainful.clear++;
    }
  if (paid.direct.length === 0) throw new RangeError("the matrix has no time between any two sites");
  const pairs = paid.direct.length;
  return {
    figures: {
      direct: figures(paid.direct),
      chosen: figures(paid.chosen),
      optimal: figures(paid.optimal),
      gainful: { any: gainful.any / pairs, clear: gainful.clear / pairs },
    },
    pairs,
    skipped,
    relayed,
  };
}

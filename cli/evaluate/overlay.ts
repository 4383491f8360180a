/**
 * What are relays worth? Every ordered pair of sites is a path; the map names relay candidates from what the sites' servers
 * measured of their links (half-paths, with noise), transport's chooser probes those few end to end and decides; what the
 * decision costs is read from the matrix.
 */
import { type ClusterId, type MonotonicMs, plusMs, Random } from "#kit";
import { LinkTable, noisySample, pathEntry, pathMapDefaults, TopologyIndex } from "#mapping";
import { PathChooser, pathChooserDefaults } from "../../transport/core/path-chooser.ts";
import { clusterIdOf, linkReports, START, topologyOfSites } from "./deployment.ts";
import type { RttMatrix } from "./matrix.ts";
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
}

export interface OverlayEvaluation {
  readonly figures: OverlayFigures;
  readonly pairs: number;
  /** Pairs that were left out because the matrix has no time for them. */
  readonly skipped: number;
  /** Pairs whose requests cross a relay at the end. */
  readonly relayed: number;
}

/** How long transport watches a pair before its choice counts, ms: warm-up, hold-down and some probes more. */
const WATCH_MS = 30_000;

/** Throws RangeError when the matrix has fewer cities than sites. */
export function evaluateOverlay(matrix: RttMatrix, options: OverlayOptions): OverlayEvaluation {
  if (options.sites > matrix.size)
    throw new RangeError(`the matrix has ${matrix.size} cities, not enough for ${options.sites} sites`);
  const sites = chooseSites(matrix, options.sites, options.seed);
  const topology = new TopologyIndex(
    topologyOfSites(
      matrix,
      sites.map((site) => [site, "relay"] as const),
    ),
  );
  const links = new LinkTable();
  for (const { report, at } of linkReports(matrix, sites, options.seed)) links.handleReport(report, at);
  const relays = topology.topology.clusters;
  const siteOf = new Map(sites.map((site) => [clusterIdOf(site), site]));
  const settings = { ...pathMapDefaults, relaysMax: options.candidates };

  const paid: Record<"direct" | "chosen" | "optimal", number[]> = { direct: [], chosen: [], optimal: [] };
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
      const over = (via: ClusterId | null): number => {
        const relay = via === null ? undefined : siteOf.get(via);
        return relay === undefined ? direct : matrix.rttMs(from, relay) + matrix.rttMs(relay, to);
      };
      const fromEntry = topology.clusters.get(clusterIdOf(from));
      const toEntry = topology.clusters.get(clusterIdOf(to));
      if (fromEntry === undefined || toEntry === undefined)
        throw new RangeError("a site is not in its own topology");
      const { candidates } = pathEntry(fromEntry, toEntry, relays, links, START, settings);
      const via = choosePath(
        candidates
          .filter((one) => one.via !== null)
          .map((one) => ({ via: one.via as ClusterId, mapRttMs: one.rttMs })),
        options,
        over,
        new Random(options.seed).split(`pair/${from}/${to}`),
      );
      const chosen = over(via);
      if (via !== null) relayed++;
      paid.direct.push(direct);
      paid.chosen.push(chosen);
      paid.optimal.push(
        Math.min(direct, ...sites.map((relay) => over(clusterIdOf(relay))).filter((rtt) => rtt >= 0)),
      );
    }
  if (paid.direct.length === 0) throw new RangeError("the matrix has no time between any two sites");
  return {
    figures: { direct: figures(paid.direct), chosen: figures(paid.chosen), optimal: figures(paid.optimal) },
    pairs: paid.direct.length,
    skipped,
    relayed,
  };
}

/** Runs transport's own chooser on noisy end-to-end probes for `WATCH_MS` of virtual time. Returns the relay, null: direct. */
function choosePath(
  relays: readonly { readonly via: ClusterId; readonly mapRttMs: number }[],
  options: OverlayOptions,
  trueRttMs: (via: ClusterId | null) => number,
  noise: Random,
): ClusterId | null {
  const chooser = new PathChooser({ ...pathChooserDefaults, relaysMax: options.candidates }, START);
  chooser.setRelays(relays, START);
  const endAt = plusMs(START, WATCH_MS);
  let now: MonotonicMs = START;
  /** Answers under way. */
  const arriving: { readonly at: MonotonicMs; readonly probeId: number; readonly rttMs: number }[] = [];
  while (now < endAt) {
    for (let probe = chooser.pollTransmit(now); probe !== undefined; probe = chooser.pollTransmit(now)) {
      const rttMs = noisySample(trueRttMs(probe.via), 0, noise);
      // A lost probe is not reported: the chooser finds that out by itself.
      if (rttMs !== null) arriving.push({ at: plusMs(now, rttMs), probeId: probe.probeId, rttMs });
    }
    arriving.sort((a, b) => a.at - b.at || a.probeId - b.probeId);
    const timer = chooser.pollTimeout(now) ?? endAt;
    const arrival = arriving[0];
    if (arrival !== undefined && arrival.at <= timer) {
      arriving.shift();
      now = arrival.at;
      chooser.handleProbeResult(arrival.probeId, arrival.rttMs, now);
    } else {
      now = timer > now ? timer : plusMs(now, 1);
      chooser.handleTimeout(now);
    }
  }
  return chooser.choose(endAt).via;
}

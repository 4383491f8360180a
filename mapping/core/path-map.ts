/**
 * The path map: for each pair of clusters that talk, the direct path and the relays that are worth a probe. It only ranks:
 * transport measures the candidates end to end and decides.
 */
import type { ClusterEntry, ClusterId, MonotonicMs, PathBasis, PathEntry, TopologyDocument } from "#kit";
import { linkCost, sumOfCost } from "./link-cost.ts";
import { type LinkEstimate, type LinkTable, rounded } from "./link-table.ts";

export interface PathMapSettings {
  /** Relays named for a pair; each costs transport a probe an interval. */
  readonly relaysMax: number;
  /** What a relay adds to the two links: reading, queueing and writing once more, ms round trip. */
  readonly relayOverheadMs: number;
  /**
   * What a link that nobody has measured counts more than its guess, as a share. Above 0, because a guess from geography
   * always finds a shorter way (the triangle inequality holds on the sphere and nowhere else).
   */
  readonly guessSurchargeRatio: number;
}
export const pathMapDefaults: PathMapSettings = {
  relaysMax: 3,
  relayOverheadMs: 1,
  guessSurchargeRatio: 0.5,
};

const RTT_MS_MAX = 60_000;

/**
 * Candidates for every ordered pair (edge or parent) -> (parent or origin), cheapest first, the direct path always among
 * them, ties by id with direct first. A path's cost is round trip, loss and age (`link-cost.ts`): of a relay by what a server measured over it
 * end to end, if one did, else the sum of its two links. Relays that promise nothing are named too: they are what is left when the direct path is cut.
 */
export function pathMap(
  topology: TopologyDocument,
  links: LinkTable,
  isUsable: (clusterId: ClusterId) => boolean,
  now: MonotonicMs,
  settings: PathMapSettings = pathMapDefaults,
): PathEntry[] {
  const relays = topology.clusters.filter(
    (cluster) => cluster.role === "relay" && cluster.servers.length > 0 && isUsable(cluster.clusterId),
  );
  const from = topology.clusters.filter((cluster) => cluster.role === "edge" || cluster.role === "parent");
  const to = topology.clusters.filter((cluster) => cluster.role === "parent" || cluster.role === "origin");
  const entries: PathEntry[] = [];
  for (const one of from)
    for (const other of to)
      if (one.clusterId !== other.clusterId)
        entries.push(pathEntry(one, other, relays, links, now, settings));
  return entries;
}

/** The entry of one ordered pair. */
export function pathEntry(
  from: ClusterEntry,
  to: ClusterEntry,
  relays: readonly ClusterEntry[],
  links: LinkTable,
  now: MonotonicMs,
  settings: PathMapSettings = pathMapDefaults,
): PathEntry {
  const direct = links.link(from, to, now);
  const found: Candidate[] = [];
  for (const relay of relays) {
    if (relay.clusterId === from.clusterId || relay.clusterId === to.clusterId) continue;
    const measured = links.measured(from.clusterId, to.clusterId, relay.clusterId, now);
    found.push(
      measured === undefined
        ? sum(from, relay, to, links, now, settings)
        : candidate(
            relay.clusterId,
            measured.rttMs,
            measured.lossRatio,
            sumOfCost(linkCost(measured)),
            "measured",
          ),
    );
  }
  found.sort((a, b) => a.costMs - b.costMs || ((a.via ?? "") < (b.via ?? "") ? -1 : 1));
  const candidates = [
    candidate(
      null,
      direct.rttMs,
      direct.lossRatio,
      sumOfCost(linkCost(direct)),
      direct.isMeasured ? "measured" : "guessed",
    ),
    ...found.slice(0, settings.relaysMax),
  ];
  // A stable sort: at equal cost the direct path, which stands first, stays first.
  return {
    fromClusterId: from.clusterId,
    toClusterId: to.clusterId,
    candidates: candidates.sort((a, b) => a.costMs - b.costMs),
  };
}

type Candidate = PathEntry["candidates"][number] & { readonly costMs: number };

function candidate(
  via: ClusterId | null,
  rttMs: number,
  lossRatio: number,
  costMs: number,
  basis: PathBasis,
): Candidate & { readonly via: typeof via } {
  return {
    via,
    rttMs: rounded(Math.min(RTT_MS_MAX, rttMs)),
    lossRatio: rounded(lossRatio, 1e5),
    basis,
    costMs: rounded(Math.min(RTT_MS_MAX, costMs)),
  };
}

function sum(
  from: ClusterEntry,
  relay: ClusterEntry,
  to: ClusterEntry,
  links: LinkTable,
  now: MonotonicMs,
  settings: PathMapSettings,
): Candidate {
  const near = links.link(from, relay, now);
  const far = links.link(relay, to, now);
  const counted = (link: LinkEstimate): LinkEstimate =>
    link.isMeasured ? link : { ...link, rttMs: link.rttMs * (1 + settings.guessSurchargeRatio) };
  const rttMs = counted(near).rttMs + counted(far).rttMs + settings.relayOverheadMs;
  const costMs =
    sumOfCost(linkCost(counted(near))) + sumOfCost(linkCost(counted(far))) + settings.relayOverheadMs;
  const lossRatio = 1 - (1 - near.lossRatio) * (1 - far.lossRatio);
  return candidate(
    relay.clusterId,
    rttMs,
    lossRatio,
    costMs,
    near.isMeasured && far.isMeasured ? "sum" : "guessed",
  );
}

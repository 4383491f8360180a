/**
 * How much a failure detector is believed. Probes can be wrong all at once (the prober's own network, a bad release of the
 * probe), and taking out healthy servers on their word is worse than keeping dead ones, because answers have a second server and
 * name servers probe for themselves.
 */
import type { ClusterId, MonotonicMs, RegionId, ServerId } from "#kit";

export interface SuspensionSettings {
  /** Share of the whole capacity that may be out at once, 0..1. */
  readonly outRatioMax: number;
  /** And never so much that less than this share is left, 0..1; also bounds the region that may go as a whole. */
  readonly leftRatioMin: number;
}
/**
 * A tenth, or the largest region, whichever is more (one region is the largest thing that is expected to fail at once),
 * but never below half.
 */
export const suspensionDefaults: SuspensionSettings = { outRatioMax: 0.1, leftRatioMin: 0.5 };

export interface SuspensionServer {
  readonly serverId: ServerId;
  readonly clusterId: ClusterId;
  readonly regionId: RegionId;
  readonly capacityPerSecond: number;
  /** Since when the detector holds it to be down; undefined: it does not. */
  readonly downSince: MonotonicMs | undefined;
}

export interface Suspension {
  /** Believed to be down. */
  readonly out: ReadonlySet<ServerId>;
  /** Reported down beyond the quota, and treated as up. */
  readonly doubted: ReadonlySet<ServerId>;
  /** Clusters whose every server is out. */
  readonly clusters: ReadonlySet<ClusterId>;
  /** What may be out, requests per second. */
  readonly quotaPerSecond: number;
}

/** Believes reports in the order in which they came (ties by id) as far as the quota goes. Deterministic. */
export function suspend(
  servers: readonly SuspensionServer[],
  settings: SuspensionSettings = suspensionDefaults,
): Suspension {
  let total = 0;
  const byRegion = new Map<RegionId, number>();
  for (const { regionId, capacityPerSecond } of servers) {
    total += capacityPerSecond;
    byRegion.set(regionId, (byRegion.get(regionId) ?? 0) + capacityPerSecond);
  }
  const quotaPerSecond = Math.min(
    Math.max(total * settings.outRatioMax, ...byRegion.values()),
    total * (1 - settings.leftRatioMin),
  );
  const down = servers
    .filter((server) => server.downSince !== undefined)
    .sort((a, b) => (a.downSince as number) - (b.downSince as number) || (a.serverId < b.serverId ? -1 : 1));
  const out = new Set<ServerId>();
  const doubted = new Set<ServerId>();
  let outPerSecond = 0;
  for (const { serverId, capacityPerSecond } of down) {
    if (outPerSecond + capacityPerSecond <= quotaPerSecond * (1 + 1e-9)) {
      out.add(serverId);
      outPerSecond += capacityPerSecond;
    } else doubted.add(serverId);
  }
  const clusters = new Set(servers.map((server) => server.clusterId));
  for (const { serverId, clusterId } of servers) if (!out.has(serverId)) clusters.delete(clusterId);
  return { out, doubted, clusters, quotaPerSecond };
}

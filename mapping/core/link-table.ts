/**
 * Travel times between clusters, from what servers report about the links that they measure (`ServerReport.links`). Direct
 * links and paths through a relay; a pair that nobody reports is guessed from coordinates.
 */
import {
  type ClusterEntry,
  type ClusterId,
  type MonotonicMs,
  quantile,
  type ServerId,
  type ServerReport,
} from "#kit";
import { estimateByGeography } from "./estimator.ts";

export interface LinkEstimate {
  readonly rttMs: number;
  readonly lossRatio: number;
  /** False: a guess from geography, or worse. */
  readonly isMeasured: boolean;
}

interface Observation {
  /** Of the newest reports, oldest first. */
  readonly srttsMs: readonly number[];
  readonly lossRatio: number;
  readonly at: MonotonicMs;
}

/** Reports of a server that are kept for each link: some seconds, so that a queue that has passed is forgotten soon. */
const REPORTS_KEPT = 8;
/** A smoothed time still holds the spikes that went into it; queues only add, so the lower quarter is the path. */
const SRTT_QUANTILE = 0.25;

export interface LinkTableSettings {
  /** A report older than this no longer counts, ms: servers report each second, so it is gone or cannot measure. */
  readonly ageMsMax: number;
  /** Links kept; further ones are refused and counted. */
  readonly linksMax: number;
}
export const linkTableDefaults: LinkTableSettings = { ageMsMax: 60_000, linksMax: 200_000 };

export class LinkTable {
  readonly #settings: LinkTableSettings;
  /** By `from to via`, then by the server that reported it. */
  readonly #links = new Map<string, Map<ServerId, Observation>>();
  readonly counters = { reports: 0, linksRefused: 0 };

  constructor(settings: Partial<LinkTableSettings> = {}) {
    this.#settings = { ...linkTableDefaults, ...settings };
  }

  get size(): number {
    return this.#links.size;
  }

  /** Takes what one server says of its links. */
  handleReport(report: Pick<ServerReport, "serverId" | "clusterId" | "links">, now: MonotonicMs): void {
    this.counters.reports++;
    for (const link of report.links) {
      if (link.samples === 0 || link.toClusterId === report.clusterId) continue;
      const key = linkKey(report.clusterId, link.toClusterId, link.via);
      let byServer = this.#links.get(key);
      if (byServer === undefined) {
        if (this.#links.size >= this.#settings.linksMax) {
          this.counters.linksRefused++;
          continue;
        }
        byServer = new Map();
        this.#links.set(key, byServer);
      }
      const before = byServer.get(report.serverId)?.srttsMs ?? [];
      byServer.set(report.serverId, {
        srttsMs: [...before, link.srttMs].slice(-REPORTS_KEPT),
        lossRatio: link.lossRatio,
        at: now,
      });
    }
  }

  /** Forgets what is too old. */
  handleTimeout(now: MonotonicMs): void {
    for (const [key, byServer] of this.#links) {
      for (const [serverId, { at }] of byServer)
        if (now - at > this.#settings.ageMsMax) byServer.delete(serverId);
      if (byServer.size === 0) this.#links.delete(key);
    }
  }

  /**
   * What the cluster's servers measured, by the median over them, so that one server with a bad clock or card decides
   * nothing. A round trip is the same both ways, so the other end's figure serves when this end has none. Undefined: unmeasured.
   */
  measured(
    from: ClusterId,
    to: ClusterId,
    via: ClusterId | null,
    now: MonotonicMs,
  ): LinkEstimate | undefined {
    return this.#median(linkKey(from, to, via), now) ?? this.#median(linkKey(to, from, via), now);
  }

  /** The direct link between two clusters; a guess when it is unmeasured. */
  link(from: ClusterEntry, to: ClusterEntry, now: MonotonicMs): LinkEstimate {
    if (from.clusterId === to.clusterId) return { rttMs: 0, lossRatio: 0, isMeasured: true };
    const measured = this.measured(from.clusterId, to.clusterId, null, now);
    if (measured !== undefined) return measured;
    const { rttMs, lossRatio } = estimateByGeography(from.coordinates, to.coordinates);
    return { rttMs, lossRatio, isMeasured: false };
  }

  #median(key: string, now: MonotonicMs): LinkEstimate | undefined {
    const byServer = this.#links.get(key);
    if (byServer === undefined) return undefined;
    const fresh = [...byServer.values()].filter(({ at }) => now - at <= this.#settings.ageMsMax);
    if (fresh.length === 0) return undefined;
    const middle = (values: number[]): number =>
      quantile(
        values.sort((a, b) => a - b),
        0.5,
      );
    return {
      rttMs: middle(
        fresh.map(({ srttsMs }) =>
          quantile(
            [...srttsMs].sort((a, b) => a - b),
            SRTT_QUANTILE,
          ),
        ),
      ),
      lossRatio: middle(fresh.map(({ lossRatio }) => lossRatio)),
      isMeasured: true,
    };
  }
}

function linkKey(from: ClusterId, to: ClusterId, via: ClusterId | null): string {
  return `${from} ${to} ${via ?? ""}`;
}

/** To a thousandth unless told: keeps a snapshot short and its diffs free of the last bits. Monotone, so orders survive. */
export function rounded(value: number, steps = 1e3): number {
  return Math.round(value * steps) / steps;
}

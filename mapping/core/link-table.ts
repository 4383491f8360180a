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
  /** What age has left of it, 0..1: 1 while reports come; a guess has no age. */
  readonly freshness: number;
  /** False: a guess from geography, or worse. */
  readonly isMeasured: boolean;
}

interface Observation {
  /** Of the newest reports, oldest first. */
  readonly srttsMs: readonly number[];
  readonly lossRatio: number;
  readonly at: MonotonicMs;
}

/** By relay (null: direct), then by the server that reported it. */
type Ways = Map<ClusterId | null, Map<ServerId, Observation>>;

/** Reports of a server that are kept for each link: some seconds, so that a queue that has passed is forgotten soon. */
const REPORTS_KEPT = 8;
/** A smoothed time still holds the spikes that went into it; queues only add, so the lower quarter is the path. */
const SRTT_QUANTILE = 0.25;

/** Servers report each second: up to this age, ms, some reports were lost and no more. */
const FRESH_MS = 10_000;

export interface LinkTableSettings {
  /** A report older than this no longer counts, ms: servers report each second, so it is gone or cannot measure. */
  readonly ageMsMax: number;
  /** Links kept; further ones are refused and counted. */
  readonly linksMax: number;
}
export const linkTableDefaults: LinkTableSettings = { ageMsMax: 60_000, linksMax: 200_000 };

export class LinkTable {
  readonly #settings: LinkTableSettings;
  /** By where it begins and where it ends. No joined key: maps of tiers and paths ask for each pair of clusters. */
  readonly #links = new Map<ClusterId, Map<ClusterId, Ways>>();
  #size = 0;
  readonly counters = { reports: 0, linksRefused: 0 };

  constructor(settings: Partial<LinkTableSettings> = {}) {
    this.#settings = { ...linkTableDefaults, ...settings };
  }

  get size(): number {
    return this.#size;
  }

  /** Takes what one server says of its links. */
  handleReport(report: Pick<ServerReport, "serverId" | "clusterId" | "links">, now: MonotonicMs): void {
    this.counters.reports++;
    for (const link of report.links) {
      if (link.samples === 0 || link.toClusterId === report.clusterId) continue;
      const byServer = this.#observations(report.clusterId, link.toClusterId, link.via);
      if (byServer === undefined) {
        this.counters.linksRefused++;
        continue;
      }
      const before = byServer.get(report.serverId)?.srttsMs ?? [];
      byServer.set(report.serverId, {
        srttsMs: [...before, link.srttMs].slice(-REPORTS_KEPT),
        lossRatio: link.lossRatio,
        at: now,
      });
    }
  }

  /** Made when it is first told of; undefined: there are too many. */
  #observations(
    from: ClusterId,
    to: ClusterId,
    via: ClusterId | null,
  ): Map<ServerId, Observation> | undefined {
    const known = this.#links.get(from)?.get(to)?.get(via);
    if (known !== undefined) return known;
    if (this.#size >= this.#settings.linksMax) return undefined;
    const byEnd = this.#links.get(from) ?? new Map<ClusterId, Ways>();
    this.#links.set(from, byEnd);
    const ways = byEnd.get(to) ?? new Map<ClusterId | null, Map<ServerId, Observation>>();
    byEnd.set(to, ways);
    const made = new Map<ServerId, Observation>();
    ways.set(via, made);
    this.#size++;
    return made;
  }

  /** Forgets what is too old. */
  handleTimeout(now: MonotonicMs): void {
    for (const [from, byEnd] of this.#links) {
      for (const [to, ways] of byEnd) {
        for (const [via, byServer] of ways) {
          for (const [serverId, { at }] of byServer)
            if (now - at > this.#settings.ageMsMax) byServer.delete(serverId);
          if (byServer.size > 0) continue;
          ways.delete(via);
          this.#size--;
        }
        if (ways.size === 0) byEnd.delete(to);
      }
      if (byEnd.size === 0) this.#links.delete(from);
    }
  }

  /** Pairs of clusters of whose direct link something was reported, as it was reported. */
  *pairs(): Generator<readonly [from: ClusterId, to: ClusterId]> {
    for (const [from, byEnd] of this.#links)
      for (const [to, ways] of byEnd) if (ways.has(null)) yield [from, to];
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
    return this.#median(from, to, via, now) ?? this.#median(to, from, via, now);
  }

  /** The direct link between two clusters; a guess when it is unmeasured. */
  link(from: ClusterEntry, to: ClusterEntry, now: MonotonicMs): LinkEstimate {
    if (from.clusterId === to.clusterId) return { rttMs: 0, lossRatio: 0, freshness: 1, isMeasured: true };
    const measured = this.measured(from.clusterId, to.clusterId, null, now);
    if (measured !== undefined) return measured;
    const { rttMs, lossRatio } = estimateByGeography(from.coordinates, to.coordinates);
    return { rttMs, lossRatio, freshness: 1, isMeasured: false };
  }

  #freshness(ageMs: number): number {
    const left = (this.#settings.ageMsMax - ageMs) / (this.#settings.ageMsMax - FRESH_MS);
    return Math.min(1, Math.max(0, left));
  }

  #median(from: ClusterId, to: ClusterId, via: ClusterId | null, now: MonotonicMs): LinkEstimate | undefined {
    const byServer = this.#links.get(from)?.get(to)?.get(via);
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
      freshness: this.#freshness(now - Math.max(...fresh.map(({ at }) => at))),
      isMeasured: true,
    };
  }
}

/** To a thousandth unless told: keeps a snapshot short and its diffs free of the last bits. Monotone, so orders survive. */
export function rounded(value: number, steps = 1e3): number {
  return Math.round(value * steps) / steps;
}

/** The newest report of each server. Ephemeral: what has not been repeated for a while is forgotten. Sans-IO. */
import type { MonotonicMs, ServerId, ServerReport, TopologyDocument } from "#kit";

export interface ReportBoardSettings {
  /** A report this old is forgotten. */
  readonly expiryMs: number;
  /** A server that reported within it counts as live. */
  readonly liveMs: number;
  /** Servers on the board; reports of further ones are refused until some expire. */
  readonly serversMax: number;
}

export const reportBoardDefaults: ReportBoardSettings = {
  expiryMs: 15_000,
  liveMs: 5_000,
  serversMax: 10_000,
};

interface Entry {
  readonly report: ServerReport;
  readonly at: MonotonicMs;
}

export class ReportBoard {
  readonly #settings: ReportBoardSettings;
  /** Oldest first: a new report moves its server to the end. */
  readonly #entries = new Map<ServerId, Entry>();
  #refused = 0;

  constructor(settings: ReportBoardSettings = reportBoardDefaults) {
    this.#settings = settings;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Reports refused because the board was full. */
  get refused(): number {
    return this.#refused;
  }

  /** False when it was refused. Age counts from when it arrived: the clocks of other machines are not trusted. */
  handleReport(report: ServerReport, now: MonotonicMs): boolean {
    this.#expire(now);
    if (!this.#entries.has(report.serverId) && this.#entries.size >= this.#settings.serversMax) {
      this.#refused++;
      return false;
    }
    this.#entries.delete(report.serverId);
    this.#entries.set(report.serverId, { report, at: now });
    return true;
  }

  /** By server id. */
  reports(now: MonotonicMs): readonly ServerReport[] {
    this.#expire(now);
    return [...this.#entries.values()]
      .map((entry) => entry.report)
      .sort((a, b) => (a.serverId < b.serverId ? -1 : a.serverId > b.serverId ? 1 : 0));
  }

  /** Of servers that count as live, in no order. */
  recent(now: MonotonicMs): readonly ServerReport[] {
    return [...this.#entries.values()].flatMap(({ report, at }) =>
      now - at <= this.#settings.liveMs ? [report] : [],
    );
  }

  /**
   * Who could hold what a purge names: edges and parents that report, and those that the topology names.
   * @returns disjoint and sorted; `missing` are those that have not reported within `liveMs`
   */
  purgeAudience(
    topology: TopologyDocument | undefined,
    now: MonotonicMs,
  ): { readonly live: readonly ServerId[]; readonly missing: readonly ServerId[] } {
    const holds = (role: string) => role === "edge" || role === "parent";
    const live = new Set<ServerId>();
    for (const [serverId, { report, at }] of this.#entries) {
      if (holds(report.role) && now - at <= this.#settings.liveMs) live.add(serverId);
    }
    const missing = new Set<ServerId>();
    for (const cluster of topology?.clusters ?? []) {
      if (!holds(cluster.role)) continue;
      for (const { serverId } of cluster.servers) if (!live.has(serverId)) missing.add(serverId);
    }
    return { live: [...live].sort(), missing: [...missing].sort() };
  }

  #expire(now: MonotonicMs): void {
    for (const [serverId, entry] of this.#entries) {
      if (now - entry.at < this.#settings.expiryMs) return;
      this.#entries.delete(serverId);
    }
  }
}

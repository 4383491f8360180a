/** What a server tells the mapper about its links. */
import type { ClusterId, LinkReport, MonotonicMs } from "#kit";
import type { Target } from "./target.ts";

/** The report's own bounds (kit, server-report). */
const RTT_MS_MAX = 60_000;

/**
 * One report for each ordered pair and relay; of several servers of a cluster the one with the most samples speaks. A path
 * that has failed reports a loss of 1.
 */
export function linkReportsOf(targets: readonly Target[], now: MonotonicMs): LinkReport[] {
  const byPair = new Map<string, LinkReport>();
  for (const { clusterId, chooser } of targets) {
    if (clusterId === null || chooser === undefined) continue;
    for (const state of chooser.states(now)) {
      if (state.srttMs === undefined) continue;
      const key = `${clusterId}|${state.via ?? ""}`;
      const report = reportOf(clusterId, state.via, state.srttMs, state);
      const known = byPair.get(key);
      // A cluster's path stands while one of its servers can be reached over it.
      const isBetter =
        known === undefined ||
        (known.lossRatio === 1 && report.lossRatio < 1) ||
        (report.samples > known.samples && !(report.lossRatio === 1 && known.lossRatio < 1));
      if (isBetter) byPair.set(key, report);
    }
  }
  return [...byPair.values()];
}

function reportOf(
  toClusterId: ClusterId,
  via: ClusterId | null,
  srttMs: number,
  state: {
    readonly rttvarMs: number;
    readonly lossRatio: number;
    readonly samples: number;
    readonly isFailed: boolean;
  },
): LinkReport {
  return {
    toClusterId,
    via,
    srttMs: Math.min(RTT_MS_MAX, srttMs),
    rttvarMs: Math.min(RTT_MS_MAX, state.rttvarMs),
    lossRatio: state.isFailed ? 1 : state.lossRatio,
    samples: state.samples,
  };
}

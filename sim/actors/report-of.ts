/** The report that a server makes of itself each second (kit/documents/server-report.ts). */
import type { LinkReport, PolicyOpinions, ServerId, ServerReport } from "#kit";
import type { Fence } from "../../control/core/fence.ts";
import type { ControlStore } from "./control-store.ts";
import { epochOf, exchange, type Host } from "./host.ts";
import type { Stage } from "./stage.ts";
import type { Upstream } from "./upstream.ts";

export function serverReportOf(
  stage: Stage,
  host: Host,
  upstream: Upstream | undefined,
  {
    applied,
    fence,
    opinions,
  }: {
    readonly applied: Readonly<Record<string, number>>;
    readonly fence: Fence | undefined;
    /** Of an agent of the policy's tests. */
    readonly opinions: PolicyOpinions | undefined;
  },
  requestsPerSecond: number,
): ServerReport {
  const cluster = stage.clusterOf.get(host.id);
  if (cluster === undefined) throw new RangeError(`Server ${host.id} is in no cluster`);
  return {
    serverId: host.id as ServerId,
    clusterId: cluster.clusterId,
    role: cluster.role,
    incarnation: String(host.incarnation),
    atEpochMs: Math.round(epochOf(host.now)),
    state: "ready",
    requestsPerSecond,
    activeRequests: 0,
    cacheBytes: 0,
    cacheObjects: 0,
    properties: {},
    links: upstream === undefined ? [] : linksOf(upstream),
    applied,
    ...(opinions !== undefined && { opinions }),
    ...(fence !== undefined && { mapInForce: fence }),
  };
}

/** Whether it arrives nobody hears: the next one comes in `reportMs`. */
export function sendReport(host: Host, control: ControlStore, report: ServerReport, reportMs: number): void {
  exchange<true>({
    from: host,
    to: control.host,
    label: "report",
    timeoutMs: 2 * reportMs,
    serve: (respond) => {
      control.report(report);
      respond(true);
    },
    done: () => {},
  });
}

/** One report for each pair and relay; of several servers of a cluster the one with the most samples, unless it has failed. */
function linksOf(upstream: Upstream): LinkReport[] {
  const byPair = new Map<string, LinkReport>();
  for (const { clusterId, states } of upstream.linkStates()) {
    for (const state of states) {
      if (state.srttMs === undefined) continue;
      const link: LinkReport = {
        toClusterId: clusterId,
        via: state.via,
        srttMs: Math.min(60_000, state.srttMs),
        rttvarMs: Math.min(60_000, state.rttvarMs),
        lossRatio: state.isFailed ? 1 : state.lossRatio,
        samples: state.samples,
      };
      const key = `${clusterId}|${state.via ?? ""}`;
      const known = byPair.get(key);
      const isBetter =
        known === undefined ||
        (known.lossRatio === 1 && link.lossRatio < 1) ||
        (link.samples > known.samples && !(link.lossRatio === 1 && known.lossRatio < 1));
      if (isBetter) byPair.set(key, link);
    }
  }
  return [...byPair.values()];
}

/** Of a report what watchers of opinions need: an edge's has its traffic and links too, which would go to each name server each second. */
import type { ServerReport } from "#kit";

export function opinionsAlone(report: ServerReport): ServerReport {
  const { serverId, clusterId, role, incarnation, atEpochMs, state, opinions = {}, applied } = report;
  const versions = Object.keys(opinions).flatMap((policyId) => {
    const key = `policy/${policyId}`;
    const version = applied[key];
    return version === undefined ? [] : [[key, version] as const];
  });
  return {
    serverId,
    clusterId,
    role,
    incarnation,
    atEpochMs,
    state,
    requestsPerSecond: 0,
    activeRequests: 0,
    cacheBytes: 0,
    cacheObjects: 0,
    properties: {},
    links: [],
    opinions,
    applied: Object.fromEntries(versions),
  };
}

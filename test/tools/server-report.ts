/** A server's report for tests that do not care what it says. */
import { type ServerReport, serverReport } from "#kit";

/** A valid report of an idle, ready edge at cluster "fra"; `rest` replaces fields. Throws ParseError when it no longer fits. */
export function idleReport(serverId: string, rest: { readonly [name: string]: unknown } = {}): ServerReport {
  return serverReport.parse({
    serverId,
    clusterId: "fra",
    role: "edge",
    incarnation: "1",
    atEpochMs: 1,
    state: "ready",
    requestsPerSecond: 0,
    activeRequests: 0,
    cacheBytes: 0,
    cacheObjects: 0,
    properties: {},
    links: [],
    applied: {},
    ...rest,
  });
}

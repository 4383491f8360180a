/** The documents and measurements of an imagined deployment on the sites of a matrix, for the production cores to work on. */
import {
  type ClientNetworkId,
  type ClusterId,
  type MonotonicMs,
  monotonicMs,
  plusMs,
  type PropertyDocument,
  type PropertyId,
  propertyDocument,
  Random,
  type Role,
  type ServerReport,
  type TopologyDocument,
  topologyDocument,
} from "#kit";
import { noisySample } from "#mapping";
import { LinkEstimator } from "../../transport/core/link-estimator.ts";
import type { RttMatrix } from "./matrix.ts";

/** Enough for everyone: the evaluation is about distance, not about capacity. */
const CAPACITY_PER_SECOND = 1e9;
/** Reports of each site before the map is made, and the probes of each link that went into one. */
const LINK_REPORTS = 8;
const SAMPLES_PER_REPORT = 3;
const REPORT_INTERVAL_MS = 1_000;

export function clusterIdOf(index: number): ClusterId {
  return `site-${index}` as ClusterId;
}

export function clientNetworkIdOf(index: number): ClientNetworkId {
  return `client-${index}` as ClientNetworkId;
}

/** One /24 a client network. */
export function clientPrefix(index: number): string {
  return `10.${index >> 8}.${index & 255}.0/24`;
}

/** One server a site, with the roles that are asked for. Sites without coordinates stand at 0, 0, which nobody reads then. */
export function topologyOfSites(
  matrix: RttMatrix,
  sites: readonly (readonly [index: number, role: Role])[],
): TopologyDocument {
  return topologyDocument.parse({
    name: "evaluation",
    clusters: sites.map(([index, role], n) => ({
      clusterId: clusterIdOf(index),
      regionId: `region-${index}`,
      role,
      city: (matrix.names[index] ?? "").slice(0, 80),
      coordinates: matrix.coordinates?.[index] ?? { latitude: 0, longitude: 0 },
      servers: [
        {
          serverId: `site-${index}-1`,
          address: `192.0.${n >> 8}.${n & 255}`,
          port: 80,
          capacityPerSecond: CAPACITY_PER_SECOND,
        },
      ],
    })),
    nameService: { zones: [], nameServers: [] },
  });
}

export const evaluationProperty: PropertyDocument = propertyDocument.parse({
  propertyId: "evaluation" as PropertyId,
  customerId: "evaluation",
  hostnames: ["evaluation.invalid"],
  origins: [{ scheme: "http", host: "origin.invalid", port: 80 }],
});

/**
 * What the server of each site reports about its links to the others, report after report, oldest first: transport's own
 * estimator over noisy probes. The last one comes a second before `startAt`.
 */
export function linkReports(
  matrix: RttMatrix,
  sites: readonly number[],
  seed: number,
  startAt: MonotonicMs = START,
): { readonly report: ServerReport; readonly at: MonotonicMs }[] {
  const random = new Random(seed).split("links");
  const reports: { report: ServerReport; at: MonotonicMs }[] = [];
  const estimators = new Map<string, LinkEstimator>();
  for (let round = 0; round < LINK_REPORTS; round++) {
    const at = plusMs(startAt, (round - LINK_REPORTS) * REPORT_INTERVAL_MS);
    for (const from of sites) {
      const links: ServerReport["links"][number][] = [];
      for (const to of sites) {
        if (to === from) continue;
        const key = `${from} ${to}`;
        const estimator = estimators.get(key) ?? new LinkEstimator();
        estimators.set(key, estimator);
        for (let n = 0; n < SAMPLES_PER_REPORT; n++) {
          const rttMs = noisySample(matrix.rttMs(from, to), 0, random);
          if (rttMs === null) estimator.handleLoss(at);
          else estimator.handleSample(rttMs, at);
        }
        const { srttMs, rttvarMs, lossRatio, samples } = estimator;
        if (srttMs !== undefined)
          links.push({ toClusterId: clusterIdOf(to), via: null, srttMs, rttvarMs, lossRatio, samples });
      }
      reports.push({ at, report: reportOf(from, links) });
    }
  }
  return reports;
}

function reportOf(site: number, links: ServerReport["links"]): ServerReport {
  return {
    serverId: `site-${site}-1` as ServerReport["serverId"],
    clusterId: clusterIdOf(site),
    role: "edge",
    incarnation: "1",
    atEpochMs: 0,
    state: "ready",
    requestsPerSecond: 0,
    activeRequests: 0,
    cacheBytes: 0,
    cacheObjects: 0,
    properties: {},
    links,
    applied: {},
  };
}

export const START: MonotonicMs = monotonicMs(0);

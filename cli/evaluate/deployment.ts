/** The documents and measurements of an imagined deployment on the sites of a matrix, for the production cores to work on. */
import {
  type ClientNetworkId,
  type ClusterId,
  type MonotonicMs,
  monotonicMs,
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
import type { RttMatrix } from "./matrix.ts";

/** Enough for everyone: the evaluation is about distance, not about capacity. */
const CAPACITY_PER_SECOND = 1e9;
/** Pings that a site sends to each other site before the map is made; servers do that all the time. */
const LINK_SAMPLES = 8;

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

/** What the server of each site reports about its links to the others: smoothed over a few noisy samples (RFC 6298). */
export function linkReports(matrix: RttMatrix, sites: readonly number[], seed: number): ServerReport[] {
  const random = new Random(seed).split("links");
  return sites.map((from): ServerReport => {
    const links: ServerReport["links"][number][] = [];
    for (const to of sites) {
      if (to === from) continue;
      const one = measureLink(matrix.rttMs(from, to), random);
      if (one !== undefined) links.push({ toClusterId: clusterIdOf(to), via: null, ...one });
    }
    return {
      serverId: `site-${from}-1` as ServerReport["serverId"],
      clusterId: clusterIdOf(from),
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
  });
}

export const START: MonotonicMs = monotonicMs(0);

function measureLink(
  rttMs: number,
  random: Random,
): { srttMs: number; rttvarMs: number; lossRatio: number; samples: number } | undefined {
  let srttMs: number | undefined;
  let rttvarMs = 0;
  let lost = 0;
  for (let n = 0; n < LINK_SAMPLES; n++) {
    const sample = noisySample(rttMs, 0, random);
    if (sample === null) lost++;
    else if (srttMs === undefined) {
      srttMs = sample;
      rttvarMs = sample / 2;
    } else {
      rttvarMs = 0.75 * rttvarMs + 0.25 * Math.abs(srttMs - sample);
      srttMs = 0.875 * srttMs + 0.125 * sample;
    }
  }
  if (srttMs === undefined) return undefined;
  return { srttMs, rttvarMs, lossRatio: lost / LINK_SAMPLES, samples: LINK_SAMPLES };
}

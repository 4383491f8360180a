import {
  type ClientNetworkId,
  type ClusterId,
  type MapSnapshot,
  monotonicMs,
  type PropertyId,
  propertyDocument,
  type RankedCluster,
  type Role,
  type ServerId,
  type TopologyDocument,
  topologyDocument,
} from "#kit";
import { snapshotFrom } from "../../tools/map-snapshot.ts";

export const at = (ms: number) => monotonicMs(ms);
export const cluster = (name: string) => name as ClusterId;
export const server = (name: string) => name as ServerId;
export const network = (name: string) => name as ClientNetworkId;

export interface Place {
  readonly id: string;
  readonly role?: Role;
  readonly servers?: number;
  readonly latitude?: number;
  readonly longitude?: number;
  readonly region?: string;
  readonly capacityPerSecond?: number;
  /** Give the n-th server (from 0) an IPv6 address. */
  readonly ipv6?: boolean;
}

export function topologyOf(places: readonly Place[]): TopologyDocument {
  return topologyDocument.parse({
    name: "test",
    clusters: places.map((place, c) => ({
      clusterId: place.id,
      regionId: place.region ?? `r-${place.id}`,
      role: place.role ?? "edge",
      city: place.id,
      coordinates: { latitude: place.latitude ?? 0, longitude: place.longitude ?? c * 10 },
      servers: Array.from({ length: place.servers ?? 2 }, (_, n) => ({
        serverId: `${place.id}-${n + 1}`,
        address: place.ipv6 === true ? `2001:db8:${c}::${n + 1}` : `192.0.${c}.${n + 1}`,
        port: 80,
        capacityPerSecond: place.capacityPerSecond ?? 100,
      })),
    })),
    nameService: { zones: [], nameServers: [] },
  });
}

/** `["fra", 10]` pairs to a ranking. */
export function ranking(...entries: readonly (readonly [id: string, score: number])[]): RankedCluster[] {
  return entries.map(([id, score]) => ({
    clusterId: cluster(id),
    score,
    terms: { rttMs: score, lossRatio: 0.002, load: 0, confidence: 0.9 },
  }));
}

export function snapshotOf(
  networks: readonly {
    readonly id: string;
    readonly prefixes: readonly string[];
    readonly ranking: RankedCluster[];
  }[],
  fallback: RankedCluster[],
  rest: Partial<MapSnapshot> = {},
): MapSnapshot {
  const every = (one: RankedCluster[]) => ({ interactive: one, bulk: one, live: one });
  return snapshotFrom({
    clientNetworks: networks.map(({ id, prefixes, ranking: one }) => ({
      clientNetworkId: id,
      prefixes,
      clusters: every(one),
    })),
    fallback: every(fallback),
    ...rest,
  });
}

export const property = propertyDocument.parse({
  propertyId: "shop-www" as PropertyId,
  customerId: "shop",
  hostnames: ["www.shop.example"],
  origins: [{ scheme: "http", host: "127.0.0.1", port: 9000 }],
});

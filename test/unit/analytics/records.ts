import type { AccessRecord } from "#analytics";

/** A record that is right, with what a test is about. */
export function recordOf(more: Partial<AccessRecord> = {}): AccessRecord {
  return {
    atEpochMs: 1_800_000_000_000,
    requestId: "r1",
    serverId: "fra-1" as AccessRecord["serverId"],
    clusterId: "fra" as AccessRecord["clusterId"],
    propertyId: "shop-www" as AccessRecord["propertyId"],
    method: "GET",
    host: "www.shop.example",
    path: "/a.html",
    status: 200,
    cacheStatus: "hit",
    tier: 0,
    via: null,
    bytesDown: 1_000,
    bytesUp: 0,
    durationMs: 12.5,
    ttfbMs: 3.25,
    clientNetworkId: null,
    clientAddress: "198.18.1.0",
    ...more,
  };
}

/** A small CDN for tests of the portal: documents, reports, and a control that keeps them in memory. */
import {
  type MapSnapshot,
  type PropertyDocument,
  propertyDocument,
  type ServerReport,
  serverReport,
  type TopologyDocument,
  topologyDocument,
  editZone,
  type PolicyDocument,
  policyDocument,
  type ZoneDocument,
  zoneDocument,
  zoneOfDocument,
} from "#kit";
import {
  ControlError,
  type DocumentRecord,
  type DocumentSummary,
  type PurgeProgress,
  type Rollout,
} from "#control";
import type { ControlFeed, ControlPort, FeedHandlers } from "#portal";
import { rollout } from "../../../control/core/rollout.ts";
import { snapshotFrom } from "../../tools/map-snapshot.ts";

const city = (
  clusterId: string,
  role: string,
  name: string,
  latitude: number,
  longitude: number,
  servers: number,
  n: number,
) => ({
  clusterId,
  regionId: "r1",
  role,
  city: name,
  coordinates: { latitude, longitude },
  servers: Array.from({ length: servers }, (_, index) => ({
    serverId: `${clusterId}-${index + 1}`,
    address: `127.10.${n}.${index + 1}`,
    port: 8080,
  })),
});

export const topology: TopologyDocument = topologyDocument.parse({
  name: "test-world",
  clusters: [
    city("ams", "edge", "Amsterdam", 52.37, 4.9, 2, 1),
    city("nyc", "edge", "New York", 40.71, -74, 2, 2),
    city("sao", "edge", "São Paulo", -23.55, -46.63, 2, 3),
    city("tyo", "edge", "Tokyo", 35.68, 139.69, 2, 4),
    city("syd", "edge", "Sydney", -33.87, 151.21, 2, 5),
    city("jnb", "edge", "Johannesburg", -26.2, 28.05, 2, 6),
    city("fra", "parent", "Frankfurt", 50.11, 8.68, 2, 7),
    city("iad", "parent", "Ashburn", 39.04, -77.49, 2, 8),
    city("sin", "relay", "Singapore", 1.35, 103.82, 1, 9),
    city("mia", "relay", "Miami", 25.76, -80.19, 1, 10),
    city("dub", "origin", "Dublin", 53.35, -6.26, 1, 11),
    city("cdg", "nameserver", "Paris", 48.86, 2.35, 1, 12),
    city("osl", "service", "Oslo", 59.91, 10.75, 0, 13),
  ],
  nameService: { zones: ["example"], nameServers: [] },
});

export const property = (propertyId: string, customerId: string, extra: object = {}): PropertyDocument =>
  propertyDocument.parse({
    propertyId,
    customerId,
    hostnames: [`www.${propertyId}.example`],
    origins: [{ scheme: "http", host: "127.10.11.1", port: 8080 }],
    caching: { defaultTtlSeconds: 60 },
    ...extra,
  });

export const shop = property("shop", "acme");
export const video = property("video", "acme", { trafficClass: "bulk" });
export const news = property("news", "globex");

const ranking = [{ clusterId: "ams", score: 1, terms: { rttMs: 1, lossRatio: 0, load: 0, confidence: 1 } }];
const rankings = { interactive: ranking, bulk: ranking, live: ranking };

export const map: MapSnapshot = snapshotFrom({
  mapVersion: 7,
  createdAtEpochMs: 1,
  reason: "cycle",
  clientNetworks: [{ clientNetworkId: "n1", prefixes: ["192.0.2.0/24"], clusters: rankings }],
  fallback: rankings,
  tiers: [
    ...["ams", "jnb", "tyo", "syd"].map((edge) => ({
      edgeClusterId: edge,
      originClusterId: null,
      parents: [{ clusterId: "fra", costMs: 20 }],
    })),
    ...["nyc", "sao"].map((edge) => ({
      edgeClusterId: edge,
      originClusterId: null,
      parents: [{ clusterId: "iad", costMs: 20 }],
    })),
  ],
  paths: [
    {
      fromClusterId: "syd",
      toClusterId: "fra",
      candidates: [
        { via: "sin", rttMs: 250, lossRatio: 0 },
        { via: null, rttMs: 290, lossRatio: 0 },
      ],
    },
    { fromClusterId: "fra", toClusterId: "dub", candidates: [{ via: null, rttMs: 22, lossRatio: 0 }] },
  ],
  suspended: {},
});

export interface Traffic {
  readonly requests: number;
  readonly hits: number;
}

export function report(
  serverId: string,
  traffic: Readonly<Record<string, Traffic>> = {},
  extra: object = {},
): ServerReport {
  const clusterId = serverId.slice(0, serverId.lastIndexOf("-"));
  const cluster = topology.clusters.find((one) => one.clusterId === clusterId);
  return serverReport.parse({
    serverId,
    clusterId,
    role: cluster?.role ?? "edge",
    incarnation: "a",
    atEpochMs: 1,
    state: "ready",
    requestsPerSecond: 0,
    activeRequests: 3,
    cacheBytes: 5_000_000,
    cacheObjects: 120,
    properties: Object.fromEntries(
      Object.entries(traffic).map(([id, { requests, hits }]) => [
        id,
        { requests, hits, bytesDown: requests * 10_000, bytesUp: 0, errors5xx: 0 },
      ]),
    ),
    links: [],
    applied: {},
    ...extra,
  });
}

/** Control in memory. `isDown` makes every request fail as if it were not there. */
/** A zone of two RRsets, serial 7. */
export const zoneFor = (customerId: string): ZoneDocument =>
  zoneDocument.parse({
    zoneId: "z",
    customerId,
    origin: "z.test",
    sets: [
      { name: "@", type: "SOA", ttlSeconds: 300, data: ["ns h 7 3600 1800 1209600 60"] },
      { name: "@", type: "NS", ttlSeconds: 300, data: ["ns.other.test."] },
    ],
  });

export const policyFor = (customerId: string): PolicyDocument =>
  policyDocument.parse({
    policyId: customerId,
    customerId,
    names: [`www.${customerId}.test`],
    targets: [{ targetId: "fra", addresses: ["192.0.2.1"] }],
    rule: "fra",
  });

/** Of policy "p": its second version was halted at the first server. */
export const haltedRollout = rollout.parse({
  kind: "policy",
  id: "p",
  version: 2,
  previousVersion: 1,
  state: "halted",
  stages: [
    { stage: "server", servers: ["fra-1"] },
    { stage: "all", servers: ["fra-1", "nyc-1"] },
  ],
  stageIndex: 0,
  startedAtEpochMs: 1,
  endedAtEpochMs: 2,
  soakMs: 10_000,
  targets: [],
  halt: { reason: "restarted", servers: ["fra-1"] },
});

export class FakeControl implements ControlPort, ControlFeed {
  readonly #bodies = new Map<string, { body: unknown; author: string; note: string }[]>();
  readonly #active = new Map<string, number>();
  handlers: FeedHandlers | undefined;
  isDown = false;
  readonly purged: unknown[] = [];

  constructor(properties: readonly PropertyDocument[]) {
    for (const one of properties) {
      this.#bodies.set(one.propertyId, [{ body: one, author: "world", note: "from the world file" }]);
      this.#active.set(one.propertyId, 1);
    }
  }

  async start(handlers: FeedHandlers): Promise<void> {
    this.handlers = handlers;
    handlers.onTopology(topology);
    handlers.onMap(map);
    for (const [id, versions] of this.#bodies)
      handlers.onProperty(versions[0]?.body as PropertyDocument, this.#active.get(id) ?? 1);
    handlers.onConnection(true);
  }
  async close(): Promise<void> {}

  #summary(id: string, version: number): DocumentSummary {
    const one = this.#bodies.get(id)?.[version - 1];
    return {
      kind: "property",
      id,
      version,
      activeVersion: this.#active.get(id) ?? null,
      createdAtEpochMs: 1_700_000_000_000 + version,
      author: one?.author ?? "",
      note: one?.note ?? "",
    };
  }
  #check(): void {
    if (!this.isDown) return;
    throw new ControlError("Cannot reach control http://127.10.0.1:8080", {
      code: "control-unreachable",
      source: "upstream",
      retry: "safe",
    });
  }
  #conflict(presentVersion: number): never {
    throw new ControlError("conflict", {
      code: "conflict",
      source: "configuration",
      retry: "never",
      status: 409,
      presentVersion,
    });
  }

  /** Zones in force, all in version 1; edits are kept with who made them. */
  readonly zones = new Map<string, ZoneDocument>();
  readonly zoneEdits: unknown[] = [];
  async editZone(id: string, request: Parameters<ControlPort["editZone"]>[1]) {
    this.#check();
    const zone = this.zones.get(id);
    if (zone === undefined) throw new Error("asked for a zone that is not there");
    const { serial } = zoneOfDocument(zone);
    if (request.expectedSerial !== undefined && request.expectedSerial !== serial) this.#conflict(serial);
    const edited = editZone(zone, request.edits);
    this.zones.set(id, edited);
    this.zoneEdits.push(request);
    return { ...this.#summary(id, 1), id: edited.zoneId, serial: zoneOfDocument(edited).serial };
  }

  /** In force, all in version 1. */
  readonly policies = new Map<string, PolicyDocument>();
  readonly policiesFetched: string[] = [];
  rolledOut: readonly Rollout[] = [];
  async rollouts(): Promise<readonly Rollout[]> {
    this.#check();
    return this.rolledOut;
  }

  async documents(kind: string): Promise<readonly DocumentSummary[]> {
    this.#check();
    if (kind === "policy")
      return [...this.policies.keys()].map((id) => ({ ...this.#summary(id, 1), activeVersion: 1 }));
    return [...this.#bodies].map(([id, versions]) => this.#summary(id, versions.length));
  }
  async versions(_kind: string, id: string): Promise<readonly DocumentSummary[]> {
    this.#check();
    return (this.#bodies.get(id) ?? []).map((_, index) => this.#summary(id, index + 1));
  }
  async document(kind: string, id: string, version?: number): Promise<DocumentRecord | undefined> {
    this.#check();
    if (kind === "zone") {
      const body = this.zones.get(id);
      return body && { ...this.#summary(id, 1), body };
    }
    if (kind === "policy") {
      this.policiesFetched.push(id);
      const body = this.policies.get(id);
      return body && { ...this.#summary(id, 1), body };
    }
    const wanted = version ?? this.#active.get(id) ?? 0;
    const one = this.#bodies.get(id)?.[wanted - 1];
    return one === undefined ? undefined : { ...this.#summary(id, wanted), body: one.body };
  }
  async put(
    _kind: string,
    id: string,
    body: unknown,
    options: { expectedVersion: number; note?: string; author?: string; activate?: boolean },
  ): Promise<DocumentSummary> {
    this.#check();
    const versions = this.#bodies.get(id) ?? [];
    if (options.expectedVersion !== versions.length) this.#conflict(versions.length);
    versions.push({ body, author: options.author ?? "", note: options.note ?? "" });
    this.#bodies.set(id, versions);
    if (options.activate === true) this.#activate(id, versions.length);
    return this.#summary(id, versions.length);
  }
  async activate(
    _kind: string,
    id: string,
    options: { version: number; expectedActiveVersion: number | null },
  ): Promise<DocumentSummary> {
    this.#check();
    const present = this.#active.get(id) ?? null;
    if (present !== options.expectedActiveVersion) this.#conflict(present ?? 0);
    this.#activate(id, options.version);
    return this.#summary(id, options.version);
  }
  #activate(id: string, version: number): void {
    this.#active.set(id, version);
    this.handlers?.onProperty(this.#bodies.get(id)?.[version - 1]?.body as PropertyDocument, version);
  }
  async purge(request: unknown, onProgress: (progress: PurgeProgress) => void = () => {}) {
    this.#check();
    this.purged.push(request);
    const servers = topology.clusters
      .filter((one) => one.role === "edge" || one.role === "parent")
      .flatMap((one) => one.servers.map((server) => server.serverId));
    onProgress({ type: "accepted", purgeSeq: this.purged.length, servers, missing: [] });
    for (const [index, serverId] of servers.entries()) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      onProgress({ type: "ack", serverId, removed: index % 3, elapsedMs: 3 + index * 2 });
    }
    const done = {
      type: "done",
      purgeSeq: this.purged.length,
      acked: servers.length,
      expected: servers.length,
      unacknowledged: [],
      elapsedMs: 41,
    } as const;
    onProgress(done);
    return done;
  }
}

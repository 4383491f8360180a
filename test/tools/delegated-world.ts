/**
 * Two levels of name servers below a root of their own, on loopback addresses at port 53 (resolvers know no other): the root, which delegates
 * `cdn.example` and holds a customer's alias; one at the top; one with each edge cluster. All ours, in this process.
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import {
  dnssecDocument,
  propertyDocument,
  readZoneFile,
  rootName,
  type ServerId,
  type TopologyDocument,
  topologyDocument,
  zoneDataOf,
} from "#kit";
import { createLogger } from "#kit/io";
import { DnsCounters, DnsServer, DnsState, dsTextOf, newSignedZone } from "#mapping";
import type { DnsContext } from "../../mapping/core/dns/decision.ts";
import { ZoneTable } from "../../mapping/core/dns/zone-table.ts";
import { TopologyIndex } from "../../mapping/core/topology-index.ts";
import { HostedZone } from "../../mapping/core/zone/hosted-zone.ts";
import { snapshotFrom } from "./map-snapshot.ts";

const PORT = 53;
export const ZONE = "cdn.example";
export const DELEGATED = "g.cdn.example";
/** Each with an active property, so that a resolver has no answer of the one when it asks for the other. */
export const PROPERTIES = ["shop", "news", "films", "games", "maps", "mail"] as const;
/** What a customer's alias leads to: the first of them. */
export const CUSTOMER_NAME = "www.customer.test";
const ROOT = "127.61.0.1";
const TOP = "127.61.1.1";

const site = (clusterId: string, regionId: string, role: string, address: string) => ({
  clusterId,
  regionId,
  role,
  city: clusterId,
  coordinates: { latitude: 0, longitude: 0 },
  servers: [{ serverId: `${clusterId}-1`, address, port: 80 }],
});

export interface DelegatedWorldSetting {
  /** Edge clusters in the order in which the map sends the resolver there, each with a name server. */
  readonly clusters: readonly string[];
  /** How long a referral holds. */
  readonly ttlSeconds: number;
}

/** Undefined: port 53 can be had; else why not. */
export async function whyNoPort53(): Promise<string | undefined> {
  const socket = createSocket("udp4");
  try {
    socket.bind(PORT, ROOT);
    await once(socket, "listening");
    return undefined;
  } catch (error) {
    return `port ${PORT} of ${ROOT} cannot be had (${error instanceof Error ? error.message : String(error)})`;
  } finally {
    socket.close();
  }
}

interface Level {
  readonly server: DnsServer;
  readonly state: DnsState;
  readonly counters: DnsCounters;
}

export class DelegatedWorld {
  readonly #ttlSeconds: number;
  readonly #peerKey = Buffer.alloc(32, 9);
  readonly #keys = [ZONE, DELEGATED].map((zone) => newSignedZone(zone, this.#peerKey));
  readonly #down = new Set<ServerId>();
  readonly #levels = new Map<string, Level>();
  #root: DnsServer | undefined;
  #clusters: readonly string[];
  #version = 0;

  private constructor({ clusters, ttlSeconds }: DelegatedWorldSetting) {
    this.#clusters = clusters;
    this.#ttlSeconds = ttlSeconds;
  }

  static async start(setting: DelegatedWorldSetting): Promise<DelegatedWorld> {
    const world = new DelegatedWorld(setting);
    try {
      await world.#startRoot();
      await world.#start("top", TOP);
      await world.setClusters(setting.clusters);
    } catch (error) {
      await world.close();
      throw error;
    }
    return world;
  }

  get rootAddress(): string {
    return ROOT;
  }
  get topAddress(): string {
    return TOP;
  }
  /** As unbound takes it. */
  get trustAnchor(): string {
    const [top] = this.#keys;
    return dsTextOf(ZONE, top?.keys[0].publicKey ?? "");
  }

  edgeAddressOf(cluster: string): string {
    return `127.62.${this.#numberOf(cluster)}.1`;
  }
  nameServerAddressOf(cluster: string): string {
    return `127.61.2.${this.#numberOf(cluster)}`;
  }
  /** Queries that the name server of a cluster, or the one at the top ("top"), has had. */
  queriesOf(name: string): number {
    return this.#levels.get(name)?.counters.queries ?? 0;
  }

  /** A new topology and a new map: the clusters that there are, in the order in which the resolver is sent to them. */
  async setClusters(clusters: readonly string[]): Promise<void> {
    this.#clusters = [...this.#clusters, ...clusters.filter((one) => !this.#clusters.includes(one))];
    for (const cluster of clusters)
      if (!this.#levels.has(cluster)) await this.#start(cluster, this.nameServerAddressOf(cluster));
    this.#version++;
    const topology = this.#topology(clusters);
    const ranking = clusters.map((clusterId, n) => ({
      clusterId,
      score: 10 * (n + 1),
      terms: { rttMs: 10 * (n + 1), lossRatio: 0, load: 0.1, confidence: 1 },
    }));
    const ranked = { interactive: ranking, bulk: ranking, live: ranking };
    const map = snapshotFrom({
      mapVersion: this.#version,
      createdAtEpochMs: 1_700_000_000_000,
      reason: "cycle",
      clientNetworks: [{ clientNetworkId: "loopback", prefixes: ["127.0.0.0/8"], clusters: ranked }],
      fallback: ranked,
    });
    const times = { dnskeyTtlSeconds: 60, zoneTtlSecondsMax: 60, dsTtlSeconds: 60, propagationSeconds: 1 };
    const keys = dnssecDocument.parse({
      name: "delegated",
      zones: this.#keys.map((one) => ({ ...one, ...times })),
    });
    for (const { state } of this.#levels.values()) {
      state.setTopology(topology, this.#version);
      for (const propertyId of PROPERTIES)
        state.setProperty(
          propertyDocument.parse({
            propertyId,
            customerId: "acme",
            hostnames: [`${propertyId}.customer.test`],
            origins: [{ scheme: "http", host: "127.0.0.1", port: 80 }],
          }),
          1,
        );
      state.setKeys(keys, 1);
      state.setMap(map);
    }
  }

  /** The name server of a cluster ends; the others are not told. */
  async kill(cluster: string): Promise<void> {
    await this.#levels.get(cluster)?.server.close();
  }

  /** The others have found out (their own probes have). */
  tellDown(cluster: string): void {
    this.#down.add(`${cluster}-dns-1` as ServerId);
    for (const { state } of this.#levels.values()) state.handleLiveness();
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#levels.values()].map(async ({ server }) => await server.close()));
    await this.#root?.close();
  }

  #numberOf(cluster: string): number {
    return this.#clusters.indexOf(cluster) + 1;
  }

  async #start(name: string, address: string): Promise<void> {
    const serverId = (name === "top" ? "top-1" : `${name}-dns-1`) as ServerId;
    const state = new DnsState((one) => !this.#down.has(one), this.#peerKey, serverId);
    const counters = new DnsCounters();
    const logger = createLogger({ role: "nameserver", id: serverId }, { level: "error" });
    const server = await DnsServer.listen({
      address,
      port: PORT,
      context: () => state.context(),
      counters,
      logger,
    });
    this.#levels.set(name, { server, state, counters });
  }

  #topology(clusters: readonly string[]): TopologyDocument {
    return topologyDocument.parse({
      name: "delegated",
      clusters: clusters.map((cluster) => site(cluster, cluster, "edge", this.edgeAddressOf(cluster))),
      nameService: {
        zones: [ZONE],
        nameServers: [
          { serverId: "top-1", name: `ns1.${ZONE}`, address: TOP, dnsPort: PORT },
          ...clusters.map((cluster) => ({
            serverId: `${cluster}-dns-1`,
            name: `${cluster}.${ZONE}`,
            address: this.nameServerAddressOf(cluster),
            dnsPort: PORT,
            edgeClusterId: cluster,
          })),
        ],
        delegation: { zone: DELEGATED, ttlSeconds: this.#ttlSeconds, nameServersMax: 3 },
      },
    });
  }

  /** A zone "." as any other hosted one. */
  async #startRoot(): Promise<void> {
    const text = [
      ". 3600 IN SOA a.root-servers.test. hostmaster.root-servers.test. 1 7200 1800 1209600 60",
      ". 3600 IN NS a.root-servers.test.",
      `a.root-servers.test. 3600 IN A ${ROOT}`,
      `${ZONE}. 3600 IN NS ns1.${ZONE}.`,
      `ns1.${ZONE}. 3600 IN A ${TOP}`,
      `${CUSTOMER_NAME}. 3600 IN CNAME ${PROPERTIES[0]}.${DELEGATED}.`,
    ].join("\n");
    const read = zoneDataOf(rootName, readZoneFile(`${text}\n`, { origin: rootName }).records);
    if (!read.ok) throw new Error(`the root zone: ${read.problem.name}: expected ${read.problem.expected}`);
    const whole = this.#topology(this.#clusters);
    const { delegation: _, ...nameService } = whole.nameService;
    const topology = { ...whole, nameService: { ...nameService, zones: [], nameServers: [] } };
    const zones = new ZoneTable({
      topology,
      properties: [],
      hostedZones: [HostedZone.of(read.zone)],
      serial: 1,
    });
    const context: DnsContext = {
      zones,
      topology: new TopologyIndex(topology),
      snapshot: null,
      isUp: () => true,
    };
    this.#root = await DnsServer.listen({
      address: ROOT,
      port: PORT,
      context: () => context,
      counters: new DnsCounters(),
      logger: createLogger({ role: "nameserver", id: "root" }, { level: "error" }),
    });
  }
}

/** A root hint, in the form that resolvers read. */
export const rootHints = [
  ". 3600 IN NS a.root-servers.test.",
  `a.root-servers.test. 3600 IN A ${ROOT}`,
  "",
].join("\n");

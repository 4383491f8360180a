/** A small world on loopback ports: an edge's transport, one relay, one origin, with emulated distances between them. */
import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import {
  type ClusterId,
  type MapSnapshot,
  type OriginTarget,
  type ServerId,
  type TopologyDocument,
  topologyDocument,
} from "#kit";
import { createLogger, systemClock } from "#kit/io";
import {
  installWan,
  type NodeTrust,
  RelayServer,
  type RelaySettings,
  ShapedSocket,
  Transport,
  type TransportSettings,
  type WanState,
  wanState,
} from "#transport";
import { testAuthority } from "../tools/node-credentials.ts";
import { snapshotFrom } from "../tools/map-snapshot.ts";

export const peerKey = Buffer.from("00112233445566778899aabbccddeeff", "hex");
/** Of all servers that a test knows as its own. */
export const authority = await testAuthority();
export const logger = createLogger({ role: "test", id: "t" }, { level: "silent" });
export const clusterId = (name: string): ClusterId => name as ClusterId;
export const serverId = (name: string): ServerId => name as ServerId;

export type Listening = { readonly server: Server; readonly port: number; accepted: number };

export async function listen(handler: RequestListener): Promise<Listening> {
  const server = createServer({ keepAliveTimeout: 60_000 }, handler);
  const state: Listening = { server, port: 0, accepted: 0 };
  server.on("connection", () => state.accepted++);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return Object.assign(state, { port: (server.address() as AddressInfo).port });
}

export function close(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}

/** Waits until `probe` gives something, or fails after `timeoutMs` with what it last gave. */
export async function until<T>(probe: () => T | undefined | false, timeoutMs = 10_000): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = probe();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${probe.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

type Site = { readonly id: string; readonly role: string; readonly ports: readonly number[] };

export function topologyOf(sites: readonly Site[]): TopologyDocument {
  return topologyDocument.parse({
    name: "lab",
    clusters: sites.map(({ id, role, ports }) => ({
      clusterId: id,
      regionId: "r",
      role,
      city: id,
      coordinates: { latitude: 0, longitude: 0 },
      servers: ports.map((port, index) => ({ serverId: `${id}-${index + 1}`, address: "127.0.0.1", port })),
    })),
    nameService: { zones: [], nameServers: [] },
  });
}

export function wanOf(
  sites: readonly Site[],
  self: string,
  links: Readonly<Record<string, number | { rttMs: number; lossRatio?: number; bandwidthMbps?: number }>>,
  cuts: readonly (readonly [string, string])[] = [],
): WanState {
  const siteOfAddress: Record<string, string> = {};
  for (const { id, ports } of sites) for (const port of ports) siteOfAddress[`127.0.0.1:${port}`] = id;
  return wanState.parse({
    siteOfAddress,
    self,
    links: Object.fromEntries(
      Object.entries(links).map(([pair, link]) => [pair, typeof link === "number" ? { rttMs: link } : link]),
    ),
    cuts,
  });
}

/** The relay's own leg: the emulated network of this process is the edge's, so the relay has a link of its own. */
async function dialFromRelay(port: number, rttMs: number): Promise<ShapedSocket> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  await new Promise((resolve) => setTimeout(resolve, rttMs));
  const link = { rttMs, lossRatio: 0, bandwidthMbps: 1_000_000 };
  return new ShapedSocket(socket, {
    link: () => ({ link, isCut: false }),
    onChange: () => () => {},
    random: () => 1,
  });
}

/** Who is certified, wherever they listen. */
const labTopology = topologyOf([
  { id: "fra", role: "edge", ports: [1] },
  { id: "nyc", role: "relay", ports: [2] },
]);

/** The world with edge "fra", relay "nyc" (60 ms from the origin) and origin "sfo". */
export class Lab {
  readonly origin: Listening;
  readonly relay: RelayServer;
  readonly relayPort: number;
  readonly sites: readonly Site[];
  readonly topology: TopologyDocument;
  readonly transport: Transport;
  readonly target: { readonly kind: "origin"; readonly origin: OriginTarget };
  #links: Record<string, number | { rttMs: number; lossRatio?: number; bandwidthMbps?: number }>;

  private constructor(parts: {
    origin: Listening;
    relay: RelayServer;
    relayPort: number;
    links: Record<string, number | { rttMs: number; lossRatio?: number; bandwidthMbps?: number }>;
    trust: NodeTrust;
    settings: Partial<TransportSettings>;
    scheme: "http" | "https";
    hostHeader?: string | undefined;
  }) {
    this.origin = parts.origin;
    this.relay = parts.relay;
    this.relayPort = parts.relayPort;
    this.#links = parts.links;
    this.sites = [
      { id: "fra", role: "edge", ports: [1] },
      { id: "nyc", role: "relay", ports: [parts.relayPort] },
      { id: "sfo", role: "origin", ports: [parts.origin.port] },
    ];
    this.topology = topologyOf(this.sites);
    this.relay.setTopology(this.topology);
    this.wan(parts.links);
    this.transport = new Transport({
      selfServerId: serverId("fra-1"),
      selfClusterId: clusterId("fra"),
      topology: this.topology,
      peerKey,
      trust: parts.trust,
      clock: systemClock,
      logger,
      settings: parts.settings,
    });
    const origin: OriginTarget = {
      scheme: parts.scheme,
      host: "127.0.0.1",
      port: parts.origin.port,
      ...(parts.hostHeader !== undefined && { hostHeader: parts.hostHeader }),
    };
    this.target = { kind: "origin", origin };
    this.transport.setOrigins([{ origin, clusterId: clusterId("sfo") }]);
  }

  static async start(options: {
    origin: Listening;
    links: Record<string, number | { rttMs: number; lossRatio?: number; bandwidthMbps?: number }>;
    settings?: Partial<TransportSettings>;
    relayLegMs?: number;
    relaySettings?: Partial<RelaySettings>;
    scheme?: "http" | "https";
    hostHeader?: string;
  }): Promise<Lab> {
    const relay = new RelayServer({
      dial: ({ port }) => dialFromRelay(port, options.relayLegMs ?? 60),
      trust: await authority.trust(labTopology, "nyc-1"),
      clock: systemClock,
      logger,
      ...(options.relaySettings && { settings: options.relaySettings }),
      onRequest: (request, response) => {
        response.statusCode = request.url === "/livez" ? 200 : 404;
        response.end("ok\n");
      },
    });
    const { port } = await relay.listen("127.0.0.1", 0);
    return new Lab({
      origin: options.origin,
      relay,
      relayPort: port,
      links: options.links,
      trust: await authority.trust(labTopology, "fra-1"),
      settings: options.settings ?? {},
      scheme: options.scheme ?? "http",
      hostHeader: options.hostHeader,
    });
  }

  /** Puts other links or cuts in force. */
  wan(
    links: Record<string, number | { rttMs: number }>,
    cuts: readonly (readonly [string, string])[] = [],
  ): void {
    this.#links = links;
    installWan(wanOf(this.sites, "fra", links, cuts));
  }
  cut(...cuts: (readonly [string, string])[]): void {
    installWan(wanOf(this.sites, "fra", this.#links, cuts));
  }

  async get(
    path = "/",
    options: { signal?: AbortSignal } = {},
  ): Promise<{
    status: number;
    text: string;
    via: string | null;
    reason: string;
    attempts: number;
    ms: number;
  }> {
    const startedMs = performance.now();
    const response = await this.transport.request(this.target, {
      method: "GET",
      path,
      headers: [],
      signal: options.signal,
    });
    const chunks: Buffer[] = [];
    for await (const chunk of response.body) chunks.push(chunk as Buffer);
    return {
      status: response.status,
      text: Buffer.concat(chunks).toString(),
      via: response.path.via,
      reason: response.path.reason,
      attempts: response.timings.attempts,
      ms: performance.now() - startedMs,
    };
  }

  async close(): Promise<void> {
    await this.transport.close();
    await this.relay.drain(0);
    await close(this.origin.server);
    installWan(undefined);
  }
}

export function snapshotPaths(paths: MapSnapshot["paths"]): MapSnapshot {
  const ranking = [{ clusterId: "any", score: 1, terms: { rttMs: 1, lossRatio: 0, load: 0, confidence: 1 } }];
  const fallback = { interactive: ranking, bulk: ranking, live: ranking };
  const everyone = { clientNetworkId: "all", prefixes: ["0.0.0.0/0"], clusters: fallback };
  return snapshotFrom({ clientNetworks: [everyone], fallback, paths });
}

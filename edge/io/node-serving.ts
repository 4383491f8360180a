/**
 * One process that serves for a node: cache, routing, transport and sockets, and what it is told from control's side. A
 * server of one process has one of these, each worker of a larger one too.
 */
import { hkdfSync } from "node:crypto";
import {
  type CertificateDocument,
  type ClusterId,
  type MapSnapshot,
  type NodeCredentials,
  type NodeName,
  type OriginAuth,
  type PropertyDocument,
  type ServerId,
  type TopologyDocument,
} from "#kit";
import { type Logger, systemClock } from "#kit/io";
import { NodeTrust, PeerVerifier, Transport } from "#transport";
import type { EdgeSettings } from "../config.ts";
import { AccessKeys } from "./access-keys.ts";
import { Admin, type AdminOptions } from "./admin.ts";
import { Beacon } from "./beacon.ts";
import { Diagnosis } from "./diagnosis.ts";
import type { DiskShards } from "./disk-shards.ts";
import { Edge } from "./edge.ts";
import { type Answer, type Inbound, textAnswer } from "./exchange.ts";
import type { EdgeMetrics } from "./metrics.ts";
import type { NodeDocument, NodeFigures } from "./node-control.ts";
import { clientRanking } from "../core/client-ranking.ts";
import { clusterOf } from "../core/tiers.ts";
import { NodeRouting } from "./node-routing.ts";
import { OriginIdentities } from "./origin-identities.ts";
import { NodeTraffic } from "./node-traffic.ts";
import { Purger } from "./purger.ts";
import { EdgeServer } from "./server.ts";
import type { Siblings } from "./siblings.ts";
import { applyCertificateDocument } from "./tls/certificate-documents.ts";
import { CertificateStore } from "./tls/certificate-store.ts";
import type { TlsOptions, TlsPort } from "./tls/serve-tls.ts";

/** Where a node speaks TLS, with the deployment's certificates. */
export type NodeTls = Pick<TlsOptions, "host" | "port" | "unknownName">;

export interface NodeServingOptions {
  readonly serverId: ServerId;
  readonly settings: EdgeSettings;
  readonly peerKey: Buffer;
  readonly token: string;
  readonly metrics: EdgeMetrics;
  readonly accessLog: string;
  readonly disk: DiskShards | undefined;
  readonly siblings: Siblings | undefined;
  /** `ADDRESS:PORT` by which the server is asked about itself, beside what the topology says of it. */
  readonly hostsOfSelf: ReadonlySet<string>;
  /** What the server says about itself as a whole, of one process or several. */
  readonly about: Pick<AdminOptions, "notReady" | "metrics" | "report" | "faultOf">;
  readonly logger: Logger;
}

/** What stands once there is a topology. */
interface Parts {
  readonly transport: Transport;
  readonly routing: NodeRouting;
  readonly edge: Edge;
  readonly purger: Purger;
  readonly traffic: NodeTraffic;
  readonly clusterId: () => ClusterId;
}

export class NodeServing {
  readonly #o: NodeServingOptions;
  readonly #certificates = new CertificateStore("id");
  readonly #accessKeys: AccessKeys;
  readonly #identities: OriginIdentities;
  /** By which other servers of ours are known, and this one to them. */
  readonly #trust = new NodeTrust();
  readonly server: EdgeServer;
  readonly diagnosis: Diagnosis;
  readonly #beacon: Beacon;
  #snapshot: MapSnapshot | undefined;
  #tls: TlsPort | undefined;
  #topology: TopologyDocument | undefined;
  #parts: Parts | undefined;

  constructor(options: NodeServingOptions) {
    this.#o = options;
    const { serverId, settings, metrics, logger, about, token, peerKey } = options;
    this.#accessKeys = new AccessKeys(peerKey, logger);
    this.#identities = new OriginIdentities(peerKey, logger);
    this.#beacon = new Beacon({
      peerKey,
      clock: systemClock,
      metrics,
      topology: () => this.#topology?.clusters ?? [],
      clusterId: () => this.#parts?.clusterId(),
      isProbeHost: (host) => this.#parts?.routing.isProbeHost(host) ?? false,
      rankingOf: (address, { propertyId }) => {
        const property = propertyId && this.#parts?.routing.property(propertyId);
        if (this.#snapshot === undefined || !property) return [];
        try {
          return clientRanking(this.#snapshot, address, property.trafficClass);
        } catch (error) {
          // Edges go by parents and paths; that its cluster map does not decode is found out here first.
          logger.warn("cluster-map-unusable", { mapVersion: this.#snapshot.mapVersion, error });
          return [];
        }
      },
    });
    metrics.gauge(
      "node_certificate_seconds_left",
      "How long the certificate is good by which other servers of ours know this one; 0 without one",
      () => {
        const { notAfterEpochMs = 0 } = this.#trust.credentials ?? {};
        return Math.max(0, (notAfterEpochMs - systemClock.epoch()) / 1_000);
      },
      "min",
    );
    this.diagnosis = new Diagnosis({ serverName: serverId, clock: systemClock, secret: token });
    const admin = new Admin({
      ...about,
      serverId,
      clock: systemClock,
      token,
      neighbours: () => this.#parts?.transport.neighbours() ?? [],
      parts: () => {
        const parts = this.#parts;
        return (
          parts && {
            handler: parts.edge.handler,
            coder: parts.edge.coder,
            routing: parts.routing,
            upstream: parts.transport,
            purges: parts.edge.purges,
            overload: parts.edge.gate.control,
            tier: () => parts.routing.tier,
            clusterId: parts.clusterId,
            mapVersion: () => parts.routing.mapVersion,
            hostOf: (id) => this.#addressOf(id),
          }
        );
      },
    });
    this.server = new EdgeServer({
      handle: (inbound) => this.#parts?.edge.handle(inbound) ?? starting(),
      earlyHints: (inbound) => this.#parts?.edge.prefetcher.earlyHints(inbound),
      admin: (inbound: Inbound, host: string) =>
        options.hostsOfSelf.has(host) || host === this.#addressOf(serverId)
          ? admin.answer(inbound)
          : undefined,
      verifier: new PeerVerifier({ key: peerKey, clock: systemClock }),
      link: settings.link ? { trust: this.#trust, mayCome: (name) => this.#isMember(name) } : undefined,
      settings,
      clock: systemClock,
      metrics,
      logger,
      diagnosis: this.diagnosis,
      onServed: (served) => this.#parts?.traffic.served(served),
      hot: () => this.#parts?.edge.hot,
      onServedHot: (hit) => this.#parts?.traffic.servedHot(hit),
    });
  }

  /** Speaks TLS. `sockets`: as {@link serveTls} has them. */
  async serveTls(tls: NodeTls, sockets: readonly [] | undefined): Promise<TlsPort> {
    const { peerKey, settings, metrics, logger } = this.#o;
    // Loaded by who speaks it alone, with HTTP/2 (30 ms of CPU at each start).
    const { serveTls } = await import("./tls/serve-tls.ts");
    this.#tls = await serveTls({
      ...tls,
      pairs: [],
      certificates: this.#certificates,
      // From the peer key: every server of the deployment resumes every other one's sessions.
      ticketSecret: Buffer.from(hkdfSync("sha256", peerKey, "", "isochrone tls tickets v1", 32)),
      settings,
      clock: systemClock,
      metrics,
      logger,
      server: this.server,
      sockets,
    });
    return this.#tls;
  }

  get tls(): TlsPort | undefined {
    return this.#tls;
  }

  /** Makes what serves, for a topology that names this server. */
  begin(topology: TopologyDocument): Edge {
    const { serverId, settings, peerKey, metrics, logger } = this.#o;
    const cluster = clusterOf(topology, serverId);
    if (cluster === undefined) throw new Error("A topology without this server was taken");
    this.#topology = topology;
    const transport = new Transport({
      selfServerId: serverId,
      selfClusterId: cluster.clusterId,
      topology,
      peerKey,
      trust: this.#trust,
      clock: systemClock,
      logger,
      settings: { link: settings.link, linkUdp: settings.linkUdp !== "off" },
    });
    const routing = new NodeRouting(serverId, topology, settings, (id) => transport.isServerUp(id));
    const edge = new Edge({
      settings,
      clock: systemClock,
      logger,
      cacheName: serverId,
      routing,
      upstream: transport,
      forwardsMaxOf: (propertyId) => routing.property(propertyId)?.forwardsMax ?? null,
      disk: this.#o.disk,
      siblings: this.#o.siblings,
      metrics,
      diagnosis: this.diagnosis,
      accessKeys: this.#accessKeys,
      beacon: this.#beacon,
    });
    const clusterId = (): ClusterId => routing.cluster?.clusterId ?? cluster.clusterId;
    const traffic = new NodeTraffic({ path: this.#o.accessLog, serverId, clusterId, logger });
    const purger = new Purger(edge, routing, metrics);
    this.#parts = { transport, routing, edge, purger, traffic, clusterId };
    this.#setOrigins();
    transport.registerMetrics(metrics.registry);
    transport.start();
    return edge;
  }

  get edge(): Edge | undefined {
    return this.#parts?.edge;
  }

  /** Purges are put in force here. Throws before {@link begin}. */
  get purger(): Purger {
    if (this.#parts === undefined) throw new Error("This process does not serve yet");
    return this.#parts.purger;
  }

  /**
   * Puts in force what was kept from before. What does not fit any more (sealed under another peer key, say) is left out, logged
   * and counted: a server that starts with what it has serves more than one that does not start.
   */
  restore(documents: readonly NodeDocument[]): void {
    for (const document of documents) {
      try {
        this.document(document);
      } catch (error) {
        const { kind, id } = document;
        this.#o.metrics.documentUnusable(kind);
        this.#o.logger.error("document-unusable", {
          document: `${kind}/${id}`,
          consequence: "this server serves without it until a version that fits is put in force",
          error,
        });
      }
    }
  }

  /** Puts a document in force; a certificate that does not fit is refused by throwing. */
  document({ kind, body }: NodeDocument): void {
    const { peerKey, logger } = this.#o;
    switch (kind) {
      case "topology": {
        const topology = body as TopologyDocument;
        this.#topology = topology;
        this.#parts?.routing.setTopology(topology);
        this.#parts?.transport.setTopology(topology);
        this.server.recheckLinks();
        break;
      }
      case "map":
        this.#snapshot = body as MapSnapshot;
        this.#parts?.routing.setSnapshot(body as MapSnapshot);
        this.#parts?.transport.setSnapshot(body as MapSnapshot);
        return;
      case "property":
        this.#accessKeys.open(body as PropertyDocument);
        this.#identities.open(body as PropertyDocument);
        this.#parts?.routing.setProperty(body as PropertyDocument);
        break;
      case "certificate":
        applyCertificateDocument(
          body as CertificateDocument,
          this.#certificates,
          peerKey,
          systemClock.epoch(),
          logger,
        );
        return;
      case "credentials":
        this.#trust.set(body as NodeCredentials);
        return;
      default:
        kind satisfies never;
    }
    this.#setOrigins();
  }

  /** Whether the topology has a server as a certificate names it. */
  #isMember({ clusterId, role, serverId }: NodeName): boolean {
    const cluster = this.#topology?.clusters.find((one) => one.clusterId === clusterId);
    return cluster?.role === role && cluster.servers.some((server) => server.serverId === serverId);
  }

  #setOrigins(): void {
    if (this.#parts === undefined) return;
    const { transport, routing } = this.#parts;
    const identityOf = (originAuth: OriginAuth) => this.#identities.of(originAuth);
    transport.setOrigins(routing.knownOrigins(identityOf));
    transport.setOriginGroups(routing.originGroups(identityOf), this.#o.settings.serverShare);
  }

  /** Of this process. */
  get figures(): NodeFigures {
    const { edge, traffic, transport } = this.#parts ?? {};
    return {
      requests: 0,
      properties: {},
      ...traffic?.counters,
      activeRequests: this.server.active,
      cacheBytes: edge?.store.memory.bytes ?? 0,
      cacheObjects: edge?.store.memory.objects ?? 0,
      originsBarred: transport?.origins.barred() ?? [],
      links: transport === undefined ? [] : [...transport.linkReports()],
      timings: this.#beacon.drain(),
      namesUsed: this.#beacon.drainNames(),
    };
  }

  /** Takes leave of clients; `idleMs` as in `EdgeServer.drain`. */
  async drain(idleMs: number): Promise<number> {
    const [cut] = await Promise.all([this.server.drain(idleMs), this.#tls?.drain(idleMs)]);
    if (cut > 0) this.#o.logger.warn("drain-cut", { requests: cut });
    return cut;
  }

  async close(): Promise<void> {
    await this.#parts?.traffic.close();
    await this.#parts?.edge.close();
    await this.#parts?.transport.close();
  }

  #addressOf(serverId: string): string | undefined {
    for (const cluster of this.#topology?.clusters ?? [])
      for (const server of cluster.servers)
        if (server.serverId === serverId)
          return `${server.address.includes(":") ? `[${server.address}]` : server.address}:${server.port}`;
    return undefined;
  }
}

function starting(): Answer {
  return textAnswer(
    503,
    "This server is starting.\n",
    { outcome: "refused", status: undefined, propertyId: undefined, upstream: undefined },
    [["Retry-After", "1"]],
  );
}

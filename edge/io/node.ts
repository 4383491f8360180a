/**
 * A node of a deployment: documents from control or from its own disk, peers, parents, purges, reports. Control may be away
 * at any time: what was applied last stays in force.
 */
import { hkdfSync, randomUUID } from "node:crypto";
import {
  certificateDocument,
  type MapSnapshot,
  mapSnapshot,
  type PropertyDocument,
  propertyDocument,
  type Role,
  type ServerId,
  type TopologyDocument,
  topologyDocument,
} from "#kit";
import { type Logger, makeDirectory, systemClock } from "#kit/io";
import { ControlClient, DocumentKeeper } from "#control";
import { dial, PeerVerifier, peerKeyFromEnvironment, Transport } from "#transport";
import type { EdgeSettings } from "../config.ts";
import { PurgeIndex } from "../core/purge-index.ts";
import { Admin } from "./admin.ts";
import { Diagnosis } from "./diagnosis.ts";
import { Edge } from "./edge.ts";
import { type Answer, type Inbound, textAnswer } from "./exchange.ts";
import { bindListeners, type EdgeSockets } from "./listening.ts";
import { EdgeMetrics } from "./metrics.ts";
import { clusterOf, NodeRouting } from "./node-routing.ts";
import type { RunningServer } from "./primary.ts";
import { Purger } from "./purger.ts";
import { Reporter } from "./reporter.ts";
import { EdgeServer } from "./server.ts";
import { applyCertificateDocument } from "./tls/certificate-documents.ts";
import { CertificateStore } from "./tls/certificate-store.ts";
import { serveTls, type TlsOptions } from "./tls/serve-tls.ts";

export interface NodeOptions {
  readonly host: string;
  readonly port: number;
  readonly serverId: ServerId;
  readonly controlUrl: string;
  readonly stateDirectory: string;
  readonly settings: EdgeSettings;
  readonly logger: Logger;
  /** Where TLS is spoken too, with the deployment's certificates; undefined: nowhere. */
  readonly tls?: Pick<TlsOptions, "host" | "port" | "unknownName"> | undefined;
  /** Of a predecessor, listened on when everything is ready to serve; undefined: they are bound to host and port at once. */
  readonly sockets?: EdgeSockets | undefined;
  /** Resolves when the process should end, also while it still waits for its documents. */
  readonly stop: Promise<void>;
}

export interface RunningNode extends RunningServer {
  readonly role: Role;
}

/** How long control is waited for when the disk already holds what is needed, ms. */
const SYNC_WAIT_MS = 1_500;

/** Starts a node; resolves when it serves, or with undefined when it was told to end before it had a topology. */
export async function startNode(options: NodeOptions): Promise<RunningNode | undefined> {
  const { serverId, logger, settings } = options;
  const incarnation = randomUUID();
  const token = process.env["ISOCHRONE_CONTROL_TOKEN"] ?? "";
  const peerKey = peerKeyFromEnvironment();
  makeDirectory(options.stateDirectory);
  const metrics = new EdgeMetrics();
  const client = new ControlClient({ url: options.controlUrl, token, nodeId: serverId, dial, logger });
  const keeper = new DocumentKeeper({ client, stateDirectory: options.stateDirectory, logger });

  let state: "starting" | "ready" | "draining" = "starting";
  let node: NodeParts | undefined;
  let topology: TopologyDocument | undefined;
  let snapshot: MapSnapshot | undefined;
  const properties = new Map<string, PropertyDocument>();
  const hasTopology = Promise.withResolvers<TopologyDocument>();

  keeper.keep(
    "topology",
    (value) => topologyDocument.parse(value),
    (_id, body) => {
      topology = body;
      if (clusterOf(body, serverId) !== undefined) hasTopology.resolve(body);
      node?.setTopology(body);
    },
  );
  keeper.keep(
    "map",
    (value) => mapSnapshot.parse(value),
    (_id, body) => {
      snapshot = body;
      node?.setSnapshot(body);
    },
  );
  keeper.keep(
    "property",
    (value) => propertyDocument.parse(value),
    (_id, body) => {
      properties.set(body.propertyId, body);
      node?.setProperty(body);
    },
  );

  const certificates = new CertificateStore("id");
  // Without a port for them a server has no use for keys, so that it keeps none.
  if (options.tls !== undefined)
    keeper.keep(
      "certificate",
      (value) => certificateDocument.parse(value),
      (_id, body) => applyCertificateDocument(body, certificates, peerKey, systemClock.epoch(), logger),
    );

  const diagnosis = new Diagnosis({ serverName: serverId, clock: systemClock, secret: token });
  const hostsOfSelf = new Set([
    `${options.host}:${options.port}`,
    ...(options.port === 80 ? [options.host] : []),
  ]);
  const admin = new Admin({
    serverId,
    clock: systemClock,
    token,
    notReady: () => (state === "ready" ? undefined : state),
    metrics: () => metrics.registry.metrics(),
    report: () => node?.reporter.report(),
    faultOf: (requestId) => diagnosis.faultOf(requestId),
    parts: () =>
      node && {
        handler: node.edge.handler,
        routing: node.routing,
        upstream: node.transport,
        purges: node.edge.purges,
        tier: () => node?.routing.tier ?? 0,
        clusterId: () => node?.routing.cluster?.clusterId,
        hostOf: (id) => addressOf(topology, id),
      },
  });
  const server = new EdgeServer({
    handle: (inbound) => (node === undefined ? Promise.resolve(STARTING) : node.edge.handle(inbound)),
    admin: (inbound: Inbound, host: string) =>
      hostsOfSelf.has(host) || host === addressOf(topology, serverId) ? admin.answer(inbound) : undefined,
    verifier: new PeerVerifier({ key: peerKey, clock: systemClock }),
    settings,
    clock: systemClock,
    metrics,
    logger,
    diagnosis,
    onServed: (served) => node?.reporter.served(served),
    hot: () => node?.edge.hot,
    onServedHot: (hit) => node?.reporter.servedHot(hit),
  });
  const given = options.sockets;
  const port = given === undefined ? await server.listen(options.host, options.port) : options.port;
  if (options.port === 0) hostsOfSelf.add(`${options.host}:${port}`);
  const tls =
    options.tls &&
    (await serveTls({
      ...options.tls,
      pairs: [],
      certificates,
      // From the peer key: every server of the deployment resumes every other one's sessions.
      ticketSecret: Buffer.from(hkdfSync("sha256", peerKey, "", "isochrone tls tickets v1", 32)),
      settings,
      clock: systemClock,
      metrics,
      logger,
      server,
      sockets: given && [],
    }));
  await keeper.start();
  if (topology === undefined) logger.info("waiting-for-topology", { control: options.controlUrl });
  const first = await Promise.race([hasTopology.promise, options.stop.then(() => undefined)]);
  if (first === undefined) {
    await Promise.all([server.drain(), tls?.drain(0)]);
    await keeper.close();
    await client.close();
    return undefined;
  }

  const cluster = clusterOf(first, serverId);
  if (cluster === undefined) throw new Error("A topology without this server was taken");
  const transport = new Transport({
    selfServerId: serverId,
    selfClusterId: cluster.clusterId,
    topology: first,
    peerKey,
    clock: systemClock,
    logger,
  });
  const routing = new NodeRouting(serverId, first, settings, (id) => transport.isServerUp(id));
  const edge = new Edge({
    settings,
    clock: systemClock,
    logger,
    cacheName: serverId,
    routing,
    upstream: transport,
    tier: () => routing.tier,
    metrics,
    purges: new PurgeIndex(),
    diagnosis,
  });
  const purger = new Purger({ client, edge, routing, serverId, clock: systemClock, logger, metrics });
  const reporter = new Reporter({
    client,
    edge,
    keeper,
    transport,
    clock: systemClock,
    serverId,
    incarnation,
    clusterId: () => routing.cluster?.clusterId ?? cluster.clusterId,
    role: () => routing.cluster?.role ?? cluster.role,
    state: () => state,
    active: () => server.active,
    stateDirectory: options.stateDirectory,
    logger,
  });
  node = {
    transport,
    routing,
    edge,
    reporter,
    setTopology: (body) => {
      routing.setTopology(body);
      transport.setTopology(body);
      transport.setOrigins(routing.knownOrigins());
    },
    setSnapshot: (body) => {
      routing.setSnapshot(body);
      transport.setSnapshot(body);
    },
    setProperty: (body) => {
      routing.setProperty(body);
      transport.setOrigins(routing.knownOrigins());
    },
  };
  for (const property of properties.values()) routing.setProperty(property);
  // Both may have changed while the parts were made.
  if (topology !== undefined) node.setTopology(topology);
  if (snapshot !== undefined) node.setSnapshot(snapshot);
  transport.start();
  purger.start();
  reporter.start();
  // With control there, all documents and purges are applied before the first request; without it the disk's are enough.
  await Promise.race([
    Promise.all([keeper.synced, purger.synced]),
    new Promise((resolve) => setTimeout(resolve, SYNC_WAIT_MS)),
    options.stop,
  ]);
  state = "ready";
  for (const socket of given?.main ?? []) await server.listenOn(socket);
  const tlsSockets =
    tls && given && (given.tls ?? (await bindListeners(options.tls?.host ?? "", options.tls?.port ?? 0, 1)));
  for (const socket of tlsSockets ?? []) await tls?.front.listenOn(socket);
  const { role } = cluster;
  return {
    port,
    tlsPort: tls?.port,
    adminPort: undefined,
    role,
    get sockets() {
      return { main: server.sockets, admin: undefined, tls: tls?.front.sockets };
    },
    openDisk: async () => {},
    closeDisk: async () => {},
    stop: async (idleMs = 0) => {
      // With a successor the server does not go: it is that one's to say how it is.
      if (idleMs > 0) {
        reporter.pause();
        purger.pause();
      } else {
        state = "draining";
        await reporter.publish();
      }
      const [cut] = await Promise.all([server.drain(idleMs), tls?.drain(idleMs)]);
      if (cut > 0) logger.warn("drain-cut", { requests: cut });
      purger.close();
      await reporter.close();
      await edge.close();
      await keeper.close();
      await client.close();
      await transport.close();
    },
  };
}

interface NodeParts {
  readonly transport: Transport;
  readonly routing: NodeRouting;
  readonly edge: Edge;
  readonly reporter: Reporter;
  readonly setTopology: (topology: TopologyDocument) => void;
  readonly setSnapshot: (snapshot: MapSnapshot) => void;
  readonly setProperty: (property: PropertyDocument) => void;
}

const STARTING: Answer = textAnswerOnce();

/** A body can be read once: each call of the getter makes one anew. */
function textAnswerOnce(): Answer {
  const make = (): Answer =>
    textAnswer(
      503,
      "This server is starting.\n",
      { outcome: "refused", status: undefined, propertyId: undefined, upstream: undefined },
      [["Retry-After", "1"]],
    );
  return {
    ...make(),
    get body() {
      return make().body;
    },
  };
}

function addressOf(topology: TopologyDocument | undefined, serverId: string): string | undefined {
  for (const cluster of topology?.clusters ?? [])
    for (const server of cluster.servers)
      if (server.serverId === serverId)
        return `${server.address.includes(":") ? `[${server.address}]` : server.address}:${server.port}`;
  return undefined;
}

/**
 * Our servers as programs for the hosts of a network; documents are handed over instead of coming from control:
 *
 *     node overlay.ts relay FILE SERVER    a relay
 *     node overlay.ts edge FILE SERVER     an edge with its cache, for the one property
 *
 * FILE holds {@link OverlayFile}. Each prints "ready", an edge then its log, a JSON object a line. An edge answers SIGUSR2 with a line
 * that has `event` "overlay-metrics" and its metrics' text.
 */
import { readFileSync } from "node:fs";
import {
  type MapSnapshot,
  mapSnapshot,
  type NodeCredentials,
  nodeCredentials,
  propertyDocument,
  type ServerId,
  topologyDocument,
  type TopologyDocument,
} from "#kit";
import { createLogger, type Logger, systemClock } from "#kit/io";
import { Diagnosis, Edge, edgeDefaults, EdgeServer, NodeRouting } from "#edge";
import { NodeTrust, RelayServer, Transport, type TransportSettings } from "#transport";

/** Documents, as control would give them. */
export interface OverlayFile {
  readonly topology: unknown;
  readonly property: unknown;
  readonly map: unknown;
  readonly peerKey: string;
  /** By server. */
  readonly credentials: Readonly<Record<string, NodeCredentials>>;
  readonly transport?: Partial<TransportSettings>;
}

function placeOf(topology: TopologyDocument, serverId: string) {
  for (const { clusterId, servers } of topology.clusters) {
    const server = servers.find((one) => one.serverId === serverId);
    if (server) return { ...server, clusterId };
  }
  throw new RangeError(`server: got ${JSON.stringify(serverId)}, expected one of the topology`);
}

function trustOf({ credentials }: OverlayFile, serverId: string): NodeTrust {
  const trust = new NodeTrust();
  trust.set(nodeCredentials.parse(credentials[serverId]));
  return trust;
}

async function relay(file: OverlayFile, serverId: string): Promise<void> {
  const topology = topologyDocument.parse(file.topology);
  const { address, port } = placeOf(topology, serverId);
  const server = new RelayServer({
    trust: trustOf(file, serverId),
    clock: systemClock,
    logger: createLogger({ role: "relay", id: serverId }, { level: "warn" }),
    onRequest: (request, response) => {
      response.statusCode = request.url === "/livez" ? 200 : 404;
      response.end("ok\n");
    },
  });
  server.setTopology(topology);
  await server.listen(address, port);
  process.stdout.write("ready\n");
}

async function edge(file: OverlayFile, serverId: string): Promise<void> {
  const topology = topologyDocument.parse(file.topology);
  const property = propertyDocument.parse(file.property);
  const map: MapSnapshot = mapSnapshot.parse(file.map);
  const { address, port, clusterId } = placeOf(topology, serverId);
  const logger: Logger = createLogger(
    { role: "edge", id: serverId },
    { level: "info", write: (line) => void process.stdout.write(line) },
  );
  const transport = new Transport({
    selfServerId: serverId as ServerId,
    selfClusterId: clusterId,
    topology,
    peerKey: Buffer.from(file.peerKey, "hex"),
    trust: trustOf(file, serverId),
    clock: systemClock,
    logger,
    settings: file.transport,
  });
  const routing = new NodeRouting(serverId as ServerId, topology, edgeDefaults, () => true);
  routing.setSnapshot(map);
  routing.setProperty(property);
  transport.setSnapshot(map);
  const originCluster = topology.clusters.find(({ role }) => role === "origin");
  const origin = property.origins[0]!;
  transport.setOrigins([{ origin, clusterId: originCluster?.clusterId ?? null }]);
  const diagnosis = new Diagnosis({ serverName: serverId, clock: systemClock, secret: undefined });
  const node = new Edge({
    settings: edgeDefaults,
    clock: systemClock,
    logger,
    cacheName: serverId,
    routing,
    upstream: transport,
    diagnosis,
  });
  transport.registerMetrics(node.metrics.registry);
  const server = new EdgeServer({
    verifier: undefined,
    settings: edgeDefaults,
    clock: systemClock,
    metrics: node.metrics,
    logger,
    onServed: undefined,
    diagnosis,
    handle: (inbound) => node.handle(inbound),
    admin: undefined,
    hot: () => node.hot,
  });
  transport.start();
  await server.listen(address, port);
  process.stdout.write("ready\n");
  process.on("SIGUSR2", () => {
    void node.metrics.registry
      .metrics()
      .then((text) => process.stdout.write(`${JSON.stringify({ event: "overlay-metrics", text })}\n`));
  });
}

const [verb, path, serverId] = process.argv.slice(2);
const file = JSON.parse(readFileSync(String(path), "utf8")) as OverlayFile;
if (verb === "relay") await relay(file, String(serverId));
else if (verb === "edge") await edge(file, String(serverId));
else process.exitCode = 2;

/** `isochrone relay`: the process around the relay server - documents from control, probes, reports, admin surface. */
import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import Registry from "prom-client/lib/registry.js";
import { ControlClient, DocumentKeeper, NodeIdentity } from "#control";
import {
  IsochroneError,
  type PropertyDocument,
  propertyDocument,
  type ServerReport,
  type TopologyDocument,
  topologyDocument,
  originsOf,
} from "#kit";
import {
  collectProcessMetrics,
  BearerGate,
  createLogger,
  formatListenAddress,
  makeDirectory,
  type Logger,
  stopSignal,
  systemClock,
} from "#kit/io";
import { dial } from "./io/dial.ts";
import type { KnownOrigin } from "./io/face.ts";
import { NodeTrust } from "./io/node-trust.ts";
import { peerKeyFromEnvironment } from "./io/peer-proof.ts";
import { registerRelayMetrics } from "./io/relay-metrics.ts";
import { parseRelayOptions, relayHelp, type RelayOptions } from "./io/relay-options.ts";
import { RelayServer } from "./io/relay-server.ts";
import { Transport } from "./io/transport.ts";
import { installWanFromEnvironment } from "./io/wan.ts";

/** Control keeps a report for 15 s; the portal and the mapper want to see a change within a second or so. */
const REPORT_INTERVAL_MS = 1_000;

/** Serves until SIGTERM or SIGINT. Exit codes: 0 drained; 2 bad usage or environment, an address or directory that cannot be had. */
export async function main(argv: readonly string[]): Promise<number> {
  let options: RelayOptions | undefined;
  let peerKey: Buffer;
  try {
    installWanFromEnvironment();
    options = parseRelayOptions(argv);
    if (options === undefined) {
      process.stdout.write(relayHelp);
      return 0;
    }
    peerKey = peerKeyFromEnvironment();
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error));
  }
  const stopped = stopSignal();
  const relay = new RelayProcess(options, peerKey, process.env["ISOCHRONE_CONTROL_TOKEN"] ?? "");
  try {
    await relay.start();
  } catch (error) {
    await relay.stop(0);
    if (error instanceof IsochroneError) return refuse(error.message);
    throw error;
  }
  await stopped;
  await relay.stop(options.drainMs);
  return 0;
}

function refuse(message: string): number {
  process.stderr.write(`isochrone relay: ${message}\n`);
  return 2;
}

class RelayProcess {
  readonly #options: RelayOptions;
  readonly #peerKey: Buffer;
  readonly #gate: BearerGate;
  readonly #logger: Logger;
  readonly #server: RelayServer;
  readonly #client: ControlClient;
  readonly #keeper: DocumentKeeper;
  readonly #trust = new NodeTrust();
  readonly #identity: NodeIdentity;
  readonly #registry = new Registry();
  readonly #incarnation = randomUUID();
  readonly #properties = new Map<string, PropertyDocument>();
  #topology: TopologyDocument | undefined;
  #transport: Transport | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** For requests a second. */
  #countedAtMs = performance.now();
  #counted = 0;
  #perSecond = 0;

  constructor(options: RelayOptions, peerKey: Buffer, token: string) {
    this.#options = options;
    this.#peerKey = peerKey;
    this.#gate = new BearerGate(token);
    this.#logger = createLogger({ role: "relay", id: options.node });
    this.#server = new RelayServer({
      trust: this.#trust,
      clock: systemClock,
      logger: this.#logger,
      settings: { bytesPerSecondMax: options.megabitsPerSecondMax * 125_000 },
      onRequest: (request, response) => void this.#answer(request, response),
    });
    this.#client = new ControlClient({
      url: options.controlUrl,
      token,
      nodeId: options.node,
      dial,
      logger: this.#logger,
    });
    this.#keeper = new DocumentKeeper({
      client: this.#client,
      stateDirectory: options.stateDirectory,
      logger: this.#logger,
    });
    this.#identity = new NodeIdentity({
      serverId: options.node,
      stateDirectory: options.stateDirectory,
      sealingKey: peerKey,
      ask: async (...asked) => await this.#client.nodeCertificate(...asked),
      clock: systemClock,
      logger: this.#logger,
      onChange: (credentials) => this.#trust.set(credentials),
    });
    this.#keeper.keep(
      "topology",
      (value) => topologyDocument.parse(value),
      (_id, body) => this.#applyTopology(body),
    );
    this.#keeper.keep(
      "property",
      (value) => propertyDocument.parse(value),
      (propertyId, body) => {
        this.#properties.set(propertyId, body);
        this.#server.setProperty(propertyId, body);
        this.#transport?.setOrigins(this.#origins());
      },
    );
    collectProcessMetrics(this.#registry);
    registerRelayMetrics(this.#registry, this.#server, () => this.#identity.status);
  }

  async start(): Promise<void> {
    const { host, port } = this.#options.listen;
    // Listening first: an address in use must not be found after documents were applied.
    const address = await this.#server.listen(host, port);
    try {
      makeDirectory(this.#options.stateDirectory);
      await this.#identity.start();
      await this.#keeper.start();
    } catch (error) {
      throw new IsochroneError(
        `Cannot use --state ${JSON.stringify(this.#options.stateDirectory)}: ${error instanceof Error ? error.message : String(error)}; give a directory that this process may write`,
        { code: "state-unusable", source: "configuration", retry: "never", cause: error },
      );
    }
    this.#timer = setInterval(() => void this.#report(), REPORT_INTERVAL_MS);
    const at = formatListenAddress({ host: address.address, port: address.port });
    process.stdout.write(`ready relay ${this.#options.node} on http://${at}\n`);
  }

  async stop(drainMs: number): Promise<void> {
    clearInterval(this.#timer);
    this.#identity.close();
    const drained = this.#server.drain(drainMs);
    if (this.#timer !== undefined) await this.#report();
    await drained;
    await this.#transport?.close();
    await this.#keeper.close();
    await this.#client.close();
  }

  #applyTopology(topology: TopologyDocument): void {
    this.#topology = topology;
    this.#identity.handleTopology(topology);
    this.#server.setTopology(topology);
    const cluster = topology.clusters.find((one) =>
      one.servers.some((server) => server.serverId === this.#options.node),
    );
    if (cluster === undefined) {
      this.#logger.warn("not-in-topology", { serverId: this.#options.node, topology: topology.name });
      return;
    }
    if (this.#transport) {
      this.#transport.setTopology(topology);
      return;
    }
    this.#transport = new Transport({
      selfServerId: this.#options.node,
      selfClusterId: cluster.clusterId,
      topology,
      peerKey: this.#peerKey,
      clock: systemClock,
      logger: this.#logger,
    });
    this.#transport.registerMetrics(this.#registry);
    this.#transport.setOrigins(this.#origins());
    this.#transport.start();
  }

  #origins(): KnownOrigin[] {
    const origins: KnownOrigin[] = [];
    for (const property of this.#properties.values())
      if (property.isActive)
        for (const origin of originsOf(property)) origins.push({ origin, clusterId: null });
    return origins;
  }

  get #isReady(): boolean {
    return !this.#server.isDraining && this.#topology !== undefined;
  }

  #reportNow(): ServerReport | undefined {
    const { node } = this.#options;
    const cluster = this.#topology?.clusters.find((one) =>
      one.servers.some((server) => server.serverId === node),
    );
    if (cluster === undefined) return undefined;
    const mapInForce = this.#keeper.fenceOf("map");
    return {
      serverId: node,
      clusterId: cluster.clusterId,
      role: "relay",
      incarnation: this.#incarnation,
      atEpochMs: systemClock.epoch(),
      state: this.#server.isDraining ? "draining" : this.#isReady ? "ready" : "starting",
      requestsPerSecond: this.#perSecond,
      activeRequests: this.#server.counters.tunnels,
      cacheBytes: 0,
      cacheObjects: 0,
      properties: {},
      links: this.#transport?.linkReports() ?? [],
      certificate: this.#identity.status,
      applied: this.#keeper.applied,
      ...(mapInForce !== undefined && { mapInForce }),
    };
  }

  async #report(): Promise<void> {
    const nowMs = performance.now();
    const granted = this.#server.counters.outcomes.get("granted") ?? 0;
    this.#perSecond = ((granted - this.#counted) * 1_000) / Math.max(1, nowMs - this.#countedAtMs);
    this.#counted = granted;
    this.#countedAtMs = nowMs;
    const report = this.#reportNow();
    if (report) await this.#client.publishReport(report);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.resume();
    const { method = "", url = "" } = request;
    if (method !== "GET" && method !== "HEAD") {
      send(response, 405, "only GET and HEAD, and CONNECT for servers of ours\n", {
        Allow: "GET, HEAD, CONNECT",
      });
      return;
    }
    switch (url) {
      case "/livez":
        send(response, 200, "ok\n");
        return;
      case "/readyz":
        send(response, this.#isReady ? 200 : 503, this.#isReady ? "ready\n" : "not ready\n");
        return;
      case "/metrics":
        send(response, 200, await this.#registry.metrics(), { "Content-Type": this.#registry.contentType });
        return;
      case "/.isochrone/accounts":
      case "/.isochrone/status": {
        if (!this.#isAuthorized(request)) {
          send(response, 401, "bearer token needed\n", { "WWW-Authenticate": "Bearer" });
          return;
        }
        if (url === "/.isochrone/accounts") {
          const accounts = Object.fromEntries(this.#server.accounts.all);
          send(response, 200, `${JSON.stringify({ relay: this.#options.node, accounts })}\n`, {
            "Content-Type": "application/json",
          });
          return;
        }
        const report = this.#reportNow();
        if (report === undefined) send(response, 503, "no topology yet\n");
        else send(response, 200, `${JSON.stringify(report)}\n`, { "Content-Type": "application/json" });
        return;
      }
      default:
        // Absolute-form targets too: this is no proxy for requests.
        send(response, 404, "not found\n");
    }
  }

  #isAuthorized(request: IncomingMessage): boolean {
    return this.#gate.opensFor(request.headers.authorization);
  }
}

function send(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, {
    "Content-Type": "text/plain; charset=utf-8",
    "Content-Length": Buffer.byteLength(text),
    "Cache-Control": "no-store",
    ...headers,
  });
  response.end(text);
}

/** `isochrone relay`: the process around the relay server - documents from control, probes, reports, admin surface. */
import { randomUUID, timingSafeEqual } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { isIP } from "node:net";
import { parseArgs } from "node:util";
import { collectDefaultMetrics, Counter, Gauge, Registry } from "prom-client";
import { ControlClient, DocumentKeeper } from "#control";
import {
  IsochroneError,
  id,
  ParseError,
  type PropertyDocument,
  propertyDocument,
  Random,
  type ServerId,
  type ServerReport,
  type TopologyDocument,
  topologyDocument,
} from "#kit";
import { createLogger, type Logger, listenErrorHint, systemClock } from "#kit/io";
import { formatAuthority } from "./core/relay-policy.ts";
import { dial } from "./io/dial.ts";
import type { KnownOrigin } from "./io/face.ts";
import { peerKeyFromEnvironment } from "./io/peer-proof.ts";
import { RelayServer } from "./io/relay-server.ts";
import { Transport } from "./io/transport.ts";
import { installWanFromEnvironment } from "./io/wan.ts";

const help = `Usage: isochrone relay --node SERVER --listen ADDRESS:PORT --control URL --state DIR

Forwards connections for servers that prove themselves, to parents and origins only.

  --node SERVER          this server's id in the topology, such as nyc-1
  --listen ADDRESS:PORT  where to listen; IPv6 addresses in brackets
  --control URL          the control process, such as http://127.10.0.1:8080
  --state DIR            where documents are kept for a start without control
  --drain-ms N           how long open tunnels may go on after SIGTERM; default 2000

Environment: ISOCHRONE_PEER_KEY (the key that all servers share, hexadecimal), ISOCHRONE_CONTROL_TOKEN.

Example:
  isochrone relay --node nyc-1 --listen 127.10.7.1:8080 --control http://127.10.0.1:8080 --state .isochrone/nyc-1
`;

const REPORT_INTERVAL_MS = 1_000;
const DRAIN_MS = 2_000;

type Options = {
  readonly node: ServerId;
  readonly host: string;
  readonly port: number;
  readonly controlUrl: string;
  readonly state: string;
  readonly drainMs: number;
  readonly token: string;
};

/** Exit codes: 0 ended on request; 1 cannot listen; 2 bad usage, environment or input. */
export async function main(argv: readonly string[]): Promise<number> {
  let options: Options | undefined;
  let peerKey: Buffer;
  try {
    installWanFromEnvironment();
    options = optionsOf(argv);
    if (options === undefined) {
      process.stdout.write(help);
      return 0;
    }
    peerKey = peerKeyFromEnvironment();
  } catch (error) {
    process.stderr.write(`isochrone relay: ${error instanceof Error ? error.message : String(error)}\n`);
    return 2;
  }
  const relay = new RelayProcess(options, peerKey);
  try {
    await relay.start();
  } catch (error) {
    const isUs = error instanceof IsochroneError;
    const why = isUs ? error.message : listenErrorHint(error, options.host, options.port);
    process.stderr.write(`isochrone relay: ${why}\n`);
    await relay.stop(0);
    return isUs ? 2 : 1;
  }
  await new Promise<void>((resolve) => {
    process.once("SIGTERM", () => resolve());
    process.once("SIGINT", () => resolve());
  });
  await relay.stop(options.drainMs);
  return 0;
}

class RelayProcess {
  readonly #options: Options;
  readonly #peerKey: Buffer;
  readonly #logger: Logger;
  readonly #server: RelayServer;
  readonly #client: ControlClient;
  readonly #keeper: DocumentKeeper;
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

  constructor(options: Options, peerKey: Buffer) {
    this.#options = options;
    this.#peerKey = peerKey;
    this.#logger = createLogger({ role: "relay", id: options.node });
    this.#server = new RelayServer({
      peerKey,
      clock: systemClock,
      logger: this.#logger,
      onRequest: (request, response) => void this.#answer(request, response),
    });
    this.#client = new ControlClient({
      url: options.controlUrl,
      token: options.token,
      nodeId: options.node,
      dial,
      logger: this.#logger,
    });
    this.#keeper = new DocumentKeeper({
      client: this.#client,
      stateDirectory: options.state,
      logger: this.#logger,
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
    this.#registerMetrics();
  }

  async start(): Promise<void> {
    const { host, port } = this.#options;
    // Listening first: an address in use must not be found after documents were applied.
    const address = await this.#server.listen(host, port);
    try {
      await this.#keeper.start();
    } catch (error) {
      throw new IsochroneError(
        `Cannot use --state ${JSON.stringify(this.#options.state)}: ${error instanceof Error ? error.message : String(error)}; give a directory that this process may write`,
        { code: "state-unusable", source: "configuration", retry: "never", cause: error },
      );
    }
    this.#timer = setInterval(() => void this.#report(), REPORT_INTERVAL_MS);
    process.stdout.write(
      `ready relay ${this.#options.node} on http://${formatAuthority(address.address, address.port)}\n`,
    );
  }

  async stop(drainMs: number): Promise<void> {
    clearInterval(this.#timer);
    const drained = this.#server.drain(drainMs);
    if (this.#timer !== undefined) await this.#report();
    await drained;
    await this.#transport?.close();
    await this.#keeper.close();
    await this.#client.close();
  }

  #applyTopology(topology: TopologyDocument): void {
    this.#topology = topology;
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
      random: new Random(this.#incarnation),
      logger: this.#logger,
    });
    this.#transport.registerMetrics(this.#registry);
    this.#transport.setOrigins(this.#origins());
    this.#transport.start();
  }

  #origins(): KnownOrigin[] {
    const origins: KnownOrigin[] = [];
    for (const property of this.#properties.values())
      if (property.isActive) for (const origin of property.origins) origins.push({ origin, clusterId: null });
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
      applied: this.#keeper.applied,
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
      send(response, 405, "only GET and HEAD, and CONNECT for proven peers\n", {
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
      case "/.isochrone/status": {
        if (!this.#isAuthorized(request)) {
          send(response, 401, "bearer token or peer proof needed\n", { "WWW-Authenticate": "Bearer" });
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
    const given = Buffer.from(request.headers.authorization ?? "");
    const wanted = Buffer.from(`Bearer ${this.#options.token}`);
    if (this.#options.token !== "" && given.length === wanted.length && timingSafeEqual(given, wanted))
      return true;
    return this.#server.verify(request);
  }

  #registerMetrics(): void {
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    const { counters } = this.#server;
    const byLabel = (
      name: string,
      helpText: string,
      label: string,
      source: ReadonlyMap<string, number>,
    ): void => {
      const last = new Map<string, number>();
      // oxlint-disable-next-line no-new -- registers itself
      new Counter({
        name,
        help: helpText,
        labelNames: [label],
        registers,
        collect() {
          for (const [key, value] of source) {
            this.inc({ [label]: key }, value - (last.get(key) ?? 0));
            last.set(key, value);
          }
        },
      });
    };
    byLabel("isochrone_relay_tunnels_total", "CONNECT requests by outcome.", "outcome", counters.outcomes);
    byLabel("isochrone_relay_proofs_total", "Peer proofs by verdict.", "verdict", counters.proofs);
    let lastUp = 0;
    let lastDown = 0;
    // oxlint-disable-next-line no-new -- registers itself
    new Counter({
      name: "isochrone_relay_bytes_total",
      help: "Bytes forwarded.",
      labelNames: ["direction"],
      registers,
      collect() {
        this.inc({ direction: "up" }, counters.bytesUp - lastUp);
        this.inc({ direction: "down" }, counters.bytesDown - lastDown);
        lastUp = counters.bytesUp;
        lastDown = counters.bytesDown;
      },
    });
    const server = this.#server;
    // oxlint-disable-next-line no-new -- registers itself
    new Gauge({
      name: "isochrone_relay_tunnels_open",
      help: "Open tunnels.",
      registers,
      collect() {
        this.set(counters.tunnels);
      },
    });
    // oxlint-disable-next-line no-new -- registers itself
    new Gauge({
      name: "isochrone_relay_permitted_targets",
      help: "Targets that tunnels may reach.",
      registers,
      collect() {
        this.set(server.permittedTargets);
      },
    });
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

/** Undefined: help was asked for. Throws an Error with one line that says what is wrong. */
function optionsOf(argv: readonly string[]): Options | undefined {
  const { values } = parseArgs({
    args: [...argv],
    strict: true,
    allowPositionals: false,
    options: {
      node: { type: "string" },
      listen: { type: "string" },
      control: { type: "string" },
      state: { type: "string" },
      "drain-ms": { type: "string" },
      help: { type: "boolean" },
    },
  });
  if (values.help) return undefined;
  const need = (name: "node" | "listen" | "control" | "state"): string => {
    const value = values[name];
    if (value === undefined || value === "")
      throw new Error(`--${name} is missing; see "isochrone relay --help"`);
    return value;
  };
  let node: ServerId;
  try {
    node = id<ServerId>().parse(need("node"));
  } catch (error) {
    if (error instanceof ParseError)
      throw new Error(`--node: got ${JSON.stringify(values.node)}, expected ${error.expected}`, {
        cause: error,
      });
    throw error;
  }
  const listen = need("listen");
  const colon = listen.lastIndexOf(":");
  const host = listen.slice(0, Math.max(0, colon)).replace(/^\[(.*)\]$/, "$1");
  const port = /^[0-9]{1,5}$/.test(listen.slice(colon + 1)) ? Number(listen.slice(colon + 1)) : -1;
  if (isIP(host) === 0 || port < 0 || port > 65_535)
    throw new Error(`--listen: got ${JSON.stringify(listen)}, expected ADDRESS:PORT such as 127.0.0.1:8080`);
  const controlUrl = need("control");
  if (!URL.canParse(controlUrl) || !/^https?:$/.test(new URL(controlUrl).protocol))
    throw new Error(
      `--control: got ${JSON.stringify(controlUrl)}, expected a URL such as http://127.10.0.1:8080`,
    );
  const drainText = values["drain-ms"] ?? String(DRAIN_MS);
  if (!/^[0-9]{1,7}$/.test(drainText))
    throw new Error(`--drain-ms: got ${JSON.stringify(drainText)}, expected a whole number of ms`);
  return {
    node,
    host,
    port,
    controlUrl,
    state: need("state"),
    drainMs: Number(drainText),
    token: process.env["ISOCHRONE_CONTROL_TOKEN"] ?? "",
  };
}

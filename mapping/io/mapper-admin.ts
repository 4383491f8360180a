/** The mapper's HTTP side: health, metrics and, with the token, its state. */
import { createServer, type Server, type ServerResponse } from "node:http";
import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import { BearerGate, listenError } from "#kit/io";
import type { Mapper } from "./mapper.ts";

export interface MapperAdminOptions {
  readonly host: string;
  readonly port: number;
  readonly token: string;
  readonly mapper: Mapper;
}

const CONNECTIONS_MAX = 128;
const REQUEST_TIMEOUT_MS = 5_000;

/** Listens and answers until the server is closed. Throws IsochroneError with a line that says what to do. */
export async function listenMapperAdmin(options: MapperAdminOptions): Promise<Server> {
  const { host, port, token, mapper } = options;
  const registry = mapperMetrics(mapper);
  const gate = new BearerGate(token);
  const server = createServer({
    maxHeaderSize: 8_192,
    requestTimeout: REQUEST_TIMEOUT_MS,
    headersTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: 1_000,
  });
  server.maxConnections = CONNECTIONS_MAX;
  server.on("request", (request, response) => {
    request.resume();
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("allow", "GET, HEAD");
      answer(response, 405, { error: "only GET and HEAD" });
      return;
    }
    switch (request.url ?? "") {
      case "/livez":
        answer(response, 200, { status: "live" });
        return;
      case "/readyz":
        answer(response, mapper.isReady ? 200 : 503, { status: mapper.isReady ? "ready" : "no map yet" });
        return;
      case "/metrics":
        registry.metrics().then(
          (text) => response.writeHead(200, { "content-type": registry.contentType }).end(text),
          (error: unknown) => answer(response, 500, { error: String(error) }),
        );
        return;
      case "/.isochrone/status": {
        if (!gate.opensFor(request.headers.authorization)) {
          response.setHeader("www-authenticate", "Bearer");
          answer(response, 401, { error: "a bearer token is needed" });
        } else answer(response, 200, statusOf(mapper));
        return;
      }
      default:
        answer(response, 404, { error: "no such path" });
    }
  });
  server.on("clientError", (_error, socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => reject(listenError(cause, host, port)));
    server.listen({ host, port }, () => resolve());
  });
  return server;
}

function statusOf(mapper: Mapper): unknown {
  const { engine, publisher } = mapper;
  return {
    role: "mapper",
    state: mapper.isReady ? "ready" : "starting",
    control: mapper.client.state,
    mapVersion: engine.snapshot?.mapVersion ?? null,
    reason: engine.snapshot?.reason ?? null,
    suspended: Object.keys(engine.snapshot?.suspended ?? {}),
    load: Object.fromEntries(engine.load),
    pairs: engine.estimator.size,
    links: engine.links.size,
    servers: mapper.prober.counts,
    engine: engine.counters,
    estimator: engine.estimator.counters,
    publisher: publisher.counters,
    applied: mapper.keeper.applied,
  };
}

function mapperMetrics(mapper: Mapper): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const gauge = (name: string, help: string, read: () => number): void => {
    const one: Gauge = new Gauge({ name, help, registers: [registry], collect: () => one.set(read()) });
  };
  const { engine, publisher, prober } = mapper;
  gauge("isochrone_map_version", "Version of the newest snapshot", () => engine.snapshot?.mapVersion ?? 0);
  gauge("isochrone_map_created_seconds", "When the newest snapshot was made, epoch seconds", () =>
    Math.round((engine.snapshot?.createdAtEpochMs ?? 0) / 1_000),
  );
  gauge("isochrone_mapper_pairs", "Pairs with measurements", () => engine.estimator.size);
  gauge("isochrone_mapper_links", "Links that servers report", () => engine.links.size);
  gauge("isochrone_mapper_servers_up", "Servers that answer probes", () => prober.counts.up);
  gauge("isochrone_mapper_servers_probed", "Servers that are probed", () => prober.counts.probed);
  gauge("isochrone_mapper_control_connected", "1 while control can be reached", () =>
    mapper.client.state === "connected" ? 1 : 0,
  );
  const events = new Counter({
    name: "isochrone_mapper_events_total",
    help: "What the engine and the publisher counted, by part and event",
    labelNames: ["part", "event"],
    registers: [registry],
    collect: () => {
      events.reset();
      for (const [part, counters] of Object.entries({
        engine: engine.counters,
        estimator: engine.estimator.counters,
        links: engine.links.counters,
        publisher: publisher.counters,
      }))
        for (const [event, count] of Object.entries(counters)) events.inc({ part, event }, count);
    },
  });
  const load: Gauge<"cluster"> = new Gauge({
    name: "isochrone_cluster_allocated_load",
    help: "Demand over capacity in the newest snapshot",
    labelNames: ["cluster"],
    registers: [registry],
    collect: () => {
      load.reset();
      for (const [cluster, value] of engine.load) load.set({ cluster }, value);
    },
  });
  return registry;
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
  response.end(`${JSON.stringify(body)}\n`);
}

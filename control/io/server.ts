/**
 * Control over HTTP. On node:http and not on a framework: a dozen routes, of which the two that matter are streams with
 * their own back-pressure, and bodies that the kit's schemas check; the process that everything waits for stays small.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import {
  type Clock,
  object,
  oneOf,
  optional,
  ParseError,
  purgeRequest,
  type Schema,
  serverReport,
  string,
} from "#kit";
import { BearerGate, formatListenAddress, listenError, type Logger, http } from "#kit/io";
import { controlSettings } from "../config.ts";
import { nodeNameIn } from "../core/node-register.ts";
import type { PurgeLedgerSettings } from "../core/purge-ledger.ts";
import type { Cut, WatchHubSettings } from "../core/watch-hub.ts";
import { leaseNames } from "../core/lease.ts";
import { type Rollout, type RolloutSettings, stagedKinds } from "../core/rollout.ts";
import { TAKES_HEADER, TAKES_REFERENCES } from "../core/words.ts";
import { ackRequest, leaseRequest } from "../core/wire.ts";
import { type WatchKind, watchKinds } from "../core/words.ts";
import {
  allow,
  BodyReader,
  nodeOf,
  noQuery,
  parseQuery,
  parseTarget,
  queryInteger,
  requireToken,
  sendJson,
  type Target,
} from "./http.ts";
import { metricsOf } from "./metrics.ts";
import { type DocumentRoutesOptions, routeDocuments } from "./document-routes.ts";
import { lineOf } from "./lines.ts";
import type { NodeAuthority } from "./node-authority.ts";
import { type NodeRoutesOptions, routeNodes } from "./node-routes.ts";
import { notFound, Refusal } from "./refusal.ts";
import { ControlService } from "./service.ts";
import type { DocumentStore } from "./store.ts";
import { WatchStream } from "./watch-stream.ts";

export interface ControlServerOptions {
  readonly store: DocumentStore;
  /** Undefined, in tests: no server is given a certificate. */
  readonly authority?: NodeAuthority | undefined;
  readonly token: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly hubSettings?: WatchHubSettings;
  readonly ledgerSettings?: PurgeLedgerSettings;
  readonly rolloutSettings?: RolloutSettings;
}

/** `topology,map`. */
const watchKindList: Schema<readonly WatchKind[]> = {
  parse(value, path = []) {
    const kind = oneOf(watchKinds);
    if (typeof value !== "string") throw new ParseError(path, value, `kinds, such as "topology,property"`);
    return [...new Set(value.split(",").map((name) => kind.parse(name, path)))];
  },
  jsonSchema: () => ({ type: "string" }),
};

const watchQuery = object({
  kinds: watchKindList,
  since: optional(queryInteger(0)),
  /** The log that `since` is a place of; without it the place is taken for one of this log. */
  log: optional(string({ max: 64 })),
});
const rolloutsQuery = object({ id: optional(string({ max: 64 })) });

export class ControlServer {
  readonly #options: ControlServerOptions;
  readonly #service: ControlService;
  readonly #server: Server;
  readonly #gate: BearerGate;
  readonly #bodies = new BodyReader();
  readonly #streams = new Map<number, WatchStream>();
  readonly #responses = new Map<number, ServerResponse>();
  readonly #nodes: NodeRoutesOptions;
  readonly #documents: DocumentRoutesOptions;
  readonly #metrics;
  #heartbeat: NodeJS.Timeout | undefined;
  #steps: NodeJS.Timeout | undefined;
  #isDraining = false;

  constructor(options: ControlServerOptions) {
    this.#options = options;
    const { store, clock, logger, authority, hubSettings, ledgerSettings, rolloutSettings } = options;
    this.#service = new ControlService({
      store,
      clock,
      ...(hubSettings !== undefined && { hubSettings }),
      ...(ledgerSettings !== undefined && { ledgerSettings }),
      rolloutSettings,
      onPublished: (cuts) => this.#serveWatchers(cuts),
    });
    this.#documents = { service: this.#service, bodies: this.#bodies, logger };
    this.#nodes = {
      authority,
      logger,
      bodies: this.#bodies,
      nameOf: (serverId) => nodeNameIn(this.#service.topologies(), serverId),
    };
    this.#metrics = metricsOf(this.#service, authority);
    this.#gate = new BearerGate(options.token);
    this.#server = http.createServer(
      {
        maxHeaderSize: 16_384,
        headersTimeout: controlSettings.headersTimeoutMs,
        requestTimeout: controlSettings.requestTimeoutMs,
        keepAliveTimeout: 60_000,
        highWaterMark: 256 * 1024,
      },
      (request, response) => void this.#handle(request, response),
    );
    this.#server.maxConnections = controlSettings.connectionsMax;
  }

  /** For tests and metrics. */
  get service(): ControlService {
    return this.#service;
  }

  /** The URL it serves at; port 0 takes a free one. Rejects with IsochroneError that says what to do. */
  async listen(host: string, port: number): Promise<string> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (cause) => reject(listenError(cause, host, port)));
      this.#server.listen({ host, port, backlog: 1_024 }, resolve);
    });
    this.#heartbeat = setInterval(() => this.#service.heartbeat(), controlSettings.heartbeatMs);
    this.#steps = setInterval(() => this.takeSteps(), controlSettings.stepIntervalMs);
    const bound = this.#server.address() as AddressInfo;
    return `http://${formatListenAddress({ host: bound.address, port: bound.port })}`;
  }

  /** Ends every stream, lets answers under way end for a while, then cuts them. The store stays open. */
  async close(): Promise<void> {
    this.#isDraining = true;
    clearInterval(this.#heartbeat);
    clearInterval(this.#steps);
    this.#service.close();
    for (const response of this.#responses.values()) response.end();
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    this.#server.closeIdleConnections();
    const cut = setTimeout(() => this.#server.closeAllConnections(), controlSettings.drainMs);
    await closed;
    clearTimeout(cut);
  }

  /** Never rejects. */
  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      await this.#route(request, response);
    } catch (error) {
      // A refused body is not read to its end: the connection cannot carry another request.
      const isUnread = !request.complete;
      if (error instanceof Refusal) {
        const headers = isUnread ? { ...error.headers, connection: "close" } : error.headers;
        sendJson(response, error.status, JSON.stringify(error.body), headers);
      } else if (request.destroyed && !request.complete) {
        this.#options.logger.debug("request-aborted", { url: request.url });
      } else {
        this.#options.logger.error("request-failed", { method: request.method, url: request.url, error });
        const body = { error: "Control could not do it; its log says why", code: "control-failed" };
        sendJson(response, 500, JSON.stringify(body), isUnread ? { connection: "close" } : {});
      }
      // An answer that had begun cannot be mended, only broken off.
      if (response.headersSent && !response.writableEnded) response.destroy();
    }
  }

  /** What goes on by itself: keys of signed zones and roll-outs take the steps that are due. */
  takeSteps(): void {
    const { logger } = this.#options;
    try {
      for (const { zone, taken } of this.#service.keys.roll())
        for (const { step, keyId } of taken) logger.info("key-roll", { zone, step, keyId });
    } catch (error) {
      // A document of a day with other laws, or a disk that does not write: tried again, and told each time.
      logger.error("key-roll-failed", { error });
    }
    const { moved, failed } = this.#service.rollouts.handleTimeout();
    for (const one of moved)
      logger[one.state === "halted" ? "error" : "info"](`rollout-${one.state}`, toldOf(one));
    for (const { record, error } of failed) logger.error("rollout-failed", { ...toldOf(record), error });
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const target = parseTarget(request.url ?? "");
    const [first, collection, ...rest] = target.segments;
    if (collection === undefined && (first === "livez" || first === "readyz" || first === "metrics")) {
      allow(request, "GET");
      return this.#answerProbe(first, response);
    }
    requireToken(this.#gate, request);
    if (first === "v1") {
      switch (collection) {
        case "documents":
          return routeDocuments(this.#documents, request, response, rest, target);
        case "watch":
          if (rest.length > 0) break;
          allow(request, "GET");
          return this.#watch(response, target, request);
        case "reports":
          if (rest.length > 0) break;
          return this.#routeReports(request, response, target);
        case "key-rolls":
          allow(request, "GET");
          parseQuery(target.query, noQuery);
          if (rest.length !== 1) break;
          return sendJson(response, 200, JSON.stringify(this.#service.keys.zones(rest[0] ?? "")));
        case "leases":
          return this.#routeLeases(request, response, rest, target);
        case "rollouts":
          return this.#routeRollouts(request, response, rest, target);
        case "nodes":
          parseQuery(target.query, noQuery);
          return routeNodes(this.#nodes, request, response, rest);
        case "purges":
          return this.#routePurges(request, response, rest, target);
        case undefined:
        default:
          break;
      }
    }
    throw notFound(`resource at ${JSON.stringify(target.segments.join("/").slice(0, 80))}`);
  }

  async #answerProbe(name: "livez" | "readyz" | "metrics", response: ServerResponse): Promise<void> {
    if (name === "metrics") {
      const text = await this.#metrics.metrics();
      response.writeHead(200, { "content-type": this.#metrics.contentType, "cache-control": "no-store" });
      response.end(text);
      return;
    }
    const isReady = name === "livez" || !this.#isDraining;
    sendJson(
      response,
      isReady ? 200 : 503,
      JSON.stringify({ state: this.#isDraining ? "draining" : "ready" }),
    );
  }

  async #routeReports(request: IncomingMessage, response: ServerResponse, target: Target): Promise<void> {
    const method = allow(request, "GET", "POST");
    parseQuery(target.query, noQuery);
    if (method === "GET") return sendJson(response, 200, JSON.stringify(this.#service.reports()));
    this.#service.report(await this.#bodies.read(request, controlSettings.reportBytesMax, serverReport));
    sendJson(response, 200, "{}");
  }

  async #routeLeases(
    request: IncomingMessage,
    response: ServerResponse,
    rest: readonly string[],
    target: Target,
  ): Promise<void> {
    const [nameText, ...more] = rest;
    parseQuery(target.query, noQuery);
    if (nameText === undefined) {
      allow(request, "GET");
      return sendJson(response, 200, JSON.stringify(this.#service.publishers.leases()));
    }
    const name = leaseNames.find((one) => one === nameText);
    if (name === undefined || more.length > 0)
      throw notFound(`lease ${JSON.stringify(nameText.slice(0, 80))}; there are ${leaseNames.join(", ")}`);
    allow(request, "POST");
    const wanted = await this.#bodies.read(request, controlSettings.smallBodyBytesMax, leaseRequest);
    const answer = this.#service.publishers.lease(name, wanted);
    if (answer.outcome === "granted" || answer.outcome === "released") {
      const { term, holderId, note } = answer;
      this.#options.logger.info(`lease-${answer.outcome}`, {
        lease: name,
        term,
        holderId,
        note,
        by: wanted.holderId,
      });
    }
    sendJson(response, 200, JSON.stringify(answer));
  }

  /** `GET /v1/rollouts`, of documents named ID with `?id=ID`; `POST /v1/rollouts/KIND/ID/halt`. */
  #routeRollouts(
    request: IncomingMessage,
    response: ServerResponse,
    rest: readonly string[],
    target: Target,
  ): void {
    const { rollouts } = this.#service;
    const [kindText, id, action, ...more] = rest;
    if (kindText === undefined) {
      allow(request, "GET");
      const wanted = parseQuery(target.query, rolloutsQuery).id;
      return sendJson(response, 200, JSON.stringify(rollouts.list(wanted)));
    }
    parseQuery(target.query, noQuery);
    const kind = stagedKinds.find((one) => one === kindText);
    if (kind === undefined || id === undefined || action !== "halt" || more.length > 0)
      throw notFound("such resource below /v1/rollouts");
    allow(request, "POST");
    const halted = rollouts.halt(kind, id);
    this.#options.logger.warn("rollout-halted", { ...toldOf(halted), node: nodeOf(request) });
    sendJson(response, 200, JSON.stringify(halted));
  }

  async #routePurges(
    request: IncomingMessage,
    response: ServerResponse,
    rest: readonly string[],
    target: Target,
  ): Promise<void> {
    const [action, ...more] = rest;
    allow(request, "POST");
    parseQuery(target.query, noQuery);
    if (action === undefined) return this.#purge(request, response);
    if (action !== "acks" || more.length > 0) throw notFound("such resource below /v1/purges");
    const { acks } = await this.#bodies.read(request, controlSettings.acksBytesMax, ackRequest);
    const outcomes = acks.map((ack) => this.#service.acknowledge(ack));
    sendJson(response, 200, JSON.stringify({ outcomes }));
  }

  async #purge(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const wanted = await this.#bodies.read(request, controlSettings.purgeBytesMax, purgeRequest);
    this.#service.purge(wanted, (progress) => {
      if (response.destroyed || response.writableEnded) return;
      if (progress.type === "accepted") startStream(response);
      // At most one line for each server: small enough to wait in memory for a slow reader.
      response.write(lineOf(progress));
      if (progress.type !== "done") return;
      response.end();
      const { purgeSeq, acked, expected, elapsedMs } = progress;
      const { propertyId } = wanted;
      this.#options.logger.info("purged", {
        purgeSeq,
        propertyId,
        acked,
        expected,
        elapsedMs,
        node: nodeOf(request),
      });
    });
  }

  #watch(response: ServerResponse, target: Target, request: IncomingMessage): void {
    const node = nodeOf(request);
    const takesReferences = request.headers[TAKES_HEADER] === TAKES_REFERENCES;
    const { kinds, since, log } = parseQuery(target.query, watchQuery);
    if (this.#isDraining) throw new Refusal(503, { error: "Control is stopping", code: "overloaded" });
    const { hub, store } = this.#service;
    const { clock, logger } = this.#options;
    const watcherId = hub.subscribe(kinds, clock.monotonic(), { nodeId: node, takesReferences });
    if (watcherId === undefined) {
      const error = `Control serves ${hub.watcherCount} watchers and has no room for one more`;
      throw new Refusal(503, { error, code: "overloaded" }, { "retry-after": "1" });
    }
    const place = since === undefined ? undefined : { seq: since, logId: log ?? store.bounds().logId };
    startStream(response);
    const stream = new WatchStream({
      service: this.#service,
      clock,
      response,
      watcherId,
      kinds,
      nodeId: node,
      takesReferences,
      since: place,
    });
    this.#streams.set(watcherId, stream);
    this.#responses.set(watcherId, response);
    response.once("close", () => {
      hub.unsubscribe(watcherId);
      this.#streams.delete(watcherId);
      this.#responses.delete(watcherId);
      logger.debug("watch-ended", { node, watcherId });
    });
    logger.debug("watch-began", { node, watcherId, kinds, start: stream.start, since });
    stream.pump();
  }

  #serveWatchers(cuts: readonly Cut[]): void {
    for (const { watcherId, reason } of cuts) {
      this.#options.logger.warn("watcher-cut", { watcherId, reason });
      // Not ended in order: it could not take the end either.
      this.#responses.get(watcherId)?.destroy();
    }
    for (const stream of this.#streams.values()) stream.pump();
  }
}

/** What the log says of a roll-out. */
function toldOf({ kind, id, version, state, stages, stageIndex, halt }: Rollout) {
  const { stage, servers } = stages[stageIndex] ?? {};
  return { document: `${kind}/${id}`, version, state, stage, servers: servers?.length, ...halt };
}

function startStream(response: ServerResponse): void {
  response.writeHead(200, { "content-type": "application/x-ndjson", "cache-control": "no-store" });
  // Small lines must not wait for each other.
  response.socket?.setNoDelay(true);
}

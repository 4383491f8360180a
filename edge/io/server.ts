/** The HTTP/1.1 server: limits, strict checks, who is a peer, admin or property, and the record of each request. */
import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type Clock, IsochroneError, type ServerId } from "#kit";
import { type Logger, listenErrorHint } from "#kit/io";
import type { PeerVerifier } from "#transport";
import type { EdgeSettings } from "../config.ts";
import { fieldLines, type Fields } from "../core/headers.ts";
import { type Answer, type AnswerRecord, type HopFields, type Inbound, textAnswer } from "./exchange.ts";
import type { EdgeMetrics } from "./metrics.ts";
import { type CheckedRequest, checkRequest, fieldsOf } from "./request-check.ts";
import { type WriteResult, writeAnswer } from "./response-writer.ts";

/** A request that was answered, for the access record. */
export interface ServedRequest {
  readonly inbound: Inbound;
  readonly answer: Answer;
  readonly result: WriteResult;
  readonly durationMs: number;
  /** Until the answer could begin, ms. */
  readonly ttfbMs: number;
}

export interface EdgeServerOptions {
  readonly handle: (inbound: Inbound) => Promise<Answer>;
  /** Answers a request for the server itself; undefined when `host` is not the server's own. */
  readonly admin: ((inbound: Inbound, host: string) => Promise<Answer> | undefined) | undefined;
  readonly verifier: PeerVerifier | undefined;
  readonly settings: EdgeSettings;
  readonly clock: Clock;
  readonly metrics: EdgeMetrics;
  readonly logger: Logger;
  readonly onServed: ((served: ServedRequest) => void) | undefined;
  /** Host of HTTP/1.0 requests that state none; undefined: they are refused. */
  readonly hostWhenAbsent?: string | undefined;
}

/** How long a drain waits for the rest of a connection's first head, ms. */
const DRAIN_HEAD_MS = 1_000;

const NOT_A_PEER: HopFields = { tier: undefined, isOwner: false };

export class EdgeServer {
  readonly #options: EdgeServerOptions;
  readonly #server: Server;
  #active = 0;
  #isDraining = false;
  /** Connections on which no request was begun to be answered yet: browsers open them ahead of need. */
  readonly #silent = new Set<Socket>();
  #onIdle: (() => void) | undefined;

  constructor(options: EdgeServerOptions) {
    this.#options = options;
    const { settings } = options;
    this.#server = createServer(
      {
        maxHeaderSize: settings.headerBytesMax,
        headersTimeout: settings.headersTimeoutMs,
        requestTimeout: settings.requestTimeoutMs,
        keepAliveTimeout: settings.keepAliveTimeoutMs,
        connectionsCheckingInterval: Math.min(2_000, settings.headersTimeoutMs),
        // Host is checked here, with an answer that says what is wrong.
        requireHostHeader: false,
        insecureHTTPParser: false,
        noDelay: true,
      },
      (request, response) => void this.#serve(request, response),
    );
    // Node would otherwise cut the list silently; checkRequest refuses what is over the limit.
    this.#server.maxHeadersCount = 0;
    this.#server.maxConnections = settings.connectionsMax;
    this.#server.on("clientError", (error: NodeJS.ErrnoException, socket) => this.#malformed(error, socket));
    this.#server.on("checkExpectation", (_request, response: ServerResponse) => {
      options.metrics.refused("expectation");
      response.writeHead(417, { Connection: "close", "Content-Length": "0" }).end();
    });
    this.#server.on("connection", (socket: Socket) => {
      this.#silent.add(socket);
      socket.once("close", () => this.#silent.delete(socket));
    });
    this.#server.on("connect", (_request, socket) => {
      options.metrics.refused("method");
      refuseRaw(socket, "405 Method Not Allowed");
    });
  }

  get active(): number {
    return this.#active;
  }
  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Listens and resolves with the port. Rejects with IsochroneError that says what to do. */
  async listen(host: string, port: number, isShared = false): Promise<number> {
    return await new Promise((resolve, reject) => {
      this.#server.once("error", (cause) => {
        reject(
          new IsochroneError(listenErrorHint(cause, host, port), {
            code: (cause as NodeJS.ErrnoException).code ?? "listen",
            source: "configuration",
            retry: "never",
            cause,
          }),
        );
      });
      this.#server.listen({ host, port, backlog: 1_024, reusePort: isShared, exclusive: isShared }, () => {
        this.#server.removeAllListeners("error");
        this.#server.on("error", (error) => this.#options.logger.error("server-error", { error }));
        resolve((this.#server.address() as AddressInfo).port);
      });
    });
  }

  /**
   * Stops taking connections, lets requests in flight finish (each answer says Connection: close), and resolves when
   * nothing is left or `drainTimeoutMs` is over; what is left then is cut. Returns how many requests were cut.
   */
  async drain(): Promise<number> {
    this.#isDraining = true;
    const { drainNoticeMs, drainTimeoutMs } = this.#options.settings;
    if (drainNoticeMs > 0) await new Promise((resolve) => setTimeout(resolve, drainNoticeMs));
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    // Node counts a connection that has never sent a request as busy: one of them would hold up the end.
    for (const socket of this.#silent) if (socket.bytesRead === 0) socket.destroy();
    // Half a head gets a moment; Node's own time limit for it ended with close().
    const headTimer = setTimeout(() => {
      for (const socket of this.#silent) socket.destroy();
    }, DRAIN_HEAD_MS);
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      Promise.all([
        closed,
        new Promise<void>((resolve) => {
          if (this.#active === 0) resolve();
          else this.#onIdle = resolve;
        }),
      ]),
      new Promise<void>((resolve) => {
        timer = setTimeout(resolve, drainTimeoutMs);
      }),
    ]);
    clearTimeout(timer);
    clearTimeout(headTimer);
    const cut = this.#active;
    this.#server.closeAllConnections();
    return cut;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { settings, metrics, clock } = this.#options;
    const startedAt = clock.monotonic();
    this.#silent.delete(request.socket);
    this.#active++;
    try {
      const fields = fieldsOf(request.rawHeaders);
      const method = request.method ?? "";
      const checked = checkRequest(
        method,
        request.url ?? "",
        request.httpVersion,
        fields,
        settings,
        this.#options.hostWhenAbsent,
      );
      if ("refusedStatus" in checked) {
        metrics.refused(checked.reason);
        // What follows on this connection cannot be trusted to begin where it seems to.
        const answer = own(checked.refusedStatus, `Refused: ${checked.message}.\n`);
        await writeAnswer(response, answer, method, true, settings.writeStallMs);
        request.resume();
        return;
      }
      if (this.#active > settings.activeRequestsMax) {
        metrics.refused("overload");
        const answer = own(503, "This server is at its limit of requests.\n", [["Retry-After", "1"]]);
        await writeAnswer(response, answer, method, this.#isDraining, settings.writeStallMs);
        return;
      }
      await this.#answer(request, response, checked, startedAt);
    } catch (error) {
      // A fault of our own. The client gets an answer or a cut connection, never silence.
      this.#options.logger.error("request-failed", { error });
      if (response.headersSent) response.destroy();
      else
        await writeAnswer(
          response,
          own(500, "Internal fault.\n"),
          request.method ?? "",
          true,
          settings.writeStallMs,
        );
    } finally {
      this.#active--;
      if (this.#isDraining) {
        this.#server.closeIdleConnections();
        if (this.#active === 0) this.#onIdle?.();
      }
    }
  }

  async #answer(
    request: IncomingMessage,
    response: ServerResponse,
    checked: CheckedRequest,
    startedAt: Inbound["startedAt"],
  ): Promise<void> {
    const { clock, metrics, settings } = this.#options;
    const aborter = new AbortController();
    response.once("close", () => {
      if (!response.writableFinished) aborter.abort();
    });
    const peer = this.#peerOf(checked, request.url ?? "");
    const isPlainRead = checked.method === "GET" || checked.method === "HEAD";
    // Content of a GET has no meaning (RFC 9110, section 9.3.1) and is no part of the key: it goes no further.
    const hasBody = checked.hasContent && !isPlainRead;
    const inbound: Inbound = {
      head: {
        method: checked.method,
        scheme: peer !== undefined && forwardedScheme(checked.fields) === "https" ? "https" : "http",
        host: checked.host,
        target: checked.target,
        fields: peer === undefined ? withoutInternal(checked.fields) : checked.fields,
      },
      httpVersion: request.httpVersion === "1.0" ? "1.0" : "1.1",
      remoteAddress: request.socket.remoteAddress ?? "unknown",
      body: hasBody ? request : undefined,
      bodyBytes: isPlainRead ? undefined : checked.bodyBytes,
      signal: aborter.signal,
      peer,
      hop: peer === undefined ? NOT_A_PEER : hopFieldsOf(checked.fields),
      requestId:
        (peer === undefined ? undefined : requestIdOf(checked.fields)) ??
        randomBytes(9).toString("base64url"),
      receivedAt: clock.epoch(),
      startedAt,
    };
    const answer = await (this.#options.admin?.(inbound, checked.host) ?? this.#options.handle(inbound));
    const ttfbMs = clock.monotonic() - startedAt;
    const isClosing = this.#isDraining || (hasBody && !request.complete && answer.status >= 400);
    const result = await writeAnswer(response, answer, checked.method, isClosing, settings.writeStallMs);
    const durationMs = clock.monotonic() - startedAt;
    metrics.request(answer.record.outcome, answer.status, durationMs / 1_000, result.bytesDown);
    if (answer.record.outcome !== "admin")
      this.#options.onServed?.({ inbound, answer, result, durationMs, ttfbMs });
  }

  #peerOf(checked: CheckedRequest, path: string): ServerId | undefined {
    const { verifier } = this.#options;
    if (verifier === undefined) return undefined;
    const lines = fieldLines(checked.fields, "isochrone-peer");
    if (lines.length !== 1) return undefined;
    const verdict = verifier.verify(lines[0], { method: checked.method, host: checked.hostAsSent, path });
    if (verdict.isProven) return verdict.serverId;
    this.#options.logger.debug("peer-not-proven", { reason: verdict.reason });
    return undefined;
  }

  #malformed(error: NodeJS.ErrnoException, socket: Duplex): void {
    if (error.code === "ECONNRESET" || !socket.writable) {
      socket.destroy();
      return;
    }
    this.#options.metrics.refused("malformed");
    const status =
      error.code === "HPE_HEADER_OVERFLOW"
        ? "431 Request Header Fields Too Large"
        : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
          ? "408 Request Timeout"
          : "400 Bad Request";
    refuseRaw(socket, status);
  }
}

/** A last word on a connection whose requests cannot be told apart any more. */
function refuseRaw(socket: Duplex | Socket, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  // An attacker that never reads must not keep the socket.
  const timer = setTimeout(() => socket.destroy(), 1_000);
  timer.unref();
  socket.once("close", () => clearTimeout(timer));
}

function own(status: number, text: string, fields: Fields = []): Answer {
  const record: AnswerRecord = {
    outcome: "refused",
    status: undefined,
    propertyId: undefined,
    upstream: undefined,
  };
  return textAnswer(status, text, record, fields);
}

/** Isochrone-* fields count only from proven peers; nobody else's are seen by anything behind this line. */
function withoutInternal(fields: Fields): Fields {
  return fields.some(([name]) => isInternal(name)) ? fields.filter(([name]) => !isInternal(name)) : fields;
}

const isInternal = (name: string): boolean =>
  name.length > 10 && name.slice(0, 10).toLowerCase() === "isochrone-";

function hopFieldsOf(fields: Fields): HopFields {
  const tier = fieldLines(fields, "isochrone-tier")[0];
  return {
    tier: tier !== undefined && /^[0-9]$/.test(tier) ? Number(tier) : 0,
    isOwner: fieldLines(fields, "isochrone-owner")[0] === "1",
  };
}

function requestIdOf(fields: Fields): string | undefined {
  const value = fieldLines(fields, "isochrone-request-id")[0];
  return value !== undefined && /^[A-Za-z0-9_-]{8,64}$/.test(value) ? value : undefined;
}

function forwardedScheme(fields: Fields): string | undefined {
  return fieldLines(fields, "x-forwarded-proto")[0];
}

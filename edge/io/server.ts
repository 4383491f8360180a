/** The HTTP/1.1 server: limits, strict checks, who is a peer, admin or property, and the record of each request. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { IsochroneError } from "#kit";
import { listenErrorHint } from "#kit/io";
import { ConnectionGuard } from "./connection-guard.ts";
import { Dispatcher, type DispatcherOptions, ownAnswer } from "./dispatch.ts";
import type { Inbound } from "./exchange.ts";
import { bindListeners, type ListenHandle, Listeners, portOf } from "./listening.ts";
import { type CheckedRequest, checkRequest, fieldsOf } from "./request-check.ts";
import { writeAnswer } from "./response-writer.ts";

export interface EdgeServerOptions extends DispatcherOptions {
  /** Host of HTTP/1.0 requests that state none; undefined: they are refused. */
  readonly hostWhenAbsent?: string | undefined;
}

/** How long a drain waits for the rest of a connection's first head, ms. */
const DRAIN_HEAD_MS = 1_000;

export class EdgeServer {
  readonly #options: EdgeServerOptions;
  readonly #server: Server;
  readonly #dispatcher: Dispatcher;
  readonly #guard = new ConnectionGuard();
  #isDraining = false;
  #isClosingIdle = false;
  #isWatching = false;
  readonly #listeners = new Listeners((socket) => this.#accept(socket));
  readonly #connections = new Set<Socket>();
  #onEmpty: (() => void) | undefined;
  /** Connections on which no request was begun to be answered yet: browsers open them ahead of need. */
  readonly #silent = new Set<Socket>();

  constructor(options: EdgeServerOptions) {
    this.#options = options;
    this.#dispatcher = new Dispatcher(options);
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
    this.#server.on("clientError", (error: NodeJS.ErrnoException, socket) => this.#malformed(error, socket));
    this.#server.on("checkExpectation", (request: IncomingMessage, response: ServerResponse) => {
      const { socket } = request;
      if (!this.#guard.begin(socket, request, response)) return;
      this.#guard.refuse(socket);
      response.once("close", () => this.#guard.end(socket));
      options.metrics.refused("expectation");
      response.writeHead(417, { Connection: "close", "Content-Length": "0" }).end();
    });
    this.#server.on("connect", (_request, socket) => {
      options.metrics.refused("method");
      this.#guard.malformed(socket, "405 Method Not Allowed");
    });
  }

  /** What other protocols answer through, so that all requests count as one. */
  get dispatcher(): Dispatcher {
    return this.#dispatcher;
  }
  get active(): number {
    return this.#dispatcher.active;
  }
  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Takes a connection that somebody else has accepted: after a TLS handshake. */
  accept(socket: Socket): void {
    this.#server.emit("connection", socket);
  }

  /** Listens and resolves with the port. Rejects with IsochroneError that says what to do. */
  async listen(host: string, port: number): Promise<number> {
    const [handle] = await bindListeners(host, port, 1);
    if (handle === undefined) throw new Error("Binding one socket gave none");
    try {
      await this.listenOn(handle);
    } catch (cause) {
      throw new IsochroneError(listenErrorHint(cause, host, port), {
        code: (cause as NodeJS.ErrnoException).code ?? "listen",
        source: "configuration",
        retry: "never",
        cause,
      });
    }
    return portOf(handle);
  }

  /** The sockets that it accepts from. */
  get sockets(): readonly ListenHandle[] {
    return this.#listeners.handles;
  }

  /** Accepts from a socket that was bound elsewhere, beside those that it listens on already. */
  async listenOn(handle: ListenHandle): Promise<void> {
    await this.#listeners.add(handle);
    // Node begins to watch its time limits for heads and requests with this event, whoever accepts the connections.
    if (!this.#isWatching) this.#server.emit("listening");
    this.#isWatching = true;
  }

  /** Stops accepting from a socket and lets go of it. */
  stopListening(handle: ListenHandle): void {
    this.#listeners.remove(handle);
  }

  #accept(socket: Socket): void {
    if (this.#connections.size >= this.#options.settings.connectionsMax) {
      socket.destroy();
      return;
    }
    this.#connections.add(socket);
    this.#silent.add(socket);
    socket.once("close", () => {
      this.#connections.delete(socket);
      this.#silent.delete(socket);
      if (this.#connections.size === 0) this.#onEmpty?.();
    });
    this.#server.emit("connection", socket);
  }

  /**
   * Stops taking connections and lets requests in flight finish; each answer says Connection: close. Connections that
   * idle may send one more request for `idleMs`: 0 when no other process takes their clients, so that they are closed at
   * once; a long time when a successor does, since a client that never retries loses what it sends into a closing
   * connection. Resolves when nothing is left or `drainTimeoutMs` is over; what is left then is cut. Returns how many
   * requests were cut.
   */
  async drain(idleMs = 0): Promise<number> {
    this.#isDraining = true;
    const { drainNoticeMs, drainTimeoutMs } = this.#options.settings;
    if (drainNoticeMs > 0 && idleMs === 0) await new Promise((resolve) => setTimeout(resolve, drainNoticeMs));
    this.#listeners.close();
    let headTimer: NodeJS.Timeout | undefined;
    const idleTimer = setTimeout(() => {
      this.#isClosingIdle = true;
      this.#server.closeIdleConnections();
      // Node counts a connection that has never sent a request as busy: one of them would hold up the end.
      for (const socket of this.#silent) if (socket.bytesRead === 0) socket.destroy();
      // Half a head gets a moment; Node's own time limit for it ended with close().
      headTimer = setTimeout(() => {
        for (const socket of this.#silent) socket.destroy();
      }, DRAIN_HEAD_MS);
    }, idleMs);
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      Promise.all([
        this.#dispatcher.idle(),
        new Promise<void>((resolve) => {
          if (this.#connections.size === 0) resolve();
          else this.#onEmpty = resolve;
        }),
      ]),
      new Promise<void>((resolve) => {
        timer = setTimeout(resolve, Math.max(drainTimeoutMs, idleMs));
      }),
    ]);
    clearTimeout(timer);
    clearTimeout(idleTimer);
    clearTimeout(headTimer);
    const cut = this.active;
    for (const socket of this.#connections) socket.destroy();
    this.#server.close();
    return cut;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Node takes the socket off a request that has ended.
    const { socket } = request;
    if (!this.#guard.begin(socket, request, response)) return;
    const { settings, metrics, clock } = this.#options;
    const startedAt = clock.monotonic();
    this.#silent.delete(socket);
    this.#dispatcher.begin();
    let isEnded = false;
    try {
      const fields = fieldsOf(request.rawHeaders);
      const method = request.method ?? "";
      const checked = checkRequest(
        method,
        request.url ?? "",
        request.httpVersion,
        fields,
        settings,
        isTls(request.socket) ? "https" : "http",
        this.#options.hostWhenAbsent,
      );
      if ("refusedStatus" in checked) {
        metrics.refused(checked.reason);
        this.#guard.refuse(socket);
        const answer = ownAnswer(checked.refusedStatus, `Refused: ${checked.message}.\n`);
        await writeAnswer(response, answer, method, true, settings.writeStallMs);
        request.resume();
        return;
      }
      await this.#answer(request, response, checked, startedAt);
      isEnded = true;
    } catch (error) {
      // A fault of our own. The client gets an answer or a cut connection, never silence.
      this.#options.logger.error("request-failed", { error });
      if (response.headersSent) response.destroy();
      else
        await writeAnswer(
          response,
          ownAnswer(500, "Internal fault.\n"),
          request.method ?? "",
          true,
          settings.writeStallMs,
        );
    } finally {
      this.#guard.end(socket);
      if (!isEnded) this.#dispatcher.abandon();
      if (this.#isDraining)
        response.once("close", () => {
          // Idle a moment after its answer has gone.
          setImmediate(() => {
            if (this.#isClosingIdle) this.#server.closeIdleConnections();
          });
        });
    }
  }

  async #answer(
    request: IncomingMessage,
    response: ServerResponse,
    checked: CheckedRequest,
    startedAt: Inbound["startedAt"],
  ): Promise<void> {
    const { clock, settings } = this.#options;
    const aborter = new AbortController();
    response.once("close", () => {
      if (!response.writableFinished) aborter.abort();
    });
    const inbound = this.#dispatcher.inbound({
      checked,
      path: request.url ?? "",
      httpVersion: request.httpVersion === "1.0" ? "1.0" : "1.1",
      isTls: isTls(request.socket),
      remoteAddress: request.socket.remoteAddress ?? "unknown",
      body: request,
      signal: aborter.signal,
      startedAt,
    });
    const answer = await this.#dispatcher.answer(inbound, checked.host);
    const ttfbMs = clock.monotonic() - startedAt;
    const isBodyLeft = inbound.body !== undefined && !request.complete;
    const isClosing = this.#isDraining || (isBodyLeft && answer.status >= 400);
    const result = await writeAnswer(response, answer, checked.method, isClosing, settings.writeStallMs);
    this.#dispatcher.end(inbound, answer, result, ttfbMs);
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
    this.#guard.malformed(socket, status);
  }
}

function isTls(socket: Socket): boolean {
  return (socket as Partial<TLSSocket>).encrypted === true;
}

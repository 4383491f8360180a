/** The HTTP/1.1 server: limits, strict checks, who is a peer, admin or property, and the record of each request. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { IsochroneError } from "#kit";
import { listenErrorHint } from "#kit/io";
import { ConnectionGuard } from "./connection-guard.ts";
import { Dispatcher, type DispatcherOptions, ownAnswer } from "./dispatch.ts";
import type { Inbound } from "./exchange.ts";
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
    this.#server.maxConnections = settings.connectionsMax;
    this.#server.on("clientError", (error: NodeJS.ErrnoException, socket) => this.#malformed(error, socket));
    this.#server.on("checkExpectation", (request: IncomingMessage, response: ServerResponse) => {
      const { socket } = request;
      if (!this.#guard.begin(socket, request, response)) return;
      this.#guard.refuse(socket);
      response.once("close", () => this.#guard.end(socket));
      options.metrics.refused("expectation");
      response.writeHead(417, { Connection: "close", "Content-Length": "0" }).end();
    });
    this.#server.on("connection", (socket: Socket) => {
      this.#silent.add(socket);
      socket.once("close", () => this.#silent.delete(socket));
    });
    this.#server.on("connect", (_request, socket) => {
      options.metrics.refused("method");
      this.#guard.malformed(socket, "405 Method Not Allowed");
    });
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
      Promise.all([closed, this.#dispatcher.idle()]),
      new Promise<void>((resolve) => {
        timer = setTimeout(resolve, drainTimeoutMs);
      }),
    ]);
    clearTimeout(timer);
    clearTimeout(headTimer);
    const cut = this.active;
    this.#server.closeAllConnections();
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
      if (this.#isDraining) this.#server.closeIdleConnections();
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

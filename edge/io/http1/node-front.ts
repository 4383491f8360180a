/**
 * Requests that the flat path does not read: content, upgrades, Expect, HTTP/1.0, odd grammar. node:http's parser takes the
 * connection with its bytes intact and keeps it to its end; the answers are the same ones.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Clock, MonotonicMs } from "#kit";
import { http, type Logger } from "#kit/io";
import type { EdgeSettings } from "../../config.ts";
import { ConnectionGuard } from "../connection-guard.ts";
import { type Dispatcher, ownAnswer } from "../dispatch.ts";
import { interimText } from "./answer-writer.ts";
import type { EdgeMetrics } from "../metrics.ts";
import { type CheckedRequest, checkRequest, fieldsOf } from "../request-check.ts";
import { writeAnswer } from "../response-writer.ts";
import { isTls } from "./connection.ts";
import { isOtherProtocol } from "./head-block.ts";
import { lingerAtEnd } from "./lingering.ts";

export interface NodeFrontOptions {
  readonly dispatcher: Dispatcher;
  readonly settings: EdgeSettings;
  readonly clock: Clock;
  readonly metrics: EdgeMetrics;
  readonly logger: Logger;
  /** Host of HTTP/1.0 requests that state none; undefined: they are refused. */
  readonly hostWhenAbsent: string | undefined;
  readonly isDraining: () => boolean;
  /** Whether connections between requests are closed, too. */
  readonly isClosingIdle: () => boolean;
}

/** A request whose content has not come whole: watched for its rate. */
interface Upload {
  readonly request: IncomingMessage;
  readonly beganAt: MonotonicMs;
  readonly bytesBefore: number;
  /** What has come is kept here until there is enough of it: what waits does not wait for the next hop. */
  isGathering: boolean;
}

/**
 * Content that is taken in before anybody is asked, so that a slow upload holds no connection to the next hop (200 dripping
 * ones left none of an origin's for honest clients), bytes. 5,000 slow clients then hold 80 MB at the worst.
 */
const GATHERED_BYTES = 16 * 1_024;
/**
 * A client that wants an answer to the beginning of its content sends no more until it has one: after so long its request
 * goes on with what there is, ms. Only so many at once, since a slow client looks the same; the others wait on.
 */
const GATHER_MS = 300;
const UNGATHERED_MAX = 32;

export class NodeFront {
  readonly #o: NodeFrontOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Those that have had their last answer. */
  readonly #lingering = new Set<Socket>();
  readonly #guard = new ConnectionGuard(() => this.#o.metrics.refused("pipeline"));
  /** Uploads that went on before enough of them had come. */
  #ungathered = 0;
  readonly #uploads = new Set<Upload>();
  /** Sockets on which a request was read. */
  readonly #begun = new WeakSet<Socket>();

  constructor(options: NodeFrontOptions) {
    this.#o = options;
    const { settings } = options;
    this.#server = http.createServer(
      {
        maxHeaderSize: settings.headerBytesMax,
        headersTimeout: settings.headersTimeoutMs,
        requestTimeout: settings.requestTimeoutMs,
        keepAliveTimeout: settings.keepAliveTimeoutMs,
        connectionsCheckingInterval: Math.min(2_000, settings.headersTimeoutMs),
        // Host is checked here, with an answer that says what is wrong.
        requireHostHeader: false,
        insecureHTTPParser: false,
      },
      (request, response) => void this.#serve(request, response, "none"),
    );
    // Node would otherwise cut the list silently; checkRequest refuses what is over the limit.
    this.#server.maxHeadersCount = 0;
    this.#server.on("clientError", (error: NodeJS.ErrnoException, socket) => this.#malformed(error, socket));
    this.#server.on(
      "checkContinue",
      (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response, "continue"),
    );
    this.#server.on(
      "checkExpectation",
      (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response, "unknown"),
    );
    this.#server.on("connect", (_request, socket) => {
      options.metrics.refused("method");
      this.#guard.malformed(socket, "405 Method Not Allowed");
    });
    // It listens to nothing: sockets are handed to it. This event is what begins its own watch over their time limits.
    this.#server.emit("listening");
  }

  /** Connections that it holds. */
  get connections(): number {
    return this.#sockets.size;
  }

  /** Takes a connection whose next bytes are `rest`. */
  accept(socket: Socket, rest: Buffer): void {
    this.#sockets.add(socket);
    socket.once("close", () => {
      this.#sockets.delete(socket);
      this.#lingering.delete(socket);
    });
    if (isOtherProtocol(rest)) {
      this.#o.metrics.refused("malformed");
      this.#guard.malformed(socket, "400 Bad Request");
      socket.resume();
      return;
    }
    lingerAtEnd(socket, () => this.#lingering.add(socket));
    socket.pause();
    if (rest.byteLength > 0) socket.unshift(rest);
    this.#server.emit("connection", socket);
    socket.resume();
  }

  /** Ends uploads that come too slowly. Called about twice a second. */
  sweep(now: MonotonicMs): void {
    const { settings, metrics } = this.#o;
    for (const upload of this.#uploads) {
      const { request } = upload;
      if (request.complete || request.destroyed) {
        this.#uploads.delete(upload);
        continue;
      }
      const elapsedMs = now - upload.beganAt;
      // Content that waits here was not slow to come: the next hop is slow to take it.
      if (elapsedMs < settings.bodyGraceMs) continue;
      if (!upload.isGathering && request.readableLength > 0) continue;
      const bytes = request.socket.bytesRead - upload.bytesBefore;
      if (bytes >= (settings.bodyBytesPerSecondMin * elapsedMs) / 1_000) continue;
      this.#uploads.delete(upload);
      metrics.refused("slow-body");
      this.#guard.malformed(request.socket, "408 Request Timeout");
    }
  }

  /** Node counts what lingers as idle, too: cut, it would lose its last answer. */
  closeIdle(): void {
    for (const socket of this.#lingering) socket.destroy = () => socket;
    this.#server.closeIdleConnections();
    for (const socket of this.#lingering) Reflect.deleteProperty(socket, "destroy");
  }

  /** Node counts a connection that has not sent a whole head as busy: it would hold up the end of a drain. */
  destroyUnbegun(): void {
    for (const socket of this.#sockets) if (!this.#begun.has(socket)) socket.destroy();
  }

  destroyAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.#server.close(() => {});
  }

  /** `expectation`: with `continue` the client sends its content when it is told to (RFC 9110, section 10.1.1). */
  async #serve(
    request: IncomingMessage,
    response: ServerResponse,
    expectation: "none" | "continue" | "unknown",
  ): Promise<void> {
    // Node takes the socket off a request that has ended.
    const { socket } = request;
    if (!this.#guard.begin(socket, request, response)) return;
    const turn = this.#guard.turn(socket);
    if (turn !== true && !(await turn)) return;
    const { settings, metrics, clock, dispatcher, isDraining, isClosingIdle } = this.#o;
    const startedAt = clock.monotonic();
    this.#begun.add(socket);
    // RFC 9112, section 9.3: persistence is the rule in HTTP/1.1 and needs no field; HTTP/1.0 wants to be told. Its end
    // is said (section 9.6): a client that did not hear it would ask again on a connection that closes.
    if (request.httpVersion === "1.1" && response.shouldKeepAlive) response.removeHeader("connection");
    // Only what is being answered counts; what is still being sent is bounded by the connections.
    let isActive = false;
    try {
      const fields = fieldsOf(request.rawHeaders);
      const method = request.method ?? "";
      const checked = checkRequest(
        method,
        request.url ?? "",
        request.httpVersion,
        fields,
        settings,
        isTls(socket) ? "https" : "http",
        this.#o.hostWhenAbsent,
      );
      if (expectation === "unknown") {
        metrics.refused("expectation");
        this.#guard.refuse(socket);
        response.writeHead(417, { Connection: "close", "Content-Length": "0" }).end();
        return;
      }
      if ("refusedStatus" in checked) {
        metrics.refused(checked.reason);
        this.#guard.refuse(socket);
        const answer = ownAnswer(checked.refusedStatus, `Refused: ${checked.message}.\n`);
        await writeAnswer(response, answer, method, true, settings.writeStallMs);
        request.resume();
        return;
      }
      if (this.#guard.endsAt(socket, request)) return;
      // Not Node's own, which it says at once, also for a request that waits for its turn: between head and content of its answer.
      if (expectation === "continue" && checked.hasContent && response.socket !== null)
        response.writeContinue();
      if (checked.hasContent && !(await this.#gather(request, startedAt))) return;
      dispatcher.begin();
      isActive = true;
      await this.#answer(request, response, checked, startedAt);
      isActive = false;
    } catch (error) {
      // A fault of our own. The client gets an answer or a cut connection, never silence.
      this.#o.logger.error("request-failed", { error });
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
      if (isActive) dispatcher.abandon();
      // Idle a moment after its answer has gone.
      if (isDraining())
        response.once("close", () =>
          setImmediate(() => {
            if (isClosingIdle()) this.closeIdle();
          }),
        );
    }
  }

  /** Waits for the beginning of the content, or all of it. False: the client has gone, or was sent away. */
  async #gather(request: IncomingMessage, startedAt: MonotonicMs): Promise<boolean> {
    const { socket } = request;
    const upload = { request, beganAt: startedAt, bytesBefore: socket.bytesRead, isGathering: true };
    this.#uploads.add(upload);
    const isEnough = (): boolean => request.complete || request.readableLength >= GATHERED_BYTES;
    let isLetThrough = false;
    if (!isEnough() && !request.destroyed)
      await new Promise<void>((resolve) => {
        const done = (): void => {
          clearInterval(timer);
          request.off("readable", look);
          request.off("close", look);
          resolve();
        };
        const look = (): void => {
          if (isEnough() || request.destroyed) done();
        };
        const timer = setInterval(() => {
          if (this.#ungathered >= UNGATHERED_MAX || request.readableLength === 0) return;
          isLetThrough = true;
          this.#ungathered++;
          request.once("close", () => this.#ungathered--);
          done();
        }, GATHER_MS);
        request.on("readable", look);
        request.on("close", look);
      });
    upload.isGathering = false;
    return (isEnough() || isLetThrough) && !socket.destroyed;
  }

  async #answer(
    request: IncomingMessage,
    response: ServerResponse,
    checked: CheckedRequest,
    startedAt: MonotonicMs,
  ): Promise<void> {
    const { clock, settings, dispatcher, isDraining } = this.#o;
    const aborter = new AbortController();
    response.once("close", () => {
      if (!response.writableFinished) aborter.abort();
    });
    const inbound = dispatcher.inbound({
      checked,
      path: request.url ?? "",
      httpVersion: request.httpVersion === "1.0" ? "1.0" : "1.1",
      isTls: isTls(request.socket),
      remoteAddress: request.socket.remoteAddress ?? "unknown",
      body: request,
      signal: aborter.signal,
      startedAt,
      // RFC 9110, section 15.2: never to HTTP/1.0.
      sendInterim:
        request.httpVersion === "1.0"
          ? undefined
          : (status, fields) => {
              // Without a socket it is not its turn, or over.
              if (!response.headersSent) response.socket?.write(interimText(status, fields), "latin1");
            },
    });
    const answer = await dispatcher.answer(inbound, checked.host);
    const ttfbMs = clock.monotonic() - startedAt;
    const isBodyLeft = inbound.body !== undefined && !request.complete;
    const isClosing = isDraining() || !response.shouldKeepAlive || (isBodyLeft && answer.status >= 400);
    const result = await writeAnswer(response, answer, checked.method, isClosing, settings.writeStallMs);
    dispatcher.end(inbound, answer, result, ttfbMs);
  }

  #malformed(error: NodeJS.ErrnoException, socket: Duplex): void {
    if (error.code === "ECONNRESET" || !socket.writable) {
      socket.destroy();
      return;
    }
    const isSlow = error.code === "ERR_HTTP_REQUEST_TIMEOUT";
    this.#o.metrics.refused(isSlow ? "slow-head" : "malformed");
    const status =
      error.code === "HPE_HEADER_OVERFLOW"
        ? "431 Request Header Fields Too Large"
        : isSlow
          ? "408 Request Timeout"
          : "400 Bad Request";
    this.#guard.malformed(socket, status);
  }
}

/**
 * The TLS side of the listening port: takes plain TCP connections, does the handshake with the certificate that the client's
 * server name asks for, and hands the secure connection to whoever speaks the protocol that was agreed on (ALPN, RFC 7301).
 */
import type { Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { Clock } from "#kit";
import type { Logger } from "#kit/io";
import type { EdgeSettings } from "../../config.ts";
import { type ListenHandle, Listeners } from "../listening.ts";
import type { CertificateStore } from "./certificate-store.ts";
import { ALPN_PROTOCOLS, SECURE_CONTEXT_OPTIONS } from "./parameters.ts";
import { type TicketKeys, useTicketKeys } from "./ticket-keys.ts";
import { handshakeFailureOf, type TlsMetrics } from "./tls-metrics.ts";

/** What a client gets that names no server, or one of which there is no certificate: the default one, or an alert. */
export type UnknownName = "default" | "refuse";

export interface TlsFrontOptions {
  readonly certificates: CertificateStore;
  readonly unknownName: UnknownName;
  readonly ticketKeys: TicketKeys;
  readonly settings: Pick<EdgeSettings, "tlsHandshakeTimeoutMs" | "tlsHandshakesMax" | "connectionsMax">;
  readonly clock: Clock;
  readonly metrics: TlsMetrics;
  readonly logger: Logger;
  /** A connection on which HTTP/1.1 was agreed, or nothing (RFC 9112, section 2.3: then it is HTTP/1.1). */
  readonly onHttp1: (socket: TLSSocket) => void;
  readonly onHttp2: (socket: TLSSocket) => void;
}

/** From one look at the handshakes in flight to the next, while they are waited for, ms. */
const CLOSE_LOOK_MS = 20;
/** Longest sleep of a timer, ms: setTimeout's limit is 2^31 - 1. */
const TIMER_MAX_MS = 3_600_000;

export class TlsFront {
  readonly #o: TlsFrontOptions;
  /** Never listens: it is given connections. */
  readonly #tls: Server;
  readonly #listeners = new Listeners((socket) => this.accept(socket), true);
  /** Connections that were accepted and are not closed yet, whatever is spoken on them. */
  #connections = 0;
  /** Connections in handshake, by their client's address and port: TLSSocket does not tell which one it was made from. */
  readonly #pending = new Map<string, Socket>();
  readonly #refusedNames = new WeakSet<TLSSocket>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: TlsFrontOptions) {
    this.#o = options;
    const refusedNames = this.#refusedNames;
    this.#tls = createServer({
      ...SECURE_CONTEXT_OPTIONS,
      ALPNProtocols: [...ALPN_PROTOCOLS],
      handshakeTimeout: options.settings.tlsHandshakeTimeoutMs,
      // Node calls it as a method of the connection; a resumed session does not ask.
      SNICallback(this: TLSSocket, name, done) {
        const context = options.certificates.contextFor(name);
        if (context === undefined && options.unknownName === "refuse") refusedNames.add(this);
        // Undefined leaves the server's own context, see applyDefault.
        done(null, context);
      },
    });
    this.#tls.on("secureConnection", (socket) => this.#secured(socket));
    this.#tls.on("tlsClientError", (error, socket) => this.#failed(error, socket));
    options.certificates.onDefaultChanged = () => this.#applyDefault();
    this.#applyDefault();
  }

  /** Handshakes in flight. */
  get handshakes(): number {
    return this.#pending.size;
  }

  /** Takes a TCP connection on which nothing was read yet. */
  accept(socket: Socket): void {
    const { settings, metrics } = this.#o;
    if (this.#pending.size >= settings.tlsHandshakesMax || this.#connections >= settings.connectionsMax) {
      metrics.failure("overload");
      socket.destroy();
      return;
    }
    this.#connections++;
    const key = clientOf(socket);
    this.#pending.set(key, socket);
    socket.once("close", () => {
      this.#connections--;
      if (this.#pending.get(key) === socket) this.#pending.delete(key);
    });
    this.#tls.emit("connection", socket);
  }

  /** Listens and resolves with the port. Rejects with IsochroneError that says what to do. */
  async listen(host: string, port: number): Promise<number> {
    return await this.#listeners.open(host, port);
  }

  /** The sockets that it accepts from. */
  get sockets(): readonly ListenHandle[] {
    return this.#listeners.handles;
  }

  /** Accepts from a socket that was bound elsewhere, beside those that it listens on already. */
  async listenOn(handle: ListenHandle): Promise<void> {
    await this.#listeners.add(handle);
  }

  /** Stops accepting from a socket and lets go of it. */
  stopListening(handle: ListenHandle): void {
    this.#listeners.remove(handle);
  }

  /**
   * Takes no more connections. Handshakes in flight may come to their end for `graceMs`, then they are given up; secure
   * connections are their protocols' business.
   */
  async close(graceMs: number): Promise<void> {
    clearTimeout(this.#timer);
    this.#listeners.close();
    for (let leftMs = graceMs; leftMs > 0 && this.#pending.size > 0; leftMs -= CLOSE_LOOK_MS)
      await new Promise((resolve) => setTimeout(resolve, CLOSE_LOOK_MS));
    for (const socket of this.#pending.values()) socket.destroy();
  }

  #secured(socket: TLSSocket): void {
    this.#pending.delete(clientOf(socket));
    const isHttp2 = socket.alpnProtocol === "h2";
    this.#o.metrics.handshake(
      socket.getProtocol() === "TLSv1.2" ? "1.2" : "1.3",
      isHttp2 ? "h2" : "http/1.1",
      socket.isSessionReused(),
    );
    // Its protocol sets its own limits of time.
    socket.setTimeout(0);
    if (isHttp2) this.#o.onHttp2(socket);
    else {
      // Half a connection is of use to HTTP/1.1 alone, not to a handshake nor to a session of HTTP/2.
      socket.allowHalfOpen = true;
      this.#o.onHttp1(socket);
    }
  }

  #failed(error: Error, socket: TLSSocket): void {
    this.#pending.delete(clientOf(socket));
    const found = handshakeFailureOf((error as NodeJS.ErrnoException).code);
    const isNameless = this.#o.unknownName === "refuse" && found === "cipher" && !socket.servername;
    const reason = isNameless || this.#refusedNames.has(socket) ? "name" : found;
    this.#o.metrics.failure(reason);
    this.#o.logger.debug("tls-handshake-failed", { reason, code: (error as NodeJS.ErrnoException).code });
    // The alert is written already; Node leaves the connection open.
    socket.destroy();
  }

  /**
   * Clients that name no server, and those whose name nobody has, get the server's own context: with the default certificate,
   * or with none, which ends in the alert `handshake_failure`.
   */
  #applyDefault(): void {
    const certificate = this.#o.unknownName === "default" ? this.#o.certificates.default : undefined;
    this.#tls.setSecureContext({
      ...SECURE_CONTEXT_OPTIONS,
      ...(certificate !== undefined && { cert: certificate.chainPem, key: certificate.keyPem }),
    });
    // Tickets are made and read by this context, whichever certificate the name asks for; a new one has random keys.
    this.#useTicketKeys();
  }

  #useTicketKeys(): void {
    const { ticketKeys, clock } = this.#o;
    clearTimeout(this.#timer);
    if (useTicketKeys(this.#tls, ticketKeys, () => clock.epoch())) return;
    const leftMs = Math.min(TIMER_MAX_MS, ticketKeys.leftMs(clock.epoch()));
    this.#timer = setTimeout(() => this.#useTicketKeys(), leftMs);
    this.#timer.unref();
  }
}

function clientOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort}`;
}

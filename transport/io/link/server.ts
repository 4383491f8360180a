/** The answering end of links: takes connections by TLS 1.3 from servers of ours alone, and what they agree on to come by UDP. */
import { isIP, type Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { NodeName } from "#kit";
import { systemClock } from "#kit/io";
import { LINK_ALPN, type LinkLimits, linkDefaults, type SessionReason } from "../../core/link/words.ts";
import type { CloseReason } from "../../core/udp/words.ts";
import type { NodeTrust } from "../node-trust.ts";
import type { UdpEndpoint } from "../udp/endpoint.ts";
import { exportUdpSecret } from "../udp/packet-keys.ts";
import { ServedUdp } from "./served-udp.ts";
import { type LinkRequest, LinkServerSession } from "./server-session.ts";

/** Longest sleep of a timer, ms: setTimeout's limit is 2^31 - 1. A session is not kept for longer. */
const TIMER_MAX_MS = 2 ** 31 - 1;

export interface LinkServerOptions {
  readonly trust: NodeTrust;
  /** Whether a server with such a certificate may come, now. */
  readonly mayCome: (name: NodeName) => boolean;
  readonly limits?: LinkLimits;
  /** Handshakes at once; more are refused. */
  readonly handshakesMax: number;
  readonly handshakeTimeoutMs: number;
  readonly handle: (request: LinkRequest) => void;
  /** A connection is gone, of which `sessions` counts no more. */
  readonly onGone?: (() => void) | undefined;
}

/** What a server counts; all only grow. `refused`: a handshake that failed, or was one too many. */
export interface LinkServerCounters {
  sessions: number;
  requests: number;
  refused: number;
  /** Sessions that have ended, by why. */
  readonly ends: Map<SessionReason | "lost", number>;
  /** UDP carriers that were agreed on, those that were too many, requests that came by them, and why they ended. */
  udpOpened: number;
  udpRefused: number;
  udpRequests: number;
  readonly udpEnds: Map<CloseReason, number>;
}

/** Speaks the link protocol, as the answering end, on connections that somebody else has accepted. */
export class LinkServer {
  readonly #o: LinkServerOptions;
  /** Never listens: it is given connections. */
  readonly #tls: Server;
  readonly #sessions = new Set<LinkServerSession>();
  /** Connections in handshake, by their client's address and port: TLSSocket does not tell which one it was made from. */
  readonly #handshakes = new Map<string, Socket>();
  readonly #served = new Set<ServedUdp>();
  #udp: UdpEndpoint | undefined;
  #isDraining = false;
  readonly counters: LinkServerCounters = {
    sessions: 0,
    requests: 0,
    refused: 0,
    ends: new Map(),
    udpOpened: 0,
    udpRefused: 0,
    udpRequests: 0,
    udpEnds: new Map(),
  };

  constructor(options: LinkServerOptions) {
    this.#o = options;
    this.#tls = createServer({
      ...options.trust.serverOptions(LINK_ALPN),
      handshakeTimeout: options.handshakeTimeoutMs,
    });
    options.trust.bind(this.#tls, LINK_ALPN);
    this.#tls.on("secureConnection", (socket) => this.#secured(socket));
    this.#tls.on("tlsClientError", (_error, socket) => {
      // Its connection closes, and is told of then.
      this.counters.refused++;
      socket.destroy();
    });
  }

  /** Connections, those in their handshake among them. */
  get connections(): number {
    return this.#sessions.size + this.#handshakes.size + this.#served.size;
  }
  get sessions(): number {
    return this.#sessions.size;
  }
  /** UDP carriers. */
  get udpConnections(): number {
    return this.#served.size;
  }
  /** What the socket of the UDP carriers counts; undefined: there is none. */
  get udp(): UdpEndpoint | undefined {
    return this.#udp;
  }
  /** Requests that are being answered. */
  get streams(): number {
    let count = 0;
    for (const { connection } of this.#sessions) count += connection.session.streams;
    for (const { streams } of this.#served) count += streams;
    return count;
  }

  /** Takes the UDP carrier too; sessions that begin from now on are told. The socket is closed with this server. */
  setUdp(endpoint: UdpEndpoint): void {
    this.#udp = endpoint;
  }

  /** Takes a TCP connection whose next bytes are `rest`. */
  accept(socket: Socket, rest: Buffer): void {
    if (this.#handshakes.size >= this.#o.handshakesMax) {
      this.counters.refused++;
      socket.destroy();
      return;
    }
    const key = clientOf(socket);
    this.#handshakes.set(key, socket);
    socket.once("close", () => {
      if (this.#handshakes.get(key) !== socket) return;
      this.#handshakes.delete(key);
      this.#o.onGone?.();
    });
    socket.pause();
    if (rest.byteLength > 0) socket.unshift(rest);
    this.#tls.emit("connection", socket);
  }

  /**
   * Ends every session when what it has begun is answered. In two steps, as HTTP/2 does (RFC 9113, section 6.8): content that is on its way
   * with its request could not be sent a second time.
   */
  drain(): void {
    this.#isDraining = true;
    for (const session of this.#sessions) session.announceEnd();
  }

  /** Ends the sessions of servers that may not come any more. */
  recheck(): void {
    for (const { connection, node } of this.#sessions) if (!this.#o.mayCome(node.name)) connection.destroy();
    for (const udp of this.#served) if (!this.#o.mayCome(udp.node.name)) udp.close();
  }

  /** Cuts what is left. */
  destroy(): void {
    for (const { connection } of this.#sessions) connection.destroy();
    for (const socket of this.#handshakes.values()) socket.destroy();
    void this.#udp?.close();
    this.#udp = undefined;
  }

  #secured(socket: TLSSocket): void {
    this.#handshakes.delete(clientOf(socket));
    const peer = this.#o.trust.peerOf(socket);
    // Who offers no protocol at all gets through the handshake.
    const isLink = LINK_ALPN.includes(socket.alpnProtocol || "");
    if (typeof peer === "string" || !isLink || !this.#o.mayCome(peer.name)) {
      this.counters.refused++;
      socket.destroy();
      this.#o.onGone?.();
      return;
    }
    this.counters.sessions++;
    socket.setTimeout(0);
    let expiry: NodeJS.Timeout | undefined;
    const from = { node: peer, remoteAddress: socket.remoteAddress ?? "unknown" };
    const limits = { ...(this.#o.limits ?? linkDefaults), udpPort: this.#udp?.port };
    const session = new LinkServerSession(socket, from, limits, {
      handle: (request) => {
        this.counters.requests++;
        this.#o.handle(request);
      },
      handleUdp: (context) => this.#openUdp(session, socket, context),
      onGone: () => {
        clearTimeout(expiry);
        const { endReason, isDraining } = session.connection.session;
        const why = endReason ?? (isDraining || session.isLeaving ? "done" : "lost");
        this.counters.ends.set(why, (this.counters.ends.get(why) ?? 0) + 1);
        this.#sessions.delete(session);
        this.#o.onGone?.();
      },
    });
    this.#sessions.add(session);
    // What a certificate has opened goes on for no longer than it holds.
    const leftMs = Math.max(0, peer.notAfterEpochMs - systemClock.epoch());
    expiry = setTimeout(() => session.announceEnd(), Math.min(leftMs, TIMER_MAX_MS));
    expiry.unref();
    // Its handshake began before the drain.
    if (this.#isDraining) session.announceEnd();
  }

  #openUdp(session: LinkServerSession, socket: TLSSocket, context: number): void {
    session.udp?.close();
    const secret = exportUdpSecret(socket, context);
    if (this.#udp === undefined || secret === undefined || isIP(session.remoteAddress) === 0) return;
    const served = ServedUdp.open({
      endpoint: this.#udp,
      secret,
      node: session.node,
      remoteAddress: session.remoteAddress,
      limits: this.#o.limits ?? linkDefaults,
      handle: (request) => {
        this.counters.requests++;
        this.counters.udpRequests++;
        this.#o.handle(request);
      },
      onGone: (reason) => {
        this.counters.udpEnds.set(reason, (this.counters.udpEnds.get(reason) ?? 0) + 1);
        if (served !== undefined) this.#served.delete(served);
        this.#o.onGone?.();
      },
    });
    session.udp = served;
    if (served === undefined) this.counters.udpRefused++;
    else {
      this.counters.udpOpened++;
      this.#served.add(served);
    }
  }
}

function clientOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort}`;
}

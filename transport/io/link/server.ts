/** The answering end of links: the requests of one connection, and who takes connections by TLS 1.3 from servers of ours alone. */
import type { Socket } from "node:net";
import { Readable } from "node:stream";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { NodeName, ServerId } from "#kit";
import { systemClock } from "#kit/io";
import {
  type FlatFields,
  LINK_ALPN,
  type LinkEvent,
  type LinkLimits,
  type LinkRequestHead,
  linkDefaults,
  type SessionReason,
} from "../../core/link/words.ts";
import { LinkConnection } from "./connection.ts";
import type { NodePeer, NodeTrust } from "../node-trust.ts";

/** From the notice that a session will end until it takes no more requests, ms: a round trip around the earth. */
const NOTICE_MS = 500;
/** Longest sleep of a timer, ms: setTimeout's limit is 2^31 - 1. A session is not kept for longer. */
const TIMER_MAX_MS = 2 ** 31 - 1;
/** Content of an answer that waits before {@link LinkRequest.write} says so, bytes. */
const QUEUED_BYTES_MAX = 262_144;

/** A request that came over a link, to be answered. */
export class LinkRequest {
  readonly head: LinkRequestHead;
  /** Undefined: it has no content. */
  readonly body: Readable | undefined;
  /** Who asks: proven by the connection. */
  readonly peer: ServerId;
  readonly remoteAddress: string;
  readonly #id: number;
  readonly #connection: LinkConnection;
  /** The client, or its session, is gone: nothing that is written leaves. */
  isGone = false;
  /** Called once when the client, or its session, is gone before the answer has ended. */
  onGone: (() => void) | undefined;
  /** Called when all that was written has left. */
  onDrain: (() => void) | undefined;

  constructor(id: number, head: LinkRequestHead, hasContent: boolean, session: LinkServerSession) {
    this.#id = id;
    this.head = head;
    this.peer = session.node.name.serverId;
    this.remoteAddress = session.remoteAddress;
    this.#connection = session.connection;
    this.body = hasContent ? new Readable({ read: () => this.#read() }) : undefined;
    // Whoever forwards it may have stopped listening when the client goes.
    this.body?.on("error", () => {});
  }

  /** Sends the head of the answer, or an interim one. Throws TypeError for what no head can say. */
  writeHead(status: number, fields: FlatFields, isEnd = false): void {
    const fault = this.#connection.session.respond(this.#id, { status, fields }, isEnd);
    if (fault !== undefined) throw new TypeError(`A link cannot carry this answer: ${fault}`);
    this.#connection.wake();
  }

  /** Queues content, which must not change any more. False: enough waits, {@link onDrain} will say when it has left. */
  write(bytes: Uint8Array): boolean {
    const { session } = this.#connection;
    session.send(this.#id, bytes);
    this.#connection.wake();
    return session.queuedBytes(this.#id) < QUEUED_BYTES_MAX;
  }

  end(trailers?: FlatFields): void {
    this.#connection.session.end(this.#id, trailers);
    this.#connection.wake();
  }

  /** What was written and has not left, bytes. */
  get queuedBytes(): number {
    return this.#connection.session.queuedBytes(this.#id);
  }

  /** Breaks the answer off, so that nobody takes a part for the whole. */
  cut(): void {
    this.#connection.session.cancel(this.#id, "internal");
    this.#connection.wake();
  }

  /** @internal */
  handleEvent(event: LinkEvent): void {
    if (event.kind === "data") {
      this.#unread += event.bytes.byteLength;
      if (event.bytes.byteLength > 0) this.body?.push(event.bytes);
      if (event.isEnd) this.body?.push(null);
    } else if (event.kind === "trailers") this.body?.push(null);
    else if (event.kind === "drained") this.onDrain?.();
    else if (event.kind === "cancelled") {
      this.isGone = true;
      this.body?.destroy(new Error(`the client gave the request up (${event.reason})`));
      this.onGone?.();
    }
  }

  /** Handed to the body and not counted as used yet: its reader asks for more when it has taken them. */
  #unread = 0;

  #read(): void {
    if (this.#unread === 0) return;
    this.#connection.session.consume(this.#id, this.#unread, systemClock.monotonic());
    this.#unread = 0;
    this.#connection.wake();
  }
}

interface SessionUser {
  readonly handle: (request: LinkRequest) => void;
  readonly onGone: () => void;
}

/** The requests of one connection. */
export class LinkServerSession {
  readonly node: NodePeer;
  readonly remoteAddress: string;
  readonly connection: LinkConnection;
  readonly #requests = new Map<number, LinkRequest>();
  readonly #user: SessionUser;
  /** It was told that it ends. */
  isLeaving = false;

  constructor(socket: TLSSocket, node: NodePeer, limits: LinkLimits, user: SessionUser) {
    this.node = node;
    this.remoteAddress = socket.remoteAddress ?? "unknown";
    this.#user = user;
    this.connection = new LinkConnection("server", socket, limits, this);
  }

  handleEvent(event: LinkEvent): void {
    if (event.kind === "request") {
      const request = new LinkRequest(event.id, event.head, !event.isEnd, this);
      this.#requests.set(event.id, request);
      this.#user.handle(request);
    } else if ("id" in event) {
      this.#requests.get(event.id)?.handleEvent(event);
      if (event.kind === "cancelled" || event.kind === "done") this.#requests.delete(event.id);
    }
  }

  /** Asks the client to begin nothing new, and ends when all that was begun is answered. */
  announceEnd(): void {
    if (this.isLeaving) return;
    this.isLeaving = true;
    const { connection } = this;
    connection.session.announceEnd();
    connection.wake();
    setTimeout(() => {
      connection.session.drain();
      connection.wake();
    }, NOTICE_MS).unref();
  }

  handleGone(): void {
    for (const [id, request] of this.#requests)
      request.handleEvent({ kind: "cancelled", id, reason: "session-lost" });
    this.#requests.clear();
    this.#user.onGone();
  }
}

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
}

/** Speaks the link protocol, as the answering end, on connections that somebody else has accepted. */
export class LinkServer {
  readonly #o: LinkServerOptions;
  /** Never listens: it is given connections. */
  readonly #tls: Server;
  readonly #sessions = new Set<LinkServerSession>();
  /** Connections in handshake, by their client's address and port: TLSSocket does not tell which one it was made from. */
  readonly #handshakes = new Map<string, Socket>();
  #isDraining = false;
  readonly counters: LinkServerCounters = { sessions: 0, requests: 0, refused: 0, ends: new Map() };

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
    return this.#sessions.size + this.#handshakes.size;
  }
  get sessions(): number {
    return this.#sessions.size;
  }
  /** Requests that are being answered. */
  get streams(): number {
    let count = 0;
    for (const { connection } of this.#sessions) count += connection.session.streams;
    return count;
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
  }

  /** Cuts what is left. */
  destroy(): void {
    for (const { connection } of this.#sessions) connection.destroy();
    for (const socket of this.#handshakes.values()) socket.destroy();
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
    const session = new LinkServerSession(socket, peer, this.#o.limits ?? linkDefaults, {
      handle: (request) => {
        this.counters.requests++;
        this.#o.handle(request);
      },
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
}

function clientOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort}`;
}

/** The serving end of links: requests of one connection for a handler, and a listener of TLS 1.3 that knows its peers by certificate. */
import type { AddressInfo } from "node:net";
import { type Duplex, Readable } from "node:stream";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { listenError, systemClock } from "#kit/io";
import {
  type FlatFields,
  LINK_ALPN,
  type LinkEvent,
  type LinkLimits,
  type LinkRequestHead,
  linkDefaults,
} from "../../core/link/words.ts";
import { LinkConnection } from "./connection.ts";

/** Content of an answer that waits before {@link LinkRequest.write} says so, bytes. */
const QUEUED_BYTES_MAX = 262_144;

/** A request that came over a link, to be answered. */
export class LinkRequest {
  readonly head: LinkRequestHead;
  /** Undefined: it has no content. */
  readonly body: Readable | undefined;
  readonly #id: number;
  readonly #connection: LinkConnection;
  /** Called once when the client, or its session, is gone before the answer has ended. */
  onGone: (() => void) | undefined;
  /** Called when all that was written has left. */
  onDrain: (() => void) | undefined;

  constructor(id: number, head: LinkRequestHead, hasContent: boolean, connection: LinkConnection) {
    this.#id = id;
    this.head = head;
    this.#connection = connection;
    this.body = hasContent ? new Readable({ read: () => this.#read() }) : undefined;
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

/** The requests of one connection. */
export class LinkServerSession {
  readonly connection: LinkConnection;
  readonly #requests = new Map<number, LinkRequest>();
  readonly #handle: (request: LinkRequest) => void;
  readonly #onGone: () => void;

  constructor(
    socket: Duplex,
    limits: LinkLimits,
    handle: (request: LinkRequest) => void,
    onGone: () => void,
  ) {
    this.#handle = handle;
    this.#onGone = onGone;
    this.connection = new LinkConnection("server", socket, limits, this);
  }

  handleEvent(event: LinkEvent): void {
    if (event.kind === "request") {
      const request = new LinkRequest(event.id, event.head, !event.isEnd, this.connection);
      this.#requests.set(event.id, request);
      this.#handle(request);
    } else if ("id" in event) {
      this.#requests.get(event.id)?.handleEvent(event);
      if (event.kind === "cancelled" || event.kind === "done") this.#requests.delete(event.id);
    }
  }

  handleGone(): void {
    for (const [id, request] of this.#requests)
      request.handleEvent({ kind: "cancelled", id, reason: "session-lost" });
    this.#requests.clear();
    this.#onGone();
  }
}

export interface LinkListenerOptions {
  /** PEM. */
  readonly certificate: { readonly cert: string; readonly key: string };
  /** Who signs the certificates of those that may come, PEM. */
  readonly ca: string;
  readonly limits?: LinkLimits;
  /** Connections at once, handshakes included; more are refused. */
  readonly connectionsMax?: number;
  readonly handle: (request: LinkRequest) => void;
}

const CONNECTIONS_MAX = 4_096;
const HANDSHAKE_TIMEOUT_MS = 5_000;

/** Takes links of TLS 1.3 from whoever has a certificate of `ca`, and nothing else. */
export class LinkListener {
  readonly #o: LinkListenerOptions;
  readonly #server: Server;
  readonly #sessions = new Set<LinkServerSession>();
  /** Only grow. `refused`: no certificate, another protocol, a handshake that failed. */
  readonly counters = { sessions: 0, refused: 0 };

  constructor(options: LinkListenerOptions) {
    this.#o = options;
    this.#server = createServer({
      ...options.certificate,
      ca: options.ca,
      minVersion: "TLSv1.3",
      requestCert: true,
      rejectUnauthorized: true,
      ALPNProtocols: [...LINK_ALPN],
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    });
    this.#server.maxConnections = options.connectionsMax ?? CONNECTIONS_MAX;
    this.#server.on("secureConnection", (socket) => this.#secured(socket));
    this.#server.on("tlsClientError", (_error, socket) => {
      this.counters.refused++;
      socket.destroy();
    });
  }

  /** Listens and resolves with the port. Rejects with IsochroneError that says what to do. */
  async listen(host: string, port: number): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (error) => reject(listenError(error, host, port)));
      this.#server.listen({ host, port, noDelay: true }, resolve);
    });
    return (this.#server.address() as AddressInfo).port;
  }

  /** Takes nothing new; what is under way is finished within `graceMs`, then cut. */
  async close(graceMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const { connection } of this.#sessions) {
      connection.session.drain();
      connection.wake();
    }
    const timer = setTimeout(() => {
      for (const { connection } of this.#sessions) connection.destroy();
    }, graceMs);
    await closed;
    clearTimeout(timer);
  }

  #secured(socket: TLSSocket): void {
    // Who offers no protocol at all gets through the handshake.
    if (!LINK_ALPN.includes(socket.alpnProtocol || "")) {
      this.counters.refused++;
      socket.destroy();
      return;
    }
    this.counters.sessions++;
    const session = new LinkServerSession(socket, this.#o.limits ?? linkDefaults, this.#o.handle, () =>
      this.#sessions.delete(session),
    );
    this.#sessions.add(session);
  }
}

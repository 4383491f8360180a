/** The answering end of one session: its requests, over TLS or over a channel of UDP. */
import { type Duplex, Readable } from "node:stream";
import type { ServerId } from "#kit";
import { systemClock } from "#kit/io";
import type { FlatFields, LinkEvent, LinkLimits, LinkRequestHead } from "../../core/link/words.ts";
import type { NodePeer } from "../node-trust.ts";
import { endsWithSegment } from "../../core/segment-filling.ts";
import { LinkConnection } from "./connection.ts";

/** From the notice that a session will end until it takes no more requests, ms: a round trip around the earth. */
const NOTICE_MS = 500;
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
  #id: number;
  #connection: LinkConnection;
  #trailers: FlatFields | undefined;
  #hasContent = false;
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
    // The first piece shared its segment with a head.
    this.#connection.wake(!this.#hasContent || endsWithSegment(bytes.byteLength));
    this.#hasContent = true;
    return session.queuedBytes(this.#id) < QUEUED_BYTES_MAX;
  }

  end(trailers?: FlatFields): void {
    this.#trailers = trailers;
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

  /** @internal What has not left goes by another session. False: there is nothing left to move. */
  moveTo(connection: LinkConnection, id: number): boolean {
    const before = this.#connection;
    const rest = before.session.takeBack(this.#id);
    if (rest === undefined) return false;
    before.session.cancel(this.#id, "moved");
    before.wake();
    this.#connection = connection;
    this.#id = id;
    for (const piece of rest.content) connection.session.send(id, piece);
    if (rest.isEnd) connection.session.end(id, this.#trailers);
    connection.wake();
    return true;
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

/** A carrier that was agreed on over a session. */
export interface AgreedCarrier {
  announceEnd(): void;
  /** Lets go of a request whose answer goes on elsewhere; undefined: it is over. */
  release(channel: number, stream: number): LinkRequest | undefined;
  /** The session is gone. */
  handleTlsGone(): void;
  close(): void;
}

export interface ServerSessionUser {
  readonly handle: (request: LinkRequest) => void;
  /** The client will come by UDP. */
  readonly handleUdp?: (context: number) => void;
  readonly onGone: () => void;
}

/** The requests of one connection. */
export class LinkServerSession {
  readonly node: NodePeer;
  readonly remoteAddress: string;
  readonly connection: LinkConnection;
  readonly #requests = new Map<number, LinkRequest>();
  readonly #user: ServerSessionUser;
  /** It was told that it ends. */
  isLeaving = false;
  /** The UDP carrier that was agreed on over it last. */
  udp: AgreedCarrier | undefined;

  constructor(
    socket: Duplex,
    from: { readonly node: NodePeer; readonly remoteAddress: string },
    limits: LinkLimits,
    user: ServerSessionUser,
  ) {
    this.node = from.node;
    this.remoteAddress = from.remoteAddress;
    this.#user = user;
    this.connection = new LinkConnection("server", socket, limits, this);
  }

  handleEvent(event: LinkEvent): void {
    if (event.kind === "request") {
      const request = new LinkRequest(event.id, event.head, !event.isEnd, this);
      this.#requests.set(event.id, request);
      this.#user.handle(request);
    } else if (event.kind === "move") this.#move(event.id, this.udp?.release(event.channel, event.stream));
    else if (event.kind === "udp") this.#user.handleUdp?.(event.context);
    else if ("id" in event) {
      this.#requests.get(event.id)?.handleEvent(event);
      if (event.kind === "cancelled" || event.kind === "done") this.#requests.delete(event.id);
    }
  }

  #move(id: number, request: LinkRequest | undefined): void {
    if (request?.moveTo(this.connection, id) === true) this.#requests.set(id, request);
    else {
      this.connection.session.cancel(id, "refused");
      this.connection.wake();
    }
  }

  /** Lets go of a request. */
  release(id: number): LinkRequest | undefined {
    const request = this.#requests.get(id);
    this.#requests.delete(id);
    return request;
  }

  /** Asks the client to begin nothing new, and ends when all that was begun is answered. */
  announceEnd(): void {
    if (this.isLeaving) return;
    this.isLeaving = true;
    const { connection } = this;
    this.udp?.announceEnd();
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
    this.udp?.handleTlsGone();
    this.#user.onGone();
  }
}

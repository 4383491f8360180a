/**
 * DNS over TCP (RFC 7766): messages with a two-octet length, many on one connection, answered in order. Connections are
 * limited in number, in idle time and in what they may leave unread, so that a slow or greedy peer costs itself only.
 */
import { createServer, type Server, type Socket } from "node:net";
import type { Server as TlsServer } from "node:tls";

/** Takes one message and the sender's address as text, with its port; several answers: a transfer, where empty ones stand for a pause; undefined: silence. Must not throw. */
export type TcpHandler = (
  bytes: Uint8Array,
  address: string,
  port: number,
) => Uint8Array | Iterable<Uint8Array> | undefined;

export interface TcpSettings {
  /** Open connections in all (RFC 7766 section 6.2.2). */
  readonly connectionsMax: number;
  /** Open connections from one address. */
  readonly connectionsPerAddressMax: number;
  /** From one whole query to the next, ms (RFC 7766 section 6.2.3); a query that trickles in does not extend it. */
  readonly idleTimeoutMs: number;
  /** Queries on one connection; then it is closed and the client opens another. */
  readonly queriesMax: number;
  /** Octets of answers that a client may leave unread before its further queries wait. */
  readonly unreadBytesMax: number;
}

/** Resolvers come over TCP for a truncated answer now and then; none needs more than this. */
export const tcpDefaults: TcpSettings = {
  connectionsMax: 512,
  connectionsPerAddressMax: 64,
  idleTimeoutMs: 10_000,
  queriesMax: 10_000,
  unreadBytesMax: 262_144,
};

export interface TcpCounters {
  accepted: number;
  /** Refused at accept: too many in all, or from one address. */
  refused: number;
  /** Closed because no whole query came, or the answers were not read, in time. */
  timedOut: number;
  /** Closed after `queriesMax` queries. */
  exhausted: number;
  /** Closed because a message of length 0 was announced, or one that gets no answer. */
  violations: number;
}

/** In PEM: the chain, the server's own certificate first, and its key. */
export interface TlsIdentity {
  readonly certificate: string;
  readonly key: string;
}

/** RFC 7858 section 3.1: a client that offers protocols offers this one. */
const DOT_PROTOCOL = "dot";
const HANDSHAKE_TIMEOUT_MS = 5_000;

async function createTlsServer(identity: TlsIdentity | "none yet"): Promise<Server> {
  const tls = await import("node:tls");
  const server = tls.createServer({
    ...(identity !== "none yet" && { cert: identity.certificate, key: identity.key }),
    ALPNProtocols: [DOT_PROTOCOL],
    minVersion: "TLSv1.2",
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    noDelay: true,
  });
  return server;
}

function isTls(server: Server): server is TlsServer {
  return "setSecureContext" in server;
}

/** One listening socket. */
export class TcpListener {
  readonly #server: Server;
  readonly #tls: TlsServer | undefined;
  readonly #settings: TcpSettings;
  readonly #handler: TcpHandler;
  readonly #connections = new Set<Connection>();
  /** Connections, with those that have not shaken hands over TLS. */
  #open = 0;
  readonly #perAddress = new Map<string, number>();
  readonly counters: TcpCounters = { accepted: 0, refused: 0, timedOut: 0, exhausted: 0, violations: 0 };

  private constructor(server: Server, handler: TcpHandler, settings: TcpSettings) {
    this.#server = server;
    this.#handler = handler;
    this.#settings = settings;
    this.#tls = isTls(server) ? server : undefined;
    // Over TLS too it is the connection that counts, so that nobody takes all of them by shaking no hand.
    server.on("connection", (socket: Socket) => this.#admit(socket));
    server.on(this.#tls === undefined ? "connection" : "secureConnection", (socket: Socket) =>
      this.#serve(socket),
    );
    server.on("tlsClientError", (_error: Error, socket: Socket) => {
      this.counters.violations++;
      socket.destroy();
    });
    server.on("error", () => {
      // Accepting failed for want of descriptors; the next attempt may do.
      this.counters.refused++;
    });
  }

  /** Binds; rejects with the system's error. */
  static async bind(
    address: string,
    port: number,
    handler: TcpHandler,
    options: {
      readonly reusePort?: boolean;
      readonly settings?: Partial<TcpSettings>;
      /** Speak TLS (RFC 7858); before there is an identity no handshake succeeds. */
      readonly tls?: TlsIdentity | "none yet" | undefined;
      /** A {@link TcpListener.handle} of another process, in place of a socket of our own. */
      readonly lent?: unknown;
    } = {},
  ): Promise<TcpListener> {
    const settings = { ...tcpDefaults, ...options.settings };
    const server =
      options.tls === undefined
        ? createServer({
            // A client that sends its query and its FIN still gets the answer.
            allowHalfOpen: true,
            noDelay: true,
            highWaterMark: settings.unreadBytesMax,
          })
        : await createTlsServer(options.tls);
    // Before the first connection is accepted there is somebody who takes it.
    const listener = new TcpListener(server, handler, settings);
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      const onListening = (): void => {
        server.off("error", reject);
        resolve();
      };
      if (options.lent !== undefined) server.listen(options.lent, onListening);
      else
        server.listen(
          { host: address, port, reusePort: options.reusePort ?? false, backlog: 511 },
          onListening,
        );
    });
    return listener;
  }

  /** What another process can accept by, and go on when this one has closed it. */
  get handle(): unknown {
    return (this.#server as unknown as { readonly _handle?: unknown })._handle;
  }

  /** Connections from now on get this certificate. Throws when it does not fit its key. */
  setIdentity({ certificate, key }: TlsIdentity): void {
    this.#tls?.setSecureContext({ cert: certificate, key });
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** One that is refused is destroyed. */
  #admit(socket: Socket): void {
    const address = socket.remoteAddress;
    const open = address === undefined ? 0 : (this.#perAddress.get(address) ?? 0);
    const { connectionsMax, connectionsPerAddressMax } = this.#settings;
    if (address === undefined || this.#open >= connectionsMax || open >= connectionsPerAddressMax) {
      this.counters.refused++;
      socket.on("error", () => {});
      socket.destroy();
      return;
    }
    this.#open++;
    this.#perAddress.set(address, open + 1);
    socket.once("close", () => {
      this.#open--;
      const left = (this.#perAddress.get(address) ?? 1) - 1;
      if (left > 0) this.#perAddress.set(address, left);
      else this.#perAddress.delete(address);
    });
  }

  #serve(socket: Socket): void {
    const address = socket.remoteAddress;
    if (socket.destroyed || address === undefined) return;
    this.counters.accepted++;
    const connection = new Connection(socket, address, this.#handler, this.#settings, this.counters);
    this.#connections.add(connection);
    socket.once("close", () => this.#connections.delete(connection));
  }

  /** Accepts no more, ends every connection after the answers under way, or its first one, kills those that do not read them in time. */
  async close(graceMs = 1_000): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of this.#connections) connection.drain();
    const timer = setTimeout(() => {
      for (const connection of this.#connections) connection.destroy();
    }, graceMs);
    await closed;
    clearTimeout(timer);
  }
}

/** RFC 1035 section 4.2.2. */
function framed(message: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(2 + message.length);
  bytes.writeUInt16BE(message.length, 0);
  bytes.set(message, 2);
  return bytes;
}

class Connection {
  readonly #socket: Socket;
  readonly #address: string;
  readonly #port: number;
  readonly #handler: TcpHandler;
  readonly #settings: TcpSettings;
  readonly #counters: TcpCounters;
  /** What came and is not answered yet: less than one message, or what waits for the client to read. */
  #received: Buffer = Buffer.alloc(0);
  #queries = 0;
  /** What of an answer in several messages is still to be sent; further queries wait. */
  #rest: Iterator<Uint8Array> | undefined;
  #isEnded = false;
  /** What is asked next is the last. */
  #isLast = false;
  #timer: NodeJS.Timeout;

  constructor(
    socket: Socket,
    address: string,
    handler: TcpHandler,
    settings: TcpSettings,
    counters: TcpCounters,
  ) {
    this.#socket = socket;
    this.#address = address;
    this.#port = socket.remotePort ?? 0;
    this.#handler = handler;
    this.#settings = settings;
    this.#counters = counters;
    this.#timer = setTimeout(() => this.#timeOut(), settings.idleTimeoutMs);
    socket.on("data", (chunk: Buffer) => {
      // After our FIN nothing is answered any more, so nothing is kept.
      if (socket.writableEnded) return;
      this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
      this.#answer();
    });
    socket.on("drain", () => this.#goOn());
    socket.on("end", () => this.end());
    socket.on("error", () => socket.destroy());
    socket.once("close", () => clearTimeout(this.#timer));
  }

  /** Sends what is under way, then FIN. */
  end(): void {
    this.#isEnded = true;
    if (!this.#isBusy()) this.#socket.end();
  }

  /** The same, but who has not asked yet, or has not finished asking, gets that answer: its query may be on its way. */
  drain(): void {
    if (this.#queries > 0 && this.#received.length === 0) this.end();
    else this.#isLast = true;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /**
   * Further queries wait: as much as `unreadBytesMax` is unread (the socket's high-water mark; "drain" will tell when it is not), or an
   * answer is under way.
   */
  #isBusy(): boolean {
    return this.#socket.writableNeedDrain || this.#rest !== undefined;
  }

  /** After something was sent. */
  #goOn(): void {
    if (this.#isBusy()) return;
    this.#answer();
    if (!this.#isBusy()) this.#socket.resume();
  }

  #timeOut(): void {
    this.#counters.timedOut++;
    this.#socket.destroy();
  }

  #answer(): void {
    const socket = this.#socket;
    const { queriesMax } = this.#settings;
    let at = 0;
    let answered = false;
    socket.cork();
    while (
      !socket.writableEnded &&
      !this.#isBusy() &&
      this.#queries < queriesMax &&
      this.#received.length - at >= 2
    ) {
      const length = this.#received.readUInt16BE(at);
      if (length === 0) {
        this.#violate();
        break;
      }
      if (this.#received.length - at < 2 + length) break;
      const answer = this.#handler(
        this.#received.subarray(at + 2, at + 2 + length),
        this.#address,
        this.#port,
      );
      at += 2 + length;
      answered = true;
      // What gets silence over UDP is no query; over TCP there is no reason to go on with such a peer.
      if (answer === undefined) {
        this.#violate();
        break;
      }
      if (answer instanceof Uint8Array) socket.write(framed(answer));
      else {
        this.#rest = answer[Symbol.iterator]();
        setImmediate(() => this.#sendRest());
      }
      if (++this.#queries < queriesMax) continue;
      this.#counters.exhausted++;
      this.#isEnded = true;
    }
    // A copy, so that a small rest does not keep a large chunk alive.
    this.#received = at === 0 ? this.#received : Buffer.from(this.#received.subarray(at));
    socket.uncork();
    if (answered) this.#timer.refresh();
    if (answered && this.#isLast && this.#received.length === 0) this.#isEnded = true;
    if (this.#isBusy()) socket.pause();
    else if (this.#isEnded && !socket.writableEnded) socket.end();
  }

  /**
   * The next message of a long answer, and the one behind it when the peer has room for it: no more than one lies here, whoever asks
   * something else has its turn between two, and a peer that reads slowly keeps its connection for as long as it reads.
   */
  #sendRest(): void {
    const next = this.#rest?.next();
    if (next === undefined || this.#socket.destroyed) return;
    if (next.done === true) {
      this.#rest = undefined;
      this.#goOn();
      return;
    }
    const goOn = (): void => void setImmediate(() => this.#sendRest());
    if (next.value.length === 0) return goOn();
    this.#socket.write(framed(next.value), () => {
      this.#timer.refresh();
      goOn();
    });
  }

  #violate(): void {
    this.#counters.violations++;
    this.#received = Buffer.alloc(0);
    this.#socket.end();
    // It may go on sending: nobody reads it.
    this.#socket.pause();
    this.#socket.destroySoon();
  }
}

/**
 * The relay: forwards connections for servers of ours to permitted targets (CONNECT, RFC 9110 section 9.3.6, over TLS by which both ends
 * know each other), and nothing else. Who may have what is `core/relay-policy.ts`; this moves the bytes and keeps the limits.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createServer as createTlsServer, type Server as TlsServer, type TLSSocket } from "node:tls";
import {
  type Clock,
  IsochroneError,
  type PropertyDocument,
  type ServerId,
  type TopologyDocument,
} from "#kit";
import { type Logger, listenError, http } from "#kit/io";
import { type RelayAccount, RelayAccounts } from "../core/relay-accounts.ts";
import { RELAY_ALPN, type RelayReason, RelayPolicy } from "../core/relay-policy.ts";
import { dial, type DialOptions } from "./dial.ts";
import { beginsHandshake, type NodePeer, type NodeTrust } from "./node-trust.ts";
import { SegmentWriter } from "./segment-writer.ts";
import { SharedRate, type SharedStream } from "./shared-rate.ts";

export type RelaySettings = {
  /** Open tunnels in all, and of one peer. */
  readonly tunnelsMax: number;
  readonly tunnelsPerPeerMax: number;
  /** Bytes of all tunnels, both ways together; customers that want more than there is have equal parts. */
  readonly bytesPerSecondMax: number;
  /** A tunnel without a byte for this long ends, ms. Longer than the pools of peers keep idle connections. */
  readonly idleMs: number;
  /** For the connection to the target, ms. */
  readonly connectTimeoutMs: number;
  /** Head of a CONNECT request, bytes. Bytes in flight a tunnel are bounded by the sockets' own marks, 64 KiB each way. */
  readonly headerBytesMax: number;
  /** The first byte, the handshake and the head of a CONNECT must each be complete by then, ms. */
  readonly headersTimeoutMs: number;
  /** Connections that have not said who they are yet; more are closed. */
  readonly handshakesMax: number;
};

export const relayDefaults: RelaySettings = {
  tunnelsMax: 10_000,
  tunnelsPerPeerMax: 2_000,
  bytesPerSecondMax: Infinity,
  idleMs: 330_000,
  connectTimeoutMs: 5_000,
  headerBytesMax: 8_192,
  headersTimeoutMs: 5_000,
  handshakesMax: 512,
};

/** Ends of a tunnel that was refused or never came about, beyond the policy's reasons. */
export type RelayOutcome = RelayReason | "target-unreachable" | "target-timeout" | "peer-went-away";

export type RelayCounters = {
  /** CONNECT requests by what became of them. */
  readonly outcomes: Map<RelayOutcome, number>;
  /** Who called, by what was found: "known", or why not. */
  readonly peers: Map<string, number>;
  tunnels: number;
  tunnelsPeak: number;
  idleClosed: number;
  /** Tunnels that ended because their peer's certificate did, or because it is in the topology no more. */
  expiredClosed: number;
  removedClosed: number;
  /** Towards targets and back. */
  bytesUp: number;
  bytesDown: number;
};

type Tunnel = {
  readonly peer: ServerId;
  readonly notAfterEpochMs: number;
  readonly accountName: string;
  readonly account: RelayAccount;
  /** Both ways; none while it is not open. */
  streams: readonly SharedStream[];
  readonly stop: () => void;
};

/** Of what comes behind CONNECT so much is taken while the target is connected to; the rest stays with the peer. */
const EARLY_BYTES_MAX = 65_536;

const statusTexts: Readonly<Record<number, string>> = {
  400: "Bad Request",
  403: "Forbidden",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

export class RelayServer {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #settings: RelaySettings;
  readonly #dial: typeof dial;
  readonly #trust: NodeTrust;
  /** Never listens: it is given connections. */
  readonly #tls: TlsServer;
  /** Have not said who they are yet, by their address and port: a TLSSocket does not tell which one it was made from. */
  readonly #unknown = new Map<string, Socket>();
  /** Who is at the other end of a connection. */
  readonly #peers = new WeakMap<Duplex, NodePeer>();
  readonly #policy: RelayPolicy;
  readonly #server: Server;
  readonly #tunnels = new Set<Tunnel>();
  readonly #perPeer = new Map<ServerId, number>();
  readonly accounts = new RelayAccounts();
  readonly #rate: SharedRate;
  #isDraining = false;
  readonly counters: RelayCounters = {
    outcomes: new Map(),
    peers: new Map(),
    tunnels: 0,
    tunnelsPeak: 0,
    idleClosed: 0,
    expiredClosed: 0,
    removedClosed: 0,
    bytesUp: 0,
    bytesDown: 0,
  };

  constructor(options: {
    readonly trust: NodeTrust;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly settings?: Partial<RelaySettings>;
    /** How targets are reached; default: the process's dialer. */
    readonly dial?: typeof dial;
    /** Everything that is no CONNECT: the admin surface. */
    readonly onRequest: (request: IncomingMessage, response: ServerResponse) => void;
  }) {
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#settings = { ...relayDefaults, ...options.settings };
    this.#dial = options.dial ?? dial;
    this.#trust = options.trust;
    this.#policy = new RelayPolicy(this.#settings);
    this.#rate = new SharedRate(this.#settings.bytesPerSecondMax, this.#clock);
    const { headerBytesMax, headersTimeoutMs } = this.#settings;
    this.#server = http.createServer(
      {
        maxHeaderSize: headerBytesMax,
        headersTimeout: headersTimeoutMs,
        requestTimeout: 2 * headersTimeoutMs,
        connectionsCheckingInterval: 1_000,
        keepAliveTimeout: this.#settings.idleMs,
        noDelay: true,
      },
      options.onRequest,
    );
    this.#tls = createTlsServer({
      ...options.trust.serverOptions(RELAY_ALPN),
      handshakeTimeout: headersTimeoutMs,
    });
    options.trust.bind(this.#tls, RELAY_ALPN);
    this.#route();
    this.#server.on("connect", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      // From here on the socket is ours: whatever happens to it must not end the process.
      socket.on("error", () => {});
      void this.#handleConnect(request, socket, head);
    });
    this.#server.on("clientError", (_error, socket) => {
      if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
      else socket.destroy();
    });
  }

  setTopology(topology: TopologyDocument): void {
    this.#policy.setTopology(topology);
    // Whoever is taken out is out, however long its certificate would be good.
    for (const tunnel of this.#tunnels) {
      if (this.#policy.serves(tunnel.peer)) continue;
      this.counters.removedClosed++;
      tunnel.stop();
    }
  }
  setProperty(propertyId: string, property: PropertyDocument | undefined): void {
    this.#policy.setProperty(propertyId, property);
  }
  get permittedTargets(): number {
    return this.#policy.permittedTargets;
  }
  /** Connections that have not said who they are yet. */
  get handshakes(): number {
    return this.#unknown.size;
  }
  /** Times that a stream waited for its share of the rate. */
  get heldBack(): number {
    return this.#rate.heldBack;
  }
  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Rejects with IsochroneError that says what to do when the address cannot be had. */
  listen(host: string, port: number): Promise<AddressInfo> {
    return new Promise((resolve, reject) => {
      const refuse = (cause: unknown): void => reject(listenError(cause, host, port));
      this.#server.once("error", refuse);
      this.#server.listen(port, host, () => {
        this.#server.off("error", refuse);
        this.#server.on("error", (error) => this.#logger.error("relay-server-error", { error }));
        resolve(this.#server.address() as AddressInfo);
      });
    });
  }

  /** Takes no new tunnel, waits up to `graceMs` for the open ones, then ends them. */
  async drain(graceMs: number): Promise<void> {
    this.#isDraining = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const deadline = this.#clock.monotonic() + graceMs;
    while (this.#tunnels.size > 0 && this.#clock.monotonic() < deadline) await pause(50);
    for (const tunnel of this.#tunnels) tunnel.stop();
    for (const socket of this.#unknown.values()) socket.destroy();
    this.#server.closeAllConnections();
    // It never listened: nothing else says that it is over.
    this.#tls.emit("close");
    await closed;
  }

  async #handleConnect(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const authority = request.url ?? "";
    const known = this.#peers.get(socket);
    const peer = known?.name.serverId;
    const decision = this.#policy.decide({
      peer,
      authority,
      isDraining: this.#isDraining,
      tunnels: this.#tunnels.size,
      tunnelsOfPeer: peer === undefined ? 0 : (this.#perPeer.get(peer) ?? 0),
      tunnelsOfAccount: (name) => {
        const { tunnels } = this.accounts.of(name);
        return tunnels;
      },
    });
    if (!decision.isGranted || known === undefined || peer === undefined) {
      const reason = decision.isGranted ? "not-proven" : decision.reason;
      this.#refuse(socket, decision.isGranted ? 403 : decision.status, reason, peer, authority);
      return;
    }
    const stop = new AbortController();
    let target: Duplex | undefined;
    const account = this.accounts.of(decision.account);
    const tunnel: Tunnel = {
      peer,
      notAfterEpochMs: known.notAfterEpochMs,
      accountName: decision.account,
      account,
      streams: [],
      stop: () => {
        stop.abort();
        socket.destroy();
        target?.destroy();
        this.#forget(tunnel);
      },
    };
    this.#tunnels.add(tunnel);
    this.#perPeer.set(peer, (this.#perPeer.get(peer) ?? 0) + 1);
    account.tunnels++;
    this.counters.tunnels = this.#tunnels.size;
    this.counters.tunnelsPeak = Math.max(this.counters.tunnelsPeak, this.#tunnels.size);
    socket.once("close", tunnel.stop);
    // Half an end is a whole one: nobody has said all before there is a tunnel.
    socket.once("end", tunnel.stop);
    const early = [head];
    let earlyBytes = head.length;
    // Read, so that the end of a peer that has gone is seen behind it.
    const onEarly = (chunk: Buffer): void => {
      early.push(chunk);
      earlyBytes += chunk.length;
      if (earlyBytes >= EARLY_BYTES_MAX) socket.pause();
    };
    socket.on("data", onEarly);
    try {
      const { host, port } = decision;
      const timeoutMs = this.#settings.connectTimeoutMs;
      // Asked of each address that the name stands for, at this moment: what it stood for before says nothing (DNS rebinding).
      const refuse: DialOptions["refuse"] = (...asked) => this.#policy.refusedAddress(...asked);
      target = await this.#dial({ host, port, timeoutMs, refuse, signal: stop.signal });
    } catch (error) {
      socket.off("close", tunnel.stop);
      socket.off("end", tunnel.stop);
      socket.off("data", onEarly);
      this.#forget(tunnel);
      if (stop.signal.aborted) {
        this.#count("peer-went-away");
        return;
      }
      const code = error instanceof IsochroneError ? error.code : "";
      if (code === "address-not-permitted") {
        this.#refuse(socket, 403, "target-not-permitted", peer, authority);
        return;
      }
      const isTimeout = code === "connect-timeout";
      this.#refuse(
        socket,
        isTimeout ? 504 : 502,
        isTimeout ? "target-timeout" : "target-unreachable",
        peer,
        authority,
      );
      return;
    }
    target.on("error", () => {});
    if (stop.signal.aborted) {
      target.destroy();
      this.#count("peer-went-away");
      return;
    }
    this.#count("granted");
    account.opened++;
    socket.off("close", tunnel.stop);
    socket.off("end", tunnel.stop);
    socket.write("HTTP/1.1 200 OK\r\nIsochrone-Relay-Reason: granted\r\n\r\n");
    socket.off("data", onEarly);
    this.#join(socket, target, tunnel, Buffer.concat(early));
  }

  /**
   * Moves bytes both ways with back-pressure; an end on one side ends the other's writing only (half-close). `early`: what was read of the
   * peer before, and counts as what is read after.
   */
  #join(socket: Duplex, target: Duplex, tunnel: Tunnel, early: Buffer): void {
    let lastMs = performance.now();
    const records = new SegmentWriter(socket);
    const { account, accountName } = tunnel;
    const onUp = (bytes: number): void => {
      lastMs = performance.now();
      this.counters.bytesUp += bytes;
      account.bytesUp += bytes;
    };
    const onDown = (bytes: number): void => {
      lastMs = performance.now();
      this.counters.bytesDown += bytes;
      account.bytesDown += bytes;
    };
    const up = this.#rate.move(socket, target, accountName, onUp);
    const down = this.#rate.move(target, socket, accountName, onDown, (chunk) => records.write(chunk));
    tunnel.streams = [up, down];
    if (early.length > 0) up.take(early);
    up.goOn();
    socket.once("end", () => target.end());
    target.once("end", () => {
      records.flush();
      socket.end();
    });
    // A side that is gone in the middle takes the other with it; one that ended lets the other send what it still holds.
    let closed = 0;
    const onClose = (gone: Duplex, other: Duplex): void => {
      closed++;
      if (closed === 2) this.#forget(tunnel);
      else if (gone.readableEnded && gone.errored === null) other.end();
      else tunnel.stop();
    };
    socket.once("close", () => onClose(socket, target));
    target.once("close", () => onClose(target, socket));
    const { idleMs } = this.#settings;
    const check = (): void => {
      if (!this.#tunnels.has(tunnel)) return;
      const idleForMs = performance.now() - lastMs;
      const leftMs = tunnel.notAfterEpochMs - this.#clock.epoch();
      if (idleForMs < idleMs && leftMs > 0) {
        setTimeout(check, Math.min(idleMs - idleForMs, leftMs)).unref();
        return;
      }
      if (leftMs > 0) this.counters.idleClosed++;
      else this.counters.expiredClosed++;
      tunnel.stop();
    };
    check();
  }

  /** Connections that begin a handshake are servers of ours, or nobody's; others are asked about in HTTP. */
  #route(): void {
    const toHttp = this.#server.listeners("connection") as ((socket: Duplex) => void)[];
    this.#server.removeAllListeners("connection");
    const handToHttp = (socket: Duplex): void => {
      for (const listener of toHttp) listener.call(this.#server, socket);
    };
    this.#server.on("connection", (socket: Socket) => {
      if (this.#unknown.size >= this.#settings.handshakesMax) {
        this.#met("too-many-handshakes");
        socket.destroy();
        return;
      }
      const timer = setTimeout(() => socket.destroy(), this.#settings.headersTimeoutMs);
      const onError = (): void => {};
      const client = clientOf(socket);
      this.#unknown.set(client, socket);
      socket.on("error", onError);
      socket.once("close", () => {
        clearTimeout(timer);
        if (this.#unknown.get(client) === socket) this.#unknown.delete(client);
      });
      socket.once("data", (first: Buffer) => {
        clearTimeout(timer);
        socket.pause();
        socket.unshift(first);
        if (beginsHandshake(first)) {
          this.#tls.emit("connection", socket);
          return;
        }
        this.#unknown.delete(client);
        socket.off("error", onError);
        handToHttp(socket);
        socket.resume();
      });
    });
    this.#tls.on("secureConnection", (socket: TLSSocket) => {
      this.#unknown.delete(clientOf(socket));
      const peer = this.#trust.peerOf(socket);
      const isPeer = typeof peer !== "string" && socket.alpnProtocol !== false;
      this.#met(isPeer ? "known" : typeof peer === "string" ? peer : "no-protocol");
      if (!isPeer) {
        socket.on("error", () => {});
        socket.destroy();
        return;
      }
      this.#peers.set(socket, peer);
      handToHttp(socket);
    });
    this.#tls.on("tlsClientError", (error, socket) => {
      this.#met("handshake-failed");
      this.#logger.debug("handshake-failed", { error });
      socket.destroy();
    });
  }

  #met(verdict: string): void {
    this.counters.peers.set(verdict, (this.counters.peers.get(verdict) ?? 0) + 1);
  }

  #refuse(
    socket: Duplex,
    status: number,
    reason: RelayOutcome,
    peer: ServerId | undefined,
    authority: string,
  ): void {
    this.#count(reason);
    // What a stranger asked for is not repeated into the log at full length.
    const target = authority.slice(0, 200);
    this.#logger.info("tunnel-refused", { reason, status, peer: peer ?? null, target });
    const text = `${reason}\n`;
    socket.end(
      `HTTP/1.1 ${status} ${statusTexts[status] ?? "Error"}\r\nIsochrone-Relay-Reason: ${reason}\r\nContent-Type: text/plain\r\nContent-Length: ${text.length}\r\nConnection: close\r\n\r\n${text}`,
    );
    // What stands behind the request is nobody's.
    socket.resume();
    // Whoever does not hang up is hung up on.
    setTimeout(() => socket.destroy(), 1_000).unref();
  }

  #count(outcome: RelayOutcome): void {
    this.counters.outcomes.set(outcome, (this.counters.outcomes.get(outcome) ?? 0) + 1);
  }

  #forget(tunnel: Tunnel): void {
    if (!this.#tunnels.delete(tunnel)) return;
    const left = (this.#perPeer.get(tunnel.peer) ?? 1) - 1;
    if (left === 0) this.#perPeer.delete(tunnel.peer);
    else this.#perPeer.set(tunnel.peer, left);
    this.counters.tunnels = this.#tunnels.size;
    tunnel.account.tunnels--;
    for (const { end } of tunnel.streams) end();
  }
}

function clientOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort}`;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * The relay: forwards connections for proven peers to permitted targets (CONNECT, RFC 9110 section 9.3.6), and nothing
 * else. Who may have what is `core/relay-policy.ts`; this moves the bytes and keeps the limits.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import {
  type Clock,
  IsochroneError,
  type PropertyDocument,
  type ServerId,
  type TopologyDocument,
} from "#kit";
import { type Logger, listenError, http } from "#kit/io";
import { FairShares } from "../core/fair-shares.ts";
import { peerProofHeader } from "../core/peer-proof.ts";
import { type RelayAccount, RelayAccounts } from "../core/relay-accounts.ts";
import { type RelayReason, RelayPolicy } from "../core/relay-policy.ts";
import { dial, type DialOptions } from "./dial.ts";
import { PeerVerifier } from "./peer-proof.ts";

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
  /** A CONNECT head must be complete by then, ms. */
  readonly headersTimeoutMs: number;
};

export const relayDefaults: RelaySettings = {
  tunnelsMax: 10_000,
  tunnelsPerPeerMax: 2_000,
  bytesPerSecondMax: Infinity,
  idleMs: 330_000,
  connectTimeoutMs: 5_000,
  headerBytesMax: 8_192,
  headersTimeoutMs: 5_000,
};

/** Ends of a tunnel that was refused or never came about, beyond the policy's reasons. */
export type RelayOutcome = RelayReason | "target-unreachable" | "target-timeout" | "peer-went-away";

export type RelayCounters = {
  /** CONNECT requests by what became of them. */
  readonly outcomes: Map<RelayOutcome, number>;
  /** Proofs that did not hold, by reason. */
  readonly proofs: Map<string, number>;
  tunnels: number;
  tunnelsPeak: number;
  idleClosed: number;
  /** Towards targets and back. */
  bytesUp: number;
  bytesDown: number;
};

type Tunnel = {
  readonly peer: ServerId;
  readonly accountName: string;
  readonly account: RelayAccount;
  /** For the shares of a bounded rate; 0 while it is not open. */
  streams: readonly number[];
  readonly stop: () => void;
};

const statusTexts: Readonly<Record<number, string>> = {
  400: "Bad Request",
  403: "Forbidden",
  407: "Proxy Authentication Required",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

export class RelayServer {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #settings: RelaySettings;
  readonly #dial: typeof dial;
  readonly #verifier: PeerVerifier;
  readonly #policy: RelayPolicy;
  readonly #server: Server;
  readonly #tunnels = new Set<Tunnel>();
  readonly #perPeer = new Map<ServerId, number>();
  readonly accounts = new RelayAccounts();
  readonly #shares: FairShares;
  /** What lets a stream go on that its share holds. */
  readonly #held = new Map<number, () => void>();
  #lastStream = 0;
  #sharesTimer: NodeJS.Timeout | undefined;
  #isDraining = false;
  readonly counters: RelayCounters = {
    outcomes: new Map(),
    proofs: new Map(),
    tunnels: 0,
    tunnelsPeak: 0,
    idleClosed: 0,
    bytesUp: 0,
    bytesDown: 0,
  };

  constructor(options: {
    readonly peerKey: Uint8Array;
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
    this.#verifier = new PeerVerifier({ key: options.peerKey, clock: options.clock });
    this.#policy = new RelayPolicy(this.#settings);
    this.#shares = new FairShares(this.#settings.bytesPerSecondMax);
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
  }
  setProperty(propertyId: string, property: PropertyDocument | undefined): void {
    this.#policy.setProperty(propertyId, property);
  }
  get permittedTargets(): number {
    return this.#policy.permittedTargets;
  }
  /** Times that a stream waited for its share of the rate. */
  get heldBack(): number {
    return this.#shares.counters.held;
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

  /** Proves a caller of the admin surface. */
  verify(request: IncomingMessage): boolean {
    const { method = "", url = "", headers } = request;
    const proof = headers[peerProofHeader.toLowerCase()];
    const header = typeof proof === "string" ? proof : undefined;
    return this.#verifier.verify(header, { method, host: headers.host ?? "", path: url }).isProven;
  }

  /** Takes no new tunnel, waits up to `graceMs` for the open ones, then ends them. */
  async drain(graceMs: number): Promise<void> {
    this.#isDraining = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const deadline = this.#clock.monotonic() + graceMs;
    while (this.#tunnels.size > 0 && this.#clock.monotonic() < deadline) await pause(50);
    for (const tunnel of this.#tunnels) tunnel.stop();
    this.#server.closeAllConnections();
    await closed;
  }

  async #handleConnect(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const authority = request.url ?? "";
    const peer = this.#peerOf(request, authority);
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
    if (!decision.isGranted || peer === undefined) {
      const reason = decision.isGranted ? "not-proven" : decision.reason;
      this.#refuse(socket, decision.isGranted ? 407 : decision.status, reason, peer, authority);
      return;
    }
    const stop = new AbortController();
    let target: Duplex | undefined;
    const account = this.accounts.of(decision.account);
    const tunnel: Tunnel = {
      peer,
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
    try {
      const { host, port } = decision;
      const timeoutMs = this.#settings.connectTimeoutMs;
      // Asked of each address that the name stands for, at this moment: what it stood for before says nothing (DNS rebinding).
      const refuse: DialOptions["refuse"] = (...asked) => this.#policy.refusedAddress(...asked);
      target = await this.#dial({ host, port, timeoutMs, refuse, signal: stop.signal });
    } catch (error) {
      socket.off("close", tunnel.stop);
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
    socket.write("HTTP/1.1 200 OK\r\nIsochrone-Relay-Reason: granted\r\n\r\n");
    if (head.length > 0) {
      this.counters.bytesUp += head.length;
      account.bytesUp += head.length;
      target.write(head);
    }
    this.#join(socket, target, tunnel);
  }

  /** Moves bytes both ways with back-pressure; an end on one side ends the other's writing only (half-close). */
  #join(socket: Duplex, target: Duplex, tunnel: Tunnel): void {
    let lastMs = performance.now();
    const { account } = tunnel;
    const up = this.#stream(socket, target, tunnel, (bytes) => {
      lastMs = performance.now();
      this.counters.bytesUp += bytes;
      account.bytesUp += bytes;
    });
    const down = this.#stream(target, socket, tunnel, (bytes) => {
      lastMs = performance.now();
      this.counters.bytesDown += bytes;
      account.bytesDown += bytes;
    });
    tunnel.streams = [up, down];
    socket.once("end", () => target.end());
    target.once("end", () => socket.end());
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
      if (idleForMs >= idleMs) {
        this.counters.idleClosed++;
        tunnel.stop();
        return;
      }
      setTimeout(check, idleMs - idleForMs).unref();
    };
    setTimeout(check, idleMs).unref();
  }

  /** Moves bytes one way. Reading waits for who cannot take more, and for the customer's share of the rate. */
  #stream(from: Duplex, to: Duplex, { accountName }: Tunnel, onBytes: (bytes: number) => void): number {
    const stream = ++this.#lastStream;
    let isBlocked = false;
    let isHeld = false;
    const goOn = (): void => {
      if (!isBlocked && !isHeld) from.resume();
    };
    from.on("data", (chunk: Buffer) => {
      onBytes(chunk.length);
      isBlocked = !to.write(chunk);
      isHeld = !this.#shares.charge(stream, accountName, chunk.length, this.#clock.monotonic());
      if (isBlocked || isHeld) from.pause();
      if (!isHeld) return;
      this.#held.set(stream, () => {
        isHeld = false;
        goOn();
      });
      this.#releaseHeld();
    });
    to.on("drain", () => {
      isBlocked = false;
      goOn();
    });
    return stream;
  }

  /** Lets go on whoever's turn it is, and sets one timer for the rest. */
  #releaseHeld(): void {
    clearTimeout(this.#sharesTimer);
    const now = this.#clock.monotonic();
    for (let next = this.#shares.pollResume(now); next !== undefined; next = this.#shares.pollResume(now)) {
      const goOn = this.#held.get(next);
      this.#held.delete(next);
      goOn?.();
    }
    const at = this.#shares.pollTimeout(now);
    if (at !== undefined)
      this.#sharesTimer = setTimeout(() => this.#releaseHeld(), Math.max(1, Math.ceil(at - now))).unref();
  }

  #peerOf(request: IncomingMessage, authority: string): ServerId | undefined {
    // Read from the raw fields: joined duplicates must not pass for one.
    const wanted = peerProofHeader.toLowerCase();
    const values: string[] = [];
    for (let index = 0; index + 1 < request.rawHeaders.length; index += 2)
      if (request.rawHeaders[index]?.toLowerCase() === wanted)
        values.push(request.rawHeaders[index + 1] ?? "");
    const header = values.length === 1 ? values[0] : undefined;
    const verdict = this.#verifier.verify(header, { method: "CONNECT", host: authority, path: "" });
    const word = verdict.isProven ? "proven" : verdict.reason;
    this.counters.proofs.set(word, (this.counters.proofs.get(word) ?? 0) + 1);
    return verdict.isProven ? verdict.serverId : undefined;
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
    const challenge = status === 407 ? `Proxy-Authenticate: ${peerProofHeader}\r\n` : "";
    socket.end(
      `HTTP/1.1 ${status} ${statusTexts[status] ?? "Error"}\r\n${challenge}Isochrone-Relay-Reason: ${reason}\r\nContent-Type: text/plain\r\nContent-Length: ${text.length}\r\nConnection: close\r\n\r\n${text}`,
    );
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
    for (const stream of tunnel.streams) {
      this.#held.delete(stream);
      this.#shares.handleEnd(stream, tunnel.accountName);
    }
    if (this.#shares.waiting > 0) this.#releaseHeld();
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

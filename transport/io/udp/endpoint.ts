/** A UDP socket and the connections over it (`core/udp`): datagrams to the one they name, timers, and what happened to whoever asked for it. */
import { randomBytes } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { isIPv6 } from "node:net";
import { once } from "node:events";
import type { Clock, MonotonicMs } from "#kit";
import { systemClock } from "#kit/io";
import { UdpConnection } from "../../core/udp/connection.ts";
import type { UdpCounters } from "../../core/udp/connection-options.ts";
import {
  CHALLENGE_BYTES,
  CONNECTION_BYTES,
  DATAGRAM_BYTES_MAX,
  type UdpEvent,
} from "../../core/udp/words.ts";
import { PacketKeys, type UdpRole, udpNameOf } from "./packet-keys.ts";

/** Connections of one socket. */
const CONNECTIONS_MAX = 1_024;
/** Datagrams that leave before others have their turn of the event loop. */
const DATAGRAMS_A_TURN_MAX = 128;
/** Of the socket in the kernel: what 100 Mbit/s bring in 80 ms. */
const BUFFER_BYTES = 1 << 20;

export interface UdpOpenOptions {
  readonly secret: Uint8Array;
  readonly role: UdpRole;
  readonly address: string;
  readonly port: number;
  /** The address is the one that the secret was agreed on with. */
  readonly isRemoteValidated: boolean;
  readonly congestion?: "bbr" | "cubic";
  readonly onEvent: (event: UdpEvent) => void;
}

/** A connection as its user has it. */
export interface UdpLink {
  readonly counters: Readonly<UdpCounters>;
  /** Undefined: not measured. */
  readonly srttMs: number | undefined;
  isWritable(channel: number): boolean;
  /** The bytes are the connection's from now on. */
  send(channel: number, bytes: Uint8Array): void;
  close(): void;
}

interface Open {
  readonly name: string;
  readonly connection: UdpConnection;
  readonly onEvent: (event: UdpEvent) => void;
  timer: NodeJS.Timeout | undefined;
  isPumping: boolean;
}

export class UdpEndpoint {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #open = new Map<string, Open>();
  readonly #datagram = new Uint8Array(DATAGRAM_BYTES_MAX);
  readonly counters = { unknownDatagrams: 0, sendErrors: 0 };

  private constructor(socket: Socket, clock: Clock) {
    this.#socket = socket;
    this.#clock = clock;
    socket.on("message", (datagram, { address, port }) => this.#receive(datagram, `${address}:${port}`));
    // An ICMP message about what was sent: the connection's own timers tell whether anything comes through.
    socket.on("error", () => this.counters.sendErrors++);
  }

  /** Rejects when the address cannot be bound. */
  static async bind(address: string, port: number, clock: Clock = systemClock): Promise<UdpEndpoint> {
    const family = isIPv6(address) ? 6 : 4;
    const socket = createSocket({
      type: `udp${family}`,
      // Addresses are never names: a datagram leaves in the call that sends it, the last ones before the socket closes too.
      lookup: (host, _options, done) => done(null, host, family),
      recvBufferSize: BUFFER_BYTES,
      sendBufferSize: BUFFER_BYTES,
    });
    // It may listen before the call is over.
    const listening = once(socket, "listening");
    socket.bind(port, address);
    await listening;
    return new UdpEndpoint(socket, clock);
  }

  get port(): number {
    return this.#socket.address().port;
  }
  get connections(): number {
    return this.#open.size;
  }

  /** Undefined: there are as many as there may be, or the secret has one already. */
  open({
    secret,
    role,
    address,
    port,
    isRemoteValidated,
    congestion,
    onEvent,
  }: UdpOpenOptions): UdpLink | undefined {
    const localName = udpNameOf(secret, role);
    const name = nameAt(localName, 0);
    if (this.#open.size >= CONNECTIONS_MAX || this.#open.has(name)) return undefined;
    const connection = new UdpConnection(
      {
        protection: new PacketKeys(secret, role),
        localName,
        remoteName: udpNameOf(secret, role === "client" ? "server" : "client"),
        remote: `${address}:${port}`,
        isRemoteValidated,
        unpredictable: () => randomBytes(CHALLENGE_BYTES),
        ...(congestion === undefined ? {} : { congestion }),
      },
      this.#clock.monotonic(),
    );
    const open: Open = { name, connection, onEvent, timer: undefined, isPumping: false };
    this.#open.set(name, open);
    this.#pump(open);
    return {
      counters: connection.counters,
      get srttMs() {
        return connection.srttMs;
      },
      isWritable: (channel) => connection.isWritable(channel),
      send: (channel, bytes) => {
        connection.send(channel, bytes);
        this.#pump(open);
      },
      close: () => {
        connection.close();
        this.#pump(open);
      },
    };
  }

  /** Ends all connections; their other sides are told. */
  async close(): Promise<void> {
    for (const open of this.#open.values()) {
      open.connection.close();
      this.#pump(open);
    }
    const closed = once(this.#socket, "close");
    this.#socket.close();
    await closed;
  }

  #receive(datagram: Uint8Array, from: string): void {
    const open = datagram.length > CONNECTION_BYTES ? this.#open.get(nameAt(datagram, 1)) : undefined;
    if (open === undefined) {
      this.counters.unknownDatagrams++;
      return;
    }
    open.connection.handleDatagram(datagram, from, this.#clock.monotonic());
    this.#pump(open);
  }

  /** Tells what happened, sends what may leave, and sets the timer. */
  #pump(open: Open): void {
    // Whoever is told something may send: that leaves when all is told.
    if (open.isPumping) return;
    open.isPumping = true;
    const { connection } = open;
    for (let event = connection.pollEvent(); event !== undefined; event = connection.pollEvent())
      open.onEvent(event);
    open.isPumping = false;
    const isDone = this.#transmit(connection);
    clearTimeout(open.timer);
    if (connection.ended !== undefined && isDone) {
      this.#open.delete(open.name);
      return;
    }
    const now = this.#clock.monotonic();
    const dueAt = isDone ? connection.pollTimeout(now) : now;
    if (dueAt !== undefined) this.#wake(open, dueAt, now);
  }

  #wake(open: Open, dueAt: MonotonicMs, now: MonotonicMs): void {
    open.timer = setTimeout(
      () => {
        open.connection.handleTimeout(this.#clock.monotonic());
        this.#pump(open);
      },
      Math.max(0, dueAt - now),
    );
    // A connection that waits keeps no process alive; its socket does.
    open.timer.unref();
  }

  /** Whether all has left that may. */
  #transmit(connection: UdpConnection): boolean {
    const now = this.#clock.monotonic();
    for (let sent = 0; sent < DATAGRAMS_A_TURN_MAX; sent++) {
      const bytes = connection.pollTransmit(this.#datagram, now);
      if (bytes === 0) return true;
      const { remote } = connection;
      const colon = remote.lastIndexOf(":");
      this.#socket.send(
        this.#datagram.slice(0, bytes),
        Number(remote.slice(colon + 1)),
        remote.slice(0, colon),
        (error) => {
          if (error !== null) this.counters.sendErrors++;
        },
      );
    }
    return false;
  }
}

const nameAt = (bytes: Uint8Array, at: number): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset + at, CONNECTION_BYTES).toString("latin1");

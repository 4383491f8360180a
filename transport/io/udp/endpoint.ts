/** A UDP socket and the connections over it (`core/udp`): datagrams to the one they name, timers, and what happened to whoever asked for it. */
import { randomBytes } from "node:crypto";
import type { MonotonicMs } from "#kit";
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
import { type DatagramSender, remoteText, UdpSocket } from "./socket.ts";

/** Connections of one socket. */
const CONNECTIONS_MAX = 1_024;
/** Datagrams that leave before others have their turn of the event loop. */
const DATAGRAMS_A_TURN_MAX = 128;

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
  readonly probeTimeoutMs: number;
  /** Since when nothing has come though something asks for an answer; undefined: nothing does, or something came. */
  readonly askingSince: MonotonicMs | undefined;
  isWritable(channel: number): boolean;
  /** Whether all that was sent on a channel has come. */
  isDelivered(channel: number): boolean;
  /** The bytes are the connection's from now on. */
  send(channel: number, bytes: Uint8Array): void;
  close(): void;
}

interface Open {
  readonly name: string;
  readonly connection: UdpConnection;
  readonly onEvent: (event: UdpEvent) => void;
  timer: NodeJS.Timeout | undefined;
  timerAt: number;
  isTimeoutDue: boolean;
  /** Something came, or was given to it, since it was pumped. */
  isDirty: boolean;
}

export class UdpEndpoint {
  readonly #socket: UdpSocket;
  readonly #open = new Map<string, Open>();
  #dirty: Open[] = [];
  #isPumpDue = false;
  #unknownDatagrams = 0;

  private constructor(socket: UdpSocket) {
    this.#socket = socket;
    socket.onDatagram = (datagram, sender) => this.#receive(datagram, sender);
  }

  /** Rejects when the address cannot be bound. `isPlain`: one system call for each datagram, as off Linux. */
  static async bind(
    address: string,
    port: number,
    { isPlain }: { readonly isPlain?: boolean } = {},
  ): Promise<UdpEndpoint> {
    return new UdpEndpoint(await UdpSocket.bind(address, port, { sendBytes: DATAGRAM_BYTES_MAX, isPlain }));
  }

  /** On the first port of a range, both ends of which belong to it, that nobody has. Rejects when there is none. */
  static async bindWithin(address: string, from: number, to: number): Promise<UdpEndpoint> {
    for (let port = from; ; port++) {
      try {
        return await UdpEndpoint.bind(address, port);
      } catch (error) {
        const isTaken = error instanceof Error && "code" in error && error.code === "EADDRINUSE";
        if (!isTaken || port === to) throw error;
      }
    }
  }

  get port(): number {
    return this.#socket.port;
  }
  /** Whether datagrams are read and written in batches. */
  get isBatched(): boolean {
    return this.#socket.isBatched;
  }
  get counters(): { readonly unknownDatagrams: number; readonly sendErrors: number } {
    return { unknownDatagrams: this.#unknownDatagrams, sendErrors: this.#socket.errors };
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
        remote: remoteText(address, port),
        isRemoteValidated,
        unpredictable: () => randomBytes(CHALLENGE_BYTES),
        ...(congestion === undefined ? {} : { congestion }),
      },
      systemClock.monotonic(),
    );
    const open: Open = {
      name,
      connection,
      onEvent,
      timer: undefined,
      timerAt: Infinity,
      isTimeoutDue: false,
      isDirty: false,
    };
    this.#open.set(name, open);
    this.#wake(open);
    return {
      counters: connection.counters,
      get srttMs() {
        return connection.srttMs;
      },
      get probeTimeoutMs() {
        return connection.probeTimeoutMs;
      },
      get askingSince() {
        return connection.askingSince;
      },
      isWritable: (channel) => connection.isWritable(channel),
      isDelivered: (channel) => connection.isDelivered(channel),
      send: (channel, bytes) => {
        connection.send(channel, bytes);
        this.#wake(open);
      },
      close: () => this.#close(open),
    };
  }

  /** Ends all connections; their other sides are told. */
  async close(): Promise<void> {
    for (const open of this.#open.values()) this.#close(open);
    await this.#socket.close();
  }

  /** What was given to it leaves before, as far as it may. */
  #close(open: Open): void {
    this.#pump(open);
    open.connection.close();
    this.#pump(open);
  }

  #receive(datagram: Uint8Array, sender: DatagramSender): void {
    const open = datagram.length > CONNECTION_BYTES ? this.#open.get(nameAt(datagram, 1)) : undefined;
    if (open === undefined) {
      this.#unknownDatagrams++;
      return;
    }
    open.connection.handleDatagram(datagram, sender.text, systemClock.monotonic());
    this.#wake(open);
  }

  /** Something came or is to leave: it is seen to in this turn of the event loop, with whatever else comes in it. */
  #wake(open: Open): void {
    if (open.isDirty) return;
    open.isDirty = true;
    this.#dirty.push(open);
    if (this.#isPumpDue) return;
    this.#isPumpDue = true;
    setImmediate(this.#pumpDirty);
  }

  readonly #pumpDirty = (): void => {
    this.#isPumpDue = false;
    const dirty = this.#dirty;
    this.#dirty = [];
    for (const open of dirty) this.#pump(open);
  };

  /** Tells what happened, sends what may leave, and sets the timer. */
  #pump(open: Open): void {
    const { connection } = open;
    // It may have ended since, and be forgotten.
    if (this.#open.get(open.name) !== open) return;
    if (open.isTimeoutDue) connection.handleTimeout(systemClock.monotonic());
    open.isTimeoutDue = false;
    // Whoever is told something may send: that leaves when all is told.
    open.isDirty = true;
    tell(open);
    open.isDirty = false;
    const isDone = this.#transmit(connection);
    // Room for more was made.
    if (tell(open)) this.#wake(open);
    if (connection.ended !== undefined && isDone) {
      clearTimeout(open.timer);
      this.#open.delete(open.name);
      return;
    }
    if (isDone) this.#armTimer(open);
    else this.#wake(open);
  }

  /** One timer that may come too early: deadlines mostly move away. */
  #armTimer(open: Open): void {
    const now = systemClock.monotonic();
    const dueAt = open.connection.pollTimeout(now);
    if (dueAt === undefined || dueAt >= open.timerAt) return;
    clearTimeout(open.timer);
    open.timerAt = dueAt;
    open.timer = setTimeout(
      () => {
        open.timerAt = Infinity;
        open.isTimeoutDue = true;
        // In a process that is late the answer may lie at the socket: it is read before.
        this.#wake(open);
      },
      Math.max(0, dueAt - now),
    );
    // A connection that waits keeps no process alive; its socket does.
    open.timer.unref();
  }

  /** Whether all has left that may. */
  #transmit(connection: UdpConnection): boolean {
    const now = systemClock.monotonic();
    const { remote } = connection;
    const socket = this.#socket;
    let sent = 0;
    for (; sent < DATAGRAMS_A_TURN_MAX; sent++) {
      const bytes = connection.pollTransmit(socket.slotTo(remote), now);
      if (bytes === 0) break;
      socket.push(bytes);
    }
    socket.flush();
    return sent < DATAGRAMS_A_TURN_MAX;
  }
}

/** Whether anything had happened. */
function tell({ connection, onEvent }: Open): boolean {
  let event = connection.pollEvent();
  if (event === undefined) return false;
  for (; event !== undefined; event = connection.pollEvent()) onEvent(event);
  return true;
}

const nameAt = (bytes: Uint8Array, at: number): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset + at, CONNECTION_BYTES).toString("latin1");

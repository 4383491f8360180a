/**
 * A UDP socket that sends and receives many datagrams a system call where the system can do that, and one where it cannot. An address is one text,
 * `address:port`, always in the same form; its other forms are made once.
 */
import { once } from "node:events";
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { isIPv6 } from "node:net";
import { formatAddress, parseAddress } from "#kit";
import {
  BATCH_MAX,
  DatagramBatch,
  SOCKADDR_STRIDE,
  sockaddrAddress,
  sockaddrFamily,
  sockaddrOf,
  sockaddrPort,
} from "#kit/io";

/** Of the socket in the kernel: what 100 Mbit/s bring in 80 ms. */
const BUFFER_BYTES = 1 << 20;
/** A longer datagram is cut, and refused for its length. */
const RECEIVE_BYTES = 2_048;
/** Datagrams that are received in batches before others have their turn of the event loop; libuv itself reads up to 32. */
const DATAGRAMS_A_TURN_MAX = 256;
/** Addresses whose forms are remembered. */
const ADDRESSES_MAX = 1_024;

/** Where the datagram comes from that is handed over; filled anew for each. */
export interface DatagramSender {
  /** `address:port`. */
  readonly text: string;
}

const NOTHING = Buffer.alloc(0);
/** The same memory with a `slice` that copies. */
const plain = ({ buffer, byteOffset, byteLength }: Buffer): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

interface Address {
  readonly host: string;
  readonly port: number;
  /** Undefined: not one that batches know (a zone, a name). */
  readonly sockaddr: Uint8Array | undefined;
}

export interface UdpSocketOptions {
  /** Bytes of the longest datagram that is sent. */
  readonly sendBytes: number;
  /** One system call for each datagram, as off Linux. */
  readonly isPlain?: boolean | undefined;
}

export class UdpSocket {
  readonly #socket: Socket;
  readonly #batch: DatagramBatch | undefined;
  readonly #sender: Sender;
  readonly #received: Uint8Array;
  /** Where datagrams are written that are to be sent. */
  readonly #slots: readonly Uint8Array[];
  readonly #lengths: number[] = [];
  /** The one whose sockaddr the kernel is shown, and where it lies. */
  #target = "";
  readonly #targetMemory: Buffer | undefined;
  readonly #targetAddress: readonly [low: number, high: number] = [0, 0];
  readonly #addresses = new Map<string, Address>();
  #receivedInTurn = 0;
  /** The bytes are valid during the call, and may be changed. */
  onDatagram: (datagram: Uint8Array, sender: DatagramSender) => void = () => {};
  /** Errors of single datagrams. */
  #errors = 0;

  private constructor(socket: Socket, options: UdpSocketOptions) {
    this.#socket = socket;
    const { sendBytes, isPlain } = options;
    this.#batch =
      isPlain === true ? undefined : DatagramBatch.open(socket, { receiveBytes: RECEIVE_BYTES, sendBytes });
    this.#sender = new Sender(this.#batch?.names);
    this.#received = plain(this.#batch?.received ?? NOTHING);
    if (this.#batch === undefined) this.#slots = [new Uint8Array(sendBytes)];
    else {
      const sent = plain(this.#batch.sent);
      this.#slots = Array.from({ length: BATCH_MAX }, (_, slot) =>
        sent.subarray(slot * sendBytes, (slot + 1) * sendBytes),
      );
      this.#targetMemory = this.#batch.memory(SOCKADDR_STRIDE);
      const at = this.#batch.addressOf(this.#targetMemory);
      this.#targetAddress = [Number(at & 0xffff_ffffn), Number(at >> 32n)];
    }
    socket.on("message", (datagram, from) => this.#receive(datagram, from));
    // An ICMP message about what was sent: whoever waits for an answer has a timer.
    socket.on("error", () => this.#errors++);
  }

  /** Rejects when the address cannot be bound. */
  static async bind(address: string, port: number, options: UdpSocketOptions): Promise<UdpSocket> {
    if (options.isPlain !== true) await DatagramBatch.load();
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
    return new UdpSocket(socket, options);
  }

  get port(): number {
    return this.#socket.address().port;
  }
  /** Whether datagrams are read and written in batches. */
  get isBatched(): boolean {
    return this.#batch !== undefined;
  }
  /** Datagrams that could not be sent or received. */
  get errors(): number {
    const { receiveFailures = 0, sendFailures = 0 } = this.#batch?.counters ?? {};
    return this.#errors + receiveFailures + sendFailures;
  }

  /** Where the next datagram is to be written, which goes to `remote`. What goes elsewhere leaves before. */
  slotTo(remote: string): Uint8Array {
    if (remote !== this.#target) {
      this.flush();
      this.#target = remote;
      this.#targetMemory?.set(this.#addressOf(remote).sockaddr ?? []);
    }
    return this.#slots[this.#lengths.length] as Uint8Array;
  }

  /** So many bytes were written there. They leave when all slots are full, or with {@link flush}. */
  push(bytes: number): void {
    this.#lengths.push(bytes);
    if (this.#lengths.length === this.#slots.length) this.flush();
  }

  /** What was pushed leaves. */
  flush(): void {
    const lengths = this.#lengths;
    if (lengths.length === 0) return;
    const address = this.#addressOf(this.#target);
    for (let slot = this.#sendBatch(address); slot < lengths.length; slot++)
      // It is libuv's until it has left.
      this.#socket.send(
        (this.#slots[slot] as Uint8Array).slice(0, lengths[slot]),
        address.port,
        address.host,
        this.#onSent,
      );
    lengths.length = 0;
  }

  /** How many have left. What waits in libuv goes first. */
  #sendBatch({ sockaddr }: Address): number {
    const batch = this.#batch;
    if (batch === undefined || sockaddr === undefined || this.#socket.getSendQueueCount() > 0) return 0;
    return batch.sendTo(...this.#targetAddress, sockaddr.length, this.#lengths);
  }

  async close(): Promise<void> {
    const closed = once(this.#socket, "close");
    this.#socket.close();
    await closed;
  }

  #receive(datagram: Uint8Array, from: RemoteInfo): void {
    this.#sender.fill(from);
    this.onDatagram(datagram, this.#sender);
    const batch = this.#batch;
    if (batch === undefined) return;
    if (this.#receivedInTurn === 0) setImmediate(() => (this.#receivedInTurn = 0));
    this.#receivedInTurn++;
    // One that came through the event loop tells that more may wait.
    while (this.#receivedInTurn < DATAGRAMS_A_TURN_MAX) {
      const count = batch.receive();
      for (let slot = 0; slot < count; slot++) this.#take(batch, slot);
      this.#receivedInTurn += count;
      if (count < BATCH_MAX) return;
    }
  }

  #take(batch: DatagramBatch, slot: number): void {
    const bytes = batch.length(slot);
    if (bytes < 0 || !this.#sender.fillFrom(slot * SOCKADDR_STRIDE, batch.nameBytes(slot))) {
      this.#errors++;
      return;
    }
    const at = slot * batch.receiveStride;
    this.onDatagram(this.#received.subarray(at, at + bytes), this.#sender);
  }

  readonly #onSent = (error: Error | null): void => {
    if (error !== null) this.#errors++;
  };

  #addressOf(remote: string): Address {
    let known = this.#addresses.get(remote);
    if (known === undefined) {
      if (this.#addresses.size === ADDRESSES_MAX) this.#addresses.clear();
      known = addressOfText(remote);
      this.#addresses.set(remote, known);
    }
    return known;
  }
}

/** The sender of one datagram after the other; its text is made when it is another one than before. */
class Sender implements DatagramSender {
  readonly #names: Uint8Array | undefined;
  #isFromBatch = false;
  /** As node:dgram tells it. */
  #host = "";
  #port = 0;
  #told: string | undefined;
  /** As the kernel does. */
  readonly #sockaddr = new Uint8Array(SOCKADDR_STRIDE);
  #family: 4 | 6 = 4;
  #read: string | undefined;

  constructor(names: Uint8Array | undefined) {
    this.#names = names;
  }

  get text(): string {
    if (!this.#isFromBatch) return (this.#told ??= remoteText(this.#host, this.#port));
    return (this.#read ??= sockaddrText(this.#sockaddr, this.#family));
  }

  fill({ address, port }: RemoteInfo): void {
    this.#isFromBatch = false;
    if (address === this.#host && port === this.#port) return;
    this.#host = address;
    this.#port = port;
    this.#told = undefined;
  }

  /** False: an address of no family that is known. */
  fillFrom(nameAt: number, bytes: number): boolean {
    const names = this.#names as Uint8Array;
    const family = sockaddrFamily(names, nameAt, bytes);
    if (family === undefined) return false;
    this.#isFromBatch = true;
    // The family stands in it.
    let isSame = true;
    for (let at = 0; isSame && at < bytes; at++) isSame = names[nameAt + at] === this.#sockaddr[at];
    if (isSame) return true;
    this.#family = family;
    for (let at = 0; at < bytes; at++) this.#sockaddr[at] = names[nameAt + at] as number;
    this.#read = undefined;
    return true;
  }
}

function sockaddrText(sockaddr: Uint8Array, family: 4 | 6): string {
  return `${formatAddress(sockaddrAddress(sockaddr, 0, family))}:${sockaddrPort(sockaddr, 0)}`;
}

/** The text of an address, whatever form it was written in. */
export function remoteText(host: string, port: number): string {
  const address = parseAddress(host);
  return `${address === undefined ? host : formatAddress(address)}:${port}`;
}

function addressOfText(remote: string): Address {
  const colon = remote.lastIndexOf(":");
  const host = remote.slice(0, colon);
  const port = Number(remote.slice(colon + 1));
  const address = parseAddress(host);
  return { host, port, sockaddr: address && sockaddrOf(address, port) };
}

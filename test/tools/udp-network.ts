/** Two ends of the UDP carrier on a virtual network: seeded, in virtual time, with delay, rate, loss by chance and in bursts, late and double packets. */
import { monotonicMs, Random } from "#kit";
import { UdpConnection } from "../../transport/core/udp/connection.ts";
import type { UdpConnectionOptions } from "../../transport/core/udp/connection-options.ts";
import {
  CHALLENGE_BYTES,
  CONNECTION_BYTES,
  DATAGRAM_BYTES_MAX,
  type PacketProtection,
  TAG_BYTES,
  type UdpEvent,
} from "../../transport/core/udp/words.ts";

/** One direction of a path. */
export interface PathShape {
  readonly delayMs: number;
  readonly lossRatio?: number;
  /** Bursts: at random times, this often on average, everything is lost for so long. */
  readonly burst?: { readonly everyMs: number; readonly lengthMs: number };
  /** Packets come up to so much later, each by itself: they overtake each other. */
  readonly jitterMs?: number;
  readonly duplicateRatio?: number;
  /** Larger datagrams vanish. */
  readonly mtuBytes?: number;
  readonly bottleneck?: Bottleneck;
}

/** A queue that several paths may share: bytes a millisecond, and how many bytes wait. */
export class Bottleneck {
  readonly rate: number;
  readonly queueBytes: number;
  #freeAt = 0;
  drops = 0;
  /** How long each packet waited, ms. */
  readonly waitsMs: number[] = [];

  constructor(megabitsPerSecond: number, queueBytes: number) {
    this.rate = (megabitsPerSecond * 1e6) / 8 / 1_000;
    this.queueBytes = queueBytes;
  }

  /** When a packet is through; undefined: the queue is full. */
  take(bytes: number, now: number): number | undefined {
    const waitMs = Math.max(0, this.#freeAt - now);
    if (waitMs * this.rate + bytes > this.queueBytes) {
      this.drops++;
      return undefined;
    }
    this.waitsMs.push(waitMs);
    this.#freeAt = now + waitMs + bytes / this.rate;
    return this.#freeAt;
  }
}

/** Happenings by time, then by order. */
class Agenda {
  readonly #heap: { at: number; order: number; run: () => void }[] = [];
  #order = 0;

  push(at: number, run: () => void): void {
    const heap = this.#heap;
    let index = heap.length;
    const item = { at, order: this.#order++, run };
    heap.push(item);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(item, heap[parent] as typeof item)) break;
      heap[index] = heap[parent] as typeof item;
      index = parent;
    }
    heap[index] = item;
  }

  pop(until: number): { at: number; run: () => void } | undefined {
    const heap = this.#heap;
    const first = heap[0];
    if (first === undefined || first.at > until) return undefined;
    const last = heap.pop() as typeof first;
    if (heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as typeof first, heap[child] as typeof first))
        child++;
      if (!isBefore(heap[child] as typeof first, last)) break;
      heap[index] = heap[child] as typeof first;
      index = child;
    }
    heap[index] = last;
    return first;
  }
}
const isBefore = (a: { at: number; order: number }, b: { at: number; order: number }): boolean =>
  a.at < b.at || (a.at === b.at && a.order < b.order);

export class VirtualNetwork {
  now = 0;
  readonly random: Random;
  readonly #agenda = new Agenda();

  constructor(seed: string) {
    this.random = new Random(seed);
  }

  at(time: number, run: () => void): void {
    this.#agenda.push(Math.max(time, this.now), run);
  }

  run(until: number, isOver: () => boolean = () => false): void {
    while (!isOver()) {
      const next = this.#agenda.pop(until);
      if (next === undefined) {
        this.now = until;
        return;
      }
      this.now = next.at;
      next.run();
    }
  }
}

/** One direction; `shape` may be changed at any time. */
export class VirtualPath {
  readonly #network: VirtualNetwork;
  shape: PathShape;
  #burstUntil = 0;
  #nextBurst: number | undefined;
  sent = 0;
  lost = 0;

  constructor(network: VirtualNetwork, shape: PathShape) {
    this.#network = network;
    this.shape = shape;
  }

  send(datagram: Uint8Array, deliver: (datagram: Uint8Array) => void): void {
    const { random, now } = this.#network;
    const { delayMs, lossRatio = 0, jitterMs = 0, duplicateRatio = 0, mtuBytes, bottleneck } = this.shape;
    this.sent++;
    const through = bottleneck === undefined ? now : bottleneck.take(datagram.length, now);
    const isLost =
      through === undefined ||
      this.#isInBurst(now) ||
      (lossRatio > 0 && random.float() < lossRatio) ||
      (mtuBytes !== undefined && datagram.length > mtuBytes);
    if (isLost) {
      this.lost++;
      return;
    }
    const copies = duplicateRatio > 0 && random.float() < duplicateRatio ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      const bytes = datagram.slice();
      this.#network.at(through + delayMs + (jitterMs > 0 ? random.float() * jitterMs : 0), () =>
        deliver(bytes),
      );
    }
  }

  #isInBurst(now: number): boolean {
    const { burst } = this.shape;
    if (burst === undefined) return false;
    this.#nextBurst ??= now + this.#network.random.exponential(burst.everyMs);
    while (now >= this.#nextBurst) {
      this.#burstUntil = this.#nextBurst + burst.lengthMs;
      this.#nextBurst = this.#burstUntil + this.#network.random.exponential(burst.everyMs);
    }
    return now < this.#burstUntil;
  }
}

/** A checksum in place of a seal: what was changed is refused, each epoch has its own. No secret. */
export const checksum: PacketProtection = {
  seal(packet, _headerBytes, payloadEnd, number, epoch) {
    writeChecksum(packet, payloadEnd, sumOf(packet, payloadEnd, number, epoch));
  },
  open(packet, _headerBytes, end, number, epoch) {
    const payloadEnd = end - TAG_BYTES;
    const sum = sumOf(packet, payloadEnd, number, epoch);
    return (
      new DataView(packet.buffer, packet.byteOffset + payloadEnd).getUint32(0) === sum &&
      packet.subarray(payloadEnd + 4, end).every((byte) => byte === 0)
    );
  },
};
function sumOf(packet: Uint8Array, end: number, number: number, epoch: number): number {
  let sum = (0x811c9dc5 ^ epoch) >>> 0;
  for (let at = 0; at < end; at++) sum = Math.imul(sum ^ (packet[at] as number), 0x01000193) >>> 0;
  return (sum ^ number) >>> 0;
}
function writeChecksum(packet: Uint8Array, at: number, sum: number): void {
  packet.fill(0, at, at + TAG_BYTES);
  new DataView(packet.buffer, packet.byteOffset + at).setUint32(0, sum);
}

export class VirtualEnd {
  readonly connection: UdpConnection;
  readonly #network: VirtualNetwork;
  /** Where its datagrams come from. */
  address: string;
  /** Where a datagram goes, by its destination. */
  readonly #route: (datagram: Uint8Array, to: string) => void;
  readonly onEvent: (event: UdpEvent) => void;
  readonly #datagram = new Uint8Array(DATAGRAM_BYTES_MAX);
  #timer = 0;
  /** Whatever happens is seen to at multiples of it, together: a process that shares its processor. 0: at once. */
  turnMs = 0;
  /** At random times, this often on average, its process stands still for so long, up to twice: then what came is read, and after it timers are seen to. */
  stall: { readonly everyMs: number; readonly lengthMs: number } | undefined;
  #stalledUntil = 0;
  #nextStall: number | undefined;
  #waiting: { readonly datagram: Uint8Array; readonly from: string }[] = [];

  constructor(
    network: VirtualNetwork,
    address: string,
    options: UdpConnectionOptions,
    route: (datagram: Uint8Array, to: string) => void,
    onEvent: (event: UdpEvent) => void,
  ) {
    this.#network = network;
    this.address = address;
    this.connection = new UdpConnection(options, monotonicMs(network.now));
    this.#route = route;
    this.onEvent = onEvent;
  }

  receive(datagram: Uint8Array, from: string): void {
    if (this.#turnAt(this.#network.now) > this.#network.now) {
      if (this.#waiting.push({ datagram, from }) === 1)
        this.#network.at(this.#turnAt(this.#network.now), () => this.#receiveWaiting());
      return;
    }
    this.connection.handleDatagram(datagram, from, monotonicMs(this.#network.now));
    this.pump();
  }

  #turnAt(time: number): number {
    const turn = this.turnMs === 0 ? time : Math.ceil(time / this.turnMs) * this.turnMs;
    return Math.max(turn, this.#stallEnd());
  }

  /** When it goes on that stands still now; otherwise a time that is over. */
  #stallEnd(): number {
    const { random, now } = this.#network;
    if (this.stall === undefined) return 0;
    const { everyMs, lengthMs } = this.stall;
    this.#nextStall ??= now + random.exponential(everyMs);
    while (now >= this.#nextStall) {
      this.#stalledUntil = this.#nextStall + lengthMs * (1 + random.float());
      this.#nextStall = this.#stalledUntil + random.exponential(everyMs);
    }
    return this.#stalledUntil;
  }

  #receiveWaiting(): void {
    if (this.#handleWaiting()) this.pump();
  }

  /** Whether there was any. */
  #handleWaiting(): boolean {
    const now = monotonicMs(this.#network.now);
    const waiting = this.#waiting.splice(0);
    for (const { datagram, from } of waiting) this.connection.handleDatagram(datagram, from, now);
    return waiting.length > 0;
  }

  /** Hands on what happened, sends what may leave, and sets the timer. */
  pump(): void {
    const now = monotonicMs(this.#network.now);
    const { connection } = this;
    for (let event = connection.pollEvent(); event !== undefined; event = connection.pollEvent())
      this.onEvent(event);
    for (let bytes = connection.pollTransmit(this.#datagram, now); bytes > 0; ) {
      this.#route(this.#datagram.subarray(0, bytes), connection.remote);
      bytes = connection.pollTransmit(this.#datagram, now);
    }
    const dueAt = connection.pollTimeout(now);
    const timer = ++this.#timer;
    if (dueAt === undefined) return;
    // A timer that is due at once and lets nothing leave would never end.
    const see = (): void => {
      if (timer !== this.#timer) return;
      const at = this.#stallEnd();
      if (at > this.#network.now) {
        this.#network.at(at, see);
        return;
      }
      this.#handleWaiting();
      connection.handleTimeout(monotonicMs(this.#network.now));
      this.pump();
    };
    this.#network.at(this.#turnAt(Math.max(dueAt, now + TICK_MS)), see);
  }
}
const TICK_MS = 0.01;

export const nameOf = (end: number): Uint8Array => new Uint8Array(CONNECTION_BYTES).fill(end);

export type EndOptions = Partial<UdpConnectionOptions>;

/** A client and a server, a path each way. */
export class UdpPair {
  readonly network: VirtualNetwork;
  readonly client: VirtualEnd;
  readonly server: VirtualEnd;
  readonly up: VirtualPath;
  readonly down: VirtualPath;
  /** What came, by channel. */
  readonly atServer = new Map<number, Uint8Array[]>();
  readonly atClient = new Map<number, Uint8Array[]>();
  readonly events: { readonly end: "client" | "server"; readonly event: UdpEvent }[] = [];
  onClientData: (channel: number, bytes: Uint8Array) => void = () => {};
  onServerData: (channel: number, bytes: Uint8Array) => void = () => {};

  constructor(
    seed: string,
    up: PathShape,
    down: PathShape,
    { client = {}, server = {} }: { client?: EndOptions; server?: EndOptions } = {},
    network = new VirtualNetwork(seed),
  ) {
    this.network = network;
    this.up = new VirtualPath(network, up);
    this.down = new VirtualPath(network, down);
    let challenges = 0;
    const common = {
      protection: checksum,
      isRemoteValidated: true,
      unpredictable: () => new Uint8Array(CHALLENGE_BYTES).fill(++challenges),
    };
    this.client = new VirtualEnd(
      network,
      "192.0.2.1:1000",
      { ...common, localName: nameOf(1), remoteName: nameOf(2), remote: "192.0.2.2:2000", ...client },
      (datagram) => this.up.send(datagram, (bytes) => this.server.receive(bytes, this.client.address)),
      (event) => this.#handle("client", event),
    );
    this.server = new VirtualEnd(
      network,
      "192.0.2.2:2000",
      { ...common, localName: nameOf(2), remoteName: nameOf(1), remote: "192.0.2.1:1000", ...server },
      (datagram, to) =>
        this.down.send(datagram, (bytes) => {
          // Who has left an address hears nothing there.
          if (to === this.client.address) this.client.receive(bytes, this.server.address);
        }),
      (event) => this.#handle("server", event),
    );
  }

  #handle(end: "client" | "server", event: UdpEvent): void {
    if (event.kind !== "data") {
      this.events.push({ end, event });
      return;
    }
    const came = end === "client" ? this.atClient : this.atServer;
    const chunks = came.get(event.channel) ?? [];
    came.set(event.channel, chunks);
    chunks.push(event.bytes);
    if (end === "client") this.onClientData(event.channel, event.bytes);
    else this.onServerData(event.channel, event.bytes);
  }
}

/** The server answers each request of the client on channel 0 by `bytes`; when each answer was whole, ms after its request. */
export function fetches(pair: UdpPair, count: number, bytes: number): number[] {
  const times: number[] = [];
  let came = 0;
  let askedAt = 0;
  const ask = (): void => {
    came = 0;
    askedAt = pair.network.now;
    pair.client.connection.send(0, new Uint8Array(100));
    pair.client.pump();
  };
  pair.onServerData = (channel) => {
    if (channel !== 0) return;
    pair.server.connection.send(0, new Uint8Array(bytes));
    pair.server.pump();
  };
  pair.onClientData = (channel, piece) => {
    if (channel !== 0) return;
    came += piece.length;
    if (came < bytes) return;
    times.push(pair.network.now - askedAt);
    if (times.length < count) pair.network.at(pair.network.now + 150, ask);
  };
  ask();
  pair.network.run(pair.network.now + 600_000, () => times.length === count);
  return times;
}

/**
 * A name server's socket in batches: what waits is received together, what is common is answered at once, the rest by who asks, and answers leave together.
 */
import type { Socket } from "node:dgram";
import {
  BATCH_MAX,
  DatagramBatch,
  SOCKADDR_STRIDE,
  sockaddrAddressAt,
  sockaddrFamily,
  sockaddrPort,
} from "#kit/io";
import { GATHER_MS, Gathering } from "../core/dns/gathering.ts";
import type { BlackBox } from "./black-box.ts";
import { WAIT_FIRST, WaitingQueries } from "./waiting-queries.ts";

/** The longest datagram: nothing is ever cut. */
const RECEIVE_BYTES = 65_536;
/** 1,232 octets at most are sent (RFC 9715 and our own limit): they pass everywhere. */
const SEND_BYTES = 1_344;
/** Batches that are looked at before what waits has its turn. */
const BATCHES_A_ROUND_MAX = 64;
/** What waits is answered for so long before the socket is looked at again: less than its buffer holds under a flood. */
const ROUND_MS = 1;
/** Then TCP, probes and timers have their turn of the event loop. */
const TURN_MS = 4;

/** A thread that waits for it sleeps until its time is up. */
const neverWoken = new Int32Array(new SharedArrayBuffer(4));

/**
 * Answers `query[at..end]` from the sender into `out[outAt..]`; octets written, 0: silence, `WAIT_FIRST` or `WAIT`, where the sender may wait:
 * it is handed over again once what came with it is looked at.
 */
export type BatchHandler = (
  query: Uint8Array,
  at: number,
  end: number,
  sender: BatchSender,
  out: Uint8Array,
  outAt: number,
) => number;

/** Who sent a datagram, filled anew for each. */
export interface BatchSender {
  family: 4 | 6;
  /** Network order; IPv4 in the first one. */
  readonly words: Uint32Array;
  port: number;
  /** Whether the query may be put off. */
  mayWait: boolean;
  /** When it came, by `performance.now()`: the clock is read once for a batch. */
  nowMs: number;
}

export interface BatchCounters {
  /** Batches that were received, by size: 1, 2-4, 5-8, 9-16, 17-32, 33-64. */
  readonly received: number[];
  sendFailures: number;
  unanswerable: number;
  /** recvmmsg failed otherwise than by having nothing. */
  receiveFailures: number;
}

export const batchSizes = ["1", "2-4", "5-8", "9-16", "17-32", "33-64"] as const;
const sizeClass = (size: number): number => (size <= 1 ? 0 : Math.max(1, Math.ceil(Math.log2(size)) - 1));

export class UdpBatch {
  /** `unsent`: answers for which the device had no room. */
  readonly #counters = { received: batchSizes.map(() => 0), unsent: 0, unanswerable: 0 };
  readonly #batch: DatagramBatch;
  readonly #box: BlackBox | undefined;
  readonly #waiting: WaitingQueries;
  /** Where the memory of those that wait begins. */
  readonly #waitingAddress: bigint;
  readonly #sender: BatchSender = {
    family: 4,
    words: new Uint32Array(4),
    port: 0,
    mayWait: true,
    nowMs: 0,
  };
  readonly #gathering = new Gathering();
  /** Datagrams of the last round. */
  #roundDatagrams = 0;
  #isClosed = false;
  #isResuming = false;

  private constructor(batch: DatagramBatch, box: BlackBox | undefined) {
    this.#batch = batch;
    this.#box = box;
    this.#waiting = new WaitingQueries((bytes) => (box ?? batch).memory(bytes));
    this.#waitingAddress = batch.addressOf(this.#waiting.memory);
  }

  /** Loads what {@link open} needs: between a socket's first datagram and its listener nothing may wait. */
  static async load(): Promise<void> {
    await DatagramBatch.load();
  }

  /** @param socket a bound one; undefined where batches are not to be had */
  static open(socket: Socket, box?: BlackBox): UdpBatch | undefined {
    const batch = DatagramBatch.open(socket, {
      receiveBytes: RECEIVE_BYTES,
      sendBytes: SEND_BYTES,
      memoryOf: box && ((bytes) => box.memory(bytes)),
    });
    return batch && new UdpBatch(batch, box);
  }

  get counters(): BatchCounters {
    const { received, unsent, unanswerable } = this.#counters;
    const { receiveFailures, sendFailures } = this.#batch.counters;
    return { received, unanswerable, receiveFailures, sendFailures: sendFailures + unsent };
  }

  /** Queries that were dropped because too many waited. */
  get shed(): Readonly<Record<"known" | "unknown", number>> {
    return this.#waiting.shed;
  }

  /**
   * Answers what waits at the socket: what is common at once, the rest by who asks, in slices between which the socket is emptied. Goes on in
   * the next turn of the event loop where it does not come to the end.
   *
   * @param handler must not throw
   * @param first a datagram that was received already, and its sender; it is answered with the first batch
   */
  drain(handler: BatchHandler, first?: { readonly bytes: Uint8Array; readonly sockaddr: Uint8Array }): void {
    let from = first !== undefined && this.#batch.put(first.bytes, first.sockaddr) ? 1 : 0;
    // libuv reads up to 32 datagrams before it looks at anything else, and hands each to us: not a turn for each of them.
    if (this.#isResuming) {
      this.#receiveBatch(handler, from);
      return;
    }
    const gathering = this.#gathering;
    const beganMs = performance.now();
    gathering.begin(beganMs);
    for (;;) {
      const isEmpty = this.#receiveRound(handler, from);
      from = 0;
      const nowMs = performance.now();
      if (isEmpty && this.#waiting.length === 0) {
        if (!gathering.isWorthAWait(this.#roundDatagrams, nowMs)) return;
        Atomics.wait(neverWoken, 0, 0, GATHER_MS);
        continue;
      }
      this.#answerWaiting(handler, nowMs + ROUND_MS);
      if (performance.now() - beganMs >= TURN_MS) break;
    }
    this.#isResuming = true;
    setImmediate(() => {
      this.#isResuming = false;
      if (!this.#isClosed) this.drain(handler);
    });
  }

  /** Answers what was put off; nothing is received from now on. */
  close(handler: BatchHandler): void {
    this.#isClosed = true;
    while (this.#waiting.length > 0) this.#answerWaiting(handler, Number.POSITIVE_INFINITY);
  }

  /** Whether nothing more waits at the socket. @param from slots that are filled already */
  #receiveRound(handler: BatchHandler, from: number): boolean {
    this.#roundDatagrams = 0;
    for (let round = 0; round < BATCHES_A_ROUND_MAX; round++) {
      const count = this.#receiveBatch(handler, round === 0 ? from : 0);
      this.#roundDatagrams += count;
      if (count < BATCH_MAX) return true;
    }
    return false;
  }

  /** Datagrams that were received and looked at. @param from slots that are filled already */
  #receiveBatch(handler: BatchHandler, from: number): number {
    const count = this.#batch.receive(from);
    if (count === 0) return 0;
    (this.#counters.received[sizeClass(count)] as number)++;
    this.#answerReceived(handler, count);
    return count;
  }

  #answerReceived(handler: BatchHandler, count: number): void {
    let answers = 0;
    const batch = this.#batch;
    const { received, names } = batch;
    const sender = this.#sender;
    sender.nowMs = performance.now();
    for (let slot = 0; slot < count; slot++) {
      const length = batch.length(slot);
      const nameBytes = batch.nameBytes(slot);
      const nameAt = slot * SOCKADDR_STRIDE;
      if (length < 0 || !this.#readSender(names, nameAt, nameBytes)) {
        this.#counters.unanswerable++;
        continue;
      }
      const at = slot * batch.receiveStride;
      sender.mayWait = true;
      const bytes = this.#ask(handler, received, at, at + length, answers);
      if (bytes < 0)
        this.#waiting.push(bytes === WAIT_FIRST, received, at, at + length, names, nameAt, nameBytes);
      if (bytes > 0 && bytes <= SEND_BYTES) batch.addressBack(answers++, slot, bytes);
    }
    this.#send(answers);
  }

  #answerWaiting(handler: BatchHandler, untilMs: number): void {
    const waiting = this.#waiting;
    let answers = 0;
    const sender = this.#sender;
    sender.mayWait = false;
    while (waiting.length > 0) {
      sender.nowMs = performance.now();
      if (sender.nowMs >= untilMs) break;
      if (answers === BATCH_MAX) {
        this.#send(answers);
        answers = 0;
      }
      const slot = waiting.shift();
      const nameBytes = waiting.nameBytes(slot);
      this.#readSender(waiting.memory, waiting.nameAt(slot), nameBytes);
      const [at, end] = [waiting.queryAt(slot), waiting.queryEnd(slot)];
      const bytes = this.#ask(handler, waiting.memory, at, end, answers);
      if (bytes <= 0 || bytes > SEND_BYTES) continue;
      const address = this.#waitingAddress + BigInt(waiting.nameAt(slot));
      const [low, high] = [Number(address & 0xffff_ffffn), Number(address >> 32n)];
      this.#batch.addressTo(answers++, low, high, nameBytes, bytes);
    }
    // The slots are others' from the next round on.
    this.#send(answers);
  }

  #ask(handler: BatchHandler, memory: Buffer, at: number, end: number, answers: number): number {
    const sender = this.#sender;
    const box = this.#box;
    box?.begin(memory, at, end, sender.family, sender.words, sender.port);
    const bytes = handler(memory, at, end, sender, this.#batch.sent, answers * SEND_BYTES);
    box?.end();
    return bytes;
  }

  /** False when nothing can be sent there: port 0, or no address of a family that is known. */
  #readSender(names: Buffer, at: number, nameBytes: number): boolean {
    const port = sockaddrPort(names, at);
    const family = sockaddrFamily(names, at, nameBytes);
    if (port === 0 || family === undefined) return false;
    const sender = this.#sender;
    sender.port = port;
    const word = (offset: number): number =>
      (((names[offset] as number) << 24) |
        ((names[offset + 1] as number) << 16) |
        ((names[offset + 2] as number) << 8) |
        (names[offset + 3] as number)) >>>
      0;
    const from = at + sockaddrAddressAt[family];
    sender.family = family;
    sender.words[0] = word(from);
    if (family === 4) return true;
    for (let index = 1; index < 4; index++) sender.words[index] = word(from + index * 4);
    const [w0, w1, w2, w3] = sender.words as unknown as [number, number, number, number];
    // IPv4 as a dual-stack socket shows it: ::ffff:a.b.c.d.
    if (w0 === 0 && w1 === 0 && w2 === 0xffff) {
      sender.family = 4;
      sender.words[0] = w3;
    }
    return true;
  }

  /** What the device has no room for is lost, and asked for again. */
  #send(count: number): void {
    this.#counters.unsent += count - this.#batch.send(count);
  }
}

/**
 * Connections whose bytes come and go through an io_uring: one receive stays with each of them, all answers of a turn leave in one
 * system call (measured on the hit path: 3.4 us of CPU a request through libuv, 2.3 through the ring). Each is a `net.Socket`
 * all the same, which writes, ends and closes as ever: only its reading is taken over (`readStart` and `readStop` of its
 * handle), and small answers may leave by `send`. It goes back to libuv by `leave`.
 *
 * Order: while a send is under way its connection hears nothing, so that nothing can be written past it. Memory: what is
 * received lies in a ring's buffer during the call only; what is sent is copied into a slot that stays until the kernel is done.
 * A slot of the table of connections is used again only when the kernel has answered for all that was asked for it. And nothing that was
 * written for a connection is left to be submitted when its descriptor closes: the next connection may get the number.
 */
import { probe } from "./probe.ts";
import { type Handle, type RingOperations, RingReads } from "./ring-reads.ts";
import {
  BUFFER_GROUP,
  BUFFER_SELECT,
  CANCEL,
  HAS_BUFFER,
  HAS_MORE,
  MULTISHOT,
  type Mapping,
  RECEIVE,
  Ring,
  type RingSizes,
  SEND,
  SEND_MESSAGE,
} from "./ring.ts";

export interface RingLimits extends RingSizes {
  /** Buffers for what is received: a power of two. Each is free again when its bytes have been looked at. */
  readonly buffers: number;
  /** Answers on their way at once. What finds no room goes by libuv. */
  readonly sends: number;
}

const LIMITS: RingLimits = { submissions: 1_024, completions: 8_192, buffers: 1_024, sends: 512 };
const BUFFER_BYTES = 4_096;
/** A slot: the longest answer that is copied, or the beginning of one whose content is not, with the list of its parts. */
const SEND_BYTES_MAX = 20 * 1_024;
/** Parts of an answer whose content is not copied. */
const PIECES_MAX = 64;
/** Shorter pieces are copied: V8 may keep contents of some dozen bytes where it moves them, and a page costs more than a copy. */
const COPIED_BYTES_MAX = 2_048;
/** struct msghdr: places of its list and of the length of that; struct iovec: an address and a length. */
const MESSAGE_BYTES = 56;
const MESSAGE_LIST_AT = 16;
const MESSAGE_COUNT_AT = 24;
const PART_BYTES = 16;
const PARTS_BYTES = MESSAGE_BYTES + PIECES_MAX * 2 * PART_BYTES;
/** Turns of the ring in one of the event loop: then timers and other sockets have theirs. */
const TURNS_MAX = 8;
const MSG_WAITALL_NOSIGNAL = 0x4100;
const ENOBUFS = -105;
/** What a completion is of: the low bits of its second word, below the connection's tag. */
const kinds = { cancelSend: 0, receive: 1, send: 2, cancelReceive: 3 } as const;
const KIND_BITS = 2;
const TAGS = 2 ** 30;

export interface RingCounters {
  receives: number;
  sends: number;
  /** Those of them whose content was not copied. */
  longSends: number;
  /** Answers that libuv wrote since no slot was free. */
  sendsElsewhere: number;
  /** Receives that ended for want of a buffer, and were begun anew. */
  buffersExhausted: number;
  /** Answers that the system did not take whole. */
  sendFailures: number;
  /** The ring broke: its connections were cut, later ones go through libuv. 0 or 1. */
  failures: number;
}

export class RingSockets implements RingOperations {
  readonly counters: RingCounters = {
    receives: 0,
    sends: 0,
    longSends: 0,
    sendsElsewhere: 0,
    buffersExhausted: 0,
    sendFailures: 0,
    failures: 0,
  };
  #ring!: Ring;
  #buffers!: Mapping;
  /** struct io_uring_buf: address (2 words), length, identity; the tail lies in the last half word of the first one. */
  #bufferRing!: Uint32Array;
  #bufferTail!: Uint16Array;
  #sends!: Mapping;
  readonly #freeSends: number[] = [];
  /** Where the contents of buffers begin. */
  readonly #addresses = new WeakMap<ArrayBufferLike, number>();
  readonly #connections: (RingReads | undefined)[] = [];
  readonly #freeConnections: number[] = [];
  readonly #limits: RingLimits;
  #open = 0;
  #tags = 0;
  #isRunning = false;
  #isScheduled = false;
  /** Called once when the ring breaks. */
  onFailure: ((error: Error) => void) | undefined;

  private constructor(limits: RingLimits) {
    this.#limits = limits;
  }

  /** Opens one and tries it. Rejects with an Error that says what the system refused, or what went wrong. */
  static async open(limits: Partial<RingLimits> = {}): Promise<RingSockets> {
    const sockets = new RingSockets({ ...LIMITS, ...limits });
    const ring = await Ring.open(sockets.#limits, {
      onWake: () => sockets.#run(),
      onFailure: (error) => sockets.#broken(error),
    });
    sockets.#ring = ring;
    try {
      sockets.#prepare();
      await probe(sockets, () => ring.socketPair());
    } catch (error) {
      ring.release();
      throw error;
    }
    return sockets;
  }

  #prepare(): void {
    const { buffers, sends } = this.#limits;
    const ring = this.#ring;
    this.#buffers = ring.map(buffers * BUFFER_BYTES);
    this.#sends = ring.map(sends * SEND_BYTES_MAX);
    const bufferRing = ring.map(buffers * 16);
    ring.registerBuffers(bufferRing, buffers);
    const { buffer, byteOffset } = bufferRing.bytes;
    this.#bufferRing = new Uint32Array(buffer, byteOffset, buffers * 4);
    this.#bufferTail = new Uint16Array(buffer, byteOffset + 14, 1);
    for (let index = 0; index < buffers; index++) this.#giveBack(index);
    for (let slot = sends - 1; slot >= 0; slot--) this.#freeSends.push(slot);
  }

  /** Whether it takes connections. */
  get isWhole(): boolean {
    return this.counters.failures === 0;
  }

  /** Connections that read through the ring. */
  get connections(): number {
    return this.#open;
  }

  /** Takes the reading of a handle over. To be called before a socket is made of it; then {@link RingReads.attach}. */
  take(handle: unknown): RingReads {
    const slot = this.#freeConnections.pop() ?? this.#connections.length;
    this.#tags = (this.#tags + 1) % TAGS;
    const reads = new RingReads(this, slot, this.#tags, handle as Handle);
    this.#connections[slot] = reads;
    if (this.#open++ === 0) this.#ring.hold(true);
    return reads;
  }

  /** @internal */
  arm(reads: RingReads): void {
    const { entries } = this.#ring;
    const at = this.#ring.submission();
    entries[at] = RECEIVE | (BUFFER_SELECT << 8) | (MULTISHOT << 16);
    entries[at + 1] = reads.fd;
    entries[at + 8] = reads.slot;
    entries[at + 9] = nameOf(reads, kinds.receive);
    entries[at + 10] = BUFFER_GROUP;
    this.#schedule();
  }

  /** @internal */
  cancel(reads: RingReads, what: "receive" | "send"): void {
    const { entries } = this.#ring;
    const at = this.#ring.submission();
    entries[at] = CANCEL;
    entries[at + 4] = reads.slot;
    entries[at + 5] = nameOf(reads, kinds[what]);
    entries[at + 8] = reads.slot;
    entries[at + 9] = nameOf(reads, what === "receive" ? kinds.cancelReceive : kinds.cancelSend);
    this.#schedule();
  }

  /** @internal */
  send(reads: RingReads, bytes: Uint8Array): number {
    const send = bytes.byteLength > SEND_BYTES_MAX ? undefined : this.#freeSends.pop();
    if (send === undefined) {
      this.counters.sendsElsewhere++;
      return -1;
    }
    this.#sends.bytes.set(bytes, send * SEND_BYTES_MAX);
    this.#submitSend(reads, SEND, send, bytes.byteLength);
    return send;
  }

  /** @internal */
  sendPieces(reads: RingReads, head: Uint8Array, pieces: readonly Uint8Array[]): number {
    let copied = PARTS_BYTES + head.byteLength;
    for (const { byteLength } of pieces) if (byteLength <= COPIED_BYTES_MAX) copied += byteLength;
    const send = copied > SEND_BYTES_MAX || pieces.length >= PIECES_MAX ? undefined : this.#freeSends.pop();
    if (send === undefined) {
      this.counters.sendsElsewhere++;
      return -1;
    }
    // In the slot: the message, the list of its parts, then what was copied.
    const { bytes: slots } = this.#sends;
    const from = send * SEND_BYTES_MAX;
    const address = Number(this.#sends.address) + from;
    const listAt = from + MESSAGE_BYTES;
    let part = listAt;
    let room = from + PARTS_BYTES;
    const add = (place: number, bytes: number): void => {
      writeAddress(slots, part, place);
      writeAddress(slots, part + 8, bytes);
      part += PART_BYTES;
    };
    const copy = (bytes: Uint8Array): void => {
      slots.set(bytes, room);
      add(address + room - from, bytes.byteLength);
      room += bytes.byteLength;
    };
    copy(head);
    for (const piece of pieces)
      if (piece.byteLength <= COPIED_BYTES_MAX) copy(piece);
      else add(this.#addressOf(piece), piece.byteLength);
    slots.fill(0, from, listAt);
    writeAddress(slots, from + MESSAGE_LIST_AT, address + MESSAGE_BYTES);
    writeAddress(slots, from + MESSAGE_COUNT_AT, (part - listAt) / PART_BYTES);
    this.#submitSend(reads, SEND_MESSAGE, send, 1);
    this.counters.longSends++;
    return send;
  }

  /** Kept with the buffer: a call for each piece of each answer would be dearer. */
  #addressOf(piece: Uint8Array): number {
    let base = this.#addresses.get(piece.buffer);
    if (base === undefined) {
      base = this.#ring.addressOf(piece) - piece.byteOffset;
      this.#addresses.set(piece.buffer, base);
    }
    return base + piece.byteOffset;
  }

  #submitSend(reads: RingReads, operation: number, send: number, length: number): void {
    const address = Number(this.#sends.address) + send * SEND_BYTES_MAX;
    const { entries } = this.#ring;
    const at = this.#ring.submission();
    entries[at] = operation;
    entries[at + 1] = reads.fd;
    entries[at + 4] = address | 0;
    entries[at + 5] = Math.floor(address / 2 ** 32);
    entries[at + 6] = length;
    entries[at + 7] = MSG_WAITALL_NOSIGNAL;
    entries[at + 8] = reads.slot;
    entries[at + 9] = nameOf(reads, kinds.send);
    this.#schedule();
  }

  /** @internal */
  unsent(send: number, from: number, to: number, isMessage: boolean): Buffer {
    this.counters.sendFailures++;
    const at = send * SEND_BYTES_MAX + (isMessage ? PARTS_BYTES : 0);
    return Buffer.from(this.#sends.bytes.subarray(at + Math.min(from, to), at + to));
  }

  /** @internal */
  freeSend(send: number): void {
    this.#freeSends.push(send);
  }

  /** @internal */
  settle(reads: RingReads): void {
    this.#ring.settle(reads.fd);
    this.#schedule();
  }

  /** @internal */
  free({ slot }: RingReads): void {
    this.#connections[slot] = undefined;
    this.#freeConnections.push(slot);
    if (--this.#open === 0) this.#ring.hold(false);
  }

  /** What its connections have received or sent nobody knows any more. They are cut, but not under the feet of who writes to one. */
  #broken(error: Error): void {
    this.counters.failures = 1;
    setImmediate(() => {
      for (const reads of this.#connections.slice()) reads?.broken(error);
      this.onFailure?.(error);
    });
  }

  #giveBack(buffer: number): void {
    const tail = this.#bufferTail[0] as number;
    const at = (tail & (this.#limits.buffers - 1)) * 4;
    const address = Number(this.#buffers.address) + buffer * BUFFER_BYTES;
    this.#bufferRing[at] = address;
    this.#bufferRing[at + 1] = Math.floor(address / 2 ** 32);
    this.#bufferRing[at + 2] = BUFFER_BYTES;
    // The identity is the lower half; the upper one is the tail's in the first entry and nobody's in the others.
    this.#bufferRing[at + 3] = ((this.#bufferRing[at + 3] as number) & 0xffff_0000) | buffer;
    this.#bufferTail[0] = tail + 1;
  }

  /** Submissions that were written outside of a turn leave at the next one of the event loop. */
  #schedule(): void {
    if (this.#isRunning || this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#run();
    });
  }

  #run(): void {
    if (this.#isRunning) return;
    const ring = this.#ring;
    this.#isRunning = true;
    ring.isWaking = false;
    try {
      for (let turn = 0; turn < TURNS_MAX && ring.isBusy; turn++) {
        ring.submit();
        ring.reap(this.#completed);
      }
    } finally {
      this.#isRunning = false;
      ring.isWaking = true;
      if (ring.isBusy) this.#schedule();
    }
  }

  readonly #completed = (slot: number, name: number, result: number, flags: number): void => {
    const kind = name & ((1 << KIND_BITS) - 1);
    const there = this.#connections[slot];
    const reads = there !== undefined && nameOf(there, kind) === name ? there : undefined;
    switch (kind) {
      case kinds.receive:
        this.#received(reads, result, flags);
        return;
      case kinds.send:
        this.counters.sends++;
        reads?.sent(result);
        return;
      default:
        reads?.cancelEnded(kind === kinds.cancelReceive ? "receive" : "send", result);
    }
  };

  #received(reads: RingReads | undefined, result: number, flags: number): void {
    const buffer = (flags & HAS_BUFFER) === 0 ? -1 : flags >>> 16;
    const isBuffer = buffer >= 0 && buffer < this.#limits.buffers;
    try {
      if (isBuffer && result > 0 && result <= BUFFER_BYTES) {
        this.counters.receives++;
        const at = buffer * BUFFER_BYTES;
        reads?.received(this.#buffers.bytes.subarray(at, at + result));
      }
    } finally {
      if (isBuffer) this.#giveBack(buffer);
      if ((flags & HAS_MORE) === 0) {
        if (result === ENOBUFS) this.counters.buffersExhausted++;
        reads?.receiveEnded(result);
      }
    }
  }
}

/** An address, or a length, in eight bytes. */
function writeAddress(bytes: Buffer, at: number, address: number): void {
  bytes.writeUInt32LE(address >>> 0, at);
  bytes.writeUInt32LE(Math.floor(address / 2 ** 32), at + 4);
}

/** The second word of what is asked for a connection. */
function nameOf(reads: RingReads, kind: number): number {
  return (reads.tag << KIND_BITS) | kind;
}

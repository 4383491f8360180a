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
import type { Socket } from "node:net";
import { getSystemErrorName } from "node:util";
import { SocketReads } from "../socket-reads.ts";
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
  SEND,
} from "./ring.ts";

/** Buffers for what is received: a power of two. Each is free again when its bytes have been looked at. */
const BUFFERS = 1_024;
const BUFFER_BYTES = 4_096;
/** Answers on their way at once, and the longest that goes this way. What finds no room goes by libuv. */
const SENDS = 512;
const SEND_BYTES_MAX = 20 * 1_024;
/** Bytes that wait for the end of a send before reading stops: no client that waits for its answer sends more. */
const HELD_BYTES_MAX = 64 * 1_024;
/** Turns of the ring in one of the event loop: then timers and other sockets have theirs. */
const TURNS_MAX = 8;
const MSG_WAITALL_NOSIGNAL = 0x4100;
const ENOBUFS = -105;
const ECANCELED = -125;
const kinds = { receive: 1, send: 2, cancel: 3 } as const;

/** What of a TCP handle is asked for. */
interface Handle {
  readonly fd: number;
  reading?: boolean;
  readStart?: () => number;
  readStop?: () => number;
  close?: (callback?: () => void) => void;
  /** Closes with a reset. */
  reset?: (callback?: () => void) => number;
}

export interface RingCounters {
  receives: number;
  sends: number;
  /** Answers that libuv wrote since no slot was free. */
  sendsElsewhere: number;
  /** Receives that ended for want of a buffer, and were begun anew. */
  buffersExhausted: number;
  /** Answers that the system did not take whole. */
  sendFailures: number;
}

export class RingSockets {
  readonly counters: RingCounters = {
    receives: 0,
    sends: 0,
    sendsElsewhere: 0,
    buffersExhausted: 0,
    sendFailures: 0,
  };
  #ring!: Ring;
  #buffers!: Mapping;
  /** struct io_uring_buf: address (2 words), length, identity; the tail lies in the last half word of the first one. */
  #bufferRing!: Uint32Array;
  #bufferTail!: Uint16Array;
  #sends!: Mapping;
  readonly #freeSends: number[] = [];
  readonly #connections: (RingReads | undefined)[] = [];
  readonly #freeConnections: number[] = [];
  #open = 0;
  #isRunning = false;
  #isScheduled = false;

  /** Rejects with an Error that says what the system refused. */
  static async open(): Promise<RingSockets> {
    const sockets = new RingSockets();
    const ring = await Ring.open(() => sockets.#run());
    sockets.#ring = ring;
    sockets.#buffers = ring.map(BUFFERS * BUFFER_BYTES);
    sockets.#sends = ring.map(SENDS * SEND_BYTES_MAX);
    const bufferRing = ring.map(BUFFERS * 16);
    ring.registerBuffers(bufferRing, BUFFERS);
    const { buffer, byteOffset } = bufferRing.bytes;
    sockets.#bufferRing = new Uint32Array(buffer, byteOffset, BUFFERS * 4);
    sockets.#bufferTail = new Uint16Array(buffer, byteOffset + 14, 1);
    for (let index = 0; index < BUFFERS; index++) sockets.#giveBack(index);
    for (let slot = SENDS - 1; slot >= 0; slot--) sockets.#freeSends.push(slot);
    return sockets;
  }

  /** Connections that read through the ring. */
  get connections(): number {
    return this.#open;
  }

  /** Takes the reading of a handle over. To be called before a socket is made of it; then {@link RingReads.attach}. */
  take(handle: unknown): RingReads {
    const slot = this.#freeConnections.pop() ?? this.#connections.length;
    const reads = new RingReads(this, slot, handle as Handle);
    this.#connections[slot] = reads;
    if (this.#open++ === 0) this.#ring.hold(true);
    return reads;
  }

  /** @internal */
  arm(slot: number, fd: number): void {
    const { entries } = this.#ring;
    const at = this.#ring.submission();
    entries[at] = RECEIVE | (BUFFER_SELECT << 8) | (MULTISHOT << 16);
    entries[at + 1] = fd;
    entries[at + 8] = slot;
    entries[at + 9] = kinds.receive;
    entries[at + 10] = BUFFER_GROUP;
    this.#schedule();
  }

  /** @internal */
  cancel(slot: number, kind: "receive" | "send"): void {
    const { entries } = this.#ring;
    const at = this.#ring.submission();
    entries[at] = CANCEL;
    entries[at + 4] = slot;
    entries[at + 5] = kinds[kind];
    entries[at + 9] = kinds.cancel;
    this.#schedule();
  }

  /** @internal Copies `bytes` and sends them. The slot they lie in; -1: no room. */
  send(slot: number, fd: number, bytes: Uint8Array): number {
    const send = bytes.byteLength > SEND_BYTES_MAX ? undefined : this.#freeSends.pop();
    if (send === undefined) {
      this.counters.sendsElsewhere++;
      return -1;
    }
    this.#sends.bytes.set(bytes, send * SEND_BYTES_MAX);
    const address = Number(this.#sends.address) + send * SEND_BYTES_MAX;
    const { entries } = this.#ring;
    const at = this.#ring.submission();
    entries[at] = SEND;
    entries[at + 1] = fd;
    entries[at + 4] = address | 0;
    entries[at + 5] = Math.floor(address / 2 ** 32);
    entries[at + 6] = bytes.byteLength;
    entries[at + 7] = MSG_WAITALL_NOSIGNAL;
    entries[at + 8] = slot;
    entries[at + 9] = kinds.send;
    this.#schedule();
    return send;
  }

  /** @internal What of a send the system did not take. */
  unsent(send: number, from: number, bytes: number): Buffer {
    this.counters.sendFailures++;
    const at = send * SEND_BYTES_MAX;
    return Buffer.from(this.#sends.bytes.subarray(at + from, at + bytes));
  }

  /** @internal */
  freeSend(send: number): void {
    this.#freeSends.push(send);
  }

  /** @internal To be called before the descriptor is closed. */
  settle(slot: number): void {
    this.#ring.settle(slot);
    this.#schedule();
  }

  /** @internal Nothing is under way for it any more. */
  free(slot: number): void {
    this.#connections[slot] = undefined;
    this.#freeConnections.push(slot);
    if (--this.#open === 0) this.#ring.hold(false);
  }

  #giveBack(buffer: number): void {
    const tail = this.#bufferTail[0] as number;
    const at = (tail & (BUFFERS - 1)) * 4;
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

  readonly #completed = (slot: number, kind: number, result: number, flags: number): void => {
    if (kind === kinds.cancel) return;
    const reads = this.#connections[slot];
    const buffer = (flags & HAS_BUFFER) === 0 ? -1 : flags >>> 16;
    if (kind === kinds.receive) {
      try {
        if (buffer >= 0 && buffer < BUFFERS && result > 0 && result <= BUFFER_BYTES) {
          this.counters.receives++;
          const at = buffer * BUFFER_BYTES;
          reads?.received(this.#buffers.bytes.subarray(at, at + result));
        }
      } finally {
        if (buffer >= 0 && buffer < BUFFERS) this.#giveBack(buffer);
        if ((flags & HAS_MORE) === 0) {
          if (result === ENOBUFS) this.counters.buffersExhausted++;
          reads?.receiveEnded(result);
        }
      }
    } else if (kind === kinds.send) {
      this.counters.sends++;
      reads?.sent(result);
    }
  };
}

/** One of them. */
export class RingReads extends SocketReads {
  readonly #sockets: RingSockets;
  readonly #slot: number;
  readonly #handle: Handle;
  readonly #fd: number;
  #socket: Socket | undefined;
  #isArmed = false;
  #wantsMore = false;
  /** The slot of the send that is under way, -1: none, and its length. */
  #send = -1;
  #sendBytes = 0;
  /** What came during a send, in order. */
  #held: Buffer[] = [];
  #heldBytes = 0;
  #isEndHeld = false;
  #isClosed = false;
  #isFreed = false;
  #onLeft: ((more: Buffer) => void) | undefined;

  constructor(sockets: RingSockets, slot: number, handle: Handle) {
    super();
    this.#sockets = sockets;
    this.#slot = slot;
    this.#handle = handle;
    this.#fd = handle.fd;
    handle.readStart = () => {
      this.#wantsMore = true;
      this.#arm();
      return 0;
    };
    handle.readStop = () => {
      this.#stop();
      return 0;
    };
    const { close, reset } = handle;
    handle.close = (callback) => {
      this.#closing();
      close?.call(handle, callback);
    };
    handle.reset = (callback) => {
      this.#closing();
      return reset?.call(handle, callback) ?? 0;
    };
  }

  /** The socket that was made of the handle. */
  attach(socket: Socket): void {
    this.#socket = socket;
  }

  override get isSending(): boolean {
    return this.#send >= 0;
  }

  override send(bytes: Uint8Array): boolean {
    const socket = this.#socket;
    if (socket === undefined || this.#send >= 0 || this.#isClosed || this.#onLeft !== undefined) return false;
    if (socket.writableLength > 0 || socket.writableEnded || socket.destroyed) return false;
    this.#send = this.#sockets.send(this.#slot, this.#fd, bytes);
    this.#sendBytes = bytes.byteLength;
    return this.#send >= 0;
  }

  override leave(onLeft: (more: Buffer) => void): void {
    this.#onLeft = onLeft;
    this.#stop();
    if (!this.#isArmed) this.#left();
  }

  #arm(): void {
    if (this.#isArmed || !this.#wantsMore || this.#isClosed || this.#isEndHeld) return;
    this.#isArmed = true;
    this.#sockets.arm(this.#slot, this.#fd);
  }

  #stop(): void {
    this.#wantsMore = false;
    if (this.#isArmed) this.#sockets.cancel(this.#slot, "receive");
  }

  /** @internal `bytes` are valid during the call only. */
  received(bytes: Buffer): void {
    if (this.#isClosed) return;
    if (this.#send < 0 && this.#onLeft === undefined) {
      this.#deliver(bytes);
      return;
    }
    this.#held.push(Buffer.from(bytes));
    this.#heldBytes += bytes.byteLength;
    if (this.#heldBytes > HELD_BYTES_MAX && this.#wantsMore) this.#stop();
  }

  #deliver(bytes: Buffer): void {
    if (this.sink === undefined) this.#socket?.push(Buffer.from(bytes));
    else this.sink(bytes);
  }

  /** @internal The receive is over: by the end of the bytes (0), by a cancellation, or by a failure. */
  receiveEnded(result: number): void {
    this.#isArmed = false;
    if (this.#isClosed) this.#freeIfDone();
    else if (this.#onLeft !== undefined) this.#left();
    else if (result === 0) {
      if (this.#send >= 0 || this.#held.length > 0) this.#isEndHeld = true;
      else this.#end();
    } else if (result > 0 || result === ENOBUFS || result === ECANCELED) this.#arm();
    else this.#socket?.destroy(systemError("read", result));
  }

  /** As Node's own sockets end. */
  #end(): void {
    this.#wantsMore = false;
    this.#socket?.push(null);
    this.#socket?.read(0);
  }

  /** @internal */
  sent(result: number): void {
    const send = this.#send;
    if (send < 0) return;
    const socket = this.#socket;
    const rest =
      result >= 0 && result < this.#sendBytes && !this.#isClosed
        ? this.#sockets.unsent(send, result, this.#sendBytes)
        : undefined;
    this.#sockets.freeSend(send);
    this.#send = -1;
    if (this.#isClosed) {
      this.#freeIfDone();
      return;
    }
    if (rest !== undefined) socket?.write(rest);
    if (result < 0) {
      socket?.destroy(systemError("write", result));
      return;
    }
    if (this.#onLeft !== undefined) {
      if (!this.#isArmed) this.#left();
    } else if (this.#held.length > 0 || this.#isEndHeld) this.#deliverHeld();
  }

  #deliverHeld(): void {
    const bytes = Buffer.concat(this.#held);
    this.#held = [];
    const wasFull = this.#heldBytes > HELD_BYTES_MAX;
    this.#heldBytes = 0;
    if (bytes.byteLength > 0) this.#deliver(bytes);
    // The delivery may have begun the next send, which the end has to wait for as well.
    if (this.#isEndHeld && this.#send < 0 && this.#onLeft === undefined) {
      this.#isEndHeld = false;
      this.#end();
    } else if (wasFull && this.#onLeft === undefined && !this.#isClosed && this.#handle.reading === true) {
      this.#wantsMore = true;
      this.#arm();
    }
  }

  /** The descriptor is closed next. */
  #closing(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#held = [];
    // The kernel keeps the connection open for what is under way.
    if (this.#isArmed) this.#sockets.cancel(this.#slot, "receive");
    if (this.#send >= 0) this.#sockets.cancel(this.#slot, "send");
    this.#sockets.settle(this.#slot);
    if (this.#onLeft !== undefined) this.#left();
    this.#freeIfDone();
  }

  #freeIfDone(): void {
    if (this.#isFreed || this.#isArmed || this.#send >= 0) return;
    this.#isFreed = true;
    this.#sockets.free(this.#slot);
  }

  /** libuv reads from here on. */
  #left(): void {
    const onLeft = this.#onLeft;
    if (onLeft === undefined || (this.#send >= 0 && !this.#isClosed)) return;
    this.#onLeft = undefined;
    const more = Buffer.concat(this.#held);
    this.#held = [];
    if (!this.#isClosed) {
      this.#isClosed = true;
      delete this.#handle.readStart;
      delete this.#handle.readStop;
      delete this.#handle.close;
      delete this.#handle.reset;
      this.#handle.reading = false;
    }
    this.#freeIfDone();
    onLeft(more);
  }
}

function systemError(call: string, result: number): Error {
  const code = getSystemErrorName(result);
  return Object.assign(new Error(`${call} ${code}`), { code, syscall: call, errno: result });
}

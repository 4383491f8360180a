/**
 * One connection whose bytes come and go through the ring: its state and the order of things. What it asks of the ring
 * it asks by its slot; every answer names the slot and the connection that it was for, so one that comes late meets nobody else.
 */
import type { Socket } from "node:net";
import { getSystemErrorName } from "node:util";
import { SocketReads } from "../socket-reads.ts";

/** Bytes that wait for the end of a send before reading stops: no client that waits for its answer sends more. */
const HELD_BYTES_MAX = 64 * 1_024;
/** What a piece costs beside its bytes: single octets must not cost a hundred times what is counted. */
const HELD_PIECE_BYTES = 256;
/** From a cancellation that found nothing to the next try, ms. */
const CANCEL_AGAIN_MS = 1;
const NO_PIECES: readonly Uint8Array[] = [];
/** One answer for each connection of a ring that broke, at most: a process has one ring. */
const KEPT_FOR_GOOD: (readonly Uint8Array[])[] = [];
const ENOENT = -2;
const EALREADY = -114;
const ENOBUFS = -105;
const ECANCELED = -125;

/** What of a TCP handle is asked for. */
export interface Handle {
  readonly fd: number;
  reading?: boolean;
  readStart?: () => number;
  readStop?: () => number;
  close?: (callback?: () => void) => void;
  /** Closes with a reset. */
  reset?: (callback?: () => void) => number;
  /** Ends the sending side. 1: done at once; else `oncomplete` is called. */
  shutdown?: (request: ShutdownRequest) => number;
}

interface ShutdownRequest {
  oncomplete?: (status: number) => void;
}

/** What a connection asks of the ring. */
export interface RingOperations {
  arm(reads: RingReads): void;
  cancel(reads: RingReads, what: "receive" | "send"): void;
  /** Copies `bytes` and sends them. The slot they lie in; -1: no room. */
  send(reads: RingReads, bytes: Uint8Array): number;
  /** Copies `head`, and sends it and `pieces`, which have to stay as they are until {@link RingReads.sent}. As {@link send}. */
  sendPieces(reads: RingReads, head: Uint8Array, pieces: readonly Uint8Array[]): number;
  /** Counts a send that the system did not take whole. Bytes `from..to` of it, or (`isMessage`) of its head. */
  unsent(send: number, from: number, to: number, isMessage: boolean): Buffer;
  freeSend(send: number): void;
  /** To be called before the descriptor is closed. */
  settle(reads: RingReads): void;
  /** Nothing is under way for it any more. */
  free(reads: RingReads): void;
}

export class RingReads extends SocketReads {
  readonly slot: number;
  /** Which of those that the slot has had. */
  readonly tag: number;
  readonly fd: number;
  readonly #ring: RingOperations;
  readonly #handle: Handle;
  #socket: Socket | undefined;
  #isArmed = false;
  #wantsMore = false;
  /** The slot of the send that is under way, -1: none; the length of what was copied of it; what was not, which the kernel reads. */
  #send = -1;
  #sendBytes = 0;
  #pieces: readonly Uint8Array[] = NO_PIECES;
  /** What came during a send, in order. */
  #held: Buffer[] = [];
  #heldBytes = 0;
  #isEndHeld = false;
  #isClosed = false;
  #isFreed = false;
  #onLeft: ((more: Buffer) => void) | undefined;
  /** The end of the sending side, which waits for the send before it. */
  #shutdown: (() => void) | undefined;

  constructor(ring: RingOperations, slot: number, tag: number, handle: Handle) {
    super();
    this.#ring = ring;
    this.slot = slot;
    this.tag = tag;
    this.#handle = handle;
    this.fd = handle.fd;
    handle.readStart = () => {
      this.#wantsMore = true;
      this.#arm();
      return 0;
    };
    handle.readStop = () => {
      this.#stop();
      return 0;
    };
    const { close, reset, shutdown } = handle;
    handle.close = (callback) => {
      this.#closing();
      close?.call(handle, callback);
    };
    handle.reset = (callback) => {
      this.#closing();
      return reset?.call(handle, callback) ?? 0;
    };
    handle.shutdown = (request) => {
      if (this.#send < 0) return shutdown?.call(handle, request) ?? 1;
      this.#shutdown = () => {
        const status = shutdown?.call(handle, request) ?? 1;
        if (status !== 0) request.oncomplete?.(Math.min(status, 0));
      };
      return 0;
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
    if (!this.#maySend()) return false;
    this.#send = this.#ring.send(this, bytes);
    this.#sendBytes = bytes.byteLength;
    return this.#send >= 0;
  }

  override sendPieces(head: Uint8Array, pieces: readonly Uint8Array[]): boolean {
    if (!this.#maySend()) return false;
    this.#send = this.#ring.sendPieces(this, head, pieces);
    this.#sendBytes = head.byteLength;
    if (this.#send < 0) return false;
    this.#pieces = pieces;
    return true;
  }

  #maySend(): boolean {
    const socket = this.#socket;
    if (socket === undefined || this.#send >= 0 || this.#isClosed || this.#onLeft !== undefined) return false;
    return socket.writableLength === 0 && !socket.writableEnded && !socket.destroyed;
  }

  override leave(onLeft: (more: Buffer) => void): void {
    this.#onLeft = onLeft;
    this.#stop();
    if (!this.#isArmed) this.#left();
  }

  #arm(): void {
    if (this.#isArmed || !this.#wantsMore || this.#isClosed || this.#isEndHeld) return;
    this.#isArmed = true;
    this.#ring.arm(this);
  }

  #stop(): void {
    this.#wantsMore = false;
    if (this.#isArmed) this.#ring.cancel(this, "receive");
  }

  /** @internal `bytes` are valid during the call only. */
  received(bytes: Buffer): void {
    if (this.#isClosed) return;
    if (this.#send < 0 && this.#onLeft === undefined) {
      this.#deliver(bytes);
      return;
    }
    this.#held.push(Buffer.from(bytes));
    this.#heldBytes += bytes.byteLength + HELD_PIECE_BYTES;
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

  /**
   * @internal A cancellation that found nothing may have come while the kernel had its receive in hand to begin it anew (it is in no
   * list then): as long as no end was told it is under way.
   */
  cancelEnded(what: "receive" | "send", result: number): void {
    if (result !== ENOENT && result !== EALREADY) return;
    const isStillWanted = (): boolean =>
      what === "receive"
        ? this.#isArmed && (!this.#wantsMore || this.#isClosed)
        : this.#send >= 0 && this.#isClosed;
    if (!isStillWanted()) return;
    setTimeout(() => {
      if (isStillWanted()) this.#ring.cancel(this, what);
    }, CANCEL_AGAIN_MS);
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
    const rest = result >= 0 && !this.#isClosed ? this.#unsent(send, result) : NO_PIECES;
    this.#ring.freeSend(send);
    this.#send = -1;
    this.#pieces = NO_PIECES;
    if (this.#isClosed) {
      this.#freeIfDone();
      return;
    }
    for (const piece of rest) socket?.write(piece);
    if (result < 0) {
      socket?.destroy(systemError("write", result));
      return;
    }
    const shutdown = this.#shutdown;
    this.#shutdown = undefined;
    shutdown?.();
    if (this.#onLeft !== undefined) {
      if (!this.#isArmed) this.#left();
    } else if (this.#held.length > 0 || this.#isEndHeld) this.#deliverHeld();
  }

  /** What the system did not take, when it took `sent` bytes. */
  #unsent(send: number, sent: number): readonly Uint8Array[] {
    const pieces = this.#pieces;
    let bytes = this.#sendBytes;
    for (const { byteLength } of pieces) bytes += byteLength;
    if (sent >= bytes) return NO_PIECES;
    const rest: Uint8Array[] = [this.#ring.unsent(send, sent, this.#sendBytes, pieces.length > 0)];
    let at = this.#sendBytes;
    for (const piece of pieces) {
      if (at + piece.byteLength > sent) rest.push(piece.subarray(Math.max(0, sent - at)));
      at += piece.byteLength;
    }
    return rest;
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
    this.#shutdown = undefined;
    // The kernel keeps the connection open for what is under way.
    if (this.#isArmed) this.#ring.cancel(this, "receive");
    if (this.#send >= 0) this.#ring.cancel(this, "send");
    this.#ring.settle(this);
    if (this.#onLeft !== undefined) this.#left();
    this.#freeIfDone();
  }

  /** @internal The ring is no more: nothing that was asked of it will be answered. */
  broken(error: Error): void {
    this.#isArmed = false;
    this.#send = -1;
    // The kernel may still read them: nobody tells any more when it has done so.
    if (this.#pieces.length > 0) KEPT_FOR_GOOD.push(this.#pieces);
    if (this.#isClosed) this.#freeIfDone();
    else this.#socket?.destroy(error);
  }

  #freeIfDone(): void {
    if (this.#isFreed || this.#isArmed || this.#send >= 0) return;
    this.#isFreed = true;
    this.#ring.free(this);
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
      delete this.#handle.shutdown;
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

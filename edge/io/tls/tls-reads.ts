/**
 * A TLS connection of HTTP/1.1 read and written without the machinery of streams (measured with a bare server, 1 KiB: 50 us of CPU
 * a request by stream, 38 when reads lie in one buffer, 35 when answers go to the handle too, 29 when nobody is called back for each;
 * load 23). The socket stays a `TLSSocket`, which writes, ends and closes as ever.
 *
 * Node takes `onread` for sockets that it connects only, so its three fields are set here as its constructor would. A handle takes
 * one write at a time and must not get a second one meanwhile: so while a send is under way its connection hears nothing.
 * Where a socket is not what Node's is today, it is read and written as a stream.
 */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { SocketReads } from "../socket-reads.ts";

/** A record of TLS holds so many bytes at most, and Node hands over one at a time. */
const READ_BYTES = 16 * 1_024;
const readBuffer = Buffer.allocUnsafeSlow(READ_BYTES);
/** Longest answer that goes to the handle itself: longer ones are not dearer by stream. */
const SEND_BYTES_MAX = 64 * 1_024;
/** Bytes that wait for the end of a send before reading stops: no client that waits for its answer sends more. */
const HELD_BYTES_MAX = 64 * 1_024;

/** A write under way, to Node; `oncomplete` is called at its end if it is there by then. */
interface WriteRequest {
  oncomplete?: () => void;
}
type WriteRequestClass = new () => WriteRequest;

/** What of a TLS handle is asked for. */
interface Handle {
  useUserBuffer?: (buffer: Uint8Array) => void;
  /** Encrypts the bytes at once. Below 0: it failed. */
  writeBuffer?: (request: WriteRequest, bytes: Uint8Array) => number;
  /** Encrypted bytes that have not left. */
  readonly writeQueueSize?: number;
}

/** Node has no name for the class: the first write of a socket shows it. */
let requestClass: WriteRequestClass | undefined;

/** Sends whose end is looked for in this turn: what the system took at once has ended by the next immediate. */
let begun: TlsReads[] = [];

export class TlsReads extends SocketReads {
  readonly #socket: TLSSocket;
  readonly #handle: Handle;
  #request: WriteRequest | undefined;
  readonly #isHolding: boolean;
  /** A {@link send} has ended; only for who hears all the same meanwhile. */
  onSent: (() => void) | undefined = undefined;
  /** What came during a send, in order. */
  #held: Buffer[] = [];
  #heldBytes = 0;

  /**
   * Takes over the reading of a socket whose handshake is done. Undefined: it stays a stream. `isHolding`: what comes during a send
   * is held until its end; without it, the sink itself sees to it that nothing is written then.
   */
  static of(socket: TLSSocket, isHolding: boolean): TlsReads | undefined {
    const handle = (socket as unknown as { readonly _handle: Handle | null })._handle;
    if (typeof handle?.useUserBuffer !== "function" || typeof handle.writeBuffer !== "function")
      return undefined;
    const fields = new Map(Object.getOwnPropertySymbols(socket).map((key) => [key.description, key]));
    const buffer = fields.get("kBuffer");
    const callback = fields.get("kBufferCb");
    if (buffer === undefined || callback === undefined || fields.get("kBufferGen") === undefined)
      return undefined;
    // What came with the end of the handshake lies in the stream already, or somebody reads it.
    if (socket.readableLength > 0 || socket.readableFlowing !== null) return undefined;
    const reads = new TlsReads(socket, handle, isHolding);
    Object.assign(socket, {
      [buffer]: readBuffer,
      [callback]: (bytes: number): boolean => reads.#received(readBuffer.subarray(0, bytes)),
    });
    handle.useUserBuffer(readBuffer);
    return reads;
  }

  private constructor(socket: TLSSocket, handle: Handle, isHolding: boolean) {
    super();
    this.#socket = socket;
    this.#handle = handle;
    this.#isHolding = isHolding;
    if (requestClass === undefined) learnRequestClass(handle);
  }

  override get isSending(): boolean {
    return this.#request !== undefined;
  }

  override send(bytes: Uint8Array): boolean {
    const handle = this.#handle;
    const socket: Socket = this.#socket;
    if (requestClass === undefined || this.#request !== undefined || bytes.byteLength > SEND_BYTES_MAX)
      return false;
    if (socket.writableLength > 0 || socket.writableEnded || socket.destroyed) return false;
    // A write of the handshake's own, such as a ticket, is under way.
    if (handle.writeQueueSize !== 0) return false;
    const request = new requestClass();
    const status = handle.writeBuffer?.(request, bytes) ?? -1;
    if (status < 0) {
      socket.destroy();
      return true;
    }
    this.#request = request;
    if (begun.push(this) === 1) setImmediate(lookForEnds);
    return true;
  }

  /** @internal */
  lookForEnd(): void {
    if (this.#request === undefined) return;
    if (this.#socket.destroyed || this.#handle.writeQueueSize === 0) this.#sent();
    else this.#request.oncomplete = () => this.#sent();
  }

  #received(bytes: Buffer): boolean {
    if (!this.#isHolding || (this.#request === undefined && this.#heldBytes === 0)) this.#deliver(bytes);
    else {
      this.#held.push(Buffer.from(bytes));
      this.#heldBytes += bytes.byteLength;
      if (this.#heldBytes > HELD_BYTES_MAX) this.#socket.pause();
    }
    return true;
  }

  #deliver(bytes: Buffer): void {
    if (this.sink === undefined) this.#socket.push(Buffer.from(bytes));
    else this.sink(bytes);
  }

  #sent(): void {
    this.#request = undefined;
    this.onSent?.();
    if (this.#heldBytes === 0) return;
    const bytes = Buffer.concat(this.#held);
    const wasFull = this.#heldBytes > HELD_BYTES_MAX;
    this.#held = [];
    this.#heldBytes = 0;
    if (this.#socket.destroyed) return;
    if (wasFull) this.#socket.resume();
    this.#deliver(bytes);
  }
}

function lookForEnds(): void {
  const looked = begun;
  begun = [];
  for (const reads of looked) reads.lookForEnd();
}

function learnRequestClass(handle: Handle): void {
  const { writeBuffer } = handle;
  handle.writeBuffer = (request, bytes) => {
    delete handle.writeBuffer;
    requestClass ??= request.constructor as WriteRequestClass;
    return writeBuffer?.call(handle, request, bytes) ?? -1;
  };
}

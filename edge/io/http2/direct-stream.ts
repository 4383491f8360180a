/** A stream of our own HTTP/2 connection, with the face of node:http2's: for requests that are not answered in the turn they come in. */
import { constants, type OutgoingHttpHeaders } from "node:http2";
import { Duplex } from "node:stream";
import type { Http2Connection } from "../../core/http2/connection.ts";
import { hpackEncode } from "../../core/http2/hpack.ts";
import type { Http2Stream } from "./http2-stream.ts";

/** What waits here until the connection has put it into frames; the rest waits with who writes. */
const WAITING_BYTES = 64 * 1_024;

export class DirectStream extends Duplex implements Http2Stream {
  readonly #id: number;
  readonly #connection: Http2Connection;
  /** Has what was written leave. */
  readonly #flush: () => void;
  #onDrained: (() => void) | undefined;
  /** Content that was handed on and not credited. */
  #receivedBytes = 0;
  #hasContentEnded: boolean;
  /** The end left with the head. */
  #hasEnded = false;
  #isOver = false;
  aborted = false;
  headersSent = false;
  rstCode: number = constants.NGHTTP2_NO_ERROR;

  constructor(id: number, connection: Http2Connection, hasContent: boolean, flush: () => void) {
    super({ writableHighWaterMark: WAITING_BYTES, readableHighWaterMark: WAITING_BYTES });
    this.#id = id;
    this.#connection = connection;
    this.#flush = flush;
    this.#hasContentEnded = !hasContent;
    if (hasContent) return;
    this.push(null);
    // Its end is heard of only when it is read, and the stream is over only then.
    this.resume();
  }

  get bufferSize(): number {
    return this.#connection.queuedBytes(this.#id) + this.writableLength;
  }

  respond(raw: string[], options: { readonly endStream: boolean }): void {
    if (this.headersSent || this.destroyed) return;
    this.headersSent = true;
    this.#connection.respond(this.#id, hpackEncode(raw), options.endStream);
    this.#hasEnded = options.endStream;
    if (options.endStream) this.end();
    this.#flush();
  }

  additionalHeaders(headers: OutgoingHttpHeaders): void {
    if (this.headersSent || this.destroyed) return;
    const raw: string[] = [];
    for (const [name, value] of Object.entries(headers))
      for (const one of Array.isArray(value) ? value : [value]) raw.push(name, String(one));
    this.#connection.respond(this.#id, hpackEncode(raw), false);
    this.#flush();
  }

  close(code: number): void {
    if (this.destroyed) return;
    this.rstCode = code;
    // An answer that is complete still leaves (RFC 9113, section 8.1).
    if (code === constants.NGHTTP2_NO_ERROR && !this.writableFinished)
      this.once("finish", () => this.destroy());
    else this.destroy();
  }

  /** Content came. */
  received(bytes: Uint8Array): void {
    this.#receivedBytes += bytes.byteLength;
    if (this.destroyed || !this.readable) this.#credit();
    else this.push(Buffer.from(bytes));
  }

  contentEnded(): void {
    this.#hasContentEnded = true;
    if (!this.destroyed) this.push(null);
  }

  /** The connection has forgotten it: its client gave it up, or broke a rule, or the connection is gone. */
  cut(code: number): void {
    this.#isOver = true;
    if (this.destroyed) return;
    this.rstCode = code;
    if (!this.#hasContentEnded) {
      this.aborted = true;
      this.emit("aborted");
    }
    this.destroy();
  }

  /** All that was queued is in frames. */
  drained(): void {
    const done = this.#onDrained;
    this.#onDrained = undefined;
    done?.();
  }

  override _read(): void {
    this.#credit();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#onDrained = done;
    this.#connection.send(this.#id, chunk);
    if (chunk.byteLength === 0) this.drained();
    this.#flush();
  }

  override _final(done: () => void): void {
    if (this.#hasEnded) {
      done();
      return;
    }
    this.#onDrained = done;
    this.#connection.end(this.#id);
    this.#flush();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    // It is over by itself when both sides have ended; else it is given up here.
    const isWhole = this.writableFinished && this.#hasContentEnded;
    if (!this.#isOver && !isWhole) {
      // A stream whose answer is whole, and whose content nobody wants, ends without an error (section 8.1).
      if (this.rstCode === constants.NGHTTP2_NO_ERROR && !this.writableFinished)
        this.rstCode = error === null ? constants.NGHTTP2_CANCEL : constants.NGHTTP2_INTERNAL_ERROR;
      this.#connection.reset(this.#id, this.rstCode);
      this.#flush();
    }
    this.#onDrained = undefined;
    done(error);
  }

  #credit(): void {
    const bytes = this.#receivedBytes;
    if (bytes === 0) return;
    this.#receivedBytes = 0;
    this.#connection.credit(this.#id, bytes);
    this.#flush();
  }
}

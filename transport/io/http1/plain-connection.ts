/**
 * One connection on which plain requests are sent and plain answers read without undici: GET without content, answered by a head that
 * `core/http1/answer-head.ts` reads, with content of a stated length or in plain chunks. It speaks to an {@link Exchange} as undici does. Where
 * anything else comes it is given to undici with all its bytes, so that oddities have one reader.
 *
 * One request at a time. What comes while nothing was asked ends it, since it would be taken for the answer to the next one.
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Dispatcher } from "undici";
import { type AnswerHead, mayBecomeAnswerHead, parseAnswerHead } from "../../core/http1/answer-head.ts";
import { ChunkReader } from "../../core/http1/chunks.ts";
import type { Exchange } from "../exchange.ts";
import { type DirectReads, directReadsOf } from "./direct-reads.ts";

/** Longer heads are not plain. */
const HEAD_BYTES_MAX = 16 * 1_024;
/** As undici: a connection is left alone for so long before the other end says that it closes it, ms. */
const KEEP_ALIVE_MARGIN_MS = 2_000;

/** `open`: nothing is under way; `head`: a head is waited for; `length`, `chunks`: content comes; `over`: nothing goes over it any more. */
type Phase = "open" | "head" | "length" | "chunks" | "over";

export type PlainConnectionOptions = {
  /** Idle time after which it is closed, ms. */
  readonly keepAliveMs: number;
  /**
   * What comes has another form. The connection is somebody else's from here on: `rest` is all that came of the answer; where its head
   * was handed on (`isBegun`) of a message of the same content instead, from where it is not plain.
   */
  readonly onOther: (rest: Buffer, isBegun: boolean) => void;
  /** It has ended while nothing was under way. */
  readonly onGone: () => void;
};

export class PlainConnection implements Dispatcher.DispatchController {
  readonly stream: Duplex;
  readonly #options: PlainConnectionOptions;
  readonly #reads: DirectReads | undefined;
  #phase: Phase = "open";
  #exchange: Exchange | undefined;
  /** The beginning of a head that has not come whole. */
  #begun: Buffer | undefined;
  #left = 0;
  #chunks: ChunkReader | undefined;
  #mayReuse = true;
  #isPaused = false;
  #bodyMs = 0;
  /** When it has taken too long, performance.now(): what is under way, or what is not. */
  #deadlineMs: number;
  /** How long it may carry nothing, as its last answer and the settings have it. */
  #idleMs: number;
  /** Whether the last head says that the connection ends with its answer. */
  #isStatedToClose = false;
  /** Whether the process lives for it. */
  #isHeld = true;
  readonly rawHeaders = null;
  readonly rawTrailers = null;
  reason: Error | null = null;

  constructor(stream: Duplex, options: PlainConnectionOptions) {
    this.stream = stream;
    this.#options = options;
    this.#idleMs = options.keepAliveMs;
    this.#deadlineMs = performance.now() + this.#idleMs;
    this.#reads = directReadsOf(stream);
    if (this.#reads === undefined) stream.on("data", this.#onBytes);
    else this.#reads.sink = this.#onShared;
    stream.resume();
    stream.on("end", this.#onEnd);
    stream.on("error", this.#onError);
    stream.on("close", this.#onEnd);
  }

  /** Whether a request can be sent. */
  get isOpen(): boolean {
    return this.#phase === "open" && !this.stream.destroyed && this.stream.writable;
  }
  get paused(): boolean {
    return this.#isPaused;
  }
  get aborted(): boolean {
    return this.reason !== null;
  }

  /** Sends a request whose head is `text`, and tells `exchange` of its answer. Times of 0: without bound. */
  send(text: string, exchange: Exchange, headersMs: number, bodyMs: number): void {
    this.#phase = "head";
    this.#exchange = exchange;
    this.#bodyMs = bodyMs || Infinity;
    this.#isPaused = false;
    this.#hold(true);
    exchange.onRequestStart(this);
    if (this.#exchange !== exchange) return;
    this.#deadlineMs = exchange.startedMs + (headersMs || Infinity);
    this.stream.write(text, "latin1");
  }

  pause(): void {
    this.#isPaused = true;
    this.stream.pause();
  }
  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#deadlineMs = performance.now() + this.#bodyMs;
    this.stream.resume();
  }
  abort(reason: Error): void {
    this.reason = reason;
    this.destroy();
  }

  destroy(): void {
    this.#exchange = undefined;
    this.#phase = "over";
    this.stream.destroy();
  }

  /** Looks after it: ends it when it has waited for too long. What carries nothing keeps no process alive. */
  sweep(nowMs: number): void {
    if (this.#phase === "open") this.#hold(false);
    if (this.#isPaused || nowMs < this.#deadlineMs) return;
    if (this.#phase === "open") {
      this.destroy();
      this.#options.onGone();
    } else if (this.#phase === "head") this.#fail(coded("UND_ERR_HEADERS_TIMEOUT", "no head in time"));
    else this.#fail(coded("UND_ERR_BODY_TIMEOUT", "the content paused for too long"));
  }

  #hold(isHeld: boolean): void {
    if (isHeld === this.#isHeld) return;
    this.#isHeld = isHeld;
    const socket: Partial<Pick<Socket, "ref" | "unref">> = this.stream as Socket;
    if (isHeld) socket.ref?.();
    else socket.unref?.();
  }

  /** Lets the stream go, which nothing is under way on, or whose rest somebody else reads. */
  leave(): Duplex {
    this.#phase = "over";
    this.#exchange = undefined;
    const { stream } = this;
    this.#hold(true);
    stream.pause();
    if (this.#reads === undefined) stream.off("data", this.#onBytes);
    else this.#reads.sink = undefined;
    stream.off("end", this.#onEnd);
    stream.off("error", this.#onError);
    stream.off("close", this.#onEnd);
    return stream;
  }

  readonly #onBytes = (bytes: Buffer): void => this.#handleBytes(bytes, false);
  readonly #onShared = (bytes: Buffer): void => this.#handleBytes(bytes, true);

  /** `isShared`: the bytes are valid during the call only. */
  #handleBytes(bytes: Buffer, isShared: boolean): void {
    switch (this.#phase) {
      case "open":
        // Nobody has asked for anything.
        this.destroy();
        this.#options.onGone();
        return;
      case "head":
        this.#handleHead(bytes, isShared);
        return;
      case "length":
        this.#deadlineMs = performance.now() + this.#bodyMs;
        this.#handleLength(bytes, 0, isShared);
        return;
      case "chunks":
        this.#deadlineMs = performance.now() + this.#bodyMs;
        this.#handleChunks(bytes, 0, isShared);
        return;
      case "over":
        return;
      default:
        this.#phase satisfies never;
    }
  }

  #handleHead(bytes: Buffer, isShared: boolean): void {
    const all = this.#begun === undefined ? bytes : Buffer.concat([this.#begun, bytes]);
    const isOwn = !isShared || this.#begun !== undefined;
    const end = all.indexOf("\r\n\r\n", 0, "latin1");
    if (end === -1) {
      const isOurs = all.byteLength <= HEAD_BYTES_MAX && mayBecomeAnswerHead(all.toString("latin1"));
      if (!isOurs) this.#handOver(Buffer.from(all), false);
      else this.#begun = Buffer.from(all);
      return;
    }
    const head = end > HEAD_BYTES_MAX ? undefined : parseAnswerHead(all.toString("latin1", 0, end));
    if (head === undefined) {
      this.#handOver(Buffer.from(all), false);
      return;
    }
    this.#begun = undefined;
    this.#begin(head, all, end + 4, !isOwn);
  }

  #begin(head: AnswerHead, bytes: Buffer, from: number, isShared: boolean): void {
    const exchange = this.#exchange as Exchange;
    const { keepAliveSeconds } = head;
    const { keepAliveMs } = this.#options;
    const statedMs =
      keepAliveSeconds === undefined ? keepAliveMs : keepAliveSeconds * 1_000 - KEEP_ALIVE_MARGIN_MS;
    this.#idleMs = Math.min(statedMs, keepAliveMs);
    this.#mayReuse = head.mayReuse && this.#idleMs > 0;
    this.#isStatedToClose = !head.mayReuse;
    exchange.handleHead(head.status, head.fields);
    if (this.#exchange !== exchange) return;
    this.#deadlineMs = exchange.headMs + this.#bodyMs;
    if (head.contentBytes === "chunked") {
      this.#phase = "chunks";
      this.#chunks = new ChunkReader();
      if (from < bytes.byteLength) this.#handleChunks(bytes, from, isShared);
    } else {
      this.#phase = "length";
      this.#left = head.contentBytes;
      if (from < bytes.byteLength || this.#left === 0) this.#handleLength(bytes, from, isShared);
    }
  }

  #handleLength(bytes: Buffer, from: number, isShared: boolean): void {
    const to = Math.min(bytes.byteLength, from + this.#left);
    this.#left -= to - from;
    if (to > from && !this.#hand(bytes, from, to, isShared)) return;
    if (this.#left === 0) this.#ended(to < bytes.byteLength);
  }

  #handleChunks(bytes: Buffer, from: number, isShared: boolean): void {
    const chunks = this.#chunks as ChunkReader;
    const state = chunks.read(bytes, from, (first, last) => {
      if (this.#phase === "chunks") this.#hand(bytes, first, last, isShared);
    });
    if (this.#phase !== "chunks") return;
    switch (state) {
      case "more":
        return;
      case "ended":
        this.#chunks = undefined;
        this.#ended(chunks.at < bytes.byteLength);
        return;
      case "other":
        this.#handOver(
          Buffer.concat([
            Buffer.from(`${this.#isStatedToClose ? BEGUN_LAST : BEGUN}${chunks.unread}`, "latin1"),
            bytes.subarray(chunks.at),
          ]),
          true,
        );
        return;
      case "broken":
        this.#fail(new Error("a chunk is longer than its size"));
        return;
      default:
        state satisfies never;
    }
  }

  /** Hands content on. False: nobody wants more. */
  #hand(bytes: Buffer, from: number, to: number, isShared: boolean): boolean {
    const exchange = this.#exchange as Exchange;
    exchange.onResponseData(
      this,
      isShared ? Buffer.from(bytes.subarray(from, to)) : bytes.subarray(from, to),
    );
    return this.#exchange === exchange;
  }

  /** `isFollowed`: by what nobody has asked for. */
  #ended(isFollowed: boolean): void {
    const exchange = this.#exchange as Exchange;
    this.#exchange = undefined;
    if (isFollowed) this.#mayReuse = false;
    if (this.#mayReuse) {
      this.#phase = "open";
      if (this.#isPaused) {
        this.#isPaused = false;
        this.stream.resume();
      }
      this.#deadlineMs = performance.now() + this.#idleMs;
    } else {
      this.#phase = "over";
      this.stream.destroy();
    }
    exchange.onResponseEnd(this);
  }

  #handOver(rest: Buffer, isBegun: boolean): void {
    this.#begun = undefined;
    this.#options.onOther(rest, isBegun);
  }

  readonly #onEnd = (): void => {
    if (this.#phase === "over") return;
    if (this.#phase === "open") {
      this.destroy();
      this.#options.onGone();
    } else this.#fail(this.#cutShort(new Error("other side closed")));
  };

  readonly #onError = (error: Error): void => {
    if (this.#phase === "over") return;
    if (this.#phase === "open") {
      this.destroy();
      this.#options.onGone();
    } else this.#fail("code" in error && error.code === "ECONNRESET" ? this.#cutShort(error) : error);
  };

  /** What the end of the connection says within an answer after which it was to end. */
  #cutShort(error: Error): Error {
    return this.#phase === "length" && this.#isStatedToClose
      ? coded("UND_ERR_RES_CONTENT_LENGTH_MISMATCH", "the content is shorter than stated")
      : error;
  }

  #fail(error: Error): void {
    const exchange = this.#exchange as Exchange;
    this.destroy();
    exchange.onResponseError(this, error);
  }
}

/** Heads of messages as which undici reads the rest of content in chunks. */
const BEGUN = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const BEGUN_LAST = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";

/** With a code as undici's: an exchange goes by them. */
function coded(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

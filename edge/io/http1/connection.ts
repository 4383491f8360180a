/**
 * One HTTP/1.1 connection on the flat path: canonical GET and HEAD requests are read here, hits that the hot table knows are
 * answered in one write, others through the dispatcher; what is not canonical is handed to node:http's parser with its
 * bytes intact, and stays there. One request at a time: the next one of a pipeline waits for the end of the answer.
 */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Clock, EpochMs, MonotonicMs } from "#kit";
import type { Logger } from "#kit/io";
import { Stop } from "#transport";
import type { EdgeSettings } from "../../config.ts";
import { handOverReason } from "../../core/hand-over.ts";
import type { HotServed } from "../access-recorder.ts";
import { type Dispatcher, ownAnswer, type WriteResult } from "../dispatch.ts";
import type { Answer } from "../exchange.ts";
import type { HotTable } from "../hot-table.ts";
import type { EdgeMetrics } from "../metrics.ts";
import { checkRequest } from "../request-check.ts";
import { reset } from "../reset.ts";
import type { SocketReads } from "../socket-reads.ts";
import { headText, interimText, writeToSocket } from "./answer-writer.ts";
import {
  type HeadBlock,
  isBeyondReading,
  isProtocolOpen,
  mayBecomeCanonical,
  readHeadBlock,
} from "./head-block.ts";
import { hasRoom, joinHead, leaveRoom } from "./head-room.ts";
import { LINGER_MS } from "./lingering.ts";

/** Bytes of further requests that are taken in while one is answered; then the client has to wait. */
const PIPELINED_BYTES_MAX = 64 * 1_024;
/** Longest header section that a connection remembers: it costs about three times its bytes for as long as the connection lives. */
const KEPT_BLOCK_BYTES_MAX = 4 * 1_024;
/** From one look to the next whether the last answer has left, ms. */
const SENT_LOOK_MS = 10;
/**
 * How long a client that sends no more waits for an answer that has not begun, ms. It may be gone, and then the origin works for nobody;
 * or it has closed its side alone, and a look-up at another worker or on the disk is under way.
 */
const HALF_CLOSED_WAIT_MS = 2_000;

/** What connections share: their server. */
export interface Http1Context {
  readonly dispatcher: Dispatcher;
  readonly settings: EdgeSettings;
  readonly clock: Clock;
  readonly metrics: EdgeMetrics;
  readonly logger: Logger;
  readonly hot: () => HotTable | undefined;
  readonly onServedHot: ((hit: HotServed) => void) | undefined;
  readonly isDraining: () => boolean;
  /** Whether what a connection begins with is no HTTP, and somebody here speaks it. */
  readonly isOther: (rest: Uint8Array) => boolean;
  /** Takes a connection over, with what was read of it and not answered. */
  readonly handOver: (socket: Socket, rest: Buffer) => void;
  /** The connection is closed or handed over. */
  readonly onGone: (connection: Http1Connection) => void;
}

/**
 * `idle`: between requests; `head`: a part of a head has come; `answering`; `blocked`: the client must read before it is
 * answered further; `ending`: we have closed our side; `gone`.
 */
type Phase = "idle" | "head" | "answering" | "blocked" | "ending" | "gone";

export class Http1Connection {
  readonly #context: Http1Context;
  readonly #socket: Socket;
  readonly #reads: SocketReads | undefined;
  readonly #scheme: "http" | "https";
  #phase: Phase = "idle";
  /** When the phase began; in `idle` when the last request was answered. */
  #since: MonotonicMs;
  /** Bytes that were read and not used yet. */
  #pending: Buffer | undefined;
  #block: HeadBlock | undefined;
  #aborter: AbortController | undefined;
  /** Of the request that is answered: its client has ended its side, or has gone. */
  #leaving: Stop | undefined;
  #hasAnswerBegun = false;
  #hasEnded = false;
  /** It ends though its client was not told so. */
  #isEndedIdle = false;
  /** When the client was heard to end while an answer had not begun. */
  #endedAt: MonotonicMs | undefined;
  #remoteAddress: string | undefined;

  /** `reads`: where its bytes come from; undefined: they are the stream's "data". */
  constructor(context: Http1Context, socket: Socket, reads: SocketReads | undefined) {
    this.#context = context;
    this.#socket = socket;
    this.#scheme = isTls(socket) ? "https" : "http";
    this.#since = context.clock.monotonic();
    this.#reads = reads;
    if (reads === undefined) socket.on("data", this.#onData);
    else reads.sink = this.#onData;
    socket.on("drain", this.#onDrain);
    socket.on("end", this.#onEnd);
    socket.on("close", this.#onClose);
    // What went wrong is told by "close"; without a listener it would end the process.
    socket.on("error", ignore);
  }

  /** Closes, in order, what is between requests. */
  closeIfIdle(): void {
    if (this.#phase !== "idle") return;
    if (this.#reads?.isSending === true) {
      setTimeout(() => this.closeIfIdle(), SENT_LOOK_MS).unref();
      return;
    }
    this.#isEndedIdle = true;
    this.#end();
  }

  /** Cuts what has no request in hand: half a head, or a client that idled and does not close. What lingers after its last answer may. */
  destroyIfUnbegun(): void {
    if (this.#phase === "idle" && this.#reads?.isSending === true) return;
    if (this.#phase === "ending" && !this.#isEndedIdle) return;
    if (this.#phase !== "answering" && this.#phase !== "blocked") this.#socket.destroy();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Ends what has taken too long. Called about twice a second. */
  sweep(now: MonotonicMs): void {
    const { settings, metrics } = this.#context;
    const elapsedMs = now - this.#since;
    switch (this.#phase) {
      case "idle":
        if (this.#reads?.isSending === true) this.#sweepUnread(elapsedMs);
        else if (elapsedMs > settings.keepAliveTimeoutMs) this.#end();
        return;
      case "head":
        if (elapsedMs <= settings.headersTimeoutMs) return;
        metrics.refused("slow-head");
        this.#refuse("408 Request Timeout");
        return;
      case "blocked":
        this.#sweepUnread(elapsedMs);
        return;
      case "ending":
        if (elapsedMs > LINGER_MS) this.#socket.destroy();
        return;
      case "answering":
        if (this.#hasAnswerBegun || this.#endedAt === undefined) return;
        if (now - Math.max(this.#endedAt, this.#since) > HALF_CLOSED_WAIT_MS) this.#socket.destroy();
        return;
      case "gone":
        return;
      default:
        this.#phase satisfies never;
    }
  }

  #sweepUnread(elapsedMs: number): void {
    const { settings, metrics } = this.#context;
    if (elapsedMs <= settings.writeStallMs) return;
    metrics.refused("slow-reader");
    reset(this.#socket);
  }

  /** `chunk` is valid during the call only. */
  readonly #onData = (chunk: Buffer): void => {
    switch (this.#phase) {
      case "idle":
        this.#consume(chunk);
        return;
      case "head":
        if (this.#pending === undefined) this.#consume(chunk);
        else this.#consumeJoined(joinHead(this.#pending, chunk));
        return;
      case "answering":
      case "blocked":
        this.#pending =
          this.#pending === undefined ? Buffer.from(chunk) : Buffer.concat([this.#pending, chunk]);
        if (this.#pending.byteLength > PIPELINED_BYTES_MAX) this.#socket.pause();
        return;
      case "ending":
      case "gone":
        return;
      default:
        this.#phase satisfies never;
    }
  };

  readonly #onDrain = (): void => {
    if (this.#phase === "blocked") this.#next();
  };

  /** The client will send no more. */
  readonly #onEnd = (): void => {
    this.#hasEnded = true;
    switch (this.#phase) {
      case "head":
        this.#context.metrics.refused("malformed");
        this.#refuse("400 Bad Request");
        return;
      case "answering":
        // An answer that has begun is brought to its end; one that has not, if it begins soon: see sweep.
        this.#endedAt = this.#context.clock.monotonic();
        if (!this.#hasAnswerBegun) this.#leaving?.abort(undefined);
        return;
      case "blocked":
      case "gone":
        return;
      case "idle":
        this.closeIfIdle();
        return;
      case "ending":
        this.#end();
        return;
      default:
        this.#phase satisfies never;
    }
  };

  readonly #onClose = (): void => {
    if (this.#phase === "gone") return;
    this.#phase = "gone";
    this.#dropPending();
    this.#leaving?.abort(undefined);
    this.#aborter?.abort();
    this.#context.onGone(this);
  };

  #consumeJoined(bytes: Buffer): void {
    this.#consume(bytes);
    if (this.#pending?.buffer !== bytes.buffer) leaveRoom(bytes);
  }

  /** Reads requests from `bytes`, which begin with the head of one, until one takes the long way or more must come. */
  #consume(bytes: Buffer): void {
    const { clock, settings } = this.#context;
    const startedAt = clock.monotonic();
    const now = clock.epoch();
    const hot = this.#context.hot();
    this.#pending = undefined;
    let at = 0;
    let isCorked = false;
    while (at < bytes.byteLength) {
      const isHead = bytes[at] === 0x48;
      const targetAt = at + (isHead ? 5 : 4);
      const space = bytes.indexOf(0x20, targetAt);
      let block = this.#block;
      let end: number;
      if (
        block !== undefined &&
        space !== -1 &&
        bytes.byteLength - space >= block.bytes.byteLength &&
        block.bytes.compare(bytes, space, space + block.bytes.byteLength) === 0
      ) {
        end = space + block.bytes.byteLength;
        if (!isCanonicalStart(bytes, at, isHead)) {
          this.#handOver(bytes, at, isCorked);
          return;
        }
      } else {
        const headEnd = bytes.indexOf("\r\n\r\n", at, "latin1");
        if (headEnd === -1) {
          this.#incomplete(bytes, at, startedAt, isCorked);
          return;
        }
        end = headEnd + 4;
        block =
          isCanonicalStart(bytes, at, isHead) &&
          space !== -1 &&
          space < headEnd &&
          end - at <= settings.headerBytesMax
            ? readHeadBlock(bytes, space, end, settings, this.#scheme)
            : undefined;
        if (block === undefined) {
          if (isBeyondReading(bytes.subarray(at, end), settings)) this.#tooLarge(isCorked);
          else this.#handOver(bytes, at, isCorked);
          return;
        }
        this.#block = block.bytes.byteLength <= KEPT_BLOCK_BYTES_MAX ? block : undefined;
      }
      const target = bytes.toString("latin1", targetAt, space);
      if (end < bytes.byteLength && !isCorked) {
        this.#socket.cork();
        isCorked = true;
      }
      const isServed =
        hot !== undefined &&
        block.isPlain &&
        !block.isClose &&
        !this.#context.isDraining() &&
        this.#serveHot(hot, block, target, isHead, startedAt, now, isCorked);
      if (!isServed) {
        if (end < bytes.byteLength) this.#pending = Buffer.from(bytes.subarray(end));
        if (isCorked) this.#socket.uncork();
        void this.#serveLong(block, isHead ? "HEAD" : "GET", target, startedAt);
        return;
      }
      at = end;
      if (this.#phase === "blocked") break;
      this.#phase = "idle";
    }
    if (isCorked) this.#socket.uncork();
    if (at < bytes.byteLength) this.#pending = Buffer.from(bytes.subarray(at));
    this.#since = startedAt;
  }

  /** Answers from the hot table. False: it has nothing for this request. */
  #serveHot(
    hot: HotTable,
    block: HeadBlock,
    target: string,
    isHead: boolean,
    startedAt: MonotonicMs,
    now: EpochMs,
    isCorked: boolean,
  ): boolean {
    let { scope } = block;
    if (scope === undefined || scope.isGone) {
      if ("refusedStatus" in block.checked) return false;
      scope = hot.scopeOf(this.#scheme, block.checked.host);
      block.scope = scope;
      if (scope === undefined) return false;
    }
    const entry = hot.find(scope, target, block, now);
    if (entry === undefined) return false;
    const socket = this.#socket;
    const age = entry.ageSeconds(now);
    const ttl = entry.lifetimeSeconds - age;
    let { status } = entry;
    let bytesDown = isHead ? 0 : entry.bodyBytes;
    let hasRoom: boolean;
    if (block.isConditional && entry.isNotModified(block, now)) {
      const rendered = hot.notModified(entry, block, age, ttl);
      if (rendered === undefined) return false;
      status = 304;
      bytesDown = 0;
      hasRoom = this.#writeAlone(rendered.at(age, ttl), isCorked);
      if (isCorked || socket.writableLength > 0) rendered.keep();
    } else if (block.hasRange && !isHead) {
      const part = hot.part(entry, block, age, ttl);
      if (part === undefined) return false;
      status = part.answer.status;
      bytesDown = part.answer.bodyBytes ?? 0;
      socket.cork();
      hasRoom = socket.write(headText(part.answer, "GET", false), "latin1");
      for (const piece of part.pieces) hasRoom = socket.write(piece);
      socket.uncork();
    } else {
      const { whole, pieces } = entry;
      const bytes = whole.at(age, ttl);
      if (isHead) hasRoom = this.#writeAlone(bytes.subarray(0, whole.headBytes), isCorked);
      else if (pieces.length === 0) hasRoom = this.#writeAlone(bytes, isCorked);
      else if (!isCorked && this.#reads?.sendPieces(bytes, pieces) === true) hasRoom = true;
      else {
        socket.cork();
        hasRoom = socket.write(bytes);
        for (const piece of pieces) hasRoom = socket.write(piece);
        socket.uncork();
      }
      if (isCorked || socket.writableLength > 0) whole.keep();
    }
    // `write` says false from the high-water mark on, also when the system then took all at once.
    if (!hasRoom && socket.writableNeedDrain) this.#phase = "blocked";
    const { clock, metrics, onServedHot, dispatcher } = this.#context;
    const durationMs = clock.monotonic() - startedAt;
    metrics.request("hit", status, durationMs / 1_000, bytesDown);
    if (onServedHot !== undefined && !("refusedStatus" in block.checked))
      onServedHot({
        entry,
        host: block.checked.host,
        target,
        method: isHead ? "HEAD" : "GET",
        status,
        bytesDown,
        remoteAddress: dispatcher.clientAddress(this.#remote(), block.fields),
        requestId: dispatcher.nextId(),
        traceId: block.traceId,
        atEpochMs: now,
        durationMs,
      });
    return true;
  }

  /** Writes the whole of an answer. False as `Socket.write` says it. */
  #writeAlone(bytes: Buffer, isCorked: boolean): boolean {
    return (!isCorked && this.#reads?.send(bytes) === true) || this.#socket.write(bytes);
  }

  async #serveLong(
    block: HeadBlock,
    method: "GET" | "HEAD",
    target: string,
    startedAt: MonotonicMs,
  ): Promise<void> {
    const { dispatcher, settings, metrics, clock, logger } = this.#context;
    const socket = this.#socket;
    this.#phase = "answering";
    this.#hasAnswerBegun = false;
    dispatcher.begin();
    let isCounted = true;
    let isClosing = true;
    try {
      const checked = checkRequest(method, target, "1.1", block.fields, settings, this.#scheme);
      if ("refusedStatus" in checked) {
        metrics.refused(checked.reason);
        await this.#write(ownAnswer(checked.refusedStatus, `Refused: ${checked.message}.\n`), method, true);
        return;
      }
      const aborter = new AbortController();
      this.#aborter = aborter;
      const leaving = new Stop();
      this.#leaving = leaving;
      const inbound = dispatcher.inbound({
        checked,
        path: target,
        httpVersion: "1.1",
        isTls: this.#scheme === "https",
        remoteAddress: this.#remote(),
        body: undefined,
        signal: aborter.signal,
        leaving,
        startedAt,
        sendInterim: (status, fields) => {
          // Of this request, not of the one after it.
          if (this.#aborter === aborter && !this.#hasAnswerBegun && !this.#socket.destroyed)
            this.#socket.write(interimText(status, fields), "latin1");
        },
      });
      const answer = await dispatcher.answer(inbound, checked.host);
      const ttfbMs = clock.monotonic() - startedAt;
      const isLast = this.#hasEnded && this.#pending === undefined;
      isClosing = block.isClose || isLast || this.#context.isDraining();
      const result = await this.#write(answer, method, isClosing);
      this.#aborter = undefined;
      this.#leaving = undefined;
      if (result.end !== "complete") isClosing = true;
      isCounted = false;
      dispatcher.end(inbound, answer, result, ttfbMs);
      if (answer.memo !== undefined && block.isPlain) this.#context.hot()?.offer(inbound.head, answer.memo);
    } catch (error) {
      // A fault of our own. The client gets an answer or a cut connection, never silence.
      logger.error("request-failed", { error });
      if (this.#hasAnswerBegun) socket.destroy();
      else await this.#write(ownAnswer(500, "Internal fault.\n"), method, true);
    } finally {
      if (isCounted) dispatcher.abandon();
      this.#after(isClosing);
    }
  }

  async #write(answer: Answer, method: string, isClosing: boolean): Promise<WriteResult> {
    this.#hasAnswerBegun = true;
    // Nothing may be written behind a send before it has ended: what comes next waits for that, what has come already does not.
    const reads = isClosing || this.#pending !== undefined ? undefined : this.#reads;
    const { writeStallMs } = this.#context.settings;
    return await writeToSocket(this.#socket, answer, method, isClosing, writeStallMs, reads);
  }

  /** After an answer of the long way: on to the next request, or the end. */
  #after(isClosing: boolean): void {
    if (this.#phase === "gone") return;
    this.#since = this.#context.clock.monotonic();
    if (isClosing || (this.#hasEnded && this.#pending === undefined)) {
      this.#end();
      return;
    }
    if (this.#socket.writableNeedDrain) this.#phase = "blocked";
    else this.#next();
  }

  #next(): void {
    this.#phase = "idle";
    this.#since = this.#context.clock.monotonic();
    const pending = this.#pending;
    if (this.#socket.isPaused()) this.#socket.resume();
    if (pending !== undefined) this.#consume(pending);
    // The end came before this was reached: nothing will say so again.
    if (this.#hasEnded && (this.#isIn("idle") || this.#isIn("head"))) this.#onEnd();
  }

  #isIn(phase: Phase): boolean {
    return this.#phase === phase;
  }

  /** Keeps the beginning of a head until more of it comes. */
  #incomplete(bytes: Buffer, at: number, now: MonotonicMs, isCorked: boolean): void {
    const rest = bytes.subarray(at);
    if (isBeyondReading(rest, this.#context.settings)) {
      this.#tooLarge(isCorked);
      return;
    }
    const isOurs = mayBecomeCanonical(rest) || isProtocolOpen(rest);
    if (rest.byteLength > this.#context.settings.headerBytesMax || !isOurs) {
      this.#handOver(bytes, at, isCorked);
      return;
    }
    if (isCorked) this.#socket.uncork();
    if (this.#phase !== "head") this.#since = now;
    this.#phase = "head";
    // A copy: the read buffer is much larger than what a slow client has sent.
    this.#pending = at === 0 && hasRoom(bytes) ? bytes : Buffer.from(rest);
  }

  #handOver(bytes: Buffer, at: number, isCorked: boolean): void {
    const socket = this.#socket;
    if (isCorked) socket.uncork();
    if (this.#reads === undefined) socket.off("data", this.#onData);
    else this.#reads.sink = undefined;
    socket.off("drain", this.#onDrain);
    socket.off("end", this.#onEnd);
    socket.off("close", this.#onClose);
    this.#phase = "gone";
    const rest = Buffer.from(bytes.subarray(at));
    if (!this.#context.isOther(rest)) this.#countHandedOver(rest);
    const left = (more: Buffer): void => {
      // In this order: in between, a drain would see the last connection gone and cut the request that it has just brought.
      if (!socket.destroyed)
        this.#context.handOver(socket, more.byteLength === 0 ? rest : Buffer.concat([rest, more]));
      this.#context.onGone(this);
    };
    if (this.#reads === undefined) left(NOTHING);
    else this.#reads.leave(left);
  }

  #countHandedOver(rest: Buffer): void {
    const { metrics, settings } = this.#context;
    const blank = rest.indexOf("\r\n\r\n", 0, "latin1");
    const headBytes = Math.min(blank === -1 ? rest.byteLength : blank, settings.headerBytesMax + 1);
    metrics.handedOver(handOverReason(rest.toString("latin1", 0, headBytes), settings));
  }

  #tooLarge(isCorked: boolean): void {
    if (isCorked) this.#socket.uncork();
    this.#context.metrics.refused("malformed");
    this.#refuse("431 Request Header Fields Too Large");
  }

  /** A last word on a connection whose requests cannot be told apart any more. */
  #refuse(status: string): void {
    this.#socket.write(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    this.#end();
  }

  #end(): void {
    this.#phase = "ending";
    this.#since = this.#context.clock.monotonic();
    this.#dropPending();
    this.#socket.end();
    // What still comes is read and thrown away, so that the last answer is not lost to a reset (RFC 9112, section 9.6).
    this.#socket.resume();
  }

  #dropPending(): void {
    if (this.#pending !== undefined) leaveRoom(this.#pending);
    this.#pending = undefined;
  }

  #remote(): string {
    return (this.#remoteAddress ??= this.#socket.remoteAddress ?? "unknown");
  }
}

/** "GET /" or "HEAD /": the methods and the form of target that are read here. */
function isCanonicalStart(bytes: Buffer, at: number, isHead: boolean): boolean {
  return isHead
    ? bytes[at + 1] === 0x45 &&
        bytes[at + 2] === 0x41 &&
        bytes[at + 3] === 0x44 &&
        bytes[at + 4] === 0x20 &&
        bytes[at + 5] === 0x2f
    : bytes[at] === 0x47 &&
        bytes[at + 1] === 0x45 &&
        bytes[at + 2] === 0x54 &&
        bytes[at + 3] === 0x20 &&
        bytes[at + 4] === 0x2f;
}

/** Whether a socket is one whose TLS handshake is done. */
export function isTls(socket: Socket): boolean {
  return (socket as Partial<TLSSocket>).encrypted === true;
}

const NOTHING = Buffer.alloc(0);

function ignore(): void {}

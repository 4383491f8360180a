/**
 * One HTTP/2 session: each stream a request through the dispatcher, and the session's budgets. Frames are nghttp2's business
 * (node:http2); what they cost is watched here.
 */
import {
  constants,
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { TLSSocket } from "node:tls";
import type { Clock, MonotonicMs } from "#kit";
import type { Logger } from "#kit/io";
import type { EdgeSettings } from "../../config.ts";
import { type Http2Fault, SessionBudget } from "../../core/http2-budget.ts";
import { PIECE_BYTES_MAX } from "../answer-writing.ts";
import type { HotServed } from "../access-recorder.ts";
import { type Dispatcher, ownAnswer } from "../dispatch.ts";
import type { Answer } from "../exchange.ts";
import type { HotTable } from "../hot-table.ts";
import type { EdgeMetrics } from "../metrics.ts";
import type { CheckedRequest } from "../request-check.ts";
import { headOf, interimHeaders, writeToStream } from "./answer-writer.ts";
import { contentOf } from "./content.ts";
import type { Http2Metrics, Http2SessionEnd } from "./http2-metrics.ts";
import { checkHttp2Request, type Http2Head, isSameHead, pathOf, readHttp2Head } from "./request-head.ts";

/** What sessions share: their server. */
export interface Http2Context {
  readonly dispatcher: Dispatcher;
  readonly settings: EdgeSettings;
  readonly clock: Clock;
  readonly metrics: EdgeMetrics;
  readonly http2Metrics: Http2Metrics;
  readonly logger: Logger;
  readonly hot: () => HotTable | undefined;
  readonly onServedHot: ((hit: HotServed) => void) | undefined;
  readonly onGone: (session: Http2Connection) => void;
}

/** A stream that is open. */
interface Exchange {
  readonly beganAt: MonotonicMs;
  /** When the client last took or sent something. */
  movedAt: MonotonicMs;
  isAnswered: boolean;
  /** Given up by us. */
  isCut: boolean;
  /** While content may still come. */
  hasContent: boolean;
  /** Bytes that waited to be taken when we looked last. */
  waitingBytes: number;
  aborter: AbortController | undefined;
}

/** GOAWAY with it names no stream that would not be served. */
const STREAM_ID_MAX = 2 ** 31 - 1;
/** Code of nghttp2 that node:http2 reports by number (nghttp2.h). */
const NGHTTP2_ERR_TOO_MANY_CONTINUATIONS = -905;

export class Http2Connection {
  readonly #context: Http2Context;
  readonly #socket: TLSSocket;
  readonly #session: ServerHttp2Session;
  readonly #budget: SessionBudget;
  readonly #streams = new Map<ServerHttp2Stream, Exchange>();
  readonly #remoteAddress: string;
  /** The last head and the list that it was read from. */
  #raw: readonly string[] = [];
  #head: Http2Head | undefined;
  #end: Http2SessionEnd | undefined;
  /** When the last stream ended. */
  #idleSince: MonotonicMs;

  constructor(context: Http2Context, socket: TLSSocket) {
    const { settings, clock } = context;
    this.#context = context;
    this.#socket = socket;
    this.#remoteAddress = socket.remoteAddress ?? "unknown";
    this.#idleSince = clock.monotonic();
    this.#budget = new SessionBudget(this.#idleSince);
    const session = performServerHandshake(socket, {
      settings: {
        enablePush: false,
        maxConcurrentStreams: settings.http2StreamsMax,
        maxHeaderListSize: settings.headerBytesMax,
        initialWindowSize: settings.http2WindowBytes,
      },
      // Pseudo fields count too; what is beyond the limit is answered with 431 where it can be.
      maxHeaderListPairs: settings.headerFieldsMax + 8,
      // Streams opened beyond what we allow, and frames that break the rules, before the session is ended.
      maxSessionRejectedStreams: 100,
      maxSessionInvalidFrames: 100,
      maxSettings: 32,
      // An answer's own repeated fields are its origin's business.
      strictSingleValueFields: false,
    });
    this.#session = session;
    session.on("stream", (stream, headers, flags, raw) => this.#stream(stream, headers, flags, raw));
    session.on("ping", () => this.#judge(this.#budget.handlePing(clock.monotonic())));
    session.on("remoteSettings", () => this.#judge(this.#budget.handleSettings(clock.monotonic())));
    session.on("error", (error: NodeJS.ErrnoException) => {
      this.#end ??= this.#endOf(error);
      context.logger.debug("http2-session-error", { code: error.code, errno: error.errno });
    });
    session.once("close", () => {
      context.http2Metrics.end(this.#end ?? "client");
      for (const exchange of this.#streams.values()) exchange.aborter?.abort();
      context.onGone(this);
    });
    context.http2Metrics.session();
  }

  /** Tells the client to begin nothing new here, and takes all the same what was on its way. */
  announceEnd(): void {
    if (this.#session.destroyed) return;
    this.#end ??= "drain";
    this.#session.goaway(constants.NGHTTP2_NO_ERROR, STREAM_ID_MAX);
  }

  /** Asks the client to go: streams in flight are finished (RFC 9113, section 6.8). */
  close(reason: "drain" | "idle"): void {
    if (this.#session.destroyed) return;
    this.#end ??= reason;
    this.#session.close();
  }

  destroy(): void {
    this.#session.destroy();
    this.#socket.destroy();
  }

  /** Ends what has taken too long, and looks at the totals. Called about once a second. */
  sweep(now: MonotonicMs): void {
    const { settings, http2Metrics } = this.#context;
    for (const [stream, exchange] of this.#streams) {
      const waitingBytes = stream.bufferSize;
      if (waitingBytes !== exchange.waitingBytes) exchange.movedAt = now;
      exchange.waitingBytes = waitingBytes;
      const reason =
        exchange.isAnswered && now - exchange.movedAt > settings.writeStallMs
          ? "slow-reader"
          : exchange.hasContent && now - exchange.beganAt > settings.requestTimeoutMs
            ? "slow-content"
            : undefined;
      if (reason === undefined || exchange.isCut) continue;
      exchange.isCut = true;
      http2Metrics.cut(reason);
      stream.close(constants.NGHTTP2_CANCEL);
    }
    if (this.#streams.size === 0 && now - this.#idleSince > settings.keepAliveTimeoutMs) {
      this.close("idle");
      // A client that does not react to being asked.
      if (now - this.#idleSince > settings.keepAliveTimeoutMs + settings.writeStallMs) this.destroy();
    }
    this.#judge(this.#budget.handleTotals(this.#socket.bytesRead, this.#socket.bytesWritten, now));
  }

  /** What an error of the session stands for. */
  #endOf(error: NodeJS.ErrnoException): Http2SessionEnd {
    if (error.errno === NGHTTP2_ERR_TOO_MANY_CONTINUATIONS) return "header-flood";
    if (GONE.has(error.code ?? "")) return "client";
    return this.#budget.wasFlooding(this.#socket.bytesRead, this.#socket.bytesWritten)
      ? "control-flood"
      : "protocol";
  }

  #judge(fault: Http2Fault | undefined): void {
    if (fault === undefined || this.#end !== undefined) return;
    this.#end = fault;
    this.#context.logger.debug("http2-session-fault", { fault });
    // RFC 9113, section 7: the peer behaves so that it might be generating excessive load.
    this.#session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }

  #stream(
    stream: ServerHttp2Stream,
    _headers: IncomingHttpHeaders,
    flags: number,
    raw: readonly string[],
  ): void {
    const { clock, settings } = this.#context;
    const now = clock.monotonic();
    this.#budget.handleRequest(settings.headerBytesMax);
    // Reset before we came to it: the event comes a turn after the frame.
    if (stream.destroyed || stream.closed) {
      this.#judge(this.#budget.handleReset(now));
      return;
    }
    const hasContent = (flags & constants.NGHTTP2_FLAG_END_STREAM) === 0;
    const exchange: Exchange = {
      beganAt: now,
      movedAt: now,
      isAnswered: false,
      isCut: false,
      waitingBytes: 0,
      hasContent,
      aborter: undefined,
    };
    this.#streams.set(stream, exchange);
    // Told by "close" as well; without a listener it would end the process.
    stream.on("error", ignore);
    stream.on("close", () => this.#closed(stream, exchange));
    let head = this.#head;
    if (head === undefined || !isSameHead(this.#raw, raw)) {
      head = readHttp2Head(raw, settings);
      this.#raw = raw;
      this.#head = head;
    }
    const path = pathOf(raw);
    if (hasContent || !this.#serveHot(stream, exchange, head, path))
      void this.#serve(stream, exchange, head, path);
  }

  #closed(stream: ServerHttp2Stream, exchange: Exchange): void {
    const now = this.#context.clock.monotonic();
    this.#streams.delete(stream);
    if (this.#streams.size === 0) this.#idleSince = now;
    if (!exchange.isAnswered) exchange.aborter?.abort();
    const isReset = !exchange.isAnswered || stream.rstCode !== constants.NGHTTP2_NO_ERROR;
    if (isReset && !exchange.isCut) this.#judge(this.#budget.handleReset(now));
  }

  /** Answers from the hot table, in this turn. False: it has nothing for this request. */
  #serveHot(stream: ServerHttp2Stream, exchange: Exchange, head: Http2Head, path: string): boolean {
    const { clock, metrics, dispatcher, onServedHot } = this.#context;
    const hot = this.#context.hot();
    const { block } = head;
    if (hot === undefined || block === undefined || !block.isPlain || "refusedStatus" in block.checked)
      return false;
    const { host } = block.checked;
    let { scope } = block;
    if (scope === undefined || scope.isGone) {
      scope = hot.scopeOf("https", host);
      block.scope = scope;
      if (scope === undefined) return false;
    }
    const now = clock.epoch();
    const entry = hot.find(scope, path, block, now);
    // What is larger is written piece by piece, at the reader's pace.
    if (entry === undefined || entry.bodyBytes > PIECE_BYTES_MAX) return false;
    const age = entry.ageSeconds(now);
    const ttl = entry.memo.window.lifetimeSeconds - age;
    const isHead = head.method === "HEAD";
    let { status } = entry;
    let bytesDown = isHead ? 0 : entry.bodyBytes;
    if ((block.isConditional && entry.isNotModified(block, now)) || (block.hasRange && !isHead)) {
      const part = hot.part(entry, block, age, ttl);
      if (part === undefined) return false;
      const { answer, pieces } = part;
      status = answer.status;
      bytesDown = 0;
      stream.respond(headOf(answer, head.method), { endStream: pieces.length === 0 });
      for (const piece of pieces) {
        bytesDown += piece.byteLength;
        stream.write(piece);
      }
      if (pieces.length > 0) stream.end();
    } else {
      let made = entry.http2;
      if (made === undefined || made.age !== age || made.ttl !== ttl) {
        made = { age, ttl, raw: headOf(hot.plain(entry, age, ttl), "GET") };
        entry.http2 = made;
      }
      stream.respond(made.raw, { endStream: isHead });
      if (!isHead) writeAll(stream, entry.memo.stored.body.chunks);
    }
    exchange.isAnswered = true;
    const durationMs = clock.monotonic() - exchange.beganAt;
    metrics.request("hit", status, durationMs / 1_000, bytesDown);
    onServedHot?.({
      entry,
      host,
      target: path,
      method: isHead ? "HEAD" : "GET",
      status,
      bytesDown,
      remoteAddress: dispatcher.clientAddress(this.#remoteAddress, block.fields),
      requestId: dispatcher.nextId(),
      traceId: block.traceId,
      atEpochMs: now,
      durationMs,
    });
    return true;
  }

  async #serve(stream: ServerHttp2Stream, exchange: Exchange, head: Http2Head, path: string): Promise<void> {
    const { dispatcher, settings, metrics, clock, logger } = this.#context;
    dispatcher.begin();
    let isCounted = true;
    try {
      const checked = checkHttp2Request(head, path, settings);
      if ("refusedStatus" in checked) {
        metrics.refused(checked.reason);
        const answer = ownAnswer(checked.refusedStatus, `Refused: ${checked.message}.\n`);
        await this.#write(stream, exchange, answer, head.method);
        return;
      }
      const aborter = new AbortController();
      exchange.aborter = aborter;
      const content = exchange.hasContent ? this.#content(stream, exchange) : undefined;
      const withContent: CheckedRequest = { ...checked, hasContent: exchange.hasContent };
      const inbound = dispatcher.inbound({
        checked: withContent,
        path,
        httpVersion: "2",
        isTls: true,
        remoteAddress: this.#remoteAddress,
        body: content,
        signal: aborter.signal,
        startedAt: exchange.beganAt,
        sendInterim: (status, fields) => {
          if (!stream.headersSent && !stream.destroyed && !stream.closed)
            stream.additionalHeaders(interimHeaders(status, fields));
        },
      });
      // Nobody will read it (RFC 9110, section 9.3.1).
      if (content !== undefined && inbound.body === undefined) content.destroy();
      const found = dispatcher.answer(inbound, checked.host);
      // Who waits may begin with what the page needed the last time (RFC 8297).
      if (found instanceof Promise) hint(stream, dispatcher.earlyHints(inbound));
      const answer = found instanceof Promise ? await found : found;
      const ttfbMs = clock.monotonic() - exchange.beganAt;
      const result = await this.#write(stream, exchange, answer, checked.method);
      isCounted = false;
      dispatcher.end(inbound, answer, result, ttfbMs);
      if (answer.memo !== undefined && head.block?.isPlain === true)
        this.#context.hot()?.offer(inbound.head, answer.memo);
    } catch (error) {
      // A fault of our own. The client gets an answer or a reset stream, never silence.
      logger.error("request-failed", { error });
      if (stream.headersSent) stream.close(constants.NGHTTP2_INTERNAL_ERROR);
      else await this.#write(stream, exchange, ownAnswer(500, "Internal fault.\n"), head.method);
    } finally {
      if (isCounted) dispatcher.abandon();
    }
  }

  #content(stream: ServerHttp2Stream, exchange: Exchange) {
    const content = contentOf(stream, (bytes) => {
      this.#budget.handleContent(bytes);
      exchange.movedAt = this.#context.clock.monotonic();
    });
    stream.once("end", () => {
      exchange.hasContent = false;
    });
    return content;
  }

  async #write(stream: ServerHttp2Stream, exchange: Exchange, answer: Answer, method: string) {
    const { settings, clock, http2Metrics } = this.#context;
    const result = await writeToStream(stream, answer, method, settings.writeStallMs, () => {
      exchange.movedAt = clock.monotonic();
    });
    // From here on the client only has to take what lies ready.
    exchange.movedAt = clock.monotonic();
    if (result.end !== "client-gone") exchange.isAnswered = true;
    if (result.end === "stalled") {
      exchange.isCut = true;
      http2Metrics.cut("slow-reader");
    }
    // RFC 9113, section 8.1: an answer that did not need the content asks for no more of it.
    if (exchange.hasContent && result.end === "complete" && !stream.destroyed)
      stream.close(constants.NGHTTP2_NO_ERROR);
    return result;
  }
}

function hint(stream: ServerHttp2Stream, links: readonly string[] | undefined): void {
  if (links === undefined || stream.destroyed || stream.headersSent) return;
  stream.additionalHeaders({ ":status": 103, link: [...links] });
}

function ignore(): void {}

/** The last piece goes with the end, so that both leave in one frame. */
function writeAll(stream: ServerHttp2Stream, chunks: readonly Uint8Array[]): void {
  const last = chunks.length - 1;
  for (let index = 0; index < last; index++) stream.write(chunks[index]);
  stream.end(chunks[last]);
}

const GONE: ReadonlySet<string> = new Set(["ECONNRESET", "EPIPE", "ECONNABORTED"]);

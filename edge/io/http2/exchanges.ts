/**
 * The streams of one HTTP/2 connection as requests: each goes through the hot table or the dispatcher, whoever speaks the frames
 * (http2-session.ts: node:http2; direct-session.ts: ourselves).
 */
import { constants } from "node:http2";
import type { Clock, EpochMs, MonotonicMs } from "#kit";
import type { Logger } from "#kit/io";
import type { EdgeSettings } from "../../config.ts";
import { PIECE_BYTES_MAX } from "../answer-writing.ts";
import type { HotServed } from "../access-recorder.ts";
import { type Dispatcher, ownAnswer } from "../dispatch.ts";
import type { Answer } from "../exchange.ts";
import type { HotEntry, HotTable } from "../hot-table.ts";
import type { EdgeMetrics } from "../metrics.ts";
import type { CheckedRequest } from "../request-check.ts";
import { headOf, interimHeaders, writeToStream } from "./answer-writer.ts";
import { contentOf } from "./content.ts";
import type { Http2Metrics } from "./http2-metrics.ts";
import type { Http2Stream } from "./http2-stream.ts";
import { checkHttp2Request, type Http2Head, isSameHead, pathOf, readHttp2Head } from "./request-head.ts";

/** What connections share: their server. */
export interface Http2Context {
  readonly dispatcher: Dispatcher;
  readonly settings: EdgeSettings;
  readonly clock: Clock;
  readonly metrics: EdgeMetrics;
  readonly http2Metrics: Http2Metrics;
  readonly logger: Logger;
  readonly hot: () => HotTable | undefined;
  readonly onServedHot: ((hit: HotServed) => void) | undefined;
  readonly onGone: (session: Http2Session) => void;
}

/** A connection, whoever speaks its frames. */
export interface Http2Session {
  /** Tells the client to begin nothing new here, and takes all the same what was on its way. */
  announceEnd(): void;
  /** Asks the client to go: streams in flight are finished (RFC 9113, section 6.8). */
  close(reason: "drain" | "idle"): void;
  destroy(): void;
  /** Ends what has taken too long, and looks at the totals. Called about once a second. */
  sweep(now: MonotonicMs): void;
}

/** Who counts what streams do. */
export interface StreamCounts {
  /** A stream has ended before it was answered, by whom it may be. */
  reset(): void;
  /** Content came. */
  content(bytes: number): void;
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
  /** Bytes of content that were taken, and that are counted: those that wait here as well. */
  takenBytes: number;
  countedBytes: number;
  /** Bytes that waited to be taken when we looked last. */
  waitingBytes: number;
  aborter: AbortController | undefined;
}

/** A hit of the hot table, with what its answer says of time. */
export interface HotFound {
  readonly hot: HotTable;
  readonly entry: HotEntry;
  readonly host: string;
  readonly path: string;
  readonly block: NonNullable<Http2Head["block"]>;
  readonly at: EpochMs;
  /** Seconds. */
  readonly age: number;
  readonly ttl: number;
}

export class Http2Exchanges {
  readonly #context: Http2Context;
  readonly #remoteAddress: string;
  readonly #counts: StreamCounts;
  readonly #streams = new Map<Http2Stream, Exchange>();
  /** The last head and the list that it was read from. */
  #raw: readonly string[] = [];
  #head: Http2Head | undefined;
  /** When the last stream ended. */
  #idleSince: MonotonicMs;

  constructor(context: Http2Context, remoteAddress: string, counts: StreamCounts) {
    this.#context = context;
    this.#remoteAddress = remoteAddress;
    this.#counts = counts;
    this.#idleSince = context.clock.monotonic();
  }

  /** How long no stream has been open, ms; 0: one is. */
  idleMs(now: MonotonicMs): number {
    return this.#streams.size > 0 ? 0 : now - this.#idleSince;
  }

  /** The connection is gone. */
  abort(): void {
    for (const exchange of this.#streams.values()) exchange.aborter?.abort();
  }

  /** Gives up streams that have taken too long. */
  sweep(now: MonotonicMs): void {
    const { settings, http2Metrics } = this.#context;
    for (const [stream, exchange] of this.#streams) {
      if (exchange.hasContent) this.#countContent(stream, exchange);
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
  }

  /** What a header list says; the same object for lists that differ in the path alone, one after the other. */
  headOf(raw: readonly string[]): Http2Head {
    if (this.#head === undefined || (raw !== this.#raw && !isSameHead(this.#raw, raw)))
      this.#head = readHttp2Head(raw, this.#context.settings);
    this.#raw = raw;
    return this.#head;
  }

  /**
   * A hit that the hot table has for a plain GET without conditions or range, of at most `bytesMax`. It counts as found: who asks
   * answers with it and says {@link served}.
   */
  findWhole(raw: readonly string[], bytesMax: number, at: EpochMs): HotFound | undefined {
    const head = this.headOf(raw);
    const { block } = head;
    if (block === undefined || head.method !== "GET" || block.isConditional || block.hasRange)
      return undefined;
    const found = this.#find(head, pathOf(raw), at);
    return found === undefined || found.entry.bodyBytes > bytesMax ? undefined : found;
  }

  /** Counts and records an answer from the hot table. */
  served(
    found: HotFound,
    method: "GET" | "HEAD",
    status: number,
    bytesDown: number,
    beganAt: MonotonicMs,
  ): void {
    const { clock, metrics, dispatcher, onServedHot } = this.#context;
    const { entry, host, path, block, at } = found;
    const durationMs = clock.monotonic() - beganAt;
    metrics.request("hit", status, durationMs / 1_000, bytesDown);
    onServedHot?.({
      entry,
      host,
      target: path,
      method,
      status,
      bytesDown,
      remoteAddress: dispatcher.clientAddress(this.#remoteAddress, block.fields),
      requestId: dispatcher.nextId(),
      traceId: block.traceId,
      atEpochMs: at,
      durationMs,
    });
  }

  #find(head: Http2Head, path: string, at: EpochMs): HotFound | undefined {
    const hot = this.#context.hot();
    const { block } = head;
    if (hot === undefined || block === undefined || !block.isPlain || "refusedStatus" in block.checked)
      return undefined;
    const { host } = block.checked;
    let { scope } = block;
    if (scope === undefined || scope.isGone) {
      scope = hot.scopeOf("https", host);
      block.scope = scope;
      if (scope === undefined) return undefined;
    }
    const entry = hot.find(scope, path, block, at);
    if (entry === undefined) return undefined;
    const age = entry.ageSeconds(at);
    return { hot, entry, host, path, block, at, age, ttl: entry.memo.window.lifetimeSeconds - age };
  }

  /** Serves a stream that has begun. `hasContent`: some may come. */
  open(stream: Http2Stream, raw: readonly string[], hasContent: boolean): void {
    const now = this.#context.clock.monotonic();
    // Reset before we came to it: the event comes a turn after the frame.
    if (stream.destroyed || stream.closed) {
      this.#counts.reset();
      return;
    }
    const exchange: Exchange = {
      beganAt: now,
      movedAt: now,
      isAnswered: false,
      isCut: false,
      waitingBytes: 0,
      hasContent,
      takenBytes: 0,
      countedBytes: 0,
      aborter: undefined,
    };
    this.#streams.set(stream, exchange);
    // Told by "close" as well; without a listener it would end the process.
    stream.on("error", ignore);
    stream.on("close", () => this.#closed(stream, exchange));
    const head = this.headOf(raw);
    const path = pathOf(raw);
    if (hasContent || !this.#serveHot(stream, exchange, head, path))
      void this.#serve(stream, exchange, head, path);
  }

  #closed(stream: Http2Stream, exchange: Exchange): void {
    const now = this.#context.clock.monotonic();
    this.#streams.delete(stream);
    if (this.#streams.size === 0) this.#idleSince = now;
    if (!exchange.isAnswered) exchange.aborter?.abort();
    const isReset = !exchange.isAnswered || stream.rstCode !== constants.NGHTTP2_NO_ERROR;
    if (isReset && !exchange.isCut) this.#counts.reset();
  }

  /** Answers from the hot table, in this turn. False: it has nothing for this request. */
  #serveHot(stream: Http2Stream, exchange: Exchange, head: Http2Head, path: string): boolean {
    const found = this.#find(head, path, this.#context.clock.epoch());
    // What is larger is written piece by piece, at the reader's pace.
    if (found === undefined || found.entry.bodyBytes > PIECE_BYTES_MAX) return false;
    const { hot, entry, block, age, ttl } = found;
    const isHead = head.method === "HEAD";
    let { status } = entry;
    let bytesDown = isHead ? 0 : entry.bodyBytes;
    if ((block.isConditional && entry.isNotModified(block, found.at)) || (block.hasRange && !isHead)) {
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
    this.served(found, isHead ? "HEAD" : "GET", status, bytesDown, exchange.beganAt);
    return true;
  }

  async #serve(stream: Http2Stream, exchange: Exchange, head: Http2Head, path: string): Promise<void> {
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

  #content(stream: Http2Stream, exchange: Exchange) {
    const content = contentOf(stream, (bytes) => {
      exchange.takenBytes += bytes;
      this.#countContent(stream, exchange);
      exchange.movedAt = this.#context.clock.monotonic();
    });
    stream.once("end", () => {
      exchange.hasContent = false;
    });
    return content;
  }

  #countContent(stream: Http2Stream, exchange: Exchange): void {
    const bytes = exchange.takenBytes + stream.readableLength;
    if (bytes <= exchange.countedBytes) return;
    this.#counts.content(bytes - exchange.countedBytes);
    exchange.countedBytes = bytes;
  }

  async #write(stream: Http2Stream, exchange: Exchange, answer: Answer, method: string) {
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

function hint(stream: Http2Stream, links: readonly string[] | undefined): void {
  if (links === undefined || stream.destroyed || stream.headersSent) return;
  stream.additionalHeaders({ ":status": 103, link: [...links] });
}

function ignore(): void {}

/** The last piece goes with the end, so that both leave in one frame. */
function writeAll(stream: Http2Stream, chunks: readonly Uint8Array[]): void {
  const last = chunks.length - 1;
  for (let index = 0; index < last; index++) stream.write(chunks[index]);
  stream.end(chunks[last]);
}

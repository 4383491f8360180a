/**
 * One HTTP/2 connection whose frames we speak ourselves (core/http2/connection.ts), past Node's streams: plain hits are answered in
 * the turn they come in, all of a read in one write; every other request is a stream that exchanges.ts serves. Measured:
 * edge/README.md.
 */
import { constants } from "node:http2";
import type { TLSSocket } from "node:tls";
import type { EpochMs, MonotonicMs } from "#kit";
import { type Http2Fault, SessionBudget } from "../../core/http2-budget.ts";
import {
  type AtOnce,
  type ConnectionFault,
  Http2Connection,
  type Http2Handler,
} from "../../core/http2/connection.ts";
import { hpackEncode } from "../../core/http2/hpack.ts";
import type { TlsReads } from "../tls/tls-reads.ts";
import { headOf } from "./answer-writer.ts";
import { DirectStream } from "./direct-stream.ts";
import { type HotFound, type Http2Context, Http2Exchanges, type Http2Session } from "./exchanges.ts";
import type { Http2SessionEnd } from "./http2-metrics.ts";

/** From our last word until a client is cut that does not close, ms. */
const LINGER_MS = 2_000;
/**
 * Fields that HTTP/1.1 does not have, or has as one: the pseudo fields, and cookies, which browsers send in pieces (RFC 9113, section
 * 8.2.3): 180 a site at most.
 */
const FIELDS_MORE = 200;

export class DirectHttp2Session implements Http2Session, Http2Handler {
  readonly #context: Http2Context;
  readonly #socket: TLSSocket;
  readonly #reads: TlsReads;
  readonly #budget: SessionBudget;
  readonly #exchanges: Http2Exchanges;
  readonly #connection: Http2Connection;
  readonly #streams = new Map<number, DirectStream>();
  #end: Http2SessionEnd | undefined;
  #bytesRead = 0;
  #bytesWritten = 0;
  /** When something was last handed to the system. */
  #sentAt: MonotonicMs;
  /** Of what is being read. */
  #at: EpochMs;
  #beganAt: MonotonicMs;
  /** When the last request came: one that is answered at once is no stream. */
  #requestAt: MonotonicMs;
  /** What was written in the middle of something leaves at its end. */
  #isBusy = false;
  /** `closing`: streams in flight are finished; `ending`: what waits leaves, then the connection closes; `gone`. */
  #phase: "open" | "closing" | "ending" | "gone" = "open";
  #endingSince: MonotonicMs | undefined;

  constructor(context: Http2Context, socket: TLSSocket, reads: TlsReads) {
    const { settings, clock } = context;
    this.#context = context;
    this.#socket = socket;
    this.#reads = reads;
    this.#sentAt = clock.monotonic();
    this.#beganAt = this.#sentAt;
    this.#requestAt = this.#sentAt;
    this.#at = clock.epoch();
    this.#budget = new SessionBudget(this.#sentAt);
    this.#exchanges = new Http2Exchanges(context, socket.remoteAddress ?? "unknown", COUNTED_BY_FRAMES);
    this.#connection = new Http2Connection(
      {
        streamsMax: settings.http2StreamsMax,
        windowBytes: settings.http2WindowBytes,
        headerBytesMax: settings.headerBytesMax,
        headerFieldsMax: settings.headerFieldsMax + FIELDS_MORE,
      },
      this,
    );
    reads.sink = (bytes) => this.#received(bytes);
    reads.onSent = () => this.#flush();
    socket.on("drain", () => this.#flush());
    // Told by "close" as well; without a listener it would end the process.
    socket.on("error", () => {});
    socket.once("close", () => this.#gone());
    context.http2Metrics.session();
    this.#flush();
  }

  announceEnd(): void {
    if (this.#phase !== "open") return;
    this.#end ??= "drain";
    this.#connection.goaway(constants.NGHTTP2_NO_ERROR, false);
    this.#flush();
  }

  close(reason: "drain" | "idle"): void {
    if (this.#phase !== "open") return;
    this.#end ??= reason;
    this.#phase = "closing";
    this.#connection.goaway(constants.NGHTTP2_NO_ERROR, true);
    this.#flush();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  sweep(now: MonotonicMs): void {
    const { settings, http2Metrics } = this.#context;
    this.#exchanges.sweep(now);
    const idleMs = this.#exchanges.idleMs(now);
    if (Math.min(idleMs, now - this.#requestAt) > settings.keepAliveTimeoutMs) this.close("idle");
    if (this.#isStuck() && now - this.#sentAt > settings.writeStallMs) {
      http2Metrics.cut("slow-reader");
      this.destroy();
    }
    if (this.#endingSince !== undefined && now - this.#endingSince > LINGER_MS) this.destroy();
    this.#judge(this.#budget.handleTotals(this.#bytesRead, this.#bytesWritten, now));
    this.#flush();
  }

  // What the connection tells.

  answerAtOnce(raw: readonly string[], bytesMax: number): AtOnce | undefined {
    if (this.#isOver()) return undefined;
    const found = this.#exchanges.findWhole(raw, bytesMax, this.#at);
    if (found === undefined) return undefined;
    const { entry } = found;
    this.#exchanges.served(found, "GET", entry.status, entry.bodyBytes, this.#beganAt);
    const { chunks } = entry.memo.stored.body;
    return {
      block: blockOf(found),
      content: entry.bodyBytes === 0 ? undefined : chunks.length === 1 ? chunks[0] : Buffer.concat(chunks),
    };
  }

  request(id: number, raw: readonly string[], hasContent: boolean): void {
    // What came behind the fault that ended the connection.
    if (this.#isOver()) return;
    const stream = new DirectStream(id, this.#connection, hasContent, () => this.#flush());
    this.#streams.set(id, stream);
    stream.once("close", () => {
      this.#streams.delete(id);
      this.#flush();
    });
    this.#exchanges.open(stream, raw, hasContent);
  }

  content(id: number, bytes: Uint8Array): void {
    // When it comes, not when it is taken: what waits for a slow origin is no flood.
    this.#budget.handleContent(bytes.byteLength);
    this.#streams.get(id)?.received(bytes);
  }

  contentEnd(id: number): void {
    this.#streams.get(id)?.contentEnded();
  }

  reset(id: number, code: number): void {
    this.#streams.get(id)?.cut(code);
  }

  drained(id: number): void {
    this.#streams.get(id)?.drained();
  }

  discarded(bytes: number): void {
    this.#budget.handleContent(bytes);
  }

  counted(what: "reset" | "ping" | "settings" | "request"): void {
    const budget = this.#budget;
    if (what === "request") {
      this.#requestAt = this.#beganAt;
      budget.handleRequest(this.#context.settings.headerBytesMax);
    } else if (what === "reset") this.#judge(budget.handleReset(this.#beganAt));
    else if (what === "ping") this.#judge(budget.handlePing(this.#beganAt));
    else this.#judge(budget.handleSettings(this.#beganAt));
  }

  /** `bytes` are valid during the call only. */
  #received(bytes: Uint8Array): void {
    if (this.#isOver()) return;
    const { clock } = this.#context;
    this.#beganAt = clock.monotonic();
    this.#at = clock.epoch();
    this.#bytesRead += bytes.byteLength;
    this.#isBusy = true;
    let fault: ConnectionFault | undefined;
    try {
      fault = this.#connection.receive(bytes);
    } catch (error) {
      // A fault of our own: it costs this connection, not the process.
      this.#context.logger.error("http2-session-failed", { error });
      this.#end ??= "internal";
      this.destroy();
    } finally {
      this.#isBusy = false;
    }
    if (fault !== undefined) this.#fail(fault);
    else this.#flush();
  }

  /** The client has broken a rule, and GOAWAY is written. */
  #fail(fault: ConnectionFault): void {
    const wasFlooding = this.#budget.wasFlooding(this.#bytesRead, this.#bytesWritten);
    this.#end ??=
      fault === "header-flood"
        ? fault
        : fault === "output-flood" || wasFlooding
          ? "control-flood"
          : "protocol";
    this.#context.logger.debug("http2-session-error", { fault });
    this.#finish();
  }

  #judge(fault: Http2Fault | undefined): void {
    if (fault === undefined || this.#isOver()) return;
    this.#end = fault;
    this.#context.logger.debug("http2-session-fault", { fault });
    // RFC 9113, section 7: the peer behaves so that it might be generating excessive load.
    this.#connection.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM, true);
    this.#finish();
  }

  /** Nothing is read any more; what waits leaves, then the connection closes. */
  #finish(): void {
    if (this.#isOver()) return;
    this.#phase = "ending";
    this.#endingSince = this.#context.clock.monotonic();
    for (const stream of this.#streams.values()) stream.cut(constants.NGHTTP2_CANCEL);
    this.#flush();
  }

  /** Whether nothing is heard of it any more. */
  #isOver(): boolean {
    return this.#phase === "ending" || this.#phase === "gone";
  }

  /** Whether the system takes nothing at the moment. */
  #isStuck(): boolean {
    return this.#reads.isSending || this.#socket.writableNeedDrain;
  }

  /** Sends what is written, and as much of what is queued as there is room for. */
  #flush(): void {
    const socket = this.#socket;
    if (this.#isBusy || this.#phase === "gone" || socket.destroyed) return;
    this.#isBusy = true;
    const { output } = this.#connection;
    try {
      // While a send is under way nothing may be written; its end, or "drain", leads here again.
      // Who has closed its side takes nothing more: Node closes ours then.
      while (!this.#isStuck() && !socket.writableEnded) {
        if (this.#phase !== "ending") this.#connection.pump();
        if (output.length === 0) break;
        this.#bytesWritten += output.length;
        this.#sentAt = this.#context.clock.monotonic();
        if (!this.#reads.send(output.view)) socket.write(Buffer.from(output.view));
        output.clear();
      }
    } finally {
      this.#isBusy = false;
    }
    if (output.length > 0 || this.#reads.isSending) return;
    if (this.#phase === "closing" && this.#connection.streams === 0) this.#finish();
    else if (this.#phase === "ending" && !socket.writableEnded) {
      socket.end();
      // Nothing more is read, so nothing else would tell that the client has closed.
      socket.resume();
    }
  }

  #gone(): void {
    if (this.#phase === "gone") return;
    this.#phase = "gone";
    const { http2Metrics, onGone } = this.#context;
    http2Metrics.end(this.#end ?? "client");
    this.#exchanges.abort();
    for (const stream of this.#streams.values()) stream.cut(constants.NGHTTP2_CANCEL);
    this.#connection.output.clear();
    onGone(this);
  }
}

/** Resets and content are counted where the frames are. */
const COUNTED_BY_FRAMES = { reset: (): void => {}, content: (): void => {} };

/** The head of a hit as a header block, kept with the entry while its numbers are the same. */
function blockOf({ hot, entry, age, ttl }: HotFound): Uint8Array {
  let made = entry.http2Block;
  if (made === undefined || made.age !== age || made.ttl !== ttl) {
    made = { age, ttl, bytes: hpackEncode(headOf(hot.plain(entry, age, ttl), "GET")) };
    entry.http2Block = made;
  }
  return made.bytes;
}

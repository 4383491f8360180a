/**
 * One HTTP/2 session whose frames are nghttp2's business (node:http2): what they cost is watched here, its streams are served by
 * exchanges.ts.
 */
import { constants, performServerHandshake, type ServerHttp2Session } from "node:http2";
import type { TLSSocket } from "node:tls";
import type { MonotonicMs } from "#kit";
import { type Http2Fault, SessionBudget } from "../../core/http2-budget.ts";
import { type Http2Context, Http2Exchanges, type Http2Session } from "./exchanges.ts";
import type { Http2SessionEnd } from "./http2-metrics.ts";

/** GOAWAY with it names no stream that would not be served. */
const STREAM_ID_MAX = 2 ** 31 - 1;
/** Code of nghttp2 that node:http2 reports by number (nghttp2.h). */
const NGHTTP2_ERR_TOO_MANY_CONTINUATIONS = -905;

export class NodeHttp2Session implements Http2Session {
  readonly #context: Http2Context;
  readonly #socket: TLSSocket;
  readonly #session: ServerHttp2Session;
  readonly #budget: SessionBudget;
  readonly #exchanges: Http2Exchanges;
  #end: Http2SessionEnd | undefined;

  constructor(context: Http2Context, socket: TLSSocket) {
    const { settings, clock } = context;
    this.#context = context;
    this.#socket = socket;
    this.#budget = new SessionBudget(clock.monotonic());
    this.#exchanges = new Http2Exchanges(context, socket.remoteAddress ?? "unknown", {
      reset: () => this.#judge(this.#budget.handleReset(clock.monotonic())),
      content: (bytes) => this.#budget.handleContent(bytes),
    });
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
    session.on("stream", (stream, _headers, flags, raw) => {
      this.#budget.handleRequest(settings.headerBytesMax);
      this.#exchanges.open(stream, raw, (flags & constants.NGHTTP2_FLAG_END_STREAM) === 0);
    });
    session.on("ping", () => this.#judge(this.#budget.handlePing(clock.monotonic())));
    session.on("remoteSettings", () => this.#judge(this.#budget.handleSettings(clock.monotonic())));
    session.on("error", (error: NodeJS.ErrnoException) => {
      this.#end ??= this.#endOf(error);
      context.logger.debug("http2-session-error", { code: error.code, errno: error.errno });
    });
    session.once("close", () => {
      context.http2Metrics.end(this.#end ?? "client");
      this.#exchanges.abort();
      context.onGone(this);
    });
    context.http2Metrics.session();
  }

  announceEnd(): void {
    if (this.#session.destroyed) return;
    this.#end ??= "drain";
    this.#session.goaway(constants.NGHTTP2_NO_ERROR, STREAM_ID_MAX);
  }

  close(reason: "drain" | "idle"): void {
    if (this.#session.destroyed) return;
    this.#end ??= reason;
    this.#session.close();
  }

  destroy(): void {
    this.#session.destroy();
    this.#socket.destroy();
  }

  sweep(now: MonotonicMs): void {
    const { keepAliveTimeoutMs, writeStallMs } = this.#context.settings;
    this.#exchanges.sweep(now);
    const idleMs = this.#exchanges.idleMs(now);
    if (idleMs > keepAliveTimeoutMs) {
      this.close("idle");
      // A client that does not react to being asked.
      if (idleMs > keepAliveTimeoutMs + writeStallMs) this.destroy();
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
}

const GONE: ReadonlySet<string> = new Set(["ECONNRESET", "EPIPE", "ECONNABORTED"]);

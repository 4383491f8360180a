/** What HTTP/2 counts; reasons are closed lists. */
import type { Registry } from "prom-client";
import Counter from "prom-client/lib/counter.js";
import type { Http2Fault } from "../../core/http2-budget.ts";

/**
 * Why a session ended: a budget that ran out ({@link Http2Fault}); `header-flood`: a header
 * section without end (CONTINUATION); `protocol`: any other break of RFC 9113, or far more streams than it may have; `idle`; `drain`;
 * `internal`: a fault of our own; `client`: the client closed or went.
 */
export const HTTP2_SESSION_ENDS = [
  "rapid-reset",
  "ping-flood",
  "settings-flood",
  "control-flood",
  "header-flood",
  "protocol",
  "idle",
  "drain",
  "internal",
  "client",
] as const;
export type Http2SessionEnd = (typeof HTTP2_SESSION_ENDS)[number] | Http2Fault;

/** Why we gave up a stream: its client took no byte for too long, or sent its content too slowly. */
export const HTTP2_STREAM_CUTS = ["slow-reader", "slow-content"] as const;
export type Http2StreamCut = (typeof HTTP2_STREAM_CUTS)[number];

export class Http2Metrics {
  readonly #sessions: Counter;
  readonly #ends: Counter;
  readonly #cuts: Counter;

  constructor(registry: Registry) {
    this.#sessions = new Counter({
      name: "isochrone_edge_http2_sessions_total",
      help: "HTTP/2 sessions begun",
      registers: [registry],
    });
    this.#ends = new Counter({
      name: "isochrone_edge_http2_session_ends_total",
      help: "HTTP/2 sessions ended, by reason",
      labelNames: ["reason"],
      registers: [registry],
    });
    this.#cuts = new Counter({
      name: "isochrone_edge_http2_stream_cuts_total",
      help: "HTTP/2 streams that were given up, by reason",
      labelNames: ["reason"],
      registers: [registry],
    });
    for (const reason of HTTP2_SESSION_ENDS) this.#ends.inc({ reason }, 0);
    for (const reason of HTTP2_STREAM_CUTS) this.#cuts.inc({ reason }, 0);
  }

  session(): void {
    this.#sessions.inc();
  }
  end(reason: Http2SessionEnd): void {
    this.#ends.inc({ reason });
  }
  cut(reason: Http2StreamCut): void {
    this.#cuts.inc({ reason });
  }
}

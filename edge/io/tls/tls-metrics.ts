/** What TLS connections count; reasons are closed lists. */
import type { Registry } from "prom-client";
import Counter from "prom-client/lib/counter.js";

/**
 * Why a handshake came to nothing: `timeout`; `overload`: too many at once; `not-tls`: the first bytes are none of TLS;
 * `version`: older than TLS 1.2; `cipher`: nothing in common; `name`: nobody has a certificate for it; `alpn`: neither h2 nor
 * http/1.1; `client-alert`: the client refused us, mostly the certificate; `client-gone`; `protocol`: anything else against
 * the rules.
 */
export const HANDSHAKE_FAILURES = [
  "timeout",
  "overload",
  "not-tls",
  "version",
  "cipher",
  "name",
  "alpn",
  "client-alert",
  "client-gone",
  "protocol",
] as const;
export type HandshakeFailure = (typeof HANDSHAKE_FAILURES)[number];

export class TlsMetrics {
  readonly #handshakes: Counter;
  readonly #direct: Counter;
  readonly #failures: Counter;

  constructor(registry: Registry) {
    this.#handshakes = new Counter({
      name: "isochrone_edge_tls_handshakes_total",
      help: "TLS handshakes done, by version, application protocol, and whether a session was resumed",
      labelNames: ["version", "alpn", "resumed"],
      registers: [registry],
    });
    this.#failures = new Counter({
      name: "isochrone_edge_tls_handshake_failures_total",
      help: "TLS handshakes that came to nothing, by reason",
      labelNames: ["reason"],
      registers: [registry],
    });
    this.#direct = new Counter({
      name: "isochrone_edge_tls_direct_connections_total",
      help: "HTTP/1.1 connections over TLS that are read and written without Node's streams",
      registers: [registry],
    });
    for (const reason of HANDSHAKE_FAILURES) this.#failures.inc({ reason }, 0);
  }

  /** A connection of HTTP/1.1 whose hits go past the stream. */
  direct(): void {
    this.#direct.inc();
  }
  handshake(version: "1.2" | "1.3", alpn: "h2" | "http/1.1", isResumed: boolean): void {
    this.#handshakes.inc({ version, alpn, resumed: isResumed ? "yes" : "no" });
  }
  failure(reason: HandshakeFailure): void {
    this.#failures.inc({ reason });
  }
}

/** The reason that an error of Node's TLS server stands for. */
export function handshakeFailureOf(code: string | undefined): HandshakeFailure {
  switch (code) {
    case undefined:
      return "protocol";
    case "ERR_TLS_HANDSHAKE_TIMEOUT":
      return "timeout";
    case "ECONNRESET":
    case "EPIPE":
    case "ECONNABORTED":
    case "ERR_STREAM_PREMATURE_CLOSE":
    case "ERR_SOCKET_CLOSED":
      return "client-gone";
    case "ERR_SSL_HTTP_REQUEST":
    case "ERR_SSL_HTTPS_PROXY_REQUEST":
    case "ERR_SSL_WRONG_VERSION_NUMBER":
    case "ERR_SSL_PACKET_LENGTH_TOO_LONG":
      return "not-tls";
    case "ERR_SSL_UNSUPPORTED_PROTOCOL":
    case "ERR_SSL_VERSION_TOO_LOW":
    case "ERR_SSL_INAPPROPRIATE_FALLBACK":
      return "version";
    case "ERR_SSL_NO_SHARED_CIPHER":
    case "ERR_SSL_NO_SHARED_GROUPS":
    case "ERR_SSL_NO_SUITABLE_KEY_SHARE":
    case "ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM":
      return "cipher";
    case "ERR_SSL_NO_APPLICATION_PROTOCOL":
    case "ERR_TLS_ALPN_CALLBACK_INVALID_RESULT":
      return "alpn";
    default:
      return code.includes("_ALERT_") ? "client-alert" : "protocol";
  }
}

/** The TLS port of one edge process: its certificates, its front, and the wiring to those who speak the protocols. */
import type { Clock } from "#kit";
import type { Logger } from "#kit/io";
import type { EdgeSettings } from "../../config.ts";
import { Http2Front } from "../http2/http2-front.ts";
import { type ListenHandle, portOf } from "../listening.ts";
import type { EdgeMetrics } from "../metrics.ts";
import type { EdgeServer } from "../server.ts";
import { CertificateFiles, type CertificatePair } from "./certificate-files.ts";
import { CertificateStore } from "./certificate-store.ts";
import { TicketKeys } from "./ticket-keys.ts";
import { TlsFront, type UnknownName } from "./tls-front.ts";
import { TlsReads } from "./tls-reads.ts";
import { TlsMetrics } from "./tls-metrics.ts";

/** What the operator says about TLS. */
export interface TlsOptions {
  readonly host: string;
  readonly port: number;
  /** Files to serve with, the default first; none where certificates come from elsewhere. */
  readonly pairs: readonly CertificatePair[];
  readonly unknownName: UnknownName;
  /** At least 32 random bytes, the same for all servers at which a client may resume a session. */
  readonly ticketSecret: Uint8Array;
}

export interface TlsPortOptions extends TlsOptions {
  /** Sockets that are bound already, none when they come later; undefined: one is bound to host and port. */
  readonly sockets?: readonly ListenHandle[] | undefined;
  readonly settings: EdgeSettings;
  readonly clock: Clock;
  readonly metrics: EdgeMetrics;
  readonly logger: Logger;
  /** Speaks HTTP/1.1, and holds what HTTP/2 shares with it. */
  readonly server: EdgeServer;
  /** What is served with; undefined: the files alone. */
  readonly certificates?: CertificateStore | undefined;
}

export interface TlsPort {
  readonly port: number;
  readonly front: Pick<TlsFront, "sockets" | "listenOn" | "stopListening">;
  /** Looks at the certificate files now. */
  readonly reload: () => void;
  /**
   * Takes no more connections, lets handshakes come to their end for `idleMs`, and has HTTP/2 sessions finish what they have
   * begun; those of HTTP/1.1 are their server's.
   */
  readonly drain: (idleMs: number) => Promise<void>;
}

/** Reads the certificates, then listens. Rejects with IsochroneError when either cannot be done. */
export async function serveTls(options: TlsPortOptions): Promise<TlsPort> {
  const { pairs, settings, clock, logger, metrics } = options;
  const certificates = options.certificates ?? new CertificateStore("arrival");
  const files = new CertificateFiles({ pairs, store: certificates, clock, logger });
  files.start();
  const { server } = options;
  const http2 = new Http2Front({
    dispatcher: server.dispatcher,
    hot: server.hot,
    onServedHot: server.onServedHot,
    settings,
    clock,
    metrics,
    logger,
  });
  const tlsMetrics = new TlsMetrics(metrics.registry);
  const front = new TlsFront({
    certificates,
    unknownName: options.unknownName,
    ticketKeys: new TicketKeys(options.ticketSecret),
    settings,
    clock,
    logger,
    metrics: tlsMetrics,
    onHttp1: (socket) => {
      const reads = TlsReads.of(socket, true);
      if (reads !== undefined) tlsMetrics.direct();
      server.accept(socket, reads);
    },
    onHttp2: (socket) => http2.accept(socket),
  });
  metrics.gauge("tls_handshakes_active", "TLS handshakes in flight", () => front.handshakes);
  metrics.gauge("tls_certificates", "Certificates in force", () => certificates.size, "max");
  metrics.gauge(
    "tls_certificate_expiry_seconds",
    "When the first certificate ends, seconds since 1970",
    () => {
      let first = Number.POSITIVE_INFINITY;
      for (const [, { notAfter }] of certificates.entries()) first = Math.min(first, notAfter / 1_000);
      return Number.isFinite(first) ? first : 0;
    },
    "min",
  );
  try {
    const { sockets } = options;
    for (const socket of sockets ?? []) await front.listenOn(socket);
    const port =
      sockets === undefined
        ? await front.listen(options.host, options.port)
        : sockets[0] === undefined
          ? options.port
          : portOf(sockets[0]);
    return {
      port,
      front,
      reload: () => files.check(),
      drain: async (idleMs) => {
        files.close();
        await front.close(Math.min(idleMs, settings.tlsHandshakeTimeoutMs));
        await http2.drain();
      },
    };
  } catch (error) {
    files.close();
    await front.close(0);
    throw error;
  }
}

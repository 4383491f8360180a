/** The name server's sockets: UDP and TCP on one address and port, both asking the same core. */
import { readFileSync } from "node:fs";
import { IsochroneError } from "#kit";
import { listenError, type Logger } from "#kit/io";
import type { DnsCounters } from "../core/dns/counters.ts";
import type { DnsContext, DnsService } from "../core/dns/decision.ts";
import type { TopFigures } from "../core/dns/query-log/top-queries.ts";
import type { Quarantine } from "../core/dns/quarantine.ts";
import { type RateLimitSettings, ResponseRateLimit } from "../core/dns/rate-limit.ts";
import type { BlackBox } from "./black-box.ts";
import { DnsHandler, type DnsHandlerOptions, resolverAddressOf } from "./dns-handler.ts";
import { DnsQueryLog, type QueryLogSettings } from "./dns-query-log.ts";
import { type TcpHandler, TcpListener, type TcpSettings, type TlsIdentity } from "./dns-tcp.ts";
import type { DnsChange } from "./dns-state.ts";
import { UdpListener } from "./dns-udp.ts";

export interface DnsServerOptions {
  readonly address: string;
  /** 0: any that is free for both. */
  readonly port: number;
  /** The documents in force; undefined while there are none. Asked for each query. */
  readonly context: () => DnsContext | undefined;
  readonly counters: DnsCounters;
  readonly logger: Logger;
  readonly reusePort?: boolean;
  /** One system call for each datagram, also where batches could be had. */
  readonly isPlainUdp?: boolean;
  readonly tcp?: Partial<TcpSettings>;
  /** DNS over TLS too (RFC 7858). */
  readonly tls?: TlsSetting | undefined;
  /** What TLS shows where that comes from control, as of now, and why it is not another one. */
  readonly identity?: () => {
    readonly identity: TlsIdentity | undefined;
    readonly problems: readonly string[];
  };
  /** Sockets of another process, which goes on when this one has them, in place of own ones. */
  readonly lent?: LentSockets | undefined;
  /** What it calls itself, and the secret of its cookies; neither by default. */
  readonly service?: DnsService;
  /** No limit by default. */
  readonly rateLimit?: RateLimitSettings;
  /** Closed with the server. */
  readonly queryLog?: DnsQueryLog | undefined;
  readonly quarantine?: Quarantine | undefined;
  /** Told what is worked on. */
  readonly box?: BlackBox | undefined;
  readonly onQuery?: DnsHandlerOptions["onQuery"];
  readonly namesAsked?: DnsHandlerOptions["namesAsked"];
  readonly onNotify?: DnsHandlerOptions["onNotify"];
}

/** Handles of bound sockets. */
export interface LentSockets {
  readonly udp: unknown;
  readonly tcp: unknown;
  readonly tls?: unknown;
}

/** Where to speak TLS; it travels as JSON. */
export interface TlsSetting {
  readonly host: string;
  readonly port: number;
  /** Certificate and key; absent: those that control has for the name server's name. */
  readonly files?: TlsFiles | undefined;
}

interface TlsFiles {
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** How often a port that is free for TCP is tried for UDP, when any port will do. */
const ANY_PORT_TRIES = 20;

export class DnsServer {
  readonly #options: DnsServerOptions;
  readonly #rateLimit: ResponseRateLimit;
  readonly #udp: UdpListener;
  readonly #tcp: TcpListener;
  readonly #tls: TcpListener | undefined;
  #identity: TlsIdentity | undefined;

  private constructor(
    options: DnsServerOptions,
    rateLimit: ResponseRateLimit,
    udp: UdpListener,
    tcp: TcpListener,
    tls: TcpListener | undefined,
  ) {
    this.#tls = tls;
    this.#options = options;
    this.#rateLimit = rateLimit;
    this.#udp = udp;
    this.#tcp = tcp;
  }

  /** Binds both sockets; throws IsochroneError that says what to do when one cannot be had. */
  static async listen(options: DnsServerOptions): Promise<DnsServer> {
    const { address, port, reusePort = false, tcp: settings = {} } = options;
    const rateLimit = new ResponseRateLimit(options.rateLimit ?? { perSecond: 0, slip: 0, seed: 0 });
    const handler = new DnsHandler({ ...options, service: options.service ?? {}, rateLimit });
    for (let tried = 1; ; tried++) {
      let udp: UdpListener | undefined;
      let tcp: TcpListener | undefined;
      try {
        // UDP last: what it receives into is given out once for the life of the process.
        tcp = await TcpListener.bind(address, port, streamHandler(handler, "tcp", options.box), {
          reusePort,
          settings,
          lent: options.lent?.tcp,
        });
        udp = await UdpListener.bind(
          address,
          tcp.port,
          (query, at, end, sender, out, outAt) => handler.answerUdp(query, at, end, sender, out, outAt),
          { reusePort, isPlain: options.isPlainUdp ?? false, lent: options.lent?.udp, box: options.box },
        );
        const server = new DnsServer(options, rateLimit, udp, tcp, await listenTls(options, handler));
        server.#renewIdentity();
        return server;
      } catch (error) {
        await Promise.all([udp?.close(), tcp?.close()]);
        if (error instanceof IsochroneError) throw error;
        if (port === 0 && tcp !== undefined && udp === undefined && tried < ANY_PORT_TRIES) continue;
        throw listenError(error, address, port);
      }
    }
  }

  /** Its sockets, to be lent to another process. */
  get handles(): LentSockets {
    const tls = this.#tls?.handle;
    return { udp: this.#udp.handle, tcp: this.#tcp.handle, ...(tls !== undefined && { tls }) };
  }

  get address(): string {
    return this.#options.address;
  }
  get port(): number {
    return this.#udp.port;
  }
  /** Processes that serve: this one. */
  readonly workers = 1;
  get tcpConnections(): number {
    return this.#tcp.connections + (this.#tls?.connections ?? 0);
  }

  /** What happened at the sockets, beside what {@link DnsCounters} say about queries. */
  get socketCounters(): Readonly<Record<string, number>> {
    const { sendFailures, unanswerable, receiveFailures, shed } = this.#udp.counters;
    const { accepted, refused, timedOut, exhausted, violations } = this.#tcp.counters;
    const tls = this.#tls?.counters;
    return {
      "udp-send-failure": sendFailures,
      "udp-unanswerable": unanswerable,
      "udp-receive-failure": receiveFailures,
      "udp-limited-slipped": this.#rateLimit.counters.slipped,
      "udp-limited-dropped": this.#rateLimit.counters.dropped,
      "udp-limited-cut": this.#rateLimit.counters.cut,
      "udp-shed-known": shed.known,
      "udp-shed-unknown": shed.unknown,
      "tcp-accepted": accepted,
      "tcp-refused": refused,
      "tcp-timed-out": timedOut,
      "tcp-exhausted": exhausted,
      "tcp-violation": violations,
      ...(tls !== undefined && {
        "tls-accepted": tls.accepted,
        "tls-refused": tls.refused,
        "tls-timed-out": tls.timedOut,
        "tls-exhausted": tls.exhausted,
        "tls-violation": tls.violations,
      }),
      ...this.#options.queryLog?.counters,
      ...this.#options.namesAsked?.counters,
    };
  }

  /** Batches of datagrams by size; undefined where each datagram is a system call of its own. */
  get batches(): Readonly<Record<string, number>> | undefined {
    return this.#udp.isBatched ? this.#udp.counters.batches : undefined;
  }

  /** Reads certificate and key again; false: they are in no files. Throws IsochroneError; the ones before stay in use. */
  reloadTls(): boolean {
    const files = this.#options.tls?.files;
    if (files === undefined || this.#tls === undefined) return false;
    const identity = readIdentity(files);
    try {
      this.#tls.setIdentity(identity);
    } catch (cause) {
      throw identityError(files, cause);
    }
    return true;
  }

  /**
   * A document is in force: handshakes from now on see the certificate that it says, where that comes from control. Connections stay; where none
   * is good for the name server's name any more, so does the certificate.
   */
  handleChange({ kind }: Pick<DnsChange, "kind">): void {
    if (kind === "certificate" || kind === "topology") this.#renewIdentity();
  }

  #renewIdentity(): void {
    const { tls, identity: current, logger } = this.#options;
    if (tls === undefined || tls.files !== undefined || current === undefined) return;
    const { identity, problems } = current();
    for (const problem of problems) logger.error("dns-certificate-refused", { problem });
    if (identity === undefined || identity === this.#identity) return;
    try {
      this.#tls?.setIdentity(identity);
      this.#identity = identity;
    } catch (error) {
      logger.error("dns-certificate-refused", { error });
    }
  }

  /** Port of DNS over TLS; undefined without it. */
  get tlsPort(): number | undefined {
    return this.#tls?.port;
  }

  /** Who asks most; undefined: no query is looked at. */
  get top(): TopFigures | undefined {
    return this.#options.queryLog?.top;
  }

  async close(): Promise<void> {
    await Promise.all([this.#udp.close(), this.#tcp.close(), this.#tls?.close()]);
    await this.#options.queryLog?.close();
  }
}

async function listenTls(
  { tls, lent, box, reusePort = false, tcp: settings = {} }: DnsServerOptions,
  handler: DnsHandler,
): Promise<TcpListener | undefined> {
  if (tls === undefined) return undefined;
  const { files } = tls;
  const identity = files === undefined ? "none yet" : readIdentity(files);
  try {
    return await TcpListener.bind(tls.host, tls.port, streamHandler(handler, "tls", box), {
      reusePort,
      settings,
      tls: identity,
      lent: lent?.tls,
    });
  } catch (error) {
    // A certificate that cannot be used is told by OpenSSL's words, an address by the system's.
    const isOfSystem = error instanceof Error && "syscall" in error;
    throw isOfSystem || files === undefined
      ? listenError(error, tls.host, tls.port)
      : identityError(files, error);
  }
}

function streamHandler(handler: DnsHandler, transport: "tcp" | "tls", box: BlackBox | undefined): TcpHandler {
  return (bytes, from, port) => {
    const address = resolverAddressOf(from);
    box?.beginMessage(bytes, address.family, address.words, port);
    const answer = handler.answerTcp(bytes, address, port, transport);
    box?.end();
    return answer;
  };
}

function readIdentity(files: TlsFiles): TlsIdentity {
  try {
    return {
      certificate: readFileSync(files.certificateFile, "utf8"),
      key: readFileSync(files.keyFile, "utf8"),
    };
  } catch (cause) {
    throw identityError(files, cause);
  }
}

function identityError({ certificateFile, keyFile }: TlsFiles, cause: unknown): IsochroneError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new IsochroneError(
    `Cannot use certificate "${certificateFile}" with key "${keyFile}": ${why}; give PEM files that fit each other`,
    { code: "certificate", source: "configuration", retry: "never", cause },
  );
}

/** Throws IsochroneError that names the file when it cannot be written. */
export async function openQueryLog(
  settings: QueryLogSettings,
  logger: Logger,
): Promise<DnsQueryLog | undefined> {
  try {
    return await DnsQueryLog.open(settings, logger);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new IsochroneError(
      `Cannot write the query log "${settings.path}": ${why}; give another --query-log`,
      {
        code: "query-log",
        source: "configuration",
        retry: "never",
        cause,
      },
    );
  }
}

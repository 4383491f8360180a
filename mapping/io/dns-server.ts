/** The name server's sockets: UDP and TCP on one address and port, both asking the same core. */
import { IsochroneError } from "#kit";
import { listenError, type Logger } from "#kit/io";
import type { DnsCounters } from "../core/dns/counters.ts";
import type { DnsContext, DnsService } from "../core/dns/decision.ts";
import type { TopFigures } from "../core/dns/query-log/top-queries.ts";
import { type RateLimitSettings, ResponseRateLimit } from "../core/dns/rate-limit.ts";
import { DnsHandler, resolverAddressOf } from "./dns-handler.ts";
import { DnsQueryLog, type QueryLogSettings } from "./dns-query-log.ts";
import { TcpListener, type TcpSettings } from "./dns-tcp.ts";
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
  /** Sockets of another process, which goes on when this one has them, in place of own ones. */
  readonly lent?: LentSockets | undefined;
  /** What it calls itself, and the secret of its cookies; neither by default. */
  readonly service?: DnsService;
  /** No limit by default. */
  readonly rateLimit?: RateLimitSettings;
  /** Closed with the server. */
  readonly queryLog?: DnsQueryLog | undefined;
}

/** Handles of bound sockets. */
export interface LentSockets {
  readonly udp: unknown;
  readonly tcp: unknown;
}

/** How often a port that is free for UDP is tried for TCP, when any port will do. */
const ANY_PORT_TRIES = 20;

export class DnsServer {
  readonly #options: DnsServerOptions;
  readonly #rateLimit: ResponseRateLimit;
  readonly #udp: UdpListener;
  readonly #tcp: TcpListener;

  private constructor(
    options: DnsServerOptions,
    rateLimit: ResponseRateLimit,
    udp: UdpListener,
    tcp: TcpListener,
  ) {
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
      try {
        udp = await UdpListener.bind(
          address,
          port,
          (query, at, end, sender, out, outAt) => handler.answerUdp(query, at, end, sender, out, outAt),
          { reusePort, isPlain: options.isPlainUdp ?? false, lent: options.lent?.udp },
        );
        const tcp = await TcpListener.bind(
          address,
          udp.port,
          (bytes, from, fromPort) => handler.answerTcp(bytes, resolverAddressOf(from), fromPort, "tcp"),
          { reusePort, settings, lent: options.lent?.tcp },
        );
        return new DnsServer(options, rateLimit, udp, tcp);
      } catch (error) {
        await udp?.close();
        if (port === 0 && udp !== undefined && tried < ANY_PORT_TRIES) continue;
        throw listenError(error, address, port);
      }
    }
  }

  /** Its sockets, to be lent to another process. */
  get handles(): LentSockets {
    return { udp: this.#udp.handle, tcp: this.#tcp.handle };
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
    return this.#tcp.connections;
  }

  /** What happened at the sockets, beside what {@link DnsCounters} say about queries. */
  get socketCounters(): Readonly<Record<string, number>> {
    const { sendFailures, unanswerable, receiveFailures } = this.#udp.counters;
    const { accepted, refused, timedOut, exhausted, violations } = this.#tcp.counters;
    return {
      "udp-send-failure": sendFailures,
      "udp-unanswerable": unanswerable,
      "udp-receive-failure": receiveFailures,
      "udp-limited-slipped": this.#rateLimit.counters.slipped,
      "udp-limited-dropped": this.#rateLimit.counters.dropped,
      "udp-limited-cut": this.#rateLimit.counters.cut,
      "udp-limited-shed": this.#rateLimit.counters.shed,
      "tcp-accepted": accepted,
      "tcp-refused": refused,
      "tcp-timed-out": timedOut,
      "tcp-exhausted": exhausted,
      "tcp-violation": violations,
      ...this.#options.queryLog?.counters,
    };
  }

  /** Batches of datagrams by size; undefined where each datagram is a system call of its own. */
  get batches(): Readonly<Record<string, number>> | undefined {
    return this.#udp.isBatched ? this.#udp.counters.batches : undefined;
  }

  /** Who asks most; undefined: no query is looked at. */
  get top(): TopFigures | undefined {
    return this.#options.queryLog?.top;
  }

  async close(): Promise<void> {
    await Promise.all([this.#udp.close(), this.#tcp.close()]);
    await this.#options.queryLog?.close();
  }
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

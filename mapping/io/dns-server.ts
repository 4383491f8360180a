/** The name server's sockets: UDP and TCP on one address and port, both asking the same core. */
import { type IpAddress, parseAddress } from "#kit";
import { listenError, type Logger } from "#kit/io";
import type { DnsCounters } from "../core/dns/counters.ts";
import { respond, respondInternalError } from "../core/dns/respond.ts";
import type { DnsContext, DnsTransport } from "../core/dns/decision.ts";
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
  readonly tcp?: Partial<TcpSettings>;
}

/** How often a port that is free for UDP is tried for TCP, when any port will do. */
const ANY_PORT_TRIES = 20;
/** A fault of ours that every query meets must not fill the disk. */
const ERROR_LOG_INTERVAL_MS = 1_000;

export class DnsServer {
  readonly #options: DnsServerOptions;
  readonly #udp: UdpListener;
  readonly #tcp: TcpListener;

  private constructor(options: DnsServerOptions, udp: UdpListener, tcp: TcpListener) {
    this.#options = options;
    this.#udp = udp;
    this.#tcp = tcp;
  }

  /** Binds both sockets; throws IsochroneError that says what to do when one cannot be had. */
  static async listen(options: DnsServerOptions): Promise<DnsServer> {
    const { address, port, reusePort = false, tcp: settings = {} } = options;
    const handler = handlerOf(options);
    for (let tried = 1; ; tried++) {
      let udp: UdpListener | undefined;
      try {
        udp = await UdpListener.bind(address, port, handler("udp"), { reusePort });
        const tcp = await TcpListener.bind(address, udp.port, handler("tcp"), { reusePort, settings });
        return new DnsServer(options, udp, tcp);
      } catch (error) {
        await udp?.close();
        if (port === 0 && udp !== undefined && tried < ANY_PORT_TRIES) continue;
        throw listenError(error, address, port);
      }
    }
  }

  get address(): string {
    return this.#options.address;
  }
  get port(): number {
    return this.#udp.port;
  }
  get tcpConnections(): number {
    return this.#tcp.connections;
  }

  /** What happened at the sockets, beside what {@link DnsCounters} say about queries. */
  get socketCounters(): Readonly<Record<string, number>> {
    const { sendFailures, unanswerable } = this.#udp.counters;
    const { accepted, refused, timedOut, exhausted, violations } = this.#tcp.counters;
    return {
      "udp-send-failure": sendFailures,
      "udp-unanswerable": unanswerable,
      "tcp-accepted": accepted,
      "tcp-refused": refused,
      "tcp-timed-out": timedOut,
      "tcp-exhausted": exhausted,
      "tcp-violation": violations,
    };
  }

  async close(): Promise<void> {
    await Promise.all([this.#udp.close(), this.#tcp.close()]);
  }
}

function handlerOf(options: DnsServerOptions) {
  const { context, counters, logger } = options;
  let loggedAtMs = -ERROR_LOG_INTERVAL_MS;
  return (transport: DnsTransport) =>
    (bytes: Uint8Array, address: string): Uint8Array | undefined => {
      const query = { bytes, transport, resolverAddress: resolverAddressOf(address) };
      let decision: ReturnType<typeof respond>;
      try {
        decision = respond(query, context());
      } catch (error) {
        // A bug: this query fails, and says so, and the server goes on.
        decision = respondInternalError(query);
        const nowMs = performance.now();
        if (nowMs - loggedAtMs >= ERROR_LOG_INTERVAL_MS) {
          loggedAtMs = nowMs;
          logger.error("dns-internal-error", {
            error,
            stack: error instanceof Error ? error.stack : undefined,
            packetHex: Buffer.from(bytes.subarray(0, 512)).toString("hex"),
          });
        }
      }
      counters.count(decision, transport);
      return decision.action === "reply" ? decision.bytes : undefined;
    };
}

const UNKNOWN_ADDRESS: IpAddress = { family: 4, words: [0] };

/** A socket's peer as an address: without zone, and IPv4 also where a dual-stack socket shows it as ::ffff:a.b.c.d. */
export function resolverAddressOf(text: string): IpAddress {
  const zone = text.indexOf("%");
  const address = parseAddress(zone < 0 ? text : text.slice(0, zone)) ?? UNKNOWN_ADDRESS;
  const [w0, w1, w2, w3] = address.words;
  const isMapped = address.family === 6 && w0 === 0 && w1 === 0 && w2 === 0xffff;
  return isMapped && w3 !== undefined ? { family: 4, words: [w3] } : address;
}

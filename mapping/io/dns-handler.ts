/** What the name server's sockets ask: the fast path where it applies, else the full one; a fault of ours is answered and logged. */
import { type IpAddress, parseAddress } from "#kit";
import type { Logger } from "#kit/io";
import type { DnsCounters } from "../core/dns/counters.ts";
import type { DnsContext, DnsDecision, DnsTransport } from "../core/dns/decision.ts";
import { FastPath, type ResolverWords } from "../core/dns/fast-path.ts";
import { respond, respondInternalError } from "../core/dns/respond.ts";

export interface DnsHandlerOptions {
  /** The documents in force; undefined while there are none. Asked for each query. */
  readonly context: () => DnsContext | undefined;
  readonly counters: DnsCounters;
  readonly logger: Logger;
}

/** A fault of ours that every query meets must not fill the disk. */
const ERROR_LOG_INTERVAL_MS = 1_000;
const LOGGED_PACKET_BYTES_MAX = 512;

export class DnsHandler {
  readonly #options: DnsHandlerOptions;
  readonly #fast: FastPath;
  #loggedAtMs = -ERROR_LOG_INTERVAL_MS;

  constructor(options: DnsHandlerOptions) {
    this.#options = options;
    this.#fast = new FastPath(options.counters);
  }

  /**
   * Answers the datagram `query[at]` to `query[end]` into `out` from `outAt` on, where 1,232 octets have room. Never throws.
   *
   * @returns octets of the answer; 0: silence
   */
  answerUdp(
    query: Uint8Array,
    at: number,
    end: number,
    resolver: ResolverWords,
    out: Uint8Array,
    outAt: number,
  ): number {
    const { context } = this.#options;
    const length = this.#fast.answer(query, at, end, resolver, context(), out, outAt);
    if (length > 0) return length;
    const { family, words } = resolver;
    const address = { family, words: family === 4 ? [words[0] as number] : [...words] };
    const answer = this.answer(query.subarray(at, end), address, "udp");
    if (answer === undefined) return 0;
    out.set(answer, outAt);
    return answer.length;
  }

  /** The full path alone; undefined: silence. Never throws. */
  answer(bytes: Uint8Array, resolverAddress: IpAddress, transport: DnsTransport): Uint8Array | undefined {
    const { context, counters, logger } = this.#options;
    const query = { bytes, transport, resolverAddress };
    let decision: DnsDecision;
    try {
      decision = respond(query, context());
    } catch (error) {
      // A bug: this query fails, and says so, and the server goes on.
      decision = respondInternalError(query);
      const nowMs = performance.now();
      if (nowMs - this.#loggedAtMs >= ERROR_LOG_INTERVAL_MS) {
        this.#loggedAtMs = nowMs;
        logger.error("dns-internal-error", {
          error,
          stack: error instanceof Error ? error.stack : undefined,
          packetHex: Buffer.from(bytes.subarray(0, LOGGED_PACKET_BYTES_MAX)).toString("hex"),
        });
      }
    }
    counters.count(decision, transport);
    return decision.action === "reply" ? decision.bytes : undefined;
  }
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

/** What the name server's sockets ask: the fast path where it applies, else the full one; a fault of ours is answered and logged. */
import { type IpAddress, parseAddress } from "#kit";
import { type Logger, systemClock } from "#kit/io";
import type { DnsCounters } from "../core/dns/counters.ts";
import {
  type DnsContext,
  type DnsDecision,
  type DnsService,
  type DnsTransport,
  replyReasons,
} from "../core/dns/decision.ts";
import { FastPath, type ResolverWords } from "../core/dns/fast-path.ts";
import type { ResponseRateLimit } from "../core/dns/rate-limit.ts";
import { respond, respondInternalError } from "../core/dns/respond.ts";

export interface DnsHandlerOptions {
  /** The documents in force; undefined while there are none. Asked for each query. */
  readonly context: () => DnsContext | undefined;
  readonly counters: DnsCounters;
  readonly logger: Logger;
  readonly service: DnsService;
  /** Limits answers over UDP to who has shown no cookie. */
  readonly rateLimit: ResponseRateLimit;
}

/** A fault of ours that every query meets must not fill the disk. */
const ERROR_LOG_INTERVAL_MS = 1_000;
const LOGGED_PACKET_BYTES_MAX = 512;
/** Host names are numbered from 0; what the full path answers is limited by its reason. */
const KINDS_OF_NAMES = 1_000_000;

function epochSeconds(): number {
  return Math.floor(systemClock.epoch() / 1_000);
}

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
    const { context, rateLimit } = this.#options;
    const { family, words } = resolver;
    const length = this.#fast.answer(query, at, end, resolver, context(), out, outAt, epochSeconds());
    if (length > 0) {
      if (!rateLimit.isOn) return length;
      const verdict = rateLimit.check(family, words, this.#fast.lastName, performance.now());
      if (verdict === "send") return length;
      return verdict === "drop" ? 0 : this.#fast.truncate(out, outAt, length);
    }
    const address = { family, words: family === 4 ? [words[0] as number] : [...words] };
    const bytes = query.subarray(at, end);
    const decision = this.#decide(bytes, address, "udp");
    if (decision.action === "drop") return 0;
    if (rateLimit.isOn && !decision.isKnownClient) {
      const kind = KINDS_OF_NAMES + replyReasons.indexOf(decision.reason);
      const verdict = rateLimit.check(family, words, kind, performance.now());
      if (verdict === "drop") return 0;
      if (verdict === "slip") return this.#write(this.#cut(bytes, address), out, outAt);
    }
    return this.#write(decision.bytes, out, outAt);
  }

  /** Over TCP; undefined: silence. Never throws. */
  answerTcp(bytes: Uint8Array, resolverAddress: IpAddress): Uint8Array | undefined {
    const decision = this.#decide(bytes, resolverAddress, "tcp");
    return decision.action === "reply" ? decision.bytes : undefined;
  }

  #write(bytes: Uint8Array | undefined, out: Uint8Array, outAt: number): number {
    if (bytes === undefined) return 0;
    out.set(bytes, outAt);
    return bytes.length;
  }

  #cut(bytes: Uint8Array, resolverAddress: IpAddress): Uint8Array | undefined {
    const query = {
      bytes,
      transport: "udp",
      resolverAddress,
      epochSeconds: epochSeconds(),
      isCut: true,
    } as const;
    const decision = respond(query, this.#options.context(), this.#options.service);
    return decision.action === "reply" ? decision.bytes : undefined;
  }

  #decide(bytes: Uint8Array, resolverAddress: IpAddress, transport: DnsTransport): DnsDecision {
    const { context, counters, logger, service } = this.#options;
    const query = { bytes, transport, resolverAddress, epochSeconds: epochSeconds() };
    let decision: DnsDecision;
    try {
      decision = respond(query, context(), service);
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
    return decision;
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

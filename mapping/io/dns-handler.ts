/** What the name server's sockets ask: the fast path where it applies, else the full one; a fault of ours is answered and logged. */
import {
  addressFromBytes,
  type DomainName,
  formatAddress,
  type IpAddress,
  type IpFamily,
  parseAddress,
} from "#kit";
import { type Logger, systemClock } from "#kit/io";
import { dnsClasses, headerBytes, type Rcode, rcodes } from "../core/dns/constants.ts";
import type { DnsCounters } from "../core/dns/counters.ts";
import { decide } from "../core/dns/decide.ts";
import {
  type DnsContext,
  type DnsDecision,
  type DnsService,
  type DnsTransport,
  type ReplyReason,
  replyReasons,
} from "../core/dns/decision.ts";
import { FastPath } from "../core/dns/fast-path.ts";
import type { NamesAsked } from "../core/dns/names-asked.ts";
import type { Quarantine } from "../core/dns/quarantine.ts";
import type { ResponseRateLimit } from "../core/dns/rate-limit.ts";
import type { SampledQuery, Sampler } from "../core/dns/query-log/query-ring.ts";
import type { DnsQuestion } from "../core/dns/message.ts";
import { respond, respondInternalError } from "../core/dns/respond.ts";
import { answerNotify, type HeardNotify, isNotify } from "../core/zone/notify.ts";
import { answerSigned, answerTransfer, type SignedAnswer, type Transfer } from "../core/zone/transfer.ts";
import { WAIT, WAIT_FIRST } from "./waiting-queries.ts";

export interface DnsHandlerOptions {
  /** The documents in force; undefined while there are none. Asked for each query. */
  readonly context: () => DnsContext | undefined;
  readonly counters: DnsCounters;
  readonly logger: Logger;
  readonly service: DnsService;
  /** Limits answers over UDP to who has shown no cookie. */
  readonly rateLimit: ResponseRateLimit;
  /** Takes the queries that are looked at; none by default. */
  readonly queryLog?: QuerySink | undefined;
  /** Told of each NOTIFY that is heeded. */
  readonly onNotify?: ((heard: HeardNotify) => void) | undefined;
  /** What is dropped because it ended a worker. */
  readonly quarantine?: Quarantine | undefined;
  /** Told who asks for names that are asked for once. */
  readonly namesAsked?: NamesAsked | undefined;
  /** For tests, which pass it to the process's `main`: told of each query first; may do what no query should. */
  readonly onQuery?: ((query: Uint8Array) => void) | undefined;
}

/** Where sampled queries go. */
export interface QuerySink {
  readonly sampler: Sampler;
  take(query: SampledQuery): void;
}

/** A fault of ours that every query meets must not fill the disk. */
const LOG_INTERVAL_MS = 1_000;
const LOGGED_PACKET_BYTES_MAX = 512;
/** Host names are numbered from 0; what the full path answers is limited by its reason. */
const KINDS_OF_NAMES = 1_000_000;

function epochSeconds(): number {
  return Math.floor(systemClock.epoch() / 1_000);
}

interface Sender {
  readonly family: IpFamily;
  readonly words: ArrayLike<number>;
  readonly port: number;
}

/** Who sent a datagram; filled anew for each. */
interface DatagramSender {
  family: IpFamily;
  readonly words: Uint32Array;
  port: number;
  /** What is not common may be put off; no by default. */
  mayWait?: boolean;
  /** When it came, by `performance.now()`: datagrams of one batch came together. Absent: now. */
  nowMs?: number;
}

/** Who has no key knows none, and computes nothing. */
const NO_KEYS: NonNullable<DnsService["tsig"]> = { keys: new Map(), hmac: () => new Uint8Array() };
const refusedTransfers: Partial<Record<Transfer["reason"], readonly [ReplyReason, Rcode]>> = {
  refused: ["zone-transfer", rcodes.REFUSED],
  "bad-signature": ["bad-signature", rcodes.NOTAUTH],
  malformed: ["bad-signature", rcodes.FORMERR],
};
const QUARANTINED: DnsDecision = { action: "drop", reason: "quarantined" };

export class DnsHandler {
  readonly #options: DnsHandlerOptions;
  readonly #fast: FastPath;
  /** Of the last query; undefined when the fast path answered it. */
  #decision: DnsDecision | undefined;
  #loggedAtMs = -LOG_INTERVAL_MS;
  /** The time of day, read anew when the time of the queries moves. */
  #epochSeconds = 0;
  #epochReadAtMs = -1;
  /** Queries that were to be logged and were put off: the next ones are logged in their place. */
  #owedSamples = 0;

  constructor(options: DnsHandlerOptions) {
    this.#options = options;
    this.#fast = new FastPath(options.counters, options.service);
  }

  /**
   * Answers the datagram `query[at]` to `query[end]` into `out` from `outAt` on, where 1,232 octets have room. Never throws.
   *
   * @returns octets of the answer; 0: silence; WAIT_FIRST, WAIT: it is to be put off, where it may be
   */
  answerUdp(
    query: Uint8Array,
    at: number,
    end: number,
    sender: DatagramSender,
    out: Uint8Array,
    outAt: number,
  ): number {
    const { queryLog } = this.#options;
    if (queryLog === undefined || !(queryLog.sampler.next() || this.#owedSamples > 0))
      return this.#answerUdp(query, at, end, sender, out, outAt);
    const beganMs = performance.now();
    const bytes = this.#answerUdp(query, at, end, sender, out, outAt);
    if (bytes < 0) {
      this.#owedSamples = 1;
      return bytes;
    }
    this.#owedSamples = 0;
    const asked = query.subarray(at, end);
    if (this.#decision !== undefined)
      queryLog.take(this.#sampleOf(asked, this.#decision, sender, "udp", beganMs, bytes));
    else queryLog.take(this.#fastSampleOf(asked, at, sender, beganMs, bytes));
    return bytes;
  }

  #answerUdp(
    query: Uint8Array,
    at: number,
    end: number,
    resolver: DatagramSender,
    out: Uint8Array,
    outAt: number,
  ): number {
    const { context, rateLimit } = this.#options;
    const { family, words, nowMs = performance.now() } = resolver;
    this.#decision = undefined;
    if (this.#isQuarantined(query, at, end, "udp", nowMs)) return 0;
    this.#options.onQuery?.(query.subarray(at, end));
    if (nowMs !== this.#epochReadAtMs) {
      this.#epochReadAtMs = nowMs;
      this.#epochSeconds = epochSeconds();
    }
    const length = this.#fast.answer(query, at, end, resolver, context(), out, outAt, this.#epochSeconds);
    const asked = end - at;
    if (length > 0) {
      if (!rateLimit.isOn) return length;
      if (this.#fast.lastCookie === "valid") {
        rateLimit.handleProof(family, words, nowMs);
        return length;
      }
      const verdict = rateLimit.judgeCommon(family, words, this.#fast.lastName, asked, length, nowMs);
      if (verdict === "send") return length;
      const cut = verdict === "drop" ? 0 : this.#fast.truncate(out, outAt, length);
      return cut > 0 && rateLimit.mayCut(asked, cut, nowMs) ? cut : 0;
    }
    // What is not common costs ten times as much: it has its turn after what is.
    if (resolver.mayWait === true)
      return rateLimit.isOn && rateLimit.isFirst(family, words, nowMs) ? WAIT_FIRST : WAIT;
    return this.#answerFull(query.subarray(at, end), resolver, out, outAt);
  }

  #answerFull(bytes: Uint8Array, { family, words }: DatagramSender, out: Uint8Array, outAt: number): number {
    const { rateLimit } = this.#options;
    const address = { family, words: family === 4 ? [words[0] as number] : [...words] };
    const told = this.#notified(bytes, address, "udp");
    // Never longer than what was sent but by the signature of who has a key.
    if (told !== undefined) return this.#write(told, out, outAt);
    const signed = this.#signed(bytes, address, "udp");
    if (signed !== undefined) {
      // Anyone can sign badly, in another's name; it is never longer than what was sent, and no more of it goes out than of other answers.
      const length = signed.bytes?.length ?? 0;
      const kind = KINDS_OF_NAMES + replyReasons.indexOf("bad-signature");
      const mayGo =
        signed.refused === undefined ||
        !rateLimit.isOn ||
        rateLimit.judge(family, words, kind, bytes.length, length, performance.now()) === "send";
      return mayGo ? this.#write(signed.bytes, out, outAt) : 0;
    }
    const decision = this.#decide(bytes, address, "udp");
    this.#decision = decision;
    if (decision.action === "drop") return 0;
    if (!rateLimit.isOn) return this.#write(decision.bytes, out, outAt);
    const nowMs = performance.now();
    if (decision.cookie === "valid") {
      rateLimit.handleProof(family, words, nowMs);
      return this.#write(decision.bytes, out, outAt);
    }
    const kind = KINDS_OF_NAMES + replyReasons.indexOf(decision.reason);
    const verdict = rateLimit.judge(family, words, kind, bytes.length, decision.bytes.length, nowMs);
    if (verdict === "send") return this.#write(decision.bytes, out, outAt);
    const cut = verdict === "drop" ? undefined : this.#cut(bytes, address);
    if (cut === undefined || !rateLimit.mayCut(bytes.length, cut.length, nowMs)) return 0;
    return this.#write(cut, out, outAt);
  }

  /** Over TCP or TLS; undefined: silence. Never throws. */
  answerTcp(
    bytes: Uint8Array,
    resolverAddress: IpAddress,
    port: number,
    transport: "tcp" | "tls",
  ): Uint8Array | Iterable<Uint8Array> | undefined {
    if (this.#isQuarantined(bytes, 0, bytes.length, transport, performance.now())) return undefined;
    this.#options.onQuery?.(bytes);
    const told = this.#notified(bytes, resolverAddress, transport);
    if (told !== undefined) return told;
    const signed = this.#transfer(bytes, resolverAddress) ?? this.#signed(bytes, resolverAddress, transport);
    if (signed !== undefined)
      return "messages" in signed ? this.#untilItThrows(signed.messages, bytes) : signed.bytes;
    const { queryLog, rateLimit } = this.#options;
    // Whoever has shaken hands is where it says that it is.
    if (rateLimit.isOn)
      rateLimit.handleProof(resolverAddress.family, resolverAddress.words, performance.now());
    const isSampled = queryLog?.sampler.next() === true;
    const beganMs = isSampled ? performance.now() : 0;
    const decision = this.#decide(bytes, resolverAddress, transport);
    const answer = decision.action === "reply" ? decision.bytes : undefined;
    if (isSampled)
      queryLog.take(
        this.#sampleOf(
          bytes,
          decision,
          { ...resolverAddress, port },
          transport,
          beganMs,
          answer?.length ?? 0,
        ),
      );
    return answer;
  }

  #isQuarantined(
    query: Uint8Array,
    at: number,
    end: number,
    transport: DnsTransport,
    nowMs: number,
  ): boolean {
    const { quarantine, counters } = this.#options;
    if (quarantine?.isOn !== true || !quarantine.holds(query, at, end, nowMs)) return false;
    this.#decision = QUARANTINED;
    counters.count(QUARANTINED, transport);
    return true;
  }

  /** The answer to a NOTIFY; undefined: it is none, or there are no secondary zones. */
  #notified(bytes: Uint8Array, from: IpAddress, transport: DnsTransport): Uint8Array | undefined {
    const { context, service, onNotify } = this.#options;
    const rules = isNotify(bytes) ? context()?.notifyRules : undefined;
    if (rules === undefined || rules.size === 0) return undefined;
    const answer = answerNotify(bytes, from, rules, service.tsig, epochSeconds());
    if (answer === undefined) return undefined;
    const { bytes: told, rcode, question, heard } = answer;
    this.#count(told, rcode === rcodes.NOERROR ? "notify" : "notify-refused", rcode, question, transport);
    if (heard !== undefined) onNotify?.(heard);
    return told;
  }

  /** A query with a signature; undefined: it has none. */
  #signed(bytes: Uint8Array, from: IpAddress, transport: DnsTransport): SignedAnswer | undefined {
    const { tsig = NO_KEYS } = this.#options.service;
    const signed = answerSigned(bytes, tsig, epochSeconds(), (query, signatureBytes) => {
      const decision = this.#decide(query, from, transport, signatureBytes);
      return decision.action === "reply" ? decision.bytes : undefined;
    });
    if (signed?.bytes !== undefined && signed.refused !== undefined)
      this.#count(signed.bytes, "bad-signature", signed.refused, signed.question, transport);
    return signed;
  }

  /** What is answered beside `respond`. */
  #count(
    bytes: Uint8Array,
    reason: ReplyReason,
    rcode: Rcode,
    question: DnsQuestion | undefined,
    transport: DnsTransport,
  ): void {
    this.#decision = {
      action: "reply",
      bytes,
      reason,
      rcode,
      question,
      isTruncated: false,
      fault: undefined,
      answerReason: undefined,
      clusterId: null,
      clientSubnet: undefined,
      scopePrefixLength: undefined,
      cookie: undefined,
    };
    this.#options.counters.count(this.#decision, transport);
  }

  /** A request for a zone; undefined: it is none, or no zone may be fetched. */
  #transfer(bytes: Uint8Array, from: IpAddress): Transfer | undefined {
    const { context, service, logger } = this.#options;
    const zones = context()?.transfers;
    if (service.tsig === undefined || zones === undefined || zones.size === 0) return undefined;
    const addressesAt = (owner: DomainName, type: number) => {
      const now = context();
      const question = { name: owner, type, class: dnsClasses.IN };
      const query = { bytes, transport: "tcp", resolverAddress: from, epochSeconds: epochSeconds() } as const;
      const { rcode, answers = [] } = decide(question, undefined, query, now);
      return rcode === rcodes.NOERROR ? answers.filter((one) => one.type === type) : undefined;
    };
    const transfer = answerTransfer(bytes, { zones, ...service.tsig, addressesAt }, epochSeconds());
    if (transfer === undefined) return undefined;
    const { zone, reason } = transfer;
    const refused = refusedTransfers[reason];
    const told = { zone, reason, to: formatAddress(from) };
    if (refused === undefined) logger.info("zone-transfer", told);
    else {
      const [counted, rcode] = refused;
      this.#count(bytes, counted, rcode, undefined, "tcp");
      if (this.#mayLog()) logger.info("zone-transfer", told);
    }
    return transfer;
  }

  /** A transfer that cannot go on ends, and has no SOA at its end, so that nobody believes it. */
  *#untilItThrows(messages: Iterable<Uint8Array>, request: Uint8Array): Generator<Uint8Array> {
    try {
      yield* messages;
    } catch (error) {
      this.#logFault(error, request);
    }
  }

  #logFault(error: unknown, packet: Uint8Array): void {
    if (!this.#mayLog()) return;
    this.#options.logger.error("dns-internal-error", {
      error,
      stack: error instanceof Error ? error.stack : undefined,
      packetHex: Buffer.from(packet.subarray(0, LOGGED_PACKET_BYTES_MAX)).toString("hex"),
    });
  }

  /** What anyone can bring about is told once a second. */
  #mayLog(): boolean {
    const nowMs = performance.now();
    if (nowMs - this.#loggedAtMs < LOG_INTERVAL_MS) return false;
    this.#loggedAtMs = nowMs;
    return true;
  }

  /** A query that the full path has decided, for the log. */
  #sampleOf(
    query: Uint8Array,
    decision: DnsDecision,
    { family, words, port }: Sender,
    transport: DnsTransport,
    beganMs: number,
    answerBytes: number,
  ): SampledQuery {
    const reply = decision.action === "reply" ? decision : undefined;
    const subnet = reply?.clientSubnet;
    return {
      ...this.#commonOf(query, beganMs, answerBytes),
      transport,
      family,
      words,
      port,
      name: reply?.question?.name.wire,
      type: reply?.question?.type ?? 0,
      class: reply?.question?.class ?? 0,
      clientSubnet: subnet && {
        family: subnet.family,
        sourcePrefixLength: subnet.sourcePrefixLength,
        scopePrefixLength: reply?.scopePrefixLength ?? 0,
        words: addressFromBytes(subnet.family === 1 ? 4 : 6, subnet.address).words,
      },
      reason: decision.reason,
      rcode: answerBytes === 0 ? -1 : (reply?.rcode ?? -1),
      cookie: reply?.cookie ?? "none",
      clusterId: reply?.clusterId ?? null,
    };
  }

  /** The query that the fast path has just answered, for the log: well-formed, so it is read by its places. */
  #fastSampleOf(
    query: Uint8Array,
    at: number,
    { family, words, port }: Sender,
    beganMs: number,
    answerBytes: number,
  ): SampledQuery {
    const { lastEcsAt, lastQuestionBytes, lastScope, lastReply, lastCookie } = this.#fast;
    const ecs = lastEcsAt - at;
    const ecsFamily = query[ecs + 1] as 0 | 1 | 2;
    return {
      ...this.#commonOf(query, beganMs, answerBytes),
      transport: "udp",
      family,
      words,
      port,
      name: query.subarray(headerBytes, headerBytes + lastQuestionBytes - 4),
      type: lastReply?.type ?? 0,
      class: dnsClasses.IN,
      clientSubnet:
        lastEcsAt === 0
          ? undefined
          : {
              family: ecsFamily,
              sourcePrefixLength: query[ecs + 2] as number,
              scopePrefixLength: lastScope,
              words: addressFromBytes(
                ecsFamily === 1 ? 4 : 6,
                query.subarray(ecs + 4, ecs + 4 + (((query[ecs + 2] as number) + 7) >>> 3)),
              ).words,
            },
      reason: lastReply?.reason ?? "internal-error",
      rcode: answerBytes === 0 ? -1 : (lastReply?.rcode ?? -1),
      cookie: lastCookie ?? "none",
      clusterId: lastReply?.clusterId ?? null,
    };
  }

  #commonOf(query: Uint8Array, beganMs: number, answerBytes: number) {
    return {
      atEpochMs: Math.floor(systemClock.epoch()),
      latencyUs: Math.max(0, Math.round((performance.now() - beganMs) * 1_000)),
      flags: ((query[2] ?? 0) << 8) | (query[3] ?? 0),
      mapVersion: this.#options.context()?.snapshot?.snapshot.mapVersion ?? 0,
      queryBytes: query.length,
      answerBytes,
    };
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

  #decide(
    bytes: Uint8Array,
    resolverAddress: IpAddress,
    transport: DnsTransport,
    reservedBytes = 0,
  ): DnsDecision {
    const { context, counters, service } = this.#options;
    const query = { bytes, transport, resolverAddress, epochSeconds: epochSeconds(), reservedBytes };
    let decision: DnsDecision;
    try {
      decision = respond(query, context(), service);
    } catch (error) {
      // A bug: this query fails, and says so, and the server goes on.
      decision = respondInternalError(query);
      this.#logFault(error, bytes);
    }
    counters.count(decision, transport);
    if (decision.action === "reply" && decision.oneTimeId !== undefined)
      this.#options.namesAsked?.handleQuery(decision.oneTimeId, resolverAddress, decision.clientSubnet);
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

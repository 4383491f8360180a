/**
 * From a checked request to its answer, whatever protocol it came by: who asks (a peer of ours or anybody), what is for the
 * server itself, how many are being answered, and the record when an answer was written. Each front (HTTP/1.1 on the flat
 * path, HTTP/1.1 by node:http, HTTP/2) reads and checks a request, calls {@link Dispatcher.begin} and
 * {@link Dispatcher.answer}, writes the answer, and says {@link Dispatcher.end}.
 */
import { randomBytes } from "node:crypto";
import { isIP } from "node:net";
import type { Readable } from "node:stream";
import type { Clock, MonotonicMs, ServerId } from "#kit";
import type { Logger } from "#kit/io";
import type { PeerVerifier, StopSignal } from "#transport";
import type { EdgeSettings } from "../config.ts";
import { CODING_FIELDS } from "../core/compression/accept-encoding.ts";
import { type Field, fieldLines, type Fields, isInternal } from "../core/headers.ts";
import type { Diagnosis } from "./diagnosis.ts";
import type { HopFields } from "../core/tiers.ts";
import { type Answer, type AnswerRecord, type Inbound, type SendInterim, textAnswer } from "./exchange.ts";
import type { EdgeMetrics } from "./metrics.ts";
import type { CheckedRequest } from "./request-check.ts";

/** How writing an answer ended. */
export interface WriteResult {
  /** Content bytes. */
  readonly bytesDown: number;
  /** `complete`; `client-gone`; `broken-off`: the content failed half-way and the connection (or stream) was cut, so that
   * no client takes the part for the whole; `stalled`: the client read nothing for too long. */
  readonly end: "complete" | "client-gone" | "broken-off" | "stalled";
}

/** A request that was answered, for the access record. */
export interface ServedRequest {
  readonly inbound: Inbound;
  readonly answer: Answer;
  readonly result: WriteResult;
  readonly durationMs: number;
  /** Until the answer could begin, ms. */
  readonly ttfbMs: number;
}

export interface DispatcherOptions {
  readonly handle: (inbound: Inbound) => Answer | Promise<Answer>;
  /** Answers a request for the server itself; undefined when `host` is not the server's own. */
  readonly admin: ((inbound: Inbound, host: string) => Promise<Answer> | undefined) | undefined;
  /** Link values for a 103 while a navigation waits for its answer; undefined: nothing is known, or nothing may be sent. */
  readonly earlyHints?: ((inbound: Inbound) => readonly string[] | undefined) | undefined;
  readonly verifier: PeerVerifier | undefined;
  readonly settings: EdgeSettings;
  readonly clock: Clock;
  readonly metrics: EdgeMetrics;
  readonly logger: Logger;
  readonly onServed: ((served: ServedRequest) => void) | undefined;
  /** Reads debug tokens; undefined: none is taken. */
  readonly diagnosis?: Diagnosis | undefined;
}

/** A request as a front has read and checked it. */
export interface ReceivedRequest {
  readonly checked: CheckedRequest;
  /** The target as it was sent: what a peer's proof covers. */
  readonly path: string;
  readonly httpVersion: Inbound["httpVersion"];
  readonly isTls: boolean;
  readonly remoteAddress: string;
  /** The server of ours that its connection is proven to be of; undefined: the request has to prove it. */
  readonly peer?: ServerId | undefined;
  /** The content, when there may be some. */
  readonly body: Readable | undefined;
  /** Fires when the client has gone. */
  readonly signal: AbortSignal;
  /** As {@link Inbound} has it. */
  readonly leaving?: StopSignal | undefined;
  readonly startedAt: MonotonicMs;
  /** As {@link Inbound} has it. */
  readonly sendInterim: SendInterim | undefined;
}

const NOT_A_PEER: HopFields = { tier: undefined, isOwner: false };

export class Dispatcher {
  readonly #o: DispatcherOptions;
  /** Unique for this process; nobody has to be unable to guess it, so one draw of randomness serves for all. */
  readonly #idPrefix = randomBytes(6).toString("base64url");
  #ids = 0;
  #active = 0;
  #onIdle: (() => void) | undefined;

  constructor(options: DispatcherOptions) {
    this.#o = options;
  }

  /** Requests that are being answered. */
  get active(): number {
    return this.#active;
  }

  /** Resolves when no request is being answered. */
  async idle(): Promise<void> {
    if (this.#active === 0) return;
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve;
    });
  }

  /** Counts a request from now to {@link end} or {@link abandon}. */
  begin(): void {
    this.#active++;
  }

  /** A request that was begun and comes to no recorded end: refused, or a fault of ours. */
  abandon(): void {
    this.#active--;
    if (this.#active === 0) this.#onIdle?.();
  }

  /** What the handler sees of a received request. `Isochrone-*` fields of anybody but a proven peer are gone. */
  inbound(received: ReceivedRequest): Inbound {
    const { checked } = received;
    const peer = received.peer ?? this.#peerOf(checked, received.path);
    const isPlainRead = checked.method === "GET" || checked.method === "HEAD";
    // Content of a GET has no meaning (RFC 9110, section 9.3.1) and is no part of the key: it goes no further.
    const hasBody = checked.hasContent && !isPlainRead;
    const isHttps = received.isTls || (peer !== undefined && forwardedScheme(checked.fields) === "https");
    return {
      head: {
        method: checked.method,
        scheme: isHttps ? "https" : "http",
        host: checked.host,
        target: checked.target,
        fields: peer === undefined ? withoutInternal(checked.fields) : checked.fields,
      },
      httpVersion: received.httpVersion,
      remoteAddress: this.clientAddress(received.remoteAddress, checked.fields),
      body: hasBody ? received.body : undefined,
      bodyBytes: isPlainRead ? undefined : checked.bodyBytes,
      signal: received.signal,
      leaving: received.leaving,
      sendInterim: received.sendInterim,
      peer,
      hop: peer === undefined ? NOT_A_PEER : hopFieldsOf(checked.fields),
      requestId: (peer === undefined ? undefined : requestIdOf(checked.fields)) ?? this.nextId(),
      receivedAt: this.#o.clock.epoch(),
      startedAt: received.startedAt,
      debugScope: this.#o.diagnosis?.scopeOf(checked.fields),
    };
  }

  /**
   * The client's address. A trusted proxy in front states it last in X-Forwarded-For; what stands before, and what anybody
   * else sends, is only a claim.
   */
  clientAddress(remoteAddress: string, fields: Fields): string {
    const { trustedProxies } = this.#o.settings;
    if (trustedProxies.length === 0 || !trustedProxies.includes(plainAddress(remoteAddress)))
      return remoteAddress;
    const stated = fieldLines(fields, "x-forwarded-for").at(-1)?.split(",").at(-1)?.trim() ?? "";
    return isIP(stated) === 0 ? remoteAddress : stated;
  }

  nextId(): string {
    return `${this.#idPrefix}${(this.#ids++).toString(36).padStart(4, "0")}`;
  }

  /** The answer to a request that was begun. `host`: as {@link CheckedRequest} has it. At once when it can be. */
  answer(inbound: Inbound, host: string): Answer | Promise<Answer> {
    const own = this.#o.admin?.(inbound, host);
    if (own !== undefined) return own;
    return this.#o.handle(inbound);
  }

  /** What a client of HTTP/2 may be told before the answer (RFC 8297). */
  earlyHints(inbound: Inbound): readonly string[] | undefined {
    return inbound.peer === undefined ? this.#o.earlyHints?.(inbound) : undefined;
  }

  /** Ends a request: counts it and records it. */
  end(inbound: Inbound, answer: Answer, result: WriteResult, ttfbMs: number): void {
    const { metrics, clock, onServed } = this.#o;
    const durationMs = clock.monotonic() - inbound.startedAt;
    metrics.request(answer.record.outcome, answer.status, durationMs / 1_000, result.bytesDown);
    if (answer.record.outcome !== "admin") onServed?.({ inbound, answer, result, durationMs, ttfbMs });
    this.abandon();
  }

  #peerOf(checked: CheckedRequest, path: string): ServerId | undefined {
    const { verifier } = this.#o;
    if (verifier === undefined) return undefined;
    const lines = fieldLines(checked.fields, "isochrone-peer");
    if (lines.length !== 1) return undefined;
    const verdict = verifier.verify(lines[0], { method: checked.method, host: checked.hostAsSent, path });
    if (verdict.isProven) return verdict.serverId;
    this.#o.logger.debug("peer-not-proven", { reason: verdict.reason });
    return undefined;
  }
}

/** An answer of the front itself: a refusal, or a fault of ours. */
export function ownAnswer(status: number, text: string, fields: Fields = []): Answer {
  const record: AnswerRecord = {
    outcome: "refused",
    status: undefined,
    propertyId: undefined,
    upstream: undefined,
  };
  return textAnswer(status, text, record, fields);
}

/** Isochrone-* fields count only from proven peers; nobody else's are seen by anything behind this line. */
function withoutInternal(fields: Fields): Fields {
  return fields.some(([name]) => isInternal(name)) ? fields.filter(([name]) => !isInternal(name)) : fields;
}

/** A dual-stack socket tells IPv4 addresses in their mapped form (RFC 4291, section 2.5.5.2). */
const plainAddress = (address: string): string =>
  address.startsWith("::ffff:") ? address.slice(7) : address;

function hopFieldsOf(fields: Fields): HopFields {
  const tier = fieldLines(fields, "isochrone-tier")[0];
  return {
    tier: tier !== undefined && /^[0-9]$/.test(tier) ? Number(tier) : 0,
    isOwner: fieldLines(fields, "isochrone-owner")[0] === "1",
    codings: CODING_FIELDS.flatMap((name) =>
      fieldLines(fields, `isochrone-${name}`).map((value): Field => [name, value]),
    ),
  };
}

function requestIdOf(fields: Fields): string | undefined {
  const value = fieldLines(fields, "isochrone-request-id")[0];
  return value !== undefined && /^[A-Za-z0-9_-]{8,64}$/.test(value) ? value : undefined;
}

function forwardedScheme(fields: Fields): string | undefined {
  return fieldLines(fields, "x-forwarded-proto")[0];
}

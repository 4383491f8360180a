/**
 * Answers that could not be had get a page with a reference, and are remembered under it, so that `isochrone explain REFERENCE`
 * can tell why; who holds a debug token gets fields that tell how an answer came to be.
 */
import { createHmac, hkdfSync, timingSafeEqual } from "node:crypto";
import type { Clock, EpochMs } from "#kit";
import { truncatedAddress } from "#analytics";
import { formatCacheStatus } from "../core/cache-status.ts";
import { akamaiDirectivesOf, debugFields } from "../core/diagnosis/debug-fields.ts";
import { coversProperty, debugTokenText, parseDebugToken } from "../core/diagnosis/debug-token.ts";
import { htmlPage, textPage, wantsHtml } from "../core/diagnosis/error-page.ts";
import { formatReference } from "../core/diagnosis/reference.ts";
import { traceIdOf } from "../core/diagnosis/trace-context.ts";
import { fieldLines, type Fields, fieldValue, withoutFields } from "../core/headers.ts";
import { type Answer, type Inbound, textAnswer } from "./exchange.ts";

/** Failures that are remembered: some minutes of a bad day, about 1 KB each. */
const FAULTS_MAX = 1_000;

/** A request that could not be answered. Without its query, which may hold what only its user should know. */
export interface KnownFault {
  readonly reference: string;
  readonly server: string;
  readonly at: EpochMs;
  readonly method: string;
  readonly url: string;
  readonly status: number;
  readonly code: string;
  /** What the server knows, addresses of next hops included: for operators. */
  readonly message: string;
  readonly propertyId: string | null;
  readonly cacheStatus: string | null;
  /** The server of ours that asked; null: a client. */
  readonly peer: string | null;
  readonly clientAddress: string | null;
  readonly traceId: string | null;
  readonly durationMs: number;
}

export class Diagnosis {
  readonly #serverName: string;
  readonly #clock: Clock;
  readonly #key: Buffer | undefined;
  /** By request id, oldest first. */
  readonly #faults = new Map<string, KnownFault>();

  /** `secret`: the operator's token, from which the key of debug tokens is derived; undefined or empty: none is taken. */
  constructor(options: {
    readonly serverName: string;
    readonly clock: Clock;
    readonly secret: string | undefined;
  }) {
    this.#serverName = options.serverName;
    this.#clock = options.clock;
    this.#key = options.secret === undefined || options.secret === "" ? undefined : keyOf(options.secret);
  }

  /** What a request's debug token opens: a property id, "*", or nothing. */
  scopeOf(fields: Fields): string | undefined {
    const lines = fieldLines(fields, "isochrone-debug");
    const token = lines.length === 1 ? parseDebugToken(lines[0]?.trim() ?? "") : undefined;
    if (token === undefined || this.#key === undefined || token.expiresAt <= this.#clock.epoch())
      return undefined;
    const isRight = timingSafeEqual(Buffer.from(token.mac), Buffer.from(macOf(token.signedText, this.#key)));
    return isRight ? token.scope : undefined;
  }

  /** What was remembered of a request; undefined: nothing, or no more. */
  faultOf(requestId: string): KnownFault | undefined {
    return this.#faults.get(requestId);
  }

  /** The answer as it goes out. */
  finish(inbound: Inbound, answer: Answer): Answer {
    const { debugScope } = inbound;
    let finished = answer.fault === undefined ? answer : this.#page(inbound, answer, answer.fault);
    if (debugScope !== undefined && coversProperty(debugScope, answer.record.propertyId))
      finished = this.#withFields(inbound, finished);
    return finished;
  }

  #page(inbound: Inbound, answer: Answer, fault: NonNullable<Answer["fault"]>): Answer {
    const { head, requestId } = inbound;
    const reference = formatReference({ server: this.#serverName, requestId });
    const { record, status } = answer;
    if (this.#faults.size >= FAULTS_MAX) {
      const [oldest] = this.#faults.keys();
      if (oldest !== undefined) this.#faults.delete(oldest);
    }
    this.#faults.set(requestId, {
      reference,
      server: this.#serverName,
      at: inbound.receivedAt,
      method: head.method,
      url: `${head.scheme}://${head.host}${head.target.split("?", 1)[0]}`,
      status,
      code: fault.code,
      message: fault.message,
      propertyId: record.propertyId ?? null,
      cacheStatus: record.status === undefined ? null : formatCacheStatus(record.status),
      peer: inbound.peer ?? null,
      clientAddress: inbound.peer === undefined ? truncatedAddress(inbound.remoteAddress) : null,
      traceId: traceIdOf(fieldLines(head.fields, "traceparent")) ?? null,
      durationMs: this.#clock.monotonic() - inbound.startedAt,
    });
    const isHtml = wantsHtml(fieldValue(head.fields, "accept"));
    const page = { status, text: fault.text, reference };
    const made = textAnswer(
      status,
      isHtml ? htmlPage(page) : textPage(page),
      record,
      withoutFields(answer.fields, OF_THE_PAGE),
      isHtml ? "text/html; charset=utf-8" : undefined,
    );
    return head.method === "HEAD" ? { ...made, body: undefined } : made;
  }

  #withFields(inbound: Inbound, answer: Answer): Answer {
    const { record } = answer;
    const added = debugFields(
      {
        outcome: record.outcome,
        status: record.status,
        cacheStatus: fieldValue(answer.fields, "cache-status") ?? "",
        requestId: inbound.requestId,
        clientAddress: inbound.remoteAddress,
        elapsedMs: this.#clock.monotonic() - inbound.startedAt,
        upstreamMs: record.upstreamMs,
      },
      akamaiDirectivesOf(fieldLines(inbound.head.fields, "pragma")),
    );
    // What was remembered of a hit would have these fields too.
    return { ...answer, fields: [...answer.fields, ...added], memo: undefined };
  }
}

/** Fields that belong to the content that the page replaces. */
const OF_THE_PAGE: ReadonlySet<string> = new Set(["content-type", "cache-control"]);

/** A debug token. `secret`: the operator's token of the servers; `scope`: a property id, or "*". */
export function makeDebugToken(secret: string, expiresAt: EpochMs, scope: string): string {
  const text = debugTokenText(expiresAt, scope);
  return `${text}.${macOf(text, keyOf(secret))}`;
}

function keyOf(secret: string): Buffer {
  return Buffer.from(hkdfSync("sha256", secret, "", "isochrone debug token v1", 32));
}

function macOf(text: string, key: Buffer): string {
  return createHmac("sha256", key).update(text).digest("base64url");
}

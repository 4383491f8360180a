/** Answers in this server's own name, and those from a stored response, with what they say about the cache. */
import { type Clock, type ClusterId, type ForwardReason, IsochroneError } from "#kit";
import type { Logger } from "#kit/io";
import type { SpokenProtocol } from "#transport";
import type { CacheStatus } from "../core/cache-status.ts";
import { coversProperty } from "../core/diagnosis/debug-token.ts";
import type { Fields } from "../core/headers.ts";
import type { ResponseHead } from "../core/messages.ts";
import { selectContent } from "../core/range.ts";
import { contentBytes, isSliced, type SlicedHead } from "../core/slices.ts";
import { nominatedFields } from "../core/vary.ts";
import {
  type Answer,
  type AnswerRecord,
  type AnswerSource,
  type Inbound,
  type Outcome,
  type SourceHead,
  textAnswer,
} from "./exchange.ts";
import type { StoredObject } from "./memory-store.ts";
import type { Readable } from "./multipart.ts";
import type { ObjectBody } from "./object-body.ts";
import { retryAfterOf } from "./overload-gate.ts";
import type { RequestPlan, RequestPlanner } from "./request-plan.ts";
import type { Slices } from "./slices.ts";
import { type AnswerContext, downstreamFields, storedAnswer } from "./stored-answer.ts";

/** How an answer came to be, for its fields and its record. */
export interface Told {
  readonly status: CacheStatus;
  readonly outcome: Outcome;
  readonly upstream?:
    | {
        readonly name: string;
        readonly via: ClusterId | null;
        readonly protocol: SpokenProtocol | undefined;
        /** From asking it to the head of its answer, ms; undefined: it was not asked for this request alone. */
        readonly ms?: number | undefined;
      }
    | undefined;
  readonly upstreamCacheStatus?: string | undefined;
  readonly generation: number;
}

/** Why there is no answer. */
export interface Fault {
  readonly code: string;
  readonly message: string;
  /** When the request was shed. */
  readonly retryAfterSeconds?: number | undefined;
}

export class Answers {
  readonly #cacheName: string;
  readonly #altSvc: string | undefined;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #slices: Slices;
  readonly #planner: RequestPlanner;

  constructor(options: {
    readonly cacheName: string;
    readonly altSvc: string | undefined;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly slices: Slices;
    readonly planner: RequestPlanner;
  }) {
    this.#cacheName = options.cacheName;
    this.#altSvc = options.altSvc;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#slices = options.slices;
    this.#planner = options.planner;
  }

  context(inbound: Inbound, plan: RequestPlan, told: Told): AnswerContext {
    // A key may hold what only its property's operators should see.
    const { debugScope } = inbound;
    const isDebugged = debugScope !== undefined && coversProperty(debugScope, plan.property.propertyId);
    const status = isDebugged ? { ...told.status, key: plan.key } : told.status;
    return {
      request: plan.head,
      cacheName: this.#cacheName,
      altSvc: this.#altSvc,
      now: this.#clock.epoch(),
      record: {
        outcome: told.outcome,
        status,
        propertyId: plan.property.propertyId,
        upstream: told.upstream?.name,
        via: told.upstream?.via ?? null,
        upstreamProtocol: told.upstream?.protocol,
        upstreamMs: told.upstream?.ms,
      },
      cacheStatus: status,
      upstreamCacheStatus: told.upstreamCacheStatus,
      generation: inbound.peer === undefined ? undefined : told.generation,
    };
  }

  /** From a stored response that has its content itself. */
  fromWhole(
    inbound: Inbound,
    plan: RequestPlan,
    stored: StoredObject,
    ageSeconds: number,
    told: Told,
  ): Answer {
    const context = this.context(inbound, plan, told);
    const content = contentOf(stored);
    const answer = storedAnswer(stored, content, contentBytes(stored), true, ageSeconds, context);
    return { ...answer, source: sourceOf(plan, stored, wholeBody(stored)) };
  }

  /** From one whose content is still arriving, of a length that may be unknown. */
  fromArriving(
    inbound: Inbound,
    plan: RequestPlan,
    stored: StoredObject,
    totalBytes: number | undefined,
    ageSeconds: number,
    told: Told,
  ): Answer {
    const { body, part } = stored;
    const context = this.context(inbound, plan, told);
    const bytes = part?.totalBytes ?? totalBytes;
    const answer = storedAnswer(stored, contentOf(stored), bytes, body.isComplete, ageSeconds, context);
    return { ...answer, source: sourceOf(plan, stored, wholeBody(stored)) };
  }

  /**
   * From a head and its slices. A hit whose slices are not all here is told as `partial` (RFC 9211, section 2.2). Rejects with
   * IsochroneError when the first slice that is needed cannot be had, before anything was answered.
   */
  async fromSlices(
    inbound: Inbound,
    plan: RequestPlan,
    stored: StoredObject & SlicedHead,
    ageSeconds: number,
    told: Told,
  ): Promise<Answer> {
    const { totalBytes } = stored.sliced;
    const content = this.#slices.contentOf(
      plan.key,
      plan.purgeScope,
      stored,
      () => this.#planner.fillRequest(inbound, plan, undefined, undefined),
      inbound.peer,
    );
    const selection = selectContent(plan.head, stored, totalBytes, true, this.#clock.epoch());
    const spans =
      plan.head.method === "HEAD"
        ? []
        : selection.kind === "spans"
          ? selection.spans
          : selection.kind === "whole"
            ? [{ first: 0, last: totalBytes - 1 }]
            : [];
    const isHere = !told.status.isHit || content.holds(spans);
    const [span] = spans;
    if (span !== undefined) await content.prepare(span);
    const context = this.context(inbound, plan, isHere ? told : partial(told));
    const answer = storedAnswer(stored, content, totalBytes, true, ageSeconds, context);
    return { ...answer, source: sourceOf(plan, stored, undefined) };
  }

  /** From any stored response. Rejects only for one in slices, see {@link fromSlices}. */
  fromStored(
    inbound: Inbound,
    plan: RequestPlan,
    stored: StoredObject,
    ageSeconds: number,
    told: Told,
  ): Answer | Promise<Answer> {
    return isSliced(stored)
      ? this.fromSlices(inbound, plan, stored, ageSeconds, told)
      : this.fromWhole(inbound, plan, stored, ageSeconds, told);
  }

  /**
   * Nothing could be had: 503 when the request was shed, 504 when the next hop was too slow, else 502 (RFC 9110, sections
   * 15.6.4, 15.6.5 and 15.6.3).
   */
  failure(plan: RequestPlan, fault: Fault, fwd: ForwardReason): Answer {
    const { code, message, retryAfterSeconds } = fault;
    const isTimeout = code.includes("timeout");
    const status: CacheStatus = { cache: this.#cacheName, isHit: false, fwd, detail: code };
    const record: AnswerRecord = {
      outcome: "error",
      status,
      propertyId: plan.property.propertyId,
      upstream: undefined,
    };
    // Shed requests are counted; a line for each would be one more load.
    if (retryAfterSeconds !== undefined) {
      const why = code.startsWith("origin-un") ? "The origin cannot be asked" : "Too many requests";
      return this.#fault(503, `${why} at the moment (${code}).`, record, fault, [
        ["Retry-After", String(retryAfterSeconds)],
      ]);
    }
    // The message names addresses of origins: it belongs into the log, not to clients.
    this.#logger.info("next-hop-failed", { code, message, propertyId: plan.property.propertyId });
    return this.#fault(isTimeout ? 504 : 502, `The next hop did not answer (${code}).`, record, fault);
  }

  #fault(
    status: number,
    text: string,
    record: AnswerRecord,
    { code, message }: Fault,
    extra: Fields = [],
  ): Answer {
    return { ...this.own(status, `${text}\n`, record, extra), fault: { code, message, text } };
  }

  refusal(
    status: number,
    text: string,
    plan: RequestPlan | undefined,
    fields: readonly (readonly [string, string])[] = [],
  ): Answer {
    const record: AnswerRecord = {
      outcome: "refused",
      status: undefined,
      propertyId: plan?.property.propertyId,
      upstream: undefined,
    };
    return this.own(status, text, record, fields);
  }

  own(
    status: number,
    text: string,
    record: AnswerRecord,
    extra: readonly (readonly [string, string])[] = [],
  ): Answer {
    const answer = textAnswer(status, text, record, extra);
    const cacheStatus = record.status ?? {
      cache: this.#cacheName,
      isHit: false,
      ...(record.outcome === "refused" && { detail: "refused" }),
    };
    const context: AnswerContext = {
      request: { method: "GET", scheme: "http", host: "", target: "/", fields: [] },
      cacheName: this.#cacheName,
      altSvc: undefined,
      now: this.#clock.epoch(),
      record,
      cacheStatus,
      upstreamCacheStatus: undefined,
      generation: undefined,
    };
    return { ...answer, fields: downstreamFields(answer.fields, context, undefined) };
  }
}

/** The content of a stored response by its places in the whole. */
function contentOf({ part, body }: StoredObject): Readable {
  if (part === null) return body;
  return {
    read: (first = part.first, last = part.last) => body.read(first - part.first, last - part.first),
  };
}

/** The body of a stored response where that is its whole content. */
export function wholeBody({ part, body }: StoredObject): ObjectBody | undefined {
  return part === null ? body : undefined;
}

/** What an answer of a stored response is made of; `body` undefined: the content is not here, or in slices. */
export function sourceOf(
  { key, property }: RequestPlan,
  head: SourceHead,
  body: ObjectBody | undefined,
): AnswerSource {
  return { key, policy: property.compression, head, body };
}

/** The same of a response that another server stores; undefined: it is like no other (Vary: *). */
export function sourceOfPassed(plan: RequestPlan, response: ResponseHead): AnswerSource | undefined {
  const names = nominatedFields(response.fields);
  return names === "any"
    ? undefined
    : sourceOf(plan, { ...response, nominatedFields: names, sliced: null }, undefined);
}

/** A hit that has to ask for some of its slices. */
function partial(told: Told): Told {
  const { cache, ttlSeconds, detail } = told.status;
  return {
    ...told,
    outcome: "partial",
    status: {
      cache,
      isHit: false,
      fwd: "partial",
      fwdStatus: 206,
      isStored: true,
      ...(ttlSeconds !== undefined && { ttlSeconds }),
      ...(detail !== undefined && { detail }),
    },
  };
}

/** Code and message of whatever was thrown. */
export function faultOf(error: unknown): Fault {
  return {
    code: error instanceof IsochroneError ? error.code : "internal",
    message: error instanceof Error ? error.message : String(error),
    retryAfterSeconds: retryAfterOf(error),
  };
}

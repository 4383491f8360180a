/**
 * The life of a request in the cache as two decisions: what to do when it arrives, and what to do when the answer of the
 * next hop arrives. Pure and total: each way out has a name, and these names stand in Cache-Status, log, metric and
 * explain.
 *
 *   request --decideRequest--> hit | hit-and-revalidate | validate | fetch | pass | refuse
 *   validate, fetch --(next hop answers or fails)--decideResponse--> store | store-slices | freshen | refetch | serve-stale |
 *                                                                    pass | unsliceable | fail
 *
 * Time, the policy and what is stored are arguments. Sections are of RFC 9111 unless said.
 */
import type { EpochMs, ForwardReason } from "#kit";
import { cacheControl, deltaSeconds, type Directives } from "./cache-control.ts";
import { type Freshness, freshness } from "./freshness.ts";
import { fieldLines, fieldValue, hasField } from "./headers.ts";
import type { ExchangeTimes, RequestHead, ResponseHead, SlicedContent, StoredHead } from "./messages.ts";
import type { RequestPolicy } from "./policy.ts";
import type { PurgeState } from "./purge-index.ts";
import { answersFromPart, askedRange, isPart, judgePart, type PartHead, partOpening } from "./parts.ts";
import { type ByteSpan, parseContentRange, requestedRanges } from "./range.ts";
import {
  fieldsOfWhole,
  isSliced,
  judgeOpening,
  isSliceOpening,
  type NotSlicedReason,
  type Opening,
  openingFor,
  type SlicedHead,
  strongValidator,
} from "./slices.ts";
import { isServerFailure, mayServeStaleIfError, mayServeStaleWhileRevalidate } from "./stale.ts";
import { isShareable, type NotStoredReason, requiresValidation, storable, storedFields } from "./storable.ts";
import { storedHead } from "./stored-head.ts";
import { freshen, hasOriginOnlyCondition, selectedBy } from "./validation.ts";
import { selectVariant } from "./vary.ts";

/** Why a stored response may not be used as it is. */
export type ValidateDetail =
  | "expired"
  | "no-cache"
  | "invalidated"
  | "purged"
  | "purges-unknown"
  | "request-no-cache"
  | "request-max-age";

/** Why a request goes past the cache. */
export type PassDetail = "rule" | "method" | "conditional" | "range" | "request-no-store";

export type RequestDecision<T extends StoredHead> =
  /** Answer from the store. */
  | {
      readonly action: "hit";
      readonly stored: T;
      readonly fresh: Freshness;
      readonly detail?: "stale-allowed";
    }
  /** Answer from the store, and validate in the background (RFC 5861, section 3). */
  | { readonly action: "hit-and-revalidate"; readonly stored: T; readonly fresh: Freshness }
  /** Ask the next hop whether the stored response still holds. */
  | {
      readonly action: "validate";
      readonly reason: Extract<ForwardReason, "stale" | "request">;
      readonly detail: ValidateDetail;
      readonly stored: T;
      readonly fresh: Freshness;
      /** Whether requests that arrive meanwhile may wait for this one's answer. */
      readonly isCollapsible: boolean;
      /** Ask for one slice, or part, should the stored response hold no more; undefined: for the whole. */
      readonly opening: Opening | undefined;
    }
  /** Ask the next hop for the object; the answer may be stored. */
  | {
      readonly action: "fetch";
      readonly reason: Extract<ForwardReason, "uri-miss" | "vary-miss">;
      /** Ask for one slice, from which the rest is learned, or for what was asked; undefined: for the whole. */
      readonly opening: Opening | undefined;
    }
  /** Forward as it is; the answer is not stored. */
  | {
      readonly action: "pass";
      readonly reason: Extract<ForwardReason, "bypass" | "method" | "request" | "partial">;
      readonly detail: PassDetail;
    }
  /** Answer here without asking anyone. */
  | { readonly action: "refuse"; readonly status: 504; readonly reason: "only-if-cached" };

export interface RequestContext<T extends StoredHead> {
  readonly request: RequestHead;
  readonly policy: RequestPolicy;
  /** Variants that are stored under the request's cache key. */
  readonly variants: readonly T[];
  /** Whether a purge has hit a stored response; hard-purged ones count as absent. */
  readonly purgeStateOf: (stored: T) => PurgeState;
  /** Length of slices, bytes; undefined: ranges of what is not stored are passed on (this server does not own the key, ...). */
  readonly sliceBytes?: number | undefined;
  /** Without slices: the longest part that is kept as it is, bytes; undefined: none. */
  readonly partBytesMax?: number | undefined;
  readonly now: EpochMs;
}

/** The request directives that the policy hears; an empty set when users may not drive load to origins. */
function requestDirectives(request: RequestHead, policy: RequestPolicy): Directives {
  if (!policy.honourRequestDirectives) return NO_DIRECTIVES;
  const directives = cacheControl(request.fields);
  // Section 5.4: Pragma counts only where Cache-Control is absent.
  if (
    !hasField(request.fields, "cache-control") &&
    fieldLines(request.fields, "pragma").some((line) => /\bno-cache\b/i.test(line))
  )
    return NO_CACHE;
  return directives;
}
const NO_DIRECTIVES: Directives = new Map();
const NO_CACHE: Directives = new Map([["no-cache", [null]]]);

/** What to do with a request (section 4). */
export function decideRequest<T extends StoredHead>(context: RequestContext<T>): RequestDecision<T> {
  const { request, policy } = context;
  if (policy.bypass) return { action: "pass", reason: "bypass", detail: "rule" };
  if (request.method !== "GET" && request.method !== "HEAD")
    return { action: "pass", reason: "method", detail: "method" };
  // Section 4.3.2: If-Match and If-Unmodified-Since are for the origin alone.
  if (hasOriginOnlyCondition(request.fields))
    return { action: "pass", reason: "request", detail: "conditional" };
  const asked = requestDirectives(request, policy);
  const variants = context.variants.filter(
    (variant) =>
      context.purgeStateOf(variant) !== "hard" &&
      (!isPart(variant) || answersFromPart(request, variant, context.now)),
  );
  const stored = selectVariant(variants, request.fields);
  if (stored === undefined) {
    // Section 5.2.1.7.
    if (asked.has("only-if-cached")) return { action: "refuse", status: 504, reason: "only-if-cached" };
    if (asked.has("no-store")) return { action: "pass", reason: "request", detail: "request-no-store" };
    const opening = openingOf(context);
    if (opening === "pass") return { action: "pass", reason: "partial", detail: "range" };
    return { action: "fetch", reason: variants.length === 0 ? "uri-miss" : "vary-miss", opening };
  }
  return decideReuse(context, asked, stored);
}

/**
 * What a range of what is not stored asks for: one slice, so that one byte never costs the origin the whole object; where
 * there are no slices the client's own range, and the answer is kept if it may be; but "bytes=0-" is the whole object and
 * fills the store.
 */
function openingOf<T extends StoredHead>(context: RequestContext<T>): Opening | undefined | "pass" {
  const { request, sliceBytes } = context;
  const ranges = request.method === "GET" ? requestedRanges(request.fields) : undefined;
  if (ranges === undefined) return undefined;
  if (sliceBytes !== undefined) return openingFor(ranges, sliceBytes);
  const [range] = ranges;
  const isWhole = range?.kind === "from" && range.first === 0 && range.last === undefined;
  if (isWhole) return undefined;
  return askedRange(request, ranges, context.partBytesMax ?? 0) ?? "pass";
}

/** Whether the selected stored response may be used (section 4, the list of conditions). */
function decideReuse<T extends StoredHead>(
  context: RequestContext<T>,
  asked: Directives,
  stored: T,
): RequestDecision<T> {
  const { policy, now } = context;
  const fresh = freshness(stored, policy, now);
  const mustValidate = requiresValidation(stored, policy);
  // What is not in slices is asked for whole: it is small, or cannot be put together from parts.
  const opening = isSliced(stored) ? openingOf(context) : partOpening(stored);
  const validate = (reason: "stale" | "request", detail: ValidateDetail): RequestDecision<T> =>
    asked.has("only-if-cached")
      ? { action: "refuse", status: 504, reason: "only-if-cached" }
      : {
          action: "validate",
          reason,
          detail,
          stored,
          fresh,
          // What has to be validated for each use is not shared among those who wait (section 4, last paragraph).
          isCollapsible: !mustValidate && fresh.lifetime.seconds > 0 && reason === "stale",
          opening: opening === "pass" ? undefined : opening,
        };
  if (stored.isInvalidated) return validate("stale", "invalidated");
  const purgeState = context.purgeStateOf(stored);
  const isPurged = purgeState === "soft";
  if (mustValidate) return validate("stale", "no-cache");
  // Section 5.2.1.4.
  if (asked.has("no-cache")) return validate("request", "request-no-cache");
  if (purgeState === "unknown") return validate("stale", "purges-unknown");
  if (fresh.isFresh && !isPurged) {
    const maxAge = deltaSeconds(asked, "max-age");
    const minFresh = deltaSeconds(asked, "min-fresh");
    // Sections 5.2.1.1 and 5.2.1.3; a malformed argument asks for nothing.
    if (typeof maxAge === "number" && fresh.ageSeconds > maxAge)
      return validate("request", "request-max-age");
    if (typeof minFresh === "number" && fresh.ttlSeconds < minFresh)
      return validate("request", "request-max-age");
    return { action: "hit", stored, fresh };
  }
  if (mayServeStaleWhileRevalidate(stored, policy, fresh))
    return { action: "hit-and-revalidate", stored, fresh };
  // Section 5.2.1.2: a client that takes stale answers gets them where the origin has not forbidden it.
  const maxStale = asked.get("max-stale");
  if (maxStale !== undefined && !isPurged && mayServeStaleIfError(stored, policy, fresh)) {
    const seconds = maxStale[0] === null ? Number.POSITIVE_INFINITY : deltaSeconds(asked, "max-stale");
    if (typeof seconds === "number" && -fresh.ttlSeconds <= seconds)
      return { action: "hit", stored, fresh, detail: "stale-allowed" };
  }
  return validate("stale", isPurged ? "purged" : "expired");
}

/** What the next hop did: an answer's head, or a failure before one. */
export type UpstreamOutcome =
  | { readonly kind: "response"; readonly response: ResponseHead }
  | { readonly kind: "failure"; readonly code: string };

export interface ResponseContext<T extends StoredHead> {
  readonly request: RequestHead;
  readonly policy: RequestPolicy;
  /** The stored response that was validated, or that may cover a failure. */
  readonly stored: T | undefined;
  readonly outcome: UpstreamOutcome;
  readonly times: ExchangeTimes;
  /** Generation of the answer: see purge-index.ts. */
  readonly generation: number;
  /** Whether purges since `generation` hit what would be stored. */
  readonly isPurgedMeanwhile: (head: StoredHead) => boolean;
  /** Content length that the answer states; undefined when it states none. */
  readonly contentLength: number | undefined;
  /** Largest object that is stored, bytes. */
  readonly objectBytesMax: number;
  /** The slice or part that was asked for; undefined: the whole was. */
  readonly opening?: Opening | undefined;
  /** Length of slices, bytes; undefined: nothing is cut into slices. */
  readonly sliceBytes?: number | undefined;
  /** False at a server that forwards to the key's owner: then the owner stores. */
  readonly isOwner: boolean;
  readonly now: EpochMs;
}

export type ResponseDecision<T extends StoredHead> =
  /** Keep it and answer with it; `isShareable`: also those who waited. */
  | {
      readonly action: "store";
      readonly head: StoredHead;
      readonly fresh: Freshness;
      readonly isShareable: boolean;
      /** Content-Range of the answer, where what is kept is a part. */
      readonly statedRange?: string | undefined;
    }
  /** Keep the head, and the content in slices as it arrives: `span` is the part of the object that it is. */
  | {
      readonly action: "store-slices";
      readonly head: SlicedHead;
      readonly span: ByteSpan;
      readonly fresh: Freshness;
      readonly isShareable: boolean;
    }
  /** A part that says nothing about the whole that could be kept: each request asks for its own range. */
  | { readonly action: "unsliceable"; readonly reason: NotSlicedReason | NotStoredReason }
  /** The stored response holds; answer with it and its new head (section 4.3.4). */
  | {
      readonly action: "freshen";
      readonly stored: T;
      readonly head: StoredHead;
      readonly fresh: Freshness;
      readonly isShareable: boolean;
      readonly isStored: boolean;
    }
  /** A 304 that does not select what is stored: ask again without conditions. */
  | { readonly action: "refetch"; readonly reason: "validator-mismatch" }
  /** Cover a failure with the stored response (RFC 5861, section 4). */
  | {
      readonly action: "serve-stale";
      readonly reason: "stale-if-error";
      readonly stored: T;
      readonly fresh: Freshness;
      readonly detail: string;
    }
  /** Give the answer to this one request only. */
  | { readonly action: "pass"; readonly reason: NotStoredReason | NotSlicedReason }
  /** Nothing to answer with: 502 or 504. */
  | { readonly action: "fail"; readonly reason: "upstream-error"; readonly code: string };

/** What to do with the next hop's answer to a fetch or a validation (sections 3, 4.3.3, 4.3.4; RFC 5861). */
export function decideResponse<T extends StoredHead>(context: ResponseContext<T>): ResponseDecision<T> {
  const { request, policy, stored, outcome, times, now } = context;
  if (outcome.kind === "failure" || isServerFailure(outcome.response.status)) {
    if (stored !== undefined && !stored.isInvalidated) {
      const fresh = freshness(stored, policy, now);
      if (mayServeStaleIfError(stored, policy, fresh)) {
        const detail = outcome.kind === "failure" ? outcome.code : `status-${outcome.response.status}`;
        return { action: "serve-stale", reason: "stale-if-error", stored, fresh, detail };
      }
    }
    if (outcome.kind === "failure") return { action: "fail", reason: "upstream-error", code: outcome.code };
  }
  const { response } = outcome;
  if (response.status === 304 && stored !== undefined) {
    const selected = selectedBy(response, stored);
    if (selected === "none") return { action: "refetch", reason: "validator-mismatch" };
    const head = freshen(
      stored,
      selected === "update" ? { ...response, fields: storedFields(response.fields) } : undefined,
      times,
      context.generation,
    );
    const fresh = freshness(head, policy, now);
    return {
      action: "freshen",
      stored,
      head,
      fresh,
      isShareable: isShareable(head, policy, fresh),
      isStored: !context.isPurgedMeanwhile(head),
    };
  }
  // Nobody asked with a condition: this answers another question (RFC 9110, section 15.4.5).
  if (response.status === 304 && !CONDITIONS.some((name) => hasField(request.fields, name)))
    return { action: "fail", reason: "upstream-error", code: "unexpected-304" };
  if (response.status === 206 && context.opening !== undefined)
    return decidePart(context, response, context.opening);
  // It speaks of the range that was asked for, and would answer requests for any other, and for the whole.
  if (response.status === 416 && context.opening !== undefined) return { action: "pass", reason: "partial" };
  const verdict = storable(request, response, policy, times.responseTime);
  if (!verdict.isStorable) return { action: "pass", reason: verdict.reason };
  if (!context.isOwner) return { action: "pass", reason: "not-owner" };
  const sliced = slicedWhole(context, response);
  if (
    sliced === null &&
    context.contentLength !== undefined &&
    context.contentLength > context.objectBytesMax
  )
    return { action: "pass", reason: "too-large" };
  const head = { ...storedHead(request, response, times, context.generation), sliced };
  if (context.isPurgedMeanwhile(head)) return { action: "pass", reason: "purged-meanwhile" };
  const fresh = freshness(head, policy, now);
  const shareable = isShareable(head, policy, fresh);
  return isSliced(head)
    ? {
        action: "store-slices",
        head,
        span: { first: 0, last: head.sliced.totalBytes - 1 },
        fresh,
        isShareable: shareable,
      }
    : { action: "store", head, fresh, isShareable: shareable };
}

/**
 * Whether a whole answer is cut into slices as it arrives: longer than one, and parts of it could be asked for again. Null
 * also for the whole that answers a request for a slice: then the next hop has no ranges (RFC 9110, section 14.2).
 */
function slicedWhole<T extends StoredHead>(
  context: ResponseContext<T>,
  response: ResponseHead,
): SlicedContent | null {
  const { contentLength: totalBytes, sliceBytes, times } = context;
  if (response.status !== 200 || context.opening !== undefined) return null;
  if (totalBytes === undefined || sliceBytes === undefined || totalBytes <= sliceBytes) return null;
  // RFC 9110, section 14.3; silence does not deny ranges.
  if (fieldLines(response.fields, "accept-ranges").some((line) => line.trim().toLowerCase() === "none"))
    return null;
  const validator = strongValidator(response, times.responseTime);
  return validator === undefined ? null : { totalBytes, sliceBytes, validator };
}

/**
 * What a 206 to an opening becomes: a whole that fits in it, a head with its first slices, a part that answers who asked, or nothing
 * that could be kept. Then it is the answer to who asked for the very same; else each asks for its own range.
 */
function decidePart<T extends StoredHead>(
  context: ResponseContext<T>,
  response: ResponseHead,
  opening: Opening,
): ResponseDecision<T> {
  const { request, policy, times, now } = context;
  const notKept = (reason: NotStoredReason | NotSlicedReason): ResponseDecision<T> =>
    opening.kind === "asked" ? { action: "pass", reason } : { action: "unsliceable", reason };
  // Stored as the 200 that it is a part of; RFC 9110, section 15.3.7 has it carry the fields that a cache needs.
  const whole: ResponseHead = { status: 200, fields: fieldsOfWhole(response.fields) };
  const verdict = storable(request, whole, policy, times.responseTime);
  if (!verdict.isStorable) return notKept(verdict.reason);
  if (!context.isOwner) return notKept("not-owner");
  const head = storedHead(request, whole, times, context.generation);
  if (context.isPurgedMeanwhile(head)) return notKept("purged-meanwhile");
  const fresh = freshness(head, policy, now);
  const shareable = isShareable(head, policy, fresh);
  const judged = isSliceOpening(opening)
    ? judgeOpening(opening, response, context.contentLength, times.responseTime)
    : judgeAsked(response, context.contentLength);
  if (judged.kind === "sliced")
    return {
      action: "store-slices",
      head: { ...head, sliced: judged.sliced },
      span: judged.span,
      fresh,
      isShareable: shareable,
    };
  const kept = judged.kind === "whole" ? head : partOf(context, head, response);
  return typeof kept === "string"
    ? notKept(kept === "partial" && judged.kind === "refused" ? judged.reason : kept)
    : {
        action: "store",
        head: kept,
        fresh,
        isShareable: shareable,
        ...(isPart(kept) && { statedRange: fieldValue(response.fields, "content-range") }),
      };
}

/** A 206 to another range than that of a slice: the whole all the same, or a part. */
function judgeAsked(
  response: ResponseHead,
  contentLength: number | undefined,
): { readonly kind: "whole" } | { readonly kind: "refused"; readonly reason: NotSlicedReason } {
  const range = parseContentRange(fieldValue(response.fields, "content-range") ?? "");
  return range !== undefined && range.first === 0 && contentLength === range.totalBytes
    ? { kind: "whole" }
    : { kind: "refused", reason: "other-range" };
}

/** The head of what is kept of a 206 as a part; else the reason why it is not. */
function partOf<T extends StoredHead>(
  { request, contentLength, objectBytesMax, now }: ResponseContext<T>,
  head: StoredHead,
  response: ResponseHead,
): PartHead | "partial" | "too-large" {
  const part = judgePart(response, contentLength);
  if (part === undefined || !answersFromPart(request, { ...head, part }, now)) return "partial";
  return part.last - part.first + 1 > objectBytesMax ? "too-large" : { ...head, part };
}

const CONDITIONS = ["if-none-match", "if-modified-since"] as const;

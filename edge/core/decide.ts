/**
 * The life of a request in the cache as two decisions: what to do when it arrives, and what to do when the answer of the
 * next hop arrives. Pure and total: each way out has a name, and these names stand in Cache-Status, log, metric and
 * explain.
 *
 *   request --decideRequest--> hit | hit-and-revalidate | validate | fetch | pass | refuse
 *   validate, fetch --(next hop answers or fails)--decideResponse--> store | freshen | refetch | serve-stale | pass
 *
 * Time, the policy and what is stored are arguments. Sections are of RFC 9111 unless said.
 */
import type { EpochMs, ForwardReason } from "#kit";
import { cacheControl, deltaSeconds, type Directives } from "./cache-control.ts";
import { type Freshness, freshness } from "./freshness.ts";
import { fieldLines, hasField } from "./headers.ts";
import type { ExchangeTimes, RequestHead, ResponseHead, StoredHead } from "./messages.ts";
import type { RequestPolicy } from "./policy.ts";
import type { PurgeState } from "./purge-index.ts";
import { requestedRange } from "./range.ts";
import { isServerFailure, mayServeStaleIfError, mayServeStaleWhileRevalidate } from "./stale.ts";
import { isShareable, type NotStoredReason, requiresValidation, storable, storedFields } from "./storable.ts";
import { tagsOf } from "./tags.ts";
import { freshen, hasOriginOnlyCondition, selectsForFreshening } from "./validation.ts";
import { nominatedFields, nominatedValues, selectVariant } from "./vary.ts";

/** Why a stored response may not be used as it is. */
export type ValidateDetail =
  | "expired"
  | "no-cache"
  | "invalidated"
  | "purged"
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
    }
  /** Ask the next hop for the object; the answer may be stored. */
  | { readonly action: "fetch"; readonly reason: Extract<ForwardReason, "uri-miss" | "vary-miss"> }
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
  const variants = context.variants.filter((variant) => context.purgeStateOf(variant) !== "hard");
  const stored = selectVariant(variants, request.fields);
  if (stored === undefined) {
    // Section 5.2.1.7.
    if (asked.has("only-if-cached")) return { action: "refuse", status: 504, reason: "only-if-cached" };
    if (asked.has("no-store")) return { action: "pass", reason: "request", detail: "request-no-store" };
    // A range of what is not stored goes through as it is, so that one byte never costs the origin the whole object;
    // "bytes=0-" is the whole object and fills the store.
    const range = request.method === "GET" ? requestedRange(request.fields) : undefined;
    if (range !== undefined && !(range.kind === "from" && range.first === 0 && range.last === undefined))
      return { action: "pass", reason: "partial", detail: "range" };
    return { action: "fetch", reason: variants.length === 0 ? "uri-miss" : "vary-miss" };
  }
  return decideReuse(context, asked, stored);
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
        };
  if (stored.isInvalidated) return validate("stale", "invalidated");
  const isPurged = context.purgeStateOf(stored) === "soft";
  if (mustValidate) return validate("stale", "no-cache");
  // Section 5.2.1.4.
  if (asked.has("no-cache")) return validate("request", "request-no-cache");
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
    }
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
  | { readonly action: "pass"; readonly reason: NotStoredReason }
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
    if (!selectsForFreshening(stored, response)) return { action: "refetch", reason: "validator-mismatch" };
    const head = freshen(
      stored,
      { ...response, fields: storedFields(response.fields) },
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
  const verdict = storable(request, response, policy, times.responseTime);
  if (!verdict.isStorable) return { action: "pass", reason: verdict.reason };
  if (!context.isOwner) return { action: "pass", reason: "not-owner" };
  if (context.contentLength !== undefined && context.contentLength > context.objectBytesMax)
    return { action: "pass", reason: "too-large" };
  const head = storedHead(request, response, times, context.generation);
  if (context.isPurgedMeanwhile(head)) return { action: "pass", reason: "purged-meanwhile" };
  const fresh = freshness(head, policy, now);
  return { action: "store", head, fresh, isShareable: isShareable(head, policy, fresh) };
}

const CONDITIONS = ["if-none-match", "if-modified-since"] as const;

/** The head of a response as it is stored (section 3.1). The response's fields are end-to-end ones already. */
function storedHead(
  request: RequestHead,
  response: ResponseHead,
  times: ExchangeTimes,
  generation: number,
): StoredHead {
  const names = nominatedFields(response.fields);
  const nominated = names === "any" ? [] : names;
  return {
    status: response.status,
    fields: storedFields(response.fields),
    requestTime: times.requestTime,
    responseTime: times.responseTime,
    nominatedFields: nominated,
    nominatedValues: nominatedValues(request.fields, nominated),
    generation,
    tags: tagsOf(response.fields),
    isInvalidated: false,
    sliced: null,
  };
}

/** Whether a response may be stored, with the reason (RFC 9111, section 3). */
import type { EpochMs } from "#kit";
import { cacheControl, type Directives, governingDirectives, qualifiedFields } from "./cache-control.ts";
import { type Freshness, freshnessLifetime, HEURISTICALLY_CACHEABLE, isUnexpectedPage } from "./freshness.ts";
import { type Fields, hasField, withoutFields } from "./headers.ts";
import type { RequestHead, ResponseHead } from "./messages.ts";
import type { RequestPolicy } from "./policy.ts";
import { nominatedFields } from "./vary.ts";

/** Why a response was not stored; closed, shared by log, metric and explain. */
export const NOT_STORED_REASONS = [
  "method",
  "bypass",
  "no-store",
  "request-no-store",
  "private",
  "must-understand",
  "authorization",
  "set-cookie",
  "partial",
  "interim",
  "vary-any",
  "unexpected-page",
  "no-freshness",
  "too-large",
  "purged-meanwhile",
  "not-owner",
  "incomplete",
  "upstream-error",
] as const;
export type NotStoredReason = (typeof NOT_STORED_REASONS)[number];

export type Storable =
  | { readonly isStorable: true }
  | { readonly isStorable: false; readonly reason: NotStoredReason };

/** Final status codes whose caching rules this cache implements (RFC 9111, section 5.2.2.3; RFC 9110, section 15). */
const UNDERSTOOD: ReadonlySet<number> = new Set([
  ...HEURISTICALLY_CACHEABLE,
  201,
  202,
  205,
  302,
  303,
  307,
  400,
  401,
  402,
  403,
  406,
  407,
  408,
  409,
  411,
  412,
  413,
  415,
  416,
  417,
  421,
  422,
  426,
  500,
  502,
  503,
  504,
  505,
]);

const refused = (reason: NotStoredReason): Storable => ({ isStorable: false, reason });
const STORABLE: Storable = { isStorable: true };

/** Whether a response has something to validate with (RFC 9110, section 8.8). */
export function hasValidator(response: ResponseHead): boolean {
  return hasField(response.fields, "etag") || hasField(response.fields, "last-modified");
}

/**
 * RFC 9111, section 3, for a shared cache. Stricter than the text in one way: a response that has neither freshness nor
 * a validator is not stored, because it could never be used again.
 */
export function storable(
  request: RequestHead,
  response: ResponseHead,
  policy: RequestPolicy,
  responseTime: EpochMs,
): Storable {
  if (request.method !== "GET") return refused("method");
  if (policy.bypass) return refused("bypass");
  // Status: final, and neither partial content (no slices here) nor a validation's answer.
  if (response.status < 200) return refused("interim");
  if (response.status === 206 || response.status === 304) return refused("partial");
  const { source, directives } = governingDirectives(response.fields);
  // Section 5.2.2.3: must-understand outweighs no-store for a cache that knows the status, and forbids it for others.
  if (directives.has("must-understand")) {
    if (!UNDERSTOOD.has(response.status)) return refused("must-understand");
  } else if (directives.has("no-store")) return refused("no-store");
  // Section 5.2.1.5.
  if (policy.honourRequestDirectives && cacheControl(request.fields).has("no-store"))
    return refused("request-no-store");
  // Section 5.2.2.7: a qualified private takes away only the listed fields (see storedFields).
  if (qualifiedFields(directives, "private") === "all") return refused("private");
  // Section 3.5: answers to requests with credentials only where the origin says so.
  if (hasField(request.fields, "authorization") && !mayShareAuthorized(directives))
    return refused("authorization");
  // Section 7.3: a cache may store such a response; whether it was meant for all is for the origin to say, or the property.
  if (
    policy.storeSetCookie === "if-shared" &&
    source === "cache-control" &&
    !directives.has("public") &&
    !directives.has("s-maxage") &&
    hasField(storedFields(response.fields), "set-cookie")
  )
    return refused("set-cookie");
  if (nominatedFields(response.fields) === "any") return refused("vary-any");
  if (isUnexpectedPage(response, policy)) return refused("unexpected-page");
  const lifetime = freshnessLifetime(response, policy, responseTime);
  const isExplicit = lifetime.source !== "none" || directives.has("public") || directives.has("no-cache");
  if (!isExplicit && !HEURISTICALLY_CACHEABLE.has(response.status)) return refused("no-freshness");
  if (lifetime.seconds === 0 && !hasValidator(response)) return refused("no-freshness");
  return STORABLE;
}

/** RFC 9111, section 3.5: must-revalidate, public or s-maxage allow a shared cache to reuse such a response. */
function mayShareAuthorized(directives: Directives): boolean {
  return directives.has("must-revalidate") || directives.has("public") || directives.has("s-maxage");
}

/**
 * Fields as they are stored: end-to-end ones (the caller has removed the others) without those that a qualified no-cache
 * or private lists, which must not be sent from a store (RFC 9111, sections 5.2.2.4 and 5.2.2.7).
 */
export function storedFields(fields: Fields): Fields {
  const { directives } = governingDirectives(fields);
  const listed = new Set<string>();
  for (const name of ["no-cache", "private"]) {
    const qualified = qualifiedFields(directives, name);
    if (qualified !== undefined && qualified !== "all") for (const field of qualified) listed.add(field);
  }
  return listed.size === 0 ? fields : withoutFields(fields, listed);
}

/** RFC 9111, section 5.2.2.4: an unqualified no-cache asks for validation before each use. */
export function requiresValidation(response: ResponseHead, policy: RequestPolicy): boolean {
  if (policy.overrideTtlSeconds !== null && response.status < 400) return false;
  return qualifiedFields(governingDirectives(response.fields).directives, "no-cache") === "all";
}

/**
 * Whether one answer may satisfy requests that waited for it (collapsed ones, RFC 9111, section 4): it must be stored and
 * fresh, for what may not be reused a moment later may not be shared now either.
 */
export function isShareable(response: ResponseHead, policy: RequestPolicy, fresh: Freshness): boolean {
  return fresh.isFresh && !requiresValidation(response, policy);
}

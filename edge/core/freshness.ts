/** How long a response is fresh and how old it is (RFC 9111, section 4.2). All times are arguments. */
import type { EpochMs } from "#kit";
import { DELTA_SECONDS_MAX, deltaSeconds, governingDirectives } from "./cache-control.ts";
import { fieldLines, hasField } from "./headers.ts";
import { parseHttpDate } from "./http-date.ts";
import type { ExchangeTimes, ResponseHead } from "./messages.ts";
import type { RequestPolicy } from "./policy.ts";

/** What settled the freshness lifetime; the same words stand in `explain`. */
export type LifetimeSource =
  | "override"
  | "s-maxage"
  | "max-age"
  | "expires"
  | "default"
  | "heuristic"
  | "negative"
  | "invalid"
  | "none";

export interface Lifetime {
  /** Seconds, >= 0. */
  readonly seconds: number;
  readonly source: LifetimeSource;
}

/** RFC 9110, section 15.1: may be given freshness by configuration when they state none. */
export const HEURISTICALLY_CACHEABLE: ReadonlySet<number> = new Set([
  200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501,
]);

/** The Date of a response, or when it arrived if it has none that can be read (RFC 9110, section 6.6.1). */
export function dateValue(response: ResponseHead, responseTime: EpochMs): EpochMs {
  const line = fieldLines(response.fields, "date")[0];
  return (line === undefined ? undefined : parseHttpDate(line, responseTime)) ?? responseTime;
}

/**
 * The freshness lifetime (RFC 9111, section 4.2.1) under a property's policy: the override of the policy, s-maxage,
 * max-age, Expires minus Date, then what the policy gives to answers that state nothing: a fixed time, or a heuristic.
 * Anything malformed or contradictory makes the response stale from the start (`invalid`, 0).
 */
export function freshnessLifetime(
  response: ResponseHead,
  policy: RequestPolicy,
  responseTime: EpochMs,
): Lifetime {
  // Stored before the rule was there.
  if (isUnexpectedPage(response, policy)) return NO_LIFETIME;
  if (policy.overrideTtlSeconds !== null && response.status < 400)
    return { seconds: policy.overrideTtlSeconds, source: "override" };
  const { source, directives } = governingDirectives(response.fields);
  for (const name of ["s-maxage", "max-age"] as const) {
    // A targeted field speaks to shared caches already: s-maxage has no meaning of its own there, but is harmless.
    const seconds = deltaSeconds(directives, name);
    if (seconds === "invalid") return { seconds: 0, source: "invalid" };
    if (seconds !== undefined) return { seconds, source: name };
  }
  if (source === "cache-control") {
    const lines = fieldLines(response.fields, "expires");
    if (lines.length > 0) {
      // Section 4.2: several or unreadable Expires values count as a time in the past.
      const distinct = new Set(lines);
      const expires = distinct.size === 1 ? parseHttpDate(lines[0] ?? "", responseTime) : undefined;
      if (expires === undefined) return { seconds: 0, source: "invalid" };
      const seconds = Math.floor((expires - dateValue(response, responseTime)) / 1_000);
      return { seconds: Math.min(Math.max(0, seconds), DELTA_SECONDS_MAX), source: "expires" };
    }
  }
  const negativeSeconds = negativeTtlSeconds(response.status, policy);
  if (negativeSeconds > 0) return { seconds: negativeSeconds, source: "negative" };
  // An answer that sets a cookie is likely one user's own: configuration does not make it everybody's.
  if (hasField(response.fields, "set-cookie") || directives.has("no-cache")) return NO_LIFETIME;
  if (
    policy.defaultTtlSeconds !== null &&
    HEURISTICALLY_CACHEABLE.has(response.status) &&
    response.status < 400
  )
    return { seconds: policy.defaultTtlSeconds, source: "default" };
  // Section 4.2.2: for statuses that are cacheable by default, and for those that the origin marks as public.
  if (HEURISTICALLY_CACHEABLE.has(response.status) || directives.has("public")) {
    const seconds = Math.min(heuristicSeconds(response, responseTime), policy.heuristicTtlSecondsMax);
    if (seconds > 0) return { seconds, source: "heuristic" };
  }
  return NO_LIFETIME;
}

const PAGE = /^\s*(?:text\/html|application\/(?:xhtml\+xml|json|[^;,\s]+\+json))\s*(?:;|$)/i;

/**
 * Whether a successful answer is a page or JSON where a rule expects something else: what web cache deception leads to
 * (Gil, "Web Cache Deception Attack", 2017), `/account/x.css` answered like `/account`.
 */
export function isUnexpectedPage(response: ResponseHead, { refusesPages }: RequestPolicy): boolean {
  return (
    refusesPages &&
    response.status < 400 &&
    fieldLines(response.fields, "content-type").some((line) => PAGE.test(line))
  );
}

/** What the policy gives to errors that state no lifetime, seconds; 0: none. */
function negativeTtlSeconds(status: number, policy: RequestPolicy): number {
  const { notFoundTtlSeconds, goneTtlSeconds, serverErrorTtlSeconds } = policy;
  if (status === 404) return notFoundTtlSeconds ?? policy.negativeTtlSeconds;
  if (status === 410) return goneTtlSeconds ?? policy.negativeTtlSeconds;
  return status >= 500 ? (serverErrorTtlSeconds ?? policy.negativeTtlSeconds) : 0;
}

const NO_LIFETIME: Lifetime = { seconds: 0, source: "none" };

/** Section 4.2.2: "a typical setting of this fraction might be 10%" of the time since the last modification. */
const HEURISTIC_SHARE = 0.1;

/** What Last-Modified says about freshness, whole seconds; 0: nothing, also when it lies after Date or stands there twice. */
function heuristicSeconds(response: ResponseHead, responseTime: EpochMs): number {
  const lines = fieldLines(response.fields, "last-modified");
  const modifiedAt = lines.length === 1 ? parseHttpDate(lines[0] ?? "", responseTime) : undefined;
  if (modifiedAt === undefined) return 0;
  return Math.max(
    0,
    Math.floor(((dateValue(response, responseTime) - modifiedAt) / 1_000) * HEURISTIC_SHARE),
  );
}

/**
 * Age of a message as the sender states it, seconds; 0 when absent, `invalid` when it cannot be read. One line that is a
 * list counts by its first member (RFC 9111, section 5.1); several lines, or a list with the blank that joining lines
 * leaves behind (RFC 9110, section 5.3), contradict each other and are invalid.
 */
export function ageValue(response: ResponseHead): number | "invalid" {
  const lines = fieldLines(response.fields, "age");
  if (lines.length === 0) return 0;
  const match = lines.length === 1 ? /^([0-9]+)(?:,[^\s].*)?$/.exec(lines[0] ?? "") : null;
  if (match === null) return "invalid";
  const digits = match[1] ?? "";
  return digits.length > 10 ? DELTA_SECONDS_MAX : Math.min(Number(digits), DELTA_SECONDS_MAX);
}

/** RFC 9111, section 4.2.3: max(0, response_time - date_value), in ms. */
export function apparentAgeMs(response: ResponseHead, times: ExchangeTimes): number {
  return Math.max(0, times.responseTime - dateValue(response, times.responseTime));
}

/** RFC 9111, section 4.2.3, corrected_initial_age in ms; Infinity when Age cannot be read, so that it counts as stale. */
export function correctedInitialAgeMs(response: ResponseHead, times: ExchangeTimes): number {
  const age = ageValue(response);
  if (age === "invalid") return Number.POSITIVE_INFINITY;
  const responseDelayMs = Math.max(0, times.responseTime - times.requestTime);
  return Math.max(apparentAgeMs(response, times), age * 1_000 + responseDelayMs);
}

/** RFC 9111, section 4.2.3, resident_time in ms; never negative, though a wall clock may step back. */
export function residentTimeMs(times: ExchangeTimes, now: EpochMs): number {
  return Math.max(0, now - times.responseTime);
}

/** RFC 9111, section 4.2.3: current_age = corrected_initial_age + resident_time, in ms, >= 0. */
export function currentAgeMs(response: ResponseHead, times: ExchangeTimes, now: EpochMs): number {
  return correctedInitialAgeMs(response, times) + residentTimeMs(times, now);
}

/** How a stored response stands at `now`. */
export interface Freshness {
  /** Whole seconds for the Age field (RFC 9111, section 5.1), rounded down, capped at 2^31. */
  readonly ageSeconds: number;
  readonly lifetime: Lifetime;
  /** Remaining freshness in seconds, may be negative: `ttl` of RFC 9211. */
  readonly ttlSeconds: number;
  readonly isFresh: boolean;
}

/** Freshness of a stored response (RFC 9111, section 4.2): fresh while its lifetime exceeds its current age. */
export function freshness(
  response: ResponseHead & ExchangeTimes,
  policy: RequestPolicy,
  now: EpochMs,
): Freshness {
  const lifetime = freshnessLifetime(response, policy, response.responseTime);
  const ageMs = currentAgeMs(response, response, now);
  const ageSeconds = Math.min(Math.floor(ageMs / 1_000), DELTA_SECONDS_MAX);
  const ttlSeconds = lifetime.seconds - ageSeconds;
  return { ageSeconds, lifetime, ttlSeconds, isFresh: lifetime.seconds * 1_000 > ageMs };
}

/** For how long a stored response is fresh without a break, and from when its age counts. */
export interface FreshWindow {
  /** When its age was 0, epoch ms: at `now` its age is floor((now - bornAt) / 1000) seconds. */
  readonly bornAt: number;
  /** Fresh before this, epoch ms. */
  readonly freshUntil: number;
  readonly lifetimeSeconds: number;
}

/**
 * {@link freshness} for all times at once: from `response.responseTime` on, `isFresh` holds while `now < freshUntil`.
 * Undefined when it is never fresh or its age is not known.
 */
export function freshWindow(
  response: ResponseHead & ExchangeTimes,
  policy: RequestPolicy,
): FreshWindow | undefined {
  const { seconds } = freshnessLifetime(response, policy, response.responseTime);
  const initialAgeMs = correctedInitialAgeMs(response, response);
  if (!Number.isFinite(initialAgeMs) || seconds <= 0) return undefined;
  const bornAt = response.responseTime - initialAgeMs;
  return { bornAt, freshUntil: bornAt + seconds * 1_000, lifetimeSeconds: seconds };
}

/** Serving stale responses (RFC 9111, section 4.2.4; RFC 5861). */
import { deltaSeconds, governingDirectives } from "./cache-control.ts";
import type { Freshness } from "./freshness.ts";
import type { ResponseHead } from "./messages.ts";
import type { RequestPolicy } from "./policy.ts";
import { requiresValidation } from "./storable.ts";

/** For how long beyond its lifetime a response may be used, seconds; 0: not at all. */
export interface StaleWindows {
  readonly whileRevalidateSeconds: number;
  readonly ifErrorSeconds: number;
}

const NONE: StaleWindows = { whileRevalidateSeconds: 0, ifErrorSeconds: 0 };

/**
 * The windows of a response. must-revalidate, proxy-revalidate and an unqualified no-cache close both (RFC 9111, sections
 * 5.2.2.2, 5.2.2.8, 5.2.2.4). s-maxage implies proxy-revalidate (section 5.2.2.10) and so closes what only the property
 * would allow; a window that the response states itself is the origin's own word and stays open beside s-maxage.
 * A response that never stated a lifetime gets no window from the property: nobody said that others may see it.
 */
export function staleWindows(response: ResponseHead, policy: RequestPolicy, fresh: Freshness): StaleWindows {
  const { directives } = governingDirectives(response.fields);
  if (policy.overrideTtlSeconds === null) {
    if (directives.has("must-revalidate") || directives.has("proxy-revalidate")) return NONE;
    if (requiresValidation(response, policy)) return NONE;
  }
  const isPropertyHeard =
    fresh.lifetime.source !== "none" &&
    fresh.lifetime.source !== "invalid" &&
    (!directives.has("s-maxage") || policy.overrideTtlSeconds !== null);
  const window = (name: string, ofProperty: number): number => {
    const stated = deltaSeconds(directives, name);
    if (stated === "invalid") return 0;
    return stated ?? (isPropertyHeard ? ofProperty : 0);
  };
  return {
    whileRevalidateSeconds: window("stale-while-revalidate", policy.staleWhileRevalidateSeconds),
    ifErrorSeconds: window("stale-if-error", policy.staleIfErrorSeconds),
  };
}

/** Seconds since the response became stale, >= 0; Infinity when its age is unknown. */
function stalenessSeconds(fresh: Freshness): number {
  return fresh.isFresh ? 0 : Math.max(0, -fresh.ttlSeconds);
}

/** RFC 5861, section 3: may be served at once while it is validated in the background. */
export function mayServeStaleWhileRevalidate(
  response: ResponseHead,
  policy: RequestPolicy,
  fresh: Freshness,
): boolean {
  return isWithin(stalenessSeconds(fresh), staleWindows(response, policy, fresh).whileRevalidateSeconds);
}

/** RFC 5861, section 4: may be served when the origin fails. */
export function mayServeStaleIfError(
  response: ResponseHead,
  policy: RequestPolicy,
  fresh: Freshness,
): boolean {
  return isWithin(stalenessSeconds(fresh), staleWindows(response, policy, fresh).ifErrorSeconds);
}

const isWithin = (staleness: number, windowSeconds: number): boolean =>
  windowSeconds > 0 && staleness <= windowSeconds;

/** RFC 5861, section 4: what counts as an error. */
export function isServerFailure(status: number): boolean {
  return status === 500 || status === 502 || status === 503 || status === 504;
}

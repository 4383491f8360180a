/** Answers to POST that later GETs may be answered with (RFC 9110, section 9.3.3; RFC 9111, section 4, its third paragraph). */
import { freshness } from "./freshness.ts";
import { hasField } from "./headers.ts";
import { isOwnRepresentation } from "./invalidation.ts";
import type { ExchangeTimes, RequestHead, ResponseHead, StoredHead } from "./messages.ts";
import type { RequestPolicy } from "./policy.ts";
import { storable } from "./storable.ts";
import { storedHead } from "./stored-head.ts";

/** Lifetimes that the origin itself has stated. */
const EXPLICIT: ReadonlySet<string> = new Set(["s-maxage", "max-age", "expires"]);

/**
 * The head under which the answer to a POST is kept for GETs of its target; undefined: it is not. It has to say that it is that
 * resource's representation and for how long it is fresh. What could make it one user's own (credentials, cookies), or one
 * request's (Vary: nobody has asked with a GET's fields), is left alone.
 */
export function postedHead(
  request: RequestHead,
  response: ResponseHead,
  policy: RequestPolicy,
  times: ExchangeTimes,
  generation: number,
): StoredHead | undefined {
  if (request.method !== "POST" || response.status !== 200) return undefined;
  if (!isOwnRepresentation(request, response)) return undefined;
  if (hasField(request.fields, "authorization") || hasField(request.fields, "cookie")) return undefined;
  if (hasField(response.fields, "set-cookie") || hasField(response.fields, "vary")) return undefined;
  const asGet: RequestHead = { ...request, method: "GET" };
  if (!storable(asGet, response, policy, times.responseTime).isStorable) return undefined;
  const head = storedHead(asGet, response, times, generation);
  const { lifetime, isFresh } = freshness(head, policy, times.responseTime);
  return EXPLICIT.has(lifetime.source) && isFresh ? head : undefined;
}

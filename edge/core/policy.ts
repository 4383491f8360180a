/** What the customer's property says about one request: its rules folded into one flat policy. */
import type { CachingPolicy, PropertyDocument } from "#kit";

/** The policy that the decisions read; every field is settled. */
export interface RequestPolicy extends CachingPolicy {
  /** Never store and never answer from the cache. */
  readonly bypass: boolean;
  /** Index of the first rule that matched, null when none did: what `explain` shows. */
  readonly ruleIndex: number | null;
}

/**
 * The policy of a cache that was told nothing: the origin decides as RFC 9111 has it, heuristics included (a day at most, as Squid
 * and httpd), and stale answers are kept a day for its outages.
 */
export const PLAIN_POLICY: RequestPolicy = {
  defaultTtlSeconds: null,
  overrideTtlSeconds: null,
  staleWhileRevalidateSeconds: 0,
  staleIfErrorSeconds: 86_400,
  heuristicTtlSecondsMax: 86_400,
  negativeTtlSeconds: 0,
  storeSetCookie: "always",
  keyQuery: "all",
  honourRequestDirectives: false,
  bypass: false,
  ruleIndex: null,
};

/** The path of a target, without its query. */
export function pathOf(target: string): string {
  const query = target.indexOf("?");
  return query === -1 ? target : target.slice(0, query);
}

/** The extension of a path's last segment in lower case, without dot; "" when it has none. */
export function extensionOf(path: string): string {
  const segment = path.slice(path.lastIndexOf("/") + 1);
  const dot = segment.lastIndexOf(".");
  return dot <= 0 ? "" : segment.slice(dot + 1).toLowerCase();
}

/** Whether every stated match of a rule holds for a path (case-sensitive prefix, extension without case). */
function matches(
  match: PropertyDocument["rules"][number]["match"],
  path: string,
  extension: string,
): boolean {
  if (match.pathPrefix !== undefined && !path.startsWith(match.pathPrefix)) return false;
  return match.extensions === undefined || match.extensions.includes(extension);
}

/**
 * The policy for `target`. For each setting the first matching rule that states it wins; what no rule states is the
 * property's own (kit/documents/property.ts).
 */
export function policyFor(
  property: Pick<PropertyDocument, "caching" | "rules">,
  target: string,
): RequestPolicy {
  const path = pathOf(target);
  const extension = extensionOf(path);
  const stated: {
    -readonly [K in
      | "bypass"
      | "overrideTtlSeconds"
      | "defaultTtlSeconds"
      | "staleWhileRevalidateSeconds"
      | "staleIfErrorSeconds"]?: RequestPolicy[K];
  } = {};
  let ruleIndex: number | null = null;
  for (const [index, rule] of property.rules.entries()) {
    if (!matches(rule.match, path, extension)) continue;
    ruleIndex ??= index;
    if (rule.bypass !== undefined) stated.bypass ??= rule.bypass;
    if (rule.overrideTtlSeconds !== undefined && stated.overrideTtlSeconds === undefined)
      stated.overrideTtlSeconds = rule.overrideTtlSeconds;
    if (rule.defaultTtlSeconds !== undefined && stated.defaultTtlSeconds === undefined)
      stated.defaultTtlSeconds = rule.defaultTtlSeconds;
    if (rule.staleWhileRevalidateSeconds !== undefined)
      stated.staleWhileRevalidateSeconds ??= rule.staleWhileRevalidateSeconds;
    if (rule.staleIfErrorSeconds !== undefined) stated.staleIfErrorSeconds ??= rule.staleIfErrorSeconds;
  }
  return { ...property.caching, bypass: false, ...stated, ruleIndex };
}

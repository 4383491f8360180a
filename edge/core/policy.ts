/** What the customer's property says about one request: its rules folded into one flat policy. */
import type { CachingPolicy, QueryKey } from "#kit";

/** The policy that the decisions read; every field is settled. */
export interface RequestPolicy extends Omit<CachingPolicy, "keyQuery"> {
  /** Which part of the query belongs to the key. */
  readonly keyQuery: QueryKey;
  /** What follows the URL in the key (rules/key-parts.ts), "" for nothing. */
  readonly keyParts: string;
  /** Never store and never answer from the cache. */
  readonly bypass: boolean;
  /** Pages and JSON are not stored: a rule gives the path a lifetime, and it has the extension of something else. */
  readonly refusesPages: boolean;
  /** Index of the first rule that matched, null when none did: what `explain` shows. */
  readonly ruleIndex: number | null;
}

/**
 * The policy of a cache that was told nothing: the origin decides as RFC 9111 has it, heuristics included (a day at most, as Squid
 * and httpd), and stale answers are kept a day for its outages.
 */
export const PLAIN_POLICY: RequestPolicy & CachingPolicy = {
  defaultTtlSeconds: null,
  overrideTtlSeconds: null,
  staleWhileRevalidateSeconds: 0,
  staleIfErrorSeconds: 86_400,
  heuristicTtlSecondsMax: 86_400,
  negativeTtlSeconds: 0,
  notFoundTtlSeconds: null,
  goneTtlSeconds: null,
  serverErrorTtlSeconds: null,
  storeSetCookie: "always",
  keyQuery: "all",
  keyParts: "",
  honourRequestDirectives: false,
  bypass: false,
  refusesPages: false,
  ruleIndex: null,
};

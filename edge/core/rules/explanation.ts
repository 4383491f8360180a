/** What a property's rules make of one request, told: for a running server and for a document that nobody serves yet. */
import type {
  AccessPolicy,
  CountryTable,
  EpochMs,
  FieldEdits,
  OriginTarget,
  PropertyDocument,
  Rule,
} from "#kit";
import { judgeToken, type MacCheck, type TokenRefusal, withoutToken } from "../access/token.ts";
import { type CacheKey, cacheKey } from "../cache-key.ts";
import { type Field, type Fields, isFieldValue, isToken } from "../headers.ts";
import type { RequestHead } from "../messages.ts";
import type { RequestPolicy } from "../policy.ts";
import { locationOf, rewriteTarget } from "./edits.ts";
import { type RuleTrace, ruleSetOf } from "./rule-set.ts";

export interface RuleExplanation {
  /** The first rule that holds; null: none does. */
  readonly ruleIndex: number | null;
  readonly rules: readonly RuleTrace[];
  readonly ruled: {
    /** What a client gets in place of what it asks for; null: nothing. */
    readonly answer: { readonly status: number; readonly location: string | null } | null;
    /** Index of the rule that denies. */
    readonly deniedBy: number | null;
    /** Null: none is required. `not-judged`: the keys are not known here. */
    readonly token: TokenRefusal | "valid" | "not-judged" | null;
    /** What an origin is asked for. */
    readonly target: string;
    readonly rewrite: NonNullable<Rule["rewrite"]> | null;
    /** In place of the property's own; null: these. */
    readonly origins: readonly OriginTarget[] | null;
    readonly requestHeaders: FieldEdits | null;
    readonly responseHeaders: FieldEdits | null;
    readonly isCompressed: boolean;
    readonly isPrefetching: boolean;
    /** Whether hits may be remembered for the URL alone. */
    readonly isRememberable: boolean;
  };
  readonly policy: RequestPolicy;
  readonly key: CacheKey;
}

export interface ExplainedRequest {
  readonly property: Pick<PropertyDocument, "caching" | "rules" | "compression" | "prefetch" | "access">;
  readonly sent: RequestHead;
  /** The host that keys name. */
  readonly keyHost: string;
  readonly clientAddress: string | undefined;
  readonly countries: CountryTable | undefined;
  /** Undefined: tokens are not judged. */
  readonly checkOf: ((access: AccessPolicy) => MacCheck) | undefined;
  readonly now: EpochMs;
}

export function explainRules(asked: ExplainedRequest): RuleExplanation {
  const { property, sent, keyHost, clientAddress, countries, checkOf, now } = asked;
  const { access } = property;
  const head = access === undefined ? sent : withoutToken(sent, access.parameter);
  const { method, target, fields } = head;
  const request = { method, host: keyHost, target, fields, clientAddress, countries };
  const set = ruleSetOf(property);
  const rules = set.outcome(request);
  const token =
    !rules.requiresToken || access === undefined
      ? null
      : checkOf === undefined
        ? "not-judged"
        : (judgeToken(sent, access, checkOf(access), now) ?? "valid");
  const isRefused =
    rules.deniedBy !== undefined || (token !== null && token !== "valid" && token !== "not-judged");
  const { redirect, rewrite, policy } = rules;
  return {
    ruleIndex: policy.ruleIndex,
    rules: set.trace(request),
    ruled: {
      answer: isRefused
        ? { status: 403, location: null }
        : redirect === undefined
          ? null
          : {
              status: redirect.status ?? 302,
              location: locationOf(redirect.location, { ...sent, host: keyHost }),
            },
      deniedBy: rules.deniedBy ?? null,
      token,
      target: rewrite === undefined ? target : rewriteTarget(target, rewrite),
      rewrite: rewrite ?? null,
      origins: rules.origins ?? null,
      requestHeaders: rules.requestHeaders ?? null,
      responseHeaders: rules.responseHeaders ?? null,
      isCompressed: rules.compression ?? property.compression.isEnabled,
      isPrefetching: rules.prefetch ?? property.prefetch.isEnabled,
      isRememberable: !rules.dependsOnRequest,
    },
    policy,
    key: cacheKey({ scheme: sent.scheme, host: keyHost, target }, policy),
  };
}

const LINES_MAX = 32;

/** Header lines `name: value` of a request that is only explained; undefined: one of them is none. */
export function explainedFields(lines: readonly string[]): Fields | undefined {
  if (lines.length > LINES_MAX) return undefined;
  const fields: Field[] = [];
  for (const line of lines) {
    const colon = line.indexOf(":");
    const [name, value] = [line.slice(0, Math.max(0, colon)), line.slice(colon + 1).trim()];
    if (!isToken(name) || !isFieldValue(value)) return undefined;
    fields.push([name, value]);
  }
  return fields;
}

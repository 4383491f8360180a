/** A property's rules compiled: once for each version of it, alike on every server. */
import {
  changesContent,
  type FieldEdits,
  type OriginTarget,
  type PropertyDocument,
  readsRequest,
  type Rule,
  type RuleCondition,
  xxh64Hex,
} from "#kit";
import type { RequestPolicy } from "../policy.ts";
import { type CompiledCondition, compileCondition, conditionHolds, type Test } from "./conditions.ts";
import { keyParts } from "./key-parts.ts";
import { isOfNoPage } from "./extensions.ts";
import { hidesParent, laxPath, normalPath, pathOf, RequestFacts, type RuleRequest } from "./request-facts.ts";
import { RuleIndex } from "./rule-index.ts";

/** What a property's rules say about one request. */
export interface RuleOutcome {
  readonly policy: RequestPolicy;
  /** Indices of the rules that hold, in order. */
  readonly matched: readonly number[];
  /** Another request for the same URL could meet other rules, have another key, or be refused. */
  readonly dependsOnRequest: boolean;
  /** The first that states it: each undefined when none does. */
  readonly origins: readonly OriginTarget[] | undefined;
  readonly rewrite: Rule["rewrite"];
  readonly requestHeaders: FieldEdits | undefined;
  readonly responseHeaders: FieldEdits | undefined;
  readonly compression: boolean | undefined;
  readonly prefetch: boolean | undefined;
  readonly redirect: Rule["redirect"];
  /** Whoever comes without a valid token is refused. */
  readonly requiresToken: boolean;
  /** Index of the rule that denies. */
  readonly deniedBy: number | undefined;
}

/** One rule as `explain` tells of it. `failed`: the first condition that did not hold. */
export interface RuleTrace {
  readonly index: number;
  readonly isMatched: boolean;
  readonly failed: string | null;
}

interface CompiledRule {
  readonly rule: Rule;
  readonly own: CompiledCondition;
  readonly any: readonly CompiledCondition[];
  readonly not: readonly CompiledCondition[];
  readonly readsRequest: boolean;
  /** Stands in the key of what is stored under it, where the URL does not say that it holds. It names the rule as it is now. */
  readonly id: string | undefined;
}

type Stated = { -readonly [K in keyof RequestPolicy]?: RequestPolicy[K] };

const SETTINGS = [
  "bypass",
  "overrideTtlSeconds",
  "defaultTtlSeconds",
  "negativeTtlSeconds",
  "notFoundTtlSeconds",
  "goneTtlSeconds",
  "serverErrorTtlSeconds",
  "staleWhileRevalidateSeconds",
  "staleIfErrorSeconds",
] as const;

export class RuleSet {
  readonly #caching: PropertyDocument["caching"];
  readonly #rules: readonly CompiledRule[];
  readonly #index: RuleIndex;
  /** Whether it depends on the request what is done about prefetching. */
  readonly statesPrefetch: boolean;
  /** Whether some rule refuses requests. */
  readonly #refuses: boolean;
  /** Of a request that no rule means. */
  readonly #plain: RuleOutcome;

  constructor(property: Pick<PropertyDocument, "caching" | "rules">) {
    this.#caching = property.caching;
    const rules = property.rules.map((one) => ({ ...one, match: normalMatch(one.match) }));
    this.#rules = rules.map(compileRule);
    this.#refuses = rules.some(({ deny, requireToken }) => deny === true || requireToken === true);
    this.statesPrefetch = rules.some(({ prefetch }) => prefetch !== undefined);
    this.#index = new RuleIndex(rules);
    this.#plain = this.#outcome([], false, undefined);
  }

  outcome(request: RuleRequest): RuleOutcome {
    if (this.#rules.length === 0) return this.#plain;
    const facts = new RequestFacts(request);
    const outcome = this.#outcomeFor(facts);
    const lax = this.#refuses ? laxPath(facts.path) : facts.path;
    if (lax === facts.path) return outcome;
    // Whichever of the two the origin sees behind it: who may not have one of them gets neither.
    const query = request.target.slice(pathOf(request.target).length);
    const other = this.#outcomeFor(new RequestFacts({ ...request, target: lax + query }));
    return {
      ...outcome,
      deniedBy: outcome.deniedBy ?? other.deniedBy,
      requiresToken: outcome.requiresToken || other.requiresToken,
      dependsOnRequest: outcome.dependsOnRequest || other.dependsOnRequest,
    };
  }

  #outcomeFor(facts: RequestFacts): RuleOutcome {
    const matched: number[] = [];
    let dependsOnRequest = false;
    for (const index of this.#index.candidates(facts)) {
      const one = this.#rules[index] as CompiledRule;
      if (!holdAll(one.own.url, facts)) continue;
      if (one.readsRequest) dependsOnRequest = true;
      if (failedOf(one, facts) === null) matched.push(index);
    }
    return matched.length === 0 && !dependsOnRequest && !hidesParent(facts.path)
      ? this.#plain
      : this.#outcome(matched, dependsOnRequest, facts);
  }

  /** Rule by rule, whether it holds and why not. */
  trace(request: RuleRequest): readonly RuleTrace[] {
    const facts = new RequestFacts(request);
    return this.#rules.map((one, index) => {
      const failed = failedOf(one, facts);
      return { index, isMatched: failed === null, failed };
    });
  }

  #outcome(matched: readonly number[], isRequests: boolean, facts: RequestFacts | undefined): RuleOutcome {
    const stated: Stated = {};
    const rules = matched.map((index) => this.#rules[index] as CompiledRule);
    for (const name of SETTINGS) {
      const value = first(rules, name);
      if (value !== undefined) (stated as Record<string, unknown>)[name] = value;
    }
    const key = first(rules, "key") ?? {};
    const parts =
      facts === undefined
        ? ""
        : keyParts(
            key,
            rules.flatMap(({ id }) => id ?? []),
            facts,
          );
    const policy: RequestPolicy = {
      ...this.#caching,
      bypass: false,
      ...stated,
      // Nobody knows what is asked for, or the key would be too long.
      ...((parts === undefined || (facts !== undefined && hidesParent(facts.path))) && { bypass: true }),
      refusesPages:
        facts !== undefined &&
        ((stated.overrideTtlSeconds ?? 0) > 0 || (stated.defaultTtlSeconds ?? 0) > 0) &&
        isOfNoPage(facts.extension),
      keyQuery: key.query ?? this.#caching.keyQuery,
      keyParts: parts ?? "",
      ruleIndex: matched[0] ?? null,
    };
    const isKeyed = key.device === true || (key.headers ?? key.cookies) !== undefined;
    const requiresToken = first(rules, "requireToken") === true;
    const denied = rules.findIndex(({ rule }) => rule.deny === true);
    return {
      policy,
      matched,
      dependsOnRequest: isRequests || isKeyed || requiresToken,
      origins: first(rules, "origins"),
      rewrite: first(rules, "rewrite"),
      requestHeaders: first(rules, "requestHeaders"),
      responseHeaders: first(rules, "responseHeaders"),
      compression: first(rules, "compression"),
      prefetch: first(rules, "prefetch"),
      redirect: first(rules, "redirect"),
      requiresToken,
      deniedBy: denied === -1 ? undefined : matched[denied],
    };
  }
}

/** A condition whose paths are written as those of requests are compared. */
function normalCondition(one: RuleCondition): RuleCondition {
  return {
    ...one,
    ...(one.path !== undefined && { path: one.path.map(normalPath) }),
    ...(one.pathPrefix !== undefined && { pathPrefix: normalPath(one.pathPrefix) }),
    ...(one.pathGlob !== undefined && { pathGlob: normalPath(one.pathGlob) }),
  };
}

function normalMatch({ any, not, ...own }: Rule["match"]): Rule["match"] {
  return {
    ...normalCondition(own),
    ...(any !== undefined && { any: any.map(normalCondition) }),
    ...(not !== undefined && { not: not.map(normalCondition) }),
  };
}

function compileRule(rule: Rule): CompiledRule {
  const { any = [], not = [], ...own } = rule.match;
  const isRequests = readsRequest(rule.match);
  const readsQuery = [own, ...any, ...not].some(({ query }) => query !== undefined);
  return {
    rule,
    own: compileCondition(own),
    any: any.map(compileCondition),
    not: not.map(compileCondition),
    readsRequest: isRequests,
    // The key may have no query, or a part of it only.
    id: (isRequests || readsQuery) && changesContent(rule) ? xxh64Hex(JSON.stringify(rule)) : undefined,
  };
}

const holdAll = (tests: readonly Test[], facts: RequestFacts): boolean =>
  tests.every(({ holds }) => holds(facts));

/** The first condition of a rule that does not hold; null: it holds. */
function failedOf({ own, any, not }: CompiledRule, facts: RequestFacts): string | null {
  for (const { name, holds } of own.url) if (!holds(facts)) return name;
  for (const { name, holds } of own.request) if (!holds(facts)) return name;
  if (any.length > 0 && !any.some((one) => conditionHolds(one, facts))) return "any";
  const excluding = not.findIndex((one) => conditionHolds(one, facts));
  return excluding === -1 ? null : `not[${excluding}]`;
}

/** What the first rule says that states it. */
function first<K extends keyof Rule>(rules: readonly CompiledRule[], name: K): Rule[K] {
  for (const { rule } of rules) if (rule[name] !== undefined) return rule[name];
  return undefined as Rule[K];
}

const compiled = new WeakMap<object, RuleSet>();

/** The rules of a property, which does not change, compiled when they are first asked for. */
export function ruleSetOf(property: Pick<PropertyDocument, "caching" | "rules">): RuleSet {
  let rules = compiled.get(property);
  if (rules === undefined) compiled.set(property, (rules = new RuleSet(property)));
  return rules;
}

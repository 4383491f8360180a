/**
 * One request through the edge: property, loop check, policy, key, look-up, decision, and then the way the decision names.
 * Policy is in the core; here are the waiting and the bytes.
 */
import type { Clock, CountryTable } from "#kit";
import { judgeToken, type TokenRefusal, withoutToken } from "../core/access/token.ts";
import { BEACON_PATH } from "../core/beacon.ts";
import { type CacheKey, cacheKey } from "../core/cache-key.ts";
import { selectingFields } from "../core/compression/accept-encoding.ts";
import { decideRequest, type RequestDecision } from "../core/decide.ts";
import { freshWindow } from "../core/freshness.ts";
import { fieldValue, hasField } from "../core/headers.ts";
import { isLoop } from "../core/loops.ts";
import type { RequestHead } from "../core/messages.ts";
import { isPart } from "../core/parts.ts";
import type { PurgeIndex } from "../core/purge-index.ts";
import { editFields, locationOf } from "../core/rules/edits.ts";
import { explainRules, type RuleExplanation } from "../core/rules/explanation.ts";
import { type RuleOutcome, ruleSetOf } from "../core/rules/rule-set.ts";
import { requestKeyOf } from "../core/slices.ts";
import type { AccessKeys } from "./access-keys.ts";
import { type Answers, faultOf } from "./answers.ts";
import type { Beacon } from "./beacon.ts";
import type { HopFields } from "../core/tiers.ts";
import type { Answer, AnswerRecord, HitMemo, Inbound, Outcome } from "./exchange.ts";
import type { Fetcher } from "./fetcher.ts";
import type { StoredObject } from "./memory-store.ts";
import type { EdgeMetrics } from "./metrics.ts";
import type { ObjectStore } from "./object-store.ts";
import type { Passer } from "./passer.ts";
import type { RequestPlan, RequestPlanner } from "./request-plan.ts";
import { type PropertyView, type Routing, withKeyHost } from "./routing.ts";
import type { SiblingTier } from "./sibling-tier.ts";
import { isOutOfDate } from "./slices.ts";

export interface HandlerOptions {
  readonly routing: Routing;
  readonly answers: Answers;
  readonly fetcher: Fetcher;
  readonly passer: Passer;
  readonly planner: RequestPlanner;
  readonly store: ObjectStore;
  readonly purges: PurgeIndex;
  readonly clock: Clock;
  readonly metrics: EdgeMetrics;
  /** Name in Cache-Status, Via and CDN-Loop. */
  readonly cacheName: string;
  /** The other workers of this server; undefined when it is one process. */
  readonly siblings: SiblingTier | undefined;
  /** Of tokens; undefined: no property has any. */
  readonly accessKeys: AccessKeys | undefined;
  readonly countries: CountryTable | undefined;
  /** Takes timings of users; undefined: of a cache alone, which has nobody to tell. */
  readonly beacon: Beacon | undefined;
}

/** What the answer to a request without a valid token says. */
const TOKEN_REFUSALS: Readonly<Record<TokenRefusal, string>> = {
  missing: "This address needs a token.",
  malformed: "The token of this address is malformed.",
  "unknown-key": "The token of this address is signed with a key that is not known.",
  wrong: "The token of this address has a wrong signature.",
  expired: "The token of this address has expired.",
  path: "The token of this address is for other paths.",
};

/** Times that a request is decided anew because the object in slices turned out to be another one now. */
const RESTARTS_MAX = 2;

const NO_HOP: { readonly hop: HopFields } = { hop: { tier: undefined, isOwner: false } };

/** Who sends a request. */
type Sender = Pick<Inbound, "peer" | "remoteAddress">;

type Decision = RequestDecision<StoredObject>;

export class EdgeHandler {
  readonly #o: HandlerOptions;

  constructor(options: HandlerOptions) {
    this.#o = options;
  }

  /** The plan for a request; undefined when no active property has its host. */
  plan(sent: RequestHead, from?: Sender): RequestPlan | undefined {
    const found = this.#o.routing.propertyOf(sent.host);
    if (found === undefined) return undefined;
    const { property, keyHost } = found;
    const { access } = property;
    const head = access === undefined ? sent : withoutToken(sent, access.parameter);
    const rules = ruleSetOf(property).outcome({
      method: head.method,
      host: keyHost,
      target: head.target,
      fields: head.fields,
      clientAddress: from?.peer === undefined ? from?.remoteAddress : undefined,
      countries: this.#o.countries,
    });
    const { policy } = rules;
    const settled = settledBy(rules, property);
    const key = cacheKey({ scheme: head.scheme, host: keyHost, target: head.target }, policy);
    const keyed = withKeyHost(head, keyHost);
    return {
      head: settled.compression.isEnabled ? { ...keyed, fields: selectingFields(keyed.fields) } : keyed,
      property: settled,
      keyHost,
      policy,
      key,
      purgeScope: property.propertyId ?? "",
      rules,
    };
  }

  /** What rules make of a request, as {@link plan} judges it; undefined when that is. */
  explainRules(sent: RequestHead, from?: Sender): RuleExplanation | undefined {
    const found = this.#o.routing.propertyOf(sent.host);
    if (found === undefined) return undefined;
    const { accessKeys, countries, clock } = this.#o;
    return explainRules({
      ...found,
      sent,
      clientAddress: from?.peer === undefined ? from?.remoteAddress : undefined,
      countries,
      checkOf: accessKeys && ((access) => accessKeys.checkOf(access)),
      now: clock.epoch(),
    });
  }

  /** What would be done with a request now, and with which stored response. `inbound`: who asks; a client by default. */
  async decide(plan: RequestPlan, inbound: Pick<Inbound, "hop"> = NO_HOP): Promise<Decision> {
    const found = this.#o.store.lookup(plan.key);
    return this.#decideWith(plan, inbound, found instanceof Promise ? await found : found);
  }

  #decideWith(plan: RequestPlan, inbound: Pick<Inbound, "hop">, variants: readonly StoredObject[]): Decision {
    return decideRequest({
      request: plan.head,
      policy: plan.policy,
      variants,
      purgeStateOf: (stored) => this.#o.purges.stateOf(plan.purgeScope, plan.key, stored),
      ...(hasField(plan.head.fields, "range") && {
        sliceBytes: this.#o.planner.sliceBytes(plan, inbound),
        partBytesMax: this.#o.planner.partBytesMax(plan, inbound),
      }),
      now: this.#o.clock.epoch(),
    });
  }

  /** Answers a request; at once for a hit in memory. Never rejects for what clients, origins or peers do. */
  handle(inbound: Inbound): Answer | Promise<Answer> {
    const plan = this.plan(inbound.head, inbound);
    if (plan === undefined) {
      const probe = this.#o.beacon?.answerProbe(inbound);
      if (probe !== undefined) return probe;
      this.#o.metrics.refused("unknown-host");
      const text = `No property has the host "${inbound.head.host}" here.\n`;
      return this.#o.answers.refusal(421, text, undefined);
    }
    if (isLoop(inbound.head.fields, this.#o.cacheName)) {
      this.#o.metrics.refused("loop");
      // RFC 5842, section 7.2: 508 Loop Detected.
      return this.#o.answers.refusal(508, "This request has passed this server before (CDN-Loop).\n", plan);
    }
    if (plan.head.method === "OPTIONS" && isForThisServer(plan.head)) return this.#options(plan);
    // Where the client came in: for servers and workers of ours it has been judged, and they get answers as they are stored.
    if (inbound.peer !== undefined || inbound.isFromSibling === true) return this.#serve(inbound, plan);
    const ruled = this.#ruled(inbound, plan);
    if (ruled !== undefined) return ruled;
    if (plan.property.beacon !== undefined && isBeacon(inbound.head.target)) {
      const answer = this.#o.beacon?.answer(inbound, plan.property);
      if (answer !== undefined) return answer;
    }
    const { responseHeaders } = plan.rules;
    const answer = this.#serve(inbound, plan);
    if (responseHeaders === undefined) return answer;
    const edited = (one: Answer): Answer => ({ ...one, fields: editFields(one.fields, responseHeaders) });
    return answer instanceof Promise ? answer.then(edited) : edited(answer);
  }

  /** Why a client that sends a request is refused by what its plan says of tokens; undefined: it is not. */
  #tokenRefusalOf(sent: RequestHead, { rules, property }: RequestPlan): TokenRefusal | undefined {
    const { accessKeys, clock } = this.#o;
    if (!rules.requiresToken) return undefined;
    // Whatever the reason, nobody's token can be told from a false one then.
    if (property.access === undefined || accessKeys === undefined) return "unknown-key";
    return judgeToken(sent, property.access, accessKeys.checkOf(property.access), clock.epoch());
  }

  /** Whether rules answer a client's request, in place of what is asked for. */
  isRuled(inbound: Pick<Inbound, "head">, plan: RequestPlan): boolean {
    const { deniedBy, redirect } = plan.rules;
    return (deniedBy ?? redirect ?? this.#tokenRefusalOf(inbound.head, plan)) !== undefined;
  }

  /** Denied or sent elsewhere by a rule; undefined: neither. */
  #ruled(inbound: Inbound, plan: RequestPlan): Answer | undefined {
    const { deniedBy, redirect } = plan.rules;
    if (deniedBy !== undefined) {
      this.#o.metrics.refused("rule");
      return this.#o.answers.refusal(403, `Rule ${deniedBy} of this site denies the request.\n`, plan);
    }
    // Nobody gets what is prefetched: whoever asks for it then is judged.
    const refusal = inbound.isBackground === true ? undefined : this.#tokenRefusalOf(inbound.head, plan);
    if (refusal !== undefined) {
      this.#o.metrics.refused(`token-${refusal}`);
      return this.#o.answers.refusal(403, `${TOKEN_REFUSALS[refusal]}\n`, plan);
    }
    if (redirect === undefined) return undefined;
    // The client's own token goes on with it.
    const { target } = inbound.head;
    const record: AnswerRecord = {
      outcome: "bypass",
      status: undefined,
      propertyId: plan.property.propertyId,
      upstream: undefined,
    };
    return this.#o.answers.own(redirect.status ?? 302, "", record, [
      ["Location", locationOf(redirect.location, { ...plan.head, target })],
    ]);
  }

  #serve(inbound: Inbound, plan: RequestPlan): Answer | Promise<Answer> {
    const found = this.#o.store.lookup(plan.key);
    if (found instanceof Promise) return this.#answer(inbound, plan, undefined);
    const decision = this.#decideWith(plan, inbound, found);
    return decision.action === "hit" && decision.stored.sliced === null
      ? this.#hit(inbound, plan, decision)
      : this.#answer(inbound, plan, decision);
  }

  /** From the other worker that owns the key; undefined: it cannot help, or has no answer. */
  async #fromSibling(inbound: Inbound, plan: RequestPlan, decision: Decision): Promise<Answer | undefined> {
    const { siblings } = this.#o;
    if (siblings === undefined || decision.action === "hit") return undefined;
    if (decision.action === "hit-and-revalidate") {
      siblings.refresh(inbound, plan);
      return await this.#hit(inbound, plan, decision);
    }
    if (!mayOwnerHelp(decision)) return undefined;
    if (mayCopyHelp(decision) && (await siblings.copy(plan))) {
      const anew = await this.decide(plan, inbound);
      if (anew.action === "hit") return await this.#hit(inbound, plan, anew);
    }
    return await siblings.ask(inbound, plan);
  }

  /** Acts on decisions until one comes to an answer. `first`: the decision that was taken already. */
  async #answer(inbound: Inbound, plan: RequestPlan, first: Decision | undefined): Promise<Answer> {
    let restarts = 0;
    for (let tries = 0; ; tries++) {
      const decision = first !== undefined && tries === 0 ? first : await this.decide(plan, inbound);
      try {
        const isElsewhere = tries === 0 && this.#o.siblings?.isElsewhere(plan.key) === true;
        const theirs = isElsewhere ? await this.#fromSibling(inbound, plan, decision) : undefined;
        if (theirs !== undefined) return theirs;
        // The owner's fill goes on without its client; nobody is left here to begin another one for.
        if (inbound.signal.aborted) return this.#o.answers.refusal(503, "The client has gone.\n", plan);
        const answer = await this.#act(inbound, plan, decision, tries);
        if (answer !== undefined) return answer;
      } catch (error) {
        // Nothing of the object that is gone was sent; its head was dropped.
        if (isOutOfDate(error) && restarts++ < RESTARTS_MAX) continue;
        return this.#o.answers.failure(plan, faultOf(error), "partial");
      }
    }
  }

  /** The answer that a decision leads to; undefined: decide anew. Rejects when a slice of an object cannot be had. */
  #act(
    inbound: Inbound,
    plan: RequestPlan,
    decision: Decision,
    tries: number,
  ): Answer | Promise<Answer | undefined> {
    const { fetcher, passer } = this.#o;
    const isHead = plan.head.method === "HEAD";
    switch (decision.action) {
      case "hit":
        return this.#hit(inbound, plan, decision);
      case "hit-and-revalidate":
        fetcher.revalidate(inbound, plan, decision.stored);
        return this.#hit(inbound, plan, decision);
      case "refuse":
        return this.#o.answers.refusal(
          504,
          "Only a stored response was asked for, and there is none.\n",
          plan,
        );
      case "pass":
        return passer.pass(inbound, plan, decision.reason, decision.detail);
      case "validate":
        return isHead
          ? passer.head(inbound, plan, decision.reason, decision.detail, decision.stored)
          : fetcher.fetch(inbound, plan, decision, tries);
      case "fetch":
        return isHead
          ? passer.head(inbound, plan, decision.reason, undefined, undefined)
          : fetcher.fetch(inbound, plan, decision, tries);
      default:
        return decision satisfies never;
    }
  }

  /** From the store; at once unless the object is in slices. */
  #hit(
    inbound: Inbound,
    plan: RequestPlan,
    decision: Extract<Decision, { action: "hit" | "hit-and-revalidate" }>,
  ): Answer | Promise<Answer> {
    const { stored, fresh } = decision;
    const isStale = decision.action === "hit-and-revalidate";
    const detail = isStale ? "stale-while-revalidate" : decision.detail;
    const outcome: Outcome = isStale ? "hit-stale" : "hit";
    const answer = this.#o.answers.fromStored(inbound, plan, stored, fresh.ageSeconds, {
      status: {
        cache: this.#o.cacheName,
        isHit: true,
        ttlSeconds: fresh.ttlSeconds,
        ...(detail !== undefined && { detail }),
      },
      outcome,
      generation: stored.generation,
    });
    if (isStale || detail !== undefined || inbound.peer !== undefined || answer instanceof Promise)
      return answer;
    // Another request for this target may meet other rules, or ask for more than a part.
    if (plan.rules.dependsOnRequest || isPart(stored)) return answer;
    const memo = this.#memo(plan, stored, answer.record);
    return memo === undefined ? answer : { ...answer, memo };
  }

  /** What a plain hit rested on; undefined when another request like it could be answered in another way. */
  #memo(plan: RequestPlan, stored: StoredObject, record: AnswerRecord): HitMemo | undefined {
    const { store, purges, routing } = this.#o;
    const window = freshWindow(stored, plan.policy);
    const cell = store.memory.cellOf(plan.key);
    const variants = store.memory.peek(plan.key);
    const isSelectedAlike = variants.every(
      ({ nominatedFields }) =>
        nominatedFields.length === stored.nominatedFields.length &&
        nominatedFields.every((name, index) => name === stored.nominatedFields[index]),
    );
    if (window === undefined || cell === undefined || !isSelectedAlike || !variants.includes(stored))
      return undefined;
    return {
      key: plan.key,
      stored,
      cell,
      nominatedFields: stored.nominatedFields,
      nominatedValues: stored.nominatedValues,
      window,
      purgeScope: plan.purgeScope,
      purgeGeneration: purges.generation,
      propertyVersion: routing.propertyVersion,
      hearsDirectives: plan.policy.honourRequestDirectives,
      responseHeaders: plan.rules.responseHeaders,
      record,
    };
  }

  /** OPTIONS that goes no further (RFC 9110, section 9.3.7): what this server lets through, whatever the resource. */
  #options(plan: RequestPlan): Answer {
    const record: AnswerRecord = {
      outcome: "method",
      status: undefined,
      propertyId: plan.property.propertyId,
      upstream: undefined,
    };
    const allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    return this.#o.answers.own(200, "", record, [["Allow", allow]]);
  }

  /** Frees the bytes of what was purged, part by part; the purges hold without it. */
  sweepPurged(scopeOf: (key: CacheKey) => string): Generator<void, number> {
    return this.#o.store.memory.sweeping((storedKey, object) => {
      const key = requestKeyOf(storedKey);
      return this.#o.purges.stateOf(scopeOf(key), key, object) === "hard";
    });
  }
}

/** The property with what its rules say of a request in place of its own. */
function settledBy({ compression, prefetch }: RuleOutcome, property: PropertyView): PropertyView {
  if ((compression ?? prefetch) === undefined) return property;
  return {
    ...property,
    compression: {
      ...property.compression,
      isEnabled: compression ?? property.compression.isEnabled,
    },
    prefetch: { ...property.prefetch, isEnabled: prefetch ?? property.prefetch.isEnabled },
  };
}

/** Whether the worker that owns the key may know better than this decision: what goes past every cache is no concern of it. */
function mayOwnerHelp(decision: Decision): boolean {
  return (
    decision.action !== "pass" || decision.reason === "partial" || decision.detail === "request-no-store"
  );
}

/** Whether it was taken for want of what the owner may have stored, and not because the request asks for more. */
function mayCopyHelp({ action, ...decision }: Decision): boolean {
  return (
    (action === "fetch" || action === "validate") &&
    "reason" in decision &&
    (decision.reason === "uri-miss" || decision.reason === "vary-miss" || decision.reason === "stale")
  );
}

/** "*" means the server, and Max-Forwards: 0 the one that it has reached (RFC 9110, sections 9.3.7 and 7.6.2). */
function isForThisServer(head: RequestHead): boolean {
  return head.target === "*" || /^\s*0+\s*$/.test(fieldValue(head.fields, "max-forwards") ?? "");
}

function isBeacon(target: string): boolean {
  return (
    target.startsWith(BEACON_PATH) &&
    (target.length === BEACON_PATH.length || target[BEACON_PATH.length] === "?")
  );
}

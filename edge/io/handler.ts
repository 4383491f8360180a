/**
 * One request through the edge: property, loop check, policy, key, look-up, decision, and then the way the decision names.
 * Policy is in the core; here are the waiting and the bytes.
 */
import { type Clock, type ClusterId, type ForwardReason, IsochroneError } from "#kit";
import type { Logger } from "#kit/io";
import type { EdgeSettings } from "../config.ts";
import { type CacheKey, cacheKey } from "../core/cache-key.ts";
import type { CacheStatus } from "../core/cache-status.ts";
import { decideRequest, decideResponse, type RequestDecision } from "../core/decide.ts";
import { ageValue } from "../core/freshness.ts";
import { fieldLines, fieldValue, withoutFields } from "../core/headers.ts";
import { invalidatedTargets } from "../core/invalidation.ts";
import { isLoop } from "../core/loops.ts";
import type { RequestHead, ResponseHead } from "../core/messages.ts";
import { policyFor, type RequestPolicy } from "../core/policy.ts";
import type { PurgeIndex } from "../core/purge-index.ts";
import { freshen, headMatches } from "../core/validation.ts";
import { matchesVariant, nominatedValues } from "../core/vary.ts";
import { cacheStatusOf, type CollapseTable, type FillOutcome } from "./collapse.ts";
import { type Answer, type AnswerRecord, type Inbound, type Outcome, textAnswer } from "./exchange.ts";
import type { Filler, FillRequest } from "./filler.ts";
import type { Forwarder } from "./forwarder.ts";
import type { StoredObject } from "./memory-store.ts";
import type { EdgeMetrics } from "./metrics.ts";
import type { ObjectStore } from "./object-store.ts";
import { type PropertyView, type Routing, withKeyHost } from "./routing.ts";
import { type AnswerContext, downstreamFields, mayHaveContent, storedAnswer } from "./stored-answer.ts";

export interface HandlerOptions {
  readonly routing: Routing;
  readonly forwarder: Forwarder;
  readonly filler: Filler;
  readonly collapse: CollapseTable;
  readonly store: ObjectStore;
  readonly purges: PurgeIndex;
  readonly clock: Clock;
  readonly settings: EdgeSettings;
  readonly metrics: EdgeMetrics;
  readonly logger: Logger;
  /** Name in Cache-Status, Via and CDN-Loop. */
  readonly cacheName: string;
  /** The other workers of this server; undefined when it is one process. */
  readonly siblings?: SiblingTier | undefined;
}

/** The workers that share the cache with this one, as far as a request needs them. */
export interface SiblingTier {
  /** Whether another worker, which lives, owns the key. */
  isElsewhere(key: CacheKey): boolean;
  /** The owner's answer; undefined when the request has to go on here. Never rejects. */
  ask(inbound: Inbound, plan: RequestPlan): Promise<Answer | undefined>;
  /** Renews a stale copy in the background. */
  refresh(inbound: Inbound, plan: RequestPlan): void;
  /** Marks keys as changed in every worker. Never rejects. */
  invalidate(keys: readonly CacheKey[]): Promise<void>;
}

/** What is known of a request once its property is. */
export interface RequestPlan {
  readonly head: RequestHead;
  readonly property: PropertyView;
  readonly keyHost: string;
  readonly policy: RequestPolicy;
  readonly key: CacheKey;
  /** Keeps one property's tags from another's. */
  readonly purgeScope: string;
}

/** Times that a request joins another's fill and comes away empty before it goes by itself. */
const JOINS_MAX = 3;

export class EdgeHandler {
  readonly #o: HandlerOptions;

  constructor(options: HandlerOptions) {
    this.#o = options;
  }

  /** The plan for a request; undefined when no active property has its host. */
  plan(head: RequestHead): RequestPlan | undefined {
    const found = this.#o.routing.propertyOf(head.host);
    if (found === undefined) return undefined;
    const { property, keyHost } = found;
    const policy = policyFor(property, head.target);
    const key = cacheKey({ scheme: head.scheme, host: keyHost, target: head.target }, policy);
    return {
      head: withKeyHost(head, keyHost),
      property,
      keyHost,
      policy,
      key,
      purgeScope: property.propertyId ?? "",
    };
  }

  /** What would be done with a request now, and with which stored response. */
  async decide(plan: RequestPlan): Promise<RequestDecision<StoredObject>> {
    const found = this.#o.store.lookup(plan.key);
    return this.#decideWith(plan, found instanceof Promise ? await found : found);
  }

  #decideWith(plan: RequestPlan, variants: readonly StoredObject[]): RequestDecision<StoredObject> {
    return decideRequest({
      request: plan.head,
      policy: plan.policy,
      variants,
      purgeStateOf: (stored) => this.#o.purges.stateOf(plan.purgeScope, plan.key, stored),
      now: this.#o.clock.epoch(),
    });
  }

  /** Answers a request. Never rejects for what clients, origins or peers do. */
  async handle(inbound: Inbound): Promise<Answer> {
    const plan = this.plan(inbound.head);
    if (plan === undefined) {
      this.#o.metrics.refused("unknown-host");
      return this.#refusal(421, `No property has the host "${inbound.head.host}" here.\n`, undefined);
    }
    if (isLoop(inbound.head.fields, this.#o.cacheName)) {
      this.#o.metrics.refused("loop");
      // RFC 5842, section 7.2: 508 Loop Detected.
      return this.#refusal(508, "This request has passed this server before (CDN-Loop).\n", plan);
    }
    if (plan.head.method === "OPTIONS" && isForThisServer(plan.head)) return this.#options(plan);
    const decision = await this.decide(plan);
    const { siblings } = this.#o;
    if (siblings !== undefined && decision.action !== "hit" && siblings.isElsewhere(plan.key)) {
      if (decision.action === "hit-and-revalidate") {
        siblings.refresh(inbound, plan);
        return this.#staleHit(inbound, plan, decision);
      }
      const answer = mayOwnerHelp(decision) ? await siblings.ask(inbound, plan) : undefined;
      if (answer !== undefined) return answer;
    }
    switch (decision.action) {
      case "hit":
        return this.#hit(inbound, plan, decision.stored, decision.fresh, "hit", decision.detail);
      case "hit-and-revalidate":
        this.#revalidate(inbound, plan, decision.stored);
        return this.#staleHit(inbound, plan, decision);
      case "refuse":
        return this.#refusal(504, "Only a stored response was asked for, and there is none.\n", plan);
      case "pass":
        return await this.#pass(inbound, plan, decision.reason, decision.detail, undefined);
      case "validate":
        return plan.head.method === "HEAD"
          ? await this.#pass(inbound, plan, decision.reason, decision.detail, decision.stored)
          : await this.#fetch(inbound, plan, decision, 0);
      case "fetch":
        return plan.head.method === "HEAD"
          ? await this.#pass(inbound, plan, decision.reason, undefined, undefined)
          : await this.#fetch(inbound, plan, decision, 0);
      default:
        return decision satisfies never;
    }
  }

  /** OPTIONS that goes no further (RFC 9110, section 9.3.7): what this server lets through, whatever the resource. */
  #options(plan: RequestPlan): Answer {
    const record: AnswerRecord = {
      outcome: "method",
      status: undefined,
      propertyId: plan.property.propertyId,
      upstream: undefined,
    };
    return this.#own(200, "", record, [["Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"]]);
  }

  /** Applies a purge's effect on what is in memory, so that its count is known and its bytes are free. */
  sweepPurged(scopeOf: (key: CacheKey) => string): number {
    return this.#o.store.memory.sweep(
      (key, object) => this.#o.purges.stateOf(scopeOf(key), key, object) === "hard",
    );
  }

  #hit(
    inbound: Inbound,
    plan: RequestPlan,
    stored: StoredObject,
    fresh: { readonly ageSeconds: number; readonly ttlSeconds: number },
    outcome: Outcome,
    detail: string | undefined,
  ): Answer {
    const status: CacheStatus = {
      cache: this.#o.cacheName,
      isHit: true,
      ttlSeconds: fresh.ttlSeconds,
      ...(detail !== undefined && { detail }),
    };
    const context = this.#context(inbound, plan, status, outcome, undefined, undefined, stored.generation);
    return storedAnswer(stored, stored.body, stored.body.bytes, fresh.ageSeconds, context);
  }

  #staleHit(
    inbound: Inbound,
    plan: RequestPlan,
    { stored, fresh }: Extract<RequestDecision<StoredObject>, { action: "hit-and-revalidate" }>,
  ): Answer {
    return this.#hit(inbound, plan, stored, fresh, "hit-stale", "stale-while-revalidate");
  }

  /** RFC 5861, section 3: validates in the background, one at a time for a key. */
  #revalidate(inbound: Inbound, plan: RequestPlan, stored: StoredObject): void {
    const request = this.#fillRequest(inbound, plan, stored);
    if (this.#o.collapse.get(request.collapseKey) !== undefined) return;
    if (this.#o.filler.active >= this.#o.settings.fillsMax) return;
    void this.#o.filler.begin(request, true).then((outcome) => {
      if (outcome.kind === "private") outcome.body.abandon();
      return undefined;
    });
  }

  async #fetch(
    inbound: Inbound,
    plan: RequestPlan,
    decision: Extract<RequestDecision<StoredObject>, { action: "fetch" | "validate" }>,
    joins: number,
  ): Promise<Answer> {
    const stored = decision.action === "validate" ? decision.stored : undefined;
    const request = this.#fillRequest(inbound, plan, stored);
    const mayCollapse =
      joins < JOINS_MAX &&
      request.isOwner &&
      (decision.action === "fetch" || decision.isCollapsible) &&
      !this.#o.collapse.isUnshareable(request.collapseKey);
    const present = mayCollapse ? this.#o.collapse.get(request.collapseKey) : undefined;
    if (
      present !== undefined &&
      this.#o.purges.mayJoin(plan.purgeScope, plan.key, present.generation, present.tags)
    ) {
      this.#o.collapse.join();
      const outcome = await present.outcome;
      const answer = this.#joined(inbound, plan, decision, outcome);
      if (answer !== undefined) return answer;
      // Not for us: another variant, not shareable, or too far gone. Meanwhile the store may have what we need.
      const again = await this.decide(plan);
      if (again.action === "hit")
        return this.#hit(inbound, plan, again.stored, again.fresh, "hit", again.detail);
      if (again.action === "fetch" || again.action === "validate")
        return await this.#fetch(inbound, plan, again, joins + 1);
      return await this.#fetch(inbound, plan, decision, JOINS_MAX);
    }
    if (this.#o.filler.active >= this.#o.settings.fillsMax) {
      this.#o.metrics.refused("overload");
      return this.#refusal(503, "Too many requests to the next hop are in flight.\n", plan, [
        ["Retry-After", "1"],
      ]);
    }
    const outcome = await this.#o.filler.begin(request, mayCollapse && present === undefined);
    return this.#answerOf(inbound, plan, decision, outcome, false);
  }

  /** The answer for a request that waited, or undefined when the outcome is not for it. */
  #joined(
    inbound: Inbound,
    plan: RequestPlan,
    decision: Extract<RequestDecision<StoredObject>, { action: "fetch" | "validate" }>,
    outcome: FillOutcome,
  ): Answer | undefined {
    switch (outcome.kind) {
      case "stored":
        return outcome.isShareable && outcome.body.canJoin && matchesVariant(outcome.head, plan.head.fields)
          ? this.#answerOf(inbound, plan, decision, outcome, true)
          : undefined;
      case "private":
        return undefined;
      case "stale":
        return matchesVariant(outcome.stored, plan.head.fields)
          ? this.#answerOf(inbound, plan, decision, outcome, true)
          : undefined;
      case "failed":
        return this.#answerOf(inbound, plan, decision, outcome, true);
      default:
        return outcome satisfies never;
    }
  }

  #answerOf(
    inbound: Inbound,
    plan: RequestPlan,
    decision: Extract<RequestDecision<StoredObject>, { action: "fetch" | "validate" }>,
    outcome: FillOutcome,
    isCollapsed: boolean,
  ): Answer {
    const cache = this.#o.cacheName;
    const detail = decision.action === "validate" ? decision.detail : undefined;
    const fwd: ForwardReason = decision.reason;
    switch (outcome.kind) {
      case "stored": {
        const status: CacheStatus = {
          cache,
          isHit: false,
          fwd,
          fwdStatus: outcome.fwdStatus,
          ttlSeconds: outcome.fresh.ttlSeconds,
          isStored: outcome.isStored,
          isCollapsed,
          ...(detail !== undefined && { detail }),
        };
        const context = this.#context(
          inbound,
          plan,
          status,
          isCollapsed ? "collapsed" : fwd,
          { name: outcome.hopName, via: outcome.via },
          outcome.upstreamCacheStatus,
          outcome.head.generation,
        );
        const totalBytes = outcome.body.isComplete ? outcome.body.bytes : outcome.totalBytes;
        return storedAnswer(outcome.head, outcome.body, totalBytes, outcome.fresh.ageSeconds, context);
      }
      case "private": {
        const status: CacheStatus = {
          cache,
          isHit: false,
          fwd,
          fwdStatus: outcome.response.status,
          detail: outcome.reason,
        };
        const context = this.#context(
          inbound,
          plan,
          status,
          fwd,
          { name: outcome.hopName, via: outcome.via },
          outcome.upstreamCacheStatus,
          outcome.generation,
        );
        return this.#privateAnswer(outcome, context);
      }
      case "stale": {
        const status: CacheStatus = {
          cache,
          isHit: true,
          ttlSeconds: outcome.fresh.ttlSeconds,
          isCollapsed,
          detail: `stale-if-error-${outcome.detail}`,
        };
        const context = this.#context(
          inbound,
          plan,
          status,
          "hit-stale",
          undefined,
          undefined,
          outcome.stored.generation,
        );
        return storedAnswer(
          outcome.stored,
          outcome.stored.body,
          outcome.stored.body.bytes,
          outcome.fresh.ageSeconds,
          context,
        );
      }
      case "failed":
        return this.#failure(plan, outcome.code, outcome.message, fwd);
      default:
        return outcome satisfies never;
    }
  }

  #privateAnswer(outcome: Extract<FillOutcome, { kind: "private" }>, context: AnswerContext): Answer {
    const { response, body } = outcome;
    const hasContent = mayHaveContent(context.request.method, response.status);
    if (!hasContent) body.abandon();
    return {
      status: response.status,
      fields: downstreamFields(response.fields, context, passedAge(response)),
      body: hasContent ? body.read() : undefined,
      bodyBytes: outcome.totalBytes,
      record: context.record,
    };
  }

  /** Forwards a request as it is, content and all. `stored`: for a HEAD, what its answer may freshen or a failure be covered by. */
  async #pass(
    inbound: Inbound,
    plan: RequestPlan,
    fwd: ForwardReason,
    detail: string | undefined,
    stored: StoredObject | undefined,
  ): Promise<Answer> {
    const { head } = plan;
    const generation = this.#o.purges.generation;
    const requestTime = this.#o.clock.epoch();
    try {
      const forwarded = await this.#o.forwarder.forward(
        {
          head,
          httpVersion: inbound.httpVersion,
          clientAddress: inbound.peer === undefined ? inbound.remoteAddress : undefined,
          requestId: inbound.requestId,
          body: inbound.body,
          bodyBytes: inbound.bodyBytes,
          signal: inbound.signal,
          without: stored === undefined ? NO_NAMES : CONDITIONS_OF_HEAD,
          extra: [],
        },
        this.#o.routing.hopsFor(plan.property, plan.key, plan.keyHost, inbound.hop, plan.policy.bypass),
      );
      const response: ResponseHead = forwarded.response;
      const upstreamCacheStatus = cacheStatusOf(response.fields);
      // Before the answer goes out: who has seen it must not get the old state from another worker.
      await this.#invalidate(
        invalidatedTargets(head, response).map((target) =>
          cacheKey({ ...target, host: plan.keyHost }, plan.policy),
        ),
      );
      if (stored !== undefined)
        this.#updateByHead(plan, stored, forwarded.response, forwarded.contentLength, forwarded.times);
      const status: CacheStatus = {
        cache: this.#o.cacheName,
        isHit: false,
        fwd,
        fwdStatus: response.status,
        ...(detail !== undefined && { detail }),
      };
      const own = Math.min(generation, forwarded.generation ?? generation);
      const context = this.#context(
        inbound,
        plan,
        status,
        fwd,
        { name: forwarded.hop.name, via: forwarded.via },
        upstreamCacheStatus,
        own,
      );
      const hasContent = mayHaveContent(head.method, response.status);
      if (!hasContent) forwarded.content.resume();
      return {
        status: response.status,
        fields: downstreamFields(response.fields, context, passedAge(response)),
        body: hasContent ? (forwarded.content as AsyncIterable<Uint8Array>) : undefined,
        bodyBytes: forwarded.contentLength,
        record: context.record,
      };
    } catch (error) {
      const code = error instanceof IsochroneError ? error.code : "internal";
      const message = error instanceof Error ? error.message : String(error);
      const cover = decideResponse({
        request: head,
        policy: plan.policy,
        stored,
        outcome: { kind: "failure", code },
        times: { requestTime, responseTime: this.#o.clock.epoch() },
        generation,
        isPurgedMeanwhile: () => false,
        contentLength: undefined,
        objectBytesMax: 0,
        isOwner: true,
        now: this.#o.clock.epoch(),
      });
      if (cover.action === "serve-stale")
        return this.#hit(
          inbound,
          plan,
          cover.stored,
          cover.fresh,
          "hit-stale",
          `stale-if-error-${cover.detail}`,
        );
      return this.#failure(plan, code, message, fwd);
    }
  }

  /** RFC 9111, section 4.3.5: a HEAD's answer freshens the stored GET response, or shows that it is out of date. */
  #updateByHead(
    plan: RequestPlan,
    stored: StoredObject,
    response: ResponseHead,
    contentLength: number | undefined,
    times: Parameters<typeof freshen>[2],
  ): void {
    if (response.status >= 500) return;
    const withLength: ResponseHead =
      contentLength === undefined
        ? response
        : { ...response, fields: [...response.fields, ["Content-Length", String(contentLength)]] };
    if (response.status === stored.status && headMatches(stored, withLength, stored.body.bytes)) {
      const fields = withoutFields(response.fields, new Set(["cache-status"]));
      this.#o.store.freshen(
        plan.key,
        stored,
        freshen(stored, { ...response, fields }, times, stored.generation),
      );
    } else void this.#invalidate([plan.key]);
  }

  /** Marks keys as changed, here at once and in every other worker when this resolves. Never rejects. */
  async #invalidate(keys: readonly CacheKey[]): Promise<void> {
    if (this.#o.siblings !== undefined) await this.#o.siblings.invalidate(keys);
    else for (const key of keys) this.#o.store.invalidate(key);
  }

  #fillRequest(inbound: Inbound, plan: RequestPlan, stored: StoredObject | undefined): FillRequest {
    const names = stored?.nominatedFields ?? this.#o.collapse.nominatedOf(plan.key);
    // A fill is a GET, whatever began it; Authorization may change what is shareable, so it never shares a fill.
    const credentials = fieldLines(plan.head.fields, "authorization").length > 0 ? "\nauthorization" : "";
    return {
      head: { ...plan.head, method: "GET" },
      httpVersion: inbound.httpVersion,
      clientAddress: inbound.peer === undefined ? inbound.remoteAddress : undefined,
      requestId: inbound.requestId,
      key: plan.key,
      collapseKey: `${plan.key}${credentials}\n${JSON.stringify(nominatedValues(plan.head.fields, names))}`,
      purgeScope: plan.purgeScope,
      policy: plan.policy,
      hops: this.#o.routing.hopsFor(plan.property, plan.key, plan.keyHost, inbound.hop, false),
      isOwner: this.#o.routing.isOwner(plan.key, inbound.hop),
      stored,
    };
  }

  #context(
    inbound: Inbound,
    plan: RequestPlan,
    cacheStatus: CacheStatus,
    outcome: Outcome,
    upstream: { readonly name: string; readonly via: ClusterId | null } | undefined,
    upstreamCacheStatus: string | undefined,
    generation: number,
  ): AnswerContext {
    return {
      request: plan.head,
      cacheName: this.#o.cacheName,
      now: this.#o.clock.epoch(),
      record: {
        outcome,
        status: cacheStatus,
        propertyId: plan.property.propertyId,
        upstream: upstream?.name,
        via: upstream?.via ?? null,
      },
      cacheStatus,
      upstreamCacheStatus,
      generation: inbound.peer === undefined ? undefined : generation,
    };
  }

  /** Nothing could be had: 504 when the next hop was too slow, else 502 (RFC 9110, sections 15.6.3 and 15.6.5). */
  #failure(plan: RequestPlan, code: string, message: string, fwd: ForwardReason): Answer {
    const isTimeout = code.includes("timeout");
    const status: CacheStatus = { cache: this.#o.cacheName, isHit: false, fwd, detail: code };
    const record: AnswerRecord = {
      outcome: "error",
      status,
      propertyId: plan.property.propertyId,
      upstream: undefined,
    };
    // The message names addresses of origins: it belongs into the log, not to clients.
    this.#o.logger.info("next-hop-failed", { code, message, propertyId: plan.property.propertyId });
    return this.#own(isTimeout ? 504 : 502, `The next hop did not answer (${code}).\n`, record);
  }

  #refusal(
    status: number,
    text: string,
    plan: RequestPlan | undefined,
    fields: readonly (readonly [string, string])[] = [],
  ): Answer {
    const record: AnswerRecord = {
      outcome: "refused",
      status: undefined,
      propertyId: plan?.property.propertyId,
      upstream: undefined,
    };
    return this.#own(status, text, record, fields);
  }

  #own(
    status: number,
    text: string,
    record: AnswerRecord,
    extra: readonly (readonly [string, string])[] = [],
  ): Answer {
    const answer = textAnswer(status, text, record, extra);
    const cacheStatus = record.status ?? {
      cache: this.#o.cacheName,
      isHit: false,
      ...(record.outcome === "refused" && { detail: "refused" }),
    };
    const context: AnswerContext = {
      request: { method: "GET", scheme: "http", host: "", target: "/", fields: [] },
      cacheName: this.#o.cacheName,
      now: this.#o.clock.epoch(),
      record,
      cacheStatus,
      upstreamCacheStatus: undefined,
      generation: undefined,
    };
    return { ...answer, fields: downstreamFields(answer.fields, context, undefined) };
  }
}

/** Whether the worker that owns the key may know better than this decision: what goes past every cache is no concern of it. */
function mayOwnerHelp(decision: RequestDecision<StoredObject>): boolean {
  return (
    decision.action !== "pass" || decision.reason === "partial" || decision.detail === "request-no-store"
  );
}

/** "*" means the server, and Max-Forwards: 0 the one that it has reached (RFC 9110, sections 9.3.7 and 7.6.2). */
function isForThisServer(head: RequestHead): boolean {
  return head.target === "*" || /^\s*0+\s*$/.test(fieldValue(head.fields, "max-forwards") ?? "");
}

const NO_NAMES: ReadonlySet<string> = new Set();
const CONDITIONS_OF_HEAD: ReadonlySet<string> = new Set(["if-none-match", "if-modified-since"]);

/** Age of an answer that is passed on: what upstream said, if it can be read. */
function passedAge(response: ResponseHead): number | undefined {
  if (fieldValue(response.fields, "age") === undefined) return undefined;
  const age = ageValue(response);
  return age === "invalid" ? undefined : age;
}

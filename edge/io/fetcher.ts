/** Fetches and validations: joins a fill that is in flight for the key, or begins one, and answers with its outcome. */
import type { Clock, EpochMs, ForwardReason } from "#kit";
import type { EdgeSettings } from "../config.ts";
import type { RequestDecision } from "../core/decide.ts";
import type { StoredHead } from "../core/messages.ts";
import { answersFromPart, fieldsAsStated, isPart, type PartHead, partOpening } from "../core/parts.ts";
import type { PurgeIndex } from "../core/purge-index.ts";
import { requestedRanges } from "../core/range.ts";
import { matchesVariant } from "../core/vary.ts";
import { type Answers, type Fault, sourceOfPassed, type Told } from "./answers.ts";
import { type CollapseTable, type FillOutcome, staleOutcome, type StaleOutcome } from "./collapse.ts";
import type { Copies } from "./copies.ts";
import type { Answer, AnswerSource, Inbound } from "./exchange.ts";
import { FillAudience } from "./fill-audience.ts";
import type { FillBudget } from "./fill-budget.ts";
import type { Filler } from "./filler.ts";
import type { StoredObject } from "./memory-store.ts";
import type { EdgeMetrics } from "./metrics.ts";
import { passedAge } from "./passer.ts";
import { type RequestPlan, type RequestPlanner, tellingCodings } from "./request-plan.ts";
import { isCircle } from "./routing.ts";
import { downstreamFields, mayHaveContent } from "./stored-answer.ts";

type FetchDecision = Extract<RequestDecision<StoredObject>, { action: "fetch" | "validate" }>;

const SERVER_LIMIT: Fault = { code: "server-limit", message: "", retryAfterSeconds: 1 };

/** Times that a request joins another's fill and comes away empty before it goes by itself. */
const JOINS_MAX = 3;

export class Fetcher {
  readonly #cacheName: string;
  readonly #answers: Answers;
  readonly #filler: Filler;
  readonly #collapse: CollapseTable;
  readonly #purges: PurgeIndex;
  readonly #budget: FillBudget;
  readonly #planner: RequestPlanner;
  readonly #copies: Copies;
  readonly #clock: Clock;
  readonly #metrics: EdgeMetrics;
  readonly #settings: Pick<EdgeSettings, "joinedMax">;
  /** Requests that wait for another's fill. */
  #joinedNow = 0;

  constructor(options: {
    readonly cacheName: string;
    readonly answers: Answers;
    readonly filler: Filler;
    readonly collapse: CollapseTable;
    readonly purges: PurgeIndex;
    readonly budget: FillBudget;
    readonly planner: RequestPlanner;
    readonly copies: Copies;
    readonly clock: Clock;
    readonly metrics: EdgeMetrics;
    /** Read each time: workers divide it among those that live. */
    readonly settings: Pick<EdgeSettings, "joinedMax">;
  }) {
    this.#cacheName = options.cacheName;
    this.#answers = options.answers;
    this.#filler = options.filler;
    this.#collapse = options.collapse;
    this.#purges = options.purges;
    this.#budget = options.budget;
    this.#planner = options.planner;
    this.#copies = options.copies;
    this.#clock = options.clock;
    this.#metrics = options.metrics;
    this.#settings = options.settings;
  }

  /**
   * Resolves with the answer, or with undefined when what came was not for this request: another variant, not shareable, a
   * part that cannot be kept; the store may now have what it needs, so it is decided anew. `tries`: how often that was
   * so before. Rejects when the first slice of an object cannot be had.
   */
  async fetch(
    inbound: Inbound,
    plan: RequestPlan,
    decision: FetchDecision,
    tries: number,
  ): Promise<Answer | undefined> {
    const stored = decision.action === "validate" ? decision.stored : undefined;
    const planned = this.#planner.fillRequest(inbound, plan, stored, decision.opening);
    const isCopy = !planned.isOwner && this.#copies.handleRequest(plan.key);
    const request = isCopy
      ? { ...planned, isOwner: true, isCopy }
      : { ...planned, hops: tellingCodings(planned.hops, inbound, plan) };
    const mayCollapse =
      tries < JOINS_MAX &&
      request.isOwner &&
      (decision.action === "fetch" || decision.isCollapsible) &&
      !this.#collapse.isUnshareable(request.collapseKey);
    const present = mayCollapse ? this.#collapse.get(request.collapseKey) : undefined;
    if (
      present !== undefined &&
      !isCircle(inbound.peer, present.servers) &&
      this.#purges.mayJoin(plan.purgeScope, plan.key, present.generation, present.tags) &&
      !this.#collapse.mayPassBy(present, plan.key)
    ) {
      if (this.#joinedNow >= this.#settings.joinedMax) return await this.#shed(inbound, plan, decision);
      this.#collapse.join();
      present.audience?.add(inbound.leaving ?? inbound.signal);
      this.#joinedNow++;
      const outcome = await present.outcome;
      this.#joinedNow--;
      return outcome !== undefined && isFor(outcome, plan, this.#clock.epoch())
        ? await this.#answer(inbound, plan, decision, outcome, true)
        : undefined;
    }
    if (this.#budget.isFull) return await this.#shed(inbound, plan, decision);
    const audience = new FillAudience();
    audience.add(inbound.leaving ?? inbound.signal);
    const outcome = await this.#filler.begin(request, mayCollapse && present === undefined, audience);
    return await this.#answer(inbound, plan, decision, outcome, false);
  }

  /** RFC 5861, section 3: validates in the background, one at a time for a key. */
  revalidate(inbound: Inbound, plan: RequestPlan, stored: StoredObject): void {
    const asked = this.#planner.fillRequest(inbound, plan, stored, partOpening(stored));
    const request = { ...asked, isAwaited: false, isBackground: true, sendInterim: undefined };
    if (this.#collapse.get(request.collapseKey) !== undefined || this.#budget.isFull) return;
    void this.#filler.begin(request, true).then((outcome) => {
      if (outcome.kind === "private") outcome.body.abandon();
      return undefined;
    });
  }

  /** No room to wait in: what is stale where it may be, else a failure. */
  #shed(inbound: Inbound, plan: RequestPlan, decision: FetchDecision): Answer | Promise<Answer> {
    this.#metrics.shed("server-limit");
    const stale =
      decision.action === "validate"
        ? staleOutcome(decision.stored, plan.policy, this.#clock.epoch(), "server-limit")
        : undefined;
    if (stale !== undefined) return this.#stale(inbound, plan, stale, false);
    return this.#answers.failure(plan, SERVER_LIMIT, decision.reason);
  }

  #stale(
    inbound: Inbound,
    plan: RequestPlan,
    outcome: StaleOutcome,
    isCollapsed: boolean,
  ): Answer | Promise<Answer> {
    const { stored, fresh, detail } = outcome;
    return this.#answers.fromStored(inbound, plan, stored, fresh.ageSeconds, {
      status: {
        cache: this.#cacheName,
        isHit: true,
        ttlSeconds: fresh.ttlSeconds,
        isCollapsed,
        detail: `stale-if-error-${detail}`,
      },
      outcome: "hit-stale",
      generation: stored.generation,
    });
  }

  #answer(
    inbound: Inbound,
    plan: RequestPlan,
    decision: FetchDecision,
    outcome: FillOutcome,
    isCollapsed: boolean,
  ): Answer | Promise<Answer | undefined> | undefined {
    const cache = this.#cacheName;
    const detail = decision.action === "validate" ? decision.detail : undefined;
    const fwd: ForwardReason = decision.reason;
    switch (outcome.kind) {
      case "stored": {
        const told = {
          status: {
            cache,
            isHit: false,
            fwd,
            fwdStatus: outcome.fwdStatus,
            ttlSeconds: outcome.fresh.ttlSeconds,
            isStored: outcome.isStored,
            isCollapsed,
            ...(detail !== undefined && { detail }),
          },
          outcome: isCollapsed ? ("collapsed" as const) : fwd,
          upstream: {
            name: outcome.hopName,
            via: outcome.via,
            protocol: outcome.protocol,
            ms: isCollapsed ? undefined : outcome.head.responseTime - outcome.head.requestTime,
          },
          upstreamCacheStatus: outcome.upstreamCacheStatus,
          generation: outcome.head.generation,
        };
        const object: StoredObject = { ...outcome.head, body: outcome.body };
        const { ageSeconds } = outcome.fresh;
        if (isPart(object)) {
          const statedRange = isCollapsed ? undefined : outcome.statedRange;
          return this.#fromPart(inbound, plan, object, statedRange, ageSeconds, told);
        }
        if (object.sliced !== null || object.body.isComplete)
          return this.#answers.fromStored(inbound, plan, object, ageSeconds, told);
        return this.#answers.fromArriving(inbound, plan, object, outcome.totalBytes, ageSeconds, told);
      }
      case "private":
        return this.#privateAnswer(inbound, plan, outcome, fwd);
      case "stale":
        return this.#stale(inbound, plan, outcome, isCollapsed);
      case "unsliceable":
        return undefined;
      case "failed":
        return this.#answers.failure(plan, outcome, fwd);
      default:
        return outcome satisfies never;
    }
  }

  /**
   * From a part that may still be arriving; undefined: it is a newer one than it was decided on, and lacks what is asked for. Rejects
   * when it breaks off before anything was answered.
   */
  async #fromPart(
    inbound: Inbound,
    plan: RequestPlan,
    object: StoredObject & PartHead,
    statedRange: string | undefined,
    ageSeconds: number,
    told: Told,
  ): Promise<Answer | undefined> {
    const { body, part } = object;
    if (!isWithin(object, plan, this.#clock.epoch())) return undefined;
    // They are read in any order, so that all of the part has to be here.
    if (!body.isComplete && hasSeveralRanges(plan)) {
      for await (const _ of body.read());
      // All fills together held too much for it to be kept.
      if (!body.canJoin) return this.#answers.failure(plan, SERVER_LIMIT, told.status.fwd ?? "uri-miss");
    }
    const answer = body.isComplete
      ? this.#answers.fromWhole(inbound, plan, object, ageSeconds, told)
      : this.#answers.fromArriving(inbound, plan, object, undefined, ageSeconds, told);
    const isAll = answer.status === 206 && answer.bodyBytes === part.last - part.first + 1;
    return statedRange !== undefined && isAll
      ? { ...answer, fields: fieldsAsStated(answer.fields, statedRange) }
      : answer;
  }

  #privateAnswer(
    inbound: Inbound,
    plan: RequestPlan,
    outcome: Extract<FillOutcome, { kind: "private" }>,
    fwd: ForwardReason,
  ): Answer {
    const { response, body } = outcome;
    const context = this.#answers.context(inbound, plan, {
      status: {
        cache: this.#cacheName,
        isHit: false,
        fwd,
        fwdStatus: response.status,
        detail: outcome.reason,
      },
      outcome: fwd,
      upstream: { name: outcome.hopName, via: outcome.via, protocol: outcome.protocol },
      upstreamCacheStatus: outcome.upstreamCacheStatus,
      generation: outcome.generation,
    });
    const hasContent = mayHaveContent(context.request.method, response.status);
    if (!hasContent) body.abandon();
    return {
      status: response.status,
      fields: downstreamFields(response.fields, context, passedAge(response)),
      body: hasContent ? body.read() : undefined,
      bodyBytes: outcome.totalBytes,
      record: context.record,
      source: ownersSource(plan, outcome),
    };
  }
}

/** What the key's owner stores is for all, though here it is for one request: its coding may be chosen like that of what is stored. */
function ownersSource(
  plan: RequestPlan,
  { reason, response }: Extract<FillOutcome, { kind: "private" }>,
): AnswerSource | undefined {
  return reason === "not-owner" ? sourceOfPassed(plan, response) : undefined;
}

function hasSeveralRanges({ head }: RequestPlan): boolean {
  return (requestedRanges(head.fields)?.length ?? 0) > 1;
}

/** Whether a stored response has all that a request asks for. */
function isWithin(head: StoredHead, plan: RequestPlan, now: EpochMs): boolean {
  return !isPart(head) || answersFromPart(plan.head, head, now);
}

/** Whether a request that waited for an outcome may be answered with it. */
function isFor(outcome: FillOutcome, plan: RequestPlan, now: EpochMs): boolean {
  switch (outcome.kind) {
    case "stored":
      return (
        outcome.isShareable &&
        outcome.body.canJoin &&
        matchesVariant(outcome.head, plan.head.fields) &&
        isWithin(outcome.head, plan, now)
      );
    case "private":
    case "unsliceable":
      return false;
    case "stale":
      return matchesVariant(outcome.stored, plan.head.fields) && isWithin(outcome.stored, plan, now);
    case "failed":
      // Given up by those who waited before: who came a moment too late for them asks anew.
      return outcome.code !== "aborted";
    default:
      return outcome satisfies never;
  }
}

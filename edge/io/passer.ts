/** Requests that go past the cache: forwarded as they are, content and all; the answer is not stored. */
import type { Clock, EpochMs, ForwardReason } from "#kit";
import { cacheKey, urlKeyOf } from "../core/cache-key.ts";
import { decideResponse } from "../core/decide.ts";
import { ageValue } from "../core/freshness.ts";
import { type Field, fieldValue, withoutFields } from "../core/headers.ts";
import { invalidatedTargets } from "../core/invalidation.ts";
import type { RequestHead, ResponseHead, StoredHead } from "../core/messages.ts";
import { isForBackground } from "../core/priority.ts";
import type { PurgeIndex } from "../core/purge-index.ts";
import { contentBytes } from "../core/slices.ts";
import { postedHead } from "../core/posted.ts";
import { storable } from "../core/storable.ts";
import { freshen, headMatches } from "../core/validation.ts";
import { type Answers, faultOf, sourceOfPassed } from "./answers.ts";
import { cacheStatusOf, type StaleOutcome } from "./collapse.ts";
import type { Answer, AnswerSource, Inbound } from "./exchange.ts";
import type { Forwarded, Forwarder } from "./forwarder.ts";
import type { Invalidate } from "./invalidation-chain.ts";
import type { LateStale } from "./late-stale.ts";
import type { StoredObject } from "./memory-store.ts";
import { ObjectBody } from "./object-body.ts";
import type { ObjectStore } from "./object-store.ts";
import { hopsOf, type RequestPlan, tellingCodings } from "./request-plan.ts";
import type { Routing } from "./routing.ts";
import type { SiblingTier } from "./sibling-tier.ts";
import { downstreamFields, mayHaveContent } from "./stored-answer.ts";

const NO_NAMES: ReadonlySet<string> = new Set();
const CONDITIONS_OF_HEAD: ReadonlySet<string> = new Set(["if-none-match", "if-modified-since"]);
const CACHE_STATUS: ReadonlySet<string> = new Set(["cache-status"]);

/** Longest answer to a POST that is kept, bytes: until it has all arrived it is in memory beside the store's bound. */
const POSTED_BYTES_MAX = 16 * 1_024;

export class Passer {
  readonly #cacheName: string;
  readonly #answers: Answers;
  readonly #forwarder: Forwarder;
  readonly #routing: Routing;
  readonly #store: ObjectStore;
  readonly #purges: PurgeIndex;
  readonly #clock: Clock;
  readonly #siblings: SiblingTier | undefined;
  readonly #late: LateStale;
  readonly #invalidate: Invalidate;

  constructor(options: {
    readonly cacheName: string;
    readonly answers: Answers;
    readonly forwarder: Forwarder;
    readonly routing: Routing;
    readonly store: ObjectStore;
    readonly purges: PurgeIndex;
    readonly clock: Clock;
    readonly siblings: SiblingTier | undefined;
    readonly late: LateStale;
    /** Marks keys as changed, here at once and in the other processes of this server when it resolves. Never rejects. */
    readonly invalidate: Invalidate;
  }) {
    this.#cacheName = options.cacheName;
    this.#answers = options.answers;
    this.#forwarder = options.forwarder;
    this.#routing = options.routing;
    this.#store = options.store;
    this.#purges = options.purges;
    this.#clock = options.clock;
    this.#siblings = options.siblings;
    this.#late = options.late;
    this.#invalidate = options.invalidate;
  }

  /**
   * A HEAD that the store cannot answer: asked for as its GET would be, and told in the form that this would come in. `stored`: what the
   * answer may freshen, and a failure or a long wait be covered by. Never rejects.
   */
  async head(
    inbound: Inbound,
    plan: RequestPlan,
    fwd: ForwardReason,
    detail: string | undefined,
    stored: StoredObject | undefined,
  ): Promise<Answer> {
    return await this.#pass(inbound, plan, plan.head, fwd, detail, stored);
  }

  /** A request that goes past the cache, in the client's own words. Never rejects. */
  async pass(
    inbound: Inbound,
    plan: RequestPlan,
    fwd: ForwardReason,
    detail: string | undefined,
  ): Promise<Answer> {
    return await this.#pass(inbound, plan, asSent(plan.head, inbound), fwd, detail, undefined);
  }

  async #pass(
    inbound: Inbound,
    plan: RequestPlan,
    head: RequestHead,
    fwd: ForwardReason,
    detail: string | undefined,
    stored: StoredObject | undefined,
  ): Promise<Answer> {
    const { generation } = this.#purges;
    const requestTime = this.#clock.epoch();
    const hops = hopsOf(this.#routing, plan, inbound.hop, plan.policy.bypass);
    const { promise: stale, resolve: serveStale } = Promise.withResolvers<StaleOutcome>();
    const waiting = this.#late.wait(stored, plan.policy, hops, serveStale);
    // Known to be silent: another request would only wait there too.
    if (waiting.isOver) return await this.#fromStale(inbound, plan, await stale);
    let forwarded: Forwarded;
    try {
      const forwarding = this.#forwarder.forward(
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
          purgeScope: plan.purgeScope,
          isBackground: inbound.isBackground === true || isForBackground(plan.head.fields),
          sendInterim: inbound.sendInterim,
        },
        head === plan.head ? tellingCodings(hops, inbound, plan) : hops,
      );
      const first = stored === undefined ? await forwarding : await Promise.race([forwarding, stale]);
      if ("kind" in first) {
        void this.#takeLate(plan, first.stored, forwarding);
        return await this.#fromStale(inbound, plan, first);
      }
      forwarded = first;
    } catch (error) {
      return await this.#covered(inbound, plan, fwd, stored, error, requestTime);
    } finally {
      waiting.end();
    }
    const { response } = forwarded;
    if (stored !== undefined) this.#late.heard(forwarded.hop);
    // Before the answer goes out: who has seen it must not get the old state from another worker.
    await this.#invalidate(
      invalidatedTargets(plan.head, response).flatMap((target) => {
        const key = cacheKey({ ...target, host: plan.keyHost }, plan.policy);
        // What is stored with the key parts of other requests is not known here: a purge by URL reaches all.
        return plan.policy.keyParts === "" ? [key] : [key, urlKeyOf(key)];
      }),
    );
    if (stored !== undefined) this.#updateByHead(plan, stored, forwarded);
    const context = this.#answers.context(inbound, plan, {
      status: {
        cache: this.#cacheName,
        isHit: false,
        fwd,
        fwdStatus: response.status,
        ...(detail !== undefined && { detail }),
      },
      outcome: fwd,
      upstream: {
        name: forwarded.hop.name,
        via: forwarded.via,
        protocol: forwarded.protocol,
        ms: forwarded.times.responseTime - forwarded.times.requestTime,
      },
      upstreamCacheStatus: cacheStatusOf(response.fields),
      generation: Math.min(generation, forwarded.generation ?? generation),
    });
    const hasContent = mayHaveContent(plan.head.method, response.status);
    if (!hasContent) forwarded.content.resume();
    return {
      status: response.status,
      fields: downstreamFields(response.fields, context, passedAge(response)),
      body: hasContent ? this.#content(inbound, plan, forwarded, generation) : undefined,
      bodyBytes: forwarded.contentLength,
      record: context.record,
      source: head === plan.head ? sourceOfGet(plan, response, forwarded.times.responseTime) : undefined,
    };
  }

  /** The content on its way to the client; what a POST was answered with is kept when it has all arrived, where it may be. */
  #content(
    inbound: Inbound,
    plan: RequestPlan,
    forwarded: Forwarded,
    generation: number,
  ): AsyncIterable<Uint8Array> {
    const { content, contentLength, times } = forwarded;
    if (plan.head.method !== "POST" || !this.#routing.isOwner(plan.key, inbound.hop)) return content;
    // One of several workers would have to tell the key's owner.
    if (this.#siblings?.isElsewhere(plan.key) === true) return content;
    if (contentLength === undefined || contentLength > POSTED_BYTES_MAX) return content;
    const response = {
      ...forwarded.response,
      fields: withoutFields(forwarded.response.fields, CACHE_STATUS),
    };
    const known = Math.min(generation, forwarded.generation ?? generation);
    const head = postedHead(asSent(plan.head, inbound), response, plan.policy, times, known);
    return head === undefined ? content : this.#kept(plan, head, content);
  }

  async *#kept(
    plan: RequestPlan,
    head: StoredHead,
    content: AsyncIterable<Uint8Array>,
  ): AsyncGenerator<Uint8Array> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of content) {
      chunks.push(chunk);
      yield chunk;
    }
    if (this.#purges.stateOf(plan.purgeScope, plan.key, head) === "none")
      this.#store.put(plan.key, { ...head, body: ObjectBody.of(chunks).compact() });
  }

  /** Nobody answered: the stored response where it may cover that, else the failure. */
  async #covered(
    inbound: Inbound,
    plan: RequestPlan,
    fwd: ForwardReason,
    stored: StoredObject | undefined,
    error: unknown,
    requestTime: ReturnType<Clock["epoch"]>,
  ): Promise<Answer> {
    const fault = faultOf(error);
    const now = this.#clock.epoch();
    const cover = decideResponse({
      request: plan.head,
      policy: plan.policy,
      stored,
      outcome: { kind: "failure", code: fault.code },
      times: { requestTime, responseTime: now },
      generation: this.#purges.generation,
      isPurgedMeanwhile: () => false,
      contentLength: undefined,
      objectBytesMax: 0,
      isOwner: true,
      now,
    });
    return cover.action === "serve-stale"
      ? await this.#fromStale(inbound, plan, cover)
      : this.#answers.failure(plan, fault, fwd);
  }

  async #fromStale(
    inbound: Inbound,
    plan: RequestPlan,
    { stored, fresh, detail }: Pick<StaleOutcome, "stored" | "fresh" | "detail">,
  ): Promise<Answer> {
    // A HEAD has no content, so that none of its slices can be missing.
    return await this.#answers.fromStored(inbound, plan, stored, fresh.ageSeconds, {
      status: {
        cache: this.#cacheName,
        isHit: true,
        ttlSeconds: fresh.ttlSeconds,
        detail: `stale-if-error-${detail}`,
      },
      outcome: "hit-stale",
      generation: stored.generation,
    });
  }

  /** An answer to a HEAD that nobody waited for: what it says of the stored response holds all the same. Never rejects. */
  async #takeLate(plan: RequestPlan, stored: StoredObject, forwarding: Promise<Forwarded>): Promise<void> {
    try {
      const forwarded = await forwarding;
      this.#late.heard(forwarded.hop);
      this.#updateByHead(plan, stored, forwarded);
      forwarded.content.resume();
    } catch {
      // Its client has been answered; the next request hears of the failure itself.
    }
  }

  /** RFC 9111, section 4.3.5: a HEAD's answer freshens the stored GET response, or shows that it is out of date. */
  #updateByHead(plan: RequestPlan, stored: StoredObject, forwarded: Forwarded): void {
    const { response, contentLength, times } = forwarded;
    if (response.status >= 500) return;
    const withLength: ResponseHead =
      contentLength === undefined
        ? response
        : { ...response, fields: [...response.fields, ["Content-Length", String(contentLength)]] };
    if (response.status === stored.status && headMatches(stored, withLength, contentBytes(stored))) {
      const fields = withoutFields(response.fields, CACHE_STATUS);
      this.#store.freshen(
        plan.key,
        stored,
        freshen(stored, { ...response, fields }, times, stored.generation),
      );
    } else void this.#invalidate([plan.key]);
  }
}

/** What a GET would be answered from where the answer to its HEAD is this one; undefined: from nothing that is stored anywhere. */
function sourceOfGet(
  plan: RequestPlan,
  response: ResponseHead,
  responseTime: EpochMs,
): AnswerSource | undefined {
  return storable({ ...plan.head, method: "GET" }, response, plan.policy, responseTime).isStorable
    ? sourceOfPassed(plan, response)
    : undefined;
}

/** The head with the codings that the client takes: nothing here changes the answer's. */
function asSent(head: RequestHead, { head: sent }: Inbound): RequestHead {
  const codings = sent.fields.filter(isCoding);
  return { ...head, fields: [...head.fields.filter((field) => !isCoding(field)), ...codings] };
}
const isCoding = ([name]: Field): boolean => name.toLowerCase() === "accept-encoding";

/** Age of an answer that is passed on: what upstream said, if it can be read. */
export function passedAge(response: ResponseHead): number | undefined {
  if (fieldValue(response.fields, "age") === undefined) return undefined;
  const age = ageValue(response);
  return age === "invalid" ? undefined : age;
}

/** One fill from beginning to end: ask the next hop, decide what its answer is, move its content. */
import { type Clock, IsochroneError, xxh32 } from "#kit";
import type { Logger } from "#kit/io";
import type { CacheKey } from "../core/cache-key.ts";
import { decideResponse, type UpstreamOutcome } from "../core/decide.ts";
import { SecondHitFilter } from "../core/eviction/second-hit.ts";
import { hasField, withoutFields } from "../core/headers.ts";
import type { RequestHead, ResponseHead, StoredHead } from "../core/messages.ts";
import type { RequestPolicy } from "../core/policy.ts";
import type { PurgeIndex } from "../core/purge-index.ts";
import { isPart, outranksPart } from "../core/parts.ts";
import { contentBytes, isSliceOpening, type Opening, openingRange } from "../core/slices.ts";
import { UNCONDITIONAL, validatingFields } from "../core/validation.ts";
import { isSameVariant } from "../core/vary.ts";
import { cacheStatusOf, type CollapseTable, type Fill, type FillOutcome } from "./collapse.ts";
import { COPY_BYTES_MAX, type Copies } from "./copies.ts";
import type { HttpVersion, SendInterim } from "./exchange.ts";
import type { FillAudience } from "./fill-audience.ts";
import type { FillBudget } from "./fill-budget.ts";
import type { Forwarded, Forwarder } from "./forwarder.ts";
import type { LateStale } from "./late-stale.ts";
import type { StoredObject } from "./memory-store.ts";
import type { EdgeMetrics } from "./metrics.ts";
import { ObjectBody } from "./object-body.ts";
import { retryAfterOf } from "./overload-gate.ts";
import type { ObjectStore } from "./object-store.ts";
import { type Hop, serversOf } from "./routing.ts";
import type { Slices } from "./slices.ts";

export interface FillRequest {
  /** A GET; its own conditions and range are taken off, so that the whole object comes. */
  readonly head: RequestHead;
  readonly httpVersion: HttpVersion;
  readonly clientAddress: string | undefined;
  readonly requestId: string;
  readonly key: CacheKey;
  readonly collapseKey: string;
  readonly purgeScope: string;
  readonly policy: RequestPolicy;
  readonly hops: readonly Hop[];
  readonly isOwner: boolean;
  /** What comes is kept as a copy of another server's: for a moment, in memory alone (copies.ts). */
  readonly isCopy: boolean;
  /** The stored response to validate; undefined for a plain fetch. */
  readonly stored: StoredObject | undefined;
  /** The slice or part to ask for; undefined: the whole. */
  readonly opening: Opening | undefined;
  /** Length of slices, bytes; undefined: this object is not cut into any. */
  readonly sliceBytes: number | undefined;
  /** Somebody waits for it; nobody does for a revalidation or a prefetch. */
  readonly isAwaited: boolean;
  /** It takes spare room at next hops only: nobody waits, or whoever does has said so. */
  readonly isBackground: boolean;
  /** Where interim answers go: to whoever began it. */
  readonly sendInterim: SendInterim | undefined;
}

/** Keys that are remembered, 2.5 bytes each. */
const ENDED_KEYS = 8_192;

/** When to come again, for those who had ended their side of the connection while there was no place for them, s. */
const GIVEN_UP_RETRY_AFTER_SECONDS = 1;
/** Not stored: each answer states its own. */
const NOT_STORED_FIELDS: ReadonlySet<string> = new Set(["cache-status"]);

export class Filler {
  readonly #forwarder: Forwarder;
  readonly #store: ObjectStore;
  readonly #purges: PurgeIndex;
  readonly #collapse: CollapseTable;
  readonly #clock: Clock;
  readonly #metrics: EdgeMetrics;
  readonly #logger: Logger;
  readonly #budget: FillBudget;
  readonly #slices: Slices;
  readonly #copies: Copies;
  readonly #late: LateStale;
  /** Keys of which a fill has ended unread: the next one goes on, or clients that leave would keep an object out of the store for ever. */
  readonly #ended = new SecondHitFilter(ENDED_KEYS);

  constructor(options: {
    readonly forwarder: Forwarder;
    readonly store: ObjectStore;
    readonly purges: PurgeIndex;
    readonly collapse: CollapseTable;
    readonly clock: Clock;
    readonly metrics: EdgeMetrics;
    readonly logger: Logger;
    readonly budget: FillBudget;
    readonly slices: Slices;
    readonly copies: Copies;
    readonly late: LateStale;
  }) {
    this.#forwarder = options.forwarder;
    this.#store = options.store;
    this.#purges = options.purges;
    this.#collapse = options.collapse;
    this.#clock = options.clock;
    this.#metrics = options.metrics;
    this.#logger = options.logger;
    this.#budget = options.budget;
    this.#slices = options.slices;
    this.#copies = options.copies;
    this.#late = options.late;
  }

  /**
   * Begins a fill. `isRegistered`: others may find and join it. The outcome never rejects. When the answer keeps everybody
   * waiting and what is stored may be served in its place, the outcome is that, and the fill goes on without them. `audience`: who waits for
   * it; when they have left before it was sent the outcome is "failed" with code "aborted".
   */
  begin(request: FillRequest, isRegistered: boolean, audience?: FillAudience): Promise<FillOutcome> {
    const generation = this.#purges.generation;
    const { promise, resolve: serve } = Promise.withResolvers<FillOutcome>();
    const settle = (outcome: FillOutcome): void => {
      audience?.handleServed();
      serve(outcome);
    };
    const { isAwaited, stored, policy, hops } = request;
    const waiting = this.#late.wait(isAwaited ? stored : undefined, policy, hops, settle);
    const resolve = (outcome: FillOutcome): void => {
      waiting.end();
      // Nobody will read it; once the fill moves it, it is let go.
      if (waiting.isOver && outcome.kind === "private") queueMicrotask(() => outcome.body.abandon());
      settle(outcome);
    };
    const fill = isRegistered
      ? this.#collapse.begin(request.collapseKey, generation, promise, serversOf(request.hops), audience)
      : undefined;
    void this.#runCounted(request, generation, fill, audience, resolve);
    return promise;
  }

  /** Never rejects. */
  async #runCounted(
    request: FillRequest,
    generation: number,
    fill: Fill | undefined,
    audience: FillAudience | undefined,
    resolve: (outcome: FillOutcome) => void,
  ): Promise<void> {
    const done = this.#budget.begin();
    try {
      await this.#run(request, generation, fill, audience, resolve);
    } catch (error) {
      // A fault of our own: whoever waits must not wait for ever.
      this.#logger.error("fill-failed", { error });
      resolve({ kind: "failed", code: "internal", message: "Internal fault while filling" });
    } finally {
      done();
      if (fill) this.#collapse.release(fill);
    }
  }

  async #run(
    request: FillRequest,
    generation: number,
    fill: Fill | undefined,
    audience: FillAudience | undefined,
    resolve: (outcome: FillOutcome) => void,
  ): Promise<void> {
    let { stored } = request;
    for (;;) {
      const begunAt = this.#clock.epoch();
      let forwarded: Forwarded | undefined;
      let outcome: UpstreamOutcome;
      let message = "";
      const known = this.#collapse.failureOf(request.key);
      let retryAfterSeconds: number | undefined;
      try {
        if (known !== undefined) throw known;
        forwarded = await this.#forwarder.forward(
          {
            ...request,
            body: undefined,
            bodyBytes: undefined,
            signal: undefined,
            desertion: audience?.signal,
            without: UNCONDITIONAL,
            extra: [
              ...(stored === undefined ? [] : validatingFields(stored)),
              ...(request.opening === undefined ? [] : [["Range", openingRange(request.opening)] as const]),
            ],
          },
          request.hops,
        );
        outcome = { kind: "response", response: forwarded.response };
        this.#late.heard(forwarded.hop);
      } catch (error) {
        const code = error instanceof IsochroneError ? error.code : "internal";
        outcome = { kind: "failure", code };
        message = error instanceof Error ? error.message : String(error);
        // Used again it does not grow older: else constant demand would keep a hop that is back unheard.
        if (error !== known) this.#collapse.setFailure(request.key, error);
        // Who has only ended its side hears that there was no place.
        retryAfterSeconds = code === "aborted" ? GIVEN_UP_RETRY_AFTER_SECONDS : retryAfterOf(error);
      }
      const upstreamCacheStatus = forwarded && cacheStatusOf(forwarded.response.fields);
      if (forwarded && outcome.kind === "response")
        outcome = { kind: "response", response: stripped(forwarded) };
      const now = this.#clock.epoch();
      const decision = decideResponse({
        request: request.head,
        policy: request.policy,
        stored,
        outcome,
        times: forwarded?.times ?? { requestTime: begunAt, responseTime: now },
        generation: Math.min(generation, forwarded?.generation ?? generation),
        isPurgedMeanwhile: (head) => this.#purges.stateOf(request.purgeScope, request.key, head) !== "none",
        contentLength: forwarded?.contentLength,
        objectBytesMax: this.#bytesMax(request),
        isOwner: request.isOwner,
        opening: request.opening,
        sliceBytes: request.sliceBytes,
        now,
      });
      const hopName = forwarded?.hop.name ?? "";
      switch (decision.action) {
        case "fail":
          forwarded?.content.destroy();
          resolve({ kind: "failed", code: decision.code, message, retryAfterSeconds });
          return;
        case "serve-stale":
          forwarded?.content.destroy();
          resolve({
            kind: "stale",
            stored: decision.stored,
            fresh: decision.fresh,
            detail: decision.detail,
          });
          return;
        case "refetch":
          forwarded?.content.destroy();
          stored = undefined;
          continue;
        case "freshen": {
          forwarded?.content.resume();
          const keeper = request.isOwner && !request.isCopy ? this.#store : this.#copies;
          const object = decision.isStored
            ? keeper.freshen(request.key, decision.stored, decision.head)
            : { ...decision.head, body: decision.stored.body };
          if (fill) fill.tags = object.tags;
          this.#remember(request, decision.head.status, decision.head, decision.isShareable);
          resolve({
            kind: "stored",
            head: object,
            body: object.body,
            totalBytes: contentBytes(object),
            fresh: decision.fresh,
            isShareable: decision.isShareable && decision.isStored,
            isStored: decision.isStored,
            fwdStatus: 304,
            upstreamCacheStatus,
            hopName,
            via: forwarded?.via ?? null,
            protocol: forwarded?.protocol,
          });
          return;
        }
        case "pass": {
          if (forwarded === undefined || outcome.kind !== "response")
            throw new Error("A pass without a response");
          this.#metrics.notStored(decision.reason);
          // A newer answer that may not be stored: what was stored before is no longer the present state.
          if (stored !== undefined && forwarded.response.status < 500) this.#store.delete(request.key);
          // A range beyond the end says nothing of the key: else anybody could end its collapsing. Nor does it that another
          // server keeps it: this one may have to share a copy in a moment.
          const isBeyond = forwarded.response.status === 416 && request.opening !== undefined;
          if (!isBeyond && decision.reason !== "not-owner")
            this.#remember(request, forwarded.response.status, undefined, false);
          if (fill) this.#collapse.release(fill);
          const body = new ObjectBody(false, this.#budget.windows.share());
          resolve({
            kind: "private",
            response: outcome.response,
            body,
            totalBytes: forwarded.contentLength,
            reason: decision.reason,
            upstreamCacheStatus,
            generation: Math.min(generation, forwarded.generation ?? generation),
            hopName,
            via: forwarded?.via ?? null,
            protocol: forwarded?.protocol,
          });
          await this.#pump(request, forwarded, body, undefined);
          return;
        }
        case "unsliceable": {
          if (forwarded === undefined) throw new Error("A part without a response");
          this.#metrics.notStored(decision.reason);
          if (decision.reason !== "purged-meanwhile") this.#collapse.setUnsliceable(request.key);
          if (stored !== undefined) this.#store.delete(request.key);
          discard(forwarded);
          resolve({ kind: "unsliceable" });
          return;
        }
        case "store-slices": {
          if (forwarded === undefined) throw new Error("A stored answer without a response");
          const { head, span } = decision;
          const object: StoredObject = { ...head, body: ObjectBody.of([]) };
          this.#remember(request, head.status, head, decision.isShareable);
          const isStored = this.#store.put(request.key, object);
          if (!isStored) this.#metrics.notStored("too-large");
          // From now on the head is found in the store, and each slice by itself.
          if (fill) this.#collapse.release(fill);
          const servers = serversOf(request.hops);
          const taken = this.#slices.take(
            request.key,
            request.purgeScope,
            head,
            forwarded.content,
            span,
            servers,
          );
          resolve({
            kind: "stored",
            head: object,
            body: object.body,
            totalBytes: head.sliced.totalBytes,
            fresh: decision.fresh,
            isShareable: decision.isShareable && isStored,
            isStored,
            fwdStatus: forwarded.response.status,
            upstreamCacheStatus,
            hopName,
            via: forwarded.via,
            protocol: forwarded.protocol,
          });
          await taken;
          return;
        }
        case "store": {
          if (forwarded === undefined) throw new Error("A stored answer without a response");
          const body = new ObjectBody(true);
          if (fill) fill.tags = decision.head.tags;
          this.#remember(request, decision.head.status, decision.head, decision.isShareable);
          if (isPart(decision.head)) this.#handlePart(request, fill);
          // Not to be shared: nobody may find it any more.
          if (fill && !decision.isShareable) this.#collapse.release(fill);
          // Most small answers have come whole with their heads: then they are stored, and told as they will be from now on.
          const pumped = this.#pump(request, forwarded, body, fill);
          const isHere = body.isComplete;
          if (isHere) this.#keep(request, decision.head, body);
          resolve({
            kind: "stored",
            head: decision.head,
            body,
            totalBytes: forwarded.contentLength,
            fresh: decision.fresh,
            isShareable: decision.isShareable,
            isStored: true,
            statedRange: decision.statedRange,
            fwdStatus: forwarded.response.status,
            upstreamCacheStatus,
            hopName,
            via: forwarded?.via ?? null,
            protocol: forwarded?.protocol,
          });
          await pumped;
          if (!isHere) this.#keep(request, decision.head, body);
          return;
        }
        default:
          decision satisfies never;
      }
    }
  }

  /** What is kept is a part: others ask for what they want by themselves, and that costs the origin no slice each time. */
  #handlePart({ opening, key }: FillRequest, fill: Fill | undefined): void {
    if (opening === undefined || opening.kind === "asked") return;
    if (isSliceOpening(opening)) this.#collapse.setUnsliceable(key);
    if (fill) this.#collapse.release(fill);
  }

  /** What the next request for the key should know before its answer is here. */
  #remember(request: FillRequest, status: number, head: StoredHead | undefined, isShareable: boolean): void {
    this.#collapse.setShareable(request.collapseKey, request.key, status, isShareable);
    if (head !== undefined) this.#collapse.setNominated(request.key, head.nominatedFields);
  }

  /** Largest content that is kept for a request. */
  #bytesMax({ isCopy }: FillRequest): number {
    const { objectBytesMax } = this.#store.memory;
    return isCopy ? Math.min(objectBytesMax, COPY_BYTES_MAX) : objectBytesMax;
  }

  async #pump(
    request: FillRequest,
    forwarded: Forwarded,
    body: ObjectBody,
    fill: Fill | undefined,
  ): Promise<void> {
    await this.#budget.pump(forwarded, body, this.#bytesMax(request), {
      onReleased: () => {
        if (fill) this.#collapse.release(fill);
      },
      mayEnd: () => !this.#ended.isSecond(xxh32(request.key)),
    });
  }

  #keep(request: FillRequest, head: StoredHead, body: ObjectBody): void {
    if (!body.isComplete) this.#metrics.notStored("incomplete");
    else if (!body.isRetained) this.#metrics.notStored("too-large");
    else if (this.#purges.stateOf(request.purgeScope, request.key, head) !== "none")
      // It began before a purge that means it: to store it would bring the purged state back as fresh.
      this.#metrics.notStored("purged-meanwhile");
    else if (
      isPart(head) &&
      this.#store.memory.peek(request.key).some((one) => isSameVariant(one, head) && outranksPart(one, head))
    )
      this.#metrics.notStored("partial");
    else if (request.isCopy) this.#copies.put(request.key, { ...head, body: body.compact() });
    else if (!this.#store.put(request.key, { ...head, body: body.compact() }))
      this.#metrics.notStored("too-large");
  }
}

/** Content that costs less to read to its end than a new connection, bytes. */
const DISCARD_BYTES_MAX = 64 * 1_024;

/** Lets go of content that nobody will read. */
function discard(forwarded: Forwarded): void {
  forwarded.content.on("error", () => {});
  if ((forwarded.contentLength ?? Number.POSITIVE_INFINITY) <= DISCARD_BYTES_MAX) forwarded.content.resume();
  else forwarded.content.destroy();
}

/** The response without fields that are not stored. */
function stripped({ response }: Forwarded): ResponseHead {
  return hasField(response.fields, "cache-status")
    ? { status: response.status, fields: withoutFields(response.fields, NOT_STORED_FIELDS) }
    : response;
}

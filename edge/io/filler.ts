/** One fill from beginning to end: ask the next hop, decide what its answer is, move its content. */
import type { Readable } from "node:stream";
import { type Clock, IsochroneError } from "#kit";
import type { Logger } from "#kit/io";
import type { EdgeSettings } from "../config.ts";
import type { CacheKey } from "../core/cache-key.ts";
import { decideResponse, type UpstreamOutcome } from "../core/decide.ts";
import { type Fields, withoutFields } from "../core/headers.ts";
import type { RequestHead, StoredHead } from "../core/messages.ts";
import type { RequestPolicy } from "../core/policy.ts";
import type { PurgeIndex } from "../core/purge-index.ts";
import { CONDITIONAL_FIELDS, validatingFields } from "../core/validation.ts";
import { cacheStatusOf, type CollapseTable, type Fill, type FillOutcome } from "./collapse.ts";
import type { HttpVersion } from "./exchange.ts";
import type { Forwarded, Forwarder } from "./forwarder.ts";
import type { StoredObject } from "./memory-store.ts";
import type { EdgeMetrics } from "./metrics.ts";
import { ObjectBody } from "./object-body.ts";
import type { ObjectStore } from "./object-store.ts";
import type { Hop } from "./routing.ts";

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
  /** The stored response to validate; undefined for a plain fetch. */
  readonly stored: StoredObject | undefined;
}

const WITHOUT: ReadonlySet<string> = new Set([...CONDITIONAL_FIELDS, "range"]);
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
  readonly #fillBytesMax: number;
  #fillBytes = 0;
  #active = 0;

  constructor(options: {
    readonly forwarder: Forwarder;
    readonly store: ObjectStore;
    readonly purges: PurgeIndex;
    readonly collapse: CollapseTable;
    readonly clock: Clock;
    readonly metrics: EdgeMetrics;
    readonly logger: Logger;
    readonly settings: EdgeSettings;
  }) {
    this.#forwarder = options.forwarder;
    this.#store = options.store;
    this.#purges = options.purges;
    this.#collapse = options.collapse;
    this.#clock = options.clock;
    this.#metrics = options.metrics;
    this.#logger = options.logger;
    this.#fillBytesMax = Math.floor(options.settings.memoryBytes / 4);
  }

  /** Bytes that fills hold beside the store; beyond a quarter of the store's size new content is not retained. */
  get fillBytes(): number {
    return this.#fillBytes;
  }
  get active(): number {
    return this.#active;
  }

  /** Begins a fill. `isRegistered`: others may find and join it. The outcome never rejects. */
  begin(request: FillRequest, isRegistered: boolean): Promise<FillOutcome> {
    const generation = this.#purges.generation;
    const { promise, resolve } = Promise.withResolvers<FillOutcome>();
    const fill = isRegistered ? this.#collapse.begin(request.collapseKey, generation, promise) : undefined;
    this.#active++;
    void this.#run(request, generation, fill, resolve)
      .catch((error: unknown) => {
        // A fault of our own: whoever waits must not wait for ever.
        this.#logger.error("fill-failed", { error });
        resolve({ kind: "failed", code: "internal", message: "Internal fault while filling" });
      })
      .finally(() => {
        this.#active--;
        if (fill) this.#collapse.release(fill);
      });
    return promise;
  }

  async #run(
    request: FillRequest,
    generation: number,
    fill: Fill | undefined,
    resolve: (outcome: FillOutcome) => void,
  ): Promise<void> {
    let { stored } = request;
    for (;;) {
      const aborter = new AbortController();
      const begunAt = this.#clock.epoch();
      let forwarded: Forwarded | undefined;
      let outcome: UpstreamOutcome;
      let message = "";
      try {
        forwarded = await this.#forwarder.forward(
          {
            ...request,
            body: undefined,
            bodyBytes: undefined,
            signal: aborter.signal,
            without: WITHOUT,
            extra: stored === undefined ? [] : validatingFields(stored),
          },
          request.hops,
        );
        outcome = { kind: "response", response: forwarded.response };
      } catch (error) {
        outcome = { kind: "failure", code: error instanceof IsochroneError ? error.code : "internal" };
        message = error instanceof Error ? error.message : String(error);
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
        objectBytesMax: this.#store.memory.objectBytesMax,
        isOwner: request.isOwner,
        now,
      });
      const hopName = forwarded?.hop.name ?? "";
      switch (decision.action) {
        case "fail":
          forwarded?.content.destroy();
          resolve({ kind: "failed", code: decision.code, message });
          return;
        case "serve-stale":
          forwarded?.content.destroy();
          resolve({
            kind: "stale",
            stored: decision.stored,
            fresh: decision.fresh,
            detail: decision.detail,
            fwdStatus: forwarded?.response.status,
          });
          return;
        case "refetch":
          forwarded?.content.destroy();
          stored = undefined;
          continue;
        case "freshen": {
          forwarded?.content.resume();
          const object = decision.isStored
            ? this.#store.freshen(request.key, decision.stored, decision.head)
            : { ...decision.head, body: decision.stored.body };
          if (fill) fill.tags = object.tags;
          this.#remember(request, decision.head, decision.isShareable);
          resolve({
            kind: "stored",
            head: object,
            body: object.body,
            totalBytes: object.body.bytes,
            fresh: decision.fresh,
            isShareable: decision.isShareable && decision.isStored,
            isStored: decision.isStored,
            fwdStatus: 304,
            upstreamCacheStatus,
            hopName,
            via: forwarded?.via ?? null,
          });
          return;
        }
        case "pass": {
          if (forwarded === undefined || outcome.kind !== "response")
            throw new Error("A pass without a response");
          this.#metrics.notStored(decision.reason);
          // A newer answer that may not be stored: what was stored before is no longer the present state.
          if (stored !== undefined && forwarded.response.status < 500) this.#store.delete(request.key);
          this.#remember(request, undefined, false);
          if (fill) this.#collapse.release(fill);
          const body = new ObjectBody(false);
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
          });
          await this.#pump(forwarded.content, body, forwarded.contentLength);
          return;
        }
        case "store": {
          if (forwarded === undefined) throw new Error("A stored answer without a response");
          const body = new ObjectBody(true);
          if (fill) fill.tags = decision.head.tags;
          this.#remember(request, decision.head, decision.isShareable);
          // Not to be shared: nobody may find it any more.
          if (fill && !decision.isShareable) this.#collapse.release(fill);
          resolve({
            kind: "stored",
            head: decision.head,
            body,
            totalBytes: forwarded.contentLength,
            fresh: decision.fresh,
            isShareable: decision.isShareable,
            isStored: true,
            fwdStatus: forwarded.response.status,
            upstreamCacheStatus,
            hopName,
            via: forwarded?.via ?? null,
          });
          await this.#pump(forwarded.content, body, forwarded.contentLength, fill);
          this.#keep(request, decision.head, body);
          return;
        }
        default:
          decision satisfies never;
      }
    }
  }

  /** What the next request for the key should know before its answer is here. */
  #remember(request: FillRequest, head: StoredHead | undefined, isShareable: boolean): void {
    this.#collapse.setShareable(request.collapseKey, isShareable);
    if (head !== undefined) this.#collapse.setNominated(request.key, head.nominatedFields);
  }

  #keep(request: FillRequest, head: StoredHead, body: ObjectBody): void {
    if (!body.isComplete) this.#metrics.notStored("incomplete");
    else if (!body.isRetained) this.#metrics.notStored("too-large");
    else if (this.#purges.stateOf(request.purgeScope, request.key, head) !== "none")
      // It began before a purge that means it: to store it would bring the purged state back as fresh.
      this.#metrics.notStored("purged-meanwhile");
    else if (!this.#store.put(request.key, { ...head, body: body.compact() }))
      this.#metrics.notStored("too-large");
  }

  /** Moves the content with back-pressure; a body that grows too large is no longer retained. Never rejects. */
  async #pump(
    content: Readable,
    body: ObjectBody,
    statedBytes: number | undefined,
    fill?: Fill,
  ): Promise<void> {
    const objectBytesMax = this.#store.memory.objectBytesMax;
    body.onAbandoned = () => content.destroy();
    let heldBytes = 0;
    try {
      for await (const chunk of content as AsyncIterable<Uint8Array>) {
        body.append(chunk);
        if (body.isRetained) {
          heldBytes += chunk.byteLength;
          this.#fillBytes += chunk.byteLength;
          if (body.bytes > objectBytesMax || this.#fillBytes > this.#fillBytesMax) {
            if (fill) this.#collapse.release(fill);
            body.release();
          }
        }
        await body.room();
      }
      if (statedBytes !== undefined && body.bytes !== statedBytes)
        throw new IsochroneError(
          `The next hop's answer broke off: ${body.bytes} of ${statedBytes} bytes came`,
          { code: "incomplete", source: "upstream", retry: "safe" },
        );
      body.finish();
    } catch (error) {
      if (fill) this.#collapse.release(fill);
      body.fail(error);
    } finally {
      this.#fillBytes -= heldBytes;
    }
  }
}

/** The response without fields that are not stored. */
function stripped(forwarded: Forwarded): { readonly status: number; readonly fields: Fields } {
  return {
    status: forwarded.response.status,
    fields: withoutFields(forwarded.response.fields, NOT_STORED_FIELDS),
  };
}

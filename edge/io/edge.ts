/** Puts the parts of one edge process together: the same for alone and for a node of a deployment. */
import type { Clock } from "#kit";
import { collectGarbageMetrics, type Logger } from "#kit/io";
import type { EdgeSettings } from "../config.ts";
import type { CacheKey } from "../core/cache-key.ts";
import { PurgeIndex } from "../core/purge-index.ts";
import { sliceBytesFor } from "../core/slices.ts";
import type { AccessKeys } from "./access-keys.ts";
import type { Beacon } from "./beacon.ts";
import { Answers } from "./answers.ts";
import { CollapseTable } from "./collapse.ts";
import { Copies } from "./copies.ts";
import { CodingQueue } from "./compression/coding-queue.ts";
import { ContentCoder } from "./compression/content-coder.ts";
import { DictionaryStore } from "./compression/dictionary-store.ts";
import { Diagnosis } from "./diagnosis.ts";
import type { DiskShards } from "./disk-shards.ts";
import type { Answer, Inbound } from "./exchange.ts";
import { Fetcher } from "./fetcher.ts";
import { FillBudget } from "./fill-budget.ts";
import { Filler } from "./filler.ts";
import { Forwarder } from "./forwarder.ts";
import { EdgeHandler } from "./handler.ts";
import { HotTable } from "./hot-table.ts";
import type { Invalidate } from "./invalidation-chain.ts";
import { LateStale } from "./late-stale.ts";
import { MemoryStore } from "./memory-store.ts";
import { watchResident } from "./resident-watch.ts";
import { EdgeMetrics } from "./metrics.ts";
import { OverloadGate } from "./overload-gate.ts";
import { ObjectStore } from "./object-store.ts";
import { Passer } from "./passer.ts";
import { Prefetcher } from "./prefetcher.ts";
import { RequestPlanner } from "./request-plan.ts";
import type { Routing } from "./routing.ts";
import type { SiblingParts, Siblings } from "./siblings.ts";
import { Slices } from "./slices.ts";
import type { Upstream } from "./upstream.ts";

export interface EdgeParts {
  readonly settings: EdgeSettings;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Lower case; stands in Cache-Status, Via and CDN-Loop. */
  readonly cacheName: string;
  readonly routing: Routing;
  readonly upstream: Upstream;
  /** Most requests of a property that a server may have on their way, as its document states; null: nothing. */
  readonly forwardsMaxOf?: ((propertyId: string) => number | null) | undefined;
  /** Undefined: no disk store. Opened by whoever made it. */
  readonly disk?: DiskShards | undefined;
  /** The other workers of this server; undefined when it is one process. */
  readonly siblings?: Siblings | undefined;
  readonly metrics?: EdgeMetrics | undefined;
  readonly purges?: PurgeIndex | undefined;
  /** Undefined: failures get their page and are remembered, and no debug token is taken. */
  readonly diagnosis?: Diagnosis | undefined;
  /** Undefined: no property has tokens. */
  readonly accessKeys?: AccessKeys | undefined;
  /** Takes timings of users. */
  readonly beacon?: Beacon | undefined;
}

/** Copies of other servers' hot keys at once: as many keys a second would each be asked for several times. */
const COPIES_MAX = 4_096;

/** The cache with everything behind it, but no socket. */
export class Edge {
  readonly store: ObjectStore;
  readonly purges: PurgeIndex;
  readonly collapse: CollapseTable;
  readonly budget: FillBudget;
  readonly slices: Slices;
  readonly hot: HotTable;
  readonly handler: EdgeHandler;
  readonly prefetcher: Prefetcher;
  readonly codingQueue: CodingQueue;
  readonly dictionaries: DictionaryStore;
  readonly coder: ContentCoder;
  readonly metrics: EdgeMetrics;
  readonly routing: Routing;
  readonly upstream: Upstream;
  readonly gate: OverloadGate;
  readonly diagnosis: Diagnosis;
  readonly copies: Copies;
  readonly #siblings: Siblings | undefined;
  readonly #endWatch: () => void;
  /** Tells processes of this server that are not its workers; never rejects. */
  onInvalidated: Invalidate | undefined;

  constructor(parts: EdgeParts) {
    const { settings, clock, logger, routing, upstream, cacheName, siblings } = parts;
    this.#siblings = siblings;
    this.metrics = parts.metrics ?? new EdgeMetrics();
    collectGarbageMetrics(this.metrics.registry);
    this.routing = routing;
    this.upstream = upstream;
    this.diagnosis = parts.diagnosis ?? new Diagnosis({ serverName: cacheName, clock, secret: undefined });
    const hotBytes = Math.floor(settings.memoryBytes * settings.hotShare);
    const dictionaryBytes = Math.floor(settings.memoryBytes * settings.dictionaryShare);
    this.store = new ObjectStore(
      new MemoryStore(settings.memoryBytes - hotBytes - dictionaryBytes, settings.evictionPolicy),
      parts.disk,
    );
    this.purges = parts.purges ?? new PurgeIndex();
    this.collapse = new CollapseTable(settings.uncacheableMemoryMs, settings.failureMemoryMs, clock);
    // Beyond a quarter of the store's size what is being filled is handed on and not kept.
    this.budget = new FillBudget(
      settings.fillsMax,
      Math.floor(settings.memoryBytes / 4),
      settings.unreadFillBytesMax,
    );
    const { store, purges, collapse, metrics, budget } = this;
    const forwardsMaxOf = parts.forwardsMaxOf ?? (() => null);
    this.gate = new OverloadGate(settings, clock, metrics, Math.random, forwardsMaxOf);
    const forwarder = new Forwarder({
      gate: this.gate,
      upstream,
      clock,
      settings,
      metrics,
      cdnId: cacheName,
      accessKeys: parts.accessKeys,
    });
    const sliceBytes = sliceBytesFor(settings.sliceBytes, store.memory.objectBytesMax);
    const planner = new RequestPlanner(routing, collapse, sliceBytes, store.memory.objectBytesMax);
    this.slices = new Slices({ forwarder, store, purges, collapse, budget, metrics, settings });
    const { slices } = this;
    this.copies = new Copies(
      {
        requestsMin: settings.hotKeyRequestsMin,
        copyMs: settings.hotKeyCopyMs,
        copiesMax: COPIES_MAX,
        copiesBytesMax: Math.floor(settings.memoryBytes / 8),
      },
      clock,
      store.memory,
      (key) => routing.isOwner(key, { tier: undefined, isOwner: false }),
    );
    const { copies } = this;
    const late = new LateStale({ collapse, clock, metrics, settings });
    const filler = new Filler({
      forwarder,
      store,
      purges,
      collapse,
      clock,
      metrics,
      logger,
      budget,
      slices,
      copies,
      late,
    });
    const answers = new Answers({ cacheName, altSvc: settings.altSvc, clock, logger, slices, planner });
    this.handler = new EdgeHandler({
      routing,
      answers,
      fetcher: new Fetcher({
        cacheName,
        answers,
        filler,
        collapse,
        purges,
        budget,
        planner,
        copies,
        clock,
        metrics,
        settings,
      }),
      passer: new Passer({
        cacheName,
        answers,
        forwarder,
        routing,
        store,
        purges,
        clock,
        siblings,
        late,
        invalidate: async (keys) => await this.#invalidateEverywhere(keys),
      }),
      planner,
      store,
      purges,
      clock,
      metrics,
      cacheName,
      siblings,
      accessKeys: parts.accessKeys,
      beacon: parts.beacon,
      countries: settings.countries,
    });
    this.codingQueue = new CodingQueue({ store, siblings, settings, metrics, clock });
    this.dictionaries = new DictionaryStore(dictionaryBytes);
    this.coder = new ContentCoder({
      settings,
      store: store.memory,
      metrics,
      queue: this.codingQueue,
      dictionaries: this.dictionaries,
      isBrief: (key) => copies.has(key),
    });
    this.prefetcher = new Prefetcher({ handler: this.handler, routing, settings, metrics, clock, siblings });
    this.hot = new HotTable({
      bytesMax: hotBytes,
      store: store.memory,
      purges,
      routing,
      clock,
      cacheName,
      altSvc: settings.altSvc,
    });
    this.#endWatch = watchResident(store.memory, settings.memoryBytes, clock);
    this.#gauges();
  }

  #gauges(): void {
    const { metrics, store, hot, collapse, budget, slices, prefetcher, purges } = this;
    metrics.gauge("cache_bytes", "Bytes in the memory store", () => store.memory.bytes);
    metrics.gauge(
      "cache_garbage_bytes",
      "Of them, what is left to garbage: it follows what the process takes",
      () => store.memory.garbageBytes,
    );
    metrics.gauge("cache_objects", "Stored responses in memory", () => store.memory.objects);
    metrics.total(
      "cache_evictions_total",
      "Stored responses pushed out of memory",
      () => store.memory.counters.evictions,
    );
    metrics.gauge("hot_bytes", "Bytes of rendered answers of hot objects", () => hot.bytes);
    metrics.total("hot_hits_total", "Hits answered from rendered answers", () => hot.counters.hits);
    const { hot: hotKeys } = this.copies;
    metrics.gauge("hot_keys", "Hot keys of other servers of which there is a copy", () => hotKeys.copies);
    metrics.gauge("hot_key_bytes", "Bytes of these copies", () => hotKeys.bytes);
    metrics.total(
      "hot_keys_copied_total",
      "Copies of other servers' hot keys that were kept",
      () => hotKeys.counters.copied,
    );
    metrics.total(
      "hot_keys_refused_total",
      "Copies of hot keys for which there was no room",
      () => hotKeys.counters.refused,
    );
    const { codingQueue, coder, dictionaries } = this;
    metrics.gauge("coding_queue", "Stored contents that wait to be compressed", () => codingQueue.length);
    metrics.gauge("coding_streams", "Answers that are being compressed as they go by", () => coder.streams);
    metrics.gauge("dictionaries", "Dictionaries that are kept (RFC 9842)", () => dictionaries.size);
    metrics.gauge("dictionary_bytes", "Bytes of dictionaries", () => dictionaries.bytes);
    metrics.gauge("fills_active", "Fills in flight", () => budget.active);
    metrics.gauge("fill_bytes", "Bytes that fills in flight hold", () => budget.bytes);
    metrics.gauge(
      "fill_window_bytes",
      "Bytes of answers that are not kept, which wait for their readers",
      () => budget.windows.bytes,
    );
    metrics.total(
      "fills_unread_total",
      "Fills whose last reader left before it had what it asked for",
      () => budget.counters.unread,
    );
    metrics.total(
      "fills_unread_ended_total",
      "Of these, those that ended for it, since too much was missing",
      () => budget.counters.unreadEnded,
    );
    metrics.gauge("slices_active", "Slices that are arriving", () => slices.active);
    metrics.gauge("sliced_objects_read", "Objects in slices that are being read", () => slices.objects);
    metrics.total(
      "failures_remembered_total",
      "Requests that a remembered failure answered",
      () => collapse.counters.failuresUsed,
    );
    metrics.total("fills_begun_total", "Fills that others could join", () => collapse.counters.begun);
    metrics.total(
      "collapsed_total",
      "Requests that waited for another's fill",
      () => collapse.counters.joined,
    );
    metrics.total(
      "collapse_passed_by_total",
      "Requests that went by themselves since answers like theirs were not shareable",
      () => collapse.counters.passedBy,
    );
    const { control } = this.gate;
    metrics.gauge("forwards_active", "Requests that were forwarded or wait for it", () => control.active);
    metrics.gauge(
      "forwards_queued",
      "Requests that wait for a place at their next hop",
      () => control.queued,
    );
    metrics.total(
      "forwards_deserted_total",
      "Forwarded requests that went on when all who waited for their answers had left",
      () => control.deserted,
    );
    metrics.gauge(
      "loop_delay_ms",
      "Least delay of the event loop over the last 0.5 s in which requests were forwarded",
      () => control.loopDelay.standingMs,
      "max",
    );
    metrics.gauge(
      "loop_work_ms",
      "Mean processor time of the event loop from one look at it to the next over that time; a late loop with less waits for the processor",
      () => control.loopDelay.workMs,
      "max",
    );
    metrics.gauge("hops_shedding", "Next hops of which one request in a hundred or more is shed", () =>
      control.count((limiter) => limiter.shedShare >= 0.01),
    );
    for (const [name, what] of [
      ["cuts", "Cuts of an origin's limit because its answers were slow or bad"],
      ["probes", "Cuts of an origin's limit to see how fast it is without waiting"],
      ["refuted", "Cuts that showed that nothing waits at the origin"],
    ] as const)
      metrics.gauge(`limit_${name}`, what, () =>
        control.count((limiter) => limiter.limitCounters?.[name] ?? 0),
      );
    prefetcher.gauges();
    metrics.gauge(
      "purge_marks",
      "Keys and tags whose purge is remembered",
      () => purges.counters.marks,
      "max",
    );
    const { disk } = store;
    if (disk === undefined) return;
    metrics.gauge("disk_bytes", "Bytes in the disk store", () => disk.bytes);
    metrics.gauge("disk_objects", "Stored responses on disk", () => disk.objects);
    metrics.gauge("disk_segments", "Segment files", () => disk.segments);
    metrics.gauge("disk_index_bytes", "Bytes of the disk store's index in memory", () => disk.indexBytes);
    metrics.gauge("disk_pending_bytes", "Bytes that wait to be written", () => disk.pendingBytes);
    metrics.gauge(
      "disk_failing",
      "Directories whose disk refuses: requests pass them by",
      () => disk.failing,
    );
    metrics.total("disk_reads_total", "Stored responses read from disk", () =>
      disk.count(({ reads }) => reads),
    );
    metrics.total("disk_reads_refused_total", "Reads not begun because too many were in flight", () =>
      disk.count(({ readsRefused }) => readsRefused),
    );
    metrics.total("disk_writes_total", "Stored responses written to disk", () =>
      disk.count(({ writes }) => writes),
    );
    metrics.total("disk_written_bytes_total", "Bytes written to disk", () =>
      disk.count(({ writtenBytes }) => writtenBytes),
    );
    metrics.total(
      "disk_evictions_total",
      "Stored responses that went with their segment",
      () => disk.evictions,
    );
    metrics.total("disk_reinserted_total", "Stored responses written again because they were used", () =>
      disk.count(({ reinserted }) => reinserted),
    );
    metrics.total("disk_damaged_total", "Records and segments that were damaged and dropped", () =>
      disk.count(({ damaged }) => damaged),
    );
    metrics.total(
      "disk_skipped_total",
      "Objects not written because the queue was full or they were too large",
      () => disk.count(({ skipped }) => skipped["queue-full"] + skipped["too-large"]),
    );
    metrics.total("disk_skipped_admission_total", "Objects that admission kept off the disk", () =>
      disk.count(({ skipped }) => skipped.admission),
    );
    metrics.total("disk_skipped_failing_total", "Objects not written because the disk refused", () =>
      disk.count(({ skipped }) => skipped.failing),
    );
    metrics.total("disk_errors_total", "Reads and writes that the system refused", () =>
      disk.count(({ errors }) => errors),
    );
  }

  /** At once for a hit in memory. */
  handle(inbound: Inbound): Answer | Promise<Answer> {
    const { handler, prefetcher, diagnosis, coder } = this;
    prefetcher.observe(inbound);
    const stored = handler.handle(inbound);
    const answer =
      stored instanceof Promise
        ? stored.then((late) => coder.code(inbound, late))
        : coder.code(inbound, stored);
    return answer instanceof Promise
      ? answer.then((late) => diagnosis.finish(inbound, prefetcher.watch(inbound, late)))
      : diagnosis.finish(inbound, prefetcher.watch(inbound, answer));
  }

  /** Marks keys as changed by an unsafe request to another process (RFC 9111, section 4.4). */
  invalidate(keys: readonly CacheKey[]): void {
    for (const key of keys) this.store.invalidate(key);
  }

  /** Marks keys as changed, here at once and in the other processes of this server when this resolves. Never rejects. */
  async #invalidateEverywhere(keys: readonly CacheKey[]): Promise<void> {
    if (keys.length === 0) return;
    if (this.#siblings !== undefined) await this.#siblings.invalidate(keys);
    else {
      this.invalidate(keys);
      await this.onInvalidated?.(keys);
    }
  }

  /** What answers the other workers of this server. */
  get siblingParts(): SiblingParts {
    const { handler, store, purges, diagnosis, copies, codingQueue } = this;
    return {
      handle: async (inbound) => diagnosis.finish(inbound, await handler.handle(inbound)),
      // What is only a copy here is not copied again: it would outlive this one.
      plan: (inbound) => {
        const plan = handler.plan(inbound.head, inbound);
        return plan === undefined || copies.has(plan.key) ? undefined : plan;
      },
      store,
      makeForm: (job) => codingQueue.make({ ...job, isBrief: copies.has(job.key) }),
      isPurged: (plan, head) => purges.stateOf(plan.purgeScope, plan.key, head) !== "none",
    };
  }

  async close(): Promise<void> {
    this.#endWatch();
    this.prefetcher.close();
    this.codingQueue.close();
    await this.store.disk?.close();
  }
}

/** Follows control's purges: applies each in order, then acknowledges it; catches up before it says anything. */
import type { Clock, PurgeEntry, ServerId } from "#kit";
import type { Logger } from "#kit/io";
import type { ControlClient, WatchEvent } from "#control";
import { type CacheKey, parseAbsoluteUri, purgeKeys } from "../core/cache-key.ts";
import { PLAIN_POLICY } from "../core/policy.ts";
import type { Edge } from "./edge.ts";
import type { EdgeMetrics } from "./metrics.ts";
import { type NodeRouting, withoutPort } from "./node-routing.ts";

/** Purges older than this have long been answered for: they are applied and not acknowledged, ms. */
const ACKNOWLEDGE_WITHIN_MS = 60_000;

export class Purger {
  readonly #client: ControlClient;
  readonly #edge: Edge;
  readonly #routing: NodeRouting;
  readonly #serverId: ServerId;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #metrics: EdgeMetrics;
  #watch: { close(): void } | undefined;
  #logId: string | undefined;
  #isPaused = false;
  #isSweeping = false;
  #mustSweepAgain = false;
  readonly #synced = Promise.withResolvers<void>();

  constructor(options: {
    readonly client: ControlClient;
    readonly edge: Edge;
    readonly routing: NodeRouting;
    readonly serverId: ServerId;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly metrics: EdgeMetrics;
  }) {
    this.#client = options.client;
    this.#edge = options.edge;
    this.#routing = options.routing;
    this.#serverId = options.serverId;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#metrics = options.metrics;
  }

  /** Resolves when every purge that control keeps has been applied. */
  get synced(): Promise<void> {
    return this.#synced.promise;
  }

  start(): void {
    this.#watch = this.#client.watch(["purge"], (event) => this.#take(event));
  }

  /** Goes on applying and acknowledges nothing more: a successor answers for this server. */
  pause(): void {
    this.#isPaused = true;
  }

  close(): void {
    this.#watch?.close();
  }

  #take(event: WatchEvent): void {
    switch (event.type) {
      case "snapshot-begin": {
        const { purges, store } = this.#edge;
        const isNewLog = this.#logId !== undefined && this.#logId !== event.logId;
        const hasMissed = event.oldestPurgeSeq !== null && event.oldestPurgeSeq > purges.generation + 1;
        // Purges that control no longer keeps may have meant anything: nothing stored can be trusted as fresh.
        if (isNewLog || (hasMissed && !store.isEmpty)) {
          const removed = store.clear();
          this.#logger.warn("purges-missed", {
            removed,
            oldestPurgeSeq: event.oldestPurgeSeq,
            applied: purges.generation,
          });
        }
        if (isNewLog) purges.restart();
        this.#logId = event.logId;
        break;
      }
      case "heartbeat":
        this.#logId = event.logId;
        this.#synced.resolve();
        break;
      case "purge":
        this.#apply(event.purge);
        break;
      case "snapshot-end":
        this.#synced.resolve();
        break;
      case "document":
      case "report":
        break;
      default:
        event satisfies never;
    }
  }

  #apply(entry: PurgeEntry): void {
    const { purgeSeq, request } = entry;
    const { purges, store } = this.#edge;
    const property = this.#routing.property(request.propertyId);
    const keys: CacheKey[] = [];
    for (const url of request.urls) {
      const address = parseAbsoluteUri(url);
      const host = withoutPort(address?.host ?? "");
      // One customer's purge never reaches another's host, whatever URL it names.
      if (address === undefined || (property !== undefined && !property.hostnames.includes(host))) continue;
      keys.push(
        ...purgeKeys(`${address.scheme}://${host}${address.target}`, property?.caching ?? PLAIN_POLICY),
      );
    }
    const { tags, isWholeProperty = false } = request;
    const prefixes = (request.prefixes ?? []).flatMap((prefix) => {
      const address = parseAbsoluteUri(prefix);
      const host = withoutPort(address?.host ?? "");
      const isOurs = address !== undefined && (property === undefined || property.hostnames.includes(host));
      return isOurs ? [`${host}${address.target}`] : [];
    });
    // The marks are the property's own, so that a foreign host among them means nothing.
    const hosts = request.hosts ?? [];
    let removed = 0;
    if (
      purges.apply(
        purgeSeq,
        request.propertyId,
        { keys, tags, prefixes, hosts, isWhole: isWholeProperty },
        request.mode,
      )
    ) {
      this.#metrics.purge(request.mode);
      // The index alone makes the purge hold; this frees the bytes and counts what was there.
      for (const key of keys)
        removed += request.mode === "hard" ? store.delete(key) : store.memory.peek(key).length;
      const isByKey = tags.length + prefixes.length + hosts.length === 0 && !isWholeProperty;
      if (request.mode === "hard" && !isByKey) removed += this.#sweep();
    }
    if (this.#isPaused || this.#clock.epoch() - entry.atEpochMs > ACKNOWLEDGE_WITHIN_MS) return;
    void this.#client.acknowledgePurge({ purgeSeq, serverId: this.#serverId, removed });
  }

  /**
   * Frees what was purged. A small store is done at once and its count returned; of a large one the rest follows in turns, so that
   * requests are answered in between, and one walk does for all purges that came meanwhile.
   */
  #sweep(): number {
    if (this.#isSweeping) {
      this.#mustSweepAgain = true;
      return 0;
    }
    const walk = this.#edge.handler.sweepPurged(
      (key) => this.#routing.propertyOf(parseAbsoluteUri(key)?.host ?? "")?.property.propertyId ?? "",
    );
    const { done, value } = walk.next();
    if (done === true) return value;
    this.#isSweeping = true;
    const goOn = (): void => {
      if (walk.next().done !== true) {
        setImmediate(goOn);
        return;
      }
      this.#isSweeping = false;
      if (!this.#mustSweepAgain) return;
      this.#mustSweepAgain = false;
      this.#sweep();
    };
    setImmediate(goOn);
    return 0;
  }
}

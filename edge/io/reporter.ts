/** Tells control once a second how this server is, and writes an access record of each request. */
import type { Clock, ClusterId, PropertyCounters, PropertyId, Role, ServerId, ServerReport } from "#kit";
import type { Logger } from "#kit/io";
import { AccessLog, type CacheStatusWord, toAccessRecord } from "#analytics";
import { join } from "node:path";
import type { ControlClient, DocumentKeeper } from "#control";
import { fieldValue } from "../core/headers.ts";
import type { Edge } from "./edge.ts";
import type { Answer, Outcome } from "./exchange.ts";
import type { ServedRequest } from "./dispatch.ts";
import type { Upstream } from "./upstream.ts";

/** From one report to the next, ms. */
const INTERVAL_MS = 1_000;
/** Properties that are counted by themselves. */
const PROPERTIES_MAX = 10_000;

export interface ReporterOptions {
  readonly client: ControlClient;
  readonly edge: Edge;
  readonly keeper: DocumentKeeper;
  readonly transport: Upstream;
  readonly clock: Clock;
  readonly serverId: ServerId;
  readonly clusterId: () => ClusterId;
  readonly role: () => Role;
  readonly incarnation: string;
  readonly state: () => ServerReport["state"];
  readonly active: () => number;
  readonly stateDirectory: string;
  readonly logger: Logger;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class Reporter {
  readonly #o: ReporterOptions;
  readonly #properties = new Map<PropertyId, Mutable<PropertyCounters>>();
  readonly #log: AccessLog;
  #requests = 0;
  #requestsBefore = 0;
  #rateAt: number;
  #requestsPerSecond = 0;
  #timer: NodeJS.Timeout | undefined;
  #isPublishing = false;

  constructor(options: ReporterOptions) {
    this.#o = options;
    this.#log = new AccessLog({
      path: join(options.stateDirectory, "access.ndjson"),
      logger: options.logger,
    });
    this.#rateAt = options.clock.monotonic();
  }

  start(): void {
    this.#timer = setInterval(() => {
      const now = this.#o.clock.monotonic();
      this.#requestsPerSecond =
        ((this.#requests - this.#requestsBefore) * 1_000) / Math.max(1, now - this.#rateAt);
      this.#requestsBefore = this.#requests;
      this.#rateAt = now;
      // A control that hangs gets one report at a time, not a pile of them.
      if (!this.#isPublishing) void this.publish();
    }, INTERVAL_MS);
  }

  async publish(): Promise<void> {
    this.#isPublishing = true;
    await this.#o.client.publishReport(this.report());
    this.#isPublishing = false;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#log.close();
  }

  /** Counts a request, and what it cost its property. */
  served(served: ServedRequest): void {
    this.#requests++;
    const { record, status } = served.answer;
    this.#write(served);
    const { propertyId } = record;
    // Asked as the owner by a server of the own cluster: the user's request is counted there, once.
    if (propertyId === undefined || served.inbound.hop.isOwner) return;
    let counters = this.#properties.get(propertyId);
    if (counters === undefined) {
      if (this.#properties.size >= PROPERTIES_MAX) return;
      counters = { requests: 0, hits: 0, bytesDown: 0, bytesUp: 0, errors5xx: 0 };
      this.#properties.set(propertyId, counters);
    }
    counters.requests++;
    if (record.outcome === "hit" || record.outcome === "hit-stale" || isOwnersHit(served.answer))
      counters.hits++;
    counters.bytesDown += served.result.bytesDown;
    counters.bytesUp += served.inbound.bodyBytes ?? 0;
    if (status >= 500) counters.errors5xx++;
  }

  #write({ inbound, answer, result, durationMs, ttfbMs }: ServedRequest): void {
    const { record } = answer;
    this.#log.write(
      toAccessRecord({
        atEpochMs: inbound.receivedAt,
        requestId: inbound.requestId,
        serverId: this.#o.serverId,
        clusterId: this.#o.clusterId(),
        propertyId: record.propertyId ?? null,
        method: inbound.head.method,
        host: inbound.head.host,
        target: inbound.head.target,
        status: result.end === "client-gone" && result.bytesDown === 0 ? 0 : answer.status,
        cacheStatus: wordOf(record.outcome),
        tier: inbound.peer === undefined ? 0 : (inbound.hop.tier ?? 0) + 1,
        via: record.via ?? null,
        bytesDown: result.bytesDown,
        bytesUp: inbound.bodyBytes ?? 0,
        durationMs,
        ttfbMs,
        clientNetworkId: null,
        peerAddress: inbound.peer === undefined ? inbound.remoteAddress : undefined,
      }),
    );
  }

  report(): ServerReport {
    const { edge, keeper, transport, clock } = this.#o;
    return {
      serverId: this.#o.serverId,
      clusterId: this.#o.clusterId(),
      role: this.#o.role(),
      incarnation: this.#o.incarnation,
      atEpochMs: Math.round(clock.epoch()),
      state: this.#o.state(),
      requestsPerSecond: this.#requestsPerSecond,
      activeRequests: this.#o.active(),
      cacheBytes: edge.store.memory.bytes,
      cacheObjects: edge.store.memory.objects,
      properties: Object.fromEntries(
        [...this.#properties].map(([id, counters]) => [id, { ...counters }]),
      ) as ServerReport["properties"],
      links: [...transport.linkReports()],
      applied: { ...keeper.applied },
    };
  }
}

/** The record's word for an outcome: an answer from the store is a hit, fresh or not. */
function wordOf(outcome: Outcome): CacheStatusWord {
  if (outcome === "hit-stale") return "hit";
  return outcome === "admin" ? "refused" : outcome;
}

/** Whether the server of the own cluster that owns the key had it: for the user, and for the origin, that is a hit. */
function isOwnersHit({ record, fields }: Answer): boolean {
  if (record.status?.detail !== "not-owner" || record.upstream === undefined) return false;
  // Members stand in the order in which the answer passed the caches (RFC 9211 section 2): ours last, the owner's before it.
  const owners = fieldValue(fields, "cache-status")?.split(",").at(-2)?.trim() ?? "";
  return owners.startsWith(`${record.upstream}; hit`);
}

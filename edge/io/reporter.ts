/** Tells control once a second how this server is, and writes an access record of each request. */
import type { Clock, ClusterId, PropertyCounters, PropertyId, Role, ServerId, ServerReport } from "#kit";
import type { Logger } from "#kit/io";
import { AccessLog } from "#analytics";
import { join } from "node:path";
import type { ControlClient, DocumentKeeper } from "#control";
import { fieldValue } from "../core/headers.ts";
import type { Edge } from "./edge.ts";
import { AccessRecorder, type HotServed } from "./access-recorder.ts";
import type { ServedRequest } from "./dispatch.ts";
import type { Answer } from "./exchange.ts";
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
  readonly #recorder: AccessRecorder;
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
    const { serverId, clusterId } = options;
    this.#recorder = new AccessRecorder({ log: this.#log, serverId, clusterId });
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

  /** Says nothing more: a successor reports for this server. */
  pause(): void {
    clearInterval(this.#timer);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#log.close();
  }

  /** Counts a request, and what it cost its property. */
  served(served: ServedRequest): void {
    this.#requests++;
    const { record, status } = served.answer;
    this.#recorder.served(served);
    // Asked as the owner by a server of the own cluster: the user's request is counted there, once.
    const counters = served.inbound.hop.isOwner ? undefined : this.#countersOf(record.propertyId);
    if (counters === undefined) return;
    counters.requests++;
    if (record.outcome === "hit" || record.outcome === "hit-stale" || isOwnersHit(served.answer))
      counters.hits++;
    counters.bytesDown += served.result.bytesDown;
    counters.bytesUp += served.inbound.bodyBytes ?? 0;
    if (status >= 500) counters.errors5xx++;
  }

  /** The same for a hit from the hot table. */
  servedHot(hit: HotServed): void {
    this.#requests++;
    this.#recorder.hot(hit);
    const counters = this.#countersOf(hit.entry.memo.record.propertyId);
    if (counters === undefined) return;
    counters.requests++;
    counters.hits++;
    counters.bytesDown += hit.bytesDown;
  }

  #countersOf(propertyId: PropertyId | undefined): Mutable<PropertyCounters> | undefined {
    if (propertyId === undefined) return undefined;
    let counters = this.#properties.get(propertyId);
    if (counters === undefined && this.#properties.size < PROPERTIES_MAX) {
      counters = { requests: 0, hits: 0, bytesDown: 0, bytesUp: 0, errors5xx: 0 };
      this.#properties.set(propertyId, counters);
    }
    return counters;
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

/** Whether the server of the own cluster that owns the key had it: for the user, and for the origin, that is a hit. */
function isOwnersHit({ record, fields }: Answer): boolean {
  if (record.status?.detail !== "not-owner" || record.upstream === undefined) return false;
  // Members stand in the order in which the answer passed the caches (RFC 9211 section 2): ours last, the owner's before it.
  const owners = fieldValue(fields, "cache-status")?.split(",").at(-2)?.trim() ?? "";
  return owners.startsWith(`${record.upstream}; hit`);
}

/** Counts what one process of a node serves, and writes an access record of each request. */
import type { ClusterId, PropertyCounters, PropertyId, ServerId } from "#kit";
import type { Logger } from "#kit/io";
import { AccessLog } from "#analytics";
import { fieldValue } from "../core/headers.ts";
import { AccessRecorder, type HotServed } from "./access-recorder.ts";
import type { ServedRequest } from "./dispatch.ts";
import type { Answer } from "./exchange.ts";

/** Properties that are counted by themselves. */
const PROPERTIES_MAX = 10_000;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Counters since the start of a process. */
export interface TrafficCounters {
  readonly requests: number;
  readonly properties: Readonly<Record<string, PropertyCounters>>;
}

export class NodeTraffic {
  readonly #properties = new Map<PropertyId, Mutable<PropertyCounters>>();
  readonly #log: AccessLog;
  readonly #recorder: AccessRecorder;
  #requests = 0;

  /** `path`: of the access log. */
  constructor(options: {
    readonly path: string;
    readonly serverId: ServerId;
    readonly clusterId: () => ClusterId;
    readonly logger: Logger;
  }) {
    const { path, logger, serverId, clusterId } = options;
    this.#log = new AccessLog({ path, logger });
    this.#recorder = new AccessRecorder({ log: this.#log, serverId, clusterId });
  }

  get counters(): TrafficCounters {
    const properties = Object.fromEntries(
      Array.from(this.#properties, ([id, counters]) => [id, { ...counters }]),
    );
    return { requests: this.#requests, properties };
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

  async close(): Promise<void> {
    await this.#log.close();
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
}

/** Whether the server of the own cluster that owns the key had it: for the user, and for the origin, that is a hit. */
function isOwnersHit({ record, fields }: Answer): boolean {
  if (record.status?.detail !== "not-owner" || record.upstream === undefined) return false;
  // Members stand in the order in which the answer passed the caches (RFC 9211 section 2): ours last, the owner's before it.
  const owners = fieldValue(fields, "cache-status")?.split(",").at(-2)?.trim() ?? "";
  return owners.startsWith(`${record.upstream}; hit`);
}

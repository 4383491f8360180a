/** What edge clusters can take and what they are observed to carry, from the topology and the reports of servers. */
import type { ClusterEntry, MonotonicMs, ServerId, ServerReport, TopologyLimit } from "#kit";
import type { EdgeInput } from "./limits.ts";
import type { EdgeCluster, TopologyIndex } from "./topology-index.ts";

export interface EdgeCapacitySettings {
  /** A server's report counts for this long, ms. */
  readonly reportAgeMsMax: number;
}

interface KnownReport {
  readonly report: ServerReport;
  readonly at: MonotonicMs;
  /** Of all properties, since the server's process began. */
  readonly requests: number;
  readonly bytesDown: number;
}

/** What a server reported since it was last looked at; the mean before that, while nothing newer has come. */
interface Rate {
  sum: number;
  count: number;
  mean: number | undefined;
}

/** Weight of the newest measurement in what a request is held to weigh, 0..1. */
const BITS_SMOOTHING = 0.3;

/** So many requests say what a request weighs. */
const REQUESTS_MIN = 1_000;
/** What is measured may be this far from what is assumed; beyond it a counter is wrong. */
const BITS_RATIO_MAX = 1_000;

export class EdgeCapacity {
  readonly #settings: EdgeCapacitySettings;
  readonly #reports = new Map<ServerId, KnownReport>();
  readonly #rates = new Map<ServerId, Rate>();
  /** Counted since a request's weight was last judged. */
  #requests = 0;
  #bytes = 0;
  #bitsPerRequest: number | undefined;

  constructor(settings: EdgeCapacitySettings) {
    this.#settings = settings;
  }

  /** Forgets who is gone. */
  handleTopology(topology: TopologyIndex): void {
    for (const serverId of this.#reports.keys())
      if (!topology.servers.has(serverId)) this.#reports.delete(serverId);
    for (const serverId of this.#rates.keys())
      if (!topology.servers.has(serverId)) this.#rates.delete(serverId);
  }

  /** A server's own report, of a server that the topology knows. */
  handleReport(report: ServerReport, now: MonotonicMs): void {
    let requests = 0;
    let bytesDown = 0;
    for (const one of Object.values(report.properties)) {
      requests += one.requests;
      bytesDown += one.bytesDown;
    }
    const before = this.#reports.get(report.serverId);
    // Counters of another process, or of a property that is gone, say nothing of the time between.
    const isSame =
      before !== undefined &&
      before.report.incarnation === report.incarnation &&
      requests >= before.requests &&
      bytesDown >= before.bytesDown &&
      now > before.at;
    if (isSame && report.role === "edge") {
      this.#requests += requests - before.requests;
      this.#bytes += bytesDown - before.bytesDown;
    }
    this.#reports.set(report.serverId, { report, at: now, requests, bytesDown });
    const rate = this.#rates.get(report.serverId);
    if (rate === undefined)
      this.#rates.set(report.serverId, { sum: report.requestsPerSecond, count: 1, mean: undefined });
    else {
      rate.sum += report.requestsPerSecond;
      rate.count++;
    }
  }

  /** Measured over assumed bits a request; 1 before there were enough requests. Smoothed like the load. */
  bitsRatio(assumedBitsPerRequest: number): number {
    if (this.#requests >= REQUESTS_MIN) {
      const measured = (this.#bytes * 8) / this.#requests;
      const before = this.#bitsPerRequest ?? measured;
      this.#bitsPerRequest = before + BITS_SMOOTHING * (measured - before);
      this.#requests = 0;
      this.#bytes = 0;
    }
    const ratio = (this.#bitsPerRequest ?? assumedBitsPerRequest) / assumedBitsPerRequest;
    return Math.min(BITS_RATIO_MAX, Math.max(1 / BITS_RATIO_MAX, ratio));
  }

  /** The edge clusters ascending by id; what was reported since the last call counts once. */
  edges(
    index: TopologyIndex,
    isOut: (serverId: ServerId) => boolean,
    drained: ReadonlySet<ServerId>,
    now: MonotonicMs,
  ): EdgeInput[] {
    const { limits } = index.topology;
    return [...index.edgeClusters.values()]
      .map((cluster) => ({
        ...this.#edge(cluster, isOut, drained, now),
        pricePerGb: priceOf(cluster.entry, limits),
      }))
      .sort((a, b) => (a.clusterId < b.clusterId ? -1 : 1));
  }

  /** What the servers of a cluster of any role report, over their capacity; 0 where none does. */
  loadOf({ servers }: ClusterEntry, now: MonotonicMs): number {
    let requests = 0;
    let capacity = 0;
    for (const { serverId, capacityPerSecond } of servers) {
      const known = this.#reports.get(serverId);
      if (known === undefined || now - known.at > this.#settings.reportAgeMsMax) continue;
      requests += known.report.requestsPerSecond;
      capacity += capacityPerSecond;
    }
    return capacity === 0 ? 0 : requests / capacity;
  }

  #edge(
    { entry }: EdgeCluster,
    isOut: (serverId: ServerId) => boolean,
    drained: ReadonlySet<ServerId>,
    now: MonotonicMs,
  ): Omit<EdgeInput, "pricePerGb"> {
    const { clusterId, regionId } = entry;
    let isDrained = false;
    let capacityPerSecond = 0;
    let bitsPerSecondMax: number | undefined = 0;
    let observedPerSecond: number | undefined = 0;
    for (const server of entry.servers) {
      const { serverId } = server;
      const known = this.#reports.get(serverId);
      const fresh =
        known !== undefined && now - known.at <= this.#settings.reportAgeMsMax ? known : undefined;
      if (drained.has(serverId)) {
        isDrained = true;
        continue;
      }
      if (isOut(serverId) || fresh?.report.state === "draining") continue;
      capacityPerSecond += server.capacityPerSecond;
      bitsPerSecondMax = sumOf(bitsPerSecondMax, server.bitsPerSecondMax);
      observedPerSecond = sumOf(observedPerSecond, fresh && this.#observed(serverId));
    }
    isDrained &&= capacityPerSecond === 0;
    const what = { clusterId, regionId, isDrained, capacityPerSecond, bitsPerSecondMax };
    return { ...what, observedPerSecond, observedLoad: 0 };
  }

  #observed(serverId: ServerId): number | undefined {
    const rate = this.#rates.get(serverId);
    if (rate === undefined || rate.count === 0) return rate?.mean;
    rate.mean = rate.sum / rate.count;
    rate.sum = 0;
    rate.count = 0;
    return rate.mean;
  }
}

/** Undefined: one part is unknown. */
function sumOf(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? undefined : a + b;
}

/** What a gigabyte from a cluster costs: its own price and those of the contracts that it falls under. */
function priceOf(entry: ClusterEntry, limits: readonly TopologyLimit[]): number {
  let price = entry.pricePerGb ?? 0;
  for (const { clusterIds, regionId, pricePerGb = 0 } of limits)
    if (pricePerGb > 0 && (regionId === entry.regionId || clusterIds?.includes(entry.clusterId) === true))
      price += pricePerGb;
  return price;
}

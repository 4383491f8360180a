/** What edge clusters can take and what they are observed to carry, from the topology and the reports of servers. */
import type { ClusterEntry, ClusterId, MonotonicMs, ServerId, ServerReport, TopologyLimit } from "#kit";
import type { EdgeInput } from "./limits.ts";
import type { EdgeCluster, TopologyIndex } from "./topology-index.ts";

export interface EdgeCapacitySettings {
  /** A server's report counts for this long, ms. */
  readonly reportAgeMsMax: number;
  /** Weight of the newest observation in the smoothed load, 0..1. Small: reports come late, and a map that follows them swings. */
  readonly loadSmoothing: number;
}

interface KnownReport {
  readonly report: ServerReport;
  readonly at: MonotonicMs;
  /** Of all properties, since the server's process began. */
  readonly requests: number;
  readonly bytesDown: number;
  /** Between the last two reports; 0 before there are two. */
  readonly bitsPerSecond: number;
}

/** So many requests say what a request weighs. */
const REQUESTS_MIN = 1_000;
/** What is measured may be this far from what is assumed; beyond it a counter is wrong. */
const BITS_RATIO_MAX = 1_000;

export class EdgeCapacity {
  readonly #settings: EdgeCapacitySettings;
  readonly #reports = new Map<ServerId, KnownReport>();
  readonly #observedLoad = new Map<ClusterId, number>();
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
    for (const clusterId of this.#observedLoad.keys())
      if (!topology.edgeClusters.has(clusterId)) this.#observedLoad.delete(clusterId);
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
    const bitsPerSecond = isSame ? ((bytesDown - before.bytesDown) * 8_000) / (now - before.at) : 0;
    this.#reports.set(report.serverId, { report, at: now, requests, bytesDown, bitsPerSecond });
  }

  /** Measured over assumed bits a request; 1 before there were enough requests. Smoothed like the load. */
  bitsRatio(assumedBitsPerRequest: number): number {
    if (this.#requests >= REQUESTS_MIN) {
      const measured = (this.#bytes * 8) / this.#requests;
      const before = this.#bitsPerRequest ?? measured;
      this.#bitsPerRequest = before + this.#settings.loadSmoothing * (measured - before);
      this.#requests = 0;
      this.#bytes = 0;
    }
    const ratio = (this.#bitsPerRequest ?? assumedBitsPerRequest) / assumedBitsPerRequest;
    return Math.min(BITS_RATIO_MAX, Math.max(1 / BITS_RATIO_MAX, ratio));
  }

  /** The edge clusters ascending by id; each call smooths the observed load by one step. */
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

  #edge(
    { entry }: EdgeCluster,
    isOut: (serverId: ServerId) => boolean,
    drained: ReadonlySet<ServerId>,
    now: MonotonicMs,
  ): Omit<EdgeInput, "pricePerGb"> {
    let isDrained = false;
    let capacityPerSecond = 0;
    let bitsPerSecondMax: number | undefined = 0;
    let requestsPerSecond = 0;
    let bitsPerSecond = 0;
    for (const server of entry.servers) {
      const known = this.#reports.get(server.serverId);
      const fresh =
        known !== undefined && now - known.at <= this.#settings.reportAgeMsMax ? known : undefined;
      if (drained.has(server.serverId)) {
        isDrained = true;
        continue;
      }
      if (isOut(server.serverId) || fresh?.report.state === "draining") continue;
      capacityPerSecond += server.capacityPerSecond;
      bitsPerSecondMax =
        bitsPerSecondMax === undefined || server.bitsPerSecondMax === undefined
          ? undefined
          : bitsPerSecondMax + server.bitsPerSecondMax;
      requestsPerSecond += fresh?.report.requestsPerSecond ?? 0;
      bitsPerSecond += fresh?.bitsPerSecond ?? 0;
    }
    const observed =
      capacityPerSecond === 0
        ? 0
        : Math.max(requestsPerSecond / capacityPerSecond, bitsPerSecond / (bitsPerSecondMax ?? Infinity));
    const before = this.#observedLoad.get(entry.clusterId) ?? observed;
    const observedLoad = before + this.#settings.loadSmoothing * (observed - before);
    this.#observedLoad.set(entry.clusterId, observedLoad);
    const { clusterId, regionId } = entry;
    isDrained &&= capacityPerSecond === 0;
    return { clusterId, regionId, isDrained, capacityPerSecond, bitsPerSecondMax, observedLoad };
  }
}

/** What a gigabyte from a cluster costs: its own price and those of the contracts that it falls under. */
function priceOf(entry: ClusterEntry, limits: readonly TopologyLimit[]): number {
  let price = entry.pricePerGb ?? 0;
  for (const { clusterIds, regionId, pricePerGb = 0 } of limits)
    if (pricePerGb > 0 && (regionId === entry.regionId || clusterIds?.includes(entry.clusterId) === true))
      price += pricePerGb;
  return price;
}

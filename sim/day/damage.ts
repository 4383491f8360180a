/** What is broken at the moment: the truth, which the system has to find out. */
import type { ClusterEntry } from "#kit";
import { type DayFault, type DayFaultKind } from "./faults.ts";

/** After the end of a fault the map needs so long to be at rest again, s: probes, a cycle, estimates of a window. */
const REST_SECONDS = 600;

export class DayDamage {
  readonly #edges: readonly ClusterEntry[];
  readonly #regionOf: ReadonlyMap<string, string>;
  readonly #clusterOf: ReadonlyMap<string, string>;
  /** Since when each dead server has been, virtual seconds. */
  readonly #deadSince = new Map<string, number>();
  #active: readonly DayFault[] = [];
  #quietFrom = 0;
  #now = 0;
  /** Kinds whose effect was noticed by a detector at least once. */
  readonly detected = new Set<DayFaultKind>();
  hasNews = false;

  constructor(edges: readonly ClusterEntry[]) {
    this.#edges = edges;
    this.#regionOf = new Map(edges.map(({ clusterId, regionId }) => [clusterId, regionId]));
    this.#clusterOf = new Map(
      edges.flatMap(({ clusterId, servers }) =>
        servers.map(({ serverId }) => [serverId, clusterId] as const),
      ),
    );
  }

  /** @param active the faults of now */
  set(active: readonly DayFault[], second: number): void {
    this.#now = second;
    this.hasNews = false;
    if (active.length > 0 || this.#active.length > 0) this.#quietFrom = second + REST_SECONDS;
    this.#active = active;
    for (const [serverId] of this.#clusterOf) {
      const isDead = this.#fault(serverId) !== undefined;
      if (isDead && !this.#deadSince.has(serverId)) this.#deadSince.set(serverId, second);
      else if (!isDead) this.#deadSince.delete(serverId);
    }
  }

  #fault(serverId: string): DayFault | undefined {
    const cluster = this.#clusterOf.get(serverId);
    const region = this.#regionOf.get(cluster ?? "");
    return this.#active.find(
      ({ kind, target }) =>
        (kind === "server-crash" && target === serverId) ||
        (kind === "cluster-loss" && target === cluster) ||
        (kind === "region-loss" && target === region),
    );
  }

  isServerAlive(serverId: string): boolean {
    return !this.#deadSince.has(serverId);
  }
  deadForSeconds(serverId: string, second: number): number {
    const since = this.#deadSince.get(serverId);
    return since === undefined ? 0 : second - since;
  }
  isClusterAlive(clusterId: string): boolean {
    const cluster = this.#edges.find((one) => one.clusterId === clusterId);
    return cluster?.servers.some(({ serverId }) => this.isServerAlive(serverId)) ?? false;
  }
  /** Whether a network and a cluster reach each other: the cluster lives and nothing is cut. */
  isReached(network: string, clusterId: string): boolean {
    return this.isClusterAlive(clusterId) && !this.isCut(network, clusterId);
  }
  isCut(network: string, clusterId: string): boolean {
    if (this.#active.length === 0) return false;
    const link = `${network}|${clusterId}`;
    return this.#active.some(({ kind, target }) => kind === "link-cut" && target === link);
  }
  isSilent(region: string): boolean {
    return this.#active.some(({ kind, target }) => kind === "stale-reports" && target === region);
  }
  get isMapperDown(): boolean {
    return this.#active.some(({ kind }) => kind === "mapper-crash");
  }
  /** Nothing is broken, and nothing was lately. */
  get isQuiet(): boolean {
    return this.#now >= this.#quietFrom;
  }
  noteDetected(serverId: string): void {
    this.hasNews = true;
    const fault = this.#fault(serverId);
    if (fault !== undefined) this.detected.add(fault.kind);
  }
}

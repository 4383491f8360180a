/**
 * The faults of a run as they happened: when each began to bite, when it was over, who noticed, what it cost - and which of
 * them may excuse a lost request. What no fault excuses is a break.
 */
import type { Bounds } from "./bounds.ts";
import { type Fault, type FaultKind, unnoticedKinds } from "./faults.ts";

/** Why a request ended as it did, as the client sees it. */
export const requestReasons = [
  "ok",
  "slow",
  "dns-timeout",
  "connect-refused",
  "connect-timeout",
  "response-timeout",
  "status-5xx",
  "misdirected",
] as const;
export type RequestReason = (typeof requestReasons)[number];

/** What is known of a request when it is over. */
export interface RequestRecord {
  readonly clientId: string;
  readonly propertyId: string;
  /** Servers of the property's origin. */
  readonly originServerIds: readonly string[];
  readonly startedAt: number;
  readonly endedAt: number;
  readonly reason: RequestReason;
  /** Clusters of the servers that were tried. */
  readonly clusters: readonly string[];
}

export interface Incident {
  readonly fault: Fault;
  /** Undefined: it never bit (document-replay found nothing old). */
  startedAt: number | undefined;
  endedAt: number | undefined;
  /** First time that each observer noticed, ms from the start: name server or mapper id -> ms. */
  readonly detectedMs: Map<string, number>;
  failed: number;
  slow: number;
  /** End of the last request that it cost. */
  lastHitAt: number | undefined;
}

/** Where a cluster stands, for telling whom a fault can touch. */
export interface Places {
  readonly roleOf: (clusterId: string) => string | undefined;
  /** Cluster of a server. */
  readonly clusterOf: (serverId: string) => string | undefined;
}

export class Incidents {
  readonly all: Incident[] = [];
  readonly #bounds: Bounds;
  readonly #places: Places;

  constructor(bounds: Bounds, places: Places) {
    this.#bounds = bounds;
    this.#places = places;
  }

  add(fault: Fault): Incident {
    const incident: Incident = {
      fault,
      startedAt: undefined,
      endedAt: undefined,
      detectedMs: new Map(),
      failed: 0,
      slow: 0,
      lastHitAt: undefined,
    };
    this.all.push(incident);
    return incident;
  }

  fired(kind: FaultKind): number {
    return this.all.filter((one) => one.fault.kind === kind && one.startedAt !== undefined).length;
  }

  /** An observer took `id` (a server) for down. */
  handleDetected(observer: string, id: string, now: number): void {
    for (const incident of this.all) {
      if (incident.startedAt === undefined || incident.endedAt !== undefined) continue;
      const { kind, target } = incident.fault;
      const isMeant =
        kind === "cluster-loss"
          ? this.#places.clusterOf(id) === target
          : kind.startsWith("server-") && target === id;
      if (isMeant && !incident.detectedMs.has(observer))
        incident.detectedMs.set(observer, now - incident.startedAt);
    }
  }

  /** The fault that a bad request is put down to: of those that can have caused it the one that began last. Undefined: none. */
  blame(request: RequestRecord): Incident | undefined {
    let found: Incident | undefined;
    for (const incident of this.all) {
      if (incident.startedAt === undefined || !this.#canTouch(incident.fault, request)) continue;
      if (request.endedAt < incident.startedAt || request.startedAt > this.#impactEnd(incident)) continue;
      if (found === undefined || incident.startedAt >= (found.startedAt ?? 0)) found = incident;
    }
    if (found === undefined) return undefined;
    if (request.reason === "slow") found.slow++;
    else found.failed++;
    found.lastHitAt = Math.max(found.lastHitAt ?? 0, request.endedAt);
    return found;
  }

  /** Until when requests may be lost to it. Faults that overlap may leave no way round: then until they are over. */
  #impactEnd(incident: Incident): number {
    const { startedAt = 0, endedAt } = incident;
    const overlaps = this.all.filter(
      (other) =>
        other !== incident &&
        // What nobody may notice leaves every way round open, but for users whose edge only the map can take away.
        (!unnoticedKinds.has(other.fault.kind) || incident.fault.kind === "client-cut") &&
        other.startedAt !== undefined &&
        other.startedAt <= (endedAt ?? Number.POSITIVE_INFINITY) &&
        (other.endedAt ?? Number.POSITIVE_INFINITY) >= startedAt,
    );
    const ends = [incident, ...overlaps].map((one) => one.endedAt ?? Number.POSITIVE_INFINITY);
    const { aftermathMs, clientMs, upstreamMs, ttlMs, standInMs } = this.#bounds;
    const whole = Math.max(...ends) + aftermathMs;
    if (overlaps.length > 0) return whole;
    switch (incident.fault.kind) {
      case "server-crash":
      case "cluster-loss":
      case "server-hang": {
        const role = this.#roleOfTarget(incident.fault);
        const recoverMs = role === "edge" ? clientMs + aftermathMs : upstreamMs;
        // A process that goes on where it stood answers what waited, late.
        return incident.fault.kind === "server-hang" && endedAt !== undefined
          ? Math.max(startedAt + recoverMs, endedAt + aftermathMs)
          : startedAt + recoverMs;
      }
      case "link-cut":
        return startedAt + upstreamMs;
      case "document-poison":
        return startedAt + standInMs + aftermathMs;
      case "client-cut":
        return whole + ttlMs;
      case "link-lossy":
      case "origin-outage":
      case "control-loss":
      case "control-partition":
      case "mapper-crash":
      case "mapper-hang":
      case "document-replay":
        return whole;
      default:
        return incident.fault.kind satisfies never;
    }
  }

  #roleOfTarget({ kind, target }: Fault): string | undefined {
    return this.#places.roleOf(kind === "cluster-loss" ? target : (this.#places.clusterOf(target) ?? ""));
  }

  #canTouch(fault: Fault, request: RequestRecord): boolean {
    if (unnoticedKinds.has(fault.kind)) return false;
    const touches = (clusterId: string): boolean => request.clusters.includes(clusterId);
    switch (fault.kind) {
      case "server-crash":
      case "server-hang":
      case "cluster-loss": {
        const clusterId =
          fault.kind === "cluster-loss" ? fault.target : (this.#places.clusterOf(fault.target) ?? "");
        const role = this.#places.roleOf(clusterId);
        // A name server can make a request slow or unresolved, an edge only those that were sent to its cluster.
        if (role === "nameserver") return request.reason === "dns-timeout" || request.reason === "slow";
        return role !== "edge" || touches(clusterId);
      }
      case "link-cut":
      case "link-lossy": {
        const ends = fault.target.split("|");
        const edges = ends.filter((end) => this.#places.roleOf(end) === "edge");
        return edges.length === 0 || edges.some(touches);
      }
      case "document-poison":
        return request.reason === "dns-timeout" || request.reason === "slow";
      case "client-cut":
        return fault.target.startsWith(`${request.clientId}|`);
      case "origin-outage":
        return request.originServerIds.includes(fault.target);
      case "control-loss":
      case "control-partition":
      case "mapper-crash":
      case "mapper-hang":
      case "document-replay":
        return false;
      default:
        return fault.kind satisfies never;
    }
  }
}

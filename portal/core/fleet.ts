/**
 * What the portal knows of the running CDN, put together from the documents in force and the servers' reports, and the view
 * of it that one account may have.
 */
import type {
  ClusterEntry,
  MapSnapshot,
  MonotonicMs,
  PropertyDocument,
  ServerReport,
  TopologyDocument,
} from "#kit";
import { linksInUse } from "./links-in-use.ts";
import { visibleProperties } from "./tenancy.ts";
import { hitRatioOf, type LedgerLimits, type Rate, TrafficLedger } from "./traffic-ledger.ts";
import type { LiveServer, LiveSite, LiveState, LiveTotals, Rollout, ServerState, Viewer } from "./wire.ts";

/** A server that has not reported for longer is down. Reports come each second. */
export const DOWN_AFTER_MS = 3_000;

/** Kinds of site that send no reports. */
const UNWATCHED_ROLES: readonly string[] = ["origin", "service"];
/** Kinds of site that answer requests for properties. */
const SERVING_ROLES: readonly string[] = ["edge", "parent"];

export interface Heard {
  readonly report: ServerReport;
  readonly at: MonotonicMs;
}

export class Fleet {
  readonly ledger: TrafficLedger;
  readonly #properties = new Map<string, PropertyDocument>();
  readonly #reports = new Map<string, Heard>();
  readonly #serversMax: number;
  #topology: TopologyDocument | undefined;
  #map: MapSnapshot | undefined;
  #isConnected = false;
  /** Since when reports could have been heard: nobody is down before there was time to hear it. */
  #listeningSince: MonotonicMs | undefined;

  constructor(limits: LedgerLimits & { readonly serversMax: number }) {
    this.ledger = new TrafficLedger(limits);
    this.#serversMax = limits.serversMax;
  }

  get topology(): TopologyDocument | undefined {
    return this.#topology;
  }

  handleConnection(isConnected: boolean, now: MonotonicMs): void {
    if (isConnected === this.#isConnected) return;
    this.#isConnected = isConnected;
    this.#listeningSince = isConnected ? now : undefined;
  }

  handleTopology(topology: TopologyDocument): void {
    this.#topology = topology;
    const known = new Set(
      topology.clusters.flatMap((cluster) => cluster.servers.map((server) => server.serverId as string)),
    );
    for (const serverId of this.#reports.keys()) if (!known.has(serverId)) this.#reports.delete(serverId);
    this.ledger.retain((serverId) => known.has(serverId));
  }

  handleMap(map: MapSnapshot): void {
    this.#map = map;
  }

  handleProperty(property: PropertyDocument): void {
    this.#properties.set(property.propertyId, property);
  }

  handleReport(report: ServerReport, now: MonotonicMs): void {
    if (this.#reports.size >= this.#serversMax && !this.#reports.has(report.serverId)) return;
    this.#reports.set(report.serverId, { report, at: now });
    this.ledger.handleReport(report, now);
  }

  /** The property in force; undefined when none of that name is. */
  property(propertyId: string): PropertyDocument | undefined {
    return this.#properties.get(propertyId);
  }

  properties(): Iterable<PropertyDocument> {
    return this.#properties.values();
  }

  /** How many of the edges and parents that report now run this version of a property, by their own word. */
  rollout(propertyId: string, version: number | null, now: MonotonicMs): Rollout {
    let [applied, live] = [0, 0];
    for (const { report, at } of this.#reports.values()) {
      if (now - at > DOWN_AFTER_MS || !SERVING_ROLES.includes(report.role)) continue;
      live += 1;
      if (version !== null && report.applied[`property/${propertyId}`] === version) applied += 1;
    }
    return { applied, live };
  }

  stateOf(serverId: string, role: string, now: MonotonicMs): ServerState {
    const heard = this.#reports.get(serverId);
    if (heard === undefined && UNWATCHED_ROLES.includes(role)) return "unwatched";
    if (heard !== undefined && now - heard.at <= DOWN_AFTER_MS) return heard.report.state;
    if (!this.#isConnected || this.#listeningSince === undefined) return "unknown";
    return now - this.#listeningSince > DOWN_AFTER_MS ? "down" : "unknown";
  }

  /** Everything that the viewer may know at this moment. Operators alone get addresses and process details. */
  view(viewer: Viewer, now: MonotonicMs, atEpochMs: number): LiveState {
    const visible = visibleProperties(viewer, this.#properties.values());
    const isOperator = viewer.customerId === null;
    const mayCount = (propertyId: string): boolean => isOperator || visible.has(propertyId);
    const clusters = this.#topology?.clusters ?? [];
    const sites = clusters.map((cluster) => this.#site(cluster, now, isOperator, mayCount));
    const links =
      this.#topology === undefined
        ? []
        : linksInUse({
            topology: this.#topology,
            map: this.#map,
            properties: [...this.#properties.values()].filter((property) => mayCount(property.propertyId)),
            reports: [...this.#reports.values()]
              .filter((heard) => now - heard.at <= DOWN_AFTER_MS)
              .map((heard) => heard.report),
            isBusy: (serverId, propertyId) => this.ledger.isBusy(serverId, propertyId, now),
          });
    return {
      atEpochMs,
      control: this.#isConnected ? "connected" : "disconnected",
      world: this.#topology?.name ?? null,
      mapVersion: this.#map?.mapVersion ?? null,
      totals: this.#totals(sites, mayCount, now),
      sites,
      links,
    };
  }

  #site(
    cluster: ClusterEntry,
    now: MonotonicMs,
    isOperator: boolean,
    mayCount: (id: string) => boolean,
  ): LiveSite {
    const servers = cluster.servers.map((server): LiveServer => {
      const heard = this.#reports.get(server.serverId);
      const rate = this.ledger.serverRate(server.serverId, now, mayCount);
      const state = this.stateOf(server.serverId, cluster.role, now);
      // What cannot be heard is not zero; what is down serves nothing, whatever it did ten seconds ago.
      const isServing = SERVING_ROLES.includes(cluster.role) && state !== "unknown";
      const requestsPerSecond = state === "down" ? 0 : rate.requestsPerSecond;
      return {
        serverId: server.serverId,
        state,
        requestsPerSecond: isServing ? requestsPerSecond : null,
        hitRatio: isServing && state !== "down" ? hitRatioOf(rate) : null,
        reportAgeMs: heard === undefined ? null : Math.max(0, Math.round(now - heard.at)),
        ...(isOperator && {
          details: {
            address: server.address,
            port: server.port,
            incarnation: heard?.report.incarnation ?? null,
            activeRequests: heard?.report.activeRequests ?? null,
            cacheBytes: heard?.report.cacheBytes ?? null,
            cacheObjects: heard?.report.cacheObjects ?? null,
          },
        }),
      };
    });
    const { latitude, longitude } = cluster.coordinates;
    return {
      clusterId: cluster.clusterId,
      city: cluster.city,
      role: cluster.role,
      latitude,
      longitude,
      servers,
    };
  }

  #totals(sites: readonly LiveSite[], mayCount: (id: string) => boolean, now: MonotonicMs): LiveTotals {
    let sum: Rate = { requestsPerSecond: 0, hitsPerSecond: 0, bytesPerSecond: 0, errorsPerSecond: 0 };
    for (const [propertyId, rate] of this.ledger.propertyRates(now)) {
      if (!mayCount(propertyId)) continue;
      sum = {
        requestsPerSecond: sum.requestsPerSecond + rate.requestsPerSecond,
        hitsPerSecond: sum.hitsPerSecond + rate.hitsPerSecond,
        bytesPerSecond: sum.bytesPerSecond + rate.bytesPerSecond,
        errorsPerSecond: sum.errorsPerSecond + rate.errorsPerSecond,
      };
    }
    const watched = sites.flatMap((site) => site.servers).filter((server) => server.state !== "unwatched");
    const isBlind = watched.length > 0 && watched.every((server) => server.state === "unknown");
    return {
      requestsPerSecond: isBlind ? null : sum.requestsPerSecond,
      hitRatio: isBlind ? null : hitRatioOf(sum),
      bytesPerSecond: isBlind ? null : sum.bytesPerSecond,
      errorsPerSecond: isBlind ? null : sum.errorsPerSecond,
      serversUp: watched.filter((server) => server.state === "ready").length,
      serversWatched: watched.length,
    };
  }
}

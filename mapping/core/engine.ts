/**
 * The mapping engine: samples, reports and liveness in, snapshots out. Sans-IO: no clock, no socket, the same object in the
 * mapper process, in the simulator and in the evaluations.
 */
import {
  type ClientNetworkId,
  type ClusterId,
  type ClusterMapTable,
  type Coordinates,
  type EpochMs,
  type MapSnapshot,
  type MapOverrides,
  type MonotonicMs,
  PackedClusterMap,
  plusMs,
  type Rankings,
  type ServerId,
  type ServerReport,
  type Steps,
  type TopologyDocument,
  trafficClasses,
} from "#kit";
import { type AllocationReason, noReasons } from "./allocation.ts";
import { type ClientNetworkInput, ClusterMap } from "./cluster-map.ts";
import { Borrowing } from "./borrowing.ts";
import { DemandFeedback } from "./demand-feedback.ts";
import { EdgeCapacity } from "./edge-capacity.ts";
import { checkSettings, type MapEngineSettings, mapEngineDefaults } from "./engine-settings.ts";
import type { Estimator } from "./estimator.ts";
import { ExpectedTimes } from "./expected-times.ts";
import { LastHopTable } from "./last-hops.ts";
import type { EdgeInput } from "./limits.ts";
import { LinkTable } from "./link-table.ts";
import { networkFinder } from "./map-index.ts";
import { Neighbours } from "./neighbours.ts";
import { NetworkKnowledge, type PairHistory } from "./network-knowledge.ts";
import {
  type ExplainedEstimate,
  measuredRows,
  NetworkRows,
  NOWHERE,
  type PairKnowledge,
} from "./network-rows.ts";
import { type Overrides, resolveOverrides } from "./overrides.ts";
import type { ProbeView } from "./probe-schedule.ts";
import { othersOut, outOfService, suspensionOf, usableOf } from "./out-of-service.ts";
import { pathMap } from "./path-map.ts";
import { placedSites } from "./locate.ts";
import { ResolverTable } from "./resolver-pairs.ts";
import { ResolverScopes, type ScopeKnowledge } from "./resolver-scopes.ts";
import { resolverEntries } from "./resolvers.ts";
import { clusterMapTable, movedClusterMapTable, NumberedNetworks } from "./rankings.ts";
import type { ExplainedScore } from "./score-orders.ts";
import { type SnapshotProblem, snapshotProblems } from "./snapshot-check.ts";
import type { Suspension } from "./suspension.ts";
import { tierMap } from "./tier-map.ts";
import { TopologyIndex } from "./topology-index.ts";

/** A measurement between two sites. */
export interface RttSample {
  readonly from: ClientNetworkId | ClusterId;
  readonly to: ClusterId;
  /** Null: no answer came. */
  readonly rttMs: number | null;
  readonly at: MonotonicMs;
}

export type SnapshotReason = MapSnapshot["reason"];

export type MapEngineEvent =
  | { readonly type: "snapshot"; readonly snapshot: MapSnapshot; readonly reason: SnapshotReason }
  /** A snapshot that was made and is not to be published; the one before stays in force. */
  | {
      readonly type: "refused";
      readonly problems: readonly SnapshotProblem[];
      readonly reason: SnapshotReason;
    };

/** What is expected of a client network towards a cluster, and why. */
export interface NetworkEstimate extends Omit<ExplainedEstimate, "cluster"> {
  readonly clusterId: ClusterId;
  /** In the order of the traffic classes; as of the newest map of this engine. Empty: there is none since networks or clusters have changed. */
  readonly scores: readonly ExplainedScore[];
}

/** All only grow. */
export interface MapEngineCounters {
  snapshots: number;
  snapshotsRefused: number;
  /** Snapshots that a liveness or topology change brought about before the cycle was over. */
  bypasses: number;
  /** Times that a client network's class was sent elsewhere than in the snapshot before. */
  moves: number;
  /** Servers that a detector reported down beyond the suspension quota, summed over snapshots. */
  doubted: number;
  /** Demands of clusters that reports have shown to be other than stated. */
  demandCorrections: number;
  /** Lost samples to clusters whose servers are all down. */
  samplesToDead: number;
  eventsDropped: number;
}

/** Events kept for `pollEvent`: only the newest snapshot matters to anyone. */
const EVENTS_MAX = 16;

/** From one comparison of the labels with the links to the next, ms; it costs the square of the edge clusters. */
const PLACES_INTERVAL_MS = 60_000;
/** Everyone is placed again this often, ms, and whenever more has changed than measurements, liveness and load; it is most of a turn's cost. */
const WHOLE_INTERVAL_MS = 60_000;

export class MapEngine {
  readonly #settings: MapEngineSettings;
  readonly #epochOf: (now: MonotonicMs) => EpochMs;
  readonly #knowledge: NetworkKnowledge;
  readonly #capacity: EdgeCapacity;
  readonly #links: LinkTable;
  #networks: readonly ClientNetworkInput[] = [];
  /** By name; made when resolvers ask for it. */
  #networkPlaces: Map<ClientNetworkId, Coordinates | null> | undefined;
  /** The same as the map numbers them. */
  #numbered = new NumberedNetworks([]);
  readonly #downSince = new Map<ServerId, MonotonicMs>();
  /** Edge clusters ascending by id: their place is their number. */
  #edgeIds: readonly ClusterId[] = [];
  /** Where each unit is, by number; undefined: to be read out of the map in force. */
  #current: Uint16Array | undefined;
  /** Where the edge clusters are believed to be; null for those whose label cannot be true. */
  #places: readonly (Coordinates | null)[] = [];
  #placesAt: MonotonicMs | undefined;
  /** Of the newest snapshot; undefined: networks or clusters have changed since. */
  #map: ClusterMap | undefined;
  /** When everyone was last placed again. */
  #wholeAt = -Infinity;
  /** Clusters of other roles that were out of service when tiers and paths were made. */
  #othersOut = "";
  /** Undefined: networks or clusters have changed. */
  #feedback: DemandFeedback | undefined;
  readonly #borrowing: Borrowing;
  readonly #lastHops = new LastHopTable();
  readonly #scopes: ResolverScopes;
  #overridesDocument: MapOverrides | undefined;
  /** Undefined: to be resolved anew. */
  #overrides: Overrides | undefined;
  #topology: TopologyIndex | undefined;
  #previous: MapSnapshot | undefined;
  #isForced = false;
  #versionFloor = 0;
  #lastAt: MonotonicMs | undefined;
  #cycleAt: MonotonicMs | undefined;
  /** The earliest reason to publish before the cycle is over. */
  #bypass: { readonly reason: SnapshotReason; readonly at: MonotonicMs } | undefined;
  #events: MapEngineEvent[] = [];
  #load: ReadonlyMap<ClusterId, number> = new Map();
  readonly counters: MapEngineCounters = {
    snapshots: 0,
    snapshotsRefused: 0,
    bypasses: 0,
    moves: 0,
    doubted: 0,
    demandCorrections: 0,
    samplesToDead: 0,
    eventsDropped: 0,
  };

  /** @param options.epochOf the wall clock at a monotonic time, for the date in the snapshot */
  constructor(options: {
    readonly settings?: Partial<MapEngineSettings>;
    readonly epochOf: (now: MonotonicMs) => EpochMs;
    /** Measurements that outlive the estimator's; none unless given. */
    readonly history?: PairHistory;
    /** Whether somebody drives what `pollWork` gives; else all work is done when it is due. */
    readonly isWorkDriven?: boolean;
  }) {
    this.#borrowing = new Borrowing(options.isWorkDriven === true);
    this.#settings = { ...mapEngineDefaults, ...options.settings };
    this.#epochOf = options.epochOf;
    this.#knowledge = new NetworkKnowledge(this.#settings.estimator, options.history);
    this.#capacity = new EdgeCapacity(this.#settings);
    this.#links = new LinkTable(this.#settings.links);
    this.#scopes = new ResolverScopes(this.#settings.scopes);
    checkSettings(this.#settings);
  }

  /** Who asks through which resolver: filled from outside, read for each snapshot. */
  readonly resolvers = new ResolverTable();

  /** Samples and pairs in numbers, for metrics. */
  get estimator(): Estimator {
    return this.#knowledge.estimator;
  }
  get links(): LinkTable {
    return this.#links;
  }
  /** Demand over capacity of each edge cluster in the newest snapshot. */
  get load(): ReadonlyMap<ClusterId, number> {
    return this.#load;
  }
  /** Counted when it is asked for: how many placements of the newest snapshot came about for which reason. */
  get reasons(): Readonly<Record<AllocationReason, number>> {
    return this.#map?.reasons() ?? noReasons();
  }
  /** Pins in force that no client network or cluster fits. */
  get pinsUnmatched(): number {
    return this.#overrides?.pinsUnmatched ?? 0;
  }
  /** The newest snapshot that passed the check, or the one that was handed over at the start. */
  get snapshot(): MapSnapshot | undefined {
    return this.#previous;
  }

  /** What the scores of a client network rest on, ascending by cluster; undefined: there is no such network, or no map yet. */
  estimatesOf(clientNetworkId: ClientNetworkId, now: MonotonicMs): NetworkEstimate[] | undefined {
    const n = this.#networks.findIndex((one) => one.clientNetworkId === clientNetworkId);
    if (n < 0 || this.#borrowing.rows === undefined || this.counters.snapshots === 0) return undefined;
    return this.#borrowing.rows.explain(n, this.#pairKnowledge(now)).map(({ cluster, ...rest }) => ({
      clusterId: this.#edgeIds[cluster] as ClusterId,
      ...rest,
      scores: this.#map?.orders.explain(rest.estimate, cluster) ?? [],
    }));
  }

  /** What a plan of probes rests on; undefined: there is no map yet. */
  probeView(now: MonotonicMs): ProbeView | undefined {
    if (this.#borrowing.rows === undefined || this.counters.snapshots === 0) return undefined;
    const sites = this.#edgeIds.map((clusterId, c) => ({ clusterId, coordinates: this.#places[c] ?? null }));
    return { networks: this.#networks, sites, ...this.#pairKnowledge(now) };
  }

  #pairKnowledge(now: MonotonicMs): PairKnowledge {
    const networkIds = this.#networks.map((network) => network.clientNetworkId);
    return this.#knowledge.view(networkIds, this.#edgeIds, this.#links, now);
  }

  /**
   * The map in force before this engine started: versions go on from it, client networks stay where they are unless there
   * is a reason, and its figures stand in until there are own ones. Nothing is published for a whole cycle, so that a restart does
   * not replace a measured map by a guessed one. To be called before the first snapshot.
   *
   * @param isForced skips the comparison with it once: an operator has changed the deployment beyond what the check allows
   */
  handlePrevious(snapshot: MapSnapshot, now: MonotonicMs, isForced = false): void {
    if (this.counters.snapshots > 0) return;
    this.#previous = snapshot;
    this.#isForced = isForced;
    this.#current = undefined;
    this.#knowledge.inherit(snapshot);
    if (this.#cycleAt !== undefined) this.#cycleAt = plusMs(now, this.#settings.cycleMs);
  }

  /**
   * A map that another engine published is in force: versions go on from it and client networks are where it sends them; what was
   * measured here stays.
   */
  handleInForce(snapshot: MapSnapshot): void {
    this.#previous = snapshot;
    this.#current = undefined;
  }

  /** This engine publishes from now on: a snapshot is made at once, above every version that was published. */
  handleElected(versionFloor: number, now: MonotonicMs): void {
    this.#versionFloor = Math.max(this.#versionFloor, versionFloor);
    this.#changed("takeover", now);
  }

  /** The deployment; servers and clusters that are gone are forgotten. */
  handleTopology(topology: TopologyDocument, now: MonotonicMs): void {
    this.#topology = new TopologyIndex(topology);
    this.#placesAt = undefined;
    for (const serverId of this.#downSince.keys())
      if (!this.#topology.servers.has(serverId)) this.#downSince.delete(serverId);
    this.#capacity.handleTopology(this.#topology);
    this.#overrides = undefined;
    this.#edgeIds = [...this.#topology.edgeClusters.keys()].sort();
    this.#scopes.handleChanged();
    this.#borrowing.forget();
    this.#feedback = undefined;
    this.#map = undefined;
    this.#current = undefined;
    this.#changed("topology", now);
  }

  /** What operators say; replaces what they said before. Undefined: nothing. */
  handleOverrides(overrides: MapOverrides | undefined, now: MonotonicMs): void {
    this.#overridesDocument = overrides;
    this.#overrides = undefined;
    this.#changed("overrides", now);
  }

  /** What one query more must spare from the next map on, ms (`ScopeSettings.queryPriceMs`). Throws RangeError below 0. */
  handleQueryPrice(queryPriceMs: number): void {
    this.#scopes.handlePrice(queryPriceMs);
  }

  /** All client networks; replaces the ones before. Throws RangeError when two of them share a prefix, or one has none. */
  handleClientNetworks(networks: readonly ClientNetworkInput[], now: MonotonicMs): void {
    const unique = [...new Map(networks.map((one) => [one.clientNetworkId, one])).values()];
    if (areSameNetworks(unique, this.#networks)) {
      // They ask for more or less, and that is all: who is where, what is borrowed and the backups stay.
      this.#networks = unique;
      this.#feedback = undefined;
      this.#changed("topology", now);
      return;
    }
    this.#numbered = new NumberedNetworks(unique);
    this.#overrides = undefined;
    this.#networks = unique;
    this.#networkPlaces = undefined;
    this.#scopes.handleChanged();
    this.#borrowing.forget();
    this.#feedback = undefined;
    this.#map = undefined;
    this.#current = undefined;
    this.#changed("topology", now);
  }

  /** A lost sample to a cluster without a live server is left out: it says nothing about the path to it. */
  handleSample(sample: RttSample): void {
    if (sample.rttMs === null && this.#isDead(sample.to)) {
      this.counters.samplesToDead++;
      return;
    }
    this.#knowledge.handleSample(sample.from, sample.to, sample.rttMs, sample.at);
  }

  /** The routers that a trace towards the network saw last, the nearest to it first; it may not have arrived. */
  handleLastHops(clientNetworkId: ClientNetworkId, addresses: readonly string[]): void {
    this.#lastHops.handleTrace(clientNetworkId, addresses);
  }

  /** A server's own report. Ignored for servers that the topology does not know, or knows in another cluster. */
  handleReport(report: ServerReport, now: MonotonicMs): void {
    if (this.#topology?.servers.get(report.serverId)?.cluster.clusterId !== report.clusterId) return;
    this.#capacity.handleReport(report, now);
    this.#links.handleReport(report, now);
  }

  /** What a failure detector says of a server; a change is published without waiting for the cycle. */
  handleLiveness(serverId: ServerId, isUp: boolean, now: MonotonicMs): void {
    const server = this.#topology?.servers.get(serverId);
    if (server === undefined || isUp !== this.#downSince.has(serverId)) return;
    if (isUp) this.#downSince.delete(serverId);
    else this.#downSince.set(serverId, now);
    const { role } = server.cluster;
    if (role === "edge" || role === "parent" || role === "relay") this.#changed("liveness", now);
  }

  /** When `handleTimeout` is next to be called; undefined while there is no topology or no client network. */
  pollTimeout(): MonotonicMs | undefined {
    if (this.#cycleAt === undefined) return undefined;
    if (this.#bypass === undefined || this.#isWarmingUp()) return this.#cycleAt;
    return Math.min(this.#cycleAt, this.#bypass.at) as MonotonicMs;
  }

  /** Makes a snapshot when one is due. */
  handleTimeout(now: MonotonicMs): void {
    const dueAt = this.pollTimeout();
    if (dueAt === undefined || now < dueAt) return;
    const isCycle = this.#cycleAt !== undefined && now >= this.#cycleAt;
    const reason: SnapshotReason =
      this.counters.snapshots === 0 && this.#previous === undefined
        ? "first"
        : (this.#bypass?.reason ?? "cycle");
    if (!isCycle) this.counters.bypasses++;
    this.#bypass = undefined;
    this.#lastAt = now;
    this.#cycleAt = plusMs(now, this.#settings.cycleMs);
    this.estimator.handleTimeout(now);
    this.#links.handleTimeout(now);
    this.#make(reason, now);
  }

  /** Long work that may be driven in steps beside everything else; what comes of it counts in the next map. Undefined: there is none. */
  pollWork(): Steps<void> | undefined {
    return this.#borrowing.pollWork();
  }

  /** The oldest event that was not taken yet. Call until undefined. */
  pollEvent(): MapEngineEvent | undefined {
    return this.#events.shift();
  }

  /** Entries end by themselves. */
  #overridesAt(topology: TopologyIndex, now: MonotonicMs): Overrides {
    const epoch = this.#epochOf(now);
    const { endsAt } = this.#overrides ?? {};
    if (this.#overrides === undefined || (endsAt !== undefined && epoch >= endsAt))
      this.#overrides = resolveOverrides(
        this.#overridesDocument,
        this.#networks,
        this.#edgeIds,
        topology,
        epoch,
      );
    return this.#overrides;
  }

  /** Labels are compared with the links that were measured, now and then: they do not change, but evidence grows. */
  #placeEdges(topology: TopologyIndex, now: MonotonicMs): void {
    if (this.#placesAt !== undefined && now - this.#placesAt < PLACES_INTERVAL_MS) return;
    this.#placesAt = now;
    const sites = this.#edgeIds.flatMap((clusterId) => topology.edgeClusters.get(clusterId)?.entry ?? []);
    const rttMs = (a: ClusterId, b: ClusterId): number | undefined =>
      this.#links.measured(a, b, null, now)?.rttMs;
    const believed = new Map(placedSites(sites, rttMs, []).map((site) => [site.clusterId, site.coordinates]));
    const places = this.#edgeIds.map((clusterId) => believed.get(clusterId) ?? null);
    if (
      places.some(
        (place, c) =>
          place?.latitude !== this.#places[c]?.latitude || place?.longitude !== this.#places[c]?.longitude,
      )
    )
      this.#borrowing.forget();
    this.#places = places;
  }

  /** What is borrowed is made anew now and then, or when there is much more to borrow from. */
  #rowsAt(knowledge: PairKnowledge, reason: SnapshotReason, now: MonotonicMs): NetworkRows {
    return this.#borrowing.rowsAt(
      {
        networks: this.#networks.length,
        pairs: this.#knowledge.estimator.size,
        isUrgent: reason === "liveness",
        make: () => this.#madeRows(knowledge),
      },
      now,
    );
  }

  *#madeRows(knowledge: PairKnowledge): Steps<NetworkRows> {
    const [networks, places] = [this.#networks, this.#places];
    const neighbours = yield* Neighbours.inSteps({
      networks,
      clusters: this.#edgeIds.map((clusterId, c) => ({ clusterId, coordinates: places[c] ?? null })),
      rows: yield* measuredRows(knowledge, networks.length),
      siteRttMs: knowledge.siteRttMs,
      lastHopsOf: (clientNetworkId) => this.#lastHops.of(clientNetworkId),
    });
    return yield* NetworkRows.inSteps(neighbours, networks.length, places, this.#settings.candidatesMax);
  }

  #isDead(clusterId: ClusterId): boolean {
    if (this.#downSince.size === 0) return false;
    const servers = this.#topology?.clusters.get(clusterId)?.servers ?? [];
    return servers.length > 0 && servers.every(({ serverId }) => this.#downSince.has(serverId));
  }

  #isWarmingUp(): boolean {
    return this.counters.snapshots + this.counters.snapshotsRefused === 0 && this.#previous !== undefined;
  }

  #changed(reason: SnapshotReason, now: MonotonicMs): void {
    if (this.#topology === undefined || this.#topology.edgeClusters.size === 0 || this.#networks.length === 0)
      return;
    this.#cycleAt ??= this.#previous === undefined ? now : plusMs(now, this.#settings.cycleMs);
    const earliest = this.#lastAt === undefined ? now : plusMs(this.#lastAt, this.#settings.bypassIntervalMs);
    this.#bypass ??= { reason, at: earliest > now ? earliest : now };
  }

  #make(reason: SnapshotReason, now: MonotonicMs): void {
    const topology = this.#topology as TopologyIndex;
    const suspension = suspensionOf(topology, this.#downSince, this.#settings.suspension);
    this.counters.doubted += suspension.doubted.size;
    if (reason === "liveness" && this.#makeShrunk(topology, suspension, now)) return;
    this.#placeEdges(topology, now);
    const current = this.#current ?? this.#currentByName();
    const knowledge = this.#pairKnowledge(now);
    const rows = this.#rowsAt(knowledge, reason, now);
    const overrides = this.#overridesAt(topology, now);
    rows.update(knowledge, [current, overrides.pinned], trafficClasses.length);
    const { score, rankingMax } = this.#settings;
    const isSteady = this.#map !== undefined && (reason === "cycle" || reason === "liveness");
    const isWhole = !isSteady || now - this.#wholeAt >= WHOLE_INTERVAL_MS;
    if (isWhole) this.#wholeAt = now;
    const map = new ClusterMap(
      {
        networks: this.#networks,
        edges: this.#edges(topology, suspension, overrides, current, now),
        demandFactors: (this.#feedback as DemandFeedback).factors,
        rows,
        current,
        overrides,
        limits: topology.topology.limits,
        shareMax: topology.topology.shareMax,
        bitsRatio: this.#capacity.bitsRatio(this.#assumedBitsPerRequest()),
        isWhole,
      },
      this.#settings,
      this.#map,
    );
    const isUsable = usableOf(topology, suspension, overrides);
    const mapVersion = this.#nextVersion();
    const table = clusterMapTable(map, this.#numbered, score, rankingMax, mapVersion);
    const isAccepted = this.#publish(map, reason, now, {
      mapVersion,
      clusterMap: PackedClusterMap.of(table),
      ...this.#resolverEntries(table, now),
      ...(this.#isForced && { isChangeAccepted: true }),
      tiers: tierMap(topology.topology, this.#links, isUsable, now, (parent) =>
        this.#capacity.loadOf(parent, now),
      ),
      paths: pathMap(topology.topology, this.#links, isUsable, now, this.#settings.paths),
      ...outOfService(topology, isUsable, overrides),
    });
    if (!isAccepted) return;
    this.#othersOut = othersOut(topology, suspension);
    this.#current = new Uint16Array(current.length);
    for (const [unit, before] of current.entries()) {
      const cluster = map.allocation.clusterOf(unit);
      this.#current[unit] = cluster;
      if (before !== NOWHERE && before !== cluster) this.counters.moves++;
    }
  }

  /**
   * A death: the units of clusters that have gone or have less are placed anew and nobody else; travel times, scores, tiers and
   * paths are those of the snapshot before. The next cycle places everyone again. False: more than that has happened.
   */
  #makeShrunk(topology: TopologyIndex, suspension: Suspension, now: MonotonicMs): boolean {
    const [map, before, current, overrides] = [this.#map, this.#previous, this.#current, this.#overrides];
    if (map === undefined || before === undefined || current === undefined || overrides === undefined)
      return false;
    if (this.#borrowing.rows !== map.input.rows || this.#othersOut !== othersOut(topology, suspension))
      return false;
    const { endsAt } = overrides;
    if (endsAt !== undefined && this.#epochOf(now) >= endsAt) return false;
    const isOut = (serverId: ServerId): boolean => suspension.out.has(serverId);
    const edges = this.#withoutForeign(this.#capacity.edges(topology, isOut, overrides.drained, now));
    const moved = map.handleShrunk(edges);
    if (moved === undefined) return false;
    const mapVersion = this.#nextVersion();
    const { clusterMap, resolvers, tiers, paths } = before;
    const { table, changed } = movedClusterMapTable(
      map,
      this.#numbered,
      clusterMap.table(),
      moved,
      mapVersion,
    );
    const rest = {
      mapVersion,
      clusterMap: PackedClusterMap.of(table),
      ...(resolvers !== undefined && { resolvers }),
      tiers,
      paths,
      ...outOfService(topology, usableOf(topology, suspension, overrides), overrides),
    };
    const isAccepted = this.#publish(map, "liveness", now, rest, changed);
    if (!isAccepted) {
      // It is no longer what the map in force was made of.
      this.#map = undefined;
      return true;
    }
    for (const unit of moved) {
      const cluster = map.allocation.clusterOf(unit);
      if (current[unit] !== cluster) this.counters.moves++;
      current[unit] = cluster;
    }
    return true;
  }

  #nextVersion(): number {
    return Math.max(this.#previous?.mapVersion ?? 0, this.#versionFloor) + 1;
  }

  /** Checks a snapshot and hands it out; false: it is refused, and the one before stays. `changed`: see `snapshotProblems`. */
  #publish(
    map: ClusterMap,
    reason: SnapshotReason,
    now: MonotonicMs,
    rest: Omit<MapSnapshot, "createdAtEpochMs" | "reason">,
    changed?: readonly number[],
  ): boolean {
    const createdAtEpochMs = Math.max(0, Math.round(this.#epochOf(now)));
    const snapshot: MapSnapshot = { ...rest, createdAtEpochMs, reason };
    const problems = snapshotProblems(snapshot, this.#isForced ? undefined : this.#previous, changed);
    if (problems.length > 0) {
      this.counters.snapshotsRefused++;
      this.#emit({ type: "refused", problems, reason });
      return false;
    }
    this.#isForced = false;
    this.#load = new Map(this.#edgeIds.map((clusterId, c) => [clusterId, map.load(c)]));
    this.#map = map;
    this.#feedback?.handlePlaced(
      this.#edgeIds.map((_, c) => map.allocation.demandPerSecond(c)),
      now,
    );
    this.#previous = snapshot;
    this.counters.snapshots++;
    this.#emit({ type: "snapshot", snapshot, reason });
    return true;
  }

  /** Nothing where nothing is known: the field is absent then. */
  #resolverEntries(table: ClusterMapTable, now: MonotonicMs) {
    const evidence = this.resolvers.size === 0 ? [] : this.resolvers.evidence(this.#epochOf(now));
    if (evidence.length === 0) return undefined;
    this.#networkPlaces ??= new Map(
      this.#networks.map(({ clientNetworkId, coordinates }) => [clientNetworkId, coordinates]),
    );
    const clientPlaces = this.#networkPlaces;
    const times = new ExpectedTimes(
      this.#edgeIds,
      this.#places,
      (from, to) => this.#links.measured(from, to, null, now)?.rttMs,
    );
    const rankings = new Map<ClientNetworkId, Rankings | undefined>();
    const clustersOf = (id: ClientNetworkId): Rankings | undefined => {
      if (!rankings.has(id)) {
        const network = table.networks.indexOf(id);
        rankings.set(id, network === undefined ? undefined : table.rankings(network));
      }
      return rankings.get(id);
    };
    const numberAt = networkFinder(table.networks);
    const knowledge: ScopeKnowledge = {
      ownOf: (address) => {
        const network = numberAt(address);
        return network === undefined ? undefined : table.rankings(network);
      },
      clustersOf,
      expectedRttMs: (id, clusterId) =>
        times.rttMs(clientPlaces.get(id) ?? null, clustersOf(id)?.interactive ?? [], clusterId),
      prefixesOf: (id) => {
        const network = table.networks.indexOf(id);
        return network === undefined ? [] : table.networks.prefixesOf(network);
      },
      requestsPerSecond: this.#networks.reduce((sum, one) => sum + one.demandPerSecond, 0),
    };
    const { rankingMax, resolversMax } = this.#settings;
    const scopes = this.#scopes.update(evidence, knowledge, now);
    return {
      resolvers: resolverEntries(evidence, knowledge, rankingMax, resolversMax).map((entry) => {
        const own = scopes.get(entry.address);
        return own === undefined ? entry : { ...entry, scopes: own };
      }),
    };
  }

  /** The edge clusters by number; what reports say of them corrects the demand. */
  #edges(
    topology: TopologyIndex,
    suspension: Suspension,
    overrides: Overrides,
    current: Uint16Array,
    now: MonotonicMs,
  ): EdgeInput[] {
    const isOut = (serverId: ServerId): boolean => suspension.out.has(serverId);
    const edges = this.#capacity.edges(topology, isOut, overrides.drained, now);
    const feedback = (this.#feedback ??= new DemandFeedback(current.length, this.#settings.feedback));
    const corrections = feedback.corrections;
    feedback.handleObserved(edges, current, now);
    this.counters.demandCorrections += feedback.corrections - corrections;
    return this.#withoutForeign(edges);
  }

  /** What others' clients take is not there for ours. */
  #withoutForeign(edges: readonly EdgeInput[]): EdgeInput[] {
    return edges.map((edge, c) => {
      const { capacityPerSecond } = edge;
      const foreign = this.#feedback?.foreign(c) ?? 0;
      if (foreign === 0 || capacityPerSecond === 0) return edge;
      // The last hundredth stays: a cluster that is full of others' clients is no dead one.
      const left = Math.max(capacityPerSecond / 100, capacityPerSecond - foreign);
      return { ...edge, capacityPerSecond: left, observedLoad: foreign / capacityPerSecond };
    });
  }

  /** Where the map in force sends everyone, for the networks and clusters that there are now. */
  #currentByName(): Uint16Array {
    const current = new Uint16Array(this.#networks.length * trafficClasses.length).fill(NOWHERE);
    const clusterNumber = new Map(this.#edgeIds.map((clusterId, c) => [clusterId, c]));
    const networkNumber = new Map(this.#networks.map(({ clientNetworkId }, n) => [clientNetworkId, n]));
    const table = this.#previous?.clusterMap.table();
    for (let network = 0; network < (table?.networks.size ?? 0); network++) {
      const n = networkNumber.get(table?.networks.idOf(network) as ClientNetworkId);
      if (table === undefined || n === undefined) continue;
      for (let k = 0; k < trafficClasses.length; k++) {
        const c = clusterNumber.get(table.clusterIds[table.firstCluster(network, k)] as ClusterId);
        if (c !== undefined) current[n * trafficClasses.length + k] = c;
      }
    }
    return current;
  }

  #assumedBitsPerRequest(): number {
    const { demandRatio, bitsPerRequest } = this.#settings;
    return trafficClasses.reduce(
      (sum, trafficClass) => sum + demandRatio[trafficClass] * bitsPerRequest[trafficClass],
      0,
    );
  }

  #emit(event: MapEngineEvent): void {
    if (this.#events.length >= EVENTS_MAX) {
      this.#events.shift();
      this.counters.eventsDropped++;
    }
    this.#events.push(event);
  }
}

/** The same networks in the same order, whatever they ask for. */
function areSameNetworks(a: readonly ClientNetworkInput[], b: readonly ClientNetworkInput[]): boolean {
  return (
    a.length > 0 &&
    a.length === b.length &&
    a.every((one, n) => {
      const other = b[n] as ClientNetworkInput;
      return (
        one.clientNetworkId === other.clientNetworkId &&
        one.coordinates?.latitude === other.coordinates?.latitude &&
        one.coordinates?.longitude === other.coordinates?.longitude &&
        one.asNumber === other.asNumber &&
        one.city === other.city &&
        one.routedPrefix === other.routedPrefix &&
        one.prefixes.length === other.prefixes.length &&
        one.prefixes.every((prefix, p) => prefix === other.prefixes[p])
      );
    })
  );
}

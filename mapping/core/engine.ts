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
  type ServerId,
  type ServerReport,
  type Steps,
  type TopologyDocument,
  trafficClasses,
} from "#kit";
import { type AllocationReason, noReasons } from "./allocation.ts";
import { areSameNetworks, type ClientNetworkInput, ClusterMap } from "./cluster-map.ts";
import { Borrowing } from "./borrowing.ts";
import { DemandFeedback } from "./demand-feedback.ts";
import { EdgeCapacity } from "./edge-capacity.ts";
import { EdgePlaces } from "./edge-places.ts";
import type {
  MapEngineCounters,
  MapEngineEvent,
  NetworkEstimate,
  RttSample,
  SnapshotReason,
} from "./engine-events.ts";
import { checkSettings, type MapEngineSettings, mapEngineDefaults } from "./engine-settings.ts";
import type { Estimator } from "./estimator.ts";
import { ExpectedTimes } from "./expected-times.ts";
import { LastHopTable } from "./last-hops.ts";
import type { EdgeInput } from "./limits.ts";
import { LinkTable } from "./link-table.ts";
import { mapKnowledge } from "./map-knowledge.ts";
import { MapSchedule } from "./map-schedule.ts";
import { Neighbours } from "./neighbours.ts";
import { NetworkKnowledge, type PairHistory } from "./network-knowledge.ts";
import { measuredRows, NetworkRows, NOWHERE, type PairKnowledge } from "./network-rows.ts";
import { type Overrides, resolveOverrides } from "./overrides.ts";
import type { ProbeView } from "./probe-schedule.ts";
import { othersOut, outOfService, suspensionOf, usableOf } from "./out-of-service.ts";
import { pathMap } from "./path-map.ts";
import { ResolverTable } from "./resolver-pairs.ts";
import { ResolverScopes } from "./resolver-scopes.ts";
import { resolverEntries } from "./resolvers.ts";
import { clusterMapTable, currentUnits, movedClusterMapTable, NumberedNetworks } from "./rankings.ts";
import { snapshotProblems } from "./snapshot-check.ts";
import type { Suspension } from "./suspension.ts";
import { tierMap } from "./tier-map.ts";
import { TopologyIndex } from "./topology-index.ts";

/** Events kept for `pollEvent`: only the newest snapshot matters to anyone. */
const EVENTS_MAX = 16;

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
  readonly #places = new EdgePlaces();
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
  readonly #schedule: MapSchedule;
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
    this.#schedule = new MapSchedule(this.#settings);
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
    const sites = this.#edgeIds.map((clusterId, c) => ({ clusterId, coordinates: this.#places.of(c) }));
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
    this.#schedule.handlePrevious(now);
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
    this.#places.handleChanged();
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
    return this.#schedule.pollTimeout(this.#isWarmingUp());
  }

  /** Makes a snapshot when one is due. */
  handleTimeout(now: MonotonicMs): void {
    const due = this.#schedule.handleTimeout(now, this.#isWarmingUp());
    if (due === undefined) return;
    const isFirst = this.counters.snapshots === 0 && this.#previous === undefined;
    if (due.isBypass) this.counters.bypasses++;
    this.estimator.handleTimeout(now);
    this.#links.handleTimeout(now);
    this.#make(isFirst ? "first" : due.reason, now);
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
    const [networks, places] = [this.#networks, this.#places.all];
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
    this.#schedule.handleChanged(reason, now, this.#previous !== undefined);
  }

  #make(reason: SnapshotReason, now: MonotonicMs): void {
    const topology = this.#topology as TopologyIndex;
    const suspension = suspensionOf(topology, this.#downSince, this.#settings.suspension);
    this.counters.doubted += suspension.doubted.size;
    if (reason === "liveness" && this.#makeShrunk(topology, suspension, now)) return;
    const sites = this.#edgeIds.flatMap((clusterId) => topology.edgeClusters.get(clusterId)?.entry ?? []);
    if (this.#places.update(this.#edgeIds, sites, this.#links, now)) this.#borrowing.forget();
    const current =
      this.#current ?? currentUnits(this.#previous?.clusterMap.table(), this.#networks, this.#edgeIds);
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
  #resolverEntries(table: ClusterMapTable, now: MonotonicMs): Pick<MapSnapshot, "resolvers"> {
    const evidence = this.resolvers.size === 0 ? [] : this.resolvers.evidence(this.#epochOf(now));
    if (evidence.length === 0) return {};
    this.#networkPlaces ??= new Map(
      this.#networks.map(({ clientNetworkId, coordinates }) => [clientNetworkId, coordinates]),
    );
    const times = new ExpectedTimes(
      this.#edgeIds,
      this.#places.all,
      (from, to) => this.#links.measured(from, to, null, now)?.rttMs,
    );
    const requestsPerSecond = this.#networks.reduce((sum, one) => sum + one.demandPerSecond, 0);
    const knowledge = mapKnowledge(table, this.#networkPlaces, times, requestsPerSecond);
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

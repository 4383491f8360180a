/** What drives the mapping engine in a deployment: measurements, reports, liveness and documents in, snapshots out. */
import { compareFences, ControlClient, DocumentKeeper, type Fence, fenceOf } from "#control";
import {
  type ClientNetworkId,
  type Clock,
  type ClusterId,
  type EpochMs,
  epochMs,
  formatPrefix,
  type IpAddress,
  type MapSnapshot,
  mapOverrides,
  mapSnapshot,
  type MonotonicMs,
  type ServerId,
  type ServerReport,
  type Steps,
  topologyDocument,
} from "#kit";
import { inSteps, type Logger, systemClock } from "#kit/io";
import { type World, WorldLinks } from "#kit/world";
import { dial, installedWan } from "#transport";
import type { ClientNetworkInput } from "../core/cluster-map.ts";
import { MapEngine } from "../core/engine.ts";
import type { NetworkEstimate } from "../core/engine-events.ts";
import { MeasuredHistory } from "../core/measurements/history.ts";
import { MeasurementIntake } from "../core/measurements/intake.ts";
import type { MeasurementSource, PathSample } from "../core/measurements/sample.ts";
import type { ResolverPair } from "../core/resolver-pairs.ts";
import {
  MeasurementStore,
  type PathFigures,
  type PathQuery,
  type PathWindow,
  type SeriesProvenance,
} from "../core/measurements/store.ts";
import type { ReadSummary } from "../core/measurements/tally.ts";
import { TimingQuota } from "../core/measurements/timing-quota.ts";
import { NamePairs } from "../core/name-pairs.ts";
import { changesText, mapChanges } from "../core/map-changes.ts";
import { MAP_ID } from "../core/publisher-election.ts";
import type { SnapshotProblemReason } from "../core/snapshot-check.ts";
import { type TopologyIndex, topologyIndexOf } from "../core/topology-index.ts";
import { EdgeProber } from "./dns-liveness.ts";
import { ClientNetworkSource, type NetworkSourceState } from "./client-network-source.ts";
import { clientNetworksOf, MeasurementFeed } from "./feed.ts";
import { type MeasurementFile, measurementFile } from "./measurement-file.ts";
import { ProbePlanning } from "./probe-planning.ts";
import { MapPublisher } from "./map-publisher.ts";
import { type ResolverFile, resolverFile } from "./resolver-file.ts";
import { PublisherLease } from "./publisher-lease.ts";

/** Samples are handed over in small batches; nothing depends on their exact time. */
const FEED_INTERVAL_MS = 100;

/** Who measures the links of an emulated world. */
const EMULATED = { source: "probe", method: "icmp", agent: "emulated" } as const;

/** How long a drain waits for control: what is under way, and the place that is given back, ms. */
const DRAIN_MS = 1_000;

export interface MapperSettings {
  /** Among the mappers of the deployment. */
  readonly mapperId: string;
  readonly world: World;
  readonly controlUrl: string;
  readonly token: string;
  readonly stateDirectory: string;
  /** 0: no emulated samples, only what is handed over. */
  readonly samplesPerSecond: number | undefined;
  /** From one file of the measurements to the next, ms. */
  readonly measurementSaveMs?: number | undefined;
  /** What agents are told to measure in all. */
  readonly probesPerMinute?: number | undefined;
  /** Undefined: the engine's default. */
  readonly queryPriceMs?: number | undefined;
  /** Undefined: the world's client networks. */
  readonly clientNetworksFile?: string | undefined;
  readonly isForced: boolean;
  readonly logger: Logger;
  readonly clock?: Clock;
}

/** Servers report each second, ms. */
const REPORT_AGE_MS_MAX = 15_000;

/** What an operator is shown of a distribution. */
const SHOWN_QUANTILES: readonly number[] = [0.25, 0.5, 0.75];

/** What is kept of a pair, for operators; times in ms. */
export interface PairMeasurements {
  readonly from: string;
  readonly to: string;
  readonly spanMs: number;
  /** Of which `rttMs` of figures and windows are the values. */
  readonly quantiles: readonly number[];
  readonly figures: PathFigures;
  readonly provenance: readonly SeriesProvenance[];
  readonly windows: readonly PathWindow[];
}

export class Mapper {
  readonly engine: MapEngine;
  /** What agents and operators hand over, for a week. */
  readonly store = new MeasurementStore();
  readonly prober: EdgeProber;
  readonly publisher: MapPublisher;
  readonly lease: PublisherLease;
  readonly client: ControlClient;
  readonly keeper: DocumentKeeper;
  readonly measurements: MeasurementFile;
  readonly resolvers: ResolverFile;
  readonly #settings: MapperSettings;
  readonly #clock: Clock;
  readonly #intake = new MeasurementIntake(this.store);
  readonly #feed: MeasurementFeed | undefined;
  readonly #networks: ClientNetworkSource;
  /** The client network in force that has the addresses of one of the world; only where a file has replaced the world's. */
  #networkOfWorld: ReadonlyMap<string, ClientNetworkId> | undefined;
  #topology: TopologyIndex | undefined;
  /** The newest of this process's own making. */
  #own: MapSnapshot | undefined;
  #inForce: MapSnapshot | undefined;
  /** What servers say that they go by; as many as the topology has. */
  readonly #serverMaps = new Map<ServerId, { readonly fence: Fence | undefined; readonly at: MonotonicMs }>();
  readonly #refusedByReason = new Map<SnapshotProblemReason, number>();
  readonly #samplesBySource = new Map<MeasurementSource | "feed", number>();
  #solverCpuSeconds = 0;
  #feedTimer: NodeJS.Timeout | undefined;
  #engineTimer: NodeJS.Timeout | undefined;
  #reports: { close(): void } | undefined;
  #isClosed = false;
  readonly timingQuota = new TimingQuota();
  /** Who asks through which resolver, as name servers and edges see it together. */
  readonly namePairs = new NamePairs();
  /** Who measures what next. */
  readonly planning: ProbePlanning;

  constructor(settings: MapperSettings) {
    this.#settings = settings;
    const { world, logger, controlUrl, token, stateDirectory, mapperId } = settings;
    const clock = settings.clock ?? systemClock;
    this.#clock = clock;
    const epochOf = (now: MonotonicMs): EpochMs => epochMs(clock.epoch() - clock.monotonic() + now);
    this.engine = new MapEngine({
      epochOf,
      history: new MeasuredHistory(this.store, epochOf),
      isWorkDriven: true,
    });
    const { probesPerMinute } = settings;
    this.planning = new ProbePlanning({
      engine: this.engine,
      clock,
      settings: probesPerMinute === undefined ? {} : { probesPerMinute },
    });
    if (settings.queryPriceMs !== undefined) this.engine.handleQueryPrice(settings.queryPriceMs);
    this.client = new ControlClient({ url: controlUrl, token, nodeId: mapperId, dial, logger });
    this.publisher = new MapPublisher({
      client: this.client,
      logger,
      publisherId: mapperId,
      onFenced: (term) => this.lease.handleFenced(term),
    });
    this.lease = new PublisherLease({
      client: this.client,
      clock,
      logger,
      holderId: mapperId,
      onEvent: (event) => {
        if (event.type === "deposed") this.publisher.withdraw();
        else this.#lead(event.term, event.versionFloor);
      },
    });
    this.prober = new EdgeProber({
      clock,
      logger,
      dial,
      onEvent: (event) => {
        this.engine.handleLiveness(event.id as ServerId, event.state === "up", event.at);
        this.#turn();
      },
    });
    const { samplesPerSecond } = settings;
    if (samplesPerSecond !== 0)
      this.#feed = new MeasurementFeed({
        world,
        links: new WorldLinks(world),
        ...(samplesPerSecond !== undefined && { settings: { samplesPerSecond } }),
        isLost: (from, to) => this.#isCut(from, to) || this.#isDead(to),
      });
    this.#networks = new ClientNetworkSource({
      file: settings.clientNetworksFile,
      stateDirectory,
      world: clientNetworksOf(world),
      logger,
      onNetworks: (networks) => this.#setNetworks(networks),
    });
    this.measurements = measurementFile({
      store: this.store,
      stateDirectory,
      saveMs: settings.measurementSaveMs,
      clock,
      logger,
    });
    this.resolvers = resolverFile({ table: this.engine.resolvers, stateDirectory, clock, logger });
    this.keeper = new DocumentKeeper({ client: this.client, stateDirectory, logger });
    this.keeper.keep(
      "topology",
      (value) => topologyDocument.parse(value),
      (_id, body) => this.#setTopology(topologyIndexOf(body)),
    );
    this.keeper.keep(
      "overrides",
      (value) => mapOverrides.parse(value),
      (_id, body) => {
        this.engine.handleOverrides(body, this.#clock.monotonic());
        this.#turn();
      },
    );
    this.keeper.keep(
      "map",
      (value) => mapSnapshot.parse(value),
      (id, body, version, from) => {
        if (id === MAP_ID) this.#takeMap(body, version, from === "control");
      },
    );
  }

  /** Rejects when the state directory cannot be used. Does not wait for control. */
  async start(): Promise<void> {
    await this.keeper.start();
    await this.measurements.start();
    await this.resolvers.start();
    await this.#networks.start();
    this.#reports = this.client.watch(
      ["report"],
      (event) => {
        if (event.type !== "report") return;
        const now = this.#clock.monotonic();
        this.engine.handleReport(event.report, now);
        const { serverId, mapInForce } = event.report;
        if (this.#topology?.servers.has(serverId) === true)
          this.#serverMaps.set(serverId, { fence: mapInForce, at: now });
        this.lease.handleSeenTerm(event.report.mapInForce?.term ?? 0);
        this.#takeTimings(event.report);
        this.#takeNames(event.report);
      },
      {
        onState: (state) => {
          if (state === "connected") this.publisher.retryNow();
        },
      },
    );
    this.#measure(this.#clock.monotonic());
    this.#feedTimer = setInterval(() => this.#measure(this.#clock.monotonic()), FEED_INTERVAL_MS);
    this.#turn();
  }

  /** Measurements of others, by address; those that are fresh count in the next map. */
  handleSamples(samples: readonly PathSample[]): ReadSummary {
    const epoch = this.#clock.epoch();
    this.store.handleTimeout(epoch);
    const { tally, fresh, traces, answers } = this.#intake.handleSamples(
      samples,
      epoch,
      this.#clock.monotonic(),
    );
    for (const sample of fresh) {
      this.engine.handleSample(sample);
      this.planning.schedule.handleResult(sample.from as ClientNetworkId, sample.to);
    }
    for (const { clientNetworkId, address } of answers)
      this.planning.targets.handleAnswer(clientNetworkId, address);
    for (const { clientNetworkId, lastHops } of traces) this.engine.handleLastHops(clientNetworkId, lastHops);
    for (const { source } of samples) increment(this.#samplesBySource, source);
    return tally.summary();
  }

  /** Who asks through which resolver, by address; counts in the next map. */
  handleResolverPairs(pairs: readonly ResolverPair[]): ReadSummary {
    return this.#intake.handlePairs(pairs, this.engine.resolvers, this.#clock.epoch()).summary();
  }

  /** Reads the file of client networks again; false: there is none. */
  reloadClientNetworks(): boolean {
    return this.#networks.reload();
  }

  get clientNetworks(): NetworkSourceState {
    return this.#networks.state;
  }

  /** The client network that has the address, and by which prefix. */
  clientNetworkOf(address: IpAddress): (ClientNetworkInput & { readonly matchedPrefix: string }) | undefined {
    const match = this.#intake.clientNetworkOf(address);
    const network = this.#networks.networks.find((one) => one.clientNetworkId === match?.clientNetworkId);
    return network && match && { ...network, matchedPrefix: formatPrefix(match.prefix) };
  }

  /** What the scores of a client network rest on; undefined: there is none of that name, or no map yet. */
  estimatesOf(clientNetworkId: ClientNetworkId): NetworkEstimate[] | undefined {
    return this.engine.estimatesOf(clientNetworkId, this.#clock.monotonic());
  }

  /** What users' browsers timed, as an edge tells it: bounded by network, and measured when the report came. */
  #takeTimings({ serverId, timings = [] }: ServerReport): void {
    const now = this.#clock.monotonic();
    const at = epochMs(this.#clock.epoch());
    const samples = timings.flatMap(({ from, to, method, rttMs }): PathSample[] =>
      this.timingQuota.handleTiming(from, now)
        ? [{ source: "beacon", method, agent: serverId, from, to, at, rttMs }]
        : [],
    );
    if (samples.length > 0) this.handleSamples(samples);
  }

  /** Each says what it alone can have seen, whatever else stands in its report. */
  #takeNames({ role, namesAsked = [], namesUsed = [] }: ServerReport): void {
    const now = this.#clock.monotonic();
    if (role === "nameserver") for (const asked of namesAsked) this.namePairs.handleAsked(asked, now);
    else for (const used of namesUsed) this.namePairs.handleUsed(used, now);
  }

  /** What is kept of a pair; undefined: nothing in that span. */
  measurementsOf(from: string, to: string, spanMs: number): PairMeasurements | undefined {
    const query: PathQuery = { spanMs, quantiles: SHOWN_QUANTILES };
    const now = this.#clock.epoch();
    const figures = this.store.figures(from, to, query, now);
    if (figures === undefined) return undefined;
    const provenance = this.store.provenance(from, to);
    return {
      from,
      to,
      spanMs,
      quantiles: SHOWN_QUANTILES,
      figures,
      provenance,
      windows: this.store.windows(from, to, query, now),
    };
  }

  /** The map that nodes go by, as far as is known here. */
  get inForce(): MapSnapshot | undefined {
    return this.#inForce;
  }

  inForceAgeSeconds(): number | undefined {
    if (this.#inForce === undefined) return undefined;
    return Math.max(0, this.#clock.epoch() - this.#inForce.createdAtEpochMs) / 1_000;
  }

  /** Servers that have reported of late, by the map that they go by. */
  mapsOfServers(): Readonly<Record<"in-force" | "older" | "none", number>> {
    const counts = { "in-force": 0, older: 0, none: 0 };
    const inForce = fenceOf("map", this.#inForce);
    for (const { fence, at } of this.#serverMaps.values()) {
      if (this.#clock.monotonic() - at > REPORT_AGE_MS_MAX) continue;
      if (fence === undefined) counts.none++;
      else counts[inForce === undefined || compareFences(fence, inForce) >= 0 ? "in-force" : "older"]++;
    }
    return counts;
  }

  /** Snapshots that were not published, by what spoke against them first. */
  get refusedByReason(): ReadonlyMap<SnapshotProblemReason, number> {
    return this.#refusedByReason;
  }
  get samplesBySource(): ReadonlyMap<MeasurementSource | "feed", number> {
    return this.#samplesBySource;
  }
  /** CPU time of the process while snapshots were made. */
  get solverCpuSeconds(): number {
    return this.#solverCpuSeconds;
  }

  /** Whether there is a map of this process's own making, or one that it took over. */
  get isReady(): boolean {
    return this.engine.snapshot !== undefined;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#feedTimer);
    clearTimeout(this.#engineTimer);
    await this.#networks.settled();
    await this.publisher.close(DRAIN_MS);
    await this.lease.drain(DRAIN_MS);
    this.#reports?.close();
    await this.measurements.close();
    await this.resolvers.close();
    this.prober.close();
    await this.keeper.close();
    await this.client.close();
  }

  #setTopology(topology: TopologyIndex): void {
    this.#topology = topology;
    this.#intake.handlePlaces(topology, this.#networks.networks);
    this.planning.handleClusters(topology.edgeClusters);
    this.engine.handleTopology(topology.topology, this.#clock.monotonic());
    for (const serverId of this.#serverMaps.keys())
      if (!topology.servers.has(serverId)) this.#serverMaps.delete(serverId);
    // Origins are the customers': their liveness is the parents' business.
    this.prober.setServers(
      [...topology.servers.values()]
        .filter(
          ({ cluster }) => cluster.role === "edge" || cluster.role === "parent" || cluster.role === "relay",
        )
        .map(({ server }) => server),
    );
    this.#turn();
  }

  /** The map in force: where to go on from, at the start and as long as another one publishes. */
  #takeMap(snapshot: MapSnapshot, version: number, isFromControl: boolean): void {
    if (isFromControl) this.publisher.handleVersion(version);
    this.#inForce = snapshot;
    this.publisher.handleInForce(snapshot);
    const { publication } = snapshot;
    this.lease.handleSeenTerm(publication?.term ?? 0);
    if (this.#own === undefined)
      this.engine.handlePrevious(snapshot, this.#clock.monotonic(), this.#settings.isForced);
    else if ((publication?.term ?? 0) !== this.lease.election.term) this.engine.handleInForce(snapshot);
  }

  /** What this engine has is published, unless a map of another one has come since; then it makes one that follows on it. */
  #lead(term: number, versionFloor: number): void {
    const { snapshot } = this.engine;
    if (snapshot !== undefined && snapshot === this.#own && snapshot.mapVersion > versionFloor) {
      this.#publish(snapshot, term);
      return;
    }
    this.engine.handleElected(versionFloor, this.#clock.monotonic());
    this.#turn();
  }

  #publish(snapshot: MapSnapshot, term: number): void {
    const before = this.#inForce;
    this.publisher.publish(
      snapshot,
      term,
      before === undefined ? "the first one" : changesText(mapChanges(before, snapshot)),
    );
  }

  #measure(now: MonotonicMs): void {
    this.#plan(now);
    const epoch = epochMs(Math.round(this.#clock.epoch()));
    const pairs = this.namePairs.handleTimeout(now);
    if (pairs.length > 0) this.handleResolverPairs(pairs.map((pair) => ({ ...pair, at: epoch })));
    for (const sample of this.#feed?.poll(now) ?? []) {
      const from = this.#networkOfWorld === undefined ? sample.from : this.#networkOfWorld.get(sample.from);
      if (from !== undefined) {
        this.engine.handleSample({ ...sample, from });
        const { to, rttMs } = sample;
        this.store.handleSample({ ...EMULATED, from, to, rttMs, at: epoch }, epoch);
        this.planning.schedule.handleResult(from as ClientNetworkId, sample.to);
      }
      increment(this.#samplesBySource, "feed");
    }
  }

  /** The emulated agents of a world's links live where a server does, and get their plans at once. */
  #plan(now: MonotonicMs): void {
    const edges = [...(this.#topology?.edgeClusters.keys() ?? [])];
    if (this.#feed !== undefined)
      for (const clusterId of edges)
        if (!this.#isDead(clusterId)) this.planning.schedule.handleAgent(clusterId, now);
    if (!this.planning.handleTimeout(now) || this.#feed === undefined) return;
    const worldNetworks = new Map([...(this.#networkOfWorld ?? [])].map(([world, id]) => [id, world]));
    const planned = edges.flatMap((to) =>
      (this.planning.schedule.planOf(to, now)?.probes ?? []).map(({ clientNetworkId, value }) => ({
        from: worldNetworks.get(clientNetworkId) ?? clientNetworkId,
        to,
        value,
      })),
    );
    this.#feed.handlePlan(planned.sort((a, b) => b.value - a.value));
  }

  /** From now on, also while it runs: what was measured of a network that keeps its name counts on. */
  #setNetworks(networks: readonly ClientNetworkInput[]): void {
    const now = this.#clock.monotonic();
    // First what may refuse them.
    this.#intake.handlePlaces(this.#topology, networks);
    this.planning.handleNetworks(networks);
    this.engine.handleClientNetworks(networks, now);
    if (this.#settings.clientNetworksFile !== undefined)
      this.#networkOfWorld = this.#intake.networksOf(this.#settings.world.clients);
    // At the start measurements come before the first map.
    if (this.#feedTimer !== undefined) this.#turn();
  }

  /** Acts on what is due, publishes what was made, and sets the one timer. */
  #turn(): void {
    if (this.#isClosed) return;
    const now = this.#clock.monotonic();
    const before = process.cpuUsage();
    this.engine.handleTimeout(now);
    const { user, system } = process.cpuUsage(before);
    this.#solverCpuSeconds += (user + system) / 1e6;
    for (let event = this.engine.pollEvent(); event !== undefined; event = this.engine.pollEvent()) {
      if (event.type === "snapshot") {
        this.#own = event.snapshot;
        const { term } = this.lease.election;
        if (term > 0) this.#publish(event.snapshot, term);
        else this.lease.handleReady();
      } else {
        const [problem] = event.problems;
        if (problem !== undefined) increment(this.#refusedByReason, problem.reason);
        this.#settings.logger.error("snapshot-refused", { reason: event.reason, problems: event.problems });
      }
    }
    const work = this.engine.pollWork();
    if (work !== undefined) void this.#drive(work);
    clearTimeout(this.#engineTimer);
    const dueAt = this.engine.pollTimeout();
    if (dueAt === undefined) return;
    this.#engineTimer = setTimeout(() => this.#turn(), Math.max(1, Math.ceil(dueAt - now)));
  }

  /** Never rejects. */
  async #drive(work: Steps<void>): Promise<void> {
    try {
      await inSteps(work, () => !this.#isClosed);
    } catch (error) {
      this.#settings.logger.error("mapper-work-failed", { error });
    }
  }

  /** Every server of the cluster is down: nothing there would answer a user's probe either. */
  #isDead(clusterId: ClusterId): boolean {
    const servers = this.#topology?.edgeClusters.get(clusterId)?.entry.servers ?? [];
    return servers.length > 0 && servers.every(({ serverId }) => !this.prober.isUp(serverId));
  }

  /** In an emulated world an operator cuts links; users behind a cut one see it. */
  #isCut(from: string, to: string): boolean {
    const cuts: readonly (readonly [string, string])[] = installedWan()?.cuts ?? [];
    return cuts.some(([a, b]) => (a === from && b === to) || (a === to && b === from));
  }
}

function increment<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

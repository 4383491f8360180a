/**
 * A day of the map: the production engine, detector and answers over a large world, with demand that follows the sun and faults by
 * seed. Time goes in steps; users are streams of demand, not requests. What is left out for that stands in the report.
 */
import {
  type ClientNetworkId,
  type ClusterId,
  epochMs,
  type MapSnapshot,
  type MonotonicMs,
  monotonicMs,
  Random,
  type ServerId,
  type ServerReport,
  type TopologyDocument,
} from "#kit";
import { planAddresses, topologyOf, type World, WorldLinks } from "#kit/world";
import type { ClientNetworkInput } from "../../mapping/core/cluster-map.ts";
import { noisySample } from "../../mapping/core/noise.ts";
import { Judge } from "../core/invariants.ts";
import type { SimCores } from "../cores.ts";
import { productionCores } from "../cores.ts";
import { DayDamage } from "./damage.ts";
import { type DayFault, drawDayFaults } from "./faults.ts";
import { DayFigures, type DayReport } from "./figures.ts";
import { DayUsers } from "./users.ts";

/** One step, s: probes, reports and look-ups fall on steps. */
const STEP_SECONDS = 5;
/** Probes of servers, by the mapper and by the name servers (one stands for all); in production twice a second. */
const LIVENESS = { intervalMs: 5_000, timeoutMs: 2_000, downThreshold: 2, okThreshold: 2, jitterRatio: 0.1 };
/** Each client network is measured once in so many steps, against so many clusters: the nearest ones by geography. */
const MEASURE_STEPS = 12;
const MEASURED_CLUSTERS = 6;
/** Servers report once in so many steps, what they had a step before. */
const REPORT_STEPS = 2;
/** What is known of demand is told to the engine so often, s. */
const DEMAND_SECONDS = 900;
/** A dead server's users are gone after detection (two probes, jitter, a step) and the TTL of their answers. */
const TTL_SECONDS = 20;
const NOTICE_SECONDS = 2 * 5.5 + 2 + TTL_SECONDS + 2 * STEP_SECONDS;

export interface DayOptions {
  readonly world: World;
  readonly seed: number;
  /** Virtual seconds, 600..86,400. */
  readonly seconds: number;
  /** From one map to the next when nothing happens, s; 10 in production. */
  readonly cycleSeconds?: number;
  readonly cores?: Partial<SimCores>;
  readonly onHour?: (hour: number) => void;
}

/** Throws RangeError for fewer than 600 seconds. */
export function simulateDay(options: DayOptions): DayReport {
  if (!(options.seconds >= 600 && options.seconds <= 86_400))
    throw new RangeError(`A day has 600 to 86400 virtual seconds, got ${options.seconds}`);
  return new Day(options).run();
}

class Day {
  readonly #options: DayOptions;
  readonly #cores: SimCores;
  readonly #topology: TopologyDocument;
  readonly #edges: TopologyDocument["clusters"];
  readonly #networks: readonly ClientNetworkInput[];
  readonly #random: Random;
  readonly #judge = new Judge(() => {});
  readonly #damage: DayDamage;
  readonly #users: DayUsers;
  readonly #figures: DayFigures;
  readonly #faults: readonly DayFault[];
  /** For each network the clusters that it is measured against, and what a round trip takes, ms. */
  readonly #measured: readonly (readonly { readonly clusterId: ClusterId; readonly rttMs: number }[])[];
  #engine!: ReturnType<SimCores["mapEngine"]>;
  #mapperLiveness!: ReturnType<SimCores["liveness"]>;
  readonly #nameServerLiveness: ReturnType<SimCores["liveness"]>;
  #snapshot: MapSnapshot | undefined;
  #pendingReports: ServerReport[] = [];
  #isMapperUp = true;

  constructor(options: DayOptions) {
    this.#options = options;
    this.#cores = { ...productionCores, ...options.cores };
    const { world, seed } = options;
    this.#topology = topologyOf(
      world,
      planAddresses(world, { loopback: "127.10", port: 8080, dnsPort: 5300 }),
    );
    this.#edges = this.#topology.clusters.filter(({ role }) => role === "edge");
    this.#random = new Random(seed).split("day");
    this.#networks = world.clients.map((client) => ({
      clientNetworkId: client.id,
      prefixes: client.prefixes,
      coordinates: client.coordinates,
      demandPerSecond: client.demandPerSecond,
    }));
    const links = new WorldLinks(world);
    const rtts = world.clients.map(({ id }) =>
      this.#edges.map(({ clusterId }) => ({ clusterId, rttMs: links.between(id, clusterId).rttMs })),
    );
    this.#measured = rtts.map((own) => own.toSorted((a, b) => a.rttMs - b.rttMs).slice(0, MEASURED_CLUSTERS));
    this.#damage = new DayDamage(this.#edges);
    this.#faults = drawDayFaults(
      this.#random.split("faults"),
      {
        servers: this.#edges.flatMap(({ servers }) => servers.map(({ serverId }) => serverId)),
        clusters: this.#edges.map(({ clusterId }) => clusterId),
        regions: [...new Set(this.#edges.map(({ regionId }) => regionId))],
        links: this.#measured.map((own, n) => `${world.clients[n]?.id}|${own[0]?.clusterId}`),
      },
      options.seconds,
    );
    this.#users = new DayUsers(world, rtts, this.#cores);
    this.#figures = new DayFigures(this.#edges, this.#faults);
    this.#nameServerLiveness = this.#watcher("name-server", monotonicMs(0));
    this.#startMapper(monotonicMs(0));
  }

  run(): DayReport {
    const { seconds, onHour } = this.#options;
    const steps = Math.floor(seconds / STEP_SECONDS);
    for (let step = 0; step < steps && this.#judge.violation === undefined; step++) {
      const now = monotonicMs(step * STEP_SECONDS * 1_000);
      const at = step * STEP_SECONDS;
      this.#damage.set(
        this.#faults.filter((fault) => at >= fault.at && at < fault.until),
        at,
      );
      this.#probe(this.#nameServerLiveness, now);
      this.#runMapper(step, now);
      this.#turnUsers(step, at);
      if (at % 3_600 === 0) onHour?.(at / 3_600);
    }
    const suspended = Object.values(this.#snapshot?.suspended ?? {}).filter(Boolean).length;
    this.#judge.check(
      "not-converged",
      monotonicMs(seconds * 1_000),
      suspended === 0,
      () => `the map still suspends ${suspended} clusters at the end, long after the last fault`,
    );
    return this.#figures.report({
      world: this.#options.world,
      seconds,
      seed: this.#options.seed,
      cycleSeconds: this.#options.cycleSeconds ?? 10,
      judge: this.#judge,
      detected: this.#damage.detected,
    });
  }

  #watcher(id: string, now: MonotonicMs): ReturnType<SimCores["liveness"]> {
    const monitor = this.#cores.liveness(LIVENESS, id);
    monitor.setTargets(
      this.#edges.flatMap(({ servers }) => servers.map(({ serverId }) => ({ id: serverId }))),
      now,
    );
    return monitor;
  }

  /** Sends what is due; who lives answers at once, who is dead never does. */
  #probe(monitor: ReturnType<SimCores["liveness"]>, now: MonotonicMs): void {
    monitor.handleTimeout(now);
    for (let probe = monitor.pollTransmit(now); probe; probe = monitor.pollTransmit(now))
      if (this.#damage.isServerAlive(probe.id)) monitor.handleProbeResult(probe.probeId, true, now);
    for (let event = monitor.pollEvent(); event; event = monitor.pollEvent()) {
      if (event.state === "down") this.#damage.noteDetected(event.id);
      if (monitor === this.#mapperLiveness)
        this.#engine.handleLiveness(event.id as ServerId, event.state === "up", now);
    }
  }

  #startMapper(now: MonotonicMs): void {
    this.#engine = this.#cores.mapEngine((at) => epochMs(at));
    if (this.#snapshot !== undefined) this.#engine.handlePrevious(this.#snapshot, now);
    this.#engine.handleTopology(this.#topology, now);
    this.#engine.handleClientNetworks(this.#networks, now);
    this.#mapperLiveness = this.#watcher("mapper", now);
  }

  #runMapper(step: number, now: MonotonicMs): void {
    const isUp = !this.#damage.isMapperDown;
    if (isUp && !this.#isMapperUp) this.#startMapper(now);
    this.#isMapperUp = isUp;
    if (!isUp) return;
    this.#probe(this.#mapperLiveness, now);
    this.#measure(step, now);
    if (step % REPORT_STEPS === 0) {
      for (const report of this.#pendingReports) this.#engine.handleReport(report, now);
      this.#pendingReports = this.#reports(now);
    }
    if ((step * STEP_SECONDS) % DEMAND_SECONDS === 0 && step > 0)
      this.#engine.handleClientNetworks(this.#users.seenDemand(this.#networks), now);
    const cycleMs = (this.#options.cycleSeconds ?? 10) * 1_000;
    const isForced = (step * STEP_SECONDS * 1_000) % cycleMs === 0 || this.#damage.hasNews;
    const due = this.#engine.pollTimeout();
    if (due === undefined || due > now || !isForced) return;
    this.#engine.handleTimeout(now);
    for (let event = this.#engine.pollEvent(); event; event = this.#engine.pollEvent()) {
      if (event.type === "refused") this.#figures.countRefused();
      else this.#publish(event.snapshot, now);
    }
  }

  #publish(snapshot: MapSnapshot, now: MonotonicMs): void {
    const before = this.#snapshot?.mapVersion ?? 0;
    this.#judge.check(
      "document-went-back",
      now,
      snapshot.mapVersion > before,
      () => `map ${snapshot.mapVersion} is published after ${before}`,
    );
    this.#judgeQuota(snapshot, now);
    this.#figures.countMap(this.#users.handleMap(snapshot), now / 1_000, this.#damage.isQuiet);
    this.#snapshot = snapshot;
  }

  #judgeQuota(snapshot: MapSnapshot, now: MonotonicMs): void {
    const capacityOf = (clusters: TopologyDocument["clusters"]): number =>
      clusters.reduce(
        (sum, { servers }) =>
          sum + servers.reduce((part, { capacityPerSecond }) => part + capacityPerSecond, 0),
        0,
      );
    const total = capacityOf(this.#edges);
    const out = capacityOf(this.#edges.filter(({ clusterId }) => snapshot.suspended[clusterId] === true));
    const largest = Math.max(
      ...[...Map.groupBy(this.#edges, ({ regionId }) => regionId).values()].map(capacityOf),
    );
    const quota = Math.min(Math.max(0.1 * total, largest), 0.5 * total);
    this.#judge.check(
      "quota-exceeded",
      now,
      out <= quota + 1e-6,
      () => `map ${snapshot.mapVersion} suspends ${out} of ${total} requests/s, the quota is ${quota}`,
    );
  }

  #measure(step: number, now: MonotonicMs): void {
    const random = this.#random.split(`feed/${step}`);
    for (let n = step % MEASURE_STEPS; n < this.#networks.length; n += MEASURE_STEPS) {
      const from = (this.#networks[n] as ClientNetworkInput).clientNetworkId;
      for (const { clusterId, rttMs } of this.#measured[n] ?? []) {
        const isReached = this.#damage.isReached(from, clusterId);
        this.#engine.handleSample({
          from,
          to: clusterId,
          rttMs: isReached ? noisySample(rttMs, 0, random) : null,
          at: now,
        });
      }
    }
  }

  #reports(now: MonotonicMs): ServerReport[] {
    return this.#edges.flatMap((cluster) => {
      const alive = cluster.servers.filter(({ serverId }) => this.#damage.isServerAlive(serverId));
      if (this.#damage.isSilent(cluster.regionId)) return [];
      return alive.map(
        ({ serverId }): ServerReport => ({
          serverId,
          clusterId: cluster.clusterId,
          role: "edge",
          incarnation: "1",
          atEpochMs: epochMs(now),
          state: "ready",
          requestsPerSecond: this.#users.loadOf(cluster.clusterId) / alive.length,
          activeRequests: 0,
          cacheBytes: 0,
          cacheObjects: 0,
          properties: {},
          links: [],
          applied: {},
        }),
      );
    });
  }

  #turnUsers(step: number, at: number): void {
    if (this.#snapshot === undefined) return;
    const now = monotonicMs(at * 1_000);
    this.#users.turn({
      step,
      steps: TTL_SECONDS / STEP_SECONDS,
      second: at,
      snapshot: this.#snapshot,
      topology: this.#topology,
      isUp: (id) => this.#nameServerLiveness.isUp(id),
      onAnswer: (clientNetworkId: ClientNetworkId, servers, reason) =>
        this.#judge.check(
          "dns-answer-empty",
          now,
          servers > 0 && reason !== "all-down",
          () => `${clientNetworkId} is answered with ${servers} servers, ${reason}`,
        ),
    });
    for (const [clientNetworkId, serverIds] of this.#users.sent) {
      const deadFor = Math.min(...serverIds.map((id) => this.#damage.deadForSeconds(id, at)));
      this.#judge.check(
        "client-asks-dead",
        now,
        deadFor <= NOTICE_SECONDS,
        () =>
          `${clientNetworkId} is at servers that have been dead for ${deadFor} s, the bound is ${NOTICE_SECONDS} s`,
      );
    }
    this.#figures.turn(this.#users, this.#damage, at, STEP_SECONDS);
  }
}

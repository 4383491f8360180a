/**
 * A mapping process: the engine with its feed, reports and probes, and the election; while it is the publisher its maps go to control
 * by compare-and-set. The drivers of mapping/io (Mapper, PublisherLease, MapPublisher) over virtual messages.
 */
import {
  allSteps,
  type ClientNetworkId,
  type ClusterId,
  differenceOf,
  type MapSnapshot,
  mapSnapshot,
  type MonotonicMs,
  named,
  type NamedMap,
  type ServerId,
} from "#kit";
import type { ClientNetworkInput } from "../../mapping/core/cluster-map.ts";
import type { MapEngine } from "../../mapping/core/engine.ts";
import { ProbeSchedule } from "../../mapping/core/probe-schedule.ts";
import type {
  ElectionAnswer,
  ElectionRequest,
  PublisherElection,
} from "../../mapping/core/publisher-election.ts";
import type { ControlStore, PutResult } from "./control-store.ts";
import { DocumentFollower } from "./document-follower.ts";
import { epochOf, exchange, type Host, type Program } from "./host.ts";
import { Probes } from "./probes.ts";
import type { Stage } from "./stage.ts";

/** Wait before the newest map is offered again after control did not answer, ms. */
const PUBLISH_AGAIN_MS = 1_000;
const PUBLISH_TIMEOUT_MS = 2_000;
/** Longer than the election waits: it gives a request up itself. */
const LEASE_TIMEOUT_MS = 5_000;
/** Noise of a ping beside the network's own: standard deviation as a share. */
const FEED_NOISE_RATIO = 0.03;

export class Mapper implements Program {
  readonly host: Host;
  readonly follower: DocumentFollower;
  readonly #stage: Stage;
  readonly #control: ControlStore;
  readonly #networks: readonly ClientNetworkInput[];
  #engine!: MapEngine;
  #election!: PublisherElection;
  #probes!: Probes;
  #schedule!: ProbeSchedule;
  /** The newest of this process's own making. */
  #own: MapSnapshot | undefined;
  #waiting: { readonly snapshot: MapSnapshot; readonly term: number } | undefined;
  #isPublishing = false;
  /** The last one that control took from here: the next one is told as the difference from it. */
  #published: NamedMap | undefined;
  /** Version of the map document that control holds, as far as is known. */
  #version = 0;
  #timerAt = Number.POSITIVE_INFINITY;
  #electionAt = Number.POSITIVE_INFINITY;

  constructor(stage: Stage, host: Host, control: ControlStore, networks: readonly ClientNetworkInput[]) {
    this.#stage = stage;
    this.host = host;
    this.#control = control;
    this.#networks = networks;
    this.follower = new DocumentFollower(host, control, ["map", "report"], {
      onDocument: (_kind, _id, body, version) => {
        this.#version = Math.max(this.#version, version);
        this.#takeMap(body as MapSnapshot);
        return true;
      },
      onReport: (report) => {
        this.#engine.handleReport(report, host.now);
        this.#election.handleSeenTerm(report.mapInForce?.term ?? 0, host.now);
        this.#elect();
      },
      onApplied: () => {},
    });
  }

  get election(): PublisherElection {
    return this.#election;
  }

  start(): void {
    const { now } = this.host;
    this.#own = undefined;
    this.#waiting = undefined;
    this.#isPublishing = false;
    this.#published = undefined;
    this.#version = 0;
    this.#timerAt = Number.POSITIVE_INFINITY;
    this.#electionAt = Number.POSITIVE_INFINITY;
    this.#engine = this.#stage.cores.mapEngine((at: MonotonicMs) => epochOf(at));
    this.#election = this.#stage.cores.publisherElection(this.host.id);
    const { feedMs, probesPerMinute } = this.#stage.settings;
    this.#schedule = new ProbeSchedule({ cycleMs: feedMs, probesPerMinute });
    this.follower.start();
    this.#engine.handleTopology(this.#stage.topology, now);
    this.#engine.handleClientNetworks(this.#networks, now);
    const watched = this.#stage.topology.clusters.filter(
      (one) => one.role === "edge" || one.role === "parent" || one.role === "relay",
    );
    this.#probes = new Probes(this.host, this.#stage.settings.mapperLiveness, (event) => {
      this.host.note(`takes ${event.id} for ${event.state} (${event.reason})`);
      if (event.state === "down") this.#stage.incidents.handleDetected(this.host.id, event.id, this.host.now);
      this.#engine.handleLiveness(event.id as ServerId, event.state === "up", this.host.now);
      this.#turn();
    });
    this.#probes.watch(watched.flatMap((one) => one.servers.map((server) => server.serverId)));
    this.#feed(this.host.env.random.split(`feed/${this.host.incarnation}`));
    this.#turn();
  }

  /**
   * The agents of the living edge clusters measure what is planned for them; before the first plan all of them measure every client network, as
   * a standing list would have it. What nobody answers is a lost sample.
   */
  #feed(random: Stage["random"]): void {
    const { topology, hosts, settings } = this.#stage;
    const { now } = this.host;
    const edges = topology.clusters.filter(({ role }) => role === "edge");
    const isAlive = ({ servers }: (typeof edges)[number]): boolean =>
      servers.some((server) => hosts.get(server.serverId)?.state !== "gone");
    for (const edge of edges) if (isAlive(edge)) this.#schedule.handleAgent(edge.clusterId, now);
    const view = this.#schedule.isDue(now) ? this.#engine.probeView(now) : undefined;
    if (view !== undefined) this.#schedule.plan(view, now);
    const isPlanned = this.#schedule.counters.plans > 0;
    for (const edge of edges) {
      const planned = this.#schedule.planOf(edge.clusterId, now)?.probes;
      const targets = planned ?? (isPlanned ? [] : this.#networks);
      for (const { clientNetworkId } of targets)
        this.#ping(clientNetworkId, edge.clusterId, isAlive(edge), random);
    }
    this.host.after(settings.feedMs, "feed", () => this.#feed(random));
  }

  #ping(from: ClientNetworkId, to: ClusterId, isAnswered: boolean, random: Stage["random"]): void {
    const { network } = this.#stage;
    const thereMs = network.datagram(from, to);
    const backMs = network.datagram(to, from);
    const rttMs =
      thereMs === undefined || backMs === undefined || !isAnswered
        ? null
        : Math.max(0.1, (thereMs + backMs) * (1 + Math.abs(random.normal(0, FEED_NOISE_RATIO))));
    this.#engine.handleSample({ from, to, rttMs, at: this.host.now });
    this.#schedule.handleResult(from, to);
  }

  #turn(): void {
    const { now } = this.host;
    this.#engine.handleTimeout(now);
    for (let event = this.#engine.pollEvent(); event; event = this.#engine.pollEvent()) {
      if (event.type === "refused") {
        this.#stage.statistics.count("map-refused", event.problems[0]?.reason ?? "unknown");
        this.host.note(`map refused: ${event.problems.map((problem) => problem.detail).join("; ")}`);
        continue;
      }
      this.#stage.statistics.count("map", event.reason);
      this.#judgeQuota(event.snapshot);
      this.#own = event.snapshot;
      const { term } = this.#election;
      if (term > 0) this.#waiting = { snapshot: event.snapshot, term };
      else this.#election.handleReady(now);
    }
    this.#publish();
    this.#elect();
    const next = this.#engine.pollTimeout();
    if (next === undefined || next >= this.#timerAt) return;
    this.#timerAt = next;
    this.host.after(next - now, "engine", () => {
      if (this.#timerAt !== next) return;
      this.#timerAt = Number.POSITIVE_INFINITY;
      this.#turn();
    });
  }

  /** The map in force: where to go on from, at the start and as long as another one publishes. */
  #takeMap(snapshot: MapSnapshot): void {
    const { now } = this.host;
    const term = snapshot.publication?.term ?? 0;
    this.#election.handleSeenTerm(term, now);
    if (this.#own === undefined) this.#engine.handlePrevious(snapshot, now);
    else if (term !== this.#election.term) this.#engine.handleInForce(snapshot);
  }

  /** What the election wants: events, requests to control, its timer. */
  #elect(): void {
    const { now } = this.host;
    this.#election.handleTimeout(now);
    for (let event = this.#election.pollEvent(); event; event = this.#election.pollEvent()) {
      this.#stage.statistics.count(
        "election",
        event.type === "elected" ? "elected" : `deposed-${event.reason}`,
      );
      this.host.note(`${event.type} in term ${event.term}`);
      if (event.type === "deposed") this.#waiting = undefined;
      else this.#lead(event.term, event.versionFloor);
    }
    for (let one = this.#election.pollTransmit(now); one; one = this.#election.pollTransmit(now))
      this.#ask(one);
    const next = this.#election.pollTimeout();
    if (next === undefined || next >= this.#electionAt) return;
    this.#electionAt = next;
    this.host.after(next - now, "election", () => {
      if (this.#electionAt !== next) return;
      this.#electionAt = Number.POSITIVE_INFINITY;
      this.#elect();
    });
  }

  /** What this engine has is published, unless a map of another one has come since; then it makes one that follows on it. */
  #lead(term: number, versionFloor: number): void {
    const { snapshot } = this.#engine;
    if (snapshot !== undefined && snapshot === this.#own && snapshot.mapVersion > versionFloor) {
      this.#waiting = { snapshot, term };
      this.#publish();
      return;
    }
    this.#engine.handleElected(versionFloor, this.host.now);
    this.#turn();
  }

  #ask({ number, ...request }: ElectionRequest): void {
    exchange<ElectionAnswer>({
      from: this.host,
      to: this.#control.host,
      label: "lease",
      timeoutMs: LEASE_TIMEOUT_MS,
      serve: (respond) => {
        const { outcome, state, newest } = this.#control.lease({ ...request, preempts: false, note: "" });
        const remainingMs = Math.max(0, state.expiresAt - this.#control.host.now);
        const { term, holderId } = state;
        respond({ outcome, term, holderId, remainingMs, newest: newest ?? null });
      },
      done: (outcome) => {
        if (outcome.kind === "answer") this.#election.handleAnswer(number, outcome.value, this.host.now);
        else this.#election.handleUnanswered(number, this.host.now);
        this.#elect();
      },
    });
  }

  #publish(): void {
    const waiting = this.#waiting;
    if (waiting === undefined || this.#isPublishing) return;
    this.#isPublishing = true;
    const expected = this.#version;
    const { term } = waiting;
    const body = mapSnapshot.parse({ ...waiting.snapshot, publication: { term, publisherId: this.host.id } });
    const next = allSteps(named(body));
    const difference = this.#published && allSteps(differenceOf(this.#published, next));
    exchange<PutResult>({
      from: this.host,
      to: this.#control.host,
      label: "publish",
      timeoutMs: PUBLISH_TIMEOUT_MS,
      serve: (respond) => respond(this.#control.put("map", "world", body, expected, difference)),
      done: (outcome) => {
        this.#isPublishing = false;
        if (outcome.kind !== "answer") {
          this.#stage.statistics.count("publish", "unanswered");
          this.host.after(PUBLISH_AGAIN_MS, "publish-again", () => this.#publish());
          return;
        }
        this.#version = Math.max(this.#version, outcome.value.version);
        this.#stage.statistics.count("publish", outcome.value.outcome);
        if (outcome.value.outcome === "appended") this.#published = next;
        if (outcome.value.outcome !== "conflict" && this.#waiting === waiting) this.#waiting = undefined;
        if (outcome.value.outcome === "fenced") {
          this.#election.handleFenced(term, this.host.now);
          this.#elect();
        }
        this.#publish();
      },
    });
  }

  /** Invariant quota-exceeded, counted anew from the topology. */
  #judgeQuota(snapshot: MapSnapshot): void {
    const edges = this.#stage.topology.clusters.filter((one) => one.role === "edge");
    const capacity = (clusters: typeof edges): number =>
      clusters.reduce(
        (sum, one) => sum + one.servers.reduce((part, server) => part + server.capacityPerSecond, 0),
        0,
      );
    const total = capacity(edges);
    const out = capacity(edges.filter((one) => snapshot.suspended[one.clusterId] === true));
    const regions = Map.groupBy(edges, (one) => one.regionId);
    const largest = Math.max(...[...regions.values()].map(capacity));
    const quota = Math.min(Math.max(0.1 * total, largest), 0.5 * total);
    this.#stage.judge.check(
      "quota-exceeded",
      this.host.now,
      out <= quota + 1e-6,
      () => `map ${snapshot.mapVersion} suspends ${out} of ${total} requests/s, the quota is ${quota}`,
    );
  }
}

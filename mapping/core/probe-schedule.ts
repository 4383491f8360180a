/**
 * Who measures what in the next cycle, for all client networks and clusters within one budget. Each probe goes where it is expected to save the most travel
 * time, counted by demand: a site that a network never tried, by what the planner expects of it, or a pair that decides where a network is
 * sent and was not looked at for long, by how fast paths change. Only clusters whose agent has asked for a plan of late get a share, so that a dead
 * agent's goes to the others. No clock, no randomness: the same calls give the same plans.
 */
import { type ClientNetworkId, type ClusterId, type Coordinates, type MonotonicMs, plusMs } from "#kit";
import type { Estimate } from "./estimator.ts";
import type { ProbeSite } from "./locate.ts";
import { PEERS_MAX, type ProbePeer, ProbePlanner, SITE_PEERS_MAX } from "./probe-plan.ts";

export interface ProbeScheduleSettings {
  /** The budget: pairs measured a minute, all agents together. */
  readonly probesPerMinute: number;
  /** From one plan to the next, ms. */
  readonly cycleMs: number;
  /** Probes of one agent in a cycle. */
  readonly perAgentMax: number;
  /** Probes of one client network in a cycle, by all agents: nobody is to be bothered by us. */
  readonly perNetworkMax: number;
  /** An agent that has not asked for so many cycles is taken for dead. */
  readonly agentCyclesMax: number;
  /** Networks whose next site is looked for in a cycle; fewer where there are more than 400 sites. */
  readonly examinedMax: number;
}

export const probeScheduleDefaults: ProbeScheduleSettings = {
  probesPerMinute: 600,
  cycleMs: 20_000,
  perAgentMax: 400,
  perNetworkMax: 3,
  agentCyclesMax: 3,
  examinedMax: 1_000,
};

/** What a plan rests on: networks and clusters by their numbers in the engine. */
export interface ProbeView {
  readonly networks: readonly {
    readonly clientNetworkId: ClientNetworkId;
    readonly coordinates: Coordinates | null;
    readonly demandPerSecond: number;
  }[];
  /** With the places that are believed. */
  readonly sites: readonly ProbeSite<ClusterId>[];
  readonly siteRttMs: (a: number, b: number) => number | undefined;
  /** Clusters that were asked for, ascending. */
  readonly asked: (n: number) => readonly number[];
  /** Undefined: it never answered. */
  readonly measured: (n: number, c: number) => Estimate | undefined;
}

/** `explore`: never tried from there; `refresh`: it decides, and is old. */
export type ProbeReason = "explore" | "refresh";

export interface PlannedProbe {
  readonly clientNetworkId: ClientNetworkId;
  readonly reason: ProbeReason;
  /** Expected saving, ms times requests per second. */
  readonly value: number;
}

export interface AgentPlan {
  /** Grows with each plan. */
  readonly cycle: number;
  readonly madeAt: MonotonicMs;
  /** Nobody follows it longer. */
  readonly validUntil: MonotonicMs;
  readonly probes: readonly PlannedProbe[];
}

/** All only grow. */
export interface ProbeScheduleCounters {
  plans: number;
  /** Pairs in plans, by why. */
  explorations: number;
  refreshments: number;
  /** Planned pairs of which a result came, lost packets included. */
  results: number;
  /** Planned pairs of which none came while their plan was valid. */
  unanswered: number;
  examined: number;
}

/**
 * How fast what is known of a path gets wrong, ms of travel time each second: in the labelled series of `npm run bench -- change-points` a level
 * changes every 33 hours, by 11.6 ms on the mean, which is 0.0001. Ten times that, since those are paths between machines in data centres.
 */
const CHANGE_MS_PER_SECOND = 0.001;
/** The runner-up matters when it has become the best: about as often as not half of what the best one does. */
const RUNNER_UP_WEIGHT = 0.5;
/** Less is not worth a probe, ms. */
const GAIN_MS_MIN = 0.1;
/** A network that was never examined goes by this, ms. */
const UNKNOWN_GAIN_MS = 300;
/** Share of `examinedMax` that takes its turn whatever it is worth: peers have learnt since. */
const TURN_RATIO = 0.25;
/** Networks that speak for others in the planner: what sites leave of its peers. */
const NETWORK_PEERS_MAX = PEERS_MAX - SITE_PEERS_MAX;
/** A plan is followed for so many cycles when no newer one comes. */
const VALID_CYCLES = 3;
/** After the first agent has asked: those that start together share the first plan, ms. */
const SETTLE_MS = 500;
/** Of networks of which no demand is known, requests per second. */
const DEMAND_MIN = 0.001;
/**
 * Sites that are looked at for networks that are examined, in a cycle and between two moments at which somebody else may run: the most looks in a cycle cost
 * some 3 CPU-seconds with 1,000 sites and 1,000 peers, the rows of the peers included; 1,000 networks and 200 sites as much.
 */
const LOOKS_MAX = 400_000;
const LOOKS_STEP = 3_200;
/** Networks whose age is looked at in between. */
const AGES_STEP = 4_096;

interface Task extends PlannedProbe {
  readonly n: number;
  readonly c: number;
}

export class ProbeSchedule {
  readonly #settings: ProbeScheduleSettings;
  readonly #agents = new Map<ClusterId, MonotonicMs>();
  #plans = new Map<ClusterId, AgentPlan>();
  /** Planned pairs without a result, with the cycle they are in; those of the last `VALID_CYCLES`. */
  readonly #pending = new Map<ClientNetworkId, Map<ClusterId, number>>();
  #cycle = 0;
  #dueAt: MonotonicMs | undefined;
  #names: readonly ClientNetworkId[] = [];
  #numberOf = new Map<ClientNetworkId, number>();
  /** What exploring promised when the network was last examined, ms; -1: never, or something was measured since. */
  #gains = new Float32Array(0);
  #turn = 0;
  readonly counters: ProbeScheduleCounters = {
    plans: 0,
    explorations: 0,
    refreshments: 0,
    results: 0,
    unanswered: 0,
    examined: 0,
  };

  /** Throws RangeError if a setting is outside of its range. */
  constructor(settings: Partial<ProbeScheduleSettings> = {}) {
    this.#settings = { ...probeScheduleDefaults, ...settings };
    for (const [name, min, max] of [
      ["probesPerMinute", 0, 10_000_000],
      ["cycleMs", 1_000, 3_600_000],
      ["perAgentMax", 1, 10_000],
      ["perNetworkMax", 1, 100],
      ["agentCyclesMax", 1, 100],
      ["examinedMax", 1, 100_000],
    ] as const) {
      const value = this.#settings[name];
      if (!(Number.isSafeInteger(value) && value >= min && value <= max))
        throw new RangeError(
          `Probe setting ${name} must be a whole number from ${min} to ${max}, got ${value}`,
        );
    }
  }

  get settings(): ProbeScheduleSettings {
    return this.#settings;
  }

  /** The cluster's agent asks for its plan: it lives. */
  handleAgent(clusterId: ClusterId, now: MonotonicMs): void {
    if (this.#agents.size === 0) this.#dueAt = plusMs(now, SETTLE_MS);
    this.#agents.set(clusterId, now);
  }

  /** A planned pair was measured, or its packets were lost; others are not counted. */
  handleResult(clientNetworkId: ClientNetworkId, clusterId: ClusterId): void {
    const n = this.#numberOf.get(clientNetworkId);
    if (n !== undefined) this.#gains[n] = -1;
    if (this.#forget(clientNetworkId, clusterId)) this.counters.results++;
  }

  /** Clusters whose agent is alive. */
  agentsAlive(now: MonotonicMs): number {
    this.#forgetAgents(now);
    return this.#agents.size;
  }

  /** Without agents there is nothing to plan; the first one does not wait for a cycle to end. */
  isDue(now: MonotonicMs): boolean {
    return this.#agents.size > 0 && this.#dueAt !== undefined && now >= this.#dueAt;
  }

  /** Of the newest plan, if it is still valid; undefined: there is none for this cluster, and its agent goes by its standing list. */
  planOf(clusterId: ClusterId, now: MonotonicMs): AgentPlan | undefined {
    const plan = this.#plans.get(clusterId);
    return plan !== undefined && now < plan.validUntil ? plan : undefined;
  }

  /** Makes the plans of a cycle. */
  plan(view: ProbeView, now: MonotonicMs): void {
    for (const _ of this.planInSteps(view, now));
  }

  /** The same in steps of some milliseconds; the view must stay as it is. Plans are replaced at the end, all at once. */
  *planInSteps(view: ProbeView, now: MonotonicMs): Generator<void> {
    const { cycleMs, probesPerMinute } = this.#settings;
    this.#dueAt = plusMs(now, cycleMs);
    this.#cycle++;
    this.#forgetAgents(now);
    this.#giveUp();
    this.#setNetworks(view.networks);
    const budget = Math.floor((probesPerMinute * cycleMs) / 60_000);
    const alive = view.sites.map(({ clusterId }) => this.#agents.has(clusterId));
    const tasks: Task[] = [];
    if (budget > 0 && alive.includes(true)) {
      const measured = yield* this.#addRefreshing(view, alive, tasks);
      yield* this.#addExploring(view, alive, measured, budget, tasks);
    }
    tasks.sort((a, b) => b.value - a.value || a.n - b.n || a.c - b.c);
    this.#assign(view, tasks, budget, now);
  }

  #forgetAgents(now: MonotonicMs): void {
    const { cycleMs, agentCyclesMax } = this.#settings;
    for (const [clusterId, at] of this.#agents)
      if (now - at > cycleMs * agentCyclesMax) this.#agents.delete(clusterId);
  }

  /** What nobody has answered by now may be planned again. */
  #giveUp(): void {
    for (const [clientNetworkId, pending] of this.#pending)
      for (const [clusterId, cycle] of pending) {
        if (this.#cycle - cycle <= VALID_CYCLES) continue;
        this.#forget(clientNetworkId, clusterId);
        this.counters.unanswered++;
      }
  }

  #forget(clientNetworkId: ClientNetworkId, clusterId: ClusterId): boolean {
    const pending = this.#pending.get(clientNetworkId);
    const isThere = pending?.delete(clusterId) ?? false;
    if (pending?.size === 0) this.#pending.delete(clientNetworkId);
    return isThere;
  }

  /** What was promised of a network that keeps its name stays with it. */
  #setNetworks(networks: ProbeView["networks"]): void {
    const isSame =
      networks.length === this.#names.length &&
      networks.every(({ clientNetworkId }, n) => clientNetworkId === this.#names[n]);
    if (isSame) return;
    const gains = new Float32Array(networks.length).fill(-1);
    for (const [n, { clientNetworkId }] of networks.entries()) {
      const before = this.#numberOf.get(clientNetworkId);
      if (before !== undefined) gains[n] = this.#gains[before] as number;
    }
    this.#gains = gains;
    this.#names = networks.map(({ clientNetworkId }) => clientNetworkId);
    this.#numberOf = new Map(this.#names.map((id, n) => [id, n]));
  }

  /** The best and the second best of what is known decide. Returns the networks of which anything was asked. */
  *#addRefreshing(
    view: ProbeView,
    alive: readonly boolean[],
    tasks: Task[],
  ): Generator<void, readonly number[]> {
    const looked: number[] = [];
    for (const [n, { clientNetworkId, demandPerSecond }] of view.networks.entries()) {
      if (n % AGES_STEP === AGES_STEP - 1) yield;
      const asked = view.asked(n);
      if (asked.length === 0) continue;
      looked.push(n);
      const known = asked.flatMap((c) => {
        const estimate = view.measured(n, c);
        return estimate === undefined ? [] : [{ c, estimate }];
      });
      known.sort((a, b) => a.estimate.rttMs - b.estimate.rttMs || a.c - b.c);
      for (const [place, { c, estimate }] of known.slice(0, 2).entries()) {
        // What the map before a restart said has no age: it is to be looked at first.
        const ageSeconds = Math.min(estimate.ageMs, 3_600_000) / 1_000;
        const weight = place === 0 ? 1 : RUNNER_UP_WEIGHT;
        const value =
          Math.max(demandPerSecond, DEMAND_MIN) * weight * CHANGE_MS_PER_SECOND * Math.max(1, ageSeconds);
        const { clusterId } = view.sites[c] as ProbeSite<ClusterId>;
        const isPending = this.#pending.get(clientNetworkId)?.has(clusterId) ?? false;
        if (alive[c] === true && !isPending) tasks.push({ n, c, clientNetworkId, reason: "refresh", value });
      }
    }
    return looked;
  }

  *#addExploring(
    view: ProbeView,
    alive: readonly boolean[],
    measured: readonly number[],
    budget: number,
    tasks: Task[],
  ): Generator<void> {
    const numberOf = new Map(view.sites.map(({ clusterId }, c) => [clusterId, c]));
    const planner = new ProbePlanner<ClusterId>(
      view.sites.filter((_, c) => alive[c]),
      (a, b) => view.siteRttMs(numberOf.get(a) as number, numberOf.get(b) as number),
      peersOf(view, measured),
    );
    yield* planner.prepareInSteps();
    const sites = alive.filter(Boolean).length;
    const count = Math.min(this.#settings.examinedMax, 2 * budget, Math.ceil(LOOKS_MAX / sites));
    let looks = 0;
    for (const n of this.#worthExamining(view, count)) {
      const { clientNetworkId, coordinates, demandPerSecond } = view.networks[n] as ProbeView["networks"][0];
      const own = measuredOf(view, n);
      // On its way already: not twice.
      for (const clusterId of this.#pending.get(clientNetworkId)?.keys() ?? [])
        if (!own.has(clusterId)) own.set(clusterId, Infinity);
      const choice = planner.next({ id: clientNetworkId, coordinates, measured: own });
      this.counters.examined++;
      this.#gains[n] = choice?.gainMs ?? 0;
      if (choice !== undefined && choice.gainMs >= GAIN_MS_MIN)
        tasks.push({
          n,
          c: numberOf.get(choice.clusterId) as number,
          clientNetworkId,
          reason: "explore",
          value: choice.gainMs * Math.max(demandPerSecond, DEMAND_MIN),
        });
      looks += sites;
      if (looks < LOOKS_STEP) continue;
      looks = 0;
      yield;
    }
  }

  /** Those that promise most, and some in their turn. */
  #worthExamining(view: ProbeView, count: number): Set<number> {
    const { networks } = view;
    if (networks.length <= count) return new Set(networks.keys());
    const promise = Float64Array.from(networks, ({ demandPerSecond }, n) => {
      const gain = this.#gains[n] as number;
      return Math.max(demandPerSecond, DEMAND_MIN) * (gain < 0 ? UNKNOWN_GAIN_MS : gain);
    });
    const chosen = new Set<number>();
    const inTurn = Math.floor(count * TURN_RATIO);
    const least = promise.slice().sort()[networks.length - (count - inTurn)] as number;
    for (const [n, one] of promise.entries()) if (one > least) chosen.add(n);
    for (const [n, one] of promise.entries())
      if (one === least && chosen.size < count - inTurn) chosen.add(n);
    for (let taken = 0; taken < inTurn; taken++) {
      chosen.add(this.#turn % networks.length);
      this.#turn = (this.#turn + 1) % networks.length;
    }
    return chosen;
  }

  #assign(view: ProbeView, tasks: readonly Task[], budget: number, now: MonotonicMs): void {
    const { perAgentMax, perNetworkMax, cycleMs } = this.#settings;
    const ofAgent = new Map<ClusterId, PlannedProbe[]>();
    for (const { clusterId } of view.sites) if (this.#agents.has(clusterId)) ofAgent.set(clusterId, []);
    const ofNetwork = new Map<number, number>();
    let left = budget;
    for (const { n, c, clientNetworkId, reason, value } of tasks) {
      if (left === 0) break;
      const { clusterId } = view.sites[c] as ProbeSite<ClusterId>;
      const probes = ofAgent.get(clusterId);
      const count = ofNetwork.get(n) ?? 0;
      if (probes === undefined || probes.length >= perAgentMax || count >= perNetworkMax) continue;
      const pending = this.#pending.get(clientNetworkId) ?? new Map<ClusterId, number>();
      if (pending.get(clusterId) === this.#cycle) continue;
      probes.push({ clientNetworkId, reason, value });
      ofNetwork.set(n, count + 1);
      this.#pending.set(clientNetworkId, pending.set(clusterId, this.#cycle));
      if (reason === "explore") this.counters.explorations++;
      else this.counters.refreshments++;
      left--;
    }
    this.counters.plans++;
    const validUntil = plusMs(now, VALID_CYCLES * cycleMs);
    const plan = { cycle: this.#cycle, madeAt: now, validUntil };
    this.#plans = new Map([...ofAgent].map(([clusterId, probes]) => [clusterId, { ...plan, probes }]));
  }
}

function measuredOf(view: ProbeView, n: number): Map<ClusterId, number> {
  return new Map(
    view
      .asked(n)
      .map((c) => [
        (view.sites[c] as ProbeSite<ClusterId>).clusterId,
        view.measured(n, c)?.rttMs ?? Infinity,
      ]),
  );
}

/** Networks that were measured, spread over all of them. */
function peersOf(view: ProbeView, measured: readonly number[]): ProbePeer<ClusterId>[] {
  const step = Math.max(1, measured.length / NETWORK_PEERS_MAX);
  const peers: ProbePeer<ClusterId>[] = [];
  for (let at = 0; at < measured.length; at += step) {
    const n = measured[Math.floor(at)] as number;
    const { clientNetworkId, coordinates } = view.networks[n] as ProbeView["networks"][0];
    peers.push({ id: clientNetworkId, coordinates, rttMs: measuredOf(view, n) });
  }
  return peers;
}

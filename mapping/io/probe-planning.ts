/** Plans of probes in the mapper process: made bit by bit, and answered to the agents that ask for them. */
import {
  type ClientNetworkId,
  type Clock,
  type ClusterId,
  type MonotonicMs,
  parseAddress,
  parsePrefix,
  prefixContains,
} from "#kit";
import type { ClientNetworkInput } from "../core/cluster-map.ts";
import type { MapEngine } from "../core/engine.ts";
import { type AgentPlanDocument, NetworkTargets } from "../core/measurements/agent-plan.ts";
import { ProbeSchedule, type ProbeScheduleSettings } from "../core/probe-schedule.ts";

/** At a time, ms: the rest of the process goes on in between. */
const STEP_MS = 10;

export class ProbePlanning {
  readonly schedule: ProbeSchedule;
  readonly targets = new NetworkTargets();
  readonly #engine: MapEngine;
  readonly #clock: Clock;
  #clusters: { has(clusterId: ClusterId): boolean } = new Set();
  #networks: readonly ClientNetworkInput[] = [];
  /** Made when an agent asks first. */
  #prefixesOf: ReadonlyMap<ClientNetworkId, readonly string[]> | undefined;
  /** A plan that is being made. */
  #planning: Generator<void> | undefined;

  constructor(options: {
    readonly engine: MapEngine;
    readonly clock: Clock;
    readonly settings: Partial<ProbeScheduleSettings>;
  }) {
    this.#engine = options.engine;
    this.#clock = options.clock;
    this.schedule = new ProbeSchedule(options.settings);
  }

  get agentsAlive(): number {
    return this.schedule.agentsAlive(this.#clock.monotonic());
  }

  /** The edge clusters of the topology from now on. */
  handleClusters(clusters: { has(clusterId: ClusterId): boolean }): void {
    this.#clusters = clusters;
  }

  handleNetworks(networks: readonly ClientNetworkInput[]): void {
    this.#networks = networks;
    this.#prefixesOf = undefined;
  }

  /** Goes on with a plan, or begins one when it is due. True: a new one is there. */
  handleTimeout(now: MonotonicMs): boolean {
    if (this.#planning === undefined) {
      const view = this.schedule.isDue(now) ? this.#engine.probeView(now) : undefined;
      if (view === undefined) return false;
      this.#planning = this.schedule.planInSteps(view, now);
    }
    const until = now + STEP_MS;
    do
      if (this.#planning.next().done === true) {
        this.#planning = undefined;
        return true;
      }
    while (this.#clock.monotonic() < until);
    return false;
  }

  /** What the cluster's agent is to measure now; undefined: it is no edge cluster. Asking for it tells that the agent lives. */
  planOf(asked: string): AgentPlanDocument | undefined {
    const clusterId = asked as ClusterId;
    if (!this.#clusters.has(clusterId)) return undefined;
    const now = this.#clock.monotonic();
    this.schedule.handleAgent(clusterId, now);
    const plan = this.schedule.planOf(clusterId, now);
    const cycle = Math.max(1, plan?.cycle ?? 0);
    const { cycleMs } = this.schedule.settings;
    const targets = (plan?.probes ?? []).flatMap(
      ({ clientNetworkId }) => this.#targetOf(clientNetworkId, cycle) ?? [],
    );
    return {
      format: "isochrone-probe-plan",
      version: 1,
      clusterId,
      cycle,
      cycleMs,
      validForMs: plan === undefined ? 0 : Math.max(0, Math.round(plan.validUntil - now)),
      targets: [...new Set(targets)],
    };
  }

  /** Only what lies in the network now: the networks may have been replaced since. */
  #targetOf(clientNetworkId: ClientNetworkId, cycle: number): string | undefined {
    this.#prefixesOf ??= new Map(this.#networks.map((one) => [one.clientNetworkId, one.prefixes]));
    const prefixes = this.#prefixesOf.get(clientNetworkId) ?? [];
    const target = this.targets.targetOf(clientNetworkId, prefixes, cycle);
    const address = target === undefined ? undefined : parseAddress(target);
    const isInside = prefixes.some((text) => {
      const prefix = parsePrefix(text);
      return prefix !== undefined && address !== undefined && prefixContains(prefix, address);
    });
    return isInside ? target : undefined;
  }
}

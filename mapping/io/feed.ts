/**
 * Measurements of client networks in a world: what probe agents at the clusters would hand to the mapper. It replays noisy samples of the world's
 * links at a bounded rate: first what is planned, as an agent does, then a standing round. The engine never sees the links themselves.
 */
import { type ClientNetworkId, type ClusterId, greatCircleKm, type MonotonicMs, plusMs, Random } from "#kit";
import type { World, WorldLinks } from "#kit/world";
import type { ClientNetworkInput } from "../core/cluster-map.ts";
import type { RttSample } from "../core/engine-events.ts";
import { type NoiseModel, noiseDefaults, noisySample } from "../core/noise.ts";

export interface FeedSettings {
  /** Samples a second in all: the budget. */
  readonly samplesPerSecond: number;
  /** Clusters, nearest first by geography, that a client network is measured against most of the time. */
  readonly nearClusters: number;
  /** Every n-th sample of a client network goes to one of the other clusters in turn: geography may be wrong. */
  readonly exploreEvery: number;
  /** Samples of every near pair at the start, so that the first map rests on measurements. */
  readonly warmUpSamples: number;
  readonly noise: NoiseModel;
}

export const feedDefaults: FeedSettings = {
  samplesPerSecond: 100,
  nearClusters: 5,
  exploreEvery: 4,
  warmUpSamples: 3,
  noise: noiseDefaults,
};

/** Packets of a planned probe, as an agent sends. */
const PLANNED_PACKETS = 3;

/** After a pause (a suspended laptop) no more than this is made up for, ms. */
const CATCH_UP_MS_MAX = 2_000;

interface Plan {
  readonly clientNetworkId: ClientNetworkId;
  readonly near: readonly ClusterId[];
  readonly far: readonly ClusterId[];
  turn: number;
  nearTurn: number;
  farTurn: number;
}

/** Deterministic: the same world, seed and times give the same samples. Touches no clock and no socket. */
export class MeasurementFeed {
  readonly #settings: FeedSettings;
  readonly #links: Pick<WorldLinks, "between">;
  readonly #isLost: (from: ClientNetworkId, to: ClusterId) => boolean;
  readonly #random: Random;
  readonly #plans: Plan[];
  /** Planned pairs, the next one last. */
  #planned: { readonly plan: Plan; readonly to: ClusterId; packets: number }[] = [];
  #next = 0;
  /** All only grow: planned pairs that were measured, those that a newer plan came before, and samples of the standing round. */
  readonly counters = { planned: 0, overtaken: 0, standing: 0 };
  #startedAt: MonotonicMs | undefined;
  #sent = 0;

  /** @param options.isLost whether nothing can come back now: a cut link, a cluster whose servers are dead */
  constructor(options: {
    readonly world: World;
    readonly links: Pick<WorldLinks, "between">;
    readonly seed?: number;
    readonly settings?: Partial<FeedSettings>;
    readonly isLost?: (from: ClientNetworkId, to: ClusterId) => boolean;
  }) {
    const { world, links } = options;
    this.#settings = { ...feedDefaults, ...options.settings };
    const { samplesPerSecond, nearClusters, exploreEvery } = this.#settings;
    if (!(samplesPerSecond > 0 && samplesPerSecond <= 1e6))
      throw new RangeError(
        `Feed setting samplesPerSecond must be above 0 and at most 1e6, got ${samplesPerSecond}`,
      );
    if (!(nearClusters >= 1 && exploreEvery >= 2))
      throw new RangeError(
        `Feed settings need nearClusters >= 1 and exploreEvery >= 2, got ${nearClusters}, ${exploreEvery}`,
      );
    this.#links = links;
    this.#isLost = options.isLost ?? (() => false);
    this.#random = new Random(options.seed ?? world.seed).split("measurement-feed");
    const edges = world.regions
      .flatMap((region) => region.clusters)
      .filter((cluster) => cluster.role === "edge");
    this.#plans = world.clients.map((client): Plan => {
      const order = edges
        .map((edge) => ({ id: edge.id, km: greatCircleKm(client.coordinates, edge.coordinates) }))
        .sort((a, b) => a.km - b.km || (a.id < b.id ? -1 : 1))
        .map(({ id }) => id);
      return {
        clientNetworkId: client.id,
        near: order.slice(0, nearClusters),
        far: order.slice(nearClusters),
        turn: 0,
        nearTurn: 0,
        farTurn: 0,
      };
    });
  }

  /** The samples that are due by `now`; the first call gives the warm-up. */
  poll(now: MonotonicMs): RttSample[] {
    const samples: RttSample[] = [];
    if (this.#startedAt === undefined) {
      this.#startedAt = now;
      for (let n = 0; n < this.#settings.warmUpSamples; n++)
        for (const plan of this.#plans) for (const to of plan.near) samples.push(this.#sample(plan, to, now));
      return samples;
    }
    const dueAt = (count: number): number =>
      (this.#startedAt as number) + (count * 1_000) / this.#settings.samplesPerSecond;
    if (now - dueAt(this.#sent) > CATCH_UP_MS_MAX) {
      this.#startedAt = plusMs(now, -CATCH_UP_MS_MAX);
      this.#sent = 0;
    }
    while (dueAt(this.#sent + 1) <= now) {
      this.#sent++;
      const planned = this.#planned.at(-1);
      if (planned !== undefined) {
        samples.push(this.#sample(planned.plan, planned.to, now));
        if (--planned.packets > 0) continue;
        this.#planned.pop();
        this.counters.planned++;
        continue;
      }
      this.counters.standing++;
      const plan = this.#plans[this.#next];
      if (plan === undefined) break;
      this.#next = (this.#next + 1) % this.#plans.length;
      const to = this.#target(plan);
      if (to !== undefined) samples.push(this.#sample(plan, to, now));
    }
    return samples;
  }

  /** What is to be measured next, in this order and before all else; what is left of the plan before is let go. Unknown names are left out. */
  handlePlan(pairs: readonly { readonly from: string; readonly to: ClusterId }[]): void {
    this.counters.overtaken += this.#planned.length;
    const planOf = new Map<string, Plan>(this.#plans.map((plan) => [plan.clientNetworkId, plan]));
    this.#planned = pairs
      .flatMap(({ from, to }) => {
        const plan = planOf.get(from);
        return plan === undefined ? [] : [{ plan, to, packets: PLANNED_PACKETS }];
      })
      .reverse();
  }

  /** When the next sample is due; undefined before the first `poll` and without clients. */
  pollTimeout(): MonotonicMs | undefined {
    if (this.#startedAt === undefined || this.#plans.length === 0) return undefined;
    return plusMs(this.#startedAt, ((this.#sent + 1) * 1_000) / this.#settings.samplesPerSecond);
  }

  #target(plan: Plan): ClusterId | undefined {
    const isExploring =
      plan.far.length > 0 && plan.turn % this.#settings.exploreEvery === this.#settings.exploreEvery - 1;
    plan.turn++;
    return isExploring
      ? plan.far[plan.farTurn++ % plan.far.length]
      : plan.near[plan.nearTurn++ % plan.near.length];
  }

  #sample(plan: Plan, to: ClusterId, at: MonotonicMs): RttSample {
    const { rttMs, lossRatio } = this.#links.between(plan.clientNetworkId, to);
    // Drawn even when nothing comes back, so that a cut changes no other sample.
    const seen = noisySample(rttMs, lossRatio, this.#random, this.#settings.noise);
    return {
      from: plan.clientNetworkId,
      to,
      rttMs: this.#isLost(plan.clientNetworkId, to) ? null : seen,
      at,
    };
  }
}

/** The world's client networks as the engine is told of them. */
export function clientNetworksOf(world: World): ClientNetworkInput[] {
  return world.clients.map(({ id, prefixes, coordinates, demandPerSecond }) => ({
    clientNetworkId: id,
    prefixes,
    coordinates,
    demandPerSecond,
  }));
}

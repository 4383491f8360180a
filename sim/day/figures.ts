/** What a day is told in: load, regret and churn by the hour, checks, faults, and what was left out. */
import { type ClusterEntry, quantile } from "#kit";
import type { World } from "#kit/world";
import type { Judge, Violation } from "../core/invariants.ts";
import type { DayDamage } from "./damage.ts";
import { type DayFault, type DayFaultKind, dayFaultKinds } from "./faults.ts";
import type { DayUsers } from "./users.ts";

export interface DayHour {
  readonly hour: number;
  readonly demandPerSecond: number;
  /** Round trips of interactive users over those at the nearest cluster that they reach, on the mean; and the difference, ms. */
  readonly rttRatio: number;
  readonly regretMs: number;
  readonly regretMsP95: number;
  /** Highest offered load over capacity of any living cluster, and the demand above capacity as a share of all. */
  readonly loadMax: number;
  readonly overloadRatio: number;
  /** Demand that is sent where nobody answers, as a share: faults that were not noticed yet. */
  readonly lostRatio: number;
  /** Networks and classes that a map sent elsewhere than the one before, as a share, mean over the maps of the hour. */
  readonly churnRatio: number;
}

export interface DayReport {
  readonly world: {
    readonly name: string;
    readonly clusters: number;
    readonly networks: number;
    readonly servers: number;
  };
  readonly seed: number;
  readonly seconds: number;
  readonly cycleSeconds: number;
  readonly verdict: "ok" | "broken" | "vacuous";
  readonly broken: Violation | null;
  readonly checks: Judge["checks"];
  readonly faults: Readonly<Record<DayFaultKind, number>>;
  /** Kinds that should have been noticed by a detector and never were: nothing was shown of them. */
  readonly unnoticed: readonly DayFaultKind[];
  readonly maps: number;
  readonly mapsRefused: number;
  readonly answers: number;
  /** Churn of maps while nothing was broken for ten minutes: mean and greatest share. */
  readonly quietChurn: { readonly maps: number; readonly mean: number; readonly max: number };
  readonly day: Omit<DayHour, "hour" | "demandPerSecond">;
  readonly hours: readonly DayHour[];
  readonly leftOut: readonly string[];
}

export const leftOut = [
  "users are streams of demand: no requests, no caches, no tiers, no relays; overload delays nobody",
  "probes every 5 s and answered at once (production: twice a second, over the network); one name server stands for all",
  "measurements of each network to its six nearest clusters every minute; links between clusters are not reported",
  "the engine hears of demand every 15 minutes, as it was then; maps reach name servers at once, control does not fail",
] as const;

interface Bucket {
  demand: number;
  rtt: number;
  best: number;
  readonly regrets: { readonly ms: number; readonly demand: number }[];
  loadMax: number;
  over: number;
  lost: number;
  steps: number;
  moved: number;
  units: number;
}

function bucket(): Bucket {
  return {
    demand: 0,
    rtt: 0,
    best: 0,
    regrets: [],
    loadMax: 0,
    over: 0,
    lost: 0,
    steps: 0,
    moved: 0,
    units: 0,
  };
}

/** Regrets are kept of one step in so many. */
const REGRET_STEPS = 12;
/** A detector must notice these. */
const NOTICED: readonly DayFaultKind[] = ["server-crash", "cluster-loss", "region-loss"];

export class DayFigures {
  readonly #edges: readonly ClusterEntry[];
  readonly #faults: readonly DayFault[];
  readonly #hours: Bucket[] = [];
  readonly #quiet: number[] = [];
  #maps = 0;
  #refused = 0;
  #answers = 0;

  constructor(edges: readonly ClusterEntry[], faults: readonly DayFault[]) {
    this.#edges = edges;
    this.#faults = faults;
  }

  countRefused(): void {
    this.#refused++;
  }

  countMap(churn: { readonly moved: number; readonly of: number }, second: number, isQuiet: boolean): void {
    this.#maps++;
    const hour = this.#at(second);
    hour.moved += churn.moved;
    hour.units += churn.of;
    if (isQuiet) this.#quiet.push(churn.moved / churn.of);
  }

  turn(users: DayUsers, damage: DayDamage, second: number, stepSeconds: number): void {
    const hour = this.#at(second);
    hour.steps++;
    this.#answers = users.answers;
    for (const cluster of this.#edges) {
      const capacity = cluster.servers.reduce(
        (sum, { serverId, capacityPerSecond }) =>
          sum + (damage.isServerAlive(serverId) ? capacityPerSecond : 0),
        0,
      );
      if (capacity === 0) continue;
      const load = users.loadOf(cluster.clusterId);
      hour.loadMax = Math.max(hour.loadMax, load / capacity);
      hour.over += Math.max(0, load - capacity);
    }
    hour.demand += users.demandPerSecond;
    if ((second / stepSeconds) % REGRET_STEPS !== 0) return;
    for (const { demand, rttMs, bestMs, isLost } of users.paid((network, id) =>
      damage.isReached(network, id),
    )) {
      if (isLost) {
        hour.lost += demand;
        continue;
      }
      hour.rtt += demand * rttMs;
      hour.best += demand * bestMs;
      hour.regrets.push({ ms: rttMs - bestMs, demand });
    }
  }

  #at(second: number): Bucket {
    const hour = Math.floor(second / 3_600);
    let found = this.#hours[hour];
    if (found === undefined) {
      found = bucket();
      this.#hours[hour] = found;
    }
    return found;
  }

  report(of: {
    readonly world: World;
    readonly seed: number;
    readonly seconds: number;
    readonly cycleSeconds: number;
    readonly judge: Judge;
    readonly detected: ReadonlySet<DayFaultKind>;
  }): DayReport {
    const unnoticed = NOTICED.filter((kind) => !of.detected.has(kind));
    const broken = of.judge.violation ?? null;
    const all = this.#hours.reduce((sum, one) => merged(sum, one), bucket());
    const { hour: _hour, demandPerSecond: _demand, ...day } = hourOf(all, 0);
    return {
      world: {
        name: of.world.name,
        clusters: this.#edges.length,
        networks: of.world.clients.length,
        servers: this.#edges.reduce((sum, { servers }) => sum + servers.length, 0),
      },
      seed: of.seed,
      seconds: of.seconds,
      cycleSeconds: of.cycleSeconds,
      verdict: broken !== null ? "broken" : unnoticed.length > 0 ? "vacuous" : "ok",
      broken,
      checks: of.judge.checks,
      faults: Object.fromEntries(
        Object.keys(dayFaultKinds).map((kind) => [
          kind,
          this.#faults.filter((fault) => fault.kind === kind).length,
        ]),
      ) as Record<DayFaultKind, number>,
      unnoticed,
      maps: this.#maps,
      mapsRefused: this.#refused,
      answers: this.#answers,
      quietChurn: {
        maps: this.#quiet.length,
        mean: rounded(this.#quiet.reduce((sum, one) => sum + one, 0) / Math.max(1, this.#quiet.length)),
        max: rounded(Math.max(0, ...this.#quiet)),
      },
      day,
      hours: this.#hours.map(hourOf),
      leftOut,
    };
  }
}

function merged(sum: Bucket, one: Bucket): Bucket {
  return {
    demand: sum.demand + one.demand,
    rtt: sum.rtt + one.rtt,
    best: sum.best + one.best,
    regrets: sum.regrets.concat(one.regrets),
    loadMax: Math.max(sum.loadMax, one.loadMax),
    over: sum.over + one.over,
    lost: sum.lost + one.lost,
    steps: sum.steps + one.steps,
    moved: sum.moved + one.moved,
    units: sum.units + one.units,
  };
}

function hourOf(one: Bucket, hour: number): DayHour {
  const measured = one.regrets.reduce((sum, { demand }) => sum + demand, 0);
  return {
    hour,
    demandPerSecond: Math.round(one.demand / Math.max(1, one.steps)),
    rttRatio: rounded(one.rtt / one.best),
    regretMs: rounded((one.rtt - one.best) / measured),
    regretMsP95: rounded(
      quantile(
        one.regrets.map(({ ms }) => ms).sort((a, b) => a - b),
        0.95,
      ),
    ),
    loadMax: rounded(one.loadMax),
    overloadRatio: rounded(one.over / one.demand, 1e6),
    lostRatio: rounded(one.lost / (measured + one.lost), 1e6),
    churnRatio: rounded(one.units === 0 ? 0 : one.moved / one.units, 1e6),
  };
}

function rounded(value: number, factor = 1e3): number {
  return Math.round(value * factor) / factor;
}

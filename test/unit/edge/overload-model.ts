/**
 * Clients, a limiter and an origin under one virtual clock: requests arrive at random at a given rate, their clients leave
 * after a while, the origin has so many workers and a queue without end.
 */
import { type MonotonicMs, monotonicMs, Random } from "#kit";
import { OverloadControl, type OverloadSettings } from "../../../edge/core/overload/overload-control.ts";

export interface OriginModel {
  readonly workers: number;
  /** How long a worker takes for a request, ms. */
  readonly serviceMs: (random: Random, nowMs: number) => number;
  /** Whether a request that is given up is dropped from the queue; else it is worked on like the others. */
  readonly seesAborts: boolean;
  /** Requests at once beyond which the origin answers 503 at once; undefined: it queues. */
  readonly rejectsFrom?: number;
}

/** So many requests within BURST_MS. */
export interface Burst {
  /** From the beginning of the run, ms. */
  readonly fromMs: number;
  readonly count: number;
}

export interface Load {
  readonly property?: string;
  /** From the beginning of the run, ms. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly perSecond: number;
}

export interface Tally {
  offered: number;
  good: number;
  late: number;
  rejected: number;
  shedAtOnce: number;
  shedLater: number;
  /** The longest that a good answer took from its request's arrival on, ms. */
  longestMs: number;
}

export interface ModelOptions {
  readonly settings: OverloadSettings;
  readonly origin: OriginModel;
  readonly loads?: readonly Load[];
  readonly bursts?: readonly Burst[];
  /** After which a client leaves; several: each by lot. */
  readonly patienceMs: number | readonly number[];
  readonly seed: number;
  /**
   * What becomes of a request whose client leaves: it ends, as one that is passed on does; `fill`: it ends as long as it waits for a place
   * and goes on once it was sent; false: nobody notices.
   */
  readonly isGivenUp: boolean | "fill";
  /** Without: everything goes to the origin. */
  readonly isLimited?: boolean;
}

interface Job {
  readonly property: string;
  readonly arrivedAt: number;
  id: number;
  isGone: boolean;
  state: "waiting" | "origin" | "done";
}

type Tallies = { readonly at: number; readonly property: string; readonly tally: Tally }[];

export interface ModelRun {
  readonly control: OverloadControl;
  /** Sum over requests that arrived in [fromMs, toMs). */
  tally(fromMs: number, toMs: number, property?: string): Tally;
}

const emptyTally = (): Tally => ({
  offered: 0,
  good: 0,
  late: 0,
  rejected: 0,
  shedAtOnce: 0,
  shedLater: 0,
  longestMs: 0,
});

const BUCKET_MS = 100;
const BURST_MS = 20;

/** Runs until the last load has ended and everything has been answered. */
export function run(options: ModelOptions): ModelRun {
  const { origin } = options;
  const patiencesMs = [options.patienceMs].flat();
  const random = new Random(options.seed);
  const arrivals = random.split("arrivals");
  const services = random.split("services");
  const jitter = random.split("jitter");
  const clients = random.split("clients");
  const control = new OverloadControl(options.settings, () => jitter.float(), 0);
  const isLimited = options.isLimited ?? true;
  const buckets: Tallies = [];
  const byKey = new Map<string, Tally>();
  const jobs = new Map<number, Job>();
  const events: { at: number; order: number; act: () => void }[] = [];
  let order = 0;
  let now = 0;
  let busy = 0;
  const line: Job[] = [];

  const ms = (): MonotonicMs => monotonicMs(now);
  // A binary heap would do the same; sorted insertion is enough for a few thousand events in flight.
  const after = (delayMs: number, act: () => void): void => {
    const at = now + delayMs;
    let low = 0;
    let high = events.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const event = events[middle]!;
      if (event.at > at || (event.at === at && event.order > order)) low = middle + 1;
      else high = middle;
    }
    events.splice(low, 0, { at, order: order++, act });
  };
  const tallyOf = (job: Job): Tally => {
    const at = Math.floor(job.arrivedAt / BUCKET_MS) * BUCKET_MS;
    const key = `${at} ${job.property}`;
    const known = byKey.get(key);
    if (known) return known;
    const tally = emptyTally();
    byKey.set(key, tally);
    buckets.push({ at, property: job.property, tally });
    return tally;
  };

  const settle = (): void => {
    for (let event = control.pollEvent(); event !== undefined; event = control.pollEvent()) {
      const job = jobs.get(event.id);
      if (job === undefined) continue;
      if (event.shed === undefined) send(job);
      else {
        job.state = "done";
        if (!job.isGone) tallyOf(job).shedLater++;
      }
    }
  };
  const send = (job: Job): void => {
    job.state = "origin";
    if (origin.rejectsFrom !== undefined && busy + line.length >= origin.rejectsFrom) {
      after(1, () => finish(job, "rejected"));
      return;
    }
    line.push(job);
    work();
  };
  const work = (): void => {
    while (busy < origin.workers) {
      const job = line.shift();
      if (job === undefined) return;
      if (origin.seesAborts && job.state === "done") continue;
      busy++;
      after(origin.serviceMs(services, now), () => {
        busy--;
        finish(job, "good");
        work();
      });
    }
  };
  const finish = (job: Job, kind: "good" | "rejected"): void => {
    if (job.state === "done") return;
    job.state = "done";
    if (isLimited) {
      control.handleHead(job.id, kind, ms());
      control.handleEnd(job.id, ms());
    }
    const tally = tallyOf(job);
    if (kind === "rejected") tally.rejected++;
    else if (job.isGone) tally.late++;
    else {
      tally.good++;
      tally.longestMs = Math.max(tally.longestMs, now - job.arrivedAt);
    }
    settle();
  };
  const leave = (job: Job): void => {
    if (job.state === "done") return;
    job.isGone = true;
    if (!options.isGivenUp) return;
    if (options.isGivenUp === "fill" && job.state !== "waiting") {
      if (isLimited) control.handleDesertion(job.id, ms());
      return;
    }
    if (isLimited) {
      if (job.state === "waiting") control.handleCancel(job.id, ms());
      else control.handleFailure(job.id, "abandoned", true, ms());
    }
    job.state = "done";
    tallyOf(job).late++;
    settle();
  };
  const arrive = (property: string): void => {
    const job: Job = { property, arrivedAt: now, id: 0, isGone: false, state: "waiting" };
    tallyOf(job).offered++;
    after(patiencesMs[Math.floor(clients.float() * patiencesMs.length)] ?? 0, () => leave(job));
    if (!isLimited) {
      send(job);
      return;
    }
    const verdict = control.offer({ hop: "origin", isAdaptive: true, property, isBackground: false }, ms());
    if (verdict.kind === "shed") {
      job.state = "done";
      tallyOf(job).shedAtOnce++;
      return;
    }
    job.id = verdict.id;
    jobs.set(job.id, job);
    if (verdict.kind === "admitted") send(job);
  };
  for (const { fromMs, count } of options.bursts ?? [])
    for (let n = 0; n < count; n++) after(fromMs + (n * BURST_MS) / count, () => arrive("a"));
  for (const load of options.loads ?? []) {
    const next = (): void => {
      if (now >= load.toMs) return;
      arrive(load.property ?? "a");
      after(arrivals.exponential(1_000 / load.perSecond), next);
    };
    after(load.fromMs, next);
  }
  for (;;) {
    const event = events.at(-1);
    const timeout = control.pollTimeout();
    if (timeout !== undefined && (event === undefined || timeout <= event.at)) {
      now = Math.max(now, timeout);
      control.handleTimeout(ms());
      settle();
      continue;
    }
    if (event === undefined) break;
    events.pop();
    now = event.at;
    event.act();
    settle();
  }
  return {
    control,
    tally: (fromMs, toMs, property) => {
      const sum = emptyTally();
      for (const one of buckets) {
        if (one.at < fromMs || one.at >= toMs) continue;
        if (property !== undefined && one.property !== property) continue;
        const { longestMs } = sum;
        for (const key of Object.keys(sum) as (keyof Tally)[]) sum[key] += one.tally[key];
        sum.longestMs = Math.max(longestMs, one.tally.longestMs);
      }
      return sum;
    },
  };
}

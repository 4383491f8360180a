/** An agent that follows a mapper's plans: asks for its cluster's, measures it once a cycle, and hands the results back. */
import { setTimeout as sleep } from "node:timers/promises";
import { ParseError } from "#kit";
import { takeAgentPlan, type TakenPlan } from "../../core/measurements/agent-plan.ts";
import { probeSample } from "../../core/measurements/probe-record.ts";
import type { ProbeRecord } from "../../core/measurements/probe-record.ts";
import type { ProbeTarget } from "../../core/measurements/probe-target.ts";
import type { PathSample } from "../../core/measurements/sample.ts";
import { type ProbeAgentOptions, probeRound } from "./agent.ts";

export interface PlannedProbingOptions extends Omit<ProbeAgentOptions, "targets" | "pace"> {
  /** Admin surfaces of mappers: the first that answers tells what to do, all are told what was seen. */
  readonly mappers: readonly string[];
  readonly token: string;
  readonly clusterId: string;
  /** Measured when there is no plan, or only one that is over; may be empty. */
  readonly standing: readonly ProbeTarget[];
  /** From one round to the next while there is no plan, ms. */
  readonly intervalMs: number;
  /** Targets begun with a second. */
  readonly ratePerSecond: number;
  /** A target is left alone for so long after it was measured, ms. */
  readonly targetIntervalMs: number;
  readonly isSpecialAllowed: boolean;
  readonly rounds: number;
  /** One line for people. */
  readonly onNote: (text: string) => void;
}

/** All only grow. */
export interface PlannedProbingCounters {
  rounds: Record<"plan" | "old-plan" | "standing" | "idle", number>;
  targets: number;
  /** Addresses of plans that are private or special, or stand twice. */
  targetsRefused: number;
  /** Left alone, since they were measured a moment ago. */
  targetsTooSoon: number;
  plansRefused: number;
  samplesHandedOver: number;
  /** Let go, since no mapper took them for long. */
  samplesDropped: number;
}

const REQUEST_TIMEOUT_MS = 5_000;
const PLAN_BYTES_MAX = 1_048_576;
/** In one request: 1 MiB of text. */
const BATCH_SAMPLES = 5_000;
/** Kept for a mapper that is away; the oldest go first. */
const WAITING_MAX = 20_000;

export class PlannedProbing {
  readonly #options: PlannedProbingOptions;
  readonly #waiting: ReadonlyMap<string, PathSample[]>;
  /** When each target was last begun with, ms of the agent's clock; what is longer ago than the interval is forgotten. */
  readonly #lastAt = new Map<string, number>();
  #current: { readonly taken: TakenPlan; readonly until: number } | undefined;
  #problem: string | undefined;
  #nextAt = 0;
  readonly counters: PlannedProbingCounters = {
    rounds: { plan: 0, "old-plan": 0, standing: 0, idle: 0 },
    targets: 0,
    targetsRefused: 0,
    targetsTooSoon: 0,
    plansRefused: 0,
    samplesHandedOver: 0,
    samplesDropped: 0,
  };

  constructor(options: PlannedProbingOptions) {
    this.#options = options;
    this.#waiting = new Map(options.mappers.map((url) => [url, []]));
  }

  /** Until all rounds are over. Rejects when the signal is aborted. */
  async run(): Promise<void> {
    const { rounds, clock, signal } = this.#options;
    for (let round = 0; round < rounds; round++) {
      const began = clock.monotonic();
      const cycleMs = await this.#round();
      if (round + 1 === rounds) return;
      await sleep(Math.max(0, cycleMs - (clock.monotonic() - began)), undefined, { signal });
    }
  }

  /** Resolves with the time from its beginning to that of the next one, ms. */
  async #round(): Promise<number> {
    const { clock, standing, intervalMs } = this.#options;
    const began = clock.monotonic();
    const taken = await this.#ask();
    if (taken !== undefined) {
      this.#current = { taken, until: began + taken.plan.validForMs };
      this.counters.targetsRefused += taken.refused.length;
    }
    const plan = this.#current !== undefined && began < this.#current.until ? this.#current.taken : undefined;
    const targets = this.#inTime(plan?.targets ?? standing, began);
    const kind =
      plan === undefined
        ? standing.length > 0
          ? "standing"
          : "idle"
        : taken === undefined
          ? "old-plan"
          : "plan";
    this.counters.rounds[kind]++;
    await this.#measure(targets);
    await this.#handOver();
    return plan?.plan.cycleMs ?? intervalMs;
  }

  /** Undefined: no mapper has a plan that can be followed. */
  async #ask(): Promise<TakenPlan | undefined> {
    const { mappers, clusterId, isSpecialAllowed, onNote } = this.#options;
    let problem: string | undefined;
    for (const mapper of mappers) {
      const url = new URL("/.isochrone/plan", mapper);
      url.searchParams.set("cluster", clusterId);
      try {
        const taken = takeAgentPlan(await this.#fetch(url, {}), clusterId, isSpecialAllowed);
        // A mapper that has none yet; another one may.
        if (taken.plan.validForMs === 0) continue;
        this.#problem = undefined;
        return taken;
      } catch (error) {
        if (this.#options.signal.aborted) throw error;
        if (error instanceof ParseError) this.counters.plansRefused++;
        problem = `no plan of ${mapper}: ${error instanceof Error ? error.message : String(error)}`;
      }
    }
    // Told once, not each round.
    if (problem !== undefined && problem !== this.#problem) onNote(problem);
    this.#problem = problem;
    return undefined;
  }

  #inTime(targets: readonly ProbeTarget[], now: number): ProbeTarget[] {
    const { targetIntervalMs } = this.#options;
    for (const [target, at] of this.#lastAt) if (now - at >= targetIntervalMs) this.#lastAt.delete(target);
    const due = targets.filter(({ text }) => !this.#lastAt.has(text));
    this.counters.targetsTooSoon += targets.length - due.length;
    return due;
  }

  async #measure(targets: readonly ProbeTarget[]): Promise<void> {
    const { clock } = this.#options;
    this.counters.targets += targets.length;
    for (const { text } of targets) this.#lastAt.set(text, clock.monotonic());
    await probeRound({
      ...this.#options,
      targets,
      pace: () => this.#pace(),
      onRecord: async (record) => {
        this.#keep(record);
        await this.#options.onRecord(record);
      },
    });
  }

  async #pace(): Promise<void> {
    const { clock, ratePerSecond, signal } = this.#options;
    const now = clock.monotonic();
    const at = Math.max(now, this.#nextAt);
    this.#nextAt = at + 1_000 / ratePerSecond;
    if (at > now) await sleep(at - now, undefined, { signal });
  }

  #keep(record: ProbeRecord): void {
    const sample = probeSample(record);
    if (sample === undefined) return;
    for (const waiting of this.#waiting.values()) {
      waiting.push(sample);
      if (waiting.length <= WAITING_MAX) continue;
      waiting.shift();
      this.counters.samplesDropped++;
    }
  }

  /** What a mapper does not take now waits for the next round. */
  async #handOver(): Promise<void> {
    for (const [mapper, waiting] of this.#waiting)
      while (waiting.length > 0) {
        const batch = waiting.slice(0, BATCH_SAMPLES);
        const body = batch.map((sample) => `${JSON.stringify(sample)}\n`).join("");
        try {
          await this.#fetch(new URL("/.isochrone/measurements", mapper), { method: "POST", body });
        } catch (error) {
          if (this.#options.signal.aborted) throw error;
          break;
        }
        waiting.splice(0, batch.length);
        this.counters.samplesHandedOver += batch.length;
      }
  }

  /** The JSON of an answer of status 200; throws Error else. */
  async #fetch(url: URL, init: RequestInit): Promise<unknown> {
    const { token, signal } = this.#options;
    const response = await fetch(url, {
      ...init,
      headers: { authorization: `Bearer ${token}` },
      redirect: "error",
      signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
    });
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of response.body ?? []) {
      bytes += chunk.length;
      if (bytes > PLAN_BYTES_MAX) throw new Error(`an answer of more than ${PLAN_BYTES_MAX} bytes`);
      chunks.push(chunk);
    }
    const text = Buffer.concat(chunks).toString("utf8");
    if (response.status !== 200)
      throw new Error(
        `status ${response.status}: ${text
          .replaceAll(/\p{Cc}+/gu, " ")
          .slice(0, 200)
          .trim()}`,
      );
    return JSON.parse(text);
  }
}

/**
 * What reports of load say of the demand. A map that shuns a loaded cluster by its score swings: reports are old, all client networks
 * see the same load and all of them go at once. So the load changes no score. It corrects what the client networks are
 * believed to ask for, and the allocation, which knows what fits where, sends away what is too much and no more.
 */
import type { MonotonicMs } from "#kit";
import type { EdgeInput } from "./limits.ts";
import { NOWHERE } from "./network-rows.ts";

export interface DemandFeedbackSettings {
  /**
   * A cluster is judged only when it has been sent about the same demand for this long, ms: answers of 20 s, reports that are up to 30 s
   * old and a cycle of 10 s lie between a decision and what is seen of it.
   */
  readonly settleMs: number;
  /** And is then observed for this long, ms: what came before is no evidence, however it is smoothed. */
  readonly observeMs: number;
  /** What is observed may differ from what is expected by this share before it says anything, 0..1. */
  readonly toleranceRatio: number;
  /** A unit is believed to ask for at most so many times what is stated of it, >= 1. */
  readonly factorMax: number;
}

export const demandFeedbackDefaults: DemandFeedbackSettings = {
  settleMs: 60_000,
  observeMs: 30_000,
  toleranceRatio: 0.1,
  factorMax: 8,
};

/** No single look changes a factor more: a cluster that answers for a dead neighbour's unexpired answers is not what it seems. */
const STEP_MAX = 2;

/** What a cluster is sent, and what has been seen of it since it settled. */
interface Sent {
  readonly demandPerSecond: number;
  /** Since when it has been about as much. */
  readonly since: MonotonicMs;
  /** Requests and time of the observation that runs. */
  requests: number;
  observedMs: number;
}

/** The stated demand is the least that is planned for: factors are 1 or more. */
export class DemandFeedback {
  readonly #settings: DemandFeedbackSettings;
  /** By unit: what its stated demand is multiplied with. */
  readonly factors: Float32Array;
  /** By cluster. */
  readonly #sent: Sent[] = [];
  #observedAt: MonotonicMs | undefined;
  /** By cluster: settled load that no unit of ours explains, requests per second. */
  #foreign: Float64Array = new Float64Array(0);
  /** Clusters' demands that were found to be other than expected. */
  corrections = 0;

  constructor(units: number, settings: DemandFeedbackSettings = demandFeedbackDefaults) {
    this.#settings = settings;
    this.factors = new Float32Array(units).fill(1);
  }

  /**
   * Compares what was observed with what was sent. Factors of the units of a settled cluster change by the ratio, which is the same
   * for all of them: nobody reports whose requests they were.
   *
   * @param current the cluster of each unit, or NOWHERE
   */
  handleObserved(edges: readonly EdgeInput[], current: Uint16Array, now: MonotonicMs): void {
    const { settleMs, observeMs, toleranceRatio, factorMax } = this.#settings;
    const sinceMs = this.#observedAt === undefined ? 0 : now - this.#observedAt;
    this.#observedAt = now;
    const steps = new Float64Array(edges.length).fill(1);
    if (this.#foreign.length !== edges.length) this.#foreign = new Float64Array(edges.length);
    let isAnyOff = false;
    for (const [c, { observedPerSecond }] of edges.entries()) {
      const sent = this.#sent[c];
      if (observedPerSecond === undefined || sent === undefined || now - sent.since < settleMs) continue;
      sent.requests += (observedPerSecond * sinceMs) / 1e3;
      sent.observedMs += sinceMs;
      if (sent.observedMs < observeMs) continue;
      const { demandPerSecond } = sent;
      const seconds = sent.observedMs / 1e3;
      const perSecond = sent.requests / seconds;
      sent.requests = 0;
      sent.observedMs = 0;
      this.#foreign[c] = Math.max(0, perSecond - factorMax * demandPerSecond);
      if (demandPerSecond === 0) continue;
      const ratio = perSecond / demandPerSecond;
      // Requests come at random: of few a second a large share is chance.
      const chance = 3 / Math.sqrt(demandPerSecond * seconds);
      if (Math.abs(ratio - 1) <= Math.max(toleranceRatio, chance)) continue;
      steps[c] = Math.min(STEP_MAX, Math.max(1 / STEP_MAX, ratio));
      isAnyOff = true;
    }
    if (!isAnyOff) return;
    const hasChanged = new Uint8Array(edges.length);
    for (const [unit, cluster] of current.entries()) {
      const step = cluster === NOWHERE ? 1 : (steps[cluster] as number);
      if (step === 1) continue;
      const before = this.factors[unit] as number;
      const after = Math.fround(Math.min(factorMax, Math.max(1, before * step)));
      if (after === before) continue;
      this.factors[unit] = after;
      hasChanged[cluster] = 1;
    }
    this.corrections += hasChanged.reduce((sum, changed) => sum + changed, 0);
  }

  /** What a cluster carries that the map does not send there, requests per second: beyond all that its units could ask for. */
  foreign(cluster: number): number {
    return this.#foreign[cluster] ?? 0;
  }

  /** What each cluster is sent from now on, with the factors that were in force. */
  handlePlaced(demandsPerSecond: readonly number[], now: MonotonicMs): void {
    for (const [c, demandPerSecond] of demandsPerSecond.entries()) {
      const before = this.#sent[c];
      const isSame =
        before !== undefined &&
        Math.abs(demandPerSecond - before.demandPerSecond) <=
          this.#settings.toleranceRatio * before.demandPerSecond;
      // The first figure stays the measure, so that a slow drift is no rest.
      if (!isSame) this.#sent[c] = { demandPerSecond, since: now, requests: 0, observedMs: 0 };
    }
  }
}

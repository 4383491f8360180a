/**
 * Requests that were sent to an origin one after the other, and what their answers say together.
 *
 * Latencies are compared by their median over a cohort, with those that are still unanswered counted as slower than any: a mean
 * would be ruled by the one slow page in ten, and the answers of one moment alone miss whatever is slow.
 */
import type { MonotonicMs } from "#kit";

/**
 * What the end of a request says about the origin's load. `rejected`: the origin says that it has too much; `failed`: no answer, or
 * that of a gateway without one; `abandoned`: nobody waited any more, so it would have taken at least so long; `neutral`:
 * nothing, as a 500 that may come from a single broken page.
 */
export type AnswerKind = "good" | "rejected" | "failed" | "abandoned" | "neutral";

/** One request on its way to the origin. */
export interface Sample {
  readonly sentAt: MonotonicMs;
  /** Requests at the origin when it was sent, itself included. */
  readonly inFlight: number;
  /** Cohort that it belongs to; undefined: none. */
  readonly cohort: Cohort | undefined;
  latencyMs: number | undefined;
  kind: AnswerKind | undefined;
}

/** What a cohort says. */
export interface Finding {
  /** Good answers for each ms, by Little's law: counting them would depend on where in a wave of answers the cohort ends. */
  readonly ratePerMs: number;
  /** Mean number at the origin together with a member. */
  readonly inFlight: number;
  /** Rejections and failures among the answers, 0..1. */
  readonly badShare: number;
  /** Members that have ended. */
  readonly ended: number;
  /** Latency of the good answers, ms; Infinity: by then less than half had come. Undefined: too few to say. */
  readonly medianMs: number | undefined;
  readonly slowMs: number | undefined;
  /** Mean number of requests that were being answered well. */
  readonly served: number;
  readonly isBlocked: boolean;
}

/** A cohort is complete when it lasted so long and has so many members, or, where few ask, so long and so many. */
const COHORT_MS = 100;
const COHORT_SIZE = 20;
const COHORT_MS_MAX = 1_000;
const COHORT_SIZE_MIN = 8;
/** More members than this say no more. */
const COHORT_SIZE_MAX = 256;
/** Share of a cohort whose answers are waited for before it is looked at; its median is known by then. */
const ANSWERED_SHARE = 0.75;
/** Two thirds of a cohort took longer than its slow answers: one half could be chance. */
const SLOW_QUANTILE = 0.35;

export class Cohort {
  readonly startedAt: MonotonicMs;
  readonly #members: Sample[] = [];
  #isComplete = false;
  #answered = 0;
  /** In flight when its members were sent, summed. */
  #inFlightSum = 0;
  /** Latencies of all good answers that came while it lasted, ms, summed. */
  goodMsSum = 0;
  /** The longest that the origin owed answers and gave none while it lasted, ms. */
  silentMs = 0;
  /** Whether requests were held back while it lasted. */
  isBlocked = false;

  constructor(now: MonotonicMs) {
    this.startedAt = now;
  }

  /** When its newest member was sent; undefined: it has none. */
  get newestAt(): MonotonicMs | undefined {
    return this.#members.at(-1)?.sentAt;
  }
  /** Whether enough have their answer to look at it. */
  get isAnswered(): boolean {
    return this.#answered >= ANSWERED_SHARE * this.#members.length;
  }

  /** `inFlight`: requests at the origin, this one included. */
  handleSent(inFlight: number, now: MonotonicMs): Sample {
    const isMember = !this.#isComplete && this.#members.length < COHORT_SIZE_MAX;
    const cohort = isMember ? this : undefined;
    const sample: Sample = { sentAt: now, inFlight, cohort, latencyMs: undefined, kind: undefined };
    if (isMember) {
      this.#members.push(sample);
      this.#inFlightSum += inFlight;
    }
    return sample;
  }

  /** A member got its answer, or ended without one. */
  handleEnd(): void {
    this.#answered++;
  }

  /** Whether it has enough members; it takes no more then. */
  isComplete(now: MonotonicMs): boolean {
    const size = this.#members.length;
    const elapsedMs = now - this.startedAt;
    this.#isComplete ||=
      (size >= COHORT_SIZE && elapsedMs >= COHORT_MS) ||
      (size >= COHORT_SIZE_MIN && elapsedMs >= COHORT_MS_MAX);
    return this.#isComplete;
  }

  /** Those who waited through a silence had each other for company, so many. */
  setCompany(inFlight: number): void {
    this.#inFlightSum = Math.max(this.#inFlightSum, inFlight * this.#members.length);
  }

  /** Members that were given up before `baselineMs` had passed say nothing. */
  find(baselineMs: number, now: MonotonicMs): Finding {
    const latencies: number[] = [];
    let timedMsSum = 0;
    let good = 0;
    let bad = 0;
    let ended = 0;
    const inFlight = this.#inFlightSum / Math.max(1, this.#members.length);
    for (const { sentAt, kind, latencyMs } of this.#members) {
      if (kind === undefined || latencyMs === undefined) {
        if (now - sentAt > baselineMs) latencies.push(Number.POSITIVE_INFINITY);
        timedMsSum += now - sentAt;
        continue;
      }
      ended++;
      timedMsSum += latencyMs;
      if (kind === "good") {
        latencies.push(latencyMs);
        good++;
      } else if (kind === "abandoned") {
        // Those who leave early say nothing; without those who leave late the rest would say that all is well.
        if (latencyMs > baselineMs) latencies.push(Number.POSITIVE_INFINITY);
      } else if (kind !== "neutral") bad++;
    }
    latencies.sort((a, b) => a - b);
    const isEnough = latencies.length >= COHORT_SIZE_MIN / 2;
    const quantile = (share: number): number | undefined =>
      isEnough ? latencies[Math.floor(share * (latencies.length - 1))] : undefined;
    return {
      ratePerMs:
        good === 0 ? 0 : (inFlight * this.#members.length * (good / ended)) / Math.max(1, timedMsSum),
      inFlight,
      badShare: ended === 0 ? 0 : bad / ended,
      ended,
      medianMs: quantile(0.5),
      slowMs: quantile(SLOW_QUANTILE),
      served: this.goodMsSum / Math.max(1, now - this.startedAt),
      isBlocked: this.isBlocked,
    };
  }
}

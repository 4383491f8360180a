/**
 * How many requests an origin is asked at once: found by measuring, since nobody tells.
 *
 * The idea is that of Vegas (Brakmo and Peterson, 1995) and BBR (Cardwell et al., ACM Queue 14(5), 2016) with requests in place
 * of packets: what is in flight beyond the origin's workers waits inside it, and each one that waits costs all that
 * come after it 1 / rate. So the latency above the baseline, that without waiting, says how many are too many, and the limit
 * is set so that requests wait there for no longer than an allowance: enough to keep the origin busy, too little for its
 * clients to give up.
 *
 * The baseline is the difficult part: under lasting overload nobody sees it, and it moves when the mix of requests does. So a
 * limit is never lowered for good on suspicion: each cut is an experiment. If the answers to requests that were sent after
 * it come sooner by at least half of what the model says, they had been waiting for each other and the cut stays. If not,
 * the origin simply takes so long: the cut is undone and the baseline is what was measured. An experiment is made when
 * answers are slow for the baseline, when the origin rejects or fails, and from time to time while requests are held back.
 *
 * As long as nothing has shown that requests wait for each other, the limit is not worth its price: it doubles with each round
 * trip in which it holds requests back and answers come as soon as ever (slow start, RFC 5681, section 3.1). A cut that made answers come
 * sooner, or a rejection, ends that for a while; a probe that finds nothing waiting begins it again.
 *
 * An origin that has too much goes on answering; one whose answers take longer than before, for whatever reason, is silent first.
 * So silence alone is no ground for a cut (silent origins are the limiter's matter), and who waits meanwhile is given the time in which
 * a first experiment ends. Envoy's gradient controller and BBR would ask less of it for a while to measure its latency anew; here
 * the experiment does that, at the price of what one answer takes.
 *
 * Gradient2 of Netflix' concurrency-limits was considered: its baseline is a slow mean of what it sees, which under lasting
 * overload drifts up, and the limit with it.
 */
import type { MonotonicMs } from "#kit";
import { type AnswerKind, Cohort, type Finding, type Sample } from "./cohort.ts";

export interface ConcurrencyLimitSettings {
  /** Before anything was measured, and what a limit that is not reached drifts back to. */
  readonly limitInitial: number;
  /** Least, >= 1. */
  readonly limitMin: number;
  /** Most. */
  readonly limitMax: number;
  /** How long requests may wait at the origin, ms; a quarter of the baseline is added. */
  readonly allowanceMs: number;
  /** Time between two experiments while requests are held back, ms. */
  readonly probeIntervalMs: number;
}

/** When an origin has been silent for so long, ms, it is not waited for. */
const SILENT_MS = 10_000;
/** Answers are slow when two thirds of a cohort took longer than baseline + SLOW x allowance. */
const SLOW = 1.5;
/** Share of rejections and failures from which a cohort is bad; the limit grows where there are fewer than the second. */
const BAD_SHARE = 0.2;
const BAD_SHARE_GROW = 0.02;
/** Where nothing is held back, answers that are slow for two cohorts matter if requests have become so many more meanwhile. */
const GROWING = 1.3;
/** An experiment goes down to this share of what is in flight: less could not be told from chance, more would cost too much. */
const CUT_SHARE = 0.7;
/** What is left of the most that were answered well at a time, for each cohort since. */
const SERVED_KEPT = 0.98;
/** Each step of a probe that goes deeper, and a cut when the wait is several times what is allowed. */
const DEEPER_SHARE = 0.5;
const MUCH_TOO_SLOW = 4;
/** What an experiment leaves of the limit at least, when it has shown that requests wait for each other. */
const SETTLE_SHARE = 0.6;
/** A probe goes a little below the number at which nothing should wait; so a baseline that is too high comes down by and by. */
const PROBE_SHARE = 0.9;
/** Baselines between two probes, at least: a probe lasts a few of them. */
const PROBE_BASELINES = 40;
const PROBE_BASELINE_MS_MAX = 10_000;
/** Part of the way to what the model says that the limit grows at a time: the answers lag behind it. */
const GROW_SHARE = 0.5;
/** After a cut that was undone nothing doubles for so long, ms: by chance the wrong one may have been undone, once in twenty. */
const DOUBLE_MS = 1_000;
/** After an experiment that found nothing the next suspicion of its kind has to wait, ms, twice as long each time. */
const REFUTED_MS_MIN = 4_000;
const REFUTED_MS_MAX = 60_000;
/** Where rejections go on below this share of the limit at which there were none, they do not come from too many requests. */
const GIVE_UP_SHARE = 0.5;
/** A cut has stopped rejections when this share of them is left, and so many were to be expected that it is no chance. */
const LEFT_BAD_SHARE = 0.25;
const EXPECTED_BAD_MIN = 4;
/** So many times the share of bad answers with which an experiment found nothing is another matter. */
const WORSE = 2;
/** After rejections stopped the limit stays for so long, ms, twice as long when growing brings them back. */
const REJECTED_MS_MIN = 1_000;
const REJECTED_MS_MAX = 4_000;
/** From the first request that is held back until the first probe, ms: a new origin gets a moment to show what it can do. */
const FIRST_PROBE_MS = 1_000;
/** What has shown that requests wait for each other holds for so long, ms: until the next probe or the one after it. */
const SATURATED_MS = 20_000;
/** Time in which a limit that nobody reaches is forgotten, ms: the origin may be another by then. */
const FORGET_MS = 60_000;
/** Weight of the newest good answer in the latency of late. */
const LATENCY_WEIGHT = 0.1;
/** How fast the baseline follows answers that come sooner, and, while nothing is held back, later. */
const FOLLOW_DOWN = 0.25;
const FOLLOW_UP = 0.05;

interface Experiment {
  readonly kind: "slow" | "bad" | "probe";
  readonly limitBefore: number;
  /** The cohort that gave rise to it, and what it said then. */
  readonly cohort: Cohort;
  readonly before: Finding;
  /** A probe that went deeper: what the step above showed. */
  readonly above: { readonly inFlight: number; readonly medianMs: number } | undefined;
}

/** What became of the limit; all only grow. */
export interface LimitCounters {
  /** Cuts because of slow or bad answers, regular probes, and how many of both showed that nothing waits. */
  readonly cuts: number;
  readonly probes: number;
  readonly refuted: number;
}

export class ConcurrencyLimit {
  readonly #settings: ConcurrencyLimitSettings;
  readonly #phaseMs: number;
  #limit: number;
  #baselineMs: number | undefined;
  /** Whether a probe has shown the baseline; else it is only the least that was seen. */
  #isProven = false;
  #cohort: Cohort;
  #experiment: Experiment | undefined;
  #probeAt: number | undefined;
  /** Cohorts in a row that were slow. */
  #slowCohorts = 0;
  /** The most that were answered well at a time, of late. */
  #served = 0;
  /** In flight now. */
  #inFlight = 0;
  /** When a request was last held back. */
  #blockedAt = Number.NEGATIVE_INFINITY;
  /** Until then the origin counts as one that is slower, or rejects, when it is asked more. */
  #saturatedUntil = Number.NEGATIVE_INFINITY;
  /** Least and, smoothed, newest latency of good answers, ms. */
  #leastMs: number | undefined;
  #latencyMs = 0;
  /** Requests without an answer; when the last one came, or, if later, the first of these was sent. */
  #unanswered = 0;
  #heardAt = Number.NEGATIVE_INFINITY;
  #slowAt: number;
  /** After a cut that was undone the limit may be doubled again from then on. */
  #doubleAt = Number.NEGATIVE_INFINITY;
  #slowRefutedMs = REFUTED_MS_MIN;
  #badAt: number;
  #badRefutedMs = REFUTED_MS_MIN;
  #badShareRefuted = 0;
  /** A cut has stopped rejections: the limit and their share before it, and the most that the limit has been since. */
  #rejecting:
    | { readonly limitBefore: number; readonly badShare: number; readonly limitMost: number }
    | undefined;
  /** When the limit was last changed for rejections, and may grow again. */
  #steppedAt = Number.NEGATIVE_INFINITY;
  #growAt = Number.NEGATIVE_INFINITY;
  #rejectedMs = REJECTED_MS_MIN;
  #cuts = 0;
  #probes = 0;
  #refuted = 0;

  /**
   * @param phaseMs what has to be added to monotonic time so that it is the same in all processes: probes of several that ask
   * one origin must fall together, else each sees the others' load and none sees the baseline.
   */
  constructor(settings: ConcurrencyLimitSettings, now: MonotonicMs, phaseMs: number) {
    const { limitInitial, limitMin, limitMax } = settings;
    if (!(limitMin >= 1 && limitMin <= limitMax) || !(limitInitial >= 1))
      throw new RangeError(
        `A concurrency limit needs 1 <= limitMin <= limitMax, got ${limitMin} and ${limitMax}`,
      );
    this.#settings = settings;
    this.#phaseMs = phaseMs;
    this.#limit = this.#clamp(limitInitial);
    this.#slowAt = now;
    this.#badAt = now;
    this.#cohort = new Cohort(now);
  }

  /** Requests that may be in flight, a whole number. */
  get limit(): number {
    return Math.floor(this.#limit);
  }
  /** Median latency without waiting, ms, as it is believed now; undefined before the first cohort. */
  get baselineMs(): number | undefined {
    return this.#baselineMs;
  }
  /** What an answer takes where nothing waits, ms, as far as is known; undefined before the first good one. */
  get serviceMs(): number | undefined {
    return this.#baselineMs ?? this.#leastMs;
  }
  /**
   * For how long the origin owes answers and gives none, or did before the cut that is being tried, ms. One that has too much goes
   * on answering; one whose answers take longer than before is silent first. 0 while it is known to have too much.
   */
  doubtMs(now: MonotonicMs): number {
    if (now < this.#saturatedUntil) return 0;
    return Math.max(this.#silentMs(now), this.#cohort.silentMs, this.#experiment?.cohort.silentMs ?? 0);
  }
  #silentMs(now: MonotonicMs): number {
    return this.#unanswered === 0 ? 0 : now - this.#heardAt;
  }
  /** Whether the origin gives no sign that it has too much: answers come as soon as ever, and more of them did not make them slower. */
  isUnhurt(now: MonotonicMs): boolean {
    return now >= this.#saturatedUntil && !this.#isLate(this.#latencyMs);
  }
  /** Whether nothing is known of how many it takes: too few were asked at a time, and none was rejected. */
  isUnmeasured(now: MonotonicMs): boolean {
    return this.#baselineMs === undefined && now >= this.#saturatedUntil;
  }
  get counters(): LimitCounters {
    return { cuts: this.#cuts, probes: this.#probes, refuted: this.#refuted };
  }

  /** A request was held back because of the limit, or still is. */
  handleBlocked(now: MonotonicMs): void {
    this.#cohort.isBlocked = true;
    this.#blockedAt = now;
    this.#probeAt ??= now + FIRST_PROBE_MS;
    this.#look(now);
  }

  /** A request goes to the origin; `inFlight`: how many there are now, itself included. */
  handleSent(inFlight: number, now: MonotonicMs): Sample {
    this.#inFlight = inFlight;
    if (this.#unanswered++ === 0) this.#heardAt = now;
    const sample = this.#cohort.handleSent(inFlight, now);
    this.#look(now);
    return sample;
  }

  /** It got its answer, or ended without one. */
  handleEnd(sample: Sample, kind: AnswerKind, now: MonotonicMs): void {
    if (sample.kind !== undefined) return;
    sample.kind = kind;
    sample.latencyMs = now - sample.sentAt;
    const cohort = this.#cohort;
    cohort.silentMs = Math.max(cohort.silentMs, this.#silentMs(now));
    this.#unanswered--;
    if (kind !== "abandoned") this.#heardAt = now;
    if (kind === "good") {
      cohort.goodMsSum += sample.latencyMs;
      this.#hearGood(sample.sentAt, sample.latencyMs, now);
    } else if (kind === "rejected" || kind === "failed") this.#hearBad(sample.sentAt, kind, now);
    sample.cohort?.handleEnd();
    this.#look(now);
  }

  /** Slow start: a place more for each answer that came soon while others were held back. */
  #hearGood(sentAt: MonotonicMs, latencyMs: number, now: MonotonicMs): void {
    this.#latencyMs =
      this.#leastMs === undefined
        ? latencyMs
        : this.#latencyMs + LATENCY_WEIGHT * (latencyMs - this.#latencyMs);
    this.#leastMs = Math.min(this.#leastMs ?? latencyMs, latencyMs);
    if (sentAt > this.#blockedAt || this.#experiment !== undefined) return;
    if (!this.isUnhurt(now) || this.#isLate(latencyMs) || now < this.#doubleAt) return;
    this.#limit = this.#clamp(this.#limit + 1);
    // It is still finding out by itself.
    if (this.#probeAt !== undefined) this.#probeAt = Math.max(this.#probeAt, now + FIRST_PROBE_MS);
  }

  /** Where a cut has stopped rejections before, one more is one place too many. Those sent before the last step say nothing new. */
  #hearBad(sentAt: MonotonicMs, kind: AnswerKind, now: MonotonicMs): void {
    if (kind === "rejected") this.#saturatedUntil = Math.max(this.#saturatedUntil, now + REJECTED_MS_MIN);
    const rejecting = this.#rejecting;
    if (rejecting === undefined || this.#experiment !== undefined || sentAt < this.#steppedAt) return;
    this.#steppedAt = now;
    this.#growAt = now + this.#rejectedMs;
    this.#rejectedMs = Math.min(REJECTED_MS_MAX, 2 * this.#rejectedMs);
    const next = Math.floor(this.#limit) - 1;
    if (next > GIVE_UP_SHARE * rejecting.limitMost) {
      this.#limit = this.#clamp(next);
      return;
    }
    // It rejects however little it is asked: the cut had been lucky.
    this.#rejecting = undefined;
    this.#refuteBad(rejecting.limitBefore, rejecting.badShare, now);
  }

  #isLate(latencyMs: number): boolean {
    const serviceMs = this.serviceMs;
    return serviceMs !== undefined && latencyMs > serviceMs + this.#allowanceMs(serviceMs);
  }

  /** Acts when the cohort has told enough. */
  #look(now: MonotonicMs): void {
    const cohort = this.#cohort;
    if (!cohort.isComplete(now)) return;
    // Those who have not come yet are slow by then, whenever they come. What an experiment compares has to be known, and silence to end.
    const isWaitedFor = this.#experiment !== undefined || this.#isLate(this.#silentMs(now));
    const slowMs = isWaitedFor ? SILENT_MS : this.#slowMs(this.#baselineMs ?? SILENT_MS);
    if (!cohort.isAnswered && now - (cohort.newestAt ?? now) <= slowMs) return;
    if (this.#isLate(cohort.silentMs)) cohort.setCompany(this.#inFlight);
    const finding = cohort.find(this.#baselineMs ?? 0, now);
    this.#cohort = new Cohort(now);
    if (this.#experiment === undefined) this.#steer(cohort, finding, now);
    else this.#judge(this.#experiment, finding, now);
  }

  #steer(cohort: Cohort, found: Finding, now: MonotonicMs): void {
    const { medianMs, slowMs, inFlight, isBlocked } = found;
    this.#served = Math.max(SERVED_KEPT * this.#served, found.served);
    if (now >= this.#saturatedUntil) this.#rejecting = undefined;
    if (
      found.badShare >= BAD_SHARE &&
      this.#rejecting === undefined &&
      (now >= this.#badAt || found.badShare > WORSE * this.#badShareRefuted) &&
      Math.min(this.#served, inFlight) < this.#limit
    ) {
      this.#cuts++;
      this.#begin("bad", this.#clamp(Math.floor(this.#served)), cohort, found);
      return;
    }
    if (medianMs === undefined || slowMs === undefined) return;
    const known = this.#baselineMs;
    if (known !== undefined && slowMs > this.#slowMs(known)) {
      this.#slowCohorts++;
      if (!isBlocked) {
        // Slow, but no more of them than before: it just takes so long.
        if (this.#inFlight <= GROWING * inFlight) this.#follow(medianMs, FOLLOW_DOWN);
        else if (this.#slowCohorts < 2) return;
      }
      if (
        inFlight <= this.#settings.limitMin ||
        now < this.#slowAt ||
        (this.#inFlight <= GROWING * inFlight && !isBlocked)
      )
        return;
      this.#cuts++;
      const isMuchTooSlow =
        isBlocked &&
        !this.#isLate(cohort.silentMs) &&
        slowMs > known + MUCH_TOO_SLOW * this.#allowanceMs(known);
      this.#begin("slow", this.#clamp((isMuchTooSlow ? DEEPER_SHARE : CUT_SHARE) * inFlight), cohort, found);
      return;
    }
    this.#slowCohorts = 0;
    if (!Number.isFinite(medianMs)) return;
    if (known === undefined || medianMs < known) this.#follow(medianMs, FOLLOW_DOWN);
    else if (!isBlocked) this.#follow(medianMs, FOLLOW_UP);
    const baselineMs = this.#baselineMs ?? medianMs;
    const waitMs = Math.max(0, medianMs - baselineMs);
    // The beginning of a burst says nothing of how many there are with it.
    const isSteady = this.#inFlight <= GROWING * inFlight;
    if (isBlocked && isSteady && this.#probeAt !== undefined && now >= this.#probeAt) {
      this.#probes++;
      const free = PROBE_SHARE * (inFlight - found.ratePerMs * waitMs);
      const level = this.#isProven
        ? Math.min(PROBE_SHARE * inFlight, Math.max(free, DEEPER_SHARE ** 2 * inFlight))
        : CUT_SHARE * inFlight;
      // A probe may go below the least limit: it lasts for a few answers only.
      this.#begin("probe", Math.max(1, level), cohort, found);
    } else if (isBlocked) {
      if (found.badShare <= BAD_SHARE_GROW && now >= this.#growAt) this.#grow(found, waitMs, baselineMs, now);
    } else if (this.#limit < this.#settings.limitInitial) {
      const share = Math.min(1, (now - cohort.startedAt) / FORGET_MS);
      this.#limit = this.#clamp(this.#limit + share * (this.#settings.limitInitial - this.#limit));
    }
  }

  #grow(found: Finding, waitMs: number, baselineMs: number, now: MonotonicMs): void {
    const allowanceMs = this.#allowanceMs(baselineMs);
    const room = found.inFlight - found.ratePerMs * (waitMs - allowanceMs) - this.#limit;
    if (room <= 0) return;
    // With something waiting already only part of the way: the answers lag behind the limit.
    const step = Math.min(waitMs < allowanceMs / 4 ? room : GROW_SHARE * room, 0.5 * this.#limit) + 1;
    const rejecting = this.#rejecting;
    this.#limit = this.#clamp(this.#limit + (rejecting === undefined ? Math.min(room, step) : 1));
    if (rejecting === undefined) return;
    this.#steppedAt = now;
    this.#badRefutedMs = REFUTED_MS_MIN;
    this.#rejecting = { ...rejecting, limitMost: Math.max(rejecting.limitMost, this.#limit) };
  }

  /** Moves the baseline part of the way. */
  #follow(medianMs: number, share: number): void {
    if (!Number.isFinite(medianMs)) return;
    const known = this.#baselineMs ?? medianMs;
    this.#baselineMs = known + share * (medianMs - known);
  }

  /** Lowers the limit to see what changes. */
  #begin(kind: Experiment["kind"], limit: number, cohort: Cohort, before: Finding): void {
    this.#experiment = { kind, limitBefore: this.#limit, cohort, before, above: undefined };
    this.#limit = limit;
    this.#slowCohorts = 0;
  }

  #judge(experiment: Experiment, found: Finding, now: MonotonicMs): void {
    this.#experiment = undefined;
    if (experiment.kind === "bad") this.#judgeBad(experiment, found, now);
    else this.#judgeLatency(experiment, found, now);
  }

  /** Fewer requests should have been rejected. */
  #judgeBad({ before, limitBefore }: Experiment, found: Finding, now: MonotonicMs): void {
    const expected = before.badShare * found.ended;
    if (expected >= EXPECTED_BAD_MIN && found.badShare <= before.badShare * LEFT_BAD_SHARE) {
      this.#rejecting = { limitBefore, badShare: before.badShare, limitMost: this.#limit };
      this.#rejectedMs = REJECTED_MS_MIN;
      this.#saturatedUntil = now + SATURATED_MS;
      return;
    }
    this.#refuteBad(limitBefore, before.badShare, now);
  }

  /** Fewer requests, as many failures: one broken page must not starve the rest of its site. */
  #refuteBad(limitBefore: number, badShare: number, now: MonotonicMs): void {
    this.#refuted++;
    this.#badShareRefuted = badShare;
    this.#limit = limitBefore;
    this.#badAt = now + this.#badRefutedMs;
    this.#badRefutedMs = Math.min(REFUTED_MS_MAX, 2 * this.#badRefutedMs);
  }

  /** Answers should have come sooner. */
  #judgeLatency(experiment: Experiment, found: Finding, now: MonotonicMs): void {
    const { limitBefore } = experiment;
    // By now more of those are answered that gave rise to it.
    const before = experiment.cohort.find(0, now);
    const { medianMs } = found;
    if (medianMs === undefined || !Number.isFinite(medianMs)) {
      // Too few asked, or nothing comes back any more: a cut stays, a probe has failed.
      if (experiment.kind === "probe") this.#limit = limitBefore;
      this.#schedule(now);
      return;
    }
    const known = this.#baselineMs ?? medianMs;
    const above = experiment.above ?? { inFlight: before.inFlight, medianMs: before.medianMs ?? medianMs };
    // What the model says: each one fewer that waits saves 1 / rate. Without any good answer before, anything is an improvement.
    const modelMs = before.ratePerMs > 0 ? (above.inFlight - this.#limit) / before.ratePerMs : 0;
    const fellMs = above.medianMs - medianMs;
    if (experiment.kind === "slow") {
      if (modelMs >= 0 && fellMs >= 0.5 * Math.min(modelMs, above.medianMs)) {
        this.#slowRefutedMs = REFUTED_MS_MIN;
        this.#saturatedUntil = now + SATURATED_MS;
        this.#baselineMs = Math.min(known, medianMs);
        this.#settle(before, this.#limit);
        return;
      }
      this.#refuted++;
      this.#baselineMs = medianMs;
      this.#limit = limitBefore;
      this.#doubleAt = now + DOUBLE_MS;
      this.#slowAt = now + this.#slowRefutedMs;
      this.#slowRefutedMs = Math.min(REFUTED_MS_MAX, 2 * this.#slowRefutedMs);
      return;
    }
    // They came sooner by all that the model says: even these still waited for each other.
    const isStillWaiting = fellMs >= 0.7 * modelMs && (!this.#isProven || medianMs > 1.2 * known);
    if (isStillWaiting && this.#limit > 1) {
      this.#experiment = { ...experiment, above: { inFlight: this.#limit, medianMs } };
      this.#limit = Math.max(1, DEEPER_SHARE * this.#limit);
      return;
    }
    this.#isProven = true;
    this.#baselineMs = medianMs;
    this.#schedule(now);
    if (fellMs < 0.3 * modelMs) {
      this.#refuted++;
      this.#limit = limitBefore;
      if (this.#rejecting === undefined) this.#saturatedUntil = now;
      return;
    }
    this.#saturatedUntil = now + SATURATED_MS;
    this.#settle(before, limitBefore);
  }

  /** The limit that the model gives by what was found, at most `limitMax`. */
  #settle(found: Finding, limitMax: number): void {
    const { medianMs, inFlight, ratePerMs } = found;
    const baselineMs = this.#baselineMs ?? 0;
    const waitMs = (medianMs ?? baselineMs) - baselineMs;
    const target = inFlight - ratePerMs * (waitMs - this.#allowanceMs(baselineMs));
    // Not by much at a time: where few slow pages rule the latency, the rate is known badly.
    this.#limit = this.#clamp(
      Math.min(limitMax, Number.isFinite(target) ? Math.max(target, SETTLE_SHARE * limitMax) : limitMax),
    );
  }

  /** The next probe, at a time that all processes share. */
  #schedule(now: MonotonicMs): void {
    // Doubled as often as need be, so that those who ask an origin from near and far still meet at every second probe.
    let intervalMs = this.#settings.probeIntervalMs;
    while (intervalMs < PROBE_BASELINES * Math.min(this.#baselineMs ?? 0, PROBE_BASELINE_MS_MAX))
      intervalMs *= 2;
    const next = (Math.floor((now + this.#phaseMs) / intervalMs) + 1) * intervalMs - this.#phaseMs;
    this.#probeAt = next - now < intervalMs / 4 ? next + intervalMs : next;
  }

  #allowanceMs(baselineMs: number): number {
    return this.#settings.allowanceMs + baselineMs / 4;
  }

  #slowMs(baselineMs: number): number {
    return baselineMs + SLOW * this.#allowanceMs(baselineMs);
  }

  #clamp(limit: number): number {
    return Math.min(this.#settings.limitMax, Math.max(this.#settings.limitMin, limit));
  }
}

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
 * As long as nothing has shown that requests wait for each other, the limit is not worth its price: it grows with each round
 * trip in which it holds requests back and answers come as soon as ever (slow-start.ts). A cut that made answers come sooner, or a
 * rejection, ends that for a while; a probe that finds nothing waiting begins it again. When all answers have waited, or are late, that were asked
 * for before it last grew it goes back to as many as those had for company.
 *
 * An origin that has too much goes on answering; one whose answers take longer than before, for whatever reason, is silent first.
 * So silence alone is no ground for a cut (silent origins are the limiter's matter), and who waits meanwhile is given the time in which
 * a first experiment ends. If the answers that follow a silence took about as long as it, and those that were sent when few were on their way
 * as long as those that were sent when there were many, no experiment is needed: that is what they take (load-response.ts). Envoy's
 * gradient controller and BBR would ask less of it for a while to measure its latency anew; here the experiment does that, at the price of what
 * one answer takes.
 *
 * Gradient2 of Netflix' concurrency-limits was considered: its baseline is a slow mean of what it sees, which under lasting
 * overload drifts up, and the limit with it.
 */
import type { MonotonicMs } from "#kit";
import { Baseline } from "./baseline.ts";
import { type AnswerKind, Cohort, type Finding, type Sample } from "./cohort.ts";
import { LoadResponse } from "./load-response.ts";
import { NewestAnswers } from "./newest-answers.ts";
import { Rejections } from "./rejections.ts";
import { Silence } from "./silence.ts";
import { SlowStart } from "./slow-start.ts";

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
/** After a cut that found nothing the next one for slow answers has to wait, ms, twice as long each time. */
const REFUTED_MS_MIN = 4_000;
const REFUTED_MS_MAX = 60_000;
/** A rejection shows for so long, ms, that the origin has too much. */
const REJECTED_MS = 1_000;
/** From the first request that is held back until the first probe, ms: a new origin gets a moment to show what it can do. */
const FIRST_PROBE_MS = 1_000;
/** What has shown that requests wait for each other holds for so long, ms: until the next probe or the one after it. */
const SATURATED_MS = 20_000;
/** Time in which a limit that nobody reaches is forgotten, ms: the origin may be another by then. */
const FORGET_MS = 60_000;
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
  readonly #baseline: Baseline;
  readonly #silence = new Silence();
  readonly #rejections: Rejections;
  readonly #response = new LoadResponse();
  readonly #slowStart = new SlowStart();
  #cohort: Cohort;
  #experiment: Experiment | undefined;
  #probeAt: number | undefined;
  /** Cohorts in a row that were slow. */
  #slowCohorts = 0;
  /** The most that were answered well at a time, of late. */
  #served = 0;
  /** Mean number at the origin when nothing was held back of late and answers took the baseline. */
  #calmInFlight = Number.POSITIVE_INFINITY;
  /** In flight now. */
  #inFlight = 0;
  /** When a request was last held back. */
  #blockedAt = Number.NEGATIVE_INFINITY;
  /** Until then the origin counts as one that is slower, or rejects, when it is asked more. */
  #saturatedUntil = Number.NEGATIVE_INFINITY;
  /** Good answers, and those that would have been late by now. */
  readonly #newest = new NewestAnswers();
  /** When answers may be suspected again to be slow because of too many requests. */
  #slowAt: number;
  #slowRefutedMs = REFUTED_MS_MIN;
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
    this.#baseline = new Baseline(settings);
    this.#rejections = new Rejections(now);
    this.#cohort = new Cohort(now);
  }

  /** Requests that may be in flight, a whole number. */
  get limit(): number {
    return Math.floor(this.#limit);
  }
  /** Median latency without waiting, ms, as it is believed now; undefined before the first cohort. */
  get baselineMs(): number | undefined {
    return this.#baseline.ms;
  }
  /** What an answer takes where nothing waits, ms, as far as is known; undefined before the first good one. */
  get serviceMs(): number | undefined {
    return this.#baseline.serviceMs;
  }
  /**
   * For how long the origin owes answers and gives none, or did before the cut that is being tried, ms. One that has too much goes
   * on answering; one whose answers take longer than before is silent first. 0 while it is known to have too much.
   */
  doubtMs(now: MonotonicMs): number {
    if (now < this.#saturatedUntil) return 0;
    return Math.max(this.#silence.ms(now), this.#cohort.silentMs, this.#experiment?.cohort.silentMs ?? 0);
  }
  /** Whether the origin gives no sign that it has too much: answers come as soon as ever, and more of them did not make them slower. */
  isUnhurt(now: MonotonicMs): boolean {
    return now >= this.#saturatedUntil && !this.#baseline.isLate(this.#newest.latencyMs ?? 0);
  }
  /** Whether the limit grows with each answer while requests are held back. */
  isGrowing(now: MonotonicMs): boolean {
    return this.#experiment === undefined && this.#slowStart.mayGrow(this.#limit, now) && this.isUnhurt(now);
  }
  /** As SlowStart has it. */
  roundsOf(ahead: number): number {
    return this.#slowStart.roundsOf(ahead, this.#limit);
  }
  /** Whether nothing is known of how many it takes: too few were asked at a time, and none was rejected. */
  isUnmeasured(now: MonotonicMs): boolean {
    return this.#baseline.ms === undefined && now >= this.#saturatedUntil;
  }
  /** Whether what is known of it is over: an answer that had nothing to wait for took much longer. */
  isOutdatedBy(aloneMs: number, now: MonotonicMs): boolean {
    const baselineMs = this.#baseline.ms;
    return (
      baselineMs !== undefined && aloneMs > this.#baseline.slowMs(baselineMs) && now >= this.#saturatedUntil
    );
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
    this.#silence.handleSent(now);
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
    const silentMs = this.#silence.ms(now);
    cohort.silentMs = Math.max(cohort.silentMs, silentMs);
    this.#silence.handleEnd(kind !== "abandoned", this.#baseline.isLate(silentMs), now);
    if (kind === "good") {
      cohort.goodMsSum += sample.latencyMs;
      this.#response.handleGood(sample.inFlight, sample.latencyMs);
      this.#hearGood(sample, sample.latencyMs, now);
    } else if (kind === "abandoned") this.#hearAbandoned(sample, sample.latencyMs, now);
    else if (kind === "rejected" || kind === "failed") this.#hearBad(sample.sentAt, kind, now);
    sample.cohort?.handleEnd();
    this.#look(now);
  }

  #hearGood({ sentAt, inFlight }: Sample, latencyMs: number, now: MonotonicMs): void {
    this.#newest.handle(latencyMs, inFlight);
    this.#baseline.handleGood(latencyMs);
    const isLate = this.#baseline.isLate(latencyMs);
    const company = this.#slowStart.handleGood(this.#baseline.hasWaited(latencyMs), sentAt, inFlight);
    if (company !== undefined && this.#experiment === undefined && this.#slowStart.hasGrownSince(sentAt)) {
      this.#limit = this.#clamp(Math.min(this.#limit, company));
      // What is on its way says nothing of how it is with so many.
      this.#cohort = new Cohort(now);
    }
    if (isLate && now >= this.#saturatedUntil) this.#lookFlat(now);
    if (this.#experiment !== undefined) return;
    if (isLate && this.#slowStart.hasGrownSince(sentAt)) this.#stepBack(now);
    if (sentAt > this.#blockedAt) return;
    if (isLate || !this.isGrowing(now)) return;
    this.#limit = this.#clamp(this.#slowStart.grown(this.#limit, now));
    // It is still finding out by itself.
    if (this.#probeAt !== undefined) this.#probeAt = Math.max(this.#probeAt, now + FIRST_PROBE_MS);
  }

  /** Its answer would have been late by now, while others come. */
  #hearAbandoned({ sentAt, inFlight }: Sample, waitedMs: number, now: MonotonicMs): void {
    if (!this.#baseline.isLate(waitedMs) || this.#baseline.isLate(this.#silence.ms(now))) return;
    this.#newest.handle(waitedMs, inFlight);
    if (this.#experiment === undefined && this.#slowStart.hasGrownSince(sentAt)) this.#stepBack(now);
  }

  /**
   * Answers are late that were asked for before the limit last grew: those to what was sent since will be later still. Back to as many
   * as they had for company.
   */
  #stepBack(now: MonotonicMs): void {
    const { latencyMs = 0, inFlight } = this.#newest;
    if (!this.#baseline.isLate(latencyMs) || this.#silence.explains(latencyMs, now)) return;
    this.#limit = this.#clamp(Math.min(this.#limit, inFlight));
    this.#slowStart.end(this.#limit, now);
    // What is on its way says nothing of how it is with so many.
    this.#cohort = new Cohort(now);
  }

  /** They came late after a silence, and no later where there were more: it just takes so long. */
  #lookFlat(now: MonotonicMs): void {
    if (!this.#silence.explains(this.#newest.latencyMs ?? 0, now)) return;
    const flatMs = this.#response.flatMs();
    if (flatMs === undefined || !this.#baseline.isLate(flatMs) || !this.#silence.explains(flatMs, now))
      return;
    this.#baseline.set(flatMs);
    this.#newest.clear();
    this.#slowCohorts = 0;
    const experiment = this.#experiment;
    if (experiment?.kind !== "slow") return;
    this.#refuted++;
    this.#experiment = undefined;
    this.#limit = experiment.limitBefore;
    this.#slowStart.reopen(now);
    this.#cohort = new Cohort(now);
  }

  #hearBad(sentAt: MonotonicMs, kind: AnswerKind, now: MonotonicMs): void {
    if (kind === "rejected") this.#saturatedUntil = Math.max(this.#saturatedUntil, now + REJECTED_MS);
    const next =
      this.#experiment === undefined ? this.#rejections.handleBad(this.#limit, sentAt, now) : undefined;
    if (next === undefined) return;
    if (next.isRefuted) this.#refuted++;
    this.#limit = this.#clamp(next.limit);
  }

  /** Acts when the cohort has told enough. */
  #look(now: MonotonicMs): void {
    const cohort = this.#cohort;
    if (!cohort.isComplete(now)) return;
    // Those who have not come yet are slow by then, whenever they come. What an experiment compares has to be known, and silence to end.
    const isWaitedFor = this.#experiment !== undefined || this.#baseline.isLate(this.#silence.ms(now));
    const slowMs = isWaitedFor ? SILENT_MS : this.#baseline.slowMs(this.#baseline.ms ?? SILENT_MS);
    if (!cohort.isAnswered && now - (cohort.newestAt ?? now) <= slowMs) return;
    if (this.#baseline.isLate(cohort.silentMs)) cohort.setCompany(this.#inFlight);
    const finding = cohort.find(this.#baseline.ms ?? 0, now);
    this.#cohort = new Cohort(now);
    if (this.#experiment === undefined) this.#steer(cohort, finding, now);
    else this.#judge(this.#experiment, finding, now);
  }

  #steer(cohort: Cohort, found: Finding, now: MonotonicMs): void {
    const { medianMs, slowMs, inFlight, isBlocked } = found;
    this.#served = Math.max(SERVED_KEPT * this.#served, found.served);
    if (now >= this.#saturatedUntil) this.#rejections.forget();
    if (this.#rejections.areSuspect(found.badShare, now) && Math.min(this.#served, inFlight) < this.#limit) {
      this.#cuts++;
      this.#begin("bad", this.#clamp(Math.floor(this.#served)), cohort, found, now);
      return;
    }
    if (medianMs === undefined || slowMs === undefined) return;
    const known = this.#baseline.ms;
    if (known !== undefined && slowMs > this.#baseline.slowMs(known)) {
      this.#slowCohorts++;
      if (!isBlocked) {
        // Slow, but no more of them than before: it just takes so long.
        if (this.#inFlight <= GROWING * inFlight) this.#baseline.follow(medianMs, FOLLOW_DOWN);
        else if (this.#slowCohorts < 2) return;
      }
      if (
        inFlight <= this.#settings.limitMin ||
        now < this.#slowAt ||
        (this.#inFlight <= GROWING * inFlight && !isBlocked)
      )
        return;
      this.#cuts++;
      // Of those that have not come it is known only for how long.
      const shownMs = Math.min(slowMs, now - (cohort.newestAt ?? now));
      const isMuchTooSlow =
        isBlocked &&
        !this.#baseline.isLate(cohort.silentMs) &&
        shownMs > known + MUCH_TOO_SLOW * this.#baseline.allowanceMs(known);
      this.#begin(
        "slow",
        this.#clamp((isMuchTooSlow ? DEEPER_SHARE : CUT_SHARE) * inFlight),
        cohort,
        found,
        now,
      );
      return;
    }
    this.#slowCohorts = 0;
    if (!Number.isFinite(medianMs)) return;
    if (known === undefined || medianMs < known) this.#baseline.follow(medianMs, FOLLOW_DOWN);
    else if (!isBlocked) this.#baseline.follow(medianMs, FOLLOW_UP);
    if (!isBlocked) this.#calmInFlight = inFlight;
    const baselineMs = this.#baseline.ms ?? medianMs;
    const waitMs = Math.max(0, medianMs - baselineMs);
    // The beginning of a burst says nothing of how many there are with it.
    const isSteady = this.#inFlight <= GROWING * inFlight;
    if (isBlocked && isSteady && this.#probeAt !== undefined && now >= this.#probeAt) {
      this.#probes++;
      const free = PROBE_SHARE * (inFlight - found.ratePerMs * waitMs);
      const level = this.#isSeen(inFlight)
        ? Math.min(PROBE_SHARE * inFlight, Math.max(free, DEEPER_SHARE ** 2 * inFlight))
        : CUT_SHARE * inFlight;
      // A probe may go below the least limit: it lasts for a few answers only.
      this.#begin("probe", Math.max(1, level), cohort, found, now);
    } else if (isBlocked) {
      if (this.#rejections.mayGrow(found.badShare, now)) this.#grow(found, waitMs, baselineMs, now);
    } else if (this.#limit < this.#settings.limitInitial) {
      const share = Math.min(1, (now - cohort.startedAt) / FORGET_MS);
      this.#limit = this.#clamp(this.#limit + share * (this.#settings.limitInitial - this.#limit));
    }
  }

  /** Whether the baseline is known by a probe, or by answers when there were far fewer than so many and nothing was held back. */
  #isSeen(inFlight: number): boolean {
    return this.#baseline.isProven || this.#calmInFlight <= CUT_SHARE * inFlight;
  }

  #grow(found: Finding, waitMs: number, baselineMs: number, now: MonotonicMs): void {
    const allowanceMs = this.#baseline.allowanceMs(baselineMs);
    const room = found.inFlight - found.ratePerMs * (waitMs - allowanceMs) - this.#limit;
    if (room <= 0) return;
    // With something waiting already only part of the way: the answers lag behind the limit.
    const step = Math.min(waitMs < allowanceMs / 4 ? room : GROW_SHARE * room, 0.5 * this.#limit) + 1;
    const isCareful = this.#rejections.areStopped;
    this.#limit = this.#clamp(this.#limit + (isCareful ? 1 : Math.min(room, step)));
    if (isCareful) this.#rejections.handleGrown(this.#limit, now);
  }

  /** Lowers the limit to see what changes. */
  #begin(kind: Experiment["kind"], limit: number, cohort: Cohort, before: Finding, now: MonotonicMs): void {
    this.#experiment = { kind, limitBefore: this.#limit, cohort, before, above: undefined };
    this.#limit = limit;
    if (kind === "slow") this.#slowStart.end(limit, now);
    this.#slowCohorts = 0;
  }

  #judge(experiment: Experiment, found: Finding, now: MonotonicMs): void {
    this.#experiment = undefined;
    if (experiment.kind === "bad") this.#judgeBad(experiment, found, now);
    else this.#judgeLatency(experiment, found, now);
  }

  #judgeBad({ before, limitBefore }: Experiment, found: Finding, now: MonotonicMs): void {
    if (this.#rejections.judge(before, found, limitBefore, this.#limit, now)) {
      this.#saturatedUntil = now + SATURATED_MS;
      return;
    }
    this.#refuted++;
    this.#limit = limitBefore;
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
    const known = this.#baseline.ms ?? medianMs;
    const above = experiment.above ?? { inFlight: before.inFlight, medianMs: before.medianMs ?? medianMs };
    // What the model says: each one fewer that waits saves 1 / rate. Without any good answer before, anything is an improvement.
    const modelMs = before.ratePerMs > 0 ? (above.inFlight - this.#limit) / before.ratePerMs : 0;
    const fellMs = above.medianMs - medianMs;
    if (experiment.kind === "slow") {
      if (modelMs >= 0 && fellMs >= 0.5 * Math.min(modelMs, above.medianMs)) {
        this.#slowRefutedMs = REFUTED_MS_MIN;
        this.#saturatedUntil = now + SATURATED_MS;
        this.#baseline.set(Math.min(known, medianMs));
        this.#settleAbove(before, limitBefore);
        return;
      }
      this.#refuted++;
      this.#baseline.set(medianMs);
      this.#limit = limitBefore;
      this.#slowStart.pause(now);
      this.#slowAt = now + this.#slowRefutedMs;
      this.#slowRefutedMs = Math.min(REFUTED_MS_MAX, 2 * this.#slowRefutedMs);
      return;
    }
    // They came sooner by all that the model says: even these still waited for each other.
    const isStillWaiting = fellMs >= 0.7 * modelMs && (!this.#isSeen(this.#limit) || medianMs > 1.2 * known);
    if (isStillWaiting && this.#limit > 1) {
      this.#experiment = { ...experiment, above: { inFlight: this.#limit, medianMs } };
      this.#limit = Math.max(1, DEEPER_SHARE * this.#limit);
      return;
    }
    this.#baseline.isProven = true;
    this.#baseline.set(medianMs);
    this.#schedule(now);
    // One that went deeper has shown above that they waited; here it has only come to where they do not.
    if (experiment.above === undefined && fellMs < 0.3 * modelMs) {
      this.#refuted++;
      this.#limit = limitBefore;
      if (!this.#rejections.areStopped) this.#saturatedUntil = now;
      return;
    }
    this.#saturatedUntil = now + SATURATED_MS;
    this.#settle(before, limitBefore);
  }

  /** After a cut that was right: as many as the origin answers in the time that they may take, at least what is left and less than before. */
  #settleAbove({ ratePerMs }: Finding, limitBefore: number): void {
    const baselineMs = this.#baseline.ms ?? 0;
    const target = ratePerMs * (baselineMs + this.#baseline.allowanceMs(baselineMs));
    this.#limit = this.#clamp(Math.max(this.#limit, Math.min(target, PROBE_SHARE * limitBefore)));
  }

  /** The limit that the model gives by what was found, at most `limitMax`. */
  #settle(found: Finding, limitMax: number): void {
    const { medianMs, inFlight, ratePerMs } = found;
    const baselineMs = this.#baseline.ms ?? 0;
    const waitMs = (medianMs ?? baselineMs) - baselineMs;
    const target = inFlight - ratePerMs * (waitMs - this.#baseline.allowanceMs(baselineMs));
    // Not by much at a time: where few slow pages rule the latency, the rate is known badly.
    this.#limit = this.#clamp(
      Math.min(limitMax, Number.isFinite(target) ? Math.max(target, SETTLE_SHARE * limitMax) : limitMax),
    );
  }

  /** The next probe, at a time that all processes share. */
  #schedule(now: MonotonicMs): void {
    // Doubled as often as need be, so that those who ask an origin from near and far still meet at every second probe.
    let intervalMs = this.#settings.probeIntervalMs;
    while (intervalMs < PROBE_BASELINES * Math.min(this.#baseline.ms ?? 0, PROBE_BASELINE_MS_MAX))
      intervalMs *= 2;
    const next = (Math.floor((now + this.#phaseMs) / intervalMs) + 1) * intervalMs - this.#phaseMs;
    this.#probeAt = next - now < intervalMs / 4 ? next + intervalMs : next;
  }

  #clamp(limit: number): number {
    return Math.min(this.#settings.limitMax, Math.max(this.#settings.limitMin, limit));
  }
}

/**
 * Path choice for one target: direct or through one relay. Sans-IO: a driver (or the simulator) sends the probes that
 * `pollTransmit` says, reports what became of them, and asks `choose` for each request.
 *
 * The direct path is always measured and is the answer whenever nothing better is known. Another path is taken when it
 * has been cheaper by a margin for a while (so noise does not move traffic); a path that fails is left at once.
 */
import { type ClusterId, type MonotonicMs, plusMs } from "#kit";
import { LinkEstimator } from "./link-estimator.ts";
import { type PathChooserSettings, pathChooserDefaults } from "./path-settings.ts";
import type {
  PathReason,
  RelayCandidate,
  PathChoice,
  PathProbe,
  PathState,
  PathEvent,
  PathChooserCounters,
} from "./path-words.ts";

// What a caller of the machine names with it.
export { type PathChooserSettings, pathChooserDefaults } from "./path-settings.ts";
export type { PathProbe, RelayCandidate } from "./path-words.ts";

/** What a probe may take beyond its path's retransmission timeout: scheduling at both ends, ms. */
const PROBE_SLACK_MS = 300;
/** Round trips until a cold connection has answered: connect, tunnel, two for TLS 1.2, the probe itself, half to spare. */
const COLD_ROUND_TRIPS = 4.5;

/** Events kept for `pollEvent`; the oldest is dropped (and counted) beyond it. */
const EVENTS_MAX = 256;

type Candidate = {
  readonly via: ClusterId | null;
  readonly link: LinkEstimator;
  mapRttMs: number | undefined;
  /** The probe in flight, at most one a path. `isDisturbed`: our own process paused meanwhile, so its time says little. */
  probe: { readonly id: number; readonly deadline: MonotonicMs; readonly isDisturbed: boolean } | undefined;
  dueAt: MonotonicMs;
  lossesInARow: number;
  /** Those of them that stand in the estimator. */
  lossesCharged: number;
  okInARow: number;
  /** While set the path is failed; it cannot recover before this time. */
  failedUntil: MonotonicMs | undefined;
  holdMs: number;
  lastFailedAt: MonotonicMs | undefined;
};

export class PathChooser {
  readonly #settings: PathChooserSettings;
  /** Direct first, then relays in the order they were given. */
  #candidates: Candidate[];
  #current: Candidate;
  #reason: PathReason = "only-path";
  #currentSince: MonotonicMs;
  /** Who has been cheaper by the margin, and since when. */
  #challenger: { candidate: Candidate; since: MonotonicMs } | undefined;
  /** The path that the last fallback left. */
  #leftBehind: Candidate | undefined;
  #lastProbeId = 0;
  #intervalFactor = 1;
  readonly #counters: PathChooserCounters = {
    probesSent: 0,
    probesOk: 0,
    probesLost: 0,
    resultsIgnored: 0,
    samplesDisturbed: 0,
    failures: 0,
    recoveries: 0,
    switches: 0,
    fallbacks: 0,
    eventsDropped: 0,
  };
  readonly #events: PathEvent[] = [];

  constructor(settings: Partial<PathChooserSettings>, now: MonotonicMs) {
    this.#settings = { ...pathChooserDefaults, ...settings };
    const direct = this.#make(null, now);
    this.#candidates = [direct];
    this.#current = direct;
    this.#currentSince = now;
  }

  get counters(): Readonly<PathChooserCounters> {
    return this.#counters;
  }
  get settings(): PathChooserSettings {
    return this.#settings;
  }
  /** Candidates, direct included. */
  get pathCount(): number {
    return this.#candidates.length;
  }
  /** When the path in use was taken. */
  get currentSince(): MonotonicMs {
    return this.#currentSince;
  }

  /**
   * Replaces the relays (the first `relaysMax`, duplicates dropped). Paths that stay keep their measurements. A relay that
   * goes away while in use is left at once, for the cheapest of the rest.
   */
  setRelays(relays: readonly RelayCandidate[], now: MonotonicMs): void {
    const next: Candidate[] = [this.#candidates[0] as Candidate];
    for (const relay of relays) {
      if (next.length > this.#settings.relaysMax) break;
      if (next.some((one) => one.via === relay.via)) continue;
      const kept = this.#candidates.find((one) => one.via === relay.via) ?? this.#make(relay.via, now);
      kept.mapRttMs = relay.mapRttMs;
      next.push(kept);
    }
    this.#candidates = next;
    if (this.#challenger && !next.includes(this.#challenger.candidate)) this.#challenger = undefined;
    if (!next.includes(this.#current)) this.#fallBack(now, "cheapest");
  }

  /** What the map estimates for the direct path, ms; shown beside the measurement, not used. */
  setMapRtt(rttMs: number | undefined): void {
    const direct = this.#candidates[0];
    if (direct) direct.mapRttMs = rttMs;
  }

  /** Stretches every probe interval, >= 1: how a driver with many targets stays within its budget. */
  setIntervalFactor(factor: number): void {
    this.#intervalFactor = Math.max(1, factor);
  }

  /** The path for a request at `now`. */
  choose(now: MonotonicMs): PathChoice {
    this.#review(now);
    return { via: this.#current.via, reason: this.#reason };
  }

  /**
   * The cheapest usable path other than the ones named, for a repeat of a request that failed on them; undefined when
   * none is left. Failed paths are not offered.
   */
  alternative(tried: readonly (ClusterId | null)[], now: MonotonicMs): PathChoice | undefined {
    this.#review(now);
    const rest = this.#candidates.filter((one) => !tried.includes(one.via) && one.failedUntil === undefined);
    const best = this.#cheapest(rest, now);
    return best && { via: best.via, reason: "fallback-path-failed" };
  }

  /** The probe has to wait until a connection is open: it gets the time that this takes. */
  handleProbeConnecting(probeId: number, now: MonotonicMs): void {
    const candidate = this.#candidates.find((one) => one.probe?.id === probeId);
    if (!candidate?.probe) return;
    const { probeConnectMsMax, probeTimeoutMs } = this.#settings;
    const srttMs = candidate.link.srttMs;
    const coldMs =
      srttMs === undefined
        ? probeConnectMsMax
        : Math.min(probeConnectMsMax, Math.max(probeTimeoutMs, COLD_ROUND_TRIPS * srttMs + PROBE_SLACK_MS));
    const deadline = Math.max(candidate.probe.deadline, now + coldMs) as MonotonicMs;
    candidate.probe = { ...candidate.probe, deadline };
  }

  /** Whether a path is in use, or is the cheapest and so may be soon: worth an open connection. */
  isLeading(via: ClusterId | null, now: MonotonicMs): boolean {
    this.#review(now);
    return this.#current.via === via || this.#cheapest(this.#candidates, now)?.via === via;
  }

  /** The end of a probe: its round trip, or undefined when nothing came back. */
  handleProbeResult(probeId: number, rttMs: number | undefined, now: MonotonicMs): void {
    const candidate = this.#candidates.find((one) => one.probe?.id === probeId);
    if (!candidate) {
      this.#counters.resultsIgnored++;
      return;
    }
    const isDisturbed = candidate.probe?.isDisturbed === true;
    candidate.probe = undefined;
    if (rttMs === undefined) {
      this.#lost(candidate, "silence", now);
      return;
    }
    this.#counters.probesOk++;
    // It crossed, but how long that took was measured by a process that stood still: no retransmission, no longer path.
    if (isDisturbed && candidate.link.isLate(rttMs)) this.#counters.samplesDisturbed++;
    else candidate.link.handleSample(rttMs, now);
    candidate.lossesInARow = 0;
    candidate.lossesCharged = 0;
    candidate.okInARow++;
    this.#scheduleNext(candidate, now);
    if (
      candidate.failedUntil !== undefined &&
      now >= candidate.failedUntil &&
      candidate.okInARow >= this.#settings.recoverSamples
    ) {
      candidate.failedUntil = undefined;
      this.#counters.recoveries++;
      this.#emit({ type: "recovered", via: candidate.via, at: now });
    }
    this.#review(now);
  }

  /**
   * A probe was turned away: connection refused or reset, a relay that could not or would not reach the target. The path
   * does not work, which is counted as for a lost probe; but a packet that says no was not lost, so the loss ratio stays.
   */
  handleProbeRefused(probeId: number, now: MonotonicMs): void {
    const candidate = this.#candidates.find((one) => one.probe?.id === probeId);
    if (!candidate) {
      this.#counters.resultsIgnored++;
      return;
    }
    candidate.probe = undefined;
    this.#lost(candidate, "refusal", now);
  }

  /** Our own process stood still for `pauseMs`: probes in flight get that much longer, and lateness proves nothing. */
  handlePause(pauseMs: number): void {
    for (const one of this.#candidates) {
      if (one.probe === undefined) continue;
      one.probe = { id: one.probe.id, deadline: plusMs(one.probe.deadline, pauseMs), isDisturbed: true };
    }
  }

  /** The target is wanted after a quiet time: its paths are probed at once, so that a dead one is not found by waiting. */
  expedite(now: MonotonicMs): void {
    for (const one of this.#candidates) one.dueAt = Math.min(one.dueAt, now) as MonotonicMs;
  }

  /** A sample from elsewhere (a connect over this path, the simulator's own measurement). */
  handleSample(via: ClusterId | null, rttMs: number, now: MonotonicMs): void {
    this.#find(via)?.link.handleSample(rttMs, now);
  }

  /** First byte of a real answer: an upper bound of the round trip. */
  handleUpperBound(via: ClusterId | null, rttMs: number, now: MonotonicMs): void {
    this.#find(via)?.link.handleUpperBound(rttMs, now);
  }

  /** A request failed because of its path (connect refused or timed out, tunnel broken, no bytes): leave it now. */
  handleFailure(via: ClusterId | null, now: MonotonicMs): void {
    const candidate = this.#find(via);
    if (!candidate) return;
    this.#fail(candidate, "traffic", now);
    this.#review(now);
  }

  /** Expires probes whose time is over. */
  handleTimeout(now: MonotonicMs): void {
    for (const candidate of this.#candidates) {
      if (candidate.probe === undefined || candidate.probe.deadline > now) continue;
      candidate.probe = undefined;
      this.#lost(candidate, "silence", now);
    }
    this.#review(now);
  }

  /** A probe that is due, from now on in flight; call until undefined. */
  pollTransmit(now: MonotonicMs): PathProbe | undefined {
    for (const candidate of this.#candidates) {
      if (candidate.probe !== undefined || candidate.dueAt > now) continue;
      const timeoutMs = this.#warmTimeoutMs(candidate);
      const id = ++this.#lastProbeId;
      candidate.probe = { id, deadline: plusMs(now, timeoutMs), isDisturbed: false };
      this.#counters.probesSent++;
      return { probeId: id, via: candidate.via, timeoutMs };
    }
    return undefined;
  }

  /** When a probe is due or times out, never before `now`. */
  pollTimeout(now: MonotonicMs): MonotonicMs {
    let next = Number.POSITIVE_INFINITY;
    for (const one of this.#candidates) next = Math.min(next, one.probe?.deadline ?? one.dueAt);
    return Math.max(next, now) as MonotonicMs;
  }

  /** The oldest event that was not taken yet. Call until undefined. */
  pollEvent(): PathEvent | undefined {
    return this.#events.shift();
  }

  /** Every candidate, direct first. */
  states(now: MonotonicMs): readonly PathState[] {
    return this.#candidates.map((one) => ({
      via: one.via,
      srttMs: one.link.srttMs,
      rttvarMs: one.link.rttvarMs,
      lossRatio: one.link.lossRatio,
      samples: one.link.samples,
      costMs: this.#cost(one),
      isFailed: one.failedUntil !== undefined,
      mapRttMs: one.mapRttMs,
      ageMs: one.link.ageMs(now),
    }));
  }

  #warmTimeoutMs(candidate: Candidate): number {
    const { probeTimeoutMs, probeConnectMsMax } = this.#settings;
    if (candidate.link.srttMs === undefined) return probeConnectMsMax;
    return Math.max(probeTimeoutMs, candidate.link.rtoMs + PROBE_SLACK_MS);
  }

  #make(via: ClusterId | null, now: MonotonicMs): Candidate {
    return {
      via,
      link: new LinkEstimator(this.#settings.estimator),
      mapRttMs: undefined,
      probe: undefined,
      dueAt: now,
      lossesInARow: 0,
      lossesCharged: 0,
      okInARow: 0,
      failedUntil: undefined,
      holdMs: this.#settings.failedHoldMs,
      lastFailedAt: undefined,
    };
  }

  #find(via: ClusterId | null): Candidate | undefined {
    return this.#candidates.find((one) => one.via === via);
  }

  #cost(candidate: Candidate): number | undefined {
    const { srttMs, rttvarMs, lossRatio } = candidate.link;
    if (srttMs === undefined) return undefined;
    const { rttvarWeight, lossWeight } = this.#settings;
    return srttMs + rttvarWeight * rttvarMs + lossWeight * lossRatio * Math.max(200, 1.5 * srttMs);
  }

  /** Whether its estimate may carry a choice. Direct may always be used; a relay has to be known. */
  #isUsable(candidate: Candidate, now: MonotonicMs): boolean {
    if (candidate.failedUntil !== undefined) return false;
    if (candidate.via === null) return true;
    const ageMs = candidate.link.ageMs(now);
    const ageMaxMs = Math.max(
      this.#settings.ageMaxMs,
      3 * this.#settings.probeIntervalMs * this.#intervalFactor,
    );
    return (
      candidate.link.samples >= this.#settings.samplesMin &&
      candidate.link.srttMs !== undefined &&
      ageMs !== undefined &&
      ageMs <= ageMaxMs
    );
  }

  /** Lowest cost of the usable ones; unmeasured direct last; ties go to the earlier candidate (direct first). */
  #cheapest(candidates: readonly Candidate[], now: MonotonicMs): Candidate | undefined {
    let best: Candidate | undefined;
    let bestCost = Number.POSITIVE_INFINITY;
    for (const one of candidates) {
      if (!this.#isUsable(one, now)) continue;
      const cost = this.#cost(one) ?? Number.MAX_VALUE;
      if (cost < bestCost) {
        best = one;
        bestCost = cost;
      }
    }
    return best;
  }

  /** Brings the choice up to date: failure first, then the challenger. */
  #review(now: MonotonicMs): void {
    const direct = this.#candidates[0] as Candidate;
    if (!this.#isUsable(this.#current, now)) {
      this.#fallBack(now, "fallback-path-failed");
      return;
    }
    if (this.#candidates.length === 1) {
      this.#reason = "only-path";
      this.#challenger = undefined;
      return;
    }
    const isRelayKnown = this.#candidates.some((one) => one.via !== null && one.link.samples > 0);
    if (this.#current === direct && (!isRelayKnown || direct.link.srttMs === undefined)) {
      this.#reason = "unmeasured-direct";
      // Without a measurement of our own a cheaper relay cannot be told; a failed direct path is handled above.
      if (direct.link.srttMs === undefined) this.#challenger = undefined;
      return;
    }
    const best = this.#cheapest(this.#candidates, now) ?? this.#current;
    if (best === this.#current) {
      this.#challenger = undefined;
      this.#reason = this.#isFallback ? "fallback-path-failed" : "cheapest";
      return;
    }
    const bestCost = this.#cost(best) ?? Number.MAX_VALUE;
    const currentCost = this.#cost(this.#current) ?? Number.MAX_VALUE;
    const { switchMarginMs, switchMarginRatio, holdDownMs } = this.#settings;
    const isClear = bestCost + Math.max(switchMarginMs, switchMarginRatio * currentCost) <= currentCost;
    if (!isClear) {
      this.#challenger = undefined;
      this.#reason = this.#isFallback ? "fallback-path-failed" : "hysteresis";
      return;
    }
    if (this.#challenger === undefined) this.#challenger = { candidate: best, since: now };
    // Another challenger may overtake the first one; what counts is how long the path in use has been the wrong one.
    this.#challenger.candidate = best;
    const heldMs = now - Math.max(this.#challenger.since, this.#currentSince);
    if (heldMs < holdDownMs) {
      this.#reason = this.#isFallback ? "fallback-path-failed" : "hysteresis";
      return;
    }
    this.#counters.switches++;
    this.#use(best, "cheapest", now);
  }

  /** Whether the path in use stands in for one that is still failed. */
  get #isFallback(): boolean {
    return this.#leftBehind?.failedUntil !== undefined && this.#candidates.includes(this.#leftBehind);
  }

  /** Leaves a path that cannot be used any more. */
  #fallBack(now: MonotonicMs, reason: "fallback-path-failed" | "cheapest"): void {
    this.#leftBehind = this.#current;
    const best = this.#cheapest(this.#candidates, now);
    if (best !== undefined) {
      this.#counters.fallbacks++;
      this.#use(best, this.#candidates.length === 1 ? "only-path" : reason, now);
      return;
    }
    // Nothing measured and unfailed is left. A relay that has not failed but is unmeasured still beats what has failed.
    const untried = this.#candidates.find((one) => one.failedUntil === undefined);
    const next = untried ?? this.#candidates[0];
    if (next === undefined) return;
    const nextReason = untried ? "fallback-path-failed" : "all-paths-failed";
    if (next !== this.#current) this.#counters.fallbacks++;
    if (next !== this.#current || this.#reason !== nextReason) this.#use(next, nextReason, now);
  }

  #use(candidate: Candidate, reason: PathReason, now: MonotonicMs): void {
    if (candidate !== this.#current) {
      this.#emit({ type: "switched", from: this.#current.via, to: candidate.via, reason, at: now });
      this.#currentSince = now;
    }
    this.#current = candidate;
    this.#reason = reason;
    this.#challenger = undefined;
  }

  #lost(candidate: Candidate, cause: "silence" | "refusal", now: MonotonicMs): void {
    this.#counters.probesLost++;
    // A path that is out is not lossy: an outage must not be charged to the link for a minute after it has ended.
    if (cause === "silence" && candidate.failedUntil === undefined) {
      candidate.link.handleLoss(now);
      candidate.lossesCharged++;
    } else if (candidate.lossesInARow >= this.#settings.probeLossesMax) {
      candidate.link.forgive(candidate.lossesCharged);
      candidate.lossesCharged = 0;
    }
    candidate.okInARow = 0;
    candidate.lossesInARow++;
    this.#scheduleNext(candidate, now);
    if (candidate.lossesInARow >= this.#settings.probeLossesMax) this.#fail(candidate, "probes", now);
    this.#review(now);
  }

  #fail(candidate: Candidate, cause: "probes" | "traffic", now: MonotonicMs): void {
    const { failedHoldMs, failedHoldMsMax } = this.#settings;
    candidate.okInARow = 0;
    // Traffic may have seen it first; that probes confirm it is news of its own.
    const isConfirmed = cause === "probes" && candidate.lossesInARow === this.#settings.probeLossesMax;
    if (candidate.failedUntil === undefined || isConfirmed)
      this.#emit({ type: "failed", via: candidate.via, cause, at: now });
    if (candidate.failedUntil === undefined) {
      this.#counters.failures++;
      const quietMs = candidate.lastFailedAt === undefined ? Infinity : now - candidate.lastFailedAt;
      // A path that flaps is kept out longer each time; a calm stretch ten times the hold wipes the slate.
      candidate.holdMs =
        quietMs < candidate.holdMs * 10 ? Math.min(failedHoldMsMax, candidate.holdMs * 2) : failedHoldMs;
      // Look again soon: the sooner it is seen alive, the sooner it may serve.
      candidate.dueAt = Math.min(candidate.dueAt, now + this.#settings.warmUpIntervalMs) as MonotonicMs;
    }
    candidate.lastFailedAt = now;
    candidate.failedUntil = plusMs(now, candidate.holdMs);
  }

  #emit(event: PathEvent): void {
    if (this.#events.length >= EVENTS_MAX) {
      this.#events.shift();
      this.#counters.eventsDropped++;
    }
    this.#events.push(event);
  }

  #scheduleNext(candidate: Candidate, now: MonotonicMs): void {
    const { probeIntervalMs, warmUpIntervalMs, samplesMin } = this.#settings;
    // A first loss is looked into at once; what stays silent is asked at the usual pace.
    const isWarm =
      candidate.lossesInARow === 0 ? candidate.link.samples >= samplesMin : candidate.lossesInARow > 1;
    candidate.dueAt = plusMs(now, isWarm ? probeIntervalMs * this.#intervalFactor : warmUpIntervalMs);
    // A failed path that answers again is looked at as soon as it may recover, however slow the pace is.
    if (candidate.failedUntil !== undefined && candidate.okInARow > 0) {
      const soonest = Math.max(plusMs(now, warmUpIntervalMs), candidate.failedUntil);
      candidate.dueAt = Math.min(candidate.dueAt, soonest) as MonotonicMs;
    }
  }
}

/**
 * Path choice for one target: direct or through one relay. Sans-IO: a driver (or the simulator) sends the probes that
 * `pollTransmit` says, reports what became of them, and asks `choose` for each request.
 *
 * The direct path is always measured. Here is what becomes of the probes: estimates, failure, recovery. Which of the paths a request
 * takes is decided by a `PathSelection` for each class of requests, from the same measurements.
 */
import { type ClusterId, type MonotonicMs, plusMs } from "#kit";
import { LinkEstimator } from "./link-estimator.ts";
import { largeKnown, type LargeKnown, type PathCandidate, pathCostMs } from "./path-candidate.ts";
import { PathSelection } from "./path-selection.ts";
import { type PathChooserSettings, pathChooserDefaults } from "./path-settings.ts";
import { TransferTimes } from "./transfer-times.ts";
import type {
  RelayCandidate,
  RequestClass,
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

/** Direct and one-hop paths over different relays share no relay: two others are enough to tell a dead path from a dead target. */
const RACERS_MAX = 2;

/** Large answers are spread over paths on which they take at most so many times what they take on the best. */
const SPREAD_RATIO = 1.5;
const TRANSFER_BYTES_MIN = 1 << 18;

/** Events kept for `pollEvent`; the oldest is dropped (and counted) beyond it. */
const EVENTS_MAX = 256;

export class PathChooser {
  readonly #settings: PathChooserSettings;
  readonly #around: {
    readonly settings: PathChooserSettings;
    candidates: PathCandidate[];
    readonly known: LargeKnown | undefined;
    intervalFactor: number;
  };
  /** One for each class of requests that was asked for; small ones always. */
  readonly #selections = new Map<RequestClass, PathSelection>();
  #lastProbeId = 0;
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
    this.#around = {
      settings: this.#settings,
      candidates: [this.#make(null, now)],
      // Predictions change with every probe, and so does what they are worth.
      get known() {
        return largeKnown(this.candidates);
      },
      intervalFactor: 1,
    };
    this.#selectionOf("small", now);
  }

  get #candidates(): readonly PathCandidate[] {
    return this.#around.candidates;
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
  /** When the path in use for a class of requests was taken. */
  currentSince(now: MonotonicMs, requestClass: RequestClass = "small"): MonotonicMs {
    return this.#selectionOf(requestClass, now).currentSince;
  }

  /**
   * Replaces the relays (the first `relaysMax`, duplicates dropped). Paths that stay keep their measurements. A relay that
   * goes away while in use is left at once, for the cheapest of the rest.
   */
  setRelays(relays: readonly RelayCandidate[], now: MonotonicMs): void {
    const next: PathCandidate[] = [this.#candidates[0] as PathCandidate];
    for (const relay of relays) {
      if (next.length > this.#settings.relaysMax) break;
      if (next.some((one) => one.via === relay.via)) continue;
      const kept = this.#candidates.find((one) => one.via === relay.via) ?? this.#make(relay.via, now);
      kept.mapRttMs = relay.mapRttMs;
      next.push(kept);
    }
    this.#around.candidates = next;
    for (const selection of this.#selections.values()) selection.handleCandidates(now);
  }

  /** What the map estimates for the direct path, ms; shown beside the measurement, not used. */
  setMapRtt(rttMs: number | undefined): void {
    const direct = this.#candidates[0];
    if (direct) direct.mapRttMs = rttMs;
  }

  /** Stretches every probe interval, >= 1: how a driver with many targets stays within its budget. */
  setIntervalFactor(factor: number): void {
    this.#around.intervalFactor = Math.max(1, factor);
  }

  /** The path for a request at `now`. */
  choose(now: MonotonicMs, requestClass: RequestClass = "small"): PathChoice {
    const selection = this.#selectionOf(requestClass, now);
    selection.review(now);
    return { via: selection.via, reason: selection.reason };
  }

  /**
   * The cheapest usable path other than the ones named, for a repeat of a request that failed on them; without one a failed path that
   * probes get over again; undefined when none is left.
   */
  alternative(
    tried: readonly (ClusterId | null)[],
    now: MonotonicMs,
    requestClass: RequestClass = "small",
  ): PathChoice | undefined {
    this.#review(now);
    const rest = this.#candidates.filter((one) => !tried.includes(one.via));
    const selection = this.#selectionOf(requestClass, now);
    const best = selection.cheapest(rest, now) ?? selection.answering(rest);
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

  /** Whether a path is in use, or the cheapest of the others, which gets second attempts and may be used soon: worth open connections. */
  isLeading(via: ClusterId | null, now: MonotonicMs): boolean {
    this.#review(now);
    for (const selection of this.#selections.values()) {
      if (selection.via === via) return true;
      const others = this.#candidates.filter((one) => one.via !== selection.via);
      if (selection.cheapest(others, now)?.via === via) return true;
    }
    return false;
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
    candidate.isSuspect = false;
    // It crossed, but how long that took was measured by a process that stood still: no retransmission, no longer path.
    if (isDisturbed && candidate.link.isLate(rttMs)) this.#counters.samplesDisturbed++;
    else if (candidate.link.handleSample(rttMs, now) === "level-shift") candidate.transfers.forget();
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

  /**
   * A large body came over `via`, and nobody but the path held it up: `bytes` in `ms` after the head, which came `headMs` after the
   * request. Smaller ones than a quarter of a MiB say more of round trips than of rates, and are not counted.
   */
  handleTransfer(via: ClusterId | null, bytes: number, headMs: number, ms: number): void {
    const candidate = this.#find(via);
    if (!candidate || bytes < TRANSFER_BYTES_MIN) return;
    candidate.transfers.handle(bytes, headMs, ms);
  }

  /**
   * The path for one of several large answers that are asked for at the same time, the slices of an object: of the paths that are nearly
   * as good as the best, the one with the fewest of them under way, as `underWay` says. Ties go to the earlier candidate.
   */
  chooseLarge(now: MonotonicMs, underWay: (via: ClusterId | null) => number): PathChoice {
    const choice = this.choose(now, "large");
    let best = choice.via;
    let least = underWay(best);
    for (const { via } of this.#selectionOf("large", now).comparable(SPREAD_RATIO, now)) {
      if (underWay(via) >= least) continue;
      best = via;
      least = underWay(via);
    }
    return best === choice.via ? choice : { via: best, reason: "spread" };
  }

  /** A request failed because of its path (connect refused or timed out, tunnel broken, no bytes): leave it now. */
  handleFailure(via: ClusterId | null, now: MonotonicMs): void {
    const candidate = this.#find(via);
    if (!candidate) return;
    this.#fail(candidate, "traffic", now);
    this.#review(now);
  }

  /**
   * Races were lost on it and nothing was heard over it: it is left at once, and probed at once. It is a path like any other again
   * when a probe comes back, and a failed one when they do not. Without another path that is usable nothing changes.
   */
  handleRacesLost(via: ClusterId | null, now: MonotonicMs): void {
    const candidate = this.#find(via);
    if (!candidate || candidate.failedUntil !== undefined || !this.alternative([via], now)) return;
    candidate.isSuspect = true;
    candidate.dueAt = Math.min(candidate.dueAt, now) as MonotonicMs;
    this.#review(now);
  }

  /** Whether a path has failed, or lost its races in silence. */
  isOut(via: ClusterId | null): boolean {
    const candidate = this.#find(via);
    return candidate !== undefined && (candidate.isSuspect || candidate.failedUntil !== undefined);
  }

  /**
   * Paths to try at once beside the one in use, because nobody knows whether that one is well: every path has failed, or the last that
   * was heard of it is older than several probes. At most two, cheapest as last known first; none while the path in use is sure, or
   * before anything was measured, when direct needs no proof.
   */
  racers(now: MonotonicMs, requestClass: RequestClass = "small"): readonly (ClusterId | null)[] {
    const { via, reason } = this.choose(now, requestClass);
    const ageMs = this.#find(via)?.link.ageMs(now);
    const freshMs = 3 * this.#settings.probeIntervalMs * this.#around.intervalFactor;
    const isSure = reason !== "all-paths-failed" && (ageMs === undefined || ageMs <= freshMs);
    if (isSure) return [];
    const costOf = (one: PathCandidate): number =>
      pathCostMs(one, requestClass, this.#settings, this.#around.known) ?? Number.MAX_VALUE;
    return this.#candidates
      .filter((one) => one.via !== via)
      .sort((a, b) => costOf(a) - costOf(b))
      .slice(0, RACERS_MAX)
      .map((one) => one.via);
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

  /** A candidate's round trip as it is measured now; undefined: it is none. */
  roundTripOf(via: ClusterId | null): Pick<LinkEstimator, "srttMs" | "rttvarMs" | "typical"> | undefined {
    return this.#find(via)?.link;
  }

  /** Every candidate, direct first. */
  states(now: MonotonicMs): readonly PathState[] {
    return this.#candidates.map((one) => ({
      via: one.via,
      srttMs: one.link.srttMs,
      rttvarMs: one.link.rttvarMs,
      lossRatio: one.link.lossRatio,
      samples: one.link.samples,
      costMs: pathCostMs(one, "small", this.#settings, this.#around.known),
      isFailed: one.failedUntil !== undefined,
      mapRttMs: one.mapRttMs,
      ageMs: one.link.ageMs(now),
    }));
  }

  #warmTimeoutMs(candidate: PathCandidate): number {
    const { probeTimeoutMs, probeConnectMsMax } = this.#settings;
    if (candidate.link.srttMs === undefined) return probeConnectMsMax;
    return Math.max(probeTimeoutMs, candidate.link.rtoMs + PROBE_SLACK_MS);
  }

  #make(via: ClusterId | null, now: MonotonicMs): PathCandidate {
    return {
      via,
      link: new LinkEstimator(this.#settings.estimator),
      transfers: new TransferTimes(),
      mapRttMs: undefined,
      probe: undefined,
      dueAt: now,
      lossesInARow: 0,
      lossesCharged: 0,
      okInARow: 0,
      failedUntil: undefined,
      holdMs: this.#settings.failedHoldMs,
      lastFailedAt: undefined,
      isSuspect: false,
    };
  }

  #find(via: ClusterId | null): PathCandidate | undefined {
    return this.#candidates.find((one) => one.via === via);
  }

  /** The selection of a class; one that nobody asked for yet begins with the direct path. */
  #selectionOf(requestClass: RequestClass, now: MonotonicMs): PathSelection {
    const known = this.#selections.get(requestClass);
    if (known) return known;
    const selection = new PathSelection(
      requestClass,
      this.#around.candidates[0] as PathCandidate,
      this.#around,
      ({ cause, ...change }) => {
        if (cause === "cheaper") this.#counters.switches++;
        else this.#counters.fallbacks++;
        this.#emit({ type: "switched", ...change });
      },
      now,
    );
    this.#selections.set(requestClass, selection);
    return selection;
  }

  #review(now: MonotonicMs): void {
    for (const selection of this.#selections.values()) selection.review(now);
  }

  #lost(candidate: PathCandidate, cause: "silence" | "refusal", now: MonotonicMs): void {
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

  #fail(candidate: PathCandidate, cause: "probes" | "traffic", now: MonotonicMs): void {
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
    candidate.isSuspect = false;
    candidate.failedUntil = plusMs(now, candidate.holdMs);
  }

  #emit(event: PathEvent): void {
    if (this.#events.length >= EVENTS_MAX) {
      this.#events.shift();
      this.#counters.eventsDropped++;
    }
    this.#events.push(event);
  }

  #scheduleNext(candidate: PathCandidate, now: MonotonicMs): void {
    const { probeIntervalMs, warmUpIntervalMs, samplesMin } = this.#settings;
    // A first loss is looked into at once; what stays silent is asked at the usual pace.
    const isWarm =
      candidate.lossesInARow === 0 ? candidate.link.samples >= samplesMin : candidate.lossesInARow > 1;
    candidate.dueAt = plusMs(now, isWarm ? probeIntervalMs * this.#around.intervalFactor : warmUpIntervalMs);
    // A failed path that answers again is looked at as soon as it may recover, however slow the pace is.
    if (candidate.failedUntil !== undefined && candidate.okInARow > 0) {
      const soonest = Math.max(plusMs(now, warmUpIntervalMs), candidate.failedUntil);
      candidate.dueAt = Math.min(candidate.dueAt, soonest) as MonotonicMs;
    }
  }
}

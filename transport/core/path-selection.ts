/**
 * The path in use for one class of requests. Direct is the answer whenever nothing better is known; another path takes over when the
 * evidence that it is cheaper has grown for long enough; a path that fails is left at once.
 */
import { type ClusterId, type MonotonicMs } from "#kit";
import { isPathUsable, type LargeKnown, type PathCandidate, pathCostMs } from "./path-candidate.ts";
import type { PathChooserSettings } from "./path-settings.ts";
import type { PathReason, RequestClass } from "./path-words.ts";

/** What the selection looks at; the chooser keeps it up to date. */
export interface PathSurroundings {
  readonly settings: PathChooserSettings;
  /** Direct first, then relays in the order of the map. */
  readonly candidates: readonly PathCandidate[];
  /** What large bodies over them say. */
  readonly known: LargeKnown | undefined;
  readonly intervalFactor: number;
}

/** Told of every change of the path in use. */
export type OnPathUsed = (change: {
  readonly requestClass: RequestClass;
  readonly from: ClusterId | null;
  readonly to: ClusterId | null;
  readonly reason: PathReason;
  readonly cause: "cheaper" | "failed";
  readonly at: MonotonicMs;
}) => void;

export class PathSelection {
  readonly #requestClass: RequestClass;
  readonly #around: PathSurroundings;
  readonly #onUsed: OnPathUsed;
  #current: PathCandidate;
  #reason: PathReason = "only-path";
  #currentSince: MonotonicMs;
  /** How long another path has been the better one, each stretch weighted by how clearly, ms, from 0 on. */
  #evidenceMs = 0;
  /** How clearly at the last review, -1..1. */
  #clarity = 0;
  #reviewedAt: MonotonicMs;
  /** The path that the last fallback left. */
  #leftBehind: PathCandidate | undefined;

  constructor(
    requestClass: RequestClass,
    direct: PathCandidate,
    around: PathSurroundings,
    onUsed: OnPathUsed,
    now: MonotonicMs,
  ) {
    this.#requestClass = requestClass;
    this.#current = direct;
    this.#around = around;
    this.#onUsed = onUsed;
    this.#currentSince = now;
    this.#reviewedAt = now;
  }

  /** The path in use, as of the last review. */
  get via(): ClusterId | null {
    return this.#current.via;
  }
  get reason(): PathReason {
    return this.#reason;
  }
  get currentSince(): MonotonicMs {
    return this.#currentSince;
  }

  /** Candidates have been replaced. A path in use that is none any more is left for the cheapest of the rest. */
  handleCandidates(now: MonotonicMs): void {
    if (!this.#around.candidates.includes(this.#current)) this.#fallBack(now, "cheapest");
  }

  /** Lowest cost of the usable ones among `candidates`; unmeasured direct last; ties go to the earlier one. */
  cheapest(candidates: readonly PathCandidate[], now: MonotonicMs): PathCandidate | undefined {
    const { settings, intervalFactor } = this.#around;
    let best: PathCandidate | undefined;
    let bestCost = Number.POSITIVE_INFINITY;
    for (const one of candidates) {
      if (!isPathUsable(one, settings, intervalFactor, now)) continue;
      const cost = this.#cost(one);
      if (cost < bestCost) {
        best = one;
        bestCost = cost;
      }
    }
    return best;
  }

  /** The cheapest of the failed ones among `candidates` that probes get over again: not yet trusted, but better than a dead one. */
  answering(candidates: readonly PathCandidate[]): PathCandidate | undefined {
    let best: PathCandidate | undefined;
    for (const one of candidates)
      if (
        one.failedUntil !== undefined &&
        one.okInARow > 0 &&
        (best === undefined || this.#cost(one) < this.#cost(best))
      )
        best = one;
    return best;
  }

  /**
   * Paths whose cost is within `ratio` of the cheapest one's, that one included: work that can be divided may be divided among them.
   * Empty when none is usable.
   */
  comparable(ratio: number, now: MonotonicMs): readonly PathCandidate[] {
    const { settings, candidates, intervalFactor } = this.#around;
    const best = this.cheapest(candidates, now);
    if (best === undefined) return [];
    const limit = ratio * this.#cost(best);
    return candidates.filter(
      (one) => isPathUsable(one, settings, intervalFactor, now) && this.#cost(one) <= limit,
    );
  }

  /** Brings the choice up to date: failure first, then whether another path is better. */
  review(now: MonotonicMs): void {
    const { settings, candidates, intervalFactor } = this.#around;
    const direct = candidates[0];
    if (!isPathUsable(this.#current, settings, intervalFactor, now)) {
      this.#fallBack(now, this.#current.isSuspect ? "fallback-races-lost" : "fallback-path-failed");
      return;
    }
    if (candidates.length === 1) {
      this.#reason = "only-path";
      this.#settle(now);
      return;
    }
    const isRelayKnown = candidates.some((one) => one.via !== null && one.link.samples > 0);
    if (this.#current === direct && (!isRelayKnown || direct.link.srttMs === undefined)) {
      this.#reason = "unmeasured-direct";
      // Without a measurement of our own a cheaper relay cannot be told; a failed direct path is handled above.
      this.#settle(now);
      return;
    }
    const rival = this.cheapest(
      candidates.filter((one) => one !== this.#current),
      now,
    );
    const gain =
      rival === undefined ? Number.NEGATIVE_INFINITY : this.#cost(this.#current) - this.#cost(rival);
    const clarity = rival === undefined ? -1 : this.#clarityOf(rival, gain);
    this.#weigh(clarity, now);
    if (
      rival === undefined ||
      clarity <= 0 ||
      this.#evidenceMs < settings.holdDownMs ||
      now - this.#currentSince < settings.holdDownMs
    ) {
      this.#reason = this.#fallbackReason ?? (gain > 0 ? "hysteresis" : "cheapest");
      return;
    }
    this.#use(rival, "cheapest", "cheaper", now);
  }

  /**
   * The rival's gain as a share of the margin, squared, with its sign: 1 when it is cheaper by the whole margin, 0 when by no more than
   * what nobody feels. Squared, because the time that tells a gain from noise grows with the square of their ratio. By what nobody feels
   * the direct path is preferred, which depends on the fewest parts.
   */
  #clarityOf(rival: PathCandidate, gain: number): number {
    const { switchMarginMs, switchMarginRatio, indifferenceMs, indifferenceRatio } = this.#around.settings;
    const currentCost = this.#cost(this.#current);
    const indifference = Math.max(indifferenceMs, indifferenceRatio * currentCost);
    const span = Math.max(switchMarginMs, switchMarginRatio * currentCost) - indifference;
    const clearGain = gain + (rival.via === null ? indifference : -indifference);
    const share = span > 0 ? Math.max(-1, Math.min(1, clearGain / span)) : Math.sign(clearGain);
    return share * Math.abs(share);
  }

  /** Between two reviews only that much is proven that both of them saw. Whichever rival it was: the path in use is the wrong one. */
  #weigh(clarity: number, now: MonotonicMs): void {
    const seen = Math.min(clarity, this.#clarity);
    this.#evidenceMs = Math.min(
      this.#around.settings.holdDownMs,
      Math.max(0, this.#evidenceMs + seen * (now - this.#reviewedAt)),
    );
    this.#clarity = clarity;
    this.#reviewedAt = now;
  }

  #settle(now: MonotonicMs): void {
    this.#evidenceMs = 0;
    this.#clarity = 0;
    this.#reviewedAt = now;
  }

  /** Unmeasured is dearer than whatever was measured. */
  #cost(candidate: PathCandidate): number {
    const { settings, known } = this.#around;
    return pathCostMs(candidate, this.#requestClass, settings, known) ?? Number.MAX_VALUE;
  }

  /** Why another path was left that is still out, if the path in use stands in for one. */
  get #fallbackReason(): PathReason | undefined {
    const left = this.#leftBehind;
    if (left === undefined || !this.#around.candidates.includes(left)) return undefined;
    if (left.isSuspect) return "fallback-races-lost";
    return left.failedUntil === undefined ? undefined : "fallback-path-failed";
  }

  /** Leaves a path that cannot be used any more. */
  #fallBack(now: MonotonicMs, reason: PathReason): void {
    const { candidates } = this.#around;
    const best = this.cheapest(candidates, now);
    if (best !== undefined) {
      this.#use(best, candidates.length === 1 ? "only-path" : reason, "failed", now);
      return;
    }
    // Nothing measured and unfailed is left. A relay that has not failed but is unmeasured still beats what has failed.
    const untried =
      candidates.find((one) => one.failedUntil === undefined && !one.isSuspect) ??
      candidates.find((one) => one.failedUntil === undefined);
    const next = untried ?? this.answering(candidates) ?? candidates[0];
    if (next === undefined) return;
    this.#use(next, untried ? reason : "all-paths-failed", "failed", now);
  }

  #use(candidate: PathCandidate, reason: PathReason, cause: "cheaper" | "failed", now: MonotonicMs): void {
    const from = this.#current;
    this.#current = candidate;
    this.#reason = reason;
    this.#settle(now);
    if (candidate === from) return;
    if (cause === "failed") this.#leftBehind = from;
    this.#currentSince = now;
    this.#onUsed({
      requestClass: this.#requestClass,
      from: from.via,
      to: candidate.via,
      reason,
      cause,
      at: now,
    });
  }
}

/**
 * When a second attempt at a small request pays: later than the first is answered as a rule, and within a budget of extra
 * requests (Dean, Barroso, "The Tail at Scale", 2013). Tells too when a path has lost so many of its races that it is to be left.
 * One for each target. No clock: time is an argument.
 */
import type { ClusterId, MonotonicMs } from "#kit";
import { RetryBudget } from "./retry-budget.ts";
import { SortedWindow } from "./sorted-window.ts";

export type HedgeSettings = {
  /** Second attempts for each first one, 0..1; 0 switches them off. */
  readonly ratio: number;
  /** Most second attempts that can be saved up, >= 1. */
  readonly savedMax: number;
  /** Of them, those that are kept for a path that has fallen silent, 0..savedMax. */
  readonly reserve: number;
  /** Answer times that have to be known of a path, 1..128. */
  readonly samplesMin: number;
  /** No second attempt sooner than this, ms: within a site it costs more than it saves. */
  readonly delayMsMin: number;
  /** Lost races in a row, nothing heard over the path meanwhile, after which it is left, >= 1. */
  readonly lostMax: number;
};

/** A tenth more requests at the most, and none where answers come within ordinary scheduling. */
export const hedgeDefaults: HedgeSettings = {
  ratio: 0.1,
  savedMax: 10,
  reserve: 2,
  samplesMin: 16,
  delayMsMin: 20,
  lostMax: 2,
};

/** Answer times that the delay looks back on, and how many of them are new before it is computed again. */
const WINDOW = 128;
const RENEW_EVERY = 8;
/**
 * The delay aims at somewhat more late ones than the budget pays for, and the budget cuts off the rest: where losses are about as
 * frequent as the budget is large, the quantile of just that share would already be the time of a retransmission.
 */
const AIM = 2;
/** So many looks at late attempts in a row with nothing heard over the path: it is out, or the target is. */
const OUTAGE_LATE = 4;
/** Beyond that quantile by this much: on a path without a tail there is nothing to gain. */
const MARGIN_RATIO = 0.04;
const MARGIN_MS_MIN = 2;

/** All only grow. */
export type HedgeCounters = {
  /** Second attempts that were sent, and of them those that were answered first. */
  hedges: number;
  won: number;
  /** Late first attempts that the budget left alone. */
  refused: number;
  /** Paths that were left because of lost races. */
  pathsLeft: number;
};

/** How much a second attempt matters. */
type Urgency = "low" | "usual" | "high";

type PathTimes = {
  readonly recentMs: SortedWindow;
  sinceRenewed: number;
  delayMs: number | undefined;
  /** When something last came over it. */
  heardAt: MonotonicMs;
  /** When something was last answered over it in its usual time. */
  inTimeAt: MonotonicMs;
  /** Until when it was out, as far as it shows: to the end of time while it is. */
  outAt: MonotonicMs;
  /** Since it was heard of. */
  lateInARow: number;
  lostInARow: number;
};

export class HedgePolicy {
  readonly #settings: HedgeSettings;
  readonly #budget: RetryBudget;
  readonly #paths = new Map<ClusterId | null, PathTimes>();
  readonly counters: HedgeCounters = { hedges: 0, won: 0, refused: 0, pathsLeft: 0 };

  /** Throws RangeError for settings outside of their ranges. */
  constructor(settings: Partial<HedgeSettings>, now: MonotonicMs) {
    this.#settings = { ...hedgeDefaults, ...settings };
    const { ratio, savedMax, reserve, samplesMin, delayMsMin, lostMax } = this.#settings;
    if (
      !(reserve >= 0 && reserve <= savedMax) ||
      !(samplesMin >= 1 && samplesMin <= WINDOW) ||
      !(delayMsMin >= 0) ||
      !(lostMax >= 1)
    )
      throw new RangeError(
        `Hedging needs reserve 0..savedMax, samplesMin 1..${WINDOW}, delayMsMin >= 0, lostMax >= 1, got ${reserve}, ${samplesMin}, ${delayMsMin}, ${lostMax}`,
      );
    this.#budget = new RetryBudget({ ratio, minPerSecond: 0, max: savedMax, initial: 0 }, now);
  }

  get isOn(): boolean {
    return this.#settings.ratio > 0;
  }

  /** A request was sent for the first time, whether it may be hedged or not. */
  handleFirstTry(now: MonotonicMs): void {
    this.#budget.handleFirstTry(now);
  }

  /** How long to wait for an answer over `via`, ms, before a second attempt; undefined: not known, or none is sent. */
  delayMs(via: ClusterId | null): number | undefined {
    if (this.#settings.ratio === 0) return undefined;
    return this.#paths.get(via)?.delayMs;
  }

  /**
   * How long a small answer took over `via`, ms, from the request on the wire to its last byte; or how long an attempt had waited
   * that lost its race, which would have taken longer. One that was sent before an outage ended is not counted: the outage is no tail.
   */
  handleAnswer(via: ClusterId | null, answerMs: number, sentAt: MonotonicMs): void {
    const path = this.#pathOf(via);
    if (sentAt < path.outAt) return;
    if (answerMs <= (path.delayMs ?? this.#longestDelayMs()))
      path.inTimeAt = Math.max(path.inTimeAt, sentAt + answerMs) as MonotonicMs;
    path.recentMs.add(answerMs);
    const { count } = path.recentMs;
    path.sinceRenewed++;
    const { samplesMin, ratio, delayMsMin } = this.#settings;
    if (count < samplesMin || (path.delayMs !== undefined && path.sinceRenewed < RENEW_EVERY)) return;
    path.sinceRenewed = 0;
    const rank = Math.ceil(Math.max(0.5, 1 - AIM * ratio) * count) - 1;
    const usualMs = path.recentMs.at(Math.max(0, rank)) ?? 0;
    path.delayMs = Math.max(delayMsMin, usualMs + Math.max(MARGIN_MS_MIN, MARGIN_RATIO * usualMs));
  }

  /** Something came over `via`: it is no dead path. */
  handleHeard(via: ClusterId | null, now: MonotonicMs): void {
    const path = this.#paths.get(via);
    if (path === undefined) return;
    if (path.lateInARow >= OUTAGE_LATE || path.outAt > now) path.outAt = now;
    path.heardAt = now;
    path.lateInARow = 0;
    path.lostInARow = 0;
  }

  /**
   * An attempt over `via` is late. Whether a second one may be sent; it is counted then. The second late one in a
   * row on a path that has been silent since `since` draws on the reserve: a path full of losses uses up the rest before it dies.
   * Low: it will most likely be here before a second attempt is, which is worth what is saved beyond half alone. High: it waits for what was on
   * its way already, so that on a silent path the first draws on the reserve.
   */
  take(via: ClusterId | null, since: MonotonicMs, now: MonotonicMs, urgency: Urgency = "usual"): boolean {
    const path = this.#pathOf(via);
    const { reserve, savedMax } = this.#settings;
    const isSilent = path.heardAt <= since;
    const mayUseReserve = isSilent && (path.lateInARow > 0 || urgency === "high");
    const least = mayUseReserve ? 0 : urgency === "low" ? savedMax / 2 : reserve;
    if (isSilent) path.lateInARow++;
    if (!this.#budget.take(now, least)) {
      this.counters.refused++;
      return false;
    }
    this.counters.hedges++;
    return true;
  }

  /**
   * Whether what was sent over `via` at `sentAt` is lost with the path: nothing was heard over it since `since`, or it was out meanwhile, and
   * since it was sent something was answered over another path in its usual time. The target is well then and hardly has the request: asking
   * again over another path is no load that a budget has to bound.
   */
  isLost(via: ClusterId | null, sentAt: MonotonicMs, since: MonotonicMs): boolean {
    const path = this.#pathOf(via);
    if (path.heardAt > since && path.outAt <= sentAt) return false;
    for (const [other, { inTimeAt }] of this.#paths) if (other !== via && inTimeAt > sentAt) return true;
    return false;
  }

  /** Whether nothing came over `via` since then. */
  isSilentSince(via: ClusterId | null, since: MonotonicMs): boolean {
    return this.#pathOf(via).heardAt <= since;
  }

  /**
   * Whether so many in a row were late over `via`, with nothing heard since `since` and something over another path, that it is to be left though
   * no race could be held. True once; the count begins anew.
   */
  isDead(via: ClusterId | null, since: MonotonicMs): boolean {
    const path = this.#pathOf(via);
    if (path.lateInARow < OUTAGE_LATE || path.heardAt > since) return false;
    let isOtherHeard = false;
    for (const other of this.#paths.values()) isOtherHeard ||= other.heardAt > path.heardAt;
    if (!isOtherHeard) return false;
    path.lateInARow = 0;
    path.outAt = Infinity as MonotonicMs;
    this.counters.pathsLeft++;
    return true;
  }

  /** The second attempt was answered first. */
  handleWon(): void {
    this.counters.won++;
  }

  /**
   * An attempt over `via`, sent at `sentAt`, lost its race to one over another path. True: it is one too many with nothing heard over
   * `via` meanwhile, and the path is to be left; the count begins anew.
   */
  handleLost(via: ClusterId | null, sentAt: MonotonicMs): boolean {
    const path = this.#pathOf(via);
    if (path.heardAt > sentAt) return false;
    path.lostInARow++;
    if (path.lostInARow < this.#settings.lostMax) return false;
    path.lostInARow = 0;
    path.outAt = Infinity as MonotonicMs;
    this.counters.pathsLeft++;
    return true;
  }

  /** For a path over which too little was answered to have one of its own; 0: none has. */
  #longestDelayMs(): number {
    let longest = 0;
    for (const { delayMs = 0 } of this.#paths.values()) longest = Math.max(longest, delayMs);
    return longest;
  }

  #pathOf(via: ClusterId | null): PathTimes {
    const known = this.#paths.get(via);
    if (known) return known;
    const path: PathTimes = {
      recentMs: new SortedWindow(WINDOW),
      sinceRenewed: 0,
      delayMs: undefined,
      heardAt: Number.NEGATIVE_INFINITY as MonotonicMs,
      inTimeAt: Number.NEGATIVE_INFINITY as MonotonicMs,
      outAt: Number.NEGATIVE_INFINITY as MonotonicMs,
      lateInARow: 0,
      lostInARow: 0,
    };
    this.#paths.set(via, path);
    return path;
  }
}

/**
 * How many repairs a group gets: as many as the measured loss asks for, none where they do not pay. They pay while losses are spread: what is
 * lost in bursts takes more of a group than repairs can give back.
 */
import { type MonotonicMs, plusMs } from "#kit";

/** Packets that the loss ratio looks back on, about. */
const LOOK_BACK_PACKETS = 8_000;
/** What a path is taken for before it is known, and how many packets that belief is worth: a hundred packets without a loss do not make it clean. */
const RATIO_UNKNOWN = 0.01;
const UNKNOWN_PACKETS = 200;
/** Less loss than this is not worth a repair. */
const RATIO_MIN = 0.001;
/** A group is to come whole but for this share of groups. */
const FAILURE_RATIO_MAX = 0.002;
/** Repairs to sources, at most: 1 for a small group all the same. */
const REPAIR_RATIO_MAX = 0.25;
/** Groups with losses that the verdict looks back on, about; how many there must be; the share of them that repairs have to save. */
const LOOK_BACK_GROUPS = 24;
const GROUPS_MIN = 8;
/** How many are enough where repairs have failed before. */
const GROUPS_AGAIN_MIN = 3;
const SAVED_RATIO_MIN = 0.4;
/** Without repairs for so long, ms, before they are tried again; doubled each time they fail at once. */
const PAUSE_MS = 30_000;
const PAUSE_MS_MAX = 240_000;

export interface Redundancy {
  /** Repairs for a group of so many sources. */
  repairsFor(sources: number, now: MonotonicMs): number;
  handlePackets(acked: number, lost: number): void;
  /** A group that lost something: whether its repairs gave it back. */
  handleGroup(isSaved: boolean, now: MonotonicMs): void;
}

export class AdaptiveRedundancy implements Redundancy {
  #packets = 0;
  #lost = 0;
  #saved = 0;
  #groups = 0;
  #pauseMs = PAUSE_MS;
  #pausedUntil: MonotonicMs | undefined;

  /** Share of packets that the path loses, 0..1. */
  get lossRatio(): number {
    return (this.#lost + RATIO_UNKNOWN * UNKNOWN_PACKETS) / (this.#packets + UNKNOWN_PACKETS);
  }

  isPaused(now: MonotonicMs): boolean {
    return this.#pausedUntil !== undefined && now < this.#pausedUntil;
  }

  repairsFor(sources: number, now: MonotonicMs): number {
    const ratio = this.lossRatio;
    if (ratio < RATIO_MIN || this.isPaused(now)) return 0;
    return repairsNeeded(sources, ratio, Math.max(1, Math.floor(sources * REPAIR_RATIO_MAX)));
  }

  handlePackets(acked: number, lost: number): void {
    this.#packets += acked + lost;
    this.#lost += lost;
    if (this.#packets <= LOOK_BACK_PACKETS) return;
    this.#packets /= 2;
    this.#lost /= 2;
  }

  handleGroup(isSaved: boolean, now: MonotonicMs): void {
    if (this.isPaused(now)) return;
    this.#groups++;
    if (isSaved) this.#saved++;
    if (this.#groups < (this.#pausedUntil === undefined ? GROUPS_MIN : GROUPS_AGAIN_MIN)) return;
    if (this.#saved < SAVED_RATIO_MIN * this.#groups) {
      this.#pausedUntil = plusMs(now, this.#pauseMs);
      this.#pauseMs = Math.min(PAUSE_MS_MAX, 2 * this.#pauseMs);
      this.#groups = 0;
      this.#saved = 0;
    } else if (this.#groups >= LOOK_BACK_GROUPS) {
      this.#pauseMs = PAUSE_MS;
      this.#pausedUntil = undefined;
      this.#groups /= 2;
      this.#saved /= 2;
    }
  }
}

/** A share of the sources, whatever is lost: what the adaptive one is measured against. */
export class FixedRedundancy implements Redundancy {
  readonly #ratio: number;

  constructor(ratio: number) {
    this.#ratio = ratio;
  }

  repairsFor(sources: number): number {
    return Math.ceil(sources * this.#ratio);
  }
  handlePackets(): void {}
  handleGroup(): void {}
}

/** Least r, `most` at most, for which more than r of `sources` + r packets are lost with less than FAILURE_RATIO_MAX, each by itself by `ratio`. */
export function repairsNeeded(sources: number, ratio: number, most: number): number {
  for (let repairs = 0; repairs < most; repairs++) {
    const packets = sources + repairs;
    let term = (1 - ratio) ** packets;
    let sum = term;
    for (let lost = 1; lost <= repairs; lost++) {
      term *= ((packets - lost + 1) / lost) * (ratio / (1 - ratio));
      sum += term;
    }
    if (1 - sum < FAILURE_RATIO_MAX) return repairs;
  }
  return most;
}

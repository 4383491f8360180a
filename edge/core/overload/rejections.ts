/**
 * An origin that rejects what is too much for it, or fails by it, and one that does so however little it is asked: a broken page must
 * not starve the rest of its site. Told apart by asking less; where that stopped it, the limit goes down by one with each rejection
 * and up by one when none came for a while.
 */
import type { MonotonicMs } from "#kit";
import type { Finding } from "./cohort.ts";

/** Share of rejections and failures from which a cohort is bad; the limit grows where there are fewer than the second. */
const BAD_SHARE = 0.2;
const BAD_SHARE_GROW = 0.02;
/** After a cut that found nothing the next suspicion has to wait, ms, twice as long each time. */
const REFUTED_MS_MIN = 4_000;
const REFUTED_MS_MAX = 60_000;
/** Where rejections go on below this share of the limit at which there were none, they do not come from too many requests. */
const GIVE_UP_SHARE = 0.5;
/** A cut has stopped rejections when this share of them is left, and so many were to be expected that it is no chance. */
const LEFT_BAD_SHARE = 0.25;
const EXPECTED_BAD_MIN = 4;
/** So many times the share of bad answers with which a cut found nothing is another matter. */
const WORSE = 2;
/** After rejections stopped the limit stays for so long, ms, twice as long when growing brings them back. */
const STEP_MS_MIN = 1_000;
const STEP_MS_MAX = 4_000;

/** A cut that has stopped rejections: the limit and their share before it, and the most that the limit has been since. */
interface Stopped {
  readonly limitBefore: number;
  readonly badShare: number;
  readonly limitMost: number;
}

export class Rejections {
  #stopped: Stopped | undefined;
  /** When the limit was last changed for them, and may grow again. */
  #steppedAt = Number.NEGATIVE_INFINITY;
  #growAt = Number.NEGATIVE_INFINITY;
  #stepMs = STEP_MS_MIN;
  /** From when on they may be suspected again, and the share that was refuted last. */
  #suspectAt: number;
  #refutedMs = REFUTED_MS_MIN;
  #badShareRefuted = 0;

  constructor(now: MonotonicMs) {
    this.#suspectAt = now;
  }

  /** Whether a cut has stopped them, so that the limit is theirs. */
  get areStopped(): boolean {
    return this.#stopped !== undefined;
  }
  /** What was found is old. */
  forget(): void {
    this.#stopped = undefined;
  }

  /** Whether so many are worth a cut. */
  areSuspect(badShare: number, now: MonotonicMs): boolean {
    return (
      badShare >= BAD_SHARE &&
      this.#stopped === undefined &&
      (now >= this.#suspectAt || badShare > WORSE * this.#badShareRefuted)
    );
  }

  mayGrow(badShare: number, now: MonotonicMs): boolean {
    return badShare <= BAD_SHARE_GROW && now >= this.#growAt;
  }

  /** The limit has grown by one while they are stopped. */
  handleGrown(limit: number, now: MonotonicMs): void {
    if (this.#stopped === undefined) return;
    this.#steppedAt = now;
    this.#refutedMs = REFUTED_MS_MIN;
    this.#stopped = { ...this.#stopped, limitMost: Math.max(this.#stopped.limitMost, limit) };
  }

  /**
   * One came to a request that was sent at `sentAt`. Where a cut has stopped them before, it is one place too many: the next limit;
   * the one from before the cut, `isRefuted`, when the cut had been lucky. Those sent before the last step say nothing new: undefined.
   */
  handleBad(
    limit: number,
    sentAt: MonotonicMs,
    now: MonotonicMs,
  ): { readonly limit: number; readonly isRefuted: boolean } | undefined {
    const stopped = this.#stopped;
    if (stopped === undefined || sentAt < this.#steppedAt) return undefined;
    this.#steppedAt = now;
    this.#growAt = now + this.#stepMs;
    this.#stepMs = Math.min(STEP_MS_MAX, 2 * this.#stepMs);
    const next = Math.floor(limit) - 1;
    if (next > GIVE_UP_SHARE * stopped.limitMost) return { limit: next, isRefuted: false };
    this.#stopped = undefined;
    this.#refute(stopped.badShare, now);
    return { limit: stopped.limitBefore, isRefuted: true };
  }

  /** Whether fewer came after a cut from `limitBefore` to `limit`, as they should if they come from too many requests. */
  judge(before: Finding, found: Finding, limitBefore: number, limit: number, now: MonotonicMs): boolean {
    const expected = before.badShare * found.ended;
    if (expected >= EXPECTED_BAD_MIN && found.badShare <= before.badShare * LEFT_BAD_SHARE) {
      this.#stopped = { limitBefore, badShare: before.badShare, limitMost: limit };
      this.#stepMs = STEP_MS_MIN;
      return true;
    }
    this.#refute(before.badShare, now);
    return false;
  }

  #refute(badShare: number, now: MonotonicMs): void {
    this.#badShareRefuted = badShare;
    this.#suspectAt = now + this.#refutedMs;
    this.#refutedMs = Math.min(REFUTED_MS_MAX, 2 * this.#refutedMs);
  }
}

/**
 * Splits a group of client blocks (same AS, same place) where measurements differ, and only there: each block joins the set that loses least by
 * deciding with it, or begins a new one when every set would lose more than is allowed. Heavy blocks come first, so that sets are made by them.
 */
import type { Profiles } from "./block-figures.ts";
import { jointLoss, ProfileSum } from "./site-profile.ts";

/** Sets of one group; a block beyond them joins the one that loses least. */
const SETS_MAX = 32;

export interface SplitSettings {
  /** The difference of travel times that is worth a set of its own, ms a request. */
  readonly differenceMsMax: number;
  /** Share of the demand that goes to the second site, 0..0.5. */
  readonly spillRatio: number;
}

export class GroupSplitter {
  readonly #profiles: Profiles;
  readonly #settings: SplitSettings;
  readonly #pool: ProfileSum[] = [];
  #used = 0;

  constructor(profiles: Profiles, settings: SplitSettings) {
    this.#profiles = profiles;
    this.#settings = settings;
  }

  /** Sets of the group that was split last; valid until the next one. */
  get sets(): readonly ProfileSum[] {
    return this.#pool.slice(0, this.#used);
  }

  /**
   * For each member (a profile with its weight, above 0) the number of its set, from 0.
   *
   * @param members in an order that does not hang on chance; ties in weight keep it
   */
  split(members: readonly { readonly profile: number; readonly weight: number }[]): Uint8Array {
    for (const set of this.#pool.slice(0, this.#used)) set.clear();
    this.#used = 0;
    const order = [...members.keys()].sort(
      (a, b) => (members[b]?.weight ?? 0) - (members[a]?.weight ?? 0) || a - b,
    );
    const setOf = new Uint8Array(members.length);
    for (const n of order) {
      const { profile, weight } = members[n] as (typeof members)[number];
      const set = this.#choose(profile, weight);
      (this.#pool[set] as ProfileSum).addProfile(this.#profiles, profile, weight);
      setOf[n] = set;
    }
    return setOf;
  }

  #choose(profile: number, weight: number): number {
    const { differenceMsMax, spillRatio } = this.#settings;
    let best = -1;
    let bestMs = Infinity;
    let bestShared = 0;
    let isAllowed = false;
    for (let n = 0; n < this.#used; n++) {
      const loss = jointLoss(this.#pool[n] as ProfileSum, this.#profiles, profile, weight, spillRatio);
      const lossMs = Math.max(loss.ownMs, loss.otherMs);
      if (lossMs > bestMs || (lossMs === bestMs && loss.shared <= bestShared)) continue;
      best = n;
      bestMs = lossMs;
      bestShared = loss.shared;
      isAllowed = lossMs <= differenceMsMax;
    }
    if (isAllowed || this.#used >= SETS_MAX) return best;
    if (this.#used === this.#pool.length) this.#pool.push(new ProfileSum(this.#profiles.siteCount));
    return this.#used++;
  }
}

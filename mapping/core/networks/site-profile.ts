/**
 * Whether two sets of clients may be treated alike: what a decision made for both costs each of them, by what was measured of them.
 * Of n travel times nothing but the decision counts: sets that differ by 50 ms everywhere still want the same cluster.
 */
import type { Profiles } from "./block-figures.ts";

/** What one set loses by a decision that is made for it together with another, ms a request. */
export interface JointLoss {
  readonly ownMs: number;
  readonly otherMs: number;
  /** Sites that both know. With fewer than 2 nothing was compared and both losses are 0. */
  readonly shared: number;
}

/** Two sites must be compared before a difference is seen. */
export const SHARED_SITES_MIN = 2;

const NOTHING_SHARED: JointLoss = { ownMs: 0, otherMs: 0, shared: 0 };

/** The travel times of one set by site, weighted sums, and how much weight knows each. */
export class ProfileSum {
  readonly sums: Float64Array;
  readonly weights: Float64Array;
  /** Sites that are known, in the order in which they came. */
  readonly sites: number[] = [];
  weight = 0;

  constructor(siteCount: number) {
    this.sums = new Float64Array(siteCount);
    this.weights = new Float64Array(siteCount);
  }

  clear(): void {
    for (const site of this.sites) {
      this.sums[site] = 0;
      this.weights[site] = 0;
    }
    this.sites.length = 0;
    this.weight = 0;
  }

  add(site: number, rttMs: number, weight: number): void {
    if (this.weights[site] === 0) this.sites.push(site);
    (this.sums[site] as number) += rttMs * weight;
    (this.weights[site] as number) += weight;
  }

  addProfile({ offsets, sites, rttMs }: Profiles, profile: number, weight: number): void {
    const end = offsets[profile + 1] as number;
    for (let at = offsets[profile] as number; at < end; at++)
      this.add(sites[at] as number, rttMs[at] as number, weight);
    this.weight += weight;
  }

  meanMs(site: number): number {
    return (this.sums[site] as number) / (this.weights[site] as number);
  }
}

/**
 * What a profile and a set lose when one decision is made for both: the two best sites by their weighted mean, over the sites that both know.
 *
 * @param spillRatio how much of the demand goes to the second site (the first one is full or dead), 0..0.5
 */
export function jointLoss(
  set: ProfileSum,
  { offsets, sites, rttMs }: Profiles,
  profile: number,
  weight: number,
  spillRatio: number,
): JointLoss {
  const own = new TwoBest();
  const other = new TwoBest();
  const joint = new TwoBest();
  let shared = 0;
  const end = offsets[profile + 1] as number;
  for (let at = offsets[profile] as number; at < end; at++) {
    const site = sites[at] as number;
    if (set.weights[site] === 0) continue;
    shared++;
    const ownMs = rttMs[at] as number;
    const otherMs = set.meanMs(site);
    own.offer(ownMs, ownMs, otherMs);
    other.offer(otherMs, ownMs, otherMs);
    joint.offer(weight * ownMs + set.weight * otherMs, ownMs, otherMs);
  }
  return shared < SHARED_SITES_MIN ? NOTHING_SHARED : { ...lossesOf(own, other, joint, spillRatio), shared };
}

/** What each of two sets loses by the joint choice over its own best one. */
export function lossesOf(
  own: TwoBest,
  other: TwoBest,
  joint: TwoBest,
  spillRatio: number,
): Pick<JointLoss, "ownMs" | "otherMs"> {
  const cost = (first: number, second: number): number => (1 - spillRatio) * first + spillRatio * second;
  return {
    ownMs: cost(joint.ownFirst, joint.ownSecond) - cost(own.ownFirst, own.ownSecond),
    otherMs: cost(joint.otherFirst, joint.otherSecond) - cost(other.otherFirst, other.otherSecond),
  };
}

/** The two lowest of what is offered, with what each of two sets pays there. Ties: the first that was offered. */
export class TwoBest {
  #first = Infinity;
  #second = Infinity;
  ownFirst = 0;
  ownSecond = 0;
  otherFirst = 0;
  otherSecond = 0;

  offer(value: number, ownMs: number, otherMs: number): void {
    if (value < this.#first) {
      this.#second = this.#first;
      this.ownSecond = this.ownFirst;
      this.otherSecond = this.otherFirst;
      this.#first = value;
      this.ownFirst = ownMs;
      this.otherFirst = otherMs;
    } else if (value < this.#second) {
      this.#second = value;
      this.ownSecond = ownMs;
      this.otherSecond = otherMs;
    }
  }
}

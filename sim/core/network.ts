/**
 * The virtual network: how long a message travels between two sites, or that it never arrives. Takes the world's truth about
 * its links; nothing that decides reads it.
 */
import type { MonotonicMs, Random } from "#kit";

/** What `WorldLinks` of #kit/world knows. */
export interface LinkTruth {
  between(from: string, to: string): { readonly rttMs: number; readonly lossRatio: number };
}

/** Queueing adds this share of the round-trip time on average (exponentially distributed). */
const JITTER_RATIO = 0.015;
/** Lowest retransmission timeout, ms (Linux, TCP_RTO_MIN); doubles with each loss of the same segment. */
const RTO_MIN_MS = 200;
/** A segment lost so often in a row does not arrive within any time limit of ours. */
const RETRANSMISSIONS_MAX = 8;

interface Pair {
  readonly from: string;
  readonly to: string;
  readonly rttMs: number;
  readonly lossRatio: number;
  readonly random: Random;
}

interface Damage {
  cuts: number;
  /** Since when it is cut, or since when it is whole again. */
  changedAt: number;
  /** Additional loss, one entry a fault. */
  readonly losses: number[];
}

export class Network {
  readonly #truth: LinkTruth;
  readonly #random: Random;
  readonly #pairs = new Map<string, Pair>();
  /** By unordered pair. */
  readonly #damage = new Map<string, Damage>();
  readonly counters = { messages: 0, cut: 0, lost: 0, retransmitted: 0 };

  constructor(truth: LinkTruth, random: Random) {
    this.#truth = truth;
    this.#random = random;
  }

  /** Cuts a link both ways; several cuts of one link add up. */
  cut(a: string, b: string, now: MonotonicMs): void {
    const damage = this.#damageOf(a, b);
    if (damage.cuts++ === 0) damage.changedAt = now;
  }
  mend(a: string, b: string, now: MonotonicMs): void {
    const damage = this.#damageOf(a, b);
    if (damage.cuts === 0) throw new RangeError(`Link ${a} ${b} is not cut`);
    if (--damage.cuts === 0) damage.changedAt = now;
  }
  addLoss(a: string, b: string, lossRatio: number, now: MonotonicMs): void {
    const damage = this.#damageOf(a, b);
    damage.losses.push(lossRatio);
    if (damage.cuts === 0) damage.changedAt = now;
  }
  removeLoss(a: string, b: string, lossRatio: number, now: MonotonicMs): void {
    const damage = this.#damageOf(a, b);
    const at = damage.losses.indexOf(lossRatio);
    if (at < 0) throw new RangeError(`Link ${a} ${b} does not lose ${lossRatio}`);
    damage.losses.splice(at, 1);
    if (damage.cuts === 0) damage.changedAt = now;
  }

  rttMs(a: string, b: string): number {
    return this.#pair(a, b).rttMs;
  }
  isCut(a: string, b: string): boolean {
    return (this.#damage.get(unordered(a, b))?.cuts ?? 0) > 0;
  }
  /** How long it has been cut, ms; 0 when it is not. */
  cutForMs(a: string, b: string, now: MonotonicMs): number {
    const damage = this.#damage.get(unordered(a, b));
    return damage !== undefined && damage.cuts > 0 ? now - damage.changedAt : 0;
  }
  /** How long it has been neither cut nor lossy, ms; Infinity when it never was. */
  wholeForMs(a: string, b: string, now: MonotonicMs): number {
    const damage = this.#damage.get(unordered(a, b));
    if (damage === undefined || damage.changedAt < 0) return Number.POSITIVE_INFINITY;
    return damage.cuts > 0 || damage.losses.length > 0 ? 0 : now - damage.changedAt;
  }

  /** One way of a message that is not sent again (UDP, ping), ms; undefined: it never arrives. */
  datagram(from: string, to: string): number | undefined {
    const pair = this.#pair(from, to);
    this.counters.messages++;
    const delayMs = this.#travelMs(pair);
    const isLost = pair.random.chance(this.#lossRatio(pair));
    if (this.isCut(from, to)) {
      this.counters.cut++;
      return undefined;
    }
    if (isLost) {
      this.counters.lost++;
      return undefined;
    }
    return delayMs;
  }

  /** One way of a message on a stream: a lost segment comes a retransmission later. Undefined: a black hole. */
  stream(from: string, to: string): number | undefined {
    const pair = this.#pair(from, to);
    this.counters.messages++;
    let delayMs = this.#travelMs(pair);
    const lossRatio = this.#lossRatio(pair);
    let timeoutMs = Math.max(RTO_MIN_MS, 1.5 * pair.rttMs);
    let losses = 0;
    while (pair.random.chance(lossRatio)) {
      this.counters.retransmitted++;
      if (++losses > RETRANSMISSIONS_MAX) return undefined;
      delayMs += timeoutMs;
      timeoutMs *= 2;
    }
    if (this.isCut(from, to)) {
      this.counters.cut++;
      return undefined;
    }
    return delayMs;
  }

  #travelMs(pair: Pair): number {
    return pair.rttMs / 2 + pair.random.exponential(pair.rttMs * JITTER_RATIO);
  }

  /** Loss is a share of packets either way, so one way has about half of it. */
  #lossRatio(pair: Pair): number {
    let arrives = 1 - pair.lossRatio / 2;
    for (const loss of this.#damage.get(unordered(pair.from, pair.to))?.losses ?? []) arrives *= 1 - loss;
    return 1 - arrives;
  }

  #pair(from: string, to: string): Pair {
    const key = `${from}|${to}`;
    let pair = this.#pairs.get(key);
    if (pair === undefined) {
      const { rttMs, lossRatio } = this.#truth.between(from, to);
      // A stream of its own for each direction: traffic elsewhere does not change what happens here.
      pair = { from, to, rttMs, lossRatio, random: this.#random.split(`link/${key}`) };
      this.#pairs.set(key, pair);
    }
    return pair;
  }

  #damageOf(a: string, b: string): Damage {
    const key = unordered(a, b);
    let damage = this.#damage.get(key);
    if (damage === undefined) {
      damage = { cuts: 0, changedAt: -1, losses: [] };
      this.#damage.set(key, damage);
    }
    return damage;
  }
}

function unordered(a: string, b: string): string {
  return a < b ? `${a}|${b}` : `${b}|${a}`;
}

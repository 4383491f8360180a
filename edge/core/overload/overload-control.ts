/**
 * Bounded concurrency of everything that is forwarded: a maximum for the process, one for each property, a share of what comes
 * while the process itself is late by its own work (loop-delay.ts), and a limiter for each next hop (origin-limiter.ts). Answers from the store
 * never come here, so they are served to the last.
 *
 * A machine without clock or randomness: `offer` decides at once or lets wait, `pollEvent` says what became of those.
 */
import { type MonotonicMs, TimerHeap } from "#kit";
import type { AnswerKind } from "./cohort.ts";
import { IdTable } from "./id-table.ts";
import { LoopDelay, type LoopDelaySettings } from "./loop-delay.ts";
import { OriginLimiter, type OriginLimiterSettings } from "./origin-limiter.ts";
import type { ShedReason } from "./reasons.ts";

export interface OverloadSettings extends OriginLimiterSettings, LoopDelaySettings {
  /** Forwarded requests at once, those that wait included; in the process, and of a property. */
  readonly serverMax: number;
  propertyMaxOf(property: string): number;
  /** Longest Retry-After before jitter, seconds. */
  readonly retryAfterSecondsMax: number;
}

export interface ForwardOffer {
  /** Names the next hop; requests with the same one share its limiter. */
  readonly hop: string;
  /** Whether its limit is found by measuring; else it is the maximum. */
  readonly isAdaptive: boolean;
  readonly property: string;
  /** Nobody waits for the answer: it takes spare room only. */
  readonly isBackground: boolean;
  /** It is for an answer that has begun: shed, what was done for that would be lost, and its client has to ask for all of it again. */
  readonly isBegun?: boolean | undefined;
}

export interface Shed {
  readonly reason: ShedReason;
  readonly retryAfterSeconds: number;
}

export type Verdict =
  | { readonly kind: "admitted" | "queued"; readonly id: number }
  | ({ readonly kind: "shed" } & Shed);

export interface OverloadEvent {
  readonly id: number;
  /** Undefined: admitted. */
  readonly shed: Shed | undefined;
}

export interface PropertyForwards {
  readonly active: number;
  readonly activeMax: number;
  readonly reason: ShedReason | undefined;
}

interface Entry {
  readonly property: string;
  readonly hop: string;
  readonly limiter: OriginLimiter;
}

/** Limiters that are kept; with more, those that are idle are forgotten. More than any server has origins. */
const LIMITERS_MAX = 4_096;
/** Weight of the newest request in the share that is shed for the process's own maxima. */
const SHED_WEIGHT = 0.02;

export class OverloadControl {
  readonly #settings: OverloadSettings;
  readonly #phaseMs: number;
  readonly #random: () => number;
  readonly #limiters = new Map<string, OriginLimiter>();
  readonly #entries = new IdTable<Entry>();
  readonly #countOf = new Map<string, number>();
  /** Deadlines of limiters, by hop. */
  readonly #timers = new TimerHeap();
  readonly #events: OverloadEvent[] = [];
  readonly #loopDelay: LoopDelay;
  #shedShare = 0;
  #deserted = 0;
  #nextId = 1;

  /** `random`: uniform in [0, 1), for jitter. `phaseMs`: see ConcurrencyLimit. */
  constructor(settings: OverloadSettings, random: () => number, phaseMs: number) {
    this.#settings = settings;
    this.#random = random;
    this.#phaseMs = phaseMs;
    this.#loopDelay = new LoopDelay(settings);
  }

  /** Requests that are forwarded or wait for it. */
  get active(): number {
    return this.#entries.size;
  }
  get queued(): number {
    return this.count((limiter) => limiter.queued);
  }
  /** Requests so far that went on when all who waited for their answers had left. */
  get deserted(): number {
    return this.#deserted;
  }
  /** Sum over the limiters. */
  count(of: (limiter: OriginLimiter) => number | boolean): number {
    let sum = 0;
    for (const limiter of this.#limiters.values()) sum += Number(of(limiter));
    return sum;
  }
  get loopDelay(): LoopDelay {
    return this.#loopDelay;
  }
  get limiters(): ReadonlyMap<string, OriginLimiter> {
    return this.#limiters;
  }

  /** What a property has on its way, may have, and why one more would be shed for that now. */
  forwardsOf(property: string): PropertyForwards {
    const active = this.#countOf.get(property) ?? 0;
    const activeMax = this.#settings.propertyMaxOf(property);
    const isFull = this.#entries.size >= this.#settings.serverMax;
    return {
      active,
      activeMax,
      reason: isFull ? "server-limit" : active >= activeMax ? "property-limit" : undefined,
    };
  }

  offer(offer: ForwardOffer, now: MonotonicMs): Verdict {
    const limiter = this.#limiterOf(offer, now);
    const { active, reason } = this.forwardsOf(offer.property);
    const isBusy = offer.isBegun !== true && this.#loopDelay.sheds(offer.isBackground);
    const own = reason ?? (isBusy ? "server-busy" : undefined);
    this.#shedShare += SHED_WEIGHT * ((own === undefined ? 0 : 1) - this.#shedShare);
    if (own !== undefined) return { kind: "shed", ...this.#shedOf(limiter, own) };
    const id = this.#nextId++;
    const answer = limiter.offer(id, offer.property, offer.isBackground, now);
    if (answer.kind === "shed") return { kind: "shed", ...this.#shedOf(limiter, answer.reason) };
    this.#entries.set(id, { property: offer.property, hop: offer.hop, limiter });
    this.#countOf.set(offer.property, active + 1);
    this.#settle(offer.hop, limiter);
    return { kind: answer.kind, id };
  }

  /** The head of the answer came; `kind` is what it says about the origin. */
  handleHead(id: number, kind: AnswerKind, now: MonotonicMs): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    entry.limiter.handleHead(id, kind, now);
    this.#settle(entry.hop, entry.limiter);
  }

  /** The answer has ended or its reader has left it. */
  handleEnd(id: number, now: MonotonicMs): void {
    const entry = this.#leave(id);
    if (entry === undefined) return;
    entry.limiter.handleEnd(id, now);
    this.#settle(entry.hop, entry.limiter);
  }

  /** Head and end at once: all of the answer came. */
  handleAnswer(id: number, kind: AnswerKind, now: MonotonicMs): void {
    const entry = this.#leave(id);
    if (entry === undefined) return;
    entry.limiter.handleAnswer(id, kind, now);
    this.#settle(entry.hop, entry.limiter);
  }

  /** No answer came. `mayStillWork`: the origin has the request and may not notice that nobody waits for it. */
  handleFailure(id: number, kind: AnswerKind, mayStillWork: boolean, now: MonotonicMs): void {
    const entry = this.#leave(id);
    if (entry === undefined) return;
    entry.limiter.handleFailure(id, kind, mayStillWork, now);
    this.#settle(entry.hop, entry.limiter);
  }

  /** Whoever waited for the answer has gone, and the request goes on. */
  handleDesertion(id: number, now: MonotonicMs): void {
    if (this.#entries.get(id)?.limiter.handleDesertion(id, now) === true) this.#deserted++;
  }

  /** Whoever waited in the queue has gone. */
  handleCancel(id: number, now: MonotonicMs): void {
    const entry = this.#leave(id);
    if (entry === undefined) return;
    entry.limiter.handleCancel(id, now);
    this.#settle(entry.hop, entry.limiter);
  }

  /** When `handleTimeout` is due; undefined: not until something else happens. */
  pollTimeout(): MonotonicMs | undefined {
    return this.#timers.next();
  }

  handleTimeout(now: MonotonicMs): void {
    for (let hop = this.#timers.take(now); hop !== undefined; hop = this.#timers.take(now)) {
      const limiter = this.#limiters.get(hop);
      if (limiter === undefined) continue;
      limiter.handleTimeout(now);
      this.#settle(hop, limiter);
    }
  }

  /** What became of those that waited, in order. */
  pollEvent(): OverloadEvent | undefined {
    return this.#events.shift();
  }

  /** Takes over a limiter's events and its next deadline. */
  #settle(hop: string, limiter: OriginLimiter): void {
    for (let event = limiter.pollEvent(); event !== undefined; event = limiter.pollEvent()) {
      if (event.shed !== undefined) this.#leave(event.id);
      this.#events.push({
        id: event.id,
        shed: event.shed === undefined ? undefined : this.#shedOf(limiter, event.shed),
      });
    }
    const at = limiter.pollTimeout();
    if (at === undefined) this.#timers.delete(hop);
    else this.#timers.set(hop, at);
  }

  #limiterOf(offer: ForwardOffer, now: MonotonicMs): OriginLimiter {
    const known = this.#limiters.get(offer.hop);
    if (known !== undefined) return known;
    if (this.#limiters.size >= LIMITERS_MAX)
      for (const [hop, limiter] of this.#limiters) if (limiter.isIdle) this.#limiters.delete(hop);
    const limiter = new OriginLimiter(this.#settings, offer.isAdaptive, now, this.#phaseMs);
    this.#limiters.set(offer.hop, limiter);
    return limiter;
  }

  #leave(id: number): Entry | undefined {
    const entry = this.#entries.get(id);
    if (entry === undefined) return undefined;
    this.#entries.delete(id);
    const left = (this.#countOf.get(entry.property) ?? 1) - 1;
    if (left === 0) this.#countOf.delete(entry.property);
    else this.#countOf.set(entry.property, left);
    return entry;
  }

  #shedOf(limiter: OriginLimiter, reason: ShedReason): Shed {
    return { reason, retryAfterSeconds: this.#retryAfterSeconds(limiter) };
  }

  /**
   * When to come again (RFC 9110, section 10.2.3). If a share s is shed, its clients come back spread over a second or more for
   * each served one: 1 / (1 - s) seconds and up to twice that, by lot, so that they do not come back together.
   */
  #retryAfterSeconds(limiter: OriginLimiter): number {
    const share = Math.min(0.99, Math.max(limiter.shedShare, this.#shedShare));
    const seconds = Math.min(this.#settings.retryAfterSecondsMax, 1 / (1 - share));
    return Math.max(1, Math.round(seconds * (1 + this.#random())));
  }
}

/**
 * Who may ask one next hop now, who waits for a moment, and who is shed.
 *
 * The limit is adaptive for origins (concurrency-limit.ts) and fixed for servers of ours, which shed for themselves. Behind it
 * stands a short fair queue. A request that would wait too long is shed when it arrives, by what the queue ahead of it and
 * the present service time say: whoever asked learns it at once, and no place is held by one who will have left. As
 * with CoDel (RFC 8289) bursts may wait for longer than a queue that stands. At an origin that gives no sign of having too much
 * the limit grows with each answer, and both the wait that is foreseen and the one that is allowed are measured by what an answer takes.
 *
 * A request takes its place until the answer has ended, or for a second after its head: then the origin's work is done and what
 * is left depends on the reader. One that is given up keeps its place for as long as the origin would have needed, since many
 * origins do not notice; if its client left sooner than an answer takes, also until a later one is answered, so that nobody can drive
 * load into an origin by asking and leaving. Where all clients wait for as long and leave no later answer may ever come. One that is far
 * slower than others that came after it (a long poll, a lost packet) gives its place back and counts only for the maximum.
 *
 * How long clients wait at most shows where they leave (patience.ts): then nobody is sent, or made to wait, who will have left by the answer.
 * While somebody has waited for longer than a burst may, or in a queue that stands while the limit grows, the newest one goes next: who came first has the least time left, and an origin
 * that is asked for those alone works for nobody (adaptive LIFO: Maurer, "Fail at Scale", ACM Queue 13(8), 2015). So it must not wait for
 * the first of them to leave: until then all that was sent is lost.
 */
import { type MonotonicMs, monotonicMs, TimerHeap } from "#kit";
import type { AnswerKind, Sample } from "./cohort.ts";
import { ConcurrencyLimit, type ConcurrencyLimitSettings } from "./concurrency-limit.ts";
import { FairQueue } from "./fair-queue.ts";
import { IdTable } from "./id-table.ts";
import { Patience } from "./patience.ts";
import type { ShedReason } from "./reasons.ts";

export interface OriginLimiterSettings extends ConcurrencyLimitSettings {
  /** Requests that an origin that gives no sign of having too much may be asked in one instant, whatever its limit. */
  readonly burstMax: number;
  /** Places in the queue. */
  readonly queueMax: number;
  /** How long a request may wait in a queue that stands, ms. */
  readonly queueDelayMs: number;
  /** How long a request of a burst may wait, ms; also how long a queue may last before it counts as standing. */
  readonly queueDelayBurstMs: number;
}

export type Offer =
  | { readonly kind: "admitted" }
  /** An event says later what became of it. */
  | { readonly kind: "queued" }
  | { readonly kind: "shed"; readonly reason: ShedReason };

export interface LimiterEvent {
  readonly id: number;
  /** Undefined: admitted. */
  readonly shed: ShedReason | undefined;
}

/** Who waits is shed after so many times what was foreseen at most: a late refusal serves nobody. */
const PATIENCE_RATIO = 2;
/** At an origin that does not have too much, waiting may take so many of its own service times: then it was as slow without. */
const UNHURT_SERVICE_TIMES = 2;
/**
 * When an origin is silent its answers may take longer than before, up to so many ms. Who waits then is given the time that the
 * first answers, those of an experiment, and half as much again take.
 */
const DOUBT_MS_MAX = 1_500;
const DOUBT_RATIO = 2.5;
/** The queue is short, and a burst may come again, when the first one waits for such a share of what it may in one that stands. */
const SHORT_SHARE = 0.5;
/** Service time of an origin that has not answered yet, ms. */
const UNKNOWN_SERVICE_MS = 500;
/** After its head an answer keeps its place for so long at most, ms. */
const STREAM_MS = 1_000;
/** A request that is given up keeps its place for no longer than this from then on, ms: then nothing says that it will end. */
const ABANDONED_MS_MAX = 10_000;
/** It keeps it for so many times what an answer takes, counted from when it was sent, and for so many more from when it is given up. */
const ABANDONED_SERVICE_TIMES = 1.5;
const ABANDONED_SERVICE_TIMES_MORE = 0.5;
/** A request is slow, when others came and went meanwhile, beyond this and beyond so many service times, ms. */
const SLOW_MS_MIN = 2_000;
const SLOW_SERVICE_TIMES = 8;
/** When nothing at all comes back for so long, ms, or so many service times, one more is let through to see. */
const STALL_MS_MIN = 1_000;
const STALL_SERVICE_TIMES = 4;
/** An answer may take so many times what it does on the mean, for one whose client is to be there when it comes. */
const PATIENCE_SERVICE_TIMES = 1.25;
/**
 * What is foreseen is a mean, and who has waited in vain is told late: so it may be such a share of the time that there is. Where that is
 * little, what waits in the origin keeps it busy meanwhile.
 */
const FORESEEN_SHARE = 0.3;
/** Weights of the newest one: answer in the mean service time, gap between freed places, request in the share that is shed. */
const SERVICE_WEIGHT = 0.1;
const GAP_WEIGHT = 0.05;
/** Places come at random: only one that takes longer than so many mean gaps says that they come more slowly. */
const OVERDUE_GAPS = 4;
const SHED_WEIGHT = 0.02;
/** What comes within such a share of what an answer takes, or within so many ms, is one burst. */
const BURST_SHARE = 0.25;
const INSTANT_MS = 20;
/** What requests in the background may use of the limit. */
const BACKGROUND_SHARE = 0.5;

interface Sent {
  /** Those that take a place are a list in order of sending. */
  isPlaced: boolean;
  before: Sent | undefined;
  after: Sent | undefined;
  readonly sentAt: MonotonicMs;
  /** When its client began to wait. */
  readonly offeredAt: MonotonicMs;
  /** For the adaptive limit. */
  sample: Sample | undefined;
  /** Whether it was the only one when it was sent. */
  readonly isAlone: boolean;
  hasHead: boolean;
  isAbandoned: boolean;
  /** Nobody waits for it any more, and it goes on. */
  isDeserted: boolean;
}

export class OriginLimiter {
  readonly #settings: OriginLimiterSettings;
  readonly #limit: ConcurrencyLimit | undefined;
  readonly #queue: FairQueue;
  readonly #patience = new Patience();
  readonly #queuedAt = new Map<number, MonotonicMs>();
  /** All that have not ended. */
  readonly #sent = new IdTable<Sent>();
  readonly #placed = new Placed();
  /** Those that were given up, and when their place is free at the earliest. */
  readonly #abandoned = new Map<number, MonotonicMs>();
  readonly #timers = new TimerHeap();
  readonly #events: LimiterEvent[] = [];
  /** Mean time that a place is taken, ms. */
  #serviceMs: number | undefined;
  /** What the last good answer to a request took that was the only one when it was sent, ms. */
  #aloneMs: number | undefined;
  /** Mean time between two places that become free while requests wait, ms, and when the last one did. */
  #gapMs: number | undefined;
  #freedAt: MonotonicMs | undefined;
  /** When somebody began to wait for a place, or the last place became free, whichever is later. */
  #waitingSince: MonotonicMs;
  #newestAnsweredSentAt = Number.NEGATIVE_INFINITY;
  #answeredAt: MonotonicMs;
  /** When the queue was last short, or not there. */
  #shortAt: MonotonicMs;
  #shedShare = 0;

  /** `isAdaptive`: whether the limit is found by measuring; else it is `limitMax`. For `phaseMs` see ConcurrencyLimit. */
  constructor(settings: OriginLimiterSettings, isAdaptive: boolean, now: MonotonicMs, phaseMs: number) {
    this.#settings = settings;
    this.#limit = isAdaptive ? new ConcurrencyLimit(settings, now, phaseMs) : undefined;
    this.#queue = new FairQueue(settings);
    this.#answeredAt = now;
    this.#shortAt = now;
    this.#waitingSince = now;
  }

  /** Requests that may be in flight. */
  get limit(): number {
    return this.#limit?.limit ?? this.#settings.limitMax;
  }
  /** Requests that take a place under the limit. */
  get inFlight(): number {
    return this.#placed.size;
  }
  get queued(): number {
    return this.#queue.size;
  }
  /** Share of the newest requests, about fifty, that were shed, 0..1. */
  get shedShare(): number {
    return this.#shedShare;
  }
  get baselineMs(): number | undefined {
    return this.#limit?.baselineMs;
  }
  /** Whether nothing is in flight or waits. */
  get isIdle(): boolean {
    return this.#sent.size === 0 && this.#queue.size === 0;
  }
  get limitCounters(): ConcurrencyLimit["counters"] | undefined {
    return this.#limit?.counters;
  }

  /** A request wants to go. `id` is new; `isBackground`: nobody waits for it. */
  offer(id: number, property: string, isBackground: boolean, now: MonotonicMs): Offer {
    const reason = this.#place(id, property, isBackground, now);
    const isShed = reason !== "admitted" && reason !== "queued";
    if (!isBackground) this.#shedShare += SHED_WEIGHT * (Number(isShed) - this.#shedShare);
    return isShed ? { kind: "shed", reason } : { kind: reason };
  }

  #place(
    id: number,
    property: string,
    isBackground: boolean,
    now: MonotonicMs,
  ): "admitted" | "queued" | ShedReason {
    if (this.#sent.size >= this.#settings.limitMax) return "origin-limit";
    if (isBackground) {
      // Never before somebody who waits, and not the last places either.
      if (this.#queue.size > 0 || this.#placed.size >= Math.ceil(this.limit * BACKGROUND_SHARE))
        return "origin-limit";
      this.#send(id, now);
      return "admitted";
    }
    if (this.#queue.size === 0) {
      this.#shortAt = now;
      if (this.#placed.size >= this.limit) this.#passOver(now);
      if (this.#placed.size < this.limit || this.#isStalled(now)) {
        this.#send(id, now);
        return "admitted";
      }
    }
    // Told in either case: what is answered beyond the limit says that it may grow.
    this.#limit?.handleBlocked(now);
    if (this.#queue.size === 0 && this.#isBurst(now)) {
      this.#send(id, now);
      return "admitted";
    }
    if (!this.#queue.mayEnter(property)) return "queue-full";
    if (this.#delayOf(property, now) > this.#delayMsMax(now)) return "queue-delay";
    if (this.#queue.size === 0) this.#waitingSince = now;
    this.#queue.push(id, property);
    this.#queuedAt.set(id, now);
    this.#timers.set(String(id), monotonicMs(now + this.#patienceMs(now)));
    return "queued";
  }

  /** The head of an answer came. Its content is on its way. */
  handleHead(id: number, kind: AnswerKind, now: MonotonicMs): void {
    const sent = this.#sent.get(id);
    if (sent === undefined || sent.hasHead || sent.isAbandoned) return;
    sent.hasHead = true;
    this.#learn(sent, kind, now);
    this.#timers.set(String(id), monotonicMs(now + STREAM_MS));
  }

  /** The answer has ended, or its reader has given it up: with the head there the origin's work is done. */
  handleEnd(id: number, now: MonotonicMs): void {
    const sent = this.#sent.get(id);
    if (sent === undefined || sent.isAbandoned) return;
    this.#free(id, now);
    this.#drain(now);
  }

  /** As {@link handleHead} and {@link handleEnd}: all of the answer came. */
  handleAnswer(id: number, kind: AnswerKind, now: MonotonicMs): void {
    const sent = this.#sent.get(id);
    if (sent === undefined || sent.isAbandoned) return;
    if (!sent.hasHead) this.#learn(sent, kind, now);
    this.#free(id, now);
    this.#drain(now);
  }

  /**
   * No answer came. `mayStillWork`: the origin has the request and may go on with it though nobody waits. `kind`: what it says about
   * the origin.
   */
  handleFailure(id: number, kind: AnswerKind, mayStillWork: boolean, now: MonotonicMs): void {
    const sent = this.#sent.get(id);
    if (sent === undefined || sent.isAbandoned) return;
    if (!sent.hasHead) this.#learn(sent, kind, now);
    if (!mayStillWork || sent.hasHead || this.#serviceMs === undefined) {
      this.#free(id, now);
      this.#drain(now);
      return;
    }
    sent.isAbandoned = true;
    if (kind === "abandoned") this.#handleLeft(sent.offeredAt, now);
    const untilMs = Math.max(
      sent.sentAt + ABANDONED_SERVICE_TIMES * this.#serviceMs,
      now + ABANDONED_SERVICE_TIMES_MORE * this.#serviceMs,
    );
    const untilMsMax = now + ABANDONED_MS_MAX;
    const until = monotonicMs(Math.min(untilMs, untilMsMax));
    this.#abandoned.set(id, until);
    const hadTime = now - sent.offeredAt >= this.#serviceMs;
    this.#timers.set(String(id), hadTime ? until : monotonicMs(untilMsMax));
  }

  /** All who waited for it have left, and it goes on: that shows how long they wait. False: its answer is there already. */
  handleDesertion(id: number, now: MonotonicMs): boolean {
    const sent = this.#sent.get(id);
    if (sent === undefined || sent.hasHead || sent.isAbandoned || sent.isDeserted) return false;
    sent.isDeserted = true;
    this.#handleLeft(sent.offeredAt, now);
    return true;
  }

  /** Frees the places of those given up whose service time is over, once one that was sent after them has its answer. */
  #freeAbandoned(now: MonotonicMs): void {
    for (const [id, earliest] of this.#abandoned) {
      const sent = this.#sent.get(id);
      if (now >= earliest && sent !== undefined && sent.sentAt < this.#newestAnsweredSentAt)
        this.#free(id, now);
    }
  }

  /** Somebody who waited has gone. */
  handleCancel(id: number, now: MonotonicMs): void {
    if (!this.#queue.delete(id)) return;
    this.#handleLeft(this.#queuedAt.get(id) ?? now, now);
    this.#queuedAt.delete(id);
    this.#timers.delete(String(id));
  }

  /** A client that waited since `offeredAt` has gone; sooner than an answer takes it tells nothing. */
  #handleLeft(offeredAt: MonotonicMs, now: MonotonicMs): void {
    const waitedMs = now - offeredAt;
    if (waitedMs >= (this.#serviceMs ?? 0)) this.#patience.handleEnd(waitedMs, true, now);
  }

  /** When `handleTimeout` is due; undefined: not until something else happens. */
  pollTimeout(): MonotonicMs | undefined {
    const next = this.#timers.next();
    if (this.#queue.size === 0) return next;
    const stallAt = monotonicMs(this.#answeredAt + this.#stallMs());
    return next === undefined || stallAt < next ? stallAt : next;
  }

  handleTimeout(now: MonotonicMs): void {
    for (let text = this.#timers.take(now); text !== undefined; text = this.#timers.take(now)) {
      const id = Number(text);
      const sent = this.#sent.get(id);
      if (sent === undefined) {
        const queuedAt = this.#queuedAt.get(id);
        if (queuedAt === undefined) continue;
        // By now it is known that the origin takes its time for everybody.
        const until = queuedAt + this.#patienceMs(now);
        if (until > now) {
          this.#timers.set(text, monotonicMs(until));
          continue;
        }
        // Those ahead took longer than was foreseen.
        this.#queue.delete(id);
        this.#queuedAt.delete(id);
        this.#shedShare += SHED_WEIGHT * (1 - this.#shedShare);
        this.#events.push({ id, shed: "queue-delay" });
      } else if (sent.isAbandoned) this.#free(id, now);
      else this.#unplace(sent, now);
    }
    this.#drain(now);
    if (this.#queue.size > 0 && this.#isStalled(now)) while (this.#queue.size > 0 && !this.#sendNext(now));
  }

  /** What became of requests that waited, in order. */
  pollEvent(): LimiterEvent | undefined {
    return this.#events.shift();
  }

  #send(id: number, now: MonotonicMs, offeredAt: MonotonicMs = now): void {
    // Silence before the first of them was nobody's fault.
    if (this.#placed.size === 0) this.#answeredAt = now;
    const isAlone = this.#placed.size === 0;
    const sent: Sent = {
      isPlaced: false,
      before: undefined,
      after: undefined,
      sentAt: now,
      offeredAt,
      sample: undefined,
      isAlone,
      hasHead: false,
      isAbandoned: false,
      isDeserted: false,
    };
    this.#sent.set(id, sent);
    this.#placed.add(sent);
    sent.sample = this.#limit?.handleSent(this.#placed.size, now);
  }

  /** Whether one was sent, and not shed because its client would leave before its answer. */
  #sendNext(now: MonotonicMs): boolean {
    const id = this.#queue.shift(this.#isNewestFirst(now));
    if (id === undefined) return false;
    const queuedAt = this.#queuedAt.get(id);
    this.#queuedAt.delete(id);
    this.#timers.delete(String(id));
    if (now - (queuedAt ?? now) > this.#waitMsMax(now)) {
      this.#shedShare += SHED_WEIGHT * (1 - this.#shedShare);
      this.#events.push({ id, shed: "queue-delay" });
      return false;
    }
    const [oldestAt = queuedAt ?? now] = this.#queuedAt.values();
    if (now - oldestAt <= SHORT_SHARE * this.#settings.queueDelayMs) this.#shortAt = now;
    this.#send(id, now, queuedAt ?? now);
    this.#events.push({ id, shed: undefined });
    return true;
  }

  /**
   * Whether the queue has stood for so long that who came first has little time left. While the limit grows sooner: what is sent too much
   * then waits in the origin as well, before any answer has told so.
   */
  #isNewestFirst(now: MonotonicMs): boolean {
    const [oldestAt = now] = this.#queuedAt.values();
    const { queueDelayMs, queueDelayBurstMs } = this.#settings;
    return now - oldestAt > (this.#limit?.isGrowing(now) === true ? queueDelayMs : queueDelayBurstMs);
  }

  #drain(now: MonotonicMs): void {
    if (this.#queue.size === 0) return;
    if (this.#placed.size >= this.limit) this.#passOver(now);
    while (
      this.#queue.size > 0 &&
      this.#placed.size < this.limit &&
      this.#sent.size < this.#settings.limitMax
    )
      this.#sendNext(now);
    if (this.#queue.size > 0) this.#limit?.handleBlocked(now);
  }

  #learn(sent: Sent, kind: AnswerKind, now: MonotonicMs): void {
    const latencyMs = now - sent.sentAt;
    if (kind === "good") {
      this.#serviceMs =
        this.#serviceMs === undefined
          ? latencyMs
          : this.#serviceMs + SERVICE_WEIGHT * (latencyMs - this.#serviceMs);
      if (sent.isAlone) this.#aloneMs = latencyMs;
      this.#newestAnsweredSentAt = Math.max(this.#newestAnsweredSentAt, sent.sentAt);
      if (this.#abandoned.size > 0) this.#freeAbandoned(now);
    }
    if (kind !== "failed") this.#answeredAt = now;
    if (kind !== "abandoned" && !sent.isDeserted) this.#patience.handleEnd(now - sent.offeredAt, false, now);
    if (sent.sample !== undefined) this.#limit?.handleEnd(sent.sample, kind, now);
  }

  #free(id: number, now: MonotonicMs): void {
    const sent = this.#sent.get(id);
    if (sent !== undefined) this.#unplace(sent, now);
    this.#sent.delete(id);
    this.#abandoned.delete(id);
    this.#timers.delete(String(id));
  }

  #unplace(sent: Sent, now: MonotonicMs): void {
    if (!this.#placed.delete(sent)) return;
    this.#waitingSince = now;
    if (this.#queue.size === 0) {
      this.#freedAt = undefined;
      return;
    }
    if (this.#freedAt !== undefined) {
      const gapMs = now - this.#freedAt;
      this.#gapMs = this.#gapMs === undefined ? gapMs : this.#gapMs + GAP_WEIGHT * (gapMs - this.#gapMs);
    }
    this.#freedAt = now;
  }

  /**
   * Whether an origin that gives no sign of having too much, or was not measured since its answers take so long, is asked so many in one
   * instant that none of them can have waited for the others or have said anything: they are let go together, in place of a part of them an
   * answer later. A load that merely comes too fast reaches the limit over a longer time, and is held to it.
   */
  #isBurst(now: MonotonicMs): boolean {
    const limit = this.#limit;
    const aloneMs = this.#aloneMs ?? limit?.serviceMs;
    if (aloneMs === undefined || limit === undefined) return false;
    if (!limit.isUnmeasured(now) && !limit.isOutdatedBy(aloneMs, now) && !limit.isUnhurt(now)) return false;
    if (this.#placed.size >= Math.min(this.#settings.burstMax, this.#settings.limitMax)) return false;
    const instantMs = Math.max(INSTANT_MS, BURST_SHARE * aloneMs);
    for (let sent = this.#placed.first; sent !== undefined; sent = sent.after)
      if (!sent.hasHead) return now - sent.sentAt <= instantMs;
    return false;
  }

  /** Takes the places of requests that others, sent later, have overtaken by far. */
  #passOver(now: MonotonicMs): void {
    const slowMs = Math.max(SLOW_MS_MIN, SLOW_SERVICE_TIMES * (this.#serviceMs ?? 0));
    for (let sent = this.#placed.first; sent !== undefined; sent = this.#placed.first) {
      if (now - sent.sentAt < slowMs || sent.sentAt >= this.#newestAnsweredSentAt - slowMs / 2) return;
      this.#placed.delete(sent);
    }
  }

  #stallMs(): number {
    return Math.max(STALL_MS_MIN, STALL_SERVICE_TIMES * (this.#serviceMs ?? 0));
  }

  /** Whether nothing has come back for long; true once for each such time. */
  #isStalled(now: MonotonicMs): boolean {
    if (now < this.#answeredAt + this.#stallMs()) return false;
    this.#answeredAt = now;
    return this.#sent.size < this.#settings.limitMax;
  }

  /** How long a request of the property would wait, ms, by how many are ahead of it and how fast places become free. */
  #delayOf(property: string, now: MonotonicMs): number {
    const excess = Math.max(0, this.#placed.size - this.limit);
    const ahead = this.#queue.aheadOf(property) + 1 + excess;
    const serviceMs = this.#limit?.serviceMs ?? this.#serviceMs ?? 0;
    const silentMs = this.#queue.size > 0 ? now - this.#waitingSince : 0;
    if (this.#limit?.isGrowing(now) === true)
      return Math.max(
        serviceMs * this.#limit.roundsOf(ahead),
        silentMs - Math.max(serviceMs, this.#doubtMs(now)),
      );
    const gapMs =
      this.#queue.size > 0 && this.#gapMs !== undefined
        ? this.#gapMs
        : (this.#serviceMs ?? 0) / Math.max(1, this.#placed.size);
    // A place that is long overdue: what was measured before is over.
    return ahead * Math.max(gapMs, (silentMs - serviceMs) / OVERDUE_GAPS);
  }

  /** How long a request may wait for its place so that its client is still there when the answer comes, as far as that is known, ms. */
  #waitMsMax(now: MonotonicMs): number {
    const patienceMs = this.#patience.ms(now) ?? Number.POSITIVE_INFINITY;
    return Math.max(0, patienceMs - PATIENCE_SERVICE_TIMES * (this.#serviceMs ?? 0));
  }

  /** How long a request may have to wait as it looks when it comes, ms. */
  #delayMsMax(now: MonotonicMs): number {
    return Math.min(FORESEEN_SHARE * this.#waitMsMax(now), this.#allowedDelayMs(now));
  }

  /** The same by what the origin bears, ms. */
  #allowedDelayMs(now: MonotonicMs): number {
    const { queueDelayMs, queueDelayBurstMs } = this.#settings;
    if (this.#limit?.isGrowing(now) === true)
      return Math.max(
        queueDelayBurstMs,
        UNHURT_SERVICE_TIMES * (this.#limit.serviceMs ?? UNKNOWN_SERVICE_MS),
      );
    return now - this.#shortAt < queueDelayBurstMs
      ? Math.max(queueDelayBurstMs, this.#limit?.serviceMs ?? 0)
      : queueDelayMs;
  }

  /** How long an answer takes by now, as a silence says, ms. */
  #doubtMs(now: MonotonicMs): number {
    return Math.min(this.#limit?.doubtMs(now) ?? 0, DOUBT_MS_MAX);
  }

  /** How long it does wait at most, ms. */
  #patienceMs(now: MonotonicMs): number {
    const { queueDelayBurstMs } = this.#settings;
    return Math.max(
      PATIENCE_RATIO * Math.max(queueDelayBurstMs, this.#delayMsMax(now)),
      DOUBT_RATIO * this.#doubtMs(now),
    );
  }
}

/** Those that take a place under the limit, in order of sending. */
class Placed {
  first: Sent | undefined;
  #last: Sent | undefined;
  size = 0;

  add(sent: Sent): void {
    sent.isPlaced = true;
    sent.before = this.#last;
    if (this.#last === undefined) this.first = sent;
    else this.#last.after = sent;
    this.#last = sent;
    this.size++;
  }

  /** Whether it took one. */
  delete(sent: Sent): boolean {
    if (!sent.isPlaced) return false;
    const { before, after } = sent;
    if (before === undefined) this.first = after;
    else before.after = after;
    if (after === undefined) this.#last = before;
    else after.before = before;
    sent.isPlaced = false;
    sent.before = undefined;
    sent.after = undefined;
    this.size--;
    return true;
  }
}

/**
 * BBR (draft-cardwell-iccrg-bbr-congestion-control): sends at the rate that the path was seen to deliver, and keeps as much under way as rate and shortest
 * round trip say. Its first version takes what CUBIC flows beside it have; so what is lost while a queue stands at the bottleneck, or is more than
 * chance loses, binds what is under way as CUBIC would, until that bound is far away again. Random loss without a queue costs nothing.
 */
import { type MonotonicMs, plusMs } from "#kit";
import { type AckSample, type CongestionControl, INITIAL_PACKETS, INITIAL_RTT_MS } from "./congestion.ts";
import { Cubic } from "./cubic.ts";

/** 2 / ln 2: doubles the rate each round trip. */
const STARTUP_GAIN = 2.885;
const DRAIN_GAIN = 1 / STARTUP_GAIN;
/** Eight phases of a round trip: try for more, give back what piled up, cruise. */
const CYCLE_GAINS = [1.25, 0.75, 1, 1, 1, 1, 1, 1] as const;
const WINDOW_GAIN = 2;
/** Pace while the rate is only known to be at least so much, since there was never more to send: a transfer shall not take a round trip to leave. */
const LOWER_BOUND_GAIN = 2;
const WINDOW_PACKETS_MIN = 4;
/** Rate samples count for so many round trips, the shortest round trip for so long, ms. */
const RATE_ROUNDS = 10;
const RTT_MIN_MS = 10_000;
const PROBE_RTT_MS = 200;
/** What stays under way meanwhile, of the product of rate and round trip (second version). */
const PROBE_RTT_GAIN = 0.5;
/** A round trip that is longer than the shortest by this part of it at most has met no queue worth a look. */
const RTT_MIN_SLACK = 1 / 16;
/** The path is full when three round trips did not raise the rate by a quarter. */
const FULL_ROUNDS = 3;
const FULL_GROWTH = 1.25;
/** Share of a round trip's packets, lost, that means the bottleneck's queue rather than the path's noise; and by how many deviations it must be beyond it. */
const LOSS_RATIO_MAX = 0.05;
const LOSS_DEVIATIONS = 3;
/** Without a queue that is seen, so many round trips in a row: a burst of losses is over in one. */
const LOSS_ROUNDS = 2;
/** A queue stands when no packet of a round trip was faster than the shortest one and this part of it. */
const QUEUE_PART = 1 / 8;
/** Acknowledgements that come together after a while of none, since an end is late: what they bring beyond the rate may be under way as well; remembered for so many round trips. */
const EXTRA_ROUNDS = 10;
/** What the rate gives in so long at most, ms. */
const EXTRA_MS_MAX = 100;
/** The bound is dropped when it is so many times what the path holds. */
const BOUND_PRODUCTS = 4;

/** Below this part of what the path holds it grows fast while no queue is met; near it others may have their share. */
const BOUND_ROOM = 0.8;

type State = "startup" | "drain" | "probe-rate" | "probe-rtt";

export class Bbr implements CongestionControl {
  readonly #packetBytes: number;
  #state: State = "startup";
  /** Greatest rate of each of the last rounds that were measured, the newest last. */
  readonly #rates: number[] = [0];
  /** The rate was measured with nothing more to send. */
  #isLowerBound = true;
  #rttMinMs = Number.POSITIVE_INFINITY;
  #rttMinAt: MonotonicMs | undefined;
  #probeRttUntil: MonotonicMs | undefined;
  #roundEndBytes = 0;
  #fullRate = 0;
  #fullRounds = 0;
  #phase = 2;
  #phaseAt: MonotonicMs | undefined;
  #roundLostBytes = 0;
  #roundAckedBytes = 0;
  #roundRttMs = Number.POSITIVE_INFINITY;
  /** Most that was under way in the round. */
  #roundInFlightBytes = 0;
  #isQueueing = false;
  /** When the last acknowledgement came that left something under way; and whether one of the round came late. */
  #ackedAt: MonotonicMs | undefined;
  #isRoundLate = false;
  /** Greatest of each of the last rounds, the newest last; and of the present while: when it began and what was acknowledged in it. */
  readonly #extras: number[] = [0];
  #extraFrom: MonotonicMs | undefined;
  #extraAckedBytes = 0;
  /** Round trips in a row that lost more than chance does. */
  #lossRounds = 0;
  #lostSentAt: MonotonicMs | undefined;
  /** Bound of what is under way since losses came from a queue. */
  #bound: Cubic | undefined;

  constructor(packetBytes: number) {
    this.#packetBytes = packetBytes;
  }

  get state(): State {
    return this.#state;
  }

  /** Bytes a millisecond that the path delivers; 0: not known. */
  get rate(): number {
    return Math.max(...this.#rates);
  }

  get isQueueing(): boolean {
    return this.#isQueueing;
  }

  get windowBytes(): number {
    const least = WINDOW_PACKETS_MIN * this.#packetBytes;
    if (this.#state === "probe-rtt") return Math.max(least, PROBE_RTT_GAIN * this.#productBytes());
    const initial = INITIAL_PACKETS * this.#packetBytes;
    if (this.rate === 0) return initial;
    const gain = this.#state === "startup" || this.#state === "drain" ? STARTUP_GAIN : WINDOW_GAIN;
    return Math.max(
      least,
      Math.min(
        Math.max(initial, gain * this.#productBytes() + this.#extraBytes()),
        this.#bound?.windowBytes ?? Number.POSITIVE_INFINITY,
      ),
    );
  }

  get pacingRate(): number {
    if (this.rate === 0) return (STARTUP_GAIN * INITIAL_PACKETS * this.#packetBytes) / INITIAL_RTT_MS;
    return this.#gain() * this.rate;
  }

  handleAck(sample: AckSample, now: MonotonicMs): void {
    const isRound = sample.priorDeliveredBytes >= this.#roundEndBytes;
    this.#roundAckedBytes += sample.ackedBytes;
    this.#roundInFlightBytes = Math.max(this.#roundInFlightBytes, sample.priorInFlightBytes);
    this.#takeExtra(sample, isRound, now);
    this.#takeLate(sample, now);
    if (isRound) {
      this.#roundEndBytes = sample.deliveredBytes;
      this.#judgeLoss(sample, now);
    }
    this.#bound?.handleAck(sample, now);
    if (sample.rttMs !== undefined) this.#roundRttMs = Math.min(this.#roundRttMs, sample.rttMs);
    this.#takeRate(sample, isRound);
    this.#takeRtt(sample, now);
    if (this.#state === "startup" && isRound && !sample.isAppLimited) this.#checkFull();
    if (this.#state === "drain" && sample.inFlightBytes <= this.#productBytes()) this.#cruise(now);
    if (this.#state === "probe-rate") this.#turnPhase(sample, now);
    if (this.#state === "probe-rtt" && this.#probeRttUntil !== undefined && now >= this.#probeRttUntil) {
      this.#probeRttUntil = undefined;
      if (this.#fullRounds >= FULL_ROUNDS) this.#cruise(now);
      else this.#state = "startup";
    }
  }

  handleLoss(lostBytes: number, newestSentAt: MonotonicMs): void {
    this.#roundLostBytes += lostBytes;
    this.#lostSentAt = newestSentAt;
  }

  handlePersistentCongestion(now: MonotonicMs): void {
    this.#bound = new Cubic(this.#packetBytes, undefined, now);
  }

  #productBytes(): number {
    return this.rate * (Number.isFinite(this.#rttMinMs) ? this.#rttMinMs : INITIAL_RTT_MS);
  }

  #extraBytes(): number {
    return Math.min(Math.max(...this.#extras), EXTRA_MS_MAX * this.rate);
  }

  /** Section "ack aggregation" of the draft. */
  #takeExtra({ ackedBytes }: AckSample, isRound: boolean, now: MonotonicMs): void {
    if (isRound) {
      this.#extras.push(0);
      if (this.#extras.length > EXTRA_ROUNDS) this.#extras.shift();
    }
    let expected = this.rate * (now - (this.#extraFrom ?? now));
    if (this.#extraFrom === undefined || this.#extraAckedBytes <= expected) {
      this.#extraFrom = now;
      this.#extraAckedBytes = 0;
      expected = 0;
    }
    this.#extraAckedBytes += ackedBytes;
    const last = this.#extras.length - 1;
    this.#extras[last] = Math.max(this.#extras[last] as number, this.#extraAckedBytes - expected);
  }

  /** An end that stands still makes round trips as long as a queue does, but what a queue holds comes at the path's rate. */
  #takeLate({ ackedBytes, inFlightBytes }: AckSample, now: MonotonicMs): void {
    if (this.#ackedAt !== undefined && this.rate > 0)
      this.#isRoundLate ||= now - this.#ackedAt > ackedBytes / this.rate + QUEUE_PART * this.#rttMinMs;
    this.#ackedAt = inFlightBytes > 0 ? now : undefined;
  }

  #gain(): number {
    switch (this.#state) {
      case "startup":
        return STARTUP_GAIN;
      case "drain":
        return DRAIN_GAIN;
      case "probe-rtt":
        return 1;
      case "probe-rate":
        return this.#isLowerBound ? LOWER_BOUND_GAIN : (CYCLE_GAINS[this.#phase] as number);
    }
  }

  /** A sample of a sender that had nothing more counts only as a lower bound. */
  #takeRate({ deliveryRate, isAppLimited }: AckSample, isRound: boolean): void {
    if (deliveryRate === undefined || (isAppLimited && deliveryRate < this.rate)) return;
    if (isRound && !isAppLimited) {
      this.#rates.push(0);
      if (this.#rates.length > RATE_ROUNDS) this.#rates.shift();
    }
    if (!isAppLimited) this.#isLowerBound = false;
    else if (deliveryRate > this.rate) this.#isLowerBound = true;
    const last = this.#rates.length - 1;
    this.#rates[last] = Math.max(this.#rates[last] as number, deliveryRate);
  }

  #takeRtt({ rttMs }: AckSample, now: MonotonicMs): void {
    if (rttMs === undefined) return;
    if (rttMs <= this.#rttMinMs * (1 + RTT_MIN_SLACK)) {
      this.#rttMinMs = Math.min(this.#rttMinMs, rttMs);
      this.#rttMinAt = now;
      return;
    }
    if (this.#rttMinAt === undefined || now - this.#rttMinAt <= RTT_MIN_MS) return;
    // Nothing as short for long: either the path has become longer, or our own queue hides it.
    if (this.#state !== "probe-rtt") {
      this.#state = "probe-rtt";
      this.#probeRttUntil = plusMs(now, PROBE_RTT_MS + rttMs);
    }
    this.#rttMinMs = rttMs;
    this.#rttMinAt = now;
  }

  #checkFull(): void {
    if (this.rate >= FULL_GROWTH * this.#fullRate) {
      this.#fullRate = this.rate;
      this.#fullRounds = 0;
    } else if (++this.#fullRounds >= FULL_ROUNDS) this.#state = "drain";
  }

  #cruise(now: MonotonicMs): void {
    this.#state = "probe-rate";
    this.#phase = 2;
    this.#phaseAt = now;
  }

  #turnPhase({ inFlightBytes }: AckSample, now: MonotonicMs): void {
    const gain = CYCLE_GAINS[this.#phase] as number;
    const isOver = now - (this.#phaseAt ?? now) > this.#rttMinMs;
    // What piled up is given back as soon as it is gone.
    const isDrained = gain < 1 && inFlightBytes <= this.#productBytes();
    if (!isOver && !isDrained) return;
    this.#phase = (this.#phase + 1) % CYCLE_GAINS.length;
    this.#phaseAt = now;
  }

  /** Once a round trip: whether what it lost tells of a queue. */
  #judgeLoss({ priorInFlightBytes }: AckSample, now: MonotonicMs): void {
    const wholeBytes = this.#roundLostBytes + this.#roundAckedBytes;
    const expected = (LOSS_RATIO_MAX * wholeBytes) / this.#packetBytes;
    // Who has less under way than the path holds makes no queue: round trips are longer because an end is late, or others fill it.
    this.#isQueueing =
      !this.#isRoundLate &&
      this.#roundRttMs > this.#rttMinMs * (1 + QUEUE_PART) &&
      this.#roundInFlightBytes >= this.#productBytes() + this.#extraBytes();
    const isMuch =
      this.#roundLostBytes / this.#packetBytes > expected + LOSS_DEVIATIONS * Math.sqrt(expected);
    this.#lossRounds = isMuch ? this.#lossRounds + 1 : 0;
    if (this.#roundLostBytes > 0 && (this.#isQueueing || this.#lossRounds >= LOSS_ROUNDS)) {
      // At the end of a transfer little is under way, however much the path took.
      const heldBytes = Math.max(priorInFlightBytes, this.#productBytes());
      this.#bound ??= new Cubic(this.#packetBytes, Math.min(heldBytes, this.windowBytes));
      this.#bound.handleLoss(this.#roundLostBytes, this.#lostSentAt as MonotonicMs, now);
      if (this.#state === "startup") {
        this.#fullRounds = FULL_ROUNDS;
        this.#state = "drain";
      }
    } else if (this.#bound !== undefined && this.#bound.windowBytes > BOUND_PRODUCTS * this.#productBytes())
      this.#bound = undefined;
    else
      this.#bound?.handleQueue(
        this.#roundRttMs > this.#rttMinMs * (1 + QUEUE_PART) ||
          this.#bound.windowBytes >= BOUND_ROOM * this.#productBytes(),
      );
    this.#roundLostBytes = 0;
    this.#roundAckedBytes = 0;
    this.#roundInFlightBytes = 0;
    this.#roundRttMs = Number.POSITIVE_INFINITY;
    this.#isRoundLate = false;
  }
}

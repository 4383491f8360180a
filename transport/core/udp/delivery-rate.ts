/**
 * How fast the path delivers: draft-cheng-iccrg-delivery-rate-estimation, section 3. Bytes a millisecond.
 *
 * A sample of it has a round trip in its interval, so that a transfer of less than what the path holds shows its own size only. What leaves after a pause is
 * therefore measured as a train too: its bytes over the time in which they left, or since its first packet could have been acknowledged at the earliest,
 * whichever is longer. So an end that is late, and sees acknowledgements of a while at once, takes the path for slower than it is, never for faster.
 */
import type { MonotonicMs } from "#kit";
import type { SentPacket } from "./loss-detection.ts";
import { DATAGRAM_BYTES_MIN } from "./words.ts";

/** A shorter train tells more of timers than of the path, bytes. */
const TRAIN_BYTES_MIN = 10 * DATAGRAM_BYTES_MIN;
/**
 * A train that took so much longer to come than to leave, and so long, ms, met a path that takes no more: if its acknowledgements came evenly, none after
 * more than this part of the time. Those of an end that is late come together.
 */
const STRETCH_MIN = 1.25;
const STRETCHED_MS_MIN = 10;
const GAP_PART_MAX = 1 / 4;

/** What left after a pause. */
interface Train {
  readonly beganAt: MonotonicMs;
  /** When its first acknowledgement came. */
  ackedAt: MonotonicMs | undefined;
  lastAckedAt: MonotonicMs;
  /** Longest time between two acknowledgements, ms. */
  gapMs: number;
  bytes: number;
}

/** The shortest round trip counts for so long, ms, and twice that at most. */
const RTT_MIN_MS = 10_000;

export class DeliveryRate {
  #deliveredBytes = 0;
  #deliveredAt: MonotonicMs;
  #firstSentAt: MonotonicMs;
  /** Until so much is delivered, samples are those of a sender that had nothing more; 0: they are not. */
  #appLimitedUntil = 0;
  #train: Train | undefined;
  #isPathLimited = false;
  /** Shortest round trip of this period and of the one before, ms. */
  #rttMinMs = Number.POSITIVE_INFINITY;
  #rttMinBeforeMs = Number.POSITIVE_INFINITY;
  #periodAt: MonotonicMs;

  constructor(now: MonotonicMs) {
    this.#deliveredAt = now;
    this.#firstSentAt = now;
    this.#periodAt = now;
  }

  get deliveredBytes(): number {
    return this.#deliveredBytes;
  }

  /** Since the last pause a train was so stretched that the path, and not what there was to send, made the rate. */
  get isPathLimited(): boolean {
    return this.#isPathLimited;
  }

  /** What a packet that leaves now has to remember. */
  stamp(
    inFlightBytes: number,
    now: MonotonicMs,
  ): Pick<SentPacket, "deliveredBytes" | "deliveredAt" | "firstSentAt" | "isAppLimited"> {
    if (inFlightBytes === 0) {
      this.#firstSentAt = now;
      this.#deliveredAt = now;
      this.#train = { beganAt: now, ackedAt: undefined, lastAckedAt: now, gapMs: 0, bytes: 0 };
      this.#isPathLimited = false;
    }
    return {
      deliveredBytes: this.#deliveredBytes,
      deliveredAt: this.#deliveredAt,
      firstSentAt: this.#firstSentAt,
      isAppLimited: this.#appLimitedUntil > 0,
    };
  }

  /** There is nothing more to send, though more might be. */
  handleAppLimited(inFlightBytes: number): void {
    this.#appLimitedUntil = Math.max(1, this.#deliveredBytes + inFlightBytes);
  }

  /**
   * Packets that were acknowledged together, the newest last; of what they bring, `restoredBytes` the path has lost. `rttMs`: their round trip, if it is
   * known. The rate, if they tell one.
   */
  handleAcked(
    packets: readonly SentPacket[],
    restoredBytes: number,
    rttMs: number | undefined,
    now: MonotonicMs,
  ): number | undefined {
    const newest = packets.at(-1) as SentPacket;
    this.#takeRtt(rttMs, now);
    for (const packet of packets) this.#deliveredBytes += packet.bytes;
    this.#deliveredBytes -= restoredBytes;
    this.#deliveredAt = now;
    this.#firstSentAt = newest.sentAt;
    if (this.#deliveredBytes > this.#appLimitedUntil) this.#appLimitedUntil = 0;
    const intervalMs = Math.max(newest.sentAt - newest.firstSentAt, now - newest.deliveredAt);
    const rate = intervalMs > 0 ? (this.#deliveredBytes - newest.deliveredBytes) / intervalMs : undefined;
    const trainRate = this.#trainRate(packets, restoredBytes, now);
    return trainRate === undefined || (rate !== undefined && rate > trainRate) ? rate : trainRate;
  }

  #trainRate(packets: readonly SentPacket[], restoredBytes: number, now: MonotonicMs): number | undefined {
    const train = this.#train;
    const newest = packets.at(-1) as SentPacket;
    if (train === undefined || newest.sentAt < train.beganAt) return undefined;
    // The shortest round trip may be that of its first packets: they do not count.
    if (train.ackedAt === undefined) {
      train.ackedAt = now;
      train.lastAckedAt = now;
      return undefined;
    }
    train.gapMs = Math.max(train.gapMs, now - train.lastAckedAt);
    train.lastAckedAt = now;
    // What left later was let through by acknowledgements: the sample with a round trip in it is as good.
    if (newest.sentAt > train.ackedAt) {
      this.#train = undefined;
      return undefined;
    }
    for (const packet of packets) train.bytes += packet.bytes;
    train.bytes -= restoredBytes;
    const rttMinMs = Math.min(this.#rttMinMs, this.#rttMinBeforeMs);
    const sendMs = newest.sentAt - train.beganAt;
    const intervalMs = Math.max(sendMs, now - train.beganAt - rttMinMs);
    if (train.bytes < TRAIN_BYTES_MIN || intervalMs <= 0) return undefined;
    const ackMs = now - train.ackedAt;
    if (ackMs >= Math.max(STRETCHED_MS_MIN, STRETCH_MIN * sendMs, train.gapMs / GAP_PART_MAX))
      this.#isPathLimited = true;
    return train.bytes / intervalMs;
  }

  #takeRtt(rttMs: number | undefined, now: MonotonicMs): void {
    if (now - this.#periodAt > RTT_MIN_MS) {
      this.#periodAt = now;
      this.#rttMinBeforeMs = this.#rttMinMs;
      this.#rttMinMs = Number.POSITIVE_INFINITY;
    }
    if (rttMs !== undefined) this.#rttMinMs = Math.min(this.#rttMinMs, rttMs);
  }
}

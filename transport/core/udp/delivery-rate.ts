/**
 * How fast the path delivers: draft-cheng-iccrg-delivery-rate-estimation, section 3. Bytes a millisecond.
 *
 * A sample of it has a round trip in its interval, so that a transfer of less than what the path holds shows its own size only. What leaves after a pause is
 * therefore measured as a train too: its bytes behind the first acknowledgement, over the time in which they left or were acknowledged, whichever is longer.
 */
import type { MonotonicMs } from "#kit";
import type { SentPacket } from "./loss-detection.ts";
import { DATAGRAM_BYTES_MIN } from "./words.ts";

/** A shorter train tells more of timers than of the path, bytes. */
const TRAIN_BYTES_MIN = 10 * DATAGRAM_BYTES_MIN;

/** What left after a pause. */
interface Train {
  readonly beganAt: MonotonicMs;
  /** When its first acknowledgement came, and when the newest packet in that had left. */
  ackedAt: MonotonicMs | undefined;
  sentAt: MonotonicMs;
  bytes: number;
}

export class DeliveryRate {
  #deliveredBytes = 0;
  #deliveredAt: MonotonicMs;
  #firstSentAt: MonotonicMs;
  /** Until so much is delivered, samples are those of a sender that had nothing more; 0: they are not. */
  #appLimitedUntil = 0;
  #train: Train | undefined;

  constructor(now: MonotonicMs) {
    this.#deliveredAt = now;
    this.#firstSentAt = now;
  }

  get deliveredBytes(): number {
    return this.#deliveredBytes;
  }

  /** What a packet that leaves now has to remember. */
  stamp(
    inFlightBytes: number,
    now: MonotonicMs,
  ): Pick<SentPacket, "deliveredBytes" | "deliveredAt" | "firstSentAt" | "isAppLimited"> {
    if (inFlightBytes === 0) {
      this.#firstSentAt = now;
      this.#deliveredAt = now;
      this.#train = { beganAt: now, ackedAt: undefined, sentAt: now, bytes: 0 };
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

  /** Packets that were acknowledged together, the newest last; of what they bring, `restoredBytes` the path has lost. The rate, if they tell one. */
  handleAcked(packets: readonly SentPacket[], restoredBytes: number, now: MonotonicMs): number | undefined {
    const newest = packets.at(-1) as SentPacket;
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
    if (train.ackedAt === undefined) {
      train.ackedAt = now;
      train.sentAt = newest.sentAt;
      return undefined;
    }
    // What left later was let through by acknowledgements: the sample with a round trip in it is as good.
    if (newest.sentAt > train.ackedAt) {
      this.#train = undefined;
      return undefined;
    }
    for (const packet of packets) train.bytes += packet.bytes;
    train.bytes -= restoredBytes;
    const intervalMs = Math.max(newest.sentAt - train.sentAt, now - train.ackedAt);
    return train.bytes >= TRAIN_BYTES_MIN && intervalMs > 0 ? train.bytes / intervalMs : undefined;
  }
}

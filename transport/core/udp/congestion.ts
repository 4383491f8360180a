/** What any congestion control is asked, and told. Bytes are those of datagrams; rates are bytes a millisecond. */
import type { MonotonicMs } from "#kit";

export interface AckSample {
  /** Acknowledged by this frame. */
  readonly ackedBytes: number;
  /** Under way before and after it. */
  readonly priorInFlightBytes: number;
  readonly inFlightBytes: number;
  /** Round trip of the newest packet, ms; undefined: none was measured. */
  readonly rttMs: number | undefined;
  readonly srttMs: number;
  /** Delivered in all so far, and when the newest acknowledged packet left: a round trip ends when what left in it is acknowledged. */
  readonly deliveredBytes: number;
  readonly priorDeliveredBytes: number;
  /** draft-cheng-iccrg-delivery-rate-estimation, section 3; undefined: no sample. */
  readonly deliveryRate: number | undefined;
  /** The sender had not more to send: the rate says how much there was, not how much the path takes. */
  readonly isAppLimited: boolean;
}

export interface CongestionControl {
  /** Bytes that may be under way. */
  readonly windowBytes: number;
  readonly pacingRate: number;
  /** A queue stands at the bottleneck: what is lost now found no room in it, and tells nothing of the path. */
  readonly isQueueing: boolean;
  handleAck(sample: AckSample, now: MonotonicMs): void;
  /** Lost by the path, restored or not. `newestSentAt`: when the last of them left. */
  handleLoss(lostBytes: number, newestSentAt: MonotonicMs, now: MonotonicMs): void;
  /** RFC 9002, section 7.6: nothing came for so long that the path must be taken to be another one. */
  handlePersistentCongestion(now: MonotonicMs): void;
}

/** RFC 9002, section 7.2: ten datagrams. */
export const INITIAL_PACKETS = 10;
/** Round trip before one is measured, ms. */
export const INITIAL_RTT_MS = 100;

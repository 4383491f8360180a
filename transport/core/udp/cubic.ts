/** CUBIC, RFC 9438, over bytes of datagrams; slow start after RFC 9002, paced by a quarter more than the window a round trip. */
import type { MonotonicMs } from "#kit";
import { type AckSample, type CongestionControl, INITIAL_PACKETS, INITIAL_RTT_MS } from "./congestion.ts";

/** RFC 9438, sections 4.1 and 5. */
const C = 0.4;
const BETA = 0.7;
/** Section 4.3: what makes the Reno-friendly part as fast as Reno with this BETA. */
const ALPHA = (3 * (1 - BETA)) / (1 + BETA);
const WINDOW_PACKETS_MIN = 2;
/** Pacing, as parts of the window a round trip (RFC 9002, section 7.7). */
const PACING_GAIN = 1.25;
const PACING_GAIN_SLOW_START = 2;

export class Cubic implements CongestionControl {
  readonly #packetBytes: number;
  #windowBytes: number;
  #thresholdBytes = Number.POSITIVE_INFINITY;
  #recoveryFrom: MonotonicMs | undefined;
  /** In packets and seconds, as the RFC. */
  #windowMax = 0;
  #k = 0;
  #epochAt: MonotonicMs | undefined;
  #windowEstimate = 0;
  #srttMs = INITIAL_RTT_MS;

  /** `recoveryFrom`: what left before tells nothing by being lost. */
  constructor(
    packetBytes: number,
    windowBytes: number = INITIAL_PACKETS * packetBytes,
    recoveryFrom?: MonotonicMs,
  ) {
    this.#packetBytes = packetBytes;
    this.#windowBytes = windowBytes;
    this.#recoveryFrom = recoveryFrom;
  }

  /** It does not look. */
  readonly isQueueing = false;

  get windowBytes(): number {
    return this.#windowBytes;
  }

  get pacingRate(): number {
    const gain = this.#windowBytes < this.#thresholdBytes ? PACING_GAIN_SLOW_START : PACING_GAIN;
    return (gain * this.#windowBytes) / this.#srttMs;
  }

  handleAck(sample: AckSample, now: MonotonicMs): void {
    this.#srttMs = Math.max(1, sample.srttMs);
    // RFC 9002, section 7.8: a window that is not used does not grow.
    if (sample.isAppLimited && sample.priorInFlightBytes < this.#windowBytes / 2) return;
    if (this.#windowBytes < this.#thresholdBytes) {
      this.#windowBytes += sample.ackedBytes;
      return;
    }
    if (this.#epochAt === undefined) this.#beginEpoch(now);
    const seconds = (now - (this.#epochAt as MonotonicMs)) / 1_000;
    const window = this.#windowBytes / this.#packetBytes;
    const acked = sample.ackedBytes / this.#packetBytes;
    // Section 4.3.
    this.#windowEstimate += (this.#windowEstimate >= this.#windowMax ? 1 : ALPHA) * (acked / window);
    const cubic = C * (seconds - this.#k) ** 3 + this.#windowMax;
    if (cubic < this.#windowEstimate) this.#windowBytes = this.#windowEstimate * this.#packetBytes;
    else {
      // Section 4.4: where the curve is a round trip from now, half as much again at most.
      const target = C * (seconds + this.#srttMs / 1_000 - this.#k) ** 3 + this.#windowMax;
      const bounded = Math.min(Math.max(target, window), 1.5 * window);
      this.#windowBytes += ((bounded - window) / window) * sample.ackedBytes;
    }
  }

  /** Whether a round trip has met a queue, as who measures it knows: without one there is room, and the window grows as in slow start until there is. */
  handleQueue(isSeen: boolean): void {
    if (!isSeen) this.#thresholdBytes = Number.POSITIVE_INFINITY;
    else if (this.#thresholdBytes === Number.POSITIVE_INFINITY) {
      this.#thresholdBytes = this.#windowBytes;
      this.#epochAt = undefined;
    }
  }

  handleLoss(_lostBytes: number, newestSentAt: MonotonicMs, now: MonotonicMs): void {
    // Once a round trip: what left before the last reduction says nothing new.
    if (this.#recoveryFrom !== undefined && newestSentAt <= this.#recoveryFrom) return;
    this.#recoveryFrom = now;
    const window = this.#windowBytes / this.#packetBytes;
    // Section 4.7, fast convergence.
    this.#windowMax = window < this.#windowMax ? (window * (1 + BETA)) / 2 : window;
    this.#windowBytes = Math.max(WINDOW_PACKETS_MIN * this.#packetBytes, this.#windowBytes * BETA);
    this.#thresholdBytes = this.#windowBytes;
    this.#epochAt = undefined;
  }

  handlePersistentCongestion(now: MonotonicMs): void {
    this.#windowBytes = WINDOW_PACKETS_MIN * this.#packetBytes;
    // What left before is lost with what this was told by.
    this.#recoveryFrom = now;
    this.#epochAt = undefined;
  }

  #beginEpoch(now: MonotonicMs): void {
    const window = this.#windowBytes / this.#packetBytes;
    this.#epochAt = now;
    this.#windowMax = Math.max(this.#windowMax, window);
    this.#k = Math.cbrt((this.#windowMax - window) / C);
    this.#windowEstimate = window;
  }
}

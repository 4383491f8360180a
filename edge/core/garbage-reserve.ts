/**
 * How much of its memory a store leaves to what V8 and the allocator hold beside what lives: dead objects until the next collection,
 * pages and chunks that are in part free. That depends on the traffic (least for large contents, most while small objects of many sizes
 * come and go for hours), so it is steered by what the process takes. What is let go is given back late or, by malloc, not at all; then it is
 * used again, so the process grows no more, and giving up yet more would cost hits for nothing.
 */
import type { MonotonicMs } from "#kit";

/** Most that is left, as a share of the store: beyond that it is others who take the memory, and hits would pay for them. */
const SHARE_MAX = 1 / 4;
/** Most that a sample changes, as a share of the store: what goes at once is evicted in one turn of the event loop. */
const STEP_SHARE = 1 / 32;
/** What the store takes back in a sample, as a share of such a step: memory grows behind it for a while. */
const EASE_SHARE = 1 / 4;
/** For so long a change is given time to show. */
const SETTLE_MS = 5_000;
/** Part of what was given up that has to be seen as free memory by then; else it is not given back. */
const SHOWN_SHARE = 1 / 4;

export type ReserveSample = {
  /** Resident memory of the process, bytes. */
  readonly residentBytes: number;
  /** The store has taken nearly all that it may: only then is more room worth anything. */
  readonly isFull: boolean;
  readonly now: MonotonicMs;
};

export class GarbageReserve {
  readonly #capBytes: number;
  readonly #bytesMax: number;
  readonly #stepBytes: number;
  #bytes: number;
  /** Up to where its growth has been answered. */
  #answeredBytes: number;
  /** What the process took when the store last gave something up, and how much that was. */
  #residentBytes = 0;
  #givenBytes = 0;
  #settledAt = -Infinity;

  /**
   * @param capBytes what the process is to take at most
   * @param storeBytes what the store was given, the reserve included
   * @param bytes the reserve to begin with, at most a quarter of that
   */
  constructor(capBytes: number, storeBytes: number, bytes: number) {
    this.#capBytes = capBytes;
    this.#answeredBytes = capBytes;
    this.#bytesMax = Math.floor(storeBytes * SHARE_MAX);
    this.#stepBytes = storeBytes * STEP_SHARE;
    this.#bytes = bytes;
  }

  /** To be left free of the store's memory, 0 to a quarter of it. */
  get bytes(): number {
    return this.#bytes;
  }

  /** What the process takes now; once a second or so. */
  handleSample({ residentBytes, isFull, now }: ReserveSample): void {
    const overBytes = residentBytes - this.#capBytes;
    const isSettled = now >= this.#settledAt;
    if (overBytes > 0) {
      const isGivenBack = isSettled && this.#residentBytes - residentBytes > this.#givenBytes * SHOWN_SHARE;
      if (isGivenBack) this.#answeredBytes = residentBytes - overBytes / 2;
      const grownBytes = residentBytes - this.#answeredBytes;
      if (grownBytes <= 0) return;
      this.#givenBytes = Math.min(this.#stepBytes, grownBytes);
      this.#bytes = Math.min(this.#bytesMax, this.#bytes + Math.ceil(this.#givenBytes));
      this.#answeredBytes += this.#givenBytes;
      this.#residentBytes = residentBytes;
      this.#settledAt = now + SETTLE_MS;
    } else if (isFull && isSettled && overBytes < -this.#stepBytes) {
      this.#bytes = Math.max(0, this.#bytes - Math.floor(this.#stepBytes * EASE_SHARE));
    }
  }
}

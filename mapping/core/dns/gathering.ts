/**
 * When a socket that has just been emptied is left alone for a moment, so that the datagrams of a busy time come together: waking an idle
 * process and its event loop for each few of them costs more than their answers. It is the moderation of interrupts that network devices
 * do, and here too it is given up as soon as it brings nothing: who asks one query after the other waits for one in {@link REFRAINS}.
 */

/** How long datagrams gather. Below the jitter of any path, and at 10,000 a second two come in it. */
export const GATHER_MS = 0.2;
/** Fewer than this in that time are no load. With two a query at 12,000 a second takes half of the CPU that it takes with four. */
export const GATHERED_MIN = 2;
/** Wakes before it is tried again after it brought too little. */
const REFRAINS = 64;
/** Then TCP, probes and timers have their turn of the event loop. */
const TURN_MS = 2;

export class Gathering {
  #isOn = false;
  #hasWaited = false;
  #beganMs = 0;
  #emptiedAtMs = Number.NEGATIVE_INFINITY;
  #refrains = 0;

  /** The event loop tells of a datagram. @param nowMs any clock that never runs back */
  begin(nowMs: number): void {
    this.#beganMs = nowMs;
    this.#hasWaited = false;
    if (this.#refrains > 0) this.#refrains--;
    // A wait would have brought it sooner than the event loop did.
    this.#isOn = this.#refrains === 0 && nowMs - this.#emptiedAtMs < GATHER_MS;
  }

  /**
   * The socket is empty: whether to look again in {@link GATHER_MS}; otherwise the event loop tells of what comes.
   *
   * @param count datagrams that were read since the last wait, or since {@link begin}
   */
  isWorthAWait(count: number, nowMs: number): boolean {
    this.#emptiedAtMs = nowMs;
    if (!this.#isOn || nowMs - this.#beganMs >= TURN_MS) return false;
    if (this.#hasWaited && count < GATHERED_MIN) {
      this.#refrains = REFRAINS;
      return false;
    }
    this.#hasWaited = true;
    return true;
  }
}

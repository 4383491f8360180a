/**
 * What bodies that are not kept hold together for their readers. One slow reader may have a window of content lie here, which hides a round
 * trip; a thousand of them, or the hundred streams of one connection that takes nothing, share one bound: each may hold as much as is free
 * (dynamic thresholds, Choudhury and Hahne, IEEE/ACM ToN 6(2), 1998), and a little in any case, so that nobody starves.
 */

/** Unread bytes of one body before its writer has to wait: hides a round trip; and where nothing is free. */
export const WINDOW_BYTES_MAX = 512 * 1_024;
export const WINDOW_BYTES_MIN = 32 * 1_024;

export class WindowTotal {
  readonly #bytesMax: number;
  #bytes = 0;

  /** `bytesMax`: of all together, beside {@link WINDOW_BYTES_MIN} and a piece for each. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Bytes that lie here and have a reader. */
  get bytes(): number {
    return this.#bytes;
  }
  /** How many one body may have unread now. */
  get windowBytes(): number {
    return Math.max(WINDOW_BYTES_MIN, Math.min(WINDOW_BYTES_MAX, this.#bytesMax - this.#bytes));
  }

  /** For one more body. */
  share(): WindowShare {
    return new WindowShare(this, (bytes) => {
      this.#bytes += bytes;
    });
  }
}

/** What one body holds of it. */
export class WindowShare {
  readonly #total: WindowTotal;
  readonly #add: (bytes: number) => void;
  #bytes = 0;

  constructor(total: WindowTotal, add: (bytes: number) => void) {
    this.#total = total;
    this.#add = add;
  }

  get windowBytes(): number {
    return this.#total.windowBytes;
  }

  /** It holds so many now. */
  hold(bytes: number): void {
    if (bytes === this.#bytes) return;
    this.#add(bytes - this.#bytes);
    this.#bytes = bytes;
  }
}

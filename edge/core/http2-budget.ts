/**
 * What one HTTP/2 session may cost beside its requests (RFC 9113, section 10.5): each kind of frame that makes work without
 * asking for anything has a budget that fills again with time. Pure; the driver reports what it sees and closes the session
 * when it is told a fault.
 */
import type { MonotonicMs } from "#kit";

/**
 * `rapid-reset`: streams ended by RST_STREAM, whichever side sent it (CVE-2023-44487, CVE-2025-8671); `ping-flood`, `settings-flood` (CVE-2019-9512, 9515); `control-flood`: bytes that are neither header nor
 * content, such as WINDOW_UPDATE, PRIORITY, empty DATA, unknown frames (CVE-2019-9513, 9518).
 */
export type Http2Fault = "rapid-reset" | "ping-flood" | "settings-flood" | "control-flood";

/** So many at once, and so many more each second. */
interface Budget {
  readonly burst: number;
  readonly perSecond: number;
}

export interface Http2Budgets {
  readonly resets: Budget;
  readonly pings: Budget;
  readonly settings: Budget;
  readonly controlBytes: Budget;
}

export const http2Budgets: Http2Budgets = {
  // A browser that leaves a page resets all that is open, at most the limit of concurrent streams; twice that, and some.
  resets: { burst: 300, perSecond: 20 },
  // Some clients measure the path with a ping each round trip.
  pings: { burst: 100, perSecond: 10 },
  // One at the start, a few when windows are tuned.
  settings: { burst: 20, perSecond: 1 },
  controlBytes: { burst: 65_536, perSecond: 8_192 },
};

/** So many bytes that nothing explains are a flood also when something else ended the session first: about 900 small frames. */
const FLOOD_BYTES = 8_192;
/** Of the bytes sent, so many parts may come back as window updates: one of 13 bytes for 208. */
const WINDOW_UPDATE_SHARE = 16;

class Bucket {
  readonly #budget: Budget;
  #left: number;
  #at: MonotonicMs;

  constructor(budget: Budget, now: MonotonicMs) {
    this.#budget = budget;
    this.#left = budget.burst;
    this.#at = now;
  }

  /** False: there is not so much left. */
  take(amount: number, now: MonotonicMs): boolean {
    const { burst, perSecond } = this.#budget;
    this.#left = Math.min(burst, this.#left + ((now - this.#at) / 1_000) * perSecond) - amount;
    this.#at = now;
    return this.#left >= 0;
  }
}

export class SessionBudget {
  readonly #resets: Bucket;
  readonly #pings: Bucket;
  readonly #settings: Bucket;
  readonly #control: Bucket;
  #bytesRead = 0;
  #bytesWritten = 0;
  /** Bytes that requests and their content may have had since the last look. */
  #allowance = 0;

  constructor(now: MonotonicMs, budgets: Http2Budgets = http2Budgets) {
    this.#resets = new Bucket(budgets.resets, now);
    this.#pings = new Bucket(budgets.pings, now);
    this.#settings = new Bucket(budgets.settings, now);
    this.#control = new Bucket(budgets.controlBytes, now);
  }

  handleReset(now: MonotonicMs): Http2Fault | undefined {
    return this.#resets.take(1, now) ? undefined : "rapid-reset";
  }
  handlePing(now: MonotonicMs): Http2Fault | undefined {
    return this.#pings.take(1, now) ? undefined : "ping-flood";
  }
  handleSettings(now: MonotonicMs): Http2Fault | undefined {
    return this.#settings.take(1, now) ? undefined : "settings-flood";
  }

  /** @param headerBytesMax what its header section may have had: how much it was on the wire is not told */
  handleRequest(headerBytesMax: number): void {
    this.#allowance += headerBytesMax;
  }
  /** Twice, for frame headers and padding. */
  handleContent(bytes: number): void {
    this.#allowance += 2 * bytes;
  }

  /** Bytes since the last look that are neither header nor content. */
  #unexplained(bytesRead: number, bytesWritten: number): number {
    const allowed = this.#allowance + (bytesWritten - this.#bytesWritten) / WINDOW_UPDATE_SHARE;
    return Math.max(0, bytesRead - this.#bytesRead - allowed);
  }

  /** Whether a session that ended for a break of the protocol was flooding: nghttp2 has limits of its own. */
  wasFlooding(bytesRead: number, bytesWritten: number): boolean {
    return this.#unexplained(bytesRead, bytesWritten) >= FLOOD_BYTES;
  }

  /** To be called about once a second with the connection's totals. */
  handleTotals(bytesRead: number, bytesWritten: number, now: MonotonicMs): Http2Fault | undefined {
    const unexplained = this.#unexplained(bytesRead, bytesWritten);
    this.#bytesRead = bytesRead;
    this.#bytesWritten = bytesWritten;
    this.#allowance = 0;
    return this.#control.take(unexplained, now) ? undefined : "control-flood";
  }
}

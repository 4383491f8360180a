/**
 * How much the users of one network can say: timings of browsers come from whoever likes to send them, at every edge. A network
 * is what an edge tells of an address, /24 or /48; beyond its share of an hour its timings are left out.
 */
import { type MonotonicMs, plusMs } from "#kit";

export interface TimingQuotaSettings {
  readonly windowMs: number;
  /** Timings of one network in a window. A median of an hour needs no more; an attacker gets no more. */
  readonly perNetworkMax: number;
  /** Networks that are counted at once; those beyond are left out. */
  readonly networksMax: number;
}

export const timingQuotaDefaults: TimingQuotaSettings = {
  windowMs: 3_600_000,
  perNetworkMax: 40,
  networksMax: 200_000,
};

export class TimingQuota {
  readonly #settings: TimingQuotaSettings;
  #counts = new Map<string, number>();
  #until: MonotonicMs | undefined;
  /** All only grow. */
  readonly counters = { timings: 0, timingsOverQuota: 0 };

  constructor(settings: Partial<TimingQuotaSettings> = {}) {
    this.#settings = { ...timingQuotaDefaults, ...settings };
  }

  /** Whether one more timing of the network counts. Fixed windows: at most twice the share in any hour. */
  handleTiming(network: string, now: MonotonicMs): boolean {
    const { windowMs, perNetworkMax, networksMax } = this.#settings;
    if (this.#until === undefined || now >= this.#until) {
      this.#counts = new Map();
      this.#until = plusMs(now, windowMs);
    }
    const count = this.#counts.get(network) ?? 0;
    if (count >= perNetworkMax || (count === 0 && this.#counts.size >= networksMax)) {
      this.counters.timingsOverQuota++;
      return false;
    }
    this.#counts.set(network, count + 1);
    this.counters.timings++;
    return true;
  }
}

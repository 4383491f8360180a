/** How much each block of clients asks for, learnt from requests that were answered: what client networks are weighed by. */
import { type EpochMs, type IpAddress, plusMs } from "#kit";
import { cellOf, prefixesOfCells } from "./cells.ts";

export interface DemandLearnerSettings {
  /** After this time a request counts half, ms: long enough for days and nights, short enough to follow a network that grows. */
  readonly halfLifeMs: number;
  /** Blocks (/24, /48) that are told apart: about 100 bytes each. */
  readonly blocksMax: number;
}

export const demandLearnerDefaults: DemandLearnerSettings = {
  halfLifeMs: 7 * 86_400_000,
  blocksMax: 8_000_000,
};

/** The demand of one block, averaged over the time that was seen, the older part of it counting less. */
export interface LearntDemand {
  readonly prefix: string;
  readonly demandPerSecond: number;
}

/** Weights are scaled down once they have been scaled up by 2 to this. */
const REBASE_EXPONENT = 256;
/** A shorter time says nothing of a rate, ms. */
const SPAN_MS_MIN = 1_000;

/** Bounded; the order of the requests does not matter but for rounding. Decays forward (Cormode et al., "Forward Decay", ICDE 2009). */
export class DemandLearner {
  readonly #settings: DemandLearnerSettings;
  readonly #weights = new Map<number, number>();
  #landmark: EpochMs | undefined;
  #firstAt: EpochMs | undefined;
  #lastAt: EpochMs | undefined;
  /** Requests that were taken, and those of blocks beyond the bound. Both only grow. */
  readonly counters = { requests: 0, overflow: 0 };

  constructor(settings: Partial<DemandLearnerSettings> = {}) {
    this.#settings = { ...demandLearnerDefaults, ...settings };
    const { halfLifeMs, blocksMax } = this.#settings;
    if (!(halfLifeMs > 0 && blocksMax >= 1))
      throw new RangeError(
        `A demand learner needs a half-life and a block or more, got ${halfLifeMs} ms, ${blocksMax}`,
      );
  }

  get blockCount(): number {
    return this.#weights.size;
  }

  /** The time that was seen, ms. */
  get spanMs(): number {
    return this.#firstAt === undefined || this.#lastAt === undefined ? 0 : this.#lastAt - this.#firstAt;
  }

  handleRequest(client: IpAddress, at: EpochMs): void {
    const cell = cellOf(client);
    const known = this.#weights.get(cell);
    if (known === undefined && this.#weights.size >= this.#settings.blocksMax) {
      this.counters.overflow++;
      return;
    }
    this.counters.requests++;
    this.#firstAt = this.#firstAt === undefined || at < this.#firstAt ? at : this.#firstAt;
    this.#lastAt = this.#lastAt === undefined || at > this.#lastAt ? at : this.#lastAt;
    const growth = this.#growth(at);
    // Scaling down may have happened just now.
    this.#weights.set(cell, (this.#weights.get(cell) ?? 0) + growth);
  }

  /** By address. As of the newest request; blocks of which next to nothing is left are left out. */
  *demand(): Generator<LearntDemand> {
    if (this.#lastAt === undefined) return;
    const { halfLifeMs } = this.#settings;
    const now = this.#growth(this.#lastAt);
    // What a block that asks once a second would have come to.
    const seconds =
      ((halfLifeMs / Math.LN2) * (1 - 2 ** (-Math.max(this.spanMs, SPAN_MS_MIN) / halfLifeMs))) / 1_000;
    for (const cell of Float64Array.from(this.#weights.keys()).sort()) {
      const demandPerSecond = (this.#weights.get(cell) ?? 0) / now / seconds;
      const [prefix = ""] = prefixesOfCells(cell, cell + 1);
      if (demandPerSecond > 1e-9) yield { prefix, demandPerSecond };
    }
  }

  #growth(at: EpochMs): number {
    this.#landmark ??= at;
    const exponent = (at - this.#landmark) / this.#settings.halfLifeMs;
    if (exponent <= REBASE_EXPONENT) return 2 ** exponent;
    this.#landmark = plusMs(this.#landmark, exponent * this.#settings.halfLifeMs);
    for (const [cell, weight] of this.#weights) this.#weights.set(cell, weight * 2 ** -exponent);
    return 1;
  }
}

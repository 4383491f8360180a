/**
 * Traffic over time in bins of equal width: a ring that forgets by itself. An amount is spread over the interval in which
 * it happened, so that reports that come a little early or late make no teeth in the graph.
 */

/** What is counted; the order is the order of the columns. */
export const counted = ["requests", "hits", "bytesDown", "errors5xx"] as const;
export type Counted = (typeof counted)[number];
export type Counts = Readonly<Record<Counted, number>>;

export interface Bin extends Counts {
  /** Start of the bin, ms on the clock of `add`. */
  readonly atMs: number;
  /** Whether anything was reported for it: false is a gap, not a zero. */
  readonly isKnown: boolean;
}

const NO_BIN = -1;

export class RateRing {
  readonly binMs: number;
  readonly #bins: number;
  /** Which bin a slot holds now. Float64: a bin number of one second outgrows 32 bits only in theory, but NO_BIN must fit. */
  readonly #holds: Float64Array;
  readonly #values: Float32Array;

  constructor(binMs: number, bins: number) {
    this.binMs = binMs;
    this.#bins = bins;
    this.#holds = new Float64Array(bins).fill(NO_BIN);
    this.#values = new Float32Array(bins * counted.length);
  }

  /** Spreads `counts` evenly over [fromMs, toMs). What lies before the ring's reach is dropped. */
  add(fromMs: number, toMs: number, counts: Counts): void {
    const { binMs } = this;
    const last = Math.floor(Math.max(toMs - 1e-6, fromMs) / binMs);
    const first = Math.max(Math.floor(fromMs / binMs), last - this.#bins + 1, 0);
    const width = toMs - fromMs;
    for (let bin = first; bin <= last; bin++) {
      const share =
        width <= 0 ? 1 : (Math.min(toMs, (bin + 1) * binMs) - Math.max(fromMs, bin * binMs)) / width;
      const slot = bin % this.#bins;
      const held = this.#holds[slot] ?? NO_BIN;
      if (held > bin) continue;
      const base = slot * counted.length;
      if (held !== bin) {
        this.#holds[slot] = bin;
        this.#values.fill(0, base, base + counted.length);
      }
      for (const [column, name] of counted.entries()) {
        this.#values[base + column] = (this.#values[base + column] ?? 0) + counts[name] * share;
      }
    }
  }

  /** Every bin that lies in [fromMs, toMs), oldest first, at most the ring's length. */
  read(fromMs: number, toMs: number): Bin[] {
    const last = Math.floor(toMs / this.binMs) - 1;
    const first = Math.max(Math.ceil(fromMs / this.binMs), last - this.#bins + 1, 0);
    const result: Bin[] = [];
    for (let bin = first; bin <= last; bin++) {
      const slot = bin % this.#bins;
      const isKnown = this.#holds[slot] === bin;
      const base = slot * counted.length;
      const value = (column: number): number => (isKnown ? (this.#values[base + column] ?? 0) : 0);
      result.push({
        atMs: bin * this.binMs,
        isKnown,
        requests: value(0),
        hits: value(1),
        bytesDown: value(2),
        errors5xx: value(3),
      });
    }
    return result;
  }
}

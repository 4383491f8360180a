import type { Estimate } from "./estimator.ts";

const FIRST_ENTRIES = 1 << 12;

/**
 * What is known or guessed of client networks towards their candidates, in columns: no object for each of millions of pairs. A row is a
 * network's, or of all networks of which the same is known; its entries ascend by cluster number.
 */
export class EstimateRows {
  /** Row `r` has the entries `offsets[r]` up to `offsets[r + 1]`. */
  readonly offsets: number[] = [0];
  clusters = new Uint16Array(FIRST_ENTRIES);
  rttMs = new Float32Array(FIRST_ENTRIES);
  spreadMs = new Float32Array(FIRST_ENTRIES);
  lossRatio = new Float32Array(FIRST_ENTRIES);
  confidence = new Float32Array(FIRST_ENTRIES);
  freshness = new Float32Array(FIRST_ENTRIES);
  /** 0: never measured. */
  throughputBps = new Float32Array(FIRST_ENTRIES);
  #size = 0;

  get rows(): number {
    return this.offsets.length - 1;
  }

  /** To the row that is being made. */
  push(cluster: number, estimate: Estimate): void {
    const at = this.#size++;
    if (at === this.clusters.length) this.#grow(2 * at);
    this.clusters[at] = cluster;
    this.rttMs[at] = estimate.rttMs;
    this.spreadMs[at] = estimate.spreadMs;
    this.lossRatio[at] = Math.min(1, estimate.lossRatio);
    this.confidence[at] = Math.min(1, estimate.confidence);
    this.freshness[at] = Math.min(1, estimate.freshness ?? 1);
    this.throughputBps[at] = estimate.throughputBps ?? 0;
  }

  /** What an entry holds of an estimate; not its age. */
  at(entry: number): Estimate {
    return {
      rttMs: this.rttMs[entry] as number,
      spreadMs: this.spreadMs[entry] as number,
      lossRatio: this.lossRatio[entry] as number,
      ageMs: Infinity,
      freshness: this.freshness[entry] as number,
      throughputBps: this.throughputBps[entry] as number,
      confidence: this.confidence[entry] as number,
      samples: 0,
    };
  }

  /** Forgets all rows but the first ones. */
  truncate(rows: number): void {
    this.offsets.length = rows + 1;
    this.#size = this.offsets[rows] as number;
  }

  /** Ends the row; its number. */
  end(): number {
    this.offsets.push(this.#size);
    return this.rows - 1;
  }

  /** The entry of a cluster in a row; undefined: it is no candidate. */
  entryOf(row: number, cluster: number): number | undefined {
    let low = this.offsets[row] as number;
    let high = (this.offsets[row + 1] as number) - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const found = this.clusters[middle] as number;
      if (found === cluster) return middle;
      if (found < cluster) low = middle + 1;
      else high = middle - 1;
    }
    return undefined;
  }

  #grow(entries: number): void {
    const floats = (from: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> => {
      const grown = new Float32Array(entries);
      grown.set(from);
      return grown;
    };
    const clusters = new Uint16Array(entries);
    clusters.set(this.clusters);
    this.clusters = clusters;
    this.rttMs = floats(this.rttMs);
    this.spreadMs = floats(this.spreadMs);
    this.lossRatio = floats(this.lossRatio);
    this.confidence = floats(this.confidence);
    this.freshness = floats(this.freshness);
    this.throughputBps = floats(this.throughputBps);
  }
}

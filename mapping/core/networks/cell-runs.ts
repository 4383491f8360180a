/** Runs of cells with a value each: nested prefixes made flat, and several layers of runs laid over each other. */
import { grown } from "./columns.ts";

/** Disjoint runs in ascending order; run `n` reaches from `firsts[n]` up to, and without, `ends[n]`. */
export interface CellRuns {
  readonly count: number;
  readonly firsts: Float64Array;
  readonly ends: Float64Array;
  readonly values: Int32Array;
}

const FIRST_CAPACITY = 1_024;

/** Grows as it is filled. Runs come in ascending order; one that continues the run before with the same value is joined to it. */
export class CellRunsBuilder {
  #firsts = new Float64Array(FIRST_CAPACITY);
  #ends = new Float64Array(FIRST_CAPACITY);
  #values = new Int32Array(FIRST_CAPACITY);
  #count = 0;

  push(first: number, end: number, value: number): void {
    if (end <= first) return;
    const last = this.#count - 1;
    if (last >= 0 && this.#ends[last] === first && this.#values[last] === value) {
      this.#ends[last] = end;
      return;
    }
    if (this.#count === this.#values.length) this.#grow();
    this.#firsts[this.#count] = first;
    this.#ends[this.#count] = end;
    this.#values[this.#count++] = value;
  }

  build(): CellRuns {
    const count = this.#count;
    return {
      count,
      firsts: this.#firsts.subarray(0, count),
      ends: this.#ends.subarray(0, count),
      values: this.#values.subarray(0, count),
    };
  }

  #grow(): void {
    const capacity = this.#count * 2;
    this.#firsts = grown(this.#firsts, capacity);
    this.#ends = grown(this.#ends, capacity);
    this.#values = grown(this.#values, capacity);
  }
}

/**
 * Prefixes, which nest or are disjoint, to runs: each cell has the value of the longest prefix that holds it. One sweep with a stack
 * of the prefixes that are open.
 *
 * @param firsts first cell of each, aligned to its size
 * @param sizes cells of each, powers of two
 */
export function flattenPrefixes(
  firsts: ArrayLike<number>,
  sizes: ArrayLike<number>,
  values: ArrayLike<number>,
): CellRuns {
  const order = Uint32Array.from({ length: firsts.length }, (_, n) => n).sort(
    (a, b) =>
      (firsts[a] as number) - (firsts[b] as number) ||
      (sizes[b] as number) - (sizes[a] as number) ||
      (values[a] as number) - (values[b] as number),
  );
  const runs = new CellRunsBuilder();
  const openEnds: number[] = [];
  const openValues: number[] = [];
  let at = 0;
  const closeUntil = (cell: number): void => {
    for (let end = openEnds.at(-1); end !== undefined && end <= cell; end = openEnds.at(-1)) {
      runs.push(at, end, openValues.at(-1) as number);
      at = Math.max(at, end);
      openEnds.pop();
      openValues.pop();
    }
  };
  for (const n of order) {
    const first = firsts[n] as number;
    closeUntil(first);
    if (openValues.length > 0) runs.push(at, first, openValues.at(-1) as number);
    at = first;
    openEnds.push(first + (sizes[n] as number));
    openValues.push(values[n] as number);
  }
  closeUntil(Infinity);
  return runs.build();
}

/** The runs of a base, cut where a layer changes. `values[0]` is the base's, `values[n]` of layer n - 1; -1 where it says nothing. */
export interface LayeredRuns {
  readonly count: number;
  readonly firsts: Float64Array;
  readonly ends: Float64Array;
  readonly values: readonly Int32Array[];
}

/** Cells outside of the base are left out. Neighbours that agree in every layer are one run. */
export function layRuns(base: CellRuns, layers: readonly CellRuns[]): LayeredRuns {
  // Each run of the base or of a layer ends, and begins, at most one run of the result.
  const capacity = layers.reduce((sum, layer) => sum + 2 * layer.count, base.count);
  const firsts = new Float64Array(capacity);
  const ends = new Float64Array(capacity);
  const values = Array.from({ length: layers.length + 1 }, () => new Int32Array(capacity));
  const found = new Int32Array(layers.length + 1);
  const next = new Uint32Array(layers.length);
  let count = 0;
  for (let run = 0; run < base.count; run++) {
    const runEnd = base.ends[run] as number;
    found[0] = base.values[run] as number;
    for (let at = base.firsts[run] as number; at < runEnd; ) {
      let end = runEnd;
      for (let n = 0; n < layers.length; n++) {
        const layer = layers[n] as CellRuns;
        let k = next[n] as number;
        while (k < layer.count && (layer.ends[k] as number) <= at) k++;
        next[n] = k;
        const first = k < layer.count ? (layer.firsts[k] as number) : Infinity;
        const isWithin = first <= at;
        found[n + 1] = isWithin ? (layer.values[k] as number) : -1;
        end = Math.min(end, isWithin ? (layer.ends[k] as number) : first);
      }
      const isSame =
        count > 0 && ends[count - 1] === at && values.every((own, n) => own[count - 1] === found[n]);
      if (isSame) ends[count - 1] = end;
      else {
        firsts[count] = at;
        ends[count] = end;
        for (let n = 0; n < values.length; n++) (values[n] as Int32Array)[count] = found[n] as number;
        count++;
      }
      at = end;
    }
  }
  return {
    count,
    firsts: firsts.subarray(0, count),
    ends: ends.subarray(0, count),
    values: values.map((own) => own.subarray(0, count)),
  };
}

/** The run that holds the cell; -1: none. */
export function runAt(runs: Pick<CellRuns, "count" | "firsts" | "ends">, cell: number): number {
  let low = 0;
  let high = runs.count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((runs.firsts[middle] as number) <= cell) low = middle + 1;
    else high = middle;
  }
  return low > 0 && (runs.ends[low - 1] as number) > cell ? low - 1 : -1;
}

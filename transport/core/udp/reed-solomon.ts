/**
 * Forward error correction of a group of packets: systematic Reed-Solomon code over GF(256), by a Cauchy matrix (Blömer et al., "An
 * XOR-Based Erasure-Resilient Coding Scheme", 1995; RFC 5510 has the same field). The sources travel as they are; repair r is the sum of
 * all sources i times 1 / (x_r + y_i), with x_r = 255 - r and y_i = i. Every square part of such a matrix can be inverted, so any
 * k of the k sources and their repairs restore the group.
 *
 * Symbols of a group may differ in length: a shorter one counts as if zeros followed.
 */
import { addMultiple, inverse, scale } from "./galois.ts";

/** Sources and repairs of one group together. */
export const SYMBOLS_MAX = 255;

function coefficient(repair: number, source: number): number {
  return inverse((SYMBOLS_MAX - repair) ^ source);
}

/** Repairs of a group whose sources come one by one. */
export class RepairBuilder {
  readonly #repairs: readonly Uint8Array[];
  #sources = 0;
  #bytes = 0;

  /** Room for so many repairs of so many bytes. */
  constructor(repairs: number, symbolBytesMax: number) {
    this.#repairs = Array.from({ length: repairs }, () => new Uint8Array(symbolBytesMax));
  }

  get sources(): number {
    return this.#sources;
  }

  /** Takes the next source. Throws RangeError when it is too long, or the group is full. */
  add(source: Uint8Array): void {
    if (this.#sources + this.#repairs.length >= SYMBOLS_MAX)
      throw new RangeError(`A group has ${SYMBOLS_MAX} symbols at most`);
    for (const [index, repair] of this.#repairs.entries()) {
      if (source.length > repair.length)
        throw new RangeError(`A symbol of ${source.length} bytes is longer than ${repair.length}`);
      addMultiple(repair, source, coefficient(index, this.#sources));
    }
    this.#sources++;
    this.#bytes = Math.max(this.#bytes, source.length);
  }

  /** Repair `index`, as long as the longest source; valid until the next call of {@link add} or {@link reset}. */
  repair(index: number): Uint8Array {
    return (this.#repairs[index] as Uint8Array).subarray(0, this.#bytes);
  }

  /** Begins another group in the same memory. */
  reset(): void {
    for (const repair of this.#repairs) repair.fill(0, 0, this.#bytes);
    this.#sources = 0;
    this.#bytes = 0;
  }
}

/**
 * The missing sources of a group, in place: every `undefined` of `sources` becomes the symbol, padded by zeros to the repairs' length.
 * `repairs` are by index; all are of one length, no source is longer. False: there are fewer repairs than sources missing, or a source is longer than
 * they are; nothing has changed then.
 */
export function restore(
  sources: (Uint8Array | undefined)[],
  repairs: ReadonlyMap<number, Uint8Array>,
): boolean {
  const missing: number[] = [];
  for (const [index, source] of sources.entries()) if (source === undefined) missing.push(index);
  if (missing.length === 0) return true;
  if (repairs.size < missing.length) return false;
  const used = [...repairs].slice(0, missing.length);
  const bytes = Math.max(...used.map(([, repair]) => repair.length));
  if (used.some(([, repair]) => repair.length !== bytes)) return false;
  if (sources.some((source) => source !== undefined && source.length > bytes)) return false;
  // What of each repair comes from the missing ones alone.
  const sums = used.map(([index, repair]) => {
    const sum = Uint8Array.from(repair);
    for (const [at, source] of sources.entries())
      if (source !== undefined) addMultiple(sum, source, coefficient(index, at));
    return sum;
  });
  solve(
    used.map(([index]) => Uint8Array.from(missing, (source) => coefficient(index, source))),
    sums,
  );
  for (const [at, index] of missing.entries()) sources[index] = sums[at];
  return true;
}

/** Gauss-Jordan elimination: `sums` become the unknowns. No part of a Cauchy matrix is singular, so a pivot is there without a search. */
function solve(rows: readonly Uint8Array[], sums: readonly Uint8Array[]): void {
  for (const [pivot, row] of rows.entries()) {
    const factor = inverse(row[pivot] as number);
    scale(row, factor);
    scale(sums[pivot] as Uint8Array, factor);
    for (const [other, target] of rows.entries()) {
      if (other === pivot) continue;
      const times = target[pivot] as number;
      addMultiple(target, row, times);
      addMultiple(sums[other] as Uint8Array, sums[pivot] as Uint8Array, times);
    }
  }
}

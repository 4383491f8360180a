/**
 * Keys that left a store lately, by hash only: a set of bounded memory that forgets by age. Age is what has been evicted
 * since, in bytes, so that a ghost lives as long as an object would have in a queue of `spanBytes` (S3-FIFO, section 4).
 *
 * Layout: buckets of four (hash, tick) pairs in one array; a full bucket loses its oldest. A wrong "yes" needs an equal
 * 32-bit hash in the same bucket within the span.
 */

/** Pairs in a bucket. Four keep a table that is 70 % full from losing more than a few per cent early. */
const WAYS = 4;
/** Ticks that a span is cut into: the age is right to a thousandth of it. */
const TICKS_A_SPAN = 1_024;
/** Bytes of one (hash, tick) pair. */
const PAIR_BYTES = 8;

export class GhostTable {
  readonly #pairs: Uint32Array;
  readonly #bucketMask: number;
  readonly #bytesATick: number;
  /** Starts one span on, so that the zeroes of a new table are too old to be ghosts. */
  #tick = TICKS_A_SPAN + 1;
  #tickBytes = 0;

  /** `entries` is rounded up to a power of two, at least one bucket. `spanBytes` > 0. */
  constructor(entries: number, spanBytes: number) {
    const buckets = 2 ** Math.ceil(Math.log2(Math.max(1, entries / WAYS)));
    this.#pairs = new Uint32Array(buckets * WAYS * 2);
    this.#bucketMask = buckets - 1;
    this.#bytesATick = Math.max(1, spanBytes / TICKS_A_SPAN);
  }

  /** Memory of a table for so many entries. */
  static bytesFor(entries: number): number {
    return 2 ** Math.ceil(Math.log2(Math.max(1, entries / WAYS))) * WAYS * PAIR_BYTES;
  }

  /** Remembers an evicted key, which had `bytes`. */
  add(hash: number, bytes: number): void {
    this.#tickBytes += bytes;
    const ticks = Math.floor(this.#tickBytes / this.#bytesATick);
    this.#tickBytes -= ticks * this.#bytesATick;
    this.#tick = (this.#tick + ticks) >>> 0;
    const pairs = this.#pairs;
    const base = (hash & this.#bucketMask) * WAYS * 2;
    let slot = base;
    let oldest = -1;
    for (let at = base; at < base + WAYS * 2; at += 2) {
      if (pairs[at] === hash) {
        slot = at;
        break;
      }
      const age = this.#ageOf(at);
      if (age > oldest) {
        oldest = age;
        slot = at;
      }
    }
    pairs[slot] = hash;
    pairs[slot + 1] = this.#tick;
  }

  /** Whether the key left within the span; it is forgotten then. */
  take(hash: number): boolean {
    const pairs = this.#pairs;
    const base = (hash & this.#bucketMask) * WAYS * 2;
    for (let at = base; at < base + WAYS * 2; at += 2) {
      if (pairs[at] !== hash || this.#ageOf(at) > TICKS_A_SPAN) continue;
      pairs[at + 1] = (this.#tick - TICKS_A_SPAN - 1) >>> 0;
      return true;
    }
    return false;
  }

  /** Ticks wrap after four million spans; a pair that old reads as young once, which is one wrong "yes". */
  #ageOf(at: number): number {
    return (this.#tick - (this.#pairs[at + 1] ?? 0)) >>> 0;
  }
}

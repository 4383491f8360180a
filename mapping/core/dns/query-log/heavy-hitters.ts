/**
 * The most frequent keys of a stream in bounded memory (Misra, Gries, 1982; the mergeable form of Agarwal et al., "Mergeable Summaries", 2012):
 * when there are twice as many keys as are kept, the count of the first one that is not kept is taken off all, and who has nothing left is let go.
 */
export interface HeavyHittersFigures {
  /** Of all keys. */
  readonly total: number;
  /** A key occurred between `count` and `count + missedMax` times; one that is not here `missedMax` times at most. */
  readonly missedMax: number;
  /** Most frequent first; ties by key. */
  readonly entries: readonly { readonly key: string; readonly count: number }[];
}

export class HeavyHitters {
  readonly #kept: number;
  #counts = new Map<string, number>();
  #total = 0;
  #missedMax = 0;

  /** @param kept keys, at least 1; whatever occurs more than total / kept times is among them */
  constructor(kept: number) {
    this.#kept = kept;
  }

  add(key: string, count = 1): void {
    this.#total += count;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + count);
    if (this.#counts.size >= 2 * this.#kept) this.#prune();
  }

  /** Adds what another one tells. */
  absorb({ total, missedMax, entries }: HeavyHittersFigures): void {
    for (const { key, count } of entries) this.add(key, count);
    // What it has let go is in its total alone.
    this.#total += total - entries.reduce((sum, { count }) => sum + count, 0);
    this.#missedMax += missedMax;
  }

  figures(most: number): HeavyHittersFigures {
    const sorted = this.#sorted();
    // Who is left out of the figures has its count in them no more.
    const next = sorted[most]?.[1] ?? 0;
    return {
      total: this.#total,
      missedMax: this.#missedMax + next,
      entries: sorted.slice(0, most).map(([key, count]) => ({ key, count })),
    };
  }

  #sorted(): [string, number][] {
    return [...this.#counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  }

  #prune(): void {
    const sorted = this.#sorted();
    const off = sorted[this.#kept]?.[1] ?? 0;
    this.#missedMax += off;
    this.#counts = new Map(
      sorted
        .slice(0, this.#kept)
        .flatMap(([key, count]) => (count > off ? [[key, count - off] as const] : [])),
    );
  }
}

/**
 * How often keys were seen of late, in bounded memory: of two generations the older one goes when the newer one is full, so that
 * a key is known for as long as fewer than `keysMax` others come after it. A key that goes on coming stays known.
 */
export class RecentCounts {
  readonly #keysMax: number;
  #newer = new Map<string, number>();
  #older: ReadonlyMap<string, number> = new Map();

  /** @param keysMax at least 1; twice as many are held */
  constructor(keysMax: number) {
    this.#keysMax = keysMax;
  }

  /** How often the key has come, this time counted. */
  count(key: string): number {
    const count = (this.#newer.get(key) ?? this.#older.get(key) ?? 0) + 1;
    if (!this.#newer.has(key) && this.#newer.size >= this.#keysMax) {
      this.#older = this.#newer;
      this.#newer = new Map();
    }
    this.#newer.set(key, count);
    return count;
  }
}

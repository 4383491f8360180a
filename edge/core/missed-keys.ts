/** Keys that changed while whoever stores them could not be told; beyond a bound everything counts as changed. */
import type { CacheKey } from "./cache-key.ts";

/** Characters of all keys together. */
export const MISSED_CHARACTERS_MAX = 1_048_576;

export type ChangedKeys = readonly CacheKey[] | "all";

export class MissedKeys {
  readonly #keys = new Set<CacheKey>();
  #characters = 0;
  #isAll = false;

  add(keys: ChangedKeys): void {
    if (keys === "all") this.#isAll = true;
    else
      for (const key of keys) {
        if (this.#isAll || this.#keys.has(key)) continue;
        this.#keys.add(key);
        this.#characters += key.length;
        this.#isAll = this.#characters > MISSED_CHARACTERS_MAX;
      }
    if (this.#isAll) this.#keys.clear();
  }

  /** What was missed, which is forgotten here; undefined: nothing. */
  take(): ChangedKeys | undefined {
    const changed = this.#isAll ? "all" : [...this.#keys];
    this.#keys.clear();
    this.#characters = 0;
    this.#isAll = false;
    return changed.length === 0 ? undefined : changed;
  }
}

/**
 * When a child that died may start again: at once after a long life, later and later while it keeps dying young. Pure, so
 * that the table of delays is a test and not a wait.
 */
export interface RestartSettings {
  /** First pause. Long enough that a name server notices the death, short enough that nobody waits for it. */
  readonly firstMs: number;
  readonly maxMs: number;
  /** A child that lived this long starts with a clean record. */
  readonly stableMs: number;
}

export const restartSettings: RestartSettings = { firstMs: 1_000, maxMs: 30_000, stableMs: 20_000 };

export class RestartPolicy {
  readonly #settings: RestartSettings;
  #deaths = 0;
  constructor(settings: RestartSettings = restartSettings) {
    this.#settings = settings;
  }

  /** @returns milliseconds to wait before the next start of a child that lived for `livedMs`. */
  handleDeath(livedMs: number): number {
    if (livedMs >= this.#settings.stableMs) this.#deaths = 0;
    const delayMs = Math.min(this.#settings.maxMs, this.#settings.firstMs * 2 ** this.#deaths);
    this.#deaths = Math.min(this.#deaths + 1, 30);
    return delayMs;
  }
}

/** How long large bodies took over one path lately: what loss and distance let one predict, seen. */

/** Transfers that are looked back on, and how many make a figure. */
const RECENT = 8;
const KNOWN_FROM = 2;
const MIB = 1 << 20;

export class TransferTimes {
  readonly #recentMs: number[] = [];
  #usualMs: number | undefined;

  /** A body of `bytes` that came in `ms` after its head, which came `headMs` after the request. */
  handle(bytes: number, headMs: number, ms: number): void {
    if (!(bytes > 0)) return;
    this.#recentMs.push(headMs + (ms * MIB) / bytes);
    if (this.#recentMs.length > RECENT) this.#recentMs.shift();
    if (this.#recentMs.length >= KNOWN_FROM)
      this.#usualMs = this.#recentMs.toSorted((a, b) => a - b)[(this.#recentMs.length - 1) >> 1];
  }

  /** The path has become another one. */
  forget(): void {
    this.#recentMs.length = 0;
    this.#usualMs = undefined;
  }

  /** Of 1 MiB, from the request to the last byte, the lower median; undefined before the second. */
  get usualMs(): number | undefined {
    return this.#usualMs;
  }
}

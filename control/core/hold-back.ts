/**
 * Documents held back for a time before they come into force: what a node that takes its inputs late has instead of the newest ("Akamai DNS:
 * Providing Authoritative Answers to the World's Queries", SIGCOMM 2020, section 4.2.3). Of each document one waits for its time and behind it the
 * newest of those that came since: two a document, however often it changes, and each in force between one delay and two after it came.
 */

interface Waiting<T> {
  readonly offer: T;
  readonly cameMs: number;
}

export class HoldBack<T> {
  readonly #delayMs: number;
  readonly #next = new Map<string, Waiting<T>>();
  readonly #newest = new Map<string, Waiting<T>>();
  #isFrozen = false;

  /** @param delayMs above 0 */
  constructor(delayMs: number) {
    this.#delayMs = delayMs;
  }

  /** Documents that wait. */
  get size(): number {
    return this.#next.size + this.#newest.size;
  }

  handleOffer(key: string, offer: T, nowMs: number): void {
    const waiting = { offer, cameMs: nowMs };
    if (this.#next.has(key)) this.#newest.set(key, waiting);
    else this.#next.set(key, waiting);
  }

  /**
   * While frozen nothing comes into force: what harmed others must not do so here an hour later. When they do well again they do so with the
   * newest of each document: what waits before it is forgotten, for what harmed them may be among that, and it has its time to show itself anew.
   */
  freeze(isFrozen: boolean, nowMs: number): void {
    if (this.#isFrozen && !isFrozen) {
      for (const [key, { offer }] of [...this.#next, ...this.#newest])
        this.#next.set(key, { offer, cameMs: nowMs });
      this.#newest.clear();
    }
    this.#isFrozen = isFrozen;
  }

  /** What comes into force now, in the order in which it came. */
  pollDue(nowMs: number): readonly T[] {
    if (this.#isFrozen) return [];
    const due: Waiting<T>[] = [];
    for (const [key, waiting] of this.#next) {
      if (nowMs - waiting.cameMs < this.#delayMs) continue;
      due.push(waiting);
      this.#next.delete(key);
      const newest = this.#newest.get(key);
      this.#newest.delete(key);
      if (newest !== undefined) this.#next.set(key, newest);
    }
    return due.sort((a, b) => a.cameMs - b.cameMs).map(({ offer }) => offer);
  }

  /** When {@link pollDue} is to be asked next; undefined: nothing waits, or all is frozen. */
  pollTimeout(): number | undefined {
    if (this.#isFrozen || this.#next.size === 0) return undefined;
    let firstMs = Number.POSITIVE_INFINITY;
    for (const { cameMs } of this.#next.values()) firstMs = Math.min(firstMs, cameMs);
    return firstMs + this.#delayMs;
  }
}

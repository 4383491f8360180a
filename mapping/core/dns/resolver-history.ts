/**
 * Who has asked for what there is, minute after minute: a resolver that was there before an attack is told from the attack by that, also
 * without cookies. It is a reason to be looked at first under more than can be answered, and no proof of an address. Addresses are told
 * by their `addressHash`. Bounded, never grows.
 */

/** Addresses remembered (IPv6 by its /64). */
const PLACES = 65_536;
/** Different minutes with a common query that make a history. */
const STEADY_MINUTES = 5;
/** A history ends after so long without one. */
const FORGOTTEN_MINUTES = 60;
/** Uncommon queries a second of one address that go before those of strangers: a flood may come through an honest resolver. */
const FIRST_PER_SECOND = 100;

export class ResolverHistory {
  readonly #marks = new Uint32Array(PLACES);
  readonly #minutes = new Uint8Array(PLACES);
  readonly #lastMinute = new Uint32Array(PLACES);
  readonly #credits = new Float32Array(PLACES).fill(FIRST_PER_SECOND);
  readonly #atMs = new Float64Array(PLACES);

  /** A common query came. @param nowMs any clock that never runs back */
  handleCommon(hash: number, nowMs: number): void {
    const place = hash & (PLACES - 1);
    const minute = 1 + Math.floor(nowMs / 60_000);
    const last = this.#lastMinute[place] as number;
    const isOver = minute - last > FORGOTTEN_MINUTES;
    if (this.#marks[place] !== hash || isOver) {
      // Forged addresses do not take the place of a history.
      if (!isOver && (this.#minutes[place] as number) >= STEADY_MINUTES) return;
      this.#marks[place] = hash;
      this.#minutes[place] = 1;
    } else if (minute !== last) this.#minutes[place] = Math.min(255, (this.#minutes[place] as number) + 1);
    this.#lastMinute[place] = minute;
  }

  isSteady(hash: number, nowMs: number): boolean {
    const place = hash & (PLACES - 1);
    return (
      this.#marks[place] === hash &&
      (this.#minutes[place] as number) >= STEADY_MINUTES &&
      1 + Math.floor(nowMs / 60_000) - (this.#lastMinute[place] as number) <= FORGOTTEN_MINUTES
    );
  }

  /** Whether an address that is known has room among the first for one query more; then it is counted. */
  takeFirst(hash: number, nowMs: number): boolean {
    const place = hash & (PLACES - 1);
    const earned = ((nowMs - (this.#atMs[place] as number)) * FIRST_PER_SECOND) / 1_000;
    const credit = Math.min(FIRST_PER_SECOND, (this.#credits[place] as number) + earned);
    this.#atMs[place] = nowMs;
    this.#credits[place] = credit >= 1 ? credit - 1 : credit;
    return credit >= 1;
  }
}

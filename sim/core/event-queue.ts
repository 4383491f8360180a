/**
 * The virtual clock: what happens next. Order is (time, owner, order of scheduling), so that it depends on what the actors
 * do and not on the order in which they were made.
 */
import { type MonotonicMs, monotonicMs } from "#kit";

interface SimEvent {
  readonly at: MonotonicMs;
  readonly owner: string;
  readonly label: string;
  readonly seq: number;
  readonly run: () => void;
}

/** More pending events are a runaway loop, not a simulation. */
const EVENTS_MAX = 2_000_000;

function isBefore(a: SimEvent, b: SimEvent): boolean {
  if (a.at !== b.at) return a.at < b.at;
  if (a.owner !== b.owner) return a.owner < b.owner;
  return a.seq < b.seq;
}

/** More than this at one instant is a timer that rearms itself for now: a bug of a driver, not a simulation. */
const EVENTS_AT_ONCE_MAX = 200_000;

/**
 * The first whole microsecond that is not before `ms`: differences in the last bit of a logarithm must not reorder events, and
 * a timer must not fire before what it waits for is due.
 */
export function toMicroseconds(ms: number): number {
  const rounded = Math.ceil(ms * 1_000) / 1_000;
  return rounded < ms ? rounded + 0.001 : rounded;
}

export class EventQueue {
  readonly #heap: SimEvent[] = [];
  #seq = 0;
  #now = monotonicMs(0);
  #executed = 0;
  #atOnce = 0;

  get now(): MonotonicMs {
    return this.#now;
  }
  get executed(): number {
    return this.#executed;
  }
  get pending(): number {
    return this.#heap.length;
  }

  /**
   * Something that `owner` does at `at`; a time that has passed means now. Throws RangeError when the time is not finite or
   * too much is pending.
   */
  schedule(at: number, owner: string, label: string, run: () => void): void {
    const time = monotonicMs(Math.max(this.#now, toMicroseconds(at)));
    if (this.#heap.length >= EVENTS_MAX)
      throw new RangeError(`Cannot schedule "${label}" of ${owner}: ${EVENTS_MAX} events are pending`);
    this.#heap.push({ at: time, owner, label, seq: this.#seq++, run });
    this.#up(this.#heap.length - 1);
  }

  /** Runs everything due until `end` and leaves the clock there; `observe` sees each event before it runs. */
  runUntil(
    end: number,
    observe: (at: MonotonicMs, owner: string, label: string) => void,
    isStopped: () => boolean,
  ): void {
    for (let top = this.#heap[0]; top !== undefined && top.at <= end; top = this.#heap[0]) {
      if (isStopped()) return;
      this.#take();
      this.#atOnce = top.at > this.#now ? 0 : this.#atOnce + 1;
      if (this.#atOnce > EVENTS_AT_ONCE_MAX)
        throw new Error(`Virtual time stands still at ${top.at} ms: ${top.owner} repeats "${top.label}"`);
      this.#now = top.at;
      this.#executed++;
      observe(top.at, top.owner, top.label);
      top.run();
    }
    if (end > this.#now) this.#now = monotonicMs(end);
  }

  #take(): void {
    const last = this.#heap.pop();
    if (last === undefined || this.#heap.length === 0) return;
    this.#heap[0] = last;
    this.#down();
  }

  #up(start: number): void {
    let place = start;
    while (place > 0) {
      const parent = (place - 1) >>> 1;
      if (!this.#swapIfBefore(place, parent)) return;
      place = parent;
    }
  }

  #down(): void {
    let place = 0;
    for (;;) {
      const left = place * 2 + 1;
      const right = left + 1;
      const child =
        right < this.#heap.length && isBefore(this.#heap[right] as SimEvent, this.#heap[left] as SimEvent)
          ? right
          : left;
      if (child >= this.#heap.length || !this.#swapIfBefore(child, place)) return;
      place = child;
    }
  }

  #swapIfBefore(lower: number, upper: number): boolean {
    const a = this.#heap[lower] as SimEvent;
    const b = this.#heap[upper] as SimEvent;
    if (!isBefore(a, b)) return false;
    this.#heap[lower] = b;
    this.#heap[upper] = a;
    return true;
  }
}

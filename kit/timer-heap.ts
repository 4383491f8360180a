import type { MonotonicMs } from "./time.ts";

type Timer = { readonly id: string; at: MonotonicMs };

/**
 * At most one timer an id, earliest first; ties by id, ascending by UTF-16 code unit, so that a machine built on it
 * is deterministic. A binary heap with the place of every id: set, delete and take cost O(log n), next O(1).
 */
export class TimerHeap {
  readonly #heap: Timer[] = [];
  readonly #places = new Map<string, number>();

  get size(): number {
    return this.#heap.length;
  }

  /** Sets or moves the timer of `id`. */
  set(id: string, at: MonotonicMs): void {
    const place = this.#places.get(id);
    if (place === undefined) {
      this.#heap.push({ id, at });
      this.#up(this.#heap.length - 1);
    } else {
      (this.#heap[place] as Timer).at = at;
      this.#down(this.#up(place));
    }
  }

  /** Removes the timer of `id`; whether there was one. */
  delete(id: string): boolean {
    const place = this.#places.get(id);
    if (place === undefined) return false;
    this.#places.delete(id);
    const last = this.#heap.pop() as Timer;
    if (place < this.#heap.length) {
      this.#heap[place] = last;
      this.#down(this.#up(place));
    }
    return true;
  }

  /** When the earliest timer is due, or undefined. */
  next(): MonotonicMs | undefined {
    return this.#heap[0]?.at;
  }

  /** Removes and returns the id of the earliest timer that is due at `now`, or undefined. */
  take(now: MonotonicMs): string | undefined {
    const top = this.#heap[0];
    if (!top || top.at > now) return undefined;
    this.delete(top.id);
    return top.id;
  }

  #isBefore(a: Timer, b: Timer): boolean {
    return a.at !== b.at ? a.at < b.at : a.id < b.id;
  }

  /** Moves the timer at `start` towards the root as far as it belongs; returns its place. */
  #up(start: number): number {
    const timer = this.#heap[start] as Timer;
    let place = start;
    while (place > 0) {
      const parent = (place - 1) >>> 1;
      if (!this.#isBefore(timer, this.#heap[parent] as Timer)) break;
      this.#put(place, this.#heap[parent] as Timer);
      place = parent;
    }
    this.#put(place, timer);
    return place;
  }

  /** Moves the timer at `start` towards the leaves as far as it belongs. */
  #down(start: number): void {
    const timer = this.#heap[start] as Timer;
    let place = start;
    for (;;) {
      let child = place * 2 + 1;
      if (child >= this.#heap.length) break;
      const right = this.#heap[child + 1];
      if (right && this.#isBefore(right, this.#heap[child] as Timer)) child++;
      if (!this.#isBefore(this.#heap[child] as Timer, timer)) break;
      this.#put(place, this.#heap[child] as Timer);
      place = child;
    }
    this.#put(place, timer);
  }

  #put(place: number, timer: Timer): void {
    this.#heap[place] = timer;
    this.#places.set(timer.id, place);
  }
}

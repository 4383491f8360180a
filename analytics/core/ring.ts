/**
 * A bounded first-in first-out queue. When it is full the newest is dropped and counted: what waits is older, was promised
 * first, and the writer of the newest never pays for a slow reader.
 */
export class Ring<T> {
  readonly #slots: (T | undefined)[];
  #head = 0;
  #length = 0;
  #dropped = 0;

  /** Throws RangeError unless `capacity` is a whole number of at least 1. */
  constructor(capacity: number) {
    if (!Number.isSafeInteger(capacity) || capacity < 1)
      throw new RangeError(`A ring has a capacity of at least 1, got ${capacity}`);
    this.#slots = Array.from<T | undefined>({ length: capacity });
  }

  get length(): number {
    return this.#length;
  }

  get capacity(): number {
    return this.#slots.length;
  }

  /** Items that were not taken, since the start. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Whether the item was taken. */
  push(item: T): boolean {
    if (this.#length === this.#slots.length) {
      this.#dropped++;
      return false;
    }
    this.#slots[(this.#head + this.#length) % this.#slots.length] = item;
    this.#length++;
    return true;
  }

  /** Up to `max` of the oldest items, in order; they are no longer held. */
  take(max: number): T[] {
    const items: T[] = [];
    while (items.length < max && this.#length > 0) {
      items.push(this.#slots[this.#head] as T);
      this.#slots[this.#head] = undefined;
      this.#head = (this.#head + 1) % this.#slots.length;
      this.#length--;
    }
    return items;
  }
}

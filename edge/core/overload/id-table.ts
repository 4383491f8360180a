/**
 * What is under way, by number. A Map that is added to and deleted from all the time makes itself a new table every few dozen entries, and V8 has
 * an old table hold on to the next one: once one has grown old, whatever hung on the entries of those after it grows old as well, a
 * kilobyte for each forwarded request. This one keeps its table: open addressing by the number itself, since numbers are given out in
 * turn, and what is behind a hole moves up.
 */
const FREE = -1;
const SLOTS_MIN = 64;

export class IdTable<T> {
  #ids = new Float64Array(SLOTS_MIN).fill(FREE);
  #values: (T | undefined)[] = Array.from({ length: SLOTS_MIN });
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(id: number): T | undefined {
    return this.#values[this.#slotOf(id)];
  }

  /** `id`: a whole number of at least 0. */
  set(id: number, value: T): void {
    const slot = this.#slotOf(id);
    this.#values[slot] = value;
    if (this.#ids[slot] === id) return;
    this.#ids[slot] = id;
    this.#size++;
    if (this.#size * 2 > this.#ids.length) this.#grow();
  }

  /** Whether there was one. */
  delete(id: number): boolean {
    const ids = this.#ids;
    let hole = this.#slotOf(id);
    if (ids[hole] !== id) return false;
    const mask = ids.length - 1;
    for (let slot = (hole + 1) & mask; ids[slot] !== FREE; slot = (slot + 1) & mask) {
      const home = (ids[slot] as number) & mask;
      // It may not come to lie before the place where it is looked for first.
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      ids[hole] = ids[slot] as number;
      this.#values[hole] = this.#values[slot];
      hole = slot;
    }
    ids[hole] = FREE;
    this.#values[hole] = undefined;
    this.#size--;
    return true;
  }

  /** Where it is, or would be. */
  #slotOf(id: number): number {
    const ids = this.#ids;
    const mask = ids.length - 1;
    let slot = id & mask;
    while (ids[slot] !== id && ids[slot] !== FREE) slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const ids = this.#ids;
    const values = this.#values;
    this.#ids = new Float64Array(2 * ids.length).fill(FREE);
    this.#values = Array.from({ length: 2 * ids.length });
    for (let old = 0; old < ids.length; old++) {
      const id = ids[old] as number;
      if (id === FREE) continue;
      const slot = this.#slotOf(id);
      this.#ids[slot] = id;
      this.#values[slot] = values[old];
    }
  }
}

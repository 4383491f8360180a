const NONE = -1;

/** A binary heap of held places: who loses least by leaving on top, of equals the largest number. Those who left stay in it. */
export class LeaverQueue {
  readonly #units: number[] = [];
  readonly #places: number[] = [];
  readonly #losses: number[] = [];
  /** The place that the last popped unit held when it came, and what it loses with it. */
  poppedPlace = NONE;
  poppedLoss = 0;

  push(unit: number, place: number, loss: number): void {
    let hole = this.#units.length;
    this.#units.push(unit);
    this.#places.push(place);
    this.#losses.push(loss);
    while (hole > 0) {
      const above = (hole - 1) >> 1;
      if (!this.#leavesBefore(unit, loss, above)) break;
      this.#move(above, hole);
      hole = above;
    }
    this.#put(hole, unit, place, loss);
  }

  pop(): number | undefined {
    const top = this.#units[0];
    if (top === undefined) return undefined;
    this.poppedPlace = this.#places[0] as number;
    this.poppedLoss = this.#losses[0] as number;
    const unit = this.#units.pop() as number;
    const place = this.#places.pop() as number;
    const loss = this.#losses.pop() as number;
    const size = this.#units.length;
    if (size === 0) return top;
    let hole = 0;
    for (;;) {
      let child = 2 * hole + 1;
      if (child >= size) break;
      if (
        child + 1 < size &&
        this.#leavesBefore(this.#units[child + 1] as number, this.#losses[child + 1] as number, child)
      )
        child++;
      if (this.#leavesBefore(unit, loss, child)) break;
      this.#move(child, hole);
      hole = child;
    }
    this.#put(hole, unit, place, loss);
    return top;
  }

  #leavesBefore(unit: number, loss: number, other: number): boolean {
    const otherLoss = this.#losses[other] as number;
    return loss !== otherLoss ? loss < otherLoss : unit > (this.#units[other] as number);
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#units[from] as number, this.#places[from] as number, this.#losses[from] as number);
  }

  #put(at: number, unit: number, place: number, loss: number): void {
    this.#units[at] = unit;
    this.#places[at] = place;
    this.#losses[at] = loss;
  }
}

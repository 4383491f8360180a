/** The newest values, kept in order as they come and go: their quantiles cost no sorting. */
export class SortedWindow {
  readonly #newest: Float64Array;
  readonly #sorted: Float64Array;
  #next = 0;
  #count = 0;

  /** `size`: values that are kept, at least 1. */
  constructor(size: number) {
    this.#newest = new Float64Array(size);
    this.#sorted = new Float64Array(size);
  }

  get count(): number {
    return this.#count;
  }

  /** The value of a rank, 0 for the least; undefined: there are not so many. */
  at(rank: number): number | undefined {
    return rank < this.#count ? this.#sorted[rank] : undefined;
  }

  /** Not NaN. In place of the oldest when there are as many as are kept. */
  add(value: number): void {
    const sorted = this.#sorted;
    if (this.#count === sorted.length) {
      const gone = this.#placeOf(this.#newest[this.#next] as number);
      sorted.copyWithin(gone, gone + 1, this.#count--);
    }
    this.#newest[this.#next] = value;
    this.#next = (this.#next + 1) % sorted.length;
    const place = this.#placeOf(value);
    sorted.copyWithin(place + 1, place, this.#count++);
    sorted[place] = value;
  }

  /** Where the first value lies that is not less. */
  #placeOf(value: number): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle] as number) < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

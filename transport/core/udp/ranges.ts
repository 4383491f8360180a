/** A set of whole numbers, kept as ranges that are ascending and never touch: packet numbers that came, bytes that are there. */
export class Ranges {
  /** First members, and the numbers behind the last ones. */
  readonly #from: number[] = [];
  readonly #to: number[] = [];

  get count(): number {
    return this.#from.length;
  }

  from(index: number): number {
    return this.#from[index] as number;
  }

  /** The number behind the last member of a range. */
  to(index: number): number {
    return this.#to[index] as number;
  }

  has(number: number): boolean {
    const index = this.#after(number) - 1;
    return index >= 0 && number < this.to(index);
  }

  /** Takes in `from` to `to - 1`. */
  add(from: number, to: number): void {
    if (from >= to) return;
    let first = this.#after(from);
    if (first > 0 && this.to(first - 1) >= from) first--;
    let last = first;
    let low = from;
    let high = to;
    while (last < this.count && this.from(last) <= to) {
      low = Math.min(low, this.from(last));
      high = Math.max(high, this.to(last));
      last++;
    }
    this.#from.splice(first, last - first, low);
    this.#to.splice(first, last - first, high);
  }

  /** Takes out `from` to `to - 1`. */
  remove(from: number, to: number): void {
    if (from >= to) return;
    let first = this.#after(from);
    if (first > 0 && this.to(first - 1) > from) first--;
    let last = first;
    const lows: number[] = [];
    const highs: number[] = [];
    while (last < this.count && this.from(last) < to) {
      if (this.from(last) < from) {
        lows.push(this.from(last));
        highs.push(from);
      }
      if (this.to(last) > to) {
        lows.push(to);
        highs.push(this.to(last));
      }
      last++;
    }
    this.#from.splice(first, last - first, ...lows);
    this.#to.splice(first, last - first, ...highs);
  }

  /** Takes out the lowest range. */
  dropFirst(): void {
    this.#from.shift();
    this.#to.shift();
  }

  /** Index of the first range that begins behind `number`. */
  #after(number: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.from(middle) <= number) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

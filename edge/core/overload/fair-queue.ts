/**
 * A short queue in which properties take turns: one that has a thousand requests waiting delays another's first by one
 * place. Within a property first come, first served.
 */
interface Line {
  /** Ids in order of arrival; those before `head` are gone. */
  ids: number[];
  head: number;
}

export class FairQueue {
  readonly #settings: { readonly queueMax: number };
  /** In order of turns: the first one is served next and goes to the end. */
  readonly #lines = new Map<string, Line>();
  readonly #propertyOf = new Map<number, string>();

  /** `queueMax`: places in all; may change. */
  constructor(settings: { readonly queueMax: number }) {
    this.#settings = settings;
  }

  get size(): number {
    return this.#propertyOf.size;
  }
  has(id: number): boolean {
    return this.#propertyOf.has(id);
  }

  /**
   * Whether there is a place for the property: each may hold as many as are free. So one alone gets half of them, and the
   * rest is there for others (dynamic thresholds, Choudhury and Hahne, IEEE/ACM ToN 6(2), 1998).
   */
  mayEnter(property: string): boolean {
    const free = this.#settings.queueMax - this.size;
    return free > 0 && this.#lengthOf(property) < Math.max(1, free);
  }

  /** How many would be served before a request of the property that came now. */
  aheadOf(property: string): number {
    const own = this.#lengthOf(property);
    let ahead = own;
    for (const [other, line] of this.#lines)
      if (other !== property) ahead += Math.min(line.ids.length - line.head, own + 1);
    return ahead;
  }

  push(id: number, property: string): void {
    const line = this.#lines.get(property);
    if (line === undefined) this.#lines.set(property, { ids: [id], head: 0 });
    else line.ids.push(id);
    this.#propertyOf.set(id, property);
  }

  /** Takes out the next one, of the property whose turn it is the one that came first, or last; undefined when nobody waits. */
  shift(isNewest: boolean): number | undefined {
    for (const [property, line] of this.#lines) {
      this.#lines.delete(property);
      while (line.head < line.ids.length) {
        const id = isNewest ? line.ids.pop() : line.ids[line.head++];
        // Gone in the meantime.
        if (id === undefined || !this.#propertyOf.delete(id)) continue;
        if (line.head < line.ids.length) this.#lines.set(property, compacted(line));
        return id;
      }
    }
    return undefined;
  }

  /** Takes one out from wherever it stands; false when it is not there. */
  delete(id: number): boolean {
    const property = this.#propertyOf.get(id);
    if (property === undefined) return false;
    this.#propertyOf.delete(id);
    const line = this.#lines.get(property);
    if (line === undefined) return true;
    const at = line.ids.indexOf(id, line.head);
    if (at >= 0) line.ids.splice(at, 1);
    if (line.head >= line.ids.length) this.#lines.delete(property);
    return true;
  }

  #lengthOf(property: string): number {
    const line = this.#lines.get(property);
    return line === undefined ? 0 : line.ids.length - line.head;
  }
}

/** Gives the places of those that are gone back, now and then, so that a queue that never empties does not grow. */
function compacted(line: Line): Line {
  if (line.head < 256) return line;
  line.ids = line.ids.slice(line.head);
  line.head = 0;
  return line;
}

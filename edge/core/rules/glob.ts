/** Globs on paths: `*` is any run within a segment, `**` any run. No backtracking: customers write these, and clients the paths. */

/** A place in the pattern: a character's code, or one of these. */
const STAR = -1;
const GLOBSTAR = -2;

export class Glob {
  readonly #places: Int16Array;
  /** What every matching path begins with. */
  readonly literalPrefix: string;

  constructor(pattern: string) {
    const places: number[] = [];
    for (let index = 0; index < pattern.length; index++) {
      if (pattern[index] !== "*") places.push(pattern.charCodeAt(index));
      else if (pattern[index + 1] === "*") {
        index++;
        if (places.at(-1) !== GLOBSTAR) places.push(GLOBSTAR);
      } else if (places.at(-1) !== STAR) places.push(STAR);
    }
    this.#places = Int16Array.from(places);
    const star = pattern.indexOf("*");
    this.literalPrefix = star === -1 ? pattern : pattern.slice(0, star);
  }

  /**
   * Whether the whole path fits. All places that the pattern could be at are followed together, so that the cost is at most the
   * path's length times the pattern's.
   */
  matches(path: string): boolean {
    if (!path.startsWith(this.literalPrefix)) return false;
    const places = this.#places;
    const from = this.literalPrefix.length;
    let now = new Set<number>();
    enter(places, from, now);
    for (let index = from; index < path.length && now.size > 0; index++) {
      const code = path.charCodeAt(index);
      const next = new Set<number>();
      for (const at of now) {
        const place = places[at];
        if (place === GLOBSTAR || (place === STAR && code !== SLASH)) enter(places, at, next);
        else if (place === code) enter(places, at + 1, next);
      }
      now = next;
    }
    return now.has(places.length);
  }
}

const SLASH = 0x2f;

/** Adds a place with those that are reached from it without a character. */
function enter(places: Int16Array, from: number, into: Set<number>): void {
  let at = from;
  into.add(at);
  while ((places[at] ?? 0) < 0) into.add(++at);
}

/**
 * Globs on paths: `*` is any run within a segment, `**` any run. No backtracking: customers write these, and clients the paths.
 *
 * All places that the pattern could be at are followed together as bits (Baeza-Yates and Gonnet, "A New Approach to Text
 * Searching", CACM 35(10), 1992, with self-loops for wildcards): a character costs one step for each 32 characters of the pattern,
 * whatever the path.
 */

const SLASH = 0x2f;
const CODES = 128;

export class Glob {
  /** What every matching path begins with. */
  readonly #prefix: string;
  /** What it ends with; undefined: there is no wildcard, and the prefix is all of it. */
  readonly #suffix: string | undefined;
  /** What stands between first and last wildcard, both included; null: one wildcard alone. */
  readonly #middle: Middle | null;
  readonly #crossesSegments: boolean;

  constructor(pattern: string) {
    // A run of wildcards that holds "**" means "**".
    const plain = pattern.replaceAll(/\*{2,}/g, "**");
    const first = plain.indexOf("*");
    const last = plain.lastIndexOf("*");
    this.#prefix = first === -1 ? plain : plain.slice(0, first);
    this.#suffix = first === -1 ? undefined : plain.slice(last + 1);
    const between = plain.slice(Math.max(0, first), last + 1);
    this.#crossesSegments = between === "**";
    this.#middle = first === -1 || between === "*" || between === "**" ? null : new Middle(between);
  }

  /** Whether the whole path fits. */
  matches(path: string): boolean {
    if (!path.startsWith(this.#prefix)) return false;
    const from = this.#prefix.length;
    if (this.#suffix === undefined) return path.length === from;
    const to = path.length - this.#suffix.length;
    if (to < from || !path.endsWith(this.#suffix)) return false;
    if (this.#middle !== null) return this.#middle.matches(path, from, to);
    if (this.#crossesSegments) return true;
    const slash = path.indexOf("/", from);
    return slash === -1 || slash >= to;
  }
}

/** A pattern that begins and ends with a wildcard. Bit n of the state: its first n places are behind. */
class Middle {
  readonly #words: number;
  /** Of each code `words` words: the places that it takes one step further. */
  readonly #steps: Uint32Array;
  /** Places that are wildcards; those that a slash does not leave. */
  readonly #wild: Uint32Array;
  readonly #crossing: Uint32Array;
  readonly #start: Uint32Array;
  readonly #end: number;

  constructor(pattern: string) {
    // One character a place.
    const places = pattern.replaceAll("**", "\0");
    const words = (places.length >> 5) + 1;
    this.#words = words;
    this.#end = places.length;
    this.#steps = new Uint32Array(CODES * words);
    this.#wild = new Uint32Array(words);
    this.#crossing = new Uint32Array(words);
    this.#start = new Uint32Array(words);
    for (let place = 0; place < places.length; place++) {
      const char = places[place];
      const at = place >> 5;
      const bit = 1 << (place & 31);
      if (char === "\0" || char === "*") {
        this.#wild[at] = (this.#wild[at] ?? 0) | bit;
        if (char === "\0") this.#crossing[at] = (this.#crossing[at] ?? 0) | bit;
      } else {
        const row = places.charCodeAt(place) * words + at;
        this.#steps[row] = (this.#steps[row] ?? 0) | bit;
      }
    }
    // Before the first wildcard, which may stand for nothing.
    this.#start[0] = 0b11;
  }

  matches(path: string, from: number, to: number): boolean {
    const words = this.#words;
    const steps = this.#steps;
    const state = this.#start.slice();
    for (let index = from; index < to; index++) {
      const code = path.charCodeAt(index);
      const loops = code === SLASH ? this.#crossing : this.#wild;
      // No pattern holds other characters: only wildcards take them.
      const row = code < CODES ? code * words : -1;
      let carried = 0;
      let entered = 0;
      let any = 0;
      for (let word = 0; word < words; word++) {
        const now = state[word] as number;
        const taken = row === -1 ? 0 : now & (steps[row + word] as number);
        let next = (now & (loops[word] as number)) | (taken << 1) | carried;
        carried = taken >>> 31;
        // Wildcards may stand for nothing. No two of them stand side by side.
        const open = next & (this.#wild[word] as number);
        next |= (open << 1) | entered;
        entered = open >>> 31;
        state[word] = next;
        any |= next;
      }
      if (any === 0) return false;
    }
    return (((state[this.#end >> 5] as number) >>> (this.#end & 31)) & 1) === 1;
  }
}

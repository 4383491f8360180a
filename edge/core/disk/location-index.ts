/**
 * Where each stored response lies on disk: an open-addressing table in typed arrays, seven 32-bit words an entry and nothing
 * else, so that ten million entries cost the collector nothing and take 28 bytes each over the load (45 on average).
 *
 * A key is known by a 64-bit fingerprint only. Two keys of one fingerprint count as variants of each other; whoever reads a
 * record compares the whole key, so a collision is a miss and never a wrong body.
 *
 * An entry dies with its segment at no cost: segments go oldest first, so what lies below {@link LocationIndex.oldestSegment}
 * is dead. Dead entries are passed over, and dropped when their part of the table is rebuilt.
 */

/** One object's place. */
export interface Location {
  /** Fingerprint of the key, two unsigned 32-bit words. */
  readonly hi: number;
  readonly lo: number;
  /** Hash of the nominated fields and values (0: none): tells the variants of one key apart. */
  readonly variant: number;
  /** Sequence number of the segment. */
  readonly segment: number;
  /** Of the record's first byte in the segment, a multiple of {@link ALIGN_BYTES}. */
  readonly offset: number;
  readonly headBytes: number;
  readonly bodyBytes: number;
}

/** Records begin at multiples of it, so that 32 bits of offset reach 64 GiB. */
export const ALIGN_BYTES = 16;

/** Longest head of a record: 24 bits of the entry's last word hold it. */
export const HEAD_BYTES_MAX = 256 * 1_024;

/**
 * Entries of one fingerprint; the oldest goes first. As many as a key may have variants, with room for a key that collides.
 * It also bounds what one look-up can cost.
 */
export const CHAIN_MAX = 40;

/** Words of an entry: fingerprint (2), variant, segment, offset in units, body bytes, head bytes and flags. */
const WORDS = 7;
const USED = 1;
const HIT = 2;
const HEAD_SHIFT = 8;

/** Parts of the table; each grows by itself, so that no insertion copies more than a thousandth of it. A power of two. */
const PARTS = 1_024;
const PART_SHIFT = 22;
const PART_ENTRIES_MIN = 8;
/** Linear probing degrades steeply beyond it. */
const LOAD_MAX = 0.8;
/** A rebuild that finds fewer live entries than this keeps the capacity: most of the load was dead. */
const LOAD_KEPT = 0.6;
const GROWTH = 1.5;

interface Part {
  words: Uint32Array;
  capacity: number;
  /** Slots in use, dead ones included. */
  used: number;
}

export class LocationIndex {
  readonly #parts: (Part | undefined)[] = Array.from({ length: PARTS });
  #oldestSegment = 0;
  #bytes = 0;

  /** Entries of lower segments are dead. Only grows. */
  get oldestSegment(): number {
    return this.#oldestSegment;
  }
  set oldestSegment(segment: number) {
    this.#oldestSegment = Math.max(this.#oldestSegment, segment);
  }

  /** Bytes of the table. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether anything lives under a fingerprint. */
  has(hi: number, lo: number): boolean {
    const part = this.#parts[hi >>> PART_SHIFT];
    if (part === undefined) return false;
    const { words } = part;
    for (let at = home(part, lo); isUsed(words, at); at = after(part, at))
      if (words[at] === hi && words[at + 1] === lo && this.#isLive(words, at)) return true;
    return false;
  }

  /** What lives under a fingerprint, oldest first. */
  find(hi: number, lo: number): Location[] {
    const found: Location[] = [];
    const part = this.#parts[hi >>> PART_SHIFT];
    if (part === undefined) return found;
    const { words } = part;
    for (let at = home(part, lo); isUsed(words, at); at = after(part, at))
      if (words[at] === hi && words[at + 1] === lo && this.#isLive(words, at))
        found.push(locationAt(words, at));
    return found.length > 1 ? found.sort(byAge) : found;
  }

  /**
   * Sets the place of one variant. Returns what it replaces or pushes out ({@link CHAIN_MAX}), so that the caller can count;
   * undefined: nothing.
   */
  put(location: Location): Location | undefined {
    const { hi, lo, variant } = location;
    const part = this.#partFor(hi);
    const { words } = part;
    let at = home(part, lo);
    let chain = 0;
    let oldest = -1;
    for (; isUsed(words, at); at = after(part, at)) {
      if (words[at] !== hi || words[at + 1] !== lo) continue;
      if (words[at + 2] === variant) return this.#replace(words, at, location);
      chain++;
      if (oldest === -1 || byAge(locationAt(words, at), locationAt(words, oldest)) < 0) oldest = at;
    }
    if (chain >= CHAIN_MAX) return this.#replace(words, oldest, location);
    part.used++;
    write(words, at, location);
    return undefined;
  }

  /** Forgets one variant, or with `variant` undefined all of them. Returns what lived and is gone. */
  remove(hi: number, lo: number, variant?: number): Location[] {
    const removed: Location[] = [];
    const part = this.#parts[hi >>> PART_SHIFT];
    if (part === undefined) return removed;
    const { words } = part;
    for (let at = home(part, lo); isUsed(words, at); ) {
      if (words[at] === hi && words[at + 1] === lo && (variant === undefined || words[at + 2] === variant)) {
        if (this.#isLive(words, at)) removed.push(locationAt(words, at));
        // What follows moves up into the hole: look at the same slot again.
        closeHole(part, at);
      } else at = after(part, at);
    }
    return removed;
  }

  /** Whether the index still names exactly this place for the variant. */
  isCurrent(location: Location): boolean {
    return this.#slotOf(location) !== undefined;
  }

  /** Notes that the object was used since it was written; nothing happens when it has moved or gone. */
  markHit(location: Location): void {
    const slot = this.#slotOf(location);
    if (slot === undefined) return;
    slot.words[slot.at + 6] = (slot.words[slot.at + 6] ?? 0) | HIT;
  }

  /** Whether the object lives at this place and was used since it was written. */
  isHit(location: Location): boolean {
    const slot = this.#slotOf(location);
    return slot !== undefined && ((slot.words[slot.at + 6] ?? 0) & HIT) !== 0;
  }

  #slotOf(location: Location): { readonly words: Uint32Array; readonly at: number } | undefined {
    const { hi, lo, variant, segment, offset } = location;
    const part = this.#parts[hi >>> PART_SHIFT];
    if (part === undefined) return undefined;
    const { words } = part;
    for (let at = home(part, lo); isUsed(words, at); at = after(part, at))
      if (words[at] === hi && words[at + 1] === lo && words[at + 2] === variant)
        return words[at + 3] === segment && words[at + 4] === offset / ALIGN_BYTES && this.#isLive(words, at)
          ? { words, at }
          : undefined;
    return undefined;
  }

  #isLive(words: Uint32Array, at: number): boolean {
    return (words[at + 3] ?? 0) >= this.#oldestSegment;
  }

  #replace(words: Uint32Array, at: number, location: Location): Location | undefined {
    const previous = this.#isLive(words, at) ? locationAt(words, at) : undefined;
    write(words, at, location);
    return previous;
  }

  /** The part for a fingerprint, with room for one more entry. */
  #partFor(hi: number): Part {
    const number = hi >>> PART_SHIFT;
    const part = this.#parts[number];
    if (part !== undefined && part.used + 1 <= part.capacity * LOAD_MAX) return part;
    let live = 0;
    if (part !== undefined)
      for (let at = 0; at < part.words.length; at += WORDS)
        if (isUsed(part.words, at) && this.#isLive(part.words, at)) live++;
    const kept = part?.capacity ?? 0;
    const capacity =
      live < kept * LOAD_KEPT && live > (kept * LOAD_KEPT) / GROWTH ** 3
        ? kept
        : Math.max(PART_ENTRIES_MIN, Math.ceil((live * GROWTH) / LOAD_MAX));
    const rebuilt: Part = { words: new Uint32Array(capacity * WORDS), capacity, used: live };
    if (part !== undefined) {
      for (let from = 0; from < part.words.length; from += WORDS) {
        if (!isUsed(part.words, from) || !this.#isLive(part.words, from)) continue;
        let at = home(rebuilt, part.words[from + 1] ?? 0);
        while (isUsed(rebuilt.words, at)) at = after(rebuilt, at);
        for (let word = 0; word < WORDS; word++) rebuilt.words[at + word] = part.words[from + word] ?? 0;
      }
    }
    this.#bytes += rebuilt.words.byteLength - (part?.words.byteLength ?? 0);
    this.#parts[number] = rebuilt;
    return rebuilt;
  }
}

/** Oldest first: by segment, then by offset. */
function byAge(a: Location, b: Location): number {
  return a.segment - b.segment || a.offset - b.offset;
}

/** First word of the slot where a fingerprint belongs; the part was chosen by the other word. */
function home(part: Part, lo: number): number {
  return Math.floor((lo * part.capacity) / 2 ** 32) * WORDS;
}

function after(part: Part, at: number): number {
  const next = at + WORDS;
  return next === part.words.length ? 0 : next;
}

function isUsed(words: Uint32Array, at: number): boolean {
  return ((words[at + 6] ?? 0) & USED) !== 0;
}

function locationAt(words: Uint32Array, at: number): Location {
  return {
    hi: words[at] ?? 0,
    lo: words[at + 1] ?? 0,
    variant: words[at + 2] ?? 0,
    segment: words[at + 3] ?? 0,
    offset: (words[at + 4] ?? 0) * ALIGN_BYTES,
    bodyBytes: words[at + 5] ?? 0,
    headBytes: (words[at + 6] ?? 0) >>> HEAD_SHIFT,
  };
}

function write(words: Uint32Array, at: number, location: Location): void {
  words[at] = location.hi;
  words[at + 1] = location.lo;
  words[at + 2] = location.variant;
  words[at + 3] = location.segment;
  words[at + 4] = location.offset / ALIGN_BYTES;
  words[at + 5] = location.bodyBytes;
  words[at + 6] = (location.headBytes << HEAD_SHIFT) | USED;
}

/** Empties a slot and moves up what probing had pushed beyond it (Knuth, TAOCP vol. 3, section 6.4, algorithm R). */
function closeHole(part: Part, at: number): void {
  const { words } = part;
  let hole = at;
  for (let next = after(part, hole); isUsed(words, next); next = after(part, next)) {
    const wanted = home(part, words[next + 1] ?? 0);
    // Stays where it is when its home lies cyclically after the hole: the hole is not on its way.
    const isBetween = hole <= next ? hole < wanted && wanted <= next : hole < wanted || wanted <= next;
    if (isBetween) continue;
    words.copyWithin(hole, next, next + WORDS);
    hole = next;
  }
  words.fill(0, hole, hole + WORDS);
  part.used--;
}

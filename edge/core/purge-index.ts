/**
 * Purges by generation. Each purge has a number that only grows (control's `purgeSeq`); each response carries the number
 * of the newest purge that was applied, wherever it came from, before it was generated. A response is purged when a purge
 * of its key or of one of its tags has a higher number: a look-up for each, whatever the size of the store, right also
 * for what is on disk, for what is still being filled, and for what a parent sends that has not heard of the purge yet.
 *
 * Bounded: when too many different keys and tags were purged, the oldest are forgotten and everything older than them
 * counts as softly purged, which costs a validation and is never wrong.
 */

/** `soft`: must be validated, may be served while that happens. `hard`: is not there. */
export type PurgeState = "none" | "soft" | "hard";

/** What the index looks at in a response. */
export interface Purgeable {
  readonly generation: number;
  readonly tags: readonly string[];
}

interface PurgeMarks {
  soft: number;
  hard: number;
}

/** Keys and tags that are remembered; about 200 bytes each. */
export const PURGE_MARKS_MAX = 100_000;

export class PurgeIndex {
  readonly #marksMax: number;
  /** `u:` and a cache key, or `t:`, a scope and a tag. In order of the last purge, oldest first. */
  readonly #marks = new Map<string, PurgeMarks>();
  #generation: number;
  /** Responses of a lower generation count as softly purged. */
  #floor = 0;
  /** Newest purge by tag: what has no known tags yet is compared with it. */
  #newestTagPurge = 0;
  #purges = 0;

  /** `generation`: the newest purge that was applied before this index began (0: none). */
  constructor(generation = 0, marksMax = PURGE_MARKS_MAX) {
    this.#generation = generation;
    this.#marksMax = marksMax;
  }

  /** Number of the newest purge applied: what a response that is asked for now will carry. */
  get generation(): number {
    return this.#generation;
  }

  get counters(): { readonly purges: number; readonly marks: number; readonly floor: number } {
    return { purges: this.#purges, marks: this.#marks.size, floor: this.#floor };
  }

  /**
   * Applies a purge. `scope` keeps one customer's tags from another's (the property id). Numbers at or below the present
   * generation have been applied before and change nothing: false is returned.
   */
  apply(
    generation: number,
    scope: string,
    keys: readonly string[],
    tags: readonly string[],
    mode: "soft" | "hard",
  ): boolean {
    if (generation <= this.#generation) return false;
    this.#generation = generation;
    this.#purges++;
    for (const key of keys) this.#mark(`u:${key}`, generation, mode);
    for (const tag of tags) this.#mark(`t:${scope}:${tag}`, generation, mode);
    if (tags.length > 0) this.#newestTagPurge = generation;
    return true;
  }

  /** Begins again at 0: control was set up anew and its numbers start over. The caller has emptied the store. */
  restart(): void {
    this.#marks.clear();
    this.#generation = 0;
    this.#floor = 0;
    this.#newestTagPurge = 0;
  }

  #mark(name: string, generation: number, mode: "soft" | "hard"): void {
    const marks = this.#marks.get(name) ?? { soft: 0, hard: 0 };
    marks[mode] = generation;
    this.#marks.delete(name);
    this.#marks.set(name, marks);
    if (this.#marks.size <= this.#marksMax) return;
    for (const [oldest, { soft, hard }] of this.#marks) {
      this.#marks.delete(oldest);
      this.#floor = Math.max(this.#floor, soft, hard);
      break;
    }
  }

  /** How a response stands; `hard` outweighs `soft`. */
  stateOf(scope: string, key: string, response: Purgeable): PurgeState {
    if (response.generation >= this.#generation) return "none";
    let state: PurgeState = response.generation < this.#floor ? "soft" : "none";
    const marks = this.#marks.get(`u:${key}`);
    if (marks !== undefined) {
      if (marks.hard > response.generation) return "hard";
      if (marks.soft > response.generation) state = "soft";
    }
    for (const tag of response.tags) {
      const ofTag = this.#marks.get(`t:${scope}:${tag}`);
      if (ofTag === undefined) continue;
      if (ofTag.hard > response.generation) return "hard";
      if (ofTag.soft > response.generation) state = "soft";
    }
    return state;
  }

  /**
   * Whether a request may join a fill that was begun at `generation`: not when a purge since then could mean it. Its tags
   * are unknown (`undefined`) until its head has arrived; then any purge by tag could.
   */
  mayJoin(scope: string, key: string, generation: number, tags: readonly string[] | undefined): boolean {
    if (tags === undefined && this.#newestTagPurge > generation) return false;
    return this.stateOf(scope, key, { generation, tags: tags ?? [] }) === "none";
  }
}

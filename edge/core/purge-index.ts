/**
 * Purges by generation. Each purge has a number that only grows (control's `purgeSeq`); each response carries the number
 * of the newest purge that was applied, wherever it came from, before it was generated. A response is purged when a purge
 * of its key, of one of its tags, of its host, of its property or of a beginning of its path has a higher number: a look-up
 * for each, whatever the size of the store, right also for what is on disk, for what is still being filled, and for what a
 * parent sends that has not heard of the purge yet.
 *
 * Bounded: when too many different ones were purged, the oldest are forgotten and everything older than them
 * counts as softly purged, which costs a validation and is never wrong.
 */

import { type EpochMs, PURGE_PREFIX_SEGMENTS_MAX } from "#kit";
import { urlKeyOf } from "./cache-key.ts";

/**
 * `soft`: must be validated, may be served while that happens. `unknown`: must be validated before it is served, unless nobody
 * answers: see {@link PurgeIndex.distrust}. `hard`: is not there.
 */
export type PurgeState = "none" | "soft" | "unknown" | "hard";

/** What the index looks at in a response. */
export interface Purgeable {
  readonly generation: number;
  readonly tags: readonly string[];
  /** When its head arrived here, epoch ms; absent: it is being fetched. */
  readonly responseTime?: EpochMs;
}

/** What a purge means. */
export interface PurgeSelection {
  readonly keys?: readonly string[];
  readonly tags?: readonly string[];
  /** Host names, lower case, without port. */
  readonly hosts?: readonly string[];
  /** `host/path`, whatever scheme and query: see {@link keyPrefixes}. */
  readonly prefixes?: readonly string[];
  /** All of the scope. */
  readonly isWhole?: boolean;
}

interface PurgeMarks {
  soft: number;
  hard: number;
}

/** Marks that are remembered; about 200 bytes each. */
export const PURGE_MARKS_MAX = 100_000;

export class PurgeIndex {
  readonly #marksMax: number;
  /**
   * `u:` and a cache key, or of a scope `t:` a tag, `h:` a host, `p:` a prefix, `w:` all. In order of the last purge, oldest
   * first.
   */
  readonly #marks = new Map<string, PurgeMarks>();
  #generation: number;
  /** Responses of a lower generation count as softly purged. */
  #floor = 0;
  /** Responses of a lower generation count as purged: purges up to here are not known. */
  #lost = 0;
  /** What arrived before may have been purged by what was not heard of yet, epoch ms. */
  #distrustBefore = Number.NEGATIVE_INFINITY;
  /** Newest purge by tag: what has no known tags yet is compared with it. */
  #newestTagPurge = 0;
  /** Newest purge by prefix: beginnings of paths are looked up for what is older only. */
  #newestPrefixPurge = 0;
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
    { keys = [], tags = [], hosts = [], prefixes = [], isWhole = false }: PurgeSelection,
    mode: "soft" | "hard",
  ): boolean {
    if (generation <= this.#generation) return false;
    this.#generation = generation;
    this.#purges++;
    for (const key of keys) this.#mark(`u:${key}`, generation, mode);
    for (const tag of tags) this.#mark(`t:${scope}:${tag}`, generation, mode);
    for (const host of hosts) this.#mark(`h:${scope}:${host}`, generation, mode);
    for (const prefix of prefixes) this.#mark(`p:${scope}:${prefix}`, generation, mode);
    if (isWhole) this.#mark(`w:${scope}`, generation, mode);
    if (tags.length > 0) this.#newestTagPurge = generation;
    if (prefixes.length > 0) this.#newestPrefixPurge = generation;
    return true;
  }

  /** Purges up to `generation` were not heard of, and may have meant anything that was stored before. */
  lose(generation: number): void {
    this.#lost = Math.max(this.#lost, generation);
    this.#generation = Math.max(this.#generation, generation);
  }

  /**
   * What arrived before a moment may have been purged while nobody listened: it is `unknown` until {@link trust}. For the time
   * from a start until control has answered.
   */
  distrust(before: EpochMs): void {
    this.#distrustBefore = before;
  }

  /** All purges that control knew of have been applied. */
  trust(): void {
    this.#distrustBefore = Number.NEGATIVE_INFINITY;
  }

  /** Begins again at 0: control was set up anew and its numbers start over. The caller has emptied the store. */
  restart(): void {
    this.#marks.clear();
    this.#generation = 0;
    this.#floor = 0;
    this.#lost = 0;
    this.#newestTagPurge = 0;
    this.#newestPrefixPurge = 0;
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

  /** How a response stands; `hard` outweighs `unknown`, which outweighs `soft`. */
  stateOf(scope: string, key: string, response: Purgeable): PurgeState {
    const known = this.#knownStateOf(scope, key, response);
    const { responseTime = Number.POSITIVE_INFINITY } = response;
    return known !== "hard" && responseTime < this.#distrustBefore ? "unknown" : known;
  }

  /** By the purges applied. */
  #knownStateOf(scope: string, key: string, response: Purgeable): "none" | "soft" | "hard" {
    if (response.generation >= this.#generation) return "none";
    if (response.generation < this.#lost) return "hard";
    let state: "none" | "soft" = response.generation < this.#floor ? "soft" : "none";
    for (const name of this.#namesOf(scope, key, response)) {
      const marks = this.#marks.get(name);
      if (marks === undefined) continue;
      if (marks.hard > response.generation) return "hard";
      if (marks.soft > response.generation) state = "soft";
    }
    return state;
  }

  /** The marks that would mean a response. */
  *#namesOf(scope: string, key: string, { generation, tags }: Purgeable): Generator<string> {
    yield `u:${urlKeyOf(key)}`;
    for (const tag of tags) yield `t:${scope}:${tag}`;
    yield `w:${scope}`;
    yield `h:${scope}:${keyHost(key)}`;
    if (this.#newestPrefixPurge > generation)
      for (const prefix of keyPrefixes(key)) yield `p:${scope}:${prefix}`;
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

/** Where the host of a cache key begins. */
function hostStart(key: string): number {
  const at = key.indexOf("://");
  return at === -1 ? 0 : at + 3;
}

/** The host name of a cache key, without port. */
function keyHost(key: string): string {
  const start = hostStart(key);
  const slash = key.indexOf("/", start);
  const authority = key.slice(start, slash === -1 ? key.length : slash);
  return authority.replace(/:[0-9]+$/, "");
}

/**
 * The prefixes that mean a key: of `http://h/a/b?q` these are `h/`, `h/a`, `h/a/` and `h/a/b`. A prefix ends where a segment
 * does, so that `h/a` does not mean `h/ab`; no more than {@link PURGE_PREFIX_SEGMENTS_MAX} segments are looked at.
 */
export function* keyPrefixes(key: string): Generator<string> {
  const start = hostStart(key);
  const query = key.slice(start).search(/[?#\n]/);
  const slash = key.indexOf("/", start);
  if (slash === -1) return;
  const text = `${keyHost(key)}${key.slice(slash, query === -1 ? key.length : start + query)}`;
  let at = text.indexOf("/");
  for (let count = 0; at !== -1 && count <= PURGE_PREFIX_SEGMENTS_MAX; count++) {
    yield text.slice(0, at + 1);
    const next = text.indexOf("/", at + 1);
    // What stands before the next slash, or at the end of the path.
    const segment = text.slice(0, next === -1 ? text.length : next);
    if (segment.length > at + 1) yield segment;
    at = next;
  }
}

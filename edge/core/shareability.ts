/**
 * Which requests may wait for each other. Whoever waits for an answer that turns out to be for one client only has waited in
 * vain, for as long as the next hop took to begin its answer. So keys whose answers could not be shared are remembered, and
 * beside them families of keys (a folder and a kind of file): once several members of a family have shown it, one that was
 * never seen is expected to be alike. One answer that can be shared ends the expectation for its family at once.
 */
import { type EpochMs, xxh32 } from "#kit";
import { extensionOf, pathOf } from "./rules/request-facts.ts";

/** Different members that have to agree before others are expected to be like them. */
export const MEMBERS_MIN = 8;

/** Families that are remembered, the least recently answered goes first; about 1 KiB each. */
const FAMILIES_MAX = 10_000;

interface Family {
  /** Hashes of the keys whose answers could not be shared, at most {@link MEMBERS_MIN}. */
  readonly members: Set<number>;
  lastAt: EpochMs;
  /** When it was put behind the others. */
  readonly placedAt: EpochMs;
}

/** The order of families is kept to this, ms: to move one for each answer costs a new table of the map each time. */
const ORDER_MS = 1_000;

/** The folder of a cache key's path, with the extension of its last segment. */
function familyOf(key: string): string {
  const path = pathOf(key);
  return `${path.slice(0, path.lastIndexOf("/") + 1)}*.${extensionOf(path)}`;
}

export class Families {
  readonly #memoryMs: number;
  /** In order of the last answer, oldest first, to {@link ORDER_MS}. */
  readonly #families = new Map<string, Family>();

  /** `memoryMs`: what a family's last answer said counts for so long. */
  constructor(memoryMs: number) {
    this.#memoryMs = memoryMs;
  }

  /** Takes note of an answer. `key`: a cache key, `scheme://host/path?query`. */
  handleAnswer(key: string, isShareable: boolean, now: EpochMs): void {
    const name = familyOf(key);
    const family = this.#families.get(name);
    if (isShareable) {
      this.#families.delete(name);
      return;
    }
    const isRemembered = family !== undefined && now - family.lastAt < this.#memoryMs;
    const members = isRemembered ? family.members : new Set<number>();
    if (members.size < MEMBERS_MIN) members.add(xxh32(key));
    if (isRemembered && now - family.placedAt < ORDER_MS) {
      family.lastAt = now;
      return;
    }
    this.#families.delete(name);
    this.#families.set(name, { members, lastAt: now, placedAt: now });
    if (this.#families.size <= FAMILIES_MAX) return;
    for (const oldest of this.#families.keys()) {
      this.#families.delete(oldest);
      return;
    }
  }

  /** Whether an answer for a key that nothing is known of is likely to be for one client only. */
  isUnshareable(key: string, now: EpochMs): boolean {
    const family = this.#families.get(familyOf(key));
    return family !== undefined && family.members.size >= MEMBERS_MIN && now - family.lastAt < this.#memoryMs;
  }
}

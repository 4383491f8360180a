/**
 * Addresses of names outside that ALIAS records point to: resolved behind the queries, again before they are over, kept for a day while nobody
 * answers. A sans-IO machine: a driver asks what `pollTransmit` says and hands in what it heard.
 */
import { type MonotonicMs, plusMs, TimerHeap } from "#kit";

/** What is answered with. */
export interface AliasAnswer {
  /** Canonical text; none: the name has no address of the family. */
  readonly addresses: readonly string[];
  readonly ttlSeconds: number;
}
/** By {@link aliasKey}; who is not there is not known yet. */
export type AliasAnswers = Readonly<Record<string, AliasAnswer>>;

/** @param type A or AAAA, by number */
export function aliasKey(name: string, type: number): string {
  return `${type} ${name}`;
}

/** What a resolver said. */
export type AliasHeard =
  | {
      readonly kind: "addresses";
      readonly addresses: readonly string[];
      readonly ttlSeconds: number;
      /** Names that the aliases on the way led to, in lower case. */
      readonly chain: readonly string[];
    }
  /** No such name, or no address of the family; for how long that may be believed. */
  | { readonly kind: "nothing"; readonly ttlSeconds: number }
  | { readonly kind: "failed" };

export interface AliasQuestion {
  readonly key: string;
  readonly name: string;
  readonly type: number;
}

export interface AliasSettings {
  readonly namesMax: number;
  /** Seconds; what was resolved is asked for again no sooner. */
  readonly ttlSecondsMin: number;
  readonly ttlSecondsMax: number;
  /** How long an answer is used while nobody answers (RFC 8767 section 5). */
  readonly staleMsMax: number;
  readonly retryMs: number;
  readonly retryMsMax: number;
}
export const aliasDefaults: AliasSettings = {
  namesMax: 10_000,
  ttlSecondsMin: 5,
  ttlSecondsMax: 3_600,
  staleMsMax: 86_400_000,
  retryMs: 2_000,
  retryMsMax: 60_000,
};

/** Addresses of one answer; more would not fit into a datagram. */
const ADDRESSES_MAX = 32;
const TYPES = [1 /* A */, 28 /* AAAA */] as const;

interface Entry extends AliasQuestion {
  answer: AliasAnswer | undefined;
  resolvedAt: MonotonicMs;
  failures: number;
  isAsked: boolean;
}

export class AliasTable {
  readonly #settings: AliasSettings;
  readonly #entries = new Map<string, Entry>();
  readonly #due = new TimerHeap();
  /** Names of ours that are aliases themselves: who is led to one is led in a circle. */
  #owners: ReadonlySet<string> = new Set();
  #isChanged = false;
  readonly counters = { asked: 0, resolved: 0, negative: 0, failed: 0, loops: 0, expired: 0, dropped: 0 };

  constructor(settings: AliasSettings = aliasDefaults) {
    this.#settings = settings;
  }

  /**
   * Replaces what is resolved; what is known of the same names stays.
   *
   * @param names in lower case
   * @param owners names at which ALIAS records stand
   */
  setTargets(names: Iterable<string>, owners: ReadonlySet<string>, now: MonotonicMs): void {
    this.#owners = owners;
    const wanted = new Set<string>();
    this.counters.dropped = 0;
    for (const name of new Set(names)) {
      if (wanted.size >= this.#settings.namesMax * TYPES.length) {
        this.counters.dropped++;
        continue;
      }
      for (const type of TYPES) {
        const key = aliasKey(name, type);
        wanted.add(key);
        if (this.#entries.has(key)) continue;
        const entry = { key, name, type, answer: undefined, resolvedAt: now, failures: 0, isAsked: false };
        this.#entries.set(key, entry);
        this.#due.set(key, now);
      }
    }
    for (const [key, { answer }] of this.#entries) {
      if (wanted.has(key)) continue;
      this.#entries.delete(key);
      this.#due.delete(key);
      if (answer !== undefined) this.#isChanged = true;
    }
  }

  /** What is to be asked at `now`, from this call on under way; undefined: nothing is due. */
  pollTransmit(now: MonotonicMs): AliasQuestion | undefined {
    const key = this.#due.take(now);
    const entry = key === undefined ? undefined : this.#entries.get(key);
    if (entry === undefined) return undefined;
    entry.isAsked = true;
    this.counters.asked++;
    const { name, type } = entry;
    return { key: entry.key, name, type };
  }

  /** One that is no longer wanted, or was not asked, is ignored. */
  handleHeard(key: string, heard: AliasHeard, now: MonotonicMs): void {
    const entry = this.#entries.get(key);
    if (entry?.isAsked !== true) return;
    entry.isAsked = false;
    const isLoop = heard.kind === "addresses" && heard.chain.some((name) => this.#owners.has(name));
    if (isLoop) this.counters.loops++;
    if (heard.kind === "failed" || isLoop) return this.#fail(entry, now);
    const { ttlSecondsMin, ttlSecondsMax } = this.#settings;
    const addresses = heard.kind === "nothing" ? [] : heard.addresses.slice(0, ADDRESSES_MAX);
    if (addresses.length === 0) this.counters.negative++;
    else this.counters.resolved++;
    // Half of it is for who asks us, so that nobody has an address longer than its owner wants.
    const halfSeconds = Math.floor(Math.min(ttlSecondsMax, Math.max(ttlSecondsMin, heard.ttlSeconds)) / 2);
    const answer = { addresses: [...addresses].sort(), ttlSeconds: Math.max(1, halfSeconds) };
    if (JSON.stringify(answer) !== JSON.stringify(entry.answer)) this.#isChanged = true;
    entry.answer = answer;
    entry.resolvedAt = now;
    entry.failures = 0;
    this.#due.set(entry.key, plusMs(now, answer.ttlSeconds * 1_000));
  }

  #fail(entry: Entry, now: MonotonicMs): void {
    const { retryMs, retryMsMax, staleMsMax } = this.#settings;
    this.counters.failed++;
    const waitMs = Math.min(retryMsMax, retryMs * 2 ** entry.failures++);
    if (entry.failures > 30) entry.failures = 30;
    if (entry.answer !== undefined && now - entry.resolvedAt > staleMsMax) {
      entry.answer = undefined;
      this.#isChanged = true;
      this.counters.expired++;
    }
    this.#due.set(entry.key, plusMs(now, waitMs));
  }

  /** When something is due; undefined: nothing is. */
  pollTimeout(): MonotonicMs | undefined {
    return this.#due.next();
  }

  /** What to answer with from now on; undefined: the same as when it was last taken. */
  pollAnswers(): AliasAnswers | undefined {
    if (!this.#isChanged) return undefined;
    this.#isChanged = false;
    return Object.fromEntries(
      [...this.#entries].flatMap(([key, { answer }]) => (answer === undefined ? [] : [[key, answer]])),
    );
  }

  get size(): number {
    return this.#entries.size;
  }
}

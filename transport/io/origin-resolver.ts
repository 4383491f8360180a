/**
 * Addresses of host names, kept for as long as their TTL says. An entry that has just expired is used at once while it is
 * resolved again behind the request; an older one waits for that a moment, and stays in use while resolution fails (RFC 8767): a
 * broken resolver must not take an origin down. That there is no such name any more is an answer too, and ends its use.
 */
import { isIP } from "node:net";
import { type Clock, IsochroneError, type MonotonicMs, plusMs } from "#kit";
import { isUnknown, type Lookup, nameLookup, withinMs } from "./name-lookup.ts";

export type ResolverSettings = {
  /** How long an answer is fresh whose source states no TTL, ms. */
  readonly freshMs: number;
  /** Bounds of stated TTLs, ms: nobody is made to ask for each connection, and no answer outlives a move by days. */
  readonly ttlMsMin: number;
  readonly ttlMsMax: number;
  /** How long after its time an answer is used without waiting for the next one, ms. */
  readonly staleAtOnceMs: number;
  /** How long an older one waits for the next, ms (RFC 8767 section 5: the client response timer). */
  readonly staleWaitMs: number;
  /** How long an answer may be used while resolution fails, ms. RFC 8767 section 5 suggests one to three days. */
  readonly staleMsMax: number;
  /** A failure is not repeated for this long, ms (RFC 2308 section 7.1: at most five minutes). */
  readonly negativeMs: number;
  /** A look-up that takes longer counts as failed, ms. */
  readonly timeoutMs: number;
  /** Names kept; the least recently used goes. */
  readonly namesMax: number;
};

export const resolverDefaults: ResolverSettings = {
  freshMs: 30_000,
  ttlMsMin: 1_000,
  ttlMsMax: 3_600_000,
  staleAtOnceMs: 30_000,
  staleWaitMs: 1_800,
  staleMsMax: 86_400_000,
  negativeMs: 2_000,
  timeoutMs: 5_000,
  namesMax: 10_000,
};

type Entry = {
  addresses: readonly string[];
  /** When its addresses were fetched, and how long they are fresh; undefined: it has none. */
  resolvedAt: MonotonicMs | undefined;
  freshMs: number;
  failedAt: MonotonicMs | undefined;
  failure: unknown;
  pending: Promise<void> | undefined;
};

export class OriginResolver {
  readonly #settings: ResolverSettings;
  readonly #clock: Clock;
  readonly #lookup: Lookup;
  readonly #entries = new Map<string, Entry>();
  /** All only grow. */
  readonly counters = { lookups: 0, failures: 0, staleUses: 0, evictions: 0 };

  constructor(options: {
    readonly clock: Clock;
    readonly settings?: Partial<ResolverSettings>;
    readonly lookup?: Lookup;
  }) {
    this.#clock = options.clock;
    this.#settings = { ...resolverDefaults, ...options.settings };
    this.#lookup = options.lookup ?? nameLookup();
  }

  /** At least one address. An address resolves to itself. Throws IsochroneError "dns-failed" (retry "safe"). */
  async resolve(host: string): Promise<readonly string[]> {
    if (isIP(host) !== 0) return [host];
    const now = this.#clock.monotonic();
    const entry = this.#entryOf(host);
    const { resolvedAt, freshMs } = entry;
    if (resolvedAt !== undefined && now - resolvedAt < freshMs) return entry.addresses;
    const { negativeMs, staleMsMax, staleAtOnceMs, staleWaitMs } = this.#settings;
    const isQuiet = entry.failedAt !== undefined && now - entry.failedAt < negativeMs;
    if (!isQuiet) entry.pending ??= this.#refresh(host, entry);
    if (resolvedAt !== undefined && now - resolvedAt < staleMsMax) {
      // Whoever is asked in vain does not make everybody wait: the failure that is remembered is waited for once.
      const isJustOver = now < plusMs(resolvedAt, freshMs + staleAtOnceMs);
      if (!isJustOver && entry.pending !== undefined) await withinMs(entry.pending, staleWaitMs);
      // Resolved anew meanwhile, or found to be no name any more.
      if (entry.resolvedAt !== undefined) {
        if (entry.resolvedAt === resolvedAt) this.counters.staleUses++;
        return entry.addresses;
      }
    }
    await entry.pending;
    if (entry.resolvedAt !== undefined && entry.failedAt === undefined) return entry.addresses;
    const why = entry.failure instanceof Error ? entry.failure.message : String(entry.failure);
    throw new IsochroneError(`Cannot resolve ${JSON.stringify(host)}: ${why}`, {
      code: "dns-failed",
      source: "upstream",
      retry: "safe",
      cause: entry.failure,
    });
  }

  #entryOf(host: string): Entry {
    const known = this.#entries.get(host);
    const entry = known ?? {
      addresses: [],
      resolvedAt: undefined,
      freshMs: 0,
      failedAt: undefined,
      failure: undefined,
      pending: undefined,
    };
    // Most recently used last.
    this.#entries.delete(host);
    this.#entries.set(host, entry);
    if (this.#entries.size > this.#settings.namesMax) {
      const oldest = this.#entries.keys().next();
      if (!oldest.done) this.#entries.delete(oldest.value);
      this.counters.evictions++;
    }
    return entry;
  }

  /** Never rejects: the outcome is in the entry. */
  async #refresh(host: string, entry: Entry): Promise<void> {
    this.counters.lookups++;
    let timer: NodeJS.Timeout | undefined;
    try {
      const late = new Promise<never>((_, reject) => {
        const { timeoutMs } = this.#settings;
        timer = setTimeout(
          () => reject(new Error(`no answer from the resolver in ${timeoutMs} ms`)),
          timeoutMs,
        );
      });
      const { addresses, ttlMs, late: other } = await Promise.race([this.#lookup(host), late]);
      if (addresses.length === 0) throw new Error("the resolver knows no address of it");
      const { freshMs, ttlMsMin, ttlMsMax } = this.#settings;
      const at = this.#clock.monotonic();
      entry.addresses = addresses;
      entry.resolvedAt = at;
      entry.freshMs = ttlMs === undefined ? freshMs : Math.min(ttlMsMax, Math.max(ttlMsMin, ttlMs));
      entry.failedAt = undefined;
      void other?.then((more) => {
        if (entry.resolvedAt === at) entry.addresses = [...addresses, ...more];
      });
    } catch (error) {
      this.counters.failures++;
      entry.failedAt = this.#clock.monotonic();
      entry.failure = error;
      // RFC 8767 section 4: an authoritative answer, be it that there is nothing, takes the place of what was known.
      if (isUnknown(error)) entry.resolvedAt = undefined;
    } finally {
      clearTimeout(timer);
      entry.pending = undefined;
    }
  }
}

/**
 * Addresses of host names, kept. An expired entry is used at once while it is resolved again behind the request, and stays
 * in use while resolution fails (in the spirit of RFC 8767): a broken resolver must not take an origin down.
 */
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { type Clock, IsochroneError, type MonotonicMs } from "#kit";

export type ResolverSettings = {
  /** How long an answer is fresh, ms. The system's look-up does not tell the TTL; this is what most origins use at least. */
  readonly freshMs: number;
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
  staleMsMax: 86_400_000,
  negativeMs: 2_000,
  timeoutMs: 5_000,
  namesMax: 10_000,
};

/** Resolves a name to addresses, in order of preference; rejects when it cannot. */
export type Lookup = (host: string) => Promise<readonly string[]>;

type Entry = {
  addresses: readonly string[];
  resolvedAt: MonotonicMs | undefined;
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
    this.#lookup = options.lookup ?? systemLookup;
  }

  /** At least one address. An address resolves to itself. Throws IsochroneError "dns-failed" (retry "safe"). */
  async resolve(host: string): Promise<readonly string[]> {
    if (isIP(host) !== 0) return [host];
    const now = this.#clock.monotonic();
    const entry = this.#entryOf(host);
    const isFresh = entry.resolvedAt !== undefined && now - entry.resolvedAt < this.#settings.freshMs;
    if (isFresh) return entry.addresses;
    const isQuiet = entry.failedAt !== undefined && now - entry.failedAt < this.#settings.negativeMs;
    if (!isQuiet) entry.pending ??= this.#refresh(host, entry);
    const mayUseStale = entry.resolvedAt !== undefined && now - entry.resolvedAt < this.#settings.staleMsMax;
    if (mayUseStale) {
      this.counters.staleUses++;
      return entry.addresses;
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
      const addresses = await Promise.race([this.#lookup(host), late]);
      if (addresses.length === 0) throw new Error("the resolver knows no address of it");
      entry.addresses = addresses;
      entry.resolvedAt = this.#clock.monotonic();
      entry.failedAt = undefined;
    } catch (error) {
      this.counters.failures++;
      entry.failedAt = this.#clock.monotonic();
      entry.failure = error;
    } finally {
      clearTimeout(timer);
      entry.pending = undefined;
    }
  }
}

async function systemLookup(host: string): Promise<readonly string[]> {
  const found = await lookup(host, { all: true, order: "verbatim" });
  return found.map((one) => one.address);
}

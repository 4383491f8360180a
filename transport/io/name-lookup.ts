/**
 * How names become addresses: the hosts file, then DNS, both families at once and with their TTLs, by a resolver that blocks
 * no thread (getaddrinfo takes one of four that the disk needs too, for as long as a name server is silent). Only what DNS
 * knows nothing of is asked of getaddrinfo: search domains and the system's other sources.
 */
import { lookup, Resolver } from "node:dns/promises";
import { readFile } from "node:fs/promises";
import { parseHosts } from "../core/hosts-file.ts";

/** What a look-up brought. */
export type Resolved = {
  /** In order of preference; at least one. */
  readonly addresses: readonly string[];
  /** Undefined: the source has none. */
  readonly ttlMs: number | undefined;
  /** Addresses of the other family, which were not waited for. Never rejects. */
  readonly late?: Promise<readonly string[]> | undefined;
};

/** Resolves a name; rejects when it cannot. `ENOTFOUND` and `ENODATA` as `code`: there is no such name. */
export type Lookup = (host: string) => Promise<Resolved>;

/** RFC 8305 section 3: how long the second family is waited for once the first is there. */
const RESOLUTION_DELAY_MS = 50;
/** How often the hosts file and the addresses of name servers are read anew. */
const SOURCES_MS = 30_000;
/** getaddrinfo calls at once: the disk needs the threads. */
const SYSTEM_LOOKUPS_MAX = 2;
const HOSTS_FILE = "/etc/hosts";

type Answer =
  | { readonly addresses: readonly string[]; readonly ttlMs: number; readonly error?: undefined }
  | { readonly addresses: readonly []; readonly ttlMs: number; readonly error: unknown };

export type NameSources = {
  readonly hosts: () => Promise<string>;
  /** Both throw as `dns.promises.Resolver` does. */
  readonly resolve4: (host: string) => Promise<readonly { address: string; ttl: number }[]>;
  readonly resolve6: (host: string) => Promise<readonly { address: string; ttl: number }[]>;
  readonly system: (host: string) => Promise<readonly string[]>;
  /** ms on a clock that does not step back */
  readonly now: () => number;
};

/** A look-up over these sources; default: the system's. */
export function nameLookup(sources: NameSources = systemSources()): Lookup {
  let hosts: ReadonlyMap<string, readonly string[]> = new Map();
  let readAt = Number.NEGATIVE_INFINITY;
  let reading: Promise<void> | undefined;
  let systemLookups = 0;

  const readHosts = async (): Promise<void> => {
    try {
      hosts = parseHosts(await sources.hosts());
    } catch {
      // A system without one.
      hosts = new Map();
    }
    readAt = sources.now();
    reading = undefined;
  };

  return async (host) => {
    const name = host.toLowerCase().replace(/\.$/, "");
    if (sources.now() - readAt >= SOURCES_MS) await (reading ??= readHosts());
    const stated = hosts.get(name);
    if (stated !== undefined) return { addresses: stated, ttlMs: undefined };
    const found = await byDns(sources, name);
    if (found.addresses.length > 0) return found;
    if (!isUnknown(found.error) || systemLookups >= SYSTEM_LOOKUPS_MAX) throw found.error;
    systemLookups++;
    try {
      return { addresses: await sources.system(name), ttlMs: undefined };
    } finally {
      systemLookups--;
    }
  };
}

/** Whether an error says that there is no such name, rather than that nobody could tell. */
export function isUnknown(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === "ENOTFOUND" || code === "ENODATA";
}

async function byDns(sources: NameSources, name: string): Promise<Resolved & { readonly error?: unknown }> {
  const come: { six?: Answer; four?: Answer } = {};
  const six = asked(sources.resolve6(name)).then((answer) => {
    come.six = answer;
    return answer;
  });
  const four = asked(sources.resolve4(name)).then((answer) => {
    come.four = answer;
    return answer;
  });
  const both = Promise.all([six, four]);
  const first = await Promise.race([six, four]);
  if (first.addresses.length === 0) await both;
  else await withinMs(both, RESOLUTION_DELAY_MS);
  const here = [come.six, come.four].filter((one) => one !== undefined);
  const late = come.six === undefined ? six : come.four === undefined ? four : undefined;
  return {
    addresses: here.flatMap((one) => one.addresses),
    ttlMs: Math.min(...here.flatMap((one) => (one.addresses.length > 0 ? one.ttlMs : []))),
    late: late?.then((one) => one.addresses),
    // That nobody could tell for one family outweighs that the other has none.
    error: here.map(({ error }) => error).sort((a, b) => Number(isUnknown(a)) - Number(isUnknown(b)))[0],
  };
}

/** Resolves when `promise`, which never rejects, has, or after `ms`. */
export async function withinMs(promise: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([promise, late]);
  clearTimeout(timer);
}

async function asked(answer: Promise<readonly { address: string; ttl: number }[]>): Promise<Answer> {
  try {
    const records = await answer;
    return {
      addresses: records.map(({ address }) => address),
      ttlMs: 1_000 * Math.min(...records.map(({ ttl }) => ttl)),
    };
  } catch (error) {
    return { addresses: [], ttlMs: 0, error };
  }
}

function systemSources(): NameSources {
  let resolver: Resolver | undefined;
  let madeAt = 0;
  // It reads which name servers to ask when it is made.
  const current = (): Resolver => {
    const now = performance.now();
    if (resolver === undefined || now - madeAt >= SOURCES_MS) {
      resolver = new Resolver({ timeout: 1_500, tries: 2 });
      madeAt = now;
    }
    return resolver;
  };
  return {
    hosts: () => readFile(HOSTS_FILE, "utf8"),
    resolve4: (host) => current().resolve4(host, { ttl: true }),
    resolve6: (host) => current().resolve6(host, { ttl: true }),
    system: async (host) =>
      (await lookup(host, { all: true, order: "verbatim" })).map(({ address }) => address),
    now: () => performance.now(),
  };
}

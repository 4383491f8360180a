/**
 * Who asks through which resolver, from names that were asked for once: a name server says by whom a name was asked for, an edge says to
 * whom it had been given, and here the two are put together. A name makes pairs of weight 1 in all, once; what one client network can
 * say in an hour is bounded, and so is everything that waits.
 */
import {
  formatAddress,
  type IpAddress,
  type MonotonicMs,
  type NameAsked,
  type NameUsed,
  parseAddress,
  parsePrefix,
  plusMs,
  prefixContains,
} from "#kit";
import { TimingQuota } from "./measurements/timing-quota.ts";

export interface NamePairsSettings {
  /** From the first that is heard of a name until its pairs are made, ms: what two servers report within a second or two, control hands on. */
  readonly settleMs: number;
  /** How long a name is known for used: longer than any label is good (edge/core/beacon.ts), ms. */
  readonly keptMs: number;
  /** Names that are known at once; about 200 bytes each. */
  readonly namesMax: number;
  /** Names of one client network (/24, /48) that count in an hour. */
  readonly perNetworkMax: number;
  /** Client networks that are counted in an hour. */
  readonly networksMax: number;
}

export const namePairsDefaults: NamePairsSettings = {
  settleMs: 4_000,
  keptMs: 300_000,
  namesMax: 100_000,
  perNetworkMax: 40,
  networksMax: 200_000,
};

/** Resolvers of one name: large ones ask for A and AAAA from two addresses, and once more from others. */
const RESOLVERS_MAX = 4;
const HOUR_MS = 3_600_000;

/** As the table of resolvers takes it; addresses in canonical text. */
export interface NamePair {
  readonly resolver: string;
  /** The client's network. */
  readonly client: string;
  readonly weight: number;
}

interface Waiting {
  readonly since: MonotonicMs;
  readonly askers: NameAsked[];
  client: string | undefined;
}

export class NamePairs {
  readonly #settings: NamePairsSettings;
  readonly #quota: TimingQuota;
  /** In the order in which they were first heard of. */
  readonly #waiting = new Map<string, Waiting>();
  /** Names that are over, by when they were first heard of. */
  readonly #over = new Map<string, MonotonicMs>();
  /** All only grow; of names, but `pairs`. */
  readonly counters = {
    pairs: 0,
    /** Told of after they were over. */
    namesOver: 0,
    /** No room. */
    namesShed: 0,
    /** The client never came, or went by a resolver that does not come over TCP. */
    namesUnused: 0,
    namesUnasked: 0,
    /** More of one client network than count. */
    namesOverQuota: 0,
    /** The resolver says that it asks for somebody else than who came. */
    namesOfOthers: 0,
    /** The resolver stands in the client's network: its own address says as much. */
    namesAtHome: 0,
    namesMalformed: 0,
  };

  constructor(settings: Partial<NamePairsSettings> = {}) {
    this.#settings = { ...namePairsDefaults, ...settings };
    const { perNetworkMax, networksMax } = this.#settings;
    this.#quota = new TimingQuota({ windowMs: HOUR_MS, perNetworkMax, networksMax });
  }

  /** Names that wait for the other side, or are known for used. */
  get size(): number {
    return this.#waiting.size + this.#over.size;
  }

  /** A name server was asked. */
  handleAsked(asked: NameAsked, now: MonotonicMs): void {
    const resolver = canonical(asked.resolver);
    const isMalformed =
      resolver === undefined ||
      (asked.clientSubnet !== undefined && parsePrefix(asked.clientSubnet) === undefined);
    if (isMalformed) {
      this.counters.namesMalformed++;
      return;
    }
    const name = this.#nameOf(asked.id, now);
    if (name === undefined || name.askers.length >= RESOLVERS_MAX) return;
    if (name.askers.every((one) => one.resolver !== resolver)) name.askers.push({ ...asked, resolver });
  }

  /** An edge was asked for what stands under the name, by who it had been given to. */
  handleUsed(used: NameUsed, now: MonotonicMs): void {
    const client = canonical(used.client);
    if (client === undefined) {
      this.counters.namesMalformed++;
      return;
    }
    const name = this.#nameOf(used.id, now);
    if (name !== undefined) name.client ??= client;
  }

  /** Pairs of the names that are over by now. */
  handleTimeout(now: MonotonicMs): NamePair[] {
    const { settleMs, keptMs } = this.#settings;
    for (const [id, since] of this.#over) {
      if (plusMs(since, keptMs) > now) break;
      this.#over.delete(id);
    }
    const pairs: NamePair[] = [];
    for (const [id, name] of this.#waiting) {
      if (plusMs(name.since, settleMs) > now) break;
      this.#waiting.delete(id);
      this.#over.set(id, name.since);
      pairs.push(...this.#pairsOf(name, now));
    }
    this.counters.pairs += pairs.length;
    return pairs;
  }

  #nameOf(id: string, now: MonotonicMs): Waiting | undefined {
    const known = this.#waiting.get(id);
    if (known !== undefined) return known;
    if (this.#over.has(id)) {
      this.counters.namesOver++;
      return undefined;
    }
    if (this.size >= this.#settings.namesMax) {
      this.counters.namesShed++;
      return undefined;
    }
    const made: Waiting = { since: now, askers: [], client: undefined };
    this.#waiting.set(id, made);
    return made;
  }

  #pairsOf({ askers, client }: Waiting, now: MonotonicMs): NamePair[] {
    if (client === undefined) {
      this.counters.namesUnused++;
      return [];
    }
    if (askers.length === 0) {
      this.counters.namesUnasked++;
      return [];
    }
    const network = parseAddress(client) as IpAddress;
    if (!askers.every((one) => mayAskFor(one, network))) {
      this.counters.namesOfOthers++;
      return [];
    }
    const away = askers.filter(({ resolver }) => !isAtHome(parseAddress(resolver) as IpAddress, network));
    if (away.length === 0) {
      this.counters.namesAtHome++;
      return [];
    }
    if (!this.#quota.handleTiming(client, now)) {
      this.counters.namesOverQuota++;
      return [];
    }
    return away.map(({ resolver }) => ({ resolver, client, weight: 1 / away.length }));
  }
}

function canonical(text: string): string | undefined {
  const address = parseAddress(text);
  return address && formatAddress(address);
}

/** A client may come by another family than its resolver tells: then nothing can be said. */
function mayAskFor({ clientSubnet }: NameAsked, client: IpAddress): boolean {
  const told = clientSubnet === undefined ? undefined : parsePrefix(clientSubnet);
  if (told === undefined || told.address.family !== client.family) return true;
  return prefixContains({ ...told, prefixLength: Math.min(told.prefixLength, networkBits(client)) }, client);
}

function isAtHome(resolver: IpAddress, client: IpAddress): boolean {
  return prefixContains({ address: client, prefixLength: networkBits(client) }, resolver);
}

/** What an edge tells of an address. */
function networkBits({ family }: IpAddress): number {
  return family === 4 ? 24 : 48;
}

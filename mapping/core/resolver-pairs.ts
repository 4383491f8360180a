/** Which clients ask through which resolver: the record of it, and what is remembered of many, decayed and bounded. */
import {
  array,
  type ClientNetworkId,
  type EpochMs,
  epochMs,
  id,
  integer,
  map,
  number,
  object,
  oneOf,
  type Parsed,
  plusMs,
  type Schema,
} from "#kit";
import { JsonReader } from "./measurements/json-reader.ts";
import { addressField } from "./measurements/sample.ts";

const resolverPairAt = map(
  integer({ max: 4_102_444_800_000, unit: "ms since 1970" }),
  (value): EpochMs => epochMs(value),
);

/** One client was seen behind one resolver: by a beacon whose host name is asked for once, or by a log that has both. */
const pair = object({
  /** From which a name server was asked; canonical text. */
  resolver: addressField,
  /** From which an edge was asked for what the answer named; canonical text. */
  client: addressField,
  /** What it stands for: 1 for a beacon. */
  weight: number({ min: 1e-3, max: 1e6, unit: "requests" }),
  at: resolverPairAt,
});
export type ResolverPair = Parsed<typeof pair>;
export const resolverPair: Schema<ResolverPair> = pair;

/** Characters; a pair has about 120. */
const PAIR_CHARACTERS_MAX = 512;

/** Pairs in JSON, one a line. */
export class ResolverPairReader extends JsonReader<ResolverPair> {
  constructor(onPair: (one: ResolverPair) => void) {
    super((value) => resolverPair.parse(value), PAIR_CHARACTERS_MAX, onPair);
  }
}

export interface ResolverTableSettings {
  /** Resolvers that are remembered. Memory: about 200 bytes each and 60 for each client network of one. */
  readonly resolversMax: number;
  /** Client networks of a resolver that are told apart; what is beyond them counts as unknown. */
  readonly clientsMax: number;
  /** Pairs of resolver and client network in all. */
  readonly pairsMax: number;
  /** After this time a pair counts half, ms: who uses which resolver changes over weeks. */
  readonly halfLifeMs: number;
  /** What must be known of a resolver, decayed, before its clients count more than where it stands itself. */
  readonly weightMin: number;
  /** Share of a resolver's weight that must be of client networks that are told apart, 0..1. */
  readonly knownRatioMin: number;
}

export const resolverTableDefaults: ResolverTableSettings = {
  resolversMax: 50_000,
  // A public resolver's site has clients from hundreds of networks, and what it is answered is right for those that are told apart.
  clientsMax: 1_024,
  pairsMax: 1_000_000,
  halfLifeMs: 7 * 86_400_000,
  weightMin: 30,
  knownRatioMin: 0.5,
};

/** Why a pair was not taken. `future`: its clock is ahead; `too-old`: it would count next to nothing. */
export type PairRefusal = "future" | "too-old";

/** What is known of one resolver; weights are decayed. */
export interface ResolverEvidence {
  /** Canonical text. */
  readonly address: string;
  /** Of all pairs, those of client networks that are not told apart too. */
  readonly weight: number;
  /** Heaviest first, ties by id. */
  readonly clients: readonly { readonly clientNetworkId: ClientNetworkId; readonly weight: number }[];
}

/** All only grow. */
export interface ResolverTableCounters {
  pairs: number;
  resolversEvicted: number;
  clientsEvicted: number;
}

interface Resolver {
  weight: number;
  readonly clients: Map<ClientNetworkId, number>;
}

/** A pair from a clock that is ahead by less counts as of now, ms. */
const CLOCK_SKEW_MS_MAX = 60_000;
/** Older pairs count less than a thousandth. */
const HALF_LIVES_MAX = 10;
/** Weights are scaled down once they have been scaled up by 2 to this: doubles hold 1,023. */
const REBASE_EXPONENT = 256;
/** The lightest of so many that came in or were spared first makes room: a flood of new resolvers evicts itself. */
const EVICTION_CANDIDATES = 8;

/**
 * Decays forward: what comes later is entered with a weight that grows by two each half-life, so that nothing that is there has to be
 * touched (Cormode, Shkapenyuk, Srivastava, Xu, "Forward Decay", ICDE 2009). Deterministic for an order of calls.
 */
export class ResolverTable {
  readonly #settings: ResolverTableSettings;
  readonly #resolvers = new Map<string, Resolver>();
  #pairs = 0;
  /** When a weight of 1 is entered as 1. */
  #landmark: EpochMs | undefined;
  readonly counters: ResolverTableCounters = { pairs: 0, resolversEvicted: 0, clientsEvicted: 0 };

  constructor(settings: Partial<ResolverTableSettings> = {}) {
    this.#settings = { ...resolverTableDefaults, ...settings };
    const { resolversMax, clientsMax, pairsMax, halfLifeMs, weightMin, knownRatioMin } = this.#settings;
    if (!(resolversMax >= 1 && clientsMax >= 1 && pairsMax >= clientsMax && halfLifeMs > 0))
      throw new RangeError(
        `A resolver table needs resolversMax and clientsMax of 1 or more, pairsMax of clientsMax or more and a half-life, got ${resolversMax}, ${clientsMax}, ${pairsMax}, ${halfLifeMs} ms`,
      );
    if (!(weightMin > 0 && knownRatioMin >= 0 && knownRatioMin <= 1))
      throw new RangeError(
        `A resolver table needs weightMin > 0 and knownRatioMin of 0..1, got ${weightMin}, ${knownRatioMin}`,
      );
  }

  /** Resolvers of which anything is remembered. */
  get size(): number {
    return this.#resolvers.size;
  }

  /** Undefined: taken. */
  handlePair(
    resolver: string,
    clientNetworkId: ClientNetworkId,
    weight: number,
    at: EpochMs,
    now: EpochMs,
  ): PairRefusal | undefined {
    const { halfLifeMs, clientsMax } = this.#settings;
    if (at - now > CLOCK_SKEW_MS_MAX) return "future";
    if (now - at > HALF_LIVES_MAX * halfLifeMs) return "too-old";
    this.counters.pairs++;
    const entered = weight * this.#growth(at < now ? at : now);
    let known = this.#resolvers.get(resolver);
    if (known === undefined) {
      if (this.#resolvers.size >= this.#settings.resolversMax) this.#evict();
      known = { weight: 0, clients: new Map() };
      this.#resolvers.set(resolver, known);
    }
    known.weight += entered;
    const { clients } = known;
    if (!clients.has(clientNetworkId)) {
      if (clients.size >= clientsMax) {
        clients.delete(lightest(clients.keys(), (id) => clients.get(id) ?? 0));
        this.counters.clientsEvicted++;
        this.#pairs--;
      }
      this.#pairs++;
    }
    clients.set(clientNetworkId, (clients.get(clientNetworkId) ?? 0) + entered);
    while (this.#pairs > this.#settings.pairsMax) this.#evict();
    return undefined;
  }

  /** What is known of one resolver, whether it is enough or not; undefined: nothing. */
  of(resolver: string, now: EpochMs): ResolverEvidence | undefined {
    const known = this.#resolvers.get(resolver);
    return known && this.#evidenceOf(resolver, known, this.#growth(now));
  }

  /** Whether it is enough for its clients to count more than where the resolver stands. */
  isEnough({ weight, clients }: ResolverEvidence): boolean {
    const known = clients.reduce((sum, client) => sum + client.weight, 0);
    return weight >= this.#settings.weightMin && known >= weight * this.#settings.knownRatioMin;
  }

  /** Of every resolver of which enough is known; heaviest first, ties by address. */
  evidence(now: EpochMs): ResolverEvidence[] {
    const growth = this.#growth(now);
    const found: ResolverEvidence[] = [];
    for (const [resolver, known] of this.#resolvers) {
      if (known.weight < this.#settings.weightMin * growth) continue;
      const one = this.#evidenceOf(resolver, known, growth);
      if (this.isEnough(one)) found.push(one);
    }
    return found.sort((a, b) => b.weight - a.weight || (a.address < b.address ? -1 : 1));
  }

  /** Of every resolver, whether it is enough or not, in the order in which they make room. Resolvers that come meanwhile may be among them or not. */
  *all(now: EpochMs): Generator<ResolverEvidence, undefined> {
    for (const [resolver, known] of this.#resolvers)
      yield this.#evidenceOf(resolver, known, this.#growth(now));
  }

  /** What {@link all} told at a time, as if it were heard now. False: it is too old. */
  handleKept({ address, weight, clients }: ResolverEvidence, at: EpochMs, now: EpochMs): boolean {
    let rest = weight;
    for (const client of clients) {
      if (this.handlePair(address, client.clientNetworkId, client.weight, at, now) !== undefined)
        return false;
      rest -= client.weight;
    }
    const known = this.#resolvers.get(address);
    // Of client networks that are not told apart.
    if (known !== undefined && rest > 0) known.weight += rest * this.#growth(at);
    return known !== undefined;
  }

  #evidenceOf(resolver: string, { weight, clients }: Resolver, growth: number): ResolverEvidence {
    return {
      address: resolver,
      weight: weight / growth,
      clients: [...clients]
        .map(([clientNetworkId, entered]) => ({ clientNetworkId, weight: entered / growth }))
        .sort((a, b) => b.weight - a.weight || (a.clientNetworkId < b.clientNetworkId ? -1 : 1)),
    };
  }

  /** What a weight of 1 of that time is entered as. */
  #growth(at: EpochMs): number {
    this.#landmark ??= at;
    const exponent = (at - this.#landmark) / this.#settings.halfLifeMs;
    if (exponent <= REBASE_EXPONENT) return 2 ** exponent;
    this.#landmark = plusMs(this.#landmark, exponent * this.#settings.halfLifeMs);
    const scale = 2 ** -exponent;
    for (const known of this.#resolvers.values()) {
      known.weight *= scale;
      for (const [id, entered] of known.clients) known.clients.set(id, entered * scale);
    }
    return 1;
  }

  #evict(): void {
    const oldest: string[] = [];
    for (const resolver of this.#resolvers.keys()) {
      oldest.push(resolver);
      if (oldest.length >= EVICTION_CANDIDATES) break;
    }
    const out = lightest(oldest, (resolver) => this.#resolvers.get(resolver)?.weight ?? 0);
    this.#pairs -= this.#resolvers.get(out)?.clients.size ?? 0;
    for (const resolver of oldest) {
      const known = this.#resolvers.get(resolver);
      this.#resolvers.delete(resolver);
      // To the end of the line: others are looked at next time.
      if (resolver !== out && known !== undefined) this.#resolvers.set(resolver, known);
    }
    this.counters.resolversEvicted++;
  }
}

const FORMAT = "isochrone-resolvers 1";

const keptHead = object({ format: oneOf([FORMAT]), at: resolverPairAt });
const keptResolver = object({
  address: addressField,
  weight: number({ min: 0, max: 1e15 }),
  clients: array(object({ clientNetworkId: id<ClientNetworkId>(), weight: number({ min: 0, max: 1e15 }) }), {
    min: 1,
    max: 65_536,
    uniqueBy: (one) => one.clientNetworkId,
  }),
});
const keptFoot = object({ resolvers: integer() });

/** The table as lines of JSON: what it is and of when, a line for each resolver, and their number at the end. */
export function* keptResolverLines(table: ResolverTable, now: EpochMs): Generator<string, undefined> {
  yield JSON.stringify({ format: FORMAT, at: Math.round(now) });
  let resolvers = 0;
  for (const one of table.all(now)) {
    resolvers++;
    yield JSON.stringify(one);
  }
  yield JSON.stringify({ resolvers });
}

/**
 * Puts what was kept into a table that knows nothing yet. Throws ParseError, SyntaxError or RangeError for what {@link keptResolverLines}
 * does not write, or a file that was cut: before anything is put in.
 *
 * @returns how many resolvers there were that are not too old
 */
export function restoreResolvers(table: ResolverTable, text: string, now: EpochMs): number {
  const [head, ...lines] = text.trimEnd().split("\n");
  const { at } = keptHead.parse(JSON.parse(head ?? ""));
  const { resolvers } = keptFoot.parse(JSON.parse(lines.pop() ?? ""));
  if (resolvers !== lines.length)
    throw new RangeError(`it says ${resolvers} resolvers and has ${lines.length}`);
  const kept = lines.map((line, n) => keptResolver.parse(JSON.parse(line), [n]));
  return kept.filter((one) => table.handleKept(one, at, now)).length;
}

/** Ties: the first. Needs at least one key. */
function lightest<K>(keys: Iterable<K>, weightOf: (key: K) => number): K {
  let best: { readonly key: K; readonly weight: number } | undefined;
  for (const key of keys) {
    const weight = weightOf(key);
    if (best === undefined || weight < best.weight) best = { key, weight };
  }
  return (best as { readonly key: K }).key;
}

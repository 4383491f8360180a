import {
  allSteps,
  type ClientNetworkTable,
  type ClusterId,
  type ClusterMapTable,
  comparePrefixes,
  formatAddress,
  type IpAddress,
  type IpFamily,
  type MapSnapshot,
  maskAddress,
  formatPrefix,
  NONE,
  parseAddress,
  parsePrefix,
  PrefixRanges,
  type PrefixRuns,
  type ServerId,
  type ResolverEntry,
  type Steps,
} from "#kit";

/** An address that no client network holds, where a number of one is asked for. */
export const NO_NETWORK = NONE;

/**
 * Neighbouring runs of addresses that a scope is widened over at most. A query must cost a bounded time however large a part of the
 * world has the same answer; what is then told is narrower than it could be, and right.
 */
const SCOPE_RUNS_MAX = 4096;

/** The prefixes of both families, flattened. They belong to the client networks, which seldom change from map to map. */
interface Ranges {
  readonly ipv4: PrefixRanges;
  readonly ipv6: PrefixRanges;
}
const rangesOf = new WeakMap<ClientNetworkTable, Ranges>();

function* rangesOfNetworks(networks: ClientNetworkTable): Steps<Ranges> {
  let ranges = rangesOf.get(networks);
  if (ranges === undefined) {
    ranges = {
      ipv4: yield* PrefixRanges.inSteps(4, networks.ipv4),
      ipv6: yield* PrefixRanges.inSteps(6, networks.ipv6),
    };
    rangesOf.set(networks, ranges);
  }
  return ranges;
}

/** The number of the network that holds an address, given as text; undefined: none does. Prefixes are flattened once for the same table. */
export function networkFinder(networks: ClientNetworkTable): (address: string) => number | undefined {
  const { ipv4, ipv6 } = allSteps(rangesOfNetworks(networks));
  return (text) => {
    const address = parseAddress(text);
    if (address === undefined) return undefined;
    const ranges = address.family === 4 ? ipv4 : ipv6;
    const network = ranges.valueOf(ranges.find(address.words));
    return network === NONE ? undefined : network;
  };
}

/**
 * A snapshot prepared for look-ups: client networks, by number, by longest prefix. The prefixes are flattened once for as long as the client
 * networks are the same object; a look-up is one binary search and allocates nothing.
 */
export class MapIndex {
  readonly snapshot: MapSnapshot;
  readonly table: ClusterMapTable;
  /** Servers that operators empty. */
  readonly drained: ReadonlySet<ServerId>;
  readonly #ranges: Ranges;
  #clusterNumbers: ReadonlyMap<ClusterId, number> | undefined;
  /** Apart from the prefixes: a resolver's address must not narrow the scopes of the clients around it. */
  readonly #resolvers = new Map<string, ResolverEntry>();
  readonly #scopes = new Map<ResolverEntry, Readonly<Record<IpFamily, PrefixRanges>>>();

  /**
   * @param previous the index that this one replaces: what has not changed is used again
   *
   * Throws ParseError when the cluster map does not decode.
   */
  constructor(snapshot: MapSnapshot, previous?: MapIndex) {
    this.snapshot = snapshot;
    this.drained = new Set(snapshot.drained);
    this.table = snapshot.clusterMap.table(previous?.table.networks);
    this.#ranges = allSteps(rangesOfNetworks(this.table.networks));
    for (const resolver of snapshot.resolvers ?? []) this.#resolvers.set(resolver.address, resolver);
  }

  /** As the constructor, in steps of a few milliseconds. Throws as it does, and nothing has changed then. */
  static *inSteps(snapshot: MapSnapshot, previous?: MapIndex): Steps<MapIndex> {
    const table = yield* snapshot.clusterMap.tableInSteps(previous?.table.networks);
    yield* rangesOfNetworks(table.networks);
    return new MapIndex(snapshot, previous);
  }

  /** The number of the client network that holds `address`, NO_NETWORK if none does. Never throws. */
  lookup(address: IpAddress): number {
    const ranges = this.#rangesFor(address);
    return ranges.valueOf(ranges.find(address.words));
  }

  /** The longest prefix of a client network that holds `address`, as text; null if none does. */
  matchedPrefix(address: IpAddress): string | null {
    const ranges = this.#rangesFor(address);
    const entry = ranges.entryOf(ranges.find(address.words));
    if (entry === NONE) return null;
    const { ipv4, ipv6 } = this.table.networks;
    const prefixLength = (address.family === 4 ? ipv4 : ipv6).lengths[entry] as number;
    return formatPrefix({ address: maskAddress(address, prefixLength), prefixLength });
  }

  /**
   * The client network of `address`, and the length of a prefix around it in which every address belongs to a client network (or to
   * none, NO_NETWORK) that is `same` as this one: the widest one, unless there are very many runs of networks in it. `same` must be an
   * equivalence.
   */
  lookupScope(
    address: IpAddress,
    same: (a: number, b: number) => boolean,
  ): { readonly value: number; readonly scopePrefixLength: number } {
    const ranges = this.#rangesFor(address);
    const range = ranges.find(address.words);
    return {
      value: ranges.valueOf(range),
      scopePrefixLength: ranges.scopeOf(address.words, range, same, SCOPE_RUNS_MAX),
    };
  }

  /** In steps: the family's addresses in runs of neighbours for whose client network (or NO_NETWORK) `numberOf` has the same number. */
  runs(family: IpFamily, numberOf: (network: number) => number): Steps<PrefixRuns> {
    return (family === 4 ? this.#ranges.ipv4 : this.#ranges.ipv6).joinedInSteps(numberOf);
  }

  /** Demand over capacity of a cluster, as allocated; undefined: the map does not know it. */
  loadOf(clusterId: ClusterId): number | undefined {
    this.#clusterNumbers ??= new Map(this.table.clusterIds.map((id, number) => [id, number]));
    const number = this.#clusterNumbers.get(clusterId);
    return number === undefined ? undefined : this.table.parts.loads[number];
  }

  /** What the map has for a resolver of this very address; undefined when it is like any address of its client network. */
  resolver(address: IpAddress): ResolverEntry | undefined {
    return this.#resolvers.size === 0 ? undefined : this.#resolvers.get(formatAddress(address));
  }

  /**
   * The scopes that a resolver has of its own, with the numbers of the client networks that their addresses are answered like; NONE where
   * the map's own hold. Made when it is first asked for.
   */
  scopesOf(resolver: ResolverEntry): Readonly<Record<IpFamily, PrefixRanges>> {
    let scopes = this.#scopes.get(resolver);
    if (scopes === undefined) {
      const { networks } = this.table;
      const known = (resolver.scopes ?? []).flatMap(({ prefix: text, clientNetworkId }) => {
        const prefix = parsePrefix(text);
        const network = networks.indexOf(clientNetworkId);
        return prefix === undefined || network === undefined ? [] : [{ prefix, network }];
      });
      known.sort((a, b) => comparePrefixes(a.prefix, b.prefix));
      const of = (family: IpFamily): PrefixRanges => {
        const some = known.filter(({ prefix }) => prefix.address.family === family);
        return new PrefixRanges(family, {
          words: Uint32Array.from(some.flatMap(({ prefix }) => prefix.address.words)),
          lengths: Uint8Array.from(some, ({ prefix }) => prefix.prefixLength),
          values: Uint32Array.from(some, ({ network }) => network),
        });
      };
      scopes = { 4: of(4), 6: of(6) };
      this.#scopes.set(resolver, scopes);
    }
    return scopes;
  }

  /**
   * {@link lookupScope} for a query of a resolver that told its client's address: in a scope of its own the network that it goes by, else
   * no wider than where one begins, since scopes must not overlap (RFC 7871 section 7.2.1).
   */
  lookupScopeBehind(
    resolver: ResolverEntry,
    address: IpAddress,
    same: (a: number, b: number) => boolean,
  ): { readonly value: number; readonly scopePrefixLength: number } {
    const own = this.scopesOf(resolver)[address.family];
    const range = own.find(address.words);
    const value = own.valueOf(range);
    const isSame = (a: number, b: number): boolean => (a === NONE || b === NONE ? a === b : same(a, b));
    const ownLength = own.scopeOf(address.words, range, isSame, SCOPE_RUNS_MAX);
    if (value !== NONE) return { value, scopePrefixLength: ownLength };
    const general = this.lookupScope(address, same);
    return { ...general, scopePrefixLength: Math.max(ownLength, general.scopePrefixLength) };
  }

  #rangesFor(address: IpAddress): PrefixRanges {
    return address.family === 4 ? this.#ranges.ipv4 : this.#ranges.ipv6;
  }
}

/** Snapshots are immutable, so an index belongs to its snapshot for as long as that one is referenced. */
const indexes = new WeakMap<MapSnapshot, MapIndex>();

/** The index of a snapshot; the same object for the same snapshot. */
export function mapIndexOf(snapshot: MapSnapshot | MapIndex): MapIndex {
  if (snapshot instanceof MapIndex) return snapshot;
  let index = indexes.get(snapshot);
  if (index === undefined) {
    index = new MapIndex(snapshot);
    indexes.set(snapshot, index);
  }
  return index;
}

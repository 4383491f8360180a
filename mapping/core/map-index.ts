import {
  type ClientNetworkEntry,
  type ClientNetworkId,
  formatAddress,
  type IpAddress,
  type IpPrefix,
  type MapSnapshot,
  PrefixTable,
  parsePrefix,
  type ServerId,
  type ResolverEntry,
} from "#kit";

/**
 * A snapshot prepared for look-ups: client networks by longest prefix. Built once a snapshot (a sort of its prefixes);
 * a look-up is one binary search and allocates nothing.
 */
export class MapIndex {
  readonly snapshot: MapSnapshot;
  /** Servers that operators empty. */
  readonly drained: ReadonlySet<ServerId>;
  readonly #networks: PrefixTable<ClientNetworkEntry>;
  readonly #byId = new Map<ClientNetworkId, ClientNetworkEntry>();
  /** Apart from the prefixes: a resolver's address must not narrow the scopes of the clients around it. */
  readonly #resolvers = new Map<string, ResolverEntry>();

  /** Throws RangeError if a prefix is not canonical or occurs twice: `mapSnapshot` refuses such a document before. */
  constructor(snapshot: MapSnapshot) {
    this.snapshot = snapshot;
    this.drained = new Set(snapshot.drained);
    const entries: [IpPrefix, ClientNetworkEntry][] = [];
    for (const network of snapshot.clientNetworks) {
      this.#byId.set(network.clientNetworkId, network);
      for (const text of network.prefixes) {
        const prefix = parsePrefix(text);
        if (prefix === undefined)
          throw new RangeError(
            `Client network "${network.clientNetworkId}" has the prefix ${JSON.stringify(text)}, which is none`,
          );
        entries.push([prefix, network]);
      }
    }
    this.#networks = new PrefixTable(entries);
    for (const resolver of snapshot.resolvers ?? []) this.#resolvers.set(resolver.address, resolver);
  }

  /** The client network that holds `address`, undefined if none does. Never throws. */
  lookup(address: IpAddress): ClientNetworkEntry | undefined {
    return this.#networks.lookup(address)?.value;
  }

  /**
   * The client network of `address`, and the length of the widest prefix around it in which every address belongs to
   * a client network (or to none) that is `same` as this one. `same` must be an equivalence.
   */
  lookupScope(
    address: IpAddress,
    same: (a: ClientNetworkEntry | undefined, b: ClientNetworkEntry | undefined) => boolean,
  ): { readonly value: ClientNetworkEntry | undefined; readonly scopePrefixLength: number } {
    return this.#networks.lookupScope(address, same);
  }

  /** What the map has for a resolver of this very address; undefined when it is like any address of its client network. */
  resolver(address: IpAddress): ResolverEntry | undefined {
    return this.#resolvers.size === 0 ? undefined : this.#resolvers.get(formatAddress(address));
  }

  /** The client network with this id. */
  clientNetwork(clientNetworkId: ClientNetworkId): ClientNetworkEntry | undefined {
    return this.#byId.get(clientNetworkId);
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

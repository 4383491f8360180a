/**
 * One question to the map: which servers should this client be sent to, for how wide a neighbourhood does that hold, and
 * why. Name servers, `isochrone where`, the simulator and the evaluation all ask here.
 */
import {
  type ClientNetworkId,
  type ClusterId,
  type ClusterMapTable,
  type IpAddress,
  type IpFamily,
  type MapSnapshot,
  type PropertyDocument,
  type RankedCluster,
  rendezvousOrder,
  type ResolverEntry,
  type ServerEntry,
  type ServerId,
  type TopologyDocument,
  type TrafficClass,
  trafficClasses,
} from "#kit";
import { type MapIndex, mapIndexOf, NO_NETWORK } from "./map-index.ts";
import { Spill, type SpillCluster } from "./spill.ts";
import { type TopologyIndex, topologyIndexOf } from "./topology-index.ts";

/** Servers in one answer: two, so that a client whose first one dies within the TTL has a second without asking again. */
export const ANSWER_SERVERS_MAX = 2;

/** Why an answer is what it is; the same words in the answer, in metrics and in `isochrone where`. */
export const answerReasons = [
  /** The first cluster of the client network. */
  "mapped",
  /** The first cluster for the clients that are known to be behind the resolver, which told nothing of them. */
  "resolver-clients",
  /** No client network holds the address: the first cluster of the map's order for everyone else. */
  "fallback",
  /** Clusters before the chosen one have no live server, or are suspended by the mapping engine. */
  "first-cluster-down",
  /** No edge server is known to live: believed all the same, since an empty answer helps nobody. */
  "all-down",
  /** There is no map yet: clusters in the order of the topology. */
  "no-map",
  /** The topology has no edge server with an address of this family: the only answer without servers. */
  "no-edge",
] as const;
export type AnswerReason = (typeof answerReasons)[number];

export interface AnswerQuery {
  /** Null: no map has ever been seen. A `MapIndex` or a snapshot, whose index is then kept with it. */
  readonly snapshot: MapSnapshot | MapIndex | null;
  readonly topology: TopologyDocument | TopologyIndex;
  readonly property: Pick<PropertyDocument, "propertyId" | "trafficClass" | "dnsTtlSeconds">;
  /** Family of the addresses that are asked for: 4 for A, 6 for AAAA. */
  readonly family: IpFamily;
  /** The ECS address, else the resolver's; of any family. */
  readonly clientAddress: IpAddress;
  /** Bits of `clientAddress` that are known (RFC 7871 SOURCE PREFIX-LENGTH); the full length for a resolver's address. */
  readonly sourcePrefixLength: number;
  /** `clientAddress` is the resolver's own: nothing was told of its clients. False unless given. */
  readonly isResolver?: boolean;
  /** Who asked for the client: its answers may hold more widely than those of others. */
  readonly resolverAddress?: IpAddress;
  /** The asker's own view of liveness, fresher than the snapshot's. Must not change during the call. */
  readonly isUp: (serverId: ServerId) => boolean;
  /** Splits a property's content over the servers of a large cluster; the property alone when absent. */
  readonly contentKey?: string;
}

/** What became of one cluster that was looked at, in the order in which it was. */
export interface AnswerCandidate {
  readonly clusterId: ClusterId;
  /** Absent for a cluster that the map does not rank here (it stands in as a last resort). */
  readonly score: number | undefined;
  readonly terms: RankedCluster["terms"] | undefined;
  readonly serversUp: number;
  readonly servers: number;
  /** `lower-rank`: usable, but a better one was. `not-edge`: the topology does not know it as an edge cluster now. */
  readonly outcome: "chosen" | "lower-rank" | "no-live-server" | "suspended" | "no-address" | "not-edge";
}

export interface AnswerExplanation {
  readonly mapVersion: number | null;
  readonly trafficClass: TrafficClass;
  /** The client network that the address stands in, also where its resolver entry decided; or that it is answered like (a resolver's scopes). */
  readonly clientNetworkId: ClientNetworkId | null;
  /** What the map has for the resolver; null: nothing, or a client's address was asked about. */
  readonly resolver: ResolverEntry | null;
  /** Why the engine put the client network where it is; null: it did not (no map, no such network, a resolver's order). */
  readonly placement: ReturnType<ClusterMapTable["reason"]> | null;
  readonly candidates: readonly AnswerCandidate[];
}

export interface Answer {
  /** Best first; empty only for reason `no-edge`. */
  readonly servers: readonly ServerEntry[];
  /** Null only for reason `no-edge`. */
  readonly clusterId: ClusterId | null;
  readonly clientNetworkId: ClientNetworkId | null;
  readonly ttlSeconds: number;
  /**
   * Length of the widest prefix around the client's address in which every address gets these same servers; never
   * longer than the source prefix (RFC 7871 section 7.2.1). 0: everyone of that family gets them.
   */
  readonly scopePrefixLength: number;
  readonly reason: AnswerReason;
  /** Computed when it is read: the fast path never reads it. */
  readonly explanation: AnswerExplanation;
}

/**
 * Decides one answer. Never throws for a parsed snapshot and topology; deterministic: ties in the ranking are the map's,
 * servers of a cluster are ordered by rendezvous hashing on property and content key.
 *
 * The first cluster of the client network (or the fallback), if it serves (a live server, not suspended); else where `Spill` says that there is
 * room; else, in the order of the client network, the fallback and the topology, one that lives; else the first one (all down).
 */
export function answerAddresses(query: AnswerQuery): Answer {
  const topology = topologyIndexOf(query.topology);
  const map = query.snapshot === null ? undefined : mapIndexOf(query.snapshot);
  const chooser = new AnswerChooser(map, topology, query);
  const resolver = query.isResolver === true ? map?.resolver(query.clientAddress) : undefined;
  const scope =
    resolver === undefined
      ? scopeOf(query, map, chooser)
      : // Chosen for this one address.
        { value: map?.lookup(query.clientAddress), scopePrefixLength: query.sourcePrefixLength };
  const network = scope?.value ?? NO_NETWORK;
  const choice = resolver === undefined ? chooser.choose(network) : chooser.chooseFor(resolver);
  return {
    servers: choice.clusterId === null ? [] : chooser.serversOf(choice.clusterId, choice.isLive),
    clusterId: choice.clusterId,
    get clientNetworkId() {
      return map === undefined || network === NO_NETWORK ? null : map.table.networks.idOf(network);
    },
    ttlSeconds: query.property.dnsTtlSeconds,
    scopePrefixLength: Math.min(scope?.scopePrefixLength ?? 0, query.sourcePrefixLength),
    reason: choice.reason,
    get explanation() {
      return chooser.explain(network, resolver, choice.clusterId);
    },
  };
}

/** The client network that decides, and how widely. */
function scopeOf(
  { clientAddress, resolverAddress, isResolver }: AnswerQuery,
  map: MapIndex | undefined,
  { isSame }: AnswerChooser,
) {
  const asker =
    resolverAddress === undefined || isResolver === true ? undefined : map?.resolver(resolverAddress);
  return asker?.scopes === undefined
    ? map?.lookupScope(clientAddress, isSame)
    : map?.lookupScopeBehind(asker, clientAddress, isSame);
}

/** Which cluster, and how it came to that. */
export interface ClusterChoice {
  /** Null only for reason `no-edge`. */
  readonly clusterId: ClusterId | null;
  /** Whether only live servers are to be named. */
  readonly isLive: boolean;
  readonly reason: AnswerReason;
}

const NOBODY: ReadonlySet<ServerId> = new Set();

/** Neither a client network nor the fallback: there is no map. */
const NO_MAP = -2;

/** What of a query decides clusters and servers. */
export type ChooserQuery = Pick<AnswerQuery, "family" | "isUp" | "contentKey"> & {
  readonly property: Pick<PropertyDocument, "propertyId" | "trafficClass">;
};

/** The decision; choices are kept, so liveness must not change meanwhile. */
export class AnswerChooser {
  readonly #map: MapIndex | undefined;
  readonly #topology: TopologyIndex;
  readonly #query: ChooserQuery;
  readonly #classNumber: number;
  /** By number of the cluster that comes first, where it serves; by 2^16 + number of the client network where it does not. */
  readonly #choices = new Map<number, ClusterChoice>();
  readonly #drained: ReadonlySet<ServerId>;
  readonly #liveCounts = new Map<ClusterId, number>();
  /** Made when a first cluster has gone. */
  #spill: Spill | undefined;

  constructor(map: MapIndex | undefined, topology: TopologyIndex, query: ChooserQuery) {
    this.#map = map;
    this.#drained = map?.drained ?? NOBODY;
    this.#topology = topology;
    this.#query = query;
    this.#classNumber = trafficClasses.indexOf(query.property.trafficClass);
  }

  /** Same cluster and same belief in liveness: then the servers and their order are the same too. */
  readonly isSame = (a: number, b: number): boolean => {
    const one = this.choose(a);
    const other = this.choose(b);
    return one === other || (one.clusterId === other.clusterId && one.isLive === other.isLive);
  };

  /** For a client network by number, or for addresses that none holds (NO_NETWORK). */
  choose(network: number): ClusterChoice {
    const map = this.#map;
    if (map === undefined) return this.#kept(NO_MAP, () => this.#search([], "no-map"));
    const best: AnswerReason = network === NO_NETWORK ? "fallback" : "mapped";
    const subject = network === NO_NETWORK ? map.table.fallbackNumber : network;
    const first = map.table.firstCluster(subject, this.#classNumber);
    // Nearly every question ends here: the first of its ranking is an edge cluster that serves.
    const key = network === NO_NETWORK ? NO_NETWORK : first;
    const choice = this.#choices.get(key);
    if (choice !== undefined) return choice;
    const clusterId = map.table.clusterIds[first] as ClusterId;
    if (this.#isServing(clusterId)) return this.#kept(key, () => ({ clusterId, isLive: true, reason: best }));
    return this.#kept(2 ** 16 + subject, () => {
      const ranking = this.#ranked(subject);
      const hasBackups = network !== NO_NETWORK && ranking.length < map.table.clusterIds.length;
      return this.#search(ranking, best, hasBackups);
    });
  }

  /** For a resolver that the map has an order for. */
  chooseFor(resolver: ResolverEntry): ClusterChoice {
    return this.#search(
      resolver.clusters[this.#query.property.trafficClass].map(({ clusterId }) => clusterId),
      "resolver-clients",
    );
  }

  #kept(key: number, make: () => ClusterChoice): ClusterChoice {
    let choice = this.#choices.get(key);
    if (choice === undefined) {
      choice = make();
      this.#choices.set(key, choice);
    }
    return choice;
  }

  /** @param hasBackups the last places of the ranking are backups, as those of a client network in a large map are */
  #search(ranking: readonly ClusterId[], best: AnswerReason, hasBackups = false): ClusterChoice {
    const order = this.#order(ranking);
    const spilled = (clusterId: ClusterId): AnswerReason =>
      // Without a ranking there is no better one that could have been passed over, unless an earlier one is down.
      clusterId === order[0] ? best : "first-cluster-down";
    const first = order[0];
    if (first !== undefined && this.#isServing(first))
      return { clusterId: first, isLive: true, reason: spilled(first) };
    const next =
      ranking.length === 0 ? order.find((one) => this.#isServing(one)) : this.#spilled(ranking, hasBackups);
    if (next !== undefined) return { clusterId: next, isLive: true, reason: "first-cluster-down" };
    for (const clusterId of order)
      if (this.#live(clusterId) > 0) return { clusterId, isLive: true, reason: spilled(clusterId) };
    const any = order[0];
    return any === undefined
      ? { clusterId: null, isLive: false, reason: "no-edge" }
      : { clusterId: any, isLive: false, reason: "all-down" };
  }

  /** Names of the clusters that are ranked for a client network or the fallback, by number. */
  #ranked(subject: number): ClusterId[] {
    const table = this.#map?.table;
    if (table === undefined) return [];
    return Array.from(
      { length: table.rankingLength(subject, this.#classNumber) },
      (_, place) => table.clusterIds[table.clusterAt(subject, this.#classNumber, place)] as ClusterId,
    );
  }

  /** Every edge cluster that has an address of the family, once, in the order in which it is to be tried. */
  #order(ranking: readonly ClusterId[]): ClusterId[] {
    const order = new Set<ClusterId>();
    const add = (clusterId: ClusterId): void => {
      const edge = this.#topology.edgeClusters.get(clusterId);
      if (edge !== undefined && edge.servers[this.#query.family].length > 0) order.add(clusterId);
    };
    for (const clusterId of ranking) add(clusterId);
    if (this.#map !== undefined)
      for (const clusterId of this.#ranked(this.#map.table.fallbackNumber)) add(clusterId);
    for (const clusterId of this.#topology.edgeClusters.keys()) add(clusterId);
    return [...order];
  }

  #spilled(ranking: readonly ClusterId[], hasBackups: boolean): ClusterId | undefined {
    this.#spill ??= new Spill(this.#spillClusters());
    return this.#spill.next(ranking, hasBackups);
  }

  *#spillClusters(): Generator<SpillCluster> {
    const { family, isUp } = this.#query;
    for (const [clusterId, { entry, servers }] of this.#topology.edgeClusters) {
      let capacityPerSecond = 0;
      let livePerSecond = 0;
      for (const server of servers[family]) {
        capacityPerSecond += server.capacityPerSecond;
        if (isUp(server.serverId) && !this.#isDrained(server.serverId))
          livePerSecond += server.capacityPerSecond;
      }
      if (servers[family].length === 0) continue;
      const load = this.#map?.loadOf(clusterId) ?? 0;
      const isServing = this.#isServing(clusterId);
      yield { clusterId, regionId: entry.regionId, capacityPerSecond, livePerSecond, load, isServing };
    }
  }

  #isSuspended(clusterId: ClusterId): boolean {
    return this.#map?.snapshot.suspended[clusterId] === true;
  }

  #isDrained(serverId: ServerId): boolean {
    return this.#drained.has(serverId);
  }

  /** Whether it has a live server that operators do not empty. */
  #isServing(clusterId: ClusterId): boolean {
    return (
      this.#live(clusterId) > 0 &&
      !this.#isSuspended(clusterId) &&
      (this.#drained.size === 0 ||
        this.#servers(clusterId).some(
          ({ serverId }) => this.#query.isUp(serverId) && !this.#isDrained(serverId),
        ))
    );
  }

  #live(clusterId: ClusterId): number {
    let count = this.#liveCounts.get(clusterId);
    if (count === undefined) {
      count = 0;
      for (const server of this.#servers(clusterId)) if (this.#query.isUp(server.serverId)) count++;
      this.#liveCounts.set(clusterId, count);
    }
    return count;
  }

  #servers(clusterId: ClusterId): readonly ServerEntry[] {
    return this.#topology.edgeClusters.get(clusterId)?.servers[this.#query.family] ?? [];
  }

  /** The servers to name, best first: the server map. */
  serversOf(clusterId: ClusterId, isLive: boolean): ServerEntry[] {
    const { property, contentKey, isUp } = this.#query;
    const key = contentKey === undefined ? property.propertyId : `${property.propertyId}/${contentKey}`;
    const live = this.#servers(clusterId).filter((server) => !isLive || isUp(server.serverId));
    const kept = live.filter((server) => !this.#isDrained(server.serverId));
    const named = kept.length > 0 ? kept : live;
    return rendezvousOrder(key, named.map(nodeOf))
      .slice(0, ANSWER_SERVERS_MAX)
      .map((node) => node.server);
  }

  explain(network: number, resolver: ResolverEntry | undefined, chosen: ClusterId | null): AnswerExplanation {
    const { trafficClass } = this.#query.property;
    const table = this.#map?.table;
    const subject = network === NO_NETWORK ? table?.fallbackNumber : network;
    const ranking =
      resolver?.clusters[trafficClass] ??
      (table === undefined || subject === undefined ? [] : table.ranking(subject, trafficClass));
    const ranked = new Map(ranking.map((entry) => [entry.clusterId, entry]));
    const order = new Set([...ranked.keys(), ...this.#order([...ranked.keys()])]);
    const candidates = [...order].map((clusterId): AnswerCandidate => {
      const servers = this.#servers(clusterId).length;
      const serversUp = this.#live(clusterId);
      return {
        clusterId,
        score: ranked.get(clusterId)?.score,
        terms: ranked.get(clusterId)?.terms,
        serversUp,
        servers,
        outcome:
          clusterId === chosen
            ? "chosen"
            : !this.#topology.edgeClusters.has(clusterId)
              ? "not-edge"
              : servers === 0
                ? "no-address"
                : serversUp === 0
                  ? "no-live-server"
                  : this.#isSuspended(clusterId)
                    ? "suspended"
                    : "lower-rank",
      };
    });
    return {
      mapVersion: this.#map?.snapshot.mapVersion ?? null,
      trafficClass,
      clientNetworkId: table === undefined || network === NO_NETWORK ? null : table.networks.idOf(network),
      placement:
        table === undefined || network === NO_NETWORK || resolver !== undefined
          ? null
          : table.reason(network, trafficClass),
      resolver: resolver ?? null,
      candidates,
    };
  }
}

/** One node object a server, for ever: rendezvous hashing keeps the hash of the id with the object. */
type ServerNode = { readonly id: ServerId; readonly server: ServerEntry };
const nodes = new WeakMap<ServerEntry, ServerNode>();

function nodeOf(server: ServerEntry): ServerNode {
  let node = nodes.get(server);
  if (node === undefined) {
    node = { id: server.serverId, server };
    nodes.set(server, node);
  }
  return node;
}

/** Samples between addresses, brought to the names that the map has for them, and into the store. */
import {
  type ClientNetworkId,
  type ClusterId,
  type EpochMs,
  formatAddress,
  type IpAddress,
  type IpPrefix,
  type MonotonicMs,
  parseAddress,
  parsePrefix,
  PrefixTable,
  plusMs,
} from "#kit";
import type { ClientNetworkInput } from "../cluster-map.ts";
import type { RttSample } from "../engine-events.ts";
import type { TopologyIndex } from "../topology-index.ts";
import type { PairRefusal, ResolverPair, ResolverTable } from "../resolver-pairs.ts";
import type { PathSample } from "./sample.ts";
import type { MeasurementStore, StoreRefusal } from "./store.ts";
import { ReadTally } from "./tally.ts";

/** `unknown-from`, `unknown-to`: no client network and no server has the address; the others as the store says. */
export type IntakeSkipReason = "unknown-from" | "unknown-to" | StoreRefusal;

/** `unknown-client`: no client network has the address; the others as the table says. */
export type PairSkipReason = "unknown-client" | PairRefusal;

/**
 * Samples up to this age, ms, are also given to the engine's estimator, whose window is as long: it takes samples as they come, and an
 * older one would stand for now.
 */
const FRESH_MS = 120_000;

/** Who has which address. Servers that share one cannot be told apart by it, so it stands for none of them. */
class AddressBook {
  readonly #clusters = new Map<string, ClusterId | null>();
  readonly #networks: PrefixTable<ClientNetworkId>;

  constructor(topology: TopologyIndex | undefined, networks: readonly ClientNetworkInput[]) {
    for (const { server, cluster } of topology?.servers.values() ?? []) {
      const parsed = parseAddress(server.address);
      if (parsed === undefined) continue;
      const address = formatAddress(parsed);
      const known = this.#clusters.get(address);
      const isShared = known !== undefined && known !== cluster.clusterId;
      this.#clusters.set(address, isShared ? null : cluster.clusterId);
    }
    this.#networks = new PrefixTable(
      networks.flatMap(({ clientNetworkId, prefixes }) =>
        prefixes.map((text): [IpPrefix, ClientNetworkId] => {
          const prefix = parsePrefix(text);
          if (prefix === undefined)
            throw new RangeError(
              `Client network "${clientNetworkId}" has the prefix ${JSON.stringify(text)}`,
            );
          return [prefix, clientNetworkId];
        }),
      ),
    );
  }

  cluster(address: string): ClusterId | undefined {
    return this.#clusters.get(address) ?? undefined;
  }

  clientNetwork(address: string): ClientNetworkId | undefined {
    const parsed = parseAddress(address);
    return parsed && this.lookup(parsed)?.value;
  }

  lookup(address: IpAddress): { readonly prefix: IpPrefix; readonly value: ClientNetworkId } | undefined {
    return this.#networks.lookup(address);
  }
}

/** What a batch came to: for who sent it, and for the engine. */
export interface IntakeResult {
  readonly tally: ReadTally<IntakeSkipReason>;
  /** Of client networks and fresh, oldest first. */
  readonly fresh: readonly RttSample[];
  /** Towards client networks. */
  readonly traces: readonly IntakeTrace[];
  /** Addresses of client networks that have answered to servers of ours. */
  readonly answers: readonly { readonly clientNetworkId: ClientNetworkId; readonly address: string }[];
}

/** The routers that a trace saw last before a client network, the nearest to it first. */
export interface IntakeTrace {
  readonly clientNetworkId: ClientNetworkId;
  readonly lastHops: readonly string[];
}

interface Ends {
  readonly from: string;
  readonly to: ClusterId;
  /** Which of the ends is a client network, if any. */
  readonly clientNetworkId: ClientNetworkId | undefined;
  readonly isTowardsNetwork: boolean;
}

export class MeasurementIntake {
  readonly #store: MeasurementStore;
  #book = new AddressBook(undefined, []);

  constructor(store: MeasurementStore) {
    this.#store = store;
  }

  /** Who has which address from now on. Throws RangeError for a prefix that is none or occurs twice. */
  handlePlaces(topology: TopologyIndex | undefined, networks: readonly ClientNetworkInput[]): void {
    this.#book = new AddressBook(topology, networks);
  }

  /** Who has the address, and by which prefix. */
  clientNetworkOf(
    address: IpAddress,
  ): { readonly clientNetworkId: ClientNetworkId; readonly prefix: IpPrefix } | undefined {
    const match = this.#book.lookup(address);
    return match && { clientNetworkId: match.value, prefix: match.prefix };
  }

  /** For sets of prefixes with other names: the client network that has the first address of each. Those without one are left out. */
  networksOf(
    others: readonly { readonly id: string; readonly prefixes: readonly string[] }[],
  ): Map<string, ClientNetworkId> {
    const found = new Map<string, ClientNetworkId>();
    for (const { id, prefixes } of others)
      for (const text of prefixes) {
        const address = parsePrefix(text)?.address;
        const match = address && this.#book.lookup(address);
        if (match === undefined || found.has(id)) continue;
        found.set(id, match.value);
      }
    return found;
  }

  /**
   * Puts what is known by name into the store.
   *
   * @param epoch the wall clock, as the samples have it
   * @param now the same moment on the engine's clock
   */
  handleSamples(samples: readonly PathSample[], epoch: EpochMs, now: MonotonicMs): IntakeResult {
    const tally = new ReadTally<IntakeSkipReason>();
    const fresh: RttSample[] = [];
    const traces: IntakeTrace[] = [];
    const answers: { clientNetworkId: ClientNetworkId; address: string }[] = [];
    for (const [index, sample] of samples.entries()) {
      const where = `sample ${index + 1}`;
      const ends = this.#ends(sample);
      if (typeof ends === "string") {
        const { from, to } = sample;
        tally.skip(
          ends,
          where,
          ends === "unknown-from"
            ? `no client network and no server has the address ${from}`
            : `no server, or servers of several clusters, have the address ${to}`,
        );
        continue;
      }
      const { from, to, clientNetworkId, isTowardsNetwork } = ends;
      const { source, method, agent, at, rttMs, lastHops } = sample;
      if (lastHops !== undefined) {
        if (isTowardsNetwork && clientNetworkId !== undefined) traces.push({ clientNetworkId, lastHops });
        // It ended at a firewall, as most traces do: no loss of the path.
        if (rttMs === null) {
          tally.take();
          continue;
        }
      }
      const refusal = this.#store.handleSample({ from, to, source, method, agent, at, rttMs }, epoch);
      if (refusal !== undefined) {
        tally.skip(refusal, where, REFUSED[refusal]);
        continue;
      }
      tally.take();
      if (isTowardsNetwork && clientNetworkId !== undefined && rttMs !== null)
        answers.push({ clientNetworkId, address: sample.to });
      const ageMs = Math.max(0, epoch - at);
      // A request's time to first byte has the server's work in it: it is no round trip of the path.
      if (clientNetworkId !== undefined && method !== "http" && ageMs <= FRESH_MS)
        fresh.push({ from: clientNetworkId, to, rttMs, at: plusMs(now, -ageMs) });
    }
    fresh.sort((a, b) => a.at - b.at);
    return { tally, fresh, traces, answers };
  }

  /** From a client network or a server to a server; or from a server to a client network, whose round trip is the same. */
  #ends({ from, to }: PathSample): Ends | "unknown-from" | "unknown-to" {
    if (from === null) return "unknown-from";
    const fromNetwork = this.#book.clientNetwork(from);
    const fromCluster = fromNetwork === undefined ? this.#book.cluster(from) : undefined;
    if (fromNetwork === undefined && fromCluster === undefined) return "unknown-from";
    const toCluster = this.#book.cluster(to);
    if (toCluster !== undefined) {
      const known = { to: toCluster, clientNetworkId: fromNetwork, isTowardsNetwork: false };
      return { from: (fromNetwork ?? fromCluster) as string, ...known };
    }
    const toNetwork = fromCluster === undefined ? undefined : this.#book.clientNetwork(to);
    if (toNetwork === undefined || fromCluster === undefined) return "unknown-to";
    return { from: toNetwork, to: fromCluster, clientNetworkId: toNetwork, isTowardsNetwork: true };
  }

  /** Puts pairs of resolver and client into the table, the clients by the names of their networks. */
  handlePairs(
    pairs: readonly ResolverPair[],
    table: ResolverTable,
    epoch: EpochMs,
  ): ReadTally<PairSkipReason> {
    const tally = new ReadTally<PairSkipReason>();
    for (const [index, { resolver, client, weight, at }] of pairs.entries()) {
      const where = `pair ${index + 1}`;
      const clientNetworkId = this.#book.clientNetwork(client);
      if (clientNetworkId === undefined) {
        tally.skip("unknown-client", where, `no client network has the address ${client}`);
        continue;
      }
      const refusal = table.handlePair(resolver, clientNetworkId, weight, at, epoch);
      if (refusal === undefined) tally.take();
      else tally.skip(refusal, where, PAIR_REFUSED[refusal]);
    }
    return tally;
  }
}

const CLOCK_AHEAD = "the sender's clock is ahead of this one by more than is allowed";
const PAIR_REFUSED: Readonly<Record<PairRefusal, string>> = {
  future: CLOCK_AHEAD,
  "too-old": "it would count next to nothing",
};
const REFUSED: Readonly<Record<StoreRefusal, string>> = {
  future: CLOCK_AHEAD,
  "too-old": "older than the windows that are kept",
  rtt: "no round-trip time",
};

/**
 * Which of a customer's targets is nearest to whom, by the measured map. Nobody measures from a user to a data centre of a customer; but the map
 * has the ways from users to our clusters, and from the data centre's network to them (or its place). Each cluster is a way to go by, and
 * the best of them is what the target costs: scored as clusters are.
 */
import {
  allSteps,
  type ClusterId,
  formatAddress,
  type IpAddress,
  type IpFamily,
  type PrefixRuns,
  type RankedCluster,
  type ResolverEntry,
  type Steps,
  type TrafficClass,
} from "#kit";
import { GEOGRAPHY_CONFIDENCE, geographyRttMs } from "../estimator.ts";
import { type MapIndex, NO_NETWORK } from "../map-index.ts";
import { scoreDefaults, scoreOf } from "../score.ts";
import type { TopologyIndex } from "../topology-index.ts";
import type { CompiledPolicy, PerformanceNode, PolicyNode } from "./compile.ts";

/** What is known of the way between a target and a cluster. */
interface Leg {
  readonly rttMs: number;
  readonly lossRatio: number;
  readonly confidence: number;
}
type Legs = ReadonlyMap<ClusterId, Leg>;

/** Loss where only places are known, as the estimator has it. */
const LOSS_PRIOR = 0.002;

/** From a target to clusters: what the map has for the network of its address; where it has nothing, by its place. */
export function legsOf(policy: CompiledPolicy, target: number, map: MapIndex, topology: TopologyIndex): Legs {
  const legs = new Map<ClusterId, Leg>();
  const { coordinates } = policy.document.targets[target] ?? {};
  if (coordinates !== undefined)
    for (const [clusterId, { entry }] of topology.edgeClusters) {
      const rttMs = geographyRttMs(entry.coordinates, coordinates);
      legs.set(clusterId, { rttMs, lossRatio: LOSS_PRIOR, confidence: GEOGRAPHY_CONFIDENCE });
    }
  for (const family of [4, 6] as const) {
    const number = policy.targets[target]?.addressNumbers[family][0];
    const address = number === undefined ? undefined : policy.addresses[family][number];
    const network = address === undefined ? NO_NETWORK : map.lookup(address);
    if (network === NO_NETWORK) continue;
    for (const { clusterId, terms } of map.table.ranking(network, policy.document.trafficClass))
      legs.set(clusterId, { rttMs: terms.rttMs, lossRatio: terms.lossRatio, confidence: terms.confidence });
    break;
  }
  return legs;
}

/** Score of a target for who has this ranking, by the best of its clusters; infinite where none leads there. */
export function scoreByWay(
  ranking: readonly RankedCluster[],
  legs: Legs,
  trafficClass: TrafficClass,
): number {
  let best = Infinity;
  for (const { clusterId, terms } of ranking) {
    const leg = legs.get(clusterId);
    if (leg === undefined) continue;
    const { score } = scoreOf(
      {
        rttMs: terms.rttMs + leg.rttMs,
        spreadMs: 0,
        lossRatio: 1 - (1 - terms.lossRatio) * (1 - leg.lossRatio),
        // How full our cluster is says nothing of the customer's.
        load: 0,
        confidence: Math.min(terms.confidence, leg.confidence),
      },
      scoreDefaults[trafficClass],
    );
    if (score < best) best = score;
  }
  return best;
}

/** An address as it stands in a packet. */
export interface Address {
  readonly family: IpFamily;
  /** 1 or 4, network order. */
  readonly words: ArrayLike<number>;
}

/** An order of entries, by number in the node. */
export type EntryOrder = readonly number[];

export interface NearestFound {
  readonly order: EntryOrder;
  /** Of the widest prefix around the address in which the order is the same. */
  readonly scopePrefixLength: number;
}

/** The order of a node's entries for everyone. Immutable. */
export class NearestTable {
  readonly question: NearestQuestion;
  /** Somebody has looked something up. */
  isUsed = false;
  readonly #orders: readonly EntryOrder[];
  readonly #runs: Readonly<Record<IpFamily, PrefixRuns>>;
  /** By address as text. */
  readonly #resolvers: ReadonlyMap<string, number>;

  private constructor(
    question: NearestQuestion,
    orders: readonly EntryOrder[],
    runs: Readonly<Record<IpFamily, PrefixRuns>>,
    resolvers: ReadonlyMap<string, number>,
  ) {
    this.question = question;
    this.#orders = orders;
    this.#runs = runs;
    this.#resolvers = resolvers;
  }

  static *inSteps(question: NearestQuestion, map: MapIndex, topology: TopologyIndex): Steps<NearestTable> {
    const { policy } = question;
    const orders: EntryOrder[] = [];
    const numbers = new Map<string, number>();
    const orderNumber = orderer(question, map, topology);
    const number = (ranking: readonly RankedCluster[]): number => {
      const order = orderNumber(ranking);
      const key = order.join(" ");
      let known = numbers.get(key);
      if (known === undefined) {
        known = orders.push(order) - 1;
        numbers.set(key, known);
      }
      return known;
    };
    const { table } = map;
    const { trafficClass } = policy.document;
    // Networks of one row see the same clusters by the same figures; where they are sent does not matter here.
    const byRow = new Map<number, number>();
    const numberOf = (network: number): number => {
      const subject = network === NO_NETWORK ? table.fallbackNumber : network;
      const row = table.rowOf(subject);
      let known = byRow.get(row);
      if (known === undefined) {
        known = number(table.ranking(subject, trafficClass));
        byRow.set(row, known);
      }
      return known;
    };
    const runs = { 4: yield* map.runs(4, numberOf), 6: yield* map.runs(6, numberOf) };
    const resolvers = new Map<string, number>();
    for (const entry of map.snapshot.resolvers ?? []) {
      if (resolvers.size % STEP === STEP - 1) yield;
      resolvers.set(entry.address, number(entry.clusters[trafficClass]));
    }
    return new NearestTable(question, orders, runs, resolvers);
  }

  /** For a client that was told of. */
  lookup(address: Address): NearestFound {
    this.isUsed = true;
    const runs = this.#runs[address.family];
    const { starts, values } = runs;
    const wordCount = address.family === 4 ? 1 : 4;
    const run = runOf(runs, address);
    let scopePrefixLength = 0;
    // One bit more than it has in common with the nearest one on either side that has another order.
    if (run > 0) scopePrefixLength = commonBits(starts, run * wordCount, address, 1) + 1;
    if (run + 1 < values.length)
      scopePrefixLength = Math.max(
        scopePrefixLength,
        commonBits(starts, (run + 1) * wordCount, address, 0) + 1,
      );
    return { order: this.#orders[values[run] as number] as EntryOrder, scopePrefixLength };
  }

  /** For a resolver that told of nobody: where the map knows who is behind it, for them. The scope is 0. */
  lookupResolver(address: Address): NearestFound {
    const known =
      this.#resolvers.size === 0
        ? undefined
        : this.#resolvers.get(formatAddress({ family: address.family, words: Array.from(address.words) }));
    const order = known === undefined ? this.lookup(address).order : (this.#orders[known] as EntryOrder);
    return { order, scopePrefixLength: 0 };
  }

  /** Runs of addresses with one order, both families. */
  get size(): number {
    return this.#runs[4].values.length + this.#runs[6].values.length;
  }
}
const STEP = 256;

function orderer(
  { policy, node, targets, depth }: NearestQuestion,
  map: MapIndex,
  topology: TopologyIndex,
): (ranking: readonly RankedCluster[]) => EntryOrder {
  const legs = new Map(targets.map((target) => [target, legsOf(policy, target, map, topology)]));
  const entries = node.entries.map((number) =>
    (policy.nodes[number] as PolicyNode).targets.flatMap((target) => legs.get(target) ?? []),
  );
  const { trafficClass } = policy.document;
  return (ranking) => {
    const scored = entries.flatMap((some, place) => {
      if (some.length === 0) return [];
      const scores = some.map((one) => scoreByWay(ranking, one, trafficClass));
      return [{ place, score: Math.min(...scores) }];
    });
    // Of equals, and of those that no way leads to, the one that the customer names first.
    scored.sort((a, b) => (a.score === b.score ? a.place - b.place : a.score - b.score));
    return scored.slice(0, depth).map(({ place }) => place);
  };
}

/** Every score of a node's targets for an address, for people: undefined where there is no map. */
export function scoresFor(
  policy: CompiledPolicy,
  map: MapIndex | null,
  topology: TopologyIndex,
  address: IpAddress,
  resolver: ResolverEntry | undefined,
): readonly (number | undefined)[] {
  if (map === null) return policy.targets.map(() => undefined);
  const network = map.lookup(address);
  const { trafficClass } = policy.document;
  const ranking =
    resolver?.clusters[trafficClass] ??
    map.table.ranking(network === NO_NETWORK ? map.table.fallbackNumber : network, trafficClass);
  return policy.targets.map((_target, number) => {
    const score = scoreByWay(ranking, legsOf(policy, number, map, topology), trafficClass);
    return score === Infinity ? undefined : score;
  });
}

/** The last run that begins at or before the address. */
function runOf({ starts, values }: PrefixRuns, { family, words }: Address): number {
  const wordCount = family === 4 ? 1 : 4;
  let low = 0;
  let high = values.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    let difference = 0;
    for (let n = 0; n < wordCount && difference === 0; n++)
      difference = (starts[middle * wordCount + n] as number) - (words[n] as number);
    if (difference <= 0) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Leading bits that the address has in common with the one at `at`, less `one` (0 or 1); they differ somewhere. */
function commonBits(starts: Uint32Array, at: number, { family, words }: Address, one: 0 | 1): number {
  const wordCount = family === 4 ? 1 : 4;
  // Words of zeros at the address's end borrow from the word before them.
  let borrowFrom = wordCount - 1;
  if (one === 1) while (borrowFrom > 0 && starts[at + borrowFrom] === 0) borrowFrom--;
  for (let n = 0; n < wordCount; n++) {
    const word = ((starts[at + n] as number) - (n >= borrowFrom ? one : 0)) >>> 0;
    const difference = word ^ (words[n] as number);
    if (difference !== 0) return n * 32 + Math.clz32(difference);
  }
  return wordCount * 32 - 1;
}

interface KeptTables {
  readonly topology: TopologyIndex;
  readonly byPolicy: Map<CompiledPolicy, Map<string, NearestTable>>;
}
/** Of a map: what was made of it goes with it. */
const kept = new WeakMap<MapIndex, KeptTables>();
/** Tables of one policy and map: each liveness that was seen is one; beyond this all are made anew when they are needed. */
const TABLES_MAX = 64;

function keptOf(map: MapIndex, topology: TopologyIndex, policy: CompiledPolicy): Map<string, NearestTable> {
  let ofMap = kept.get(map);
  if (ofMap?.topology !== topology) kept.set(map, (ofMap = { topology, byPolicy: new Map() }));
  let tables = ofMap.byPolicy.get(policy);
  if (tables === undefined) ofMap.byPolicy.set(policy, (tables = new Map()));
  return tables;
}

export interface NearestQuestion {
  readonly policy: CompiledPolicy;
  readonly node: PerformanceNode;
  /** Targets that are looked at, by number: of an entry the nearest one of them counts, an entry without any is left out. */
  readonly targets: readonly number[];
  /** Places of the order that matter: the others are not told apart. */
  readonly depth: number;
}

/** The table for those targets; kept for as long as map, topology and policy are the same. */
export function nearestTableOf(
  question: NearestQuestion,
  map: MapIndex,
  topology: TopologyIndex,
): NearestTable {
  const tables = keptOf(map, topology, question.policy);
  const key = `${question.node.number} ${question.depth} ${question.targets.join(",")}`;
  let table = tables.get(key);
  if (table === undefined) {
    if (tables.size >= TABLES_MAX) tables.clear();
    table = allSteps(NearestTable.inSteps(question, map, topology));
    tables.set(key, table);
  }
  return table;
}

/** Makes for the next map, in steps, what was asked for of the one in force: then its first answers cost no more than the others. */
export function* prepareNearest(
  policies: Iterable<CompiledPolicy>,
  next: MapIndex,
  inForce: MapIndex,
  topology: TopologyIndex,
): Steps<void> {
  for (const policy of policies) {
    const before = kept.get(inForce)?.byPolicy.get(policy);
    for (const [key, table] of before ?? []) {
      if (!table.isUsed || keptOf(next, topology, policy).has(key)) continue;
      const made = yield* NearestTable.inSteps(table.question, next, topology);
      keptOf(next, topology, policy).set(key, made);
    }
  }
}

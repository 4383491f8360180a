/**
 * Which cluster each address is sent to, and how far around it that holds: the answers of `answerAddresses` for all addresses
 * at once, for one traffic class and one family of server addresses. A look-up is one binary search and allocates nothing, however wide
 * the scope is; made anew when map, topology or liveness change.
 */
import { allSteps, type IpFamily, type PropertyDocument, type ServerEntry, type Steps } from "#kit";
import { AnswerChooser, type ClusterChoice } from "../answer.ts";
import {
  type FamilyResolvers,
  type FamilyRuns,
  rankingRunsInSteps,
  type ScopedResolvers,
  UNSCOPED,
} from "./ranking-runs.ts";
import type { DnsContext } from "./decision.ts";

/** Bits of a look-up's result that are the scope: 0 to 128. The rest is the choice. */
const SCOPE_BITS = 8;
const SCOPE_MASK = 0xff;

export const choiceOfLookup = (result: number): number => result >>> SCOPE_BITS;
export const scopeOfLookup = (result: number): number => result & SCOPE_MASK;

/** Runs of one family with the choice for each, and the wider runs within which the same servers are named. */
interface ChoiceRuns extends FamilyRuns {
  readonly choiceOf: Uint16Array;
  /** First addresses of the wider runs, and for each run the one that holds it. */
  readonly outerStarts: Uint32Array;
  readonly outerOf: Uint32Array;
}

/**
 * The same for IPv4, laid out for the processor's caches: a look-up of a large map waits for memory and for nothing else (one search
 * over all runs 2.6 to 3.9 million a CPU-second at 444,000 networks).
 */
interface Ipv4Runs {
  readonly starts: Uint32Array;
  /** By the first 16 bits of an address: the last run that begins at or before the first address with them. */
  readonly firstRuns: Uint32Array;
  /**
   * All else of a run side by side: the last address before its wider run, the first one behind it, and the choice, with whether
   * there are such addresses.
   */
  readonly records: Uint32Array;
}
const RECORD_WORDS = 4;
const INDEX_SHIFT = 16;
const CHOICE_MASK = 0xffff;
const HAS_BEFORE = 1 << 16;
const HAS_BEHIND = 1 << 17;

/** What is known of askers of one family. */
interface ResolverChoices {
  /** Without a client's subnet. */
  readonly resolvers: FamilyResolvers;
  readonly choiceOf: Uint16Array;
  /** With one, whose answers hold more widely than those of others. */
  readonly scopedWords: Uint32Array;
  readonly scoped: readonly Readonly<Record<IpFamily, ChoiceRuns>>[];
}

/** Stands for a choice where a resolver's own scopes do not decide; choices are far fewer. */
const NO_CHOICE = 0xffff;

export class ChoiceTable {
  /** Distinct choices. */
  readonly choices: readonly ClusterChoice[];
  readonly #ipv4: Ipv4Runs;
  readonly #ipv6: ChoiceRuns;
  readonly #askers: Readonly<Record<IpFamily, ResolverChoices>>;

  private constructor(
    choices: readonly ClusterChoice[],
    ipv4: Ipv4Runs,
    ipv6: ChoiceRuns,
    askers: Readonly<Record<IpFamily, ResolverChoices>>,
  ) {
    this.choices = choices;
    this.#ipv4 = ipv4;
    this.#ipv6 = ipv6;
    this.#askers = askers;
  }

  /** @param property any of the traffic class: all of them are sent alike */
  static *inSteps(context: DnsContext, property: PropertyDocument, family: IpFamily): Steps<ChoiceTable> {
    const runs = yield* rankingRunsInSteps(context.snapshot, property.trafficClass);
    const chooser = chooserOf(context, property, family);
    const choices: ClusterChoice[] = [];
    const numbers = new Map<string, number>();
    /** By choice; the same servers in the same order have the same number. */
    const servers: string[] = [];
    const choiceOfRanking = new Uint16Array(runs.rankings.length);
    for (const [ranking, subject] of runs.rankings.entries()) {
      if (ranking % STEP === STEP - 1) yield;
      const choice = typeof subject === "number" ? chooser.choose(subject) : chooser.chooseFor(subject);
      const named = `${choice.clusterId} ${choice.isLive}`;
      const key = `${named} ${choice.reason}`;
      let number = numbers.get(key);
      if (number === undefined) {
        number = choices.push(choice) - 1;
        servers.push(named);
        numbers.set(key, number);
      }
      choiceOfRanking[ranking] = number;
    }
    const of = (some: FamilyRuns) => withChoices(some, choiceOfRanking, servers);
    const ipv4 = yield* ipv4RunsOf(yield* of(runs.runs(4)));
    const ipv6 = yield* of(runs.runs(6));
    const askers = (one: IpFamily) =>
      askersOf(runs.resolvers(one), runs.scopedResolvers(one), choiceOfRanking, of);
    return new ChoiceTable(choices, ipv4, ipv6, { 4: yield* askers(4), 6: yield* askers(6) });
  }

  /**
   * The choice for an address and the length of the widest prefix around it in which everyone gets the same servers, in one
   * number: see {@link choiceOfLookup} and {@link scopeOfLookup}.
   *
   * @param words of the address, network order: 1 (family 4) or 4 (family 6), each 0..2^32-1
   */
  lookup(family: IpFamily, words: ArrayLike<number>): number {
    return family === 4 ? lookupIpv4(this.#ipv4, words[0] as number) : lookupIpv6(this.#ipv6, words);
  }

  /** The same for a resolver that told nothing of its clients. The scope is 0: the answer is for all that it serves. */
  lookupResolver(family: IpFamily, words: ArrayLike<number>): number {
    const { resolvers, choiceOf } = this.#askers[family];
    const known = choiceOf.length === 0 ? -1 : findWords(resolvers.words, family === 4 ? 1 : 4, words);
    if (known >= 0) return (choiceOf[known] as number) << SCOPE_BITS;
    return this.lookup(family, words) & ~SCOPE_MASK;
  }

  /**
   * {@link lookup} of a client's address for the resolver that told it: where the map has scopes for that resolver, those hold, and others
   * are no wider than where one of them begins (RFC 7871 section 7.2.1: scopes must not overlap).
   */
  lookupBehind(
    resolverFamily: IpFamily,
    resolverWords: ArrayLike<number>,
    family: IpFamily,
    words: ArrayLike<number>,
  ): number {
    const { scoped, scopedWords } = this.#askers[resolverFamily];
    if (scoped.length === 0) return this.lookup(family, words);
    const known = scoped[findWords(scopedWords, resolverFamily === 4 ? 1 : 4, resolverWords)];
    if (known === undefined) return this.lookup(family, words);
    const own = family === 4 ? lookupFew(known[4], words[0] as number) : lookupIpv6(known[6], words);
    if (choiceOfLookup(own) !== NO_CHOICE) return own;
    const general = this.lookup(family, words);
    return (general & ~SCOPE_MASK) | Math.max(scopeOfLookup(general), scopeOfLookup(own));
  }
}

function chooserOf(context: DnsContext, property: PropertyDocument, family: IpFamily): AnswerChooser {
  const { snapshot, topology, isUp } = context;
  return new AnswerChooser(snapshot ?? undefined, topology, { property, family, isUp });
}

/** The place of an address in ascending ones, -1 if it is not there. */
function findWords(all: Uint32Array, wordCount: number, words: ArrayLike<number>): number {
  let low = 0;
  let high = all.length / wordCount - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    let difference = 0;
    for (let index = 0; index < wordCount && difference === 0; index++)
      difference = (all[middle * wordCount + index] as number) - (words[index] as number);
    if (difference === 0) return middle;
    if (difference < 0) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}

/** Rankings or runs between two pauses. */
const STEP = 2_048;

function* askersOf(
  resolvers: FamilyResolvers,
  { words, runs }: ScopedResolvers,
  choiceOfRanking: Uint16Array,
  withChoicesOf: (runs: FamilyRuns) => Steps<ChoiceRuns>,
): Steps<ResolverChoices> {
  const scoped: Record<IpFamily, ChoiceRuns>[] = [];
  for (const own of runs) {
    yield;
    scoped.push({ 4: yield* withChoicesOf(own[4]), 6: yield* withChoicesOf(own[6]) });
  }
  return {
    resolvers,
    choiceOf: Uint16Array.from(resolvers.rankingOf, (ranking) => choiceOfRanking[ranking] as number),
    scopedWords: words,
    scoped,
  };
}

function* withChoices(
  runs: FamilyRuns,
  choiceOfRanking: Uint16Array,
  servers: readonly string[],
): Steps<ChoiceRuns> {
  const { wordCount, starts, rankingOf } = runs;
  const choiceOf = new Uint16Array(rankingOf.length);
  const outerOf = new Uint32Array(rankingOf.length);
  // Not a list that is copied at the end: that was the longest step.
  const outerStarts = new Uint32Array(rankingOf.length * wordCount);
  let outers = 0;
  let last: string | undefined;
  for (let run = 0; run < rankingOf.length; run++) {
    if (run % STEP === STEP - 1) yield;
    const ranking = rankingOf[run] as number;
    const choice = ranking === UNSCOPED ? NO_CHOICE : (choiceOfRanking[ranking] as number);
    choiceOf[run] = choice;
    const named = servers[choice] ?? "";
    if (named !== last) {
      for (let word = 0; word < wordCount; word++)
        outerStarts[outers * wordCount + word] = starts[run * wordCount + word] as number;
      outers++;
      last = named;
    }
    outerOf[run] = outers - 1;
  }
  return { ...runs, choiceOf, outerStarts: outerStarts.slice(0, outers * wordCount), outerOf };
}

function* ipv4RunsOf({ starts, choiceOf, outerOf, outerStarts }: ChoiceRuns): Steps<Ipv4Runs> {
  const records = new Uint32Array(choiceOf.length * RECORD_WORDS);
  const firstRuns = new Uint32Array(2 ** (32 - INDEX_SHIFT) + 1);
  let prefix = 0;
  for (let run = 0; run < choiceOf.length; run++) {
    if (run % STEP === STEP - 1) yield;
    const start = starts[run] as number;
    for (; prefix * 2 ** INDEX_SHIFT < start; prefix++) firstRuns[prefix] = run - 1;
    const outer = outerOf[run] as number;
    const at = run * RECORD_WORDS;
    let choice = choiceOf[run] as number;
    if (outer > 0) {
      records[at] = (outerStarts[outer] as number) - 1;
      choice |= HAS_BEFORE;
    }
    if (outer + 1 < outerStarts.length) {
      records[at + 1] = outerStarts[outer + 1] as number;
      choice |= HAS_BEHIND;
    }
    records[at + 2] = choice;
  }
  firstRuns.fill(choiceOf.length - 1, prefix);
  return { starts, firstRuns, records };
}

function lookupIpv4({ starts, firstRuns, records }: Ipv4Runs, word: number): number {
  let low = firstRuns[word >>> INDEX_SHIFT] as number;
  let high = firstRuns[(word >>> INDEX_SHIFT) + 1] as number;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if ((starts[middle] as number) <= word) low = middle;
    else high = middle - 1;
  }
  const at = low * RECORD_WORDS;
  const choice = records[at + 2] as number;
  // One bit more than the address has in common with the nearest one on either side that gets another answer.
  let scope = 0;
  if ((choice & HAS_BEFORE) !== 0) scope = Math.clz32((records[at] as number) ^ word) + 1;
  if ((choice & HAS_BEHIND) !== 0)
    scope = Math.max(scope, Math.clz32((records[at + 1] as number) ^ word) + 1);
  return ((choice & CHOICE_MASK) << SCOPE_BITS) | scope;
}

/** The same over the few runs of one resolver, which need no index. */
function lookupFew({ starts, choiceOf, outerOf, outerStarts }: ChoiceRuns, word: number): number {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if ((starts[middle] as number) <= word) low = middle;
    else high = middle - 1;
  }
  const outer = outerOf[low] as number;
  let scope = 0;
  if (outer > 0) scope = Math.clz32(((outerStarts[outer] as number) - 1) ^ word) + 1;
  if (outer + 1 < outerStarts.length)
    scope = Math.max(scope, Math.clz32((outerStarts[outer + 1] as number) ^ word) + 1);
  return ((choiceOf[low] as number) << SCOPE_BITS) | scope;
}

function lookupIpv6(runs: ChoiceRuns, words: ArrayLike<number>): number {
  const { starts, outerStarts } = runs;
  let low = 0;
  let high = starts.length / 4 - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    const at = middle * 4;
    const difference =
      (starts[at] as number) - (words[0] as number) ||
      (starts[at + 1] as number) - (words[1] as number) ||
      (starts[at + 2] as number) - (words[2] as number) ||
      (starts[at + 3] as number) - (words[3] as number);
    if (difference <= 0) low = middle;
    else high = middle - 1;
  }
  const outer = runs.outerOf[low] as number;
  let scope = 0;
  if (outer > 0) scope = bitsInCommon(outerStarts, outer * 4, words, 1) + 1;
  if (outer + 1 < outerStarts.length / 4)
    scope = Math.max(scope, bitsInCommon(outerStarts, (outer + 1) * 4, words, 0) + 1);
  return ((runs.choiceOf[low] as number) << SCOPE_BITS) | scope;
}

/** Leading bits that `words` has in common with the address at `at`, less `one` (0 or 1); they differ somewhere. */
function bitsInCommon(starts: Uint32Array, at: number, words: ArrayLike<number>, one: 0 | 1): number {
  // Words of zeros at the address's end borrow from the word before them.
  let borrowFrom = 3;
  if (one === 1) while (starts[at + borrowFrom] === 0) borrowFrom--;
  for (let index = 0; index < 4; index++) {
    const word = (starts[at + index] as number) - (index >= borrowFrom ? one : 0);
    const difference = word ^ (words[index] as number);
    if (difference !== 0) return index * 32 + Math.clz32(difference);
  }
  return 127;
}

interface Kept {
  /** With what each was made for. */
  readonly tables: Map<
    string,
    { readonly table: ChoiceTable; readonly property: PropertyDocument; readonly family: IpFamily }
  >;
  readonly servers: Map<string, readonly ServerEntry[]>;
}

/** A context is immutable, so what was computed of it belongs to it. */
const kept = new WeakMap<DnsContext, Kept>();

function keptOf(context: DnsContext): Kept {
  let found = kept.get(context);
  if (found === undefined) {
    found = { tables: new Map(), servers: new Map() };
    kept.set(context, found);
  }
  return found;
}

export function choiceTableOf(
  context: DnsContext,
  property: PropertyDocument,
  family: IpFamily,
): ChoiceTable {
  const known = keptOf(context).tables.get(`${property.trafficClass} ${family}`);
  return known?.table ?? allSteps(choiceTableInSteps(context, property, family));
}

function* choiceTableInSteps(
  context: DnsContext,
  property: PropertyDocument,
  family: IpFamily,
): Steps<ChoiceTable> {
  const table = yield* ChoiceTable.inSteps(context, property, family);
  keptOf(context).tables.set(`${property.trafficClass} ${family}`, { table, property, family });
  return table;
}

/** Makes for `next`, in steps, what was made for `inForce`: then its first answers cost no more than the others. */
export function* prepareChoices(next: DnsContext, inForce: DnsContext): Steps<void> {
  for (const [key, { property, family }] of keptOf(inForce).tables)
    if (!keptOf(next).tables.has(key)) yield* choiceTableInSteps(next, property, family);
}

/** The servers to name for a choice, best first; empty only for `no-edge`. */
export function serversOfChoice(
  context: DnsContext,
  property: PropertyDocument,
  family: IpFamily,
  choice: ClusterChoice,
): readonly ServerEntry[] {
  if (choice.clusterId === null) return [];
  const { servers } = keptOf(context);
  const key = `${property.propertyId} ${family} ${choice.clusterId} ${choice.isLive}`;
  let named = servers.get(key);
  if (named === undefined) {
    named = chooserOf(context, property, family).serversOf(choice.clusterId, choice.isLive);
    servers.set(key, named);
  }
  return named;
}

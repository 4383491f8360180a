/**
 * One query to a policy: which addresses are handed out, for how wide a neighbourhood that holds, and why. Name servers, `isochrone where` and
 * the simulator ask here. Pure: the lot comes in with the query.
 */
import {
  countryOf,
  type CountryTable,
  type IpFamily,
  maskAddress,
  type PropertyId,
  UNKNOWN_COUNTRY,
} from "#kit";
import type { CompiledPolicy, PerformanceNode, PolicyNode } from "./compile.ts";
import { mix, unitOf } from "./draw.ts";
import type { Address, NearestFound } from "./nearest.ts";
import type { PolicyView } from "./view.ts";

/** Why an answer is what it is; log word and metric label. */
export const policyReasons = [
  /** By the rule, among those that live. */
  "policy",
  /** By the rule among those that live, all of which have more load than they want. */
  "policy-all-loaded",
  /** Nothing lives: by the rule, among all. */
  "policy-all-down",
  /** Nothing lives and the policy is to hand out nothing then. */
  "policy-closed",
  /** No target that is enabled has an address of the family. */
  "policy-no-target",
] as const;
export type PolicyReason = (typeof policyReasons)[number];

export interface PolicyQuery {
  /** Of the addresses that are asked for. */
  readonly family: IpFamily;
  /** The ECS address, else the resolver's. */
  readonly client: Address;
  /** Bits of it that are known. */
  readonly sourcePrefixLength: number;
  /** It is the resolver's own: the answer is for all that it serves, and has scope 0. */
  readonly isResolver: boolean;
  /** 32 bits; see `drawOf`. */
  readonly draw: number;
}

export interface PolicyFacts {
  readonly view: PolicyView;
  readonly countries: CountryTable | undefined;
  /**
   * Entries of a node by distance, those of `targets` alone, at least `depth` of them; undefined: there is no map.
   */
  readonly nearest: (
    node: PerformanceNode,
    targets: readonly number[],
    depth: number,
    query: PolicyQuery,
  ) => NearestFound | undefined;
  /** Whether the edges serve this property over the family; a property that is not there is served by nobody. */
  readonly isServed: (propertyId: PropertyId, family: IpFamily) => boolean;
  /** What follows from the rest for every query alike, filled as it is asked for; absent: it is found anew each time. */
  readonly kept?: Map<number, Pickable>;
}

/** Of a performance rule the targets that may be picked. */
interface Pickable {
  readonly targets: readonly number[];
  readonly isShedding: boolean;
}

export interface PolicyChoice {
  /** Handed out in this order, by number in the policy; empty for a property's edges and where there is nothing. */
  readonly addresses: readonly number[];
  /** What was chosen, by number, first the best. */
  readonly targets: readonly number[];
  /** The first target is the edges: they are answered with as for this property. */
  readonly propertyId: PropertyId | undefined;
  /** Length of a prefix around the client in which the same lot gets the same answer; never longer than the source. */
  readonly scopePrefixLength: number;
  readonly reason: PolicyReason;
}

/** Whom a walk may pick. */
type Level = "unloaded" | "live" | "enabled";

/** Entries that are told apart beyond those that are taken, while some turn away a part of what they would be sent. */
const DEPTH_WHILE_SHEDDING = 2;
/** Runs of the country table that scopes of one answer are widened over; beyond it they are narrower than they could be, and right. */
const SCOPE_RUNS_MAX = 4_096;
/** Sets the lot of who is turned away apart from the lot of who is chosen. */
const SHED_SEED = 0x5eed;

/** What one rule chose, for people; a rule comes before those below it. */
export interface PolicyStep {
  readonly depth: number;
  readonly method: PolicyNode["method"];
  /** By number. */
  targets: readonly number[];
}

class Walk {
  readonly #steps: PolicyStep[] | undefined;
  #depth = 0;
  readonly #policy: CompiledPolicy;
  readonly #query: PolicyQuery;
  readonly #facts: PolicyFacts;
  readonly #level: Level;
  readonly targets: number[] = [];
  /** By which each target's addresses are turned. */
  readonly draws: number[] = [];
  scope = 0;

  constructor(
    policy: CompiledPolicy,
    query: PolicyQuery,
    facts: PolicyFacts,
    level: Level,
    steps?: PolicyStep[],
  ) {
    this.#steps = steps;
    this.#policy = policy;
    this.#query = query;
    this.#facts = facts;
    this.#level = level;
  }

  /** Adds what the node chooses. @returns how many targets that is */
  visit(number: number, draw: number): number {
    const node = this.#policy.nodes[number] as PolicyNode;
    if (this.#steps === undefined) return this.#visit(node, draw);
    const step: PolicyStep = { depth: this.#depth++, method: node.method, targets: [] };
    this.#steps.push(step);
    const before = this.targets.length;
    const added = this.#visit(node, draw);
    step.targets = this.targets.slice(before);
    this.#depth--;
    return added;
  }

  #visit(node: PolicyNode, draw: number): number {
    switch (node.method) {
      case "target":
        return this.#target(node.target, node.identity, draw);
      case "ranked":
        return this.#several(node.entries, draw, node.entries.length);
      case "all": {
        const first = node.entries.length === 0 ? 0 : mix(draw, node.number) % node.entries.length;
        return this.#several(
          [...node.entries.slice(first), ...node.entries.slice(0, first)],
          draw,
          node.entries.length,
        );
      }
      case "failover":
        return this.#failover(node, draw);
      case "performance":
        return this.#performance(node, draw);
      case "weighted":
        return this.#byKey(node, mix(mix(draw, this.#policy.seed), node.number), draw);
      case "sticky":
        return this.#sticky(node);
      case "geographic":
        return this.#geographic(node, draw);
      case "cidr":
        return this.#cidr(node, draw);
      default:
        return node satisfies never;
    }
  }

  #target(target: number, identity: number, draw: number): number {
    if (this.targets.includes(target)) return 1;
    if (!this.#mayPick(target)) return 0;
    if (this.#level === "unloaded") {
      const accepted = this.#facts.view.accepted[target] as number;
      if (accepted < 1 && unitOf(mix(mix(draw, identity), SHED_SEED)) >= accepted) return 0;
    }
    this.targets.push(target);
    this.draws.push(draw);
    return 1;
  }

  /** Whatever the load. */
  #mayPick(target: number): boolean {
    const { isEnabled, addressNumbers, propertyId } = this.#policy.targets[
      target
    ] as CompiledPolicy["targets"][number];
    const { family } = this.#query;
    if (!isEnabled) return false;
    if (propertyId !== undefined) return this.#facts.isServed(propertyId, family);
    return (
      addressNumbers[family].length > 0 &&
      (this.#level === "enabled" || this.#facts.view.isLive[target] === 1)
    );
  }

  /** The first `take` entries that choose anything. */
  #several(entries: readonly number[], draw: number, take: number): number {
    let taken = 0;
    let added = 0;
    for (const entry of entries) {
      const some = this.visit(entry, draw);
      added += some;
      if (some > 0 && ++taken === take) break;
    }
    return added;
  }

  #failover({ entries, liveTargetsMin }: Extract<PolicyNode, { method: "failover" }>, draw: number): number {
    let added = 0;
    for (const entry of entries) {
      const node = this.#policy.nodes[entry] as PolicyNode;
      let live = 0;
      for (const target of node.targets) if (this.#mayPick(target)) live++;
      if (live < Math.min(liveTargetsMin, node.targets.length)) continue;
      added = this.visit(entry, draw);
      if (added > 0) return added;
    }
    // None has enough: the first one that has any.
    return this.#several(entries, draw, 1);
  }

  #pickable(node: PerformanceNode): Pickable {
    const { kept, view } = this.#facts;
    const key =
      (node.number * LEVELS.length + LEVEL_NAMES.indexOf(this.#level)) * 2 +
      (this.#query.family === 4 ? 0 : 1);
    const known = kept?.get(key);
    if (known !== undefined) return known;
    const targets = node.targets.filter((target) => this.#mayPick(target));
    const isShedding =
      this.#level === "unloaded" && targets.some((target) => (view.accepted[target] as number) < 1);
    const pickable = { targets, isShedding };
    kept?.set(key, pickable);
    return pickable;
  }

  #performance(node: PerformanceNode, draw: number): number {
    const { targets, isShedding } = this.#pickable(node);
    const found =
      targets.length === 0
        ? undefined
        : this.#facts.nearest(
            node,
            targets,
            node.take + (isShedding ? DEPTH_WHILE_SHEDDING : 0),
            this.#query,
          );
    if (found === undefined) return this.#several(node.entries, draw, node.take);
    this.#widen(found.scopePrefixLength);
    const { order } = found;
    let taken = 0;
    let added = 0;
    for (const place of order) {
      const some = this.visit(node.entries[place] as number, draw);
      added += some;
      if (some > 0 && ++taken === node.take) return added;
    }
    const rest = node.entries.filter((_, place) => !order.includes(place));
    return added + this.#several(rest, draw, node.take - taken);
  }

  #sticky(node: Extract<PolicyNode, { method: "weighted" | "sticky" }>): number {
    const { client, sourcePrefixLength } = this.#query;
    const length = Math.min(node.prefixLengths[client.family], sourcePrefixLength);
    let candidates = 0;
    for (const target of node.targets) if (this.#mayPick(target)) candidates++;
    // Whom there is no choice for gets the same as everybody.
    if (candidates > 1) this.#widen(length);
    const { words } = maskAddress({ family: client.family, words: Array.from(client.words) }, length);
    let key = mix(this.#policy.seed, client.family);
    for (const word of words) key = mix(key, word);
    return this.#byKey(node, key, key);
  }

  /**
   * Rendezvous hashing with weights (Schindelhauer and Schomaker, SPAA 2005): shares by weight, and whom an entry that goes had served is spread over
   * the others, nobody else moves.
   */
  #byKey(
    { entries, weights, take }: Extract<PolicyNode, { method: "weighted" | "sticky" }>,
    key: number,
    draw: number,
  ): number {
    const scoreAt = (place: number): number => {
      const { identity } = this.#policy.nodes[entries[place] as number] as PolicyNode;
      return -(weights[place] as number) / Math.log(unitOf(mix(key, identity)));
    };
    // Nearly always one is taken, and the first one can be.
    if (take === 1 && entries.length > 0) {
      let best = 0;
      let bestScore = scoreAt(0);
      for (let place = 1; place < entries.length; place++) {
        const score = scoreAt(place);
        if (score > bestScore) {
          best = place;
          bestScore = score;
        }
      }
      const added = this.visit(entries[best] as number, draw);
      if (added > 0) return added;
    }
    const scored = entries.map((entry, place) => ({ entry, place, score: scoreAt(place) }));
    scored.sort((a, b) => b.score - a.score || a.place - b.place);
    // Weight 0 is for when nobody else is left.
    return this.#several(
      scored.map(({ entry }) => entry),
      draw,
      take,
    );
  }

  #geographic(node: Extract<PolicyNode, { method: "geographic" }>, draw: number): number {
    const { countries } = this.#facts;
    const address = this.#client();
    const nodeOf = (country = UNKNOWN_COUNTRY): number => node.nodeOf(country) ?? node.otherwise;
    let entry: number;
    if (countries === undefined || this.#query.isResolver) entry = nodeOf(countryOf(countries, address));
    else {
      const runsMax = Math.floor(SCOPE_RUNS_MAX / this.#policy.geographicRules);
      const found = countries.lookupScope(address, (a, b) => nodeOf(a) === nodeOf(b), runsMax);
      this.#widen(found.scopePrefixLength);
      entry = nodeOf(found.value);
    }
    const added = this.visit(entry, draw);
    return added > 0 || entry === node.otherwise ? added : this.visit(node.otherwise, draw);
  }

  #cidr(node: Extract<PolicyNode, { method: "cidr" }>, draw: number): number {
    const { value, scopePrefixLength } = node.table.lookupScope(this.#client(), (a, b) => a === b);
    this.#widen(scopePrefixLength);
    const entry = value ?? node.otherwise;
    const added = this.visit(entry, draw);
    return added > 0 || entry === node.otherwise ? added : this.visit(node.otherwise, draw);
  }

  #client() {
    const { family, words } = this.#query.client;
    return { family, words: Array.from(words) };
  }

  #widen(scopePrefixLength: number): void {
    if (scopePrefixLength > this.scope) this.scope = scopePrefixLength;
  }
}

const LEVEL_NAMES: readonly Level[] = ["unloaded", "live", "enabled"];
const LEVELS: readonly { readonly level: Level; readonly reason: PolicyReason }[] = [
  { level: "unloaded", reason: "policy" },
  { level: "live", reason: "policy-all-loaded" },
  { level: "enabled", reason: "policy-all-down" },
];

/**
 * Never throws for a policy that was compiled from a document. The same arguments give the same answer.
 *
 * @param steps filled with what each rule chose in the walk that decided
 */
export function decidePolicy(
  policy: CompiledPolicy,
  query: PolicyQuery,
  facts: PolicyFacts,
  steps?: PolicyStep[],
): PolicyChoice {
  let scope = 0;
  const scopeNow = (): number => (query.isResolver ? 0 : Math.min(scope, query.sourcePrefixLength));
  const nothing = (reason: PolicyReason): PolicyChoice => ({
    addresses: [],
    targets: [],
    propertyId: undefined,
    scopePrefixLength: scopeNow(),
    reason,
  });
  if (!policy.mayAnswer[query.family])
    return nothing(policy.document.isFailClosed ? "policy-closed" : "policy-no-target");
  for (const { level, reason } of LEVELS) {
    if (level === "enabled" && policy.document.isFailClosed) return nothing("policy-closed");
    steps?.splice(0);
    const walk = new Walk(policy, query, facts, level, steps);
    walk.visit(policy.root, query.draw);
    scope = Math.max(scope, walk.scope);
    if (walk.targets.length === 0) continue;
    const first = policy.targets[walk.targets[0] as number] as CompiledPolicy["targets"][number];
    return {
      addresses: first.propertyId === undefined ? handedOut(policy, query.family, walk) : [],
      targets: walk.targets,
      propertyId: first.propertyId,
      scopePrefixLength: scopeNow(),
      reason,
    };
  }
  return nothing("policy-no-target");
}

/** Addresses of the targets in their order, each target's from another one on by lot, as many as are handed out. */
function handedOut(policy: CompiledPolicy, family: IpFamily, { targets, draws }: Walk): readonly number[] {
  const { handoutLimit } = policy.document;
  const addresses: number[] = [];
  for (let place = 0; place < targets.length; place++) {
    const target = targets[place] as number;
    const own = policy.targets[target]?.addressNumbers[family] ?? [];
    const first = own.length < 2 ? 0 : mix(draws[place] as number, target) % own.length;
    for (let n = 0; n < own.length && addresses.length < handoutLimit; n++)
      addresses.push(own[(first + n) % own.length] as number);
  }
  return addresses;
}

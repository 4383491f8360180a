/**
 * How widely the answers to one resolver's queries with a client subnet (ECS) may hold: neighbouring prefixes whose best clusters differ by
 * less than the queries between them are worth are answered alike. A minimum-cost pruning of the prefix tree by dynamic programming from the
 * leaves, as classification trees are pruned at a price for each leaf (Breiman, Friedman, Olshen, Stone, 1984, chapter 3); the price here is of a query, so
 * that what is lost by it is bounded and lies where few ask. Scopes stay disjoint, as RFC 7871 section 7.2.1 wants them.
 */
import { addressBits, type ClusterId, type IpFamily, type IpPrefix, maskAddress } from "#kit";

export interface ScopeLeaf<N> {
  readonly prefix: IpPrefix;
  readonly network: N;
  /** Look-ups a second that the resolver gets from it, above 0. */
  readonly lookupsPerSecond: number;
}

/** Who is in the prefix is sent like the network; a longer prefix goes before a shorter one. */
export interface CutScope<N> {
  readonly prefix: IpPrefix;
  readonly network: N;
}

export interface ScopeCutCosts<N> {
  /** The cluster that the network is sent to. */
  readonly firstOf: (network: N) => ClusterId;
  /** What the cluster costs the network, ms. */
  readonly costMs: (network: N, cluster: ClusterId) => number;
  /** Queries a second that a cache entry costs which so many look-ups a second share. Concave, 0 at 0. */
  readonly queriesPerSecond: (lookupsPerSecond: number) => number;
  /** What one query more must spare: ms of round trips, summed over look-ups. At least 0. */
  readonly queryPriceMs: number;
}

/** Nobody knows who else is in a wider prefix: registries hand these out to one part of the world (IANA address space registries). */
const PREFIX_LENGTH_MIN = { 4: 8, 6: 16 } as const satisfies Record<IpFamily, number>;
/** Clusters that are compared for one prefix. */
const CANDIDATES_MAX = 16;

/** A cluster that all of a subtree may be sent to: what that costs, ms * look-ups a second, and the heaviest network that is sent there anyway. */
interface Candidate<N> {
  costMs: number;
  network: N;
  lookups: number;
}

/** The best way to answer a part of the tree. */
interface Cut<N> {
  /** Loss and priced queries of that way. */
  readonly total: number;
  readonly lookups: number;
  /** Share of the family's addresses that its leaves hold. */
  readonly size: number;
  readonly candidates: Map<ClusterId, Candidate<N>>;
  /** Undefined: the two parts are answered each in its own way. */
  readonly scope: CutScope<N> | undefined;
  readonly parts: readonly Cut<N>[];
}

/**
 * The scopes that are wider than a leaf, outermost and disjoint but where one leaf lies within another. A leaf that none of them covers is best answered for
 * itself. Deterministic; ties go to the wider scope, then to the cluster that was named first in address order.
 *
 * @param leaves of one family, sorted by address, then the shorter first; no two the same. Their number times that of the networks bounds the work.
 */
export function cutScopes<N>(leaves: readonly ScopeLeaf<N>[], costs: ScopeCutCosts<N>): CutScope<N>[] {
  if (leaves.length === 0) return [];
  const scopes: CutScope<N>[] = [];
  const collect = (cut: Cut<N>): void => {
    if (cut.scope !== undefined && cut.parts.length > 0) scopes.push(cut.scope);
    else for (const part of cut.parts) collect(part);
  };
  collect(new Pruner(leaves, costs).cut(0, leaves.length));
  return scopes;
}

class Pruner<N> {
  readonly #leaves: readonly ScopeLeaf<N>[];
  readonly #costs: ScopeCutCosts<N>;

  constructor(leaves: readonly ScopeLeaf<N>[], costs: ScopeCutCosts<N>) {
    this.#leaves = leaves;
    this.#costs = costs;
  }

  /**
   * Of the leaves from `low` to before `high`, which are all that are within what they have in common.
   *
   * @param isHeld one more leaf holds them and the gaps between them: what takes a gap in would take it from that one
   */
  cut(low: number, high: number, isHeld = false): Cut<N> {
    const first = this.#leaves[low] as ScopeLeaf<N>;
    if (high - low === 1) return this.#leaf(first);
    const common = this.#common(low, high);
    // Sorted, so that a leaf that holds the others comes before them.
    const isHolder = first.prefix.prefixLength <= common;
    const middle = isHolder ? low + 1 : this.#split(low, high, common);
    const parts = isHolder
      ? [this.#leaf(first), this.cut(middle, high, true)]
      : [this.cut(low, middle, isHeld), this.cut(middle, high, isHeld)];
    const prefixLength = isHolder ? first.prefix.prefixLength : common;
    const size = isHolder ? 2 ** -prefixLength : (parts[0]?.size ?? 0) + (parts[1]?.size ?? 0);
    const mayJoin = !isHeld || size >= 2 ** -prefixLength;
    return this.#join(parts as [Cut<N>, Cut<N>], [low, middle, high], { prefixLength, size, mayJoin });
  }

  #leaf({ prefix, network, lookupsPerSecond: lookups }: ScopeLeaf<N>): Cut<N> {
    const { firstOf, costMs, queriesPerSecond, queryPriceMs } = this.#costs;
    const cluster = firstOf(network);
    const cost = costMs(network, cluster) * lookups;
    return {
      total: cost + queryPriceMs * queriesPerSecond(lookups),
      lookups,
      size: 2 ** -prefix.prefixLength,
      candidates: new Map([[cluster, { costMs: cost, network, lookups }]]),
      scope: { prefix, network },
      parts: [],
    };
  }

  #join(
    parts: readonly [Cut<N>, Cut<N>],
    [low, middle, high]: readonly [number, number, number],
    {
      prefixLength,
      size,
      mayJoin,
    }: { readonly prefixLength: number; readonly size: number; readonly mayJoin: boolean },
  ): Cut<N> {
    const [left, right] = parts;
    const { queriesPerSecond, queryPriceMs } = this.#costs;
    const lookups = left.lookups + right.lookups;
    const joined: [ClusterId, Candidate<N>][] = [];
    for (const cluster of new Set([...left.candidates.keys(), ...right.candidates.keys()])) {
      const [a, b] = [left.candidates.get(cluster), right.candidates.get(cluster)];
      const costMs =
        (a?.costMs ?? this.#costOf(cluster, low, middle)) +
        (b?.costMs ?? this.#costOf(cluster, middle, high));
      const heavier = b === undefined || (a !== undefined && a.lookups >= b.lookups) ? a : b;
      if (heavier !== undefined) joined.push([cluster, { ...heavier, costMs }]);
    }
    const best = joined.sort(([, a], [, b]) => a.costMs - b.costMs)[0]?.[1] as Candidate<N>;
    const apart = left.total + right.total;
    const together = best.costMs + queryPriceMs * queriesPerSecond(lookups);
    const { address } = (this.#leaves[low] as ScopeLeaf<N>).prefix;
    const isTogether = mayJoin && prefixLength >= PREFIX_LENGTH_MIN[address.family] && together <= apart;
    return {
      total: isTogether ? together : apart,
      lookups,
      size,
      candidates: new Map(joined.slice(0, CANDIDATES_MAX)),
      scope: isTogether
        ? { prefix: { address: maskAddress(address, prefixLength), prefixLength }, network: best.network }
        : undefined,
      parts,
    };
  }

  #costOf(cluster: ClusterId, low: number, high: number): number {
    let sum = 0;
    for (let n = low; n < high; n++) {
      const { network, lookupsPerSecond } = this.#leaves[n] as ScopeLeaf<N>;
      sum += lookupsPerSecond * this.#costs.costMs(network, cluster);
    }
    return sum;
  }

  #common(low: number, high: number): number {
    const one = (this.#leaves[low] as ScopeLeaf<N>).prefix.address;
    const other = (this.#leaves[high - 1] as ScopeLeaf<N>).prefix.address;
    for (const [n, word] of one.words.entries()) {
      const difference = word ^ (other.words[n] as number);
      if (difference !== 0) return n * 32 + Math.clz32(difference);
    }
    return addressBits(one.family);
  }

  /** The first leaf whose bit at `common` is set. */
  #split(low: number, high: number, common: number): number {
    let [from, to] = [low + 1, high - 1];
    while (from < to) {
      const middle = (from + to) >>> 1;
      const { words } = (this.#leaves[middle] as ScopeLeaf<N>).prefix.address;
      if ((((words[common >>> 5] as number) >>> (31 - (common & 31))) & 1) === 1) to = middle;
      else from = middle + 1;
    }
    return from;
  }
}

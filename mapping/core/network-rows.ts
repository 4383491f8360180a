/**
 * Which clusters each client network is scored against, and what is known of each: measured, remembered from the map before a restart,
 * or guessed. Networks of one place of which nothing was measured share a row: that is what keeps half a million of them cheap.
 */
import type { Coordinates, Steps } from "#kit";
import { NearestClusters } from "./candidates.ts";
import { EstimateRows } from "./estimate-rows.ts";
import type { Estimate } from "./estimator.ts";
import type { BorrowKind, NeighbourGroup, Neighbours } from "./neighbours.ts";
import { guessUnmeasured, type MeasuredSite } from "./unmeasured.ts";

/** Networks between two pauses: a millisecond or two. */
const STEP = 256;

/** Of a unit (a network's traffic of one class): it is nowhere. */
export const NOWHERE = 0xffff;

/** What an estimate rests on: own measurements, those of the map before a restart, or others'. */
export type EstimateSource = "measured" | "inherited" | BorrowKind;

export interface ExplainedEstimate {
  readonly cluster: number;
  readonly estimate: Estimate;
  readonly source: EstimateSource;
  /** Client networks and clusters from which it is borrowed, those that count most first; empty when it is not. */
  readonly lenders: readonly string[];
  /** What was borrowed is corrected by what was measured of the network towards so many other clusters. */
  readonly correctedBy: number;
}

/** What was measured of client network `n` towards cluster `c`, both by number. */
export interface PairKnowledge {
  /** Clusters of which something is known or was asked for, ascending; empty: nothing but geography. */
  readonly asked: (n: number) => readonly number[];
  readonly measured: (n: number, c: number) => Estimate | undefined;
  readonly inherited: (n: number, c: number) => Estimate | undefined;
  readonly lostInARow: (n: number, c: number) => number;
  /** Measured round trip between two clusters, ms. */
  readonly siteRttMs: (a: number, b: number) => number | undefined;
}

export class NetworkRows {
  readonly rows = new EstimateRows();
  /** The row of each network. */
  readonly rowOf: Uint32Array;
  readonly nearest: NearestClusters;
  readonly #neighbours: Neighbours;
  /** The shared row of each network: of all that have as much in common with others. */
  readonly #sharedRowOf: Uint32Array;
  #sharedRows = 0;
  readonly #orderNumbers: Uint32Array;

  private constructor(
    neighbours: Neighbours,
    networks: number,
    clusterPlaces: readonly (Coordinates | null)[],
    candidatesMax: number,
  ) {
    this.#neighbours = neighbours;
    this.nearest = new NearestClusters(clusterPlaces, candidatesMax);
    this.#sharedRowOf = new Uint32Array(networks);
    this.#orderNumbers = new Uint32Array(networks);
    this.rowOf = new Uint32Array(networks);
  }

  /**
   * In steps of a few milliseconds: what everyone has to expect of the clusters around him.
   *
   * @param neighbours who speaks for those that were not measured
   * @param clusterPlaces where each cluster is believed to be
   * @param candidatesMax clusters that geography proposes, 1..65,535
   */
  static *inSteps(
    neighbours: Neighbours,
    networks: number,
    clusterPlaces: readonly (Coordinates | null)[],
    candidatesMax: number,
  ): Steps<NetworkRows> {
    const rows = new NetworkRows(neighbours, networks, clusterPlaces, candidatesMax);
    yield* rows.#fill();
    return rows;
  }

  *#fill(): Steps<void> {
    const neighbours = this.#neighbours;
    const made = new Map<NeighbourGroup, SharedRow>();
    for (let n = 0; n < this.rowOf.length; n++) {
      if (n % STEP === STEP - 1) yield;
      const group = neighbours.groupOf(n);
      let shared = made.get(group);
      if (shared === undefined) {
        yield;
        const near = this.nearest.near(group.place);
        const candidates =
          group.clusters.length === 0
            ? near
            : [...new Set([...near, ...group.clusters])].sort((a, b) => a - b);
        for (const c of candidates) this.rows.push(c, neighbours.estimate(group, c));
        shared = { row: this.rows.end(), orderNumber: this.nearest.orderNumber(group.place) };
        made.set(group, shared);
      }
      this.#sharedRowOf[n] = shared.row;
      this.#orderNumbers[n] = shared.orderNumber;
    }
    this.#sharedRows = this.rows.rows;
  }

  /**
   * Makes the rows anew from what is known now; those of places stay.
   *
   * @param needed clusters that are candidates in any case, by unit (where each is, what it is pinned to), or NOWHERE; unit
   *   `n * classes + k` is class `k` of network `n`
   */
  update(knowledge: PairKnowledge, needed: readonly Uint16Array[], classes: number): void {
    this.rows.truncate(this.#sharedRows);
    for (let n = 0; n < this.rowOf.length; n++) {
      const shared = this.#sharedRowOf[n] as number;
      const asked = knowledge.asked(n);
      const far: number[] = [];
      for (const clusters of needed)
        for (let unit = n * classes; unit < (n + 1) * classes; unit++) {
          const c = clusters[unit] as number;
          if (c !== NOWHERE && this.rows.entryOf(shared, c) === undefined) far.push(c);
        }
      this.rowOf[n] =
        asked.length === 0 && far.length === 0 ? shared : this.#own(n, [...asked, ...far], knowledge);
    }
  }

  /** The number of the row that it shares with those of whom others tell the same, whether or not it has one of its own. */
  sharedRowOf(n: number): number {
    return this.#sharedRowOf[n] as number;
  }
  get sharedRows(): number {
    return this.#sharedRows;
  }

  /** Of all clusters around a network: the number of their order in `nearest.orders`. */
  orderNumber(n: number): number {
    return this.#orderNumbers[n] as number;
  }

  /** What is known of any pair: guessed where the cluster is no candidate. */
  estimate(n: number, cluster: number): Estimate {
    const entry = this.rows.entryOf(this.rowOf[n] as number, cluster);
    return entry === undefined
      ? this.#neighbours.estimate(this.#neighbours.groupOf(n), cluster)
      : this.rows.at(entry);
  }

  /** All candidates of a network with what each estimate rests on, ascending by cluster. For operators: it makes an object for each. */
  explain(n: number, knowledge: PairKnowledge): ExplainedEstimate[] {
    const row = this.rowOf[n] as number;
    const group = this.#neighbours.groupOf(n);
    const measured = knowledge.asked(n).filter((c) => knowledge.measured(n, c) !== undefined);
    const explained: ExplainedEstimate[] = [];
    for (
      let entry = this.rows.offsets[row] as number;
      entry < (this.rows.offsets[row + 1] as number);
      entry++
    ) {
      const cluster = this.rows.clusters[entry] as number;
      const found = foundOf(n, cluster, knowledge);
      explained.push(
        found === undefined
          ? {
              cluster,
              estimate: this.rows.at(entry),
              source: this.#neighbours.estimate(group, cluster).kind,
              lenders: this.#neighbours.lendersOf(group, cluster),
              correctedBy: measured.length,
            }
          : { cluster, estimate: found.estimate, source: found.source, lenders: [], correctedBy: 0 },
      );
    }
    return explained;
  }

  /** Gives a network a row of its own that has one more cluster; guessed, because it was no candidate. */
  widen(n: number, cluster: number): void {
    const row = this.rowOf[n] as number;
    const estimate = this.#neighbours.estimate(this.#neighbours.groupOf(n), cluster);
    let isPushed = false;
    for (
      let entry = this.rows.offsets[row] as number;
      entry < (this.rows.offsets[row + 1] as number);
      entry++
    ) {
      if (!isPushed && (this.rows.clusters[entry] as number) > cluster) {
        this.rows.push(cluster, estimate);
        isPushed = true;
      }
      this.rows.push(this.rows.clusters[entry] as number, this.rows.at(entry));
    }
    if (!isPushed) this.rows.push(cluster, estimate);
    this.rowOf[n] = this.rows.end();
  }

  #own(n: number, more: readonly number[], knowledge: PairKnowledge): number {
    const shared = this.#sharedRowOf[n] as number;
    const group = this.#neighbours.groupOf(n);
    const near = this.rows.clusters.subarray(this.rows.offsets[shared], this.rows.offsets[shared + 1]);
    const candidates = [...new Set([...near, ...more])].sort((a, b) => a - b);
    const found = new Map<number, Estimate>();
    const measured: MeasuredSite<number>[] = [];
    for (const c of knowledge.asked(n)) {
      const own = knowledge.measured(n, c);
      if (own !== undefined)
        measured.push({ clusterId: c, rttMs: own.rttMs, guessMs: this.#neighbours.estimate(group, c).rttMs });
      const best = foundOf(n, c, knowledge);
      if (best !== undefined) found.set(c, best.estimate);
    }
    for (const c of candidates) {
      let estimate = found.get(c);
      if (estimate === undefined) {
        estimate = guessUnmeasured(this.#neighbours.estimate(group, c), c, measured, knowledge.siteRttMs);
        // Asked often and never answered: that is not "unmeasured".
        const lost = knowledge.lostInARow(n, c);
        if (lost > 0) estimate = { ...estimate, lossRatio: Math.max(estimate.lossRatio, 1 - 2 ** -lost) };
      }
      this.rows.push(c, estimate);
    }
    return this.rows.end();
  }
}

/** What there is of a pair without asking others: what is believed more. */
function foundOf(
  n: number,
  c: number,
  knowledge: PairKnowledge,
): { readonly estimate: Estimate; readonly source: "measured" | "inherited" } | undefined {
  const own = knowledge.measured(n, c);
  const inherited = knowledge.inherited(n, c);
  if (own !== undefined && own.confidence >= (inherited?.confidence ?? 0))
    return { estimate: own, source: "measured" };
  return inherited && { estimate: inherited, source: "inherited" };
}

/** What was measured of each client network that was, ms: what others borrow from. */
export function* measuredRows(
  knowledge: PairKnowledge,
  networks: number,
): Steps<Map<number, Map<number, number>>> {
  const rows = new Map<number, Map<number, number>>();
  for (let n = 0; n < networks; n++) {
    if (n % STEP === STEP - 1) yield;
    const row = new Map<number, number>();
    for (const c of knowledge.asked(n)) {
      const estimate = knowledge.measured(n, c) ?? knowledge.inherited(n, c);
      if (estimate !== undefined) row.set(c, estimate.rttMs);
    }
    if (row.size > 0) rows.set(n, row);
  }
  return rows;
}

interface SharedRow {
  readonly row: number;
  readonly orderNumber: number;
}

/** What is known of client networks towards edge clusters, and towards which ones anything is: measured, or remembered from the map before a restart. */
import type { ClientNetworkId, ClusterId, MapSnapshot, MonotonicMs, RankedCluster } from "#kit";
import { type Estimate, Estimator, type EstimatorSettings } from "./estimator.ts";
import type { LinkTable } from "./link-table.ts";
import { BORROWED_CONFIDENCE_MAX } from "./neighbours.ts";
import type { PairKnowledge } from "./network-rows.ts";

/** How much of its confidence an estimate of the map before a restart keeps. */
const INHERITED_CONFIDENCE_RATIO = 0.5;
/** What a map guessed is guessed again: only what it had measured is remembered. */
const INHERITED_CONFIDENCE_MIN = BORROWED_CONFIDENCE_MAX;
const NOTHING: readonly number[] = [];

/** Samples of the estimator's window that stand by themselves; with fewer the windows of a week say more. */
const RECENT_ENOUGH = 8;

/** What was measured before, for as long as it is kept: `MeasuredHistory`. */
export interface PairHistory {
  /** Undefined: nothing is kept. */
  targetsOf(from: string): Iterable<string> | undefined;
  estimate(from: string, to: string, now: MonotonicMs): Estimate | undefined;
}

export class NetworkKnowledge {
  readonly estimator: Estimator;
  readonly #history: PairHistory | undefined;
  /** By network: clusters that were asked for. As many pairs as the estimator holds, or fewer, after each `view`. */
  readonly #asked = new Map<string, Set<ClusterId>>();
  readonly #inherited = new Map<ClientNetworkId, ReadonlyMap<ClusterId, Estimate>>();

  constructor(settings: Partial<EstimatorSettings>, history?: PairHistory) {
    this.estimator = new Estimator(settings);
    this.#history = history;
  }

  handleSample(from: string, to: ClusterId, rttMs: number | null, at: MonotonicMs): void {
    if (!this.estimator.handleSample(from, to, rttMs, at)) return;
    const asked = this.#asked.get(from);
    if (asked === undefined) this.#asked.set(from, new Set([to]));
    else asked.add(to);
  }

  /** Measured figures of the map in force stand in until there are own ones. Throws ParseError when its cluster map does not decode. */
  inherit(snapshot: MapSnapshot): void {
    const table = snapshot.clusterMap.table();
    const { networks } = table;
    const ofRow = new Map<number, Map<ClusterId, Estimate>>();
    for (let network = 0; network < networks.size; network++) {
      const row = table.rowOf(network);
      let inherited = ofRow.get(row);
      if (inherited === undefined)
        ofRow.set(row, (inherited = inheritedOf(table.ranking(network, "interactive"))));
      if (inherited.size > 0) this.#inherited.set(networks.idOf(network), inherited);
    }
  }

  /** All of it by number, as of `now`. What the estimator has forgotten is forgotten here as well. */
  view(
    networkIds: readonly ClientNetworkId[],
    clusterIds: readonly ClusterId[],
    links: LinkTable,
    now: MonotonicMs,
  ): PairKnowledge {
    this.#prune(now);
    const numberOf = new Map(clusterIds.map((clusterId, number) => [clusterId, number]));
    const between = linkedClusters(links, numberOf);
    const network = (n: number): ClientNetworkId => networkIds[n] as ClientNetworkId;
    const cluster = (c: number): ClusterId => clusterIds[c] as ClusterId;
    return {
      asked: (n) => {
        const asked = this.#asked.get(network(n));
        const inherited = this.#inherited.get(network(n));
        const before = this.#history?.targetsOf(network(n)) as Iterable<ClusterId> | undefined;
        if (asked === undefined && inherited === undefined && before === undefined) return NOTHING;
        const ids = new Set([...(asked ?? []), ...(inherited?.keys() ?? []), ...(before ?? [])]);
        return [...ids].flatMap((clusterId) => numberOf.get(clusterId) ?? []).sort((a, b) => a - b);
      },
      measured: (n, c) => this.#measured(network(n), cluster(c), now),
      inherited: (n, c) => this.#inherited.get(network(n))?.get(cluster(c)),
      lostInARow: (n, c) => this.estimator.lostInARow(network(n), cluster(c)),
      // Asked for millions of pairs, of which few are linked, and those again by every network of a part of the world.
      siteRttMs: (a, b) => {
        const known = between[a]?.get(b);
        if (known !== ASK) return known;
        const rttMs = links.measured(cluster(a), cluster(b), null, now)?.rttMs;
        between[a]?.set(b, rttMs);
        return rttMs;
      },
    };
  }

  /** The last minutes where they have enough samples; else what the windows say, with the losses of the last minutes. */
  #measured(from: ClientNetworkId, to: ClusterId, now: MonotonicMs): Estimate | undefined {
    const recent = this.estimator.estimate(from, to, now);
    if (this.#history === undefined || (recent !== undefined && recent.samples >= RECENT_ENOUGH))
      return recent;
    const before = this.#history.estimate(from, to, now);
    if (before === undefined || recent === undefined) return before ?? recent;
    return { ...before, lossRatio: Math.max(before.lossRatio, recent.lossRatio) };
  }

  #prune(now: MonotonicMs): void {
    for (const [from, asked] of this.#asked) {
      for (const to of asked)
        if (this.estimator.lostInARow(from, to) === 0 && this.estimator.estimate(from, to, now) === undefined)
          asked.delete(to);
      if (asked.size === 0) this.#asked.delete(from);
    }
  }
}

/** A link of which something was reported and nobody has looked what. */
const ASK = -1;

/** By number, for each cluster the ones that it has a link with. */
function linkedClusters(
  links: LinkTable,
  numberOf: ReadonlyMap<ClusterId, number>,
): (Map<number, number | undefined> | undefined)[] {
  const linked: (Map<number, number | undefined> | undefined)[] = Array.from(
    { length: numberOf.size },
    () => undefined,
  );
  for (const [from, to] of links.pairs()) {
    const a = numberOf.get(from);
    const b = numberOf.get(to);
    if (a === undefined || b === undefined) continue;
    (linked[a] ??= new Map()).set(b, ASK);
    (linked[b] ??= new Map()).set(a, ASK);
  }
  return linked;
}

function inheritedOf(ranking: readonly RankedCluster[]): Map<ClusterId, Estimate> {
  const inherited = new Map<ClusterId, Estimate>();
  for (const { clusterId, terms } of ranking)
    if (terms.confidence >= INHERITED_CONFIDENCE_MIN)
      inherited.set(clusterId, {
        rttMs: terms.rttMs,
        lossRatio: terms.lossRatio,
        confidence: terms.confidence * INHERITED_CONFIDENCE_RATIO,
        freshness: INHERITED_CONFIDENCE_RATIO,
        spreadMs: 0,
        ageMs: Infinity,
        samples: 0,
      });
  return inherited;
}

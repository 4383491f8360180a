/**
 * The last question before a map is published, and again before it is taken: could this be? A map that has lost most of its client
 * networks, or sends all of them to one place, is more likely a fault of ours than the state of the world; the last good one stays in force.
 */
import {
  allSteps,
  type ClusterId,
  type ClusterMapTable,
  comparedWith,
  isAbsurdQuality,
  type MapSnapshot,
  type RouteProblemReason,
  routeProblems,
  RTT_ABSURD,
  SCORE_ABSURD,
  type Steps,
  trafficClasses,
} from "#kit";

export type SnapshotProblemReason =
  | "version-not-newer"
  | "emptied"
  | "shrunk"
  | "prefixes-shrunk"
  | "fewer-clusters"
  | "one-cluster-for-all"
  | "metric-not-a-number"
  | "metric-all-zero"
  | RouteProblemReason;

export interface SnapshotProblem {
  readonly reason: SnapshotProblemReason;
  /** One sentence with the figures. */
  readonly detail: string;
}

/** A change of more than this share is absurd: deployments do not halve between two cycles. */
const SHRINK_RATIO_MIN = 0.5;
/** Below this number of first choices "one for all" is no surprise: one of two may well be gone. */
const FIRST_CHOICES_MIN = 3;

/**
 * What speaks against `next`; empty: nothing. Without a previous snapshot only the laws that need none are asked.
 * The form is another matter: this looks at maps that have been decoded and at ones that the engine has just made. Throws ParseError
 * when a cluster map does not decode.
 *
 * @param changed client networks, by number, that are placed otherwise than in `previous`, where all the others are by the same rows; undefined:
 *   not known, and everybody is looked at. Of clusters that are named no more only a whole look hears
 */
export function snapshotProblems(
  next: MapSnapshot,
  previous: MapSnapshot | undefined,
  changed?: readonly number[],
): SnapshotProblem[] {
  const problems: SnapshotProblem[] = [];
  const refuse = (reason: SnapshotProblemReason, detail: string): void =>
    void problems.push({ reason, detail });
  const table = next.clusterMap.table();
  const facts =
    changed === undefined || previous === undefined
      ? factsOf(table)
      : changedFacts(table, previous.clusterMap.table(), changed);

  if (table.networks.size === 0) refuse("emptied", "it has no client network");
  if (facts.absurd !== undefined) refuse("metric-not-a-number", facts.absurd);
  if (facts.zeros > facts.figures * SHRINK_RATIO_MIN)
    refuse("metric-all-zero", `${facts.zeros} of ${facts.figures} travel times and scores are 0`);

  const ranked = clusterCount(next);
  const suspended = Object.values(next.suspended).filter(Boolean).length;
  if (ranked >= 2 && suspended > ranked * SHRINK_RATIO_MIN)
    refuse("mostly-suspended", `${suspended} of ${ranked} clusters are suspended`);
  for (const { reason, detail } of routeProblems(next, previous))
    if (!problems.some((one) => one.reason === reason)) refuse(reason, detail);
  if (previous === undefined) return problems;

  if (next.mapVersion <= previous.mapVersion)
    refuse(
      "version-not-newer",
      `it has version ${next.mapVersion}, the one in force has ${previous.mapVersion}`,
    );
  const shrunk = (reason: SnapshotProblemReason, what: string, now: number, before: number): void => {
    if (now < before * SHRINK_RATIO_MIN)
      refuse(reason, `it has ${now} ${what}, the one in force has ${before}`);
  };
  const tableBefore = previous.clusterMap.table();
  shrunk("shrunk", "client networks", table.networks.size, tableBefore.networks.size);
  shrunk("prefixes-shrunk", "prefixes", table.networks.prefixCount, tableBefore.networks.prefixCount);
  shrunk("fewer-clusters", "clusters", ranked, clusterCount(previous));

  for (const [k, trafficClass] of trafficClasses.entries()) {
    const before = usedOf(factsOf(tableBefore).firsts[k] as Uint32Array);
    const now = usedOf(facts.firsts[k] as Uint32Array);
    if (before.length >= FIRST_CHOICES_MIN && now.length === 1 && ranked - suspended > 1) {
      refuse(
        "one-cluster-for-all",
        `every client network is sent to "${table.clusterIds[now[0] as number]}" for ${trafficClass}, before they went to ${before.length} clusters`,
      );
      break;
    }
  }
  return problems;
}

/**
 * What speaks against a map that has come, at who answers clients by it; undefined: nothing. Whether it is newer is not asked here:
 * terms and versions are compared where documents are kept, and a map that was rolled back has its reasons.
 *
 * @param inForce the last good one; undefined: none was ever seen
 */
export function refusalOf(next: MapSnapshot, inForce: MapSnapshot | undefined): SnapshotProblem | undefined {
  return snapshotProblems(next, comparedWith(next, inForce)).find(
    ({ reason }) => reason !== "version-not-newer",
  );
}

/** Clusters that some ranking names. A ranking alone may be cut short. */
function clusterCount(snapshot: MapSnapshot): number {
  const table = snapshot.clusterMap.table();
  const { isNamed } = factsOf(table);
  const named = new Set<ClusterId | string>(Object.keys(snapshot.suspended));
  for (const [cluster, clusterId] of table.clusterIds.entries())
    if (isNamed[cluster] === 1) named.add(clusterId);
  return named.size;
}

/** What is counted in one walk over a table. */
interface Facts {
  /** What has a figure that is none; undefined: nothing. */
  readonly absurd: string | undefined;
  /** Travel times and scores, and how many of them are 0. */
  readonly figures: number;
  readonly zeros: number;
  /** Whether some row has the cluster, by number. */
  readonly isNamed: Uint8Array;
  /** By class and cluster, how many client networks are sent there. */
  readonly firsts: readonly Uint32Array[];
}

/** Numbers of the clusters that somebody is sent to. */
function usedOf(counts: Uint32Array): number[] {
  return [...counts.keys()].filter((cluster) => counts[cluster] !== 0);
}

/** Tables do not change: each is walked over once, the one in force not again for every successor. */
const factsByTable = new WeakMap<ClusterMapTable, Facts>();

function factsOf(table: ClusterMapTable): Facts {
  return allSteps(factsInSteps(table));
}

/** Looks at all of a table, in steps of a few milliseconds: questions about it are cheap afterwards. */
export function* factsInSteps(table: ClusterMapTable): Steps<Facts> {
  let facts = factsByTable.get(table);
  if (facts === undefined) {
    const rows = yield* rowFacts(table);
    const firsts: Uint32Array[] = [];
    for (const k of trafficClasses.keys()) firsts.push(yield* firstsOf(table, k));
    facts = { ...rows, firsts };
    factsByTable.set(table, facts);
  }
  return facts;
}

/** Rows or networks between two pauses. */
const STEP = 8_192;

/** Those of the map before, with what has changed since. */
function changedFacts(table: ClusterMapTable, before: ClusterMapTable, changed: readonly number[]): Facts {
  const known = factsOf(before);
  const firsts = known.firsts.map((counts) => counts.slice());
  const isNamed = known.isNamed.slice();
  let { figures, zeros } = known;
  let absurd = known.absurd ?? absurdLoad(table);
  for (const network of changed) {
    const gone = rowFigures(before, before.rowOf(network), isNamed);
    const come = rowFigures(table, table.rowOf(network), isNamed);
    figures += come.figures - gone.figures;
    zeros += come.zeros - gone.zeros;
    absurd ??= come.absurd === undefined ? undefined : absurdity(table, come.absurd);
    for (const [k, counts] of firsts.entries()) {
      (counts[before.firstCluster(network, k)] as number)--;
      (counts[table.firstCluster(network, k)] as number)++;
    }
  }
  const facts = { absurd, figures, zeros, isNamed, firsts };
  factsByTable.set(table, facts);
  return facts;
}

function* rowFacts(table: ClusterMapTable): Steps<Omit<Facts, "firsts">> {
  const { rows, placements, clusterIds } = table.parts;
  const isNamed = new Uint8Array(clusterIds.length);
  const zerosOf = new Uint16Array(rows.size);
  const figuresOf = new Uint16Array(rows.size);
  let absurd: number | undefined;
  for (let row = 0; row < rows.size; row++) {
    if (row % STEP === STEP - 1) yield;
    const found = rowFigures(table, row, isNamed);
    zerosOf[row] = found.zeros;
    figuresOf[row] = found.figures;
    absurd ??= found.absurd;
  }
  let zeros = 0;
  let figures = 0;
  const rowOf = placements.rows;
  for (let network = 0; network < rowOf.length; network++) {
    zeros += zerosOf[rowOf[network] as number] as number;
    figures += figuresOf[rowOf[network] as number] as number;
  }
  return {
    absurd: absurd === undefined ? absurdLoad(table) : absurdity(table, absurd),
    figures,
    zeros,
    isNamed,
  };
}

/** What one row has, and marks the clusters that it names; `absurd`: a cluster of which it has a figure that is none. */
function rowFigures(
  table: ClusterMapTable,
  row: number,
  isNamed: Uint8Array,
): { readonly figures: number; readonly zeros: number; readonly absurd: number | undefined } {
  const { rows } = table.parts;
  const { clusters, rtts, qualities, scores } = rows;
  const at = rows.offsetOf(row);
  const count = rows.countOf(row);
  let absurd: number | undefined;
  let zeros = 0;
  let figures = count;
  for (let candidate = at; candidate < at + count; candidate++) {
    isNamed[clusters[candidate] as number] = 1;
    if (rtts[candidate] === 0) zeros++;
    if (rtts[candidate] === RTT_ABSURD || isAbsurdQuality(qualities[candidate] as number))
      absurd ??= clusters[candidate] as number;
  }
  for (let k = 0; k < trafficClasses.length; k++) {
    const order = rows.orderOffsetOf(row, k);
    const length = rows.lengthOf(row, k);
    figures += length;
    for (let place = order; place < order + length; place++) {
      if (scores[place] === 0) zeros++;
      if (scores[place] === SCORE_ABSURD) absurd ??= clusters[at + (rows.orders[place] as number)] as number;
    }
  }
  return { figures, zeros, absurd };
}

function absurdLoad(table: ClusterMapTable): string | undefined {
  const cluster = table.parts.loads.findIndex((load) => !(load >= 0 && load < Infinity));
  return cluster === -1 ? undefined : absurdity(table, cluster);
}

function absurdity({ clusterIds }: ClusterMapTable, cluster: number): string {
  return `cluster "${clusterIds[cluster]}" has a travel time, loss, load, confidence or score that is none`;
}

function* firstsOf(table: ClusterMapTable, trafficClass: number): Steps<Uint32Array> {
  const counts = new Uint32Array(table.clusterIds.length);
  for (let network = 0; network < table.networks.size; network++) {
    if (network % STEP === STEP - 1) yield;
    (counts[table.firstCluster(network, trafficClass)] as number)++;
  }
  return counts;
}

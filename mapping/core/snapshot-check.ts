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
 */
export function snapshotProblems(next: MapSnapshot, previous: MapSnapshot | undefined): SnapshotProblem[] {
  const problems: SnapshotProblem[] = [];
  const refuse = (reason: SnapshotProblemReason, detail: string): void =>
    void problems.push({ reason, detail });
  const table = next.clusterMap.table();
  const facts = factsOf(table);

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
    const before = factsOf(tableBefore).firsts[k] as readonly number[];
    const now = facts.firsts[k] as readonly number[];
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
  /** By class, the clusters that some client network is sent to. */
  readonly firsts: readonly (readonly number[])[];
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
    const firsts: number[][] = [];
    for (const k of trafficClasses.keys()) firsts.push(yield* firstsOf(table, k));
    facts = { ...rows, firsts };
    factsByTable.set(table, facts);
  }
  return facts;
}

/** Rows or networks between two pauses. */
const STEP = 8_192;

function* rowFacts(table: ClusterMapTable): Steps<Omit<Facts, "firsts">> {
  const { rows, placements, clusterIds, loads } = table.parts;
  const isNamed = new Uint8Array(clusterIds.length);
  const zerosOf = new Uint16Array(rows.size);
  const figuresOf = new Uint16Array(rows.size);
  let absurd: number | undefined;
  for (let row = 0; row < rows.size; row++) {
    if (row % STEP === STEP - 1) yield;
    const at = rows.offsetOf(row);
    const count = rows.countOf(row);
    let zeros = 0;
    let figures = count;
    for (let candidate = at; candidate < at + count; candidate++) {
      const cluster = rows.clusters[candidate] as number;
      isNamed[cluster] = 1;
      if (rows.rtts[candidate] === 0) zeros++;
      if (rows.rtts[candidate] === RTT_ABSURD || isAbsurdQuality(rows.qualities[candidate] as number))
        absurd ??= cluster;
    }
    for (let k = 0; k < trafficClasses.length; k++) {
      const order = rows.orderOffsetOf(row, k);
      const length = rows.lengthOf(row, k);
      figures += length;
      for (let place = order; place < order + length; place++) {
        if (rows.scores[place] === 0) zeros++;
        if (rows.scores[place] === SCORE_ABSURD)
          absurd ??= rows.clusters[at + (rows.orders[place] as number)] as number;
      }
    }
    zerosOf[row] = zeros;
    figuresOf[row] = figures;
  }
  let zeros = 0;
  let figures = 0;
  for (const row of placements.rows) {
    zeros += zerosOf[row] as number;
    figures += figuresOf[row] as number;
  }
  for (const [cluster, load] of loads.entries()) if (!(load >= 0 && load < Infinity)) absurd ??= cluster;
  return {
    absurd:
      absurd === undefined
        ? undefined
        : `cluster "${clusterIds[absurd]}" has a travel time, loss, load, confidence or score that is none`,
    figures,
    zeros,
    isNamed,
  };
}

function* firstsOf(table: ClusterMapTable, trafficClass: number): Steps<number[]> {
  const isFirst = new Uint8Array(table.clusterIds.length);
  for (let network = 0; network < table.networks.size; network++) {
    if (network % STEP === STEP - 1) yield;
    isFirst[table.firstCluster(network, trafficClass)] = 1;
  }
  return [...isFirst.keys()].filter((cluster) => isFirst[cluster] === 1);
}

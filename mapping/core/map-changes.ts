/** What differs between two maps, in the terms of those who operate them: who is sent elsewhere and why, not which bytes. */
import {
  type ClientNetworkId,
  type ClusterId,
  type ClusterMapTable,
  type MapSnapshot,
  type PathEntry,
  type PlacementReason,
  type RankedCluster,
  type TierEntry,
  type TrafficClass,
  trafficClasses,
} from "#kit";

/** The figures of a change. */
export interface MapChanges {
  readonly networks: number;
  readonly networksAdded: number;
  readonly networksRemoved: number;
  /** Networks of both maps that are sent to another cluster, by class. */
  readonly moved: Readonly<Record<TrafficClass, number>>;
  /** Clusters that the newer map suspends, and those that only one of them does. */
  readonly suspended: readonly ClusterId[];
  readonly newlySuspended: readonly ClusterId[];
  readonly noLongerSuspended: readonly ClusterId[];
  /** Pairs of edge cluster and origin with another first parent; pairs of clusters with another first path. */
  readonly tiers: number;
  readonly paths: number;
}

/** One side of a move: a cluster as the older and as the newer map sees it from the network; undefined: it is not ranked there. */
export interface ClusterThenAndNow {
  readonly clusterId: ClusterId;
  readonly before: RankedCluster | undefined;
  readonly now: RankedCluster | undefined;
}

export interface NetworkMove {
  readonly clientNetworkId: ClientNetworkId;
  readonly trafficClass: TrafficClass;
  readonly from: ClusterThenAndNow;
  readonly to: ClusterThenAndNow;
  /** Why the newer map has it where it is. */
  readonly reason: PlacementReason;
  readonly limitName: string | null;
}

/** First parents of an edge cluster for an origin; undefined: the map has none. */
export interface TierChange {
  readonly edgeClusterId: ClusterId;
  readonly originClusterId: ClusterId | null;
  readonly before: TierEntry["parents"][number] | undefined;
  readonly now: TierEntry["parents"][number] | undefined;
}

/** First paths from one cluster to another; undefined: the map has none. */
export interface PathChange {
  readonly fromClusterId: ClusterId;
  readonly toClusterId: ClusterId;
  readonly before: PathEntry["candidates"][number] | undefined;
  readonly now: PathEntry["candidates"][number] | undefined;
}

/** Linear in the client networks, without an object for any of them. Throws ParseError when a cluster map does not decode. */
export function mapChanges(before: MapSnapshot, now: MapSnapshot): MapChanges {
  const [a, b] = [before.clusterMap.table(), now.clusterMap.table()];
  const { common, movedOf } = movesBetween(a, b);
  const moved = Object.fromEntries(
    trafficClasses.map((trafficClass, k) => [trafficClass, movedOf[k] as number]),
  ) as Record<TrafficClass, number>;
  const [suspendedBefore, suspended] = [before, now].map(suspendedOf) as [ClusterId[], ClusterId[]];
  return {
    networks: b.networks.size,
    networksAdded: b.networks.size - common,
    networksRemoved: a.networks.size - common,
    moved,
    suspended,
    newlySuspended: suspended.filter((one) => !suspendedBefore.includes(one)),
    noLongerSuspended: suspendedBefore.filter((one) => !suspended.includes(one)),
    tiers: tierChanges(before, now).length,
    paths: pathChanges(before, now).length,
  };
}

/** How many networks both have, and how many of them are sent elsewhere, by class. In plain numbers: a publisher asks at each map. */
function movesBetween(a: ClusterMapTable, b: ClusterMapTable): { common: number; movedOf: Uint32Array } {
  const movedOf = new Uint32Array(trafficClasses.length);
  const numbers = new Map(b.clusterIds.map((clusterId, number) => [clusterId, number]));
  const inNewer = Int32Array.from(a.clusterIds, (clusterId) => numbers.get(clusterId) ?? -1);
  const areSame = a.networks === b.networks;
  const { ids } = a.networks;
  let common = 0;
  for (let now = 0; now < b.networks.size; now++) {
    const before =
      areSame || ids[now] === b.networks.ids[now] ? now : a.networks.indexOf(b.networks.idOf(now));
    if (before === undefined) continue;
    common++;
    for (let k = 0; k < movedOf.length; k++)
      if (inNewer[a.firstCluster(before, k)] !== b.firstCluster(now, k)) (movedOf[k] as number)++;
  }
  return { common, movedOf };
}

/** Networks of both maps that are sent elsewhere, in the newer map's order; made as they are read. */
export function* networkMoves(
  before: MapSnapshot,
  now: MapSnapshot,
  classes: readonly TrafficClass[] = trafficClasses,
): Generator<NetworkMove> {
  const [a, b] = [before.clusterMap.table(), now.clusterMap.table()];
  for (const [numberBefore, numberNow] of commonNetworks(a, b))
    for (const trafficClass of classes) {
      const k = trafficClasses.indexOf(trafficClass);
      const [from, to] = [firstOf(a, numberBefore, k), firstOf(b, numberNow, k)];
      if (from === undefined || to === undefined || from === to) continue;
      const [rankedBefore, rankedNow] = [
        a.ranking(numberBefore, trafficClass),
        b.ranking(numberNow, trafficClass),
      ];
      const seen = (clusterId: ClusterId): ClusterThenAndNow => ({
        clusterId,
        before: rankedBefore.find((one) => one.clusterId === clusterId),
        now: rankedNow.find((one) => one.clusterId === clusterId),
      });
      yield {
        clientNetworkId: b.networks.idOf(numberNow),
        trafficClass,
        from: seen(from),
        to: seen(to),
        ...b.reason(numberNow, trafficClass),
      };
    }
}

export function tierChanges(before: MapSnapshot, now: MapSnapshot): TierChange[] {
  return changesOf(
    before.tiers,
    now.tiers,
    ({ edgeClusterId, originClusterId }) => `${edgeClusterId} ${originClusterId ?? ""}`,
    ({ parents }) => parents[0],
    (one) => one?.clusterId,
  ).map(({ entry: { edgeClusterId, originClusterId }, ...sides }) => ({
    edgeClusterId,
    originClusterId,
    ...sides,
  }));
}

export function pathChanges(before: MapSnapshot, now: MapSnapshot): PathChange[] {
  return changesOf(
    before.paths,
    now.paths,
    ({ fromClusterId, toClusterId }) => `${fromClusterId} ${toClusterId}`,
    ({ candidates }) => candidates[0],
    (one) => (one === undefined ? undefined : (one.via ?? "direct")),
  ).map(({ entry: { fromClusterId, toClusterId }, ...sides }) => ({ fromClusterId, toClusterId, ...sides }));
}

/** `moved 12 interactive, 3 bulk of 444000 networks; suspended fra (new); 2 tiers, 5 paths`: what stands in the note of a version. */
export function changesText(changes: MapChanges): string {
  const { networks, networksAdded, networksRemoved, moved, suspended, newlySuspended, noLongerSuspended } =
    changes;
  const parts: string[] = [];
  const movedText = trafficClasses.filter((one) => moved[one] > 0).map((one) => `${moved[one]} ${one}`);
  parts.push(movedText.length === 0 ? "nobody moved" : `moved ${movedText.join(", ")}`);
  parts[0] += ` of ${networks} networks`;
  if (networksAdded + networksRemoved > 0) parts.push(`${networksAdded} added, ${networksRemoved} removed`);
  if (suspended.length > 0)
    parts.push(
      `suspended ${shortList(suspended.map((one) => (newlySuspended.includes(one) ? `${one} (new)` : one)))}`,
    );
  if (noLongerSuspended.length > 0) parts.push(`back ${shortList(noLongerSuspended)}`);
  if (changes.tiers > 0) parts.push(`${changes.tiers} first parents`);
  if (changes.paths > 0) parts.push(`${changes.paths} first paths`);
  return parts.join("; ");
}

/** A note is short; the diff has them all. */
const LISTED_MAX = 5;

function shortList(names: readonly string[]): string {
  const more = names.length - LISTED_MAX;
  return `${names.slice(0, LISTED_MAX).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

function suspendedOf({ suspended }: MapSnapshot): ClusterId[] {
  return (Object.keys(suspended) as ClusterId[]).filter((one) => suspended[one] === true).sort();
}

function firstOf(table: ClusterMapTable, network: number, trafficClass: number): ClusterId | undefined {
  return table.clusterIds[table.firstCluster(network, trafficClass)];
}

/** Numbers of the networks that both tables have; mostly they are the same ones at the same places. */
function* commonNetworks(a: ClusterMapTable, b: ClusterMapTable): Generator<readonly [number, number]> {
  for (const [numberNow, clientNetworkId] of b.networks.ids.entries()) {
    const numberBefore =
      a.networks.ids[numberNow] === clientNetworkId ? numberNow : a.networks.indexOf(clientNetworkId);
    if (numberBefore !== undefined) yield [numberBefore, numberNow];
  }
}

interface Change<E, F> {
  readonly entry: E;
  readonly before: F | undefined;
  readonly now: F | undefined;
}

/** Entries whose first choice is another one, by key; those of the newer list first, then those that only the older one has. */
function changesOf<E, F>(
  before: readonly E[],
  now: readonly E[],
  keyOf: (entry: E) => string,
  firstOfEntry: (entry: E) => F | undefined,
  nameOf: (first: F | undefined) => string | undefined,
): Change<E, F>[] {
  const older = new Map(before.map((entry) => [keyOf(entry), entry]));
  const changes: Change<E, F>[] = [];
  for (const entry of now) {
    const key = keyOf(entry);
    const was = older.get(key);
    older.delete(key);
    const [first, firstBefore] = [firstOfEntry(entry), was && firstOfEntry(was)];
    if (nameOf(first) !== nameOf(firstBefore)) changes.push({ entry, before: firstBefore, now: first });
  }
  for (const entry of older.values()) {
    const first = firstOfEntry(entry);
    if (first !== undefined) changes.push({ entry, before: first, now: undefined });
  }
  return changes;
}

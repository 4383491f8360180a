/** Snapshots written by hand: client networks as objects, packed as the engine packs them. */
import {
  type ClientNetworkEntry,
  clusterMapOf,
  type MapSnapshot,
  mapSnapshot,
  PackedClusterMap,
  type RankedCluster,
  type TrafficClass,
} from "#kit";

/** Plain objects, as one writes them; names are looked at when they are parsed. */
type WrittenRankings = Readonly<
  Record<TrafficClass, readonly (Omit<RankedCluster, "clusterId"> & { readonly clusterId: string })[]>
>;
export interface WrittenSnapshot {
  readonly mapVersion?: number;
  readonly clientNetworks: readonly {
    readonly clientNetworkId: string;
    readonly prefixes: readonly string[];
    readonly clusters: WrittenRankings;
  }[];
  readonly fallback: WrittenRankings;
  /** As in the document; those that are missing are empty. */
  readonly [field: string]: unknown;
}

/** Throws RangeError or ParseError when it is none. */
export function snapshotFrom(written: WrittenSnapshot): MapSnapshot {
  const { clientNetworks, fallback, mapVersion = 1, ...rest } = written;
  const table = clusterMapOf({
    mapVersion,
    clientNetworks: clientNetworks as readonly ClientNetworkEntry[],
    fallback: fallback as ClientNetworkEntry["clusters"],
  });
  return mapSnapshot.parse({
    createdAtEpochMs: 0,
    reason: "cycle",
    tiers: [],
    paths: [],
    suspended: {},
    ...rest,
    mapVersion,
    clusterMap: PackedClusterMap.of(table),
  });
}

/** The client networks of a snapshot as objects again. */
export function entriesOf(snapshot: MapSnapshot): ClientNetworkEntry[] {
  return [...snapshot.clusterMap.table().entries()];
}

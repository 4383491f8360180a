/** The cluster map: who is sent where, in typed arrays, in bytes, and within a document. */
export { type CandidateRow, CANDIDATES_MAX, type ClassOrder } from "./candidate-rows.ts";
export { type ClientNetworkPrefixes, ClientNetworkTable } from "./client-network-table.ts";
export {
  ClusterMapBuilder,
  type ClusterMapHead,
  clusterMapOf,
  rowOfRankings,
  type WrittenClusterMap,
} from "./cluster-map-builder.ts";
export {
  type ClientNetworkEntry,
  ClusterMapTable,
  type PlacementReason,
  placementReasons,
  type RankedCluster,
  type Rankings,
} from "./cluster-map-table.ts";
export { applyClusterMapDiff, diffClusterMaps } from "./diff.ts";
export { checksumOf, decodeClusterMap, encodeClusterMap } from "./codec.ts";
export { isAbsurdQuality, RTT_ABSURD, SCORE_ABSURD } from "./codes.ts";
export { networkNameOf } from "./network-names.ts";
export { PackedClusterMap } from "./packed.ts";

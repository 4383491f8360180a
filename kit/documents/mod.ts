/** The documents that rooms exchange; each has one schema, and what does not fit is refused whole. */
export { type CertificateDocument, certificateDocument } from "./certificate.ts";
export {
  CANDIDATES_MAX,
  applyClusterMapDiff,
  type CandidateRow,
  checksumOf,
  type ClassOrder,
  type ClientNetworkEntry,
  ClientNetworkTable,
  type ClientNetworkPrefixes,
  ClusterMapBuilder,
  type ClusterMapHead,
  clusterMapOf,
  ClusterMapTable,
  decodeClusterMap,
  diffClusterMaps,
  encodeClusterMap,
  isAbsurdQuality,
  networkNameOf,
  PackedClusterMap,
  type PlacementReason,
  placementReasons,
  type RankedCluster,
  type Rankings,
  rowOfRankings,
  RTT_ABSURD,
  SCORE_ABSURD,
  type WrittenClusterMap,
} from "./cluster-map/mod.ts";
export {
  type MapSnapshot,
  type PathBasis,
  pathEntry,
  tierEntry,
  mapSnapshot,
  type ResolverEntry,
  type TierEntry,
  type PathEntry,
} from "./map-snapshot.ts";
export {
  applyDifferences,
  differenceOf,
  type MapDifference,
  mapDifference,
  mapName,
  named,
  type NamedMap,
} from "./map-difference.ts";
export { type MapOverrides, type MapPin, mapOverrides, overridesProblem } from "./map-overrides.ts";
export { comparedWith, type RouteProblemReason, routeProblems } from "./route-problems.ts";
export {
  ORIGIN_POLICY,
  type OriginHealthCheck,
  type OriginPolicy,
  type OriginProtocol,
  type OriginTarget,
} from "./origin.ts";
export {
  type AccessPolicy,
  type CachingPolicy,
  type CompressionPolicy,
  DICTIONARY_PATTERN,
  type OriginAuth,
  type OriginSet,
  originSetsOf,
  originsOf,
  type PropertyDocument,
  NO_PREFETCH,
  type PrefetchKind,
  type PrefetchPolicy,
  propertyDocument,
  type TrafficClass,
  trafficClasses,
} from "./property.ts";
export {
  changesContent,
  type DeviceClass,
  type FieldEdits,
  type QueryKey,
  readsRequest,
  type Rule,
  type RuleCondition,
  type RuleKey,
  type ValueTest,
} from "./rule.ts";
export {
  type PurgeAck,
  type PurgeEntry,
  type PurgeRequest,
  PURGE_PREFIX_SEGMENTS_MAX,
  purgeAck,
  purgeEntry,
  purgeRequest,
} from "./purge.ts";
export {
  type LinkReport,
  type PropertyCounters,
  type ServerReport,
  type NameAsked,
  type NameUsed,
  type ServerTiming,
  type BarredOrigin,
  BARRED_ORIGINS_MAX,
  type CertificateState,
  certificateStates,
  serverReport,
  type PolicyOpinions,
  type TargetOpinion,
} from "./server-report.ts";
export {
  type ClusterEntry,
  coordinates,
  delegationSchema,
  limitFields,
  limitProblem,
  ownLimitNames,
  prefixText,
  pricePerGb,
  type Role,
  roles,
  type ServerEntry,
  type TopologyDocument,
  type TopologyLimit,
  topologyDocument,
} from "./topology.ts";
export { type DnssecDocument, dnssecDocument, type DnssecKey, type DnssecZone } from "./dnssec.ts";
export {
  type LivenessTest,
  type LoadFeedback,
  type PolicyDocument,
  policyDocument,
  type TrafficTarget,
} from "./policy.ts";
export { entriesOf, type PolicyMethod, type PolicyRule, type WeightedRule } from "./policy-rule.ts";
export { editZone, type ZoneEdit, zoneEdits } from "./zone-edit.ts";
export {
  setsOfZone,
  hasRecords,
  type ZoneDocument,
  zoneDocument,
  zoneOfDocument,
  type ZoneSetText,
} from "./zone.ts";

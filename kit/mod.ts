/** `#kit`: words and small pure tools that every room uses. No clock, no randomness of its own, no I/O. */

/** The documents that rooms exchange; each has one schema, and what does not fit is refused whole. */
export {
  CANDIDATES_MAX,
  type AccessPolicy,
  type CachingPolicy,
  type CompressionPolicy,
  DICTIONARY_PATTERN,
  type CertificateDocument,
  type DnssecDocument,
  dnssecDocument,
  type DnssecKey,
  type DnssecZone,
  certificateDocument,
  applyClusterMapDiff,
  applyDifferences,
  type CandidateRow,
  checksumOf,
  type ClassOrder,
  type ClientNetworkEntry,
  type ClientNetworkPrefixes,
  ClientNetworkTable,
  ClusterMapBuilder,
  type ClusterMapHead,
  clusterMapOf,
  ClusterMapTable,
  comparedWith,
  decodeClusterMap,
  differenceOf,
  diffClusterMaps,
  encodeClusterMap,
  isAbsurdQuality,
  networkNameOf,
  PackedClusterMap,
  type PlacementReason,
  placementReasons,
  type Rankings,
  type RouteProblemReason,
  routeProblems,
  rowOfRankings,
  RTT_ABSURD,
  SCORE_ABSURD,
  type WrittenClusterMap,
  type ClusterEntry,
  coordinates,
  delegationSchema,
  limitFields,
  limitProblem,
  ownLimitNames,
  pricePerGb,
  type TopologyLimit,
  type LinkReport,
  type MapDifference,
  mapDifference,
  mapName,
  named,
  type NamedMap,
  type MapOverrides,
  type MapPin,
  mapOverrides,
  overridesProblem,
  type MapSnapshot,
  mapSnapshot,
  changesContent,
  type DeviceClass,
  type FieldEdits,
  ORIGIN_POLICY,
  type OriginHealthCheck,
  type OriginPolicy,
  type OriginSet,
  originSetsOf,
  originsOf,
  type OriginTarget,
  type PathBasis,
  type PathEntry,
  pathEntry,
  prefixText,
  type PropertyCounters,
  type PropertyDocument,
  NO_PREFETCH,
  type PrefetchKind,
  type PrefetchPolicy,
  propertyDocument,
  type PurgeAck,
  type QueryKey,
  readsRequest,
  type Rule,
  type RuleCondition,
  type RuleKey,
  type ValueTest,
  type PurgeEntry,
  type PurgeRequest,
  PURGE_PREFIX_SEGMENTS_MAX,
  purgeAck,
  purgeEntry,
  purgeRequest,
  type RankedCluster,
  type ResolverEntry,
  type Role,
  roles,
  type ServerEntry,
  type ServerReport,
  type NameAsked,
  type NameUsed,
  type ServerTiming,
  serverReport,
  type TierEntry,
  tierEntry,
  type TopologyDocument,
  topologyDocument,
  type TrafficClass,
  trafficClasses,
  entriesOf,
  type LivenessTest,
  type LoadFeedback,
  type PolicyDocument,
  policyDocument,
  type PolicyMethod,
  type PolicyRule,
  type TrafficTarget,
  type WeightedRule,
  setsOfZone,
  type ZoneDocument,
  zoneDocument,
  zoneOfDocument,
  type ZoneSetText,
} from "./documents/mod.ts";
/** The one error class that leaves an `io/` directory. */
export { IsochroneError, type IsochroneErrorDetail } from "./errors.ts";
/** Great circles, and the least time that light in fibre takes. */
export { type ForwardReason, forwardReasons } from "./forward-reason.ts";
export { type Coordinates, EARTH_RADIUS_KM, fibreRttMsMin, greatCircleKm } from "./geo.ts";
/** xxHash; not for secrets. */
export { xxh32, xxh64, xxh64Hex } from "./hash.ts";
/** Branded names and what they are written with. */
export {
  type ClientNetworkId,
  type ClusterId,
  type CustomerId,
  hostname,
  id,
  type PropertyId,
  type RegionId,
  type ServerId,
} from "./ids.ts";
/** Addresses and prefixes: strict parsing, canonical text, bytes as ECS sends them. */
export {
  addressBits,
  addressFromBytes,
  addressToBytes,
  compareAddresses,
  comparePrefixes,
  formatAddress,
  formatPrefix,
  type IpAddress,
  type IpFamily,
  type IpPrefix,
  maskAddress,
  parseAddress,
  parsePrefix,
  prefixContains,
} from "./ip.ts";
/** Names, records and zones as text and as octets. */
export {
  compareCanonically,
  type DomainName,
  expandRdata,
  isAtOrBelow,
  labelBytesMax,
  labelsOf,
  nameBytesMax,
  type NameFault,
  nameFaults,
  nameFromLabels,
  nameFromText,
  nameToText,
  parentText,
  rdataText,
  readName,
  readZoneFile,
  recordText,
  recordTypes,
  rootName,
  type RrSet,
  typeFromText,
  typeText,
  type ZoneData,
  zoneDataOf,
  type ZoneProblem,
  type ZoneRecord,
  ZoneTextError,
} from "./dns/mod.ts";
/** Countries and continents of addresses, by the operator's table. */
export {
  type Continent,
  continentOf,
  continents,
  countryOf,
  type CountryTable,
  parseCountries,
  UNKNOWN_COUNTRY,
} from "./countries.ts";
/** The one failure detector. */
export {
  type LivenessEvent,
  LivenessMonitor,
  type LivenessProbe,
  type LivenessSettings,
} from "./liveness.ts";
/** Longest match, and how far an answer is valid. */
export { NONE, PrefixRanges, type PrefixRuns } from "./prefix-ranges.ts";
export { allSteps, type Steps } from "./steps.ts";
export { jsonPieces } from "./json-pieces.ts";
export { TextPieces } from "./text-pieces.ts";
export { PrefixTable } from "./prefix-table.ts";
/** Quantiles of type 7. */
export { mean, quantile, type Summary, summary } from "./quantile.ts";
/** Random numbers from a seed. */
export { Random } from "./random.ts";
/** Names that are asked for once: who asks through which resolver. */
export {
  isOneTimeLabel,
  type LabelMac,
  makeOneTimeLabel,
  type OneTimeLabel,
  oneTimeNonceBytes,
  readOneTimeLabel,
} from "./one-time-name.ts";
export { RecentCounts } from "./recent-counts.ts";
/** Who serves a key, in which order; with bounded load `rendezvousPick`. */
export { type RendezvousNode, rendezvousOrder, rendezvousPick } from "./rendezvous.ts";
/** Parsing of untrusted values: path, value and expectation in every refusal. */
export {
  array,
  boolean,
  defaulted,
  either,
  formatPath,
  integer,
  type JsonSchema,
  line,
  map,
  nullable,
  number,
  object,
  oneOf,
  optional,
  ParseError,
  type Parsed,
  type Path,
  quoteValue,
  record,
  refine,
  type Schema,
  string,
  tuple,
} from "./schema.ts";
/** Deadlines, earliest first, at most one an id. */
export { TimerHeap } from "./timer-heap.ts";
/** Two times that are never mixed. */
export { type Clock, type EpochMs, epochMs, type MonotonicMs, monotonicMs, plusMs } from "./time.ts";
/** Sizes and durations as people write them. */
export { formatBytes, formatDurationMs, parseBytes, parseDurationMs } from "./units.ts";

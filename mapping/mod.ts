/** The map: measurements in, snapshots out, and what a snapshot answers. */
export { mappingSettings, type Setting } from "./config.ts";
export {
  Allocation,
  type AllocationProblem,
  type AllocationReason,
  type AllocationSettings,
  allocationDefaults,
} from "./core/allocation.ts";
export {
  ANSWER_SERVERS_MAX,
  type Answer,
  type AnswerCandidate,
  type AnswerExplanation,
  type AnswerQuery,
  type AnswerReason,
  answerAddresses,
  answerReasons,
} from "./core/answer.ts";
export {
  ChangeDetector,
  type ChangeDetectorSettings,
  changeDetectorDefaults,
  type PathChange,
} from "./core/change-points.ts";
export type { ClientNetworkInput } from "./core/cluster-map.ts";
export { type MapEngineSettings, mapEngineDefaults } from "./core/engine-settings.ts";
export { MapEngine } from "./core/engine.ts";
export type { MapEngineCounters, MapEngineEvent, RttSample } from "./core/engine-events.ts";
export {
  type Estimate,
  Estimator,
  type EstimatorSettings,
  estimateByGeography,
  estimatorDefaults,
} from "./core/estimator.ts";
export { type LinkEstimate, LinkTable } from "./core/link-table.ts";
export { MapIndex, mapIndexOf } from "./core/map-index.ts";
export { type NoiseModel, noiseDefaults, noisySample } from "./core/noise.ts";
export { Placement } from "./core/placement.ts";
export type { PlacementLimit, PlacementProblem } from "./core/placement-problem.ts";
export { type PathMapSettings, pathEntry, pathMap, pathMapDefaults } from "./core/path-map.ts";
export { type ProbeChoice, type ProbePeer, ProbePlanner, type ProbeSubject } from "./core/probe-plan.ts";
export { placedSites, type ProbeSite } from "./core/locate.ts";
/** Client networks: address space cut into as few sets as decisions allow, under names that stay. */
export {
  BlockDemand,
  BlockDemandReader,
  type BlockSkipReason,
  MeasuredBlockReader,
  MeasuredBlocks,
} from "./core/networks/block-figures.ts";
export {
  type CutInput,
  type CutSettings,
  cutClientNetworks,
  cutDefaults,
  type LabelledRuns,
  type NetworkSets,
} from "./core/networks/client-networks.ts";
export {
  DemandLearner,
  type DemandLearnerSettings,
  demandLearnerDefaults,
  type LearntDemand,
} from "./core/networks/demand-learner.ts";
export {
  type NetworkFile,
  NetworkFileReader,
  type NetworkRecord,
  networkFileLines,
  networkRecords,
} from "./core/networks/network-file.ts";
export { ClientNetworkSource, type NetworkSourceState } from "./io/client-network-source.ts";
export { readNetworkFile, writeNetworkFile } from "./io/network-file.ts";
export {
  diffNetworks,
  type NamedNetwork,
  nameNetworks,
  type NetworksDiff,
} from "./core/networks/network-names.ts";
export { joinLabelled, routesOfRanges, runsOfDatabase, runsOfRanges } from "./core/networks/range-runs.ts";
export { type RouteSkipReason, RouteTable } from "./core/networks/route-table.ts";
export {
  type ResolverEvidence,
  type ResolverPair,
  ResolverPairReader,
  resolverPair,
  ResolverTable,
  type ResolverTableCounters,
  type ResolverTableSettings,
  resolverTableDefaults,
} from "./core/resolver-pairs.ts";
export {
  clientAwareRanking,
  type ResolverClient,
  type ResolverKnowledge,
  resolverEntries,
} from "./core/resolvers.ts";
export { scopeDefaults } from "./core/resolver-scopes.ts";
export {
  type Score,
  type ScoreInput,
  type ScoreParameters,
  scoreDefaults,
  scoreOf,
  scoreParameters,
} from "./core/score.ts";
export { type SnapshotProblem, type SnapshotProblemReason, snapshotProblems } from "./core/snapshot-check.ts";
export { Spill, type SpillCluster } from "./core/spill.ts";
export { type Suspension, type SuspensionSettings, suspend, suspensionDefaults } from "./core/suspension.ts";
export { tierMap } from "./core/tier-map.ts";
export { TopologyIndex, topologyIndexOf } from "./core/topology-index.ts";
export { checkZone } from "./core/zone/zone-check.ts";
export { DnsCounters } from "./core/dns/counters.ts";
export { DnsHandler, type DnsHandlerOptions } from "./io/dns-handler.ts";
export { EdgeProber, probeDefaults } from "./io/dns-liveness.ts";
export { LivezConnection } from "./io/livez-connection.ts";
export { WAIT, WAIT_FIRST } from "./io/waiting-queries.ts";
export { askDs, ParentWatch } from "./io/parent-watch.ts";
export { main as runNameServer } from "./main-dns.ts";
export {
  dsTextOf,
  makeSealedKey,
  makeZoneKey,
  newSignedZone,
  openZone,
  sha256,
  zoneKeyOf,
} from "./io/zone-key.ts";
export { DnsState } from "./io/dns-state.ts";
export { UdpListener } from "./io/dns-udp.ts";
export { hmac, tsigKeysOf } from "./io/tsig-keys.ts";
export { ZoneNotifier } from "./io/zone-notify.ts";
export { SecondaryZones } from "./io/secondary/secondary-zones.ts";
export { DnsServer, type DnsServerOptions } from "./io/dns-server.ts";
export { type ProbeAgentOptions, probeRound } from "./io/probe/agent.ts";
export { clientNetworksOf, type FeedSettings, feedDefaults, MeasurementFeed } from "./io/feed.ts";
/** Measurements of others, brought to one shape; what cannot be read is skipped and counted with its reason. */
export {
  type AtlasHop,
  type AtlasPing,
  AtlasReader,
  type AtlasReply,
  type AtlasResult,
  atlasSamples,
  type AtlasTraceroute,
  parseAtlasResult,
} from "./core/measurements/atlas.ts";
export { type AtlasAnchor, AtlasAnchorReader, parseAtlasAnchor } from "./core/measurements/atlas-anchors.ts";
export {
  type BgpRoute,
  type BgpSink,
  type BgpSkipReason,
  type BgpWithdrawal,
} from "./core/measurements/bgp.ts";
export { BgpTableTextReader } from "./core/measurements/bgp-table-text.ts";
export { BgpTextReader } from "./core/measurements/bgp-text.ts";
export { MrtReader } from "./core/measurements/mrt.ts";
export {
  autonomousSystemOf,
  type MmdbMatch,
  type MmdbMetadata,
  MmdbReader,
  type MmdbValue,
  placeOf,
} from "./core/measurements/mmdb.ts";
export type { AutonomousSystem, Place } from "./core/measurements/places.ts";
export { parsePing, parseTraceroute, type ProbeHop } from "./core/measurements/probe-output.ts";
export {
  ProbeReader,
  type ProbeRecord,
  probeRecord,
  probeSample,
} from "./core/measurements/probe-record.ts";
export { parseProbeTargets, type ProbeTarget, ProbeTargetError } from "./core/measurements/probe-target.ts";
export { RangeCsvReader, type RangeSkipReason } from "./core/measurements/range-csv.ts";
export { AddressRangeTable, type RangeRefusal } from "./core/measurements/range-table.ts";
export {
  type MeasurementMethod,
  type MeasurementSource,
  measurementMethods,
  measurementSources,
  type PathSample,
  pathSample,
  RTT_MS_MAX,
  SampleReader,
} from "./core/measurements/sample.ts";
export {
  MeasurementStore,
  type MeasurementStoreCounters,
  type MeasurementStoreSettings,
  measurementStoreDefaults,
  type PathFigures,
  type PathQuery,
  type PathWindow,
  type SeriesProvenance,
  type StoredSample,
  type StoreRefusal,
} from "./core/measurements/store.ts";
export {
  type IntakeResult,
  type IntakeSkipReason,
  MeasurementIntake,
} from "./core/measurements/intake.ts";
export type { JsonSkipReason } from "./core/measurements/json-reader.ts";
export { type ReadSummary, type SkippedRecord } from "./core/measurements/tally.ts";

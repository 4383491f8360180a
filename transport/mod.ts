/**
 * Transport: how bytes reach a parent, a relay or an origin. Paths are measured, chosen and left; connections are kept
 * open and warm; the emulated network of a world is applied here and nowhere else.
 */
export { type TransportSettings, transportDefaults } from "./config.ts";
export {
  checkKernel,
  type KernelCheck,
  type KernelFacts,
  overlaySysctls,
  undoSteps,
} from "./core/kernel-settings.ts";
export {
  LinkEstimator,
  type LinkEstimatorSettings,
  linkEstimatorDefaults,
  type SampleVerdict,
} from "./core/link-estimator.ts";
export { PathChooser } from "./core/path-chooser.ts";
export { type PathChooserSettings, pathChooserDefaults } from "./core/path-settings.ts";
export {
  type PathChoice,
  type PathChooserCounters,
  type PathEvent,
  type PathProbe,
  type PathReason,
  type PathState,
  pathReasons,
  type RelayCandidate,
} from "./core/path-words.ts";
export type { OriginServerState } from "./core/origin-words.ts";
export { peerProofHeader, type PeerProofRefusal, type PeerProofRequest } from "./core/peer-proof.ts";
export { EdgeAgents } from "./core/target-tests/agents.ts";
export { RetryBudget, type RetryBudgetSettings, retryBudgetDefaults } from "./core/retry-budget.ts";
export { type WanLink, type WanState, wanState } from "./core/wan-state.ts";
export { DIAL_TIMEOUT_MS, type DialOptions, dial, type TlsOptions } from "./io/dial.ts";
export { ExchangeError, type ExchangeHead } from "./io/exchange.ts";
export type {
  CandidateReport,
  HeaderList,
  KnownOrigin,
  OriginIdentity,
  PathExplanation,
  LinkExplanation,
  NeighbourReport,
  RequestTimeouts,
  SpokenProtocol,
  UdpExplanation,
  TransportRequest,
  TransportResponse,
  TransportTarget,
  UsedPath,
} from "./io/face.ts";
export { LinkPool, type LinkPoolOptions } from "./io/link/pool.ts";
export { UdpDialer } from "./io/udp/dialer.ts";
export { UdpEndpoint } from "./io/udp/endpoint.ts";
export { exportUdpSecret, PacketKeys, udpNameOf } from "./io/udp/packet-keys.ts";
export { LinkServer, type LinkServerOptions } from "./io/link/server.ts";
export type { LinkRequest } from "./io/link/server-session.ts";
export { readKernel, runKernelStep } from "./io/kernel.ts";
export { isForbidden as isForbiddenInLinks } from "./core/link/field-rules.ts";
export { beginsHandshake, type NodePeer, NodeTrust } from "./io/node-trust.ts";
export { type OriginGroupStated, OriginUnavailableError } from "./io/origin-groups.ts";
export { type NameSources, nameLookup } from "./io/name-lookup.ts";
export { OriginResolver, type ResolverSettings } from "./io/origin-resolver.ts";
export { PathPool } from "./io/path-pool.ts";
export { PeerVerifier, type PeerVerdict, peerKeyFromEnvironment, signPeer } from "./io/peer-proof.ts";
export { carriedBy, loadQuietTime, quietMsOf } from "./io/quiet-time.ts";
export { race, type RaceParts } from "./io/race.ts";
export { type RelayCounters, RelayServer, type RelaySettings, relayDefaults } from "./io/relay-server.ts";
export { SegmentWriter } from "./io/segment-writer.ts";
export { ResumingBody, resumableFrom } from "./io/resuming-body.ts";
export { ShapedSocket } from "./io/shaped-socket.ts";
export { Stop, type StopSignal } from "./io/stop-signal.ts";
export { Target } from "./io/target.ts";
export { TargetTester } from "./io/target-tests/tester.ts";
export { Transport, type TransportOptions } from "./io/transport.ts";
export { openTunnel } from "./io/tunnel.ts";
export { installedWan, installWan, installWanFromEnvironment, wanSelf } from "./io/wan.ts";

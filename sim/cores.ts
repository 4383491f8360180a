/**
 * The seam: every production core that the actors use, as a factory. A test plants a bug by handing over another one, and the
 * simulator must find it.
 */
import type { EpochMs, LivenessMonitor, LivenessSettings, MonotonicMs } from "#kit";
import { LivenessMonitor as KitLivenessMonitor } from "#kit";
import { decideApply } from "../control/core/apply.ts";
import { decidePublication } from "../control/core/fence.ts";
import { decideLease } from "../control/core/lease.ts";
import { HoldBack } from "../control/core/hold-back.ts";
import { decideActivate, decideAppend, decideWatchStart } from "../control/core/document-log.ts";
import { decideRequest, decideResponse } from "../edge/core/decide.ts";
import { PurgeIndex } from "../edge/core/purge-index.ts";
import { Tiers } from "../edge/core/tiers.ts";
import { answerAddresses } from "../mapping/core/answer.ts";
import { StandIn } from "../mapping/core/dns/stand-in.ts";
import { OpinionBoard } from "../mapping/core/policy/opinions.ts";
import { edgeAgentsOf } from "../transport/core/target-tests/agents.ts";
import { TargetTests } from "../transport/core/target-tests/target-tests.ts";
import { MapEngine } from "../mapping/core/engine.ts";
import { PublisherElection } from "../mapping/core/publisher-election.ts";
import { OriginGroup } from "../transport/core/origin-group.ts";
import { PathChooser, type PathChooserSettings } from "../transport/core/path-chooser.ts";

/** What of a monitor the actors use. */
export type Liveness = Pick<
  LivenessMonitor,
  | "setTargets"
  | "pollTransmit"
  | "handleProbeResult"
  | "handleTimeout"
  | "handlePassive"
  | "pollEvent"
  | "pollTimeout"
  | "isUp"
>;

/** What of a chooser the actors use. */
export type Chooser = Pick<
  PathChooser,
  | "setRelays"
  | "choose"
  | "alternative"
  | "handleProbeResult"
  | "handleProbeConnecting"
  | "handleFailure"
  | "handleUpperBound"
  | "handleTimeout"
  | "pollTransmit"
  | "pollTimeout"
  | "pollEvent"
  | "states"
>;

export interface SimCores {
  /** @param nodeId who watches, so that a bug can be planted in one node only */
  readonly liveness: (settings: LivenessSettings, nodeId: string) => Liveness;
  readonly decideApply: typeof decideApply;
  readonly decideAppend: typeof decideAppend;
  readonly decideActivate: typeof decideActivate;
  readonly decideWatchStart: typeof decideWatchStart;
  readonly decideLease: typeof decideLease;
  readonly decidePublication: typeof decidePublication;
  readonly decideRequest: typeof decideRequest;
  readonly decideResponse: typeof decideResponse;
  readonly tiers: (...of: ConstructorParameters<typeof Tiers>) => Tiers;
  readonly purgeIndex: (nodeId: string) => PurgeIndex;
  readonly answerAddresses: typeof answerAddresses;
  readonly standIn: (delayMs: number) => StandIn;
  readonly holdBack: <T>(delayMs: number) => HoldBack<T>;
  readonly targetTests: (epochOf: (now: MonotonicMs) => EpochMs) => TargetTests;
  readonly opinionBoard: () => OpinionBoard;
  readonly edgeAgentsOf: typeof edgeAgentsOf;
  readonly publisherElection: (holderId: string) => PublisherElection;
  readonly mapEngine: (epochOf: (now: MonotonicMs) => EpochMs) => MapEngine;
  readonly pathChooser: (settings: Partial<PathChooserSettings>, now: MonotonicMs, nodeId: string) => Chooser;
  readonly originGroup: (...of: ConstructorParameters<typeof OriginGroup>) => OriginGroup;
}

export const productionCores: SimCores = {
  liveness: (settings) => new KitLivenessMonitor(settings),
  decideApply,
  decideAppend,
  decideActivate,
  decideWatchStart,
  decideLease,
  decidePublication,
  decideRequest,
  decideResponse,
  tiers: (...of) => new Tiers(...of),
  purgeIndex: () => new PurgeIndex(),
  answerAddresses,
  standIn: (delayMs) => new StandIn(delayMs),
  holdBack: (delayMs) => new HoldBack(delayMs),
  targetTests: (epochOf) => new TargetTests(epochOf),
  opinionBoard: () => new OpinionBoard(),
  edgeAgentsOf,
  publisherElection: (holderId) => new PublisherElection(holderId),
  mapEngine: (epochOf) => new MapEngine({ epochOf }),
  pathChooser: (settings, now) => new PathChooser(settings, now),
  originGroup: (...of) => new OriginGroup(...of),
};

/** What the engine takes and gives beside documents: samples, events, estimates, counters. */
import type { ClientNetworkId, ClusterId, MapSnapshot, MonotonicMs } from "#kit";
import type { ExplainedEstimate } from "./network-rows.ts";
import type { ExplainedScore } from "./score-orders.ts";
import type { SnapshotProblem } from "./snapshot-check.ts";

/** A measurement between two sites. */
export interface RttSample {
  readonly from: ClientNetworkId | ClusterId;
  readonly to: ClusterId;
  /** Null: no answer came. */
  readonly rttMs: number | null;
  readonly at: MonotonicMs;
}

export type SnapshotReason = MapSnapshot["reason"];

export type MapEngineEvent =
  | { readonly type: "snapshot"; readonly snapshot: MapSnapshot; readonly reason: SnapshotReason }
  /** A snapshot that was made and is not to be published; the one before stays in force. */
  | {
      readonly type: "refused";
      readonly problems: readonly SnapshotProblem[];
      readonly reason: SnapshotReason;
    };

/** What is expected of a client network towards a cluster, and why. */
export interface NetworkEstimate extends Omit<ExplainedEstimate, "cluster"> {
  readonly clusterId: ClusterId;
  /** In the order of the traffic classes; as of the newest map of this engine. Empty: there is none since networks or clusters have changed. */
  readonly scores: readonly ExplainedScore[];
}

/** All only grow. */
export interface MapEngineCounters {
  snapshots: number;
  snapshotsRefused: number;
  /** Snapshots that a liveness or topology change brought about before the cycle was over. */
  bypasses: number;
  /** Times that a client network's class was sent elsewhere than in the snapshot before. */
  moves: number;
  /** Servers that a detector reported down beyond the suspension quota, summed over snapshots. */
  doubted: number;
  /** Demands of clusters that reports have shown to be other than stated. */
  demandCorrections: number;
  /** Lost samples to clusters whose servers are all down. */
  samplesToDead: number;
  eventsDropped: number;
}

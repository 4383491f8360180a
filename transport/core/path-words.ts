/** What is said of the paths of a target: candidates, choices with their reasons, probes, events, counters. */
import type { ClusterId, MonotonicMs } from "#kit";

/** Every choice names one of these; log, metric label and `isochrone explain` use the same words. */
export const pathReasons = [
  /** No relay is a candidate. */
  "only-path",
  /** No relay has been measured yet: direct needs no proof. */
  "unmeasured-direct",
  /** Lowest cost of all usable candidates. */
  "cheapest",
  /** Another is cheaper, but not for long enough yet, by as little as it is. */
  "hysteresis",
  /** The path in use failed; this is the cheapest that has not. */
  "fallback-path-failed",
  /** Second attempts over other paths were answered first, and the path in use was silent; this is the cheapest of the others. */
  "fallback-races-lost",
  /** One of several large answers at the same time, over the path of those nearly as good as the best that has the fewest. */
  "spread",
  /** A second attempt beside one that was late, or one of several where nobody knew which path is well. */
  "race",
  /** Every candidate has failed: the cheapest that probes get over again, else direct, because it depends on the fewest parts. */
  "all-paths-failed",
] as const;
export type PathReason = (typeof pathReasons)[number];

/** What a request wants of its path: a small answer soon, in the tail too, or the bytes of a large one at a high rate. */
export const requestClasses = ["small", "large"] as const;
export type RequestClass = (typeof requestClasses)[number];

/** A candidate relay with what the map estimates for the whole path, if it says anything. */
export type RelayCandidate = {
  readonly via: ClusterId;
  readonly mapRttMs?: number | undefined;
};

export type PathChoice = { readonly via: ClusterId | null; readonly reason: PathReason };

/** A probe to send now over `via`; its end goes to `handleProbeResult`, else it times out by itself. */
export type PathProbe = {
  readonly probeId: number;
  readonly via: ClusterId | null;
  readonly timeoutMs: number;
};

/** A candidate as it stands; `costMs`, that of a small answer, is undefined while it has no sample. */
export type PathState = {
  readonly via: ClusterId | null;
  readonly srttMs: number | undefined;
  readonly rttvarMs: number;
  readonly lossRatio: number;
  readonly samples: number;
  readonly costMs: number | undefined;
  readonly isFailed: boolean;
  readonly mapRttMs: number | undefined;
  readonly ageMs: number | undefined;
};

/** What happened to the paths of a target, for logs and for whoever waits on one that failed. */
export type PathEvent =
  | {
      readonly type: "failed";
      readonly via: ClusterId | null;
      /** `probes`: nothing crosses it; `traffic`: a request could not use it. */
      readonly cause: "probes" | "traffic";
      readonly at: MonotonicMs;
    }
  | { readonly type: "recovered"; readonly via: ClusterId | null; readonly at: MonotonicMs }
  | {
      readonly type: "switched";
      readonly requestClass: RequestClass;
      readonly from: ClusterId | null;
      readonly to: ClusterId | null;
      readonly reason: PathReason;
      readonly at: MonotonicMs;
    };

/** All only grow. */
export type PathChooserCounters = {
  probesSent: number;
  probesOk: number;
  probesLost: number;
  /** Results of probes that had timed out or whose path is gone. */
  resultsIgnored: number;
  /** Late answers that a pause of our own process explains. */
  samplesDisturbed: number;
  failures: number;
  recoveries: number;
  /** Switches of a request class because another path was cheaper. */
  switches: number;
  /** Switches of a request class because its path failed or lost its races. */
  fallbacks: number;
  /** Oldest events thrown away because nobody took them. */
  eventsDropped: number;
};

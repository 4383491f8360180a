/** The words of the choice among origin servers: settings, outcomes, and why one is not asked. */
import type { MonotonicMs, OriginPolicy, OriginProtocol, OriginTarget } from "#kit";
import type { BreakerSettings, BreakerState } from "./circuit-breaker.ts";

/** How a request to a server ended. */
export const originOutcomes = [
  "ok",
  /** It answered 5xx: it works, but perhaps worse than the others. */
  "error-status",
  /** No connection, a broken one, or no HTTP. */
  "unreachable",
  /** Connected, and no answer in time. */
  "silent",
  /** Nothing that would be the server's doing: given up by the client, a relay's refusal. */
  "none",
] as const;
export type OriginOutcome = (typeof originOutcomes)[number];

/** Why a server is not asked, or only when no other can be; label of metrics. */
export const originBars = [
  /** Its weight is 0. */
  "drained",
  /** Its health check fails. */
  "check-failed",
  /** Taken out for its errors. */
  "ejected",
  "breaker-open",
  /** As many requests try it as may after a pause, or this one could not be asked elsewhere if it fails. */
  "breaker-trying",
  "requests-max",
] as const;
export type OriginBar = (typeof originBars)[number];

/** Why a server was ejected. */
export const ejectionReasons = ["consecutive-errors", "error-ratio"] as const;
export type EjectionReason = (typeof ejectionReasons)[number];

export type OriginServerSettings = {
  /** For logs: `http://host:port`. */
  readonly name: string;
  readonly protocol: OriginProtocol;
  /** Share among its priority, >= 0. */
  readonly weight: number;
  readonly priority: number;
  readonly requestsMax: number;
};

export type OriginCheckSettings = {
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly jitterRatio: number;
  readonly downThreshold: number;
  readonly okThreshold: number;
};

export type OutlierSettings = {
  readonly isEnabled: boolean;
  readonly consecutiveErrors: number;
  readonly errorRatio: number;
  readonly requestsMin: number;
  readonly windowMs: number;
  readonly ejectionMs: number;
  readonly ejectionMsMax: number;
  readonly ejectedRatioMax: number;
};

export type OriginGroupSettings = {
  readonly servers: readonly OriginServerSettings[];
  readonly check: OriginCheckSettings | null;
  readonly outlier: OutlierSettings;
  readonly breaker: BreakerSettings | null;
  readonly slowStartMs: number;
  readonly requestsMax: number;
};

/** What a document says, in the units of the machine. Limits are for a whole server; `share` is this process's part of it. */
export function originGroupSettings(
  origins: readonly OriginTarget[],
  policy: OriginPolicy,
  share = 1,
): OriginGroupSettings {
  const { healthCheck, outlierDetection: outlier, breaker } = policy;
  const shareOf = (max: number | null | undefined): number =>
    max === null || max === undefined ? Infinity : Math.max(1, Math.ceil(max * share));
  return {
    servers: origins.map(({ scheme, host, port, protocol, weight = 1, priority, requestsMax }, index) => ({
      name: `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`,
      protocol: protocol ?? "http/1.1",
      weight,
      priority: priority ?? index,
      requestsMax: shareOf(requestsMax),
    })),
    check: healthCheck && {
      intervalMs: healthCheck.intervalSeconds * 1_000,
      timeoutMs: healthCheck.timeoutSeconds * 1_000,
      jitterRatio: healthCheck.jitterRatio,
      downThreshold: healthCheck.downThreshold,
      okThreshold: healthCheck.okThreshold,
    },
    outlier: {
      isEnabled: outlier.isEnabled,
      consecutiveErrors: outlier.consecutiveErrors,
      errorRatio: outlier.errorRatio,
      requestsMin: outlier.requestsMin,
      windowMs: outlier.windowSeconds * 1_000,
      ejectionMs: outlier.ejectionSeconds * 1_000,
      ejectionMsMax: outlier.ejectionSecondsMax * 1_000,
      ejectedRatioMax: outlier.ejectedRatioMax,
    },
    breaker: breaker && {
      failures: breaker.failures,
      openMs: breaker.openSeconds * 1_000,
      openMsMax: breaker.openSecondsMax * 1_000,
      halfOpenRequestsMax: breaker.halfOpenRequestsMax,
      halfOpenSuccesses: breaker.halfOpenSuccesses,
    },
    slowStartMs: policy.slowStartSeconds * 1_000,
    requestsMax: shareOf(policy.requestsMax),
  };
}

/** A server as it is seen now, for `explain`. */
export type OriginServerState = {
  readonly name: string;
  readonly protocol: OriginProtocol;
  readonly priority: number;
  readonly weight: number;
  /** The share of its weight that slow start leaves it, 0..1. */
  readonly rampRatio: number;
  /** Undefined: it may be asked. */
  readonly bar: OriginBar | undefined;
  /** Until when, where that is known. */
  readonly barredUntil: MonotonicMs | undefined;
  readonly check: "up" | "down" | "unknown" | "off";
  readonly breaker: BreakerState | "off";
  readonly ejection: EjectionReason | undefined;
  readonly active: number;
  readonly requestsMax: number;
  /** Of the last `windowSeconds`. */
  readonly recentRequests: number;
  readonly recentFailures: number;
};

/** Something changed that an operator wants to read in the log. */
export type OriginEvent = {
  readonly type: "ejected" | "returned" | "down" | "up" | "breaker-opened" | "breaker-closed";
  readonly server: string;
  readonly reason: string;
};

/** Whom to ask, best first, or why nobody. */
export type OriginOrder = {
  /** Places in the document; empty: nobody can be asked. */
  readonly indexes: readonly number[];
  /** Health says no of all of them, and the least bad are asked all the same. */
  readonly isLastResort: boolean;
  /** Where nobody can be asked: what keeps each server from it, or that the origin as a whole is full. */
  readonly bars: readonly OriginBar[] | "group-requests-max";
  /** When the first of them may be tried again; undefined: that hangs on requests that are under way. */
  readonly retryAt: MonotonicMs | undefined;
};

/** One way to a target, direct or through a relay: what was measured of it, what it costs a request, whether it may be used. */
import { type ClusterId, type MonotonicMs } from "#kit";
import type { LinkEstimator } from "./link-estimator.ts";
import type { PathChooserSettings } from "./path-settings.ts";
import type { RequestClass } from "./path-words.ts";

export type PathCandidate = {
  readonly via: ClusterId | null;
  readonly link: LinkEstimator;
  mapRttMs: number | undefined;
  /** The probe in flight, at most one a path. `isDisturbed`: our own process paused meanwhile, so its time says little. */
  probe: { readonly id: number; readonly deadline: MonotonicMs; readonly isDisturbed: boolean } | undefined;
  dueAt: MonotonicMs;
  lossesInARow: number;
  /** Those of them that stand in the estimator. */
  lossesCharged: number;
  okInARow: number;
  /** While set the path is failed; it cannot recover before this time. */
  failedUntil: MonotonicMs | undefined;
  holdMs: number;
  lastFailedAt: MonotonicMs | undefined;
  /** It lost its races and nothing was heard over it since: not used until a probe says what it is. */
  isSuspect: boolean;
};

/** What a large answer is taken to be, in segments of 1,448 bytes: a slice of 1 MiB. */
const LARGE_SEGMENTS = (1 << 20) / 1_448;
/** Mathis, Semke, Mahdavi, Ott, "The macroscopic behavior of the TCP congestion avoidance algorithm", 1997: C for one acknowledgement a segment. */
const MATHIS_C = Math.sqrt(3 / 2);

/**
 * Cost of an answer of a class, ms, lower is better; undefined before the first sample. Small: a round trip, its variation and what
 * a loss delays. Large: a round trip and the time that 1 MiB takes at the rate that loss and distance leave to TCP (Mathis et al.):
 * it ranks paths, it predicts no rate.
 */
export function pathCostMs(
  candidate: PathCandidate,
  requestClass: RequestClass,
  settings: PathChooserSettings,
): number | undefined {
  const { typical, lossRatioUpper } = candidate.link;
  if (typical === undefined) return undefined;
  const { medianMs, deviationMs } = typical;
  if (requestClass === "large")
    return medianMs * (1 + (LARGE_SEGMENTS * Math.sqrt(lossRatioUpper)) / MATHIS_C);
  const { deviationWeight, lossWeight } = settings;
  const lossDelayMs = Math.max(200, 1.5 * medianMs);
  return medianMs + deviationWeight * deviationMs + lossWeight * lossRatioUpper * lossDelayMs;
}

/** Whether its estimate may carry a choice. Direct may always be used; a relay has to be known, and lately. */
export function isPathUsable(
  candidate: PathCandidate,
  settings: PathChooserSettings,
  intervalFactor: number,
  now: MonotonicMs,
): boolean {
  if (candidate.failedUntil !== undefined || candidate.isSuspect) return false;
  if (candidate.via === null) return true;
  const ageMs = candidate.link.ageMs(now);
  const ageMaxMs = Math.max(settings.ageMaxMs, 3 * settings.probeIntervalMs * intervalFactor);
  return (
    candidate.link.samples >= settings.samplesMin &&
    candidate.link.srttMs !== undefined &&
    ageMs !== undefined &&
    ageMs <= ageMaxMs
  );
}

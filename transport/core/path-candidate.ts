/** One way to a target, direct or through a relay: what was measured of it, what it costs a request, whether it may be used. */
import { type ClusterId, type MonotonicMs } from "#kit";
import type { LinkEstimator } from "./link-estimator.ts";
import type { PathChooserSettings } from "./path-settings.ts";
import type { RequestClass } from "./path-words.ts";
import type { TransferTimes } from "./transfer-times.ts";

export type PathCandidate = {
  readonly via: ClusterId | null;
  readonly link: LinkEstimator;
  readonly transfers: TransferTimes;
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

/** One small request in so many turns out to be a large one: nobody knows the length of what was not asked for in ranges. */
const SMALL_FOR_ONE_LARGE = 200;
/** What a path over which no large body came yet is taken to need, as a share of the best known: worth a try, if a large gain would be felt. */
const UNTRIED_SHARE = 0.5;

/** What the large bodies over all candidates together say of those over which none came. */
export type LargeKnown = {
  /** Seen by predicted. */
  readonly ratio: number;
  /** Of 1 MiB over the best of them, ms. */
  readonly bestMs: number;
};

/** Undefined: no large body came yet. */
export function largeKnown(candidates: readonly PathCandidate[]): LargeKnown | undefined {
  let known: LargeKnown | undefined;
  for (const { link, transfers } of candidates) {
    const { usualMs } = transfers;
    const predictedMs = usualMs === undefined ? undefined : predictedLargeMs(link);
    if (usualMs === undefined || predictedMs === undefined) continue;
    known = {
      ratio: Math.min(known?.ratio ?? Infinity, usualMs / predictedMs),
      bestMs: Math.min(known?.bestMs ?? Infinity, usualMs),
    };
  }
  return known;
}

/** A round trip and the time that 1 MiB takes at the rate that loss and distance leave to TCP's Reno (Mathis et al.), ms. */
function predictedLargeMs({ typical, lossRatioUpper }: LinkEstimator): number | undefined {
  if (typical === undefined) return undefined;
  return typical.medianMs * (1 + (LARGE_SEGMENTS * Math.sqrt(lossRatioUpper)) / MATHIS_C);
}

/**
 * Cost of an answer of a class, ms, lower is better; undefined before the first sample. Small: a round trip, its variation, what a loss
 * delays, and the share of a large one that it may be. Large: as seen; before that as predicted, corrected by how far the other paths'
 * predictions are off (BBR is an order of magnitude faster than Reno).
 */
export function pathCostMs(
  candidate: PathCandidate,
  requestClass: RequestClass,
  settings: PathChooserSettings,
  known: LargeKnown | undefined,
): number | undefined {
  const { typical, lossRatioUpper } = candidate.link;
  if (typical === undefined) return undefined;
  const { medianMs, deviationMs } = typical;
  const { usualMs } = candidate.transfers;
  if (requestClass === "large")
    return usualMs ?? (predictedLargeMs(candidate.link) ?? 0) * (known?.ratio ?? 1);
  const { deviationWeight, lossWeight } = settings;
  const lossDelayMs = Math.max(200, 1.5 * medianMs);
  const largeMs = known === undefined ? 0 : (usualMs ?? UNTRIED_SHARE * known.bestMs);
  return (
    medianMs +
    deviationWeight * deviationMs +
    lossWeight * lossRatioUpper * lossDelayMs +
    largeMs / SMALL_FOR_ONE_LARGE
  );
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

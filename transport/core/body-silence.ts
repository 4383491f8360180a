/**
 * When a body that pauses is taken to be cut off from its sender. A lost segment makes a stream as silent as a cut path does, until its repeat is
 * there; but those behind it go on arriving, which the kernel knows.
 */

/** From when on a body is suspect, ms. */
export type SilenceLimits = {
  /** Nothing of it came. */
  readonly silentMs: number;
  /** Nothing at all came over its connection. Less than {@link silentMs}. */
  readonly quietMs: number;
};

/** What is measured of a path, ms. */
type RoundTrips = {
  readonly srttMs: number | undefined;
  readonly rttvarMs: number;
  readonly typical: { readonly medianMs: number } | undefined;
};

/** Shorter pauses are within the service times of disks and schedulers, ms; of who asks others for the rest, of those too. */
const QUIET_MS_MIN = 100;
const SILENT_MS_MIN = 150;
/**
 * A round trip, and what its variation, the kernel's clock and ours add. Of 140 bodies of 1 MB at 96 ms with 1.4 % loss 96 % were never quiet for so
 * long (test/lab/overlay.ts; BBR all, cubic 93 %). Deviations are not added: a few late probes make them as large as the round trip.
 */
const QUIET_ROUND_TRIPS = 1.05;
const QUIET_SLACK_MS = 4;

/**
 * Silent: longer than one lost packet makes it, whose repeat takes a round trip and what the other end needs to know of it. Quiet: longer than a
 * window takes to move on, since what is sent for the last acknowledgement is here a round trip after what it acknowledges. `isForwarded`: the
 * other end is a server of ours, whose own source may pause. Undefined: nothing is measured.
 */
export function silenceLimits(
  { srttMs, rttvarMs, typical }: RoundTrips,
  isForwarded: boolean,
): SilenceLimits | undefined {
  if (srttMs === undefined || typical === undefined) return undefined;
  const silentMs = Math.max(SILENT_MS_MIN, 2 * srttMs + 4 * rttvarMs);
  const leastMs = isForwarded ? SILENT_MS_MIN : QUIET_MS_MIN;
  const windowMs = QUIET_ROUND_TRIPS * typical.medianMs + QUIET_SLACK_MS;
  return { silentMs, quietMs: Math.min(silentMs, Math.max(leastMs, windowMs)) };
}

/**
 * In how many ms a body will be suspect if nothing comes, 0: it is. `silentMs`: since something of it came, or its reader went on;
 * `quietMs`: since its connection brought anything, undefined: not known.
 */
export function suspectInMs(limits: SilenceLimits, silentMs: number, quietMs: number | undefined): number {
  const leftMs = limits.silentMs - silentMs;
  if (quietMs === undefined) return Math.max(0, leftMs);
  // A connection may have been quiet because nobody read.
  return Math.max(0, Math.min(leftMs, limits.quietMs - Math.min(quietMs, silentMs)));
}

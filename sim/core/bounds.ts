/** How long each part may take to notice and to recover, derived from the settings: what the invariants hold it to. */
import type { LivenessSettings } from "#kit";

export interface Bounds {
  /** From a death to "down" at a name server, ms. */
  readonly nameServerDownMs: number;
  /** From life to "up" again, ms. */
  readonly nameServerUpMs: number;
  /** From the loss of the last other name server until who stands in for them answers, and from the return of one until it does not, ms. */
  readonly standInMs: number;
  readonly standByMs: number;
  /** From the death of a policy's target until every name server holds it for down, and back, ms. */
  readonly targetDownMs: number;
  readonly targetUpMs: number;
  /** Longest TTL of an address answer, ms. */
  readonly ttlMs: number;
  /** From a death until no client asks the dead server, ms. */
  readonly clientMs: number;
  /** From a cut path to another one, ms, beside its own round trips. */
  readonly pathMs: number;
  /**
   * From a dead parent, relay or link until requests go round it, ms. A request that waits for a silent server is not given up
   * before transport's limit for a response head, and others that want the same object wait with it.
   */
  readonly upstreamMs: number;
  /** What was under way when a fault ended may wait for so long, ms. */
  readonly aftermathMs: number;
  /** From the end of all faults until everything has converged, ms. */
  readonly convergeMs: number;
}

export interface BoundsInput {
  readonly nameServerLiveness: LivenessSettings;
  readonly upstreamLiveness: LivenessSettings;
  readonly standInLiveness: LivenessSettings;
  readonly targetLiveness: LivenessSettings;
  /** From an opinion until name servers hear of it, and until it counts no more, ms. */
  readonly reportMs: number;
  readonly opinionSilentMs: number;
  readonly ttlSecondsMax: number;
  /** Longest round trip of the world, ms. */
  readonly rttMsMax: number;
  readonly clientConnectMs: number;
  readonly clientResponseMs: number;
  readonly headersTimeoutMs: number;
  readonly probeIntervalMs: number;
  readonly probeTimeoutMs: number;
  readonly probeLossesMax: number;
  readonly warmUpIntervalMs: number;
  readonly convergeMs: number;
}

/** Queueing and retransmission of one message beyond its round trip, ms. */
const SLACK_MS = 400;

/** The monitor's own worst case (kit/liveness.ts) with jitter, travel and slack. */
export function downBoundMs(settings: LivenessSettings, rttMs: number): number {
  const { intervalMs, timeoutMs, downThreshold, jitterRatio = 0 } = settings;
  const interval = intervalMs * (1 + jitterRatio);
  return interval + timeoutMs + (downThreshold - 1) * Math.max(interval, timeoutMs) + rttMs + SLACK_MS;
}

/** A probe in flight is lost, then as many good ones as it takes, with one retransmission. */
export function upBoundMs(settings: LivenessSettings, rttMs: number): number {
  const { intervalMs, timeoutMs, okThreshold, jitterRatio = 0 } = settings;
  return timeoutMs + (okThreshold + 2) * intervalMs * (1 + jitterRatio) + 2 * rttMs + SLACK_MS;
}

export function boundsOf(input: BoundsInput): Bounds {
  const { rttMsMax, clientConnectMs, clientResponseMs } = input;
  const nameServerDownMs = downBoundMs(input.nameServerLiveness, rttMsMax);
  const ttlMs = input.ttlSecondsMax * 1_000;
  // The last word of who fell silent counts meanwhile.
  const heardMs = input.opinionSilentMs + 2 * input.reportMs + rttMsMax + SLACK_MS;
  // A probe is due, times out, the next one comes soon and times out too; a probe may wait for a cold connection.
  const pathMs =
    input.probeIntervalMs +
    input.probeLossesMax * (input.probeTimeoutMs + 2 * rttMsMax + input.warmUpIntervalMs) +
    SLACK_MS;
  const clientTriesMs = 2 * (clientConnectMs + clientResponseMs) + SLACK_MS;
  return {
    nameServerDownMs,
    nameServerUpMs: upBoundMs(input.nameServerLiveness, rttMsMax),
    standInMs: downBoundMs(input.standInLiveness, rttMsMax),
    standByMs: upBoundMs(input.standInLiveness, rttMsMax),
    targetDownMs: downBoundMs(input.targetLiveness, rttMsMax) + heardMs,
    targetUpMs: upBoundMs(input.targetLiveness, rttMsMax) + heardMs,
    ttlMs,
    clientMs: nameServerDownMs + ttlMs + rttMsMax + SLACK_MS,
    pathMs,
    upstreamMs:
      Math.max(pathMs, downBoundMs(input.upstreamLiveness, rttMsMax)) +
      input.headersTimeoutMs +
      clientTriesMs,
    aftermathMs: input.headersTimeoutMs + clientTriesMs,
    convergeMs: input.convergeMs,
  };
}

/**
 * When a server asks for its certificate, and how well it stands with the one that it has. Control may be away for two thirds of the
 * time that a certificate is good for; dates that clocks disagree about are bounded by what control dates back.
 */
import { type CertificateState, type EpochMs, type NodeCredentials, type NodeName, plusMs } from "#kit";
import { backoffDelayMs } from "./backoff.ts";

interface RenewalSettings {
  /** Of a certificate's time, after which the next one is asked for. */
  readonly renewShare: number;
  /** Of a certificate's time, drawn on top, so that a fleet that started as one does not ask as one. */
  readonly spreadShare: number;
  /** Between tries while control refuses or does not answer, ms: growing from the first to the last. */
  readonly retryFirstMs: number;
  readonly retryMaxMs: number;
}

export const renewalDefaults: RenewalSettings = {
  renewShare: 1 / 3,
  spreadShare: 1 / 12,
  retryFirstMs: 1_000,
  retryMaxMs: 300_000,
};

type Dates = Pick<NodeCredentials, "notBeforeEpochMs" | "notAfterEpochMs">;

/**
 * When to ask next. Never at once after an answer: a clock that is far off must not make a server ask in a circle.
 * @param held undefined: nothing, or what is for another name
 * @param failures in a row
 * @param random uniform in [0, 1)
 */
export function nextRequestAt(
  held: Dates | undefined,
  failures: number,
  now: EpochMs,
  random: number,
  settings = renewalDefaults,
): EpochMs {
  const { renewShare, spreadShare, retryFirstMs, retryMaxMs } = settings;
  const isFirst = failures === 0 && held === undefined;
  const retry = { firstMs: retryFirstMs, maxMs: retryMaxMs };
  const soon = plusMs(now, isFirst ? 0 : backoffDelayMs(failures, random, retry));
  if (held === undefined || failures > 0) return soon;
  const { notBeforeEpochMs, notAfterEpochMs } = held;
  const share = renewShare + spreadShare * random;
  const due = notBeforeEpochMs + share * (notAfterEpochMs - notBeforeEpochMs);
  return due > soon ? (due as EpochMs) : soon;
}

/** Half of the time: by then several tries have failed, or control was away for hours. */
const LATE_SHARE = 1 / 2;

export function certificateState(held: Dates | undefined, now: EpochMs): CertificateState {
  if (held === undefined) return "none";
  const { notBeforeEpochMs, notAfterEpochMs } = held;
  if (now >= notAfterEpochMs) return "expired";
  if (now < notBeforeEpochMs) return "early";
  return now >= notBeforeEpochMs + LATE_SHARE * (notAfterEpochMs - notBeforeEpochMs) ? "late" : "valid";
}

/** Whether what is held is for the server as the topology has it now. */
export function isSameName(one: NodeName, other: NodeName): boolean {
  return (
    one.topology === other.topology &&
    one.role === other.role &&
    one.clusterId === other.clusterId &&
    one.serverId === other.serverId
  );
}

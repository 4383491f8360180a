/** The one shape that every source of measurements is brought to before anything decides on it. */
import type { EpochMs } from "#kit";

/** Who measured: a RIPE Atlas probe, our own probe agent, or a user's browser. */
export const measurementSources = ["atlas", "probe", "beacon"] as const;
export type MeasurementSource = (typeof measurementSources)[number];

/** What was timed: an echo, a datagram's refusal, a handshake, or a request up to the first byte of its answer. */
export const measurementMethods = ["icmp", "udp", "tcp", "http"] as const;
export type MeasurementMethod = (typeof measurementMethods)[number];

/** One round trip between two places, or its loss. */
export interface PathSample {
  readonly source: MeasurementSource;
  readonly method: MeasurementMethod;
  /** Name of the agent within its source: an Atlas probe's number, a probe agent's name. */
  readonly agent: string;
  /** Address that the agent measured from as others see it, canonical text; null when it is not known. */
  readonly from: string | null;
  /** Address that was measured, canonical text. */
  readonly to: string;
  /** When it was sent, as the agent's clock says. */
  readonly at: EpochMs;
  /** 0..RTT_MS_MAX; null: no answer came in the time that the agent waits. */
  readonly rttMs: number | null;
}

/** A round trip of more than a minute is a broken clock, ms. */
export const RTT_MS_MAX = 60_000;

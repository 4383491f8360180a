/** The one shape that every source of measurements is brought to before anything decides on it. */
import {
  array,
  type EpochMs,
  epochMs,
  formatAddress,
  integer,
  map,
  nullable,
  number,
  object,
  oneOf,
  optional,
  parseAddress,
  refine,
  type Schema,
  string,
} from "#kit";
import { JsonReader } from "./json-reader.ts";

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
  /**
   * Of a trace: routers that answered last before the target, canonical text, the nearest to it first. With `rttMs` null the trace did
   * not arrive: that is no loss of the path.
   */
  readonly lastHops?: readonly string[] | undefined;
}

/** A round trip of more than a minute is a broken clock, ms. */
export const RTT_MS_MAX = 60_000;

/** Canonical text. */
export const addressField: Schema<string> = refine(string({ max: 45, expected: "an IP address" }), (text) => {
  const parsed = parseAddress(text);
  return parsed !== undefined && formatAddress(parsed) === text
    ? undefined
    : { at: [], value: text, expected: "an IP address in canonical form" };
});

/** What documents about one round trip have in common. */
export const sampleFields = {
  method: oneOf(measurementMethods),
  /** No blanks, so that names can be joined. */
  agent: string({
    max: 63,
    pattern: /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
    expected: "a name of at most 63 letters, digits, points, hyphens and underscores",
  }),
  from: nullable(addressField),
  to: addressField,
  at: map(integer({ max: 4_102_444_800_000, unit: "ms since 1970" }), (value): EpochMs => epochMs(value)),
  rttMs: nullable(number({ min: 0, max: RTT_MS_MAX, unit: "ms" })),
};

/** A {@link PathSample} as it is handed to the mapper, one a line. */
export const pathSample: Schema<PathSample> = object({
  source: oneOf(measurementSources),
  ...sampleFields,
  lastHops: optional(array(addressField, { min: 1, max: 4 })),
});

/** Characters; a sample has about 200. */
const SAMPLE_CHARACTERS_MAX = 1_024;

export class SampleReader extends JsonReader<PathSample> {
  constructor(onSample: (sample: PathSample) => void) {
    super((value) => pathSample.parse(value), SAMPLE_CHARACTERS_MAX, onSample);
  }
}

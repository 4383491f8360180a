/** What a probe agent writes: one JSON document a line for each packet, handshake, request or trace. */
import { array, integer, line, nullable, number, object, optional, type Parsed } from "#kit";
import { JsonReader } from "./json-reader.ts";
import { type PathSample, RTT_MS_MAX, sampleFields } from "./sample.ts";

const milliseconds = number({ min: 0, max: RTT_MS_MAX, unit: "ms" });

export const probeRecord = object({
  ...sampleFields,
  /** The target as the list of targets has it. */
  target: line(2_100),
  /** Null only when the target's name could not be resolved. */
  to: nullable(sampleFields.to),
  /** Why nothing could be measured: no route, no such name, no permission. It says nothing of the path. */
  error: optional(line(300)),
  hops: optional(
    array(
      object({
        hop: integer({ min: 1, max: 255 }),
        address: nullable(sampleFields.to),
        rttMs: nullable(milliseconds),
      }),
      { max: 255 },
    ),
  ),
  http: optional(
    object({
      /** 0 when the target is an address. */
      dnsMs: milliseconds,
      connectMs: milliseconds,
      /** Null without TLS. */
      tlsMs: nullable(milliseconds),
      status: integer({ min: 100, max: 999 }),
    }),
  ),
});
export type ProbeRecord = Parsed<typeof probeRecord>;

/** Routers of a trace that are handed on: one of them may be the target's own network device, the next one is shared. */
const LAST_HOPS_MAX = 2;

/** Undefined: it was not measured, or is a trace that did not arrive and on which no router answered. */
export function probeSample(record: ProbeRecord): PathSample | undefined {
  const { agent, method, from, to, at, rttMs, error, hops } = record;
  if (to === null || error !== undefined) return undefined;
  const sample: PathSample = { source: "probe", method, agent, from, to, at, rttMs };
  if (hops === undefined) return sample;
  const lastHops = hops
    .flatMap(({ address }) => (address === null || address === to ? [] : [address]))
    .slice(-LAST_HOPS_MAX)
    .reverse();
  if (lastHops.length > 0) return { ...sample, lastHops };
  return rttMs === null ? undefined : sample;
}

/** 255 hops and a long target fit, characters. */
const RECORD_CHARACTERS_MAX = 65_536;

/** Reads what an agent wrote, one record a line. */
export class ProbeReader extends JsonReader<ProbeRecord> {
  constructor(onRecord: (record: ProbeRecord) => void) {
    super((value) => probeRecord.parse(value), RECORD_CHARACTERS_MAX, onRecord);
  }
}

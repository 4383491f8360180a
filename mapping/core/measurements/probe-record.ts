/** What a probe agent writes: one JSON document a line for each packet, handshake, request or trace. */
import {
  array,
  type EpochMs,
  epochMs,
  formatAddress,
  integer,
  line,
  map,
  nullable,
  number,
  object,
  oneOf,
  optional,
  ParseError,
  type Parsed,
  parseAddress,
  refine,
  type Schema,
  string,
} from "#kit";
import { measurementMethods, type PathSample, RTT_MS_MAX } from "./sample.ts";
import { ReadTally } from "./tally.ts";
import { JsonRecords } from "./text-records.ts";

const address: Schema<string> = refine(string({ max: 45, expected: "an IP address" }), (text) => {
  const parsed = parseAddress(text);
  return parsed !== undefined && formatAddress(parsed) === text
    ? undefined
    : { at: [], value: text, expected: "an IP address in canonical form" };
});
const milliseconds = number({ min: 0, max: RTT_MS_MAX, unit: "ms" });
/** Name of an agent: no blanks, so that names can be joined. */
const agent = string({
  max: 63,
  pattern: /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
  expected: "a name of at most 63 letters, digits, points, hyphens and underscores",
});

export const probeRecord = object({
  agent,
  method: oneOf(measurementMethods),
  /** The target as the list of targets has it. */
  target: line(2_100),
  /** What the agent was told of its own address; null: nothing. */
  from: nullable(address),
  /** Null only when the target's name could not be resolved. */
  to: nullable(address),
  at: map(integer({ max: 4_102_444_800_000, unit: "ms since 1970" }), (value): EpochMs => epochMs(value)),
  /** Null: lost, or with `error` not measured at all. With `http`: from the request to the first byte of the answer. */
  rttMs: nullable(milliseconds),
  /** Why nothing could be measured: no route, no such name, no permission. It says nothing of the path. */
  error: optional(line(300)),
  hops: optional(
    array(
      object({
        hop: integer({ min: 1, max: 255 }),
        address: nullable(address),
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

/** Undefined: it was not measured, or is a trace that did not arrive. */
export function probeSample(record: ProbeRecord): PathSample | undefined {
  const { agent, method, from, to, at, rttMs, error, hops } = record;
  if (to === null || error !== undefined || (hops !== undefined && rttMs === null)) return undefined;
  return { source: "probe", method, agent, from, to, at, rttMs };
}

export type ProbeSkipReason = "too-long" | "cut-off" | "not-json" | "refused";

/** 255 hops and a long target fit, characters. */
const RECORD_CHARACTERS_MAX = 65_536;

/** Reads what an agent wrote, one record a line; a wrong one is skipped and counted. */
export class ProbeReader {
  readonly tally = new ReadTally<ProbeSkipReason>();
  readonly #records: JsonRecords;

  constructor(onRecord: (record: ProbeRecord) => void) {
    this.#records = new JsonRecords(RECORD_CHARACTERS_MAX, {
      record: (text, number) => {
        const where = `record ${number}`;
        let value: unknown;
        try {
          value = JSON.parse(text);
        } catch (error) {
          this.tally.skip("not-json", where, error instanceof Error ? error.message : String(error));
          return;
        }
        let record: ProbeRecord;
        try {
          record = probeRecord.parse(value);
        } catch (error) {
          if (!(error instanceof ParseError)) throw error;
          this.tally.skip("refused", where, error.message);
          return;
        }
        this.tally.take();
        onRecord(record);
      },
      unreadable: (reason, number) =>
        this.tally.skip(
          reason,
          `record ${number}`,
          `of at most ${RECORD_CHARACTERS_MAX} characters, and whole`,
        ),
    });
  }

  read(chunk: Uint8Array): void {
    this.#records.read(chunk);
  }

  end(): void {
    this.#records.end();
  }
}

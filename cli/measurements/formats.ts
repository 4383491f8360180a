/** The files that measurements, routes and places come in: which is which, and what is in one. */
import {
  AtlasAnchorReader,
  type AtlasResult,
  AtlasReader,
  atlasSamples,
  BgpTableTextReader,
  BgpTextReader,
  MmdbReader,
  MrtReader,
  type PathSample,
  ProbeReader,
  probeSample,
  RangeCsvReader,
  type ReadSummary,
} from "#mapping";
import { UsageError } from "../usage.ts";

export const measurementFormats = [
  "atlas",
  "anchors",
  "probe",
  "bgp-text",
  "bgp-table",
  "mrt",
  "as-csv",
  "place-csv",
  "mmdb",
] as const;
export type MeasurementFormat = (typeof measurementFormats)[number];

/** One file being read. */
export interface FileReader {
  read(chunk: Uint8Array): void;
  /** After the last chunk: what was in it. */
  end(): { readonly summary: ReadSummary; readonly facts: Readonly<Record<string, number | string>> };
}

/** The beginning of a file (unpacked), enough to tell formats apart. */
export const SNIFF_BYTES = 65_536;
/** MMDB is looked up in and not streamed; city databases have 70 MB. */
const MMDB_BYTES_MAX = 1_073_741_824;

/** Undefined when it looks like none of them. */
export function formatOf(beginning: Uint8Array, name: string): MeasurementFormat | undefined {
  // Its mark stands at the end of the file.
  if (/\.mmdb(\.gz)?$/.test(name)) return "mmdb";
  // RFC 6396 section 4: types 11 to 17, 32, 33, 48 and 49; subtypes are small. Looked at before the texts, which have no zero
  // bytes: the first byte of a record is part of its time and may be a bracket.
  const [high, type = 0, subtypeHigh] = beginning.subarray(4, 7);
  const isMrt =
    high === 0 && subtypeHigh === 0 && ((type >= 11 && type <= 17) || [32, 33, 48, 49].includes(type));
  if (isMrt) return "mrt";
  const text = new TextDecoder("latin1").decode(beginning);
  if (/^\s*[[{]/.test(text)) {
    if (/"prb_id"\s*:/.test(text)) return "atlas";
    if (/"results"\s*:.*"probe"\s*:/s.test(text)) return "anchors";
    return /"agent"\s*:/.test(text) ? "probe" : undefined;
  }
  if (/^ {1,8}Network +Next Hop +.*Path *\r?$/m.test(text)) return "bgp-table";
  if (/^(TABLE_DUMP2?|BGP4MP(_ET)?)\|/.test(text)) return "bgp-text";
  const fields = (text.split("\n", 1)[0] ?? "").split(",");
  const isAddress = (field = ""): boolean => /^[0-9]+$|^[0-9a-fA-F]*[.:][0-9a-fA-F.:]*$/.test(field);
  if (fields.length >= 3 && isAddress(fields[0]) && isAddress(fields[1]))
    return /^[0-9]+$/.test(fields[2] ?? "") ? "as-csv" : "place-csv";
  return undefined;
}

/** @param onSample is told of the samples of formats that have some */
export function openReader(
  format: MeasurementFormat,
  beginning: Uint8Array,
  onSample: (sample: PathSample) => void,
): FileReader {
  switch (format) {
    case "atlas":
      return atlas(onSample);
    case "anchors":
      return anchors();
    case "probe":
      return probe(onSample);
    case "bgp-text":
    case "bgp-table":
    case "mrt":
      return routes(format);
    case "as-csv":
    case "place-csv":
      return ranges(format, beginning);
    case "mmdb":
      return mmdb();
  }
}

/** Counts of several readers, reason by reason. */
export function sumByReason(
  ...counts: readonly Readonly<Record<string, number>>[]
): Readonly<Record<string, number>> {
  const sum: Record<string, number> = {};
  for (const one of counts)
    for (const [reason, count] of Object.entries(one)) sum[reason] = (sum[reason] ?? 0) + count;
  return sum;
}

/** What samples are about, for people. */
class SampleFacts {
  readonly #agents = new Set<string>();
  readonly #pairs = new Set<string>();
  #samples = 0;
  #lost = 0;
  #firstAt = Infinity;
  #lastAt = -Infinity;

  add({ agent, from, to, at, rttMs }: PathSample): void {
    this.#samples++;
    if (rttMs === null) this.#lost++;
    if (this.#agents.size < NAMES_MAX) this.#agents.add(agent);
    if (this.#pairs.size < NAMES_MAX) this.#pairs.add(`${from} ${to}`);
    this.#firstAt = Math.min(this.#firstAt, at);
    this.#lastAt = Math.max(this.#lastAt, at);
  }

  facts(): Record<string, number | string> {
    const times = this.#samples === 0 ? {} : { from: dateOf(this.#firstAt), to: dateOf(this.#lastAt) };
    return {
      samples: this.#samples,
      lost: this.#lost,
      agents: this.#agents.size,
      pairs: this.#pairs.size,
      ...times,
    };
  }
}
/** Names that are counted in one file; a number that stands at it means "or more". */
const NAMES_MAX = 1_000_000;

const dateOf = (at: number): string => new Date(at).toISOString();

function atlas(onSample: (sample: PathSample) => void): FileReader {
  const facts = new SampleFacts();
  const types: Record<AtlasResult["type"], number> = { ping: 0, traceroute: 0 };
  const reader = new AtlasReader((result) => {
    types[result.type]++;
    for (const sample of atlasSamples(result)) {
      facts.add(sample);
      onSample(sample);
    }
  });
  return {
    read: (chunk) => reader.read(chunk),
    end: () => {
      reader.end();
      const { ping: pings, traceroute: traceroutes } = types;
      return { summary: reader.tally.summary(), facts: { pings, traceroutes, ...facts.facts() } };
    },
  };
}

function anchors(): FileReader {
  const counts = { disabled: 0, "with IPv6": 0, "without coordinates": 0 };
  const reader = new AtlasAnchorReader(({ isDisabled, ipv6, coordinates }) => {
    if (isDisabled) counts.disabled++;
    if (ipv6 !== null) counts["with IPv6"]++;
    if (coordinates === null) counts["without coordinates"]++;
  });
  return {
    read: (chunk) => reader.read(chunk),
    end: () => {
      reader.end();
      const pages = reader.tally.summary();
      const { taken, skipped, examples } = reader.anchorTally.summary();
      return {
        summary: {
          taken,
          skipped: sumByReason(pages.skipped, skipped),
          examples: [...pages.examples, ...examples],
        },
        facts: counts,
      };
    },
  };
}

function probe(onSample: (sample: PathSample) => void): FileReader {
  const facts = new SampleFacts();
  let unmeasured = 0;
  const reader = new ProbeReader((record) => {
    const sample = probeSample(record);
    if (sample === undefined) {
      unmeasured++;
      return;
    }
    facts.add(sample);
    onSample(sample);
  });
  return {
    read: (chunk) => reader.read(chunk),
    end: () => {
      reader.end();
      return { summary: reader.tally.summary(), facts: { ...facts.facts(), unmeasured } };
    },
  };
}

function routes(format: "bgp-text" | "bgp-table" | "mrt"): FileReader {
  const peers = new Set<string>();
  const origins = new Set<number>();
  const counts = { ipv4: 0, ipv6: 0, withdrawn: 0, withPathId: 0 };
  const sink = {
    route: ({
      prefix,
      originAs,
      peerAddress,
      pathId,
    }: Parameters<ConstructorParameters<typeof MrtReader>[0]["route"]>[0]) => {
      counts[prefix.address.family === 4 ? "ipv4" : "ipv6"]++;
      if (pathId !== null) counts.withPathId++;
      if (peers.size < NAMES_MAX) peers.add(peerAddress);
      if (origins.size < NAMES_MAX) for (const as of originAs) origins.add(as);
    },
    withdrawal: () => {
      counts.withdrawn++;
    },
  };
  const Reader = { mrt: MrtReader, "bgp-text": BgpTextReader, "bgp-table": BgpTableTextReader }[format];
  const reader = new Reader(sink);
  return {
    read: (chunk) => reader.read(chunk),
    end: () => {
      reader.end();
      const { ipv4, ipv6, withdrawn, withPathId } = counts;
      return {
        summary: reader.tally.summary(),
        facts: {
          "IPv4 routes": ipv4,
          "IPv6 routes": ipv6,
          withdrawn,
          "with path id": withPathId,
          peers: peers.size,
          "origin AS": origins.size,
        },
      };
    },
  };
}

function ranges(format: "as-csv" | "place-csv", beginning: Uint8Array): FileReader {
  const first = new TextDecoder("latin1").decode(beginning.subarray(0, 100)).split(",", 1)[0] ?? "";
  // In the "-num" files an address is a number; those of IPv6 begin above all of IPv4.
  const numbers = /^[0-9]+$/.test(first) ? (Number(first) > 0xffff_ffff ? 6 : 4) : undefined;
  const reader =
    format === "as-csv" ? RangeCsvReader.ofAutonomousSystems(numbers) : RangeCsvReader.ofPlaces(numbers);
  return {
    read: (chunk) => reader.read(chunk),
    end: () => {
      reader.end();
      const { size, valueCount, bytes } = reader.table;
      return {
        summary: reader.tally.summary(),
        facts: { ranges: size, "different values": valueCount, bytes },
      };
    },
  };
}

function mmdb(): FileReader {
  const chunks: Uint8Array[] = [];
  let length = 0;
  return {
    read: (chunk) => {
      length += chunk.length;
      if (length > MMDB_BYTES_MAX) throw new UsageError(`an MMDB of more than ${MMDB_BYTES_MAX} bytes`);
      chunks.push(chunk);
    },
    end: () => {
      const { databaseType, buildEpochSeconds, ipVersion, nodeCount } = new MmdbReader(Buffer.concat(chunks))
        .metadata;
      return {
        summary: { taken: 1, skipped: {}, examples: [] },
        facts: {
          type: databaseType,
          built: dateOf(buildEpochSeconds * 1_000),
          "IP version": ipVersion,
          nodes: nodeCount,
        },
      };
    },
  };
}

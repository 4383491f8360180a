/** The files that client networks are cut from. What cannot be read is skipped, counted and told on standard error. */
import { ParseError, quoteValue } from "#kit";
import {
  type AutonomousSystem,
  autonomousSystemOf,
  BgpTableTextReader,
  BgpTextReader,
  BlockDemand,
  BlockDemandReader,
  type LabelledRuns,
  joinLabelled,
  MeasuredBlockReader,
  MeasuredBlocks,
  MmdbReader,
  MrtReader,
  type Place,
  placeOf,
  RangeCsvReader,
  type ReadSummary,
  RouteTable,
  runsOfDatabase,
  runsOfRanges,
} from "#mapping";
import { formatOf, type MeasurementFormat, SNIFF_BYTES } from "../measurements/formats.ts";
import { unpacked } from "../measurements/unpacked.ts";
import { UsageError } from "../usage.ts";

/** What all readers have in common. */
interface Reader {
  read(chunk: Uint8Array): void;
  end(): void;
  readonly tally: { summary(): ReadSummary };
}

/** Told of what has been read, for people. */
export type Progress = (text: string) => void;

const MMDB_BYTES_MAX = 1_073_741_824;
/** How often a long file is told of, bytes. */
const PROGRESS_BYTES = 256 * 1024 * 1024;

export async function readRoutes(files: readonly string[], progress: Progress): Promise<RouteTable> {
  const table = new RouteTable();
  for (const file of files)
    await readInto(file, progress, (beginning) => {
      const format = formatOf(beginning, file);
      if (format === "mrt") return new MrtReader(table);
      if (format === "bgp-text") return new BgpTextReader(table);
      if (format === "bgp-table") return new BgpTableTextReader(table);
      throw wrongFormat("--routes", file, format, "a BGP table as MRT, of bgpdump -m or of show ip bgp");
    });
  const { skipped } = table.tally.summary();
  progress(`routes: ${table.prefixCount} prefixes${skippedText(skipped)}`);
  return table;
}

export function readPlaces(
  files: readonly string[],
  progress: Progress,
): Promise<LabelledRuns<Place> | null> {
  return readRanges("--places", files, progress, {
    format: "place-csv",
    expected: "places as CSV or MMDB",
    readerOf: (numbers) => RangeCsvReader.ofPlaces(numbers),
    runsOf: (database) => runsOfDatabase(database, placeOf),
  });
}

export function readSystems(
  files: readonly string[],
  progress: Progress,
): Promise<LabelledRuns<AutonomousSystem> | null> {
  return readRanges("--as", files, progress, {
    format: "as-csv",
    expected: "AS numbers as CSV or MMDB",
    readerOf: (numbers) => RangeCsvReader.ofAutonomousSystems(numbers),
    runsOf: (database) => runsOfDatabase(database, autonomousSystemOf),
  });
}

export async function readDemand(files: readonly string[], progress: Progress): Promise<BlockDemand | null> {
  if (files.length === 0) return null;
  const demand = new BlockDemand();
  for (const file of files) await readInto(file, progress, () => new BlockDemandReader(demand));
  progress(`demand: ${demand.tally.taken} blocks${skippedText(demand.tally.summary().skipped)}`);
  return demand;
}

export async function readMeasured(files: readonly string[], progress: Progress) {
  if (files.length === 0) return null;
  const measured = new MeasuredBlocks();
  for (const file of files) await readInto(file, progress, () => new MeasuredBlockReader(measured));
  progress(`measured: ${measured.tally.taken} blocks${skippedText(measured.tally.summary().skipped)}`);
  return measured.build();
}

async function readRanges<T>(
  option: string,
  files: readonly string[],
  progress: Progress,
  kind: {
    readonly format: MeasurementFormat;
    readonly expected: string;
    readonly readerOf: (numbers: 4 | 6 | undefined) => RangeCsvReader<T>;
    readonly runsOf: (database: MmdbReader) => LabelledRuns<T>;
  },
): Promise<LabelledRuns<T> | null> {
  const tables: LabelledRuns<T>[] = [];
  for (const file of files) {
    if (/\.mmdb(\.gz)?$/.test(file)) {
      tables.push(kind.runsOf(await readDatabase(file)));
      progress(`${file}: MMDB read`);
      continue;
    }
    let reader: RangeCsvReader<T> | undefined;
    await readInto(file, progress, (beginning) => {
      const format = formatOf(beginning, file);
      if (format !== kind.format) throw wrongFormat(option, file, format, kind.expected);
      const text = new TextDecoder("latin1").decode(beginning.subarray(0, 100)).split(",", 1)[0] ?? "";
      // In the "-num" files an address is a number; those of IPv6 begin above all of IPv4.
      reader = kind.readerOf(/^[0-9]+$/.test(text) ? (Number(text) > 0xffff_ffff ? 6 : 4) : undefined);
      return reader;
    });
    if (reader !== undefined) tables.push(runsOfRanges(reader.table));
  }
  if (tables.length === 0) return null;
  try {
    return joinLabelled(tables);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UsageError(`${option}: ${error.message}; give tables of which each address is in one`);
  }
}

async function readDatabase(file: string): Promise<MmdbReader> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of unpacked(file)) {
    length += chunk.length;
    if (length > MMDB_BYTES_MAX)
      throw new UsageError(`${quoteValue(file)}: an MMDB of more than ${MMDB_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  try {
    return new MmdbReader(Buffer.concat(chunks));
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    throw new UsageError(`Cannot read ${quoteValue(file)}: ${error.message}`);
  }
}

/** Throws {@link UsageError} when nothing could be read: a wrong file must not pass for an empty one. */
async function readInto(
  file: string,
  progress: Progress,
  open: (beginning: Uint8Array) => Reader,
): Promise<void> {
  let reader: Reader | undefined;
  let beginning: Uint8Array = new Uint8Array(0);
  let bytes = 0;
  let toldBytes = 0;
  const begin = (): Reader => {
    const opened = open(beginning);
    opened.read(beginning);
    return opened;
  };
  for await (const chunk of unpacked(file)) {
    bytes += chunk.length;
    if (bytes - toldBytes >= PROGRESS_BYTES) {
      toldBytes = bytes;
      progress(`${file}: ${Math.round(bytes / 1_048_576)} MiB read`);
    }
    if (reader !== undefined) reader.read(chunk);
    else {
      beginning = Buffer.concat([beginning, chunk]);
      if (beginning.length >= SNIFF_BYTES) reader = begin();
    }
  }
  reader ??= begin();
  reader.end();
  const { taken, skipped, examples } = reader.tally.summary();
  const [example] = examples;
  const first = example === undefined ? "" : `; ${example.where}: ${example.why}`;
  if (taken === 0) throw new UsageError(`Nothing could be read of ${quoteValue(file)}${first}`, 1);
  progress(`${file}: ${taken} records${skippedText(skipped)}${first}`);
}

function skippedText(skipped: Readonly<Record<string, number>>): string {
  const texts = Object.entries(skipped).map(([reason, count]) => `${count} ${reason}`);
  return texts.length === 0 ? "" : `, skipped ${texts.join(", ")}`;
}

function wrongFormat(option: string, file: string, format: string | undefined, expected: string): UsageError {
  return new UsageError(
    `${option}: ${quoteValue(file)} looks like ${format ?? "no known format"}, expected ${expected}`,
  );
}

/** `isochrone measurements`: what is in files of measurements, routes and places; and measurements into the mapper. */
import { parseArgs } from "node:util";
import { array, integer, object, ParseError, type Parsed, quoteValue, record, string } from "#kit";
import type { PathSample } from "#mapping";
import {
  type FileReader,
  formatOf,
  type MeasurementFormat,
  measurementFormats,
  openReader,
  SNIFF_BYTES,
  sumByReason,
} from "./measurements/formats.ts";
import { askMapper, type Mapper, mappersOf, parseAnswer } from "./measurements/mapper.ts";
import { show } from "./measurements/show.ts";
import { unpacked } from "./measurements/unpacked.ts";
import { messageOf, UsageError } from "./usage.ts";

const help = `Usage: isochrone measurements check FILE... [--format FORMAT] [--json]
       isochrone measurements import FILE... [--format FORMAT] [--mapper URL] [--state DIR] [--json]
       isochrone measurements show FROM TO [--span 7d] [--mapper URL] [--state DIR] [--json]

check reads files and tells what is in them: how many records were read, how many were skipped and why. import hands
the samples of RIPE Atlas and probe files to every mapper, which take those between client networks and servers that it
knows, up to a week old. Files may be gzipped; "-" is standard input. They are read as they come, in bounded memory.
show asks the mapper what it keeps of a pair: FROM is a client network or a cluster, TO a cluster.

  --format FORMAT   ${measurementFormats.join(", ")};
                    told from the file unless given:
                    atlas      RIPE Atlas results (ping, traceroute), one a line or as the API answers
                    anchors    pages of RIPE Atlas anchors, with their places
                    probe      what "isochrone probe" writes
                    bgp-text   what "bgpdump -m" prints
                    bgp-table  what a router prints for "show ip bgp" (Cisco, Quagga, FRRouting)
                    mrt        BGP tables and updates (RFC 6396, add-path)
                    as-csv     first,last,as,organisation: the npm package @ip-location-db/asn
                    place-csv  first,last,country or with city and coordinates: @ip-location-db/*-country, *-city
                    mmdb       MaxMind DB
  --mapper URL      http://ADDRESS:PORT of the mapper's admin surface, with its token in ISOCHRONE_CONTROL_TOKEN;
                    unless given, all of the running world
  --span TIME       how far back show looks, 1s..7d; up to 6h in windows of 10 minutes, else of an hour
  --state DIR       which running world, when several run
  --json            one line of JSON for each file

Exit code 0 read; 1 nothing could be read of a file, or the mapper cannot be asked; 2 bad usage or no such file.

Examples:
  isochrone measurements check results.ndjson rib.20261126.0000.gz asn-ipv4.csv
  isochrone probe --targets targets.txt --from 198.18.0.1 | isochrone measurements import -
  isochrone measurements show berlin fra --span 6h`;

/** Samples in one request: a few MiB at most, and the mapper is not held up for long. */
const BATCH_SAMPLES = 5_000;
const LINE_FEED = 0x0a;

const intakeAnswer = object({
  taken: integer(),
  skipped: record(string({ max: 40 }), integer()),
  examples: array(
    object({ reason: string({ max: 40 }), where: string({ max: 100 }), why: string({ max: 400 }) }),
    { max: 100 },
  ),
});
type IntakeAnswer = Parsed<typeof intakeAnswer>;

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      format: { type: "string" },
      mapper: { type: "string" },
      state: { type: "string" },
      span: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    console.log(help);
    return 0;
  }
  const [what, ...files] = positionals;
  if (what === "show") return show(files, values);
  if (what !== "check" && what !== "import")
    throw new UsageError(`got ${quoteValue(what ?? "")}, expected check, import or show; see --help`);
  if (files.length === 0) throw new UsageError("no file is named; see --help");
  const format = measurementFormats.find((one) => one === values.format);
  if (values.format !== undefined && format === undefined)
    throw new UsageError(
      `--format: got ${quoteValue(values.format)}, expected one of ${measurementFormats.join(", ")}`,
    );
  const mappers = what === "import" ? mappersOf(values.mapper, values.state) : [];
  let code = 0;
  for (const file of files) {
    const report = await readFile(file, format, mappers);
    console.log(values.json === true ? JSON.stringify(report) : formatReport(report));
    if (report.summary.taken === 0) code = 1;
  }
  return code;
}

interface FileReport extends ReturnType<FileReader["end"]> {
  readonly file: string;
  readonly format: MeasurementFormat;
  /** What the mapper made of the samples. */
  readonly mapper?: IntakeAnswer;
}

async function readFile(
  file: string,
  given: MeasurementFormat | undefined,
  mappers: readonly Mapper[],
): Promise<FileReport> {
  let reader: FileReader | undefined;
  let format = given;
  let batch: PathSample[] = [];
  const answers: IntakeAnswer[] = [];
  const open = (beginning: Uint8Array): FileReader => {
    format ??= formatOf(beginning, file);
    if (format === undefined)
      throw new UsageError(`${quoteValue(file)} looks like no known format; name it with --format`);
    if (mappers.length > 0 && format !== "atlas" && format !== "probe")
      throw new UsageError(
        `${quoteValue(file)} is ${format}: only samples (atlas, probe) go to the mapper; "check" reads it`,
      );
    return openReader(format, beginning, (sample) => mappers.length > 0 && batch.push(sample));
  };
  const send = async (): Promise<void> => {
    if (mappers.length === 0) return;
    while (batch.length > 0) {
      answers.push(await handToAll(mappers, batch.slice(0, BATCH_SAMPLES)));
      batch = batch.slice(BATCH_SAMPLES);
    }
  };
  let beginning: Uint8Array = new Uint8Array(0);
  for await (const chunk of unpacked(file)) {
    if (reader !== undefined) reader.read(chunk);
    else {
      beginning = Buffer.concat([beginning, chunk]);
      const isEnough = beginning.includes(LINE_FEED) && (given ?? formatOf(beginning, file)) !== undefined;
      if (!isEnough && beginning.length < SNIFF_BYTES) continue;
      reader = open(beginning);
      reader.read(beginning);
    }
    // What comes through a pipe comes from an agent that is at work: it counts now.
    if (batch.length >= BATCH_SAMPLES || file === "-") await send();
  }
  if (reader === undefined) {
    reader = open(beginning);
    reader.read(beginning);
  }
  let read: ReturnType<FileReader["end"]>;
  try {
    read = reader.end();
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    throw new UsageError(`Cannot read ${quoteValue(file)}: ${error.message}`, 1);
  }
  await send();
  return {
    file,
    format: format as MeasurementFormat,
    ...read,
    ...(mappers.length > 0 && { mapper: sumOf(answers) }),
  };
}

/** Each mapper keeps its own: one that cannot be asked is told of, and the others have them. */
async function handToAll(mappers: readonly Mapper[], samples: readonly PathSample[]): Promise<IntakeAnswer> {
  const results = await Promise.allSettled(mappers.map((mapper) => hand(mapper, samples)));
  const taken = results.find((one) => one.status === "fulfilled");
  const failed = results.filter((one) => one.status === "rejected");
  if (taken === undefined) throw failed[0]?.reason;
  for (const { reason } of failed) console.error(`isochrone measurements: ${messageOf(reason)}`);
  return taken.value;
}

async function hand(mapper: Mapper, samples: readonly PathSample[]): Promise<IntakeAnswer> {
  const { status, body } = await askMapper(mapper, "/.isochrone/measurements", {
    method: "POST",
    headers: { "content-type": "application/x-ndjson" },
    body: samples.map((one) => JSON.stringify(one)).join("\n"),
  });
  return parseAnswer(mapper, status, () => intakeAnswer.parse(body));
}

function sumOf(answers: readonly IntakeAnswer[]): IntakeAnswer {
  return {
    taken: answers.reduce((sum, { taken }) => sum + taken, 0),
    skipped: sumByReason(...answers.map(({ skipped }) => skipped)),
    // Those of the first request stand for the others.
    examples: answers[0]?.examples ?? [],
  };
}

function formatReport({ file, format, summary, facts, mapper }: FileReport): string {
  const factsText = Object.entries(facts).map(([name, value]) => `${name} ${value}`);
  const lines = [
    `${file}: ${format}, ${summary.taken} records read; ${factsText.join(", ")}`,
    ...skippedLines(summary),
  ];
  if (mapper !== undefined) lines.push(`  mapper: ${mapper.taken} samples taken`, ...skippedLines(mapper));
  return lines.join("\n");
}

function skippedLines({ skipped, examples }: Pick<IntakeAnswer, "skipped" | "examples">): string[] {
  return Object.entries(skipped).map(([reason, count]) => {
    const example = examples.find((one) => one.reason === reason);
    return `  skipped: ${count} ${reason}${example === undefined ? "" : `; ${example.where}: ${example.why}`}`;
  });
}

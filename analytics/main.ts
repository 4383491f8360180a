/** `isochrone traffic`: what access records add up to. */
import { parseArgs } from "node:util";
import { formatBytes, IsochroneError } from "#kit";
import { analyticsSettings } from "./config.ts";
import {
  type Grouping,
  groupings,
  TrafficGroups,
  type TrafficRow,
  type TrafficSummary,
} from "./core/summary.ts";
import { type BadLines, readRecords } from "./io/record-reader.ts";

const HELP = `Usage: isochrone traffic FILE... [--by property|status|path] [--json]

Adds up access records: requests, hit ratio, bytes, errors and times.

  --by      what a row stands for; property unless told
  --json    one JSON object in place of the table
  --help    this text

Examples:
  isochrone traffic .isochrone/nodes/*/access.ndjson
  isochrone traffic access.ndjson access.ndjson.1 --by path
  isochrone traffic access.ndjson --by status --json
`;

/** Rows of the table; --json has all. */
const ROWS_SHOWN_MAX = 50;

/** Exit code: 0, or 2 for bad usage or a file that cannot be read. Lines that are no record do not fail it: they are counted. */
export async function main(argv: readonly string[]): Promise<number> {
  let values: { by?: string; json?: boolean; help?: boolean };
  let files: readonly string[];
  try {
    const options = { by: { type: "string" }, json: { type: "boolean" }, help: { type: "boolean" } } as const;
    const parsed = parseArgs({ args: [...argv], options, strict: true, allowPositionals: true });
    ({ values, positionals: files } = parsed);
  } catch (error) {
    return refuse(`${error instanceof Error ? error.message : String(error)}; see isochrone traffic --help`);
  }
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const by = groupings.find((grouping) => grouping === (values.by ?? "property"));
  if (by === undefined)
    return refuse(`--by: got ${JSON.stringify(values.by)}, expected ${groupings.join(", ")}`);
  if (files.length === 0) return refuse("no FILE; see isochrone traffic --help");

  const groups = new TrafficGroups(by, analyticsSettings.keysMax);
  const bad: BadLines = { count: 0, told: [] };
  try {
    for (const file of files) {
      for await (const record of readRecords(file, bad)) groups.add(record);
    }
  } catch (error) {
    if (error instanceof IsochroneError) return refuse(error.message);
    throw error;
  }
  const summary = groups.summary();
  if (values.json === true) {
    process.stdout.write(`${JSON.stringify({ files, by, badLines: bad.count, ...summary })}\n`);
  } else {
    process.stdout.write(table(by, summary));
  }
  if (bad.count > 0) {
    process.stderr.write(
      `isochrone traffic: ${bad.count} lines are no access record and were left out:\n${bad.told.join("\n")}\n`,
    );
  }
  return 0;
}

function refuse(why: string): number {
  process.stderr.write(`isochrone traffic: ${why}\n`);
  return 2;
}

function table(by: Grouping, summary: TrafficSummary): string {
  const head = [by, "requests", "hit", "down", "up", "4xx", "5xx", "p50 ms", "p95 ms", "p99 ms", "ttfb p95"];
  const shown = summary.rows.slice(0, ROWS_SHOWN_MAX);
  const rows = [...shown, summary.total].map(cellsOf);
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]) =>
    `${cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))).join("  ")}\n`;
  const hidden = summary.rows.length - shown.length;
  const { fromEpochMs, toEpochMs } = summary;
  const span =
    fromEpochMs === null || toEpochMs === null
      ? "no records\n"
      : `${summary.records} records from ${new Date(fromEpochMs).toISOString()} to ${new Date(toEpochMs).toISOString()}\n`;
  return (
    span + line(head) + rows.map(line).join("") + (hidden > 0 ? `${hidden} more rows: --json has them\n` : "")
  );
}

function cellsOf(row: TrafficRow): string[] {
  return [
    printable(row.key),
    String(row.requests),
    `${(row.hitRatio * 100).toFixed(1)}%`,
    formatBytes(row.bytesDown),
    formatBytes(row.bytesUp),
    String(row.status4xx),
    String(row.status5xx),
    ...[row.durationMs.p50, row.durationMs.p95, row.durationMs.p99, row.ttfbMs.p95].map((ms) =>
      ms.toFixed(1),
    ),
  ];
}

/** A path is a stranger's text: no control character reaches the terminal, and it does not break the table. */
function printable(text: string): string {
  const safe = text.replace(/[\p{C}\u2028\u2029]/gu, "?");
  return safe.length > 60 ? `${safe.slice(0, 57)}...` : safe;
}

/** Kept results: reading a directory of JSON files, and the headline figures that README shows. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type BenchResult, labelOf, type Run } from "./measure.ts";

/** A JSON file in the directory that is not a comparison of servers: what another program printed. */
export interface OtherResult {
  readonly file: string;
  readonly value: unknown;
}

/** A comparison as it lies there: one program may have run on several machines. */
export interface KeptResult extends BenchResult {
  /** The name of its file without `.json`. */
  readonly title: string;
}

export interface Results {
  readonly comparisons: readonly KeptResult[];
  readonly others: readonly OtherResult[];
}

/** Comparisons first in this order, then by name. */
const ORDER = ["hit", "tls", "workers", "miss"];

function isComparison(value: unknown): value is BenchResult {
  return (
    typeof value === "object" &&
    value !== null &&
    "name" in value &&
    "medians" in value &&
    Array.isArray(value.medians) &&
    "ratios" in value &&
    Array.isArray(value.ratios)
  );
}

/** @throws Error (with `syscall`) when the directory cannot be read; SyntaxError names a file that is not JSON */
export function readResults(directory: string): Results {
  const comparisons: KeptResult[] = [];
  const others: OtherResult[] = [];
  for (const file of readdirSync(directory).toSorted((a, b) => (a < b ? -1 : 1))) {
    if (!file.endsWith(".json")) continue;
    let value: unknown;
    try {
      value = JSON.parse(readFileSync(join(directory, file), "utf8"));
    } catch (error) {
      if (error instanceof SyntaxError) throw new SyntaxError(`${join(directory, file)}: ${error.message}`);
      throw error;
    }
    if (isComparison(value)) comparisons.push({ ...value, title: file.slice(0, -".json".length) });
    else others.push({ file, value });
  }
  const place = (name: string): number => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  return { comparisons: comparisons.toSorted((a, b) => place(a.name) - place(b.name)), others };
}

/** Three significant digits, thousands apart. */
export function figure(value: number): string {
  if (value >= 1000) return Math.round(value).toLocaleString("en-US");
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** The rows of a comparison: for each workload the medians of all servers, ours first. */
export function rowsOf(result: BenchResult): { workload: string; note: string; runs: readonly Run[] }[] {
  return result.workloads.map(({ name, note }) => ({
    workload: name,
    note,
    runs: result.medians
      .filter((run) => run.workload === name)
      .toSorted((a, b) => Number(b.server === "isochrone") - Number(a.server === "isochrone")),
  }));
}

/** Servers of the headline table, where they were measured: ours as it is started, each peer in its tuned form. */
const HEADLINE = [
  "isochrone/default",
  "isochrone/libuv",
  "nginx/default",
  "nginx/tuned",
  "nginx/tuned-small",
  "nginx/proxy-pass",
  "varnish/tuned",
  "trafficserver/tuned",
  "haproxy/tuned",
];

/**
 * Microseconds of server CPU for a request, the median of the rounds, behind each peer how much more work ours does with a CPU-second;
 * and beneath on what, when and under which load that was measured.
 */
export function headlineTable(result: BenchResult): string {
  const isScaling = result.name === "workers";
  const columns = HEADLINE.filter((label) => result.medians.some((run) => labelOf(run) === label));
  const labels = columns.length > 0 && !isScaling ? columns : [...new Set(result.medians.map(labelOf))];
  const rows = rowsOf(result).map((row) => {
    const cells = labels.map((label) => {
      const run = row.runs.find((one) => labelOf(one) === label);
      if (run === undefined) return "-";
      const ratio = result.ratios.find(
        (one) => one.workload === row.workload && (isScaling ? one.server : one.peer) === label,
      );
      const beside = ratio === undefined ? "" : ` (${isScaling ? "scaling" : "x"} ${ratio.ratio.toFixed(2)})`;
      return `${figure(run.cpuMicrosecondsPerRequest)}${beside}`;
    });
    return `| ${row.note} | ${cells.join(" | ")} |`;
  });
  const meaning = isScaling
    ? "what two workers do over what one does: completed requests where they are full, else twice the work of a CPU-second"
    : "the work of a CPU-second of ours over the peer's";
  return [
    `| ${result.name} | ${labels.join(" | ")} |`,
    `|---|${labels.map(() => "---:|").join("")}`,
    ...rows,
    "",
    `Microseconds of server CPU (user + system) a request, median of ${result.options.rounds} rounds of ${result.options.seconds} s; in brackets ${meaning}. ${provenance(result)}`,
    "",
  ].join("\n");
}

/** On what, of what, when and under which load a comparison was measured. */
export function provenance({ machine, versions, runs, commit, date }: BenchResult): string {
  const loads = runs.map(({ loadAverage }) => loadAverage);
  const load =
    loads.length === 0 ? "" : `; load average ${figure(Math.min(...loads))} to ${figure(Math.max(...loads))}`;
  const programs = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  return `${machine.cpu}, ${machine.cores} cores, ${machine.kernel}; ${programs.join(", ")}; commit ${commit}, ${date.slice(0, 10)}${load}.`;
}

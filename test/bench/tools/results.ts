/** Kept results: reading a directory of JSON files, and the headline figures that README shows. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type BenchResult, labelOf, type Run } from "./measure.ts";

/** A JSON file in the directory that is not a comparison of servers: what another program printed. */
export interface OtherResult {
  readonly file: string;
  readonly value: unknown;
}

export interface Results {
  readonly comparisons: readonly BenchResult[];
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
  const comparisons: BenchResult[] = [];
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
    if (isComparison(value)) comparisons.push(value);
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
  "nginx/default",
  "nginx/tuned",
  "nginx/tuned-small",
  "nginx/proxy-pass",
  "varnish/tuned",
  "trafficserver/tuned",
  "haproxy/tuned",
];

/**
 * The headline table of README: microseconds of server CPU for a request, the median of the rounds, and behind each peer how much
 * more work ours does with a CPU-second.
 */
export function headlineMarkdown(results: readonly BenchResult[]): string {
  const lines: string[] = [];
  for (const result of results) {
    const columns = HEADLINE.filter((label) => result.medians.some((run) => labelOf(run) === label));
    const labels =
      columns.length > 0 && result.name !== "workers" ? columns : [...new Set(result.medians.map(labelOf))];
    lines.push(`| ${result.name} | ${labels.join(" | ")} |`, `|---|${labels.map(() => "---:|").join("")}`);
    for (const row of rowsOf(result)) {
      const cells = labels.map((label) => {
        const run = row.runs.find((one) => labelOf(one) === label);
        if (run === undefined) return "-";
        const ratio = result.ratios.find(
          (one) =>
            one.workload === row.workload && (result.name === "workers" ? one.server : one.peer) === label,
        );
        const word = result.name === "workers" ? "scaling" : "x";
        const beside = ratio === undefined ? "" : ` (${word} ${ratio.ratio.toFixed(2)})`;
        return `${figure(run.cpuMicrosecondsPerRequest)}${beside}`;
      });
      lines.push(`| ${row.note} | ${cells.join(" | ")} |`);
    }
    lines.push("");
  }
  const [first] = results;
  if (first !== undefined)
    lines.push(
      `Microseconds of server CPU (user + system) a request, median of ${first.options.rounds} rounds of ${first.options.seconds} s; in brackets` +
        ` the work of a CPU-second of ours over the peer's. ${first.machine.cpu}, ${first.machine.cores} cores, ${first.machine.kernel};` +
        ` ${Object.entries(
          Object.assign({}, ...results.map((result) => result.versions)) as Record<string, string>,
        )
          .map(([name, version]) => `${name} ${version}`)
          .join(", ")}; commit ${first.commit}, ${first.date.slice(0, 10)}.`,
    );
  return `${lines.join("\n")}\n`;
}

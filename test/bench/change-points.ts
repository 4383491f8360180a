/**
 * Changes of travel time that people marked in 50 series of RIPE Atlas (Shao, Rougier, Devienne, Viste, "One-to-one matching of RTT and
 * path changes", ITC 2017), found as the samples come: precision and recall of the estimator's detector and of a threshold.
 * The threshold has the best settings that a search over the very series it is scored on has found; the detector's are fixed.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { quantile } from "#kit";
import { ChangeDetector } from "#mapping";
import { UsageError } from "../../cli/usage.ts";
import { describeCommit } from "./tools/machine.ts";
import { scratchDirectory } from "./tools/program.ts";

export const summary = "changes of travel time found in series that people have labelled";

/** A detection within so many samples of a label is right: 12 and 40 minutes. */
const TOLERANCES = [3, 10] as const;

const help = `Usage: npm run bench -- change-points --data FILE

${summary}

  --data FILE   rtt_timeseries.tar.gz of the labelled data set (github.com/WenqinSHAO/rtt)
  --help
`;

interface Series {
  readonly rtts: readonly number[];
  /** Places of the labels. */
  readonly labels: readonly number[];
}

function read(archive: string): Series[] {
  const directory = scratchDirectory("change-points");
  execFileSync("tar", ["-xzf", archive, "-C", directory]);
  const files = readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((name) => /real_trace_labelled\/[^/]+\.csv$/.test(name))
    .sort();
  return files.map((name) => {
    const rows = readFileSync(join(directory, name), "utf8").trim().split("\n").slice(1);
    const rtts: number[] = [];
    const labels: number[] = [];
    for (const row of rows) {
      const [, rtt, label] = row.split(";");
      if (label === "1") labels.push(rtts.length);
      // Lost samples stand as negative numbers.
      if (Number(rtt) > 0) rtts.push(Number(rtt));
    }
    return { rtts, labels };
  });
}

type Detect = (rtts: readonly number[]) => number[];

const cumulative: Detect = (rtts) => {
  const detector = new ChangeDetector();
  return rtts.flatMap((rtt, at) => {
    const change = detector.handleSample(rtt);
    return change === undefined ? [] : [at - change.samples + 1];
  });
};

/** `count` samples in a row further than `ms` from the median of the last `window` that were not. */
function threshold(window: number, count: number, ms: number): Detect {
  return (rtts) => {
    let base: number[] = [];
    let middle = Number.NaN;
    let away = 0;
    return rtts.flatMap((rtt, at) => {
      if (base.length >= 5 && Math.abs(rtt - middle) > ms) {
        if (++away < count) return [];
        base = [];
        away = 0;
        return [at - count + 1];
      }
      away = 0;
      base.push(rtt);
      if (base.length > window) base.shift();
      // The middle of slowly moving samples: now and then is often enough.
      if (base.length < 6 || at % 4 === 0)
        middle = quantile(
          base.toSorted((a, b) => a - b),
          0.5,
        );
      return [];
    });
  };
}

interface Figures {
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
}

/** Each label answers for one detection at most, the nearest first. */
function figures(all: readonly Series[], found: readonly (readonly number[])[], tolerance: number): Figures {
  let matched = 0;
  let detections = 0;
  let labels = 0;
  for (const [n, series] of all.entries()) {
    const own = found[n] ?? [];
    detections += own.length;
    labels += series.labels.length;
    const pairs = series.labels
      .flatMap((label) => own.map((at) => ({ label, at, apart: Math.abs(at - label) })))
      .filter(({ apart }) => apart <= tolerance)
      .sort((a, b) => a.apart - b.apart);
    const usedLabels = new Set<number>();
    const used = new Set<number>();
    for (const { label, at } of pairs) {
      if (usedLabels.has(label) || used.has(at)) continue;
      usedLabels.add(label);
      used.add(at);
      matched++;
    }
  }
  const precision = detections === 0 ? 0 : matched / detections;
  const recall = labels === 0 ? 0 : matched / labels;
  return { precision, recall, f1: matched === 0 ? 0 : (2 * precision * recall) / (precision + recall) };
}

function scoresOf(all: readonly Series[], detect: Detect): Record<string, Figures> {
  const found = all.map(({ rtts }) => detect(rtts));
  return Object.fromEntries(
    TOLERANCES.map((tolerance) => [`within${tolerance}Samples`, figures(all, found, tolerance)]),
  );
}

export function main(argv: readonly string[]): number {
  const { values } = parseArgs({
    args: [...argv],
    options: { data: { type: "string" }, help: { type: "boolean", default: false } },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  if (values.data === undefined)
    throw new UsageError("--data FILE is needed: the archive of labelled series");
  const all = read(values.data);
  const heldOut = all.filter((_, n) => n % 2 === 1);
  let best: { settings: string; f1: number; detect: Detect } | undefined;
  for (const window of [10, 40])
    for (const count of [1, 3, 6, 10])
      for (const ms of [1, 2, 4, 8, 16]) {
        const detect = threshold(window, count, ms);
        const { f1 } = figures(
          all,
          all.map(({ rtts }) => detect(rtts)),
          TOLERANCES[1],
        );
        console.error(`threshold ${ms} ms, ${count} in a row, median of ${window}: F1 ${f1.toFixed(3)}`);
        if (best === undefined || f1 > best.f1)
          best = { settings: `${ms} ms, ${count} in a row, median of ${window}`, f1, detect };
      }
  const result = {
    name: "change-points",
    date: new Date().toISOString(),
    commit: describeCommit(),
    series: all.length,
    samples: all.reduce((sum, { rtts }) => sum + rtts.length, 0),
    labels: all.reduce((sum, { labels }) => sum + labels.length, 0),
    detector: { all: scoresOf(all, cumulative), heldOut: scoresOf(heldOut, cumulative) },
    threshold: best && {
      settings: best.settings,
      all: scoresOf(all, best.detect),
      heldOut: scoresOf(heldOut, best.detect),
    },
  };
  console.log(JSON.stringify(result, undefined, 2));
  return 0;
}

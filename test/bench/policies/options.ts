/** What the benchmarks on traces have in common: the options that name a trace, and where the result goes. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { UsageError } from "../../../cli/usage.ts";
import type { Ratios } from "./replay.ts";
import { type Trace, traceByName } from "./traces.ts";

/** For `parseArgs`. */
export const TRACE_OPTIONS = {
  data: { type: "string" },
  scale: { type: "string" },
  seed: { type: "string", default: "1" },
  out: { type: "string" },
  help: { type: "boolean" },
} as const;

export const TRACE_HELP = `  --data DIR          directory with traces/adaptsize-request.trace[.xz] and traces/tragen/ (default: $ISOCHRONE_DATA)
  --scale N           a synthetic trace is 1/N of what its descriptor describes (default: 100, 8 for tc-0)
  --seed N            of the synthetic traces (default 1)
  --out FILE          keep the JSON there too
  --help`;

interface TraceValues {
  readonly data?: string | undefined;
  readonly scale?: string | undefined;
  readonly seed: string;
}

/** @throws UsageError when no directory is named, or no such trace is known */
export function traceOf(name: string, values: TraceValues): Trace {
  const data = values.data ?? process.env["ISOCHRONE_DATA"];
  if (data === undefined || data === "")
    throw new UsageError("where are the traces? --data DIR or ISOCHRONE_DATA names their directory");
  const scale = values.scale === undefined ? undefined : Number(values.scale);
  return traceByName(name, data, Number(values.seed), scale);
}

/** Prints a result as JSON and keeps it where `--out` says. */
export function publishJson(result: object, out: string | undefined): void {
  const text = JSON.stringify(result, undefined, 1);
  console.log(text);
  if (out === undefined) return;
  mkdirSync(dirname(out), { recursive: true });
  writeFileSync(out, `${text}\n`);
}

/** A ratio in percent with two decimals. */
export const percent = (ratio: number): number => Math.round(ratio * 10_000) / 100;

export const percents = ({ objectHitRatio, byteHitRatio }: Ratios) => ({
  objectHitPercent: percent(objectHitRatio),
  byteHitPercent: percent(byteHitRatio),
});

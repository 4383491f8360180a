/** The options that every comparing benchmark has, and what it does with its result. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { UsageError } from "../../../cli/usage.ts";
import type { Server } from "../peers/peer.ts";
import { type BenchResult, labelOf, type Workload } from "./measure.ts";

export interface BenchOptions {
  readonly seconds: number;
  readonly rounds: number;
  readonly warmUpSeconds: number;
  readonly servers: readonly Server[];
  readonly workloads: readonly Workload[];
  readonly out: string | undefined;
}

type Lengths = Pick<BenchOptions, "seconds" | "rounds" | "warmUpSeconds">;
const LENGTHS: Lengths = { seconds: 5, rounds: 3, warmUpSeconds: 2 };

const help = ({ seconds, rounds, warmUpSeconds }: Lengths): string => `
  --seconds N        length of one load (default ${seconds})
  --rounds N         how often each server takes its turn (default ${rounds}); the figure is the median
  --warm-up N        seconds of load before the first round of each workload (default ${warmUpSeconds})
  --only LIST        servers by name or name/form, such as isochrone,nginx/tuned (default: all found on PATH)
  --workloads LIST   workloads by name (default: all)
  --out FILE         keep the JSON there too, for "npm run bench -- report --from DIR"
  --help
`;

function positive(flag: string, value: string | undefined, whenAbsent: number): number {
  if (value === undefined) return whenAbsent;
  const number = Number(value);
  if (!(number >= 0 && number <= 3600) || value === "")
    throw new UsageError(`--${flag}: got ${JSON.stringify(value)}, expected a number from 0 to 3600`);
  return number;
}

function listed<T>(
  flag: string,
  value: string | undefined,
  all: readonly T[],
  namesOf: (one: T) => readonly string[],
): readonly T[] {
  if (value === undefined) return all;
  const wanted = value.split(",").filter((name) => name !== "");
  for (const name of wanted)
    if (!all.some((one) => namesOf(one).includes(name)))
      throw new UsageError(
        `--${flag}: got ${JSON.stringify(name)}, expected some of ${[...new Set(all.flatMap(namesOf))].join(", ")}`,
      );
  return all.filter((one) => namesOf(one).some((name) => wanted.includes(name)));
}

/**
 * Reads the options of one benchmark. Servers whose program is missing are left out with a line on stderr. `lengths`: where the command line
 * says nothing.
 *
 * @returns undefined after `--help`
 * @throws UsageError
 */
export function benchOptions(
  argv: readonly string[],
  name: string,
  summary: string,
  servers: readonly Server[],
  workloads: readonly Workload[],
  lengths = LENGTHS,
): BenchOptions | undefined {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      seconds: { type: "string" },
      rounds: { type: "string" },
      "warm-up": { type: "string" },
      only: { type: "string" },
      workloads: { type: "string" },
      out: { type: "string" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    const forms = servers.map((server) => `  ${labelOf(server).padEnd(24)}${server.note}`);
    const loads = workloads.map((workload) => `  ${workload.name.padEnd(24)}${workload.note}`);
    console.log(
      `Usage: npm run bench -- ${name} [options]\n\n${summary}\n${help(lengths)}\nServers:\n${forms.join("\n")}\n\nWorkloads:\n${loads.join("\n")}`,
    );
    return undefined;
  }
  const wanted = listed("only", values.only, servers, (server) => [server.name, labelOf(server)]);
  const missing = new Set(
    wanted.filter((server) => server.program === undefined).map((server) => server.name),
  );
  if (missing.size > 0) console.error(`left out, not on PATH: ${[...missing].join(", ")}`);
  return {
    seconds: Math.max(1, Math.round(positive("seconds", values.seconds, lengths.seconds))),
    rounds: Math.max(1, Math.round(positive("rounds", values.rounds, lengths.rounds))),
    warmUpSeconds: Math.round(positive("warm-up", values["warm-up"], lengths.warmUpSeconds)),
    servers: wanted.filter((server) => server.program !== undefined),
    workloads: listed("workloads", values.workloads, workloads, (workload) => [workload.name]),
    out: values.out,
  };
}

/**
 * Prints the result as JSON on stdout, its ratios as a table on stderr, and keeps it where `--out` says.
 *
 * @returns the exit code: 1 when a server gave a wrong answer
 */
export function publish(result: BenchResult, out: string | undefined): number {
  const text = JSON.stringify(result, undefined, 1);
  console.log(text);
  if (out !== undefined) {
    mkdirSync(dirname(out), { recursive: true });
    writeFileSync(out, `${text}\n`);
  }
  for (const ratio of result.ratios)
    console.error(
      `${ratio.workload.padEnd(14)} ${ratio.server} = ${ratio.ratio.toFixed(2)} x ${ratio.peer.padEnd(22)} (rounds ${ratio.ratioMin.toFixed(2)} to ${ratio.ratioMax.toFixed(2)})`,
    );
  return result.leftOut.some((one) => one.isFault) ? 1 : 0;
}

/** `isochrone sim`: one run of the failover simulator. */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { readWorldText } from "#kit/io";
import { parseWorld } from "#kit/world";
import { BadUsage, isUsers, readOptions, worldName } from "./command-line.ts";
import { type FaultKind, faultKinds, isFaultKind } from "./core/faults.ts";
import { main as mainDay } from "./main-day.ts";
import { faultHelp, formatReport } from "./core/report.ts";
import { SECONDS_MIN, simulate, UnfitWorldError } from "./simulation.ts";

const HELP = `Usage: isochrone sim [WORLD] --seed N [options]
       isochrone sim day [options]     a day of the map over a large world; --help tells more

Runs the production cores of mapping, liveness, cache policy, path choice and control under a virtual clock and network, with faults
that follow from the seed, and checks what must always hold. WORLD is a path, or "demo" or "small" (default demo).

  --seed N         any text or number; the same seed gives the same run (default 1)
  --seconds N      virtual seconds before everything must converge, ${SECONDS_MIN}..86400 (default 120)
  --faults KINDS   exactly these kinds, joined by commas, or "all" (default: the seed draws)
  --json           the whole report for machines
  --trace FILE     every notable event, one a line

Kinds of faults:
${faultHelp()}

Exit code: 0 everything held; 1 an invariant broke, or a fault that was asked for never happened; 2 bad input.

Examples:
  isochrone sim --seed 7
  isochrone sim small --seed 7 --faults cluster-loss,control-partition
  isochrone sim my-world.yaml --seed 7 --json --trace trace.txt`;

function parseOptions(argv: readonly string[]) {
  return readOptions("isochrone sim", () =>
    parseArgs({
      args: [...argv],
      strict: true,
      allowPositionals: true,
      options: {
        seed: { type: "string", default: "1" },
        seconds: { type: "string", default: "120" },
        faults: { type: "string" },
        json: { type: "boolean", default: false },
        trace: { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    }),
  );
}

function kindsOf(text: string | undefined): readonly FaultKind[] | undefined {
  if (text === undefined) return undefined;
  if (text === "all") return faultKinds;
  return text.split(",").map((kind) => {
    if (isFaultKind(kind)) return kind;
    throw new BadUsage(
      `--faults: got ${JSON.stringify(kind)}, expected kinds out of ${faultKinds.join(", ")}, joined by commas, or "all"`,
    );
  });
}

function secondsOf(text: string): number {
  const seconds = /^[0-9]{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (seconds >= SECONDS_MIN && seconds <= 86_400) return seconds;
  throw new BadUsage(
    `--seconds: got ${JSON.stringify(text)}, expected a whole number from ${SECONDS_MIN} to 86400`,
  );
}

/** Returns the exit code; prints one line on stderr for bad input. */
export function main(argv: readonly string[]): Promise<number> {
  try {
    return Promise.resolve(run(argv));
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if (!(isUsers(error) || error instanceof UnfitWorldError)) return Promise.reject(error);
    console.error(`isochrone sim: ${error.message}`);
    return Promise.resolve(2);
  }
}

function run(argv: readonly string[]): number {
  if (argv[0] === "day") return mainDay(argv.slice(1));
  const { values, positionals } = parseOptions(argv);
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const name = worldName(positionals) ?? "demo";
  if (values.seed === "" || values.seed.length > 100)
    throw new BadUsage("--seed: expected 1 to 100 characters");
  const kinds = kindsOf(values.faults);
  const seconds = secondsOf(values.seconds);
  const world = parseWorld(readWorldText(name), name);
  const lines: string[] = [];
  const startedMs = process.cpuUsage();
  const report = simulate({
    world,
    seed: values.seed,
    seconds,
    kinds,
    ...(values.trace !== undefined && { onLine: (line: string) => void lines.push(line) }),
  });
  const { user, system } = process.cpuUsage(startedMs);
  if (values.trace !== undefined) writeFileSync(values.trace, lines.map((line) => `${line}\n`).join(""));
  console.log(values.json ? JSON.stringify(report, null, 2) : formatReport(report));
  console.error(`${seconds} virtual seconds took ${((user + system) / 1e6).toFixed(1)} s of CPU`);
  return report.verdict === "ok" ? 0 : 1;
}

/** `isochrone sim day`: a day of the map over a large world. */
import { parseArgs } from "node:util";
import { readWorldText } from "#kit/io";
import { generateWorld, parseWorld, type World } from "#kit/world";
import { BadUsage, isUsers, readOptions, worldName } from "./command-line.ts";
import { simulateDay } from "./day/day.ts";
import { formatDay } from "./day/format.ts";

const HELP = `Usage: isochrone sim day [WORLD] [--clusters 200] [--hours 24] [--minutes N] [--cycle-seconds 10] [--seed 1] [--json]

A day of virtual time of the production engine, failure detector and answers over a large world, with demand that follows the sun
and faults by seed: servers, clusters, a region, links, the mapper, reports. Load, regret and churn are told by the hour.
Without WORLD one is generated from the seed (see isochrone world generate).

  --clusters N        edge clusters of the generated world, 4..240
  --hours N           virtual hours, 1..24; --minutes N: minutes instead, 10..1440
  --cycle-seconds N   from one map to the next when nothing happens, a multiple of 5, 5..300
  --seed N            world and faults follow from it
  --json              the whole report for machines

Exit code: 0 everything held; 1 an invariant broke, or a fault was never noticed; 2 bad input.

Examples:
  isochrone sim day --clusters 200 --seed 1
  isochrone sim day demo --hours 2 --json`;

/** Returns the exit code; prints one line on stderr for bad input. */
export function main(argv: readonly string[]): number {
  try {
    return run(argv);
  } catch (error) {
    if (!(error instanceof Error && (isUsers(error) || error instanceof RangeError))) throw error;
    console.error(`isochrone sim day: ${error.message}`);
    return 2;
  }
}

function run(argv: readonly string[]): number {
  const { values, positionals } = parse(argv);
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const name = worldName(positionals);
  const whole = (
    name: "clusters" | "hours" | "minutes" | "seed" | "cycle-seconds",
    min: number,
    max: number,
  ): number => {
    const text = values[name] ?? "";
    const value = /^[0-9]{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    throw new BadUsage(
      `--${name}: got ${JSON.stringify(text)}, expected a whole number from ${min} to ${max}`,
    );
  };
  const seed = whole("seed", 0, 1e9);
  const world: World =
    name === undefined
      ? generateWorld({ clusters: whole("clusters", 4, 240), seed })
      : parseWorld(readWorldText(name), name);
  const cycleSeconds = whole("cycle-seconds", 5, 300);
  if (cycleSeconds % 5 !== 0)
    throw new BadUsage(`--cycle-seconds: got ${cycleSeconds}, expected a multiple of 5`);
  const seconds =
    values.minutes === undefined ? whole("hours", 1, 24) * 3_600 : whole("minutes", 10, 1_440) * 60;
  const startedAt = process.cpuUsage();
  const report = simulateDay({
    world,
    seed,
    seconds,
    cycleSeconds,
    onHour: (hour) => console.error(`hour ${hour}`),
  });
  const { user, system } = process.cpuUsage(startedAt);
  console.log(values.json ? JSON.stringify(report, null, 2) : formatDay(report));
  console.error(`${seconds} virtual seconds took ${((user + system) / 1e6).toFixed(1)} s of CPU`);
  return report.verdict === "ok" ? 0 : 1;
}

function parse(argv: readonly string[]) {
  return readOptions("isochrone sim day", () =>
    parseArgs({
      args: [...argv],
      strict: true,
      allowPositionals: true,
      options: {
        clusters: { type: "string", default: "200" },
        hours: { type: "string", default: "24" },
        minutes: { type: "string" },
        "cycle-seconds": { type: "string", default: "10" },
        seed: { type: "string", default: "1" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    }),
  );
}

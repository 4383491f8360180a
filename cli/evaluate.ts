/** `isochrone evaluate`: how good the production cores decide on round-trip times that others measured. */
import { parseArgs } from "node:util";
import { IsochroneError } from "#kit";
import {
  overlaySlicesUsage,
  overlayUsage,
  runOverlay,
  runOverlaySlices,
} from "./evaluate/command-overlay.ts";
import { reportUsage, runReport } from "./evaluate/command-report.ts";
import { resolversUsage, runResolvers } from "./evaluate/command-resolvers.ts";
import { runSlices, runYears, slicesUsage, yearsUsage } from "./evaluate/command-slices.ts";
import { evaluateMapping } from "./evaluate/mapping.ts";
import { type RttMatrix, readMatrix, statistics } from "./evaluate/matrix.ts";
import { statisticOf } from "./evaluate/options.ts";
import { evaluateSeeds, seedsSentence, seedsTable } from "./evaluate/seeds.ts";
import { type Figures, figuresTable } from "./evaluate/sites.ts";
import { fixed, textTable } from "./evaluate/table.ts";
import { commandLineError, ratio, UsageError, wholeNumber } from "./usage.ts";

const HELP = `Usage: isochrone evaluate mapping --matrix FILE [--sites 30] [--probes 5] [--seed 1] [--json]
                                 [--unmeasured-ratio 0] [--wrong-labels-ratio 0] [--seeds N]
       ${overlayUsage}
       ${overlaySlicesUsage}
       ${slicesUsage}
       ${yearsUsage}
       ${resolversUsage}
       ${reportUsage}

mapping: sites are cities of the matrix, clients all others; each client is measured against --probes sites, with noise,
and sent where the map says. overlay: between all pairs of sites, direct or through one of --candidates relays; overlay-slices: the same
choices through all slices of an archive, each begun with what the slice before knew.
slices: the map is made in each time slice of an archive and paid in the later ones. years: made of an older matrix, paid in a newer
one, in the cities that both have. resolvers: users behind distant resolvers, decided for by resolver, by its clients and by the user.
report: all of them as one page of Markdown with plots.
Times are ms. FILE is JSON ({names, coord, matrices}) or a plain square matrix, either gzipped, or a tar archive
with FILE#MEMBER naming one of its files.

  --matrix FILE        the measured matrix
  --statistic NAME     which matrix of a JSON file: ${statistics.join(", ")}
  --sites N            2..500
  --probes N           sites that each client is measured against, 1..500
  --candidates N       relays that are probed for each pair, 1..7
  --seed N             deployment and noise follow from it
  --seeds N            N deployments, with --seed and the next seeds, 1..1000 (slices, years 1..100); mapping tells the spread
                       and which miss the goals, the others take the mean
  --unmeasured-ratio R    share of the clients that are never measured, 0..1
  --wrong-labels-ratio R  share of the clients that are said to be in another city, 0..1
  --json               one line of JSON instead of a table

examples:
  isochrone evaluate mapping --matrix wondernetwork2018.json.gz --sites 30 --probes 5 --seed 1 --json
  isochrone evaluate mapping --matrix wondernetwork2018.json.gz --unmeasured-ratio 0.5 --wrong-labels-ratio 0.1
  isochrone evaluate mapping --matrix wondernetwork2018.json.gz --seeds 20
  isochrone evaluate overlay --matrix planetlab490.tar.gz#PlanetLabData_1 --sites 30 --candidates 3
  isochrone evaluate overlay-slices --matrix planetlab490.tar.gz
  isochrone evaluate slices --matrix planetlab490.tar.gz --probes 30
  isochrone evaluate resolvers --data ../data --sites 40,320
  isochrone evaluate report --data ../data --out report
  isochrone evaluate years --before wondernetwork2018.json.gz --after aws32.json
`;

/** Exit code 0, or 2 for a bad option or file, with one line on standard error. */
export async function main(argv: readonly string[]): Promise<number> {
  try {
    return await run(argv);
  } catch (error) {
    const isRange = error instanceof RangeError || error instanceof IsochroneError;
    const line = isRange ? error.message : commandLineError(error);
    if (line === undefined) throw error;
    process.stderr.write(`isochrone evaluate: ${line}\n`);
    return 2;
  }
}

const COMMANDS: Readonly<Record<string, (argv: readonly string[]) => string | Promise<string>>> = {
  overlay: runOverlay,
  "overlay-slices": runOverlaySlices,
  slices: runSlices,
  years: runYears,
  resolvers: runResolvers,
  report: runReport,
};

async function run(argv: readonly string[]): Promise<number> {
  const [name = "", ...others] = argv;
  if (Object.hasOwn(COMMANDS, name) && !others.some((one) => one === "--help" || one === "-h")) {
    process.stdout.write((await COMMANDS[name]?.(others)) ?? "");
    return 0;
  }
  const { values, positionals } = parse(argv);
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const [what, ...rest] = positionals;
  if (what !== "mapping" || rest.length > 0)
    throw new UsageError(
      `got ${positionals.length === 0 ? "nothing" : JSON.stringify(positionals.join(" "))}, expected mapping, ${Object.keys(COMMANDS).join(", ")}; --help shows examples`,
    );
  if (values.matrix === undefined)
    throw new UsageError("--matrix is missing: the file with the measured round-trip times");
  const count = (
    name: "sites" | "probes" | "seed" | "seeds",
    min: number,
    max: number,
    fallback: number,
  ): number => wholeNumber(`--${name}`, values[name], min, max, fallback);
  const sites = count("sites", 2, 500, 30);
  const seed = count("seed", 0, Number.MAX_SAFE_INTEGER, 1);
  const probes = count("probes", 1, 500, 5);
  const unmeasuredRatio = ratio("--unmeasured-ratio", values["unmeasured-ratio"], 0);
  const wrongLabelsRatio = ratio("--wrong-labels-ratio", values["wrong-labels-ratio"], 0);
  const matrix = readMatrix(values.matrix, statisticOf(values.statistic));
  const mapping = { sites, probes, seed, unmeasuredRatio, wrongLabelsRatio };
  const text =
    values.seeds === undefined
      ? mappingText(matrix, mapping, values.json === true)
      : seedsText(matrix, mapping, count("seeds", 1, 1_000, 20), values.json === true);
  process.stdout.write(text);
  return 0;
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      strict: true,
      options: {
        matrix: { type: "string" },
        statistic: { type: "string" },
        sites: { type: "string" },
        probes: { type: "string" },
        seed: { type: "string" },
        seeds: { type: "string" },
        "unmeasured-ratio": { type: "string" },
        "wrong-labels-ratio": { type: "string" },
        json: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw new UsageError((error instanceof Error ? error.message : String(error)).replaceAll(/\s+/g, " "));
  }
}

function mappingText(
  matrix: RttMatrix,
  options: Parameters<typeof evaluateMapping>[1],
  isJson: boolean,
): string {
  const { figures, clients, skipped, samples } = evaluateMapping(matrix, options);
  if (isJson) return `${JSON.stringify(figures)}\n`;
  const { optimal, nearest, random, worse10ms, measured, unmeasured, ...chosen } = figures;
  const over = (one: Figures, best: Figures): string =>
    (["mean", "p50", "p95", "p99"] as const)
      .map((name) => `${name} ${(one[name] / best[name]).toFixed(3)}`)
      .join(", ");
  const groups = [
    ["measured", measured],
    ["never measured", unmeasured],
  ] as const;
  return [
    `${clients} clients, ${options.sites} sites, ${options.probes} sites probed by each (${samples} samples), seed ${options.seed}${skipped > 0 ? `, ${skipped} clients without any site` : ""}`,
    ...figuresTable([
      ["map", chosen],
      ["optimal", optimal],
      [matrix.coordinates === null ? "nearest by landmarks" : "nearest by geography", nearest],
      ["random", random],
    ]),
    ...groups.flatMap(([name, group]) =>
      unmeasured === undefined || group === undefined
        ? []
        : [`${name}, ${group.clients} clients: map / optimal: ${over(group, group.optimal)}`],
    ),
    `map / optimal: ${over(chosen, optimal)}; ${(worse10ms * 100).toFixed(1)} % of clients more than 10 ms worse`,
    "",
  ].join("\n");
}

function seedsText(
  matrix: RttMatrix,
  options: Parameters<typeof evaluateMapping>[1],
  count: number,
  isJson: boolean,
): string {
  const evaluation = evaluateSeeds(matrix, options, count, ({ seed, meanRatio, missed }) =>
    process.stderr.write(
      `seed ${seed}: mean ${fixed(meanRatio)} x the optimum${missed.length > 0 ? `, misses ${missed.join(", ")}` : ""}\n`,
    ),
  );
  if (isJson) return `${JSON.stringify(evaluation)}\n`;
  return `${[
    `${options.sites} sites, ${options.probes} sites probed by each client, seeds ${options.seed} to ${options.seed + count - 1}; ratios are over the optimum`,
    textTable(seedsTable(evaluation)),
    seedsSentence(evaluation),
  ].join("\n")}\n`;
}

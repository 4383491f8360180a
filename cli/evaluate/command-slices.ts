/** `isochrone evaluate slices` and `years`: maps that are used later than they were measured. */
import { parseArgs } from "node:util";
import { wholeNumber } from "../usage.ts";
import { readMatrix, readSlices, type RttMatrix } from "./matrix.ts";
import { evaluateSlices, type SlicesEvaluation, type SlicesOptions, slicesTable } from "./slices.ts";
import { fixed, percent, textTable } from "./table.ts";
import { required } from "./options.ts";
import { sameCities } from "./years.ts";

export const slicesUsage =
  "isochrone evaluate slices --matrix ARCHIVE [--sites 30] [--probes 5] [--seed 1] [--seeds 1] [--json]";
export const yearsUsage =
  "isochrone evaluate years --before FILE --after FILE [--sites 8] [--probes 8] [--seed 1] [--seeds 20] [--json]";

const shared = {
  sites: { type: "string" },
  probes: { type: "string" },
  seed: { type: "string" },
  seeds: { type: "string" },
  json: { type: "boolean" },
} as const;

/** Decides in each time slice of an archive, pays in the later ones. */
export function runSlices(argv: readonly string[]): string {
  const { values } = parseArgs({
    args: [...argv],
    strict: true,
    options: { ...shared, matrix: { type: "string" } },
  });
  const options = optionsOf(values, { sites: 30, probes: 5, seeds: 1 });
  const slices = readSlices(required("--matrix", values.matrix, "the archive with the time slices"));
  return textOf(slices, options, values.json === true);
}

/** Decides on what was measured in one year, pays what was measured in another, in the cities that both have. */
export function runYears(argv: readonly string[]): string {
  const { values } = parseArgs({
    args: [...argv],
    strict: true,
    options: { ...shared, before: { type: "string" }, after: { type: "string" } },
  });
  const options = optionsOf(values, { sites: 8, probes: 8, seeds: 20 });
  const before = readMatrix(required("--before", values.before, "the older matrix"));
  const after = readMatrix(required("--after", values.after, "the newer matrix"));
  const slices = sameCities(before, after);
  process.stderr.write(`${slices[0].size} cities are in both: ${slices[0].names.join(", ")}\n`);
  return textOf(slices, options, values.json === true);
}

function optionsOf(
  values: Partial<Record<"sites" | "probes" | "seed" | "seeds", string>>,
  fallback: { readonly sites: number; readonly probes: number; readonly seeds: number },
): SlicesOptions {
  return {
    sites: wholeNumber("--sites", values.sites, 2, 500, fallback.sites),
    probes: wholeNumber("--probes", values.probes, 1, 500, fallback.probes),
    seed: wholeNumber("--seed", values.seed, 0, 1e9, 1),
    seeds: wholeNumber("--seeds", values.seeds, 1, 100, fallback.seeds),
  };
}

function textOf(slices: readonly RttMatrix[], options: SlicesOptions, isJson: boolean): string {
  const evaluation = evaluateSlices(slices, options, (seed) =>
    process.stderr.write(`seed ${seed} is done\n`),
  );
  if (isJson) return `${JSON.stringify(evaluation)}\n`;
  return `${[
    `${evaluation.slices} slices, ${evaluation.clients} clients, ${options.sites} sites, ${options.probes} probed by each client in each slice, ${options.seeds} seeds; costs over those of the best sites of the slice that is paid`,
    textTable(slicesTable(evaluation)),
    ...slicesSentences(evaluation),
  ].join("\n")}\n`;
}

function slicesSentences({ churn, nearest, countedFrom }: SlicesEvaluation): string[] {
  return [
    ...(countedFrom > 1
      ? [`maps are counted from slice ${countedFrom} on, when each client has found its sites`]
      : []),
    `sent elsewhere from one slice to the next: ${percent(churn.map)} of the clients; ${percent(churn.perfect)} have another best site`,
    ...(nearest === null
      ? []
      : [
          `nearest by geography: mean ${fixed(nearest.meanRatio)}, p95 ${fixed(nearest.p95Ratio)}, ${percent(nearest.worse10ms)} more than 10 ms worse`,
        ]),
  ];
}

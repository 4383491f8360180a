/** `isochrone evaluate overlay` and `overlay-slices`: what relays are worth, in one matrix and while the network moves. */
import { parseArgs } from "node:util";
import { wholeNumber } from "../usage.ts";
import { readMatrix, readSlices } from "./matrix.ts";
import { required, statisticOf } from "./options.ts";
import { evaluateOverlay } from "./overlay.ts";
import { evaluateOverlaySlices } from "./overlay-slices.ts";
import { figuresTable } from "./sites.ts";
import { fixed, percent, textTable } from "./table.ts";

export const overlayUsage =
  "isochrone evaluate overlay --matrix FILE [--sites 30] [--candidates 3] [--seed 1] [--json]";
export const overlaySlicesUsage =
  "isochrone evaluate overlay-slices --matrix ARCHIVE [--sites 30] [--candidates 3] [--seed 1] [--json]";

const shared = {
  matrix: { type: "string" },
  sites: { type: "string" },
  candidates: { type: "string" },
  seed: { type: "string" },
  json: { type: "boolean" },
} as const;

function optionsOf(values: Partial<Record<"sites" | "candidates" | "seed", string>>) {
  return {
    sites: wholeNumber("--sites", values.sites, 2, 500, 30),
    candidates: wholeNumber("--candidates", values.candidates, 1, 7, 3),
    seed: wholeNumber("--seed", values.seed, 0, 1e9, 1),
  };
}

export function runOverlay(argv: readonly string[]): string {
  const { values } = parseArgs({
    args: [...argv],
    strict: true,
    options: { ...shared, statistic: { type: "string" } },
  });
  const options = optionsOf(values);
  const matrix = readMatrix(
    required("--matrix", values.matrix, "the file with the measured round-trip times"),
    statisticOf(values.statistic),
  );
  const { figures, pairs, skipped, relayed } = evaluateOverlay(matrix, options);
  if (values.json === true) return `${JSON.stringify(figures)}\n`;
  const { direct, chosen, optimal, gainful } = figures;
  const possible = direct.mean - optimal.mean;
  const share = possible > 0 ? ` (${percent((direct.mean - chosen.mean) / possible)} of the possible)` : "";
  return [
    `${pairs} pairs of ${options.sites} sites, at most ${options.candidates} relays probed for each, seed ${options.seed}; ${relayed} pairs go through a relay${skipped > 0 ? `, ${skipped} pairs without a measured time` : ""}`,
    ...figuresTable([
      ["direct", direct],
      ["chosen", chosen],
      ["optimal, one relay", optimal],
    ]),
    `gain on the mean: ${(direct.mean - chosen.mean).toFixed(2)} ms of ${possible.toFixed(2)} ms${share}`,
    `a relay is faster for ${percent(gainful.any)} of the pairs, by 10 % and 5 ms for ${percent(gainful.clear)}`,
    "",
  ].join("\n");
}

export function runOverlaySlices(argv: readonly string[]): string {
  const { values } = parseArgs({ args: [...argv], strict: true, options: shared });
  const options = optionsOf(values);
  const slices = readSlices(required("--matrix", values.matrix, "the archive with the time slices"));
  const found = evaluateOverlaySlices(slices, options, (slice) =>
    process.stderr.write(`slice ${slice} of ${slices.length} is done\n`),
  );
  if (values.json === true) return `${JSON.stringify(found)}\n`;
  return `${[
    `${found.pairs} pairs of ${options.sites} sites through ${slices.length} slices, at most ${options.candidates} relays probed for each, seed ${options.seed}; means, ms`,
    textTable({
      head: [
        "slice",
        "direct",
        "chosen",
        "optimal, one relay",
        "chosen in the slice before, never measured again",
      ],
      rows: found.slices.map((one, index) => [
        String(index + 1),
        ...[one.direct, one.chosen, one.optimal, one.frozen].map((ms) => fixed(ms, 1)),
      ]),
    }),
    `of the gain that a slice promises the next one realises ${percent(found.realised)}; without measuring again ${percent(found.frozenRealised)}`,
    `of the possible gain: ${percent(found.possible)}; ${found.switches.toFixed(2)} switches for each pair and slice`,
    `over direct, the worst ten slices in a row: ${fixed(found.worstTenOverDirect)}; pairs that are slower than direct by more than 1 ms over some ten slices: ${percent(found.pairsSlower)}`,
  ].join("\n")}\n`;
}

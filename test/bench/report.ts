/** All comparisons in one page: runs them, or reads what `--out` kept. */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { UsageError } from "../../cli/usage.ts";
import { reportPage } from "./tools/page.ts";
import { headlineMarkdown, readResults } from "./tools/results.ts";

export const summary = "runs all comparisons (or reads kept ones) and writes a page and the headline table";

const HELP = `Usage: npm run bench -- report [--to DIR] [--seconds N] [--rounds N] [--warm-up N]
       npm run bench -- report --from DIR

Without --from it runs hit, tls, workers and miss one after the other (about 40 minutes with the defaults) and keeps the
result of each in DIR. Then it writes DIR/report.html (self-contained) and DIR/headline.md (the table of README).

  --to DIR      default .isochrone/bench
  --from DIR    read DIR/*.json instead of running; what is no comparison is shown as it is
  --seconds N, --rounds N, --warm-up N   handed to each comparison
  --help
`;

const COMPARISONS = ["hit", "tls", "workers", "miss"];
/** A comparison that takes longer than this is stuck. */
const COMPARISON_TIMEOUT_MS = 3_600_000;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      from: { type: "string" },
      to: { type: "string" },
      seconds: { type: "string" },
      rounds: { type: "string" },
      "warm-up": { type: "string" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  if (values.from !== undefined && values.to !== undefined)
    throw new UsageError("expected --from or --to, not both");
  const directory = resolve(values.from ?? values.to ?? join(".isochrone", "bench"));
  let exitCode = 0;
  if (values.from === undefined) {
    mkdirSync(directory, { recursive: true });
    for (const name of COMPARISONS) {
      const passed = (["seconds", "rounds", "warm-up"] as const).flatMap((flag) =>
        values[flag] === undefined ? [] : [`--${flag}`, values[flag]],
      );
      console.error(`== ${name}`);
      // A process each: one that fails takes no other with it.
      const { status } = spawnSync(
        process.execPath,
        [join(import.meta.dirname, "run.ts"), name, "--out", join(directory, `${name}.json`), ...passed],
        { stdio: ["ignore", "ignore", "inherit"], timeout: COMPARISON_TIMEOUT_MS },
      );
      if (status !== 0) exitCode = 1;
    }
  }
  const results = readResults(directory);
  if (results.comparisons.length === 0)
    throw new UsageError(`${directory} holds no result of a comparison: run one with --out FILE`);
  const page = join(directory, "report.html");
  const headline = join(directory, "headline.md");
  writeFileSync(page, reportPage(results));
  writeFileSync(headline, headlineMarkdown(results.comparisons));
  console.error(`wrote ${page} and ${headline}`);
  console.log(
    JSON.stringify({
      page,
      headline,
      comparisons: results.comparisons.map(({ name, date }) => ({ name, date })),
    }),
  );
  return exitCode;
}

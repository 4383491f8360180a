/** All comparisons in one page: runs them, or reads what `--out` kept. */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { UsageError } from "../../cli/usage.ts";
import { reportPage } from "./tools/page.ts";
import { readmeTables, withTables } from "./tools/readme.ts";
import { readResults } from "./tools/results.ts";

export const summary = "runs all comparisons (or reads kept ones) and writes a page and the headline table";

const HELP = `Usage: npm run bench -- report [--to DIR] [--seconds N] [--rounds N] [--warm-up N]
       npm run bench -- report --from DIR [--to DIR] [--readme]

Without --from it runs hit, tls, workers and miss one after the other (about 40 minutes with the defaults) and keeps the
result of each in the directory of --to. Then it writes report.html (self-contained) and headline.md there.

  --to DIR      default .isochrone/bench
  --from DIR    read DIR/*.json instead of running; what is no comparison is shown as it is
  --readme      write the tables between the lines <!-- bench: NAME --> and <!-- /bench --> of README.md, of edge/ and of transport/core/ anew;
                NAME is a comparison's file without .json, hit-ratios, link-cpu or link-wan
  --seconds N, --rounds N, --warm-up N   handed to each comparison
  --help
`;

const READMES = [
  "README.md",
  "edge/README.md",
  "transport/core/link/README.md",
  "transport/core/udp/README.md",
].map((path) => join(import.meta.dirname, "..", "..", path));
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
      readme: { type: "boolean", default: false },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const directory = resolve(values.to ?? join(".isochrone", "bench"));
  mkdirSync(directory, { recursive: true });
  let exitCode = 0;
  if (values.from === undefined) {
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
  const from = values.from === undefined ? directory : resolve(values.from);
  const results = readResults(from);
  if (results.comparisons.length === 0)
    throw new UsageError(`${from} holds no result of a comparison: run one with --out FILE`);
  const page = join(directory, "report.html");
  const headline = join(directory, "headline.md");
  const tables = readmeTables(results);
  writeFileSync(page, reportPage(results));
  writeFileSync(headline, [...tables.values()].join("\n"));
  console.error(`wrote ${page} and ${headline}`);
  if (values.readme)
    for (const readme of READMES) {
      const text = readFileSync(readme, "utf8");
      const written = withTables(text, tables);
      if (written !== text) writeFileSync(readme, written);
      console.error(`${written === text ? "as it was" : "wrote"}: the tables of ${readme}`);
    }
  console.log(
    JSON.stringify({
      page,
      headline,
      comparisons: results.comparisons.map(({ title, date }) => ({ title, date })),
    }),
  );
  return exitCode;
}

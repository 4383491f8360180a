/** `npm run lab -- disk-crash`: processes that write to a disk store are killed at random moments; what is left is looked at. */
import { parseArgs } from "node:util";
import { crash, type CrashReport } from "../tools/disk/crash.ts";
import { wholeNumber } from "../tools/flags.ts";

export const summary =
  "disk store: kill -9 during writes; corrupt bodies, readable objects, time to the index";

const HELP = `Usage: npm run lab -- disk-crash [options]

Half of the kills meet a store with room for everything: of what was confirmed at least 99 % must be readable. The other half
meet one that reclaims segments all the time: there objects may be missing. In neither may a body be wrong, nor anything
come back that was deleted or replaced. A third store has 100,000 small objects: the time until its index is back. Exit code 1:
one of these was broken; no time breaks anything.

  --kills N   (default 200)
  --seed TEXT (default 1)
`;

const MEBIBYTE = 2 ** 20;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { kills: { type: "string" }, seed: { type: "string" }, help: { type: "boolean" } },
  });
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const kills = wholeNumber("kills", values.kills ?? "200", 2, 1_000_000);
  const seed = values.seed ?? "1";
  const reports: Record<string, CrashReport & { readableRatio: number; reopenMsPer100k: number }> = {};
  const half = Math.ceil(kills / 2);
  for (const [name, options] of [
    ["roomy", { kills: half, bytesMax: 64 * 1_024 * MEBIBYTE, keys: 2_000, bodyBytesMax: MEBIBYTE }],
    ["tight", { kills: kills - half, bytesMax: 48 * MEBIBYTE, keys: 2_000, bodyBytesMax: MEBIBYTE }],
    [
      "many",
      { kills: 2, bytesMax: 10_240 * MEBIBYTE, keys: 150_000, bodyBytesMax: 512, changesMin: 100_000 },
    ],
  ] as const) {
    process.stderr.write(`${options.kills} kills of the store "${name}"\n`);
    const report = await crash({ ...options, seed: `${seed}/${name}`, lifeMsMax: 400 });
    reports[name] = {
      ...report,
      readableRatio: report.readable / report.confirmed,
      reopenMsPer100k: (report.openMs / report.objectsOpened) * 100_000,
    };
  }
  const all = Object.values(reports);
  const sum = (of: (report: CrashReport) => number): number =>
    all.reduce((total, report) => total + of(report), 0);
  const result = {
    kills: sum((report) => report.kills),
    corruptBodies: sum((report) => report.corruptBodies),
    resurrected: sum((report) => report.resurrected),
    readableRatio: reports["roomy"]?.readableRatio ?? 0,
    reopenMsPer100k: reports["many"]?.reopenMsPer100k ?? 0,
    stores: reports,
  };
  console.log(JSON.stringify(result, undefined, 2));
  return result.corruptBodies === 0 && result.resurrected === 0 && result.readableRatio >= 0.99 ? 0 : 1;
}

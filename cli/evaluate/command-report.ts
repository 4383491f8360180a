/** `isochrone evaluate report`: every evaluation on one page. */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { wholeNumber } from "../usage.ts";
import { required } from "./options.ts";
import { makeReport } from "./report.ts";

export const reportUsage = "isochrone evaluate report --data DIR --out DIR [--seeds 20]";

export async function runReport(argv: readonly string[]): Promise<string> {
  const { values } = parseArgs({
    args: [...argv],
    strict: true,
    options: { data: { type: "string" }, out: { type: "string" }, seeds: { type: "string" } },
  });
  const data = required("--data", values.data, "the directory with the measured files");
  const out = required("--out", values.out, "the directory that the page is written to");
  const seeds = wholeNumber("--seeds", values.seeds, 1, 1_000, 20);
  const onStep = (what: string): void => void process.stderr.write(`done: ${what}\n`);
  const files = await makeReport({ data, seeds, commit: commitOf(), onStep });
  mkdirSync(out, { recursive: true });
  for (const [name, content] of files) writeFileSync(join(out, name), content);
  return `${join(out, "report.md")}\n`;
}

/** The commit of this tree, a + when it was changed since; outside of a checkout unknown. */
function commitOf(): string {
  const git = (...args: string[]): string =>
    execFileSync("git", ["-C", import.meta.dirname, ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  try {
    return `${git("rev-parse", "--short", "HEAD")}${git("status", "--porcelain", "--untracked-files=no") === "" ? "" : "+"}`;
  } catch {
    return "unknown";
  }
}

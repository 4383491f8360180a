/** What a property's rules cost a request that is decided: by their number and kind, and against patterns made to be slow. */
import { parseArgs } from "node:util";
import { propertyDocument, type Rule } from "../../kit/mod.ts";
import { Glob } from "../../edge/core/rules/glob.ts";
import { RuleSet } from "../../edge/core/rules/rule-set.ts";
import { wholeNumber } from "../tools/flags.ts";
import { publishJson } from "./policies/options.ts";
import { cpuSecondsOf } from "./tools/cpu.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";

export const summary = "rules of a property: ns a decision by number and kind, and hostile patterns";

const HELP = `Usage: npm run bench -- rules [options]

${summary}

  --rounds N       of each case; the median counts, 1..100 (default 7)
  --ms N           CPU time of a round, 1..10000 (default 200)
  --out FILE       keep the JSON there too
  --help

A property takes at most 200 rules; 1,000 show how the cost goes on. Kinds:
  prefix    each rule a path prefix of its own: looked up by the first segment
  extension each rule an extension of its own
  glob      each rule "/**/" and a file name: every rule is looked at
  header    each rule a value of one header: every rule is looked at
Hostile: globs of many "**" against a path that fits all of it but the last; ns a character must not grow with the path.`;

const COUNTS = [0, 10, 100, 1_000] as const;
const KINDS = ["prefix", "extension", "glob", "header"] as const;
/** The longest path that is taken at all (config.ts) is the last. */
const PATH_CHARACTERS = [500, 1_000, 2_000, 4_000, 8_000] as const;
const STARS = [1, 8, 64] as const;
const RULES_OF_A_DOCUMENT = 200;

const matchOf = (kind: (typeof KINDS)[number], index: number): object => {
  switch (kind) {
    case "prefix":
      return { pathPrefix: `/s${index}/` };
    case "extension":
      return { extensions: [`e${index}`] };
    case "glob":
      return { pathGlob: `/**/f${index}.css` };
    case "header":
      return { headers: [{ name: "X-Plan", equals: `p${index}` }] };
    default:
      return kind satisfies never;
  }
};

function ruleSetOf(kind: (typeof KINDS)[number], count: number): RuleSet {
  const rules: Rule[] = [];
  let property = parse([]);
  for (let from = 0; from < count; from += RULES_OF_A_DOCUMENT) {
    const some = Array.from({ length: Math.min(RULES_OF_A_DOCUMENT, count - from) }, (_, index) => ({
      match: matchOf(kind, from + index),
      overrideTtlSeconds: 60,
    }));
    property = parse(some);
    rules.push(...property.rules);
  }
  return new RuleSet({ caching: property.caching, rules });
}

const parse = (rules: readonly object[]) =>
  propertyDocument.parse({
    propertyId: "bench",
    customerId: "bench",
    hostnames: ["a.example"],
    origins: [{ scheme: "http", host: "origin.example", port: 80 }],
    rules,
  });

/** CPU time of `work` a call, ns: the median of rounds. */
function nsOf(work: () => void, { rounds, ms }: { readonly rounds: number; readonly ms: number }): number {
  let calls = 1;
  for (; ; calls *= 2) if (cpuMsOf(work, calls) >= ms / 4) break;
  calls *= 4;
  const all = Array.from({ length: rounds }, () => (cpuMsOf(work, calls) * 1e6) / calls).sort(
    (a, b) => a - b,
  );
  return all[Math.floor(all.length / 2)] ?? Number.NaN;
}

function cpuMsOf(work: () => void, calls: number): number {
  const { seconds } = cpuSecondsOf(() => {
    for (let call = 0; call < calls; call++) work();
  });
  return seconds * 1_000;
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      rounds: { type: "string", default: "7" },
      ms: { type: "string", default: "200" },
      out: { type: "string" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const rounds = wholeNumber("rounds", values.rounds, 1, 100);
  const ms = wholeNumber("ms", values.ms, 1, 10_000);
  const cases = [];
  let isWrong = false;
  for (const kind of KINDS)
    for (const count of COUNTS) {
      const set = ruleSetOf(kind, count);
      // One that meets the last rule, one that meets the first, one that meets none.
      const requests = [count - 1, 0, count].map((index) => ({
        method: "GET",
        host: "a.example",
        target: `/s${index}/images/f${index}.css/x.e${index}`.replace(kind === "glob" ? /\/x\.e.*/ : "", ""),
        fields: [["X-Plan", `p${index}`]] as const,
      }));
      const met = requests.map((request) => set.outcome(request).matched.length);
      if (met.join() !== (count === 0 ? "0,0,0" : "1,1,0")) isWrong = true;
      let turn = 0;
      const ns = nsOf(() => set.outcome(requests[turn++ % 3] as (typeof requests)[number]), { rounds, ms });
      console.error(`${kind.padEnd(10)} ${String(count).padStart(5)} rules ${ns.toFixed(0).padStart(8)} ns`);
      cases.push({ kind, rules: count, nsPerDecision: Math.round(ns) });
    }
  const hostile = [];
  for (const stars of STARS) {
    const glob = new Glob(`/${"**a".repeat(stars)}**c**b`);
    for (const characters of PATH_CHARACTERS) {
      const path = `/${"a".repeat(characters - 2)}b`;
      if (glob.matches(path) || !glob.matches(path.replace(/ab$/, "acb"))) isWrong = true;
      const ns = nsOf(() => glob.matches(path), { rounds, ms });
      console.error(
        `hostile    ${String(stars).padStart(5)} stars ${String(characters).padStart(5)} characters ${(ns / characters).toFixed(1).padStart(8)} ns each`,
      );
      hostile.push({
        stars,
        characters,
        ns: Math.round(ns),
        nsPerCharacter: Number((ns / characters).toFixed(2)),
      });
    }
  }
  publishJson(
    { name: "rules", machine: describeMachine(), commit: describeCommit(), rounds, ms, cases, hostile },
    values.out,
  );
  if (isWrong) console.error("wrong: a request met other rules than it should");
  return await Promise.resolve(isWrong ? 1 : 0);
}

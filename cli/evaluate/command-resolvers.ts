/** `isochrone evaluate resolvers`: users behind distant resolvers. */
import { parseArgs } from "node:util";
import { UsageError, wholeNumber } from "../usage.ts";
import { required } from "./options.ts";
import { textTable } from "./table.ts";
import {
  distancesTable,
  evaluateResolvers,
  policiesTable,
  pricesSentences,
  pricesTable,
  queriesSentence,
  queriesTable,
  siteCounts,
} from "./users/resolvers.ts";

export const resolversUsage =
  "isochrone evaluate resolvers --data DIR [--sites 40,80,160,320,640,1280] [--seed 1] [--json]";

export async function runResolvers(argv: readonly string[]): Promise<string> {
  const { values } = parseArgs({
    args: [...argv],
    strict: true,
    options: {
      data: { type: "string" },
      sites: { type: "string" },
      seed: { type: "string" },
      json: { type: "boolean" },
    },
  });
  const directory = required(
    "--data",
    values.data,
    "the directory with the measured matrix, the BGP table and the lists of places",
  );
  const seed = wholeNumber("--seed", values.seed, 0, 1e9, 1);
  const evaluation = await evaluateResolvers(
    directory,
    { sites: sitesOf(values.sites), seed, queries: {} },
    (what) => process.stderr.write(`${what}\n`),
  );
  if (values.json === true) return `${JSON.stringify(evaluation)}\n`;
  const { world } = evaluation;
  return `${[
    `${world.prefixes} prefixes of ${world.providers} providers, users in ${world.places} networks of ${world.cities} cities (${world.citiesMeasured} measured), ${world.resolvers} resolvers`,
    textTable(distancesTable(evaluation)),
    "",
    "round trips of all users, ms",
    textTable(policiesTable(evaluation, "all")),
    "",
    "round trips of users behind the public resolver, ms",
    textTable(policiesTable(evaluation, "behindPublic")),
    "",
    "queries of the public resolver when entries are shared by cluster (the least that is possible), by the map's scope, by /24, over those by resolver",
    textTable(queriesTable(evaluation)),
    queriesSentence(evaluation),
    "",
    "users behind the public resolver, where a query has a price: what one more must spare, ms of round trips summed over its look-ups",
    textTable(pricesTable(evaluation)),
    ...pricesSentences(evaluation),
  ].join("\n")}\n`;
}

function sitesOf(text: string | undefined): number[] {
  if (text === undefined) return [...siteCounts];
  const counts = text.split(",").map((one) => wholeNumber("--sites", one, 2, 1_600, 40));
  if (counts.length > 16) throw new UsageError(`--sites: got ${counts.length} numbers, expected at most 16`);
  return counts.sort((a, b) => a - b);
}

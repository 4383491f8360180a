/** `isochrone queries`: who asks the name servers most, and for what. */
import { parseArgs } from "node:util";
import { ParseError } from "#kit";
import {
  sumOfTop,
  type TopFigures,
  topFigures,
  topLists,
} from "../mapping/core/dns/query-log/top-queries.ts";
import { findRunningWorld } from "./runtime.ts";
import { formatTable } from "./table.ts";
import { askServer } from "./ask-server.ts";
import { messageOf, UsageError } from "./usage.ts";

const help = `Usage: isochrone queries [--count N] [--json] [--server URL]... [--state DIR]

The names that are asked for most, the names above those that do not exist (a flood of random names has one), and the
networks of the resolvers that ask most, in the last minute or two. Name servers look at one query in so many
(--query-sample of isochrone dns); counts are scaled up to all of them.

Sums what the name servers of the running world say; with --server those whose admin surfaces are at URL (token in
ISOCHRONE_CONTROL_TOKEN).

  --count N     entries of each list (default 10)
  --json        one JSON object in place of the tables
  --server URL  admin surface of a name server, http://ADDRESS:PORT; once for each

Exit code 0 told, 1 no name server could be asked.

Examples:
  isochrone queries
  isochrone queries --json | jq '.lists.resolvers.entries[0]'`;

const TIMEOUT_MS = 5_000;
const COUNT_MAX = 100;
const TITLES = { names: "name", missing: "no such name", resolvers: "resolver" } as const;

/** What one name server tells. Throws {@link UsageError}. */
async function ask(adminUrl: string, token: string): Promise<TopFigures> {
  const { status, body } = await askServer({
    who: `the name server at ${adminUrl}`,
    url: new URL("/.isochrone/queries", adminUrl),
    token,
    timeoutMs: TIMEOUT_MS,
  });
  if (status !== 200)
    throw new UsageError(
      `The name server at ${adminUrl} tells nothing (status ${status}); is it started with --query-sample 0?`,
      1,
    );
  try {
    return topFigures.parse(body);
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    throw new UsageError(
      `Cannot read the answer of ${adminUrl}: ${error.message}; is it a name server of this version?`,
      1,
    );
  }
}

/** For people: a table a list, scaled up to all queries. */
export function formatTop({ seconds, oneIn, lists }: TopFigures, count: number): string {
  const tables = topLists.map((list) => {
    const { total, missedMax, entries } = lists[list];
    const rows = entries
      .slice(0, count)
      .map(({ key, count: seen }) => [
        key,
        ((seen * oneIn) / Math.max(seconds, 1)).toFixed(1).padStart(8),
        `${((100 * seen) / Math.max(total, 1)).toFixed(1)} %`.padStart(7),
      ]);
    const note = missedMax === 0 ? "" : `\neach may be ${((100 * missedMax) / total).toFixed(1)} % more`;
    return `${formatTable([TITLES[list], "a second", "share"], rows)}${note}`;
  });
  const seen = lists.resolvers.total;
  return [`${seen} queries of ${Math.round(seconds)} s looked at, one in ${oneIn}`, ...tables].join("\n\n");
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      count: { type: "string", default: "10" },
      json: { type: "boolean" },
      server: { type: "string", multiple: true },
      state: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    console.log(help);
    return 0;
  }
  const count = /^\d{1,3}$/.test(values.count) ? Number(values.count) : 0;
  if (count < 1 || count > COUNT_MAX)
    throw new UsageError(`--count: got ${JSON.stringify(values.count)}, expected 1 to ${COUNT_MAX}`);
  const { urls, token } = serversOf(values.server, values.state);
  const answers = await Promise.allSettled(urls.map((url) => ask(url, token)));
  const failures = answers.flatMap((one) => (one.status === "rejected" ? [messageOf(one.reason)] : []));
  const sum = sumOfTop(answers.flatMap((one) => (one.status === "fulfilled" ? [one.value] : [])));
  if (sum === undefined) throw new UsageError(failures[0] ?? "There is no name server to ask", 1);
  // One of them may be dead: the others tell what they see.
  for (const failure of failures) console.error(`isochrone queries: ${failure}`);
  console.log(values.json === true ? JSON.stringify(sum) : formatTop(sum, count));
  return 0;
}

function serversOf(servers: readonly string[] | undefined, state: string | undefined) {
  if (servers !== undefined) {
    const wrong = servers.find((url) => !URL.canParse(url) || !/^https?:/.test(url));
    if (wrong !== undefined)
      throw new UsageError(`--server: got ${JSON.stringify(wrong)}, expected http://ADDRESS:PORT`);
    const token = process.env["ISOCHRONE_CONTROL_TOKEN"];
    if (token === undefined || token === "")
      throw new UsageError("--server needs the token in the environment variable ISOCHRONE_CONTROL_TOKEN");
    return { urls: servers, token };
  }
  const world = findRunningWorld(state);
  if (world === undefined)
    throw new UsageError("No running world; start one with: isochrone up, or give --server URL", 1);
  return { urls: world.nameServerAdminUrls, token: world.token };
}

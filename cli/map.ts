/** `isochrone map`: what the map says, how it came to be, what differs between two of them, and back to an older one. */
import { parseArgs } from "node:util";
import { ControlError } from "#control";
import { parseDurationMs, quoteValue, trafficClasses } from "#kit";
import { diff } from "./map/diff.ts";
import { history } from "./map/history.ts";
import { release, rollBack } from "./map/rollback.ts";
import { show } from "./map/show.ts";
import { withControl } from "./resolve-control.ts";
import { noSuchAction, refuseFlags, UsageError } from "./usage.ts";
import { controlOptions } from "./options.ts";

const help = `Usage: isochrone map show [VERSION] [--network NAME] [--json]
       isochrone map history [--limit N] [--json]
       isochrone map diff A B [--class CLASS] [--limit N] [--json]
       isochrone map rollback VERSION [--hold 10m] [--note TEXT]
       isochrone map release

show tells what the map in force (or VERSION) says: who published it and in which term, clusters with the client
networks that are sent to them, parents, paths; with --network the ranking of one client network. With --json
the whole document. history lists the versions that control keeps (the last 50): when, by whom, why, what changed.
diff tells what differs from A to B: which client networks are sent elsewhere, from where to where, with the
terms of both clusters before and now, first parents, first paths. A and B are versions, or files that hold what
"show --json" wrote. rollback publishes the content of VERSION anew; mappers stand by for the time of --hold, or
until release, so that it stays in force.

  --network NAME  a client network of the map
  --class CLASS   only ${trafficClasses.join(", ")}
  --limit N       lines of each kind that are shown; 20 unless told. The figures count all
  --hold TIME     10s to 24h; 10m unless told
  --note TEXT     why, for the history
  --control URL   control, or ISOCHRONE_CONTROL_URL (token by ISOCHRONE_CONTROL_TOKEN; without it the world that runs here)
  --state DIR     which running world, when several run

Exit code 0 told or done; 1 no such version or network, or control refused or is not there; 2 bad usage or bad file.
diff: 0 also when nothing differs.

Examples:
  isochrone map show
  isochrone map show --network berlin
  isochrone map show 41 --json > before.json
  isochrone map history --limit 50
  isochrone map diff 41 42 --class live
  isochrone map diff before.json 42 --json | jq .moves[0]
  isochrone map rollback 41 --hold 30m --note "bulk went to Tokyo"; isochrone map release`;

const LIMIT_DEFAULT = 20;
const LIMIT_MAX = 1_000_000;
const HOLD_MS_DEFAULT = 600_000;
const HOLD_MS_MIN = 10_000;
const HOLD_MS_MAX = 86_400_000;

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      ...controlOptions,
      network: { type: "string" },
      class: { type: "string" },
      limit: { type: "string" },
      hold: { type: "string" },
      note: { type: "string" },
    },
  });
  if (values.help === true) {
    console.log(help);
    return 0;
  }
  const [action = "", ...subjects] = positionals;
  const isJson = values.json ?? false;
  const take = (flags: readonly string[], from: number, to: number): void => {
    refuseFlags(`map ${action}`, values, ["json", "network", "class", "limit", "hold", "note"], flags);
    if (subjects.length < from || subjects.length > to)
      throw new UsageError(
        `map ${action} takes ${from === to ? from : `${from} or ${to}`} arguments; see --help`,
      );
  };
  try {
    switch (action) {
      case "show":
        take(["json", "network"], 0, 1);
        await withControl(values, (client) => show(client, subjects[0], { isJson, network: values.network }));
        return 0;
      case "history":
        take(["json", "limit"], 0, 0);
        await withControl(values, (client) => history(client, { isJson, limit: limitOf(values.limit) }));
        return 0;
      case "diff": {
        take(["json", "class", "limit"], 2, 2);
        const trafficClass = trafficClasses.find((one) => one === values.class);
        if (values.class !== undefined && trafficClass === undefined)
          throw new UsageError(
            `--class: got ${quoteValue(values.class)}, expected one of ${trafficClasses.join(", ")}`,
          );
        const [a = "", b = ""] = subjects;
        await diff(values, a, b, { isJson, limit: limitOf(values.limit), trafficClass });
        return 0;
      }
      case "rollback": {
        take(["json", "hold", "note"], 1, 1);
        const holdMs = holdOf(values.hold);
        await withControl(values, (client) =>
          rollBack(client, subjects[0] ?? "", { isJson, holdMs, note: values.note }),
        );
        return 0;
      }
      case "release":
        take(["json"], 0, 0);
        await withControl(values, (client) => release(client, isJson));
        return 0;
      default:
        throw noSuchAction(action, ["show", "history", "diff", "rollback", "release"]);
    }
  } catch (error) {
    if (error instanceof ControlError) throw new UsageError(error.message, 1);
    throw error;
  }
}

function limitOf(text: string | undefined): number {
  if (text === undefined) return LIMIT_DEFAULT;
  const limit = /^\d{1,7}$/.test(text) ? Number(text) : Number.NaN;
  if (!(limit <= LIMIT_MAX))
    throw new UsageError(`--limit: got ${quoteValue(text)}, expected a whole number from 0 to ${LIMIT_MAX}`);
  return limit;
}

function holdOf(text: string | undefined): number {
  if (text === undefined) return HOLD_MS_DEFAULT;
  const holdMs = parseDurationMs(text) ?? Number.NaN;
  if (!(holdMs >= HOLD_MS_MIN && holdMs <= HOLD_MS_MAX))
    throw new UsageError(`--hold: got ${quoteValue(text)}, expected a time from 10s to 24h, such as 30m`);
  return holdMs;
}

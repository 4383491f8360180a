/** `isochrone zone`: zone files, before anything of them is in force. */
import { parseArgs } from "node:util";
import { quoteValue } from "#kit";
import { check } from "./zone/check.ts";
import { UsageError, wholeNumber } from "./usage.ts";

const help = `Usage: isochrone zone check FILE [--origin NAME] [--serial N] [--json]

check reads a zone file (RFC 1035, section 5.1) as the name servers would and says what is wrong with it, with line:
what makes it unfit to be served (it would be refused whole), what will not be found by who asks (missing glue, name
servers and mail hosts without address or behind an alias, loops), and what is likely to be a slip (serial, timers,
TTLs, records that a delegation hides). "-" reads stdin. $INCLUDE is refused; $GENERATE is taken.

  --origin NAME   what the file's names are below, where it does not begin with $ORIGIN
  --serial N      the serial that is in force: the file's must come after it (RFC 1982)
  --json          one document: origin, serial, records, findings

Exit code 0 fit and nothing worse than warnings; 1 findings that are errors; 2 refused, or bad usage.

Examples:
  isochrone zone check example.com.zone
  isochrone zone check db.example --origin example.com --serial 2026112601
  named-compilezone -o - example.com in.zone | isochrone zone check - --json | jq '.findings[].rule'`;

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      origin: { type: "string" },
      serial: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    console.log(help);
    return 0;
  }
  const [action = "", file, ...rest] = positionals;
  if (action !== "check")
    throw new UsageError(
      `${action === "" ? "an action is missing" : `no action ${quoteValue(action)}`}; there is check (see --help)`,
    );
  if (file === undefined || rest.length > 0)
    throw new UsageError("zone check takes one file, or - for stdin; see --help");
  const serial =
    values.serial === undefined ? undefined : wholeNumber("--serial", values.serial, 0, 0xffff_ffff, 0);
  return await check(file, { origin: values.origin, serial, isJson: values.json ?? false });
}

/** `isochrone config`: a customer's property from file to force and back, from the command line. */
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { type ControlClient, ControlError, type DocumentChange, diffDocuments } from "#control";
import { quoteValue } from "#kit";
import { authorName } from "./author.ts";
import { check, readPropertyFile, tryRequest } from "./config-file.ts";
import { withControl } from "./resolve-control.ts";
import { formatTable } from "./table.ts";
import { refuseFlags, UsageError, versionOf } from "./usage.ts";
import { controlOptions } from "./options.ts";

const help = `Usage: isochrone config ACTION [options]

  list                                   every property: newest and active version
  show PROPERTY [--version N]            a version as JSON; without --version the active one
  versions PROPERTY                      every version: when, by whom, why
  check FILE                             checks a YAML or JSON file, without control, and warns of likely mistakes
  try FILE URL [--method M] [--header LINE]... [--client ADDRESS] [--countries FILE]
                                         what its rules make of a request, without control: rule by rule, refusal,
                                         redirect, origins, fields, TTLs and key, as "isochrone explain" says it.
                                         Tokens are judged where ISOCHRONE_PEER_KEY is set
  push FILE [--note TEXT] [--activate]   checks, shows what changes, appends a version
  diff PROPERTY --from N --to M          what differs between two versions
  activate PROPERTY --version N          puts a version in force, forward or back
  rollback PROPERTY [--version N]        back to N, or to the newest version before the active one

Options: --control URL, or ISOCHRONE_CONTROL_URL (token by ISOCHRONE_CONTROL_TOKEN; without it the world that runs here), --state DIR, --json
Exit code: 0 done, 1 control refused or is not there (try: another property's URL), 2 bad usage or bad file.

Examples:
  isochrone config check shop-www.json
  isochrone config try shop-www.json http://www.shop.example/a.jpg --header "Referer: http://evil.example/"
  isochrone config try shop-www.json http://www.shop.example/tv/1 --client 198.51.100.7 --countries countries.csv --json
  isochrone config show shop-www > shop-www.json
  isochrone config push shop-www.json --note "cache images for a day"
  isochrone config diff shop-www --from 2 --to 3
  isochrone config activate shop-www --version 3
  isochrone config rollback shop-www`;

interface Options {
  readonly json: boolean;
  readonly version: number | undefined;
  readonly from: number | undefined;
  readonly to: number | undefined;
  readonly note: string | undefined;
  readonly activate: boolean;
}

/** Of a request that `try` tells about. */
const TRY_FLAGS = ["method", "header", "client", "countries"];
const FLAGS = [...TRY_FLAGS, "version", "from", "to", "note", "activate"];

type Action = (client: ControlClient, subject: string, options: Options) => Promise<void>;

/** What each action needs on its command line, and what it does. */
const actions: Readonly<
  Record<
    string,
    { readonly subject: string | undefined; readonly flags: readonly string[]; readonly run: Action }
  >
> = {
  list: { subject: undefined, flags: [], run: list },
  show: { subject: "PROPERTY", flags: ["version"], run: show },
  versions: { subject: "PROPERTY", flags: [], run: versions },
  push: { subject: "FILE", flags: ["note", "activate"], run: push },
  diff: { subject: "PROPERTY", flags: ["from", "to"], run: diff },
  activate: { subject: "PROPERTY", flags: ["version"], run: activate },
  rollback: { subject: "PROPERTY", flags: ["version"], run: rollback },
};

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      ...controlOptions,
      version: { type: "string" },
      from: { type: "string" },
      to: { type: "string" },
      note: { type: "string" },
      activate: { type: "boolean" },
      method: { type: "string" },
      header: { type: "string", multiple: true },
      client: { type: "string" },
      countries: { type: "string" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const [name = "", subject, ...more] = positionals;
  if (name === "check") {
    requireSubject(name, "FILE", subject, more);
    refuseFlags(`config ${name}`, values, FLAGS, []);
    check(subject ?? "", values.json ?? false);
    return 0;
  }
  if (name === "try") {
    const [url] = more;
    if (subject === undefined || url === undefined || more.length > 1)
      throw new UsageError("config try takes one FILE and one URL; see --help");
    refuseFlags(`config ${name}`, values, FLAGS, TRY_FLAGS);
    return tryRequest(subject, url, values);
  }
  const action = Object.hasOwn(actions, name) ? actions[name] : undefined;
  if (action === undefined) {
    throw new UsageError(
      `${name === "" ? "an action is missing" : `no action ${JSON.stringify(name)}`}; there are ${Object.keys(actions).join(", ")}, check, try (see --help)`,
    );
  }
  requireSubject(name, action.subject, subject, more);
  refuseFlags(`config ${name}`, values, FLAGS, action.flags);
  const options: Options = {
    json: values.json ?? false,
    version: versionOf("--version", values.version),
    from: versionOf("--from", values.from),
    to: versionOf("--to", values.to),
    note: values.note,
    activate: values.activate ?? false,
  };
  try {
    await withControl(values, (client) => action.run(client, subject ?? "", options));
    return 0;
  } catch (error) {
    if (error instanceof ControlError) throw new UsageError(error.message, 1);
    throw error;
  }
}

function requireSubject(
  name: string,
  wanted: string | undefined,
  subject: string | undefined,
  more: readonly string[],
): void {
  if (wanted === undefined ? subject !== undefined : subject === undefined || more.length > 0) {
    throw new UsageError(
      `config ${name} takes ${wanted === undefined ? "no argument" : `one ${wanted}`}; see --help`,
    );
  }
}

function required(flag: string, version: number | undefined): number {
  if (version === undefined)
    throw new UsageError(`${flag} is missing; "isochrone config versions PROPERTY" lists the versions`);
  return version;
}

async function list(client: ControlClient, _subject: string, options: Options): Promise<void> {
  const found = await client.documents("property");
  if (options.json) return console.log(JSON.stringify(found, null, 2));
  const rows = found.map((one) => [
    one.id,
    one.version,
    one.activeVersion ?? "-",
    dateOf(one.createdAtEpochMs),
    one.author,
    one.note,
  ]);
  console.log(formatTable(["property", "newest", "active", "at", "by", "note"], rows));
}

async function show(client: ControlClient, property: string, options: Options): Promise<void> {
  const found = await client.document("property", property, options.version);
  if (found !== undefined) return console.log(JSON.stringify(options.json ? found : found.body, null, 2));
  const which = options.version === undefined ? "active version" : `version ${options.version}`;
  throw new UsageError(
    `There is no ${which} of ${JSON.stringify(property)}; "isochrone config versions ${property}" lists them`,
    1,
  );
}

async function versions(client: ControlClient, property: string, options: Options): Promise<void> {
  const found = await knownVersions(client, property);
  if (options.json) return console.log(JSON.stringify(found, null, 2));
  const rows = found.map((one) => [
    one.version,
    one.version === one.activeVersion ? "active" : "",
    dateOf(one.createdAtEpochMs),
    one.author,
    one.note,
  ]);
  console.log(formatTable(["version", "state", "at", "by", "note"], rows));
}

async function push(client: ControlClient, path: string, options: Options): Promise<void> {
  const property = readPropertyFile(path);
  const { propertyId } = property;
  const newest = (await client.versions("property", propertyId)).at(-1);
  const before = newest && (await client.document("property", propertyId, newest.version));
  const changes = before === undefined ? undefined : diffDocuments(before.body, property);
  if (changes?.length === 0 && !options.activate) {
    console.log(`${propertyId}: nothing to push, version ${newest?.version} says the same`);
    return;
  }
  if (changes !== undefined && !options.json) printChanges(changes);
  const summary = await client.put("property", propertyId, property, {
    expectedVersion: newest?.version ?? 0,
    note: options.note ?? `from ${basename(path)}`,
    author: authorName(),
    activate: options.activate,
  });
  if (options.json) return console.log(JSON.stringify({ ...summary, changes: changes ?? [] }, null, 2));
  const state = options.activate
    ? "active"
    : `not active; put it in force with: isochrone config activate ${propertyId} --version ${summary.version}`;
  console.log(`${propertyId}: version ${summary.version} stored, ${state}`);
}

async function diff(client: ControlClient, property: string, options: Options): Promise<void> {
  const changes = await client.diff(
    "property",
    property,
    required("--from", options.from),
    required("--to", options.to),
  );
  if (options.json) return console.log(JSON.stringify(changes, null, 2));
  if (changes.length === 0) console.log("no difference");
  else printChanges(changes);
}

async function activate(client: ControlClient, property: string, options: Options): Promise<void> {
  const version = required("--version", options.version);
  const present = (await knownVersions(client, property)).at(-1)?.activeVersion ?? null;
  await putInForce(client, property, present, version, options);
}

async function rollback(client: ControlClient, property: string, options: Options): Promise<void> {
  const known = await knownVersions(client, property);
  const present = known.at(-1)?.activeVersion ?? null;
  if (present === null)
    throw new UsageError(`No version of "${property}" is active, so there is nothing to roll back`, 1);
  const version = options.version ?? known.findLast((one) => one.version < present)?.version;
  if (version === undefined)
    throw new UsageError(`Version ${present} of "${property}" is the first: there is none before it`, 1);
  if (version >= present)
    throw new UsageError(
      `Version ${version} is not before the active one, ${present}; use: isochrone config activate`,
    );
  await putInForce(client, property, present, version, options);
}

async function putInForce(
  client: ControlClient,
  property: string,
  from: number | null,
  version: number,
  options: Options,
): Promise<void> {
  const changes =
    from === null || from === version ? [] : await client.diff("property", property, from, version);
  const summary = await client.activate("property", property, { version, expectedActiveVersion: from });
  if (options.json) return console.log(JSON.stringify({ ...summary, changes }, null, 2));
  printChanges(changes);
  console.log(
    `${property}: version ${version} is active${from === null || from === version ? "" : ` (was ${from})`}`,
  );
}

async function knownVersions(client: ControlClient, property: string) {
  const known = await client.versions("property", property);
  if (known.length > 0) return known;
  throw new UsageError(
    `There is no property ${JSON.stringify(property)}; "isochrone config list" lists them`,
    1,
  );
}

function printChanges(changes: readonly DocumentChange[]): void {
  for (const change of changes) {
    const from = "from" in change ? quoteValue(change.from) : undefined;
    const to = "to" in change ? quoteValue(change.to) : undefined;
    if (from === undefined) console.log(`+ ${change.path}: ${to}`);
    else if (to === undefined) console.log(`- ${change.path}: ${from}`);
    else console.log(`~ ${change.path}: ${from} -> ${to}`);
  }
}

function dateOf(epochMs: number): string {
  return new Date(epochMs).toISOString().replace(/\.\d+Z$/, "Z");
}

/** `isochrone zone`: zones of customers: files looked over, put in force, changed RRset by RRset. */
import { parseArgs } from "node:util";
import { type ControlClient, ControlError } from "#control";
import { id, type ZoneEdit } from "#kit";
import { controlOptions } from "./options.ts";
import { withControl } from "./resolve-control.ts";
import { noSuchAction, refuseFlags, UsageError, wholeNumber } from "./usage.ts";
import { check } from "./zone/check.ts";
import { edit, list, push, show, transfer, withdraw, type ZoneFlags } from "./zone/documents.ts";
import { follow, status } from "./zone/secondary.ts";

const help = `Usage: isochrone zone check FILE [--origin NAME] [--serial N] [--json]
       isochrone zone push ID FILE [--customer ID] [--origin NAME]
       isochrone zone set|add ID NAME TYPE DATA... [--ttl SECONDS] [--serial N]
       isochrone zone delete ID NAME TYPE [--serial N]
       isochrone zone transfer ID KEY [ADDRESS[:PORT]...] [--expand-aliases] | transfer ID off
       isochrone zone follow ID ORIGIN PRIMARY[:PORT]... [--key KEY] [--notifier ADDRESS]... [--customer ID]
       isochrone zone show ID | list | status [ID] | withdraw ID

check reads a zone file (RFC 1035, section 5.1) as the name servers would and says what is wrong with it, with line:
what makes it unfit to be served (it would be refused whole), what will not be found by who asks (missing glue, name
servers and mail hosts without address or behind an alias, loops), and what is likely to be a slip (serial, timers,
TTLs, records that a delegation hides). "-" reads stdin. $INCLUDE is refused; $GENERATE is taken.

push puts a file in force at every name server. set replaces one RRset, add adds records to it, delete takes it away;
the serial grows by itself. DATA is one record's RDATA as in a zone file. With --serial N nothing is changed
when the zone's serial is another one by now. withdraw answers for the zone no more; push brings it back.

transfer says by which TSIG key others may fetch the zone (AXFR, IXFR), and whom to tell of changes (NOTIFY). Name
servers have the key's secret from their --tsig-keys file. off: nobody may.

follow makes the zone a secondary one: each name server fetches it from the primaries (AXFR, IXFR over TCP), looks after it as
its SOA record says and when a primary tells of a change (NOTIFY), keeps it on its disk and serves it as it is.
When no primary has confirmed it for as long as its SOA allows it gets SERVFAIL. push makes it one of ours again.
status tells of each zone what each name server has, and why a secondary one is not as it should be.

  --expand-aliases  transfer: hand out A and AAAA in the place of ALIAS, as they are then (else TYPE65401)
  --key KEY       follow: name of the TSIG key that the primaries and the name servers (--tsig-keys) share
  --notifier A    follow: an address beside the primaries' whose NOTIFY is heeded; may be repeated
  --origin NAME   what the file's names are below, where it does not begin with $ORIGIN
  --serial N      check: the serial that is in force, which the file's must come after (RFC 1982);
                  set, add, delete: the serial that the change was thought of for
  --customer ID   whose zone it is; told when it is new
  --ttl SECONDS   of the RRset; 300 unless told
  --note TEXT     why, for the history
  --control URL   control, or ISOCHRONE_CONTROL_URL (token by ISOCHRONE_CONTROL_TOKEN; without it the world that runs here)
  --state DIR     which running world, when several run
  --json          what was found or done, as one document

Exit code 0 fit, or done; 1 findings that are errors, or control refused (the serial is another one by now) or
is not there; 2 bad file or bad usage.

Examples:
  isochrone zone check example.com.zone
  isochrone zone check db.example --origin example.com --serial 2026112601
  isochrone zone push example-com example.com.zone --customer acme
  isochrone zone set example-com www A 192.0.2.1 192.0.2.2 --ttl 60 --serial 2026112601
  isochrone zone add example-com @ TXT '"v=spf1 -all"'; isochrone zone delete example-com old CNAME`;

const TTL_SECONDS = 300;
const UINT32_MAX = 0xffff_ffff;

const flagsOf = {
  check: ["origin", "serial"],
  push: ["origin", "customer", "note"],
  set: ["ttl", "serial", "note"],
  add: ["ttl", "serial", "note"],
  delete: ["serial", "note"],
  show: [],
  list: [],
  withdraw: ["note"],
  transfer: ["note", "expand-aliases"],
  follow: ["customer", "note", "key", "notifier"],
  status: [],
} as const;
type Action = keyof typeof flagsOf;

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      ...controlOptions,
      origin: { type: "string" },
      serial: { type: "string" },
      customer: { type: "string" },
      ttl: { type: "string" },
      note: { type: "string" },
      "expand-aliases": { type: "boolean" },
      key: { type: "string" },
      notifier: { type: "string", multiple: true },
    },
  });
  if (values.help === true) {
    console.log(help);
    return 0;
  }
  const [action = "", ...subjects] = positionals;
  if (!Object.hasOwn(flagsOf, action)) throw noSuchAction(action, Object.keys(flagsOf));
  refuseFlags(
    `zone ${action}`,
    values,
    ["origin", "serial", "customer", "ttl", "note", "key", "notifier", "expand-aliases"],
    flagsOf[action as Action],
  );
  const flags: ZoneFlags = {
    isJson: values.json ?? false,
    origin: values.origin,
    customer: values.customer,
    serial:
      values.serial === undefined ? undefined : wholeNumber("--serial", values.serial, 0, UINT32_MAX, 0),
    ttlSeconds: wholeNumber("--ttl", values.ttl, 0, 2 ** 31 - 1, TTL_SECONDS),
    note: values.note,
    areAliasesExpanded: values["expand-aliases"] ?? false,
    keyName: values.key,
    notifiers: values.notifier ?? [],
  };
  if (action === "check") {
    const [file, ...more] = subjects;
    if (file === undefined || more.length > 0)
      throw new UsageError("zone check takes one file, or - for stdin; see --help");
    return await check(file, flags);
  }
  try {
    await withControl(values, workOf(action as Action, subjects, flags));
    return 0;
  } catch (error) {
    if (error instanceof ControlError) throw new UsageError(error.message, 1);
    throw error;
  }
}

function workOf(
  action: Action,
  subjects: readonly string[],
  flags: ZoneFlags,
): (client: ControlClient) => Promise<void> {
  const count = {
    check: 1,
    push: 2,
    set: 4,
    add: 4,
    delete: 3,
    show: 1,
    list: 0,
    withdraw: 1,
    transfer: 2,
    follow: 3,
    status: 0,
  }[action];
  const mayBeMore = action === "set" || action === "add" || action === "transfer" || action === "follow";
  const isOne = action === "status" && subjects.length === 1;
  if (subjects.length < count || (subjects.length > count && !mayBeMore && !isOne))
    throw new UsageError(`zone ${action} takes ${count} words${mayBeMore ? " or more" : ""}; see --help`);
  if (action === "list") return (client) => list(client, flags.isJson);
  if (action === "status") return (client) => status(client, subjects[0], flags.isJson);
  const [zone = "", name = "", type = "", ...data] = subjects;
  const zoneId = id().parse(zone, ["ID"]);
  if (action === "push") return (client) => push(client, zoneId, name, flags);
  if (action === "show") return (client) => show(client, zoneId, flags.isJson);
  if (action === "follow") return (client) => follow(client, zoneId, name, [type, ...data], flags);
  if (action === "withdraw") return (client) => withdraw(client, zoneId, flags);
  if (action === "transfer") {
    const peers = [type, ...data].filter((peer) => peer !== "");
    return (client) => transfer(client, zoneId, name, peers, flags);
  }
  const { ttlSeconds } = flags;
  const change: ZoneEdit =
    action === "delete"
      ? { action, name, type }
      : { action: action === "add" ? "add" : "set", name, type, ttlSeconds, data };
  return (client) => edit(client, zoneId, [change], flags);
}

/** `isochrone policy`: traffic management of customers: documents looked over, put in force, and their answers explained. */
import { readFile } from "node:fs/promises";
import { text as textOfStream } from "node:stream/consumers";
import { setTimeout } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type ControlClient, ControlError, type DocumentSummary, haltWords, type Rollout } from "#control";
import { entriesOf, id, type PolicyDocument, policyDocument, type PolicyRule } from "#kit";
import { parseYaml } from "#kit/world";
import { authorName } from "./author.ts";
import { controlOptions } from "./options.ts";
import { withControl } from "./resolve-control.ts";
import { formatTable } from "./table.ts";
import { noSuchAction, refuseFlags, UsageError, versionOf } from "./usage.ts";

const help = `Usage: isochrone policy check FILE [--json]
       isochrone policy push FILE [--note TEXT] [--at-once | --no-wait]
       isochrone policy show ID [--version N] | list | halt ID
       isochrone policy withdraw ID | rollback ID [--version N] [--at-once | --no-wait]
       isochrone policy explain NAME ADDRESS [--json] [--state DIR]

A policy decides the A and AAAA records of a customer's names among targets of the customer: data centres with addresses, or the
edges as for a property. FILE is YAML or JSON; "-" reads stdin. A rule is a target's name, or a method over further rules, four
levels at most:

  performance  the nearest by the measured map      weighted  by lot, by weight
  sticky       the same for a client network        failover  the first that lives
  ranked, all  those that live, in order or in turn geographic, cidr  by country, continent or prefix

check says what is wrong with a file. push puts it in force; withdraw decides by it no more, push brings it back. Where one is in
force already the change goes to one name server first, then to its cluster, its region and all, each for as long as its tests need to tell
(10 s at least). It halts by itself, and the version before comes back everywhere, when a server that has it falls silent, begins anew, answers by
errors or does not take it, or when no target passes its tests any more; halt does that by hand. rollback puts an older version in force, the newest
before the one in force or N, by the same stages. push, withdraw and rollback wait for the end. explain asks a name server why a client gets what it
gets, as "isochrone where" does.

  --note TEXT     why, for the history
  --version N     which one
  --at-once       everywhere now, without stages
  --no-wait       do not wait for the end; "policy list" tells where it stands
  --control URL   control, or ISOCHRONE_CONTROL_URL (token by ISOCHRONE_CONTROL_TOKEN; without it the world that runs here)
  --state DIR     which running world, when several run
  --json          what was found or done, as one document

Exit code 0 fit, or done; 1 halted, or control refused or is not there; 2 refused, or bad usage.

Examples:
  isochrone policy check shop.yaml && isochrone policy push shop.yaml --note "third site"
  isochrone policy rollback shop
  isochrone policy explain www.shop.example 203.0.113.0/24

  # shop.yaml
  policyId: shop
  customerId: acme
  names: [www.shop.example]
  targets:
    - {targetId: fra, addresses: [198.51.100.1]}
    - {targetId: iad, addresses: [203.0.113.1], coordinates: {latitude: 39, longitude: -77}}
  rule: {method: failover, among: [fra, iad]}
  tests: [{testId: web, kind: https, host: www.shop.example, path: /health}]`;

const changeFlags = ["note", "at-once", "no-wait"] as const;
const allFlags = [...changeFlags, "version"] as const;
const flagsOf = {
  check: [],
  push: changeFlags,
  show: ["version"],
  list: [],
  withdraw: changeFlags,
  rollback: ["at-once", "no-wait", "version"],
  halt: [],
  explain: [],
} as const;
type Action = keyof typeof flagsOf;

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      ...controlOptions,
      note: { type: "string" },
      "at-once": { type: "boolean" },
      "no-wait": { type: "boolean" },
      version: { type: "string" },
    },
  });
  if (values.help === true) {
    console.log(help);
    return 0;
  }
  const [action = "", ...subjects] = positionals;
  if (!Object.hasOwn(flagsOf, action)) throw noSuchAction(action, Object.keys(flagsOf));
  refuseFlags(`policy ${action}`, values, allFlags, flagsOf[action as Action]);
  const count = { check: 1, push: 1, show: 1, list: 0, withdraw: 1, rollback: 1, halt: 1, explain: 2 }[
    action as Action
  ];
  if (subjects.length !== count)
    throw new UsageError(`policy ${action} takes ${count} ${count === 1 ? "word" : "words"}; see --help`);
  const [subject = "", address = ""] = subjects;
  const isJson = values.json ?? false;
  if (action === "explain") {
    const { main: where } = await import("./where.ts");
    const state = values.state === undefined ? [] : ["--state", values.state];
    return where([subject, address, ...state, ...(isJson ? ["--json"] : [])]);
  }
  if (action === "check") return check(subject, isJson);
  const { note, "at-once": isAtOnce = false, "no-wait": isUnattended = false } = values;
  if (isAtOnce && isUnattended)
    throw new UsageError("--no-wait has nothing to do with --at-once; see --help");
  try {
    const version = versionOf("--version", values.version);
    const wish = { note, version, isAtOnce, isUnattended, isJson };
    return await withControl(values, (client) => work(client, action as Action, subject, wish));
  } catch (error) {
    if (error instanceof ControlError) throw new UsageError(error.message, 1);
    throw error;
  }
}

interface Wish {
  readonly note: string | undefined;
  readonly version: number | undefined;
  readonly isAtOnce: boolean;
  readonly isUnattended: boolean;
  readonly isJson: boolean;
}

async function work(client: ControlClient, action: Action, subject: string, wish: Wish): Promise<number> {
  const { isJson } = wish;
  if (action === "list") return list(client, isJson);
  if (action === "push") {
    const document = await read(subject);
    const before = await newest(client, document.policyId);
    return put(client, document, before?.version ?? 0, wish);
  }
  const policyId = id().parse(subject, ["ID"]);
  if (action === "halt") return tellEnd(await client.haltRollout("policy", policyId), isJson, true);
  if (action === "rollback") return rollBack(client, policyId, wish);
  const found = await newest(client, policyId, wish.version);
  if (found === undefined) throw unknownPolicy(policyId);
  if (action === "withdraw") {
    const withdrawn = { ...found.document, isActive: false };
    return put(client, withdrawn, found.version, { ...wish, note: wish.note ?? "withdrawn" });
  }
  console.log(JSON.stringify(found.document, undefined, 2));
  return 0;
}

async function read(file: string): Promise<PolicyDocument> {
  const text = file === "-" ? await textOfStream(process.stdin) : await readFile(file, "utf8");
  return parseYaml(text, file, "a policy", (value) => policyDocument.parse(value));
}

async function check(file: string, isJson: boolean): Promise<number> {
  const document = await read(file);
  const methods = methodsOf(document.rule);
  const { policyId, customerId, names, targets, tests } = document;
  if (isJson) console.log(JSON.stringify({ isValid: true, policy: document }, undefined, 2));
  else
    console.log(
      `${file}: policy ${policyId} of ${customerId} is valid (${names.join(", ")}; ${targets.length} targets; ${methods.join(", ") || "one target"}; ${tests.length} tests)`,
    );
  if (!isJson && tests.length === 0) console.log("warning: without tests every target is taken to live");
  return 0;
}

function methodsOf(rule: PolicyRule): readonly string[] {
  if (typeof rule === "string") return [];
  return [...new Set([rule.method, ...entriesOf(rule).flatMap((entry) => methodsOf(entry.rule))])];
}

function unknownPolicy(policyId: string): UsageError {
  return new UsageError(
    `There is no policy ${JSON.stringify(policyId)}; "isochrone policy list" lists them`,
    1,
  );
}

/** @param wanted undefined: the newest */
async function newest(client: ControlClient, policyId: string, wanted?: number) {
  const version = wanted ?? (await client.versions("policy", policyId)).at(-1)?.version;
  const found = version && (await client.document("policy", policyId, version));
  return found ? { document: policyDocument.parse(found.body), version: found.version } : undefined;
}

async function rollBack(client: ControlClient, policyId: string, wish: Wish): Promise<number> {
  const known = await client.versions("policy", policyId);
  if (known.length === 0) throw unknownPolicy(policyId);
  const present = known.at(-1)?.activeVersion ?? null;
  if (present === null)
    throw new UsageError(`No version of ${policyId} is in force, so there is nothing to roll back`, 1);
  const version = wish.version ?? known.findLast((one) => one.version < present)?.version;
  if (version === undefined)
    throw new UsageError(`Version ${present} of ${policyId} is the first: there is none before it`, 1);
  if (version >= present)
    throw new UsageError(`Version ${version} of ${policyId} is not before the one in force, ${present}`);
  const found = await newest(client, policyId, version);
  if (found === undefined) throw unknownPolicy(policyId);
  const summary = await client.activate("policy", policyId, {
    version,
    expectedActiveVersion: present,
    ...(wish.isAtOnce && { rollout: "at-once" }),
  });
  return tellPut(client, found.document, summary, wish);
}

async function put(
  client: ControlClient,
  document: PolicyDocument,
  expectedVersion: number,
  wish: Wish,
): Promise<number> {
  const summary = await client.put("policy", document.policyId, document, {
    expectedVersion,
    note: wish.note ?? "",
    author: authorName(),
    activate: true,
    ...(wish.isAtOnce && { rollout: "at-once" }),
  });
  return tellPut(client, document, summary, wish);
}

/** What has become of a version that was to come into force, at the end of its stages. */
async function tellPut(
  client: ControlClient,
  { policyId, names, isActive }: PolicyDocument,
  summary: DocumentSummary,
  { isAtOnce, isUnattended, isJson }: Wish,
): Promise<number> {
  const { version } = summary;
  const last = isAtOnce ? undefined : await rolloutOf(client, policyId);
  const found = last?.version === version ? last : undefined;
  if (found !== undefined) {
    if (!isJson)
      console.log(
        `${policyId}: version ${version} is rolled out, ${found.soakMs / 1_000} s or more a stage; ${placeOf(found)}`,
      );
    if (!isUnattended) return tellEnd(await followed(client, found, isJson), isJson, false);
  }
  if (isJson) console.log(JSON.stringify(summary, undefined, 2));
  else if (found === undefined && isActive)
    console.log(`${policyId}: version ${version} decides ${names.join(", ")}`);
  else if (found === undefined)
    console.log(`${policyId}: version ${version} withdraws it: ${names.join(", ")}`);
  return 0;
}

async function rolloutOf(client: ControlClient, policyId: string): Promise<Rollout | undefined> {
  return (await client.rollouts(policyId)).find(({ kind }) => kind === "policy");
}

/** How long a look at a roll-out may fail before nobody waits any more, ms. */
const AWAY_MS_MAX = 60_000;

/** Until it ends, or another one has taken its place. Control may be away meanwhile: it goes on when it is back. */
async function followed(client: ControlClient, first: Rollout, isJson: boolean): Promise<Rollout> {
  let seen = first;
  let seenAt = performance.now();
  while (seen.state === "running") {
    await setTimeout(500);
    let now: Rollout | undefined;
    try {
      now = await rolloutOf(client, seen.id);
    } catch (error) {
      if (!(error instanceof ControlError) || error.code !== "control-unreachable") throw error;
      if (performance.now() - seenAt < AWAY_MS_MAX) continue;
      const { id: policyId, version } = seen;
      throw new UsageError(
        `${error.message}. The roll-out of version ${version} of ${policyId} goes on when control is back; "isochrone policy list" tells of it`,
        1,
      );
    }
    if (now === undefined || now.version !== seen.version) return seen;
    if (now.stageIndex !== seen.stageIndex && !isJson) console.log(`${now.id}: ${placeOf(now)}`);
    seen = now;
    seenAt = performance.now();
  }
  return seen;
}

/** @param isAsked who halts one by hand got what they wanted */
function tellEnd(rollout: Rollout, isJson: boolean, isAsked: boolean): number {
  const { id: policyId, version, previousVersion, state, halt } = rollout;
  if (isJson) console.log(JSON.stringify(rollout, undefined, 2));
  else if (state === "done") console.log(`${policyId}: version ${version} is in force everywhere`);
  else if (state === "halted") {
    const servers = halt === null || halt.servers.length === 0 ? "" : ` (${halt.servers.join(", ")})`;
    console.log(
      `${policyId}: version ${version} was halted: ${haltText(halt)}${servers}; ${halt?.reason === "superseded" ? "another version" : `version ${previousVersion}`} is in force`,
    );
  } else console.log(`${policyId}: another change has taken the place of version ${version}`);
  return state === "done" || isAsked ? 0 : 1;
}

function haltText(halt: Rollout["halt"]): string {
  return halt === null ? "" : haltWords[halt.reason];
}

/** `stage 1 of 3: server fra-ns-1`. */
function placeOf({ stages, stageIndex }: Rollout): string {
  const { stage = "all", servers = [] } = stages[stageIndex] ?? {};
  const who = servers.length === 1 ? servers[0] : `${servers.length} name servers`;
  return `stage ${stageIndex + 1} of ${stages.length}, ${stage}: ${who}`;
}

async function list(client: ControlClient, isJson: boolean): Promise<number> {
  const rolloutsById = new Map(
    (await client.rollouts()).filter(({ kind }) => kind === "policy").map((one) => [one.id as string, one]),
  );
  const rows: (Pick<PolicyDocument, "policyId" | "customerId" | "names" | "isActive"> & {
    targets: number;
    tests: number;
    version: number;
    /** The last one. */
    rollout?: Rollout;
  })[] = [];
  for (const { id: policyId, activeVersion } of await client.documents("policy")) {
    const found =
      activeVersion === null ? undefined : await client.document("policy", policyId, activeVersion);
    if (found === undefined) continue;
    const { customerId, names, isActive, targets, tests } = policyDocument.parse(found.body);
    const rollout = rolloutsById.get(policyId);
    rows.push({
      policyId: id().parse(policyId),
      customerId,
      names,
      isActive,
      targets: targets.length,
      tests: tests.length,
      version: found.version,
      ...(rollout !== undefined && { rollout }),
    });
  }
  if (isJson) console.log(JSON.stringify(rows, undefined, 2));
  else
    console.log(
      formatTable(
        ["policy", "customer", "names", "targets", "tests", "version", "state"],
        rows.map((row) => [
          row.policyId,
          row.customerId,
          row.names.join(" "),
          row.targets,
          row.tests,
          row.version,
          `${row.isActive ? "decides" : "withdrawn"}${rolloutText(row.rollout)}`,
        ]),
      ),
    );
  return 0;
}

function rolloutText(rollout: Rollout | undefined): string {
  if (rollout === undefined || rollout.state === "done") return "";
  const { version, state, halt } = rollout;
  return `; version ${version} ${state === "running" ? `in ${placeOf(rollout)}` : `halted: ${haltText(halt)}`}`;
}

/** `isochrone dnssec`: zones that are signed, their keys, what the parent is to have, and rolls. */
import { parseArgs } from "node:util";
import {
  type ControlClient,
  ControlError,
  enteringKey,
  mayRoll,
  signedAgain,
  withdrawn,
  type ZoneRoll,
} from "#control";
import {
  type DnssecDocument,
  dnssecDocument,
  type DnssecKey,
  type DnssecZone,
  hostname,
  topologyDocument,
  type ZoneDocument,
  zoneDocument,
} from "#kit";
import { systemClock } from "#kit/io";
import { dsTextOf, makeSealedKey } from "#mapping";
import { peerKeyFromEnvironment } from "#transport";
import { authorName } from "./author.ts";
import { dsAtParent } from "./dnssec-parent.ts";
import { controlOptions } from "./options.ts";
import { withControl } from "./resolve-control.ts";
import { formatTable } from "./table.ts";
import { UsageError } from "./usage.ts";

const help = `Usage: isochrone dnssec ACTION [options]

  status            every signed zone: its keys, their steps, what each waits for
  sign ZONE         makes the zone's first key: every name server signs from then on. A zone of the deployment, or one of a
                    customer's ("isochrone zone"); of one that is being unsigned it takes that back
  unsign ZONE       asks the parent to take its DS away (CDS, RFC 8078); once no cache holds one, control has the name servers
                    sign no more. At once where the parent never was to have a DS
  ds ZONE           the DS records that the parent is to have now
                    --check RESOLVER  asks a resolver what the parent has, and notes what is seen there
                    --seen, --gone    notes it without asking: all of them are there, or what was withdrawn is gone
  roll ZONE         makes a new key; control has it take the old one's place, step by step, each when TTLs allow it

One key (CSK, ECDSA P-256, algorithm 13) signs a zone and is what the DS names. It is made here and sealed (AES-256-GCM under a
key derived from ISOCHRONE_PEER_KEY) before it leaves this machine: control never holds it. A roll waits for the parent twice: for the
new DS, and for the end of the old one. Parents that read CDS (RFC 7344) need no hand; the others are given the records of "ds".
Name servers look at the parent through their resolvers (--resolver of "isochrone dns") and say what is there, so "ds --check",
"--seen" and "--gone" are wanted only where they have none. Between two zones of this deployment control does it all. A name server that has not said that it answers from the present
keys holds a roll up; status names it.

Options: --dnskey-ttl N, --zone-ttl-max N, --ds-ttl N, --propagation N (of sign; seconds; defaults 3600, 86400 or the largest TTL in
a customer's zone, 86400, 300),
--control URL, or ISOCHRONE_CONTROL_URL (token by ISOCHRONE_CONTROL_TOKEN; without it the world that runs here), --state DIR, --json
Exit code: 0 done, 1 control refused or is not there, or the parent lacks what it is to have; 2 bad usage.

Examples:
  isochrone dnssec sign shop.example
  isochrone dnssec ds shop.example --check 9.9.9.9
  isochrone dnssec roll shop.example
  isochrone dnssec unsign shop.example
  isochrone dnssec status --json`;

interface Flags {
  readonly json?: boolean | undefined;
  readonly check?: string | undefined;
  readonly seen?: boolean | undefined;
  readonly gone?: boolean | undefined;
  readonly "dnskey-ttl"?: string | undefined;
  readonly "zone-ttl-max"?: string | undefined;
  readonly "ds-ttl"?: string | undefined;
  readonly propagation?: string | undefined;
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      ...controlOptions,
      check: { type: "string" },
      seen: { type: "boolean" },
      gone: { type: "boolean" },
      "dnskey-ttl": { type: "string" },
      "zone-ttl-max": { type: "string" },
      "ds-ttl": { type: "string" },
      propagation: { type: "string" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const run = actionOf(positionals, values);
  try {
    return await withControl(values, run);
  } catch (error) {
    if (error instanceof ControlError) throw new UsageError(error.message, 1);
    throw error;
  }
}

function actionOf(
  [action, subject, ...more]: readonly string[],
  flags: Flags,
): (client: ControlClient) => Promise<number> {
  if (action === "status" && subject === undefined) return (client) => status(client, flags.json ?? false);
  if (subject !== undefined && more.length === 0) {
    const zone = hostname().parse(subject.replace(/\.$/, "").toLowerCase(), ["ZONE"]);
    if (action === "sign") return sign(zone, flags);
    if (action === "unsign") return (client) => unsign(client, zone, flags);
    if (action === "roll") return (client) => roll(client, zone, flags);
    if (action === "ds") {
      if ([flags.check, flags.seen, flags.gone].filter((one) => one !== undefined).length > 1)
        throw new UsageError("dnssec ds takes one of --check, --seen and --gone; see --help");
      return (client) => ds(client, zone, flags);
    }
  }
  throw new UsageError("expected status, sign ZONE, unsign ZONE, ds ZONE or roll ZONE; see --help");
}

/** The document in force, the version to be replaced, and the deployment's name and zones. */
async function inForce(client: ControlClient) {
  const [summary] = await client.documents("topology");
  const record = summary && (await client.document("topology", summary.id));
  if (record === undefined)
    throw new UsageError("Control has no topology: there are no zones to sign yet", 1);
  const topology = topologyDocument.parse(record.body);
  const { name } = topology;
  const stored = await client.document("dnssec", name);
  const newest = stored === undefined ? undefined : (await client.versions("dnssec", name)).at(-1);
  const document: DnssecDocument =
    stored === undefined ? { name, zones: [] } : dnssecDocument.parse(stored.body);
  const { zones, delegation } = topology.nameService;
  const served = delegation === undefined ? zones : [...zones, delegation.zone];
  return { document, version: newest?.version ?? 0, served };
}

/** A customer's zone that is in force; undefined: there is none of that name. */
async function hostedZone(client: ControlClient, origin: string): Promise<ZoneDocument | undefined> {
  for (const { id } of await client.documents("zone")) {
    const stored = await client.document("zone", id);
    const found = stored === undefined ? undefined : zoneDocument.parse(stored.body);
    if (found?.origin === origin && found.isActive) return found;
  }
  return undefined;
}

/** What only a zone has that somebody else signs. */
const SIGNERS_TYPES: readonly string[] = ["RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "DNSKEY", "CDS", "CDNSKEY"];
const DAY_SECONDS = 86_400;

/** The largest TTL in a customer's zone, a day at least. Throws {@link UsageError} for one that cannot be signed here. */
function signableTtlSeconds({ origin, zoneId, sets, transfer, secondary }: ZoneDocument): number {
  if (secondary !== undefined)
    throw new UsageError(
      `The records of the zone "${origin}" come from ${secondary.primaries[0]?.address}: whoever signs it does so there`,
      1,
    );
  const foreign = sets.find(({ type }) => SIGNERS_TYPES.includes(type.toUpperCase()));
  if (foreign !== undefined)
    throw new UsageError(
      `The zone "${origin}" has ${foreign.type} records of another signer; take them out with "isochrone zone delete ${zoneId} ${foreign.name} ${foreign.type}" first`,
      1,
    );
  if (transfer !== undefined)
    throw new UsageError(
      `Others may fetch the zone "${origin}" (key "${transfer.keyName}") and would serve it without signatures; "isochrone zone transfer ${zoneId} off" ends that`,
      1,
    );
  return Math.max(DAY_SECONDS, ...sets.map(({ ttlSeconds }) => ttlSeconds));
}

async function put(client: ControlClient, document: DnssecDocument, version: number, note: string) {
  return client.put("dnssec", document.name, document, {
    expectedVersion: version,
    note,
    author: authorName(),
    activate: true,
  });
}

function zoneIn(document: DnssecDocument, zone: string): DnssecZone {
  const found = document.zones.find((one) => one.zone === zone);
  if (found !== undefined) return found;
  const signed = document.zones.map((one) => one.zone).join(", ") || "none";
  throw new UsageError(
    `The zone "${zone}" is not signed (signed: ${signed}); "isochrone dnssec sign ${zone}" signs it`,
    1,
  );
}

function replaced(document: DnssecDocument, zone: DnssecZone): DnssecDocument {
  return { ...document, zones: document.zones.map((one) => (one.zone === zone.zone ? zone : one)) };
}

function sign(zone: string, flags: Flags): (client: ControlClient) => Promise<number> {
  const made = makeSealedKey(zone, "key-1", peerKeyFromEnvironment());
  const seconds = (name: "dnskey-ttl" | "zone-ttl-max" | "ds-ttl" | "propagation", field: string) => {
    const text = flags[name];
    if (text === undefined) return {};
    if (!/^\d{1,6}$/.test(text) || Number(text) < 1 || Number(text) > 604_800)
      throw new UsageError(`--${name}: got ${JSON.stringify(text)}, expected seconds from 1 to 604800`);
    return { [field]: Number(text) };
  };
  const timing = {
    ...seconds("dnskey-ttl", "dnskeyTtlSeconds"),
    ...seconds("zone-ttl-max", "zoneTtlSecondsMax"),
    ...seconds("ds-ttl", "dsTtlSeconds"),
    ...seconds("propagation", "propagationSeconds"),
  };
  return async (client) => {
    const { document, version, served } = await inForce(client);
    const present = document.zones.find((one) => one.zone === zone);
    if (present?.withdrawnAtEpochMs !== undefined)
      return signAgain(client, document, version, present, flags);
    if (present !== undefined)
      throw new UsageError(
        `The zone "${zone}" is signed already; "isochrone dnssec roll ${zone}" gives it a new key`,
        1,
      );
    const hosted = served.includes(zone) ? undefined : await hostedZone(client, zone);
    if (!served.includes(zone) && hosted === undefined)
      throw new UsageError(
        `The name servers have no zone "${zone}"; they have ${served.join(", ")}, and those that "isochrone zone list" names`,
        1,
      );
    const key = enteringKey(made, true, Math.floor(systemClock.epoch()));
    const ttl = hosted === undefined ? {} : { zoneTtlSecondsMax: signableTtlSeconds(hosted) };
    const next = dnssecDocument.parse({
      ...document,
      zones: [...document.zones, { zone, ...ttl, ...timing, keys: [key] }],
    });
    await put(client, next, version, `sign ${zone}`);
    say(flags, { zone, keyId: key.keyId, ds: dsTextOf(zone, key.publicKey) }, [
      `${zone} is signed from now on. When caches have forgotten the unsigned zone, control asks the parent for this by CDS;`,
      "give it to the parent no sooner than `isochrone dnssec status` says so:",
      dsTextOf(zone, key.publicKey),
    ]);
    return 0;
  };
}

async function signAgain(
  client: ControlClient,
  document: DnssecDocument,
  version: number,
  present: DnssecZone,
  flags: Flags,
): Promise<number> {
  const { zone } = present;
  const next = signedAgain(present, Math.floor(systemClock.epoch()));
  await put(client, replaced(document, next), version, `sign ${zone} after all`);
  const texts = delegatedOf(next).map((one) => dsTextOf(zone, one.publicKey));
  say(flags, { zone, keyId: next.keys[0]?.keyId, ds: texts[0] }, [
    `${zone} stays signed. The parent is to have this again:`,
    ...texts,
  ]);
  return 0;
}

async function unsign(client: ControlClient, zone: string, flags: Flags): Promise<number> {
  const { document, version } = await inForce(client);
  const entry = zoneIn(document, zone);
  const refused =
    entry.withdrawnAtEpochMs !== undefined
      ? `The zone "${zone}" is being unsigned already; "isochrone dnssec status" tells what that waits for`
      : entry.keys.length > 1
        ? `A roll of "${zone}" is under way; unsign it when "isochrone dnssec status" names one key`
        : undefined;
  if (refused !== undefined) throw new UsageError(refused, 1);
  const next = withdrawn(entry, Math.floor(systemClock.epoch()));
  const left =
    next === undefined
      ? { ...document, zones: document.zones.filter((one) => one !== entry) }
      : replaced(document, next);
  await put(client, left, version, `unsign ${zone}`);
  const state = next === undefined ? "unsigned" : "withdrawn";
  say(
    flags,
    { zone, state },
    next === undefined
      ? [`${zone} is signed no more. Its parent never was to have a DS of it.`]
      : [
          `${zone}: the parent is asked by CDS to take its DS away; a parent that does not read CDS has to be told.`,
          `It is signed until the DS is gone and forgotten; "isochrone dnssec sign ${zone}" takes this back.`,
        ],
  );
  return 0;
}

async function roll(client: ControlClient, zone: string, flags: Flags): Promise<number> {
  const peerKey = peerKeyFromEnvironment();
  const { document, version } = await inForce(client);
  const entry = zoneIn(document, zone);
  if (!mayRoll(entry))
    throw new UsageError(
      entry.withdrawnAtEpochMs !== undefined
        ? `The zone "${zone}" is being unsigned; "isochrone dnssec sign ${zone}" takes that back`
        : entry.keys.length > 1
          ? `A roll of "${zone}" is under way; "isochrone dnssec status" tells what it waits for`
          : `The parent of "${zone}" has no DS of its key yet, so a roll has nothing to replace; see "isochrone dnssec ds ${zone}"`,
      1,
    );
  const number = Number(/(\d+)$/.exec(entry.keys[0]?.keyId ?? "")?.[1] ?? 1) + 1;
  const key = enteringKey(
    makeSealedKey(zone, `key-${number}`, peerKey),
    false,
    Math.floor(systemClock.epoch()),
  );
  await put(
    client,
    replaced(document, { ...entry, keys: [...entry.keys, key] }),
    version,
    `roll ${zone} to ${key.keyId}`,
  );
  say(flags, { zone, keyId: key.keyId, ds: dsTextOf(zone, key.publicKey) }, [
    `${zone}: ${key.keyId} is published. The parent is to have both DS now:`,
    ...delegatedOf({ ...entry, keys: [...entry.keys, key] }).map((one) => dsTextOf(zone, one.publicKey)),
  ]);
  return 0;
}

/** Keys that the parent is to have a DS of. */
function delegatedOf({ keys }: DnssecZone): readonly DnssecKey[] {
  return keys.filter((one) => one.delegatedAtEpochMs !== undefined && one.undelegatedAtEpochMs === undefined);
}

async function ds(client: ControlClient, zone: string, flags: Flags): Promise<number> {
  const { document, version } = await inForce(client);
  const entry = zoneIn(document, zone);
  const wanted = delegatedOf(entry);
  const texts = wanted.map((one) => dsTextOf(zone, one.publicKey));
  const found = flags.check === undefined ? undefined : await dsAtParent(flags.check, zone);
  const isThere = (one: DnssecKey): boolean =>
    found?.includes(dsTextOf(zone, one.publicKey)) ?? flags.seen === true;
  const isGone = (one: DnssecKey): boolean => (found === undefined ? flags.gone === true : !isThere(one));
  const now = Math.floor(systemClock.epoch());
  const keys = entry.keys.map((one): DnssecKey => {
    if (wanted.includes(one))
      return one.dsSeenAtEpochMs === undefined && isThere(one) ? { ...one, dsSeenAtEpochMs: now } : one;
    const isWithdrawn = one.undelegatedAtEpochMs !== undefined && one.dsGoneAtEpochMs === undefined;
    return isWithdrawn && isGone(one) ? { ...one, dsGoneAtEpochMs: now } : one;
  });
  if (keys.some((one, k) => one !== entry.keys[k]))
    await put(client, replaced(document, { ...entry, keys }), version, `parent of ${zone} was seen`);
  const missing = found === undefined ? [] : texts.filter((text) => !found.includes(text));
  const needless = found?.filter((text) => !texts.includes(text)) ?? [];
  say(flags, { zone, ds: texts, ...(found && { atParent: found, missing, needless }) }, [
    ...texts,
    ...missing.map((text) => `missing at the parent: ${text}`),
    ...needless.map((text) => `still at the parent: ${text}`),
    ...(texts.length === 0
      ? [
          `${zone}: the parent is to have none ${entry.withdrawnAtEpochMs === undefined ? "yet" : "any more"}; see "isochrone dnssec status"`,
        ]
      : []),
  ]);
  return missing.length > 0 ? 1 : 0;
}

async function status(client: ControlClient, isJson: boolean): Promise<number> {
  const { document } = await inForce(client);
  const rolls = await client.keyRolls(document.name);
  const zones = document.zones.map((entry) => ({
    zone: entry.zone,
    keys: entry.keys.map((one) => shownKey(entry.zone, one)),
    waits: rolls.find((one) => one.zone === entry.zone)?.waits ?? [],
    missing: rolls.find((one) => one.zone === entry.zone)?.missing ?? [],
  }));
  if (isJson) console.log(JSON.stringify(zones, null, 2));
  else if (zones.length === 0) console.log("no zone is signed");
  else {
    const rows = zones.flatMap(({ zone, keys, ...rest }) =>
      keys.map(({ keyId, ds: text, state }) => [
        zone,
        keyId,
        text.split(" ")[3] ?? "",
        state,
        waitText(keyId, rest),
      ]),
    );
    console.log(formatTable(["zone", "key", "tag", "state", "waits for"], rows));
  }
  return 0;
}

/** Without its private part, sealed or not. */
function shownKey(zone: string, one: DnssecKey) {
  const { sealedKey: _sealedKey, publicKey, ...times } = one;
  return { ...times, ds: dsTextOf(zone, publicKey), state: stateOf(one) };
}

function stateOf(key: DnssecKey): string {
  const signs =
    key.activeAtEpochMs === undefined
      ? "published"
      : key.retiredAtEpochMs === undefined
        ? "signs"
        : "retired";
  if (key.dsGoneAtEpochMs !== undefined) return `${signs}, DS gone`;
  if (key.undelegatedAtEpochMs !== undefined) return `${signs}, DS to go`;
  if (key.dsSeenAtEpochMs !== undefined) return `${signs}, DS seen`;
  return key.delegatedAtEpochMs === undefined ? signs : `${signs}, DS wanted`;
}

function waitText(keyId: string, { waits, missing }: Pick<ZoneRoll, "waits" | "missing">): string {
  const wait = waits.find((one) => one.keyId === keyId);
  if (wait === undefined) return "-";
  switch (wait.for) {
    case "time":
      return `${wait.step}: ${new Date(wait.untilEpochMs ?? 0).toISOString()}`;
    case "ds-at-parent":
      return `${wait.step}: the new DS at the parent`;
    case "ds-gone-at-parent":
      return `${wait.step}: the end of its DS at the parent`;
    case "name-servers":
      return `${wait.step}: ${missing.join(" ") || "name servers"}`;
  }
}

function say({ json }: Flags, document: unknown, lines: readonly string[]): void {
  console.log(json === true ? JSON.stringify(document, null, 2) : lines.join("\n"));
}

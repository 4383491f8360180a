/** `isochrone zone push|list|show|set|add|delete|transfer|withdraw`: zones in control, in force at every name server. */
import type { ControlClient } from "#control";
import {
  nameToText,
  parseAddress,
  quoteValue,
  setsOfZone,
  type ZoneDocument,
  zoneDocument,
  zoneOfDocument,
} from "#kit";
import { editZone, type ZoneEdit } from "#mapping";
import { parseListenAddress } from "#kit/io";
import { authorName } from "../author.ts";
import { formatTable } from "../table.ts";
import { UsageError } from "../usage.ts";
import { originOf, readWhole, textOf } from "./check.ts";

export interface ZoneFlags {
  readonly isJson: boolean;
  readonly origin: string | undefined;
  readonly customer: string | undefined;
  readonly serial: number | undefined;
  readonly ttlSeconds: number;
  readonly note: string | undefined;
}

/** A file in force under an id; a zone that is there already keeps its customer and what it says of transfers. */
export async function push(
  client: ControlClient,
  zoneId: string,
  file: string,
  flags: ZoneFlags,
): Promise<void> {
  const { zone } = readWhole(file, await textOf(file), originOf(flags.origin));
  const before = await newestOf(client, zoneId);
  const customerId = flags.customer ?? before?.document.customerId;
  if (customerId === undefined)
    throw new UsageError(`zone push: ${zoneId} is new; say whose it is with --customer ID`);
  const document = zoneDocument.parse({
    ...before?.document,
    zoneId,
    customerId,
    origin: nameToText(zone.origin).slice(0, -1).toLowerCase(),
    isActive: true,
    sets: setsOfZone(zone),
  });
  await put(client, document, before?.version ?? 0, flags);
}

export async function edit(
  client: ControlClient,
  zoneId: string,
  edits: readonly ZoneEdit[],
  flags: ZoneFlags,
): Promise<void> {
  const { document, version } = await there(client, zoneId);
  await put(client, editZone(document, edits, flags.serial), version, flags);
}

export async function withdraw(client: ControlClient, zoneId: string, flags: ZoneFlags): Promise<void> {
  const { document, version } = await there(client, zoneId);
  await put(client, { ...document, isActive: false }, version, flags);
}

/** Who may fetch the zone, by the name of a TSIG key, and who is told of changes; `off`: nobody. */
export async function transfer(
  client: ControlClient,
  zoneId: string,
  keyName: string,
  peers: readonly string[],
  flags: ZoneFlags,
): Promise<void> {
  const { document, version } = await there(client, zoneId);
  const { transfer: _before, ...rest } = document;
  const notify = peers.map((peer) => {
    if (parseAddress(peer) !== undefined) return { address: peer };
    const at = parseListenAddress(peer);
    if (at === undefined)
      throw new UsageError(
        `zone transfer: got ${quoteValue(peer)}, expected ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT`,
      );
    return { address: at.host, port: at.port };
  });
  const next = keyName === "off" ? rest : { ...rest, transfer: { keyName, notify } };
  await put(client, zoneDocument.parse(next), version, flags);
}

export async function show(client: ControlClient, zoneId: string, isJson: boolean): Promise<void> {
  const { document } = await there(client, zoneId);
  if (isJson) {
    console.log(JSON.stringify(document, undefined, 2));
    return;
  }
  for (const { name, type, ttlSeconds, data } of document.sets)
    for (const one of data) console.log(`${name} ${ttlSeconds} IN ${type} ${one}`);
}

export async function list(client: ControlClient, isJson: boolean): Promise<void> {
  const rows: {
    zoneId: string;
    origin: string;
    customerId: string;
    serial: number;
    sets: number;
    version: number;
    isActive: boolean;
  }[] = [];
  for (const { id, activeVersion } of await client.documents("zone")) {
    const found = activeVersion === null ? undefined : await client.document("zone", id, activeVersion);
    if (found === undefined) continue;
    const { zoneId, origin, customerId, isActive, sets, ...rest } = zoneDocument.parse(found.body);
    const { serial } = zoneOfDocument({ zoneId, origin, customerId, isActive, sets, ...rest });
    rows.push({ zoneId, origin, customerId, serial, sets: sets.length, version: found.version, isActive });
  }
  if (isJson) console.log(JSON.stringify(rows, undefined, 2));
  else
    console.log(
      formatTable(
        ["zone", "origin", "customer", "serial", "RRsets", "version", "state"],
        rows.map((row) => [
          row.zoneId,
          row.origin,
          row.customerId,
          row.serial,
          row.sets,
          row.version,
          row.isActive ? "served" : "withdrawn",
        ]),
      ),
    );
}

interface Kept {
  readonly document: ZoneDocument;
  readonly version: number;
}

async function newestOf(client: ControlClient, zoneId: string): Promise<Kept | undefined> {
  const newest = (await client.versions("zone", zoneId)).at(-1);
  const found = newest && (await client.document("zone", zoneId, newest.version));
  return found && { document: zoneDocument.parse(found.body), version: found.version };
}

async function there(client: ControlClient, zoneId: string): Promise<Kept> {
  const found = await newestOf(client, zoneId);
  if (found === undefined)
    throw new UsageError(`There is no zone ${JSON.stringify(zoneId)}; "isochrone zone list" lists them`, 1);
  return found;
}

async function put(
  client: ControlClient,
  document: ZoneDocument,
  expectedVersion: number,
  flags: ZoneFlags,
): Promise<void> {
  const { zoneId, origin, isActive } = document;
  const { serial } = zoneOfDocument(document);
  const summary = await client.put("zone", zoneId, document, {
    expectedVersion,
    note: flags.note ?? `serial ${serial}`,
    author: authorName(),
    activate: true,
  });
  if (flags.isJson) console.log(JSON.stringify({ ...summary, serial }, undefined, 2));
  else if (isActive)
    console.log(`${zoneId}: version ${summary.version} of ${origin} is active, serial ${serial}`);
  else console.log(`${zoneId}: version ${summary.version} withdraws ${origin}`);
}

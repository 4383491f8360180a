/** `isochrone zone push|list|show|set|add|delete|transfer|withdraw`: zones in control, in force at every name server. */
import type { ControlClient } from "#control";
import {
  hasRecords,
  nameToText,
  parseAddress,
  quoteValue,
  setsOfZone,
  type ZoneDocument,
  zoneDocument,
  type ZoneEdit,
  zoneOfDocument,
} from "#kit";
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
  readonly keyName: string | undefined;
  readonly areAliasesExpanded: boolean;
  readonly notifiers: readonly string[];
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
  const { secondary: _primaries, ...kept } = before?.document ?? {};
  const document = zoneDocument.parse({
    ...kept,
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
  const { serial, note, isJson } = flags;
  const edited = await client.editZone(zoneId, {
    edits,
    author: authorName(),
    ...(serial !== undefined && { expectedSerial: serial }),
    ...(note !== undefined && { note }),
  });
  if (isJson) console.log(JSON.stringify(edited, undefined, 2));
  else console.log(`${zoneId}: version ${edited.version} is active, serial ${edited.serial}`);
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
  const notify = peers.map((peer) => peerOf("zone transfer", peer));
  const aliases = flags.areAliasesExpanded ? "expanded" : "kept";
  const next = keyName === "off" ? rest : { ...rest, transfer: { keyName, notify, aliases } };
  await put(client, zoneDocument.parse(next), version, flags);
}

/** ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT of another name server. Throws {@link UsageError}. */
export function peerOf(command: string, text: string): { readonly address: string; readonly port?: number } {
  if (parseAddress(text) !== undefined) return { address: text };
  const at = parseListenAddress(text);
  if (at === undefined)
    throw new UsageError(
      `${command}: got ${quoteValue(text)}, expected ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT`,
    );
  return { address: at.host, port: at.port };
}

export async function show(client: ControlClient, zoneId: string, isJson: boolean): Promise<void> {
  const { document } = await there(client, zoneId);
  if (isJson) {
    console.log(JSON.stringify(document, undefined, 2));
    return;
  }
  const { primaries = [] } = document.secondary ?? {};
  for (const { address, port, keyName } of primaries)
    console.log(`; from ${address} port ${port}${keyName === undefined ? "" : ` by key ${keyName}`}`);
  for (const { name, type, ttlSeconds, data } of document.sets)
    for (const one of data) console.log(`${name} ${ttlSeconds} IN ${type} ${one}`);
}

export async function list(client: ControlClient, isJson: boolean): Promise<void> {
  const rows: {
    zoneId: string;
    origin: string;
    customerId: string;
    serial: number | null;
    sets: number;
    version: number;
    isActive: boolean;
  }[] = [];
  for (const { id, activeVersion } of await client.documents("zone")) {
    const found = activeVersion === null ? undefined : await client.document("zone", id, activeVersion);
    if (found === undefined) continue;
    const document = zoneDocument.parse(found.body);
    const { zoneId, origin, customerId, isActive, sets } = document;
    const serial = serialOf(document);
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
          row.serial ?? "-",
          row.sets,
          row.version,
          !row.isActive ? "withdrawn" : row.serial === null ? "followed" : "served",
        ]),
      ),
    );
}

interface Kept {
  readonly document: ZoneDocument;
  readonly version: number;
}

export async function newestOf(client: ControlClient, zoneId: string): Promise<Kept | undefined> {
  const newest = (await client.versions("zone", zoneId)).at(-1);
  const found = newest && (await client.document("zone", zoneId, newest.version));
  return found && { document: zoneDocument.parse(found.body), version: found.version };
}

/** Null: its records stand in no document. */
function serialOf(document: ZoneDocument): number | null {
  return hasRecords(document) ? zoneOfDocument(document).serial : null;
}

async function there(client: ControlClient, zoneId: string): Promise<Kept> {
  const found = await newestOf(client, zoneId);
  if (found === undefined)
    throw new UsageError(`There is no zone ${JSON.stringify(zoneId)}; "isochrone zone list" lists them`, 1);
  return found;
}

export async function put(
  client: ControlClient,
  document: ZoneDocument,
  expectedVersion: number,
  flags: ZoneFlags,
): Promise<void> {
  const { zoneId, origin, isActive } = document;
  const serial = serialOf(document);
  const summary = await client.put("zone", zoneId, document, {
    expectedVersion,
    note: flags.note ?? (serial === null ? "from its primaries" : `serial ${serial}`),
    author: authorName(),
    activate: true,
  });
  if (flags.isJson) console.log(JSON.stringify({ ...summary, serial }, undefined, 2));
  else if (isActive && serial === null)
    console.log(`${zoneId}: version ${summary.version} of ${origin} is active, fetched from its primaries`);
  else if (isActive)
    console.log(`${zoneId}: version ${summary.version} of ${origin} is active, serial ${serial}`);
  else console.log(`${zoneId}: version ${summary.version} withdraws ${origin}`);
}

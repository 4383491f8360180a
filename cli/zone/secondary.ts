/** `isochrone zone follow|status`: zones that are fetched from primaries elsewhere, and what each name server has of all. */
import type { ControlClient } from "#control";
import { hostname, type ServerReport, topologyDocument, zoneDocument } from "#kit";
import { formatTable } from "../table.ts";
import { UsageError } from "../usage.ts";
import { newestOf, peerOf, put, type ZoneFlags } from "./documents.ts";

/** In the place of records that a zone of this id had; who may fetch it, and whom it belongs to, stays. */
export async function follow(
  client: ControlClient,
  zoneId: string,
  originText: string,
  primaries: readonly string[],
  flags: ZoneFlags,
): Promise<void> {
  const before = await newestOf(client, zoneId);
  const customerId = flags.customer ?? before?.document.customerId;
  if (customerId === undefined)
    throw new UsageError(`zone follow: ${zoneId} is new; say whose it is with --customer ID`);
  const { keyName, notifiers } = flags;
  const document = zoneDocument.parse({
    ...before?.document,
    zoneId,
    customerId,
    origin: hostname().parse(originText.replace(/\.$/, "").toLowerCase(), ["ORIGIN"]),
    isActive: true,
    sets: [],
    secondary: {
      primaries: primaries.map((primary) => ({
        ...peerOf("zone follow", primary),
        ...(keyName !== undefined && { keyName }),
      })),
      notifiers,
    },
  });
  await put(client, document, before?.version ?? 0, flags);
}

interface StatusRow {
  readonly zoneId: string;
  readonly serverId: string;
  /** Of control's document; null: the server has none yet. */
  readonly version: number | null;
  readonly state: string;
  readonly serial: number | null;
  readonly confirmedSecondsAgo: number | null;
  readonly problem: string | null;
}

/** By what name servers reported last, a second or so ago; of one that has not reported of late it says so. */
export async function status(
  client: ControlClient,
  zoneId: string | undefined,
  isJson: boolean,
): Promise<void> {
  const zones = (await client.documents("zone")).filter(({ id }) => zoneId === undefined || id === zoneId);
  if (zoneId !== undefined && zones.length === 0)
    throw new UsageError(`There is no zone ${JSON.stringify(zoneId)}; "isochrone zone list" lists them`, 1);
  const reports = (await client.reports()).filter(({ role }) => role === "nameserver");
  const heardOf = new Set<string>(reports.map(({ serverId }) => serverId));
  const silent = (await nameServerIds(client)).filter((serverId) => !heardOf.has(serverId));
  const rows = zones.flatMap(({ id }) => [
    ...reports.map((report) => rowOf(id, report)),
    ...silent.map((serverId) => ({ ...unknown, zoneId: id, serverId })),
  ]);
  if (isJson) {
    console.log(JSON.stringify(rows, undefined, 2));
    return;
  }
  console.log(
    formatTable(
      ["zone", "server", "version", "state", "serial", "confirmed", "problem"],
      rows.map((row) => [
        row.zoneId,
        row.serverId,
        row.version ?? "-",
        row.state,
        row.serial ?? "-",
        row.confirmedSecondsAgo === null ? "-" : `${row.confirmedSecondsAgo} s ago`,
        row.problem ?? "",
      ]),
    ),
  );
}

const unknown = {
  version: null,
  state: "no report",
  serial: null,
  confirmedSecondsAgo: null,
  problem: null,
} as const;

/** Those at the top of the topology, which have customers' zones. */
async function nameServerIds(client: ControlClient): Promise<readonly string[]> {
  const [summary] = await client.documents("topology");
  const record = summary && (await client.document("topology", summary.id));
  if (record === undefined) return [];
  const { nameServers } = topologyDocument.parse(record.body).nameService;
  const atTop = nameServers.filter(({ edgeClusterId }) => edgeClusterId === undefined);
  // One with two addresses stands there twice.
  return [...new Set(atTop.map(({ serverId }) => serverId))];
}

function rowOf(zoneId: string, { serverId, applied, secondaryZones, atEpochMs }: ServerReport): StatusRow {
  const zone = Object.entries(secondaryZones ?? {}).find(([id]) => id === zoneId)?.[1];
  const version = applied[`zone/${zoneId}`] ?? null;
  const confirmedAt = zone?.confirmedAtEpochMs;
  return {
    zoneId,
    serverId,
    version,
    // Of a zone that control has the records of, the version says all.
    state: zone?.state ?? (version === null ? "not there" : "applied"),
    serial: zone?.serial ?? null,
    confirmedSecondsAgo:
      confirmedAt === undefined ? null : Math.max(0, Math.round((atEpochMs - confirmedAt) / 1_000)),
    problem: zone?.problem ?? null,
  };
}

import type { ControlClient, LeaseAnswer } from "#control";
import { type ClusterId, formatDurationMs, type MapSnapshot, quoteValue, trafficClasses } from "#kit";
import { formatTable } from "../table.ts";
import { UsageError } from "../usage.ts";
import { publicationText, readVersion, versionOf } from "./read.ts";

export interface ShowOptions {
  readonly isJson: boolean;
  readonly network: string | undefined;
}

/** What a map says. Throws {@link UsageError}, exit code 1, for a version or network that is not there. */
export async function show(
  client: ControlClient,
  subject: string | undefined,
  { isJson, network }: ShowOptions,
): Promise<void> {
  const read = await readVersion(client, subject === undefined ? undefined : versionOf(subject));
  if (network !== undefined) return showNetwork(read.snapshot, network, isJson);
  if (isJson) return console.log(JSON.stringify(read.raw, null, 2));
  const [lease] = await client.leases();
  const { version, activeVersion } = read.summary ?? { version: 0, activeVersion: null };
  console.log(
    formatMap(read.snapshot, {
      title: `version ${version}${version === activeVersion ? ", in force" : ""}`,
      publisher: publisherText(lease),
      nowEpochMs: Date.now(),
    }),
  );
}

function publisherText(lease: LeaseAnswer | undefined): string {
  if (lease === undefined || lease.holderId === null) return "nobody is elected";
  const until = `term ${lease.term}, for ${formatDurationMs(Math.round(lease.remainingMs))} unless renewed`;
  return `${lease.holderId}: ${until}${lease.note === "" ? "" : ` (${lease.note})`}`;
}

export function formatMap(
  snapshot: MapSnapshot,
  about: { readonly title: string; readonly publisher: string; readonly nowEpochMs: number },
): string {
  const table = snapshot.clusterMap.table();
  const { networks } = table;
  const counts = table.clusterIds.map(() => [0, 0, 0]);
  for (let n = 0; n < networks.size; n++)
    for (const k of trafficClasses.keys()) {
      const count = counts[table.firstCluster(n, k)];
      if (count !== undefined) count[k] = (count[k] ?? 0) + 1;
    }
  const loads = table.parts.loads;
  const rows = table.clusterIds.map((clusterId, c) => [
    clusterId,
    snapshot.suspended[clusterId] === true ? "suspended" : "",
    ...(counts[c] ?? []),
    (loads[c] ?? 0).toFixed(2),
  ]);
  const firsts = (ids: Iterable<ClusterId | null>): string =>
    [...Map.groupBy(ids, (id) => id ?? "direct")]
      .map(([id, all]) => `${id} ${all.length}`)
      .sort()
      .join(", ");
  const age = formatDurationMs(
    Math.max(0, Math.round((about.nowEpochMs - snapshot.createdAtEpochMs) / 1_000) * 1_000),
  );
  return [
    `${about.title}: ${publicationText(snapshot)}, ${age} old, made for: ${snapshot.reason}`,
    `  publisher  ${about.publisher}`,
    `  networks   ${networks.size} with ${networks.prefixCount} prefixes`,
    `  parents    ${snapshot.tiers.length} pairs of edge cluster and origin; first: ${firsts(snapshot.tiers.flatMap(({ parents }) => parents[0]?.clusterId ?? []))}`,
    `  paths      ${snapshot.paths.length} pairs of clusters; first: ${firsts(snapshot.paths.map(({ candidates }) => candidates[0]?.via ?? null))}`,
    "",
    formatTable(["cluster", "", ...trafficClasses, "load"], rows),
  ].join("\n");
}

function showNetwork(snapshot: MapSnapshot, name: string, isJson: boolean): void {
  const table = snapshot.clusterMap.table();
  const n = table.networks.ids.findIndex((id) => id === name);
  if (n === -1) throw new UsageError(`The map has no client network ${quoteValue(name)}`, 1);
  const clusters = table.rankings(n);
  const prefixes = table.networks.prefixesOf(n);
  if (isJson)
    return console.log(
      JSON.stringify({ mapVersion: snapshot.mapVersion, clientNetworkId: name, prefixes, clusters }, null, 2),
    );
  const lines = [`${name}: ${prefixes.join(", ")}; ${publicationText(snapshot)}`];
  for (const trafficClass of trafficClasses) {
    const { reason, limitName } = table.reason(n, trafficClass);
    lines.push("", `${trafficClass}: ${reason}${limitName === null ? "" : ` (limit ${limitName})`}`);
    const rows = clusters[trafficClass].map(({ clusterId, score, terms }) => [
      clusterId,
      score.toFixed(1),
      terms.rttMs.toFixed(1),
      (terms.lossRatio * 100).toFixed(2),
      terms.load.toFixed(2),
      terms.confidence.toFixed(2),
    ]);
    lines.push(formatTable(["cluster", "score", "rtt ms", "loss %", "load", "confidence"], rows));
  }
  console.log(lines.join("\n"));
}

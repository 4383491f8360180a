import { diffClusterMaps, type PathEntry, type TierEntry, type TrafficClass, trafficClasses } from "#kit";
import {
  changesText,
  type ClusterThenAndNow,
  mapChanges,
  type NetworkMove,
  networkMoves,
  pathChanges,
  tierChanges,
} from "../../mapping/core/map-changes.ts";
import type { ControlChoice } from "../resolve-control.ts";
import { formatTable } from "../table.ts";
import { publicationText, type ReadMap, readPair } from "./read.ts";

export interface DiffOptions {
  readonly isJson: boolean;
  readonly limit: number;
  readonly trafficClass: TrafficClass | undefined;
}

/** What differs from `a` to `b`; each a version or a file. */
export async function diff(choice: ControlChoice, a: string, b: string, options: DiffOptions): Promise<void> {
  const [before, now] = await readPair(choice, a, b);
  const result = diffOf(before, now, options);
  console.log(options.isJson ? JSON.stringify(result, null, 2) : formatDiff(result, options));
}

function diffOf(before: ReadMap, now: ReadMap, { limit, trafficClass }: DiffOptions) {
  const about = ({ name, snapshot }: ReadMap) => ({
    name,
    mapVersion: snapshot.mapVersion,
    publication: snapshot.publication ?? null,
    createdAtEpochMs: snapshot.createdAtEpochMs,
    reason: snapshot.reason,
    text: publicationText(snapshot),
  });
  const moves: NetworkMove[] = [];
  const classes = trafficClass === undefined ? undefined : [trafficClass];
  for (const move of networkMoves(before.snapshot, now.snapshot, classes)) {
    if (moves.length >= limit) break;
    moves.push(move);
  }
  return {
    before: about(before),
    now: about(now),
    changes: mapChanges(before.snapshot, now.snapshot),
    /** Of the cluster map: whole, and what differs. */
    bytes: {
      now: now.snapshot.clusterMap.bytes().length,
      difference: diffClusterMaps(before.snapshot.clusterMap, now.snapshot.clusterMap).length,
    },
    moves,
    tiers: tierChanges(before.snapshot, now.snapshot).slice(0, limit),
    paths: pathChanges(before.snapshot, now.snapshot).slice(0, limit),
  };
}

function formatDiff(
  { before, now, changes, bytes, moves, tiers, paths }: ReturnType<typeof diffOf>,
  { limit, trafficClass }: DiffOptions,
): string {
  const lines = [
    `${before.name} (${before.text}) -> ${now.name} (${now.text})`,
    changesText(changes),
    `${bytes.difference} bytes differ; the cluster map has ${bytes.now}`,
  ];
  const section = (title: string, shown: number, all: number, table: string): void => {
    if (shown === 0) return;
    lines.push("", shown < all ? `${title}, ${shown} of ${all} (--limit ${limit})` : title, table);
  };
  const moved = trafficClasses
    .filter((one) => trafficClass === undefined || one === trafficClass)
    .reduce((sum, one) => sum + changes.moved[one], 0);
  section(
    "client networks",
    moves.length,
    moved,
    formatTable(
      ["network", "class", "from", "rtt ms", "score", "load", "to", "rtt ms", "score", "load", "reason"],
      moves.map(({ clientNetworkId, trafficClass, from, to, reason, limitName }) => [
        clientNetworkId,
        trafficClass,
        ...termsOf(from),
        ...termsOf(to),
        // The newer map's reason is about what serves: it does not say why the one before is out.
        (limitName === null ? reason : `${reason} (${limitName})`) +
          (changes.suspended.includes(from.clusterId) ? `; ${from.clusterId} is suspended` : ""),
      ]),
    ),
  );
  section(
    "first parents",
    tiers.length,
    changes.tiers,
    formatTable(
      ["edge", "origin", "from", "to"],
      tiers.map((one) => [
        one.edgeClusterId,
        one.originClusterId ?? "any",
        parentOf(one.before),
        parentOf(one.now),
      ]),
    ),
  );
  section(
    "first paths",
    paths.length,
    changes.paths,
    formatTable(
      ["from", "to", "before", "now"],
      paths.map((one) => [one.fromClusterId, one.toClusterId, pathOf(one.before), pathOf(one.now)]),
    ),
  );
  return lines.join("\n");
}

/** Cluster, then each term before and now. */
function termsOf({ clusterId, before, now }: ClusterThenAndNow): string[] {
  const both = (read: (one: NonNullable<typeof before>) => string): string =>
    `${before === undefined ? "-" : read(before)} > ${now === undefined ? "-" : read(now)}`;
  return [
    clusterId,
    both(({ terms }) => terms.rttMs.toFixed(1)),
    both(({ score }) => score.toFixed(1)),
    both(({ terms }) => terms.load.toFixed(2)),
  ];
}

function parentOf(parent: TierEntry["parents"][number] | undefined): string {
  return parent === undefined ? "-" : `${parent.clusterId} ${parent.costMs.toFixed(1)} ms`;
}

function pathOf(path: PathEntry["candidates"][number] | undefined): string {
  if (path === undefined) return "-";
  return `${path.via ?? "direct"} ${path.rttMs.toFixed(1)} ms ${(path.lossRatio * 100).toFixed(2)} %`;
}

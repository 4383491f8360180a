/**
 * Which hops content takes now. The map names the parent of each edge cluster; the servers' reports say how long each
 * measured path is, directly and through relays. A report names candidates but not the choice, so the quickest measured one
 * stands for it, with the map's order as the tie-break and the fallback.
 */
import type {
  ClusterEntry,
  LinkReport,
  MapSnapshot,
  PropertyDocument,
  ServerReport,
  TopologyDocument,
} from "#kit";
import type { LiveLink } from "./wire.ts";

/** More than a map can show. */
export const LINKS_MAX = 2_000;

export interface LinksInput {
  readonly topology: TopologyDocument;
  readonly map: MapSnapshot | undefined;
  readonly properties: readonly PropertyDocument[];
  /** Fresh ones only. */
  readonly reports: readonly ServerReport[];
  readonly isBusy: (serverId: string, propertyId: string) => boolean;
}

export function linksInUse(input: LinksInput): readonly LiveLink[] {
  const { topology, map } = input;
  const clusterOfAddress = new Map<string, string>();
  for (const cluster of topology.clusters) {
    for (const server of cluster.servers)
      clusterOfAddress.set(`${server.address}:${server.port}`, cluster.clusterId);
  }
  const measured = measurements(input.reports);
  const mapPaths = new Map(
    map?.paths.map((path) => [`${path.fromClusterId}|${path.toClusterId}`, path.candidates]),
  );
  const links = new Map<string, LiveLink>();
  const use = (from: string, to: string, kind: LiveLink["kind"], isBusy: boolean): void => {
    if (from === to) return;
    const key = `${from}|${to}`;
    const known = links.get(key);
    if (known !== undefined) {
      if (isBusy && !known.isBusy) links.set(key, { ...known, isBusy: true });
      return;
    }
    if (links.size >= LINKS_MAX) return;
    links.set(key, {
      fromClusterId: from,
      toClusterId: to,
      kind,
      isBusy,
      ...pathOf(measured.get(key), mapPaths.get(key)),
    });
  };

  const parentOf = parentFinder(map);
  for (const cluster of topology.clusters) {
    if (cluster.role !== "edge") continue;
    for (const property of input.properties) {
      if (!property.isActive) continue;
      const busy = isClusterBusy(cluster, property.propertyId, input.isBusy);
      const first = property.origins[0];
      const originCluster =
        first === undefined ? undefined : clusterOfAddress.get(`${first.host}:${first.port}`);
      const parent = property.tiering === "parent" ? parentOf(cluster.clusterId, originCluster) : undefined;
      if (parent !== undefined) use(cluster.clusterId, parent, "parent", busy);
      if (originCluster !== undefined) use(parent ?? cluster.clusterId, originCluster, "origin", busy);
    }
  }
  return [...links.values()];
}

function isClusterBusy(cluster: ClusterEntry, propertyId: string, isBusy: LinksInput["isBusy"]): boolean {
  return cluster.servers.some((server) => isBusy(server.serverId, propertyId));
}

/** The tier map's first parent: the entry of this origin, else the one for any origin. */
function parentFinder(
  map: MapSnapshot | undefined,
): (edge: string, origin: string | undefined) => string | undefined {
  const first = new Map<string, string>();
  for (const entry of map?.tiers ?? []) {
    const parent = entry.parents[0]?.clusterId;
    if (parent !== undefined) first.set(`${entry.edgeClusterId}|${entry.originClusterId ?? ""}`, parent);
  }
  return (edge, origin) => first.get(`${edge}|${origin ?? ""}`) ?? first.get(`${edge}|`);
}

/** The servers of a cluster measure the same link: the one with most samples speaks for each path. */
function measurements(reports: readonly ServerReport[]): Map<string, Map<string, LinkReport>> {
  const result = new Map<string, Map<string, LinkReport>>();
  for (const report of reports) {
    for (const link of report.links) {
      if (link.samples === 0) continue;
      const key = `${report.clusterId}|${link.toClusterId}`;
      let paths = result.get(key);
      if (paths === undefined) result.set(key, (paths = new Map()));
      const known = paths.get(link.via ?? "");
      if (known === undefined || known.samples < link.samples) paths.set(link.via ?? "", link);
    }
  }
  return result;
}

/** Of the newest probes: a path that loses so much has been left, however quick it was. Its round trip is of before. */
const LOST_RATIO = 0.5;

function isLost(link: LinkReport): boolean {
  return link.lossRatio >= LOST_RATIO;
}

type PathView = Pick<LiveLink, "via" | "srttMs" | "directSrttMs" | "lossRatio" | "basis">;

/** A direct path that is lost has no round trip to compare with. */
function savedAgainst(direct: LinkReport | undefined): number | null {
  return direct === undefined || isLost(direct) ? null : direct.srttMs;
}

function pathOf(
  measured: ReadonlyMap<string, LinkReport> | undefined,
  candidates: MapSnapshot["paths"][number]["candidates"] | undefined,
): PathView {
  if (measured !== undefined && measured.size > 0) {
    const order: string[] = (candidates ?? []).map((candidate) => candidate.via ?? "");
    const rank = (via: string): number => (order.includes(via) ? order.indexOf(via) : order.length);
    const [best] = [...measured.entries()].sort(
      ([viaA, a], [viaB, b]) =>
        Number(isLost(a)) - Number(isLost(b)) ||
        a.srttMs - b.srttMs ||
        rank(viaA) - rank(viaB) ||
        (viaA < viaB ? -1 : 1),
    );
    if (best !== undefined) {
      const [via, link] = best;
      return {
        via: via === "" ? null : via,
        srttMs: link.srttMs,
        directSrttMs: via === "" ? null : savedAgainst(measured.get("")),
        lossRatio: link.lossRatio,
        basis: "measured",
      };
    }
  }
  const first = candidates?.[0];
  if (first === undefined)
    return { via: null, srttMs: null, directSrttMs: null, lossRatio: null, basis: "none" };
  const direct = candidates?.find((candidate) => candidate.via === null);
  return {
    via: first.via,
    srttMs: first.rttMs,
    directSrttMs: first.via === null ? null : (direct?.rttMs ?? null),
    lossRatio: first.lossRatio,
    basis: "map",
  };
}

/** What of a world can be hit, and how long its links are at most. */
import type { TopologyDocument } from "#kit";
import type { LinkTruth } from "./core/network.ts";
import type { Targets } from "./core/swarm.ts";

export function targetsOf(
  topology: TopologyDocument,
  clientIds: readonly string[],
  links: LinkTruth,
  controlSite: string,
  originIds: readonly string[],
  mapperIds: readonly string[],
  hasStandIn: boolean,
): Targets {
  const clusters = topology.clusters;
  const of = (...roles: readonly string[]) =>
    clusters.filter((one) => roles.includes(one.role) && one.servers.length > 0);
  const serversOf = (...roles: readonly string[]): string[] =>
    of(...roles)
      .flatMap((one) => one.servers.map((server) => server.serverId))
      .sort();
  const pairs = new Set<string>();
  const join = (a: string, b: string): void => void (a !== b && pairs.add(a < b ? `${a}|${b}` : `${b}|${a}`));
  for (const edge of of("edge")) for (const up of of("parent", "origin")) join(edge.clusterId, up.clusterId);
  for (const parent of of("parent"))
    for (const origin of of("origin")) join(parent.clusterId, origin.clusterId);
  const edges = of("edge").map((one) => one.clusterId);
  const nearest = (client: string): string =>
    edges.toSorted((a, b) => links.between(client, a).rttMs - links.between(client, b).rttMs)[0] ?? "";
  // Where control shares a site with servers, cutting that site off would cut more than control.
  const isAlone = clusters.find((one) => one.clusterId === controlSite)?.role === "service";
  return {
    servers: serversOf("edge", "parent", "relay", "nameserver"),
    clusters: of("edge", "parent")
      .map((one) => one.clusterId)
      .sort(),
    links: [...pairs].sort(),
    clientLinks: edges.length < 2 ? [] : clientIds.map((client) => `${client}|${nearest(client)}`).sort(),
    sites: isAlone
      ? of("edge", "parent", "nameserver")
          .map((one) => one.clusterId)
          .sort()
      : [],
    origins: [...new Set(originIds)].sort(),
    mappers: [...mapperIds].sort(),
    nodes: serversOf("edge", "parent", "nameserver"),
    poisonable: hasStandIn ? ["topology", "topology at one"] : [],
  };
}

/** Longest round trip between any two sites, ms. */
export function rttMsMaxOf(siteIds: readonly string[], links: LinkTruth): number {
  let max = 0;
  for (const a of siteIds) for (const b of siteIds) max = Math.max(max, links.between(a, b).rttMs);
  return max;
}

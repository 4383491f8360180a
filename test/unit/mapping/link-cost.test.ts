import { expect, test } from "vitest";
import { LinkTable, pathMap, tierMap } from "#mapping";
import { at, cluster, server, topologyOf } from "./fixtures.ts";
import { idleReport } from "../../tools/server-report.ts";

const topology = topologyOf([
  { id: "fra", latitude: 50, longitude: 8 },
  { id: "ams", role: "parent", latitude: 52, longitude: 5 },
  { id: "lon", role: "parent", latitude: 51, longitude: 0 },
  { id: "rly", role: "relay", latitude: 48, longitude: 2 },
]);
/** fra to both parents and to one of them over the relay. */
function linksOf(
  figures: readonly (readonly [to: string, via: string | null, rttMs: number, lossRatio: number])[],
  ms = 0,
) {
  const links = new LinkTable();
  for (const [to, via, rttMs, lossRatio] of figures) {
    const link = {
      toClusterId: cluster(to),
      via: via === null ? null : cluster(via),
      srttMs: rttMs,
      lossRatio,
    };
    links.handleReport(
      {
        ...idleReport("fra-1", { links: [{ ...link, rttvarMs: 0, samples: 9 }] }),
        serverId: server("fra-1"),
      },
      at(ms),
    );
  }
  return links;
}
const parents = (links: LinkTable, ms: number, load: Readonly<Record<string, number>> = {}) =>
  tierMap(
    topology,
    links,
    () => true,
    at(ms),
    ({ clusterId }) => load[clusterId] ?? 0,
  )[0]!.parents;

test("a parent's cost is the round trip, and what loss, age and load add to it", () => {
  const links = linksOf([
    ["ams", null, 20, 0.1],
    ["lon", null, 30, 0],
  ]);
  // 0.1 * (200 + 20) ms of waiting for retransmissions.
  expect(parents(links, 0)).toMatchObject([
    { clusterId: "lon", costMs: 30, terms: { lossMs: 0, ageMs: 0, loadMs: 0 } },
    { clusterId: "ams", costMs: 42, terms: { toParentMs: 20, lossMs: 22 } },
  ]);
  // A full one costs 100 ms more.
  expect(parents(links, 0, { lon: 1 })).toMatchObject([
    { clusterId: "ams" },
    { costMs: 130, terms: { loadMs: 100 } },
  ]);
  // Reports stopped 35 s ago: half of it is left, for a quarter of the round trip.
  expect(parents(links, 10_000)[0]).toMatchObject({ costMs: 30 });
  expect(parents(links, 35_000)[0]).toMatchObject({ clusterId: "lon", costMs: 37.5, terms: { ageMs: 7.5 } });
});

test("a path that loses comes after a longer one that does not", () => {
  const candidates = (links: LinkTable) =>
    pathMap(topology, links, () => true, at(0)).find(
      ({ fromClusterId, toClusterId }) => fromClusterId === "fra" && toClusterId === "ams",
    )!.candidates;
  const clean = linksOf([
    ["ams", null, 20, 0],
    ["ams", "rly", 25, 0],
  ]);
  expect(candidates(clean)).toMatchObject([
    { via: null, costMs: 20 },
    { via: "rly", costMs: 25, basis: "measured" },
  ]);
  const lossy = linksOf([
    ["ams", null, 20, 0.05],
    ["ams", "rly", 25, 0],
  ]);
  expect(candidates(lossy)).toMatchObject([
    { via: "rly", costMs: 25 },
    { via: null, rttMs: 20, costMs: 31 },
  ]);
});

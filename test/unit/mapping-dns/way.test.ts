/** Goal: answers of the name server, parents and paths are of one map. Method: an engine's map, read by each of the three. */
import { expect, test } from "vitest";
import { epochMs, mapSnapshot, type MapSnapshot, propertyDocument } from "#kit";
import { Tiers } from "../../../edge/core/tiers.ts";
import { ZoneTable } from "../../../mapping/core/dns/zone-table.ts";
import { MapEngine } from "../../../mapping/core/engine.ts";
import { MapIndex } from "../../../mapping/core/map-index.ts";
import { TopologyIndex } from "../../../mapping/core/topology-index.ts";
import { explainWhere } from "../../../mapping/core/where.ts";
import { idleReport } from "../../tools/server-report.ts";
import { at, cluster, network, server, topologyOf } from "../mapping/fixtures.ts";

const built = topologyOf([
  { id: "fra", latitude: 50, longitude: 8 },
  { id: "iad", latitude: 39, longitude: -77 },
  { id: "ams", role: "parent", latitude: 52, longitude: 5 },
  { id: "lon", role: "parent", latitude: 51, longitude: 0 },
  { id: "mad", role: "relay", latitude: 40, longitude: -4 },
  { id: "org", role: "origin", servers: 1, latitude: 53, longitude: -6 },
]);
const topology = { ...built, nameService: { ...built.nameService, zones: ["shop.example"] } } as typeof built;
const origin = topology.clusters.at(-1)?.servers[0];
const property = propertyDocument.parse({
  propertyId: "shop-www",
  customerId: "shop",
  hostnames: ["www.shop.example"],
  origins: [{ scheme: "http", host: origin?.address, port: origin?.port }],
});

function mapAt(engine: MapEngine, ms: number): MapSnapshot {
  engine.handleTimeout(at(ms));
  const event = engine.pollEvent();
  if (event?.type !== "snapshot") throw new Error("no snapshot");
  return mapSnapshot.parse(JSON.parse(JSON.stringify(event.snapshot)));
}
const link = (to: string, srttMs: number) =>
  ({ toClusterId: cluster(to), via: null, srttMs, rttvarMs: 1, lossRatio: 0, samples: 9 }) as const;

test("where, tiers and paths of an edge go on from the answer by one version, each with what it rests on", () => {
  const engine = new MapEngine({ epochOf: (now) => epochMs(now) });
  engine.handleTopology(topology, at(0));
  engine.handleClientNetworks(
    [
      {
        clientNetworkId: network("berlin"),
        prefixes: ["192.0.2.0/24"],
        coordinates: { latitude: 52, longitude: 13 },
        demandPerSecond: 1,
      },
    ],
    at(0),
  );
  const context = (snapshot: MapSnapshot) => ({
    zones: new ZoneTable({ topology, properties: [property], serial: 1 }),
    topology: new TopologyIndex(topology),
    snapshot: new MapIndex(snapshot),
    isUp: () => true,
  });
  const said = (snapshot: MapSnapshot) => {
    const result = explainWhere("www.shop.example", "192.0.2.1", context(snapshot));
    if (!result.ok) throw new Error(result.message);
    return result.report;
  };
  const tiers = new Tiers(
    server("fra-1"),
    topology,
    { serversPerParentMax: 2, parentClustersMax: 2 },
    () => true,
  );
  const firstParentOf = (snapshot: MapSnapshot): string | undefined => {
    tiers.setSnapshot(snapshot);
    const way = {
      propertyId: property.propertyId,
      tiering: "parent",
      originClusterId: cluster("org"),
    } as const;
    const hop = tiers
      .hopsFor(way, "key", { tier: undefined, isOwner: true })
      .find(({ kind }) => kind === "parent");
    return hop?.serverId.slice(0, 3);
  };

  const guessed = mapAt(engine, 0);
  const first = said(guessed);
  expect([first.clusterId, first.mapVersion, tiersVersion(firstParentOf(guessed))]).toEqual(["fra", 1, 1]);
  expect(first.way?.originClusterId).toBe("org");
  expect(first.way?.tier?.parents[0]?.terms).toMatchObject({
    isToParentMeasured: false,
    isToOriginMeasured: false,
  });
  const parent = first.way?.tier?.parents[0]?.clusterId;
  expect(first.way?.paths.map((one) => [one.fromClusterId, one.toClusterId])).toEqual([
    ["fra", parent],
    [parent, "org"],
  ]);
  expect(first.way?.paths[0]?.candidates.every(({ basis }) => basis === "guessed")).toBe(true);

  // London is measured to be much nearer: answer, parent and path move on together, with the next version.
  const links = [link("lon", 1), link("ams", 90)];
  engine.handleReport(idleReport("fra-1", { links }), at(9_000));
  const measured = mapAt(engine, 10_000);
  const second = said(measured);
  expect(second.mapVersion).toBe(2);
  expect(second.way?.tier?.parents[0]).toMatchObject({
    clusterId: "lon",
    terms: { toParentMs: 1, isToParentMeasured: true, isToOriginMeasured: false },
  });
  for (const { costMs, terms } of second.way?.tier?.parents ?? [])
    expect(costMs).toBeCloseTo(
      (terms?.toParentMs ?? 0) +
        (terms?.toOriginMs ?? 0) +
        (terms?.lossMs ?? 0) +
        (terms?.ageMs ?? 0) +
        (terms?.loadMs ?? 0),
      2,
    );
  expect(second.way?.paths[0]).toMatchObject({
    toClusterId: "lon",
    candidates: [{ via: null, rttMs: 1, basis: "measured" }, { basis: "guessed" }],
  });
  expect([firstParentOf(measured), tiers.mapVersion]).toEqual(["lon", 2]);

  function tiersVersion(parent: string | undefined): number | undefined {
    expect(parent).toBe(first.way?.tier?.parents[0]?.clusterId);
    return tiers.mapVersion;
  }
});

/** A region is lost: what name servers do until the next map, and what the next map does. */
import { describe, expect, test } from "vitest";
import {
  type ClusterId,
  epochMs,
  type MapSnapshot,
  parseAddress,
  type RegionId,
  type ServerId,
  trafficClasses,
} from "#kit";
import { answerAddresses, MapEngine, MapIndex, Spill, TopologyIndex } from "#mapping";
import { at, cluster, network, type Place, property, topologyOf } from "./fixtures.ts";

/** Three regions of twelve clusters; a ranking of 16 names those of its own region and few others. */
const REGIONS = ["west", "middle", "east"] as const;
const clusters = REGIONS.flatMap((region, r) =>
  Array.from(
    { length: 12 },
    (_, n): Place => ({
      id: `${region}-${n}`,
      region,
      latitude: (n % 4) * 3,
      longitude: r * 60 - 60 + Math.floor(n / 4) * 3,
    }),
  ),
);
const topology = topologyOf(clusters);
const index = new TopologyIndex(topology);
const NETWORKS = 360;
/** 200 a cluster is there; so 40 % of it. */
const DEMAND = 8;
const regionOf = (clusterId: string): string => clusterId.split("-")[0] as string;
const serversOf = (region: string): ServerId[] =>
  topology.clusters
    .filter(({ regionId }) => regionId === region)
    .flatMap(({ servers }) => servers.map(({ serverId }) => serverId));

function mapped(): { readonly engine: MapEngine; readonly snapshot: MapSnapshot } {
  const engine = new MapEngine({ epochOf: (now) => epochMs(1e12 + now) });
  engine.handleTopology(topology, at(0));
  engine.handleClientNetworks(
    Array.from({ length: NETWORKS }, (_, n) => ({
      clientNetworkId: network(`n${n}`),
      prefixes: [`10.${n >> 8}.${n & 255}.0/24`],
      coordinates: { latitude: (n % 10) + 0.01 * n, longitude: REGIONS.length * 20 * (n % 3) - 60 + (n % 7) },
      demandPerSecond: DEMAND,
    })),
    at(0),
  );
  return { engine, snapshot: publish(engine, 0) };
}

function publish(engine: MapEngine, ms: number): MapSnapshot {
  engine.handleTimeout(at(ms));
  const event = engine.pollEvent();
  if (event?.type !== "snapshot") throw new Error(`no snapshot at ${ms}: ${JSON.stringify(event)}`);
  return event.snapshot;
}

/** Load of each cluster when every network asks now. */
function loads(snapshot: MapSnapshot, down: ReadonlySet<string>): Map<ClusterId, number> {
  const map = new MapIndex(snapshot);
  const found = new Map<ClusterId, number>();
  for (let n = 0; n < NETWORKS; n++) {
    const { clusterId } = answerAddresses({
      snapshot: map,
      topology: index,
      property: { ...property, trafficClass: "interactive" },
      family: 4,
      clientAddress: parseAddress(`10.${n >> 8}.${n & 255}.1`)!,
      sourcePrefixLength: 24,
      isUp: (serverId) => !down.has(serverId),
    });
    found.set(clusterId!, (found.get(clusterId!) ?? 0) + DEMAND / 200);
  }
  return found;
}

describe("a ranking", () => {
  test("ends with clusters outside of the region that serves it, of two regions", () => {
    const table = mapped().snapshot.clusterMap.table();
    for (let n = 0; n < NETWORKS; n++)
      for (const trafficClass of trafficClasses) {
        const ranked = table.ranking(n, trafficClass).map(({ clusterId }) => regionOf(clusterId));
        const backups = ranked.slice(-4);
        expect(ranked).toHaveLength(16);
        expect(backups).not.toContain(ranked[0]);
        expect(new Set(backups).size).toBe(2);
      }
  });

  test("keeps its backups from one map to the next", () => {
    const { engine, snapshot } = mapped();
    const backups = (one: MapSnapshot): string =>
      JSON.stringify(
        Array.from({ length: NETWORKS }, (_, n) =>
          one.clusterMap.table().ranking(n, "interactive").slice(-4),
        ),
      );
    const [dead] = snapshot.clusterMap.table().ranking(0, "interactive").slice(-4);
    engine.handleTimeout(at(10_000));
    engine.pollEvent();
    expect(backups(engine.snapshot!)).toBe(backups(snapshot));
    for (const n of [1, 2]) engine.handleLiveness(`${dead!.clusterId}-${n}` as ServerId, false, at(11_000));
    publish(engine, 11_000);
    const after = publish(engine, 30_000).clusterMap.table().ranking(0, "interactive").slice(-4);
    expect(after.map(({ clusterId }) => clusterId)).not.toContain(dead!.clusterId);
  });
});

describe.each(REGIONS)("%s is lost", (region) => {
  const { engine, snapshot } = mapped();
  const down = new Set<string>(serversOf(region));

  test("until the next map its clients are spread over the others by room", () => {
    const before = loads(snapshot, new Set());
    const after = loads(snapshot, down);
    const moved = [...before].reduce((sum, [id, load]) => sum + (regionOf(id) === region ? load : 0), 0);
    expect(moved).toBeGreaterThan(3);
    expect([...after.keys()].filter((id) => regionOf(id) === region)).toEqual([]);
    expect(Math.max(...after.values())).toBeLessThan(1);
  });

  test("the next maps send nobody there, and nobody beyond a capacity", () => {
    for (const serverId of down) engine.handleLiveness(serverId as ServerId, false, at(11_000));
    for (const ms of [11_000, 21_000, 31_000]) {
      const table = publish(engine, ms).clusterMap.table();
      for (let n = 0; n < NETWORKS; n++)
        for (const trafficClass of trafficClasses)
          expect(regionOf(table.ranking(n, trafficClass)[0]!.clusterId)).not.toBe(region);
      expect(Math.max(...engine.load.values())).toBeLessThanOrEqual(0.85 + 1e-6);
    }
  });
});

describe("who takes what a dead cluster leaves", () => {
  const place = (id: string, regionId: string, load: number, isServing = true) => ({
    clusterId: cluster(id),
    regionId: regionId as RegionId,
    capacityPerSecond: 100,
    livePerSecond: isServing ? 100 : 0,
    load,
    isServing,
  });
  const ranking = (text: string) => text.split(" ").map(cluster);
  /** Of many rankings that differ in their last place, how many go where. */
  const spread = (spill: Spill, text: string, hasBackups = false): Record<string, number> => {
    const counts: Record<string, number> = {};
    for (let n = 0; n < 300; n++) {
      const to = spill.next([...ranking(text), cluster(`other-${n}`)], hasBackups) ?? "nobody";
      counts[to] = (counts[to] ?? 0) + 1;
    }
    return counts;
  };

  test("the nearest that have room, as long as the region has it", () => {
    const spill = new Spill([
      place("a", "r", 0.5, false),
      place("b", "r", 0),
      place("c", "r", 0),
      place("d", "s", 0),
    ]);
    expect(spread(spill, "a b d c")).toEqual({ b: 300 });
  });

  test("in the measure of their room, and none that is full", () => {
    const all = [place("a", "r", 0.9, false), place("b", "r", 1), place("c", "r", 0.4), place("d", "r", 0.1)];
    const { b, c, d } = spread(new Spill(all), "a b c d");
    expect(b).toBeUndefined();
    expect(d! / c!).toBeCloseTo(1.5, 0);
  });

  test("another region, where their own has no room", () => {
    const all = [place("a", "r", 0.9, false), place("b", "r", 0.5), place("c", "s", 0), place("d", "s", 0)];
    const { b, c, d } = spread(new Spill(all), "a b c d");
    expect([b, c! > 50, d! > 50]).toEqual([undefined, true, true]);
  });

  test("the first backup that serves and has room, where near ones of other regions have none", () => {
    const far = [place("e", "t", 0.2, false), place("f", "t", 1), place("g", "t", 0.7)];
    const all = [place("a", "r", 0.9, false), place("b", "r", 0.9, false), place("d", "s", 0.9), ...far];
    const ids = ranking("a b d x1 x2 x3 x4 x5 x6 x7 x8 x9 e f g h");
    expect(new Spill(all).next(ids, true)).toBe("g");
  });

  test("anybody with room when nobody ranked serves; anybody alive when nobody has room; nobody when none serves", () => {
    const dead = place("a", "r", 0.5, false);
    const open = spread(new Spill([dead, place("y", "s", 0), place("z", "s", 0.5)]), "a");
    expect(open["y"]! / open["z"]!).toBeCloseTo(2, 0);
    const full = spread(new Spill([dead, place("y", "s", 1), place("z", "s", 1)]), "a");
    expect(full["y"]! + full["z"]!).toBe(300);
    expect(full["y"]).toBeGreaterThan(100);
    expect(new Spill([dead]).next(ranking("a"), false)).toBeUndefined();
  });
});

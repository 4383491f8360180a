import { describe, expect, test } from "vitest";
import {
  epochMs,
  mapOverrides,
  type MapSnapshot,
  mapSnapshot,
  type PropertyId,
  type ServerReport,
  topologyDocument,
  trafficClasses,
} from "#kit";
import { MapEngine, type MapEngineEvent, type MapEngineSettings } from "#mapping";
import { at, cluster, network, server, topologyOf } from "./fixtures.ts";
import { idleReport } from "../../tools/server-report.ts";
import { entriesOf } from "../../tools/map-snapshot.ts";

const topology = topologyOf([
  { id: "fra", region: "eu", latitude: 50, longitude: 8 },
  { id: "lon", region: "eu", latitude: 51, longitude: 0 },
  { id: "iad", region: "us", latitude: 39, longitude: -77 },
  { id: "sin", region: "asia", latitude: 1, longitude: 104 },
  { id: "ams", role: "parent", region: "eu", latitude: 52, longitude: 5 },
  { id: "chi", role: "parent", region: "us", latitude: 42, longitude: -88 },
  { id: "rly", role: "relay", region: "us", latitude: 25, longitude: -80 },
  { id: "org", role: "origin", region: "us", latitude: 34, longitude: -118 },
]);
const places = [
  ["berlin", 52, 13],
  ["madrid", 40, -4],
  ["boston", 42, -71],
  ["jakarta", -6, 107],
] as const;

function engineWith(settings: Partial<MapEngineSettings> = {}, demandPerSecond = 1): MapEngine {
  const engine = new MapEngine({ settings, epochOf: (now) => epochMs(1_000_000 + now) });
  engine.handleTopology(topology, at(0));
  engine.handleClientNetworks(
    places.map(([id, latitude, longitude], n) => ({
      clientNetworkId: network(id),
      prefixes: [`10.0.${n}.0/24`],
      coordinates: { latitude, longitude },
      demandPerSecond,
    })),
    at(0),
  );
  return engine;
}

function events(engine: MapEngine, ms: number): MapEngineEvent[] {
  engine.handleTimeout(at(ms));
  const found: MapEngineEvent[] = [];
  for (let event = engine.pollEvent(); event !== undefined; event = engine.pollEvent()) found.push(event);
  return found;
}

function snapshotAt(engine: MapEngine, ms: number): MapSnapshot {
  const [event] = events(engine, ms);
  if (event?.type !== "snapshot") throw new Error(`no snapshot at ${ms}: ${JSON.stringify(event)}`);
  return event.snapshot;
}

function first(snapshot: MapSnapshot, id: string): string | undefined {
  return entriesOf(snapshot).find((one) => one.clientNetworkId === id)?.clusters.interactive[0]?.clusterId;
}

function measure(
  engine: MapEngine,
  id: string,
  figures: Readonly<Record<string, number | null>>,
  from = 0,
): void {
  for (let n = 0; n < 6; n++)
    for (const [to, rttMs] of Object.entries(figures))
      engine.handleSample({ from: network(id), to: cluster(to), rttMs, at: at(from + n * 100) });
}

const overrides = (rest: Readonly<Record<string, unknown>>) => mapOverrides.parse({ name: "test", ...rest });

const report = (serverId: string, rest: Partial<ServerReport> = {}): ServerReport =>
  idleReport(serverId, { clusterId: serverId.replace(/-\d+$/, ""), atEpochMs: 0, ...rest });

test("networks that only ask for more stay what and where they are, as far as there is room", () => {
  const engine = engineWith({}, 100);
  const before = snapshotAt(engine, 0).clusterMap.table();
  const ask = (demandPerSecond: number, prefix = "10.0") =>
    engine.handleClientNetworks(
      places.map(([id, latitude, longitude], n) => ({
        clientNetworkId: network(id),
        prefixes: [`${prefix}.${n}.0/24`],
        coordinates: { latitude, longitude },
        demandPerSecond,
      })),
      at(500),
    );
  ask(110);
  const after = snapshotAt(engine, 1_000);
  expect(after).toMatchObject({ mapVersion: 2, reason: "topology" });
  expect(after.clusterMap.table().networks).toBe(before.networks);
  expect(engine.counters.moves).toBe(0);
  expect(engine.load.get(cluster("iad"))).toBeCloseTo(0.55, 6);
  // A cluster takes 170.
  ask(180);
  snapshotAt(engine, 2_000);
  expect(engine.counters.moves).toBeGreaterThan(0);
  ask(180, "10.1");
  expect(snapshotAt(engine, 3_000).clusterMap.table().networks).not.toBe(before.networks);
});

test("the addends of each score, times what operators say, are the score of the map", () => {
  const engine = engineWith();
  measure(engine, "berlin", { fra: 9, lon: 20, iad: 95 });
  const entry = { clusterId: cluster("lon"), factor: 1.5, note: "test" };
  engine.handleOverrides(overrides({ weights: [entry] }), at(0));
  const snapshot = snapshotAt(engine, 1_000);
  const ranked = entriesOf(snapshot).find((one) => one.clientNetworkId === "berlin")!.clusters;
  const estimates = engine.estimatesOf(network("berlin"), at(1_000))!;
  expect(estimates).toHaveLength(4);
  for (const { clusterId, scores } of estimates)
    for (const [k, trafficClass] of trafficClasses.entries()) {
      const { terms, factor, score, isInService } = scores[k]!;
      const sum = Object.values(terms).reduce((all, one) => all + one, 0);
      expect(isInService).toBe(true);
      expect(factor).toBe(clusterId === "lon" ? 1.5 : 1);
      expect(sum * factor).toBeCloseTo(score, 6);
      const shown = ranked[trafficClass].find((one) => one.clusterId === clusterId)!.score;
      // Scores of a map are rounded to 2.6 %, and nothing costs less there than the chosen one.
      expect(Math.abs(Math.max(score, ranked[trafficClass][0]!.score) / shown - 1)).toBeLessThan(0.03);
    }
});

describe("when a snapshot is made", () => {
  test("nothing is due before there is a topology and a client network", () => {
    const engine = new MapEngine({ epochOf: (now) => epochMs(now) });
    expect(engine.pollTimeout()).toBeUndefined();
    engine.handleTopology(topology, at(0));
    expect(engine.pollTimeout()).toBeUndefined();
  });

  test("the first one at once, by geography, and the schema takes it", () => {
    const engine = engineWith();
    expect(engine.pollTimeout()).toBe(0);
    const snapshot = snapshotAt(engine, 0);
    expect(snapshot).toMatchObject({ mapVersion: 1, reason: "first", createdAtEpochMs: 1_000_000 });
    expect(() => mapSnapshot.parse(snapshot)).not.toThrow();
    expect(places.map(([id]) => first(snapshot, id))).toEqual(["fra", "lon", "iad", "sin"]);
  });

  test("then each cycle", () => {
    const engine = engineWith();
    snapshotAt(engine, 0);
    expect(engine.pollTimeout()).toBe(10_000);
    expect(events(engine, 9_999)).toEqual([]);
    expect(snapshotAt(engine, 10_000)).toMatchObject({ mapVersion: 2, reason: "cycle" });
    expect(engine.counters).toMatchObject({ snapshots: 2, bypasses: 0, moves: 0 });
  });

  test("a death bypasses the cycle, at most each 200 ms", () => {
    const engine = engineWith();
    snapshotAt(engine, 0);
    engine.handleLiveness(server("fra-1"), false, at(50));
    expect(engine.pollTimeout()).toBe(200);
    expect(snapshotAt(engine, 200)).toMatchObject({ reason: "liveness" });
    engine.handleLiveness(server("fra-1"), false, at(300));
    expect(engine.pollTimeout()).toBe(10_200);
    engine.handleLiveness(server("fra-1"), true, at(1_000));
    expect(engine.pollTimeout()).toBe(1_000);
    expect(engine.counters.bypasses).toBe(1);
  });
});

describe("what it decides", () => {
  test("measurements beat geography", () => {
    const engine = engineWith();
    measure(engine, "berlin", { fra: 80, lon: 20, iad: 95 });
    const snapshot = snapshotAt(engine, 1_000);
    expect(first(snapshot, "berlin")).toBe("lon");
    expect(entriesOf(snapshot)[0]?.clusters.interactive[0]?.terms).toMatchObject({
      rttMs: 20,
      lossRatio: 0.002,
    });
  });

  test("a dead cluster's clients move, are suspended by name, and come back", () => {
    const engine = engineWith();
    measure(engine, "berlin", { fra: 10, lon: 20 });
    const before = snapshotAt(engine, 1_000);
    expect(first(before, "berlin")).toBe("fra");
    for (const id of ["fra-1", "fra-2"]) engine.handleLiveness(server(id), false, at(2_000));
    // The dead cluster answers no pings; that must not count against the path once it is back.
    measure(engine, "berlin", { fra: null }, 2_000);
    const without = snapshotAt(engine, 2_100);
    expect(first(without, "berlin")).toBe("lon");
    expect(without.suspended).toEqual({ fra: true });
    // Nobody else was placed anew, and travel times are those of before.
    expect(without.tiers).toBe(before.tiers);
    expect(engine.counters.moves).toBe(3);
    expect(engine.counters).toMatchObject({ samplesToDead: 6 });
    expect(entriesOf(snapshotAt(engine, 12_100))[0]?.clusters.interactive.at(-1)?.clusterId).toBe("fra");
    for (const id of ["fra-1", "fra-2"]) engine.handleLiveness(server(id), true, at(15_000));
    const back = snapshotAt(engine, 15_000);
    expect(first(back, "berlin")).toBe("fra");
    expect(back.suspended).toEqual({});
  });

  test("a cluster of which a server is dead is sent what the other one takes, and nobody else moves", () => {
    const engine = engineWith({}, 120);
    const before = snapshotAt(engine, 0);
    const sentTo = (snapshot: MapSnapshot) =>
      entriesOf(snapshot).map(({ clientNetworkId, clusters }) => [
        clientNetworkId,
        ...trafficClasses.map((one) => clusters[one][0]?.clusterId),
      ]);
    expect(sentTo(before)[0]).toEqual(["berlin", "fra", "fra", "fra"]);
    engine.handleLiveness(server("fra-1"), false, at(2_000));
    const without = snapshotAt(engine, 2_000);
    expect([without.reason, without.suspended]).toEqual(["liveness", {}]);
    // 60 % of 120 requests a second stay: 85 of the server's 100 may be taken.
    expect(engine.load.get(cluster("fra"))).toBeCloseTo(0.72, 6);
    expect(engine.counters.moves).toBe(2);
    expect(sentTo(without)[0]?.filter((one) => one === "fra")).toHaveLength(1);
    expect(sentTo(without).slice(1)).toEqual(sentTo(before).slice(1));
    // The next cycle, which places everyone, holds to it.
    snapshotAt(engine, 12_000);
    expect(engine.load.get(cluster("fra"))).toBeLessThanOrEqual(0.85);
    engine.handleLiveness(server("fra-1"), true, at(15_000));
    expect(sentTo(snapshotAt(engine, 15_000))).toEqual(sentTo(before));
  });

  test("beyond the suspension quota the detector is doubted", () => {
    const engine = engineWith();
    snapshotAt(engine, 0);
    for (const one of ["fra", "lon", "iad", "sin"])
      for (const n of [1, 2]) engine.handleLiveness(server(`${one}-${n}`), false, at(1_000));
    const snapshot = snapshotAt(engine, 1_000);
    // Half of four clusters; the rest is believed to live.
    expect(Object.keys(snapshot.suspended)).toHaveLength(2);
    expect(engine.counters.doubted).toBe(4);
  });

  test("a cut path is left, although its cluster lives", () => {
    const engine = engineWith();
    measure(engine, "berlin", { fra: 10, lon: 20 });
    snapshotAt(engine, 1_000);
    measure(engine, "berlin", { fra: null }, 2_000);
    const snapshot = snapshotAt(engine, 11_000);
    expect(first(snapshot, "berlin")).toBe("lon");
    expect(snapshot.suspended).toEqual({});
  });

  test("a little better is no reason to move, much better is", () => {
    const engine = engineWith();
    measure(engine, "berlin", { fra: 20, lon: 40 });
    expect(first(snapshotAt(engine, 1_000), "berlin")).toBe("fra");
    for (let round = 0; round < 4; round++) measure(engine, "berlin", { lon: 19 }, 2_000 + round * 700);
    expect(first(snapshotAt(engine, 11_000), "berlin")).toBe("fra");
    for (let round = 0; round < 4; round++) measure(engine, "berlin", { lon: 10 }, 12_000 + round * 700);
    expect(first(snapshotAt(engine, 21_000), "berlin")).toBe("lon");
    expect(engine.counters.moves).toBeGreaterThan(0);
  });

  test("demand beyond a cluster's ceiling spills to the next, and scores stay ascending", () => {
    // 4 networks x 100 = 400 a second; each cluster takes 85 % of 200.
    const engine = engineWith({}, 100);
    for (const [id] of places) measure(engine, id, { fra: 10, lon: 20, iad: 30, sin: 40 });
    const snapshot = snapshotAt(engine, 1_000);
    expect(() => mapSnapshot.parse(snapshot)).not.toThrow();
    for (const load of engine.load.values()) expect(load).toBeLessThanOrEqual(0.85 + 1e-9);
    const used = new Set(entriesOf(snapshot).map((one) => one.clusters.interactive[0]?.clusterId));
    expect(used.size).toBeGreaterThan(1);
  });

  test("a region's uplink turns away what its clusters would have room for, by bits as reports tell them", () => {
    const limited = topologyDocument.parse({
      ...topology,
      limits: [{ name: "eu-uplink", regionId: "eu", bitsPerSecondMax: 100e6 }],
    });
    // Three in Europe, 10 requests a second each, of 3.84 Mbit by default: 115 Mbit/s.
    const engine = engineWith({}, 10);
    engine.handleTopology(limited, at(0));
    for (const id of ["berlin", "madrid", "boston"])
      measure(engine, id, { fra: 10, lon: 11, iad: 90, sin: 200 });
    const sentTo = (snapshot: MapSnapshot) =>
      entriesOf(snapshot).flatMap(({ clusters }) =>
        trafficClasses.map((trafficClass) => clusters[trafficClass][0]?.clusterId),
      );
    const isOutside = (id: string | undefined) => id === "iad" || id === "sin";
    expect(sentTo(snapshotAt(engine, 1_000)).slice(0, 9).filter(isOutside)).not.toHaveLength(0);
    // Reports say that a request weighs a tenth of that: everyone fits.
    const bytes = (requests: number) => ({
      requests,
      hits: 0,
      bytesDown: requests * 48_000,
      bytesUp: 0,
      errors5xx: 0,
    });
    for (const [n, requests] of [0, 10_000].entries())
      engine.handleReport(
        report("fra-1", { properties: { ["shop" as PropertyId]: bytes(requests) } }),
        at(2_000 + n * 1_000),
      );
    expect(sentTo(snapshotAt(engine, 11_000)).slice(0, 9).filter(isOutside)).toHaveLength(0);
  });

  test("bytes go where they are cheap as far as the way is worth it; a contract's price is its clusters'", () => {
    const engine = engineWith();
    engine.handleTopology(
      topologyDocument.parse({
        ...topology,
        limits: [{ name: "dear", clusterIds: ["fra"], pricePerGb: 0.1 }],
      }),
      at(0),
    );
    measure(engine, "berlin", { fra: 10, lon: 40, iad: 90, sin: 200 });
    const { clusters } = entriesOf(snapshotAt(engine, 1_000))[0]!;
    expect([clusters.interactive[0]?.clusterId, clusters.bulk[0]?.clusterId]).toEqual(["fra", "lon"]);
  });

  test("no cluster gets more than its share", () => {
    const engine = engineWith({}, 10);
    engine.handleTopology(topologyDocument.parse({ ...topology, shareMax: 0.5 }), at(0));
    for (const [id] of places) measure(engine, id, { fra: 10, lon: 20, iad: 30, sin: 40 });
    snapshotAt(engine, 1_000);
    // Half of 40 requests a second, of the 200 that it could answer.
    expect(engine.load.get(cluster("fra"))).toBeLessThanOrEqual(0.1 + 1e-6);
    expect(engine.load.get(cluster("lon"))).toBeGreaterThan(0);
  });

  test("a draining cluster takes nobody new", () => {
    const engine = engineWith();
    for (const id of ["fra-1", "fra-2"]) engine.handleReport(report(id, { state: "draining" }), at(0));
    expect(first(snapshotAt(engine, 0), "berlin")).toBe("lon");
  });

  test("a server that operators empty counts no more, a cluster of such ones is left and named", () => {
    const engine = engineWith();
    for (const [id] of places) measure(engine, id, { fra: 10, lon: 20, iad: 30, sin: 40 });
    snapshotAt(engine, 1_000);
    engine.handleOverrides(overrides({ drains: [{ serverId: "fra-1" }] }), at(2_000));
    const half = snapshotAt(engine, 2_000);
    expect(half).toMatchObject({ reason: "overrides", drained: ["fra-1"], suspended: {} });
    expect(first(half, "berlin")).toBe("fra");
    engine.handleOverrides(
      overrides({ drains: [{ clusterId: "fra", untilEpochMs: 1_000_000 + 8_000 }] }),
      at(5_000),
    );
    const emptied = snapshotAt(engine, 5_000);
    expect(emptied).toMatchObject({ drained: ["fra-1", "fra-2"], suspended: { fra: true } });
    expect(places.map(([id]) => first(emptied, id))).toEqual(["lon", "lon", "lon", "lon"]);
    expect(engine.reasons).toMatchObject({ drained: 12 });
    // It ends by itself.
    expect(first(snapshotAt(engine, 15_000), "berlin")).toBe("fra");
  });

  test("pins hold against scores, the narrower one first, and end; weights draw and drive off", () => {
    const engine = engineWith();
    for (const [id] of places) measure(engine, id, { fra: 10, lon: 20, iad: 30, sin: 40 });
    const untilEpochMs = 1_000_000 + 20_000;
    engine.handleOverrides(
      overrides({
        pins: [
          {
            around: { coordinates: { latitude: 50, longitude: 10 }, radiusKm: 2_000 },
            clusterId: "iad",
            untilEpochMs,
          },
          { prefix: "10.0.0.0/16", clusterId: "sin", trafficClass: "bulk", untilEpochMs },
          { clientNetworkId: "madrid", clusterId: "lon", untilEpochMs },
          { clientNetworkId: "nobody", clusterId: "lon", untilEpochMs },
        ],
      }),
      at(1_000),
    );
    const pinned = snapshotAt(engine, 1_000);
    expect(() => mapSnapshot.parse(pinned)).not.toThrow();
    expect(places.map(([id]) => first(pinned, id))).toEqual(["iad", "lon", "fra", "fra"]);
    expect(entriesOf(pinned).map((one) => one.clusters.bulk[0]?.clusterId)).toEqual([
      "sin",
      "lon",
      "sin",
      "sin",
    ]);
    expect(engine.reasons.pinned).toBe(3 + 3 + 2);
    expect(engine.pinsUnmatched).toBe(1);
    // Of equals (lon lies at 20 for everyone, fra at 10) the weight decides.
    engine.handleOverrides(overrides({ weights: [{ clusterId: "iad", factor: 0.1 }] }), at(3_000));
    const [event] = events(engine, 3_000);
    expect(event?.type === "refused" && event.problems[0]?.detail).toMatch(/sent to "iad"/);
  });

  test("a report from a server in another cluster than the topology says is ignored", () => {
    const engine = engineWith();
    engine.handleReport(report("fra-1", { clusterId: cluster("sin"), state: "draining" }), at(0));
    expect(engine.links.counters.reports).toBe(0);
  });
});

describe("tiers and paths from what servers report", () => {
  const link = (to: string, srttMs: number, via: string | null = null) => ({
    toClusterId: cluster(to),
    via: via === null ? null : cluster(via),
    srttMs,
    rttvarMs: 1,
    lossRatio: 0,
    samples: 5,
  });

  test("the parent with the shortest way through it to the origin comes first", () => {
    const engine = engineWith();
    engine.handleReport(report("fra-1", { links: [link("ams", 8), link("chi", 100)] }), at(0));
    engine.handleReport(report("ams-1", { role: "parent", links: [link("org", 190)] }), at(0));
    engine.handleReport(report("chi-1", { role: "parent", links: [link("org", 50)] }), at(0));
    const { tiers } = snapshotAt(engine, 0);
    const of = (origin: string | null) =>
      tiers.find((one) => one.edgeClusterId === "fra" && one.originClusterId === origin);
    expect(of("org")?.parents).toMatchObject([
      { clusterId: "chi", costMs: 150, terms: { toParentMs: 100, toOriginMs: 50, isToOriginMeasured: true } },
      { clusterId: "ams", costMs: 198, terms: { toParentMs: 8, toOriginMs: 190, isToParentMeasured: true } },
    ]);
    expect(of(null)?.parents[0]).toMatchObject({ clusterId: "ams", costMs: 8, terms: { toOriginMs: null } });
  });

  test("a relay that is shorter comes before the direct path, which is always named", () => {
    const engine = engineWith();
    engine.handleReport(report("fra-1", { links: [link("org", 200), link("rly", 60)] }), at(0));
    engine.handleReport(report("rly-1", { role: "relay", links: [link("org", 40)] }), at(0));
    const path = () =>
      snapshotAt(engine, engine.pollTimeout() ?? 0).paths.find(
        (one) => one.fromClusterId === "fra" && one.toClusterId === "org",
      )?.candidates;
    expect(path()?.map(({ via, rttMs }) => [via, rttMs])).toEqual([
      ["rly", 101],
      [null, 200],
    ]);
    // What was measured end to end over the relay replaces the sum of the two halves.
    engine.handleReport(
      report("fra-1", { links: [link("org", 200), link("rly", 60), link("org", 230, "rly")] }),
      at(5_000),
    );
    expect(path()?.map(({ via, rttMs }) => [via, rttMs])).toEqual([
      [null, 200],
      ["rly", 230],
    ]);
  });
});

test("a resolver with enough known clients is named with the order for them, in the next map", () => {
  const engine = engineWith();
  measure(engine, "berlin", { fra: 9, iad: 95 });
  measure(engine, "boston", { fra: 90, iad: 12 });
  expect(snapshotAt(engine, 0).resolvers).toBeUndefined();
  const now = epochMs(1_000_000);
  engine.resolvers.handlePair("192.0.2.53", network("boston"), 90, now, now);
  engine.resolvers.handlePair("192.0.2.53", network("berlin"), 10, now, now);
  const { resolvers } = mapSnapshot.parse(snapshotAt(engine, 10_000));
  expect(resolvers).toMatchObject([{ address: "192.0.2.53", clientNetworks: 2 }]);
  expect(resolvers?.[0]?.clusters.interactive[0]?.clusterId).toBe("iad");
});

describe("restart", () => {
  test("goes on from the map in force: no map for a cycle, next version, nobody moves without a measurement", () => {
    const before = engineWith();
    measure(before, "berlin", { fra: 80, lon: 20, iad: 95 });
    const inForce = snapshotAt(before, 1_000);
    const engine = new MapEngine({ epochOf: (now) => epochMs(now) });
    engine.handlePrevious({ ...inForce, mapVersion: 41 }, at(0));
    engine.handleTopology(topology, at(0));
    engine.handleClientNetworks(
      places.map(([id, latitude, longitude], n) => ({
        clientNetworkId: network(id),
        prefixes: [`10.0.${n}.0/24`],
        coordinates: { latitude, longitude },
        demandPerSecond: 1,
      })),
      at(0),
    );
    engine.handleLiveness(server("sin-1"), false, at(100));
    expect(engine.pollTimeout()).toBe(10_000);
    const next = snapshotAt(engine, 10_000);
    expect(next.mapVersion).toBe(42);
    expect(first(next, "berlin")).toBe("lon");
    expect(engine.counters.moves).toBe(0);
  });

  test("an absurd snapshot is refused and the one before stays", () => {
    const engine = engineWith();
    const inForce = snapshotAt(engine, 0);
    engine.handleClientNetworks(
      [
        {
          clientNetworkId: network("berlin"),
          prefixes: ["10.0.0.0/24"],
          coordinates: null,
          demandPerSecond: 1,
        },
      ],
      at(1_000),
    );
    const [event] = events(engine, 1_000);
    expect(event).toMatchObject({ type: "refused", reason: "topology" });
    expect(event?.type === "refused" && event.problems.map((problem) => problem.reason)).toEqual([
      "shrunk",
      "prefixes-shrunk",
      "one-cluster-for-all",
    ]);
    expect(engine.snapshot).toBe(inForce);
    expect(engine.counters).toMatchObject({ snapshots: 1, snapshotsRefused: 1 });
  });
});

test("the same inputs give the same snapshots", () => {
  const run = (): string => {
    const engine = engineWith();
    for (const [n, [id]] of places.entries())
      measure(engine, id, { fra: 10 + n, lon: 12, iad: 30 - n, sin: 40 });
    return JSON.stringify([snapshotAt(engine, 1_000), snapshotAt(engine, 11_000)]);
  };
  expect(run()).toBe(run());
});

/**
 * Goal: a map does not swing after late reports, and what has not changed moves nobody.
 * Method: the engine under a virtual clock, with users who follow it as late as answers live, and servers whose reports come late.
 */
import { describe, expect, test } from "vitest";
import { epochMs, type MapSnapshot, Random, type ServerReport, trafficClasses } from "#kit";
import { generateWorld, planAddresses, topologyOf as worldTopology, WorldLinks } from "#kit/world";
import { MapEngine, mapEngineDefaults, noisySample } from "#mapping";
import { at, cluster, network, topologyOf } from "./fixtures.ts";
import { entriesOf } from "../../tools/map-snapshot.ts";
import { idleReport } from "../../tools/server-report.ts";

const NETWORKS = 40;
const RTT_MS = { near: 10, next: 12, far: 150 } as const;
const names = Object.keys(RTT_MS) as (keyof typeof RTT_MS)[];

function engineOf(capacityPerSecond: number, demandPerSecond: number): MapEngine {
  const engine = new MapEngine({ epochOf: (now) => epochMs(now) });
  engine.handleTopology(
    topologyOf(names.map((id) => ({ id, servers: 1, region: "eu", capacityPerSecond }))),
    at(0),
  );
  engine.handleClientNetworks(
    Array.from({ length: NETWORKS }, (_, n) => ({
      clientNetworkId: network(`n-${n}`),
      prefixes: [`10.0.${n}.0/24`],
      coordinates: null,
      demandPerSecond,
    })),
    at(0),
  );
  return engine;
}

/** Each network a little nearer or farther, all of them alike in the order; `noise` a share, standard deviation. */
function measure(engine: MapEngine, ms: number, noise = 0, random = new Random(1)): void {
  for (let n = 0; n < NETWORKS; n++)
    for (const to of names)
      engine.handleSample({
        from: network(`n-${n}`),
        to: cluster(to),
        rttMs: (RTT_MS[to] + ((n * 7) % 10) / 10) * (1 + noise * random.normal(0, 1)),
        at: at(ms),
      });
}

function snapshotOf(engine: MapEngine, ms: number): MapSnapshot | undefined {
  engine.handleTimeout(at(ms));
  let newest: MapSnapshot | undefined;
  for (let event = engine.pollEvent(); event !== undefined; event = engine.pollEvent())
    if (event.type === "snapshot") newest = event.snapshot;
  return newest;
}

function demandsOf(engine: MapEngine): Record<string, number> {
  return Object.fromEntries(names.map((id) => [id, engine.load.get(cluster(id)) ?? 0]));
}

describe("load feedback", () => {
  test.each([15_000, 30_000])(
    "a step in demand, seen %d ms late: what is too much goes next door, once, and stays there",
    (delayMs) => {
      const engine = engineOf(1_000, 15);
      const reports: { readonly at: number; readonly report: ServerReport }[] = [];
      const answers: { readonly at: number; readonly load: Record<string, number> }[] = [];
      let sent: Record<string, number> = { near: 0, next: 0, far: 0 };
      const trace: {
        readonly ms: number;
        readonly near: number;
        readonly next: number;
        readonly far: number;
      }[] = [];
      let movesAtStep = 0;
      for (let ms = 0; ms <= 600_000; ms += 1_000) {
        if (ms % 20_000 === 0) measure(engine, ms);
        while (reports[0] !== undefined && reports[0].at <= ms)
          engine.handleReport((reports.shift() as (typeof reports)[number]).report, at(ms));
        const snapshot = snapshotOf(engine, ms);
        // Answers live for 20 s: on average users follow after 10.
        if (snapshot !== undefined) answers.push({ at: ms + 10_000, load: sharesOf(snapshot) });
        while (answers[0] !== undefined && answers[0].at <= ms)
          sent = (answers.shift() as (typeof answers)[number]).load;
        if (ms === 120_000) movesAtStep = engine.counters.moves;
        // All of it: 600 a second, then 1,320 where 1,000 fit.
        const total = NETWORKS * (ms < 120_000 ? 15 : 33);
        for (const id of names) {
          const requestsPerSecond = total * (sent[id] ?? 0);
          const report = idleReport(`${id}-1`, { clusterId: cluster(id), requestsPerSecond });
          reports.push({ at: ms + delayMs, report });
        }
        const [near = 0, next = 0, far = 0] = names.map((id) => total * (sent[id] ?? 0));
        trace.push({ ms, near, next, far });
      }
      const after = trace.filter(({ ms }) => ms >= 300_000);
      for (const { near, next, far } of after) {
        expect(near).toBeLessThanOrEqual(1_000);
        expect(next).toBeLessThanOrEqual(1_000);
        expect(far).toBe(0);
      }
      const last = trace.filter(({ ms }) => ms >= 420_000).map(({ near }) => near);
      expect(Math.max(...last) - Math.min(...last)).toBeLessThan(0.02 * 1_320);
      // No swing: never did the near one lose more than what was too much and what came back.
      expect(Math.min(...trace.filter(({ ms }) => ms >= 20_000).map(({ near }) => near))).toBeGreaterThan(
        500,
      );
      expect(engine.counters.moves - movesAtStep).toBeLessThan(1.5 * NETWORKS * trafficClasses.length);
      expect(engine.counters.demandCorrections).toBeGreaterThan(0);
    },
  );
});

/** Share of all demand that each cluster is sent. */
function sharesOf(snapshot: MapSnapshot): Record<string, number> {
  const shares: Record<string, number> = {};
  for (const { clusters } of entriesOf(snapshot))
    for (const trafficClass of trafficClasses) {
      const first = clusters[trafficClass][0]?.clusterId ?? "";
      shares[first] = (shares[first] ?? 0) + mapEngineDefaults.demandRatio[trafficClass] / NETWORKS;
    }
  return shares;
}

describe("churn", () => {
  test("the same inputs move nobody, however full the clusters are", () => {
    // 1,000 a second where each of three takes 425.
    const engine = engineOf(500, 25);
    // Until windows are full, each sample adds confidence.
    for (let ms = 0; ms < 300_000; ms += 10_000) {
      measure(engine, ms);
      snapshotOf(engine, ms);
    }
    const before = demandsOf(engine);
    const { moves } = engine.counters;
    for (let ms = 300_000; ms <= 400_000; ms += 10_000) {
      measure(engine, ms);
      expect(snapshotOf(engine, ms)).toBeDefined();
    }
    expect(engine.counters.moves).toBe(moves);
    expect(demandsOf(engine)).toEqual(before);
  });

  test("1 % of noise on every travel time moves less than one unit in a hundred a cycle", () => {
    const engine = engineOf(500, 25);
    const random = new Random(7);
    for (let n = 0; n < 24; n++) measure(engine, n * 1_000 - 24_000, 0.01, random);
    snapshotOf(engine, 0);
    const cycles = 20;
    for (let cycle = 1; cycle <= cycles; cycle++) {
      for (let n = 0; n < 5; n++) measure(engine, cycle * 10_000 - 5_000 + n * 1_000, 0.01, random);
      snapshotOf(engine, cycle * 10_000);
    }
    expect(engine.counters.snapshots).toBe(cycles + 1);
    expect(engine.counters.moves / (cycles * NETWORKS * trafficClasses.length)).toBeLessThan(0.01);
  });

  test("where a fifth is turned away, noise on every travel time moves about one unit in a hundred a cycle", () => {
    const world = generateWorld({ clusters: 60, seed: 5 });
    const topology = worldTopology(world, planAddresses(world, { loopback: "127.10", port: 1, dnsPort: 2 }));
    const links = new WorldLinks(world);
    const near = world.clients.map(({ id }) =>
      topology.clusters
        .filter(({ role }) => role === "edge")
        .map(({ clusterId }) => ({ clusterId, rttMs: links.between(id, clusterId).rttMs }))
        .sort((a, b) => a.rttMs - b.rttMs)
        .slice(0, 6),
    );
    const engine = new MapEngine({ epochOf: (now) => epochMs(now) });
    engine.handleTopology(topology, at(0));
    const networks = world.clients.map(({ id, prefixes, coordinates, demandPerSecond }) => ({
      clientNetworkId: network(id),
      prefixes,
      coordinates,
      demandPerSecond,
    }));
    engine.handleClientNetworks(networks, at(0));
    const random = new Random(5);
    const cycles = 14;
    const settled = 3;
    let before = 0;
    for (let cycle = 0; cycle < cycles; cycle++) {
      for (const [n, own] of near.entries())
        if ((n + cycle) % 2 === 0)
          for (const { clusterId, rttMs } of own)
            engine.handleSample({
              from: networks[n]!.clientNetworkId,
              to: clusterId,
              rttMs: noisySample(rttMs, 0, random),
              at: at(cycle * 30_000),
            });
      expect(snapshotOf(engine, cycle * 30_000)).toBeDefined();
      if (cycle === settled) before = engine.counters.moves;
    }
    const units = networks.length * trafficClasses.length;
    expect(engine.reasons.spilled).toBeGreaterThan(units / 6);
    expect(Math.max(...engine.load.values())).toBeLessThanOrEqual(0.85 + 1e-6);
    expect((engine.counters.moves - before) / ((cycles - 1 - settled) * units)).toBeLessThan(0.02);
  });
});

import { describe, expect, test } from "vitest";
import { allSteps } from "#kit";
import { geographyRttMs } from "../../../mapping/core/estimator.ts";
import { LastHopTable } from "../../../mapping/core/last-hops.ts";
import {
  BORROWED_CONFIDENCE_MAX,
  type NetworkFeatures,
  Neighbours,
} from "../../../mapping/core/neighbours.ts";
import { network } from "./fixtures.ts";

const paris = { latitude: 48.9, longitude: 2.35 };
const lyon = { latitude: 45.8, longitude: 4.8 };
const newYork = { latitude: 40.7, longitude: -74 };
const tokyo = { latitude: 35.7, longitude: 139.7 };
/** Clusters 0, 1 and 2. */
const places = [paris, newYork, tokyo];
const clusters = places.map((coordinates, c) => ({ clusterId: `cluster-${c}`, coordinates }));

/** Rows by network number; network 0 is the one that was not measured. */
function neighbours(
  features: readonly (Partial<NetworkFeatures> & {
    rtts?: Record<number, number>;
    hops?: readonly string[];
  })[],
): Neighbours {
  return allSteps(
    Neighbours.inSteps({
      networks: features.map((one, n) => ({
        coordinates: null,
        ...one,
        clientNetworkId: network(`n${n}`),
      })),
      clusters,
      rows: new Map(
        features.flatMap(({ rtts }, n) =>
          rtts ? [[n, new Map(Object.entries(rtts).map(([c, ms]) => [Number(c), ms]))] as const] : [],
        ),
      ),
      siteRttMs: (a, b) => geographyRttMs(places[a] ?? paris, places[b] ?? paris),
      lastHopsOf: (id) => features[Number(id.slice(1))]?.hops ?? [],
    }),
  );
}
const borrow = (from: Neighbours, cluster: number) => {
  const group = from.groupOf(0);
  const { kind, rttMs, confidence } = from.estimate(group, cluster);
  expect(confidence).toBeLessThan(BORROWED_CONFIDENCE_MAX);
  return { kind, rttMs, peers: from.lendersOf(group, cluster) };
};

describe("a network that was never measured", () => {
  const as = { asNumber: 64_500, city: "FR/Lyon" };
  test("borrows from the most specific group in which the cluster was measured", () => {
    const all = [
      { ...as, routedPrefix: "198.18.0.0/15", coordinates: lyon, hops: ["192.0.2.1"] },
      { rtts: { 0: 31 }, hops: ["192.0.2.9", "192.0.2.1"] },
      { ...as, rtts: { 0: 40, 1: 141 } },
      { routedPrefix: "198.18.0.0/15", rtts: { 0: 50, 1: 150, 2: 251 } },
      { asNumber: 64_500, city: "FR/Paris", rtts: { 0: 1 } },
    ];
    const found = neighbours(all);
    expect(borrow(found, 0)).toEqual({ kind: "last-hop", rttMs: 31, peers: ["n1"] });
    expect(borrow(found, 1)).toEqual({ kind: "as-and-city", rttMs: 141, peers: ["n2"] });
    expect(borrow(found, 2)).toEqual({ kind: "prefix", rttMs: 251, peers: ["n3"] });
  });
  test("takes the median of several, and nothing from members that disagree", () => {
    const measured = (rtt: number) => ({ ...as, rtts: { 0: rtt } });
    expect(borrow(neighbours([as, ...[20, 21, 300].map(measured)]), 0).kind).toBe("nearby");
    expect(borrow(neighbours([as, ...[20, 21, 22, 22, 300].map(measured)]), 0)).toMatchObject({
      kind: "as-and-city",
      rttMs: 22,
    });
  });
  test("is expected to be as slow to other clusters as those who share its way", () => {
    const slow = { ...as, coordinates: lyon, rtts: { 0: 10 * geographyRttMs(lyon, paris) } };
    const here = neighbours([{ ...as, coordinates: lyon }, slow]);
    const bare = neighbours([{ coordinates: lyon }]);
    expect(borrow(here, 1).rttMs).toBeGreaterThan(borrow(bare, 1).rttMs * 1.2);
  });
  test("borrows from near places, corrected by geography; a single liar among them is cut off", () => {
    const beside = [0.2, 0.4, 0.6, 0.8].map((step) => ({
      coordinates: { latitude: 45.8 + step, longitude: 4.8 },
      rtts: { 1: 60 + geographyRttMs({ latitude: 45.8 + step, longitude: 4.8 }, newYork) },
    }));
    const without = borrow(neighbours([{ coordinates: lyon }]), 1);
    const found = borrow(neighbours([{ coordinates: lyon }, ...beside]), 1);
    expect(found.kind).toBe("nearby");
    expect(found.rttMs).toBeGreaterThan(without.rttMs + 30);
    const liar = { coordinates: { latitude: 45.9, longitude: 4.9 }, rtts: { 1: 900 } };
    expect(borrow(neighbours([{ coordinates: lyon }, ...beside, liar]), 1).rttMs).toBeLessThan(
      found.rttMs + 60,
    );
  });
  test("is where those are who share its way when all of them are far from its label", () => {
    const hops = ["192.0.2.1"];
    const tokyos = [0, 1].map(() => ({ hops, coordinates: tokyo, rtts: { 2: 8 } }));
    const found = neighbours([{ hops, coordinates: paris }, ...tokyos]);
    expect(found.placeOf(0)).toEqual({ coordinates: tokyo, source: "measured" });
    const split = neighbours([
      { hops, coordinates: paris },
      ...tokyos,
      { hops, coordinates: paris, rtts: { 0: 8 } },
    ]);
    expect(split.placeOf(0)).toEqual({ coordinates: paris, source: "label" });
  });
  test("shares its group with all that have the same in common, and with nobody else", () => {
    const found = neighbours([
      as,
      as,
      { ...as, rtts: { 0: 20 } },
      { coordinates: paris },
      { coordinates: lyon },
    ]);
    expect(found.groupOf(0)).toBe(found.groupOf(1));
    expect(new Set([0, 3, 4].map((n) => found.groupOf(n))).size).toBe(3);
  });
});

test("last hops: two of each network, and a bound", () => {
  const table = new LastHopTable(2);
  table.handleTrace(network("a"), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
  table.handleTrace(network("b"), ["192.0.2.4"]);
  table.handleTrace(network("a"), ["192.0.2.5"]);
  table.handleTrace(network("c"), ["192.0.2.6"]);
  table.handleTrace(network("d"), []);
  expect([table.size, table.counters.networksDropped]).toEqual([2, 1]);
  expect(table.of(network("a"))).toEqual(["192.0.2.5"]);
  expect(table.of(network("b"))).toEqual([]);
});

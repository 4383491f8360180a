import { describe, expect, test } from "vitest";
import { Random } from "#kit";
import { geographyRttMs } from "../../../mapping/core/estimator.ts";
import { backward, factorise, forward, normalCdf } from "../../../mapping/core/gaussian.ts";
import { expectedFallMs, isHopeless, logOf, PathModel } from "../../../mapping/core/path-model.ts";
import { vectorOf } from "../../../mapping/core/sphere.ts";

describe("normal distributions", () => {
  test("a system of equations is solved", () => {
    const random = new Random(1);
    for (let size = 1; size <= 6; size++) {
      const root = Array.from({ length: size }, () =>
        Array.from({ length: size }, () => random.normal(0, 1)),
      );
      const matrix = root.map((row, a) =>
        root.map((other, b) => row.reduce((sum, x, n) => sum + x * (other[n] as number), a === b ? 0.1 : 0)),
      );
      const x = Array.from({ length: size }, () => random.normal(0, 1));
      const b = Float64Array.from(matrix, (row) => row.reduce((sum, m, n) => sum + m * (x[n] as number), 0));
      const squares = b.reduce((sum, one, n) => sum + one * (x[n] as number), 0);
      const factor = Float64Array.from(matrix.flat());
      factorise(factor, size);
      expect(forward(factor, size, b)).toBeCloseTo(squares, 6);
      backward(factor, size, b);
      for (const [n, found] of b.entries()) expect(found).toBeCloseTo(x[n] as number, 6);
    }
  });
  test("the tables say the same", () => {
    expect(normalCdf(0)).toBeCloseTo(0.5, 6);
    expect(normalCdf(1.96)).toBeCloseTo(0.975002, 6);
    expect(normalCdf(-1)).toBeCloseTo(0.158655, 6);
  });
  test("what is to be gained is what is gained on the mean", () => {
    const random = new Random(2);
    for (const [bestMs, expectedMs, deviation] of [
      [50, 60, 0.4],
      [50, 30, 0.2],
      [200, 20, 1],
    ] as const) {
      const mean = logOf(expectedMs);
      let sum = 0;
      const draws = 20_000;
      for (let n = 0; n < draws; n++) {
        const timeMs = Math.exp(random.normal(mean, deviation)) - Math.exp(logOf(0));
        sum += Math.max(0, bestMs - timeMs);
      }
      expect(Math.abs(expectedFallMs(bestMs, mean, deviation) - sum / draws)).toBeLessThan(0.6);
      expect(isHopeless(bestMs, mean, deviation ** 2)).toBe(false);
    }
    expect(isHopeless(10, logOf(300), 0.01)).toBe(true);
    expect(expectedFallMs(10, logOf(300), 0.1)).toBeLessThan(1e-6);
  });
});

const places = {
  paris: { latitude: 48.9, longitude: 2.35 },
  brussels: { latitude: 50.8, longitude: 4.4 },
  tokyo: { latitude: 35.7, longitude: 139.7 },
};
type Site = keyof typeof places;
const names = Object.keys(places) as Site[];
const sites = names.map((clusterId) => ({ clusterId, coordinates: places[clusterId] }));
const linkMs = (a: Site, b: Site) => geographyRttMs(places[a], places[b]);
const lille = { latitude: 50.6, longitude: 3.1 };
const from = (ratio: number, to: readonly Site[]) =>
  new Map(to.map((site) => [site, ratio * geographyRttMs(lille, places[site])]));

describe("what a network is likely to see", () => {
  test("a place sees what geography says, and what those see who are there", () => {
    const bare = new PathModel(sites, linkMs, [], []).rowAt(vectorOf(lille), [], "x");
    const peers = [{ id: "slow", coordinates: lille, rttMs: from(3, names) }];
    const model = new PathModel(sites, linkMs, [], peers);
    const beside = model.rowAt(vectorOf(lille), [], "x");
    for (const [s, name] of names.entries()) {
      const usualMs = geographyRttMs(lille, places[name]);
      expect(bare.mean[s]).toBeCloseTo(logOf(usualMs), 5);
      expect(beside.mean[s]).toBeGreaterThan((logOf(usualMs) + 2 * logOf(3 * usualMs)) / 3);
      expect(beside.variance[s]).toBeLessThan(bare.variance[s] as number);
    }
    // Nobody is asked about himself.
    expect([...model.rowAt(vectorOf(lille), [], "slow").mean]).toEqual([...bare.mean]);
  });
  test("a measured time stands, and tells most of the sites beside its own", () => {
    const measured = from(3, ["paris"]);
    const model = new PathModel(sites, linkMs, [], [{ id: "x", coordinates: lille, rttMs: measured }]);
    const before = model.rowAt(vectorOf(lille), [], "x");
    const after = model.rowOf(0);
    const raised = names.map((_, s) => (after.mean[s] as number) - (before.mean[s] as number));
    expect(after.mean[0]).toBeCloseTo(logOf(measured.get("paris") as number), 5);
    expect(raised[1]).toBeGreaterThan(0.1);
    expect(raised[2]).toBeGreaterThan(0);
    expect(raised[2]).toBeLessThan((raised[1] as number) / 2);
    expect(after.variance[1]).toBeLessThan(after.variance[2] as number);
  });
  test("without a place the links between sites bound what is expected", () => {
    const model = new PathModel<Site>(
      sites,
      linkMs,
      [],
      [{ id: "x", coordinates: null, rttMs: new Map([["paris", 5]]) }],
    );
    const { mean } = model.rowOf(0);
    expect(mean[2]).toBeGreaterThan(logOf(linkMs("paris", "tokyo") - 6));
    expect(mean[1]).toBeLessThan(logOf(linkMs("paris", "brussels") + 6));
  });
});

import { describe, expect, it } from "vitest";
import { EARTH_RADIUS_KM, fibreRttMsMin, greatCircleKm } from "../../../kit/geo.ts";
import { mean, quantile, summary } from "../../../kit/quantile.ts";

const at = (latitude: number, longitude: number) => ({ latitude, longitude });

describe("greatCircleKm", () => {
  it.each([
    ["Frankfurt - New York", at(50.11, 8.68), at(40.71, -74.01), 6204],
    ["London - Sydney", at(51.51, -0.13), at(-33.87, 151.21), 16_994],
    ["over the date line", at(0, 179.5), at(0, -179.5), 111.2],
    ["over the pole", at(89, 0), at(89, 180), 222.4],
    ["pole to pole", at(90, 0), at(-90, 77), Math.PI * EARTH_RADIUS_KM],
    ["antipodes", at(12.3, 45.6), at(-12.3, -134.4), Math.PI * EARTH_RADIUS_KM],
    ["the same place", at(12.3, 45.6), at(12.3, 45.6), 0],
  ])("%s", (_name, a, b, km) => {
    expect(Math.abs(greatCircleKm(a, b) - km)).toBeLessThanOrEqual(km * 0.002 + 1e-9);
    expect(greatCircleKm(a, b)).toBeCloseTo(greatCircleKm(b, a), 9);
  });

  it("100 km of fibre cost about 1 ms there and back", () => {
    expect(fibreRttMsMin(100)).toBeCloseTo(1.0007, 4);
    expect(fibreRttMsMin(0)).toBe(0);
  });
});

describe("quantile (type 7)", () => {
  it.each([
    [[1, 2, 3, 4], 0.25, 1.75],
    [[1, 2, 3, 4], 0.5, 2.5],
    [[15, 20, 35, 40, 50], 0.4, 29],
    [[7], 0.99, 7],
    [[1, 2], -1, 1],
    [[1, 2], 2, 2],
    [[1, Infinity], 0, 1],
  ])("of %j at %d is %d", (values, q, expected) => {
    expect(quantile(values, q)).toBeCloseTo(expected, 12);
  });

  it("of nothing is NaN", () => {
    expect(quantile([], 0.5)).toBeNaN();
    expect(mean([])).toBeNaN();
    expect(summary([])).toEqual({ mean: NaN, p50: NaN, p95: NaN, p99: NaN, max: NaN, count: 0 });
  });

  it("summary sorts by number and leaves its argument alone", () => {
    const values = [10, 9, 100, 1];
    expect(summary(values)).toEqual({
      mean: 30,
      p50: 9.5,
      p95: expect.closeTo(86.5, 9),
      p99: expect.closeTo(97.3, 9),
      max: 100,
      count: 4,
    });
    expect(values).toEqual([10, 9, 100, 1]);
  });
});

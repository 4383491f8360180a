import { describe, expect, test } from "vitest";
import * as fc from "fast-check";
import { trafficClasses } from "#kit";
import { Estimator, estimateByGeography, scoreDefaults, scoreOf, scoreParameters } from "#mapping";
import { guessUnmeasured } from "../../../mapping/core/unmeasured.ts";
import { at } from "./fixtures.ts";

function fed(samples: readonly (number | null)[], intervalMs = 1_000): Estimator {
  const estimator = new Estimator();
  for (const [n, rttMs] of samples.entries()) estimator.handleSample("a", "b", rttMs, at(n * intervalMs));
  return estimator;
}

describe("round-trip time", () => {
  test("queues and one wrong low sample do not move it", () => {
    const estimator = fed([50, 51, 50, 250, 52, 50, 3, 51, 50, 90, 51, 50]);
    const estimate = estimator.estimate("a", "b", at(12_000));
    expect(estimate?.rttMs).toBeGreaterThanOrEqual(50);
    expect(estimate?.rttMs).toBeLessThan(51);
  });
  test("a longer path is found once the window has moved", () => {
    const estimator = fed(Array.from({ length: 48 }, (_, n) => (n < 24 ? 50 : 120)));
    expect(estimator.estimate("a", "b", at(48_000))?.rttMs).toBe(120);
  });
  test("unknown and forgotten pairs have none", () => {
    expect(new Estimator().estimate("a", "b", at(0))).toBeUndefined();
    expect(fed([50]).estimate("a", "b", at(3_600_001))).toBeUndefined();
  });
  test.each([[Number.NaN], [-1], [Infinity], [60_001]])("%d ms is refused and counted", (rttMs) => {
    const estimator = new Estimator();
    expect(estimator.handleSample("a", "b", rttMs, at(0))).toBe(false);
    expect(estimator.counters).toMatchObject({ samplesRefused: 1, samples: 0 });
    expect(estimator.size).toBe(0);
  });
});

describe("loss", () => {
  test("one lost sample of five is no 20 %", () => {
    expect(fed([50, 50, null, 50, 50]).estimate("a", "b", at(5_000))?.lossRatio).toBeLessThan(0.02);
  });
  test("three in a row are a cut, the next answer ends it", () => {
    const estimator = fed([50, 50, 50, null, null, null]);
    expect(estimator.estimate("a", "b", at(6_000))).toMatchObject({ rttMs: 50, lossRatio: 0.875 });
    estimator.handleSample("a", "b", 50, at(7_000));
    expect(estimator.estimate("a", "b", at(7_000))?.lossRatio).toBeLessThan(0.05);
  });
  test("what never answered is not estimated, but known to be silent", () => {
    const estimator = fed([null, null, null]);
    expect(estimator.estimate("a", "b", at(3_000))).toBeUndefined();
    expect(estimator.lostInARow("a", "b")).toBe(3);
  });
});

test("confidence grows with samples and is halved by age", () => {
  expect(fed([50]).estimate("a", "b", at(0))?.confidence).toBe(0.5);
  expect(fed([50, 50, 50]).estimate("a", "b", at(2_000))?.confidence).toBe(0.875);
  expect(fed([50]).estimate("a", "b", at(600_000))?.confidence).toBe(0.25);
});

test("memory is bounded: the pair that waited longest goes, and is counted", () => {
  const estimator = new Estimator({ pairsMax: 2 });
  estimator.handleSample("a", "x", 1, at(0));
  estimator.handleSample("a", "y", 2, at(1));
  estimator.handleSample("a", "x", 1, at(2));
  estimator.handleSample("a", "z", 3, at(3));
  expect(estimator.size).toBe(2);
  expect(estimator.counters.pairsDropped).toBe(1);
  expect(estimator.estimate("a", "y", at(3))).toBeUndefined();
  expect(estimator.estimate("a", "x", at(3))?.rttMs).toBe(1);
});

describe("unmeasured pairs", () => {
  const paris = { latitude: 48.9, longitude: 2.35 };
  const tokyo = { latitude: 35.7, longitude: 139.7 };
  test("geography: far is far, and little is believed", () => {
    const near = estimateByGeography(paris, paris);
    const far = estimateByGeography(paris, tokyo);
    expect(near.rttMs).toBeLessThan(10);
    // 9,700 km: light in fibre needs 97 ms, the guess is above it.
    expect(far.rttMs).toBeGreaterThan(97);
    expect(far.confidence).toBe(0.05);
    expect(estimateByGeography(null, tokyo).confidence).toBeLessThan(far.confidence);
  });
  test("a network that is slow everywhere is slow here too", () => {
    const guess = estimateByGeography(paris, paris);
    const slow = guessUnmeasured(guess, "x", [{ clusterId: "y", rttMs: 100, guessMs: 10 }], () => undefined);
    expect(slow.rttMs).toBeCloseTo(guess.rttMs * 10);
    expect(slow.confidence).toBe(guess.confidence);
  });
  test("the triangle inequality holds a guess up", () => {
    const guess = estimateByGeography(paris, paris);
    const measured = [{ clusterId: "y", rttMs: 104, guessMs: 104 }];
    expect(guessUnmeasured(guess, "x", measured, () => 15).rttMs).toBe(89);
    expect(guessUnmeasured(guess, "x", [], () => 15)).toBe(guess);
  });
});

describe("score", () => {
  const base = { rttMs: 50, spreadMs: 5, lossRatio: 0.002, load: 0.1, confidence: 1 };
  test("never decreases in what is bad, never increases in what is good, whatever the rest", () => {
    const ratio = fc.double({ min: 0, max: 1, noNaN: true });
    // `worth`: confidence of the samples when they were new.
    const input = fc.record({
      rttMs: fc.double({ min: 0, max: 5_000, noNaN: true }),
      spreadMs: fc.double({ min: 0, max: 500, noNaN: true }),
      lossRatio: ratio,
      load: fc.double({ min: 0, max: 3, noNaN: true }),
      worth: ratio,
      freshness: fc.double({ min: 0.01, max: 1, noNaN: true }),
      throughputBps: fc.double({ min: 1e4, max: 1e10, noNaN: true }),
      pricePerGb: fc.double({ min: 0, max: 10, noNaN: true }),
    });
    const names = [
      "rttMs",
      "spreadMs",
      "lossRatio",
      "load",
      "pricePerGb",
      "worth",
      "freshness",
      "throughputBps",
    ] as const;
    fc.assert(
      fc.property(
        input,
        input,
        fc.constantFrom(...names),
        fc.constantFrom(...trafficClasses),
        (a, b, name, trafficClass) => {
          const other = { ...a, [name]: b[name] };
          const [low, high] = a[name] <= b[name] ? [a, other] : [other, a];
          const score = (one: typeof a) =>
            scoreOf({ ...one, confidence: one.worth * one.freshness }, scoreDefaults[trafficClass]).score;
          const isGood = name === "worth" || name === "freshness" || name === "throughputBps";
          const slack = 1e-9 * Math.max(1, score(low), score(high));
          if (isGood) expect(score(high)).toBeLessThanOrEqual(score(low) + slack);
          else expect(score(low)).toBeLessThanOrEqual(score(high) + slack);
        },
      ),
    );
  });
  test("age is paid once: with equal weights doubt and age are the doubt about the whole confidence", () => {
    const parameters = scoreDefaults.interactive;
    expect(parameters.ageWeight).toBe(parameters.doubtWeight);
    const { terms } = scoreOf({ ...base, confidence: 0.45, freshness: 0.5 }, parameters);
    expect(terms.doubt).toBeCloseTo(parameters.doubtWeight * 0.1 * base.rttMs);
    expect(terms.doubt + terms.age).toBeCloseTo(parameters.doubtWeight * 0.55 * base.rttMs);
    expect(() => scoreParameters.parse({ ...parameters, ageWeight: 3 })).toThrow(
      /ageWeight: got 3, expected at most doubtWeight/,
    );
  });
  test("a measured throughput stands in for the predicted one, in the same unit", () => {
    // Mathis et al.: 1460 bytes * sqrt(3/2) / (50 ms * sqrt(0.002)) = 6.4 Mbit/s.
    const predicted = scoreOf(base, scoreDefaults.bulk).terms.throughput;
    const same = scoreOf({ ...base, throughputBps: 6.3976e6 }, scoreDefaults.bulk).terms.throughput;
    expect(same).toBeCloseTo(predicted, 3);
    expect(scoreOf({ ...base, throughputBps: 1e6 }, scoreDefaults.bulk).terms.throughput).toBeGreaterThan(
      predicted,
    );
  });
  test("is the sum of its terms", () => {
    for (const parameters of Object.values(scoreDefaults)) {
      const { score, terms } = scoreOf(base, parameters);
      expect(score).toBeCloseTo(Object.values(terms).reduce((sum, term) => sum + term, 0));
    }
  });
  test.each([
    ["rttMs", 60],
    ["lossRatio", 0.1],
    ["load", 0.99],
    ["confidence", 0.1],
  ] as const)("is worse with %s of %d, in every class", (name, value) => {
    for (const parameters of Object.values(scoreDefaults))
      expect(scoreOf({ ...base, [name]: value }, parameters).score).toBeGreaterThan(
        name === "lossRatio" && parameters.lossWeight + parameters.throughputWeight === 0
          ? -1
          : scoreOf(base, parameters).score,
      );
  });
  test("load below the knee costs nothing", () => {
    expect(scoreOf({ ...base, load: 0.7 }, scoreDefaults.interactive).terms.load).toBe(0);
  });
  test("a path that loses more than half comes after every one that works", () => {
    const cut = scoreOf({ ...base, rttMs: 1, lossRatio: 0.9 }, scoreDefaults.interactive).score;
    expect(cut).toBeGreaterThan(
      scoreOf({ ...base, rttMs: 900, confidence: 0 }, scoreDefaults.interactive).score,
    );
  });
  test("bulk pays for loss by distance: a near lossy site may beat a far clean one", () => {
    const nearLossy = scoreOf({ ...base, rttMs: 10, lossRatio: 0.01 }, scoreDefaults.bulk).score;
    const farClean = scoreOf({ ...base, rttMs: 150, lossRatio: 0.001 }, scoreDefaults.bulk).score;
    expect(nearLossy).toBeLessThan(farClean);
  });
  test.each([
    ["rttMs", Number.NaN],
    ["lossRatio", 1.1],
    ["confidence", -0.1],
    ["load", Infinity],
  ] as const)("%s of %d decides nothing: refused", (name, value) => {
    expect(() => scoreOf({ ...base, [name]: value }, scoreDefaults.live)).toThrow(RangeError);
  });
});

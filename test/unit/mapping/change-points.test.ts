import { describe, expect, test } from "vitest";
import { type MonotonicMs, Random } from "#kit";
import { ChangeDetector, Estimator, type PathChange } from "#mapping";

function changesOf(rtts: readonly number[]): (PathChange & { readonly at: number })[] {
  const detector = new ChangeDetector();
  return rtts.flatMap((rtt, n) => {
    const change = detector.handleSample(rtt);
    return change === undefined ? [] : [{ ...change, at: n - change.samples + 1 }];
  });
}

/** `count` samples about a level; queues only add. */
function path(random: Random, levelMs: number, count: number): number[] {
  return Array.from({ length: count }, () => levelMs + random.exponential(0.5));
}

describe("changes of a path", () => {
  test("a step up and one down are found where they are, with the levels of both sides", () => {
    const random = new Random(3);
    const rtts = [...path(random, 80, 100), ...path(random, 95, 100), ...path(random, 70, 100)];
    const changes = changesOf(rtts);
    expect(changes).toHaveLength(2);
    for (const [n, place] of [100, 200].entries())
      expect(Math.abs((changes[n]?.at ?? 0) - place)).toBeLessThanOrEqual(1);
    expect(changes[0]?.beforeMs).toBeCloseTo(80.4, 0);
    expect(changes[0]?.afterMs).toBeCloseTo(95.4, 0);
    expect(changes[1]?.afterMs).toBeCloseTo(70.4, 0);
  });

  test("spikes are no change, however high, and neither is noise", () => {
    const random = new Random(4);
    const rtts = path(random, 40, 3_000).map((rtt, n) => (n % 40 < 3 ? rtt + 500 : rtt));
    expect(changesOf(rtts)).toEqual([]);
  });

  test("a shift within the noise is none; the same shift on a steady path is one", () => {
    const random = new Random(5);
    const noisy = (level: number) => Array.from({ length: 200 }, () => random.normal(level, 20));
    expect(changesOf([...noisy(100), ...noisy(103)])).toEqual([]);
    expect(changesOf([...path(random, 100, 200), ...path(random, 103, 200)])).toHaveLength(1);
  });

  test("the memory of a path is bounded and a change is seen however long it was steady", () => {
    const random = new Random(6);
    expect(changesOf([...path(random, 50, 20_000), ...path(random, 60, 50)])).toHaveLength(1);
  });

  test("an estimate follows a path that has become longer, although its window still holds shorter times", () => {
    const random = new Random(7);
    const estimator = new Estimator();
    const rtts = [...path(random, 80, 40), ...path(random, 120, 8)];
    for (const [n, rtt] of rtts.entries()) estimator.handleSample("a", "b", rtt, (n * 1_000) as MonotonicMs);
    expect(estimator.estimate("a", "b", 48_000 as MonotonicMs)?.rttMs).toBeGreaterThan(119);
    expect(estimator.counters.changes).toBe(1);
  });

  test("settings that cannot work are refused", () => {
    expect(() => new ChangeDetector({ samplesMin: 2 })).toThrow(/samplesMin/);
    expect(() => new ChangeDetector({ samplesMax: 1_000 })).toThrow(/8\.\.512/);
    expect(() => new ChangeDetector({ drift: 3, clip: 3 })).toThrow(/drift < clip/);
  });
});

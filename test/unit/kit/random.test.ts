import { describe, expect, it } from "vitest";
import { mean, quantile } from "../../../kit/quantile.ts";
import { Random } from "../../../kit/random.ts";

function draws(random: Random, count: number): number[] {
  return Array.from({ length: count }, () => random.float());
}

describe("Random", () => {
  it("gives the same numbers for the same seed, now and in later versions", () => {
    expect(draws(new Random(42), 5)).toEqual(draws(new Random("42"), 5));
    expect(draws(new Random(42), 5)).not.toEqual(draws(new Random(43), 5));
    // A change here changes every seeded run: simulator digests and worlds too.
    const random = new Random("golden");
    expect([random.int(1_000_000), random.int(1_000_000), random.int(2 ** 40)]).toMatchInlineSnapshot(`
      [
        794033,
        871901,
        22462466740,
      ]
    `);
  });

  it("splits by label without disturbing the parent, whenever it is split", () => {
    const plain = draws(new Random(1), 20);
    const parent = new Random(1);
    const early = parent.split("a");
    const first = draws(parent, 10);
    const late = parent.split("a");
    const other = parent.split("b");
    expect([...first, ...draws(parent, 10)]).toEqual(plain);
    const ofA = draws(early, 10);
    expect(draws(late, 10)).toEqual(ofA);
    expect(draws(other, 10)).not.toEqual(ofA);
    expect(draws(new Random(2).split("a"), 10)).not.toEqual(ofA);
    expect(draws(new Random(1).split("a").split("b"), 5)).not.toEqual(
      draws(new Random(1).split("b").split("a"), 5),
    );
  });

  it("is uniform: 100 bins of 100,000 draws pass chi-square at 1e-4", () => {
    const random = new Random("bins");
    const bins = Array.from({ length: 100 }, () => 0);
    for (let n = 0; n < 100_000; n++) {
      const bin = random.int(100);
      bins[bin] = (bins[bin] as number) + 1;
    }
    const chiSquare = bins.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
    expect(chiSquare).toBeGreaterThan(50);
    expect(chiSquare).toBeLessThan(161); // 99 degrees of freedom
  });

  it("has the moments of its distributions", () => {
    const random = new Random("moments");
    const normal = Float64Array.from({ length: 50_000 }, () => random.normal(10, 2)).sort();
    expect(mean(normal)).toBeCloseTo(10, 1);
    expect(quantile(normal, 0.8413) - quantile(normal, 0.5)).toBeCloseTo(2, 1);
    const exponential = Float64Array.from({ length: 50_000 }, () => random.exponential(3)).sort();
    expect(Math.abs(mean(exponential) - 3)).toBeLessThan(0.08);
    expect(Math.abs(quantile(exponential, 0.5) - 3 * Math.LN2)).toBeLessThan(0.08);
    expect(exponential[0]).toBeGreaterThanOrEqual(0);
    const hits = Array.from({ length: 50_000 }, () => random.chance(0.2)).filter(Boolean).length;
    expect(Math.abs(hits / 50_000 - 0.2)).toBeLessThan(0.01);
    const uniform = Array.from({ length: 10_000 }, () => random.uniform(-5, 5));
    expect(Math.min(...uniform)).toBeGreaterThanOrEqual(-5);
    expect(Math.max(...uniform)).toBeLessThan(5);
  });

  it("never and always are exact", () => {
    const random = new Random(0);
    for (let n = 0; n < 1000; n++) {
      expect(random.chance(0)).toBe(false);
      expect(random.chance(1)).toBe(true);
      expect(random.int(1)).toBe(0);
    }
  });

  it("shuffles into a new array, every order equally likely", () => {
    const random = new Random("shuffle");
    const source = [1, 2, 3];
    const counts = new Map<string, number>();
    for (let n = 0; n < 6000; n++) {
      const order = random.shuffle(source).join();
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(source).toEqual([1, 2, 3]);
    expect(counts.size).toBe(6);
    for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(150);
    expect(random.shuffle([])).toEqual([]);
  });

  it.each([
    ["int(0)", (r: Random) => r.int(0)],
    ["int(1.5)", (r: Random) => r.int(1.5)],
    ["int(2^53)", (r: Random) => r.int(2 ** 53)],
    ["uniform(1, 0)", (r: Random) => r.uniform(1, 0)],
    ["normal(0, -1)", (r: Random) => r.normal(0, -1)],
    ["exponential(-1)", (r: Random) => r.exponential(-1)],
    ["chance(NaN)", (r: Random) => r.chance(Number.NaN)],
    ["pick([])", (r: Random) => r.pick([])],
  ])("refuses %s", (_name, call) => {
    expect(() => call(new Random(1))).toThrow(RangeError);
  });
});

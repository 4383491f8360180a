import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Placement, type PlacementProblem } from "#mapping";

const CLUSTERS = 6;

interface Unit {
  readonly demands: readonly [number, number];
  readonly ranking: readonly number[];
  readonly steps: readonly number[];
}

const unit: fc.Arbitrary<Unit> = fc.record({
  demands: fc.tuple(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 0, max: 20 })),
  ranking: fc.shuffledSubarray([0, 1, 2, 3, 4, 5], { minLength: 1 }),
  steps: fc.array(fc.integer({ min: 0, max: 50 }), { minLength: CLUSTERS, maxLength: CLUSTERS }),
});
const limit = fc.record({
  resource: fc.integer({ min: 0, max: 1 }),
  max: fc.integer({ min: 0, max: 120 }),
  clusters: fc.subarray([0, 1, 2, 3, 4, 5], { minLength: 1 }),
});
const world = fc.record({
  units: fc.array(unit, { maxLength: 25 }),
  limits: fc.array(limit, { maxLength: 9 }),
  hasFallback: fc.boolean(),
  closed: fc.subarray([0, 1, 2, 3, 4, 5], { maxLength: 2 }),
  downs: fc.subarray([0, 1, 2, 3, 4, 5], { maxLength: 3 }),
});
type World = typeof world extends fc.Arbitrary<infer T> ? T : never;

function problemOf({ units, limits, hasFallback, closed }: World): PlacementProblem {
  const offsets = new Uint32Array(units.length + 1);
  const clusters: number[] = [];
  const costs: number[] = [];
  for (const [n, { ranking, steps }] of units.entries()) {
    let cost = 0;
    for (const [place, cluster] of ranking.entries()) {
      clusters.push(cluster);
      costs.push((cost += steps[place] as number));
    }
    offsets[n + 1] = clusters.length;
  }
  return {
    clusterCount: CLUSTERS,
    demands: [0, 1].map((resource) => Float64Array.from(units, ({ demands }) => demands[resource] as number)),
    offsets,
    clusters: Uint16Array.from(clusters),
    costs: Float64Array.from(costs),
    limits,
    isClosed: Uint8Array.from([0, 1, 2, 3, 4, 5], (cluster) => (closed.includes(cluster) ? 1 : 0)),
    ...(hasFallback && {
      fallback: { orders: [Uint16Array.from([5, 4, 3, 2, 1, 0])], orderOf: new Uint32Array(units.length) },
    }),
  };
}

/** What the laws say, by counting: whoever is where, what is used of each limit, and who could be elsewhere for nothing. */
function inspect(given: World, placement: Placement, down: ReadonlySet<number>) {
  const where = given.units.map((_, n) => placement.clusterOf(n));
  const used = given.limits.map(({ resource, clusters }) =>
    given.units.reduce(
      (sum, { demands }, n) => sum + (clusters.includes(where[n] ?? -1) ? (demands[resource] ?? 0) : 0),
      0,
    ),
  );
  const hasRoom = (n: number, cluster: number): boolean =>
    given.limits.every(({ resource, max, clusters }, l) => {
      const demand = given.units[n]?.demands[resource] ?? 0;
      if (!clusters.includes(cluster) || demand === 0) return true;
      const own = clusters.includes(where[n] ?? -1) ? demand : 0;
      return (used[l] ?? 0) - own + demand <= max;
    });
  for (const [n, { ranking }] of given.units.entries()) {
    const may = given.hasFallback ? [0, 1, 2, 3, 4, 5] : ranking;
    const up = may.filter((cluster) => !down.has(cluster));
    if (up.length === 0) expect(where[n]).toBeUndefined();
    else expect(up).toContain(where[n]);
  }
  return { where, used, hasRoom };
}

describe("placement under several limits", () => {
  test("everyone is somewhere that is up; only what fits nowhere exceeds a limit", () => {
    let overflows = 0;
    let fits = 0;
    fc.assert(
      fc.property(world, (given) => {
        const placement = new Placement(problemOf(given));
        placement.place();
        const down = new Set<number>(given.closed);
        for (const next of [undefined, ...given.downs]) {
          if (next !== undefined) {
            down.add(next);
            placement.handleDown(next);
          }
          const { used, hasRoom, where } = inspect(given, placement, down);
          for (const [l, sum] of used.entries()) expect(placement.used(l)).toBeCloseTo(sum, 6);
          for (const [l, { resource, max, clusters }] of given.limits.entries()) {
            const excused = given.units.reduce(
              (sum, { demands }, n) =>
                sum +
                (placement.isOverflow(n) && clusters.includes(where[n] ?? -1) ? (demands[resource] ?? 0) : 0),
              0,
            );
            expect((used[l] ?? 0) - excused).toBeLessThanOrEqual(max + 1e-6);
          }
          for (const [n, { ranking }] of given.units.entries()) {
            if (!placement.isOverflow(n)) {
              fits++;
              continue;
            }
            overflows++;
            const may = given.hasFallback ? [0, 1, 2, 3, 4, 5] : ranking;
            for (const cluster of may)
              if (!down.has(cluster) && cluster !== where[n]) expect(hasRoom(n, cluster)).toBe(false);
          }
        }
      }),
      { numRuns: 3000 },
    );
    expect(overflows).toBeGreaterThan(20);
    expect(fits).toBeGreaterThan(20);
  });

  test("nobody stays behind a better cluster that has room, and no cluster would rather have another than one it holds", () => {
    let rivals = 0;
    fc.assert(
      fc.property(world, (drawn) => {
        // The classical law is about capacities of one resource, one for each cluster, and units of one size.
        const given: World = {
          ...drawn,
          hasFallback: false,
          closed: [],
          units: drawn.units.map((one) => ({ ...one, demands: [1, 0] as const })),
          limits: [0, 1, 2, 3, 4, 5].map((cluster) => ({
            resource: 0,
            max: (drawn.limits[cluster]?.max ?? 3) % 6,
            clusters: [cluster],
          })),
        };
        const placement = new Placement(problemOf(given));
        placement.place();
        const { where, hasRoom } = inspect(given, placement, new Set());
        const lossAt = (n: number, place: number): number => {
          const { ranking, steps } = given.units[n] as Unit;
          return place + 1 < ranking.length ? (steps[place + 1] as number) : Infinity;
        };
        for (const [n, { ranking }] of given.units.entries()) {
          if (placement.isOverflow(n)) continue;
          const held = ranking.indexOf(where[n] as number);
          for (let place = 0; place < held; place++) {
            const cluster = ranking[place] as number;
            expect(hasRoom(n, cluster)).toBe(false);
            for (const [other, rival] of given.units.entries()) {
              if (where[other] !== cluster || placement.isOverflow(other)) continue;
              rivals++;
              expect(lossAt(other, rival.ranking.indexOf(cluster))).toBeGreaterThanOrEqual(lossAt(n, place));
            }
          }
        }
      }),
      { numRuns: 3000 },
    );
    expect(rivals).toBeGreaterThan(20);
  });

  test("a cluster's death moves its own units, and else only those that had no room", () => {
    fc.assert(
      fc.property(world, (given) => {
        const placement = new Placement(problemOf(given));
        placement.place();
        for (const down of given.downs) {
          const before = given.units.map((_, n) => placement.clusterOf(n));
          const hadRoom = given.units.map((_, n) => !placement.isOverflow(n));
          expect(placement.handleDown(down)).toBe(before.filter((cluster) => cluster === down).length);
          for (const [n, cluster] of before.entries())
            if (cluster !== down && hadRoom[n] === true) expect(placement.clusterOf(n)).toBe(cluster);
        }
      }),
      { numRuns: 3000 },
    );
  });

  test("who settles where everyone was placed stays, and what changes moves no more than it must", () => {
    let shrunk = 0;
    fc.assert(
      fc.property(world, fc.integer({ min: 0, max: 8 }), (drawn, which) => {
        // Whoever uses this gives each unit a place where it is, so that none has to be found again by the fallback.
        const given: World = { ...drawn, hasFallback: false };
        const problem = problemOf(given);
        const placed = new Placement(problem);
        placed.place();
        fc.pre(placed.overflows === 0);
        const clusters = Uint16Array.from(given.units, (_, n) => placed.clusterOf(n) ?? 0xffff);
        const again = { ...problem, incumbents: { clusters, yieldMargin: 5 } };
        const same = new Placement(again);
        same.settle();
        expect(given.units.map((_, n) => same.clusterOf(n))).toEqual(
          given.units.map((_, n) => placed.clusterOf(n)),
        );
        const limits = given.limits.map((one, l) => (l === which ? { ...one, max: one.max / 2 } : one));
        const less = new Placement({ ...again, limits });
        less.settle();
        const { used, hasRoom, where } = inspect({ ...given, limits }, less, new Set(given.closed));
        // Who has moved was where it is less now, or found a better place by that, or had to make room for one of those.
        const changed = limits[which];
        if (changed !== undefined && placed.used(which) > changed.max) shrunk++;
        if (less.overflows > 0) return;
        for (const [l, { max }] of limits.entries()) expect(used[l]).toBeLessThanOrEqual(max + 1e-6);
        if (changed === undefined || placed.used(which) <= changed.max)
          expect(where).toEqual(given.units.map((_, n) => placed.clusterOf(n)));
        // Who moves within a limit of several clusters counts twice in it.
        if (limits.some((one) => one.clusters.length > 1)) return;
        for (const [n, { ranking }] of given.units.entries())
          for (const cluster of ranking.slice(0, Math.max(0, ranking.indexOf(where[n] as number))))
            if (!given.closed.includes(cluster)) expect(hasRoom(n, cluster)).toBe(false);
      }),
      { numRuns: 1500 },
    );
    expect(shrunk).toBeGreaterThan(20);
  });

  test("refuses what cannot be", () => {
    const problem = problemOf({
      units: [{ demands: [1, 1], ranking: [0, 1], steps: [1, 1, 1, 1, 1, 1] }],
      limits: [],
      hasFallback: false,
      closed: [],
      downs: [],
    });
    const broken: readonly [Partial<PlacementProblem>, RegExp][] = [
      [{ costs: Float64Array.of(2, 1) }, /do not ascend/],
      [{ costs: Float64Array.of(Number.NaN, 1) }, /do not ascend/],
      [{ clusters: Uint16Array.of(0, 6) }, /is none/],
      [{ demands: [] }, /no resource/],
      [{ demands: [Float64Array.of(-1)] }, /a demand of -1/],
      [{ limits: [{ resource: 1, max: 1, clusters: [0] }], demands: [Float64Array.of(1)] }, /resource 1/],
      [{ limits: [{ resource: 0, max: Number.NaN, clusters: [0] }] }, /a limit of NaN/],
      [{ limits: [{ resource: 0, max: 1, clusters: [9] }] }, /cluster 9/],
      [{ offsets: Uint32Array.of(0, 3) }, /last offset of 3/],
    ];
    for (const [change, message] of broken)
      expect(() => new Placement({ ...problem, ...change })).toThrow(message);
  });
});

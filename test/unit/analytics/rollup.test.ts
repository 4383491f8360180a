import { describe, expect, test } from "vitest";
import { epochMs } from "#kit";
import {
  addDuration,
  emptyHistogram,
  meanMs,
  quantileMs,
  RollupWindows,
  merge,
  TrafficGroups,
} from "#analytics";
import { recordOf } from "./records.ts";

const minute = 60_000;
const start = 1_800_000_000_000;
const settings = { windowMs: minute, latenessMs: 15_000, skewMaxMs: 5_000, cellsMax: 4 };
const at = (ms: number) => epochMs(start + ms);

describe("windows", () => {
  test("a window is told after its end and lateness, with what it saw", () => {
    const windows = new RollupWindows(settings);
    windows.handleRecord(recordOf({ atEpochMs: at(0) }), at(0));
    windows.handleRecord(
      recordOf({ atEpochMs: at(59_999), status: 503, cacheStatus: "uri-miss", bytesUp: 7 }),
      at(60_100),
    );
    windows.handleRecord(recordOf({ atEpochMs: at(60_000), propertyId: null, status: 0 }), at(60_100));
    expect(windows.pollTimeout()).toBe(at(75_000));
    expect(windows.handleTimeout(at(74_999))).toEqual([]);
    const [told, ...rest] = windows.handleTimeout(at(75_000));
    expect(rest).toEqual([]);
    expect(told).toMatchObject({
      windowStart: start,
      propertyId: "shop-www",
      requests: 2,
      hits: 1,
      bytesDown: 2_000,
      bytesUp: 7,
      statusClasses: [0, 0, 1, 0, 0, 1],
      lateRecords: 0,
    });
    expect(windows.pollTimeout()).toBe(at(135_000));
    expect(windows.handleTimeout(at(200_000))).toMatchObject([
      { propertyId: null, requests: 1, statusClasses: [1, 0, 0, 0, 0, 0] },
    ]);
    expect(windows.pollTimeout()).toBeUndefined();
    expect(windows.counters).toEqual({ counted: 3, late: 0, "dropped-future": 0, "dropped-full": 0 });
  });

  test("late records make a correction that merges with what was told", () => {
    const windows = new RollupWindows(settings);
    windows.handleRecord(recordOf({ atEpochMs: at(1) }), at(2));
    const first = windows.handleTimeout(at(75_000));
    expect(windows.handleRecord(recordOf({ atEpochMs: at(3), cacheStatus: "stale" }), at(80_000))).toBe(
      "late",
    );
    expect(windows.handleRecord(recordOf({ atEpochMs: at(4) }), at(81_000))).toBe("late");
    expect(windows.pollTimeout()).toBe(at(95_000));
    const second = windows.handleTimeout(at(95_000));
    expect(second).toMatchObject([{ windowStart: start, requests: 2, hits: 1, lateRecords: 2 }]);
    expect(merge(first, second)).toMatchObject([
      { windowStart: start, requests: 3, hits: 2, lateRecords: 2, durations: { count: 3 } },
    ]);
  });

  test("a clock that is ahead and too many properties are refused and counted", () => {
    const windows = new RollupWindows(settings);
    expect(windows.handleRecord(recordOf({ atEpochMs: at(5_001) }), at(0))).toBe("dropped-future");
    for (let n = 0; n < 6; n++) windows.handleRecord(recordOf({ propertyId: `p${n}` as never }), at(0));
    expect(windows.counters).toEqual({ counted: 4, late: 0, "dropped-future": 1, "dropped-full": 2 });
    expect(windows.handleTimeout(at(75_000)).map((window) => window.propertyId)).toEqual([
      "p0",
      "p1",
      "p2",
      "p3",
    ]);
    expect(
      windows.handleRecord(recordOf({ propertyId: "p9" as never, atEpochMs: at(70_000) }), at(75_000)),
    ).toBe("counted");
  });
});

describe("histogram", () => {
  test("is empty, then within 5 %", () => {
    const histogram = emptyHistogram();
    expect(quantileMs(histogram, 0.5)).toBeNaN();
    expect(meanMs(histogram)).toBeNaN();
    for (let n = 1; n <= 1_000; n++) addDuration(histogram, n);
    for (const q of [0.01, 0.5, 0.95, 0.99, 1]) {
      expect(Math.abs(quantileMs(histogram, q) / (q * 1_000) - 1), `q ${q}`).toBeLessThan(0.05);
    }
    expect(meanMs(histogram)).toBeCloseTo(500.5, 6);
  });

  test("values outside of the buckets are told by the smallest and the largest", () => {
    const histogram = emptyHistogram();
    for (const ms of [0, -5, Number.NaN, 1e8]) addDuration(histogram, ms);
    expect(quantileMs(histogram, 0.5)).toBe(0);
    expect(quantileMs(histogram, 1)).toBe(1e8);
    expect(histogram.count).toBe(4);
  });
});

describe("groups for a reader", () => {
  const records = [
    recordOf({ path: "/a", bytesDown: 10 }),
    recordOf({ path: "/a", status: 304, cacheStatus: "miss" }),
    recordOf({ path: "/b", status: 500, cacheStatus: "error", propertyId: null }),
    recordOf({ path: "/c", status: 404, atEpochMs: start + 5 }),
  ];

  test.each([
    [
      "property",
      [
        ["shop-www", 3],
        ["(none)", 1],
      ],
    ],
    [
      "status",
      [
        ["200", 1],
        ["304", 1],
        ["404", 1],
        ["500", 1],
      ],
    ],
    [
      "path",
      [
        ["www.shop.example/a", 2],
        ["www.shop.example/b", 1],
        ["www.shop.example/c", 1],
      ],
    ],
  ] as const)("by %s", (by, expected) => {
    const groups = new TrafficGroups(by, 100);
    for (const record of records) groups.add(record);
    const summary = groups.summary();
    expect(summary.rows.map((row) => [row.key, row.requests])).toEqual(expected);
    expect(summary).toMatchObject({
      records: 4,
      fromEpochMs: start,
      toEpochMs: start + 5,
      total: { requests: 4, hitRatio: 0.5, status4xx: 1, status5xx: 1 },
    });
  });

  test("keys beyond the bound are summed as others", () => {
    const groups = new TrafficGroups("path", 1);
    for (const record of records) groups.add(record);
    expect(groups.summary().rows.map((row) => [row.key, row.requests])).toEqual([
      ["(other)", 2],
      ["www.shop.example/a", 2],
    ]);
  });
});

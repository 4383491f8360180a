/** Laws: merging is associative, commutative and loses nothing; quantiles are within the bound of exact ones. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { type EpochMs, epochMs } from "#kit";
import {
  type AccessRecord,
  addDuration,
  cacheStatusWords,
  emptyHistogram,
  merge,
  quantileMs,
  RollupWindows,
  type WindowRollup,
} from "#analytics";
import { recordOf } from "../../unit/analytics/records.ts";

const start = 1_800_000_000_000;
const settings = { windowMs: 60_000, latenessMs: 15_000, skewMaxMs: 5_000, cellsMax: 1_000 };

const record: fc.Arbitrary<AccessRecord> = fc
  .record({
    atEpochMs: fc.integer({ min: start, max: start + 300_000 }),
    propertyId: fc.constantFrom("a", "b", null) as fc.Arbitrary<AccessRecord["propertyId"]>,
    status: fc.constantFrom(0, 200, 304, 404, 503),
    cacheStatus: fc.constantFrom(...cacheStatusWords),
    bytesDown: fc.nat(1e9),
    bytesUp: fc.nat(1e9),
    durationMs: fc.double({ min: 0, max: 1e7, noNaN: true }),
    ttfbMs: fc.double({ min: 0, max: 1e5, noNaN: true }),
  })
  .map(recordOf);

/** One server's windows; it hears of each record after a delay of its own, so some are late. */
function rolledUp(
  records: readonly AccessRecord[],
  delayMs: number,
): { told: WindowRollup[]; windows: RollupWindows } {
  const windows = new RollupWindows(settings);
  const told: WindowRollup[] = [];
  let now = epochMs(start);
  for (const one of records) {
    now = epochMs(Math.max(now, one.atEpochMs + delayMs));
    told.push(...windows.handleTimeout(now));
    windows.handleRecord(one, now);
  }
  told.push(...windows.handleTimeout((now + 1e9) as EpochMs));
  return { told, windows };
}

const server = fc.tuple(fc.array(record, { maxLength: 40 }), fc.nat(100_000));

test("merge is associative and commutative to the bit, and no record is lost", () => {
  let lateSeen = 0;
  fc.assert(
    fc.property(server, server, server, (one, two, three) => {
      const [a, b, c] = [one, two, three].map(([records, delayMs]) => rolledUp(records, delayMs));
      const left = merge(merge(a!.told, b!.told), c!.told);
      expect(merge(a!.told, merge(b!.told, c!.told))).toEqual(left);
      expect(merge(c!.told, a!.told, b!.told)).toEqual(left);
      const all = [...one[0], ...two[0], ...three[0]];
      expect(left.reduce((sum, window) => sum + window.requests, 0)).toBe(all.length);
      expect(left.reduce((sum, window) => sum + window.bytesDown, 0)).toBe(
        all.reduce((sum, each) => sum + each.bytesDown, 0),
      );
      const late = [a, b, c].reduce((sum, each) => sum + (each?.windows.counters.late ?? 0), 0);
      expect(left.reduce((sum, window) => sum + window.lateRecords, 0)).toBe(late);
      lateSeen += late;
    }),
    { numRuns: 200 },
  );
  expect(lateSeen).toBeGreaterThan(0);
});

test("in whatever order and however late records come, the joined windows count the same", () => {
  fc.assert(
    fc.property(fc.array(record, { maxLength: 60 }), fc.nat(200_000), (records, delayMs) => {
      const inOrder = [...records].sort((a, b) => a.atEpochMs - b.atEpochMs);
      const withoutLate = (list: WindowRollup[]) =>
        merge(list).map((window) => ({ ...window, lateRecords: 0 }));
      expect(withoutLate(rolledUp(records, delayMs).told)).toEqual(withoutLate(rolledUp(inOrder, 0).told));
    }),
    { numRuns: 200 },
  );
});

test("a quantile is within 5 % of the exact one", () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0.02, max: 900_000, noNaN: true }), { minLength: 1, maxLength: 200 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (values, q) => {
        const histogram = emptyHistogram();
        for (const ms of values) addDuration(histogram, ms);
        const sorted = [...values].sort((a, b) => a - b);
        const exact = sorted[Math.max(1, Math.ceil(q * values.length)) - 1]!;
        // Half a microsecond of rounding comes on top of the 5 %.
        expect(Math.abs(quantileMs(histogram, q) - exact)).toBeLessThanOrEqual(exact * 0.05 + 0.0005);
      },
    ),
    { numRuns: 500 },
  );
});

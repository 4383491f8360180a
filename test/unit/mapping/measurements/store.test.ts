import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { readTar } from "../../../../cli/evaluate/tar.ts";
import { epochMs, quantile, Random } from "#kit";
import { MeasurementStore, noiseDefaults, noisySample, type StoredSample } from "#mapping";
import { dataFile } from "../../../tools/data-file.ts";

const HOUR = 3_600_000;
const START = 1_700_000_000_000 - (1_700_000_000_000 % (24 * HOUR));
const now = epochMs(START + 30 * 24 * HOUR);
const all = { spanMs: 7 * 24 * HOUR, quantiles: [0.25, 0.5, 0.75] };

const sample = (rttMs: number | null, agoMs = 0, of: Partial<StoredSample> = {}): StoredSample => ({
  from: "net-a",
  to: "fra",
  source: "probe",
  method: "icmp",
  agent: "one",
  at: epochMs(now - agoMs),
  rttMs,
  ...of,
});

describe("the measurement store", () => {
  test("few samples are kept as they are, with their loss and age", () => {
    const store = new MeasurementStore();
    expect(store.figures("net-a", "fra", all, now)).toBeUndefined();
    for (const [rttMs, agoMs] of [
      [30, 5_000],
      [10, 4_000],
      [null, 3_000],
      [20, 2_500],
    ] as const)
      expect(store.handleSample(sample(rttMs, agoMs), now)).toBeUndefined();
    const figures = store.figures("net-a", "fra", { ...all, quantiles: [0, 0.5, 1] }, now);
    expect(figures).toMatchObject({ answered: 3, lost: 1, ageMs: 2_500, agents: 1 });
    expect(figures?.rttMs.map((ms) => Math.round(ms * 100) / 100)).toEqual([10, 20, 30]);
    expect(store.counters).toMatchObject({ samples: 4, lost: 1 });
    expect(store.figures("fra", "net-a", all, now)).toBeUndefined();
  });

  test("a pair that never answered has counts and no time", () => {
    const store = new MeasurementStore();
    store.handleSample(sample(null), now);
    expect(store.figures("net-a", "fra", all, now)).toMatchObject({
      answered: 0,
      lost: 1,
      rttMs: [NaN, NaN, NaN],
    });
  });

  test("provenance: agents, sources and methods are told apart and can be left out", () => {
    const store = new MeasurementStore();
    store.handleSample(sample(10, 3), now);
    store.handleSample(sample(12, 2, { agent: "two", method: "tcp" }), now);
    store.handleSample(sample(90, 1, { agent: "6798", source: "atlas" }), now);
    expect(store.provenance("net-a", "fra")).toEqual([
      { source: "probe", method: "icmp", agent: "one", samples: 1, newestAt: now - 3 },
      { source: "probe", method: "tcp", agent: "two", samples: 1, newestAt: now - 2 },
      { source: "atlas", method: "icmp", agent: "6798", samples: 1, newestAt: now - 1 },
    ]);
    expect([store.seriesCount, store.pairCount]).toEqual([3, 1]);
    const of = (query: object) => store.figures("net-a", "fra", { ...all, ...query }, now);
    expect(of({})).toMatchObject({ answered: 3, agents: 3, ageMs: 1 });
    expect(of({ sources: ["atlas"] })).toMatchObject({ answered: 1, agents: 1 });
    expect(of({ methods: ["icmp"] })).toMatchObject({ answered: 2 });
    expect(of({ sources: ["beacon"] })).toBeUndefined();
  });

  test("windows: recent ones of ten minutes, older ones of an hour, each with its own figures", () => {
    const store = new MeasurementStore();
    for (const agoMs of [50 * HOUR, 3 * HOUR, 90_000, 30_000])
      store.handleSample(sample(agoMs / HOUR, agoMs), now);
    const shown = (spanMs: number) =>
      store
        .windows("net-a", "fra", { spanMs, quantiles: [0.5] }, now)
        .map(({ at, answered, rttMs }) => [(now - at) / HOUR, answered, Math.round(rttMs[0]!)]);
    expect(shown(7 * 24 * HOUR)).toEqual([
      [50, 1, 50],
      [3, 1, 3],
      [1, 2, 0],
    ]);
    expect(shown(6 * HOUR)).toEqual([
      [3, 1, 3],
      [1 / 6, 2, 0],
    ]);
    expect(shown(1_000)).toEqual([]);
  });

  test.each([
    ["future", sample(1, -60_001)],
    ["too-old", sample(1, 7 * 24 * HOUR)],
    ["rtt", sample(60_001)],
    ["rtt", sample(Number.NaN)],
    ["rtt", sample(-1)],
  ] as const)("refuses %s, counts it and makes no series for it", (reason, refused) => {
    const store = new MeasurementStore();
    expect(store.handleSample(refused, now)).toBe(reason);
    expect([store.seriesCount, store.counters.samples]).toEqual([0, 0]);
    const counted = { future: "refusedFuture", "too-old": "refusedTooOld", rtt: "refusedRtt" } as const;
    expect(store.counters[counted[reason]]).toBe(1);
  });

  test("what has left the week is forgotten, and its place is used again, clean", () => {
    const store = new MeasurementStore({ seriesMax: 2 });
    store.handleSample(sample(10), now);
    store.handleSample(sample(20, 0, { from: "net-b" }), now);
    const { bytes } = store;
    store.handleSample(sample(30, 0, { from: "net-c" }), now);
    expect([store.counters.seriesDropped, store.seriesCount, store.bytes]).toEqual([1, 2, bytes]);
    expect(store.figures("net-a", "fra", all, now)).toBeUndefined();
    expect(store.figures("net-c", "fra", all, now)).toMatchObject({ answered: 1 });
    const later = epochMs(now + 8 * 24 * HOUR);
    store.handleSample(sample(5, 0, { from: "net-b", at: later }), later);
    store.handleTimeout(later);
    expect([store.seriesCount, store.pairCount]).toEqual([1, 1]);
    expect(store.figures("net-b", "fra", all, later)).toMatchObject({ answered: 1 });
  });

  test.each([
    [{ seriesMax: 0 }, "seriesMax"],
    [{ fine: { windowMs: 1, windows: 2, codesMax: 2 } }, "fine.windowMs"],
    [{ coarse: { windowMs: 1_000, windows: 1, codesMax: 2 } }, "coarse.windows"],
    [{ coarse: { windowMs: 1_000, windows: 2, codesMax: 65 } }, "coarse.codesMax"],
  ])("refuses settings out of range: %o", (settings, name) => {
    expect(() => new MeasurementStore(settings)).toThrow(`Store setting ${name} must be`);
  });

  test("a thousand samples an hour are cut to eight, and quantiles stay: in order, out of order, and for half a day", () => {
    const random = new Random(5);
    const drawn: { agoMs: number; rttMs: number | null }[] = [];
    for (let n = 0; n < 12_000; n++)
      drawn.push({ agoMs: (12_000 - n) * 3_600, rttMs: noisySample(80, 0.01, random, noiseDefaults) });
    const answered = drawn.flatMap(({ rttMs }) => rttMs ?? []).sort((a, b) => a - b);
    for (const order of [drawn, [...drawn].reverse()]) {
      const store = new MeasurementStore();
      for (const { agoMs, rttMs } of order) store.handleSample(sample(rttMs, agoMs), now);
      const figures = store.figures("net-a", "fra", { ...all, spanMs: 13 * HOUR }, now);
      expect(figures).toMatchObject({ answered: answered.length, lost: 12_000 - answered.length });
      for (const [n, q] of all.quantiles.entries())
        expect(Math.abs((figures?.rttMs[n] ?? NaN) / quantile(answered, q) - 1)).toBeLessThan(0.01);
    }
  });
});

/** Some of the files have other dates. */
const ISO_DATE = /\n[0-9]{4}-[0-9]{2}-[0-9]{2} /;
const series = dataFile("rtt_timeseries.tar.gz");
test.skipIf(series === undefined)(
  "a week of real series: the lower quartile within 1 % of the exact one",
  () => {
    const members = readTar(gunzipSync(readFileSync(series!))).filter(
      ({ name, body }) =>
        name.endsWith(".csv") && ISO_DATE.test(new TextDecoder().decode(body.subarray(0, 100))),
    );
    expect(members.length).toBeGreaterThan(10);
    const errors: number[] = [];
    for (const { name, body } of members.slice(0, 4)) {
      const store = new MeasurementStore();
      const rows = new TextDecoder()
        .decode(body)
        .trim()
        .split("\n")
        .slice(1)
        .map((line) => line.split(";"))
        .map(([date = "", rtt]) => ({
          at: epochMs(Date.parse(`${date.replace(" ", "T")}Z`)),
          rttMs: Number(rtt),
        }));
      const end = rows.at(-1)?.at ?? now;
      const exact: number[] = [];
      for (const { at, rttMs } of rows) {
        const isTaken = store.handleSample({ ...sample(rttMs), from: name, at }, end) === undefined;
        if (isTaken && rttMs !== null && at >= Math.ceil((end - all.spanMs) / HOUR) * HOUR) exact.push(rttMs);
      }
      expect(exact.length).toBeGreaterThan(1_000);
      exact.sort((a, b) => a - b);
      const [lowerMs = NaN] = store.figures(name, "fra", all, end)?.rttMs ?? [];
      errors.push(Math.abs(lowerMs / quantile(exact, 0.25) - 1));
    }
    expect(Math.max(...errors)).toBeLessThan(0.01);
  },
);

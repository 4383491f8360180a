import { describe, expect, test } from "vitest";
import { epochMs, Random } from "#kit";
import { MeasurementStore, type StoredSample } from "#mapping";
import { restoreStore, storeFileOctets } from "../../../../mapping/core/measurements/store-file.ts";

const HOUR = 3_600_000;
const now = epochMs(1_700_000_000_000);
const week = { spanMs: 168 * HOUR, quantiles: [0.25, 0.5, 0.75] };
const hours = { ...week, spanMs: 6 * HOUR };

/** Three pairs: one a week old, one new, one that never answers; each with more samples than a window holds. */
function filled(): MeasurementStore {
  const store = new MeasurementStore();
  const random = new Random(1);
  for (const [from, agoMs, agent] of [
    ["net-a", 160 * HOUR, "one"],
    ["net-b", 2 * HOUR, "one"],
    ["net-b", HOUR, "two"],
  ] as const)
    for (let n = 0; n < 400; n++) {
      const sample: StoredSample = {
        from,
        to: "fra",
        source: "probe",
        method: "icmp",
        agent,
        at: epochMs(Math.round(now - agoMs + (n * agoMs) / 500)),
        rttMs: random.chance(0.1) ? null : 20 + random.exponential(5),
      };
      store.handleSample(sample, now);
    }
  store.handleSample(
    { from: "net-c", to: "fra", source: "atlas", method: "udp", agent: "7", at: now, rttMs: null },
    now,
  );
  return store;
}
const fileOf = (store: MeasurementStore) => Buffer.concat([...storeFileOctets(store)]);
const picture = (store: MeasurementStore) =>
  ["net-a", "net-b", "net-c"].map((from) => [
    store.provenance(from, "fra"),
    store.figures(from, "fra", week, now),
    store.windows(from, "fra", hours, now),
  ]);

describe("a file of measurements", () => {
  test("brings back what was kept, and the store goes on from there as if nothing had happened", () => {
    const store = filled();
    const { store: restored, seriesTooOld } = restoreStore(fileOf(store), {}, now);
    expect(seriesTooOld).toBe(0);
    expect(restored.pairCount).toBe(3);
    expect(picture(restored)).toEqual(picture(store));
    const sample = { from: "net-b", to: "fra", source: "probe", method: "icmp", agent: "one" } as const;
    for (const one of [store, restored])
      for (let n = 0; n < 200; n++)
        one.handleSample({ ...sample, at: epochMs(now - n * 9_000), rttMs: n }, now);
    expect(picture(restored)).toEqual(picture(store));
    expect(fileOf(restored)).toEqual(fileOf(store));
  });

  test("what is too old by now is left out, the rest is taken; the store may be put in another one's place", () => {
    const later = epochMs(now + 150 * HOUR);
    const { store, seriesTooOld } = restoreStore(fileOf(filled()), {}, later);
    expect([seriesTooOld, store.pairCount]).toEqual([1, 2]);
    const other = new MeasurementStore();
    other.handleRestored(store);
    expect(other.provenance("net-b", "fra")).toHaveLength(2);
    expect(other.provenance("net-a", "fra")).toEqual([]);
  });

  test("series that are updated or dropped while it is written stand in it once, or not at all", () => {
    const store = filled();
    const octets: Uint8Array[] = [];
    let n = 0;
    for (const piece of storeFileOctets(store)) {
      octets.push(piece);
      const agent = n++ % 2 === 0 ? "one" : "two";
      store.handleSample(
        { from: "net-b", to: "fra", source: "probe", method: "icmp", agent, at: now, rttMs: 1 },
        now,
      );
      if (n > 50) throw new Error("it never ends");
    }
    expect(restoreStore(Buffer.concat(octets), {}, now).store.pairCount).toBe(3);
  });

  test("one that is cut anywhere, or of which an octet is another, is refused", () => {
    const file = fileOf(filled());
    for (let length = 0; length < file.length; length += 37)
      expect(() => restoreStore(file.subarray(0, length), {}, now)).toThrow(RangeError);
    for (let at = 0; at < file.length; at += 41) {
      const altered = Buffer.from(file);
      altered[at] = (altered[at] as number) ^ (1 << (at % 8));
      expect(() => restoreStore(altered, {}, now), `octet ${at}`).toThrow(RangeError);
    }
    expect(() => restoreStore(Buffer.concat([file, file]), {}, now)).toThrow("behind its end");
  });

  test("so is another version, other windows, something else, and what is of the future", () => {
    const file = fileOf(filled());
    const other = Buffer.from(file);
    other[23] = 0x32;
    expect(() => restoreStore(other, {}, now)).toThrow("of another version");
    expect(() => restoreStore(Buffer.from("{}"), {}, now)).toThrow("something else");
    const fine = { windowMs: 300_000, windows: 36, codesMax: 8 };
    expect(() => restoreStore(file, { fine }, now)).toThrow(
      "other windows: number 1 of its head is 600000, expected 300000",
    );
    expect(() => restoreStore(file, {}, epochMs(now - HOUR))).toThrow("still to come");
  });
});

/** From reported counters to rates and graphs. */
import { describe, expect, it } from "vitest";
import { monotonicMs } from "#kit";
import { RateRing } from "../../../portal/core/rate-ring.ts";
import { hitRatioOf, TrafficLedger } from "../../../portal/core/traffic-ledger.ts";
import { report } from "./fixtures.ts";

const at = monotonicMs;
const counts = (requests: number) => ({ requests, hits: requests / 2, bytesDown: 0, errors5xx: 0 });
const limits = { propertiesMax: 10, pairsMax: 100 };
const all = (): boolean => true;

describe("RateRing", () => {
  it("spreads an amount over the bins that its interval covers", () => {
    const ring = new RateRing(1_000, 10);
    ring.add(500, 2_500, counts(20));
    expect(ring.read(0, 3_000).map((bin) => bin.requests)).toEqual([5, 10, 5]);
  });

  it("puts an amount without an interval into one bin", () => {
    const ring = new RateRing(1_000, 10);
    ring.add(1_000, 1_000, counts(4));
    expect(ring.read(0, 3_000).map((bin) => [bin.requests, bin.isKnown])).toEqual([
      [0, false],
      [4, true],
      [0, false],
    ]);
  });

  it("forgets what is older than its length, and never shows an old lap as new", () => {
    const ring = new RateRing(1_000, 5);
    ring.add(0, 5_000, counts(50));
    ring.add(7_000, 8_000, counts(1));
    const bins = ring.read(0, 8_000);
    expect(bins.map((bin) => bin.atMs)).toEqual([3_000, 4_000, 5_000, 6_000, 7_000]);
    expect(bins.map((bin) => bin.requests)).toEqual([10, 10, 0, 0, 1]);
    expect(bins.map((bin) => bin.isKnown)).toEqual([true, true, false, false, true]);
  });

  it("drops what would fall before its reach", () => {
    const ring = new RateRing(1_000, 3);
    ring.add(0, 10_000, counts(100));
    expect(ring.read(0, 10_000).map((bin) => bin.requests)).toEqual([10, 10, 10]);
  });
});

describe("TrafficLedger", () => {
  it("takes differences: what was counted before the first report has no time", () => {
    const ledger = new TrafficLedger(limits);
    ledger.handleReport(report("ams-1", { shop: { requests: 5_000, hits: 10 } }), at(1_000));
    ledger.handleReport(report("ams-1", { shop: { requests: 5_100, hits: 90 } }), at(2_000));
    const rate = ledger.propertyRates(at(2_000)).get("shop");
    expect(rate?.requestsPerSecond).toBe(100);
    expect(hitRatioOf(rate!)).toBeCloseTo(0.8);
    expect(ledger.series("shop", 10_000, at(3_000)).bins.map((bin) => bin.requests)).toEqual([0, 100, 0]);
  });

  it("starts from zero at a new incarnation, and counts that it did", () => {
    const ledger = new TrafficLedger(limits);
    ledger.handleReport(report("ams-1", { shop: { requests: 1_000, hits: 0 } }), at(1_000));
    ledger.handleReport(
      report("ams-1", { shop: { requests: 2_000, hits: 0 } }, { incarnation: "b" }),
      at(2_000),
    );
    expect(ledger.series("shop", 10_000, at(3_000)).bins.reduce((sum, bin) => sum + bin.requests, 0)).toBe(
      2_000,
    );
    expect(ledger.counters.resets).toBe(1);
  });

  it("takes a counter that went back for a restart, never for negative traffic", () => {
    const ledger = new TrafficLedger(limits);
    ledger.handleReport(report("ams-1", { shop: { requests: 1_000, hits: 900 } }), at(1_000));
    ledger.handleReport(report("ams-1", { shop: { requests: 30, hits: 20 } }), at(2_000));
    expect(ledger.propertyRates(at(2_000)).get("shop")?.requestsPerSecond).toBe(30);
    expect(ledger.counters.resets).toBe(1);
  });

  it("adds up servers, and counts a parent's answers as no user's", () => {
    const ledger = new TrafficLedger(limits);
    for (const server of ["ams-1", "nyc-1", "fra-1"]) {
      ledger.handleReport(report(server, { shop: { requests: 0, hits: 0 } }), at(0));
      ledger.handleReport(report(server, { shop: { requests: 10, hits: 0 } }), at(1_000));
    }
    expect(ledger.propertyRates(at(1_000)).get("shop")?.requestsPerSecond).toBe(20);
    expect(ledger.serverRate("fra-1", at(1_000), all).requestsPerSecond).toBe(10);
    expect(ledger.series(null, 10_000, at(1_000)).bins.map((bin) => bin.requests)).toEqual([20]);
  });

  it("looks back ten seconds, and a silent server has no rate", () => {
    const ledger = new TrafficLedger(limits);
    for (let second = 0; second <= 30; second++) {
      ledger.handleReport(
        report("ams-1", { shop: { requests: second < 15 ? 0 : (second - 15) * 7, hits: 0 } }),
        at(second * 1_000),
      );
    }
    expect(ledger.serverRate("ams-1", at(30_000), all).requestsPerSecond).toBe(7);
    expect(ledger.isBusy("ams-1", "shop", at(30_000))).toBe(true);
    expect(ledger.serverRate("ams-1", at(36_000), all).requestsPerSecond).toBe(0);
    expect(ledger.isBusy("ams-1", "shop", at(36_000))).toBe(false);
  });

  it("counts only the properties that may be counted", () => {
    const ledger = new TrafficLedger(limits);
    ledger.handleReport(
      report("ams-1", { shop: { requests: 0, hits: 0 }, news: { requests: 0, hits: 0 } }),
      at(0),
    );
    ledger.handleReport(
      report("ams-1", { shop: { requests: 3, hits: 0 }, news: { requests: 50, hits: 0 } }),
      at(1_000),
    );
    expect(ledger.serverRate("ams-1", at(1_000), (id) => id === "shop").requestsPerSecond).toBe(3);
  });

  it("has a limit for graphs and for pairs, and counts what it leaves out", () => {
    const ledger = new TrafficLedger({ propertiesMax: 1, pairsMax: 2 });
    const traffic = (n: number) => ({
      a: { requests: n, hits: 0 },
      b: { requests: n, hits: 0 },
      c: { requests: n, hits: 0 },
    });
    ledger.handleReport(report("ams-1", traffic(0)), at(0));
    ledger.handleReport(report("ams-1", traffic(10)), at(1_000));
    // c twice (no pair), b once (no graph).
    expect(ledger.counters).toEqual({ graphs: 1, pairs: 2, ignored: 3, resets: 0 });
    expect(ledger.series(null, 10_000, at(1_000)).bins.map((bin) => bin.requests)).toEqual([20]);
    ledger.retain(() => false);
    expect(ledger.counters.pairs).toBe(0);
  });
});

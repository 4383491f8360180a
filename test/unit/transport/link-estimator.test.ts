import { describe, expect, test } from "vitest";
import { monotonicMs } from "#kit";
import { LinkEstimator } from "#transport";

const at = monotonicMs;

describe("RFC 6298 section 2", () => {
  test("(2.1) before the first sample: no srtt, the initial timeout of 1 s", () => {
    const link = new LinkEstimator();
    expect(link).toMatchObject({ srttMs: undefined, rttvarMs: 0, rtoMs: 1_000, samples: 0, lossRatio: 0 });
    expect(link.ageMs(at(5))).toBeUndefined();
  });

  test("(2.2) first sample R: srtt = R, rttvar = R/2, rto = R + 4 * R/2", () => {
    const link = new LinkEstimator();
    link.handleSample(100, at(0));
    expect(link).toMatchObject({ srttMs: 100, rttvarMs: 50, rtoMs: 300 });
  });

  test.each([
    { samples: [100, 200], srttMs: 112.5, rttvarMs: 62.5 },
    // rttvar takes the srtt of before: 0.75 * 62.5 + 0.25 * |112.5 - 100| = 50; srtt = 0.875 * 112.5 + 0.125 * 100.
    { samples: [100, 200, 100], srttMs: 110.9375, rttvarMs: 50 },
    { samples: [80, 80, 80], srttMs: 80, rttvarMs: 22.5 },
  ])("(2.3) $samples", ({ samples, srttMs, rttvarMs }) => {
    const link = new LinkEstimator();
    for (const [n, rtt] of samples.entries()) expect(link.handleSample(rtt, at(n))).toBe("sample");
    expect(link.srttMs).toBeCloseTo(srttMs, 10);
    expect(link.rttvarMs).toBeCloseTo(rttvarMs, 10);
  });

  test("(2.4), (2.5) the timeout has a floor and a ceiling", () => {
    const link = new LinkEstimator({ rtoMinMs: 200, rtoMaxMs: 1_000 });
    link.handleSample(1, at(0));
    expect(link.rtoMs).toBe(200);
    link.reset();
    link.handleSample(5_000, at(1));
    expect(link.rtoMs).toBe(1_000);
  });
});

describe("loss", () => {
  const settled = (): LinkEstimator => {
    const link = new LinkEstimator({ lossWindow: 16 });
    for (let n = 0; n < 16; n++) link.handleSample(100, at(n));
    return link;
  };

  test("is the share of the window; old outcomes leave it", () => {
    const link = settled();
    link.handleLoss(at(20));
    link.handleLoss(at(21));
    expect(link.lossRatio).toBe(2 / 16);
    for (let n = 0; n < 16; n++) link.handleSample(100, at(30 + n));
    expect(link.lossRatio).toBe(0);
  });

  test("a trip a retransmission late counts as loss and leaves srtt alone (section 3, Karn)", () => {
    const link = settled();
    const before = link.srttMs;
    expect(link.handleSample(310, at(20))).toBe("retransmission");
    expect(link.srttMs).toBe(before);
    expect(link.lossRatio).toBe(1 / 16);
    // Ordinary variation is no loss.
    expect(link.handleSample(150, at(21))).toBe("sample");
  });

  test("three late ones in a row are a longer path, not losses", () => {
    const link = settled();
    const verdicts = [310, 305, 312].map((rtt, n) => link.handleSample(rtt, at(20 + n)));
    expect(verdicts).toEqual(["retransmission", "retransmission", "level-shift"]);
    expect(link).toMatchObject({ srttMs: 312, lossRatio: 0 });
  });

  test("its upper end shrinks with what was seen: everything before, Wilson's interval then", () => {
    const link = new LinkEstimator();
    expect(link.lossRatioUpper).toBe(1);
    link.handleSample(100, at(0));
    // No loss in n samples: z2 / (n + z2).
    expect(link.lossRatioUpper).toBeCloseTo(1 / 2, 12);
    for (let n = 1; n < 99; n++) link.handleSample(100, at(n));
    expect(link.lossRatioUpper).toBeCloseTo(1 / 100, 12);
    link.handleLoss(at(100));
    // One of 100: (p + 1/2n + sqrt(p(1-p)/n + 1/4n2)) / (1 + 1/n).
    expect(link.lossRatioUpper).toBeCloseTo((0.01 + 0.005 + Math.sqrt(0.0099 / 100 + 0.25 / 1e4)) / 1.01, 12);
  });
});

describe("a change of level", () => {
  const settled = (): LinkEstimator => {
    const link = new LinkEstimator();
    for (let n = 0; n < 100; n++) link.handleSample(100 + (n % 3), at(n));
    return link;
  };

  test.each([
    { name: "up, less than a retransmission", rtts: [140, 143, 141], level: 141 },
    { name: "down", rtts: [60, 64, 62], level: 62 },
  ])("$name is known after three samples, as steady as before", ({ rtts, level }) => {
    const link = settled();
    const { rttvarMs } = link;
    expect(rtts.map((rtt, n) => link.handleSample(rtt, at(100 + n)))).toEqual([
      "sample",
      "sample",
      "level-shift",
    ]);
    expect(link).toMatchObject({ srttMs: level, rttvarMs });
    expect(link.typical).toEqual({ medianMs: level, deviationMs: 0 });
  });

  test("two far ones and one as before are none, nor are three on different sides", () => {
    for (const rtts of [
      [140, 143, 101],
      [140, 60, 140],
    ]) {
      const link = settled();
      expect(rtts.map((rtt, n) => link.handleSample(rtt, at(100 + n)))).not.toContain("level-shift");
      expect(link.typical?.medianMs).toBe(101);
    }
  });

  test("less than 5 ms is left to the averages, however steady the path was", () => {
    const link = new LinkEstimator();
    for (let n = 0; n < 100; n++) link.handleSample(20, at(n));
    for (let n = 0; n < 20; n++) expect(link.handleSample(24, at(100 + n))).toBe("sample");
    expect(link.typical?.medianMs).toBe(24);
  });
});

test("one slow answer moves the average, not the typical time", () => {
  const link = new LinkEstimator();
  for (let n = 0; n < 31; n++) link.handleSample(100, at(n));
  link.handleSample(180, at(31));
  expect(link.srttMs).toBe(110);
  expect(link.typical).toEqual({ medianMs: 100, deviationMs: 80 / 32 });
});

test("an upper bound lowers the estimate only when it is clearly below it", () => {
  const link = new LinkEstimator();
  for (let n = 0; n < 50; n++) link.handleSample(100, at(n));
  expect(link.handleUpperBound(250, at(60))).toBe(false);
  expect(link.handleUpperBound(99.99, at(60))).toBe(true);
  expect(link.handleUpperBound(40, at(61))).toBe(true);
  expect(link.srttMs).toBeLessThan(100);
  expect(new LinkEstimator().handleUpperBound(40, at(0))).toBe(false);
});

test("age counts from the last outcome, lost or not", () => {
  const link = new LinkEstimator();
  link.handleSample(10, at(100));
  link.handleLoss(at(150));
  expect(link.ageMs(at(180))).toBe(30);
});

test.each([Number.NaN, Infinity, -1])("refuses %d as a time", (rtt) => {
  expect(() => new LinkEstimator().handleSample(rtt, at(0))).toThrow(RangeError);
});

test.each([{ lossWindow: 7 }, { lossWindow: 1.5 }, { rtoMinMs: 10, rtoMaxMs: 5 }])(
  "refuses %j",
  (settings) => {
    expect(() => new LinkEstimator(settings)).toThrow(RangeError);
  },
);

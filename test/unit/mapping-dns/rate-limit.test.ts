import { describe, expect, it } from "vitest";
import { ResponseRateLimit, type RateVerdict } from "../../../mapping/core/dns/rate-limit.ts";

const limit = (perSecond = 10, slip = 2) => new ResponseRateLimit({ perSecond, slip, seed: 42 });
const ipv4 = (a: number, b: number, c: number, d: number) => [((a << 24) | (b << 16) | (c << 8) | d) >>> 0];
const many = (count: number, ask: (n: number) => RateVerdict) => {
  const counts = { send: 0, slip: 0, drop: 0 };
  for (let n = 0; n < count; n++) counts[ask(n)]++;
  return counts;
};

describe("response rate limiting", () => {
  it("lets a second's worth through at once, then holds back: half cut to TC, half in silence", () => {
    const one = limit();
    expect(many(30, () => one.check(4, ipv4(192, 0, 2, 1), 0, 1_000))).toEqual({
      send: 10,
      slip: 10,
      drop: 10,
    });
    expect(one.counters).toMatchObject({ slipped: 10, dropped: 10 });
  });

  it("gives back with time, never more than a second's worth", () => {
    const one = limit();
    many(10, () => one.check(4, ipv4(192, 0, 2, 1), 0, 1_000));
    expect(many(10, () => one.check(4, ipv4(192, 0, 2, 1), 0, 1_500)).send).toBe(5);
    expect(many(100, () => one.check(4, ipv4(192, 0, 2, 1), 0, 3_600_000)).send).toBe(10);
  });

  it("counts a /24 and a /56 as one, others and other kinds apart", () => {
    const one = limit();
    expect(many(20, (n) => one.check(4, ipv4(192, 0, 2, n), 0, 0)).send).toBe(10);
    expect(one.check(4, ipv4(192, 0, 3, 1), 0, 0)).toBe("send");
    expect(one.check(4, ipv4(192, 0, 2, 1), 1, 0)).toBe("send");
    const v6 = (low: number) => [0x20010db8, 0x00010200 + low, 5, 6];
    expect(many(20, (n) => one.check(6, v6(n), 0, 0)).send).toBe(10);
    expect(one.check(6, [0x20010db8, 0x00010300, 0, 0], 0, 0)).toBe("send");
  });

  it("0 is no limit, and slip 0 is silence", () => {
    const off = limit(0);
    expect(off.isOn).toBe(false);
    expect(many(1_000, () => off.check(4, ipv4(1, 2, 3, 4), 0, 0)).send).toBe(1_000);
    const silent = limit(1, 0);
    expect(many(5, () => silent.check(4, ipv4(1, 2, 3, 4), 0, 0))).toEqual({ send: 1, slip: 0, drop: 4 });
  });
});

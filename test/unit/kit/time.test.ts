import { describe, expect, it } from "vitest";
import { epochMs, monotonicMs, plusMs } from "../../../kit/time.ts";

describe("time", () => {
  it("keeps the number it brands", () => {
    expect(monotonicMs(12.5)).toBe(12.5);
    expect(epochMs(-1)).toBe(-1);
    expect(plusMs(monotonicMs(10), -3.5)).toBe(6.5);
  });

  it.each([Number.NaN, Infinity, -Infinity])("refuses %s", (n) => {
    expect(() => monotonicMs(n)).toThrow(/finite/);
    expect(() => epochMs(n)).toThrow(/finite/);
    expect(() => plusMs(epochMs(0), n)).toThrow(/not finite/);
  });

  it("does not let the two kinds be mixed (checked by the type checker)", () => {
    // @ts-expect-error an EpochMs is no MonotonicMs
    const mixed: ReturnType<typeof monotonicMs> = epochMs(1);
    expect(mixed).toBe(1);
  });
});

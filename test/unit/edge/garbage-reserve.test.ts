import { describe, expect, test } from "vitest";
import { monotonicMs } from "#kit";
import { GarbageReserve } from "../../../edge/core/garbage-reserve.ts";

const MEBIBYTE = 2 ** 20;
const STORE = 256 * MEBIBYTE;
const CAP = STORE + 100 * MEBIBYTE;

/** A process in which each live byte of the store costs `factor`, and what was let go is given back at a rate of `givenBack` a second. */
function run(
  factor: number,
  seconds: number,
  { isFull = true, others = 100 * MEBIBYTE, givenBack = 0.2 } = {},
): { readonly reserve: GarbageReserve; readonly resident: readonly number[] } {
  const reserve = new GarbageReserve(CAP, STORE, STORE / 8);
  let residentBytes = CAP - STORE;
  const resident = [];
  for (let second = 0; second < seconds; second++) {
    const wanted = others + (isFull ? factor * (STORE - reserve.bytes) : 0);
    residentBytes += (wanted - residentBytes) * (wanted > residentBytes ? 1 : givenBack);
    resident.push(residentBytes);
    reserve.handleSample({ residentBytes, isFull, now: monotonicMs(second * 1_000) });
  }
  return { reserve, resident };
}

describe("what a store leaves to garbage", () => {
  test.for([0.9, 1, 1.1, 1.2, 1.3])(
    "a process that takes %d times what lives comes to what it may take",
    (factor) => {
      const { resident } = run(factor, 300);
      for (const bytes of resident.slice(-60)) {
        expect(bytes).toBeLessThan(CAP * 1.02);
        // With less than one to one not all can be used: the reserve is empty then.
        expect(bytes).toBeGreaterThan(Math.min(CAP * 0.93, 100 * MEBIBYTE + factor * STORE - MEBIBYTE));
      }
    },
  );

  test("others who take far more get a quarter of the store at most, and the store what they give back", () => {
    expect(run(1, 300, { others: 300 * MEBIBYTE }).reserve.bytes).toBe(STORE / 4);
    expect(run(1, 300, { others: 20 * MEBIBYTE }).reserve.bytes).toBe(0);
  });

  test("what is not given back costs no more than the growth that it stops", () => {
    const { reserve, resident } = run(1.1, 300, { givenBack: 0 });
    expect(Math.max(...resident)).toBeLessThan(CAP * 1.01);
    const before = reserve.bytes;
    // Somebody takes so much for good.
    const residentBytes = CAP + 12 * MEBIBYTE;
    for (let second = 300; second < 400; second++)
      reserve.handleSample({ residentBytes, isFull: true, now: monotonicMs(second * 1_000) });
    expect(reserve.bytes).toBe(before + 12 * MEBIBYTE);
  });

  test("a store that is not full asks for nothing more", () => {
    expect(run(1, 300, { isFull: false }).reserve.bytes).toBe(STORE / 8);
  });
});

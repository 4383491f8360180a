/** How long clients wait, by those who left: what is believed, and what only makes it forget. */
import { describe, expect, test } from "vitest";
import { monotonicMs } from "#kit";
import { Patience } from "../../../edge/core/overload/patience.ts";

const at = monotonicMs;

function ended(patience: Patience, count: number, waitedMs: number, hasLeft: boolean, now: number): void {
  for (let one = 0; one < count; one++) patience.handleEnd(waitedMs, hasLeft, at(now));
}

describe("the patience of clients", () => {
  test("few who left, or hardly any share of all, tell nothing", () => {
    const patience = new Patience();
    ended(patience, 7, 900, true, 0);
    expect(patience.ms(at(0))).toBeUndefined();
    ended(patience, 1, 1_000, true, 0);
    expect(patience.ms(at(0))).toBe(1_000);
    const other = new Patience();
    ended(other, 153, 20, false, 0);
    ended(other, 8, 1_000, true, 100);
    expect(other.ms(at(100))).toBeUndefined();
    ended(other, 1, 1_000, true, 100);
    expect(other.ms(at(100))).toBe(1_000);
  });

  test("it is still known when nobody leaves since nobody has to wait for as long", () => {
    const patience = new Patience();
    ended(patience, 20, 1_000, true, 0);
    for (let now = 1_000; now < 60_000; now += 1_000) {
      ended(patience, 200, 20, false, now);
      expect(patience.ms(at(now)), `${now}`).toBe(1_000);
    }
    ended(patience, 1, 1_500, false, 59_000);
    expect(patience.ms(at(59_999))).toBe(1_500);
    expect(patience.ms(at(60_000))).toBeUndefined();
  });

  test("who stays longer for an answer than others who left shows that the rest would too", () => {
    const patience = new Patience();
    ended(patience, 20, 300, true, 0);
    expect(patience.ms(at(0))).toBe(300);
    ended(patience, 1, 4_000, false, 10);
    expect(patience.ms(at(10))).toBe(4_000);
  });

  test("what was long ago is forgotten, also when nothing happened since", () => {
    const patience = new Patience();
    ended(patience, 20, 1_000, true, 0);
    expect(patience.ms(at(9_999))).toBe(1_000);
    ended(patience, 10, 400, true, 10_100);
    expect(patience.ms(at(19_999))).toBe(1_000);
    ended(patience, 10, 400, true, 20_200);
    expect(patience.ms(at(20_200))).toBe(400);
    expect(patience.ms(at(80_199))).toBe(400);
    expect(patience.ms(at(80_200))).toBeUndefined();
  });
});

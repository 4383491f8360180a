/** What is borrowed is made anew beside everything else: the rows of before serve until the new ones are there. */
import { describe, expect, test } from "vitest";
import { allSteps, monotonicMs, type Steps } from "#kit";
import { Borrowing } from "../../../mapping/core/borrowing.ts";
import type { NetworkRows } from "../../../mapping/core/network-rows.ts";

const MINUTE = 60_000;

/** Rows that are told apart by their number, made in three steps. */
function fixture(isInSteps: boolean) {
  const borrowing = new Borrowing(isInSteps);
  let made = 0;
  let steps = 0;
  function* make(): Steps<NetworkRows> {
    const number = ++made;
    for (let step = 0; step < 3; step++) {
      steps++;
      yield;
    }
    return { number } as unknown as NetworkRows;
  }
  const at = (
    minutes: number,
    changes: { pairs?: number; isUrgent?: boolean; networks?: number } = {},
  ): number =>
    (
      borrowing.rowsAt(
        { networks: 10_000, pairs: 10, isUrgent: false, make, ...changes },
        monotonicMs(minutes * MINUTE),
      ) as unknown as { number: number }
    ).number;
  return { borrowing, at, steps: () => steps };
}

describe("nobody drives the work", () => {
  test("it is done when it is due: after a minute, or with a quarter more to borrow from", () => {
    const { at, borrowing } = fixture(false);
    expect([at(0), at(0.9), at(1), at(1.1), at(1.2, { pairs: 13 })]).toEqual([1, 1, 2, 2, 3]);
    expect(borrowing.pollWork()).toBeUndefined();
  });
});

describe("the work is driven", () => {
  test("the first rows are made at once, the next ones in steps, and a map takes them when they are there", () => {
    const { at, borrowing, steps } = fixture(true);
    expect(at(0)).toBe(1);
    expect(borrowing.pollWork()).toBeUndefined();
    expect(at(1)).toBe(1);
    expect(steps()).toBe(3);
    const work = borrowing.pollWork();
    expect(borrowing.pollWork()).toBeUndefined();
    work?.next();
    expect([steps(), at(1.2)]).toEqual([4, 1]);
    if (work !== undefined) allSteps(work);
    // A death serves from the rows that the map of before was made of.
    expect(at(1.3, { isUrgent: true })).toBe(1);
    expect(at(1.4)).toBe(2);
    expect(at(1.9)).toBe(2);
    expect(borrowing.pollWork()).toBeUndefined();
  });

  test("few networks are done at once, so that what was measured counts in this map", () => {
    const { at, borrowing } = fixture(true);
    const few = { networks: 100 };
    expect([at(0, few), at(0.5, few), at(0.6, { ...few, pairs: 13 })]).toEqual([1, 1, 2]);
    expect(borrowing.pollWork()).toBeUndefined();
  });

  test("what has become wrong meanwhile is dropped, and rows that nobody has are made at once", () => {
    const { at, borrowing, steps } = fixture(true);
    at(0);
    at(1);
    const work = borrowing.pollWork();
    work?.next();
    borrowing.forget();
    expect(borrowing.rows).toBeUndefined();
    expect(work?.next().done).toBe(true);
    expect(steps()).toBe(4);
    expect(at(1.1)).toBe(3);
  });

  test("work that was broken off is begun anew when it is due again", () => {
    const { at, borrowing } = fixture(true);
    at(0);
    at(1);
    const work = borrowing.pollWork();
    work?.next();
    work?.return(undefined);
    expect(at(1.5)).toBe(1);
    expect(at(2)).toBe(1);
    const again = borrowing.pollWork();
    if (again !== undefined) allSteps(again);
    expect(at(2.1)).toBe(3);
  });
});

import { describe, expect, test } from "vitest";
import { monotonicMs } from "#kit";
import { LoadResponse } from "../../../edge/core/overload/load-response.ts";
import { Silence } from "../../../edge/core/overload/silence.ts";

const at = monotonicMs;
const ANSWERS = 24;

describe("whether answers come later when there are more", () => {
  const responseOf = (
    inFlightOf: (n: number) => number,
    latencyMsOf: (inFlight: number, n: number) => number,
  ): LoadResponse => {
    const response = new LoadResponse();
    for (let n = 0; n < ANSWERS; n++) response.handleGood(inFlightOf(n), latencyMsOf(inFlightOf(n), n));
    return response;
  };

  test("an origin that takes a second for each is flat, one whose requests wait for each other is not", () => {
    expect(
      responseOf(
        (n) => n + 1,
        (_, n) => 1_000 + (n % 3) * 10,
      ).flatMs(),
    ).toBe(1_010);
    expect(
      responseOf(
        (n) => n + 1,
        (inFlight) => 20 + 5 * inFlight,
      ).flatMs(),
    ).toBeUndefined();
  });

  test("nothing is said without a difference in their number, or of too few answers", () => {
    expect(
      responseOf(
        (n) => 20 + (n % 5),
        () => 1_000,
      ).flatMs(),
    ).toBeUndefined();
    const few = new LoadResponse();
    for (let n = 1; n < ANSWERS; n++) few.handleGood(n, 1_000);
    expect(few.flatMs()).toBeUndefined();
    few.handleGood(ANSWERS, 1_000);
    expect(few.flatMs()).toBe(1_000);
  });

  test("the newest count: after the last slow ones are gone it is flat again", () => {
    const response = responseOf(
      (n) => n + 1,
      (inFlight) => 100 * inFlight,
    );
    expect(response.flatMs()).toBeUndefined();
    for (let n = 0; n < ANSWERS; n++) response.handleGood(n + 1, 50);
    expect(response.flatMs()).toBe(50);
  });
});

describe("an origin's silence", () => {
  test("lasts while answers are owed, and explains those that took as long as it, for as long again", () => {
    const silence = new Silence();
    expect(silence.ms(at(0))).toBe(0);
    silence.handleSent(at(0));
    silence.handleSent(at(500));
    expect(silence.ms(at(900))).toBe(900);
    expect(silence.explains(1_000, at(900))).toBe(false);
    silence.handleEnd(true, true, at(1_000));
    expect(silence.ms(at(1_400))).toBe(400);
    expect([1_000, 1_300].map((ms) => silence.explains(ms, at(1_500)))).toEqual([true, false]);
    expect(silence.explains(1_000, at(2_001))).toBe(false);
    // One that nobody waited for any more ends none.
    silence.handleEnd(false, false, at(1_500));
    expect(silence.ms(at(1_600))).toBe(0);
  });
});

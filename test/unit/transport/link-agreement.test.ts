/** When a neighbour is asked for a link again. */
import { expect, test } from "vitest";
import { type MonotonicMs, monotonicMs } from "#kit";
import { LinkAgreement } from "../../../transport/core/link-agreement.ts";

const at = (ms: number): MonotonicMs => monotonicMs(ms);

test("who has not said anything is asked at once", () => {
  const agreement = new LinkAgreement();
  expect([agreement.state, agreement.mayAsk(at(0))]).toEqual(["unknown", true]);
});

test("who refuses is asked again after ten seconds, then later and later, ten minutes at most", () => {
  const agreement = new LinkAgreement();
  let nowMs = 0;
  const pauses = Array.from({ length: 9 }, () => {
    agreement.handleRefused(at(nowMs));
    expect(agreement.state).toBe("refused");
    const fromMs = nowMs;
    while (!agreement.mayAsk(at(nowMs))) nowMs += 1_000;
    return (nowMs - fromMs) / 1_000;
  });
  expect(pauses).toEqual([10, 20, 40, 80, 160, 320, 600, 600, 600]);
  expect(agreement.refusals).toBe(9);
});

test("who speaks it after all begins anew", () => {
  const agreement = new LinkAgreement();
  agreement.handleRefused(at(0));
  agreement.handleRefused(at(10_000));
  agreement.handleSpoken();
  expect([agreement.state, agreement.mayAsk(at(10_000))]).toEqual(["spoken", true]);
  agreement.handleRefused(at(20_000));
  expect([agreement.mayAsk(at(29_999)), agreement.mayAsk(at(30_000))]).toEqual([false, true]);
});

test("a handshake that breaks off is no refusal, three in a row are", () => {
  const agreement = new LinkAgreement();
  agreement.handleSpoken();
  agreement.handleBroken(at(0));
  agreement.handleBroken(at(1));
  expect([agreement.state, agreement.mayAsk(at(2))]).toEqual(["spoken", true]);
  agreement.handleSpoken();
  agreement.handleBroken(at(3));
  agreement.handleBroken(at(4));
  expect(agreement.state).toBe("spoken");
  agreement.handleBroken(at(5));
  expect([agreement.state, agreement.mayAsk(at(10_004)), agreement.mayAsk(at(10_005))]).toEqual([
    "refused",
    false,
    true,
  ]);
});

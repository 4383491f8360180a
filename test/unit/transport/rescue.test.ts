/** What pays for asking for the rest of a suspect body over another path. */
import { expect, test } from "vitest";
import { type ClusterId, type MonotonicMs, monotonicMs } from "#kit";
import { originTarget } from "../../tools/origin-target.ts";

const ams = "ams" as ClusterId;

/** A target 100 ms away over either path, of which `repeats` may be asked and for which so many first tries were made. */
function setUp(firstTries: number, repeats: number, relays: readonly ClusterId[] = [ams]) {
  let now = monotonicMs(0);
  const retry = { initial: repeats, minPerSecond: 0, ratio: 0 };
  const to = originTarget({ retry }, () => now, relays);
  for (let sample = 0; sample < 16; sample++)
    for (const via of [null, ...relays]) to.chooser?.handleSample(via, 100, now);
  for (let n = 0; n < firstTries; n++) to.hedges.handleFirstTry(now);
  // It is heard of.
  to.hedges.handleAnswer(null, 100, now);
  to.hedges.handleHeard(null, now);
  return { to, pass: (ms: number) => (now = (now + ms) as MonotonicMs) };
}

test("on a silent path the reserve of second attempts, then the repeats, and nothing beyond", () => {
  const { to, pass } = setUp(10, 1);
  pass(120);
  expect([to.takeRescue(null), to.takeRescue(null), to.takeRescue(null)]).toEqual([true, true, false]);
  expect(to.budget.granted).toBe(1);
});

test("on a path that others are heard over neither", () => {
  const { to, pass } = setUp(10, 1);
  pass(120);
  to.hedges.handleHeard(null, monotonicMs(60));
  expect(to.takeRescue(null)).toBe(false);
  expect(to.budget.granted).toBe(0);
});

test("what was heard just behind the last of the body counts no longer than that", () => {
  const { to, pass } = setUp(10, 1);
  pass(50);
  to.hedges.handleHeard(null, monotonicMs(50));
  pass(120);
  expect(to.takeRescue(null)).toBe(true);
});

test("nothing where there is no other path", () => {
  const { to, pass } = setUp(100, 10, []);
  pass(120);
  expect(to.takeRescue(null)).toBe(false);
});

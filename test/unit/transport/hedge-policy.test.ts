/** When a second attempt is sent, and when a path has lost too many races. */
import { describe, expect, test } from "vitest";
import { type ClusterId, monotonicMs } from "#kit";
import { HedgePolicy, type HedgeSettings } from "../../../transport/core/hedge-policy.ts";

const ams = "ams" as ClusterId;
const at = monotonicMs;

/** A policy to which `answersMs` came over direct, each a first try. */
function policyAfter(answersMs: readonly number[], settings: Partial<HedgeSettings> = {}): HedgePolicy {
  const policy = new HedgePolicy(settings, at(0));
  for (const answerMs of answersMs) {
    policy.handleFirstTry(at(0));
    policy.handleAnswer(null, answerMs, at(0));
  }
  return policy;
}
const repeated = (count: number, value: number): number[] => Array.from({ length: count }, () => value);

describe("the delay", () => {
  test("is unknown until enough answers came over that very path", () => {
    const policy = policyAfter(repeated(15, 100));
    expect(policy.delayMs(null)).toBeUndefined();
    policy.handleAnswer(null, 100, at(0));
    expect(policy.delayMs(null)).toBeCloseTo(104);
    expect(policy.delayMs(ams)).toBeUndefined();
  });

  test("stays with the usual time where every ninth answer waits for a retransmission", () => {
    const answers = Array.from({ length: 128 }, (_, index) => (index % 9 === 0 ? 300 : 96));
    expect(policyAfter(answers).delayMs(null)).toBeLessThan(100);
  });

  test("is beyond what a fifth of the answers take: these are not late", () => {
    const answers = Array.from({ length: 128 }, (_, index) => (index % 5 === 0 ? 300 : 96));
    expect(policyAfter(answers).delayMs(null)).toBeGreaterThan(300);
  });

  test("follows a path that has become longer", () => {
    const policy = policyAfter(repeated(128, 50));
    for (const answerMs of repeated(64, 150)) policy.handleAnswer(null, answerMs, at(0));
    expect(policy.delayMs(null)).toBeCloseTo(156);
  });

  test("is never below the floor, and unknown with hedging switched off", () => {
    expect(policyAfter(repeated(128, 1)).delayMs(null)).toBe(20);
    expect(policyAfter(repeated(128, 100), { ratio: 0 }).delayMs(null)).toBeUndefined();
  });
});

describe("the budget", () => {
  test("pays for a tenth of the requests, whatever is late", () => {
    const policy = policyAfter([]);
    let sent = 0;
    for (let index = 0; index < 1_000; index++) {
      policy.handleFirstTry(at(index));
      policy.handleHeard(null, at(index));
      if (policy.take(null, at(index - 1), at(index))) sent++;
    }
    expect(sent).toBeGreaterThan(90);
    expect(sent).toBeLessThanOrEqual(100);
    expect(policy.counters).toMatchObject({ hedges: sent, refused: 1_000 - sent });
  });

  test("gives its reserve to the first on a silent path that waits for what was on its way already", () => {
    const policy = policyAfter(repeated(10, 100), { savedMax: 10, reserve: 2 });
    expect(policy.take(null, at(50), at(100))).toBe(false);
    expect(policyAfter(repeated(10, 100)).take(null, at(50), at(100), "high")).toBe(true);
    const heard = policyAfter(repeated(10, 100));
    heard.handleHeard(null, at(60));
    expect(heard.take(null, at(50), at(100), "high")).toBe(false);
  });

  test("keeps its reserve for the second late one on a silent path", () => {
    const policy = policyAfter(repeated(25, 100), { reserve: 2 });
    policy.handleHeard(null, at(0));
    expect(policy.take(null, at(1), at(100))).toBe(false);
    expect(policy.take(null, at(2), at(101))).toBe(true);
    // Something came: the next late one is an ordinary loss again.
    policy.handleHeard(null, at(150));
    expect(policy.take(null, at(140), at(250))).toBe(false);
    expect(policy.take(null, at(160), at(260))).toBe(false);
    expect(policy.take(null, at(161), at(261))).toBe(true);
  });
});

describe("lost with its path", () => {
  /** Asked over null at 5,000; its usual time is 104 ms. */
  const isLost = (policy: HedgePolicy): boolean => policy.isLost(null, at(5_000), at(5_100));

  test("is what nothing was heard of, once the target answers over another path in its usual time", () => {
    const policy = policyAfter(repeated(16, 100));
    expect(isLost(policy)).toBe(false);
    policy.handleAnswer(ams, 99, at(4_900));
    expect(isLost(policy)).toBe(false);
    policy.handleAnswer(ams, 1_000, at(5_001));
    expect(isLost(policy)).toBe(false);
    policy.handleAnswer(ams, 101, at(4_900));
    expect(isLost(policy)).toBe(true);
  });

  test("is not what may still come: something came over its path", () => {
    const policy = policyAfter(repeated(16, 100));
    policy.handleAnswer(ams, 100, at(5_050));
    policy.handleHeard(null, at(5_101));
    expect(isLost(policy)).toBe(false);
  });

  test("is what was sent before an outage ended: its connection waits for its repeat", () => {
    const policy = policyAfter(repeated(16, 100));
    for (const sentAt of [5_000, 5_001]) policy.handleLost(null, at(sentAt));
    policy.handleAnswer(ams, 100, at(5_050));
    policy.handleHeard(null, at(5_800));
    expect(policy.isLost(null, at(5_000), at(5_790))).toBe(true);
    expect(policy.isLost(null, at(5_801), at(5_790))).toBe(false);
  });
});

describe("lost races", () => {
  test("two in a row on a silent path are one too many", () => {
    const policy = policyAfter(repeated(16, 100));
    expect(policy.handleLost(null, at(10))).toBe(false);
    expect(policy.handleLost(null, at(20))).toBe(true);
    expect(policy.counters.pathsLeft).toBe(1);
    expect(policy.handleLost(null, at(30))).toBe(false);
  });

  test("do not count when something came over the path meanwhile", () => {
    const policy = policyAfter(repeated(16, 100));
    expect(policy.handleLost(null, at(10))).toBe(false);
    policy.handleHeard(null, at(15));
    expect(policy.handleLost(null, at(12))).toBe(false);
    expect(policy.handleLost(null, at(20))).toBe(false);
    expect(policy.handleLost(null, at(21))).toBe(true);
  });
});

describe("an outage", () => {
  /** Four late ones in a row with nothing heard. */
  const silent = (policy: HedgePolicy): void => {
    for (let late = 0; late < 4; late++) policy.take(null, at(10 + late), at(100 + late));
  };

  test("is known without a race when another path was heard of meanwhile, and told once", () => {
    const policy = policyAfter(repeated(16, 100), { savedMax: 1, reserve: 1 });
    silent(policy);
    expect(policy.isDead(null, at(13))).toBe(false);
    policy.handleAnswer(ams, 100, at(0));
    policy.handleHeard(ams, at(50));
    expect(policy.isDead(null, at(13))).toBe(true);
    expect(policy.isDead(null, at(13))).toBe(false);
    expect(policy.counters.pathsLeft).toBe(1);
  });

  test("is no tail: what was sent before it ended says nothing of the usual time", () => {
    const policy = policyAfter(repeated(64, 100));
    silent(policy);
    policy.handleHeard(null, at(8_000));
    for (let late = 0; late < 64; late++) policy.handleAnswer(null, 7_000, at(100 + late));
    expect(policy.delayMs(null)).toBeCloseTo(104);
    for (let later = 0; later < 64; later++) policy.handleAnswer(null, 200, at(9_000));
    expect(policy.delayMs(null)).toBeCloseTo(208);
  });
});

test.each([
  { reserve: 11 },
  { samplesMin: 0 },
  { samplesMin: 129 },
  { delayMsMin: Number.NaN },
  { lostMax: 0 },
  { ratio: 2 },
])("refuses %j", (settings) => {
  expect(() => new HedgePolicy(settings, at(0))).toThrow(RangeError);
});

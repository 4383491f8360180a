import { expect, test } from "vitest";
import { epochMs, type IpAddress, parseAddress } from "#kit";
import { DemandLearner } from "#mapping";

const HOUR_MS = 3_600_000;
const at = (hours: number) => epochMs(1_700_000_000_000 + hours * HOUR_MS);
const address = (text: string): IpAddress => parseAddress(text) as IpAddress;
const demandOf = (learner: DemandLearner): Record<string, number> =>
  Object.fromEntries([...learner.demand()].map(({ prefix, demandPerSecond }) => [prefix, demandPerSecond]));

/** `perHour` requests an hour, evenly, within [from, to) hours. */
function ask(learner: DemandLearner, text: string, perHour: number, from: number, to: number): void {
  for (let n = from * perHour; n < to * perHour; n++) learner.handleRequest(address(text), at(n / perHour));
}

test("a steady block has its rate, whatever the half-life, and its addresses are one block", () => {
  for (const halfLifeMs of [HOUR_MS, 100 * HOUR_MS]) {
    const learner = new DemandLearner({ halfLifeMs });
    ask(learner, "192.0.2.7", 60, 0, 20);
    ask(learner, "192.0.2.200", 60, 0, 20);
    ask(learner, "2001:db8:5::9", 30, 0, 20);
    const found = demandOf(learner);
    expect(found["192.0.2.0/24"]).toBeCloseTo(120 / 3_600, 2);
    expect(found["2001:db8:5::/48"]).toBeCloseTo(30 / 3_600, 2);
    expect(Object.keys(found)).toHaveLength(2);
  }
});

test("what has stopped fades by half each half-life, what has begun grows", () => {
  const learner = new DemandLearner({ halfLifeMs: 10 * HOUR_MS });
  ask(learner, "192.0.2.1", 60, 0, 50);
  ask(learner, "198.51.100.1", 60, 50, 60);
  const { "192.0.2.0/24": old = 0, "198.51.100.0/24": young = 0 } = demandOf(learner);
  expect(old / young).toBeCloseTo((1 - 2 ** -5) / 1, 1);
  expect(old + young).toBeCloseTo(60 / 3_600, 3);
});

test("records that come out of order count the same, after many half-lives too", () => {
  const [one, other] = [
    new DemandLearner({ halfLifeMs: HOUR_MS }),
    new DemandLearner({ halfLifeMs: HOUR_MS }),
  ];
  const hours = Array.from({ length: 2_000 }, (_, n) => n / 4);
  for (const hour of hours) one.handleRequest(address("192.0.2.1"), at(hour));
  for (const hour of hours.toReversed()) other.handleRequest(address("192.0.2.1"), at(hour));
  expect(demandOf(other)["192.0.2.0/24"]).toBeCloseTo(demandOf(one)["192.0.2.0/24"] ?? 0, 9);
  expect(demandOf(one)["192.0.2.0/24"]).toBeCloseTo(4 / 3_600, 3);
});

test("blocks beyond the bound are counted, those that are known go on", () => {
  const learner = new DemandLearner({ blocksMax: 1 });
  for (const text of ["192.0.2.1", "198.51.100.1", "192.0.2.2"]) learner.handleRequest(address(text), at(0));
  expect(learner.counters).toEqual({ requests: 2, overflow: 1 });
  expect(learner.blockCount).toBe(1);
});

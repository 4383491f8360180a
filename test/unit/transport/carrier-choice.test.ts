/** TCP or UDP below a link: by the loss that UDP has seen, by races, with pauses after failures. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { MonotonicMs } from "#kit";
import {
  CarrierChoice,
  carrierDefaults,
  type CarrierUse,
  type PathCounts,
} from "../../../transport/core/carrier-choice.ts";

const at = (ms: number): MonotonicMs => ms as MonotonicMs;

/** So many packets of which so many were lost. */
function counts(expectedPackets: number, lost: number): PathCounts {
  return { expectedPackets, receivedPackets: expectedPackets - lost };
}

/** Its path is believed to be clean as soon as it is believed to lose something. */
function opened(nowMs = 0, choice = new CarrierChoice({ cleanPacketsMin: 200 })): CarrierChoice {
  choice.handleOpening();
  choice.handleOpen(at(nowMs));
  return choice;
}

/** Has run the races that it has to, and won them. */
function raced(choice = opened()): CarrierChoice {
  for (let n = 0; n < carrierDefaults.racesMin; n++) choice.handleRace(true, at(0));
  return choice;
}

const uses = (choice: CarrierChoice, requests: number, nowMs = 0): Partial<Record<CarrierUse, number>> => {
  const found: Partial<Record<CarrierUse, number>> = {};
  for (let n = 0; n < requests; n++) {
    const use = choice.choose(at(nowMs));
    found[use] = (found[use] ?? 0) + 1;
  }
  return found;
};

describe("by what the path loses", () => {
  test("nothing goes by a carrier that is not open", () => {
    const choice = new CarrierChoice();
    expect([choice.mayOpen(at(0)), choice.reason(at(0)), uses(choice, 9).tcp]).toEqual([true, "none", 9]);
    choice.handleOpening();
    expect([choice.mayOpen(at(0)), choice.reason(at(0)), uses(choice, 9).tcp]).toEqual([false, "opening", 9]);
  });

  test("one that has just opened is raced: the first request, then one in four", () => {
    const choice = opened();
    expect(choice.reason(at(0))).toBe("unsure");
    expect(choice.choose(at(0))).toBe("raced");
    expect(uses(choice, 40)).toEqual({ tcp: 30, raced: 10 });
  });

  test.each([
    ["pays", counts(1_000, 14)],
    ["pays", counts(1_000, 3)],
    ["clean", counts(1_000, 2)],
    ["clean", counts(1_000, 0)],
    ["unsure", counts(199, 10)],
  ] as const)("%s: %o", (reason, seen) => {
    const choice = raced();
    choice.handleCounts(seen);
    expect(choice.reason(at(0))).toBe(reason);
    choice.choose(at(0));
    if (reason === "pays") expect(uses(choice, 320)).toEqual({ udp: 310, raced: 10 });
    // After 64, 128 and 256 more.
    else if (reason !== "unsure") expect(uses(choice, 448)).toEqual({ tcp: 445, "raced-behind": 3 });
  });

  test("where TCP is better races become rare, until its answers are late: then news count for more", () => {
    const choice = raced();
    choice.handleCounts(counts(3_900, 0));
    expect(uses(choice, 100_000)["raced-behind"]).toBeLessThan(110);
    expect(uses(choice, 1_024 * 4)).toEqual({ tcp: 1_024 * 4 - 4, "raced-behind": 4 });
    choice.handleLateTcp();
    expect(uses(choice, 1 + 32)["raced-behind"]).toBeGreaterThanOrEqual(1);
    choice.handleCounts(counts(4_100, 4));
    expect(choice.reason(at(0))).toBe("pays");
    expect(uses(choice, 320)).toEqual({ udp: 310, raced: 10 });
  });

  test("a path is clean when 3,000 packets have shown it, and UDP used until then: losses in bursts are rare", () => {
    const choice = raced(opened(0, new CarrierChoice()));
    choice.handleCounts(counts(200, 0));
    expect(choice.reason(at(0))).toBe("trial");
    choice.choose(at(0));
    expect(uses(choice, 320)).toEqual({ udp: 310, raced: 10 });
    choice.handleCounts(counts(2_999, 0));
    expect(choice.reason(at(0))).toBe("trial");
    // The first burst.
    choice.handleCounts(counts(3_010, 11));
    expect(choice.reason(at(0))).toBe("pays");
    const clean = raced(opened(0, new CarrierChoice()));
    clean.handleCounts(counts(3_000, 0));
    expect(clean.reason(at(0))).toBe("clean");
    // What was seen once is not tried again because an answer by TLS is late.
    clean.handleLateTcp();
    expect(clean.reason(at(0))).toBe("clean");
  });

  test("where nothing seems to be lost UDP is taken when it overtakes TCP, races for it being frequent then, and left when it does not any more", () => {
    const choice = raced();
    choice.handleCounts(counts(1_000, 0));
    for (let won = 0; won < 5; won++) {
      expect(choice.reason(at(0))).toBe("clean");
      let requests = 1;
      while (choice.choose(at(0)) !== "raced-behind") requests++;
      expect(requests).toBeLessThanOrEqual(won === 0 ? 32 : carrierDefaults.raceEveryUnsure);
      choice.handleRaceBehind(true);
    }
    expect(choice.reason(at(0))).toBe("pays");
    choice.choose(at(0));
    expect(uses(choice, 320)).toEqual({ udp: 310, "raced-behind": 10 });
    for (let lost = 0; lost < 4; lost++) choice.handleRaceBehind(false);
    expect(choice.reason(at(0))).toBe("clean");
    expect([choice.counters.won, choice.counters.lost, choice.counters.slower]).toEqual([13, 4, 0]);
    // One that failed has to show it anew.
    for (let won = 0; won < 8; won++) choice.handleRaceBehind(true);
    choice.handleFailed("silent", at(0));
    raced(opened(0, choice));
    expect(choice.reason(at(0))).toBe("clean");
  });

  test("without races nothing is known, whatever was lost", () => {
    const choice = opened();
    choice.handleCounts(counts(1_000, 14));
    expect(choice.reason(at(0))).toBe("unsure");
  });

  test("a path that loses less is kept down to half of what it took to begin", () => {
    const choice = raced();
    let [packets, lost] = [1_000, 3];
    choice.handleCounts(counts(packets, lost));
    const step = (more: number, lostMore: number): string => {
      packets += more;
      lost += lostMore;
      choice.handleCounts(counts(packets, lost));
      return choice.reason(at(0));
    };
    expect(step(900, 0)).toBe("pays");
    expect(step(200, 0)).toBe("clean");
    expect(step(500, 1)).toBe("clean");
    expect(step(500, 20)).toBe("pays");
  });

  test("what is forgotten is forgotten by packets: a path that has become clean is seen to be", () => {
    const choice = raced();
    choice.handleCounts(counts(4_000, 120));
    let packets = 4_000;
    for (let n = 0; n < 60; n++) {
      packets += 1_000;
      choice.handleCounts(counts(packets, 120));
    }
    expect(choice.reason(at(0))).toBe("clean");
    expect(choice.lossRatio).toBeLessThan(0.001);
  });

  test("a packet that comes late is none that was lost", () => {
    const choice = raced();
    choice.handleCounts({ expectedPackets: 1_000, receivedPackets: 990 });
    expect(choice.reason(at(0))).toBe("pays");
    choice.handleCounts({ expectedPackets: 1_001, receivedPackets: 1_001 });
    expect(choice.lossRatio).toBe(0);
  });

  test("counts that go on changing where they came from are taken as they are now", () => {
    const choice = raced();
    const live = { expectedPackets: 500, receivedPackets: 490 };
    choice.handleCounts(live);
    live.expectedPackets = 1_000;
    live.receivedPackets = 990;
    choice.handleCounts(live);
    expect(choice.lossRatio).toBeCloseTo(0.01, 9);
  });

  test("what was learnt of a path is known to the next connection, whose counts begin anew", () => {
    const choice = raced();
    choice.handleCounts(counts(1_000, 14));
    choice.handleClosed();
    expect(choice.mayOpen(at(0))).toBe(true);
    raced(opened(0, choice));
    choice.handleCounts(counts(5, 0));
    expect(choice.reason(at(0))).toBe("pays");
    expect(choice.lossRatio).toBeCloseTo(14 / 1_005, 9);
  });
});

describe("one that fails", () => {
  test("is tried again later and later, ten minutes at most; sooner when it had been good", () => {
    const choice = new CarrierChoice();
    let now = 0;
    const pauses: number[] = [];
    for (let n = 0; n < 8; n++) {
      choice.handleOpening();
      choice.handleFailed("blocked", at(now));
      let pause = 0;
      while (!choice.mayOpen(at(now + pause))) pause += 1_000;
      expect(choice.reason(at(now))).toBe("paused");
      pauses.push(pause);
      now += pause;
    }
    expect(pauses).toEqual([10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 600_000, 600_000]);
    opened(now, choice);
    choice.handleFailed("silent", at(now + 60_000));
    expect([choice.mayOpen(at(now + 69_999)), choice.mayOpen(at(now + 70_000))]).toEqual([false, true]);
    expect(choice.counters).toMatchObject({ blocked: 8, silent: 1, slower: 0 });
  });

  test("by races: five lost of the last eight", () => {
    const choice = raced();
    for (const isWon of [false, true, false, true, false, true, false])
      expect(choice.handleRace(isWon, at(5))).toBe(false);
    expect(choice.handleRace(false, at(5))).toBe(true);
    expect([choice.reason(at(5)), choice.counters.slower]).toEqual(["paused", 1]);
    // One that was under way when it was given up.
    expect(choice.handleRace(false, at(6))).toBe(false);
    // What opens next has races of its own.
    opened(20_000, choice);
    expect(choice.handleRace(false, at(20_000))).toBe(false);
  });
});

test("in doubt it is raced anew, and TCP has the rest; once at a time", () => {
  const choice = raced();
  choice.handleCounts(counts(1_000, 14));
  expect(choice.reason(at(0))).toBe("pays");
  choice.handleDoubt(at(0));
  expect(choice.reason(at(0))).toBe("unsure");
  expect([choice.choose(at(0)), uses(choice, 8)]).toEqual(["raced", { tcp: 6, raced: 2 }]);
  for (let n = 0; n < carrierDefaults.racesMin; n++) {
    choice.handleDoubt(at(0));
    choice.handleRace(true, at(0));
  }
  choice.handleDoubt(at(59_999));
  expect([choice.reason(at(0)), choice.counters.doubts]).toEqual(["pays", 1]);
  choice.handleDoubt(at(60_000));
  expect([choice.reason(at(0)), choice.counters.doubts]).toEqual(["unsure", 2]);
});

test("any order of what may happen: never by what is not open, never more often both ways than is said, never opened in a pause", () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("choose" as const), times: fc.integer({ min: 1, max: 200 }) }),
    fc.record({
      kind: fc.constant("packets" as const),
      more: fc.nat({ max: 3_000 }),
      lost: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
    fc.record({ kind: fc.constantFrom("race" as const, "race-behind" as const), isWon: fc.boolean() }),
    fc.record({ kind: fc.constantFrom("open" as const, "closed" as const, "failed" as const) }),
    fc.record({ kind: fc.constant("wait" as const), ms: fc.nat({ max: 700_000 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const choice = new CarrierChoice();
      let now = 0;
      let isOpen = false;
      let pausedUntil = 0;
      let [expected, lost] = [0, 0];
      const fail = (): void => {
        isOpen = false;
        // However often it has failed.
        pausedUntil = now + carrierDefaults.pauseMs;
      };
      for (const one of steps) {
        if (one.kind === "wait") now += one.ms;
        else if (one.kind === "choose") {
          const found = uses(choice, one.times, now);
          const { tcp = 0, udp = 0, raced = 0, "raced-behind": behind = 0 } = found;
          if (!isOpen) expect(tcp).toBe(one.times);
          const { raceEvery, raceEveryUnsure } = carrierDefaults;
          const every = choice.reason(at(now)) === "unsure" ? raceEveryUnsure : raceEvery;
          // One more after one that was won from behind.
          expect(raced + behind).toBeLessThanOrEqual(2 + Math.ceil(one.times / every));
          if (!["pays", "trial"].includes(choice.reason(at(now)))) expect(udp).toBe(0);
        } else if (one.kind === "packets" && isOpen) {
          const gone = Math.round(one.more * one.lost);
          expected += one.more;
          lost += gone;
          choice.handleCounts(counts(expected, lost));
          expect(choice.lossRatio).toBeGreaterThanOrEqual(0);
          expect(choice.lossRatio).toBeLessThanOrEqual(1);
        } else if (one.kind === "race") {
          if (choice.handleRace(one.isWon, at(now))) fail();
        } else if (one.kind === "race-behind") {
          choice.handleRaceBehind(one.isWon);
        } else if (one.kind === "open") {
          const may = choice.mayOpen(at(now));
          if (isOpen || now < pausedUntil) expect(may).toBe(false);
          if (!may) continue;
          opened(now, choice);
          isOpen = true;
          [expected, lost] = [0, 0];
        } else if (one.kind === "closed" && isOpen) {
          choice.handleClosed();
          isOpen = false;
        } else if (one.kind === "failed" && isOpen) {
          choice.handleFailed("silent", at(now));
          fail();
        }
      }
    }),
  );
});

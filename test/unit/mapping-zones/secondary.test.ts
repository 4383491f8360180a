/** When secondary zones are looked after, and how long they last: the machine, on a clock of its own. */
import { describe, expect, it } from "vitest";
import { type MonotonicMs, Random } from "#kit";
import {
  type FetchOutcome,
  type Primary,
  Secondaries,
  secondaryDefaults,
  type ZoneFetch,
} from "../../../mapping/core/zone/secondary.ts";

const at = (seconds: number): MonotonicMs => Math.ceil(seconds * 1_000) as MonotonicMs;
const timers = { serial: 7, refreshSeconds: 3_600, retrySeconds: 600, expireSeconds: 86_400 };
const taken = (serial = 7): FetchOutcome => ({ kind: "taken", timers: { ...timers, serial } });
const upToDate: FetchOutcome = { kind: "up-to-date" };
const failed: FetchOutcome = { kind: "failed", why: "rcode REFUSED" };
const first: Primary = { address: "192.0.2.1", port: 53 };
const second: Primary = { address: "192.0.2.2", port: 53, keyName: "k.example" };

function machine(settings = {}) {
  return new Secondaries(new Random(1), { ...secondaryDefaults, startSpreadMs: 0, ...settings });
}
/** The next look at the zone, and when it was. */
function nextFetch(zones: Secondaries, from: number): { fetch: ZoneFetch; seconds: number } {
  for (let seconds = from, tries = 0; tries < 100; tries++) {
    const fetch = zones.pollTransmit(at(seconds));
    if (fetch !== undefined) return { fetch, seconds };
    const next = zones.pollTimeout();
    if (next === undefined) throw new Error("nothing is due");
    seconds = Math.max(seconds, Math.ceil(next) / 1_000);
  }
  throw new Error("due, and nothing to do");
}
/** One that was fetched at 0. */
function followed(settings = {}): Secondaries {
  const zones = machine(settings);
  zones.set("z", [first], undefined, at(0));
  zones.handleOutcome(nextFetch(zones, 0).fetch, taken(), at(0));
  return zones;
}

describe("a secondary zone", () => {
  it("is fetched at once, and looked after before its refresh time is over", () => {
    const zones = machine();
    zones.set("z", [first], undefined, at(0));
    expect(zones.status("z")).toMatchObject({ state: "waiting", serial: undefined });
    const { fetch, seconds } = nextFetch(zones, 0);
    expect([fetch, seconds]).toEqual([{ zoneId: "z", primary: first }, 0]);
    zones.handleOutcome(fetch, taken(), at(2));
    expect(zones.status("z")).toEqual({
      state: "current",
      serial: 7,
      confirmedAt: at(2),
      problem: undefined,
    });
    const again = nextFetch(zones, 2).seconds;
    expect(again).toBeGreaterThanOrEqual(2 + 3_240);
    expect(again).toBeLessThanOrEqual(2 + 3_600);
  });

  it("is asked of the next primary at once, and of the first one again after the retry time", () => {
    const zones = machine();
    zones.set("z", [first, second], { timers, ageMs: 3_600_000 }, at(0));
    const one = nextFetch(zones, 0);
    expect(one.fetch.primary).toBe(first);
    zones.handleOutcome(one.fetch, failed, at(1));
    const two = nextFetch(zones, 1);
    expect([two.fetch.primary, two.seconds]).toEqual([second, 1]);
    zones.handleOutcome(two.fetch, failed, at(2));
    expect(zones.status("z")).toMatchObject({
      state: "unconfirmed",
      problem: "192.0.2.2 port 53: rcode REFUSED",
    });
    const three = nextFetch(zones, 2);
    expect(three.fetch.primary).toBe(first);
    expect(three.seconds).toBeGreaterThanOrEqual(2 + 540);
    expect(three.seconds).toBeLessThanOrEqual(2 + 600);
    zones.handleOutcome(three.fetch, upToDate, at(1_000));
    expect(zones.status("z")).toMatchObject({ state: "current", problem: undefined });
  });

  it("is asked for ever more seldom while nothing is here", () => {
    const zones = machine();
    zones.set("z", [first], undefined, at(0));
    const waits: number[] = [];
    for (let n = 0, now = 0; n < 12; n++) {
      const { fetch, seconds } = nextFetch(zones, now);
      waits.push(seconds - now);
      zones.handleOutcome(fetch, failed, at(seconds));
      now = seconds;
    }
    expect(waits.slice(0, 4).map((wait) => Math.ceil(wait / 5))).toEqual([0, 1, 2, 4]);
    expect(Math.max(...waits)).toBeLessThanOrEqual(600);
    expect(waits.at(-1)).toBeGreaterThanOrEqual(540);
  });

  it("expires when no primary has confirmed it for so long, and comes back when one does", () => {
    const zones = followed();
    let look = nextFetch(zones, 0);
    while (look.seconds < 86_400) {
      zones.handleOutcome(look.fetch, failed, at(look.seconds));
      expect([zones.status("z")?.state, zones.pollEvent()]).toEqual(["unconfirmed", undefined]);
      look = nextFetch(zones, look.seconds);
    }
    expect(look.seconds).toBeLessThan(87_000);
    expect(zones.pollEvent()).toEqual({ kind: "expired", zoneId: "z" });
    expect([zones.status("z")?.state, zones.states.expired, zones.counters.expired]).toEqual([
      "expired",
      1,
      1,
    ]);
    zones.handleOutcome(look.fetch, upToDate, at(look.seconds));
    expect(zones.pollEvent()).toEqual({ kind: "revived", zoneId: "z" });
    expect(zones.status("z")?.state).toBe("current");
  });

  it.each<[says: string, refreshSeconds: number, seconds: readonly [number, number]]>([
    ["less than a minute of refresh is a minute", 0, [54, 60]],
    ["more than four weeks are four weeks", 4_294_967_295, [0.9 * 2_419_200, 2_419_200]],
  ])("does not believe any timer: %s", (_says, refreshSeconds, [least, most]) => {
    const zones = machine();
    zones.set("z", [first], undefined, at(0));
    zones.handleOutcome(
      nextFetch(zones, 0).fetch,
      { kind: "taken", timers: { ...timers, refreshSeconds, expireSeconds: 0 } },
      at(0),
    );
    const { seconds } = nextFetch(zones, 0);
    expect(seconds).toBeGreaterThanOrEqual(least);
    expect(seconds).toBeLessThanOrEqual(most);
    // Even if it is to expire at once it may be looked after once.
    expect(zones.status("z")?.state).toBe("current");
  });

  it("is looked after at once when a primary tells of a later serial, once a second at most", () => {
    const zones = followed();
    zones.handleNotify("z", 7, at(10));
    expect(zones.pollTransmit(at(10))).toBeUndefined();
    zones.handleNotify("z", 8, at(10));
    const one = nextFetch(zones, 10);
    expect(one.seconds).toBe(10);
    // While one is under way any number makes one more.
    for (let n = 0; n < 100; n++) zones.handleNotify("z", 9, at(10));
    expect(zones.pollTransmit(at(10))).toBeUndefined();
    zones.handleOutcome(one.fetch, taken(8), at(10.1));
    const two = nextFetch(zones, 10.1);
    expect(two.seconds).toBeCloseTo(11.1);
    zones.handleOutcome(two.fetch, taken(9), at(11.1));
    zones.handleNotify("z", 10, at(11.2));
    expect(zones.pollTransmit(at(11.2))).toBeUndefined();
    expect(nextFetch(zones, 11.2).seconds).toBeCloseTo(12.1);
    expect(zones.counters).toMatchObject({ notified: 103, stale: 1 });
    zones.handleNotify("other", 1, at(20));
  });

  it("is taken up where it was left: served from the disk, or not any more", () => {
    const zones = machine();
    zones.set("fresh", [first], { timers, ageMs: 1_800_000 }, at(0));
    zones.set("old", [first], { timers, ageMs: 86_400_000 }, at(0));
    expect(zones.pollEvent()).toEqual({ kind: "expired", zoneId: "old" });
    expect([zones.status("fresh")?.state, zones.status("old")?.state]).toEqual(["current", "expired"]);
    expect(zones.pollTransmit(at(0))?.zoneId).toBe("old");
    const { seconds } = nextFetch(zones, 0);
    expect(seconds).toBeGreaterThanOrEqual(1_440);
    expect(seconds).toBeLessThanOrEqual(1_800);
  });

  it("bounds what is under way in all and at one primary; a primary that hangs holds up nobody else's zones", () => {
    const zones = machine({ fetchesMax: 3, fetchesPerPrimaryMax: 2 });
    for (let n = 0; n < 5; n++) zones.set(`a${n}`, [first], undefined, at(0));
    for (let n = 0; n < 5; n++) zones.set(`b${n}`, [second], undefined, at(0));
    const begun = [1, 2, 3, 4].map(() => zones.pollTransmit(at(1)));
    expect(begun.map((one) => one?.zoneId)).toEqual(["a0", "a1", "b0", undefined]);
    zones.handleOutcome(begun[2]!, taken(), at(2));
    expect(zones.pollTransmit(at(2))?.zoneId).toBe("b1");
    // One whose zone is gone still makes room.
    zones.delete("a0");
    zones.handleOutcome(begun[0]!, taken(), at(3));
    expect(zones.status("a0")).toBeUndefined();
    expect(zones.pollTransmit(at(3))?.zoneId).toBe("a2");
  });

  it("asks other primaries at once, and takes no outcome of before for one of now", () => {
    const zones = followed();
    zones.handleNotify("z", 8, at(10));
    const { fetch } = nextFetch(zones, 10);
    zones.delete("z");
    zones.set("z", [second], undefined, at(11));
    const again = nextFetch(zones, 11);
    expect(again.fetch.primary).toBe(second);
    zones.handleOutcome(fetch, taken(8), at(12));
    expect(zones.status("z")?.state).toBe("waiting");
    zones.handleOutcome(again.fetch, taken(9), at(13));
    expect(zones.status("z")?.serial).toBe(9);
    zones.set("z", [first], undefined, at(14));
    expect(nextFetch(zones, 14)).toMatchObject({ seconds: 14, fetch: { primary: first } });
  });
});

/** Who asks through which resolver, from what name servers and edges tell of names that are asked for once. */
import { describe, expect, it } from "vitest";
import { monotonicMs } from "#kit";
import { NamePairs, type NamePairsSettings } from "../../../mapping/core/name-pairs.ts";

const CLIENT = "192.0.2.0";
const SETTLE_MS = 1_000;

function pairing(settings: Partial<NamePairsSettings> = {}) {
  const pairs = new NamePairs({ settleMs: SETTLE_MS, keptMs: 5_000, ...settings });
  return {
    pairs,
    asked: (id: string, resolver: string, clientSubnet?: string, now = 0) =>
      pairs.handleAsked({ id, resolver, ...(clientSubnet && { clientSubnet }) }, monotonicMs(now)),
    used: (id: string, client = CLIENT, now = 0) => pairs.handleUsed({ id, client }, monotonicMs(now)),
    at: (now: number) =>
      pairs.handleTimeout(monotonicMs(now)).map((one) => [one.resolver, one.client, one.weight]),
  };
}

describe("both sides of a name", () => {
  it("make a pair once they have settled, in whichever order they come, and once", () => {
    const { pairs, asked, used, at } = pairing();
    asked("a", "198.51.100.1");
    used("a", CLIENT, 400);
    used("b", "2001:db8::", 500);
    asked("b", "2001:0db8:99::0001", undefined, 900);
    expect(at(999)).toEqual([]);
    expect(at(SETTLE_MS)).toEqual([["198.51.100.1", CLIENT, 1]]);
    expect(at(1_500)).toEqual([["2001:db8:99::1", "2001:db8::", 1]]);
    // Again: the name is over, until no label of it can be good any more.
    asked("a", "198.51.100.9", undefined, 1_600);
    used("a", CLIENT, 1_600);
    expect(at(4_999)).toEqual([]);
    expect(pairs.counters).toMatchObject({ pairs: 2, namesOver: 2 });
    at(5_500);
    expect(pairs.size).toBe(0);
  });

  it("of several resolvers share its weight; no more than four are heard", () => {
    const { asked, used, at } = pairing();
    for (const n of [1, 2, 2, 3, 4, 5]) asked("a", `198.51.100.${n}`);
    used("a");
    expect(at(SETTLE_MS)).toEqual([1, 2, 3, 4].map((n) => [`198.51.100.${n}`, CLIENT, 0.25]));
  });
});

describe("nothing is learnt", () => {
  it.each<[string, string, (one: ReturnType<typeof pairing>) => void]>([
    ["of a client that never came", "namesUnused", ({ asked }) => asked("a", "198.51.100.1")],
    ["without a resolver that was seen", "namesUnasked", ({ used }) => used("a")],
    [
      "of a resolver in the client's own network",
      "namesAtHome",
      ({ asked, used }) => (asked("a", "192.0.2.250"), used("a")),
    ],
    [
      "where the resolver asks for somebody else",
      "namesOfOthers",
      ({ asked, used }) => (asked("a", "198.51.100.1", "203.0.113.0/24"), used("a")),
    ],
    ["of an address that is none", "namesMalformed", ({ asked }) => asked("a", "198.51.100.01")],
    ["of a subnet that is none", "namesMalformed", ({ asked }) => asked("a", "198.51.100.1", "192.0.2.1/24")],
    ["of a client that is none", "namesMalformed", ({ used }) => used("a", "nowhere")],
  ])("%s", (_what, counter, tell) => {
    const one = pairing();
    tell(one);
    expect(one.at(SETTLE_MS)).toEqual([]);
    expect(one.pairs.counters).toMatchObject({ pairs: 0, [counter]: 1 });
  });

  it.each(["192.0.2.0/24", "192.0.0.0/16", "192.0.2.128/25", "2001:db8::/48"])(
    "but of a client in %s, for whom the resolver asks, or of another family",
    (subnet) => {
      const { asked, used, at } = pairing();
      asked("a", "198.51.100.1", subnet);
      used("a");
      expect(at(SETTLE_MS)).toHaveLength(1);
    },
  );
});

describe("is bounded", () => {
  it("by client network and hour", () => {
    const { pairs, asked, used, at } = pairing({ perNetworkMax: 2 });
    for (const id of ["a", "b", "c"]) {
      asked(id, "198.51.100.1");
      used(id);
    }
    expect(at(SETTLE_MS)).toHaveLength(2);
    expect(pairs.counters.namesOverQuota).toBe(1);
    asked("d", "198.51.100.1", undefined, 3_600_000);
    used("d", CLIENT, 3_600_000);
    // The window began with the first that counted.
    expect(at(3_602_000)).toHaveLength(1);
  });

  it("by the names that are known at once, those that are over too", () => {
    const { pairs, asked, at } = pairing({ namesMax: 2 });
    for (const id of ["a", "b", "c"]) asked(id, "198.51.100.1");
    expect([pairs.size, pairs.counters.namesShed]).toEqual([2, 1]);
    at(SETTLE_MS);
    asked("c", "198.51.100.1", undefined, SETTLE_MS);
    expect([pairs.size, pairs.counters.namesShed]).toEqual([2, 2]);
  });
});

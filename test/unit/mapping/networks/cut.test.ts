import { describe, expect, test } from "vitest";
import { cutClientNetworks, RouteTable, routesOfRanges } from "#mapping";
import { cut, demandOf, measuredOf, placesOf, prefixesOf, type Route, routesOf } from "./fixtures.ts";

const route = (text: string, ...path: number[]): Route => [text, path];

describe("what is announced", () => {
  test("prefixes of one origin and path are one set, a more specific one of somebody else is cut out", () => {
    const routes = [route("10.0.0.0/22", 1, 7), route("10.9.0.0/16", 1, 7), route("10.0.1.0/24", 2, 8)];
    expect(prefixesOf(cut({ routes }))).toEqual([
      ["10.0.0.0/24", "10.0.2.0/23", "10.9.0.0/16"],
      ["10.0.1.0/24"],
    ]);
  });

  test("of prefixes that begin alike the longest counts", () => {
    const routes = [route("10.0.0.0/24", 2, 8), route("10.0.0.0/22", 1, 7), route("10.0.0.0/23", 3, 9)];
    expect(prefixesOf(cut({ routes }))).toEqual([["10.0.0.0/24"], ["10.0.1.0/24"], ["10.0.2.0/23"]]);
  });

  test("the path of every peer counts, in whatever order they come", () => {
    const routes: Route[] = [
      ["10.0.0.0/24", [1, 7], "192.0.2.1"],
      ["10.0.0.0/24", [2, 7], "192.0.2.2"],
      ["10.0.1.0/24", [2, 7], "192.0.2.2"],
      ["10.0.1.0/24", [1, 7], "192.0.2.1"],
      ["10.0.2.0/24", [1, 7], "192.0.2.1"],
      ["10.0.2.0/24", [3, 2, 7], "192.0.2.2"],
    ];
    expect(prefixesOf(cut({ routes }))).toEqual([["10.0.0.0/23"], ["10.0.2.0/24"]]);
  });

  test("IPv6 is cut alike, and no set is in doubt where the families meet", () => {
    const routes = [
      route("2001:db8::/32", 1, 7),
      route("2001:db8:1::/48", 1, 8),
      route("203.0.113.0/24", 1, 7),
    ];
    expect(prefixesOf(cut({ routes }))[0]).toEqual([
      "203.0.113.0/24",
      "2001:db8::/48",
      ...Array.from({ length: 15 }, (_, n) => `2001:db8:${(2 ** (n + 1)).toString(16)}::/${47 - n}`),
    ]);
  });

  test("what is finer than a cell, or wider than anyone was given, is counted and left out", () => {
    const table = routesOf([
      route("10.0.0.0/25", 1),
      route("0.0.0.0/0", 1),
      route("2001:db8::/49", 1),
      route("::/0", 1),
    ]);
    expect(table.prefixCount).toBe(0);
    expect(table.tally.summary().skipped).toEqual({ "too-long": 2, "too-wide": 2 });
  });

  test("of several origins the one of most routes counts, of as many the lowest", () => {
    const table = new RouteTable();
    const of = (peerAddress: string, origin: number, text = "10.0.0.0") =>
      table.route({
        prefix: {
          address: { family: 4, words: [text === "10.0.0.0" ? 0x0a000000 : 0x0b000000] },
          prefixLength: 24,
        },
        asPath: [origin],
        originAs: [origin],
        peerAs: 1,
        peerAddress,
        pathId: null,
        at: 0 as never,
      });
    of("192.0.2.1", 9);
    of("192.0.2.2", 8);
    of("192.0.2.3", 9);
    of("192.0.2.1", 9, "11.0.0.0");
    of("192.0.2.2", 8, "11.0.0.0");
    expect(table.build().classes.map(({ originAs }) => originAs)).toEqual([9, 8]);
  });

  test("where no table of routes is, ranges of AS numbers stand for it", () => {
    const ranges = placesOf([["10.0.0.0", "10.0.3.255", "berlin"]]);
    const systems = { runs: ranges?.runs ?? runsOfNothing(), values: [{ asNumber: 7, organisation: null }] };
    const sets = cutClientNetworks({
      routes: routesOfRanges(systems),
      places: null,
      autonomousSystems: null,
      measured: null,
      demand: null,
    });
    expect([prefixesOf(sets), [...sets.asNumbers]]).toEqual([[["10.0.0.0/22"]], [7]]);
  });
});

function runsOfNothing(): never {
  throw new Error("the fixture has no ranges");
}

describe("where places and measurements differ", () => {
  const routes = [route("10.0.0.0/21", 1, 7)];
  const all = { routes, demand: demandOf({ "10.0.0.0/21": 80 }) };

  test("a prefix in two cities is two sets; a suburb is none of its own", () => {
    const places = placesOf([
      ["10.0.0.0", "10.0.1.255", "berlin"],
      ["10.0.2.0", "10.0.3.255", "munich"],
      ["10.0.4.0", "10.0.5.255", "potsdam"],
    ]);
    const sets = cut({ ...all, places });
    expect(prefixesOf(sets)).toEqual([["10.0.0.0/23", "10.0.4.0/23"], ["10.0.2.0/23"], ["10.0.6.0/23"]]);
    expect([...sets.demandPerSecond]).toEqual([40, 20, 20]);
    expect([0, 1, 2].map((set) => sets.placeOf(set)?.city)).toEqual(["Berlin", "Munich", undefined]);
  });

  test("a cell has the place of its first address", () => {
    const places = placesOf([
      ["10.0.0.0", "10.0.0.127", "berlin"],
      ["10.0.0.128", "10.0.3.127", "munich"],
    ]);
    expect(prefixesOf(cut({ ...all, places }))).toEqual([
      ["10.0.0.0/24"],
      ["10.0.1.0/24", "10.0.2.0/23"],
      ["10.0.4.0/22"],
    ]);
  });

  test.each([
    ["the same decision: 50 ms more everywhere change nothing", { fra: 60, ams: 70, iad: 140 }, 1],
    ["another decision that costs less than the limit", { fra: 10.8, ams: 10, iad: 90 }, 1],
    ["another decision that costs more", { fra: 30, ams: 10, iad: 90 }, 2],
    ["no two sites in common: nothing was compared", { sin: 5, hkg: 9, fra: 70 }, 1],
  ])("%s", (_title, sites, count) => {
    const measured = measuredOf({ "10.0.0.0/22": { fra: 10, ams: 20, iad: 90 }, "10.0.4.0/22": sites });
    expect(cut({ ...all, measured }).count).toBe(count);
  });

  test("blocks that want the same again are one set, wherever they lie", () => {
    const here = { fra: 10, ams: 30 };
    const there = { fra: 40, ams: 12 };
    const measured = measuredOf({
      "10.0.0.0/24": here,
      "10.0.1.0/24": there,
      "10.0.2.0/24": here,
      "10.0.7.0/24": there,
    });
    expect(prefixesOf(cut({ ...all, measured }))).toEqual([
      // What was not measured of the prefix is like most of what was.
      ["10.0.0.0/24", "10.0.2.0/23", "10.0.4.0/23", "10.0.6.0/24"],
      ["10.0.1.0/24", "10.0.7.0/24"],
    ]);
  });

  test("what was measured of one AS says nothing of another", () => {
    const two = [route("10.0.0.0/23", 1, 7), route("10.0.2.0/23", 1, 8)];
    const measured = measuredOf({
      "10.0.0.0/24": { fra: 10, ams: 200 },
      "10.0.1.0/24": { fra: 10, ams: 200 },
      "10.0.2.0/24": { fra: 12, ams: 11 },
      "10.0.3.0/24": { fra: 11, ams: 40 },
    });
    // Apart from each other: for AS 8 alone the second block loses 14 ms by the best site of both, and the first 1 ms.
    expect(prefixesOf(cut({ routes: two, measured }, { differenceMsMax: 0.5 }))).toEqual([
      ["10.0.0.0/23"],
      ["10.0.2.0/24"],
      ["10.0.3.0/24"],
    ]);
  });

  test("far north a degree of longitude is short", () => {
    const places = placesOf([
      ["10.0.0.0", "10.0.1.255", "north"],
      ["10.0.2.0", "10.0.3.255", "norther"],
    ]);
    expect(prefixesOf(cut({ ...all, places }))).toEqual([["10.0.0.0/22"], ["10.0.4.0/22"]]);
  });

  test("other paths and the same measurements are one set; unmeasured ones stay apart by path", () => {
    const more = [
      route("10.0.0.0/24", 1, 7),
      route("10.0.1.0/24", 2, 7),
      route("10.0.2.0/24", 3, 7),
      route("10.0.3.0/24", 2, 7),
    ];
    const measured = measuredOf({ "10.0.0.0/24": { fra: 10, ams: 30 }, "10.0.1.0/24": { fra: 11, ams: 31 } });
    expect(prefixesOf(cut({ routes: more, measured }))).toEqual([
      ["10.0.0.0/23", "10.0.3.0/24"],
      ["10.0.2.0/24"],
    ]);
  });
});

describe("a bound on how many", () => {
  const routes = [1, 2, 3, 4].map((n) => route(`10.${n}.0.0/16`, 1, n));
  const places = placesOf([
    ["10.1.0.0", "10.1.255.255", "berlin"],
    ["10.2.0.0", "10.2.255.255", "munich"],
    ["10.3.0.0", "10.3.255.255", "boston"],
    ["10.4.0.0", "10.4.255.255", "boston"],
  ]);
  test.each([
    [3, [["10.1.0.0/16"], ["10.2.0.0/16"], ["10.3.0.0/16", "10.4.0.0/16"]]],
    [
      2,
      [
        ["10.1.0.0/16", "10.2.0.0/16"],
        ["10.3.0.0/16", "10.4.0.0/16"],
      ],
    ],
    [1, [["10.1.0.0/16", "10.2.0.0/15", "10.4.0.0/16"]]],
  ])("to %i: the nearest are merged first", (countMax, expected) => {
    const sets = cut({ routes, places }, { countMax });
    expect(prefixesOf(sets)).toEqual(expected);
    expect(sets.countUnbounded).toBe(4);
  });

  test("a set that has become heavy by merging is not merged for the price of its light member", () => {
    const chain = [
      route("10.1.0.0/16", 1, 1),
      route("10.2.0.0/16", 1, 2),
      route("10.3.0.0/16", 9, 2),
      route("10.4.0.0/16", 1, 3),
    ];
    const demand = demandOf({ "10.1.0.0/16": 100, "10.2.0.0/16": 1, "10.3.0.0/16": 50, "10.4.0.0/16": 30 });
    expect(prefixesOf(cut({ routes: chain, demand }, { countMax: 2 }))).toEqual([
      ["10.1.0.0/16"],
      ["10.2.0.0/15", "10.4.0.0/16"],
    ]);
  });

  test("light ones go first, and demand is conserved with what is announced by nobody told apart", () => {
    const demand = demandOf({
      "10.1.0.0/16": 1,
      "10.2.0.0/16": 1,
      "10.3.0.0/16": 900,
      "10.4.0.0/16": 900,
      "10.5.0.0/16": 7,
    });
    const sets = cut({ routes, places, demand }, { countMax: 3 });
    expect(prefixesOf(sets)).toEqual([["10.1.0.0/16", "10.2.0.0/16"], ["10.3.0.0/16"], ["10.4.0.0/16"]]);
    expect([...sets.demandPerSecond]).toEqual([2, 900, 900]);
    expect(sets.unroutedDemandPerSecond).toBe(7);
  });

  test("measurements overrule places: what decides alike is merged, what does not is kept", () => {
    const measured = measuredOf({
      "10.1.0.0/16": { fra: 10, ams: 20 },
      "10.2.0.0/16": { fra: 12, ams: 18 },
      "10.3.0.0/16": { iad: 10, chi: 90 },
      "10.4.0.0/16": { iad: 90, chi: 10 },
    });
    expect(prefixesOf(cut({ routes, places, measured }, { countMax: 3 }))).toEqual([
      ["10.1.0.0/16", "10.2.0.0/16"],
      ["10.3.0.0/16"],
      ["10.4.0.0/16"],
    ]);
  });

  test("a set of more prefixes than a map's network may have is cut, within the bound", () => {
    const scattered = Array.from({ length: 10_050 }, (_, n) =>
      route(`10.${n >> 7}.${(n & 127) * 2}.0/24`, 1, 7),
    );
    const sets = cut(
      { routes: [...scattered, route("11.0.0.0/16", 1, 8), route("12.0.0.0/16", 1, 9)] },
      { countMax: 3 },
    );
    expect(prefixesOf(sets).map((own) => own.length)).toEqual([10_000, 51, 1]);
  });

  test.each([
    { countMax: 0 },
    { spillRatio: 0.6 },
    { placeMs: 0 },
    { differenceMsMax: -1 },
    { demandPerSecond: -1 },
  ])("settings that make no sense are refused: %o", (settings) => {
    expect(() => cut({ routes }, settings)).toThrow(RangeError);
  });
});

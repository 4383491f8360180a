import { describe, expect, test } from "vitest";
import {
  cacheControl,
  deltaSeconds,
  governingDirectives,
  qualifiedFields,
} from "../../../edge/core/cache-control.ts";
import { ageValue, currentAgeMs, freshness, freshnessLifetime } from "../../../edge/core/freshness.ts";
import type { Fields } from "../../../edge/core/headers.ts";
import { formatHttpDate, parseHttpDate } from "../../../edge/core/http-date.ts";
import { at, ok, policy, stored, T0 } from "./support.ts";

const date = formatHttpDate(T0);
/** Modified so many seconds before T0. */
const modified = (seconds: number): Fields[number] => ["Last-Modified", formatHttpDate(at(-seconds))];

describe("HTTP-date (RFC 9110, 5.6.7)", () => {
  test.each([
    ["Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777_000],
    ["Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777_000],
    ["Sun Nov  6 08:49:37 1994", 784_111_777_000],
    ["Thu, 01 Jan 1970 00:00:00 GMT", 0],
    ["Thu, 29 Feb 2024 23:59:60 GMT", 1_709_251_200_000],
    ["Fri, 29 Feb 2023 00:00:00 GMT", undefined],
    ["Sun, 06 Nov 1994 24:00:00 GMT", undefined],
    ["Sun, 6 Nov 1994 08:49:37 GMT", undefined],
    ["Sun, 06 Nov 1994 08:49:37 UTC", undefined],
    ["sun, 06 nov 1994 08:49:37 gmt", undefined],
    ["0", undefined],
    ["", undefined],
  ])("%s", (text, expected) => expect(parseHttpDate(text, T0)).toBe(expected));

  test("a two-digit year more than 50 years ahead is of the century before", () => {
    expect(parseHttpDate("Thursday, 18-Aug-76 00:00:00 GMT", T0)).toBe(Date.UTC(2076, 7, 18));
    expect(parseHttpDate("Thursday, 18-Aug-77 00:00:00 GMT", T0)).toBe(Date.UTC(1977, 7, 18));
  });
});

describe("directives (RFC 9111, 5.2)", () => {
  test.each<[string, string, number | "invalid" | undefined]>([
    ["max-age=60", "max-age", 60],
    ['max-age="60"', "max-age", 60],
    ["MAX-AGE=60", "max-age", 60],
    ["max-age=060", "max-age", 60],
    ["max-age=99999999999", "max-age", 2_147_483_648],
    ["max-age=-1", "max-age", "invalid"],
    ["max-age=1.5", "max-age", "invalid"],
    ["max-age='60'", "max-age", "invalid"],
    ["max-age", "max-age", "invalid"],
    ["max-age=60, max-age=60", "max-age", 60],
    ["max-age=60, max-age=1", "max-age", "invalid"],
    ['x="max-age=60", s-maxage=1', "max-age", undefined],
    ["max-age =60", "max-age", undefined],
    ["max-age= 60", "max-age", "invalid"],
  ])("%s: %s", (line, name, expected) => {
    expect(deltaSeconds(cacheControl([["Cache-Control", line]]), name)).toBe(expected);
  });

  test("qualified no-cache lists fields; a damaged list counts as all", () => {
    const of = (line: string) => qualifiedFields(cacheControl([["Cache-Control", line]]), "no-cache");
    expect(of('no-cache="Set-Cookie, A"')).toEqual(["set-cookie", "a"]);
    expect(of("no-cache")).toBe("all");
    expect(of('no-cache="a b"')).toBe("all");
    expect(of("max-age=1")).toBeUndefined();
  });

  test("a valid targeted field replaces Cache-Control, an invalid or empty one is ignored (RFC 9213, 2)", () => {
    const source = (value: string) =>
      governingDirectives([
        ["Cache-Control", "max-age=1"],
        ["CDN-Cache-Control", value],
      ]).source;
    expect(source("max-age=60")).toBe("cdn-cache-control");
    expect(source("max-age=60;x=1, no-cache")).toBe("cdn-cache-control");
    expect(source("MAX-AGE=60")).toBe("cache-control");
    expect(source("max-age=60,,")).toBe("cache-control");
    expect(source("")).toBe("cache-control");
    const text = governingDirectives([["CDN-Cache-Control", 'max-age="60"']]).directives;
    expect(deltaSeconds(text, "max-age")).toBe("invalid");
  });
});

describe("lifetime (RFC 9111, 4.2.1)", () => {
  test.each<[string, Fields, number, string]>([
    ["s-maxage first", [["Cache-Control", "max-age=1, s-maxage=9"]], 9, "s-maxage"],
    [
      "max-age before Expires",
      [
        ["Cache-Control", "max-age=5"],
        ["Expires", "0"],
      ],
      5,
      "max-age",
    ],
    [
      "Expires minus Date",
      [
        ["Date", date],
        ["Expires", formatHttpDate(at(30))],
      ],
      30,
      "expires",
    ],
    [
      "Expires in the past",
      [
        ["Date", date],
        ["Expires", formatHttpDate(at(-30))],
      ],
      0,
      "expires",
    ],
    ["Expires malformed", [["Expires", "0"]], 0, "invalid"],
    [
      "Expires twice",
      [
        ["Expires", formatHttpDate(at(30))],
        ["Expires", formatHttpDate(at(60))],
      ],
      0,
      "invalid",
    ],
    ["nothing stated", [["Last-Modified", "yesterday"]], 0, "none"],
    [
      "targeted hides Expires",
      [
        ["CDN-Cache-Control", "public"],
        ["Expires", formatHttpDate(at(30))],
      ],
      0,
      "none",
    ],
  ])("%s", (_name, fields, seconds, source) => {
    expect(freshnessLifetime(ok(fields), policy(), T0)).toEqual({ seconds, source });
  });

  test.each<[string, number, Fields, number, string]>([
    ["a tenth of the time since the last modification", 200, [modified(1_000)], 100, "heuristic"],
    ["rounded down", 200, [modified(1_009)], 100, "heuristic"],
    ["at most what the property says", 200, [modified(10_000_000)], 86_400, "heuristic"],
    [
      "from Date on, not from arrival",
      200,
      [["Date", formatHttpDate(at(-500))], modified(1_500)],
      100,
      "heuristic",
    ],
    ["after Date", 200, [modified(-60)], 0, "none"],
    ["twice", 200, [modified(1_000), modified(1_000)], 0, "none"],
    ["a status that is cacheable by default", 404, [modified(1_000)], 100, "heuristic"],
    ["a status that is not", 403, [modified(1_000)], 0, "none"],
    [
      "one that the origin marks as public",
      403,
      [modified(1_000), ["Cache-Control", "public"]],
      100,
      "heuristic",
    ],
    ["one user's own, most likely", 200, [modified(1_000), ["Set-Cookie", "a=b"]], 0, "none"],
    ["no-cache", 200, [modified(1_000), ["Cache-Control", "no-cache"]], 0, "none"],
    ["an unreadable lifetime is one", 200, [modified(1_000), ["Expires", "0"]], 0, "invalid"],
  ])("heuristic (4.2.2): %s", (_name, status, fields, seconds, source) => {
    expect(freshnessLifetime(ok(fields, status), policy(), T0)).toEqual({ seconds, source });
    const off = freshnessLifetime(ok(fields, status), policy({ heuristicTtlSecondsMax: 0 }), T0);
    expect(off.seconds).toBe(0);
  });

  test("the property's default, negative and override lifetimes", () => {
    expect(freshnessLifetime(ok([]), policy({ defaultTtlSeconds: 7 }), T0)).toEqual({
      seconds: 7,
      source: "default",
    });
    expect(freshnessLifetime(ok([["Set-Cookie", "a=b"]]), policy({ defaultTtlSeconds: 7 }), T0).source).toBe(
      "none",
    );
    expect(freshnessLifetime(ok([], 302), policy({ defaultTtlSeconds: 7 }), T0).source).toBe("none");
    const errors = policy({ negativeTtlSeconds: 3, goneTtlSeconds: 9, serverErrorTtlSeconds: 0 });
    expect(
      [404, 410, 500, 503, 400].map((status) => freshnessLifetime(ok([], status), errors, T0).seconds),
    ).toEqual([3, 9, 0, 0, 0]);
    expect(freshnessLifetime(ok([], 404), policy({ negativeTtlSeconds: 3 }), T0)).toEqual({
      seconds: 3,
      source: "negative",
    });
    const stated: Fields = [["Cache-Control", "max-age=1"]];
    expect(freshnessLifetime(ok(stated), policy({ overrideTtlSeconds: 99 }), T0).seconds).toBe(99);
    expect(freshnessLifetime(ok(stated, 500), policy({ overrideTtlSeconds: 99 }), T0).seconds).toBe(1);
  });
});

describe("age (RFC 9111, 4.2.3 and 5.1)", () => {
  test.each<[readonly string[], number | "invalid"]>([
    [[], 0],
    [["5"], 5],
    [["0,7200"], 0],
    [["7200,0"], 7200],
    [["0, 0"], "invalid"],
    [["0", "5"], "invalid"],
    [["-5"], "invalid"],
    [["5.0"], "invalid"],
    [["5;a=b"], "invalid"],
    [["abc"], "invalid"],
    [["999999999999999"], 2_147_483_648],
  ])("%j", (lines, expected) => {
    expect(ageValue(ok(lines.map((line) => ["Age", line] as const)))).toBe(expected);
  });

  test("the largest of apparent age and corrected age, plus the time in the store", () => {
    const response = {
      ...ok([
        ["Date", date],
        ["Age", "10"],
      ]),
      requestTime: at(3),
      responseTime: at(5),
    };
    expect(currentAgeMs(response, response, at(25))).toBe((10 + 2 + 20) * 1_000);
    const old = { ...response, fields: [["Date", formatHttpDate(at(-100))]] as Fields };
    expect(currentAgeMs(old, old, at(5))).toBe(105_000);
  });

  test("an unreadable Age makes a response stale; a wall clock that steps back does not make it younger than it was", () => {
    expect(
      freshness(
        stored([
          ["Cache-Control", "max-age=60"],
          ["Age", "x"],
        ]),
        policy(),
        at(0),
      ).isFresh,
    ).toBe(false);
    expect(
      freshness(
        stored([
          ["Cache-Control", "max-age=60"],
          ["Age", "9"],
        ]),
        policy(),
        at(-500),
      ).ageSeconds,
    ).toBe(9);
  });

  test("fresh until the lifetime equals the age, not beyond (4.2)", () => {
    const response = stored([
      ["Cache-Control", "max-age=60"],
      ["Date", date],
    ]);
    expect(freshness(response, policy(), at(59.999)).isFresh).toBe(true);
    expect(freshness(response, policy(), at(60)).isFresh).toBe(false);
    expect(freshness(response, policy(), at(75)).ttlSeconds).toBe(-15);
  });
});

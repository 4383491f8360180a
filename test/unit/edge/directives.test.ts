/** Who speaks for a response: Cache-Control, the fields that are for this cache, and what requests may ask. */
import { describe, expect, test } from "vitest";
import { deltaSeconds, governingDirectives } from "../../../edge/core/cache-control.ts";
import { decideRequest } from "../../../edge/core/decide.ts";
import { freshness, freshnessLifetime } from "../../../edge/core/freshness.ts";
import type { Fields } from "../../../edge/core/headers.ts";
import { staleWindows } from "../../../edge/core/stale.ts";
import { storable } from "../../../edge/core/storable.ts";
import { nominatedFields, NOMINATED_FIELDS_MAX } from "../../../edge/core/vary.ts";
import { at, get, ok, policy, stored, T0 } from "./support.ts";

const INVALID = "invalid" as const;

describe.each(["CDN-Cache-Control", "Isochrone-Cache-Control"])("targeted fields (RFC 9213): %s", (field) => {
  const of = (...values: readonly string[]): Fields => [
    ...values.map((value) => [field, value] as const),
    ["Cache-Control", "no-store, max-age=7"],
  ];

  test.each<[string, string, number | "invalid" | undefined]>([
    ["an integer", "max-age=60", 60],
    ["leading zeros", "max-age=060", 60],
    ["blanks around members", "  max-age=60 ,\tpublic  ", 60],
    ["parameters", 'max-age=60;a;b=1;c="x;y"; d=?0', 60],
    [
      "every type of value in members that say nothing here",
      'a=1.5, b=t/x, c="q\\"", d=?0, e=:AA==:, f=@1, g=%"%c3%bc", h=(1 "a";b c), max-age=60',
      60,
    ],
    ["the last of equal keys", "max-age=1, max-age=60", 60],
    ["a string is no integer", 'max-age="60"', INVALID],
    ["a decimal is no integer", "max-age=60.0", INVALID],
    ["negative", "max-age=-1", INVALID],
    ["a list is no integer", "max-age=(60)", INVALID],
    ["no value", "max-age", INVALID],
    ["none", "public", undefined],
  ])("2.1: %s", (_name, value, expected) => {
    const { source, directives } = governingDirectives(of(value));
    expect(source).toBe(field.toLowerCase());
    expect(deltaSeconds(directives, "max-age")).toBe(expected);
  });

  test.each([
    ["empty", ""],
    ["a trailing comma", "max-age=60,"],
    ["an empty member", "max-age=60,,public"],
    ["upper case in a key", "Max-Age=60"],
    ["a blank before the value", "max-age= 60"],
    ["a blank behind the key", "max-age =60"],
    ["no key", "=60"],
    ["an open string", 'a="b, max-age=60'],
    ["an open list", "a=(1 2, max-age=60"],
    ["16 digits", "max-age=1234567890123456"],
    ["an unknown type", "max-age=60, a=&"],
    ["a single quote", "max-age='60'"],
    ["nothing but a false member", "no-store=?0"],
  ])("2.1: what is no dictionary is ignored whole, and Cache-Control counts: %s", (_name, value) => {
    expect(governingDirectives(of(value)).source).toBe("cache-control");
    expect(storable(get(), ok(of(value)), policy(), T0)).toEqual({ isStorable: false, reason: "no-store" });
  });

  test("2.1: several lines are one dictionary", () => {
    const { directives } = governingDirectives(of("max-age=1", "max-age=60, no-cache"));
    expect(deltaSeconds(directives, "max-age")).toBe(60);
    expect(directives.has("no-cache")).toBe(true);
  });

  test("2.2: Cache-Control and Expires say nothing beside it", () => {
    const fields: Fields = [...of("public"), ["Expires", "Thu, 01 Jan 2099 00:00:00 GMT"]];
    expect(storable(get(), ok(fields), policy(), T0)).toEqual({ isStorable: false, reason: "no-freshness" });
    expect(freshnessLifetime(ok(fields), policy(), T0).source).toBe("none");
  });
});

test("our own field comes before every CDN's, both before Surrogate-Control (RFC 9213, 2.2)", () => {
  const fields: Fields = [
    ["Surrogate-Control", "max-age=3"],
    ["CDN-Cache-Control", "max-age=2"],
    ["Isochrone-Cache-Control", "max-age=1"],
  ];
  const source = (list: Fields) => governingDirectives(list).source;
  expect(source(fields)).toBe("isochrone-cache-control");
  expect(source(fields.slice(0, 2))).toBe("cdn-cache-control");
  expect(source(fields.slice(0, 1))).toBe("surrogate-control");
  expect(source([["Isochrone-Cache-Control", "&"], ...fields.slice(0, 2)])).toBe("cdn-cache-control");
});

test.each<[string, number | "invalid" | undefined, number]>([
  ["max-age=60", 60, 0],
  ["max-age=60+30", 60, 30],
  ["max-age=60+", INVALID, 0],
  ["max-age=60;isochrone", 60, 0],
  ["max-age=60;other, max-age=5", 5, 0],
  ['content="ESI/1.0", max-age=60', 60, 0],
])("Surrogate-Control (W3C Edge Architecture 1.0): %s", (value, maxAge, staleSeconds) => {
  const fields: Fields = [["Surrogate-Control", value]];
  const { directives } = governingDirectives(fields);
  expect(deltaSeconds(directives, "max-age")).toBe(maxAge);
  const head = stored(fields);
  expect(staleWindows(head, policy(), freshness(head, policy(), T0)).whileRevalidateSeconds).toBe(
    staleSeconds,
  );
});

describe("stale windows (RFC 5861)", () => {
  const property = { staleWhileRevalidateSeconds: 5, staleIfErrorSeconds: 50 };
  test.each<[string, string, number, number]>([
    ["the property's, where the answer states none", "max-age=1", 5, 50],
    ["the answer's own", "max-age=1, stale-while-revalidate=2, stale-if-error=3", 2, 3],
    ["none, where it says so", "max-age=1, stale-while-revalidate=0, stale-if-error=0", 0, 0],
    [
      "what cannot be read allows nothing",
      "max-age=1, stale-while-revalidate=a, stale-if-error=1, stale-if-error=2",
      0,
      0,
    ],
    ["must-revalidate (RFC 9111, 5.2.2.2)", "max-age=1, must-revalidate, stale-if-error=9", 0, 0],
    ["proxy-revalidate (5.2.2.8)", "max-age=1, proxy-revalidate, stale-while-revalidate=9", 0, 0],
    ["no-cache (5.2.2.4)", "max-age=1, no-cache, stale-if-error=9", 0, 0],
    ["s-maxage leaves the answer's own (5.2.2.10)", "s-maxage=1, stale-if-error=9", 0, 9],
    ["an answer that states no lifetime", "public", 0, 0],
    ["one whose lifetime cannot be read", "max-age=x", 0, 0],
  ])("%s", (_name, value, whileRevalidateSeconds, ifErrorSeconds) => {
    const head = stored([["Cache-Control", value]]);
    const of = policy(property);
    expect(staleWindows(head, of, freshness(head, of, T0))).toEqual({
      whileRevalidateSeconds,
      ifErrorSeconds,
    });
  });
});

describe("what a request may ask for (RFC 9111, 5.2.1; RFC 8246)", () => {
  const immutable: Fields = [["Cache-Control", "max-age=60, immutable"]];
  const action = (asked: string, seconds: number, isHeard: boolean, fields = immutable): string =>
    decideRequest({
      request: get([["Cache-Control", asked]]),
      policy: policy({ honourRequestDirectives: isHeard }),
      variants: fields.length === 0 ? [] : [stored(fields)],
      purgeStateOf: () => "none",
      now: at(seconds),
    }).action;

  test.each<[string, string, number, string, string]>([
    [
      "no-cache is a signal that validation is wanted, also of what is immutable",
      "no-cache",
      1,
      "validate",
      "hit",
    ],
    ["what is immutable is no longer so when it is stale", "max-age=99", 60, "validate", "validate"],
    ["nothing asked", "x", 59, "hit", "hit"],
    ["max-age (5.2.1.1)", "max-age=0", 1, "validate", "hit"],
    ["a malformed max-age asks for nothing", "max-age=a", 1, "hit", "hit"],
    ["max-stale without a bound (5.2.1.2)", "max-stale", 1_000, "hit", "validate"],
    ["max-stale with one", "max-stale=9", 70, "validate", "validate"],
    ["min-fresh (5.2.1.3)", "min-fresh=60", 1, "validate", "hit"],
    ["only-if-cached, fresh (5.2.1.7)", "only-if-cached", 1, "hit", "hit"],
    ["only-if-cached, stale", "only-if-cached", 99, "refuse", "validate"],
    ["only-if-cached and no-cache", "only-if-cached, no-cache", 1, "refuse", "hit"],
  ])("%s", (_name, asked, seconds, heard, unheard) => {
    expect([action(asked, seconds, true), action(asked, seconds, false)]).toEqual([heard, unheard]);
  });

  test("of what is not stored: no-store passes (5.2.1.5), only-if-cached is refused", () => {
    expect([action("no-store", 0, true, []), action("no-store", 0, false, [])]).toEqual(["pass", "fetch"]);
    expect([action("only-if-cached", 0, true, []), action("only-if-cached", 0, false, [])]).toEqual([
      "refuse",
      "fetch",
    ]);
  });
});

test.each<[string, string, boolean]>([
  ["max-age alone", "max-age=9", false],
  ["public", "max-age=9, public", true],
  ["must-revalidate", "max-age=9, must-revalidate", true],
  ["s-maxage", "s-maxage=9", true],
  ["proxy-revalidate says nothing of it", "max-age=9, proxy-revalidate", false],
  ["private beside public", "max-age=9, public, private", false],
])("an answer to a request with credentials (RFC 9111, 3.5): %s", (_name, value, isStorable) => {
  const request = get([["Authorization", "Basic x"]]);
  expect(storable(request, ok([["Cache-Control", value]]), policy(), T0).isStorable).toBe(isStorable);
});

test.each<[string, readonly string[], "any" | readonly string[]]>([
  ["without case, sorted, once", ["B, a", "A"], ["a", "b"]],
  [
    "as many as may be",
    [Array.from({ length: NOMINATED_FIELDS_MAX }, (_, n) => `x${n + 10}`).join()],
    Array.from({ length: NOMINATED_FIELDS_MAX }, (_, n) => `x${n + 10}`),
  ],
  ["one more", [Array.from({ length: NOMINATED_FIELDS_MAX + 1 }, (_, n) => `x${n}`).join()], "any"],
  ["a star in any line", ["A", "b,*"], "any"],
  ["what is no field name", ["a b"], "any"],
  ["what the origin does not see as it came", ["X-Forwarded-For"], "any"],
  ["empty members", [",, ,"], []],
])("hostile Vary (RFC 9110, 12.5.5): %s", (_name, lines, expected) => {
  expect(nominatedFields(lines.map((line) => ["Vary", line] as const))).toEqual(expected);
});

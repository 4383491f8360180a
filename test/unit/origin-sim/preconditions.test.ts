/** RFC 9110 sections 13 (conditional requests) and 14 (ranges), as the origin answers them. */
import { describe, expect, test } from "vitest";
import { epochMs } from "#kit";
import { evaluate, httpDate } from "../../../origin-sim/core/preconditions.ts";

const modified = epochMs(Date.UTC(2026, 1, 28, 23, 59, 59));
const validators = { etag: '"abc"', lastModified: modified };
const same = "Sat, 28 Feb 2026 23:59:59 GMT";
const earlier = "Sat, 28 Feb 2026 23:59:58 GMT";
const later = "Sun, 01 Mar 2026 00:00:00 GMT";

test("dates are written as IMF-fixdate (section 5.6.7), like the engine's own", () => {
  for (const time of [
    0,
    951_782_400_000,
    modified,
    1_709_164_800_000,
    4_102_444_799_000,
    253_402_300_799_000,
  ]) {
    expect(httpDate(epochMs(time))).toBe(new Date(time).toUTCString());
  }
});

const cases: readonly (readonly [string, Record<string, string>, string])[] = [
  ["no condition", {}, "whole"],
  ["the same tag", { "if-none-match": '"abc"' }, "not-modified"],
  ["a weak tag of the same value (weak comparison)", { "if-none-match": 'W/"abc"' }, "not-modified"],
  ["one of several tags", { "if-none-match": '"x", "abc"' }, "not-modified"],
  ["any tag", { "if-none-match": "*" }, "not-modified"],
  ["another tag", { "if-none-match": '"x"' }, "whole"],
  [
    "another tag and the same date: the tag decides",
    { "if-none-match": '"x"', "if-modified-since": same },
    "whole",
  ],
  ["the same date", { "if-modified-since": same }, "not-modified"],
  ["a later date", { "if-modified-since": later }, "not-modified"],
  ["an earlier date", { "if-modified-since": earlier }, "whole"],
  ["a date that is none", { "if-modified-since": "yesterday" }, "whole"],
  ["If-Match with another tag", { "if-match": '"x"' }, "precondition-failed"],
  ["If-Match with a weak tag (strong comparison)", { "if-match": 'W/"abc"' }, "precondition-failed"],
  ["If-Match with the tag", { "if-match": '"abc"' }, "whole"],
  ["unmodified since before", { "if-unmodified-since": earlier }, "precondition-failed"],
  ["unmodified since then", { "if-unmodified-since": same }, "whole"],
  ["a range", { range: "bytes=10-19" }, "part 10-19"],
  ["an open range", { range: "bytes=90-" }, "part 90-99"],
  ["a range beyond the end is cut", { range: "bytes=90-200" }, "part 90-99"],
  ["the last bytes", { range: "bytes=-5" }, "part 95-99"],
  ["more last bytes than there are", { range: "bytes=-500" }, "part 0-99"],
  ["no last bytes", { range: "bytes=-0" }, "unsatisfiable"],
  ["a range after the end", { range: "bytes=100-" }, "unsatisfiable"],
  ["a range turned round is malformed", { range: "bytes=5-4" }, "whole"],
  ["several ranges", { range: "bytes=0-1,3-4" }, "whole"],
  ["another unit", { range: "lines=0-1" }, "whole"],
  ["If-Range with the tag", { range: "bytes=0-0", "if-range": '"abc"' }, "part 0-0"],
  ["If-Range with a weak tag", { range: "bytes=0-0", "if-range": 'W/"abc"' }, "whole"],
  ["If-Range with the date", { range: "bytes=0-0", "if-range": same }, "part 0-0"],
  ["If-Range with another date", { range: "bytes=0-0", "if-range": later }, "whole"],
  ["not modified goes before the range", { range: "bytes=0-0", "if-none-match": '"abc"' }, "not-modified"],
];

describe("GET", () => {
  test.each(cases)("%s", (_what, fields, expected) => {
    const verdict = evaluate((name) => fields[name], true, validators, 100);
    expect(verdict.kind === "part" ? `part ${verdict.first}-${verdict.last}` : verdict.kind).toBe(expected);
  });

  test("a range of nothing cannot be satisfied", () => {
    expect(evaluate((name) => ({ range: "bytes=-5" })[name], true, validators, 0).kind).toBe("unsatisfiable");
  });
});

test("HEAD has no ranges", () => {
  expect(evaluate((name) => ({ range: "bytes=0-0" })[name], false, validators, 100).kind).toBe("whole");
});

test("without validators nothing matches but any", () => {
  const none = { etag: null, lastModified: null };
  expect(evaluate((name) => ({ "if-none-match": '"abc"' })[name], true, none, 1).kind).toBe("whole");
  expect(evaluate((name) => ({ "if-match": '"abc"' })[name], true, none, 1).kind).toBe("precondition-failed");
});

/** What a part says of the whole, and which answers may be put together (RFC 9110, 14 and 15.3.7; RFC 9111, 3.3 and 3.4). */
import { describe, expect, test } from "vitest";
import { decideResponse } from "../../../edge/core/decide.ts";
import type { Field, Fields } from "../../../edge/core/headers.ts";
import { formatHttpDate } from "../../../edge/core/http-date.ts";
import type { ResponseHead, StoredHead } from "../../../edge/core/messages.ts";
import {
  judgeSlice,
  openingRange,
  readAhead,
  requestKeyOf,
  type SlicedHead,
  type SliceOpening,
  sliceBytesFor,
  sliceKey,
  sliceSetKey,
  strongValidator,
} from "../../../edge/core/slices.ts";
import type { CacheKey } from "#edge";
import { at, get, policy, stored, T0 } from "./support.ts";

const ETAG: Field = ["ETag", '"a"'];
const FRESH: Field = ["Cache-Control", "max-age=60"];
const at2: SliceOpening = { kind: "at", index: 2, sliceBytes: 100 };
const last: SliceOpening = { kind: "last", sliceBytes: 100 };
const range = (value: string): Field => ["Content-Range", value];

function decide(
  opening: SliceOpening | undefined,
  response: ResponseHead,
  contentLength: number | undefined,
  isOwner = true,
): string {
  const decision = decideResponse<StoredHead>({
    request: get(),
    policy: policy(),
    stored: undefined,
    outcome: { kind: "response", response },
    times: { requestTime: T0, responseTime: T0 },
    generation: 0,
    isPurgedMeanwhile: () => false,
    contentLength,
    objectBytesMax: 10_000,
    opening,
    sliceBytes: 100,
    isOwner,
    now: T0,
  });
  switch (decision.action) {
    case "store-slices":
      return `slices ${decision.span.first}-${decision.span.last} of ${decision.head.sliced.totalBytes} by ${decision.head.sliced.validator}`;
    case "store":
      return `store ${decision.head.status}${decision.head.fields.some(([name]) => name === "Content-Range") ? " part" : ""}`;
    case "pass":
    case "unsliceable":
      return `${decision.action} ${decision.reason}`;
    case "fail":
    case "freshen":
    case "refetch":
    case "serve-stale":
      return decision.action;
    default:
      return decision satisfies never;
  }
}

const part = (value: string, ...fields: Fields): ResponseHead => ({
  status: 206,
  fields: [FRESH, range(value), ...fields],
});

describe("a part that was asked for", () => {
  test.each<[string, SliceOpening, ResponseHead, number | undefined, string]>([
    ["the very slice", at2, part("bytes 200-299/1000", ETAG), 100, 'slices 200-299 of 1000 by "a"'],
    ["chunked", at2, part("bytes 200-299/1000", ETAG), undefined, 'slices 200-299 of 1000 by "a"'],
    ["the short last slice", at2, part("bytes 200-249/250", ETAG), 50, 'slices 200-249 of 250 by "a"'],
    ["the end", last, part("bytes 850-949/950", ETAG), 100, 'slices 850-949 of 950 by "a"'],
    ["all there is, without a validator", last, part("bytes 0-49/50"), 50, "store 200"],
    ["a weak tag", at2, part("bytes 200-299/1000", ["ETag", 'W/"a"']), 100, "unsliceable no-validator"],
    ["no validator", at2, part("bytes 200-299/1000"), 100, "unsliceable no-validator"],
    ["no known length", at2, part("bytes 200-299/*", ETAG), 100, "unsliceable unknown-length"],
    ["no Content-Range", at2, { status: 206, fields: [FRESH, ETAG] }, 100, "unsliceable unknown-length"],
    ["another range", at2, part("bytes 201-299/1000", ETAG), 99, "unsliceable other-range"],
    ["less of it", at2, part("bytes 200-298/1000", ETAG), 99, "unsliceable other-range"],
    ["a length that contradicts it", at2, part("bytes 200-299/1000", ETAG), 99, "unsliceable other-range"],
    ["a range beyond the end", at2, part("bytes 200-299/250", ETAG), 100, "unsliceable unknown-length"],
    [
      "not to be stored",
      at2,
      part("bytes 200-299/1000", ETAG, ["Cache-Control", "no-store"]),
      100,
      "unsliceable no-store",
    ],
    ["the whole instead", at2, { status: 200, fields: [FRESH, ETAG] }, 1_000, "store 200"],
    ["a larger whole than is kept", at2, { status: 200, fields: [FRESH, ETAG] }, 10_001, "pass too-large"],
    ["an error", at2, { status: 404, fields: [FRESH] }, 9, "store 404"],
    ["nothing there", at2, { status: 416, fields: [FRESH, range("bytes */150")] }, 0, "pass partial"],
  ])("%s", (_name, opening, response, contentLength, expected) => {
    expect(decide(opening, response, contentLength)).toBe(expected);
  });

  test("is nobody's to keep but the owner's", () => {
    expect(decide(at2, part("bytes 200-299/1000", ETAG), 100, false)).toBe("unsliceable not-owner");
  });

  test("that nobody asked for is not stored (RFC 9111, 3.3)", () => {
    expect(decide(undefined, part("bytes 200-299/1000", ETAG), 100)).toBe("pass partial");
  });
});

test.each<[string, Fields, number | undefined, string]>([
  ["longer than a slice", [FRESH, ETAG], 101, 'slices 0-100 of 101 by "a"'],
  ["of one slice", [FRESH, ETAG], 100, "store 200"],
  ["of unknown length", [FRESH, ETAG], undefined, "store 200"],
  ["with a weak tag", [FRESH, ["ETag", 'W/"a"']], 101, "store 200"],
  ["that denies ranges (RFC 9110, 14.3)", [FRESH, ETAG, ["Accept-Ranges", "none"]], 101, "store 200"],
  ["larger than is kept whole", [FRESH, ETAG], 10_001, 'slices 0-10000 of 10001 by "a"'],
])("a whole %s", (_name, fields, contentLength, expected) => {
  expect(decide(undefined, { status: 200, fields }, contentLength)).toBe(expected);
});

test.each<[string, Fields, string | undefined]>([
  ["a strong tag", [ETAG], '"a"'],
  ["a weak tag", [["ETag", 'W/"a"']], undefined],
  ["no tag in quotes", [["ETag", "a"]], undefined],
  ["two tags", [ETAG, ["ETag", '"b"']], undefined],
  ["an old date", [["Last-Modified", formatHttpDate(at(-60))]], formatHttpDate(at(-60))],
  ["a date too near (8.8.2.2)", [["Last-Modified", formatHttpDate(at(-59))]], undefined],
  [
    "an old date beside a weak tag",
    [
      ["Last-Modified", formatHttpDate(at(-60))],
      ["ETag", 'W/"a"'],
    ],
    undefined,
  ],
  ["no date", [["Last-Modified", "yesterday"]], undefined],
])("strong validators (RFC 9110, 8.8): %s", (_name, fields, expected) => {
  const response = { status: 200, fields: [["Date", formatHttpDate(T0)] as Field, ...fields] };
  expect(strongValidator(response, T0)).toBe(expected);
});

test.each<[string, ResponseHead, number | undefined, string]>([
  ["the slice", part("bytes 100-199/250", ETAG), 100, "ok"],
  ["the slice, chunked", part("bytes 100-199/250", ETAG), undefined, "ok"],
  ["another tag", part("bytes 100-199/250", ["ETag", '"b"']), 100, "changed"],
  ["the tag, weak now", part("bytes 100-199/250", ["ETag", 'W/"a"']), 100, "changed"],
  ["no tag", part("bytes 100-199/250"), 100, "changed"],
  ["another length", part("bytes 100-199/251", ETAG), 100, "changed"],
  ["another part", part("bytes 100-198/250", ETAG), 99, "failed"],
  ["the whole", { status: 200, fields: [ETAG] }, 250, "rangeless"],
  ["another whole", { status: 200, fields: [["ETag", '"b"']] }, 250, "changed"],
  ["gone", { status: 404, fields: [] }, 0, "changed"],
  ["shorter now", { status: 416, fields: [range("bytes */50")] }, 0, "changed"],
  ["refused", { status: 403, fields: [] }, 0, "failed"],
  ["failing", { status: 503, fields: [] }, 0, "failed"],
])("an answer for one slice (RFC 9110, 15.3.7.3): %s", (_name, response, contentLength, expected) => {
  const sliced = { totalBytes: 250, sliceBytes: 100, validator: '"a"' };
  expect(judgeSlice(sliced, 1, response, contentLength)).toBe(expected);
});

test("keys: one set for a version and a variant, each slice by itself, all belong to the request's key", () => {
  const key = "http://a.example/x" as CacheKey;
  const sliced = { totalBytes: 250, sliceBytes: 100, validator: '"a"' };
  const head = (more: Partial<StoredHead> = {}): SlicedHead => ({ ...stored([]), ...more, sliced });
  const setKey = sliceSetKey(key, head());
  const others = [
    sliceSetKey(key, { ...head(), sliced: { ...sliced, validator: '"b"' } }),
    sliceSetKey(key, { ...head(), sliced: { ...sliced, totalBytes: 251 } }),
    sliceSetKey(key, { ...head(), sliced: { ...sliced, sliceBytes: 50 } }),
    sliceSetKey(key, { ...head({ nominatedFields: ["a"], nominatedValues: ["1"] }), sliced }),
    sliceSetKey(key, { ...head({ nominatedFields: ["a"], nominatedValues: ["2"] }), sliced }),
    sliceSetKey("http://a.example/y" as CacheKey, head()),
  ];
  expect(new Set([setKey, ...others]).size).toBe(7);
  // Freshening changes the head's fields and times, not its slices.
  expect(sliceSetKey(key, { ...head({ responseTime: at(9), fields: [FRESH] }), sliced })).toBe(setKey);
  expect(sliceKey(setKey, 1)).not.toBe(sliceKey(setKey, 11));
  expect(requestKeyOf(sliceKey(setKey, 1))).toBe(key);
  expect(requestKeyOf(key)).toBe(key);
});

test("slices ahead: all that a stated end asks for, else no more than were read", () => {
  const sliced = { totalBytes: 1_000, sliceBytes: 100, validator: '"a"' };
  expect(readAhead(sliced, 2, { first: 250, last: 720 }, true, 0, 3)).toEqual([3, 4, 5]);
  expect(readAhead(sliced, 6, { first: 250, last: 720 }, true, 4, 3)).toEqual([7]);
  expect(readAhead(sliced, 7, { first: 250, last: 720 }, true, 5, 3)).toEqual([]);
  expect(readAhead(sliced, 0, { first: 0, last: 999 }, false, 0, 3)).toEqual([]);
  expect(readAhead(sliced, 1, { first: 0, last: 999 }, false, 1, 3)).toEqual([2]);
  expect(readAhead(sliced, 5, { first: 0, last: 999 }, false, 5, 3)).toEqual([6, 7, 8]);
});

test("a store that keeps no object as long as a slice gets shorter ones", () => {
  expect(sliceBytesFor(2 ** 20, 2 ** 25)).toBe(2 ** 20);
  expect(sliceBytesFor(2 ** 20, 2 ** 20 - 1)).toBe(2 ** 19);
  expect(sliceBytesFor(2 ** 20, 1)).toBe(4_096);
  expect(openingRange(at2)).toBe("bytes=200-299");
  expect(openingRange(last)).toBe("bytes=-100");
});

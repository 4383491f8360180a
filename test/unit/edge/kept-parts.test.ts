/** Parts that are kept as they are: what is one, whom it answers, what is asked for it (RFC 9111, 3.3 and 3.4). */
import { describe, expect, test } from "vitest";
import {
  decideRequest,
  decideResponse,
  type RequestContext,
  type ResponseContext,
} from "../../../edge/core/decide.ts";
import type { Field, Fields } from "../../../edge/core/headers.ts";
import type { PartialContent, StoredHead } from "../../../edge/core/messages.ts";
import { answersFromPart, judgePart, outranksPart } from "../../../edge/core/parts.ts";
import { at, get, policy, stored, T0 } from "./support.ts";

const FRESH: Field = ["Cache-Control", "max-age=60"];
const range = (value: string): Field => ["Range", `bytes=${value}`];
const PART: PartialContent = { first: 40, last: 79, totalBytes: 100 };
const kept = (fields: Fields = [FRESH], part = PART) => ({ ...stored(fields), part });

describe("where a part lies", () => {
  const of = (value: string, length: number | undefined, ...more: Fields) => {
    const part = judgePart({ status: 206, fields: [["Content-Range", value], ...more] }, length);
    return part === undefined ? "unknown" : `${part.first}-${part.last}/${part.totalBytes}`;
  };
  test.each<[string, string, number | undefined, string]>([
    ["as it says", "bytes 40-79/100", 40, "40-79/100"],
    ["it says that it reaches the end, and is shorter: there it ends", "bytes 4-9/10", 5, "4-8/9"],
    ["and longer", "bytes 4-9/10", 8, "4-11/12"],
    ["another one holds what cannot be known", "bytes 4-9/100", 5, "unknown"],
    ["no length of the whole", "bytes 4-9/*", 6, "unknown"],
    ["no length of the part", "bytes 4-9/10", undefined, "unknown"],
    ["nothing in it", "bytes 4-9/10", 0, "unknown"],
    ["ends before it begins", "bytes 9-4/10", 5, "unknown"],
    ["beyond the whole", "bytes 4-10/10", 7, "unknown"],
    ["another unit", "lines 4-9/10", 6, "unknown"],
    ["two", "bytes 4-9/10, bytes 4-9/10", 6, "unknown"],
  ])("%s: %s of %s bytes", (_name, value, length, expected) => {
    expect(of(value, length)).toBe(expected);
  });
  test("several parts are not one", () => {
    expect(of("bytes 4-9/10", 6, ["Content-Type", "multipart/byteranges; boundary=a"])).toBe("unknown");
  });
});

describe("a part answers a GET for ranges that lie wholly within it (RFC 9111, 3.3)", () => {
  test.each<[string, Fields, boolean]>([
    ["within", [range("50-59")], true],
    ["all of it", [range("40-79")], true],
    ["several", [range("50-59,40-41")], true],
    ["one byte more at its beginning", [range("39-50")], false],
    ["one byte more at its end", [range("50-80")], false],
    ["one of several is not", [range("50-59,90-91")], false],
    ["to the end of the whole", [range("50-")], false],
    ["from the end of the whole", [range("-5")], false],
    ["beyond the whole", [range("100-")], false],
    ["malformed", [range("60-50")], false],
    ["of another unit", [["Range", "lines=50-59"]], false],
    ["none", [], false],
    ["If-Range of another version", [range("50-59"), ["If-Range", '"b"']], false],
    ["If-Range of this version", [range("50-59"), ["If-Range", '"a"']], true],
    ["If-Range with a weak tag (RFC 9110, 13.1.5)", [range("50-59"), ["If-Range", 'W/"a"']], false],
    ["If-None-Match: 304 within", [range("50-59"), ["If-None-Match", '"a"']], true],
    ["If-None-Match outside", [range("80-89"), ["If-None-Match", '"a"']], false],
  ])("%s", (_name, fields, expected) => {
    const part = kept([FRESH, ["ETag", '"a"']]);
    expect(answersFromPart(get(fields), part, T0)).toBe(expected);
    expect(answersFromPart(get(fields, { method: "HEAD" }), part, T0)).toBe(false);
  });
  test("one that ends the whole answers what counts from the end", () => {
    const end = kept([FRESH], { first: 40, last: 99, totalBytes: 100 });
    for (const value of ["-60", "99-", "90-200", "-1"])
      expect(answersFromPart(get([range(value)]), end, T0)).toBe(true);
    expect(answersFromPart(get([range("-61")]), end, T0)).toBe(false);
  });
});

describe("a request", () => {
  const decide = (fields: Fields, more: Partial<RequestContext<StoredHead>> = {}) =>
    decideRequest<StoredHead>({
      request: get(fields),
      policy: policy({ honourRequestDirectives: true }),
      variants: [kept()],
      purgeStateOf: () => "none",
      partBytesMax: 20,
      now: T0,
      ...more,
    });
  test("within the part is a hit, else it is as if nothing was kept", () => {
    expect(decide([range("50-59")])).toMatchObject({ action: "hit" });
    expect(decide([range("80-89")])).toEqual({
      action: "fetch",
      reason: "uri-miss",
      opening: { kind: "asked", range: { kind: "from", first: 80, last: 89 } },
    });
    expect(decide([range("80-89")], { sliceBytes: 50 })).toMatchObject({
      opening: { kind: "at", index: 1, sliceBytes: 50 },
    });
    expect(decide([])).toEqual({ action: "fetch", reason: "uri-miss", opening: undefined });
    expect(decide([range("50-59")], { request: get([range("50-59")], { method: "HEAD" }) })).toMatchObject({
      action: "fetch",
    });
    const onlyCached: Field = ["Cache-Control", "only-if-cached"];
    expect(decide([range("80-89"), onlyCached])).toMatchObject({ action: "refuse" });
    expect(decide([range("50-59"), onlyCached])).toMatchObject({ action: "hit" });
  });
  test("of another variant, purged hard, softly, invalidated, stale", () => {
    const part = { ...stored([FRESH, ["Vary", "A"]], {}, [["A", "1"]]), part: PART };
    expect(decide([range("50-59"), ["A", "1"]], { variants: [part] })).toMatchObject({ action: "hit" });
    expect(decide([range("50-59"), ["A", "2"]], { variants: [part] })).toMatchObject({
      action: "fetch",
      reason: "vary-miss",
    });
    expect(decide([range("50-59")], { purgeStateOf: () => "hard" })).toMatchObject({ action: "fetch" });
    // What is asked for again is the very part.
    const opening = { kind: "kept", span: PART };
    expect(decide([range("50-59")], { purgeStateOf: () => "soft" })).toMatchObject({
      action: "validate",
      detail: "purged",
      opening,
    });
    expect(decide([range("50-59")], { variants: [{ ...kept(), isInvalidated: true }] })).toMatchObject({
      action: "validate",
      opening,
    });
    expect(decide([range("50-59")], { now: at(61), sliceBytes: 50 })).toMatchObject({
      action: "validate",
      detail: "expired",
      opening,
    });
    expect(decide([range("80-89")], { now: at(61) })).toMatchObject({ action: "fetch" });
  });
  test("what is asked for is kept of a single, short range without conditions, at the key's owner", () => {
    for (const fields of [
      [range("80-89,90-99")],
      [range("80-89"), ["If-Range", '"a"']],
      [range("80-89"), ["If-None-Match", '"a"']],
    ] as Fields[])
      expect(decide(fields)).toEqual({ action: "pass", reason: "partial", detail: "range" });
    for (const [value, partBytesMax] of [
      ["80-89", undefined],
      ["80-89", 9],
      ["-10", 9],
      ["80-", 20],
    ] as const)
      expect(decide([range(value)], { partBytesMax })).toMatchObject({ action: "pass" });
    expect(decide([range("-10")])).toMatchObject({ opening: { range: { kind: "suffix", length: 10 } } });
    expect(decide([range("0-")])).toMatchObject({ action: "fetch", opening: undefined });
  });
});

describe("a 206", () => {
  const opened = { kind: "at", index: 0, sliceBytes: 100 } as const;
  const asked = { kind: "asked", range: { kind: "from", first: 40, last: 79 } } as const;
  const says = (
    contentRange: string,
    contentLength: number | undefined,
    more: Partial<ResponseContext<StoredHead>> = {},
    fields: Fields = [FRESH],
  ): string => {
    const decision = decideResponse<StoredHead>({
      request: get([range("40-79")]),
      policy: policy(),
      stored: undefined,
      outcome: {
        kind: "response",
        response: { status: 206, fields: [["Content-Range", contentRange], ...fields] },
      },
      times: { requestTime: T0, responseTime: T0 },
      generation: 0,
      isPurgedMeanwhile: () => false,
      contentLength,
      objectBytesMax: 1_000,
      opening: opened,
      isOwner: true,
      now: T0,
      ...more,
    });
    if (decision.action === "store-slices") return "slices";
    if (decision.action !== "store")
      return `${decision.action} ${"reason" in decision ? decision.reason : ""}`;
    const { part, fields: head, status } = decision.head;
    expect([status, head.some(([name]) => name === "Content-Range")]).toEqual([200, false]);
    return part === null
      ? "whole"
      : `part ${part.first}-${part.last}/${part.totalBytes} of ${decision.statedRange}`;
  };
  const strong: Fields = [FRESH, ["ETag", '"a"']];

  test.each<[string, ReturnType<typeof says>, string]>([
    ["a slice with a strong validator is one", says("bytes 0-99/900", 100, {}, strong), "slices"],
    ["a slice without one is a part", says("bytes 0-99/900", 100), "part 0-99/900 of bytes 0-99/900"],
    [
      "another range than the slice, whatever the validator",
      says("bytes 40-79/900", 40, {}, strong),
      "part 40-79/900 of bytes 40-79/900",
    ],
    ["not what the client asked for", says("bytes 50-79/900", 30), "unsliceable other-range"],
    ["ends where it ends", says("bytes 40-99/100", 42, {}, strong), "part 40-81/82 of bytes 40-99/100"],
    ["contradicts itself elsewhere", says("bytes 40-99/900", 42), "unsliceable other-range"],
    ["too large", says("bytes 0-1999/2000", 2_000), "unsliceable too-large"],
    [
      "of no lifetime",
      says("bytes 0-99/900", 100, {}, [["Cache-Control", "no-store"]]),
      "unsliceable no-store",
    ],
    ["at another server", says("bytes 0-99/900", 100, { isOwner: false }), "unsliceable not-owner"],
    [
      "purged meanwhile",
      says("bytes 0-99/900", 100, { isPurgedMeanwhile: () => true }),
      "unsliceable purged-meanwhile",
    ],
    ["as asked", says("bytes 40-79/900", 40, { opening: asked }), "part 40-79/900 of bytes 40-79/900"],
    // It is the answer to the client's own request, so that nobody asks again.
    ["as asked, less than that", says("bytes 40-49/900", 10, { opening: asked }), "pass other-range"],
    [
      "as asked, not to be stored",
      says("bytes 40-79/900", 40, { opening: asked }, [["Cache-Control", "private"]]),
      "pass private",
    ],
    ["as asked, all there is", says("bytes 0-79/80", 80, { opening: asked }), "whole"],
  ])("%s", (_name, seen, expected) => {
    expect(seen).toBe(expected);
  });
});

test("a whole that was answered after the part was asked for stays", () => {
  const part = { ...kept(), requestTime: at(10) };
  expect(outranksPart({ ...stored([FRESH]), responseTime: at(11) }, part)).toBe(true);
  expect(outranksPart({ ...stored([FRESH]), responseTime: at(9) }, part)).toBe(false);
  expect(outranksPart({ ...stored([FRESH]), responseTime: at(11), isInvalidated: true }, part)).toBe(false);
  expect(outranksPart({ ...kept(), responseTime: at(11) }, part)).toBe(false);
});

import { expect, test } from "vitest";
import { requestClassOf } from "../../../transport/core/request-class.ts";

test.each([
  [undefined, "small"],
  ["bytes=0-524287", "large"],
  ["bytes=0-524286", "small"],
  ["bytes=1048576-2097151", "large"],
  ["bytes=100-", "large"],
  ["bytes=-524288", "large"],
  ["bytes=-100", "small"],
  ["bytes=0-9, 20-", "small"],
  ["items=0-", "small"],
  ["bytes=9-1", "small"],
  ["bytes=99999999999999999999-", "small"],
  ["", "small"],
] as const)("Range: %s is a %s request", (range, expected) => {
  const headers = [
    ["Host", "a.example"],
    ...(range === undefined ? [] : [["rAnGe", range] as const]),
  ] as const;
  expect(requestClassOf(headers as readonly (readonly [string, string])[])).toBe(expected);
});

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parseWorld } from "../../../kit/world/mod.ts";

const small = readFileSync(new URL("../../../deploy/worlds/small.yaml", import.meta.url), "utf8");

test.each([
  [
    "bytes that are not UTF-8",
    Buffer.from(small.replace("São", "S\u00e3o"), "latin1").toString("utf8"),
    /^w\.yaml:17:\d+: \(document\): got bytes that are not UTF-8/,
  ],
  [
    "a customer with the name of the operator's account",
    small.replace("- id: shop\n", "- id: operator\n"),
    /^w\.yaml:55:9: customers\[0\]\.id: got "operator", expected a customer name other than operator/,
  ],
  [
    "a terminal's escape sequence in a city",
    small.replace("city: Frankfurt", String.raw`city: "\e[31mFrankfurt"`),
    /^w\.yaml:9:26: regions\[0\]\.clusters\[0\]\.city: got "\\u001b\[31mFrankfurt", expected text of 1 to 80 characters without control/,
  ],
  [
    "a line end in a customer's name",
    small.replace("name: Shop Ltd", String.raw`name: "Shop\nLtd"`),
    /customers\[0\]\.name: got "Shop\\nLtd", expected text of 1 to 200 characters without control/,
  ],
])("%s is refused with its place", (_what, text, message) => {
  expect(text).not.toBe(small);
  expect(() => parseWorld(text, "w.yaml")).toThrow(message);
});

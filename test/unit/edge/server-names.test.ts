/** Names of certificates against names that clients ask for (RFC 9525, section 6.3; RFC 6066, section 3). */
import { expect, test } from "vitest";
import { isServerNamePattern, ServerNameTable } from "../../../edge/core/server-names.ts";

const table = new ServerNameTable<string>();
for (const [name, value] of [
  ["example.com", "exact"],
  ["*.example.com", "wildcard"],
  ["www.example.com", "www"],
  ["*.deep.example.com", "deep"],
] as const)
  table.add(name, value);

test.each([
  ["example.com", "exact"],
  ["EXAMPLE.com", "exact"],
  ["example.com.", "exact"],
  ["www.example.com", "www"],
  ["a.example.com", "wildcard"],
  ["a.deep.example.com", "deep"],
  // One label and no more (RFC 9525, section 6.3).
  ["a.b.example.com", undefined],
  [".example.com", undefined],
  ["*.example.com", undefined],
  ["com", undefined],
  ["", undefined],
  ["example.org", undefined],
  ["__proto__", undefined],
])("%s is answered by %s", (name, expected) => {
  expect(table.find(name)).toBe(expected);
});

test("the first certificate that has a name keeps it", () => {
  expect(table.add("example.com", "later")).toBe(false);
  expect(table.find("example.com")).toBe("exact");
});

test.each([
  ["example.com", true],
  ["*.example.com", true],
  ["localhost", true],
  ["xn--bcher-kva.example", true],
  ["*.com", false],
  ["*", false],
  ["w*.example.com", false],
  ["a..b", false],
  ["-a.example", false],
  ["a b.example", false],
  ["", false],
])("%s can be looked up: %s", (name, expected) => {
  expect(isServerNamePattern(name)).toBe(expected);
});

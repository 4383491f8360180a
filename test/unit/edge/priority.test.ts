import { expect, test } from "vitest";
import { isForBackground } from "../../../edge/core/priority.ts";

test.each([
  [["u=7"], true],
  [["u=7, i"], true],
  [["i,u=7;x=1"], true],
  // RFC 9651, section 3.2: the last member of a name counts, over all lines.
  [["u=1", "u=7"], true],
  [["u=7", "u=1"], false],
  [["u=7, u"], false],
  [["u=6, i"], false],
  [["u=70"], false],
  [["xu=7"], false],
  [[], false],
] as const)("Priority %j (RFC 9218)", (lines, expected) =>
  expect(isForBackground(lines.map((line) => ["Priority", line] as const))).toBe(expected),
);

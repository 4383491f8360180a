/** Laws: whatever bytes come, a world file is a world or one WorldError of one line; a mutated good one as well. */
import * as fc from "fast-check";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parseWorld, WorldError } from "#kit/world";

const small = readFileSync(new URL("../../../deploy/worlds/small.yaml", import.meta.url), "utf8");

function isRefused(text: string): boolean {
  try {
    parseWorld(text, "w.yaml");
    return false;
  } catch (error) {
    expect(error).toBeInstanceOf(WorldError);
    expect((error as Error).message).toMatch(/^w\.yaml:[1-9][0-9]*:[1-9][0-9]*: [^\n\r]+$/);
    return true;
  }
}

test("any text is refused in one line", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 200 }), (text) => {
      expect(isRefused(text)).toBe(true);
    }),
    { numRuns: 300 },
  );
});

test("a good world with a piece cut out, doubled or replaced is refused in one line or still a world", () => {
  let refused = 0;
  let taken = 0;
  fc.assert(
    fc.property(
      fc.nat(small.length - 1),
      fc.nat(40),
      fc.oneof(
        fc.constant(""),
        fc.string({ maxLength: 12 }),
        fc.constantFrom("- ", ": ", "\n", "  ", "&a ", "*a", "#", "'", "[", "}"),
      ),
      (at, length, piece) => {
        if (isRefused(small.slice(0, at) + piece + small.slice(at + length))) refused++;
        else taken++;
      },
    ),
    { numRuns: 300 },
  );
  // Both must have happened, or the mutations were too wild or too tame to show anything.
  expect(refused).toBeGreaterThan(50);
  expect(taken).toBeGreaterThan(0);
});

import { expect, test } from "vitest";
import { type Coordinates, Random } from "#kit";
import { evaluatePlaceOracle } from "../../../cli/evaluate/place-oracle.ts";
import type { RttMatrix } from "../../../cli/evaluate/matrix.ts";
import { geographyRttMs } from "../../../mapping/core/estimator.ts";

const SIZE = 60;
const OPTIONS = { sites: 8, seed: 1, unmeasuredRatio: 0.5 } as const;

/** Cities anywhere, with the times that are usual for their distances, and what labels say of some of them. */
function cities(lies: ReadonlyMap<number, number>): RttMatrix {
  const random = new Random(3);
  const true_ = Array.from(
    { length: SIZE },
    (): Coordinates => ({
      latitude: random.uniform(-60, 60),
      longitude: random.uniform(-180, 180),
    }),
  );
  const at = (index: number) => true_[index] as Coordinates;
  return {
    names: true_.map((_, index) => `city ${index}`),
    coordinates: true_.map((_, index) => at(lies.get(index) ?? index)),
    size: SIZE,
    rttMs: (from, to) => (from === to ? 0 : geographyRttMs(at(from), at(to))),
  };
}

test("where geography tells all, a place tells nearly all; where labels lie, less, until times have mended them", () => {
  const honest = evaluatePlaceOracle(cities(new Map()), OPTIONS);
  expect(honest.labels).toBeGreaterThanOrEqual(1);
  expect(honest.labels).toBeLessThan(1.05);
  expect(honest.allMended).toBe(honest.labels);
  const lies = new Map(Array.from({ length: 6 }, (_, n) => [n * 9 + 1, (n * 9 + 31) % SIZE]));
  const lied = evaluatePlaceOracle(cities(lies), OPTIONS);
  expect(lied.labels).toBeGreaterThan(honest.labels);
  expect(lied.othersMended).toBeLessThan(lied.labels);
  expect(lied.allMended).toBeLessThan(lied.othersMended);
});

test("a matrix without places is refused", () => {
  expect(() => evaluatePlaceOracle({ ...cities(new Map()), coordinates: null }, OPTIONS)).toThrow(
    "no places",
  );
});

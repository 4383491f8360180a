import * as fc from "fast-check";
import { expect, test } from "vitest";
import { type ClientNetworkId, parsePrefix } from "#kit";
import { nameNetworks, type NamedNetwork, networkRecords } from "#mapping";
import {
  type City,
  cities,
  cut,
  demandOf,
  measuredOf,
  placesOf,
  type Route,
} from "../../unit/mapping/networks/fixtures.ts";

/** All within 10.0.0.0/18: 64 cells, few enough to ask each of them. */
const CELLS = 64;
const block = (bits: number) =>
  fc
    .record({ cell: fc.integer({ min: 0, max: CELLS - 1 }), size: fc.integer({ min: 0, max: bits }) })
    .map(({ cell, size }) => `10.0.${(cell >> size) << size}.0/${24 - size}`);
const routes = fc.uniqueArray(
  fc.record({ text: block(6), origin: fc.integer({ min: 1, max: 4 }), via: fc.integer({ min: 8, max: 9 }) }),
  { minLength: 1, maxLength: 24, selector: (one) => one.text },
);
const places = fc.array(fc.constantFrom(...(Object.keys(cities) as City[]), null), {
  minLength: 16,
  maxLength: 16,
});
const demand = fc.dictionary(block(3), fc.integer({ min: 0, max: 100 }), { maxKeys: 12 });
const site = fc.integer({ min: 1, max: 60 });
const measured = fc.dictionary(block(2), fc.record({ fra: site, ams: site, iad: site }), { maxKeys: 12 });
const world = fc.record({ routes, places, demand, measured, countMax: fc.integer({ min: 1, max: 30 }) });
type World = typeof world extends fc.Arbitrary<infer T> ? T : never;

function networksOf(
  { routes: some, places: four, demand: blocks, measured: figures, countMax }: World,
  before: readonly NamedNetwork[] = [],
) {
  const asked = demandOf(blocks);
  const sets = cut(
    {
      routes: some.map(({ text, origin, via }): Route => [text, [via, origin]]),
      // Places of four cells each.
      places: placesOf(
        four.flatMap((city, n) =>
          city === null ? [] : [[`10.0.${n * 4}.0`, `10.0.${n * 4 + 3}.255`, city] as const],
        ),
      ),
      demand: asked,
      measured: measuredOf(figures),
    },
    { countMax },
  );
  return { sets, records: [...networkRecords(sets, nameNetworks(sets, before, asked))] };
}

/** How many of the prefixes hold each cell. */
function holdersOf(texts: readonly string[]): number[] {
  const counts = Array.from({ length: CELLS }, () => 0);
  for (const text of texts) {
    const prefix = parsePrefix(text);
    const first = ((prefix?.address.words[0] ?? 0) - 0x0a000000) / 256;
    const end = first + 2 ** (24 - (prefix?.prefixLength ?? 24));
    for (let cell = first; cell < end; cell++) (counts[cell] as number)++;
  }
  return counts;
}

test("every address of the announced space belongs to exactly one network, and none beside it to any", () => {
  fc.assert(
    fc.property(world, (one) => {
      const { records } = networksOf(one);
      const all = records.flatMap(({ prefixes }) => prefixes);
      const announced = holdersOf(one.routes.map(({ text }) => text));
      expect(holdersOf(all)).toEqual(announced.map((count) => Math.min(1, count)));
      expect(records.length).toBeLessThanOrEqual(one.countMax);
    }),
    { numRuns: 50 },
  );
});

test("splits and merges conserve demand; what lies outside is told", () => {
  fc.assert(
    fc.property(world, (one) => {
      const { sets, records } = networksOf(one);
      const asked = Object.values(one.demand).reduce((sum, perSecond) => sum + perSecond, 0);
      const found = records.reduce((sum, { demandPerSecond }) => sum + demandPerSecond, 0);
      expect(found + sets.unroutedDemandPerSecond).toBeCloseTo(asked, 6);
    }),
    { numRuns: 50 },
  );
});

test("the order of the input does not matter", () => {
  const reversed = <V>(of: Readonly<Record<string, V>>): Record<string, V> =>
    Object.fromEntries(Object.entries(of).reverse());
  fc.assert(
    fc.property(world, (one) => {
      const other = {
        ...one,
        routes: one.routes.toReversed(),
        demand: reversed(one.demand),
        measured: reversed(one.measured),
      };
      expect(networksOf(other).records).toEqual(networksOf(one).records);
    }),
    { numRuns: 50 },
  );
});

test("names are unique, and each old one goes to the set that it has most demand in common with, or to none that has less", () => {
  let kept = 0;
  fc.assert(
    fc.property(world, world, (one, other) => {
      const before = networksOf(one).records;
      const { records } = networksOf(other, before);
      const names = new Set<ClientNetworkId>(records.map(({ clientNetworkId }) => clientNetworkId));
      expect(names.size).toBe(records.length);
      const spaces = new Map<NamedNetwork, readonly number[]>(
        [...before, ...records].map((of) => [of, holdersOf(of.prefixes)]),
      );
      const isShared = (a: NamedNetwork, b: NamedNetwork): boolean =>
        spaces.get(a)?.some((count, cell) => count > 0 && (spaces.get(b)?.[cell] ?? 0) > 0) ?? false;
      for (const old of before) {
        const heir = records.find(({ clientNetworkId }) => clientNetworkId === old.clientNetworkId);
        const heirs = records.filter((record) => isShared(old, record));
        // A name goes to nobody who has nothing of it, and only then dies out when every heir has one that brought more.
        if (heir === undefined)
          for (const { clientNetworkId } of heirs)
            expect(before.some((was) => was.clientNetworkId === clientNetworkId)).toBe(true);
        else expect(heirs).toContain(heir);
        if (heir !== undefined) kept++;
      }
    }),
    { numRuns: 40 },
  );
  expect(kept).toBeGreaterThan(50);
});

test("cut again from the same, nothing has another name", () => {
  fc.assert(
    fc.property(world, (one) => {
      const before = networksOf(one).records;
      expect(networksOf(one, before).records).toEqual(before);
    }),
    { numRuns: 50 },
  );
});

import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  type ClusterId,
  comparePrefixes,
  formatPrefix,
  type IpPrefix,
  maskAddress,
  prefixContains,
} from "#kit";
import { cutScopes, type ScopeCutCosts, type ScopeLeaf } from "../../../mapping/core/scope-cut.ts";

const CLUSTERS = ["a", "b", "c"] as ClusterId[];
interface Net {
  readonly costs: readonly number[];
}
type Leaf = ScopeLeaf<Net>;

const leaf = fc
  .record({
    octet: fc.nat({ max: 255 }),
    length: fc.integer({ min: 26, max: 31 }),
    costs: fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 3, maxLength: 3 }),
    lookupsPerSecond: fc.double({ min: 0.01, max: 5, noNaN: true }),
  })
  .map(({ octet, length, costs, lookupsPerSecond }): Leaf => {
    const address = maskAddress({ family: 4, words: [0x0a000000 + octet] }, length);
    return { prefix: { address, prefixLength: length }, network: { costs }, lookupsPerSecond };
  });
const leaves = fc
  .uniqueArray(leaf, { minLength: 1, maxLength: 7, selector: ({ prefix }) => formatPrefix(prefix) })
  .map((some) => some.sort((a, b) => comparePrefixes(a.prefix, b.prefix)));

const costsAt = (queryPriceMs: number): ScopeCutCosts<Net> => ({
  firstOf: ({ costs }) => CLUSTERS[costs.indexOf(Math.min(...costs))] as ClusterId,
  costMs: ({ costs }, cluster) => costs[CLUSTERS.indexOf(cluster)] as number,
  queriesPerSecond: (lookups) => lookups / (1 + 2 * lookups),
  queryPriceMs,
});

/** Loss and queries of what was cut: each leaf goes by the longest scope that holds it, or by itself. */
function paid(some: readonly Leaf[], queryPriceMs: number): { ms: number; queries: number } {
  const costs = costsAt(queryPriceMs);
  const scopes = cutScopes(some, costs);
  const groups = new Map<string, number>();
  let ms = 0;
  for (const { prefix, network, lookupsPerSecond } of some) {
    const scope = scopes.find(
      (one) => one.prefix.prefixLength <= prefix.prefixLength && prefixContains(one.prefix, prefix.address),
    );
    const key = formatPrefix((scope ?? { prefix }).prefix);
    groups.set(key, (groups.get(key) ?? 0) + lookupsPerSecond);
    ms += lookupsPerSecond * costs.costMs(network, costs.firstOf((scope ?? { network }).network));
  }
  const queries = [...groups.values()].reduce((sum, lookups) => sum + costs.queriesPerSecond(lookups), 0);
  return { ms, queries };
}

/** The least of all ways to prune, tried one by one. */
function least(some: readonly Leaf[], prefix: IpPrefix, costs: ScopeCutCosts<Net>): number {
  const inside = some.filter((one) => prefixContains(prefix, one.prefix.address));
  if (inside.length === 0) return 0;
  const lookups = inside.reduce((sum, one) => sum + one.lookupsPerSecond, 0);
  const best = Math.min(
    ...inside.map((first) =>
      inside.reduce(
        (sum, one) => sum + one.lookupsPerSecond * costs.costMs(one.network, costs.firstOf(first.network)),
        0,
      ),
    ),
  );
  const together = best + costs.queryPriceMs * costs.queriesPerSecond(lookups);
  if (inside.length === 1) return together;
  const prefixLength = prefix.prefixLength + 1;
  const halves = [0, 2 ** (32 - prefixLength)].map((offset) => ({
    address: { family: 4 as const, words: [(prefix.address.words[0] as number) + offset] },
    prefixLength,
  }));
  return Math.min(
    together,
    halves.reduce((sum, half) => sum + least(inside, half, costs), 0),
  );
}

test("no way to prune the prefix tree costs less", () => {
  let merged = 0;
  fc.assert(
    fc.property(leaves, fc.constantFrom(0, 1, 5, 20, 80), (some, price) => {
      // Where one leaf lies within another there are more ways than brute force tries.
      const flat = some.filter(
        (one) =>
          !some.some(
            (other) =>
              other !== one &&
              other.prefix.prefixLength <= one.prefix.prefixLength &&
              prefixContains(other.prefix, one.prefix.address),
          ),
      );
      const { ms, queries } = paid(flat, price);
      if (cutScopes(flat, costsAt(price)).length > 0) merged++;
      const root: IpPrefix = { address: { family: 4, words: [0x0a000000] }, prefixLength: 24 };
      expect(ms + price * queries).toBeCloseTo(least(flat, root, costsAt(price)), 6);
    }),
    { numRuns: 300 },
  );
  expect(merged).toBeGreaterThan(50);
});

test("where a query costs nothing nobody is answered worse than for itself, one leaf within another or not", () => {
  let taken = 0;
  fc.assert(
    fc.property(leaves, (some) => {
      const costs = costsAt(0);
      const scopes = cutScopes(some, costs);
      for (let octet = 0; octet < 256; octet++) {
        const address = { family: 4 as const, words: [0x0a000000 + octet] };
        const longest = <T extends { readonly prefix: IpPrefix }>(of: readonly T[]): T | undefined =>
          of
            .filter(({ prefix }) => prefixContains(prefix, address))
            .toSorted((a, b) => b.prefix.prefixLength - a.prefix.prefixLength)[0];
        const [own, scope] = [longest(some), longest(scopes)];
        if (own === undefined || scope === undefined) continue;
        taken++;
        expect(costs.costMs(own.network, costs.firstOf(scope.network))).toBe(Math.min(...own.network.costs));
      }
    }),
    { numRuns: 300 },
  );
  expect(taken).toBeGreaterThan(500);
});

test("a dearer query never brings more queries, nor less loss", () => {
  fc.assert(
    fc.property(leaves, fc.nat({ max: 40 }), fc.nat({ max: 40 }), (some, one, more) => {
      const flat = some.filter(({ prefix }) => prefix.prefixLength === 31);
      if (flat.length === 0) return;
      const [cheap, dear] = [paid(flat, one), paid(flat, one + more)];
      expect(dear.queries).toBeLessThanOrEqual(cheap.queries + 1e-9);
      expect(dear.ms).toBeGreaterThanOrEqual(cheap.ms - 1e-9);
    }),
  );
});

test("prefixes of different parts of the world are never one scope, whatever a query costs", () => {
  const of = (word: number): Leaf => ({
    prefix: { address: { family: 4, words: [word] }, prefixLength: 16 },
    network: { costs: [5, 9, 9] },
    lookupsPerSecond: 1,
  });
  expect(cutScopes([of(0x18000000), of(0x19000000)], costsAt(1e6))).toEqual([]);
  expect(cutScopes([of(0x18000000), of(0x18010000)], costsAt(1e6))).toHaveLength(1);
});

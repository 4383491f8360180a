import { describe, expect, test } from "vitest";
import { formatPrefix, maskAddress, parsePrefix, Random } from "#kit";
import type { RttMatrix } from "../../../cli/evaluate/matrix.ts";
import { DelayModel } from "../../../cli/evaluate/users/delay-model.ts";
import type { City, Part } from "../../../cli/evaluate/users/places.ts";
import { evaluatePolicies } from "../../../cli/evaluate/users/policies.ts";
import { evaluateQueries, queriesOfName } from "../../../cli/evaluate/users/queries.ts";
import { mapUsers } from "../../../cli/evaluate/users/user-map.ts";
import { type Block, peopleWorld } from "../../../cli/evaluate/users/world.ts";

/** Cities on the equator, 20 degrees apart, 30 ms of fibre there and back between neighbours, in every part of the world. */
const parts: Part[] = [
  "Africa",
  "Asia Pacific",
  "Europe",
  "North America",
  "South America",
  "Middle East",
  "Oceania",
];
const cities: City[] = Array.from({ length: 14 }, (_, n) => ({
  name: `City ${n}`,
  coordinates: { latitude: 0, longitude: n * 20 - 130 },
  part: parts[n % parts.length] as Part,
  measured: n < 12 ? n : null,
}));
const matrix: RttMatrix = {
  names: cities.map(({ name }) => name),
  coordinates: cities.map(({ coordinates }) => coordinates),
  size: 12,
  rttMs: (from, to) => (from === to ? 0 : 6 + 40 * Math.min(Math.abs(from - to), 18 - Math.abs(from - to))),
};

describe("delays between networks", () => {
  const delays = new DelayModel(cities, matrix, 1);
  test("what was measured stays near its value, the same pair always costs the same, both ways", () => {
    for (const to of [1, 4, 7]) {
      const there = delays.rttMs({ city: 0, slot: 1 }, { city: to, slot: 2 });
      expect(delays.rttMs({ city: to, slot: 2 }, { city: 0, slot: 1 })).toBe(there);
      expect(Math.abs(Math.log(there / matrix.rttMs(0, to)))).toBeLessThan(0.5);
    }
    expect(delays.rttMs({ city: 3, slot: 1 }, { city: 3, slot: 1 })).toBe(1);
  });
  test("what was not measured is like what was, and never faster than light", () => {
    const near = delays.rttMs({ city: 12, slot: 0 }, { city: 11, slot: 0 });
    expect(near).toBeGreaterThan(22.2);
    expect(near).toBeLessThan(100);
    expect(delays.rttMs({ city: 12, slot: 0 }, { city: 4, slot: 0 })).toBeGreaterThan(near);
  });
});

describe("queries of a resolver that honours scopes", () => {
  test("the formula agrees with a cache that is run (RFC 7871 section 7.3.1)", () => {
    const random = new Random(7);
    const groups = Float64Array.of(0.02, 0.3, 5);
    const ttlSeconds = 20;
    const seconds = 40_000;
    let asked = 0;
    for (const rate of groups) {
      let expires = 0;
      for (let at = random.exponential(1 / rate); at < seconds; at += random.exponential(1 / rate)) {
        if (at < expires) continue;
        asked++;
        expires = at + ttlSeconds;
      }
    }
    const expected = queriesOfName(groups, 1, ttlSeconds) * seconds;
    expect(asked).toBeGreaterThan(0.95 * expected);
    expect(asked).toBeLessThan(1.05 * expected);
  });
});

describe("users behind distant resolvers", () => {
  const blocks: Block[] = [24, 61, 62, 41, 189].flatMap((octet, region) =>
    Array.from({ length: 40 }, (_, n) => ({
      prefix: parsePrefix(`${octet}.0.${n * 4}.0/22`) as Block["prefix"],
      as: region * 10 + (n % 4),
    })),
  );
  const delays = new DelayModel(cities, matrix, 1);
  const world = peopleWorld(blocks, cities, delays, 1);
  const sites = [0, 1, 2, 3, 4, 5, 6].map((n) => n * 8);
  const map = mapUsers(world, cities, delays, sites, 1);

  test("demand sums to one; a provider's resolver asks from an address where it stands", () => {
    expect(world.pieces.reduce((sum, { demand }) => sum + demand, 0)).toBeCloseTo(1, 9);
    for (const { kind, place, address } of world.resolvers) {
      if (kind === "public") continue;
      const around = formatPrefix({ address: maskAddress(address, 22), prefixLength: 22 });
      expect(world.pieces.find(({ prefix }) => formatPrefix(prefix) === around)?.place).toBe(place);
    }
  });
  test("the user's own address is never worse than the resolver's on the mean, nor better than the optimum", () => {
    const { all, behindPublic } = evaluatePolicies(world, delays, map);
    for (const figures of [all, behindPublic]) {
      expect(figures.optimum.mean).toBeLessThanOrEqual(figures["end-user"].mean);
      expect(figures["end-user"].mean).toBeLessThan(figures.resolver.mean);
    }
    expect(all["rolled-out"].mean).toBeLessThan(all["client-aware"].mean);
    expect(behindPublic["rolled-out"]).toEqual(behindPublic["end-user"]);
  });
  test("the narrower entries are shared, the more is asked, and nobody asks more often than there are look-ups", () => {
    const { factor, groups, ofAll, popularRatio } = evaluateQueries(world, map, {
      ttlSeconds: 20,
      names: 50,
      zipfExponent: 0.9,
      lookupsPerSecond: 2_000,
    });
    expect(factor.cluster).toBeGreaterThan(1);
    expect(factor.scope).toBeGreaterThanOrEqual(factor.cluster);
    expect(factor.source).toBeGreaterThanOrEqual(factor.scope);
    expect(factor.none).toBeGreaterThan(factor.source);
    expect(groups.source).toBe(world.pieces.length * 4);
    // All queries: those of providers' resolvers stay as they are.
    expect(ofAll.publicRatio).toBeGreaterThan(0);
    expect(ofAll.factor).toBeCloseTo(1 + ofAll.publicRatio * (factor.scope - 1), 2);
    expect(popularRatio).toBeGreaterThan(0);
    expect(popularRatio).toBeLessThan(1);
  });
});

/** Law: the index is a map from (fingerprint, variant) to a place, of which what lies in segments that went is gone. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  ALIGN_BYTES,
  CHAIN_MAX,
  type Location,
  LocationIndex,
} from "../../../edge/core/disk/location-index.ts";

/** Few fingerprints, all with their home at the two ends of one part: long probes that wrap around. */
const fingerprint = fc.record({
  hi: fc.constantFrom(7, 8),
  lo: fc.constantFrom(0, 1, 2 ** 31, 2 ** 32 - 2, 2 ** 32 - 1),
});
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ type: fc.constant("put" as const), at: fingerprint, variant: fc.nat(5) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant("remove" as const),
      at: fingerprint,
      variant: fc.option(fc.nat(5), { nil: undefined }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ type: fc.constant("hit" as const), at: fingerprint, variant: fc.nat(5) }),
  },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("drop" as const), at: fingerprint }) },
);

const nameOf = (hi: number, lo: number, variant: number): string => `${hi}/${lo}/${variant}`;

test("it answers as a Map does, whatever was put, removed, used and dropped", () => {
  let dropped = 0;
  let replaced = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 40, maxLength: 120 }), (steps) => {
      const index = new LocationIndex();
      const model = new Map<string, { location: Location; isHit: boolean }>();
      let segment = 1;
      let offset = 0;
      for (const { type: what, at, ...more } of steps) {
        const { hi, lo } = at;
        const variant = "variant" in more ? more.variant : undefined;
        switch (what) {
          case "put": {
            offset += ALIGN_BYTES;
            const name = nameOf(hi, lo, variant ?? 0);
            const location: Location = {
              hi,
              lo,
              variant: variant ?? 0,
              segment,
              offset,
              headBytes: offset % 1_000,
              bodyBytes: offset * 3,
            };
            expect(index.put(location)).toEqual(model.get(name)?.location);
            if (model.has(name)) replaced++;
            model.set(name, { location, isHit: false });
            break;
          }
          case "remove": {
            const gone = index.remove(hi, lo, variant);
            const wanted = [...model.values()].filter(
              ({ location: l }) =>
                l.hi === hi && l.lo === lo && (variant === undefined || l.variant === variant),
            );
            expect(new Set(gone.map(({ offset }) => offset))).toEqual(
              new Set(wanted.map(({ location }) => location.offset)),
            );
            for (const { location: l } of wanted) model.delete(nameOf(l.hi, l.lo, l.variant));
            break;
          }
          case "hit": {
            const known = model.get(nameOf(hi, lo, variant ?? 0));
            if (known === undefined) break;
            index.markHit(known.location);
            known.isHit = true;
            break;
          }
          case "drop":
            segment++;
            index.oldestSegment = segment;
            for (const [name, { location }] of model) {
              if (location.segment >= segment) continue;
              model.delete(name);
              dropped++;
            }
            break;
          default:
            what satisfies never;
        }
        const found = index.find(hi, lo);
        const wanted = [...model.values()]
          .map(({ location }) => location)
          .filter((l) => l.hi === hi && l.lo === lo)
          .sort((a, b) => a.segment - b.segment || a.offset - b.offset);
        expect(found).toEqual(wanted);
        expect(index.has(hi, lo)).toBe(wanted.length > 0);
      }
      for (const { location, isHit } of model.values()) {
        expect(index.isCurrent(location)).toBe(true);
        expect(index.isHit(location)).toBe(isHit);
        expect(index.isCurrent({ ...location, offset: location.offset + ALIGN_BYTES })).toBe(false);
      }
    }),
    { numRuns: 100 },
  );
  // Vacuous without them.
  expect(dropped).toBeGreaterThan(100);
  expect(replaced).toBeGreaterThan(100);
});

test("a fingerprint has at most CHAIN_MAX entries: the oldest goes", () => {
  const index = new LocationIndex();
  const at = (variant: number): Location => ({
    hi: 1,
    lo: 2,
    variant,
    segment: 1,
    offset: variant * ALIGN_BYTES,
    headBytes: 1,
    bodyBytes: 1,
  });
  for (let variant = 1; variant <= CHAIN_MAX; variant++) expect(index.put(at(variant))).toBeUndefined();
  expect(index.put(at(CHAIN_MAX + 1))).toEqual(at(1));
  expect(index.find(1, 2)).toHaveLength(CHAIN_MAX);
});

test("dead entries do not make it grow: a store that only turns over keeps its size", () => {
  const index = new LocationIndex();
  let peak = 0;
  for (let segment = 1; segment <= 40; segment++) {
    index.oldestSegment = segment - 3;
    for (let number = 0; number < 5_000; number++) {
      const n = segment * 5_000 + number;
      index.put({
        hi: Math.imul(n, 0x9e37_79b1) >>> 0,
        lo: Math.imul(n, 0x85eb_ca6b) >>> 0,
        variant: 0,
        segment,
        offset: number * ALIGN_BYTES,
        headBytes: 1,
        bodyBytes: 1,
      });
    }
    if (segment === 10) peak = index.bytes;
  }
  expect(peak).toBeGreaterThan(20_000 * 28);
  expect(index.bytes).toBeLessThan(peak * 1.6);
  expect(index.bytes).toBeLessThan(20_000 * 28 * 3);
});

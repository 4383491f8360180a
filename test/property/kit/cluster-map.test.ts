/** The laws of the cluster map's encoding: nothing is lost, one form for each map, and whatever is damaged is refused. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  applyClusterMapDiff,
  ClientNetworkTable,
  ClusterMapBuilder,
  type ClusterMapTable,
  decodeClusterMap,
  diffClusterMaps,
  encodeClusterMap,
  formatPrefix,
  maskAddress,
  type IpPrefix,
  networkNameOf,
  PackedClusterMap,
  ParseError,
  trafficClasses,
} from "#kit";
import { allSteps } from "../../../kit/steps.ts";
import { sealed } from "../../../kit/documents/cluster-map/codec.ts";
import type { CandidateRow } from "../../../kit/documents/cluster-map/candidate-rows.ts";

const words = fc.oneof(
  fc.constantFrom(0, 0x0a00_0000, 0x8000_0000, 0xffff_ffff),
  fc.nat({ max: 0xffff_ffff }),
);
const prefix = fc.oneof(
  fc.tuple(words, fc.nat({ max: 32 })).map(([word, length]) => masked(4, [word], length)),
  fc
    .tuple(words, words, fc.nat({ max: 128 }))
    .map(([first, last, length]) => masked(6, [first, 0, 0, last], length)),
);
function masked(family: 4 | 6, address: number[], prefixLength: number): IpPrefix {
  return { address: maskAddress({ family, words: address }, prefixLength), prefixLength };
}
const name = fc.stringMatching(/^[a-z]([a-z0-9-]{0,5}[a-z0-9])?$/);
const prefixes = fc.uniqueArray(prefix.map(formatPrefix), { minLength: 1, maxLength: 30 });
const names = fc.uniqueArray(name, { minLength: 30, maxLength: 30 });

const CLUSTERS = 20;
/** What makes a row, before scores are put in order. */
const rowSeed = fc.record({
  candidates: fc.uniqueArray(
    fc.tuple(
      fc.nat({ max: CLUSTERS - 1 }),
      fc.oneof(fc.double({ min: 0, max: 60_000, noNaN: true }), fc.constantFrom(Number.NaN, -1, 12)),
      fc.constantFrom(0, 0.01, 1, -1),
      fc.double({ min: 0, max: 1, noNaN: true }),
    ),
    { minLength: 1, maxLength: 12, selector: ([cluster]) => cluster },
  ),
  scores: fc.array(fc.double({ min: 0, max: 1e9, noNaN: true }), { minLength: 36, maxLength: 36 }),
  keys: fc.array(fc.nat({ max: 1000 }), { minLength: 36, maxLength: 36 }),
  short: fc.nat({ max: 3 }),
});

type Seed = typeof rowSeed extends fc.Arbitrary<infer S> ? S : never;

function rowOf({ candidates, scores, keys, short }: Seed): CandidateRow {
  const count = candidates.length;
  const orders = [0, 1, 2].map((k) => {
    // The first class ranks all, so that none is left out; the others may rank fewer.
    const length = k === 0 ? count : Math.max(1, count - (k === short ? 1 : 0));
    return {
      length,
      positions: candidates
        .map((_, position) => position)
        .sort((a, b) => keys[k * 12 + a]! - keys[k * 12 + b]! || a - b)
        .slice(0, length),
      scores: scores.slice(k * 12, k * 12 + length).sort((a, b) => a - b),
    };
  });
  return {
    count,
    clusters: candidates.map(([cluster]) => cluster),
    rttMs: candidates.map(([, rttMs]) => rttMs),
    lossRatio: candidates.map(([, , lossRatio]) => lossRatio),
    confidence: candidates.map(([, , , confidence]) => confidence),
    orders: orders as never,
  };
}

const map = fc
  .record({
    mapVersion: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    prefixes,
    names,
    owners: fc.array(fc.nat({ max: 29 }), { minLength: 30, maxLength: 30 }),
    rows: fc.array(rowSeed, { minLength: 1, maxLength: 6 }),
    picks: fc.array(
      fc.record({ row: fc.nat(), chosen: fc.nat(), reason: fc.nat({ max: 7 }), limit: fc.nat() }),
      {
        minLength: 31,
        maxLength: 31,
      },
    ),
    limitNames: fc.uniqueArray(fc.string({ minLength: 1, maxLength: 8 }), { maxLength: 3 }),
    load: fc.float({ min: 0, max: 10, noNaN: true }),
  })
  .map((seed): ClusterMapTable => {
    const owned = Map.groupBy(seed.prefixes, (_, n) => seed.names[seed.owners[n]!]!);
    const networks = ClientNetworkTable.of(
      [...owned].map(([clientNetworkId, list], n) => ({
        // Every other one has the name that a prefix of it gives; of its lowest one that is written as a bit.
        clientNetworkId: n % 2 === 0 ? networkNameOf(list[0]!) : (clientNetworkId as never),
        prefixes: list,
      })),
    );
    const builder = new ClusterMapBuilder({
      mapVersion: seed.mapVersion,
      networks,
      clusters: Array.from({ length: CLUSTERS }, (_, n) => ({
        clusterId: `c${100 + n}` as never,
        load: seed.load,
      })),
      limitNames: seed.limitNames.map((one) => `limit ${one.toWellFormed()}`),
    });
    const rows = seed.rows.map((one) => ({ row: builder.row(rowOf(one)), count: one.candidates.length }));
    for (let n = 0; n < networks.size; n++) {
      const { row: pick, chosen, reason, limit } = seed.picks[n]!;
      const { row, count } = rows[pick % rows.length]!;
      const place = count > 1 ? chosen % (count - 1) : 0;
      builder.place(
        n,
        row,
        [place, 0, place],
        [reason, 1, reason],
        [(limit % (seed.limitNames.length + 1)) - 1, -1, -1],
      );
    }
    builder.placeFallback(rows[0]!.row);
    return builder.build();
  });

function contentOf(table: ClusterMapTable): unknown {
  const everyone = Array.from({ length: table.networks.size + 1 }, (_, n) => n);
  return {
    mapVersion: table.mapVersion,
    entries: [...table.entries()],
    fallback: table.rankings(table.fallbackNumber),
    reasons: everyone.map((n) => trafficClasses.map((trafficClass) => table.reason(n, trafficClass))),
    clusterIds: table.clusterIds,
  };
}

describe("the cluster map in bytes", () => {
  it("comes back with everything, and gives the same bytes again", () => {
    fc.assert(
      fc.property(map, (table) => {
        const bytes = encodeClusterMap(table);
        const back = decodeClusterMap(bytes);
        expect(contentOf(back)).toEqual(contentOf(table));
        expect(encodeClusterMap(back)).toEqual(bytes);
      }),
      { numRuns: 100 },
    );
  });

  it("refuses any damage, and throws nothing but the refusal", () => {
    fc.assert(
      fc.property(map, fc.nat(), fc.integer({ min: 1, max: 255 }), fc.nat(), (table, where, mask, cut) => {
        const bytes = encodeClusterMap(table);
        const flipped = bytes.slice();
        flipped[where % bytes.length]! ^= mask;
        expect(() => decodeClusterMap(flipped)).toThrow(ParseError);
        expect(() => decodeClusterMap(bytes.slice(0, cut % bytes.length))).toThrow(ParseError);
        expect(() => decodeClusterMap(Uint8Array.of(...bytes, mask))).toThrow(ParseError);
      }),
      { numRuns: 100 },
    );
  });

  /** With a right checksum the laws of the form alone must hold: what is taken is exactly what a writer would have written. */
  it("has one form: what is taken after a change is another map in its own form", () => {
    let taken = 0;
    let refused = 0;
    fc.assert(
      fc.property(
        map,
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 3 }),
        fc.nat({ max: 40 }),
        (table, flips, cut) => {
          const whole = encodeClusterMap(table);
          const body = whole.slice(0, Math.max(12, whole.length - 8 - (cut > 30 ? cut - 30 : 0)));
          for (const [where, mask] of flips) body[4 + (where % (body.length - 4))]! ^= mask;
          const forged = allSteps(sealed(body));
          let back: ClusterMapTable;
          try {
            back = decodeClusterMap(forged);
          } catch (error) {
            expect(error).toBeInstanceOf(ParseError);
            refused++;
            return;
          }
          taken++;
          expect(encodeClusterMap(back)).toEqual(forged);
        },
      ),
      { numRuns: 600 },
    );
    expect(Math.min(taken, refused)).toBeGreaterThan(50);
  });

  it("follows from another map by a difference, to the byte, and refuses any other base and any damage", () => {
    let small = 0;
    fc.assert(
      fc.property(map, map, fc.nat(), fc.integer({ min: 1, max: 255 }), (a, other, where, mask) => {
        // A map that shares much with its base, and one that shares nothing.
        const near = a.withVersion(a.mapVersion === 1 ? 2 : a.mapVersion - 1);
        const base = PackedClusterMap.of(a);
        for (const next of [near, other].map((table) => PackedClusterMap.of(table))) {
          const diff = diffClusterMaps(base, next);
          const applied = applyClusterMapDiff(base, diff);
          expect(applied.bytes()).toEqual(next.bytes());
          expect(contentOf(applied.table())).toEqual(contentOf(next.table()));
          const damaged = diff.slice();
          damaged[where % diff.length]! ^= mask;
          expect(() => applyClusterMapDiff(base, damaged)).toThrow(ParseError);
          expect(() => applyClusterMapDiff(next, diff)).toThrow(ParseError);
          // With a right checksum of its own it leads elsewhere, or nowhere.
          const body = diff.slice(0, -8);
          body[where % body.length]! ^= mask;
          expect(() => applyClusterMapDiff(base, allSteps(sealed(body)))).toThrow(ParseError);
        }
        if (diffClusterMaps(base, PackedClusterMap.of(near)).length < base.bytes().length) small++;
      }),
      { numRuns: 60 },
    );
    expect(small).toBeGreaterThan(20);
  });
});

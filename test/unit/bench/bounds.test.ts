/** Bounds of caches on traces, against every choice that a store could make. */
import { expect, test } from "vitest";
import { Random } from "#kit";
import { boundsOf } from "../../bench/policies/bounds.ts";
import type { Trace } from "../../bench/policies/traces.ts";

/** Objects are numbered by their first request, as traces have them. */
function traceOf(random: Random, requests: number): Trace {
  const numbers = new Map<number, number>();
  const objectOf = Uint32Array.from({ length: requests }, () => {
    const drawn = random.int(5);
    if (!numbers.has(drawn)) numbers.set(drawn, numbers.size);
    return numbers.get(drawn) ?? 0;
  });
  const bytesOf = Float64Array.from({ length: numbers.size }, () => 1 + random.int(4));
  const sum = (objects: Iterable<number>): number =>
    [...objects].reduce((bytes, one) => bytes + (bytesOf[one] ?? 0), 0);
  return {
    name: "small",
    origin: "drawn",
    objectOf,
    bytesOf,
    requests,
    footprintBytes: sum(bytesOf.keys()),
    requestedBytes: sum(objectOf),
  };
}

/** The most that any sequence of choices finds: after each request any part of what is there, with what was asked for, may be kept. */
function optimum(
  { objectOf, bytesOf }: Trace,
  storeBytes: number,
  worthOf: (object: number) => number,
): number {
  const sets = 2 ** bytesOf.length;
  const bytesOfSet = Array.from({ length: sets }, (_, set) =>
    bytesOf.reduce((sum, bytes, object) => sum + (((set >> object) & 1) === 1 ? bytes : 0), 0),
  );
  let best = new Map([[0, 0]]);
  for (const object of objectOf) {
    const after = new Map<number, number>();
    for (const [set, found] of best) {
      const value = found + (((set >> object) & 1) === 1 ? worthOf(object) : 0);
      const here = set | (1 << object);
      for (let kept = here; ; kept = (kept - 1) & here) {
        if ((bytesOfSet[kept] ?? 0) <= storeBytes) after.set(kept, Math.max(after.get(kept) ?? 0, value));
        if (kept === 0) break;
      }
    }
    best = after;
  }
  return Math.max(...best.values());
}

test("no choices find more than the bound, and the clairvoyant store finds no more than the best ones", () => {
  const random = new Random("bounds");
  let below = 0;
  let equal = 0;
  for (let round = 0; round < 60; round++) {
    const trace = traceOf(random, 14);
    const bounds = boundsOf(trace);
    for (const storeBytes of [2, 4, 7]) {
      const atMost = bounds.atMost(storeBytes);
      const clairvoyant = bounds.clairvoyant(storeBytes);
      const objects = optimum(trace, storeBytes, () => 1) / trace.requests;
      const bytes = optimum(trace, storeBytes, (object) => trace.bytesOf[object] ?? 0) / trace.requestedBytes;
      expect(atMost.objectHitRatio).toBeGreaterThanOrEqual(objects - 1e-9);
      expect(atMost.byteHitRatio).toBeGreaterThanOrEqual(bytes - 1e-9);
      expect(clairvoyant.objectHitRatio).toBeLessThanOrEqual(objects + 1e-9);
      expect(clairvoyant.byteHitRatio).toBeLessThanOrEqual(bytes + 1e-9);
      if (clairvoyant.objectHitRatio > objects - 1e-9) equal++;
      else below++;
    }
  }
  // It is good, and it is no optimum where sizes differ.
  expect(equal).toBeGreaterThan(100);
  expect(below).toBeGreaterThan(0);
});

/** Laws of the eviction policies, for any order of calls, and what they are worth on traces against brute force. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Random, xxh32 } from "#kit";
import { EVICTION_POLICIES, evictionPolicy } from "../../../edge/core/eviction/policies.ts";
import { EvictionNode, IN_NO_QUEUE } from "../../../edge/core/eviction/policy.ts";

const BYTES_MAX = 65_536;

class Keyed extends EvictionNode {
  readonly key: number;
  constructor(key: number, bytes: number) {
    super(xxh32(String(key)), bytes);
    this.key = key;
  }
}

type Call = readonly [kind: "use" | "resize" | "remove" | "bound", key: number, bytes: number];
const call: fc.Arbitrary<Call> = fc.tuple(
  fc.constantFrom("use", "use", "use", "use", "resize", "remove", "bound"),
  fc.nat(60),
  fc.oneof(fc.integer({ min: 1, max: 4_000 }), fc.integer({ min: 1, max: 2 * BYTES_MAX })),
);

describe.each(EVICTION_POLICIES)("%s", (name) => {
  test("never holds more than its bytes, knows what it holds, and tells of each node that leaves once", () => {
    let evictions = 0;
    let refusals = 0;
    fc.assert(
      fc.property(fc.array(call, { minLength: 50, maxLength: 300 }), (calls) => {
        const kept = new Map<number, Keyed>();
        let told: Keyed[] = [];
        let bytesMax = BYTES_MAX;
        const policy = evictionPolicy<Keyed>(name, BYTES_MAX, (node) => {
          expect(node.queue).toBe(IN_NO_QUEUE);
          told.push(node);
        });
        for (const [kind, key, bytes] of calls) {
          const present = kept.get(key);
          told = [];
          if (kind === "bound") {
            bytesMax = policy.overheadBytes + Math.ceil(bytes / 2);
            policy.bytesMax = bytesMax;
            expect(policy.bytesMax).toBeCloseTo(bytesMax, 6);
          } else if (present === undefined) {
            if (kind !== "use") continue;
            const node = new Keyed(key, bytes);
            kept.set(key, node);
            const isKept = policy.admit(node);
            expect(told.includes(node)).toBe(!isKept);
            if (!isKept) refusals++;
          } else if (kind === "use") {
            policy.hit(present);
            expect(told).toEqual([]);
          } else if (kind === "resize") {
            expect(policy.resize(present, bytes)).toBe(!told.includes(present));
            expect(present.bytes).toBe(bytes);
          } else {
            policy.remove(present);
            kept.delete(key);
            expect(told).toEqual([]);
          }
          expect(new Set(told).size).toBe(told.length);
          evictions += told.length;
          for (const node of told) expect(kept.delete(node.key)).toBe(true);
          expect(policy.bytes).toBe([...kept.values()].reduce((sum, node) => sum + node.bytes, 0));
          expect(policy.bytes + policy.overheadBytes).toBeLessThanOrEqual(bytesMax);
          for (const node of kept.values()) expect(node.queue).not.toBe(IN_NO_QUEUE);
        }
      }),
      { numRuns: 60 },
    );
    expect(evictions).toBeGreaterThan(100);
    expect(refusals).toBeGreaterThan(10);
  });

  test("the same calls give the same evictions", () => {
    const evictedIn = (): string => {
      const { evicted } = replay(name, trace("one", 3_000), BYTES_MAX);
      return evicted.join();
    };
    expect(evictedIn()).not.toBe("");
    expect(evictedIn()).toBe(evictedIn());
  });
});

test("lru keeps exactly what a list sorted by last use keeps", () => {
  let evictions = 0;
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(30), fc.integer({ min: 1, max: 30_000 })), { minLength: 50, maxLength: 200 }),
      (uses) => {
        const kept = new Map<number, Keyed>();
        const policy = evictionPolicy<Keyed>("lru", BYTES_MAX, (node) => void kept.delete(node.key));
        // Oldest first.
        let model: { readonly key: number; readonly bytes: number }[] = [];
        for (const [key, bytes] of uses) {
          const node = kept.get(key);
          const known = model.find((entry) => entry.key === key);
          model = [...model.filter((entry) => entry.key !== key), known ?? { key, bytes }];
          while (model.reduce((sum, entry) => sum + entry.bytes, 0) > BYTES_MAX) {
            model.shift();
            evictions++;
          }
          if (node !== undefined) policy.hit(node);
          else {
            const added = new Keyed(key, bytes);
            kept.set(key, added);
            policy.admit(added);
          }
          expect([...kept.keys()].toSorted((a, b) => a - b)).toEqual(
            model.map((entry) => entry.key).toSorted((a, b) => a - b),
          );
        }
      },
    ),
    { numRuns: 60 },
  );
  expect(evictions).toBeGreaterThan(100);
});

/** Requests by a Zipf-like law, and half of them for objects that nobody asks for again; log-uniform sizes, 100 bytes to 20 kB. */
function trace(seed: string, length: number): readonly (readonly [key: number, bytes: number])[] {
  const random = new Random(seed);
  const bytesOf = (key: number): number => Math.round(100 * 200 ** new Random(`${seed}/${key}`).float());
  return Array.from({ length }, (_, request) => {
    const key = random.chance(0.5) ? 1_000_000 + request : Math.floor(1_000 ** random.float());
    return [key, bytesOf(key)] as const;
  });
}

function replay(
  name: (typeof EVICTION_POLICIES)[number],
  uses: readonly (readonly [key: number, bytes: number])[],
  bytesMax: number,
) {
  const kept = new Map<number, Keyed>();
  const evicted: number[] = [];
  const policy = evictionPolicy<Keyed>(name, bytesMax, (node) => {
    kept.delete(node.key);
    evicted.push(node.key);
  });
  let hits = 0;
  let hitBytes = 0;
  for (const [key, bytes] of uses) {
    const node = kept.get(key);
    if (node !== undefined) {
      hits++;
      hitBytes += bytes;
      policy.hit(node);
      continue;
    }
    const added = new Keyed(key, bytes);
    kept.set(key, added);
    policy.admit(added);
  }
  return { hits, hitBytes, evicted };
}

test.each([
  ["one", 65_536],
  ["two", 131_072],
  ["three", 524_288],
])(
  "trace %s in %i bytes: the default has more hits and more bytes than LRU, s3-fifo too",
  (seed, bytesMax) => {
    const uses = trace(seed, 20_000);
    const lru = replay("lru", uses, bytesMax);
    expect(lru.hits).toBeGreaterThan(1_000);
    for (const name of [EVICTION_POLICIES[0], "s3-fifo"] as const) {
      const other = replay(name, uses, bytesMax);
      expect(other.hits, name).toBeGreaterThan(lru.hits);
      expect(other.hitBytes, name).toBeGreaterThan(lru.hitBytes);
    }
  },
);

test("a pass over objects that are asked for once leaves what is in use in the default's store, and empties LRU's", () => {
  const used = Array.from({ length: 4 * 40 }, (_, index) => [index % 40, 4_000] as const);
  // Longer than the store, shorter than the memory of its counts.
  const scan = Array.from({ length: 400 }, (_, index) => [1_000 + index, 4_000] as const);
  const hitsAfter = (name: (typeof EVICTION_POLICIES)[number]): number =>
    replay(name, [...used, ...scan, ...used.slice(0, 40)], 4 * BYTES_MAX).hits - 3 * 40;
  expect(hitsAfter("lru")).toBe(0);
  expect(hitsAfter(EVICTION_POLICIES[0])).toBeGreaterThanOrEqual(30);
});

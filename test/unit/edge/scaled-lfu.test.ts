import { describe, expect, test } from "vitest";
import { Random, xxh32 } from "#kit";
import { EvictionNode, IN_NO_QUEUE } from "../../../edge/core/eviction/policy.ts";
import { ScaledLfuPolicy } from "../../../edge/core/eviction/scaled-lfu.ts";
import { ScaledQueues } from "../../../edge/core/eviction/scaled-queues.ts";
import {
  firstWindowShare,
  miniatureBytesFor,
  WindowChoice,
} from "../../../edge/core/eviction/window-choice.ts";

const hash = (n: number): number => xxh32(`key ${n}`);
const OBJECT_BYTES = 4_096;

/** What a choice says of a stream of keys, one size each. */
function sharesChosen(storeBytes: number, keys: Iterable<number>): number[] {
  const counts = new Map<number, number>();
  const choice = new WindowChoice(storeBytes, storeBytes, (key) => counts.get(key) ?? 0);
  const chosen: number[] = [];
  for (const key of keys) {
    counts.set(hash(key), Math.min(15, (counts.get(hash(key)) ?? 0) + 1));
    const share = choice.use(hash(key), OBJECT_BYTES);
    if (share !== undefined) chosen.push(share);
  }
  return chosen;
}

/** Each key twice, the second time after `distance` new ones and as many second times of others. */
function* twice(from: number, count: number, distance: number): Generator<number> {
  for (let key = from; key < from + count; key++) {
    yield key;
    if (key >= from + distance) yield key - distance;
  }
}

/** A few keys by a Zipf-like law, and as many that are asked for once. */
function* popular(seed: string, count: number, keys: number): Generator<number> {
  const random = new Random(seed);
  for (let request = 0; request < count; request++) {
    yield -1 - Math.floor(keys ** random.float());
    yield 10_000_000 + request;
  }
}

describe("the choice of a window", () => {
  // 4,096 objects, of which at most 512 are looked at.
  const STORE_BYTES = 2 ** 24;

  test("is a large one where what comes back was used lately and only once", () => {
    const chosen = sharesChosen(STORE_BYTES, twice(0, 40_000, 1_750));
    expect(chosen.at(-1)).toBe(0.95);
  });

  test("goes back to a small one when traffic does", () => {
    const keys = function* () {
      yield* twice(0, 40_000, 1_750);
      yield* popular("back", 60_000, 15_000);
    };
    const chosen = sharesChosen(STORE_BYTES, keys());
    expect(chosen).toContain(0.95);
    expect(chosen.at(-1)).toBe(0.4);
  });

  test("stays where no window finds more", () => {
    const random = new Random("unused");
    const once = Array.from({ length: 40_000 }, () => Math.floor(1e9 * random.float()));
    expect(sharesChosen(STORE_BYTES, once)).toEqual([]);
    // A store that is too small to tell from.
    expect(firstWindowShare(2 ** 21)).toBe(0.4);
    expect(miniatureBytesFor(2 ** 21)).toBe(0);
    expect(sharesChosen(2 ** 21, twice(0, 10_000, 240))).toEqual([]);
  });
});

test("a policy finds what comes back after most of its bytes once it has seen that it does", () => {
  const kept = new Map<number, EvictionNode>();
  const policy = new ScaledLfuPolicy<EvictionNode>(2 ** 24, (node) => kept.delete(node.hash));
  let found = 0;
  for (const key of twice(0, 40_000, 1_750)) {
    const present = kept.get(hash(key));
    if (present !== undefined) {
      found++;
      policy.hit(present);
      continue;
    }
    const node = new EvictionNode(hash(key), OBJECT_BYTES);
    kept.set(node.hash, node);
    policy.admit(node);
  }
  expect(found).toBeGreaterThan(30_000);
});

test("queues whose bytes or window shrink never hold more than they may, and tell what goes", () => {
  const random = new Random("queues");
  const kept = new Set<EvictionNode>();
  const queues = new ScaledQueues<EvictionNode>(
    2 ** 20,
    0.4,
    () => random.int(16),
    (node) => kept.delete(node),
  );
  let bytesMax = 2 ** 20;
  for (let step = 0; step < 5_000; step++) {
    const node = new EvictionNode(hash(step), 1 + random.int(40_000));
    kept.add(node);
    queues.insert(node);
    if (step % 7 === 0) queues.windowShare = random.float() * 0.95;
    const [first] = kept;
    if (first !== undefined && step % 3 === 0) queues.use(first);
    if (step % 2_000 === 1_999) queues.bytesMax = bytesMax /= 2;
    expect(queues.bytes).toBeLessThanOrEqual(bytesMax);
    if (step % 100 !== 0) continue;
    expect([...kept].reduce((sum, { bytes }) => sum + bytes, 0)).toBe(queues.bytes);
    expect(queues.count).toBe(kept.size);
    expect([...kept].some(({ queue }) => queue === IN_NO_QUEUE)).toBe(false);
  }
});

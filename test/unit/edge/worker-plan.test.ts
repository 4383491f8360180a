/** How workers divide a server: owners of parts, sockets, shares of limits. */
import { expect, test } from "vitest";
import { ownerOf, SHARDS, shardOf, shardsOf, shareOf, socketsOf } from "../../../edge/core/worker-plan.ts";

const numbers = (count: number) => Array.from({ length: count }, (_, number) => number);

test("every part has one owner, and the workers' parts differ by one at most", () => {
  for (const workers of [1, 2, 3, 5, 8, 16]) {
    const parts = numbers(workers).map((worker) => shardsOf(worker, workers));
    expect(parts.flat().sort((a, b) => a - b)).toEqual(numbers(SHARDS));
    const sizes = parts.map(({ length }) => length);
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
    for (const [worker, own] of parts.entries())
      for (const shard of own) expect(ownerOf(shard, workers)).toBe(worker);
  }
});

test("keys fall into all parts, none with twice its due", () => {
  const counts = numbers(SHARDS).map(() => 0);
  for (let n = 0; n < 16_000; n++) {
    const shard = shardOf(`http://www.example.com/object-${n}`);
    counts[shard] = (counts[shard] ?? 0) + 1;
  }
  expect(Math.min(...counts)).toBeGreaterThan(500);
  expect(Math.max(...counts)).toBeLessThan(2_000);
});

test.each([
  ["all live", 3, [0, 1, 2], { 0: [0], 1: [1], 2: [2] }],
  ["one is dead: a living one takes its socket", 3, [0, 2], { 0: [0, 1], 2: [2] }],
  ["two are dead: the sockets are spread", 4, [1, 2], { 1: [0, 1], 2: [2, 3] }],
  ["one is left: it takes all", 3, [2], { 2: [0, 1, 2] }],
  ["more workers than sockets: they share", 1, [0, 1, 2], { 0: [0], 1: [0], 2: [0] }],
  ["more sockets than workers", 4, [0, 1], { 0: [0, 2], 1: [1, 3] }],
  ["nobody lives", 2, [], {}],
])("sockets: %s", (_name, sockets, living, expected) => {
  expect(Object.fromEntries(socketsOf(sockets, living))).toEqual(expected);
});

test("while one worker lives, every socket is accepted from and nobody is without", () => {
  for (let sockets = 1; sockets <= 6; sockets++)
    for (let mask = 1; mask < 64; mask++) {
      const living = numbers(6).filter((worker) => (mask & (1 << worker)) !== 0);
      const plan = socketsOf(sockets, living);
      expect([...new Set([...plan.values()].flat())].sort((a, b) => a - b)).toEqual(numbers(sockets));
      for (const own of plan.values()) expect(own.length).toBeGreaterThan(0);
    }
});

test("shares of a limit sum up to it, also after deaths; nobody is left with nothing", () => {
  for (const limit of [2, 7, 5_000])
    for (const living of [[0, 1], [0, 2], [1], [0, 1, 2, 3]]) {
      const shares = living.map((worker) => shareOf(limit, worker, living));
      expect(Math.min(...shares)).toBeGreaterThanOrEqual(1);
      expect(shares.reduce((sum, share) => sum + share, 0)).toBe(Math.max(limit, living.length));
    }
  expect(shareOf(10, 3, [0, 1])).toBe(10);
});

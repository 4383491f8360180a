import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HEAP_GROWING_PERCENT, heapGrowingPercent } from "../../../edge/core/heap-growth.ts";

const MEBIBYTE = 2 ** 20;
const GIBIBYTE = 2 ** 30;

describe("how much the old generation grows before it is collected", () => {
  test("a small heap trebles in a process with room", () => {
    const sample = { managedBytes: 16 * MEBIBYTE, residentBytes: 110 * MEBIBYTE };
    expect(heapGrowingPercent(sample, GIBIBYTE, 1_136 * MEBIBYTE)).toBe(200);
  });

  test("a larger one grows by 64 MiB, and a large one by its share", () => {
    const residentBytes = 300 * MEBIBYTE;
    const capBytes = 1_136 * MEBIBYTE;
    expect(heapGrowingPercent({ managedBytes: 128 * MEBIBYTE, residentBytes }, GIBIBYTE, capBytes)).toBe(50);
    expect(heapGrowingPercent({ managedBytes: 900 * MEBIBYTE, residentBytes }, GIBIBYTE, capBytes)).toBe(30);
  });

  test("at its cap, and above it, a process is collected as early as ever", () => {
    const managedBytes = 40 * MEBIBYTE;
    for (const residentBytes of [1_130, 1_136, 1_200])
      expect(
        heapGrowingPercent(
          { managedBytes, residentBytes: residentBytes * MEBIBYTE },
          GIBIBYTE,
          1_136 * MEBIBYTE,
        ),
      ).toBe(HEAP_GROWING_PERCENT);
  });

  test("a fifth of a small store is left to it", () => {
    const sample = { managedBytes: 40 * MEBIBYTE, residentBytes: 110 * MEBIBYTE };
    expect(heapGrowingPercent(sample, 64 * MEBIBYTE, 176 * MEBIBYTE)).toBe(32);
    expect(heapGrowingPercent(sample, 128 * MEBIBYTE, 240 * MEBIBYTE)).toBe(64);
  });

  test("what it grants beyond the least stays below the cap", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2 ** 40 }),
        fc.integer({ min: 1, max: 2 ** 40 }),
        fc.integer({ min: 1, max: 2 ** 40 }),
        fc.integer({ min: 1, max: 2 ** 40 }),
        (managedBytes, residentBytes, memoryBytes, capBytes) => {
          const percent = heapGrowingPercent({ managedBytes, residentBytes }, memoryBytes, capBytes);
          expect(Number.isInteger(percent) && percent >= HEAP_GROWING_PERCENT && percent <= 200).toBe(true);
          if (percent === HEAP_GROWING_PERCENT) return;
          const deadBytes = (managedBytes * percent) / 100;
          expect(residentBytes + deadBytes).toBeLessThanOrEqual(capBytes);
          expect(deadBytes).toBeLessThanOrEqual(memoryBytes / 5);
        },
      ),
    );
  });
});

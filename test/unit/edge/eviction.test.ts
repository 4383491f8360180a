import { describe, expect, test } from "vitest";
import { xxh32 } from "#kit";
import { FrequencySketch } from "../../../edge/core/eviction/frequency-sketch.ts";
import { GhostTable } from "../../../edge/core/eviction/ghost-table.ts";
import { SecondHitFilter } from "../../../edge/core/eviction/second-hit.ts";

const hash = (n: number): number => xxh32(`key ${n}`);

describe("frequency sketch", () => {
  test("never counts less than there was, and rarely more", () => {
    const sketch = new FrequencySketch(1_024);
    for (let n = 0; n < 400; n++)
      for (let use = 0; use <= n % 10; use++) sketch.add(hash(n), Number.POSITIVE_INFINITY);
    let over = 0;
    for (let n = 0; n < 400; n++) {
      expect(sketch.count(hash(n))).toBeGreaterThanOrEqual((n % 10) + 1);
      if (sketch.count(hash(n)) > (n % 10) + 1) over++;
    }
    expect(over).toBeLessThan(40);
    expect(sketch.count(hash(1_000))).toBeLessThanOrEqual(15);
  });

  test("saturates at 15, and halves everything at the sample size", () => {
    const sketch = new FrequencySketch(16);
    for (let use = 0; use < 100; use++) sketch.add(hash(1), Number.POSITIVE_INFINITY);
    expect(sketch.count(hash(1))).toBe(15);
    const aged = new FrequencySketch(1_024);
    for (let use = 0; use < 8; use++) aged.add(hash(1), 8);
    expect(aged.count(hash(1))).toBe(4);
    expect(FrequencySketch.bytesFor(1_000)).toBe(2_048);
  });

  test.for([1, 2, 14, 15, 16, 1_000])("%i uses told at once are as many told one by one", (uses) => {
    const [singly, atOnce] = [new FrequencySketch(16), new FrequencySketch(16)];
    // So few columns that keys share them in some rows.
    for (const key of [1, 2, 3, 1, 4]) {
      for (let use = 0; use < uses; use++) singly.add(hash(key), Number.POSITIVE_INFINITY);
      atOnce.add(hash(key), Number.POSITIVE_INFINITY, uses);
    }
    singly.add(hash(9), 1);
    atOnce.add(hash(9), 1);
    for (let key = 0; key < 40; key++) expect(atOnce.count(hash(key))).toBe(singly.count(hash(key)));
  });
});

describe("ghost table", () => {
  test("knows a key for one span of evicted bytes, and gives it away once", () => {
    const table = new GhostTable(4_096, 100_000);
    expect(table.take(hash(1))).toBe(false);
    table.add(hash(1), 1_000);
    table.add(hash(2), 1_000);
    expect(table.take(hash(1))).toBe(true);
    expect(table.take(hash(1))).toBe(false);
    for (let n = 10; n < 105; n++) table.add(hash(n), 1_000);
    expect(table.take(hash(2))).toBe(true);
    for (let n = 200; n < 301; n++) table.add(hash(n), 1_000);
    expect(table.take(hash(10))).toBe(false);
    expect(table.take(hash(300))).toBe(true);
  });

  test("keeps the newest when there are more than it holds", () => {
    const table = new GhostTable(1_024, 4_096);
    for (let n = 0; n < 100_000; n++) table.add(hash(n), 1);
    let known = 0;
    for (let n = 99_500; n < 100_000; n++) if (table.take(hash(n))) known++;
    expect(known).toBeGreaterThan(450);
    expect(GhostTable.bytesFor(1_024)).toBe(8 * 1_024);
  });
});

describe("second-hit filter", () => {
  test("lets a key through from its second time on, for at least as many other keys as one filter holds", () => {
    const filter = new SecondHitFilter(1_000);
    let wronglyKnown = 0;
    for (let n = 0; n < 20_000; n++) {
      if (filter.isSecond(hash(n))) wronglyKnown++;
      // Half of what is asked is then known and counts too.
      if (n >= 450) expect(filter.isSecond(hash(n - 450))).toBe(true);
    }
    expect(wronglyKnown).toBeLessThan(20_000 * 0.03);
    expect(filter.bytes).toBeLessThanOrEqual(2 * 1_252);
  });

  test("forgets: after twice its keys a key is new again", () => {
    const filter = new SecondHitFilter(1_000);
    let known = 0;
    for (let n = 0; n < 500; n++) filter.isSecond(hash(n));
    for (let n = 1_000; n < 4_000; n++) filter.isSecond(hash(n));
    for (let n = 0; n < 500; n++) if (filter.isSecond(hash(n))) known++;
    expect(known).toBeLessThan(25);
  });
});

import { describe, expect, test } from "vitest";
import { xxh32 } from "#kit";
import { WriteAdmission } from "../../../edge/core/disk/write-admission.ts";

const DISK_BYTES = 64 * 2 ** 20;
const OBJECT_BYTES = 16_384;
const hash = (n: number): number => xxh32(`key ${n}`);

/** A full disk that is asked about objects of one size; what it takes moves its age. */
class Model {
  readonly admission = new WriteAdmission({ diskBytes: DISK_BYTES, keys: 65_536 });
  writtenBytes = 0;
  writes = 0;

  fetched(key: number): boolean {
    this.admission.returned(hash(key), this.writtenBytes);
    return this.#asked(key, "fetched");
  }
  leaves(key: number): boolean {
    return this.#asked(key, "leaving-memory");
  }
  read(key: number): void {
    this.admission.returned(hash(key), this.writtenBytes);
  }
  worthOf(use: string): number {
    return (
      this.admission.worth.find((kind) => kind.use === use && kind.bytesBelow > OBJECT_BYTES)?.worth ?? -1
    );
  }
  #asked(key: number, occasion: "fetched" | "leaving-memory"): boolean {
    const isTaken = this.admission.admits(hash(key), OBJECT_BYTES, occasion, this.writtenBytes, true);
    if (isTaken) {
      this.writes++;
      this.writtenBytes += OBJECT_BYTES;
    }
    return isTaken;
  }
}

describe("what a full disk takes", () => {
  test("begins with second hits: not the first fetch, but the second, and what was used in memory", () => {
    const model = new Model();
    expect(model.fetched(1)).toBe(false);
    expect(model.fetched(1)).toBe(true);
    expect(model.fetched(2)).toBe(false);
    expect(model.leaves(2)).toBe(true);
  });

  test("takes everything while it has room", () => {
    const admission = new WriteAdmission({ diskBytes: DISK_BYTES, keys: 1_000 });
    for (let key = 0; key < 500; key++)
      expect(admission.admits(hash(key), OBJECT_BYTES, "fetched", key * OBJECT_BYTES, false)).toBe(true);
  });

  test("no longer takes what was used in memory when none of it is ever read", () => {
    const model = new Model();
    for (let key = 0; key < 1_000; key++) {
      model.fetched(key);
      model.leaves(key);
    }
    expect(model.writes).toBeLessThan(120);
    expect(model.worthOf("used")).toBeLessThan(0.05);
    // Traffic changes: two of three are read now.
    for (let key = 1_000; key < 4_000; key++) {
      model.fetched(key);
      model.leaves(key);
      if (key >= 1_500 && key % 3 !== 0) model.read(key - 300);
    }
    expect(model.leaves(5_000)).toBe(true);
  });

  test("takes the first fetch where what was asked for once mostly comes back", () => {
    const model = new Model();
    for (let key = 0; key < 400; key++) {
      model.fetched(key);
      if (key >= 50) model.fetched(key - 50);
    }
    expect(model.worthOf("once")).toBeGreaterThan(0.5);
    expect(model.fetched(10_000)).toBe(true);
  });

  test("what comes back later than the disk lives is no reason to write", () => {
    const model = new Model();
    const life = DISK_BYTES / OBJECT_BYTES;
    for (let key = 0; key < 2_000; key++) {
      model.fetched(key);
      // Others are written meanwhile.
      model.writtenBytes += OBJECT_BYTES * 10;
      if (key * 10 > life) model.fetched(key - Math.ceil(life / 10));
    }
    expect(model.worthOf("once")).toBe(0);
  });

  test("of more keys than it remembers it looks at a part of them, and finds the same worth", () => {
    const admission = new WriteAdmission({ diskBytes: 2 ** 30, keys: 65_536 });
    // 400,000 candidates live at a time, 32,768 are remembered; half of all come back.
    const waiting = 400_000;
    let written = 0;
    for (let key = 0; key < 3 * waiting; key++) {
      admission.admits(hash(key), 2_048, "leaving-memory", written, true);
      written += 2_048;
      if (key >= waiting && key % 2 === 0) admission.returned(hash(key - waiting), written);
    }
    const used = admission.worth.find(({ use }) => use === "used")?.worth ?? 0;
    expect(used).toBeGreaterThan(0.4);
    expect(used).toBeLessThan(0.6);
    expect(admission.bytes).toBeLessThan(2 ** 20);
  });
});

/** Records that fill the segments they travel in. */
import { PassThrough } from "node:stream";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { SegmentWriter } from "#transport";
import { fillingBytes, SEGMENT_BYTES } from "../../../transport/core/segment-filling.ts";

describe("what is written at once", () => {
  test("fills whole segments with its records", () => {
    expect(fillingBytes(1_448, 16_384)).toBe(1_426);
    expect(fillingBytes(22 + 1_448, 16_384)).toBe(1_426);
    expect(fillingBytes(4 * 1_448, 16_384)).toBe(4 * 1_448 - 22);
    expect(fillingBytes(4 * 1_448, 4_096)).toBe(4 * 1_448 - 44);
    expect(fillingBytes(45 * 1_448, 16_384)).toBe(45 * 1_448 - 88);
  });

  test("is nothing while a segment is not full", () => {
    expect(fillingBytes(22, 16_384)).toBe(0);
    expect(fillingBytes(1_425, 16_384)).toBe(0);
  });

  test("is never more than there is, leaves less than a segment, and takes no more segments than it must", () => {
    const recordBytes = fc.constantFrom(4_096, 16_384);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 70_000 }), recordBytes, (pending, record) => {
        const now = fillingBytes(pending, record);
        expect(now).toBeLessThanOrEqual(pending);
        expect(pending - now).toBeLessThan(SEGMENT_BYTES);
        const sentBytes = now + 22 * Math.ceil(now / record);
        expect([0, SEGMENT_BYTES - 22]).toContain(sentBytes % SEGMENT_BYTES);
      }),
    );
  });
});

describe("the writer", () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  function setUp() {
    const written: number[] = [];
    const to = new PassThrough({
      highWaterMark: 1 << 24,
      transform(chunk: Buffer, _encoding, done) {
        written.push(chunk.length);
        done(null, chunk);
      },
    });
    return { to, written, writer: new SegmentWriter(to) };
  }

  test("hands on every byte in its order, however it comes", () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(1, 300, 1_447, 1_448, 2_896, 20_000)), (sizes) => {
        const { to, writer } = setUp();
        const sent = sizes.map((size, index) => Buffer.alloc(size, index));
        for (const chunk of sent) writer.write(chunk);
        writer.flush();
        expect(Buffer.compare((to.read() as Buffer | null) ?? Buffer.alloc(0), Buffer.concat(sent))).toBe(0);
      }),
    );
  });

  test("keeps nothing of what ended within a segment", () => {
    const { written, writer } = setUp();
    writer.write(Buffer.alloc(300));
    expect(written).toEqual([300]);
  });

  test("lets what nothing follows go after a millisecond", async () => {
    const { written, writer } = setUp();
    writer.write(Buffer.alloc(1_448));
    expect(written).toEqual([1_426]);
    await vi.advanceTimersByTimeAsync(1);
    expect(written).toEqual([1_426, 22]);
  });

  test("writes nothing to a connection that is gone", async () => {
    const { to, written, writer } = setUp();
    writer.write(Buffer.alloc(1_448));
    to.destroy();
    await vi.advanceTimersByTimeAsync(5);
    writer.flush();
    expect(written).toEqual([1_426]);
  });
});

/** Goal: any k symbols of a group restore it. Method: RFC-free vectors of the field's definition, laws over random groups and losses. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { addMultiple, inverse, multiply } from "../../../transport/core/udp/galois.ts";
import { RepairBuilder, restore, SYMBOLS_MAX } from "../../../transport/core/udp/reed-solomon.ts";

/** Product by the definition: shift, add, reduce. */
function slowProduct(a: number, b: number): number {
  let product = 0;
  for (let bit = 7; bit >= 0; bit--) {
    product <<= 1;
    if (product & 0x100) product ^= 0x11d;
    if ((b >> bit) & 1) product ^= a;
  }
  return product;
}

describe("GF(256)", () => {
  test("multiplies as its definition says, every pair of bytes", () => {
    for (let a = 0; a < 256; a++)
      for (let b = 0; b < 256; b++) {
        const product = slowProduct(a, b);
        if (multiply(a, b) !== product) expect.fail(`${a} * ${b}: ${multiply(a, b)}, expected ${product}`);
      }
  });

  test("has an inverse of every byte but 0", () => {
    for (let a = 1; a < 256; a++) expect(multiply(a, inverse(a))).toBe(1);
    expect(() => inverse(0)).toThrow(RangeError);
  });

  test("adds a multiple of every length", () => {
    for (let length = 0; length < 12; length++) {
      const from = Uint8Array.from({ length }, (_, at) => at * 37 + 1);
      const into = Uint8Array.from({ length: length + 2 }, (_, at) => at * 11);
      const expected = into.map((byte, at) =>
        at < length ? byte ^ slowProduct(from[at] as number, 199) : byte,
      );
      addMultiple(into, from, 199);
      expect(into).toEqual(expected);
    }
  });
});

describe("Reed-Solomon", () => {
  const group = fc
    .record({ sources: fc.integer({ min: 1, max: 60 }), repairs: fc.integer({ min: 0, max: 40 }) })
    .chain(({ sources, repairs }) =>
      fc.record({
        sources: fc.array(fc.uint8Array({ minLength: 0, maxLength: 40 }), {
          minLength: sources,
          maxLength: sources,
        }),
        repairs: fc.constant(repairs),
        /** The order in which symbols come; the first k of them are all there is. */
        order: fc.shuffledSubarray([...Array(sources + repairs).keys()], {
          minLength: sources,
          maxLength: sources,
        }),
      }),
    );

  test("any k of n symbols restore a group, with symbols of any length", () => {
    let restored = 0;
    fc.assert(
      fc.property(group, ({ sources, repairs, order }) => {
        const builder = new RepairBuilder(repairs, 40);
        for (const source of sources) builder.add(source);
        const here = new Set(order);
        const came = sources.map((source, index) => (here.has(index) ? source : undefined));
        const cameRepairs = new Map(
          order
            .filter((index) => index >= sources.length)
            .map((index) => [index - sources.length, builder.repair(index - sources.length)]),
        );
        restored += came.filter((source) => source === undefined).length;
        expect(restore(came, cameRepairs)).toBe(true);
        for (const [index, source] of sources.entries()) {
          const back = came[index] as Uint8Array;
          expect(back.subarray(0, source.length)).toEqual(source);
          expect(back.subarray(source.length).every((byte) => byte === 0)).toBe(true);
        }
      }),
      { numRuns: 300 },
    );
    expect(restored).toBeGreaterThan(300);
  });

  test("one symbol too few changes nothing", () => {
    const builder = new RepairBuilder(2, 4);
    for (const byte of [1, 2, 3, 4]) builder.add(Uint8Array.of(byte));
    const came = [Uint8Array.of(1), undefined, undefined, Uint8Array.of(4)];
    expect(restore(came, new Map([[1, builder.repair(1)]]))).toBe(false);
    expect(came[1]).toBeUndefined();
  });

  test("the largest group loses as many sources as it has repairs", () => {
    const repairs = 100;
    const count = SYMBOLS_MAX - repairs;
    const builder = new RepairBuilder(repairs, 8);
    const sources = Array.from({ length: count }, (_, index) =>
      Uint8Array.from({ length: 8 }, (_, at) => index * at),
    );
    for (const source of sources) builder.add(source);
    expect(() => builder.add(new Uint8Array(8))).toThrow(RangeError);
    const came = sources.map((source, index) => (index < repairs ? undefined : source));
    expect(restore(came, new Map(Array.from({ length: repairs }, (_, at) => [at, builder.repair(at)])))).toBe(
      true,
    );
    expect(came).toEqual(sources);
  });

  test("a builder that is reset remembers nothing", () => {
    const builder = new RepairBuilder(1, 4);
    builder.add(Uint8Array.of(9, 9, 9));
    builder.reset();
    builder.add(Uint8Array.of(5));
    const came: (Uint8Array | undefined)[] = [undefined];
    expect(restore(came, new Map([[0, builder.repair(0)]]))).toBe(true);
    expect(came[0]).toEqual(Uint8Array.of(5));
  });

  test("a source longer than the repairs, or repairs of two lengths, restore nothing", () => {
    expect(restore([undefined, Uint8Array.of(1, 2)], new Map([[0, Uint8Array.of(1)]]))).toBe(false);
    expect(
      restore(
        [undefined, undefined],
        new Map([
          [0, Uint8Array.of(1)],
          [1, Uint8Array.of(1, 2)],
        ]),
      ),
    ).toBe(false);
  });
});

/** Which differences control hands out, how a receiver fetches, and the reading of a long map in pieces. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TextPieces } from "#kit";
import { differenceChain, type KeptDifference } from "../../../control/core/difference-chain.ts";
import { fenceOf, fenceOfText } from "../../../control/core/fence.ts";
import { FetchPlan } from "../../../control/core/fetch-plan.ts";
import { NdjsonReader } from "../../../control/core/ndjson.ts";

describe("the way from what a receiver has", () => {
  const kept = (versions: readonly (readonly [number, string, string, number?])[]): KeptDifference[] =>
    versions.map(([version, base, result, bytes = 1]) => ({ version, base, result, bytes }));

  it.each<[string, readonly (readonly [number, string, string, number?])[], number, string, number, unknown]>(
    [
      ["one step", [[2, "a", "b"]], 2, "a", 10, [2]],
      [
        "three in a row",
        [
          [2, "a", "b"],
          [3, "b", "c"],
          [4, "c", "d"],
        ],
        4,
        "a",
        10,
        [2, 3, 4],
      ],
      [
        "from the middle",
        [
          [2, "a", "b"],
          [3, "b", "c"],
          [4, "c", "d"],
        ],
        4,
        "c",
        10,
        [4],
      ],
      ["it is there", [[2, "a", "b"]], 2, "b", 10, []],
      [
        "an older one, rolled back to",
        [
          [2, "a", "b"],
          [3, "b", "c"],
        ],
        2,
        "a",
        10,
        [2],
      ],
      ["a version without a difference", [[2, "a", "b"]], 3, "a", 10, undefined],
      [
        "a step that is missing",
        [
          [2, "a", "b"],
          [4, "c", "d"],
        ],
        4,
        "a",
        10,
        undefined,
      ],
      [
        "two publishers in turn, each from its own",
        [
          [2, "a", "b"],
          [3, "x", "c"],
          [4, "b", "d"],
        ],
        4,
        "a",
        10,
        [2, 4],
      ],
      [
        "too many bytes",
        [
          [2, "a", "b", 6],
          [3, "b", "c", 6],
        ],
        3,
        "a",
        10,
        undefined,
      ],
      [
        "a circle of contents",
        [
          [2, "a", "b"],
          [3, "b", "a"],
          [4, "a", "b"],
        ],
        4,
        "z",
        10,
        undefined,
      ],
    ],
  )("%s", (_what, rows, version, have, bytesMax, expected) => {
    expect(differenceChain(kept(rows), version, have, bytesMax)).toEqual(expected);
  });

  it("leads from there to the version, whatever is kept", () => {
    const row = fc.tuple(fc.constantFrom("a", "b", "c", "d"), fc.constantFrom("a", "b", "c", "d"));
    fc.assert(
      fc.property(fc.array(row, { maxLength: 12 }), fc.constantFrom("a", "b", "c", "d"), (rows, have) => {
        const all = kept(rows.map(([base, result], n) => [n + 1, base, result]));
        const chain = differenceChain(all, all.length, have, 100);
        if (chain === undefined) return;
        let at: string = have;
        for (const version of chain) {
          expect(all[version - 1]?.base).toBe(at);
          at = all[version - 1]?.result ?? "";
        }
        expect(at).toBe(all.at(-1)?.result);
      }),
    );
  });
});

describe("a fetch", () => {
  it("asks for the whole at once when differences do not fit, and again until it is answered", () => {
    const plan = new FetchPlan();
    expect(plan.first).toEqual({ type: "ask", wantsDifferences: true, delayMs: 0 });
    const away = plan.next("unreachable", 0.5);
    expect(away).toMatchObject({ type: "ask", wantsDifferences: true });
    expect((away as { delayMs: number }).delayMs).toBeGreaterThan(0);
    expect(plan.next("unusable-differences", 0.5)).toEqual({
      type: "ask",
      wantsDifferences: false,
      delayMs: 0,
    });
    expect(plan.next("unreachable", 0.5)).toMatchObject({ type: "ask", wantsDifferences: false });
    for (const outcome of ["fetched", "missing", "superseded"] as const)
      expect(plan.next(outcome, 0)).toEqual({ type: "end" });
  });
  it("does not name what it has to a control that does not understand it", () => {
    expect(new FetchPlan().next("refused", 0.5)).toMatchObject({ type: "ask", wantsDifferences: false });
  });
});

describe("a map that is read in pieces", () => {
  const long = "A".repeat(100_000);
  const line = (clusterMap: string): string =>
    `${JSON.stringify({ type: "document", body: { mapVersion: 3, reason: 'é "clusterMap":"', clusterMap, tiers: ["ü"] } })}\n`;
  const readIn = (text: string, sizes: readonly number[]): unknown[] => {
    const bytes = new TextEncoder().encode(text);
    const reader = new NdjsonReader(1_000_000);
    const values: unknown[] = [];
    for (let at = 0, n = 0; at < bytes.length; n++) {
      const size = sizes[n % sizes.length] ?? 1;
      values.push(...reader.read(bytes.slice(at, at + size)));
      at += size;
    }
    return values;
  };

  it("is the same however the bytes are cut, and never one text when it is long", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40_000 }), { minLength: 1, maxLength: 6 }), (sizes) => {
        const [first, second] = readIn(line(long) + line("AAAA"), [...sizes, 40_000]);
        const body = (first as { body: Record<string, unknown> }).body;
        expect(body["clusterMap"]).toBeInstanceOf(TextPieces);
        expect(JSON.stringify(first)).toBe(line(long).trim());
        expect(second).toEqual(JSON.parse(line("AAAA")));
      }),
      { numRuns: 30 },
    );
    // Byte by byte at the places that matter.
    expect(readIn(line("AAAA"), [1])).toEqual([JSON.parse(line("AAAA"))]);
  });

  it.each([
    ["one in a place where no map stands", '{"a":{"b":{"clusterMap":"AAAA"}}}\n'],
    ["the same key twice", '{"clusterMap":"AAAA","clusterMap":"BBBB"}\n'],
    ["an escape within it", '{"clusterMap":"AA\\u0041A"}\n'],
    ["a line feed within it", '{"clusterMap":"AA\nA"}\n'],
    ["what is no ASCII", '{"clusterMap":"AAé"}\n'],
  ])("refuses %s", (_what, text) => {
    expect(() => readIn(text, [1_000])).toThrow(SyntaxError);
  });

  it("keeps the bound of a line, and gives out an answer without line feed", () => {
    const bytes = new TextEncoder().encode(line(long));
    expect(() => new NdjsonReader(50_000).read(bytes)).toThrow(RangeError);
    const reader = new NdjsonReader(1_000_000);
    expect(reader.read(bytes.subarray(0, -1))).toEqual([]);
    expect(JSON.stringify(reader.end())).toBe(line(long).trim());
    const cut = new NdjsonReader(1_000_000);
    cut.read(bytes.subarray(0, 5_000));
    expect(() => cut.end()).toThrow(SyntaxError);
  });

  it("has its fence read without the map", () => {
    const body = {
      mapVersion: 7,
      publication: { term: 3, publisherId: 'x ,"clusterMap":" y' },
      clusterMap: "AAAA",
    };
    const text = JSON.stringify(body);
    expect(fenceOfText("map", text)).toEqual(fenceOf("map", body));
    expect(fenceOfText("property", text)).toBeUndefined();
  });
});

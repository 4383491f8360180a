/** Content codings as decisions: what a client takes, what may be coded, what the fields then say. */
import { describe, expect, test } from "vitest";
import { acceptance, codingKey, selectingFields } from "../../../edge/core/compression/accept-encoding.ts";
import { notCodedReason, recodedFields, varying } from "../../../edge/core/compression/codable.ts";
import {
  isDictionary,
  matchesPattern,
  useAsDictionary,
} from "../../../edge/core/compression/dictionaries.ts";
import { chooseForm, explainForm, type FormState } from "../../../edge/core/compression/form-choice.ts";
import { decodedBytesMax, isWorthwhile } from "../../../edge/core/compression/levels.ts";
import type { Fields } from "../../../edge/core/headers.ts";

const accepting = (value: string): Fields => [["Accept-Encoding", value]];
const DICTIONARY = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

describe("Accept-Encoding (RFC 9110, 12.5.3)", () => {
  test.each([
    ["gzip, deflate, br, zstd", ["br", "zstd", "gzip"]],
    ["GZIP", ["gzip"]],
    ["x-gzip", ["gzip"]],
    ["gzip;q=1.0, br;q=0.5", ["gzip", "br"]],
    ["br;q=0, *", ["zstd", "gzip"]],
    ["*;q=0.1, identity;q=0.5, gzip;q=0.6", ["gzip"]],
    ["identity, br", ["br"]],
    ["identity;q=1, *;q=0", []],
    ["gzip;q=0", []],
    ["gzip;q=0, gzip", []],
    // What is malformed asks for nothing.
    ["gzip;q=2, br;q=-1, zstd;q=0.1234", []],
    ["gzip;level=9, br ; q=0.5", ["br"]],
    ["br,,;q=1, ,", ["br"]],
    ["", []],
    ["dcb, dcz", []],
  ])("%s", (value, ranked) => {
    expect(acceptance(accepting(value)).ranked).toEqual(ranked);
  });

  test("without the field nothing is coded; with a dictionary only for who names one and a coding with it", () => {
    expect(acceptance([]).ranked).toEqual([]);
    const named = (accept: string, available: string): Fields => [
      ...accepting(accept),
      ["Available-Dictionary", available],
    ];
    expect(acceptance(named("br, dcz, dcb", `:${DICTIONARY}:`))).toMatchObject({
      rankedWithDictionary: ["dcb", "dcz"],
      dictionary: DICTIONARY,
    });
    for (const [accept, available] of [
      ["br, dcz", DICTIONARY],
      ["br, dcz", `:${DICTIONARY.slice(1)}:`],
      ["br, dcz", ":AAAA:"],
      ["br, *", `:${DICTIONARY}:`],
      ["br, dcz;q=0", `:${DICTIONARY}:`],
    ] as const)
      expect(acceptance(named(accept, available)).dictionary, `${accept} ${available}`).toBeUndefined();
  });

  test("spellings of one meaning have one key; the next hop is asked for gzip or for nothing", () => {
    expect(codingKey(accepting("br,gzip , deflate"))).toBe(codingKey(accepting("GZIP;q=1, foo, BR")));
    expect(codingKey(accepting("br, gzip;q=0.5"))).not.toBe(codingKey(accepting("br;q=0.5, gzip")));
    const range: Fields = [...accepting("br"), ["Range", "bytes=0-1"]];
    expect(codingKey(range)).not.toBe(codingKey(accepting("br")));
    expect(selectingFields([...accepting("br, gzip;q=0.1"), ["A", "b"]])).toEqual([
      ["A", "b"],
      ["Accept-Encoding", "gzip"],
    ]);
    expect(selectingFields([...accepting("br"), ["A", "b"]])).toEqual([["A", "b"]]);
  });
});

describe("what may be coded", () => {
  const head = (fields: Fields, more: object = {}) => ({ status: 200, fields, nominatedFields: [], ...more });
  const html: Fields = [["Content-Type", "text/html; charset=utf-8"]];
  test.each([
    [undefined, head(html)],
    [undefined, head([["Content-Type", "application/ld+json"]])],
    [undefined, head([["Content-Type", "image/svg+xml"]])],
    [undefined, head([...html, ["Content-Encoding", "x-gzip"]])],
    ["type", head([["Content-Type", "image/png"]])],
    ["type", head([["Content-Type", "text/event-stream"]])],
    ["type", head([])],
    ["status", head(html, { status: 404 })],
    ["coding", head([...html, ["Content-Encoding", "gzip, br"]])],
    ["no-transform", head([...html, ["Cache-Control", "max-age=1, No-Transform"]])],
    ["secret", head([...html, ["Set-Cookie", "a=b"]])],
    ["secret", head(html, { nominatedFields: ["cookie"] })],
  ])("%s", (reason, stored) => {
    expect(notCodedReason(stored, 1_000)).toBe(reason);
    if (reason === undefined) expect(notCodedReason(stored, 255)).toBe("size");
  });

  test("fields of another coding: the validator is weak (RFC 9110, 8.8.1), digests and ranges are gone", () => {
    const fields: Fields = [
      ["ETag", '"a"'],
      ["Content-Encoding", "gzip"],
      ["Accept-Ranges", "bytes"],
      ["Repr-Digest", "sha-256=:x:"],
      ["Last-Modified", "x"],
    ];
    expect(recodedFields(fields, "br")).toEqual([
      ["ETag", 'W/"a"'],
      ["Last-Modified", "x"],
      ["Content-Encoding", "br"],
    ]);
    expect(recodedFields([["ETag", 'W/"a"']], "identity")).toEqual([["ETag", 'W/"a"']]);
    expect(varying([["Vary", "Origin"]], ["Accept-Encoding"])).toEqual([["Vary", "Origin, Accept-Encoding"]]);
    for (const vary of ["*", "a, ACCEPT-ENCODING"])
      expect(varying([["Vary", vary]], ["Accept-Encoding"])).toEqual([["Vary", vary]]);
  });

  test("a bomb is bounded by its length, a small page never", () => {
    expect(decodedBytesMax(1_000, 2 ** 25, 200)).toBe(2 ** 20);
    expect(decodedBytesMax(50_000, 2 ** 25, 200)).toBe(10_000_000);
    expect(decodedBytesMax(2 ** 24, 2 ** 25, 200)).toBe(2 ** 25);
    expect([isWorthwhile(1_000, 950), isWorthwhile(1_000, 951)]).toEqual([true, false]);
  });
});

describe("dictionaries (RFC 9842)", () => {
  test.each([
    ["/app/*.js", "/app/main.1.js", true],
    ["/app/*.js", "/app/.js", true],
    ["/app/*.js", "/app/main.css", false],
    ["/app/main.js", "/app/main.js", true],
    ["/app/main.js", "/app/main.js.map", false],
    ["/a*b*b", "/ab", false],
    ["/a*b*b", "/a-b-b", true],
    ["/*", "/", true],
    [`/${"*a".repeat(200)}b`, `/${"a".repeat(20_000)}`, false],
  ])("%s and %s", (pattern, path, isMatch) => {
    expect(matchesPattern(pattern, path)).toBe(isMatch);
  });

  test("what a response says, and what a property does", () => {
    const said = (value: string): boolean => isDictionary([["Use-As-Dictionary", value]]);
    expect(said('match="/a/*", match-dest=("script" "style"), id="x"')).toBe(true);
    for (const value of ["", "match", 'match=""', 'match="/a", type=other', 'id="x"'])
      expect(said(value), value).toBe(false);
    expect(useAsDictionary(["/b/*", "/a/*"], "/a/x?y=/b/")).toBe('match="/a/*"');
    expect(useAsDictionary([], "/a")).toBeUndefined();
  });
});

describe("the form that goes out", () => {
  const choose = (
    accept: string,
    forms: Readonly<Record<string, FormState>>,
    more: Partial<Parameters<typeof chooseForm>[0]> = {},
  ) => {
    const fields: Fields =
      more.dictionary === undefined
        ? accepting(accept)
        : [...accepting(accept), ["Available-Dictionary", `:${more.dictionary}:`]];
    const context = {
      accepted: acceptance(fields),
      sourceCoding: "identity",
      bytes: 1_000,
      dictionary: undefined,
      stateOf: (name: string) => forms[name],
      streamRefusal: undefined,
      ...more,
    } as const;
    return { context, choice: chooseForm(context) };
  };
  const DCB = `dcb:${DICTIONARY}`;
  const gzipped = { sourceCoding: "gzip", bytes: 300 } as const;
  test.each([
    ["nothing made yet: what costs least", "br, gzip, zstd", {}, {}, "stream zstd"],
    ["only br", "br", { gzip: 300 }, {}, "stream br"],
    [
      "the smallest that is there",
      "br, gzip, zstd",
      { gzip: 300, zstd: 280, br: "pending" },
      {},
      "kept zstd",
    ],
    ["no coding is taken", "identity", { br: 200 }, {}, "as-stored not-accepted"],
    ["made smaller by none", "br, gzip", { br: "useless" }, {}, "as-stored useless"],
    ["too many streams", "br", {}, { streamRefusal: "busy" }, "as-stored busy"],
    ["too long for one", "br", {}, { streamRefusal: "too-long" }, "as-stored too-long"],
    ["came in gzip, and that is the best", "br, gzip", {}, gzipped, "as-stored smallest"],
    ["came in gzip, br is larger", "br, gzip", { br: 301 }, gzipped, "as-stored smallest"],
    ["came in gzip, br is smaller", "br, gzip", { br: 200 }, gzipped, "kept br"],
    ["gzip is not taken, nothing is made", "br", {}, gzipped, "decode gzip"],
    ["gzip is not taken, decoded before", "zstd", { identity: 1_000, br: 200 }, gzipped, "kept identity"],
    [
      "a dictionary, nothing with it made",
      "br, dcb, dcz",
      { br: 200 },
      { dictionary: DICTIONARY },
      "stream dcz",
    ],
    ["a form with it", "br, dcb, dcz", { br: 200, [DCB]: 20 }, { dictionary: DICTIONARY }, "kept dcb"],
    [
      "a dictionary that is of no use",
      "br, dcb",
      { br: 200, [DCB]: "useless" },
      { dictionary: DICTIONARY },
      "kept br",
    ],
    [
      "a dictionary, no room for a stream",
      "br, dcb",
      { br: 200 },
      { dictionary: DICTIONARY, streamRefusal: "busy" },
      "kept br",
    ],
  ] as const)("%s", (_what, accept, forms, more, expected) => {
    const { choice } = choose(accept, forms, more);
    expect(`${choice.kind} ${choice.kind === "as-stored" ? choice.reason : choice.coding}`).toBe(expected);
  });

  test("is told with how each coding stands", () => {
    const { context, choice } = choose("br, gzip", { br: 200, zstd: "pending" }, gzipped);
    expect(explainForm(choice, context)).toEqual({
      coding: "br",
      from: "kept",
      reason: null,
      forms: [
        { coding: "br", isAccepted: true, state: "kept", bytes: 200 },
        { coding: "zstd", isAccepted: false, state: "pending", bytes: null },
        { coding: "gzip", isAccepted: true, state: "stored", bytes: 300 },
      ],
    });
  });
});

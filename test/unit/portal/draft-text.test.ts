/** The editor's text: what is wrong stands at its line. */
import { describe, expect, it } from "vitest";
import { ParseError, propertyDocument } from "#kit";
import { faultOf, readDraft, writeDraft } from "#portal";
import { valueAt, withValue } from "../../../portal/core/draft-value.ts";
import { shop } from "./fixtures.ts";

function faultIn(text: string, format: "json" | "yaml") {
  const read = readDraft(text, format);
  if (read.fault !== null) return read.fault;
  try {
    propertyDocument.parse(read.value);
  } catch (error) {
    if (error instanceof ParseError) return faultOf(error, read.locate);
    throw error;
  }
  return undefined;
}

describe("readDraft", () => {
  it.each(["json", "yaml"] as const)("reads back what it writes (%s)", (format) => {
    const read = readDraft(writeDraft(shop, format), format);
    expect(propertyDocument.parse(read.value)).toEqual(shop);
  });

  const yaml = [
    "propertyId: shop",
    "customerId: acme",
    "hostnames:",
    "  - a.example",
    "  - A.example",
    "origins:",
    "  - { scheme: http, host: x, port: 0 }",
  ];

  it("names line and column of a list element, of a nested key, of an unknown key", () => {
    expect(faultIn(yaml.join("\n"), "yaml")).toMatchObject({
      path: "hostnames[1]",
      value: '"A.example"',
      line: 5,
      column: 5,
    });
    const mended = yaml.with(4, "  - b.example");
    expect(faultIn(mended.join("\n"), "yaml")).toMatchObject({
      path: "origins[0].port",
      line: 7,
      column: 30,
    });
    expect(
      faultIn([...mended.slice(0, 6), "  - { scheme: http, host: x, port: 1 }", "ttl: 3"].join("\n"), "yaml"),
    ).toMatchObject({ path: "ttl", line: 8 });
  });

  it("names the place above when a key is missing", () => {
    expect(
      faultIn(
        '{\n "propertyId": "shop",\n "customerId": "acme",\n "hostnames": ["a.example"],\n "origins": [{"scheme": "http", "host": "x"}]\n}',
        "json",
      ),
    ).toMatchObject({
      path: "origins[0].port",
      value: "nothing",
      line: 5,
    });
  });

  it.each([
    ["JSON that is only YAML", "a: 1", "json"],
    ["a broken mapping", "{", "json"],
    ["bad indentation", "a:\n  b: 1\n c: 2", "yaml"],
    ["a key twice", "a: 1\na: 2", "yaml"],
    ["a key twice in JSON", '{"a": 1, "a": 2}', "json"],
    ["an alias bomb", "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "yaml"],
  ] as const)("refuses %s", (_what, text, format) => {
    const fault = faultIn(text, format);
    expect(fault?.path).toBe("(document)");
    expect(fault?.expected).toContain(format.toUpperCase());
  });

  it.each([
    ["brackets that are never closed", "[".repeat(100_000)],
    ["brackets that are closed", "[".repeat(50_000) + "]".repeat(50_000)],
    ["mappings", "{a: ".repeat(3_000) + "1" + "}".repeat(3_000)],
    ["lists on one line", "- ".repeat(60_000)],
    ["lists by indentation", Array.from({ length: 400 }, (_, index) => `${" ".repeat(index)}-`).join("\n")],
  ])("refuses a deep text before it is built: %s", { timeout: 3_000 }, (_what, text) => {
    for (const format of ["json", "yaml"] as const) {
      const fault = faultIn(text, format);
      expect(fault).toMatchObject({ path: "(document)" });
      expect(fault?.value).not.toContain("call stack");
    }
    expect(faultIn(text, "yaml")?.value).toBe("more than 32 levels");
  });

  // The YAML reader's own test for double keys took more than a minute for this one.
  it("reads many keys in a time that grows with their number", { timeout: 8_000 }, () => {
    const keys = Array.from({ length: 12_000 }, (_, index) => `k${index}`);
    expect(faultIn(`{${keys.map((key) => `"${key}":1`).join(",")}}`, "json")?.path).toBe("k0");
    expect(faultIn(keys.map((key) => `${key}: 1`).join("\n"), "yaml")?.path).toBe("k0");
  });

  it("refuses a YAML text that is too long to be read beside other people's requests", () => {
    expect(faultIn("#\n".repeat(70_000), "yaml")?.value).toContain("at most 131072");
  });

  it("says line and column of what makes a text no JSON", () => {
    expect(faultIn('{\n  "a": 1,\n}', "json")).toMatchObject({ line: 3, column: 1 });
    expect(faultIn('{\n  "a": yes\n}', "json")).toMatchObject({
      line: 2,
      column: 8,
      value: expect.stringContaining("expected a value"),
    });
    expect(faultIn('{"a": 1', "json")).toMatchObject({
      line: 1,
      column: 8,
      value: 'got the end, expected "," or "}"',
    });
  });

  it("takes as JSON what JSON.parse takes, and nothing else", () => {
    const pieces = [
      "{",
      "}",
      "[",
      "]",
      ",",
      ":",
      '"a"',
      '"\\u0041"',
      '"\\x"',
      "1",
      "-0",
      "01",
      "1e5",
      "null",
      " ",
      "\n",
    ];
    let seed = 7;
    const draw = (count: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return Math.floor((seed / 2_147_483_648) * count);
    };
    let taken = 0;
    for (let round = 0; round < 20_000; round++) {
      const text = Array.from({ length: 1 + draw(7) }, () => pieces[draw(pieces.length)]).join("");
      let isJson = true;
      try {
        JSON.parse(text);
      } catch {
        isJson = false;
      }
      const { fault } = readDraft(text, "json");
      if (fault?.value.includes("each key once") === true) continue;
      expect({ text, isJson: fault === null }).toEqual({ text, isJson });
      if (isJson) taken += 1;
    }
    expect(taken).toBeGreaterThan(500);
  });

  it("does not let a key named __proto__ through", () => {
    expect(
      faultIn(`{"__proto__": {"propertyId": "x"}, ${JSON.stringify(shop).slice(1)}`, "json")?.path,
    ).toContain("__proto__");
  });
});

describe("withValue", () => {
  it("changes one place and leaves the rest as it stands", () => {
    const document = { a: 1, caching: { x: 1, y: 2 }, z: 3 };
    const next = withValue(document, ["caching", "x"], 9);
    expect(JSON.stringify(next)).toBe('{"a":1,"caching":{"x":9,"y":2},"z":3}');
    expect(document.caching.x).toBe(1);
  });

  it("makes what is not there, and takes out what is undefined", () => {
    expect(withValue({}, ["a", "b"], true)).toEqual({ a: { b: true } });
    expect(withValue({ a: { b: 1, c: 2 } }, ["a", "b"], undefined)).toEqual({ a: { c: 2 } });
    expect(valueAt({ a: { b: 1 } }, ["a", "b"])).toBe(1);
    expect(valueAt({ a: 3 }, ["a", "b"])).toBeUndefined();
  });
});

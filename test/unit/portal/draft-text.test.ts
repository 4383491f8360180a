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

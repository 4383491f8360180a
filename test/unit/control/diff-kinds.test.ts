import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { diffDocuments } from "#control";
import {
  mapOverrides,
  ParseError,
  propertyDocument,
  purgeRequest,
  type TopologyDocument,
  topologyDocument,
} from "#kit";
import { checkProperty } from "../../../control/core/claims.ts";
import { checkOverrides, checkOwner, checkPurge, parseDocument } from "../../../control/core/kinds.ts";
import { parseStrictJson } from "../../../control/core/strict-json.ts";

function refusal(check: () => unknown): {
  path: readonly (string | number)[];
  value: unknown;
  expected: string;
} {
  try {
    check();
  } catch (error) {
    expect(error).toBeInstanceOf(ParseError);
    return error as ParseError;
  }
  throw new Error("it was not refused");
}

describe("diffDocuments", () => {
  it.each([
    [{ a: 1 }, { a: 1 }, []],
    [{ a: 1, b: 2 }, { b: 2, a: 1 }, []],
    [{ a: 1 }, { a: 2 }, [{ path: "a", from: 1, to: 2 }]],
    [
      { a: { b: [1, 2] } },
      { a: { b: [1, 3, 4] } },
      [
        { path: "a.b[1]", from: 2, to: 3 },
        { path: "a.b[2]", to: 4 },
      ],
    ],
    [{ a: [1, 2] }, { a: [1] }, [{ path: "a[1]", from: 2 }]],
    [{ a: null }, {}, [{ path: "a", from: null }]],
    [{}, { "x y": null }, [{ path: '["x y"]', to: null }]],
    [{ a: [1] }, { a: { 0: 1 } }, [{ path: "a", from: [1], to: { 0: 1 } }]],
    [1, "1", [{ path: "(document)", from: 1, to: "1" }]],
  ])("%j to %j", (from, to, changes) => {
    expect(diffDocuments(from, to)).toEqual(changes);
  });

  it("is empty exactly for equal values (random pairs)", () => {
    let equal = 0;
    fc.assert(
      fc.property(
        fc.jsonValue({ maxDepth: 3 }),
        fc.jsonValue({ maxDepth: 3 }),
        fc.boolean(),
        (a, b, isCopy) => {
          // JSON has no -0.
          const from: unknown = JSON.parse(JSON.stringify(a));
          const to: unknown = JSON.parse(JSON.stringify(isCopy ? a : b));
          const isEqual = canonical(from) === canonical(to);
          if (isEqual) equal++;
          expect(diffDocuments(from, to).length === 0).toBe(isEqual);
        },
      ),
      { seed: 3 },
    );
    expect(equal).toBeGreaterThan(20);
  });

  it("stops at 10,000 changes with the whole documents", () => {
    const [from, to] = [Array.from({ length: 20_000 }, () => 1), Array.from({ length: 20_000 }, () => 2)];
    const changes = diffDocuments(from, to);
    expect(changes).toHaveLength(10_000);
    expect(changes.at(-1)).toEqual({ path: "(document)", from, to });
  });
});

/** Key order is no difference. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

const property = (changes: Record<string, unknown> = {}) =>
  propertyDocument.parse({
    propertyId: "shop-www",
    customerId: "shop",
    hostnames: ["www.shop.example"],
    origins: [{ scheme: "http", host: "127.0.0.1", port: 80 }],
    ...changes,
  });

describe("laws of kinds", () => {
  it("wants the id in the document and in the path to agree", () => {
    expect(parseDocument("property", "shop-www", property())).toEqual(property());
    expect(refusal(() => parseDocument("property", "shop-api", property()))).toMatchObject({
      path: ["propertyId"],
      value: "shop-www",
    });
    expect(refusal(() => parseDocument("property", "Shop", property()))).toMatchObject({
      path: ["id"],
      value: "Shop",
    });
    expect(refusal(() => parseDocument("topology", "demo", {}))).toMatchObject({
      path: ["name"],
      value: undefined,
    });
  });

  it("keeps a property with its customer", () => {
    checkOwner(property(), 'property "shop"', undefined);
    checkOwner(property(), 'property "shop"', "shop");
    expect(refusal(() => checkOwner(property(), 'property "shop"', "bank"))).toMatchObject({
      path: ["customerId"],
      value: "shop",
    });
  });

  it("gives a host name to one active property", () => {
    const other = property({ propertyId: "b-www", hostnames: ["x.example", "www.shop.example"] });
    const check = (one: ReturnType<typeof property>, properties: readonly ReturnType<typeof property>[]) =>
      checkProperty(one, { properties, zones: [], policies: [] });
    const wrong = refusal(() => check(property(), [property(), other]));
    expect(wrong).toMatchObject({ path: ["hostnames", 0], value: "www.shop.example" });
    expect(wrong.expected).toContain('"b-www"');
    // Its own former version, a withdrawn one, and being withdrawn are no conflict.
    check(property(), [property({ dnsTtlSeconds: 5 })]);
    check(property(), [property({ propertyId: "b-www", isActive: false })]);
    check(property({ isActive: false }), [other]);
  });

  it.each([
    ["http://www.shop.example/a", true],
    ["https://WWW.Shop.Example:8443/a?b#c", true],
    ["http://www.shop.example.", true],
    ["http://www.shop.example", true],
    ["http://www.shop.example.evil.example/", false],
    ["http://www.shop.example@evil.example/", false],
    ["http://evil.example/http://www.shop.example/", false],
    ["http://www.shop.example\\@evil.example/", false],
  ])("purge of %s: %s", (url, isAllowed) => {
    const request = purgeRequest.parse({ propertyId: "shop-www", urls: [url] });
    if (isAllowed) checkPurge(request, property());
    else
      expect(refusal(() => checkPurge(request, property()))).toMatchObject({ path: ["urls", 0], value: url });
  });

  it("refuses a purge of an unknown property or by another customer", () => {
    const request = purgeRequest.parse({ propertyId: "shop-www", customerId: "bank", tags: ["a"] });
    expect(refusal(() => checkPurge(request, undefined))).toMatchObject({ path: ["propertyId"] });
    expect(refusal(() => checkPurge(request, property()))).toMatchObject({
      path: ["customerId"],
      value: "bank",
    });
  });
});

describe("parseStrictJson", () => {
  it("equals JSON.parse where no key repeats (random values)", () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(parseStrictJson(text)).toEqual(JSON.parse(text));
      }),
      { seed: 5 },
    );
  });
  it.each([
    ['{"a":1,"a":2}', ["a"]],
    ['{"a":{"b":[0,{"c":1,"c":1}]}}', ["a", "b", 1, "c"]],
    // The same key in two spellings.
    ['{"a":1,"\\u0061":2}', ["a"]],
    ['[[],{"x":"}","y":"\\"","x":0}]', [1, "x"]],
  ])("refuses %s", (text, path) => {
    expect(refusal(() => parseStrictJson(text))).toMatchObject({
      path,
      expected: "each key once in an object",
    });
  });
  it("takes equal keys of different objects, and values that look like keys", () => {
    for (const text of [
      '{"a":{"a":"a"},"b":[{"a":1},{"a":2}],"c":["a","a"]}',
      '{"a":"a","b":"a"}',
      '""',
      '{"":{}}',
    ]) {
      expect(parseStrictJson(text)).toEqual(JSON.parse(text));
    }
  });
  it("refuses deep nesting and text that is not JSON", () => {
    expect(refusal(() => parseStrictJson(`${"[".repeat(101)}${"]".repeat(101)}`)).expected).toContain(
      "at most 100",
    );
    parseStrictJson(`${"[".repeat(100)}${"]".repeat(100)}`);
    expect(() => parseStrictJson("{")).toThrow(SyntaxError);
  });
});

it("overrides name clusters and servers of the topology of their name", () => {
  const topology = topologyDocument.parse({
    name: "demo",
    clusters: [
      {
        clusterId: "fra",
        regionId: "eu",
        role: "edge",
        city: "Frankfurt",
        coordinates: { latitude: 50, longitude: 8 },
        servers: [{ serverId: "fra-1", address: "127.0.0.1", port: 80 }],
      },
    ],
    nameService: { zones: [], nameServers: [] },
  });
  const check = (rest: object, known: TopologyDocument | undefined = topology) =>
    refusal(() => checkOverrides(mapOverrides.parse({ name: "demo", ...rest }), known)).path.join(".");
  checkOverrides(
    mapOverrides.parse({
      name: "demo",
      drains: [{ serverId: "fra-1" }],
      weights: [{ clusterId: "fra", factor: 2 }],
    }),
    topology,
  );
  expect(check({ weights: [{ clusterId: "lon", factor: 2 }] })).toContain("weights.0.clusterId");
  expect(check({ drains: [{ clusterId: "lon" }] })).toContain("drains.0.clusterId");
  expect(check({ drains: [{ serverId: "lon-1" }] })).toContain("drains.0.serverId");
  expect(() => checkOverrides(mapOverrides.parse({ name: "demo" }), undefined)).toThrow(
    /a topology that is in force/,
  );
});

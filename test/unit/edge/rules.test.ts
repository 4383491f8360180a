import { describe, expect, test } from "vitest";
import { parseCountries, propertyDocument } from "#kit";
import { cacheKey, purgeKeys } from "../../../edge/core/cache-key.ts";
import type { Fields } from "../../../edge/core/headers.ts";
import { policyFor } from "../../../edge/core/rules/policy-for.ts";
import { PurgeIndex } from "../../../edge/core/purge-index.ts";
import { deviceClassOf } from "../../../edge/core/rules/device.ts";
import { editFields, locationOf, rewriteTarget } from "../../../edge/core/rules/edits.ts";
import { normalPath } from "../../../edge/core/rules/request-facts.ts";
import { RuleSet } from "../../../edge/core/rules/rule-set.ts";

const propertyOf = (...rules: readonly unknown[]) =>
  propertyDocument.parse({
    propertyId: "shop",
    customerId: "acme",
    hostnames: ["a.example"],
    origins: [{ scheme: "http", host: "origin.example", port: 80 }],
    rules,
  });
const ask = (target: string, fields: Fields = [], method = "GET", clientAddress?: string) => ({
  method,
  host: "a.example",
  target,
  fields,
  clientAddress,
});
const keyOf = (rules: RuleSet, target: string, fields: Fields = []) =>
  cacheKey({ scheme: "http", host: "a.example", target }, rules.outcome(ask(target, fields)).policy);

describe("a document's rules", () => {
  const set = [{ name: "X-A", value: "1" }];
  test.each<[string, unknown, string]>([
    ["no condition", { match: {}, deny: true }, "rules[0].match: got {}"],
    ["an empty not", { match: { path: ["/"], not: [{}] } }, "rules[0].match.not[0]"],
    [
      "a TTL by address",
      { match: { clientNetworks: ["10.0.0.0/8"] }, defaultTtlSeconds: 1 },
      "no part of the cache key",
    ],
    ["a TTL by country", { match: { countries: ["DE"] }, defaultTtlSeconds: 1 }, "no part of the cache key"],
    [
      "an origin by method, nested",
      { match: { any: [{ methods: ["POST"] }] }, requestHeaders: { set } },
      "no part of the cache key",
    ],
    [
      "key parts by cookie",
      { match: { cookies: [{ name: "a" }] }, key: { query: "none" } },
      "rests on the URL alone",
    ],
    [
      "a field that is for one hop",
      { match: { headers: [{ name: "X-Forwarded-Host" }] } },
      "reaches every server",
    ],
    [
      "the same in a key, spelled for CGI",
      { match: { path: ["/"] }, key: { headers: ["X_Forwarded_Host"] } },
      "reaches every server",
    ],
    [
      "framing set",
      { match: { path: ["/"] }, requestHeaders: { set: [{ name: "Content-Length", value: "0" }] } },
      "not of the connection",
    ],
    [
      "our own field set",
      { match: { path: ["/"] }, responseHeaders: { set: [{ name: "Isochrone-X", value: "0" }] } },
      "not of the connection",
    ],
    [
      "Cache-Status removed",
      { match: { path: ["/"] }, responseHeaders: { remove: ["cache-status"] } },
      "not of the connection",
    ],
    [
      "a line break in a value",
      { match: { path: ["/"] }, responseHeaders: { set: [{ name: "X", value: "a\r\nb" }] } },
      "visible ASCII",
    ],
    [
      "another status than a redirect's",
      { match: { path: ["/"] }, redirect: { status: 303, location: "/" } },
      "redirect.status",
    ],
    [
      "a location of another scheme",
      { match: { path: ["/"] }, redirect: { location: "javascript:x" } },
      "redirect.location",
    ],
    [
      "a network with host bits",
      { match: { clientNetworks: ["10.0.0.1/8"] }, deny: true },
      "clientNetworks[0]",
    ],
  ])("are refused with %s", (_, rule, message) => {
    expect(() => propertyOf(rule)).toThrow(message);
  });
});

test("globs of more characters than a request may be compared with are refused", () => {
  const rules = Array.from({ length: 17 }, () => ({
    match: { pathGlob: `/${"*a".repeat(255)}b` },
    deny: true,
  }));
  expect(() => propertyOf(...rules)).toThrow("rules[16].match");
  expect(propertyOf(...rules.slice(1)).rules).toHaveLength(16);
});

describe("keys", () => {
  test.each<[unknown, string, string]>([
    [{ keep: ["a", "c"] }, "/x?c=2&b=1&a=0", "http://a.example/x?a=0&c=2"],
    [{ keep: ["z"] }, "/x?b=1", "http://a.example/x"],
    [{ drop: ["utm"] }, "/x?utm=1&b=2&a=1", "http://a.example/x?a=1&b=2"],
    ["none", "/x?b", "http://a.example/x"],
    ["sorted", "/x?b&a", "http://a.example/x?a&b"],
  ])("query %j", (query, target, key) => {
    const property = propertyOf({ match: { pathPrefix: "/" }, key: { query } });
    expect(keyOf(new RuleSet(property), target)).toBe(key);
    expect(purgeKeys(`http://a.example${target}`, policyFor(property, target))).toContain(key);
  });

  test("parts are encoded, tell absent from empty, and what is too long goes past the cache", () => {
    const rules = new RuleSet(
      propertyOf({ match: { pathPrefix: "/" }, key: { headers: ["X-A"], cookies: ["c"], device: true } }),
    );
    expect(keyOf(rules, "/")).toBe("http://a.example/#h:x-a&c:c&d=desktop");
    expect(
      keyOf(rules, "/", [
        ["x-a", ""],
        ["Cookie", "c=1&d=bot; c=2"],
      ]),
    ).toBe("http://a.example/#h:x-a=&c:c=1%26d%3Dbot,2&d=desktop");
    // What Connection takes off does not reach the next server, and so is no part of the key here either.
    expect(
      keyOf(rules, "/", [
        ["X-A", "1"],
        ["Connection", "x-a"],
      ]),
    ).toBe("http://a.example/#h:x-a&c:c&d=desktop");
    expect(rules.outcome(ask("/", [["X-A", "y".repeat(257)]])).policy.bypass).toBe(true);
    expect(rules.outcome(ask("/")).dependsOnRequest).toBe(true);
  });

  test("a rule on a cookie that changes what the origin is asked splits the key; one that edits answers does not", () => {
    const rules = new RuleSet(
      propertyOf(
        { match: { cookies: [{ name: "beta" }] }, rewrite: { prefix: "/", replacement: "/beta/" } },
        {
          match: { cookies: [{ name: "debug" }] },
          responseHeaders: { set: [{ name: "X-Debug", value: "1" }] },
        },
      ),
    );
    const plain = keyOf(rules, "/x");
    expect(plain).toBe("http://a.example/x");
    expect(keyOf(rules, "/x", [["Cookie", "debug=1"]])).toBe(plain);
    expect(keyOf(rules, "/x", [["Cookie", "beta=1"]])).toMatch(/^http:\/\/a\.example\/x#r=[0-9a-f]{16}$/);
  });

  test("a purge by URL means the keys with any parts", () => {
    const purges = new PurgeIndex();
    purges.apply(1, "shop", { keys: ["http://a.example/x"] }, "hard");
    const old = { generation: 0, tags: [] };
    expect(purges.stateOf("shop", "http://a.example/x#d=bot", old)).toBe("hard");
    expect(purges.stateOf("shop", "http://a.example/xy#d=bot", old)).toBe("none");
    purges.apply(2, "shop", { prefixes: ["a.example/y"] }, "soft");
    expect(purges.stateOf("shop", "http://a.example/y#h:a=/z", old)).toBe("soft");
  });
});

test("what each action makes of a request", () => {
  const rules = new RuleSet(
    propertyOf(
      { match: { pathPrefix: "/admin", not: [{ clientNetworks: ["10.0.0.0/8"] }] }, deny: true },
      {
        match: { pathGlob: "/old/**" },
        redirect: { status: 301, location: "https://{host}/new{path}{query}" },
      },
      {
        match: { extensions: ["png"] },
        serverErrorTtlSeconds: 3,
        negativeTtlSeconds: 7,
        staleIfErrorSeconds: 5,
      },
    ),
  );
  expect(rules.outcome(ask("/admin", [], "GET", "192.0.2.1")).deniedBy).toBe(0);
  expect(rules.outcome(ask("/%61dmin", [], "GET", "192.0.2.1")).deniedBy).toBe(0);
  expect(rules.outcome(ask("/x/..//admin", [], "GET", "192.0.2.1")).deniedBy).toBe(0);
  expect(rules.outcome(ask("/admin", [], "GET", "::ffff:10.1.1.1")).deniedBy).toBeUndefined();
  expect(rules.outcome(ask("/old/a/b")).redirect?.status).toBe(301);
  expect(rules.outcome(ask("/a.PNG")).policy).toMatchObject({
    negativeTtlSeconds: 7,
    notFoundTtlSeconds: null,
    serverErrorTtlSeconds: 3,
    staleIfErrorSeconds: 5,
  });
  expect(rules.trace(ask("/a.png"))).toEqual([
    { index: 0, isMatched: false, failed: "pathPrefix" },
    { index: 1, isMatched: false, failed: "pathGlob" },
    { index: 2, isMatched: true, failed: null },
  ]);
});

test("no spelling gets round a rule that refuses, however lax the origin is", () => {
  const rules = new RuleSet(
    propertyOf(
      { match: { pathPrefix: "/admin/" }, deny: true },
      { match: { path: ["/open"] }, bypass: true },
    ),
  );
  for (const target of [
    "/admin/x",
    "/admin%2Fx?q",
    "/admin%5cx",
    "/admin\\x",
    "/admin;v=1/x",
    "/a/..%2fadmin/x",
    "/a/..;b/admin/x",
    "/%61dmin/./x",
  ])
    expect([target, rules.outcome(ask(target)).deniedBy]).toEqual([target, 0]);
  for (const target of ["/", "/open", "/open;admin/", "/x?/admin/", "/x%2Fadmin/"])
    expect([target, rules.outcome(ask(target)).deniedBy]).toEqual([target, undefined]);
  // What is stored goes by the path as it is.
  expect(rules.outcome(ask("/open;admin")).policy.bypass).toBe(false);
});

describe("who a request comes from", () => {
  const table = parseCountries(
    "# comment\r\n192.0.2.0/24,DE\n\n192.0.2.128/25,AT\n2001:db8::/32,CH",
    "t.csv",
  );
  const rules = new RuleSet(
    propertyOf(
      { match: { pathPrefix: "/de", not: [{ countries: ["DE"] }] }, deny: true },
      {
        match: {
          pathPrefix: "/img",
          not: [{ referrers: { hosts: ["a.example", "*.b.example"], orMissing: true } }],
        },
        deny: true,
      },
      { match: { pathPrefix: "/strict", not: [{ referrers: { hosts: ["a.example"] } }] }, deny: true },
    ),
  );
  const isDenied = (target: string, address: string | undefined, fields: Fields = []) =>
    rules.outcome({ ...ask(target, fields, "GET", address), countries: table }).deniedBy !== undefined;

  test.each([
    ["192.0.2.1", false],
    ["::ffff:192.0.2.1", false],
    ["192.0.2.200", true],
    ["2001:db8::1", true],
    ["203.0.113.1", true],
    [undefined, true],
  ])("by country: %s", (address, denied) => expect(isDenied("/de", address)).toBe(denied));

  test("without a table nobody's country is known", () => {
    expect(rules.outcome(ask("/de", [], "GET", "192.0.2.1")).deniedBy).toBe(0);
  });

  test.each<[string, Fields, boolean]>([
    ["/img", [], false],
    ["/img", [["Referer", "https://a.example:8443/page?x"]], false],
    ["/img", [["Referer", "https://A.EXAMPLE"]], false],
    ["/img", [["Referer", "https://www.b.example/"]], false],
    ["/img", [["Referer", "https://b.example/"]], true],
    ["/img", [["Referer", "https://evil.example/a.example"]], true],
    ["/img", [["Referer", "https://a.example@evil.example/"]], true],
    ["/img", [["Referer", "https://a.example.evil.example/"]], true],
    ["/img", [["Referer", "about:blank"]], true],
    ["/strict", [], true],
    ["/strict", [["Referer", "http://a.example/"]], false],
  ])("by referrer: %s %j", (target, fields, denied) =>
    expect(isDenied(target, undefined, fields)).toBe(denied),
  );

  test.each([
    ["192.0.2.1/24,DE", "line 1"],
    ["# x\n192.0.2.0/24", "line 2"],
    ["192.0.2.0/24,de", "PREFIX,COUNTRY"],
    ["192.0.2.0/24,DE,1", "PREFIX,COUNTRY"],
    ["192.0.2.0/24,DE\n192.0.2.0/24,AT", "192.0.2.0/24 occurs more than once"],
  ])("a table with %j is refused", (text, message) =>
    expect(() => parseCountries(text, "t.csv")).toThrow(message),
  );
});

test.each([
  ["/a/b", "/a/b"],
  ["/%61/%2e%2E/b%2fc", "/b%2Fc"],
  ["//a/./b/", "/a/b/"],
  ["/../..", "/"],
])("the normal form of %s", (path, normal) => expect(normalPath(path)).toBe(normal));

test("edits, rewrites and locations", () => {
  const fields: Fields = [
    ["X-A", "0"],
    ["x-b", "1"],
    ["X-C", "2"],
  ];
  expect(editFields(fields, { set: [{ name: "x-a", value: "9" }], remove: ["X-B"] })).toEqual([
    ["x-a", "9"],
    ["X-C", "2"],
  ]);
  expect(rewriteTarget("/v1/x?q", { prefix: "/v1", replacement: "/" })).toBe("/x?q");
  expect(rewriteTarget("/x", { prefix: "/", replacement: "/v2/" })).toBe("/v2/x");
  expect(rewriteTarget("/x", { prefix: "/y", replacement: "/z" })).toBe("/x");
  const request = { scheme: "http", host: "a.example", target: "//evil.example/x?q=1" };
  expect(locationOf("{path}{query}", request)).toBe("/evil.example/x?q=1");
  expect(locationOf("https://{host}{path}", { ...request, target: "/x" })).toBe("https://a.example/x");
});

test.each([
  ["Mozilla/5.0 (iPad; CPU OS 17_0)", "tablet"],
  ["Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/120 Mobile Safari/537", "mobile"],
  ["Mozilla/5.0 (Linux; Android 13; SM-X200) Safari/537", "tablet"],
  ["Mozilla/5.0 (compatible; Googlebot/2.1)", "bot"],
  ["Mozilla/5.0 (X11; Linux x86_64) Chrome/120", "desktop"],
  [undefined, "desktop"],
])("%s is %s", (userAgent, device) => expect(deviceClassOf(userAgent)).toBe(device));

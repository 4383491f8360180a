/** Rules compiled and indexed say what a plain reading of them says. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  parseCountries,
  parsePrefix,
  parseAddress,
  prefixContains,
  propertyDocument,
  type Rule,
  type RuleCondition,
} from "#kit";
import { deviceClassOf } from "../../../edge/core/rules/device.ts";
import { Glob } from "../../../edge/core/rules/glob.ts";
import { RuleSet } from "../../../edge/core/rules/rule-set.ts";
import type { RuleRequest } from "../../../edge/core/rules/request-facts.ts";

/** The glob as an expression: its paths are short here. */
const globExpression = (glob: string): RegExp =>
  new RegExp(
    `^${glob
      .split(/(\*+)/)
      .map((part) =>
        part.startsWith("**") ? ".*" : part === "*" ? "[^/]*" : part.replaceAll(/[.\\+?^${}()|[\]]/g, "\\$&"),
      )
      .join("")}$`,
  );

const some = <T>(...values: readonly T[]) => fc.constantFrom(...values);
const few = <T>(arbitrary: fc.Arbitrary<T>) => fc.array(arbitrary, { minLength: 1, maxLength: 2 });
const path = fc
  .array(some("a", "b", "img", "x.css", "y.png"), { maxLength: 3 })
  .map((segments) => `/${segments.join("/")}`);
const glob = fc
  .array(some("/", "a", "b", "*", "**", ".png", "img"), { maxLength: 6 })
  .map((parts) => `/${parts.join("")}`.replaceAll(/\/{2,}/g, "/"));
const named = fc.record({ name: some("p", "q"), equals: some("1", "2") }, { requiredKeys: ["name"] });

const whole = fc.record({
  path: few(path),
  pathPrefix: path,
  pathGlob: glob,
  extensions: few(some("css", "png")),
  hosts: few(some("a.example", "b.example")),
  headers: few(
    fc.record(
      {
        name: some("X-A", "x-b"),
        equals: some("one", "two"),
        prefix: some("o", "t"),
        contains: some("n", "w"),
      },
      { requiredKeys: ["name"] },
    ),
  ),
  cookies: few(named),
  query: few(named),
  devices: few(some("mobile", "desktop")).map((each) => [...new Set(each)]),
  clientNetworks: few(some("192.0.2.0/24", "10.0.0.0/8")),
  methods: few(some("GET", "POST")),
  referrers: fc.record({
    hosts: few(some("a.example", "*.a.example", "b.example")),
    orMissing: fc.boolean(),
  }),
  countries: few(some("DE", "AT", "ZZ")).map((each) => [...new Set(each)]),
});
const countries = parseCountries("192.0.2.0/24,DE\n10.0.0.0/8,AT\n", "table");
const CONDITIONS = [
  "path",
  "pathPrefix",
  "pathGlob",
  "extensions",
  "hosts",
  "headers",
  "cookies",
  "query",
  "devices",
  "clientNetworks",
  "methods",
  "referrers",
  "countries",
] as const;
/** One or two of them: more hardly ever hold together. */
const condition = fc
  .tuple(whole, fc.subarray([...CONDITIONS], { minLength: 1, maxLength: 2 }))
  .map(([all, names]): Partial<typeof all> => Object.fromEntries(names.map((name) => [name, all[name]])));
const isStated = (one: object): boolean => Object.keys(one).length > 0;
const rule = fc
  .record({
    own: condition,
    any: fc.option(few(condition.filter(isStated))),
    not: fc.option(few(condition.filter(isStated))),
  })
  .map(({ own, any, not }) => ({
    match: { ...own, ...(any && { any }), ...(not && { not }) },
    // Allowed with every condition.
    responseHeaders: { remove: ["x-gone"] },
  }))
  .filter(({ match }) => isStated(match));

const request = fc
  .record({
    method: some("GET", "POST"),
    host: some("a.example", "b.example"),
    path,
    query: some("", "?p=1", "?q=2&p", "?p=2&p=1"),
    headers: fc.subarray([
      ["X-A", "one"],
      ["x-b", "two"],
      ["Cookie", "p=1; q"],
      ["cookie", "q=2"],
      ["Referer", "http://x.a.example:8080/a.example"],
      ["User-Agent", "Mozilla/5.0 (iPhone) Mobile"],
      ["Connection", "x-a"],
    ] as const),
    clientAddress: some("192.0.2.7", "10.1.1.1", "2001:db8::1", undefined),
  })
  .map(
    ({ path: at, query, headers, ...more }): RuleRequest => ({
      ...more,
      target: at + query,
      fields: headers,
      countries,
    }),
  );

const COUNTRY = { "192.0.2.7": "DE", "10.1.1.1": "AT" };

function holds(one: RuleCondition, asked: RuleRequest): boolean {
  const [at = "", query] = asked.target.split("?");
  const hidden = asked.fields.some(([name]) => name === "Connection") ? ["x-a"] : [];
  const header = (wanted: string): string | undefined =>
    hidden.includes(wanted) ? undefined : asked.fields.find(([name]) => name.toLowerCase() === wanted)?.[1];
  const cookies = asked.fields
    .filter(([name]) => name.toLowerCase() === "cookie")
    .flatMap(([, line]) => line.split("; "));
  const isNamed = (pairs: readonly string[], { name, equals }: { name: string; equals?: string }): boolean =>
    pairs.some((pair) => {
      const [left, right = ""] = pair.split("=");
      return left === name && (equals === undefined || right === equals);
    });
  const address = parseAddress(asked.clientAddress ?? "");
  return [
    one.path === undefined || one.path.includes(at),
    one.pathPrefix === undefined || at.startsWith(one.pathPrefix),
    one.pathGlob === undefined || globExpression(one.pathGlob).test(at),
    one.extensions === undefined || one.extensions.some((extension) => at.endsWith(`.${extension}`)),
    one.hosts === undefined || one.hosts.some((host) => host === asked.host),
    one.methods === undefined || one.methods.includes(asked.method),
    one.headers === undefined ||
      one.headers.some(({ name, equals, prefix, contains }) => {
        const value = header(name.toLowerCase());
        return (
          value !== undefined &&
          (equals ?? value) === value &&
          value.startsWith(prefix ?? "") &&
          value.includes(contains ?? "")
        );
      }),
    one.cookies === undefined || one.cookies.some((each) => isNamed(cookies, each)),
    one.query === undefined || one.query.some((each) => isNamed(query?.split("&") ?? [], each)),
    one.devices === undefined || one.devices.includes(deviceClassOf(header("user-agent"))),
    one.referrers === undefined ||
      (header("referer") === undefined
        ? one.referrers.orMissing
        : one.referrers.hosts.includes("*.a.example")),
    one.countries === undefined ||
      one.countries.includes(COUNTRY[asked.clientAddress as keyof typeof COUNTRY] ?? "ZZ"),
    one.clientNetworks === undefined ||
      one.clientNetworks.some((text) => {
        const prefix = parsePrefix(text);
        return prefix !== undefined && address !== undefined && prefixContains(prefix, address);
      }),
  ].every(Boolean);
}

const reads = ({ match }: Rule, asked: RuleRequest): boolean =>
  holds(match, asked) &&
  (match.any === undefined || match.any.some((one) => holds(one, asked))) &&
  !(match.not ?? []).some((one) => holds(one, asked));

const propertyOf = (rules: readonly unknown[]) =>
  propertyDocument.parse({
    propertyId: "shop",
    customerId: "acme",
    hostnames: ["a.example"],
    origins: [{ scheme: "http", host: "origin.example", port: 80 }],
    rules,
  });

describe("compiled rules", () => {
  test("match as each of them read by itself, and tell when another request for the URL could meet others", () => {
    let matches = 0;
    fc.assert(
      fc.property(fc.array(rule, { maxLength: 8 }), request, request, (rules, asked, other) => {
        const property = propertyOf(rules);
        const set = new RuleSet(property);
        const outcome = set.outcome(asked);
        const expected = property.rules.flatMap((one, index) => (reads(one, asked) ? [index] : []));
        expect(outcome.matched).toEqual(expected);
        expect(set.trace(asked).flatMap(({ isMatched, index }) => (isMatched ? [index] : []))).toEqual(
          expected,
        );
        matches += expected.length;
        // What a remembered hit rests on: the URL alone, where it says so.
        if (!outcome.dependsOnRequest)
          expect(set.outcome({ ...other, host: asked.host, target: asked.target }).matched).toEqual(expected);
      }),
      { numRuns: 600 },
    );
    expect(matches).toBeGreaterThan(50);
  });

  test("requests with equal keys are asked of the origin alike", () => {
    const content = fc
      .tuple(condition.filter(isStated), some("one", "two"))
      .map(([{ methods: _m, clientNetworks: _n, countries: _c, ...match }, value]) => ({
        match,
        requestHeaders: { set: [{ name: "X-To-Origin", value }] },
      }))
      .filter(({ match }) => isStated(match));
    fc.assert(
      fc.property(fc.array(content, { maxLength: 4 }), request, request, (rules, one, two) => {
        const set = new RuleSet(propertyOf(rules));
        const other = { ...two, host: one.host, target: one.target };
        const [a, b] = [set.outcome(one), set.outcome(other)];
        if (a.policy.keyParts === b.policy.keyParts) expect(a.requestHeaders).toEqual(b.requestHeaders);
      }),
      { numRuns: 400 },
    );
  });

  test("globs match as the expressions that they stand for, also across words of their state", () => {
    const piece = some("*", "**", "a", "b/", "/");
    const long = fc.array(fc.oneof(piece, fc.constant("ab".repeat(9))), { maxLength: 12 });
    const either = fc.oneof(
      fc.tuple(glob, path),
      // A path that a pattern may well fit: each wildcard stood for something.
      fc
        .tuple(long, fc.array(some("", "a", "ba", "a/b", "/"), { minLength: 12, maxLength: 12 }))
        .map(([parts, stood]): [string, string] => [
          `/${parts.join("")}`,
          `/${parts.map((part, index) => (part.startsWith("*") ? (stood[index] ?? "") : part)).join("")}`,
        ]),
    );
    let longMatches = 0;
    fc.assert(
      fc.property(either, ([pattern, at]) => {
        const isMatch = new Glob(pattern).matches(at);
        expect(isMatch).toBe(globExpression(pattern.replaceAll(/\*{2,}/g, "**")).test(at));
        if (isMatch && pattern.length > 64) longMatches++;
      }),
      { numRuns: 2_000 },
    );
    expect(longMatches).toBeGreaterThan(50);
  });
});

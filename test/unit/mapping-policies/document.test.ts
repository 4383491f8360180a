/** What a policy's document may say, and how it is refused: path, value and expectation. */
import { describe, expect, it } from "vitest";
import { ParseError, policyDocument } from "#kit";

const body = {
  policyId: "shop",
  customerId: "acme",
  names: ["www.example.com"],
  targets: [
    { targetId: "fra", addresses: ["198.51.100.1", "2001:db8:0::1"] },
    { targetId: "iad", addresses: ["198.51.100.2"] },
  ],
  rule: { method: "failover", among: ["fra", "iad"] },
};
const nested = (levels: number): unknown =>
  levels === 0 ? "fra" : { method: "ranked", among: [nested(levels - 1), "iad"] };
const test = { testId: "t", kind: "https", host: "www.example.com" };

describe("a policy's document", () => {
  it("has defaults and canonical addresses", () => {
    const document = policyDocument.parse(body);
    expect(document).toMatchObject({
      isActive: true,
      ttlSeconds: 30,
      handoutLimit: 8,
      isFailClosed: false,
      liveRatioMin: 0,
      tests: [],
      loadFeedback: null,
      rule: { method: "failover", liveTargetsMin: 1 },
    });
    expect(document.targets[0]?.addresses).toEqual(["198.51.100.1", "2001:db8::1"]);
    expect(policyDocument.parse(document)).toEqual(document);
    expect(policyDocument.parse({ ...body, rule: nested(4) }).rule).toEqual(nested(4));
  });

  it.each<[says: string, changed: object, path: string, expected: RegExp]>([
    ["five levels", { rule: nested(5) }, "rule.among[0].among[0].among[0].among[0]", /4 levels at most/],
    [
      "a target that is not there",
      { rule: { method: "ranked", among: ["fra", "iad", "nrt"] } },
      "rule.among[2]",
      /a target: fra, iad/,
    ],
    ["a target that nothing names", { rule: "fra" }, "targets[1]", /that the rule names/],
    [
      "an unknown method",
      { rule: { method: "best", among: ["fra"] } },
      "rule.method",
      /one of performance, weighted/,
    ],
    ["no method", { rule: { among: ["fra"] } }, "rule.method", /one of performance/],
    ["a rule that is a number", { rule: 7 }, "rule.method", /one of performance/],
    ["nobody among", { rule: { method: "ranked", among: [] } }, "rule.among", /1 to 64 elements/],
    [
      "an unknown key",
      { rule: { method: "ranked", among: ["fra", "iad"], take: 1 } },
      "rule.take",
      /no such key/,
    ],
    [
      "weights of zero",
      {
        rule: {
          method: "weighted",
          among: [
            { to: "fra", weight: 0 },
            { to: "iad", weight: 0 },
          ],
        },
      },
      "rule.among",
      /above 0/,
    ],
    [
      "a negative weight",
      { rule: { method: "weighted", among: [{ to: "fra", weight: -1 }, { to: "iad" }] } },
      "rule.among[0].weight",
      /0 to 1000000/,
    ],
    [
      "a prefix twice",
      {
        rule: {
          method: "cidr",
          cases: [
            { prefixes: ["10.0.0.0/8"], to: "fra" },
            { prefixes: ["10.0.0.0/8"], to: "iad" },
          ],
          otherwise: "iad",
        },
      },
      "rule.cases[1].prefixes[0]",
      /each prefix once/,
    ],
    [
      "a prefix with host bits",
      { rule: { method: "cidr", cases: [{ prefixes: ["10.0.0.1/8"], to: "fra" }], otherwise: "iad" } },
      "rule.cases[0].prefixes[0]",
      /without host bits/,
    ],
    [
      "geography without a default",
      { rule: { method: "geographic", cases: [{ countries: ["DE"], to: "fra" }] } },
      "rule.otherwise",
      /a target's name|name of lower-case|one of/,
    ],
    [
      "a case for nowhere",
      { rule: { method: "geographic", cases: [{ to: "fra" }], otherwise: "iad" } },
      "rule.cases[0].countries",
      /a country or a continent/,
    ],
    [
      "a country in small letters",
      { rule: { method: "geographic", cases: [{ countries: ["de"], to: "fra" }], otherwise: "iad" } },
      "rule.cases[0].countries[0]",
      /two letters/,
    ],
    [
      "a continent of no name",
      { rule: { method: "geographic", cases: [{ continents: ["XX"], to: "fra" }], otherwise: "iad" } },
      "rule.cases[0].continents[0]",
      /"EU"/,
    ],
    [
      "a target without an address",
      { targets: [body.targets[0], { targetId: "iad" }] },
      "targets[1].addresses",
      /an address at least/,
    ],
    [
      "a target with both",
      { targets: [body.targets[0], { ...body.targets[1], propertyId: "shop" }] },
      "targets[1].propertyId",
      /nothing beside/,
    ],
    ["a target twice", { targets: [body.targets[0], body.targets[0]] }, "targets[1]", /does not use/],
    [
      "an address that is none",
      { targets: [{ targetId: "fra", addresses: ["198.51.100.256"] }, body.targets[1]] },
      "targets[0].addresses[0]",
      /IPv4 or IPv6/,
    ],
    [
      "a test that takes longer than its interval",
      { tests: [{ ...test, intervalMs: 1_000, timeoutMs: 2_000 }] },
      "tests[0].timeoutMs",
      /at most its interval/,
    ],
    [
      "a test each millisecond",
      { tests: [{ ...test, intervalMs: 1 }] },
      "tests[0].intervalMs",
      /1000 to 300000/,
    ],
    [
      "a test of no kind",
      { tests: [{ testId: "t" }] },
      "tests[0].kind",
      /one of http, https, tcp, dns, script/,
    ],
    [
      "a command instead of a script's name",
      { tests: [{ testId: "t", kind: "script", script: "../bin/sh" }] },
      "tests[0].script",
      /lower-case letters/,
    ],
    [
      "a path with a line break",
      { tests: [{ ...test, path: "/\r\nX: y" }] },
      "tests[0].path",
      /printable ASCII/,
    ],
    [
      "fail closed with a share that lives",
      { isFailClosed: true, liveRatioMin: 0.5 },
      "liveRatioMin",
      /0 with isFailClosed/,
    ],
    ["a name twice", { names: ["a.example", "a.example"] }, "names[1]", /does not use/],
    [
      "a load of nothing",
      { loadFeedback: { host: "a.example", path: "/load", loadTarget: 0 } },
      "loadFeedback.loadTarget",
      /from 0.000001/,
    ],
  ])("refuses %s", (_says, changed, path, expected) => {
    let error: unknown;
    try {
      policyDocument.parse({ ...body, ...changed });
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(ParseError);
    expect((error as ParseError).message).toContain(path);
    expect((error as ParseError).message).toMatch(expected);
  });

  it("refuses a rule that would cost a query too much", () => {
    const wide = (levels: number): unknown =>
      levels === 0 ? "fra" : { method: "ranked", among: Array.from({ length: 8 }, () => wide(levels - 1)) };
    expect(() => policyDocument.parse({ ...body, rule: wide(3) })).toThrow(/64 methods at most/);
    const names = body.targets.map(({ targetId }) => targetId);
    const long = (count: number) => ({
      method: "ranked",
      among: [
        ...names,
        ...Array.from({ length: count }, () => ({
          method: "sticky",
          among: Array.from({ length: 60 }, () => ({ to: names[0] })),
        })),
      ],
    });
    policyDocument.parse({ ...body, rule: long(8) });
    expect(() => policyDocument.parse({ ...body, rule: long(9) })).toThrow(/512 entries at most/);
  });
});

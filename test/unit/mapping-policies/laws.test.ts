/** Whose names a policy may decide, and whom it keeps out: control's laws among policies, properties and zones. */
import { describe, expect, it } from "vitest";
import { policyDocument, propertyDocument, zoneDocument } from "#kit";
import { type ActiveDocuments, checkAgainstPolicies, checkPolicy } from "../../../control/core/kinds.ts";

const policy = (rest: object = {}) =>
  policyDocument.parse({
    policyId: "gtm",
    customerId: "acme",
    names: ["app.example.com"],
    targets: [{ targetId: "a", addresses: ["198.51.100.1"] }],
    rule: "a",
    ...rest,
  });
const property = (customerId: string, hostname: string) =>
  propertyDocument.parse({
    propertyId: "site",
    customerId,
    hostnames: [hostname],
    origins: [{ scheme: "http", host: "127.0.0.1", port: 80 }],
  });
const zone = (customerId: string, origin = "example.com") =>
  zoneDocument.parse({
    zoneId: "zone",
    customerId,
    origin,
    sets: [
      { name: "@", type: "SOA", ttlSeconds: 300, data: ["ns hostmaster 7 7200 1800 1209600 60"] },
      { name: "@", type: "NS", ttlSeconds: 300, data: ["ns.test."] },
    ],
  });
const nothing: ActiveDocuments = { properties: [], zones: [], policies: [] };
const edges = { targets: [{ targetId: "a", propertyId: "site" }] };

describe("a policy", () => {
  it.each<[says: string, active: Partial<ActiveDocuments>, rest?: object]>([
    ["a free name", {}],
    ["a name in a zone of its customer", { zones: [zone("acme"), zone("other", "com")] }],
    ["a host name of its customer", { properties: [property("acme", "app.example.com")] }],
    ["its own names again", { policies: [policy()] }],
    ["the edges of its customer", { properties: [property("acme", "www.example.com")] }, edges],
    ["anything while it is withdrawn", { policies: [policy({ policyId: "first" })] }, { isActive: false }],
  ])("may decide %s", (_says, active, rest) => {
    expect(() => checkPolicy(policy(rest), { ...nothing, ...active })).not.toThrow();
  });

  it.each<[says: string, active: Partial<ActiveDocuments>, expected: RegExp, rest?: object]>([
    [
      "another policy's name",
      { policies: [policy({ policyId: "first" })] },
      /names\[0\].*policy "first" has it/,
    ],
    [
      "another customer's host name",
      { properties: [property("other", "app.example.com")] },
      /names\[0\].*property "site" has it/,
    ],
    ["a name in another customer's zone", { zones: [zone("other")] }, /names\[0\].*lies in zone "zone"/],
    [
      "edges of another customer",
      { properties: [property("other", "www.example.com")] },
      /targets\[0\].propertyId.*active property of customer "acme"/,
      edges,
    ],
  ])("may not decide %s", (_says, active, expected, rest) => {
    expect(() => checkPolicy(policy(rest), { ...nothing, ...active })).toThrow(expected);
  });

  it("keeps other customers' properties and zones from its names", () => {
    const check =
      (one: Parameters<typeof checkAgainstPolicies>[0], policies = [policy()]) =>
      () =>
        checkAgainstPolicies(one, policies);
    expect(check(property("other", "app.example.com"))).toThrow(/hostnames\[0\].*policy "gtm" has it/);
    expect(check(zone("other"))).toThrow(/origin.*app.example.com/);
    for (const one of [
      property("acme", "app.example.com"),
      property("other", "www.example.com"),
      zone("acme"),
      zone("other", "ample.com"),
    ])
      expect(check(one)).not.toThrow();
    expect(check(zone("other"), [policy({ isActive: false })])).not.toThrow();
  });
});

/** Whose a name is: control's laws among policies, properties and zones, each seen from both sides. */
import { describe, expect, it } from "vitest";
import { policyDocument, propertyDocument, zoneDocument } from "#kit";
import { type ActiveDocuments, checkPolicy, checkProperty, checkZone } from "../../../control/core/claims.ts";

const policy = (rest: object = {}) =>
  policyDocument.parse({
    policyId: "gtm",
    customerId: "acme",
    names: ["app.example.com"],
    targets: [{ targetId: "a", addresses: ["198.51.100.1"] }],
    rule: "a",
    ...rest,
  });
const property = (customerId: string, hostname: string, rest: object = {}) =>
  propertyDocument.parse({
    propertyId: "site",
    customerId,
    hostnames: [hostname],
    origins: [{ scheme: "http", host: "127.0.0.1", port: 80 }],
    ...rest,
  });
const zone = (customerId: string, origin = "example.com", zoneId = "zone") =>
  zoneDocument.parse({
    zoneId,
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
});

describe("a property", () => {
  it.each<[says: string, active: Partial<ActiveDocuments>, rest?: object]>([
    ["in a zone of its customer", { zones: [zone("acme")] }],
    [
      "in a zone of its customer below another one's",
      { zones: [zone("other", "com", "above"), zone("acme")] },
    ],
    ["in a withdrawn zone", { zones: [{ ...zone("other"), isActive: false }] }],
    ["beside another customer's zone", { zones: [zone("other", "ample.com")] }],
    ["that a policy of its customer decides", { policies: [policy()] }],
    ["that a withdrawn policy had", { policies: [policy({ customerId: "other", isActive: false })] }],
    ["of any zone while it is withdrawn", { zones: [zone("other")] }, { isActive: false }],
  ])("may have a host name %s", (_says, active, rest) => {
    expect(() =>
      checkProperty(property("acme", "app.example.com", rest), { ...nothing, ...active }),
    ).not.toThrow();
  });

  it.each<[says: string, active: Partial<ActiveDocuments>, expected: RegExp, rest?: object]>([
    ["in another customer's zone", { zones: [zone("other")] }, /hostnames\[0\].*lies in zone "zone"/],
    ["at its top", { zones: [zone("other", "app.example.com")] }, /hostnames\[0\].*lies in zone "zone"/],
    [
      "in another customer's zone below its own",
      { zones: [zone("acme"), zone("other", "app.example.com", "below")] },
      /hostnames\[0\].*lies in zone "below"/,
    ],
    [
      "that another customer's policy decides",
      { policies: [policy({ customerId: "other" })] },
      /hostnames\[0\].*policy "gtm" has it/,
    ],
    [
      "with a probe domain in another customer's zone",
      { zones: [zone("other", "t.app.example.com")] },
      /beacon\.probeDomain.*lies in zone "zone"/,
      { beacon: { sampleRatio: 1, probeDomain: "t.app.example.com" } },
    ],
  ])("may not have a host name %s", (_says, active, expected, rest) => {
    expect(() => checkProperty(property("acme", "app.example.com", rest), { ...nothing, ...active })).toThrow(
      expected,
    );
  });
});

describe("a zone", () => {
  it.each<[says: string, active: Partial<ActiveDocuments>]>([
    [
      "above its customer's names",
      { properties: [property("acme", "app.example.com")], policies: [policy()] },
    ],
    [
      "beside all that others have",
      { properties: [property("other", "ample.com")], zones: [zone("other", "ample.com", "x")] },
    ],
    ["within its customer's zone", { zones: [zone("acme", "com", "above")] }],
    [
      "above what is withdrawn",
      {
        properties: [property("other", "app.example.com", { isActive: false })],
        policies: [policy({ customerId: "other", isActive: false })],
        zones: [{ ...zone("other", "app.example.com", "x"), isActive: false }],
      },
    ],
  ])("may begin %s", (_says, active) => {
    expect(() => checkZone(zone("acme"), { ...nothing, ...active }, undefined)).not.toThrow();
  });

  it.each<[says: string, active: Partial<ActiveDocuments>, expected: RegExp]>([
    [
      "above another customer's host name",
      { properties: [property("other", "app.example.com")] },
      /origin.*above no other customer's app.example.com \(property "site" has it\)/,
    ],
    [
      "at another customer's host name",
      { properties: [property("other", "example.com")] },
      /property "site" has it/,
    ],
    [
      "above another customer's policy's name",
      { policies: [policy({ customerId: "other" })] },
      /origin.*above no other customer's app.example.com \(policy "gtm" has it\)/,
    ],
    [
      "within another customer's zone",
      { zones: [zone("other", "com", "above")] },
      /in no other.*"above" has com/,
    ],
    [
      "above another customer's zone",
      { zones: [zone("other", "a.example.com", "x")] },
      /above no other.*"x" has a/,
    ],
    ["where another zone begins", { zones: [zone("acme", "example.com", "x")] }, /no other zone begins.*"x"/],
  ])("may not begin %s", (_says, active, expected) => {
    expect(() => checkZone(zone("acme"), { ...nothing, ...active }, undefined)).toThrow(expected);
  });
});

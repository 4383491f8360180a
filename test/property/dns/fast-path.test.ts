/** Two paths, one answer: wherever the fast path answers, `respond` gives the same octets and moves the same counters. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { type IpAddress, type MapSnapshot, parseAddress, parseCountries, policyDocument } from "#kit";
import { checkCookie } from "../../../mapping/core/dns/cookie.ts";
import { dnsTypes } from "../../../mapping/core/dns/constants.ts";
import { DnsCounters } from "../../../mapping/core/dns/counters.ts";
import { SignatureCache } from "../../../mapping/core/dns/dnssec/signer.ts";
import type { DnsContext } from "../../../mapping/core/dns/decision.ts";
import { FastPath } from "../../../mapping/core/dns/fast-path.ts";
import { respond } from "../../../mapping/core/dns/respond.ts";
import { compilePolicy } from "../../../mapping/core/policy/compile.ts";
import { viewOf } from "../../../mapping/core/policy/view.ts";
import { ZoneTable } from "../../../mapping/core/dns/zone-table.ts";
import { context, properties, query, topology } from "../../unit/mapping-dns/fixture.ts";
import { keySet, newKey, signersOf } from "../../unit/mapping-dns/signed.ts";
import { address, down, map } from "./arbitrary-maps.ts";

const name = fc
  .tuple(
    fc.constantFrom(
      "www.shop.example",
      "deep.empty.shop.example",
      "media.example",
      "tls.shop.example",
      "old.shop.example",
      "ns1.shop.example",
      "nope.shop.example",
      "near.shop.example",
      "lot.shop.example",
      "tls.gtm.shop.example",
      "www.other.test",
    ),
    fc.nat(),
  )
  .map(([text, bits]) =>
    text
      .split("")
      .map((one, n) => ((bits >> (n % 31)) & 1 ? one.toUpperCase() : one))
      .join(""),
  );

const octets = (count: number) => fc.uint8Array({ minLength: count, maxLength: count });
const SERVICE = { cookieSecret: new Uint8Array(16).fill(9) };
/** A COOKIE option: a client's, one with a server's part of another one, one of a wrong length; alone, twice, before or after a client subnet. */
const cookies = fc.constantFrom<readonly [before: boolean, ...octets: number[]]>(
  [false],
  [false],
  [true, 8],
  [false, 8],
  [false, 24],
  [false, 7],
  [false, 8, 8],
  [true, 41],
);
/** Data of an ECS option: mostly right, with the address, its tail or its length wrong now and then. */
const ecs = fc
  .record({
    family: fc.constantFrom(0, 1, 1, 1, 2, 2, 3),
    source: fc.oneof(fc.constantFrom(0, 24, 32, 48, 56), fc.nat({ max: 130 })),
    scope: fc.constantFrom(0, 0, 0, 0, 24),
    of: address,
    noise: octets(16),
    isClean: fc.constantFrom(true, true, true, false),
    extra: fc.constantFrom(0, 0, 0, 0, 1, -1),
  })
  .map(({ family, source, scope, of, noise, isClean, extra }) => {
    const bytes = Buffer.alloc(17);
    for (const [index, word] of of.words.entries()) bytes.writeUInt32BE(word, index * 4);
    if (!isClean) bytes.set(noise);
    const length = Math.max(0, Math.min(17, Math.ceil(source / 8) + extra));
    const told = bytes.subarray(0, length);
    if (isClean && source % 8 > 0 && length > 0 && extra === 0)
      told[length - 1]! &= 0xff << (8 - (source % 8));
    return Buffer.concat([Buffer.from([0, family, source, scope]), told]).toString("hex");
  });

const packet = fc
  .record({
    name,
    type: fc.constantFrom(dnsTypes.A, dnsTypes.A, dnsTypes.AAAA, dnsTypes.HTTPS, dnsTypes.TXT, dnsTypes.ANY),
    class: fc.constantFrom(1, 1, 1, 1, 1, 1, 3),
    id: fc.nat({ max: 0xffff }),
    isRecursionDesired: fc.boolean(),
    isDnssecOk: fc.boolean(),
    udpPayloadBytes: fc.constantFrom(undefined, 0, 511, 512, 1232, 4096),
    ecs: fc.option(ecs, { freq: 4, nil: undefined }),
    cookies,
  })
  .map(({ ecs: data, udpPayloadBytes, cookies: [isBefore, ...lengths], ...rest }) => {
    const subnet = data === undefined ? [] : [{ code: 8, data: Uint8Array.from(Buffer.from(data, "hex")) }];
    const shown = lengths.map((length) => ({ code: 10, data: new Uint8Array(length).fill(1) }));
    const options = isBefore ? [...shown, ...subnet] : [...subnet, ...shown];
    return query({
      ...rest,
      ...(udpPayloadBytes === undefined ? {} : { udpPayloadBytes }),
      ...(options.length === 0 ? {} : { options }),
    });
  });
/** One octet changed, cut or added: mostly what the strict reader must leave alone. */
const mutated = fc
  .tuple(packet, fc.nat(), fc.nat({ max: 255 }), fc.constantFrom(0, 0, 1, 2))
  .map(([bytes, at, octet, how]) => {
    if (how === 1) return bytes.slice(0, at % bytes.length);
    if (how === 2) return Uint8Array.of(...bytes, octet);
    const changed = Uint8Array.from(bytes);
    changed[at % bytes.length] = octet;
    return changed;
  });

/** Policies of every kind, the last one over a property's own host name. */
const policies = [
  {
    policyId: "near",
    names: ["near.shop.example"],
    rule: { method: "performance", among: ["a", "b", "edges"] },
  },
  {
    policyId: "lot",
    names: ["lot.shop.example"],
    handoutLimit: 2,
    rule: {
      method: "geographic",
      cases: [{ countries: ["DE"], to: { method: "sticky", among: [{ to: "a" }, { to: "b", weight: 2 }] } }],
      otherwise: { method: "weighted", among: [{ to: "a" }, { to: "b" }, { to: "edges", weight: 0.2 }] },
    },
  },
  {
    policyId: "own",
    names: ["tls.gtm.shop.example", "media.example"],
    isFailClosed: true,
    rule: {
      method: "cidr",
      cases: [{ prefixes: ["192.0.2.0/25", "2001:db8:1::/48"], to: "b" }],
      otherwise: { method: "failover", among: ["a", "b", "edges"] },
    },
  },
].map((one) =>
  compilePolicy(
    policyDocument.parse({
      ...one,
      customerId: "acme",
      targets: [
        { targetId: "a", addresses: ["203.0.113.1", "203.0.113.2", "203.0.113.3", "2001:db8:3::1"] },
        { targetId: "b", addresses: ["192.0.2.9"], coordinates: { latitude: 50, longitude: 8 } },
        { targetId: "edges", propertyId: "shop" },
      ],
    }),
  ),
);
const countries = parseCountries("192.0.2.0/24,DE\n2001:db8:1::/48,DE\n198.51.100.0/24,US\n", "countries");
const table = new ZoneTable({ topology, properties, policies, serial: 42 });

/** @param dead what of the policies is down, in bits */
function stateOf(servers: readonly string[], dead: number, world?: MapSnapshot | null): DnsContext {
  const belief = (bit: number) =>
    (dead >> bit) & 1 ? { downSinceEpochMs: bit, accepted: 1 } : { accepted: (dead >> 4) & 1 ? 0.5 : 1 };
  const policyViews = new Map(
    policies.map((policy, n) => [policy, viewOf(policy, { a: belief(n % 2), b: belief(n % 3) })]),
  );
  const base = world === undefined ? context(servers) : context(servers, world);
  return { ...base, zones: table, countries, policyViews };
}

const counted = new Map<string, number>();

class Pair {
  readonly fastCounters = new DnsCounters();
  readonly fullCounters = new DnsCounters();
  readonly fast = new FastPath(this.fastCounters, SERVICE);
  readonly #out = new Uint8Array(1_300).fill(0xee);

  check(bytes: Uint8Array, resolverAddress: IpAddress, state: DnsContext, now = 0): void {
    const resolver = { family: resolverAddress.family, words: new Uint32Array(4) };
    resolver.words.set(resolverAddress.words);
    // In the middle of other octets, as in a batch.
    const packed = Uint8Array.of(0xff, 0x03, ...bytes, 0x00, 0x41);
    const length = this.fast.answer(packed, 2, 2 + bytes.length, resolver, state, this.#out, 3, now);
    counted.set(length > 0 ? "fast" : "full", (counted.get(length > 0 ? "fast" : "full") ?? 0) + 1);
    if (length === 0) return;
    const decision = respond({ bytes, transport: "udp", resolverAddress, epochSeconds: now }, state, SERVICE);
    this.fullCounters.count(decision, "udp");
    if (decision.action !== "reply") throw new Error(`the full path drops it: ${decision.reason}`);
    expect(Buffer.from(this.#out.subarray(3, 3 + length)).toString("hex")).toBe(
      Buffer.from(decision.bytes).toString("hex"),
    );
    expect(this.fast.lastScope).toBe(decision.scopePrefixLength ?? -1);
    expect(this.fast.lastCookie).toBe(decision.cookie);
    expect(this.fast.lastReply?.clusterId).toBe(decision.clusterId);
    for (const key of [
      decision.reason,
      decision.answerReason ?? "none",
      this.fast.lastScope > 0 ? "scoped" : "wide",
      `${decision.cookie ?? "no"}-cookie`,
      `type-${decision.question?.type}-${decision.reason}`,
    ])
      counted.set(key, (counted.get(key) ?? 0) + 1);
  }
}

test("the same octets, scope and counters, over maps, liveness, queries and client subnets", () => {
  const pair = new Pair();
  fc.assert(
    fc.property(
      fc.option(map, { freq: 9 }),
      down,
      fc.nat({ max: 31 }),
      fc.array(
        fc.tuple(fc.oneof({ weight: 4, arbitrary: packet }, { weight: 1, arbitrary: mutated }), address),
        {
          minLength: 30,
          maxLength: 30,
        },
      ),
      (world, dead, targets, asked) => {
        const state = stateOf(dead, targets, world);
        const named = (world?.resolvers ?? []).map((one) => parseAddress(one.address) as IpAddress);
        // Half of the queries come from resolvers that the map knows.
        for (const [n, [bytes, other]] of asked.entries())
          pair.check(bytes, named[n % Math.max(1, 2 * named.length)] ?? other, state);
      },
    ),
    { numRuns: 200 },
  );
  const figures = (counters: DnsCounters) => ({
    entries: [...counters.entries()]
      .map((one) => ({ ...one }))
      .toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)),
    queries: counters.queries,
    withEcs: counters.withEcs,
    truncated: counters.truncated,
  });
  expect(figures(pair.fastCounters)).toEqual(figures(pair.fullCounters));
  // A run in which the rare never happened proves nothing.
  for (const word of [
    "fast",
    "full",
    "address",
    "no-data",
    "mapped",
    "fallback",
    "first-cluster-down",
    "all-down",
    "no-map",
    "scoped",
    "client-cookie",
    "policy",
    "policy-all-down",
    "policy-closed",
    `type-${dnsTypes.AAAA}-policy`,
    `type-${dnsTypes.HTTPS}-address`,
    `type-${dnsTypes.HTTPS}-no-data`,
  ])
    expect(counted.get(word) ?? 0, word).toBeGreaterThan(5);
});

test("the same octets where the zones are signed, while time passes and keys are changed", () => {
  const pair = new Pair();
  const signatures = new SignatureCache(10_000);
  const keys = [newKey(), newKey()];
  counted.clear();
  fc.assert(
    fc.property(
      down,
      fc.nat({ max: 31 }),
      fc.array(fc.tuple(packet, address, fc.nat({ max: 600_000 }), fc.nat({ max: 1 })), {
        minLength: 30,
        maxLength: 30,
      }),
      (dead, targets, asked) => {
        const states = keys.map((key) => ({
          ...stateOf(dead, targets),
          signers: signersOf([keySet("shop.example", key)], signatures),
        }));
        for (const [bytes, resolver, seconds, key] of asked)
          pair.check(bytes, resolver, states[key]!, 1_800_000_000 + seconds);
      },
    ),
    { numRuns: 50 },
  );
  expect(counted.get("fast")).toBeGreaterThan(100);
  const { signed, reused, renewed } = signatures.figures;
  expect(Math.min(signed, reused, renewed)).toBeGreaterThan(5);
});

test("a cookie of ours is known by the fast path, with a client subnet before or after it", () => {
  const pair = new Pair();
  const from: IpAddress = { family: 4, words: [0xc0000201] };
  const data = checkCookie(new Uint8Array(8).fill(1), from, SERVICE.cookieSecret, 1_000).answer!;
  const cookie = { code: 10, data };
  const subnet = { code: 8, data: Uint8Array.of(0, 1, 24, 0, 192, 0, 2) };
  counted.clear();
  for (const options of [[cookie], [subnet, cookie], [cookie, subnet]])
    for (const now of [1_000, 1_000 + 3_599, 1_000 + 3_601])
      pair.check(query({ options }), from, context(), now);
  expect([counted.get("fast"), counted.get("valid-cookie"), counted.get("client-cookie")]).toEqual([9, 6, 3]);
});

test("a query without an OPT record, in every case of letters, is answered by the fast path", () => {
  const pair = new Pair();
  const state = context();
  counted.clear();
  for (const text of ["www.shop.example", "WWW.SHOP.EXAMPLE", "wWw.Shop.eXample"])
    pair.check(query({ name: text }), { family: 4, words: [0xc0000201] }, state);
  expect(counted.get("fast")).toBe(3);
});

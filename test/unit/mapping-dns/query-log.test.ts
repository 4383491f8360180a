/** The sampled query log: what is looked at, what a record says, and who asks most. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createLogger } from "#kit/io";
import { DnsHandler } from "#mapping";
import { DnsCounters } from "../../../mapping/core/dns/counters.ts";
import { HeavyHitters } from "../../../mapping/core/dns/query-log/heavy-hitters.ts";
import { addressCutDefault, queryLine } from "../../../mapping/core/dns/query-log/query-record.ts";
import { QueryRing, type SampledQuery, Sampler } from "../../../mapping/core/dns/query-log/query-ring.ts";
import { sumOfTop, topFigures, TopQueries } from "../../../mapping/core/dns/query-log/top-queries.ts";
import { ResponseRateLimit } from "../../../mapping/core/dns/rate-limit.ts";
import { context, hex, query } from "./fixture.ts";

/** Through the handler, the ring and the formatter, as in the process. */
function lineOf(bytes: Uint8Array, transport: "udp" | "tcp" = "udp") {
  const ring = new QueryRing(4);
  const state = context();
  const handler = new DnsHandler({
    context: () => state,
    counters: new DnsCounters(),
    logger: createLogger({ role: "nameserver", id: "test" }),
    service: { cookieSecret: new Uint8Array(16).fill(3) },
    rateLimit: new ResponseRateLimit({ perSecond: 0, slip: 0, seed: 0 }),
    queryLog: { sampler: new Sampler(1, 0), take: (one) => void ring.push(one) },
  });
  const out = new Uint8Array(1_400);
  const sender = { family: 4 as const, words: Uint32Array.of(0xc00002ff, 0, 0, 0), port: 5_353 };
  if (transport === "udp")
    handler.answerUdp(Uint8Array.of(0, 0, 0, ...bytes), 3, 3 + bytes.length, sender, out, 0);
  else handler.answerTcp(bytes, { family: 4, words: [0xc00002ff] }, 5_353, "tcp");
  const taken = ring.shift();
  if (taken === undefined) throw new Error("nothing was taken");
  expect(ring.length).toBe(0);
  return JSON.parse(queryLine(taken, "ns-1", addressCutDefault));
}

describe("a record", () => {
  const subnet = "0001 1a 00 c6120040";
  const expected = {
    serverId: "ns-1",
    client: "192.0.2.0/24",
    port: 5_353,
    name: "www.shop.example",
    type: "A",
    class: 1,
    opcode: 0,
    flags: ["rd"],
    clientSubnet: "198.18.0.0/24",
    cookie: "none",
    rcode: "NOERROR",
    reason: "address",
  };
  it("says the same of both paths", () => {
    const asked = { name: "wWw.shop.example", isRecursionDesired: true };
    const fast = lineOf(query({ ...asked, ecs: subnet }));
    // An option of no meaning sends it the full way.
    const full = lineOf(
      query({
        ...asked,
        options: [
          { code: 8, data: hex(subnet) },
          { code: 65_001, data: hex("00") },
        ],
      }),
    );
    expect(fast).toMatchObject({ ...expected, transport: "udp" });
    expect(fast.cluster).toMatch(/./);
    expect(fast.mapVersion).toBeGreaterThan(0);
    expect(fast.answerBytes).toBeGreaterThan(fast.queryBytes);
    const { atEpochMs: _a, latencyUs: _b, queryBytes: _c, ...rest } = fast;
    const { atEpochMs: _d, latencyUs: _e, queryBytes: _f, ...other } = full;
    expect(other).toEqual(rest);
  });

  it.each([
    [
      "TCP",
      () => lineOf(query({}), "tcp"),
      { transport: "tcp", name: "www.shop.example", clientSubnet: null, scope: null },
    ],
    [
      "a name that does not exist",
      () => lineOf(query({ name: "x.shop.example" })),
      { rcode: "NXDOMAIN", reason: "no-such-name", cluster: null },
    ],
    ["a type without a name", () => lineOf(query({ type: 4_711 })), { type: "TYPE4711", reason: "no-data" }],
    [
      "a cookie",
      () => lineOf(query({ options: [{ code: 10, data: hex("0102030405060708") }] })),
      { cookie: "client" },
    ],
    [
      "octets that are none",
      () => lineOf(hex("00")),
      { name: null, type: null, rcode: null, reason: "too-short", answerBytes: 0 },
    ],
    [
      "an answer",
      () => lineOf(hex("000084000000000000000000")),
      { rcode: null, reason: "is-response", answerBytes: 0 },
    ],
  ])("%s", (_, line, says) => {
    expect(line()).toMatchObject(says);
  });
});

const sample = (over: Partial<SampledQuery>): SampledQuery => ({
  atEpochMs: 1_800_000_000_000,
  latencyUs: 3,
  transport: "udp",
  family: 4,
  words: [0xc0000201],
  port: 1,
  flags: 0,
  name: hex("0361 6161 00".replaceAll(" ", "")),
  type: 1,
  class: 1,
  clientSubnet: undefined,
  reason: "address",
  rcode: 0,
  cookie: "none",
  clusterId: "fra",
  mapVersion: 1,
  queryBytes: 30,
  answerBytes: 60,
  ...over,
});

describe("the ring", () => {
  it("gives back what was put in, in order, over its end; takes no more than fits and counts", () => {
    const ring = new QueryRing(2);
    const ipv6 = sample({
      family: 6,
      words: [0x20010db8, 1, 2, 3],
      clientSubnet: {
        family: 2,
        sourcePrefixLength: 56,
        scopePrefixLength: 48,
        words: [0x20010db8, 9, 0, 0],
      },
      rcode: -1,
    });
    const plain = (one: SampledQuery | undefined) =>
      JSON.parse(
        JSON.stringify(one, (_, value) => (ArrayBuffer.isView(value) ? [...(value as Uint8Array)] : value)),
      );
    for (let n = 0; n < 5; n++) {
      expect(ring.push(sample({ port: n }))).toBe(true);
      expect(ring.push(ipv6)).toBe(true);
      expect(ring.push(sample({}))).toBe(false);
      expect(plain(ring.shift())).toEqual(plain(sample({ port: n })));
      expect(plain(ring.shift())).toEqual(plain(ipv6));
      expect(ring.shift()).toBeUndefined();
    }
    expect(ring.dropped).toBe(5);
  });
});

describe("the sampler", () => {
  it.each([1, 7, 100])("looks at one in %d", (oneIn) => {
    const sampler = new Sampler(oneIn, 42);
    let taken = 0;
    for (let n = 0; n < 100_000; n++) if (sampler.next()) taken++;
    expect(Math.abs((taken * oneIn) / 100_000 - 1)).toBeLessThan(0.1);
  });
  it("looks at none with 0", () => {
    const sampler = new Sampler(0, 42);
    for (let n = 0; n < 1_000; n++) expect(sampler.next()).toBe(false);
  });
});

describe("heavy hitters", () => {
  it("keep every key that is frequent, in bounded memory, and say by how much a count may be short, whoever is merged", () => {
    const key = fc.oneof({ weight: 2, arbitrary: fc.nat({ max: 3 }) }, fc.nat({ max: 200 })).map(String);
    const stream = fc.array(key, { minLength: 100, maxLength: 400, size: "max" });
    let pruned = 0;
    fc.assert(
      fc.property(stream, stream, (one, other) => {
        const exact = new Map<string, number>();
        for (const each of [...one, ...other]) exact.set(each, (exact.get(each) ?? 0) + 1);
        const [a, b] = [one, other].map((stream) => {
          const hitters = new HeavyHitters(10);
          for (const each of stream) hitters.add(each);
          return hitters;
        });
        a!.absorb(b!.figures(20));
        const { total, missedMax, entries } = a!.figures(20);
        if (missedMax > 0) pruned++;
        expect(total).toBe(one.length + other.length);
        const told = new Map(entries.map(({ key: text, count }) => [text, count]));
        for (const [text, count] of exact) {
          const low = told.get(text) ?? 0;
          expect(low).toBeLessThanOrEqual(count);
          expect(low + missedMax).toBeGreaterThanOrEqual(count);
        }
      }),
      { numRuns: 60 },
    );
    expect(pruned).toBeGreaterThan(20);
  });
});

describe("who asks most", () => {
  it("a flood of random names has one name; windows end; figures of several servers add up and read as told", () => {
    const top = new TopQueries(10, addressCutDefault, 0);
    const name = (text: string) =>
      Uint8Array.of(...text.split(".").flatMap((l) => [l.length, ...Buffer.from(l)]), 0);
    for (let n = 0; n < 3_000; n++) {
      top.handleQuery(
        sample({ name: name(`r${n}.shop.example`), reason: "no-such-name", words: [n * 256] }),
        1,
      );
      if (n % 3 === 0) top.handleQuery(sample({ name: name("WWW.shop.example") }), 1);
    }
    const { lists, seconds } = top.figures(30_000);
    expect(seconds).toBe(30);
    expect(lists.names.entries).toEqual([{ key: "www.shop.example", count: 1_000 }]);
    expect(lists.missing.entries).toEqual([{ key: "*.shop.example", count: 3_000 }]);
    expect(lists.resolvers.entries[0]?.key).toBe("192.0.2.0/24");
    const sum = sumOfTop([top.figures(70_000), top.figures(70_000)]);
    expect(topFigures.parse(JSON.parse(JSON.stringify(sum)))).toEqual(sum);
    expect(sum?.lists.names.entries[0]?.count).toBe(2_000);
    expect(top.figures(200_000).lists.names.total).toBe(0);
  });
});

/** Two levels of name servers: who is told to whom, while servers and clusters come and go. */
import { describe, expect, it } from "vitest";
import {
  formatAddress,
  type MapSnapshot,
  ParseError,
  parseAddress,
  type ServerId,
  topologyDocument,
} from "#kit";
import { dnsTypes, rcodes } from "../../../mapping/core/dns/constants.ts";
import type { DnsContext } from "../../../mapping/core/dns/decision.ts";
import type { DnsMessage, DnsRecord } from "../../../mapping/core/dns/message.ts";
import { respond } from "../../../mapping/core/dns/respond.ts";
import { readMessage } from "../../../mapping/core/dns/wire.ts";
import { ZoneTable } from "../../../mapping/core/dns/zone-table.ts";
import { MapIndex } from "../../../mapping/core/map-index.ts";
import { TopologyIndex } from "../../../mapping/core/topology-index.ts";
import { properties, query, snapshot, topology as base } from "./fixture.ts";
import { keySet, newKey, signersOf } from "./signed.ts";

const edgeOf = (clusterId: string, regionId: string, n: number) => ({
  clusterId,
  regionId,
  role: "edge",
  city: clusterId,
  coordinates: { latitude: 0, longitude: 0 },
  servers: [{ serverId: `${clusterId}-1`, address: `127.10.${n}.1`, port: 8080 }],
});
const low = (clusterId: string, n: number, address = `127.11.${n}.1`) => ({
  serverId: `${clusterId}-dns-${n}`,
  name: `${clusterId}-dns-${n}.cdn.example`,
  address,
  dnsPort: 53,
  edgeClusterId: clusterId,
});
const topologyWith = (lows: readonly ReturnType<typeof low>[], nameServersMax = 3) => ({
  name: "test",
  clusters: [
    edgeOf("fra", "europe", 1),
    edgeOf("ams", "europe", 2),
    edgeOf("par", "europe", 3),
    edgeOf("nyc", "america", 4),
    edgeOf("sin", "asia", 5),
  ],
  nameService: {
    zones: ["cdn.example"],
    nameServers: [
      { serverId: "top-1", name: "ns1.cdn.example", address: "127.12.0.1", dnsPort: 53 },
      ...lows,
    ],
    delegation: { zone: "g.cdn.example", nameServersMax },
  },
});
const lows = [low("fra", 1), low("ams", 2), low("par", 3), low("nyc", 4), low("sin", 5)];
function contextOf(
  raw: ReturnType<typeof topologyWith>,
  serverId: string,
  down: readonly string[] = [],
  more: Partial<DnsContext> = {},
): DnsContext {
  const topology = topologyDocument.parse(raw);
  return {
    zones: new ZoneTable({ topology, properties, serial: 7, serverId: serverId as ServerId }),
    topology: new TopologyIndex(topology),
    // Berlin: fra, nyc, sin; then the fallback (nyc, fra, sin), then the topology's order.
    snapshot: new MapIndex(snapshot),
    isUp: (id) => !down.includes(id),
    ...more,
  };
}
function ask(
  context: DnsContext,
  name: string,
  type: number,
  resolver = "192.0.2.53",
  isDnssecOk = false,
): DnsMessage {
  const decision = respond(
    {
      bytes: query({ name, type, isDnssecOk, edns: isDnssecOk }),
      transport: "udp",
      resolverAddress: parseAddress(resolver)!,
      epochSeconds: 1_800_000_000,
    },
    context,
  );
  if (decision.action !== "reply") throw new Error(decision.reason);
  const read = readMessage(decision.bytes);
  if (!read.ok) throw new Error(read.fault);
  return read.message;
}
const addresses = (records: readonly DnsRecord[]): string[] =>
  records.flatMap(({ data }) => (data.kind === "address" ? [formatAddress(data.address)] : []));
const names = (records: readonly DnsRecord[]): string[] =>
  records.flatMap(({ data }) => (data.kind === "name" ? [data.name.text] : []));
const glueFor = (down: readonly string[], resolver?: string, raw = topologyWith(lows)): string[] =>
  addresses(ask(contextOf(raw, "top-1", down), "shop.g.cdn.example", 1, resolver).additionals);

describe("at the top", () => {
  it("a referral names the same names to everyone, with the servers near the resolver behind them", () => {
    const message = ask(contextOf(topologyWith(lows), "top-1"), "shop.g.cdn.example", dnsTypes.A);
    expect([message.header.rcode, message.header.isAuthoritative, message.answers]).toEqual([0, false, []]);
    expect(names(message.authorities)).toEqual(["n1.g.cdn.example", "n2.g.cdn.example", "n3.g.cdn.example"]);
    expect(message.authorities.map(({ ttlSeconds }) => ttlSeconds)).toEqual([3_600, 3_600, 3_600]);
    expect(addresses(message.additionals)).toEqual(["127.11.1.1", "127.11.4.1", "127.11.5.1"]);
    // Tokyo: sin, nyc, fra.
    expect(glueFor([], "203.0.113.9")).toEqual(["127.11.5.1", "127.11.4.1", "127.11.1.1"]);
    // Everything at and below the cut, and nothing beside it.
    for (const name of ["g.cdn.example", "a.b.g.cdn.example"])
      expect(names(ask(contextOf(topologyWith(lows), "top-1"), name, dnsTypes.TXT).authorities)).toHaveLength(
        3,
      );
    expect(ask(contextOf(topologyWith(lows), "top-1"), "xg.cdn.example", 1).header.rcode).toBe(
      rcodes.NXDOMAIN,
    );
    const ns = ask(contextOf(topologyWith(lows), "top-1"), "cdn.example", dnsTypes.NS);
    expect(names(ns.answers)).toEqual(["ns1.cdn.example"]);
  });

  it("dead servers are not named; with all dead all are; suspended clusters come last; a region's death leaves one", () => {
    expect(glueFor(["fra-dns-1"])).toEqual(["127.11.4.1", "127.11.5.1", "127.11.2.1"]);
    expect(glueFor(lows.map(({ serverId }) => serverId))).toEqual(["127.11.1.1", "127.11.4.1", "127.11.5.1"]);
    // Two live: the third name leads to the first again, rather than nowhere.
    expect(glueFor(["fra-dns-1", "nyc-dns-4", "sin-dns-5"])).toEqual([
      "127.11.2.1",
      "127.11.3.1",
      "127.11.2.1",
    ]);
    const suspended = contextOf(topologyWith(lows), "top-1", [], {
      snapshot: new MapIndex({ ...snapshot, suspended: { fra: true } } as MapSnapshot),
    });
    expect(addresses(ask(suspended, "g.cdn.example", 1).additionals)[0]).toBe("127.11.4.1");
    const european = topologyWith([low("fra", 1), low("ams", 2), low("par", 3), low("sin", 5)]);
    const noMap = contextOf(european, "top-1", [], { snapshot: null });
    expect(addresses(ask(noMap, "g.cdn.example", 1).additionals)).toEqual([
      "127.11.1.1",
      "127.11.2.1",
      "127.11.5.1",
    ]);
  });

  it("a second server of a cluster fills up before a first one is named again; families are apart", () => {
    const raw = topologyWith([low("fra", 1), low("fra", 6), low("ams", 2, "2001:db8::2")]);
    const message = ask(contextOf(raw, "top-1"), "g.cdn.example", dnsTypes.A);
    expect(addresses(message.additionals)).toEqual([
      "127.11.1.1",
      "127.11.6.1",
      "127.11.1.1",
      "2001:db8::2",
      "2001:db8::2",
      "2001:db8::2",
    ]);
  });

  it("a cluster that appears is named with the topology that has it", () => {
    expect(glueFor([], "203.0.113.9", topologyWith(lows.slice(0, 4)))[0]).toBe("127.11.4.1");
    expect(glueFor([], "203.0.113.9")[0]).toBe("127.11.5.1");
  });

  it("signed: DS of a signed zone below, NSEC of an unsigned one; glue and NS are nobody's to sign here", () => {
    const parent = keySet("cdn.example", newKey());
    const types = (signers: DnsContext["signers"], name: string, type: number): [number[], number[]] => {
      const message = ask(
        contextOf(topologyWith(lows), "top-1", [], { ...(signers && { signers }) }),
        name,
        type,
        undefined,
        true,
      );
      return [message.authorities.map((one) => one.type), message.answers.map((one) => one.type)];
    };
    const both = signersOf([parent, keySet("g.cdn.example", newKey())]);
    expect(types(both, "shop.g.cdn.example", 1)).toEqual([[2, 2, 2, 43, 46], []]);
    expect(types(both, "g.cdn.example", dnsTypes.DS)).toEqual([[], [43, 46]]);
    expect(types(signersOf([parent]), "shop.g.cdn.example", 1)).toEqual([[2, 2, 2, 47, 46], []]);
    expect(types(signersOf([parent]), "g.cdn.example", dnsTypes.DS)).toEqual([[6, 46, 47, 46], []]);
  });
});

describe("near the resolver", () => {
  const here = contextOf(topologyWith(lows), "ams-dns-2");

  it("each property has its id as a name, answered by the map for seconds; nothing else is served", () => {
    const message = ask(here, "shop.g.cdn.example", 1);
    expect([message.header.isAuthoritative, message.answers[0]?.ttlSeconds]).toEqual([true, 20]);
    expect(addresses(message.answers)).toEqual(["127.10.1.1"]);
    expect(ask(here, "nope.g.cdn.example", 1).header.rcode).toBe(rcodes.NXDOMAIN);
    expect(ask(here, "cdn.example", dnsTypes.SOA).header.rcode).toBe(rcodes.REFUSED);
    expect(ask(here, "www.shop.example", 1).header.rcode).toBe(rcodes.REFUSED);
  });

  it("the zone says of itself what the referral said: names, addresses, TTL", () => {
    const ns = ask(here, "g.cdn.example", dnsTypes.NS);
    const referral = ask(contextOf(topologyWith(lows), "top-1"), "g.cdn.example", dnsTypes.A);
    expect(ns.answers).toEqual(referral.authorities);
    expect(ns.additionals).toEqual(referral.additionals);
    for (const [n, record] of referral.additionals.entries())
      expect(ask(here, `n${n + 1}.g.cdn.example`, 1).answers).toEqual([record]);
    expect(ask(here, "n1.g.cdn.example", dnsTypes.AAAA).answers).toEqual([]);
    expect(names(ask(here, "g.cdn.example", dnsTypes.SOA).answers)).toEqual([]);
  });
});

describe("a topology", () => {
  const refused = (change: (raw: ReturnType<typeof topologyWith>) => object): string => {
    try {
      topologyDocument.parse(change(topologyWith(lows)));
    } catch (error) {
      if (error instanceof ParseError) return error.message;
    }
    throw new Error("it was not refused");
  };
  it.each([
    ["a zone that is not below one of ours", { zone: "g.elsewhere.test" }, "below one of the zones"],
    ["a zone that is one of ours", { zone: "cdn.example" }, "below one of the zones"],
    ["one name server for a resolver", { zone: "g.cdn.example", nameServersMax: 1 }, "nameServersMax"],
  ])("is refused with %s", (_, delegation, expected) => {
    expect(refused((raw) => ({ ...raw, nameService: { ...raw.nameService, delegation } }))).toContain(
      expected,
    );
  });
  it("is refused without anyone to delegate to, or with one where no edge is", () => {
    const { nameServers } = base.nameService;
    expect(refused((raw) => ({ ...raw, nameService: { ...raw.nameService, nameServers } }))).toContain(
      "edgeClusterId",
    );
    expect(refused((raw) => ({ ...raw, clusters: raw.clusters.slice(1) }))).toContain("an edge cluster");
  });
});

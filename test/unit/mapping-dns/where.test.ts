import { describe, expect, it } from "vitest";
import type { ResolverEntry } from "#kit";
import { DnsCounters } from "../../../mapping/core/dns/counters.ts";
import { explainWhere, whereRefusals, whereReport } from "../../../mapping/core/where.ts";
import { answerTo, context, decide, query, snapshot, written } from "./fixture.ts";

const report = (name: string, client: string, state = context()) => {
  const result = explainWhere(name, client, state);
  if (!result.ok) throw new Error(result.message);
  return result.report;
};

describe("where", () => {
  it("explains what a query for the same client gets", () => {
    const said = report("WWW.shop.example.", "192.0.2.0/24");
    expect(said).toMatchObject({
      name: "www.shop.example",
      client: "192.0.2.0/24",
      clientNetworkId: "berlin",
      matchedPrefix: "192.0.2.0/24",
      mapVersion: 7,
      mapReason: "cycle",
      reason: "mapped",
      clusterId: "fra",
      ttlSeconds: 20,
      scopePrefixLength: 24,
    });
    const { message, decision } = answerTo(query({ ecs: "0001 18 00 c00002" }));
    expect(decision.scopePrefixLength).toBe(said.scopePrefixLength);
    expect(message.answers).toHaveLength(said.servers.filter(({ rank }) => rank !== null).length);
    expect(said.candidates.map(({ clusterId, outcome, score }) => [clusterId, outcome, score])).toEqual([
      ["fra", "chosen", 10],
      ["nyc", "lower-rank", 20],
      ["sin", "lower-rank", 30],
    ]);
    expect(said.candidates[0]?.terms).toEqual({ rttMs: 10, lossRatio: 0, load: 0.1, confidence: 1 });
  });

  it("explains a resolver by the clients behind it, as its queries without ECS are answered, and no client by them", () => {
    const [, boston] = written.clientNetworks;
    const clusters = boston!.clusters as ResolverEntry["clusters"];
    const resolvers = [{ address: "192.0.2.53", clientNetworks: 3, weight: 40, clusters }];
    const state = context([], { ...snapshot, resolvers });
    const result = explainWhere("www.shop.example", "192.0.2.53", state, true);
    if (!result.ok) throw new Error(result.message);
    expect(whereReport.parse(result.report)).toMatchObject({
      reason: "resolver-clients",
      clusterId: "nyc",
      clientNetworkId: "berlin",
      resolver: { clientNetworks: 3, weight: 40 },
    });
    const asked = (ecs?: string) =>
      answerTo(query(ecs === undefined ? {} : { ecs }), { context: state, resolverAddress: "192.0.2.53" });
    expect(asked().decision.answerReason).toBe("resolver-clients");
    expect(asked("0001 18 00 c00002").decision).toMatchObject({
      answerReason: "mapped",
      scopePrefixLength: 24,
    });
    expect(report("www.shop.example", "192.0.2.53", state)).toMatchObject({
      reason: "mapped",
      resolver: null,
    });
  });

  it("survives the wire: the schema reads what is sent", () => {
    for (const down of [[], ["fra-1"], ["fra-1", "fra-2"]]) {
      for (const map of [undefined, null]) {
        const said = report(
          "www.shop.example",
          "192.0.2.1",
          map === null ? context(down, null) : context(down),
        );
        expect(whereReport.parse(JSON.parse(JSON.stringify(said)))).toEqual(said);
      }
    }
  });

  it("shows liveness of servers and what became of clusters", () => {
    const said = report("www.shop.example", "192.0.2.1", context(["fra-1"]));
    expect(said.servers.map(({ serverId, isUp, rank }) => [serverId, isUp, rank])).toEqual([
      ["fra-2", true, 1],
      ["fra-1", false, null],
    ]);
    const next = report("www.shop.example", "192.0.2.1", context(["fra-1", "fra-2"]));
    expect([next.reason, next.clusterId]).toEqual(["first-cluster-down", "nyc"]);
    expect(next.candidates[0]).toMatchObject({
      clusterId: "fra",
      outcome: "no-live-server",
      serversUp: 0,
      servers: 2,
    });
  });

  it("a client of no network gets the fallback, and says so", () => {
    expect(report("www.shop.example", "9.9.9.9")).toMatchObject({
      clientNetworkId: null,
      matchedPrefix: null,
      reason: "fallback",
      clusterId: "nyc",
    });
    expect(report("www.shop.example", "192.0.2.1", context([], null))).toMatchObject({
      mapVersion: null,
      reason: "no-map",
    });
  });

  it.each([
    ["a name that is none", "www..example", "192.0.2.1", "bad-name"],
    ["an address with host bits after its prefix", "www.shop.example", "192.0.2.1/24", "bad-address"],
    ["a text for an address", "www.shop.example", "berlin", "bad-address"],
    ["a name in no zone", "www.other.test", "192.0.2.1", "outside-zones"],
    ["a name that is not there", "nope.shop.example", "192.0.2.1", "no-such-name"],
    ["the top of a zone", "shop.example", "192.0.2.1", "no-property"],
    ["a withdrawn property", "old.shop.example", "192.0.2.1", "no-property"],
    ["a name server", "ns1.shop.example", "192.0.2.1", "no-property"],
  ])("refuses %s", (_, name, client, reason) => {
    const result = explainWhere(name, client, context());
    expect(result.ok ? "" : result.reason).toBe(reason);
    expect(whereRefusals).toContain(reason);
  });

  it("refuses while there are no documents", () => {
    expect(explainWhere("www.shop.example", "192.0.2.1", undefined)).toMatchObject({
      reason: "no-documents",
    });
  });
});

describe("counters", () => {
  it("count every decision once, by closed lists", () => {
    const counters = new DnsCounters();
    counters.count(decide(query({ ecs: "0001 18 00 c00002" })), "udp");
    counters.count(decide(query({ type: 64_000 })), "tcp");
    counters.count(decide(query({ type: 64_001 })), "tcp");
    counters.count(decide(new Uint8Array(3)), "udp");
    expect([...counters.entries()]).toEqual([
      {
        labels: { transport: "udp", reason: "address", rcode: "NOERROR", type: "A", map: "mapped" },
        count: 1,
      },
      {
        labels: { transport: "tcp", reason: "no-data", rcode: "NOERROR", type: "other", map: "none" },
        count: 2,
      },
      {
        labels: { transport: "udp", reason: "too-short", rcode: "none", type: "none", map: "none" },
        count: 1,
      },
    ]);
    expect([counters.queries, counters.withEcs, counters.truncated]).toEqual([4, 1, 0]);
  });
});

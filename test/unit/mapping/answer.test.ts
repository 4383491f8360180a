import { describe, expect, test } from "vitest";
import { type IpAddress, mapSnapshot, parseAddress, type ServerId } from "#kit";
import { type AnswerQuery, answerAddresses } from "#mapping";
import { property, ranking, snapshotOf, topologyOf } from "./fixtures.ts";

const topology = topologyOf([
  { id: "fra", servers: 3 },
  { id: "iad" },
  { id: "sin" },
  { id: "ams", role: "parent" },
]);
const snapshot = snapshotOf(
  [
    { id: "berlin", prefixes: ["10.0.0.0/24"], ranking: ranking(["fra", 10], ["iad", 90], ["sin", 160]) },
    { id: "paris", prefixes: ["10.0.1.0/24"], ranking: ranking(["fra", 12], ["iad", 80]) },
    { id: "boston", prefixes: ["10.0.2.0/24"], ranking: ranking(["iad", 9], ["fra", 90]) },
  ],
  ranking(["iad", 50], ["fra", 60]),
);
const address = (text: string): IpAddress => parseAddress(text) as IpAddress;

function ask(text: string, down: readonly string[] = [], rest: Partial<AnswerQuery> = {}) {
  return answerAddresses({
    snapshot,
    topology,
    property,
    family: 4,
    clientAddress: address(text),
    sourcePrefixLength: 24,
    isUp: (serverId) => !down.includes(serverId),
    ...rest,
  });
}

test("the fixture is a snapshot that the schema takes", () => {
  expect(() => mapSnapshot.parse(snapshot)).not.toThrow();
});

test("a server that operators empty is named only when its cluster has no other, and a cluster of such ones only when all else is down", () => {
  const named = (drained: readonly string[], down: readonly string[] = []) =>
    ask("10.0.0.7", down, { snapshot: { ...snapshot, drained: drained as ServerId[] } }).servers.map(
      ({ serverId }) => serverId,
    );
  expect(named(["fra-1"]).sort()).toEqual(["fra-2", "fra-3"]);
  expect(named(["fra-1"], ["fra-2", "fra-3"])[0]).toMatch(/^iad/);
  expect(named(["fra-1"], ["fra-2", "fra-3", "iad-1", "iad-2", "sin-1", "sin-2"])).toEqual(["fra-1"]);
});

describe("which cluster and why", () => {
  test.each([
    ["the first of the client network", "10.0.0.7", [], "fra", "mapped", "berlin"],
    ["another network, another cluster", "10.0.2.7", [], "iad", "mapped", "boston"],
    ["nobody's address gets the fallback's first", "192.0.2.1", [], "iad", "fallback", null],
    ["one dead server of three moves nobody", "10.0.0.7", ["fra-1"], "fra", "mapped", "berlin"],
    [
      "a dead cluster spills to the next",
      "10.0.0.7",
      ["fra-1", "fra-2", "fra-3"],
      "iad",
      "first-cluster-down",
      "berlin",
    ],
    [
      "beyond the end of a ranking, any edge cluster that lives",
      "10.0.1.7",
      ["fra-1", "fra-2", "fra-3", "iad-1", "iad-2"],
      "sin",
      "first-cluster-down",
      "paris",
    ],
    [
      "when all are down all are up",
      "10.0.0.7",
      ["fra-1", "fra-2", "fra-3", "iad-1", "iad-2", "sin-1", "sin-2"],
      "fra",
      "all-down",
      "berlin",
    ],
  ] as const)("%s", (_what, from, down, clusterId, reason, clientNetworkId) => {
    const answer = ask(from, down);
    expect(answer).toMatchObject({ clusterId, reason, clientNetworkId, ttlSeconds: 20 });
    expect(answer.servers).toHaveLength(2);
    expect(answer.servers.every((one) => one.serverId.startsWith(clusterId))).toBe(true);
    if (reason !== "all-down")
      expect(answer.servers.some((one) => (down as readonly string[]).includes(one.serverId))).toBe(false);
  });

  test("a suspended cluster comes after the others, but before none", () => {
    const suspended = { ...snapshot, suspended: { fra: true } as never };
    expect(ask("10.0.0.7", [], { snapshot: suspended })).toMatchObject({
      clusterId: "iad",
      reason: "first-cluster-down",
    });
    const down = ["iad-1", "iad-2", "sin-1", "sin-2"];
    expect(ask("10.0.0.7", down, { snapshot: suspended })).toMatchObject({
      clusterId: "fra",
      reason: "mapped",
    });
  });

  test("without a map: edge clusters in the order of the topology, never a parent", () => {
    expect(ask("10.0.0.7", [], { snapshot: null })).toMatchObject({
      clusterId: "fra",
      reason: "no-map",
      scopePrefixLength: 0,
      clientNetworkId: null,
    });
  });

  test("clusters that the topology no longer knows are passed over", () => {
    const small = topologyOf([{ id: "sin" }]);
    expect(ask("10.0.0.7", [], { topology: small })).toMatchObject({ clusterId: "sin" });
  });

  test("no address of the family is the only empty answer", () => {
    expect(ask("10.0.0.7", [], { family: 6 })).toMatchObject({
      servers: [],
      clusterId: null,
      reason: "no-edge",
    });
    const both = topologyOf([{ id: "fra" }, { id: "six", ipv6: true }]);
    expect(ask("10.0.0.7", [], { family: 6, topology: both })).toMatchObject({ clusterId: "six" });
  });
});

describe("which servers", () => {
  test("the same ones for the same content, others first for other content", () => {
    const firsts = new Set<string>();
    for (let n = 0; n < 40; n++) {
      const answer = ask("10.0.0.7", [], { contentKey: `object-${n}` });
      expect(answer.servers).toEqual(ask("10.0.0.9", [], { contentKey: `object-${n}` }).servers);
      firsts.add(answer.servers[0]?.serverId ?? "");
    }
    expect(firsts).toEqual(new Set(["fra-1", "fra-2", "fra-3"]));
  });

  test("one live server makes an answer of one", () => {
    expect(ask("10.0.0.7", ["fra-1", "fra-3"]).servers.map((one) => one.serverId)).toEqual(["fra-2"]);
  });
});

describe("scope", () => {
  test("two networks with the same answer share it; the next one ends it", () => {
    // 10.0.0.0/24 and 10.0.1.0/24 go to fra, 10.0.2.0/24 to iad.
    expect(ask("10.0.0.7").scopePrefixLength).toBe(23);
    // 10.0.3.0/24 is nobody's, and the fallback is iad as well.
    expect(ask("10.0.2.7").scopePrefixLength).toBe(23);
  });
  test("never finer than what was told", () => {
    expect(ask("10.0.0.0", [], { sourcePrefixLength: 16 }).scopePrefixLength).toBe(16);
    expect(ask("10.0.0.0", [], { sourcePrefixLength: 0 }).scopePrefixLength).toBe(0);
  });
  test("a death that makes all answers alike widens it to everyone", () => {
    expect(ask("10.0.0.7", ["fra-1", "fra-2", "fra-3"])).toMatchObject({
      clusterId: "iad",
      scopePrefixLength: 0,
    });
  });
});

test("the explanation names every candidate with its terms and what became of it", () => {
  const { explanation } = ask("10.0.0.7", ["fra-1", "fra-2", "fra-3"]);
  expect(explanation).toMatchObject({
    mapVersion: 1,
    trafficClass: "interactive",
    clientNetworkId: "berlin",
  });
  expect(explanation.candidates.map(({ clusterId, outcome }) => [clusterId, outcome])).toEqual([
    ["fra", "no-live-server"],
    ["iad", "chosen"],
    ["sin", "lower-rank"],
  ]);
  expect(explanation.candidates[1]).toMatchObject({
    score: 90,
    serversUp: 2,
    servers: 2,
    terms: { rttMs: 90 },
  });
});

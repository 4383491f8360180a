import { describe, expect, test } from "vitest";
import {
  type ClientNetworkEntry,
  epochMs,
  mapSnapshot,
  monotonicMs,
  parseAddress,
  type RankedCluster,
} from "#kit";
import {
  answerAddresses,
  clientAwareRanking,
  estimateByGeography,
  MapEngine,
  MeasurementIntake,
  MeasurementStore,
  ResolverPairReader,
  type ResolverPair,
  ResolverTable,
  resolverEntries,
} from "#mapping";
import { keptResolverLines, restoreResolvers } from "../../../mapping/core/resolver-pairs.ts";
import { ExpectedTimes } from "../../../mapping/core/expected-times.ts";
import { queriesPerSecondOf } from "../../../mapping/core/query-model.ts";
import { cluster, network, property, ranking, snapshotOf, topologyOf } from "./fixtures.ts";
import { entriesOf } from "../../tools/map-snapshot.ts";

const DAY_MS = 86_400_000;
const at = (days: number) => epochMs(1_700_000_000_000 + days * DAY_MS);
const ids = (order: readonly RankedCluster[]) => order.map(({ clusterId }) => clusterId);

describe("the order for the clients behind a resolver", () => {
  const boston = ranking(["iad", 10], ["fra", 90], ["sin", 220]);
  const berlin = ranking(["fra", 8], ["iad", 95], ["sin", 160]);

  test("the heavier clients decide, and the terms are their means", () => {
    const order = clientAwareRanking(
      [
        { weight: 3, ranking: boston },
        { weight: 1, ranking: berlin },
      ],
      16,
    );
    expect(ids(order)).toEqual(["iad", "fra", "sin"]);
    expect(order[0]).toMatchObject({ score: (3 * 10 + 95) / 4, terms: { rttMs: (3 * 10 + 95) / 4 } });
    expect(
      ids(
        clientAwareRanking(
          [
            { weight: 1, ranking: boston },
            { weight: 3, ranking: berlin },
          ],
          1,
        ),
      ),
    ).toEqual(["fra"]);
  });

  test("a cluster in between wins where no client's first one is good for the others", () => {
    const between = (first: string, last: string) => ranking([first, 10], ["lon", 50], [last, 100]);
    const halves = [
      { weight: 1, ranking: between("iad", "fra") },
      { weight: 1, ranking: between("fra", "iad") },
    ];
    expect(ids(clientAwareRanking(halves, 16))).toEqual(["lon", "fra", "iad"]);
  });

  test("a ranking that does not name a cluster counts with its last score", () => {
    const order = clientAwareRanking(
      [
        { weight: 1, ranking: ranking(["iad", 10], ["fra", 90]) },
        { weight: 1, ranking: ranking(["sin", 20]) },
      ],
      16,
    );
    expect(order.map(({ clusterId, score }) => [clusterId, score])).toEqual([
      ["iad", 15],
      ["fra", 55],
      ["sin", 55],
    ]);
  });

  test("a cluster that one client names is not near to the others for that", () => {
    // Half of the clients in Boston, the others in Singapore; neither ranking names a cluster of the other side.
    const expected = (near: string, far: string) => (clusterId: string) =>
      new Map([
        [near, 10],
        ["lon", 130],
        ["hkg", near === "sin" ? 40 : 255],
        [far, 260],
      ]).get(clusterId);
    const clients = [
      {
        weight: 1,
        ranking: ranking(["iad", 10], ["lon", 70]),
        expectedRttMs: expected("iad", "sin"),
      },
      { weight: 1, ranking: ranking(["sin", 10], ["hkg", 40]), expectedRttMs: expected("sin", "iad") },
    ];
    const [first] = clientAwareRanking(clients, 16);
    expect(first).toMatchObject({
      clusterId: "lon",
      score: (70 + 130) / 2,
      terms: { rttMs: (70 + 130) / 2 },
    });
    expect(
      ids(
        clientAwareRanking(
          clients.map((one) => ({ ...one, expectedRttMs: () => undefined })),
          16,
        ),
      )[0],
    ).toBe("iad");
  });

  test("where the resolver itself would be sent goes before what is hardly better, and not before what is", () => {
    const clients = [{ weight: 1, ranking: ranking(["iad", 100], ["fra", 101.5], ["sin", 120]) }];
    expect(ids(clientAwareRanking(clients, 16, cluster("fra")))).toEqual(["fra", "iad", "sin"]);
    expect(clientAwareRanking(clients, 16, cluster("fra")).map(({ score }) => score)).toEqual([
      100, 100, 120,
    ]);
    expect(ids(clientAwareRanking(clients, 16, cluster("sin")))[0]).toBe("iad");
    // A cluster that no client names is compared all the same.
    expect(ids(clientAwareRanking(clients, 16, cluster("gru")))).toEqual(["iad", "fra", "gru", "sin"]);
    expect(clientAwareRanking([], 16, cluster("fra"))).toEqual([]);
  });

  test("what is guessed of one client does not count for more than what is measured of another", () => {
    const guessed = { clusterId: cluster("sin"), score: 600 };
    const terms = { rttMs: 200, lossRatio: 0, load: 0, confidence: 0.17 };
    const clients = [
      // As far from the others' cluster as these are from its own; but it names a far one, by a guess that pays for its doubt.
      { weight: 1, ranking: [...ranking(["iad", 10]), { ...guessed, terms }], expectedRttMs: () => 90 },
      { weight: 1.1, ranking: ranking(["fra", 10], ["lon", 20]), expectedRttMs: () => 90 },
    ];
    const order = clientAwareRanking(clients, 16);
    expect(ids(order).slice(0, 2)).toEqual(["fra", "iad"]);
    expect(order[0]).toMatchObject({ score: 48.095, terms: { rttMs: 48.095 } });
    // The guess itself gives way to what is expected of measured ways.
    expect(order.find(({ clusterId }) => clusterId === "sin")?.score).toBeCloseTo(90, 6);
  });

  test("ties go by id, nobody gives nothing", () => {
    expect(ids(clientAwareRanking([{ weight: 1, ranking: ranking(["b", 1], ["a", 1]) }], 16))).toEqual([
      "a",
      "b",
    ]);
    expect(clientAwareRanking([], 16)).toEqual([]);
    expect(clientAwareRanking([{ weight: 1, ranking: [] }], 16)).toEqual([]);
  });
});

describe("what is remembered of resolvers", () => {
  test("enough evidence is needed, and it halves with time", () => {
    const table = new ResolverTable({ weightMin: 10, halfLifeMs: 7 * DAY_MS });
    for (let n = 0; n < 12; n++) table.handlePair("192.0.2.53", network("a"), 1, at(0), at(0));
    table.handlePair("192.0.2.54", network("a"), 9.9, at(0), at(0));
    expect(table.evidence(at(0))).toEqual([
      { address: "192.0.2.53", weight: 12, clients: [{ clientNetworkId: "a", weight: 12 }] },
    ]);
    expect(table.of("192.0.2.53", at(7))?.weight).toBeCloseTo(6);
    expect(table.evidence(at(7))).toEqual([]);
    // A pair that comes late counts by its age.
    table.handlePair("192.0.2.54", network("b"), 8, at(0), at(7));
    expect(table.of("192.0.2.54", at(7))?.clients.map(({ weight }) => weight)).toEqual([4.95, 4]);
  });

  test("clients that are not told apart hold an answer back", () => {
    const table = new ResolverTable({ weightMin: 1, clientsMax: 2, knownRatioMin: 0.5 });
    for (const name of ["a", "b", "c", "d", "e"])
      table.handlePair("192.0.2.53", network(name), 1, at(0), at(0));
    expect(table.of("192.0.2.53", at(0))).toMatchObject({
      weight: 5,
      clients: [{ weight: 1 }, { weight: 1 }],
    });
    expect(table.evidence(at(0))).toEqual([]);
    expect(table.counters.clientsEvicted).toBe(3);
    table.handlePair("192.0.2.53", network("e"), 2, at(0), at(0));
    expect(table.evidence(at(0))).toHaveLength(1);
  });

  test("a flood of new resolvers evicts itself, not one with many clients", () => {
    const table = new ResolverTable({ resolversMax: 100 });
    table.handlePair("192.0.2.53", network("a"), 50, at(0), at(0));
    for (let n = 0; n < 5_000; n++)
      table.handlePair(`10.0.${n >> 8}.${n & 255}`, network("a"), 1, at(0), at(0));
    expect(table.size).toBe(100);
    expect(table.counters.resolversEvicted).toBe(4_901);
    expect(table.of("192.0.2.53", at(0))?.weight).toBe(50);
  });

  test("pairs are bounded in all, whatever each resolver may have", () => {
    const table = new ResolverTable({ clientsMax: 10, pairsMax: 50, weightMin: 1 });
    for (let n = 0; n < 30; n++)
      for (let client = 0; client < 10; client++)
        table.handlePair(`10.0.0.${n}`, network(`c-${client}`), 1 + n, at(0), at(0));
    const pairs = table.evidence(at(0)).map(({ clients }) => clients.length);
    expect(pairs.reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(50);
    expect(table.of("10.0.0.29", at(0))?.clients).toHaveLength(10);
    expect(table.counters.resolversEvicted).toBeGreaterThan(20);
  });

  test("centuries of half-lives leave the figures right", () => {
    const table = new ResolverTable({ weightMin: 1, halfLifeMs: DAY_MS });
    table.handlePair("192.0.2.53", network("a"), 4, at(0), at(0));
    table.handlePair("192.0.2.53", network("b"), 4, at(299), at(299));
    table.handlePair("192.0.2.53", network("c"), 4, at(300), at(300));
    table.handlePair("192.0.2.53", network("d"), 4, at(900), at(900));
    expect(table.of("192.0.2.53", at(900))?.clients[0]).toEqual({ clientNetworkId: "d", weight: 4 });
    expect(table.of("192.0.2.53", at(901))?.weight).toBeCloseTo(2);
  });

  test("what is ahead or too old is refused", () => {
    const table = new ResolverTable({ halfLifeMs: DAY_MS });
    expect(table.handlePair("192.0.2.53", network("a"), 1, at(1), at(0))).toBe("future");
    expect(table.handlePair("192.0.2.53", network("a"), 1, at(0), at(11))).toBe("too-old");
    expect(table.size).toBe(0);
  });
});

test("pairs by address find their client networks; the rest is counted", () => {
  const lines = [
    { resolver: "192.0.2.53", client: "10.0.0.9", weight: 2, at: at(0) },
    { resolver: "192.0.2.53", client: "198.51.100.1", weight: 1, at: at(0) },
    { resolver: "192.0.2.053", client: "10.0.0.9", weight: 1, at: at(0) },
    { resolver: "192.0.2.53", client: "10.0.0.9", weight: 0, at: at(0) },
  ];
  const pairs: ResolverPair[] = [];
  const reader = new ResolverPairReader((pair) => pairs.push(pair));
  reader.read(new TextEncoder().encode(lines.map((line) => JSON.stringify(line)).join("\n")));
  reader.end();
  expect(reader.tally.skipped("refused")).toBe(2);
  const intake = new MeasurementIntake(new MeasurementStore());
  intake.handlePlaces(undefined, [
    { clientNetworkId: network("a"), prefixes: ["10.0.0.0/16"], coordinates: null, demandPerSecond: 1 },
  ]);
  const table = new ResolverTable();
  const tally = intake.handlePairs(pairs, table, at(0));
  expect(tally.summary()).toMatchObject({ taken: 1, skipped: { "unknown-client": 1 } });
  expect(table.of("192.0.2.53", at(0))?.clients).toEqual([{ clientNetworkId: "a", weight: 2 }]);
});

describe("what is kept of resolvers", () => {
  const table = new ResolverTable({ clientsMax: 2 });
  for (const [name, weight] of [
    ["a", 40],
    ["b", 20],
    ["c", 30],
  ] as const)
    table.handlePair("192.0.2.53", network(name), weight, at(0), at(0));
  table.handlePair("2001:db8::53", network("a"), 5, at(0), at(0));
  const lines = [...keptResolverLines(table, at(0))];

  test("is what was known, decayed by the time that has passed", () => {
    const restored = new ResolverTable();
    expect(restoreResolvers(restored, `${lines.join("\n")}\n`, at(7))).toBe(2);
    expect([...restored.all(at(7))]).toEqual([
      {
        address: "192.0.2.53",
        weight: 45,
        clients: [
          { clientNetworkId: "a", weight: 20 },
          { clientNetworkId: "c", weight: 15 },
        ],
      },
      { address: "2001:db8::53", weight: 2.5, clients: [{ clientNetworkId: "a", weight: 2.5 }] },
    ]);
    const old = new ResolverTable();
    expect([restoreResolvers(old, lines.join("\n"), at(80)), old.size]).toEqual([0, 0]);
  });

  test.each([
    ["nothing", "", /JSON/],
    ["another format", [`{"format":"x","at":1}`, ...lines.slice(1)].join("\n"), /format/],
    ["cut at a line", lines.slice(0, -1).join("\n"), /address|resolvers/],
    ["cut within one", lines.join("\n").slice(0, -5), /JSON/],
    ["without a line in between", lines.toSpliced(1, 1).join("\n"), /it says 2 resolvers and has 1/],
    ["with another address", lines.join("\n").replace("192.0.2.53", "192.0.2.053"), /address/],
    ["with a negative weight", lines.join("\n").replace('"weight":40', '"weight":-40'), /weight/],
  ])("%s is refused whole", (_what, text, why) => {
    const restored = new ResolverTable();
    expect(() => restoreResolvers(restored, text, at(0))).toThrow(why);
    expect(restored.size).toBe(0);
  });
});

describe("answers", () => {
  const topology = topologyOf([{ id: "fra" }, { id: "iad" }, { id: "sin" }]);
  const base = snapshotOf(
    [
      { id: "berlin", prefixes: ["10.0.0.0/16"], ranking: ranking(["fra", 8], ["iad", 95]) },
      { id: "boston", prefixes: ["10.1.0.0/16"], ranking: ranking(["iad", 9], ["fra", 90]) },
    ],
    ranking(["sin", 50]),
  );
  const networks = new Map<string, ClientNetworkEntry>(
    entriesOf(base).map((one) => [one.clientNetworkId, one]),
  );
  const resolvers = resolverEntries(
    [
      {
        address: "10.0.0.53",
        weight: 40,
        clients: [
          { clientNetworkId: network("boston"), weight: 40 },
          { clientNetworkId: network("gone"), weight: 9 },
        ],
      },
      { address: "10.0.0.54", weight: 40, clients: [{ clientNetworkId: network("gone"), weight: 40 }] },
    ],
    { clustersOf: (id) => networks.get(id)?.clusters, expectedRttMs: () => undefined },
    16,
    10,
  );
  const snapshot = mapSnapshot.parse({ ...base, resolvers });
  const ask = (text: string, isResolver: boolean, down: readonly string[] = []) =>
    answerAddresses({
      snapshot,
      topology,
      property,
      family: 4,
      clientAddress: parseAddress(text) as NonNullable<ReturnType<typeof parseAddress>>,
      sourcePrefixLength: 24,
      isResolver,
      isUp: (serverId) => !down.includes(serverId),
    });

  test("a resolver in Berlin with clients in Boston is sent where those are near", () => {
    const answer = ask("10.0.0.53", true);
    expect(answer).toMatchObject({ clusterId: "iad", reason: "resolver-clients", clientNetworkId: "berlin" });
    expect(answer.explanation.resolver).toMatchObject({ clientNetworks: 1, weight: 40 });
    expect(ask("10.0.0.53", true, ["iad-1", "iad-2"])).toMatchObject({
      clusterId: "fra",
      reason: "first-cluster-down",
    });
  });

  test("a client with the same address is sent by its own network, in the same scope", () => {
    const answer = ask("10.0.0.53", false);
    expect(answer).toMatchObject({ clusterId: "fra", reason: "mapped", scopePrefixLength: 16 });
    expect(answer.explanation.resolver).toBeNull();
  });

  test("a resolver of which nothing is known is like any address of its network", () => {
    for (const text of ["10.0.0.1", "10.0.0.54"])
      expect(ask(text, true)).toMatchObject({ clusterId: "fra", reason: "mapped" });
    expect(resolvers).toHaveLength(1);
  });

  test("a map whose resolver's scores do not ascend is refused", () => {
    const clusters = { ...resolvers[0]?.clusters, bulk: ranking(["fra", 2], ["iad", 1]) };
    expect(() => mapSnapshot.parse({ ...base, resolvers: [{ ...resolvers[0], clusters }] })).toThrow(
      "resolvers[0].clusters.bulk[1]: got 1, expected scores in ascending order",
    );
  });
});

describe("what one answer to a resolver may hold for", () => {
  const epoch = epochMs(1_700_000_000_000);
  const clientNetwork = (id: string, prefix: string, longitude: number) => ({
    clientNetworkId: network(id),
    prefixes: [prefix],
    coordinates: { latitude: 0, longitude },
    demandPerSecond: 100,
  });
  const engineAt = (queryPriceMs: number): MapEngine => {
    const engine = new MapEngine({ settings: { scopes: { queryPriceMs } }, epochOf: () => epoch });
    engine.handleTopology(topology, monotonicMs(0));
    // Half way between two clusters: one is hardly better than the other for either.
    engine.handleClientNetworks(
      [clientNetwork("west", "10.0.0.0/20", 4.9), clientNetwork("east", "10.0.16.0/20", 5.1)],
      monotonicMs(0),
    );
    for (const id of ["west", "east"])
      engine.resolvers.handlePair("192.0.2.53", network(id), 50, epoch, epoch);
    return engine;
  };
  const topology = topologyOf([{ id: "fra" }, { id: "iad" }]);
  const ask = (engine: MapEngine, text: string, resolver: string) =>
    answerAddresses({
      snapshot: mapSnapshot.parse(engine.snapshot),
      topology,
      property,
      family: 4,
      clientAddress: parseAddress(text)!,
      sourcePrefixLength: 24,
      resolverAddress: parseAddress(resolver)!,
      isUp: () => true,
    });
  const made = (engine: MapEngine, ms: number): MapEngine => {
    engine.handleTimeout(monotonicMs(ms));
    return engine;
  };

  test("neighbours whose sites differ by less than a query is worth share an answer, for that resolver alone", () => {
    const engine = made(engineAt(50), 0);
    const [west, east] = ["10.0.1.1", "10.0.17.1"].map((text) => ask(engine, text, "192.0.2.53"));
    expect(west).toMatchObject({ scopePrefixLength: 19, clusterId: east!.clusterId });
    expect(ask(engine, "10.0.1.1", "192.0.2.54").clusterId).not.toBe(
      ask(engine, "10.0.17.1", "192.0.2.54").clusterId,
    );
    expect(ask(engine, "10.0.1.1", "192.0.2.54").scopePrefixLength).toBe(20);
    // Outside of its clients' prefixes a scope may not reach into theirs (RFC 7871 section 7.2.1).
    expect(ask(engine, "10.0.32.1", "192.0.2.53").scopePrefixLength).toBe(19);
  });

  test("without a price scopes are as wide as answers are the same; a new price counts from the next map on", () => {
    const engine = made(engineAt(0), 0);
    expect(engine.snapshot?.resolvers?.[0]?.scopes).toBeUndefined();
    engine.handleQueryPrice(50);
    made(engine, 10_000);
    expect(engine.snapshot?.resolvers?.[0]?.scopes).toHaveLength(1);
    // Kept from map to map: what it rests on changes over hours.
    engine.resolvers.handlePair("192.0.2.55", network("west"), 50, epoch, epoch);
    engine.resolvers.handlePair("192.0.2.55", network("east"), 50, epoch, epoch);
    expect(made(engine, 20_000).snapshot?.resolvers?.map(({ scopes }) => scopes?.length)).toEqual([
      1,
      undefined,
    ]);
    expect(made(engine, 620_000).snapshot?.resolvers?.map(({ scopes }) => scopes?.length)).toEqual([1, 1]);
    expect(() => engine.handleQueryPrice(-1)).toThrow("Scopes need queryPriceMs >= 0");
  });

  test("the queries of a scope follow the sum over its names, and are concave", () => {
    const queries = queriesPerSecondOf({ names: 100, zipfExponent: 0.9, ttlSeconds: 20 });
    const weights = Array.from({ length: 100 }, (_, n) => (n + 1) ** -0.9);
    const sum = weights.reduce((a, b) => a + b, 0);
    for (const lookups of [1e-6, 0.003, 0.7, 40, 3_000]) {
      const rates = weights.map((weight) => (lookups * weight) / sum);
      const exact = rates.reduce((total, rate) => total + rate / (1 + rate * 20), 0);
      expect(queries(lookups) / exact).toBeGreaterThan(0.99);
      expect(queries(lookups) / exact).toBeLessThan(1.01);
      expect(queries(2 * lookups)).toBeLessThanOrEqual(2 * queries(lookups));
    }
    expect(queries(0)).toBe(0);
    expect(() => queriesPerSecondOf({ names: 0, zipfExponent: 1, ttlSeconds: 20 })).toThrow(RangeError);
  });
});

describe("what is to be expected of a cluster that nobody measured", () => {
  const places = [0, 20, 21, 90].map((longitude) => ({ latitude: 0, longitude }));
  const ids = ["a", "b", "c", "d"].map(cluster);
  const links = new Map([["a b", 80]]);
  const times = new ExpectedTimes(ids, places, (from, to) => links.get(`${from} ${to}`));
  const near = ranking(["a", 5]);
  test("the way to the nearest cluster and its link", () => {
    expect(times.rttMs(places[0]!, near, ids[1]!)).toBe(85);
  });
  test("a cluster without a link is as far as one beside it that has one, and the way between the two", () => {
    expect(times.rttMs(places[0]!, near, ids[2]!)).toBeGreaterThan(85);
    expect(times.rttMs(places[0]!, near, ids[2]!)).toBeLessThan(100);
  });
  test("geography where no link tells", () => {
    expect(times.rttMs(places[0]!, ranking(["d", 5]), ids[1]!)).toBeCloseTo(
      estimateByGeography(places[0]!, places[1]!).rttMs,
    );
  });
});

/** Whose a key is and whom a miss asks: owners under load, hot keys, parents by the map, the shield before the origin. */
import { describe, expect, test } from "vitest";
import {
  type ClusterEntry,
  type ClusterId,
  mapSnapshot,
  type MonotonicMs,
  propertyDocument,
  type PropertyId,
  type ServerId,
  topologyDocument,
} from "#kit";
import { type CacheKey, edgeDefaults, type HopFields, NodeRouting } from "#edge";
import { HotKeys } from "../../../edge/core/hot-keys.ts";
import { ownersOf, placeOf } from "../../../edge/core/owner.ts";
import { shieldOrder } from "../../../edge/core/shield.ts";
import { snapshotFrom } from "../../tools/map-snapshot.ts";

const at = (ms: number): MonotonicMs => ms as MonotonicMs;
const PEERS = ["a", "b", "c", "d"].map((id) => ({ id: id as ServerId }));
const up = (): boolean => true;

describe("owners", () => {
  test("the owner keeps its keys until it has far more than the others; then the next in order takes what is above", () => {
    for (let n = 0; n < 100; n++) {
      const key = `key-${n}`;
      const [first, second] = ownersOf(key, PEERS, undefined, up);
      const place = (inFlight: number): ServerId | undefined =>
        placeOf(key, PEERS, undefined, up, (id) => (id === first ? inFlight : 0));
      expect([place(0), place(200), place(256)]).toEqual([first, first, first]);
      expect(place(300)).toBe(second);
    }
    // All have equally many: the order is what it was.
    expect(placeOf("k", PEERS, undefined, up, () => 900)).toBe(ownersOf("k", PEERS, undefined, up)[0]);
    expect(placeOf("k", [], undefined, up, () => 0)).toBeUndefined();
  });

  test("a death moves the dead one's keys alone", () => {
    for (let n = 0; n < 500; n++) {
      const before = ownersOf(`key-${n}`, PEERS, undefined, up)[0];
      const after = ownersOf(`key-${n}`, PEERS, undefined, (id) => id !== "b")[0];
      if (before === "b") expect(after).not.toBe("b");
      else expect(after).toBe(before);
    }
  });
});

describe("hot keys", () => {
  const settings = { requestsMin: 4, copyMs: 1_000, copiesMax: 2, copiesBytesMax: 100 };

  test("a key is hot from so many requests within about a second, and has cooled a few seconds later", () => {
    const hot = new HotKeys(settings, at(0));
    const asked = (now: number): boolean => hot.handleRequest("k", at(now));
    expect([asked(0), asked(10), asked(20), asked(30)]).toEqual([false, false, false, true]);
    expect(hot.handleRequest("another", at(31))).toBe(false);
    // Counts have halved once: what is still hot earns its next copy sooner.
    expect([asked(1_050), asked(1_060)]).toEqual([false, true]);
    expect(asked(5_000)).toBe(false);
    // Once a second is no heat, however long.
    const slow = new HotKeys(settings, at(0));
    for (let now = 0; now < 100_000; now += 1_000) expect(slow.handleRequest("k", at(now))).toBe(false);
  });

  test("copies end after their time and are bounded in number and bytes", () => {
    const hot = new HotKeys(settings, at(0));
    expect(hot.pollTimeout()).toBeUndefined();
    expect([hot.handleCopy("a", 60, at(0)), hot.handleCopy("b", 60, at(1))]).toEqual([true, false]);
    expect([hot.handleCopy("b", 40, at(2)), hot.handleCopy("c", 0, at(3))]).toEqual([true, false]);
    expect([hot.copies, hot.bytes, hot.has("a"), hot.pollTimeout()]).toEqual([2, 100, true, 1_000]);
    expect(hot.handleTimeout(at(999))).toEqual([]);
    expect(hot.handleTimeout(at(1_000))).toEqual(["a"]);
    // Kept anew, it lives from then on.
    expect(hot.handleCopy("b", 10, at(1_001))).toBe(true);
    expect(hot.handleTimeout(at(1_500))).toEqual([]);
    expect(hot.handleTimeout(at(2_001))).toEqual(["b"]);
    expect([hot.copies, hot.bytes, hot.counters]).toEqual([0, 0, { copied: 3, refused: 2 }]);
  });
});

const cluster = (clusterId: string, role: string, port: number, servers = 2) => ({
  clusterId,
  regionId: "r",
  role,
  city: clusterId,
  coordinates: { latitude: 0, longitude: 0 },
  servers: Array.from({ length: servers }, (_, n) => ({
    serverId: `${clusterId}-${n + 1}`,
    address: "127.0.0.1",
    port: port + n,
  })),
});
const TOPOLOGY = topologyDocument.parse({
  name: "world",
  clusters: [
    cluster("fra", "edge", 100),
    cluster("sin", "edge", 200),
    cluster("par", "parent", 300),
    cluster("tok", "parent", 400),
    cluster("ams", "parent", 600),
    cluster("shop", "origin", 500, 1),
  ],
  nameService: { zones: [], nameServers: [] },
});
const ranking = [{ clusterId: "fra", score: 1, terms: { rttMs: 1, lossRatio: 0, load: 0, confidence: 1 } }];
const classes = { interactive: ranking, bulk: ranking, live: ranking };
const path = (fromClusterId: string, toClusterId: string, rttMs: number) => ({
  fromClusterId,
  toClusterId,
  candidates: [{ via: null, rttMs, lossRatio: 0 }],
});
const tier = (edgeClusterId: string, parents: readonly string[]) => ({
  edgeClusterId,
  originClusterId: "shop",
  parents: parents.map((clusterId, n) => ({ clusterId, costMs: n })),
});
const SNAPSHOT = snapshotFrom({
  mapVersion: 1,
  createdAtEpochMs: 1,
  reason: "first",
  clientNetworks: [{ clientNetworkId: "all", prefixes: ["0.0.0.0/0"], clusters: classes }],
  fallback: classes,
  tiers: [tier("fra", ["par", "tok"]), tier("sin", ["tok", "par"])],
  paths: [path("par", "shop", 80), path("tok", "shop", 20), path("ams", "shop", 120), path("fra", "shop", 1)],
  suspended: {},
});
const PROPERTY = propertyDocument.parse({
  propertyId: "shop",
  customerId: "acme",
  hostnames: ["www.shop.example"],
  origins: [{ scheme: "http", host: "127.0.0.1", port: 500 }],
});

/** Names of the hops of a server, a request having been asked for by `hop`. */
function hopsOf(
  self: string,
  options: { hop?: Partial<HopFields>; dead?: readonly string[]; key?: string } = {},
) {
  const { hop, dead = [], key = "http://www.shop.example/a" } = options;
  const routing = new NodeRouting(self as ServerId, TOPOLOGY, edgeDefaults, (id) => !dead.includes(id));
  routing.setSnapshot(SNAPSHOT);
  routing.setProperty(PROPERTY);
  const found = routing.propertyOf("www.shop.example");
  if (found === undefined) throw new Error("The property is not known");
  return routing
    .hopsFor(
      found.property,
      key as CacheKey,
      found.keyHost,
      { tier: undefined, isOwner: false, ...hop },
      false,
    )
    .map(({ kind, name, told }) => ({ kind, name, told }));
}
const names = (hops: readonly { readonly name: string }[]): string[] => hops.map(({ name }) => name);

describe("whom a miss asks", () => {
  const owner = (id: string): string =>
    ownersOf(
      "http://www.shop.example/a",
      [`${id}-1`, `${id}-2`].map((one) => ({ id: one as ServerId })),
      undefined,
      up,
    )[0] ?? "";
  const other = (id: string): string => (owner(id) === `${id}-1` ? `${id}-2` : `${id}-1`);

  test("the owner, its parent clusters as the map orders them, then the origin", () => {
    const parents = [owner("par"), other("par"), owner("tok"), other("tok")];
    expect(names(hopsOf(owner("fra")))).toEqual([...parents, "origin"]);
    expect(names(hopsOf(other("fra")))).toEqual([owner("fra"), ...parents, "origin"]);
    expect(names(hopsOf(other("fra"), { dead: [owner("fra")] }))).toEqual([...parents, "origin"]);
    expect(names(hopsOf(owner("sin"))).slice(0, 2)).toEqual([owner("tok"), other("tok")]);
    expect(names(hopsOf(owner("fra"), { dead: ["par-1", "par-2"] }))).toEqual([
      owner("tok"),
      other("tok"),
      "origin",
    ]);
    expect(names(hopsOf(owner("fra"), { dead: ["par-1", "par-2", "tok-1", "tok-2"] }))).toEqual(["origin"]);
  });

  test("who stands in for a parent cluster's owner is asked as the owner, noticed or not", () => {
    const asOwner = (dead: readonly string[]): readonly (boolean | undefined)[] =>
      hopsOf(owner("fra"), { dead }).map(({ told }) => told?.isOwner);
    expect(asOwner([])).toEqual([false, true, false, true, undefined]);
    expect(asOwner([owner("par")])).toEqual([true, false, true, undefined]);
  });

  test("when the shield dies, the parents behind it meet at the next one", () => {
    const byEdge = { hop: { tier: 0 } };
    const [shield, next] = [
      [owner("tok"), other("tok")],
      [owner("par"), other("par")],
    ] as const;
    expect(names(hopsOf(owner("ams"), byEdge))).toEqual([...shield, ...next, "origin"]);
    expect(names(hopsOf(owner("ams"), { ...byEdge, dead: shield }))).toEqual([...next, "origin"]);
    expect(names(hopsOf(owner("par"), { ...byEdge, dead: shield }))).toEqual(["origin"]);
  });

  test("a parent asks the one that is nearest to the origin, which asks the origin", () => {
    const byEdge = { hop: { tier: 0 } };
    expect(names(hopsOf(owner("par"), byEdge))).toEqual([owner("tok"), other("tok"), "origin"]);
    expect(names(hopsOf(owner("tok"), byEdge))).toEqual(["origin"]);
  });

  test("nobody asks a shield on behalf of a parent: no map can make a circle", () => {
    expect(names(hopsOf(owner("par"), { hop: { tier: 1 } }))).toEqual(["origin"]);
    // What it was asked by goes along to its cluster's owner.
    for (const tierAsked of [0, 1]) {
      const [first] = hopsOf(other("par"), { hop: { tier: tierAsked } });
      expect(first).toEqual({ kind: "owner", name: owner("par"), told: { tier: tierAsked, isOwner: true } });
    }
    expect(names(hopsOf(owner("par"), { hop: { tier: 1, isOwner: true } }))).toEqual(["origin"]);
    expect(names(hopsOf(owner("par"), { hop: { tier: 0, isOwner: true } }))[0]).toBe(owner("tok"));
  });

  test("without a way that the map knows, the property says which parent is first, and shields differ", () => {
    const parents = TOPOLOGY.clusters.filter(({ role }) => role === "parent");
    const first = (propertyId: string): ClusterEntry | undefined =>
      shieldOrder(propertyId, null, parents, [])[0];
    const chosen = new Set(Array.from({ length: 50 }, (_, n) => first(`p-${n}`)?.clusterId));
    expect(chosen.size).toBe(3);
    const id = "shop" as PropertyId;
    expect(shieldOrder(id, null, parents, [])).toEqual(shieldOrder(id, null, parents.toReversed(), []));
  });

  test("measurements that differ by little do not move a shield; properties share what is equally near", () => {
    const parents = TOPOLOGY.clusters.filter(({ clusterId }) => clusterId === "par" || clusterId === "tok");
    const firsts = (par: number, tok: number): readonly (string | undefined)[] => {
      const paths = [path("par", "shop", par), path("tok", "shop", tok)];
      const map = mapSnapshot.parse({ ...SNAPSHOT, paths });
      return Array.from(
        { length: 50 },
        (_, n) => shieldOrder(`p-${n}`, "shop" as ClusterId, parents, map.paths)[0]?.clusterId,
      );
    };
    expect(firsts(20, 21)).toEqual(firsts(21, 20));
    expect(new Set(firsts(20, 21)).size).toBe(2);
    expect(new Set(firsts(20, 40))).toEqual(new Set(["par"]));
    expect(new Set(firsts(40, 20))).toEqual(new Set(["tok"]));
  });
});

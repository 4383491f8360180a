/** A map on its way from a publisher over control to its receivers: whole to who has none, as a difference to who has one. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { ControlClient, DocumentKeeper, loadControlServer, type WatchEvent } from "#control";
import {
  allSteps,
  ClusterMapBuilder,
  type ClusterMapTable,
  ClientNetworkTable,
  differenceOf,
  type MapDifference,
  type MapSnapshot,
  mapSnapshot,
  named,
  PackedClusterMap,
} from "#kit";
import { createLogger, systemClock } from "#kit/io";
import { dial } from "#transport";
import { waitFor } from "../tools/processes.ts";

const { ControlServer, MemoryStore, SqliteStore } = await loadControlServer();
const token = "test-token-0123456789";
const logger = createLogger({ role: "test", id: "map" }, { level: "silent" });
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const NETWORKS = 5_000;
const CLUSTERS = 16;
const networks = ClientNetworkTable.of(
  Array.from({ length: NETWORKS }, (_, n) => ({
    clientNetworkId: `net-${n}` as never,
    prefixes: [`10.${n >> 8}.${n & 255}.0/24`],
  })),
);

/** Every network has a row of its own; version `v` measured the `v`th ten anew. */
function mapOf(mapVersion: number, before?: ClusterMapTable, isMoved = true): MapSnapshot {
  const clusters = Array.from({ length: CLUSTERS }, (_, c) => ({
    clusterId: `c-${String(c).padStart(2, "0")}` as never,
    load: mapVersion / 1_000,
  }));
  const builder = new ClusterMapBuilder({ mapVersion, networks, clusters }, before);
  for (let n = 0; n < NETWORKS; n++) {
    if (before !== undefined && (!isMoved || Math.floor(n / 10) !== mapVersion)) continue;
    const rttMs = Array.from({ length: 4 }, (_, k) => 5 + ((n * 7 + k * 13 + mapVersion) % 97) + k / 10);
    const positions = [0, 1, 2, 3].sort((a, b) => (rttMs[a] ?? 0) - (rttMs[b] ?? 0));
    const order = { length: 4, positions, scores: positions.map((at) => rttMs[at] ?? 0) };
    const row = builder.row({
      count: 4,
      clusters: [0, 1, 2, 3].map((k) => (n + k) % CLUSTERS),
      rttMs,
      lossRatio: [0, 0, 0, 0],
      confidence: [1, 1, 1, 1],
      orders: [order, order, order],
    });
    builder.place(n, row, undefined, [1, 1, 1]);
    if (n === 0) builder.placeFallback(row);
  }
  return mapSnapshot.parse({
    mapVersion,
    createdAtEpochMs: mapVersion,
    reason: "cycle",
    clusterMap: PackedClusterMap.of(builder.build()),
    tiers: Array.from({ length: 40 }, (_, n) => ({
      edgeClusterId: `c-${n}`,
      originClusterId: null,
      parents: [{ clusterId: "p-1", costMs: n === mapVersion ? 1 : 2 }],
    })),
    paths: [],
    suspended: {},
  });
}

async function serve(store = new MemoryStore({ logId: "log-1" }), port = 0) {
  const server = new ControlServer({ store, token, clock: systemClock, logger });
  const url = await server.listen("127.0.0.1", port);
  let isOpen = true;
  const close = async (): Promise<void> => {
    if (isOpen) await server.close();
    isOpen = false;
  };
  cleanups.push(close);
  return { server, url, close };
}

function newClient(url: string): ControlClient {
  const client = new ControlClient({ url, token, nodeId: "test", logger, dial });
  cleanups.push(() => client.close());
  return client;
}

function newDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "isochrone-map-"));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

async function follow(
  url: string,
  directory = newDirectory(),
  refuses: (map: MapSnapshot) => boolean = () => false,
) {
  const keeper = new DocumentKeeper({ client: newClient(url), stateDirectory: directory, logger });
  const applied: MapSnapshot[] = [];
  keeper.keep(
    "map",
    (value) => mapSnapshot.parse(value),
    (_id, body) => {
      if (refuses(body)) throw new Error("not this one");
      applied.push(body);
    },
    function* (body) {
      yield* body.clusterMap.tableInSteps();
    },
  );
  await keeper.start();
  cleanups.push(() => keeper.close());
  const has = (mapVersion: number) =>
    waitFor(() => applied.at(-1)?.mapVersion === mapVersion, {
      timeoutMs: 20_000,
      what: `map ${mapVersion}, the last one is ${applied.at(-1)?.mapVersion}`,
    });
  return { keeper, applied, has };
}

/** Publishes maps one after the other, each as the difference from the one before it. */
function publisher(client: ControlClient, expectedVersion = 0) {
  let base: MapSnapshot | undefined;
  let version = expectedVersion;
  return async (
    map: MapSnapshot,
    changes: (difference: MapDifference) => MapDifference | undefined = (one) => one,
  ) => {
    const difference = base && changes(allSteps(differenceOf(allSteps(named(base)), allSteps(named(map)))));
    await client.put("map", "world", map, { expectedVersion: version++, activate: true, difference });
    base = map;
    return map;
  };
}
const tableOf = (map: MapSnapshot): ClusterMapTable => map.clusterMap.table();

test("the first map goes whole, the next ones as differences, to the byte, and what lies on the disk is whole", async () => {
  const { url, server } = await serve();
  const publish = publisher(newClient(url));
  const directory = newDirectory();
  const [one, other] = [await follow(url, directory), await follow(url)];
  let map = await publish(mapOf(1));
  await Promise.all([one.has(1), other.has(1)]);
  const whole = one.keeper.fetches.bytes;
  expect(one.keeper.fetches).toMatchObject({ whole: 1, differences: 0 });
  for (const version of [2, 3, 4]) {
    map = await publish(mapOf(version, tableOf(map)));
    await Promise.all([one.has(version), other.has(version)]);
  }
  for (const { keeper, applied } of [one, other]) {
    expect(keeper.fetches).toMatchObject({ whole: 1, differences: 3, unusable: 0, failures: 0 });
    expect(JSON.stringify(applied.at(-1))).toBe(JSON.stringify(map));
  }
  // Three maps of which each measured ten of 5,000 networks anew, against one whole one.
  expect(one.keeper.fetches.bytes - whole).toBeLessThan(0.05 * whole);
  const { wholeBytes, differencesBytes } = server.service.deliveries.counters;
  expect(server.service.deliveries.counters).toMatchObject({ whole: 2, differences: 6 });
  expect(wholeBytes + differencesBytes).toBe(one.keeper.fetches.bytes + other.keeper.fetches.bytes);

  // With control dead a node starts with the whole map; with control back the next one is a difference again.
  await one.keeper.close();
  const again = await follow(url, directory);
  expect(JSON.stringify(again.applied)).toBe(JSON.stringify([map]));
  await publish(mapOf(5, tableOf(map)));
  await again.has(5);
  expect(again.keeper.fetches).toMatchObject({ whole: 0, differences: 1 });
});

test("who was away gets all differences in a row, and who missed too many the whole", async () => {
  const { url } = await serve();
  const publish = publisher(newClient(url));
  const [short, long] = [newDirectory(), newDirectory()];
  let map = await publish(mapOf(1));
  for (const directory of [short, long]) {
    const { has, keeper } = await follow(url, directory);
    await has(1);
    await keeper.close();
  }
  for (let version = 2; version <= 6; version++) map = await publish(mapOf(version, tableOf(map)));
  const near = await follow(url, short);
  await near.has(6);
  expect(near.keeper.fetches).toMatchObject({ whole: 0, differences: 1 });
  for (let version = 7; version <= 18; version++) map = await publish(mapOf(version, tableOf(map)));
  const far = await follow(url, long);
  await far.has(18);
  expect(far.keeper.fetches).toMatchObject({ whole: 1, differences: 0 });
  expect(JSON.stringify(far.applied.at(-1))).toBe(JSON.stringify(map));
});

test("a difference that leads elsewhere changes nothing: the whole map is fetched, and the next difference fits again", async () => {
  const { url } = await serve();
  const publish = publisher(newClient(url));
  const receiver = await follow(url);
  let map = await publish(mapOf(1));
  await receiver.has(1);
  const damages: readonly ((one: MapDifference) => MapDifference)[] = [
    (one) => ({ ...one, result: "0123456789abcdef" }),
    (one) => ({ ...one, head: { ...one.head, createdAtEpochMs: 99 } }),
    (one) => ({ ...one, tiers: [{ from: 39, count: 5 }] }),
    (one) => ({ ...one, clusterChanges: `${one.clusterChanges.slice(0, -8)}AAAAAAA=` }),
  ];
  for (const [n, damage] of damages.entries()) {
    map = await publish(mapOf(n + 2, tableOf(map)), damage);
    await receiver.has(n + 2);
    expect(receiver.keeper.fetches).toMatchObject({ whole: n + 2, differences: 0, unusable: n + 1 });
    expect(JSON.stringify(receiver.applied.at(-1))).toBe(JSON.stringify(map));
  }
  await publish(mapOf(6, tableOf(map)));
  await receiver.has(6);
  expect(receiver.keeper.fetches.differences).toBe(1);
});

test("a map that is refused stays out, and the next one is reached from the one in force", async () => {
  const { url } = await serve();
  const publish = publisher(newClient(url));
  const receiver = await follow(url, newDirectory(), (map) => map.mapVersion === 2);
  let map = await publish(mapOf(1));
  await receiver.has(1);
  map = await publish(mapOf(2, tableOf(map)));
  await waitFor(() => receiver.keeper.counters.refused === 1, { timeoutMs: 20_000, what: "the refusal" });
  map = await publish(mapOf(3, tableOf(map)));
  await receiver.has(3);
  expect(receiver.applied.map((one) => one.mapVersion)).toEqual([1, 3]);
  expect(receiver.keeper.fetches).toMatchObject({ whole: 1, differences: 2 });
});

test("differences outlive control, also one that was set up anew, and control away is waited for", async () => {
  const directory = newDirectory();
  const first = await serve(new SqliteStore({ stateDirectory: directory, newLogId: "log-1" }) as never);
  const port = Number(new URL(first.url).port);
  const publish = publisher(newClient(first.url));
  const receiver = await follow(first.url);
  let map = await publish(mapOf(1));
  await receiver.has(1);
  const away = newDirectory();
  await (await follow(first.url, away)).has(1);
  map = await publish(mapOf(2, tableOf(map)));
  await receiver.has(2);
  await first.close();
  first.server.service.store.close();
  const second = await serve(new SqliteStore({ stateDirectory: directory, newLogId: "x" }) as never, port);
  map = await publish(mapOf(3, tableOf(map)));
  await receiver.has(3);
  expect(receiver.keeper.fetches).toMatchObject({ whole: 1, differences: 2 });
  // Set up anew: other places, other versions, the same contents.
  await second.close();
  second.server.service.store.close();
  await serve(new MemoryStore({ logId: "log-2" }), port);
  const anew = publisher(newClient(first.url));
  await anew(map);
  map = await anew(mapOf(4, tableOf(map)));
  await receiver.has(4);
  expect(receiver.keeper.fetches).toMatchObject({ whole: 1, unusable: 0 });
  expect(receiver.keeper.fetches.differences).toBeGreaterThanOrEqual(3);
});

test("receivers and publishers of before go on: bodies in the stream, maps without differences", async () => {
  const { url, server } = await serve();
  const client = newClient(url);
  const seen: WatchEvent[] = [];
  const watch = client.watch(["map"], (event) => {
    if (event.type === "document" || event.type === "reference") seen.push(event);
  });
  cleanups.push(() => watch.close());
  const receiver = await follow(url);
  const publish = publisher(client);
  const map = await publish(mapOf(1));
  await publish(mapOf(2, tableOf(map)), () => undefined);
  await receiver.has(2);
  await waitFor(() => seen.length === 2, { timeoutMs: 5_000, what: "both bodies" });
  expect(seen.map((event) => event.type)).toEqual(["document", "document"]);
  expect(mapSnapshot.parse((seen[1] as { body: unknown }).body).mapVersion).toBe(2);
  expect(receiver.keeper.fetches.differences).toBe(0);
  expect(server.service.deliveries.counters.whole).toBeGreaterThanOrEqual(1);
  // Of other kinds there is none, and what is no difference is refused with its place.
  const refused = client.put("map", "world", mapOf(3), {
    expectedVersion: 2,
    difference: { base: "no" } as never,
  });
  await expect(refused).rejects.toMatchObject({ code: "refused", path: "difference.base" });
});

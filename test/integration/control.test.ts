/** The control process and its clients over real sockets: watch and resume, races, purge, hostile bodies, kill -9. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createTcpServer, connect } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import {
  ControlClient,
  ControlError,
  type ControlServerOptions,
  DocumentKeeper,
  loadControlServer,
  type WatchEvent,
} from "#control";
import { propertyDocument, type ServerId } from "#kit";
import { createLogger, systemClock } from "#kit/io";
import { dial } from "#transport";
import { watchHubDefaults } from "../../control/core/watch-hub.ts";
import { freePort, runIsochrone, startIsochrone, waitFor } from "../tools/processes.ts";
import { idleReport } from "../tools/server-report.ts";
import { snapshotFrom } from "../tools/map-snapshot.ts";

const { ControlServer, MemoryStore } = await loadControlServer();

const token = "test-token-0123456789";
const logger = createLogger({ role: "test", id: "control" }, { level: "silent" });
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function newDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "isochrone-control-"));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function newClient(
  url: string,
  options: Partial<ConstructorParameters<typeof ControlClient>[0]> = {},
): ControlClient {
  const client = new ControlClient({ url, token, nodeId: "test", logger, dial, ...options });
  cleanups.push(() => client.close());
  return client;
}

async function startControl(stateDirectory: string, port = 0) {
  const process = await startIsochrone(
    ["control", "--listen", `127.0.0.1:${port}`, "--state", stateDirectory],
    {
      env: { ISOCHRONE_CONTROL_TOKEN: token },
    },
  );
  cleanups.push(() => process.stop());
  return { process, url: process.readyLine.split(" ").at(-1) ?? "" };
}

/** In this process, so that a test sees the counters. */
async function serve(options: Partial<ControlServerOptions> = {}) {
  const store = new MemoryStore({ logId: "log-1" });
  const server = new ControlServer({ store, token, clock: systemClock, logger, ...options });
  const url = await server.listen("127.0.0.1", 0);
  cleanups.push(() => server.close());
  return { server, url };
}

const property = (changes: Record<string, unknown> = {}) =>
  propertyDocument.parse({
    propertyId: "shop-www",
    customerId: "shop",
    hostnames: ["www.shop.example"],
    origins: [{ scheme: "http", host: "127.0.0.1", port: 9_000 }],
    ...changes,
  });

const topology = {
  name: "demo",
  clusters: [
    {
      clusterId: "fra",
      regionId: "eu",
      role: "edge",
      city: "Frankfurt",
      coordinates: { latitude: 50, longitude: 8 },
      servers: ["fra-1", "fra-2", "fra-3"].map((serverId, n) => ({
        serverId,
        address: `127.10.1.${n + 1}`,
        port: 8080,
      })),
    },
  ],
  nameService: { zones: [], nameServers: [] },
};

const ranking = [{ clusterId: "fra", score: 1, terms: { rttMs: 1, lossRatio: 0, load: 0, confidence: 1 } }];
const rankings = { interactive: ranking, bulk: ranking, live: ranking };
const mapOf = (term: number, mapVersion: number) =>
  snapshotFrom({
    mapVersion,
    ...(term > 0 && { publication: { term, publisherId: "mapper-1" } }),
    clientNetworks: [{ clientNetworkId: "berlin", prefixes: ["192.0.2.0/24"], clusters: rankings }],
    fallback: rankings,
  });

const report = (serverId: string) => idleReport(serverId);

async function request(
  url: string,
  path: string,
  init: RequestInit & { readonly bearer?: string | null } = {},
) {
  const { bearer = token, headers, ...rest } = init;
  const response = await fetch(url + path, {
    ...rest,
    headers: {
      ...(bearer !== null && { authorization: `Bearer ${bearer}` }),
      ...(rest.body !== undefined && { "content-type": "application/json" }),
      ...(headers as Record<string, string>),
    },
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

async function rejected(promise: Promise<unknown>): Promise<ControlError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ControlError);
  return error as ControlError;
}

describe("documents", () => {
  it("pushes, activates, diffs and rolls back one property", async () => {
    const { url } = await serve();
    const client = newClient(url);
    const first = await client.put("property", "shop-www", property(), {
      expectedVersion: 0,
      note: "first",
      author: "ann",
    });
    expect(first).toMatchObject({ version: 1, activeVersion: null, note: "first", author: "ann" });
    await client.put("property", "shop-www", property({ dnsTtlSeconds: 60 }), {
      expectedVersion: 1,
      activate: true,
    });
    expect(await client.diff("property", "shop-www", 1, 2)).toEqual([
      { path: "dnsTtlSeconds", from: 20, to: 60 },
    ]);
    const back = await client.activate("property", "shop-www", { version: 1, expectedActiveVersion: 2 });
    expect(back.activeVersion).toBe(1);
    expect((await client.document("property", "shop-www"))?.body).toEqual(property());
    expect(await client.document("property", "other")).toBeUndefined();
    expect(await client.versions("property", "other")).toEqual([]);
    expect(client.state).toBe("connected");
  });

  it("refuses by the laws among properties with path, value and expectation", async () => {
    const { url, server } = await serve();
    const client = newClient(url);
    await client.put("property", "shop-www", property(), { expectedVersion: 0, activate: true });
    const taken = property({
      propertyId: "other-www",
      customerId: "other",
      hostnames: ["b.example", "www.shop.example"],
    });
    // A draft may say it; in force it may not be.
    await client.put("property", "other-www", taken, { expectedVersion: 0 });
    const refused = await rejected(
      client.activate("property", "other-www", { version: 1, expectedActiveVersion: null }),
    );
    expect(refused).toMatchObject({
      code: "refused",
      status: 422,
      path: "hostnames[1]",
      value: '"www.shop.example"',
    });
    expect(refused.expected).toContain('"shop-www" has it');
    const stolen = await rejected(
      client.put("property", "shop-www", property({ customerId: "other" }), { expectedVersion: 1 }),
    );
    expect(stolen).toMatchObject({ code: "refused", path: "customerId", value: '"other"' });
    const misnamed = await rejected(client.put("property", "shop-api", property(), { expectedVersion: 0 }));
    expect(misnamed).toMatchObject({ code: "refused", path: "propertyId" });
    expect(server.service.counters.refused).toBe(3);
    // Withdrawn, it gives its host names free.
    await client.put("property", "shop-www", property({ isActive: false }), {
      expectedVersion: 1,
      activate: true,
    });
    await client.activate("property", "other-www", { version: 1, expectedActiveVersion: null });
  });

  it("lets exactly one of two racing clients win", async () => {
    const { url, server } = await serve();
    const clients = [newClient(url), newClient(url)];
    for (let version = 0; version < 20; version++) {
      const results = await Promise.allSettled(
        clients.map((client, n) =>
          client.put("property", "shop-www", property({ dnsTtlSeconds: n + 1 }), {
            expectedVersion: version,
            activate: true,
          }),
        ),
      );
      expect(results.map((one) => one.status).sort()).toEqual(["fulfilled", "rejected"]);
      const lost = results.find((one) => one.status === "rejected") as PromiseRejectedResult;
      expect(lost.reason).toMatchObject({ code: "conflict", presentVersion: version + 1 });
    }
    expect(server.service.counters).toMatchObject({ appended: 20, conflicts: 20 });
  });
});

describe("edits of a zone", () => {
  const zone = {
    zoneId: "z",
    customerId: "acme",
    origin: "z.test",
    sets: [
      { name: "@", type: "SOA", ttlSeconds: 300, data: ["ns h 7 3600 1800 1209600 60"] },
      { name: "@", type: "NS", ttlSeconds: 300, data: ["ns.other.test."] },
    ],
  };
  const set = (name: string, ...data: string[]) =>
    ({ action: "set", name, type: "A", ttlSeconds: 60, data }) as const;
  const failure = async (work: Promise<unknown>): Promise<object> =>
    work.then(
      () => ({ code: "none" }),
      (error: unknown) => ({ ...(error as object) }),
    );

  it("are made of what is in force, each with its serial and its author; none of two at once is lost", async () => {
    const { server, url } = await serve();
    const client = newClient(url);
    await client.put("zone", "z", zone, { expectedVersion: 0, note: "", author: "ann", activate: true });
    const names = Array.from({ length: 20 }, (_, n) => `host-${n}`);
    const made = await Promise.all(
      names.map((name) => client.editZone("z", { edits: [set(name, "192.0.2.1")], author: name })),
    );
    expect(made.map(({ serial }) => serial).sort((a, b) => a - b)).toEqual(names.map((_, n) => 8 + n));
    const found = await client.document("zone", "z");
    expect(found?.body).toMatchObject({ sets: { length: 22 } });
    const last = (await client.versions("zone", "z")).at(-1);
    expect([last?.version, last?.note, names.includes(last?.author ?? "")]).toEqual([21, "serial 27", true]);
    // Rolled back: the next edit is of what is in force, not of what was taken back.
    await client.activate("zone", "z", { version: 1, expectedActiveVersion: 21 });
    const { serial, version } = await client.editZone("z", { edits: [set("www", "192.0.2.2")] });
    expect([serial, version]).toEqual([8, 22]);
    expect(server.service.counters).toMatchObject({ conflicts: 0 });
  });

  it("all or none, for the serial that was seen, and of zones that are edited here", async () => {
    const { server, url } = await serve();
    const client = newClient(url);
    await client.put("zone", "z", zone, { expectedVersion: 0, note: "", author: "ann", activate: true });
    const edits = [set("www", "192.0.2.1")];
    expect(await failure(client.editZone("z", { edits, expectedSerial: 6 }))).toMatchObject({
      code: "conflict",
      presentVersion: 7,
    });
    const two = [...edits, { action: "delete", name: "gone", type: "A" } as const];
    expect(await failure(client.editZone("z", { edits: two }))).toMatchObject({
      code: "refused",
      path: "edits[1]",
    });
    expect(await failure(client.editZone("z", { edits: [] }))).toMatchObject({
      code: "refused",
      path: "edits",
    });
    expect(await failure(client.editZone("other", { edits }))).toMatchObject({ code: "not-found" });
    expect((await client.versions("zone", "z")).length).toBe(1);
    expect(await client.editZone("z", { edits, expectedSerial: 7 })).toMatchObject({ serial: 8, version: 2 });
    const secondary = { primaries: [{ address: "192.0.2.1" }] };
    const followed = { ...zone, zoneId: "f", origin: "f.test", sets: [], secondary };
    await client.put("zone", "f", followed, { expectedVersion: 0, note: "", author: "ann", activate: true });
    expect(await failure(client.editZone("f", { edits, expectedSerial: 7 }))).toMatchObject({
      code: "refused",
      expected: expect.stringContaining("fetched from its primaries") as string,
    });
    expect(server.service.counters).toMatchObject({ conflicts: 1 });
  });
});

describe("leases and fences", () => {
  it("publishes for the elected one alone, through a restart of control", async () => {
    const stateDirectory = newDirectory();
    const first = await startControl(stateDirectory);
    const ask = (client: ControlClient, holderId: string, changes = {}) =>
      client.lease("map", {
        action: "hold",
        holderId,
        term: 0,
        seenTerm: 6,
        durationMs: 60_000,
        preempts: false,
        note: "",
        ...changes,
      });
    const put = (client: ControlClient, expectedVersion: number, term: number, mapVersion: number) =>
      client.put("map", "current", mapOf(term, mapVersion), { expectedVersion });
    let client = newClient(first.url);
    expect(await ask(client, "mapper-1")).toMatchObject({ outcome: "granted", term: 7, newest: null });
    expect(await ask(client, "mapper-2")).toMatchObject({ outcome: "held", term: 7, holderId: "mapper-1" });
    expect(await rejected(put(client, 0, 0, 1))).toMatchObject({ code: "fenced", status: 412 });
    await put(client, 0, 7, 1);
    await first.process.stop();
    const { url } = await startControl(stateDirectory);
    client = newClient(url);
    // Its whole time counts again: the holder may not know that control was away.
    expect(await client.leases()).toMatchObject([
      { name: "map", term: 7, holderId: "mapper-1", newest: { term: 7, version: 1 } },
    ]);
    expect(await ask(client, "mapper-1", { term: 7 })).toMatchObject({ outcome: "renewed" });
    await put(client, 1, 7, 2);
    // A message of the same publisher that took the long way.
    expect(await rejected(put(client, 2, 7, 2))).toMatchObject({ code: "not-newer", status: 412 });
    expect(await ask(client, "mapper-1", { action: "release", term: 7 })).toMatchObject({ holderId: null });
    expect(await ask(client, "mapper-2")).toMatchObject({ outcome: "granted", term: 8 });
    expect((await rejected(put(client, 2, 7, 3))).message).toMatch("not of the present term 8");
    await put(client, 2, 8, 3);
    const back = client.activate("map", "current", { version: 1, expectedActiveVersion: 3 });
    expect((await rejected(back)).message).toMatch('"isochrone map rollback 1"');
    expect(await rejected(ask(client, "mapper 2"))).toMatchObject({ code: "refused", path: "holderId" });
  });
});

describe("watch", () => {
  it("resumes across a restart of control and loses no activation", async () => {
    const stateDirectory = newDirectory();
    const port = await freePort();
    const first = await startControl(stateDirectory, port);
    const watcher = newClient(first.url);
    const events: WatchEvent[] = [];
    watcher.watch(["property"], (event) => events.push(event));
    const writer = newClient(first.url);
    const activated: number[] = [];
    let isRestarted = false;
    const writing = (async () => {
      for (let version = 0; version < 40; ) {
        try {
          await writer.put("property", "shop-www", property({ dnsTtlSeconds: version + 1 }), {
            expectedVersion: version,
            activate: true,
          });
          activated.push(++version);
        } catch (error) {
          // Broken off by the kill: it may have been taken, then the next try says so.
          if ((error as ControlError).code === "conflict") activated.push(++version);
          else await waitFor(() => isRestarted, { timeoutMs: 20_000, what: "control to be back" });
        }
      }
    })();
    await waitFor(() => activated.length > 10, { timeoutMs: 20_000, what: "writes" });
    first.process.signal("SIGKILL");
    await first.process.exit;
    await startControl(stateDirectory, port);
    isRestarted = true;
    await writing;
    const versions = () => events.flatMap((event) => (event.type === "document" ? [event.version] : []));
    await waitFor(() => versions().at(-1) === 40, { timeoutMs: 20_000, what: "the last activation" });
    // It came back by its place, so there was one snapshot, and each activation came once and in order.
    expect(versions()).toEqual(Array.from({ length: 40 }, (_, index) => index + 1));
    expect(events.filter((event) => event.type === "snapshot-begin")).toHaveLength(1);
    expect(watcher.counters.reconnects).toBeGreaterThanOrEqual(1);
    const heartbeats = events.filter((event) => event.type === "heartbeat");
    expect(heartbeats.length).toBeGreaterThan(0);
  });

  it("begins with a snapshot for a place of another log, and replays kept purges", async () => {
    const { url } = await serve();
    const client = newClient(url);
    await client.put("property", "shop-www", property(), { expectedVersion: 0, activate: true });
    await client.purge({ propertyId: property().propertyId, urls: [], tags: ["a"], mode: "hard" });
    const events: WatchEvent[] = [];
    client.watch(["property", "purge"], (event) => events.push(event), {
      since: { logId: "another", seq: 1 },
    });
    await waitFor(() => events.some((event) => event.type === "snapshot-end"), {
      timeoutMs: 5_000,
      what: "snapshot",
    });
    expect(events.slice(0, 4)).toMatchObject([
      { type: "snapshot-begin", logId: "log-1", oldestPurgeSeq: 1 },
      { type: "document", seq: 1, version: 1 },
      { type: "purge", seq: 2, purge: { purgeSeq: 1 } },
      { type: "snapshot-end", seq: 2 },
    ]);
  });

  it("cuts off a watcher that does not read, and spares the others", async () => {
    const hubSettings = { ...watchHubDefaults, queueLinesMax: 4, queueBytesMax: 256 * 1024 };
    const { url, server } = await serve({ hubSettings });
    const { hostname, port } = new URL(url);
    const slow = connect({ host: hostname, port: Number(port) });
    cleanups.push(() => slow.destroy());
    await once(slow, "connect");
    slow.pause();
    slow.write(`GET /v1/watch?kinds=property HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer ${token}\r\n\r\n`);
    await waitFor(() => server.service.hub.watcherCount === 1, {
      timeoutMs: 5_000,
      what: "the slow watcher",
    });
    const client = newClient(url);
    const versions: number[] = [];
    client.watch(["property"], (event) => event.type === "document" && versions.push(event.version));
    const rules = Array.from({ length: 200 }, () => ({ match: { pathPrefix: `/${"x".repeat(500)}` } }));
    let version = 0;
    // As many as the socket's buffers hold, and a few more.
    while (server.service.hub.counters.cutSlow === 0 && version < 500) {
      await client.put("property", "shop-www", property({ rules }), {
        expectedVersion: version++,
        activate: true,
      });
    }
    expect(server.service.hub.counters).toMatchObject({ cutSlow: 1, cutStalled: 0 });
    slow.resume();
    await once(slow, "close");
    await waitFor(() => versions.at(-1) === version, { timeoutMs: 10_000, what: "the other watcher" });
    expect(versions).toEqual(Array.from({ length: version }, (_, index) => index + 1));
    expect(server.service.hub.watcherCount).toBe(1);
  });

  it("takes a silent connection for dead and comes back", async () => {
    const { url } = await serve();
    const { hostname, port } = new URL(url);
    // A path that goes dead without closing: it forwards until it is told to swallow.
    let isDead = false;
    let connections = 0;
    const path = createTcpServer((downstream) => {
      connections++;
      const upstream = connect({ host: hostname, port: Number(port) });
      const isFirst = connections === 1;
      upstream.on("data", (chunk) => !(isDead && isFirst) && downstream.write(chunk));
      downstream.on("data", (chunk) => upstream.write(chunk));
      for (const [one, other] of [
        [upstream, downstream],
        [downstream, upstream],
      ] as const) {
        one.on("error", () => {});
        one.on("close", () => other.destroy());
      }
    }).listen(0, "127.0.0.1");
    await once(path, "listening");
    cleanups.push(() => path.close());
    const watcher = newClient(`http://127.0.0.1:${(path.address() as { port: number }).port}`);
    const versions: number[] = [];
    watcher.watch(["property"], (event) => event.type === "document" && versions.push(event.version));
    await waitFor(() => watcher.state === "connected", { timeoutMs: 5_000, what: "the stream" });
    isDead = true;
    await newClient(url).put("property", "shop-www", property(), { expectedVersion: 0, activate: true });
    await waitFor(() => versions.length === 1, {
      timeoutMs: 8_000,
      what: "the activation over a new connection",
    });
    expect(connections).toBeGreaterThanOrEqual(2);
    expect(watcher.counters.reconnects).toBe(1);
  });
});

describe("purge", () => {
  it("reaches every server, counts acknowledgements and names those that are missing", async () => {
    const { url, server } = await serve({
      ledgerSettings: { timeoutMs: 3_000, missingGraceMs: 300, openMax: 10 },
    });
    const operator = newClient(url);
    await operator.put("topology", "demo", topology, { expectedVersion: 0 });
    await operator.put("property", "shop-www", property(), { expectedVersion: 0, activate: true });
    const servers = ["fra-1", "fra-2", "fra-3"].map((name) => {
      const client = newClient(url, { nodeId: name });
      const serverId = name as ServerId;
      const state = { name, isDeaf: false, seen: [] as number[], watch: { close: (): void => {} } };
      state.watch = client.watch(["purge"], (event) => {
        if (event.type !== "purge") return;
        state.seen.push(event.purge.purgeSeq);
        if (!state.isDeaf)
          void client.acknowledgePurge({ purgeSeq: event.purge.purgeSeq, serverId, removed: 2 });
      });
      return { state, client };
    });
    await waitFor(() => server.service.hub.watcherCount === 3, { timeoutMs: 5_000, what: "three watchers" });
    for (const { state, client } of servers)
      expect(await client.publishReport(report(state.name))).toBe(true);
    const wanted = {
      propertyId: property().propertyId,
      urls: ["http://www.shop.example/a.css"],
      tags: [],
      mode: "hard" as const,
    };

    const progress: string[] = [];
    const all = await operator.purge(wanted, (step) => progress.push(step.type));
    expect(all).toMatchObject({ purgeSeq: 1, acked: 3, expected: 3, unacknowledged: [] });
    expect(progress).toEqual(["accepted", "ack", "ack", "ack", "done"]);
    expect(all.elapsedMs).toBeLessThan(2_000);

    // One hears and does not answer: waited for until the time-out.
    servers[1]!.state.isDeaf = true;
    const fewer = await operator.purge(wanted);
    expect(fewer).toMatchObject({ purgeSeq: 2, acked: 2, expected: 3, unacknowledged: ["fra-2"] });
    expect(fewer.elapsedMs).toBeGreaterThanOrEqual(3_000);
    expect(servers.map(({ state }) => state.seen)).toEqual([
      [1, 2],
      [1, 2],
      [1, 2],
    ]);
    expect(server.service.ledger.counters).toMatchObject({ complete: 1, incomplete: 1, acks: 5 });
    // Each goes over two connections, so that a lost packet on one delays none.
    await waitFor(() => server.service.ledger.counters.acksIgnored === 5, {
      timeoutMs: 5_000,
      what: "all acknowledgements for the second time",
    });
    expect(
      await servers[0]!.client.acknowledgePurge({ purgeSeq: 99, serverId: "fra-1" as ServerId, removed: 0 }),
    ).toBe(false);
  });

  it("waits a short while only for servers that have not reported", async () => {
    const { url } = await serve({ ledgerSettings: { timeoutMs: 10_000, missingGraceMs: 200, openMax: 10 } });
    const operator = newClient(url);
    await operator.put("topology", "demo", topology, { expectedVersion: 0 });
    await operator.put("property", "shop-www", property(), { expectedVersion: 0, activate: true });
    const result = await operator.purge({
      propertyId: property().propertyId,
      urls: [],
      tags: ["a"],
      mode: "soft",
    });
    expect(result).toMatchObject({ acked: 0, expected: 3, unacknowledged: ["fra-1", "fra-2", "fra-3"] });
    expect(result.elapsedMs).toBeLessThan(2_000);
  });

  it("refuses URLs of other host names and unknown properties", async () => {
    const { url } = await serve();
    const operator = newClient(url);
    const wanted = {
      propertyId: property().propertyId,
      urls: ["http://evil.example/a"],
      tags: [],
      mode: "hard" as const,
    };
    expect(await rejected(operator.purge(wanted))).toMatchObject({ code: "refused", path: "propertyId" });
    await operator.put("property", "shop-www", property(), { expectedVersion: 0, activate: true });
    expect(await rejected(operator.purge(wanted))).toMatchObject({
      code: "refused",
      path: "urls[0]",
      value: '"http://evil.example/a"',
    });
  });
});

describe("keeper", () => {
  function newKeeper(url: string, stateDirectory: string) {
    const applied: [id: string, ttlSeconds: number, version: number, from: string][] = [];
    const keeper = new DocumentKeeper({ client: newClient(url), stateDirectory, logger });
    keeper.keep(
      "property",
      (value) => propertyDocument.parse(value),
      (id, body, version, from) => {
        if (body.dnsTtlSeconds === 666) throw new Error("this node cannot");
        applied.push([id, body.dnsTtlSeconds, version, from]);
      },
    );
    cleanups.push(() => keeper.close());
    return { keeper, applied };
  }

  it("follows control, keeps what it applied, and boots from its disk with control dead", async () => {
    const stateDirectory = newDirectory();
    const { url, server } = await serve();
    const writer = newClient(url);
    await writer.put("property", "shop-www", property(), { expectedVersion: 0, activate: true });
    const live = newKeeper(url, stateDirectory);
    await live.keeper.start();
    await live.keeper.synced;
    await writer.put("property", "shop-www", property({ dnsTtlSeconds: 30 }), {
      expectedVersion: 1,
      activate: true,
    });
    await writer.put("property", "shop-www", property({ dnsTtlSeconds: 666 }), {
      expectedVersion: 2,
      activate: true,
    });
    await waitFor(() => live.keeper.counters.refused === 1, { timeoutMs: 5_000, what: "the refusal" });
    expect(live.applied).toEqual([
      ["shop-www", 20, 1, "control"],
      ["shop-www", 30, 2, "control"],
    ]);
    expect(live.keeper.applied).toEqual({ "property/shop-www": 2 });
    // A roll-back is a lower version and is applied.
    await writer.activate("property", "shop-www", { version: 1, expectedActiveVersion: 3 });
    await waitFor(() => live.keeper.applied["property/shop-www"] === 1, {
      timeoutMs: 5_000,
      what: "the roll-back",
    });
    await live.keeper.close();
    await server.close();

    const dead = newKeeper(url, stateDirectory);
    await dead.keeper.start();
    expect(dead.applied).toEqual([["shop-www", 20, 1, "disk"]]);
    expect(dead.keeper).toMatchObject({ state: "disconnected", isSynced: false });
  });

  it("prepares what is large while the one before stays in force, and of those that come in between takes the newest", async () => {
    const { url } = await serve();
    const writer = newClient(url);
    const keeper = new DocumentKeeper({ client: newClient(url), stateDirectory: newDirectory(), logger });
    cleanups.push(() => keeper.close());
    const applied: number[] = [];
    let isOpen = false;
    keeper.keep(
      "property",
      (value) => propertyDocument.parse(value),
      (_id, _body, version) => applied.push(version),
      function* (body) {
        while (!isOpen) yield;
        if (body.dnsTtlSeconds === 666) throw new Error("this node cannot");
      },
    );
    await keeper.start();
    const put = (ttl: number, expectedVersion: number) =>
      writer.put("property", "shop-www", property({ dnsTtlSeconds: ttl }), {
        expectedVersion,
        activate: true,
      });
    for (const [before, ttl] of [20, 30, 40, 50].entries()) {
      await put(ttl, before);
      // Not all in one snapshot, in which control sends the newest alone.
      if (before === 0) await keeper.synced;
    }
    await waitFor(() => keeper.counters.overtaken === 2, {
      timeoutMs: 5_000,
      what: "two that are overtaken",
    });
    expect(keeper.applied).toEqual({});
    isOpen = true;
    await waitFor(() => applied.length === 2, { timeoutMs: 5_000, what: "the first and the last" });
    expect(applied).toEqual([1, 4]);
    await put(666, 4);
    await waitFor(() => keeper.counters.refused === 1, { timeoutMs: 5_000, what: "the refusal" });
    expect(keeper.applied).toEqual({ "property/shop-www": 4 });
  });

  it("ignores a damaged file, says so, and is healed by control", async () => {
    const stateDirectory = newDirectory();
    const { url } = await serve();
    await newClient(url).put("property", "shop-www", property(), { expectedVersion: 0, activate: true });
    const first = newKeeper(url, stateDirectory);
    await first.keeper.start();
    await first.keeper.synced;
    await first.keeper.close();
    const documents = join(stateDirectory, "documents");
    expect(readdirSync(documents)).toEqual(["property.shop-www.lkg"]);
    writeFileSync(
      join(documents, "property.shop-www.lkg"),
      "isochrone-last-known-good 1 0123456789abcdef 9\ngarbage",
    );
    const second = newKeeper(url, stateDirectory);
    await second.keeper.start();
    expect(second.keeper.counters.damaged).toBe(1);
    await second.keeper.synced;
    expect(second.applied).toEqual([["shop-www", 20, 1, "control"]]);
    await second.keeper.close();
    const third = newKeeper(url, stateDirectory);
    await third.keeper.start();
    expect(third.applied[0]).toEqual(["shop-www", 20, 1, "disk"]);
    // Control says the same again: nothing is applied twice.
    await third.keeper.synced;
    expect(third.applied).toHaveLength(1);
    expect(third.keeper.counters.ignored).toBe(1);
  });
});

describe("hostile requests", () => {
  it("refuses each with its status and a reason, and serves on", async () => {
    const { url, server } = await serve();
    const path = "/v1/documents/property/shop-www";
    const good = JSON.stringify({ body: property(), expectedVersion: 0 });
    const post = (body: string | Uint8Array, headers = {}) =>
      request(url, path, { method: "POST", body: body as BodyInit, headers });
    expect(await request(url, "/v1/documents", { bearer: null })).toMatchObject({
      status: 401,
      body: { code: "unauthorised" },
    });
    expect(await request(url, "/v1/documents", { bearer: `${token}x` })).toMatchObject({ status: 401 });
    expect(await request(url, "/v1/nothing")).toMatchObject({ status: 404, body: { code: "not-found" } });
    expect(await request(url, "/v1/documents/secret/x")).toMatchObject({ status: 404 });
    expect(await request(url, path, { method: "DELETE" })).toMatchObject({ status: 405 });
    expect(await request(url, "/v1/documents?kind=map&kind=map")).toMatchObject({ status: 400 });
    expect(await request(url, "/v1/documents?kinds=map")).toMatchObject({
      status: 400,
      body: { path: "query.kinds" },
    });
    expect(await request(url, `${path}?version=-1`)).toMatchObject({
      status: 400,
      body: { path: "query.version", value: '"-1"' },
    });
    expect(await request(url, "/v1/%E0%A4%A")).toMatchObject({ status: 400 });
    expect(await request(url, "/v1/watch?kinds=property,all")).toMatchObject({
      status: 400,
      body: { path: "query.kinds" },
    });
    expect(await post("{")).toMatchObject({ status: 400 });
    expect(await post("")).toMatchObject({ status: 400 });
    expect(await post(Uint8Array.of(0x22, 0xff, 0x22))).toMatchObject({
      status: 400,
      body: { error: "The body is not valid UTF-8" },
    });
    expect(await post(good, { "content-type": "text/plain" })).toMatchObject({ status: 415 });
    expect(await post("null")).toMatchObject({ status: 422 });
    expect(await post('{"expectedVersion":0,"expectedVersion":1,"body":{}}')).toMatchObject({
      status: 422,
      body: { path: "expectedVersion", expected: "each key once in an object" },
    });
    expect(
      await post(`{"body":${"[".repeat(50_000)}${"]".repeat(50_000)},"expectedVersion":0}`),
    ).toMatchObject({ status: 422 });
    expect(await post(good.replace('"expectedVersion":0', '"expectedVersion":0,"admin":true'))).toMatchObject(
      { status: 422, body: { path: "admin", value: "true" } },
    );
    expect(await post(good.replace("www.shop.example", "WWW.shop.example"))).toMatchObject({
      status: 422,
      body: { path: "hostnames[0]", value: '"WWW.shop.example"' },
    });
    expect(await post('{"body":{"__proto__":{"x":1}},"expectedVersion":0}')).toMatchObject({ status: 422 });
    expect(await post(`"${"x".repeat(1024 * 1024)}"`)).toMatchObject({
      status: 413,
      body: { code: "too-large" },
    });
    expect(
      await request(url, "/v1/documents/property/..%2f..%2fetc", { method: "POST", body: good }),
    ).toMatchObject({ status: 422, body: { path: "id" } });
    expect(server.service.store.documentCount("property")).toBe(0);
    expect(await post(good)).toMatchObject({ status: 201, body: { version: 1 } });
    expect(await post(good)).toMatchObject({ status: 409, body: { code: "conflict", presentVersion: 1 } });
    expect(await request(url, "/readyz", { bearer: null })).toMatchObject({ status: 200 });
  });

  it("bounds a chunked body that never says its length", async () => {
    const { url } = await serve();
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port) });
    cleanups.push(() => socket.destroy());
    socket.on("error", () => {});
    let answer = "";
    socket.on("data", (chunk) => {
      answer += chunk.toString();
    });
    socket.write(
      `POST /v1/documents/property/x HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`,
    );
    const chunk = `10000\r\n${"x".repeat(65_536)}\r\n`;
    for (let sent = 0; sent < 20; sent++) socket.write(chunk);
    await waitFor(() => answer.startsWith("HTTP/1.1 413"), { timeoutMs: 5_000, what: "413" });
  });
});

describe("process", () => {
  it("refuses to start without a token, on a used port and with a used state directory, and says what to do", async () => {
    const stateDirectory = newDirectory();
    const args = (listen: string) => ["control", "--listen", listen, "--state", stateDirectory];
    const env = { ISOCHRONE_CONTROL_TOKEN: token };
    const without = await runIsochrone(args("127.0.0.1:0"), { env: { ISOCHRONE_CONTROL_TOKEN: undefined } });
    expect(without).toMatchObject({ code: 2, stdout: "" });
    expect(without.stderr).toContain("export ISOCHRONE_CONTROL_TOKEN=");
    expect(without.stderr.trim().split("\n")).toHaveLength(1);
    const { url } = await startControl(stateDirectory);
    const second = await runIsochrone(args("127.0.0.1:0"), { env });
    expect(second).toMatchObject({ code: 2 });
    expect(second.stderr).toContain("another control process uses this state directory");
    const { port } = new URL(url);
    const taken = await runIsochrone(
      ["control", "--listen", `127.0.0.1:${port}`, "--state", newDirectory()],
      { env },
    );
    expect(taken).toMatchObject({ code: 2 });
    expect(taken.stderr).toContain("the address is in use");
    expect((await runIsochrone(args("nowhere"), { env })).code).toBe(2);
  });

  it("loses nothing that it acknowledged when it is killed during writes", async () => {
    const stateDirectory = newDirectory();
    let acknowledged = 0;
    let purges = 0;
    for (let round = 0; round < 3; round++) {
      const { process, url } = await startControl(stateDirectory);
      const client = newClient(url);
      // What was not acknowledged may be there as well: go on from what is.
      const present = (await client.versions("property", "shop-www")).at(-1)?.version ?? 0;
      expect(present).toBeGreaterThanOrEqual(acknowledged);
      acknowledged = present;
      const target = present + 15;
      const writing = (async () => {
        for (;;) {
          await client.put("property", "shop-www", property({ dnsTtlSeconds: (acknowledged % 3_000) + 1 }), {
            expectedVersion: acknowledged,
            activate: true,
          });
          acknowledged++;
          if (acknowledged % 5 === 0) {
            const { purgeSeq } = await client.purge({
              propertyId: property().propertyId,
              urls: [],
              tags: ["a"],
              mode: "hard",
            });
            purges = Math.max(purges, purgeSeq);
          }
        }
      })();
      const failure = rejected(writing);
      await waitFor(() => acknowledged >= target, { timeoutMs: 20_000, what: "writes", intervalMs: 1 });
      process.signal("SIGKILL");
      expect((await failure).code).toMatch(/control-unreachable|bad-answer/);
      await process.exit;
    }
    const { process, url } = await startControl(stateDirectory);
    const client = newClient(url);
    const versions = await client.versions("property", "shop-www");
    expect(versions.length).toBeGreaterThanOrEqual(acknowledged);
    for (const { version } of versions.slice(0, acknowledged)) {
      const stored = await client.document("property", "shop-www", version);
      expect(stored?.body).toMatchObject({ dnsTtlSeconds: ((version - 1) % 3_000) + 1 });
    }
    expect(versions.at(-1)?.activeVersion).toBe(versions.length);
    const next = await client.purge({
      propertyId: property().propertyId,
      urls: [],
      tags: ["a"],
      mode: "hard",
    });
    expect(purges).toBeGreaterThan(0);
    expect(next.purgeSeq).toBeGreaterThan(purges);
    expect(await process.stop()).toEqual({ code: 0, signal: null });
  });

  it("ends open streams on SIGTERM and exits 0", async () => {
    const { process, url } = await startControl(newDirectory());
    const client = newClient(url);
    client.watch(["property"], () => {});
    await waitFor(() => client.state === "connected", { timeoutMs: 5_000, what: "the stream" });
    expect(await process.stop(5_000)).toEqual({ code: 0, signal: null });
    await waitFor(() => client.state === "disconnected", { timeoutMs: 5_000, what: "the end of the stream" });
  });
});

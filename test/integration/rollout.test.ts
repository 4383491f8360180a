/** Changed policies in stages, over sockets: control with a clock of the test's, and nodes that keep documents and report. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import {
  ControlClient,
  type ControlServerOptions,
  DocumentKeeper,
  type DocumentStore,
  loadControlServer,
} from "#control";
import {
  type Clock,
  type EpochMs,
  type MonotonicMs,
  type PolicyDocument,
  policyDocument,
  type ServerReport,
} from "#kit";
import { createLogger } from "#kit/io";
import { main as policyCommand } from "../../cli/policy.ts";
import { waitFor } from "../tools/processes.ts";
import { idleReport } from "../tools/server-report.ts";

const { ControlServer, MemoryStore, SqliteStore } = await loadControlServer();
const token = "test-token-0123456789";
const logger = createLogger({ role: "test", id: "rollout" }, { level: "silent" });
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function newDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "isochrone-rollout-"));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

class HandClock implements Clock {
  nowMs = 1_000_000;
  monotonic(): MonotonicMs {
    return this.nowMs as MonotonicMs;
  }
  epoch(): EpochMs {
    return (1_800_000_000_000 + this.nowMs) as EpochMs;
  }
}

async function serve(
  store: DocumentStore,
  clock: Clock,
  { port = 0, ...options }: Partial<ControlServerOptions> & { readonly port?: number } = {},
) {
  const server = new ControlServer({ store, token, clock, logger, ...options });
  const url = await server.listen("127.0.0.1", port);
  let isOpen = true;
  const close = async (): Promise<void> => {
    if (isOpen) await server.close();
    isOpen = false;
  };
  cleanups.push(close);
  const client = new ControlClient({ url, token, nodeId: "test", logger });
  cleanups.push(() => client.close());
  return { server, url, client, close };
}
const until = async (isSo: () => boolean, what: string) => waitFor(isSo, { timeoutMs: 20_000, what });
type Served = Awaited<ReturnType<typeof serve>>;

const policy = (ttlSeconds: number, changes: object = {}) =>
  policyDocument.parse({
    policyId: "shop",
    customerId: "acme",
    names: ["www.shop.test"],
    ttlSeconds,
    targets: [{ targetId: "fra", addresses: ["192.0.2.1"] }],
    rule: "fra",
    tests: [{ testId: "web", kind: "tcp", port: 80, intervalMs: 1_000, timeoutMs: 500 }],
    ...changes,
  });

/** A name server as far as control sees it: it keeps policies, and says what it has. */
async function startNode(url: string, serverId: string, stateDirectory = newDirectory()) {
  const client = new ControlClient({ url, token, nodeId: serverId, logger });
  const keeper = new DocumentKeeper({ client, stateDirectory, logger });
  const policies = new Map<string, PolicyDocument>();
  keeper.keep(
    "policy",
    (value) => policyDocument.parse(value),
    (id, body) => void policies.set(id, body),
  );
  await keeper.start();
  const close = async (): Promise<void> => {
    await keeper.close();
    await client.close();
  };
  cleanups.push(close);
  return {
    keeper,
    close,
    ttl: () => policies.get("shop")?.ttlSeconds,
    report: async (more: Partial<ServerReport> = {}) =>
      client.publishReport({
        ...idleReport(serverId, { clusterId: serverId.slice(0, -2) }),
        role: "nameserver",
        applied: keeper.applied,
        ...more,
      }),
  };
}
type Node = Awaited<ReturnType<typeof startNode>>;

const topology = {
  name: "demo",
  clusters: ["fra", "nyc"].map((clusterId, n) => ({
    clusterId,
    regionId: clusterId,
    role: "nameserver",
    city: clusterId,
    coordinates: { latitude: 50, longitude: 8 },
    servers: [1, 2].map((m) => ({
      serverId: `${clusterId}-${m}`,
      address: `127.10.${n + 1}.${m}`,
      port: 8080,
    })),
  })),
  nameService: { zones: [], nameServers: [] },
};
const opinions = (opinion: object) => ({ opinions: { shop: opinion } }) as Partial<ServerReport>;
const wellOpinion = opinions({});
const names = ["fra-1", "fra-2", "nyc-1", "nyc-2"];

/** Four name servers that have the first version. */
async function world(store: DocumentStore = new MemoryStore({ logId: "log-1" })) {
  const clock = new HandClock();
  const served = await serve(store, clock);
  await served.client.put("topology", "demo", topology, { expectedVersion: 0 });
  const nodes = new Map<string, Node>();
  for (const name of names) nodes.set(name, await startNode(served.url, name));
  const { version, activeVersion } = await served.client.put("policy", "shop", policy(10), {
    expectedVersion: 0,
  });
  // Nothing could come back, so there are no stages.
  expect([version, activeVersion]).toEqual([1, 1]);
  await until(() => [...nodes.values()].every((node) => node.ttl() === 10), "the first version");
  for (const node of nodes.values()) await node.report(wellOpinion);
  return { clock, served, nodes };
}

const ttls = (nodes: ReadonlyMap<string, Node>) =>
  Object.fromEntries([...nodes].map(([name, node]) => [name, node.ttl()]));

async function pass(
  { served, clock, nodes }: { served: Served; clock: HandClock; nodes: ReadonlyMap<string, Node> },
  ms: number,
): Promise<void> {
  const report = async (): Promise<void> => {
    for (const node of nodes.values()) await node.report(wellOpinion);
    served.server.takeSteps();
  };
  await report();
  // Never so long that a report is too old, for control takes steps by itself as well.
  for (let left = ms; left > 0; left -= 4_000) {
    clock.nowMs += Math.min(4_000, left);
    await report();
  }
}

test("a changed policy goes to one server, its cluster, all; each stage after its time", async () => {
  const { clock, served, nodes } = await world();
  const { client } = served;
  const summary = await client.put("policy", "shop", policy(20), { expectedVersion: 1 });
  expect(summary).toMatchObject({ version: 2, activeVersion: 1 });
  const having = () => [...nodes].flatMap(([name, node]) => (node.ttl() === 20 ? [name] : []));
  await until(() => having().length === 1, "the first server");
  const [first = ""] = having();
  const [running] = await client.rollouts();
  expect(running).toMatchObject({
    kind: "policy",
    id: "shop",
    version: 2,
    previousVersion: 1,
    state: "running",
    stageIndex: 0,
    targets: ["fra"],
  });
  expect(running?.stages.map(({ stage, servers }) => [stage, servers.length])).toEqual([
    ["server", 1],
    ["cluster", 2],
    ["all", 4],
  ]);

  // A second change has to wait, a draft has not.
  await expect(client.put("policy", "shop", policy(30), { expectedVersion: 2 })).rejects.toMatchObject({
    code: "rolling-out",
  });
  await expect(
    client.activate("policy", "shop", { version: 1, expectedActiveVersion: 1 }),
  ).rejects.toMatchObject({ code: "rolling-out" });
  await client.put("policy", "shop", policy(30), { expectedVersion: 2, activate: false });
  // Names of both versions are taken.
  await expect(
    client.put("policy", "other", policy(5, { policyId: "other", customerId: "evil" }), {
      expectedVersion: 0,
    }),
  ).rejects.toMatchObject({ code: "refused" });

  await pass({ served, clock, nodes }, 9_000);
  expect(having()).toEqual([first]);
  await pass({ served, clock, nodes }, 1_000);
  await until(() => having().length === 2, "its cluster");
  expect(having().every((name) => name.slice(0, 3) === first.slice(0, 3))).toBe(true);
  await pass({ served, clock, nodes }, 10_000);
  await until(() => having().length === 4, "all");
  expect((await client.document("policy", "shop"))?.version).toBe(2);
  expect((await client.rollouts())[0]).toMatchObject({ state: "running", stageIndex: 2 });
  await pass({ served, clock, nodes }, 10_000);
  expect((await client.rollouts())[0]).toMatchObject({ state: "done", halt: null });
  expect(served.server.service.rollouts.counters).toEqual({ begun: 1, done: 1, halted: 0 });
});

test("what goes wrong at the first server is rolled back there, and reaches nobody else", async () => {
  const { clock, served, nodes } = await world();
  await served.client.put("policy", "shop", policy(20), { expectedVersion: 1 });
  await until(() => Object.values(ttls(nodes)).includes(20), "the first server");
  const [first = ""] = Object.entries(ttls(nodes)).flatMap(([name, ttl]) => (ttl === 20 ? [name] : []));
  await nodes.get(first)?.report();
  served.server.takeSteps();
  clock.nowMs += 1_000;
  await nodes.get(first)?.report({ incarnation: "another" });
  served.server.takeSteps();
  expect((await served.client.rollouts())[0]).toMatchObject({
    state: "halted",
    halt: { reason: "restarted", servers: [first] },
  });
  await until(() => nodes.get(first)?.ttl() === 10, "the version before");
  expect(new Set(Object.values(ttls(nodes)))).toEqual(new Set([10]));
  expect((await served.client.document("policy", "shop"))?.version).toBe(1);
  // And there is room for the next one.
  const next = await served.client.put("policy", "shop", policy(30), { expectedVersion: 2 });
  expect(next).toMatchObject({ version: 3, activeVersion: 1 });
});

test("what goes wrong in the last stage is rolled back everywhere; halted by hand, at once, superseded", async () => {
  const { clock, served, nodes } = await world();
  const { client } = served;
  await client.put("policy", "shop", policy(20), { expectedVersion: 1 });
  await until(() => Object.values(ttls(nodes)).includes(20), "the first server");
  await pass({ served, clock, nodes }, 10_000);
  await until(() => Object.values(ttls(nodes)).filter((ttl) => ttl === 20).length === 2, "two");
  await pass({ served, clock, nodes }, 10_000);
  await until(() => Object.values(ttls(nodes)).every((ttl) => ttl === 20), "all");
  for (const _ of [1, 2]) {
    for (const node of nodes.values())
      await node.report(opinions({ fra: { state: "down", sinceEpochMs: 1 } }));
    served.server.takeSteps();
    clock.nowMs += 3_000;
  }
  expect((await client.rollouts())[0]).toMatchObject({ state: "halted", halt: { reason: "targets-down" } });
  await until(() => Object.values(ttls(nodes)).every((ttl) => ttl === 10), "the version before");

  for (const node of nodes.values()) await node.report(wellOpinion);
  await client.put("policy", "shop", policy(30), { expectedVersion: 2 });
  await until(() => Object.values(ttls(nodes)).includes(30), "the first server");
  expect(await client.haltRollout("policy", "shop")).toMatchObject({ halt: { reason: "operator" } });
  await expect(client.haltRollout("policy", "shop")).rejects.toMatchObject({ code: "not-found" });
  await until(() => Object.values(ttls(nodes)).every((ttl) => ttl === 10), "the version before");

  await client.put("policy", "shop", policy(40), { expectedVersion: 3 });
  await until(() => Object.values(ttls(nodes)).includes(40), "the first server");
  // Back to what is in force, everywhere and now.
  const back = { version: 1, expectedActiveVersion: 1, rollout: "at-once" } as const;
  expect(await client.activate("policy", "shop", back)).toMatchObject({ activeVersion: 1 });
  expect((await client.rollouts())[0]).toMatchObject({ version: 4, halt: { reason: "superseded" } });
  await until(() => Object.values(ttls(nodes)).every((ttl) => ttl === 10), "the version before");
  await client.put("policy", "shop", policy(50), { expectedVersion: 4, rollout: "at-once" });
  await until(() => Object.values(ttls(nodes)).every((ttl) => ttl === 50), "all at once");
  expect(served.server.service.rollouts.counters).toEqual({ begun: 3, done: 0, halted: 3 });
});

test("it outlives control, and a server that begins with an empty disk or was away gets what it should have", async () => {
  const stateDirectory = newDirectory();
  const open = () => new SqliteStore({ stateDirectory, newLogId: "log-1" });
  const store = open();
  const { clock, served, nodes } = await world(store);
  await served.client.put("policy", "shop", policy(20), { expectedVersion: 1 });
  await until(() => Object.values(ttls(nodes)).includes(20), "the first server");
  const [first = ""] = Object.entries(ttls(nodes)).flatMap(([name, ttl]) => (ttl === 20 ? [name] : []));
  for (const node of nodes.values()) await node.close();
  await served.close();
  store.close();

  const again = open();
  const second = await serve(again, clock);
  cleanups.push(() => again.close());
  const fresh = new Map<string, Node>();
  for (const name of names) fresh.set(name, await startNode(second.url, name));
  await until(() => fresh.get(first)?.ttl() === 20, "the offered version");
  await until(
    () => [...fresh].every(([name, node]) => name === first || node.ttl() === 10),
    "the version in force",
  );
  // Away while it is halted, and then told by a snapshot.
  const disk = newDirectory();
  await fresh.get(first)?.close();
  const kept = await startNode(second.url, first, disk);
  await until(() => kept.ttl() === 20, "the offered version");
  await kept.close();
  await second.client.haltRollout("policy", "shop");
  const back = await startNode(second.url, first, disk);
  await until(() => back.ttl() === 10, "the version before");
});

test("a server that does not take it halts it, one that has gone for another reason does not", async () => {
  const { clock, served, nodes } = await world();
  await served.client.put("policy", "shop", policy(20), { expectedVersion: 1 });
  await until(() => Object.values(ttls(nodes)).includes(20), "the first server");
  const [first = ""] = Object.entries(ttls(nodes)).flatMap(([name, ttl]) => (ttl === 20 ? [name] : []));
  const sibling = names.find((name) => name !== first && name.slice(0, 3) === first.slice(0, 3)) ?? "";
  const gone = names.find((name) => name.slice(0, 3) !== first.slice(0, 3)) ?? "";
  const living = new Map([...nodes].filter(([name]) => name !== gone));
  await pass({ served, clock, nodes: living }, 10_000);
  await until(() => nodes.get(sibling)?.ttl() === 20, "its cluster");
  await pass({ served, clock, nodes: living }, 10_000);
  expect((await served.client.rollouts())[0]).toMatchObject({ stageIndex: 2 });
  expect((await served.client.rollouts())[0]?.stages[2]?.servers).not.toContain(gone);
  await pass({ served, clock, nodes: living }, 10_000);
  expect((await served.client.rollouts())[0]).toMatchObject({ state: "done" });

  for (const node of nodes.values()) await node.report();
  await served.client.put("policy", "shop", policy(30), { expectedVersion: 2 });
  // All report that they still have the second one.
  for (const step of [1, 2, 3, 4]) {
    for (const node of nodes.values()) await node.report({ applied: { "policy/shop": 2 } });
    served.server.takeSteps();
    if (step < 4) clock.nowMs += 10_000;
  }
  expect((await served.client.rollouts())[0]).toMatchObject({
    state: "halted",
    halt: { reason: "not-applied" },
  });
});

test("with no name server that reports it comes into force at once, unless control has just begun", async () => {
  const clock = new HandClock();
  const { client } = await serve(new MemoryStore({ logId: "log-1" }), clock);
  await client.put("topology", "demo", topology, { expectedVersion: 0 });
  await client.put("policy", "shop", policy(10), { expectedVersion: 0 });
  await expect(client.put("policy", "shop", policy(20), { expectedVersion: 1 })).rejects.toMatchObject({
    code: "overloaded",
    retry: "safe",
  });
  clock.nowMs += 5_000;
  expect(await client.put("policy", "shop", policy(20), { expectedVersion: 1 })).toMatchObject({
    activeVersion: 2,
  });
  expect(await client.rollouts()).toEqual([]);
});

test("who waits for the end of a roll-out waits on while control is away", async () => {
  const store = new MemoryStore({ logId: "log-1" });
  const { clock, served } = await world(store);
  const file = join(newDirectory(), "shop.json");
  writeFileSync(file, JSON.stringify(policy(20)));
  vi.stubEnv("ISOCHRONE_CONTROL_TOKEN", token);
  const lines: string[] = [];
  const said = vi.spyOn(console, "log").mockImplementation((line: string) => void lines.push(line));
  const looks = vi.spyOn(ControlClient.prototype, "rollouts");
  cleanups.push(() => {
    said.mockRestore();
    looks.mockRestore();
    vi.unstubAllEnvs();
  });
  const code = policyCommand(["push", file, "--control", served.url]).catch((error: unknown) => error);
  await until(() => lines.length > 0, "the first stage");
  await served.close();
  await until(() => looks.mock.settledResults.some(({ type }) => type === "rejected"), "a look that fails");
  const { client } = await serve(store, clock, { port: Number(new URL(served.url).port) });
  await client.haltRollout("policy", "shop");
  expect(await code).toBe(1);
  expect(lines.at(-1)).toBe("shop: version 2 was halted: stopped by hand; version 1 is in force");
});

test("an older version comes back by the same stages, of whose roll-out alone a look tells", async () => {
  const { clock, served, nodes } = await world();
  const { client } = served;
  await client.put("policy", "shop", policy(20), { expectedVersion: 1, rollout: "at-once" });
  await until(() => Object.values(ttls(nodes)).every((ttl) => ttl === 20), "version 2");
  vi.stubEnv("ISOCHRONE_CONTROL_TOKEN", token);
  const lines: string[] = [];
  const said = vi.spyOn(console, "log").mockImplementation((line: string) => void lines.push(line));
  cleanups.push(() => {
    said.mockRestore();
    vi.unstubAllEnvs();
  });
  const run = (...argv: string[]) => policyCommand([...argv, "--control", served.url]);
  await expect(run("rollback", "shop", "--version", "2")).rejects.toThrow("not before the one in force, 2");
  await expect(run("rollback", "none")).rejects.toThrow('There is no policy "none"');
  const code = run("rollback", "shop");
  const having = (count: number) =>
    until(() => Object.values(ttls(nodes)).filter((ttl) => ttl === 10).length === count, `${count} servers`);
  await having(1);
  expect(await client.rollouts("shop")).toMatchObject([{ version: 1, previousVersion: 2, state: "running" }]);
  expect(await client.rollouts("other")).toEqual([]);
  for (const count of [2, 4]) {
    await pass({ served, clock, nodes }, 10_000);
    await having(count);
  }
  await pass({ served, clock, nodes }, 10_000);
  expect(await code).toBe(0);
  expect(lines.at(-1)).toBe("shop: version 1 is in force everywhere");
  await expect(run("rollback", "shop")).rejects.toThrow("Version 1 of shop is the first");
  lines.length = 0;
  expect(await run("show", "shop", "--version", "1")).toBe(0);
  expect(JSON.parse(lines.join(""))).toMatchObject({ policyId: "shop", ttlSeconds: 10 });
});

test("a roll-out that cannot take its step is told of, tried again, and holds no other up", async () => {
  const store = new MemoryStore({ logId: "log-1" });
  const { clock, served, nodes } = await world(store);
  const { client } = served;
  await client.put("policy", "other", policy(10, { policyId: "other", names: ["other.shop.test"] }), {
    expectedVersion: 0,
  });
  await client.put("policy", "shop", policy(20), { expectedVersion: 1 });
  await client.put("policy", "other", policy(20, { policyId: "other", names: ["other.shop.test"] }), {
    expectedVersion: 1,
  });
  await until(() => Object.values(ttls(nodes)).includes(20), "the first server");
  const stage = async (id: string) => (await client.rollouts(id))[0]?.stageIndex;
  const offer = vi.spyOn(store, "offer").mockImplementation((record) => {
    if (record.id === "shop") throw new Error("the disk is full");
    return MemoryStore.prototype.offer.call(store, record);
  });
  cleanups.push(() => offer.mockRestore());
  await pass({ served, clock, nodes }, 10_000);
  expect([await stage("shop"), await stage("other")]).toEqual([0, 1]);
  offer.mockRestore();
  await pass({ served, clock, nodes }, 10_000);
  expect(await stage("shop")).toBe(1);
});

test("a last stage of which not all could be written is taken whole later: everyone is told", async () => {
  const store = new MemoryStore({ logId: "log-1" });
  const { clock, served, nodes } = await world(store);
  const { client } = served;
  await client.put("policy", "shop", policy(20), { expectedVersion: 1 });
  const having = (count: number) =>
    until(() => Object.values(ttls(nodes)).filter((ttl) => ttl === 20).length === count, `${count} servers`);
  await having(1);
  await pass({ served, clock, nodes }, 10_000);
  await having(2);
  const save = vi.spyOn(store, "saveRollout").mockImplementation(() => {
    throw new Error("the disk is full");
  });
  cleanups.push(() => save.mockRestore());
  await pass({ served, clock, nodes }, 12_000);
  expect(save).toHaveBeenCalled();
  expect((await client.document("policy", "shop"))?.version).toBe(1);
  expect((await client.rollouts())[0]).toMatchObject({ state: "running", stageIndex: 1 });
  save.mockRestore();
  await pass({ served, clock, nodes }, 4_000);
  await having(4);
  expect((await client.document("policy", "shop"))?.version).toBe(2);
  await pass({ served, clock, nodes }, 10_000);
  expect((await client.rollouts())[0]).toMatchObject({ state: "done" });
});

test("one that cannot be begun, or given up for another version, leaves all as it was", async () => {
  const store = new MemoryStore({ logId: "log-1" });
  const { served, nodes } = await world(store);
  const { client } = served;
  const fail = (method: "offer" | "activate") => {
    const spy = vi.spyOn(store, method).mockImplementation(() => {
      throw new Error("the disk is full");
    });
    cleanups.push(() => spy.mockRestore());
    return spy;
  };
  const offer = fail("offer");
  await expect(client.put("policy", "shop", policy(20), { expectedVersion: 1 })).rejects.toMatchObject({
    code: "control-failed",
  });
  offer.mockRestore();
  expect(await client.rollouts()).toEqual([]);
  await client.activate("policy", "shop", { version: 2, expectedActiveVersion: 1 });
  await until(() => Object.values(ttls(nodes)).includes(20), "the first server");
  const activate = fail("activate");
  const back = { version: 1, expectedActiveVersion: 1, rollout: "at-once" } as const;
  await expect(client.activate("policy", "shop", back)).rejects.toMatchObject({ code: "control-failed" });
  activate.mockRestore();
  expect(await client.rollouts()).toMatchObject([{ state: "running", stageIndex: 0 }]);
  await client.activate("policy", "shop", back);
  await until(() => Object.values(ttls(nodes)).every((ttl) => ttl === 10), "the version before");
  expect(await client.rollouts()).toMatchObject([{ state: "halted", halt: { reason: "superseded" } }]);
  expect(served.server.service.rollouts.counters).toEqual({ begun: 1, done: 0, halted: 1 });
});

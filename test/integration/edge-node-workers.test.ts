/**
 * Goal: a node of two workers with a disk store is one server to control, clients and purges, and no crash brings back what
 * was purged. Method: a real control and one real edge node; documents put into control; SIGKILL.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { makeAccessKey, makeToken } from "#edge";
import type { EpochMs, PropertyId, PurgeRequest } from "#kit";
import { createLogger } from "#kit/io";
import { ControlClient } from "#control";
import { freePort, type IsochroneProcess, startIsochrone, waitFor } from "../tools/processes.ts";
import { HOST, tierWorld } from "../tools/tier-world.ts";
import { fetchFrom, TestOrigin } from "./edge-support.ts";

const TOKEN = "0123456789abcdef0123456789abcdef";
const peerKey = Buffer.from("00112233445566778899aabbccddeeff", "hex");
const SECRET = "correct-horse-battery";
const OBJECTS = 24;
const env = {
  ISOCHRONE_CONTROL_TOKEN: TOKEN,
  ISOCHRONE_PEER_KEY: peerKey.toString("hex"),
  ISOCHRONE_LOG: "error",
};
const origin = new TestOrigin();
let directory: string;
let controlPort: number;
let port: number;
let control: IsochroneProcess;
let edge: IsochroneProcess;
let client: ControlClient;
/** What the origin says now. */
let version = 1;

const startControl = async (): Promise<void> => {
  const args = `control --listen 127.0.0.1:${controlPort} --state ${join(directory, "control")}`;
  control = await startIsochrone(args.split(" "), { env });
};
const startEdge = async (): Promise<void> => {
  const args = [
    `edge --node e1-1 --workers 2 --memory 64MiB --listen 127.0.0.1:${port} --state ${join(directory, "e1-1")}`,
    `--control http://127.0.0.1:${controlPort} --disk ${join(directory, "disk")} --disk-size 64MiB`,
    `--run ${join(directory, "run")}`,
  ];
  edge = await startIsochrone(args.join(" ").split(" "), { env });
};
const kill = async (one: IsochroneProcess): Promise<void> => {
  one.signal("SIGKILL");
  await one.exit;
};

/** On a connection of its own: any worker may get it. */
const ask = async (path: string) =>
  await fetchFrom(port, path, { headers: { host: HOST, connection: "close" } });
const admin = async (path: string) =>
  await fetchFrom(port, path, {
    headers: { authorization: `Bearer ${TOKEN}`, connection: "close" },
  });
const bodies = async (): Promise<Set<string>> => {
  const all = await Promise.all(Array.from({ length: OBJECTS }, async (_, n) => await ask(`/o-${n}`)));
  return new Set(all.map(({ body }) => body.toString().split(" ")[0] ?? ""));
};
const purge = async (what: Partial<PurgeRequest>) =>
  await client.purge({ propertyId: "shop" as PropertyId, urls: [], tags: [], mode: "hard", ...what });
/** Resolves when control has it: nobody is there to acknowledge it. */
const purgeWithoutServers = async (urls: readonly string[]): Promise<void> => {
  const accepted = Promise.withResolvers<void>();
  client
    .purge(
      { propertyId: "shop" as PropertyId, urls, tags: [], mode: "hard" },
      ({ type }) => type === "accepted" && accepted.resolve(),
    )
    // Control may be ended before it has waited for them.
    .catch(accepted.reject);
  await accepted.promise;
};
/** All stored by their owners, and on disk. */
const store = async (): Promise<void> => {
  await bodies();
  await waitFor(
    async () => {
      const text = (await admin("/metrics")).body.toString();
      const metric = (name: string) =>
        Number(new RegExp(`^isochrone_edge_${name} ([0-9]+)`, "m").exec(text)?.[1]);
      return metric("disk_objects") === OBJECTS && metric("disk_pending_bytes") === 0;
    },
    { what: "objects on disk", timeoutMs: 10_000 },
  );
};

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "isochrone-node-workers-"));
  await origin.start();
  origin.answer = (incoming, response) => {
    response.writeHead(200, {
      "cache-control": "max-age=600",
      "surrogate-key": `all n-${(incoming.url ?? "").slice(3)}`,
    });
    response.end(`v${version} ${incoming.url}`);
  };
  controlPort = await freePort();
  port = await freePort();
  await startControl();
  client = new ControlClient({
    url: `http://127.0.0.1:${controlPort}`,
    token: TOKEN,
    nodeId: "test",
    logger: createLogger({ role: "test", id: "test" }, { level: "silent" }),
  });
  const { topology, property } = tierWorld({
    edgeClusters: 1,
    edgesPerCluster: 1,
    parents: 0,
    originPort: origin.port,
    portOf: () => port,
  });
  await client.put("topology", "world", topology, { expectedVersion: 0 });
  const signed = {
    ...property,
    access: { keys: [makeAccessKey("shop", "k1", SECRET, peerKey)] },
    rules: [{ match: { pathPrefix: "/signed/" }, requireToken: true }],
  };
  await client.put("property", "shop", signed, { expectedVersion: 0, activate: true });
  await startEdge();
  await waitFor(async () => (await client.reports()).length === 1, { what: "a report", timeoutMs: 10_000 });
});
beforeEach(() => {
  version++;
  origin.seen.length = 0;
});
afterAll(async () => {
  await client.close();
  await kill(edge);
  await kill(control);
  await origin.stop();
  await rm(directory, { recursive: true, force: true });
});
const asked = () => origin.seen.map(({ url }) => url).filter((url) => url.startsWith("/o-"));

test("is one server to control and operators: one report with all requests, documents everywhere", async () => {
  const before = (await client.reports())[0]?.properties["shop" as PropertyId]?.requests ?? 0;
  await bodies();
  await bodies();
  const report = await waitFor(
    async () => {
      const [one] = await client.reports();
      return (one?.properties["shop" as PropertyId]?.requests ?? 0) >= before + 2 * OBJECTS && one;
    },
    { what: "a report of all requests", timeoutMs: 10_000 },
  );
  expect(report).toMatchObject({ serverId: "e1-1", state: "ready", applied: { "property/shop": 1 } });
  expect(new Set(asked()).size).toBe(OBJECTS);
  // Each once for both workers, but for second attempts at answers that were late.
  expect(asked().length).toBeLessThan(1.5 * OBJECTS);
  const status = JSON.parse((await admin("/.isochrone/status")).body.toString());
  expect(status.properties.shop.requests).toBeGreaterThanOrEqual(before + 2 * OBJECTS);
  const explained = await admin(`/.isochrone/explain?url=${encodeURIComponent(`http://${HOST}/o-1`)}`);
  expect(JSON.parse(explained.body.toString())).toMatchObject({ serverId: "e1-1", property: "shop" });
});

test.each([
  ["URL", () => ({ urls: Array.from({ length: OBJECTS }, (_, n) => `http://${HOST}/o-${n}`) })],
  ["tag", () => ({ tags: ["all"] })],
  ["property", () => ({ isWholeProperty: true })],
])("a purge by %s holds in every worker when it is acknowledged, once", async (_what, selection) => {
  await store();
  version++;
  expect(await purge(selection())).toMatchObject({ acked: 1, expected: 1 });
  expect(await bodies()).toEqual(new Set([`v${version}`]));
});

test("signed paths are judged by whichever worker a client reaches, and stored once for all of them", async () => {
  const token = makeToken(SECRET, "k1", (Date.now() + 60_000) as EpochMs, { acl: "/signed/*" });
  for (let key = 0; key < 4; key++)
    for (let times = 0; times < 6; times++) {
      const answer = await ask(`/signed/${key}?isochrone-token=${token}`);
      expect([answer.status, answer.body.toString()]).toEqual([200, `v${version} /signed/${key}`]);
      expect((await ask(`/signed/${key}`)).status).toBe(403);
    }
  expect(origin.seen.filter(({ url }) => url?.startsWith("/signed/"))).toHaveLength(4);
  // The tests that follow count what is on disk.
  await purge({ urls: [0, 1, 2, 3].map((key) => `http://${HOST}/signed/${key}?isochrone-token=${token}`) });
});

test("a worker that was killed has all purges before it serves", async () => {
  await purge({ tags: ["all"] });
  await store();
  const workers = (await readFile(`/proc/${edge.pid}/task/${edge.pid}/children`, "utf8")).trim().split(" ");
  version++;
  const acknowledged = purge({ tags: ["all"] });
  process.kill(Number(workers[0]), "SIGKILL");
  expect(await acknowledged).toMatchObject({ acked: 1, expected: 1 });
  expect(await bodies()).toEqual(new Set([`v${version}`]));
  // Purges come all the while in which the new one catches up.
  await waitFor(
    async () => {
      version++;
      expect(await purge({ tags: ["all"] })).toMatchObject({ acked: 1, expected: 1 });
      expect(await bodies()).toEqual(new Set([`v${version}`]));
      return /^isochrone_edge_workers_living 2$/m.test((await admin("/metrics")).body.toString());
    },
    { what: "two workers", timeoutMs: 10_000 },
  );
  // What no worker counts.
  expect((await admin("/metrics")).body.toString()).toMatch(
    /^isochrone_edge_policy_tests_total\{outcome="[a-z-]+"\} [0-9]+$/m,
  );
  expect(await bodies()).toEqual(new Set([`v${version}`]));
});

test("killed and started again, it has its objects, without those purged before or meanwhile", async () => {
  await purge({ isWholeProperty: true });
  await store();
  const stored = version;
  expect(await purge({ tags: ["n-0", "n-1"] })).toMatchObject({ acked: 1 });
  await kill(edge);
  version++;
  await purgeWithoutServers([`http://${HOST}/o-2`, `http://${HOST}/o-3`]);
  origin.seen.length = 0;
  await startEdge();
  expect(await bodies()).toEqual(new Set([`v${stored}`, `v${version}`]));
  expect(new Set(origin.seen.map(({ url }) => url).filter((url) => url.startsWith("/o-")))).toEqual(
    new Set(["/o-0", "/o-1", "/o-2", "/o-3"]),
  );
});

test("with control away it validates what may have been purged; its own journal knows what was", async () => {
  await purge({ isWholeProperty: true });
  await store();
  const stored = `v${version++}`;
  await purge({ tags: ["n-5"] });
  await kill(edge);
  await purgeWithoutServers([`http://${HOST}/o-2`]);
  await kill(control);
  const { answer } = origin;
  const fail: typeof answer = (_incoming, response) => response.destroy();
  origin.answer = fail;
  await startEdge();
  const status = ({ headers }: Awaited<ReturnType<typeof ask>>) => String(headers["cache-status"]);
  // Nobody answers: what was stored is better than nothing, where no purge is known.
  const covered = await ask("/o-2");
  expect(covered.body.toString()).toMatch(stored);
  expect(status(covered)).toMatch(/detail="?stale-if-error-/);
  expect((await ask("/o-5")).status).toBe(502);
  origin.answer = answer;
  for (const path of ["/o-0", "/o-1"]) {
    const asked = await ask(path);
    expect(asked.body.toString()).toMatch(`v${version}`);
    expect(status(asked)).toMatch(/fwd=stale.*detail=purges-unknown/);
  }
  origin.answer = fail;
  await startControl();
  await waitFor(async () => !status(await ask("/o-3")).includes("stale-if-error"), {
    what: "control to have told all",
    timeoutMs: 10_000,
  });
  origin.answer = answer;
  // That nobody answered for them is remembered for a moment.
  for (const path of ["/o-2", "/o-5"])
    await waitFor(async () => (await ask(path)).status === 200, { what: path, timeoutMs: 10_000 });
  expect(await bodies()).toEqual(new Set([stored, `v${version}`]));
  expect((await ask("/o-2")).body.toString()).toMatch(`v${version}`);
  expect((await ask("/o-4")).body.toString()).toMatch(stored);
});

test("with control away and a damaged journal it forgets all", async () => {
  await store();
  await kill(control);
  await kill(edge);
  const journal = join(directory, "e1-1", "purges.log");
  const text = await readFile(journal, "utf8");
  await writeFile(journal, text.replace("n-5", "n-6"));
  version++;
  await startEdge();
  expect(await bodies()).toEqual(new Set([`v${version}`]));
  await startControl();
});

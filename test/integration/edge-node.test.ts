/** Two edges and a parent under a real control process: owner, tier, explain, purge, reports, life without control. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { brotliDecompressSync, gzipSync, zstdDecompressSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeAccessKey, makeToken } from "#edge";
import type { EpochMs, PropertyId, ServerId, ServerReport } from "#kit";
import { createLogger } from "#kit/io";
import { ControlClient } from "#control";
import { isAlive, runIsochroneHere } from "../tools/processes.ts";
import { contentOf } from "../tools/range-origin.ts";
import { fetchFrom, TestOrigin, until } from "./edge-support.ts";

const root = join(import.meta.dirname, "..", "..");
const token = "0123456789abcdef0123456789abcdef";
const peerKey = Buffer.from("00112233445566778899aabbccddeeff", "hex");
const SECRET = "correct-horse-battery";
const environment = {
  ...process.env,
  ISOCHRONE_CONTROL_TOKEN: token,
  ISOCHRONE_PEER_KEY: peerKey.toString("hex"),
  ISOCHRONE_LOG: "warn",
};
const HOST = "www.shop.example";

/** An object of three slices, of which the origin gives ranges only. */
const LARGE = "/large";
const TEXT = "/text";
const LARGE_BYTES = 3 * 2 ** 20 - 5;

const children = new Map<string, ChildProcess>();
const origin = new TestOrigin();
const ports = { control: 0, "fra-1": 0, "fra-2": 0, "par-1": 0 };
let state: string;
let client: ControlClient;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

/** Starts a command and resolves with its `ready` line. */
async function start(name: string, argv: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, [join(root, "cli", "isochrone.js"), ...argv], {
    env: environment,
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.set(name, child);
  let text = "";
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    text += chunk.toString();
    const line = text.split("\n").find((one) => one.startsWith("ready"));
    if (line !== undefined) return line;
  }
  throw new Error(`${name} ended before it was ready: ${text}`);
}

async function stop(name: string, signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
  const child = children.get(name);
  children.delete(name);
  if (child === undefined || child.exitCode !== null) return child?.exitCode ?? null;
  child.kill(signal);
  const [code] = (await once(child, "exit")) as [number | null];
  return code;
}

const startControl = () =>
  start("control", ["control", "--listen", `127.0.0.1:${ports.control}`, "--state", join(state, "control")]);
const argumentsOf = (id: "fra-1" | "fra-2" | "par-1") => [
  ...`--listen 127.0.0.1:${ports[id]} --control http://127.0.0.1:${ports.control}`.split(" "),
  "--state",
  join(state, id),
];
const startNode = (id: "fra-1" | "fra-2" | "par-1") => start(id, ["edge", "--node", id, ...argumentsOf(id)]);

const ask = (id: "fra-1" | "fra-2", path: string) => fetchFrom(ports[id], path, { headers: { host: HOST } });
/** What the origin was asked for by clients; transport's own probes of it are left out. */
const objectRequests = () => origin.seen.filter(({ url }) => url.startsWith("/object-"));
const admin = async (id: "fra-1" | "fra-2" | "par-1", path: string) =>
  await fetchFrom(ports[id], path, { headers: { authorization: `Bearer ${token}` } });
const explain = async (path: string) =>
  JSON.parse(
    (
      await admin("fra-1", `/.isochrone/explain?url=${encodeURIComponent(`http://${HOST}${path}`)}`)
    ).body.toString(),
  );

/** Requests that a late machine has sent for a second time, by design, so far. */
async function secondAttempts(): Promise<number> {
  let sum = 0;
  for (const id of ["fra-1", "fra-2", "par-1"] as const) {
    const text = (await admin(id, "/metrics")).body.toString();
    sum += Number(/^isochrone_transport_hedging_total\{event="hedges"\} ([0-9]+)$/m.exec(text)?.[1]);
  }
  return sum;
}

beforeAll(async () => {
  state = await mkdtemp(join(tmpdir(), "isochrone-node-"));
  await origin.start();
  origin.answer = (incoming, response) => {
    if (incoming.url === LARGE) {
      const [first = 0, last = 0] = (/^bytes=(\d+)-(\d+)$/.exec(incoming.headers.range ?? "") ?? [])
        .slice(1)
        .map(Number);
      const end = Math.min(last, LARGE_BYTES - 1);
      response.writeHead(206, {
        "cache-control": "max-age=600",
        etag: '"large"',
        "content-range": `bytes ${first}-${end}/${LARGE_BYTES}`,
      });
      response.end(contentOf(1, first, end));
      return;
    }
    response.writeHead(200, {
      "cache-control": "max-age=600",
      "surrogate-key": "all",
      "content-type": "text/plain",
      ...(incoming.url?.startsWith(TEXT) === true && { etag: '"text"' }),
    });
    if (incoming.url?.startsWith(TEXT) === true) response.end("text ".repeat(1_000));
    else response.end(`${incoming.url} ${origin.seen.length}`);
  };
  for (const name of Object.keys(ports) as (keyof typeof ports)[]) ports[name] = await freePort();
  await startControl();
  client = new ControlClient({
    url: `http://127.0.0.1:${ports.control}`,
    token,
    nodeId: "test",
    logger: createLogger({ role: "test", id: "test" }, { level: "silent" }),
  });
  const cluster = (clusterId: string, role: string, servers: readonly ("fra-1" | "fra-2" | "par-1")[]) => ({
    clusterId,
    regionId: "eu",
    role,
    city: clusterId,
    coordinates: { latitude: 50, longitude: 8 },
    servers: servers.map((serverId) => ({ serverId, address: "127.0.0.1", port: ports[serverId] })),
  });
  await client.put(
    "topology",
    "world",
    {
      name: "world",
      clusters: [cluster("fra", "edge", ["fra-1", "fra-2"]), cluster("par", "parent", ["par-1"])],
      nameService: { zones: [], nameServers: [] },
    },
    { expectedVersion: 0 },
  );
  await client.put(
    "property",
    "shop",
    {
      propertyId: "shop",
      customerId: "acme",
      hostnames: [HOST],
      origins: [{ scheme: "http", host: "127.0.0.1", port: origin.port }],
    },
    { expectedVersion: 0, activate: true },
  );
  const ready = await Promise.all([startNode("fra-1"), startNode("fra-2"), startNode("par-1")]);
  expect(ready[2]).toBe(`ready edge par-1 (parent) http://127.0.0.1:${ports["par-1"]}`);
  // The first request of three processes that have just started may be so late that a child does without its parent.
  let asked = 0;
  await until(async () => {
    const answers = await Promise.all(
      (["fra-1", "fra-2"] as const).map(async (name) => await ask(name, `/first-${asked++}`)),
    );
    return answers.every(({ headers }) => String(headers["cache-status"]).startsWith("par-1; "));
  }, "each edge to be answered by the parent");
});

afterAll(async () => {
  await client.close();
  for (const name of Array.from(children.keys())) await stop(name);
  await origin.stop();
  await rm(state, { recursive: true, force: true });
});

test("a miss goes edge, owner, parent, origin, and each tier says so; both edges then share one stored object", async () => {
  const others: string[] = [];
  for (let n = 0; n < 8; n++) {
    const path = `/object-${n}`;
    const first = await ask("fra-1", path);
    expect(first.status).toBe(200);
    const members = String(first.headers["cache-status"]).split(", ");
    expect(members[0]).toMatch(/^par-1; fwd=uri-miss; fwd-status=200; ttl=\d+; stored$/);
    const names = members.map((member) => member.split(";")[0]);
    expect(names.at(-1)).toBe("fra-1");
    expect(String(first.headers.via)).toBe(names.map((name) => `1.1 ${name}`).join(", "));
    const before = objectRequests().length;
    const second = await ask("fra-2", path);
    expect(second.body.equals(first.body)).toBe(true);
    const status = String(second.headers["cache-status"]);
    if (!/^fra-[12]; hit; ttl=\d+/.test(status)) others.push(status);
    expect(objectRequests()).toHaveLength(before);
    const explained = await explain(path);
    expect(names).toContain(explained.owner);
    expect(first.headers["isochrone-generation"]).toBeUndefined();
  }
  // A machine that stands still for a moment does without the owner.
  expect(others.length, others.join("\n")).toBeLessThanOrEqual(2);
  const [seen] = objectRequests();
  expect(seen?.headers["x-forwarded-for"]).toBe("127.0.0.1");
  expect(Object.keys(seen?.headers ?? {}).filter((name) => name.startsWith("isochrone"))).toEqual([]);
});

test("the server that speaks with the client compresses, until the key's owner has a form", async () => {
  for (let time = 0; time < 2; time++)
    for (const id of ["fra-1", "fra-2"] as const) {
      const answer = await fetchFrom(ports[id], TEXT, { headers: { host: HOST, "accept-encoding": "zstd" } });
      expect(answer.headers).toMatchObject({ "content-encoding": "zstd", vary: "Accept-Encoding" });
      expect(zstdDecompressSync(answer.body).toString()).toBe("text ".repeat(1_000));
    }
  expect(origin.seen.filter(({ url }) => url === TEXT)).toHaveLength(1);
  const { owner } = await explain(TEXT);
  const [other] = (["fra-1", "fra-2"] as const).filter((id) => id !== owner);
  const get = async (id: string, coding: string) =>
    await fetchFrom(ports[id as "fra-1"], TEXT, { headers: { host: HOST, "accept-encoding": coding } });
  let made = "";
  await until(async () => {
    made = (await get(owner, "br")).headers["content-length"] ?? "";
    return made !== "";
  }, "the owner has a form");
  const passed = await get(other ?? "", "br, gzip");
  expect(passed.headers).toMatchObject({
    "content-encoding": "br",
    "content-length": made,
    etag: 'W/"text"',
    vary: "Accept-Encoding",
  });
  expect(brotliDecompressSync(passed.body).toString()).toBe("text ".repeat(1_000));
  // Who takes none gets none, and no other server's word counts.
  const plain = await fetchFrom(ports[other ?? "fra-1"], TEXT, {
    headers: { host: HOST, "isochrone-accept-encoding": "br" },
  });
  expect(plain.headers["content-encoding"]).toBeUndefined();
  expect(plain.headers.etag).toBe('"text"');
});

test("HEAD is told as its GET would be, whoever owns the key and whether or not it is stored", async () => {
  for (const path of [TEXT, `${TEXT}-new`])
    for (const accept of ["br", "identity"])
      for (const id of ["fra-1", "fra-2"] as const) {
        const headers = { host: HOST, "accept-encoding": accept };
        const told = [];
        for (const method of ["HEAD", "GET", "HEAD"]) {
          const { status, headers: fields } = await fetchFrom(ports[id], path, { method, headers });
          told.push([status, fields["content-encoding"], fields.etag, fields.vary, fields["content-type"]]);
          // Of the form that is sent, where it is known.
          const length = fields["content-length"];
          if (accept === "br") expect(length).not.toBe("5000");
          else expect([undefined, "5000"]).toContain(length);
        }
        expect(told[0]?.slice(1, 4), id).toEqual(
          accept === "br" ? ["br", 'W/"text"', "Accept-Encoding"] : [undefined, '"text"', "Accept-Encoding"],
        );
        expect(told[1]).toEqual(told[0]);
        expect(told[2]).toEqual(told[0]);
      }
});

test("a range goes through the tiers as whole slices, and each is asked of the origin once for all edges", async () => {
  const range = (id: "fra-1" | "fra-2", first: number, last: number) =>
    fetchFrom(ports[id], LARGE, { headers: { host: HOST, range: `bytes=${first}-${last}` } });
  const [first, last] = [2 ** 20 - 10, 2 ** 20 + 10];
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, n) => range(n % 2 === 0 ? "fra-1" : "fra-2", first, last)),
  );
  for (const answer of answers) {
    expect([answer.status, answer.headers["content-range"]]).toEqual([
      206,
      `bytes ${first}-${last}/${LARGE_BYTES}`,
    ]);
    expect(answer.body).toEqual(contentOf(1, first, last));
    expect(answer.headers["isochrone-generation"]).toBeUndefined();
  }
  const end = await range("fra-1", LARGE_BYTES - 3, LARGE_BYTES + 100);
  expect(end.body).toEqual(contentOf(1, LARGE_BYTES - 3, LARGE_BYTES - 1));
  const asked = origin.seen.filter(({ url }) => url === LARGE).map(({ headers }) => headers.range);
  expect(asked).toHaveLength(3);
  expect(new Set(asked)).toEqual(
    new Set(["bytes=0-1048575", "bytes=1048576-2097151", "bytes=2097152-3145722"]),
  );
  for (const id of ["fra-1", "fra-2"] as const) {
    const again = await range(id, 5, 9);
    expect(again.body).toEqual(contentOf(1, 5, 9));
    // The owner alone keeps it: the other one hands its answer on.
    expect(String(again.headers["cache-status"])).toMatch(/^fra-[12]; hit; ttl=\d+/);
  }
});

test("a beacon hands out whom to time, and takes what was timed from who was asked, into the report", async () => {
  const BEACON = "/.isochrone/beacon";
  // Off: the path is the origin's, like any other.
  expect((await ask("fra-1", BEACON)).body.toString()).toMatch(/^\/\.isochrone\/beacon \d+$/);
  const property = await client.document("property", "shop");
  const on = (sampleRatio: number, expectedVersion: number) =>
    client.put(
      "property",
      "shop",
      { ...(property?.body as object), beacon: { sampleRatio, probeDomain: `t.${HOST}` } },
      { expectedVersion, activate: true },
    );
  await on(1, property?.version ?? 0);
  const handedOut = async () => JSON.parse((await ask("fra-1", BEACON)).body.toString());
  let given:
    | {
        candidates: { clusterId: string; url: string }[];
        ticket: Record<string, unknown>;
        nameUrl: string;
      }
    | undefined;
  await until(async () => {
    given = await handedOut().catch(() => undefined);
    return given?.ticket !== undefined;
  }, "the beacon is on");
  // Parents serve no user.
  expect(given?.candidates).toEqual([
    { clusterId: "fra", url: `http://127.0.0.1:${ports["fra-1"]}${BEACON}/probe` },
  ]);
  // Under a name that is asked for once it is told who came; the name of another one, or used again, tells nothing.
  const { hostname, pathname } = new URL(given?.nameUrl ?? "");
  expect([hostname, pathname]).toEqual([
    expect.stringMatching(new RegExp(`^once-[0-9a-f]{52}\\.t\\.${HOST}$`)),
    `${BEACON}/probe`,
  ]);
  const told: unknown[] = [];
  const names = client.watch(["report"], (event) => {
    if (event.type === "report") told.push(...(event.report.namesUsed ?? []));
  });
  const altered = hostname.replace(/[0-9a-f]\.t\./, (end) => (end[0] === "0" ? "1.t." : "0.t."));
  for (const host of [hostname, hostname, altered])
    expect((await fetchFrom(ports["fra-1"], pathname, { headers: { host } })).status).toBe(200);
  await until(() => Promise.resolve(told.length > 0), "a report of the name");
  names.close();
  expect(told).toEqual([{ id: hostname.slice(5, 25), client: "127.0.0.0" }]);
  const probe = await fetchFrom(ports["fra-1"], `${BEACON}/probe`);
  expect(probe).toMatchObject({
    status: 200,
    headers: { "timing-allow-origin": "*", "cache-control": "no-store" },
  });
  const send = async (body: unknown, port = ports["fra-1"]) =>
    await fetchFrom(port, BEACON, {
      method: "POST",
      headers: { host: HOST },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
  const timings = [{ clusterId: "fra", method: "tcp", rttMs: 12.5 }];
  const ticket = given?.ticket;
  // Another server of the deployment takes it as well; the client's address is that of the connection, whatever it claims.
  expect((await send({ ticket, timings }, ports["fra-2"])).status).toBe(200);
  for (const [status, body] of [
    [400, "{"],
    [400, { ticket, timings: [{ ...timings[0], rttMs: -1 }] }],
    [400, { ticket, timings, address: "192.0.2.1" }],
    [403, { ticket, timings: [{ ...timings[0], clusterId: "par" }] }],
    [403, { ticket: { ...ticket, clusterIds: ["par"] }, timings: [{ ...timings[0], clusterId: "par" }] }],
    [403, { ticket: { ...ticket, expiresAtEpochMs: 1e13 }, timings }],
    [413, "x".repeat(3_000)],
  ] as const)
    expect((await send(body)).status, JSON.stringify(body)).toBe(status);
  expect((await fetchFrom(ports["fra-1"], BEACON, { method: "PUT", headers: { host: HOST } })).status).toBe(
    405,
  );
  let seen: unknown[] = [];
  const watch = client.watch(["report"], (event) => {
    if (event.type === "report") seen = [...seen, ...(event.report.timings ?? [])];
  });
  for (let time = 0; time < 6; time++) expect((await send({ ticket, timings })).status).toBe(200);
  expect((await send({ ticket, timings })).status).toBe(429);
  await until(() => Promise.resolve(seen.length >= 6), "reports with timings");
  watch.close();
  expect(seen[0]).toEqual({ from: "127.0.0.0", to: "127.0.0.1", method: "tcp", rttMs: 12.5 });
  const metrics = (await fetchFrom(ports["fra-1"], "/metrics")).body.toString();
  for (const outcome of ["address-rate", "name-used", "name-repeated", "name-refused"])
    expect(metrics).toContain(`isochrone_edge_beacon_total{outcome="${outcome}"} 1`);
  await on(0, (property?.version ?? 0) + 1);
  await until(async () => (await handedOut()).isSampled === false, "nobody is sampled");
  // As it was before.
  await client.put("property", "shop", property?.body, {
    expectedVersion: (property?.version ?? 0) + 2,
    activate: true,
  });
});

test("explain nests what each next server says; it wants a token", async () => {
  const path = "/object-0";
  // Edges that were up before their parent are asking it for a link.
  await until(async () => {
    const { owner, nextHop, next } = await explain(path);
    return (owner === "fra-1" ? nextHop : next.nextHop).path.protocol === "link";
  }, "a link to the parent");
  const top = await explain(path);
  expect(top).toMatchObject({ serverId: "fra-1", tier: 0, property: "shop", key: `http://${HOST}${path}` });
  const owner = top.owner === "fra-1" ? top : top.next;
  expect(owner).toMatchObject({
    serverId: top.owner,
    isOwner: true,
    decision: { action: "hit", reason: "fresh" },
  });
  expect(owner.stored).toMatchObject({
    state: "fresh",
    lifetimeSource: "max-age",
    purgeState: "none",
    tags: ["all"],
  });
  expect(owner.nextHop).toMatchObject({
    kind: "parent",
    name: "par-1",
    path: { protocol: "link", link: { state: "spoken", sessionsMax: 4, stuckSessions: 0 } },
  });
  expect(owner.next).toMatchObject({
    serverId: "par-1",
    tier: 1,
    nextHop: { kind: "origin" },
    decision: { action: "hit" },
  });
  expect((await fetchFrom(ports["fra-1"], `/.isochrone/explain?url=http://${HOST}/`)).status).toBe(401);
  expect((await fetchFrom(ports["fra-1"], "/readyz")).status).toBe(200);
});

test("what a page names is there before the browser asks", async () => {
  const before = await secondAttempts();
  const present = await client.document("property", "shop");
  const put = await client.put(
    "property",
    "shop",
    { ...(present?.body as object), prefetch: { isEnabled: true } },
    { expectedVersion: present?.version ?? 0, activate: true },
  );
  const usual = origin.answer;
  origin.answer = (incoming, response, body) => {
    if (incoming.url === "/object-list.m3u8") {
      response.writeHead(200, { "content-type": "application/vnd.apple.mpegurl" });
      const segments = [1, 2, 3, 4, 5, 6].map((n) => `#EXTINF:2,\nhttp://${HOST}:8080/object-${n}.ts\n`);
      response.end(`#EXTM3U\n#EXT-X-TARGETDURATION:2\n${segments.join("")}#EXT-X-ENDLIST\n`);
      return undefined;
    }
    if (incoming.url !== "/object-page") return usual(incoming, response, body);
    response.writeHead(200, { "content-type": "text/html", "content-encoding": "gzip" });
    response.end(
      gzipSync('<link rel=stylesheet href="/object-style"><img src="http://other.example/object-no">'),
    );
  };
  await until(async () => {
    const text = (await admin("fra-1", "/.isochrone/status")).body.toString();
    return JSON.parse(text).applied["property/shop"] === put.version;
  }, "the new version is applied");
  // A port in Host tells no two objects apart.
  const browse = async (path: string) =>
    await fetchFrom(ports["fra-1"], path, { headers: { host: `${HOST}:8080` } });
  await browse("/object-page");
  await until(
    () => objectRequests().some(({ url }) => url === "/object-style"),
    "the style sheet is asked for",
  );
  await until(
    async () => JSON.stringify(await explain("/object-style")).includes('"state":"fresh"'),
    "it is stored",
  );
  const style = await browse("/object-style");
  expect(String(style.headers["cache-status"])).toMatch(/^fra-[12]; hit/);
  const asked = objectRequests().filter(({ url }) => url === "/object-style").length;
  expect(asked - 1).toBeLessThanOrEqual((await secondAttempts()) - before);
  expect(objectRequests().some(({ url }) => url === "/object-no")).toBe(false);
  const metrics = (await admin("fra-1", "/metrics")).body.toString();
  expect(metrics).toContain('isochrone_edge_prefetch_total{kind="html",result="asked"} 1');
  expect(metrics).toMatch(/^isochrone_edge_prefetch_used_total 1$/m);
  // Nor in what a manifest names: the segment that is asked for brings the one after those that the manifest brought.
  const isAsked = (n: number) => objectRequests().some(({ url }) => url === `/object-${n}.ts`);
  await browse("/object-list.m3u8");
  await until(() => isAsked(1), "the first segment is asked for");
  await browse("/object-3.ts");
  await until(() => isAsked(5), "what follows a segment is asked for");
  origin.answer = usual;
});

test("warm: a list at each edge cluster of the topology, through the parent; --parents asks that itself", async () => {
  const list = join(state, "list");
  await writeFile(list, `http://${HOST}/object-warm-1\nhttp://${HOST}/object-warm-2\n`);
  const run = async (...more: readonly string[]) =>
    await runIsochroneHere(
      ["warm", list, "--json", "--control", `http://127.0.0.1:${ports.control}`, ...more],
      {
        env: environment,
      },
    );
  const warmed = await run("--regions", "eu");
  expect([warmed.code, JSON.parse(warmed.stdout).places]).toEqual([
    0,
    [{ name: "fra", warmed: 2, present: 0, failed: 0 }],
  ]);
  const parents = await run("--parents");
  expect(JSON.parse(parents.stdout).places).toEqual([{ name: "par", warmed: 0, present: 2, failed: 0 }]);
  expect(objectRequests().filter(({ url }) => url.startsWith("/object-warm"))).toHaveLength(2);
  const hit = await ask("fra-2", "/object-warm-1");
  expect(String(hit.headers["cache-status"])).toMatch(/^fra-[12]; hit/);
});

test("an unknown host is 421", async () => {
  expect((await fetchFrom(ports["fra-1"], "/", { headers: { host: "nobody.example" } })).status).toBe(421);
});

test("a purge by URL and one by tag reach all three and leave nothing old behind", async () => {
  // Control expects the servers whose reports it has.
  await until(async () => (await client.reports()).length === 3, "three reports", 10_000);
  const before = await ask("fra-2", "/object-1");
  const byUrl = await client.purge({
    propertyId: "shop" as PropertyId,
    urls: [`http://${HOST}/object-1`],
    tags: [],
    mode: "hard",
  });
  expect(byUrl).toMatchObject({ acked: 3, expected: 3 });
  const after = await ask("fra-2", "/object-1");
  expect(after.body.equals(before.body)).toBe(false);
  // A request that goes by both carriers, or for a second time, may be answered by what the first of them has just stored.
  expect(String(after.headers["cache-status"])).toMatch(/^par-1; (?:fwd=uri-miss|hit)/);
  const kept = await ask("fra-1", "/object-2");
  const byTag = await client.purge({
    propertyId: "shop" as PropertyId,
    urls: [],
    tags: ["all"],
    mode: "soft",
  });
  expect(byTag).toMatchObject({ acked: 3, expected: 3 });
  const validated = await ask("fra-1", "/object-2");
  expect(String(validated.headers["cache-status"])).toContain("fwd=stale");
  expect(validated.body.equals(kept.body)).toBe(false);
});

test("a user's request is counted once in its cluster, and as a hit when the owner had it", async () => {
  const countersOf = async () => {
    const totals = { requests: 0, hits: 0 };
    for (const id of ["fra-1", "fra-2"] as const) {
      const report = JSON.parse((await admin(id, "/.isochrone/status")).body.toString()) as ServerReport;
      totals.requests += report.properties["shop" as PropertyId]?.requests ?? 0;
      totals.hits += report.properties["shop" as PropertyId]?.hits ?? 0;
    }
    return totals;
  };
  await ask("fra-1", "/object-counted");
  const before = await countersOf();
  // One of the two does not own the key and asks the other.
  for (const id of ["fra-1", "fra-2"] as const) {
    const answer = await ask(id, "/object-counted");
    expect(String(answer.headers["cache-status"])).toMatch(/fra-[12]; hit/);
  }
  await until(async () => (await countersOf()).requests >= before.requests + 2, "two requests counted");
  expect(await countersOf()).toEqual({ requests: before.requests + 2, hits: before.hits + 2 });
});

test("reports and access records say what was served", async () => {
  const reports = await client.reports();
  const parent = reports.find((report) => report.serverId === ("par-1" as ServerId));
  expect(parent).toMatchObject({ clusterId: "par", role: "parent", state: "ready" });
  expect(parent?.properties["shop" as PropertyId]?.requests).toBeGreaterThan(0);
  expect(Object.keys(parent?.applied ?? {}).sort()).toEqual(["property/shop", "topology/world"]);
  await until(
    async () =>
      (await readFile(join(state, "par-1", "access.ndjson"), "utf8").catch(() => "")).includes("/object-0"),
    "records",
  );
  const line = (await readFile(join(state, "par-1", "access.ndjson"), "utf8")).split("\n")[0] ?? "";
  expect(JSON.parse(line)).toMatchObject({
    serverId: "par-1",
    propertyId: "shop",
    host: HOST,
    tier: 1,
    status: 200,
  });
});

test("records and metrics say what the next hop was asked by", async () => {
  const toParent = async () => {
    const { neighbours } = JSON.parse((await admin("fra-1", "/.isochrone/status")).body.toString());
    return neighbours.find(({ serverId }: { serverId: string }) => serverId === "par-1");
  };
  let asked = 0;
  const protocols = async (id: "fra-1" | "par-1"): Promise<Set<unknown>> => {
    const lines = (await readFile(join(state, id, "access.ndjson"), "utf8")).split("\n");
    return new Set(
      lines
        .filter((line) => line.includes("/object-asked-by-"))
        .map((line) => JSON.parse(line).upstreamProtocol),
    );
  };
  await until(async () => {
    // Until the link is open, requests go without.
    await ask("fra-1", `/object-asked-by-${asked++}`);
    return (await protocols("fra-1")).has("link") && (await toParent()).protocol === "link";
  }, "records of links");
  await until(async () => (await protocols("par-1")).has("http/1.1"), "records of the origin's protocol");
  await until(async () => {
    // UDP is raced when it opens.
    await ask("fra-1", `/object-asked-by-${asked++}`);
    return (await protocols("fra-1")).has("link-udp");
  }, "records of UDP");
  const report = await toParent();
  expect(report).toMatchObject({ via: null, link: { state: "spoken", sessionsMax: 4 } });
  expect(report.http).toMatchObject({ requests: 0, requestsMax: 2_048 });
  const metrics = (await admin("fra-1", "/metrics")).body.toString();
  expect(metrics).toMatch(/^isochrone_transport_answers_total\{protocol="link"\} [1-9]/m);
  expect(metrics).toMatch(/^isochrone_transport_link_sessions [1-9]/m);
  expect((await admin("par-1", "/metrics")).body.toString()).toMatch(
    /^isochrone_edge_link_udp_requests_total [1-9]/m,
  );
});

test("what a property's rules say holds on both edges, through the tiers, and is explained rule by rule", async () => {
  const host = "rules.shop.example";
  const other = new TestOrigin();
  await other.start();
  try {
    await client.put(
      "property",
      "ruled",
      {
        propertyId: "ruled",
        customerId: "acme",
        forwardsMax: 7,
        hostnames: [host],
        origins: [{ scheme: "http", host: "127.0.0.1", port: origin.port }],
        rules: [
          { match: { pathPrefix: "/private/", not: [{ cookies: [{ name: "staff" }] }] }, deny: true },
          { match: { path: ["/old"] }, redirect: { status: 308, location: "https://{host}/new{query}" } },
          { match: { extensions: ["html"] }, key: { cookies: ["plan"] } },
          { match: { pathPrefix: "/api/" }, rewrite: { prefix: "/api/", replacement: "/object-v2/" } },
          {
            match: { headers: [{ name: "X-Beta", equals: "1" }] },
            origins: [{ scheme: "http", host: "127.0.0.1", port: other.port }],
          },
          { match: { pathPrefix: "/" }, responseHeaders: { set: [{ name: "X-Ruled", value: "yes" }] } },
          { match: { pathPrefix: "/signed/" }, requireToken: true },
        ],
        access: { keys: [makeAccessKey("ruled", "k1", SECRET, peerKey)] },
      },
      { expectedVersion: 0, activate: true },
    );
    for (const id of ["fra-1", "fra-2", "par-1"] as const)
      await until(
        async () =>
          JSON.parse((await admin(id, "/.isochrone/status")).body.toString()).applied["property/ruled"] === 1,
        `${id} has the rules`,
      );
    const get = (id: "fra-1" | "fra-2", path: string, headers: Record<string, string> = {}) =>
      fetchFrom(ports[id], path, { headers: { host, ...headers } });
    const asked = (path: string) => origin.seen.filter(({ url }) => url === path).length;

    for (const id of ["fra-1", "fra-2"] as const) {
      // No spelling of the path gets round the rule.
      for (const path of ["/private/a", "/x/../private/a", "/%70rivate/a"])
        expect((await get(id, path)).status).toBe(403);
      const moved = await get(id, "/old?a=1");
      expect([moved.status, moved.headers.location]).toEqual([308, `https://${host}/new?a=1`]);
      expect((await get(id, "/private/b", { cookie: "staff=1" })).status).toBe(200);
    }
    expect(asked("/private/a") + asked("/old?a=1")).toBe(0);

    const plans = new Map<string, string>();
    for (const plan of ["gold", "basic"])
      for (const id of ["fra-1", "fra-2"] as const) {
        const answer = await get(id, "/page.html", { cookie: `session=${id}; plan=${plan}` });
        expect(answer.headers["x-ruled"]).toBe("yes");
        expect(answer.body.toString()).toBe(plans.get(plan) ?? answer.body.toString());
        plans.set(plan, answer.body.toString());
      }
    expect(new Set(plans.values()).size).toBe(2);
    expect(asked("/page.html")).toBe(2);

    expect((await get("fra-1", "/api/items?n=1")).body.toString()).toMatch(/^\/object-v2\/items\?n=1 /);
    expect((await get("fra-2", "/beta", { "x-beta": "1" })).body.toString()).toBe("ok");
    expect(asked("/beta")).toBe(0);
    expect(other.seen.some(({ url }) => url === "/beta")).toBe(true);
    expect((await get("fra-2", "/beta")).body.toString()).toMatch(/^\/beta /);

    // Each client's own token, one object; a purge of the URL as anybody has it reaches it.
    const signed = (end: number) =>
      `/signed/a?n=1&isochrone-token=${makeToken(SECRET, "k1", (Date.now() + end) as EpochMs, { acl: "/signed/*" })}`;
    for (const id of ["fra-1", "fra-2"] as const) {
      expect((await get(id, signed(id === "fra-1" ? 60_000 : 90_000))).status).toBe(200);
      const ended = await get(id, signed(-1_000));
      expect([ended.status, ended.body.toString()]).toEqual([
        403,
        "The token of this address has expired.\n",
      ]);
      expect((await get(id, "/signed/a?n=1")).status).toBe(403);
    }
    expect(asked("/signed/a?n=1")).toBe(1);
    const purged = await client.purge({
      propertyId: "ruled" as PropertyId,
      urls: [`http://${host}${signed(0)}`],
      tags: [],
      mode: "hard",
    });
    expect(purged.acked).toBe(3);
    expect((await get("fra-2", signed(60_000))).status).toBe(200);
    expect(asked("/signed/a?n=1")).toBe(2);
    expect((await admin("fra-1", "/metrics")).body.toString()).toContain(
      'isochrone_edge_refused_total{reason="token-expired"} 1',
    );

    const query = new URLSearchParams([
      ["url", `http://${host}/private/page.html`],
      ["header", "cookie: plan=gold"],
      ["header", "x-beta: 0"],
    ]);
    const explained = JSON.parse((await admin("fra-1", `/.isochrone/explain?${query}`)).body.toString());
    expect(explained.rules.map(({ failed }: { failed: string | null }) => failed)).toEqual([
      null,
      "path",
      null,
      "pathPrefix",
      "headers",
      null,
      "pathPrefix",
    ]);
    expect(explained.ruled).toMatchObject({
      answer: { status: 403, location: null },
      deniedBy: 0,
      responseHeaders: { set: [{ name: "X-Ruled", value: "yes" }] },
      isRememberable: false,
    });
    expect(explained.forwards).toEqual({ active: 0, activeMax: 7, shedReason: null });
    expect(explained.key).toContain(`http://${host}/private/page.html#`);
  } finally {
    await other.stop();
  }
});

test("a node is replaced while it serves: its successor has the documents, reports and acknowledges", async () => {
  await ask("fra-1", "/object-1");
  const old = children.get("fra-1");
  const command = spawn(
    process.execPath,
    [join(root, "cli", "isochrone.js"), "edge", "--replace", "--node", "fra-1", ...argumentsOf("fra-1")],
    { env: environment, stdio: ["ignore", "pipe", "inherit"] },
  );
  let said = "";
  for await (const chunk of command.stdout as AsyncIterable<Buffer>) said += chunk.toString();
  const pid = Number(/^replaced edge \S+ by process ([0-9]+)$/m.exec(said)?.[1]);
  try {
    expect(pid).toBeGreaterThan(0);
    // A new connection is the successor's; an old one is answered once more and closed.
    for (let n = 0; n < 5; n++) expect((await ask("fra-1", "/object-1")).status).toBe(200);
    expect((await admin("fra-1", "/readyz")).status).toBe(200);
    const purged = await client.purge({
      propertyId: "shop" as PropertyId,
      urls: [`http://${HOST}/object-1`],
      tags: [],
      mode: "hard",
    });
    expect(purged).toMatchObject({ acked: 3, expected: 3 });
    const report = (await client.reports()).find(({ serverId }) => serverId === ("fra-1" as ServerId));
    expect(report?.state).toBe("ready");
  } finally {
    process.kill(pid, "SIGTERM");
    // It would drain for as long as clients of its idle connections please, a minute at most.
    old?.kill("SIGKILL");
    await until(() => !isAlive(pid) && (old?.exitCode ?? old?.signalCode) !== null, "both are gone");
    children.delete("fra-1");
  }
  await startNode("fra-1");
});

test("with control dead everything is served and a node restarts from its disk; SIGTERM ends it with 0", async () => {
  await stop("control", "SIGKILL");
  expect(await stop("fra-1")).toBe(0);
  await startNode("fra-1");
  expect((await ask("fra-1", "/object-3")).status).toBe(200);
  // Its parent dies too: the origin is asked directly.
  await stop("par-1", "SIGKILL");
  const direct = await ask("fra-1", "/object-never-asked");
  expect(direct.status).toBe(200);
  expect(String(direct.headers["cache-status"])).not.toContain("par-1");
  await startControl();
});

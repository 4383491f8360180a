/**
 * Goal: `isochrone warm` brings a list to every place, says what is there and what is not and why, and never takes the room of
 * those who wait. Method: edges in front of a scripted origin, the job in this process, and the command once.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Place, warm, type WarmOptions } from "../../cli/warm/job.ts";
import { makeCertificate } from "../tools/certificates.ts";
import { freePort, runIsochrone } from "../tools/processes.ts";
import { fetchFrom, startEdge, type TestEdge, TestOrigin } from "./edge-support.ts";

const origin = new TestOrigin();
let directory: string;
let edges: readonly TestEdge[];
let deadPort: number;
const server = (port: number) => ({ address: "127.0.0.1", port });

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "isochrone-warm-"));
  await origin.start();
  // Of the places at the next hop half are for who waits.
  const { certPem, keyPem } = makeCertificate({ names: ["www.shop.example"] });
  const pair = { certificateFile: join(directory, "a.crt"), keyFile: join(directory, "a.key") };
  await writeFile(pair.certificateFile, certPem);
  await writeFile(pair.keyFile, keyPem);
  const tls = {
    host: "127.0.0.1",
    port: 0,
    pairs: [pair],
    unknownName: "refuse",
    ticketSecret: Buffer.alloc(32, 1),
  } as const;
  edges = await Promise.all([
    startEdge(origin, {}, undefined, tls),
    startEdge(origin, { hopForwardsInitial: 2, hopBurst: 2 }),
  ]);
  deadPort = await freePort();
});
beforeEach(() => {
  origin.seen.length = 0;
  origin.answer = (request, response) => {
    if (request.url === "/none") response.writeHead(404).end();
    else if (request.url === "/private") response.writeHead(200, { "cache-control": "private" }).end("x");
    else response.writeHead(200, { "cache-control": "max-age=600" }).end("0123456789");
  };
});
afterAll(async () => {
  for (const edge of edges) await edge.running.stop();
  await origin.stop();
  await rm(directory, { recursive: true, force: true });
});

const places = (): readonly Place[] =>
  edges.map(({ port }, n) => ({ name: `place-${n}`, servers: [server(deadPort), server(port)] }));
const run = async (paths: readonly string[], more: Partial<WarmOptions> = {}) =>
  await warm({
    urls: paths.map((path) => new URL(path, "http://www.shop.example")),
    places: places(),
    concurrency: 4,
    perSecond: 10_000,
    tlsPort: 443,
    headers: { priority: "u=7" },
    signal: new AbortController().signal,
    onProgress: () => {},
    ...more,
  });

test("every URL at every place, past a dead server; the second time all is there; what fails has its reason", async () => {
  const paths = ["/1", "/2", "/3"];
  const first = await run(paths, { concurrency: 1 });
  expect([...first.places.values()]).toEqual([
    { warmed: 3, present: 0, failed: 0 },
    { warmed: 3, present: 0, failed: 0 },
  ]);
  expect([first.done, first.bytes, first.left.size]).toEqual([6, 60, 0]);
  expect(origin.seen).toHaveLength(6);
  for (const { port } of edges) {
    const hit = await fetchFrom(port, "/1", { headers: { host: "www.shop.example" } });
    expect(hit.cacheStatus).toMatch(/^hit/);
  }
  const second = await run([...paths, "/none", "/private"], { concurrency: 1 });
  expect([...second.places.values()]).toEqual([
    { warmed: 0, present: 3, failed: 2 },
    { warmed: 0, present: 3, failed: 2 },
  ]);
  expect([...second.failures.values()].map(({ reason, count }) => [reason, count])).toEqual([
    ["status 404", 2],
    ["not stored: private", 2],
  ]);
  expect(second.left).toEqual(new Set([3, 4]));
  const dead = await run(["/1"], { places: [{ name: "dead", servers: [server(deadPort)] }] });
  expect([...dead.failures.keys()]).toEqual(["ECONNREFUSED"]);
});

test("no spare room: it is answered 503 and comes again; whoever waits is served meanwhile", async () => {
  const held: (() => void)[] = [];
  const answer = origin.answer;
  origin.answer = (request, response, body) => {
    if (request.url?.startsWith("/held") === true) held.push(() => answer(request, response, body));
    else answer(request, response, body);
  };
  const [, edge] = edges;
  const port = edge?.port ?? 0;
  // One of two places is taken: no more of them is spare.
  const waiting = fetchFrom(port, "/held", { headers: { host: "www.shop.example" } });
  await expect.poll(() => held.length).toBe(1);
  const repeated = Promise.withResolvers<void>();
  const warming = run(["/later"], {
    places: [{ name: "tight", servers: [server(port)] }],
    onRepeat: repeated.resolve,
  });
  await repeated.promise;
  expect(origin.seen.map(({ url }) => url)).toEqual(["/held"]);
  const other = await fetchFrom(port, "/other", { headers: { host: "www.shop.example" } });
  expect(other.status).toBe(200);
  for (const release of held) release();
  expect((await waiting).status).toBe(200);
  expect((await warming).places.get("tight")).toEqual({ warmed: 1, present: 0, failed: 0 });
});

test("the command: https too, summary as JSON, what is left as a list to go on with, exit codes", async () => {
  const list = join(directory, "list");
  const left = join(directory, "left");
  const urls = ["http://www.shop.example/c1", "https://www.shop.example/c1", "http://www.shop.example/none"];
  await writeFile(list, urls.join("\n"));
  const { port, running } = edges[0] ?? {};
  const at = ["--server", `127.0.0.1:${port}`, "--tls-port", String(running?.tlsPort)];
  // The certificate is its own authority.
  const env = { NODE_EXTRA_CA_CERTS: join(directory, "a.crt") };
  const done = await runIsochrone(["warm", list, "--json", "--left", left, ...at], { env });
  expect(done.code).toBe(1);
  expect(JSON.parse(done.stdout)).toMatchObject({ urls: 3, warmed: 2, present: 0, failed: 1, left: 1 });
  expect(await readFile(left, "utf8")).toBe("http://www.shop.example/none\n");
  const wrong = await runIsochrone(["warm", list, "--server", "nowhere"]);
  expect(wrong.code).toBe(2);
  expect(wrong.stderr).toMatch(/^isochrone warm: --server: got "nowhere", expected ADDRESS:PORT/);
});

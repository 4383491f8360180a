/**
 * Goal: what players and pages will ask for next is there before they ask, and a browser hears of it by 103. Method: an edge in front
 * of a scripted origin, clients on real sockets, and what the origin saw; nobody waits for time.
 */
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, type IncomingHttpHeaders } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { NO_PREFETCH } from "#kit";
import { makeCertificate } from "../tools/certificates.ts";
import { fetchFrom, rawExchange, startEdge, type TestEdge, TestOrigin, until } from "./edge-support.ts";

const HOST = "www.shop.example";
const origin = new TestOrigin();
const directory = mkdtempSync(join(tmpdir(), "isochrone-prefetch-"));
const files = { certificateFile: join(directory, "a.crt"), keyFile: join(directory, "a.key") };
let edge: TestEdge;
/** Path -> content type and content; anything else is a segment. */
const content = new Map<string, readonly [string, string]>();

const play = async (path: string, headers: Record<string, string> = {}) =>
  await fetchFrom(edge.port, path, { headers: { host: HOST, ...headers } });
const asked = () => origin.seen.map(({ url }) => url);
/** Resolves once the origin was asked for exactly these, in any order, and no prefetch is under way. */
const areAsked = async (...paths: readonly string[]): Promise<void> => {
  await until(() => origin.seen.length >= paths.length, `${paths.join(" ")}; there are ${asked().join(" ")}`);
  await until(async () => (await edge.metric("prefetch_active")) === 0, "no prefetch is under way");
  expect(asked().toSorted()).toEqual(paths.toSorted());
  origin.seen.length = 0;
};

beforeAll(async () => {
  const { certPem, keyPem } = makeCertificate({ names: [HOST] });
  writeFileSync(files.certificateFile, certPem);
  writeFileSync(files.keyFile, keyPem);
  await origin.start();
  const tls = {
    host: "127.0.0.1",
    port: 0,
    pairs: [files],
    unknownName: "default",
    ticketSecret: Buffer.alloc(32, 1),
  } as const;
  edge = await startEdge(origin, {}, undefined, tls, {
    prefetch: { ...NO_PREFETCH, isEnabled: true, hasEarlyHints: true },
  });
});
beforeEach(() => {
  content.clear();
  origin.seen.length = 0;
  origin.answer = (request, response) => {
    const [type, text] = content.get(request.url ?? "") ?? ["video/mp2t", "segment"];
    const life = type === "text/html" ? "max-age=0" : "max-age=600";
    response.writeHead(200, { "cache-control": life, etag: '"1"', "content-type": type }).end(text);
  };
});
afterAll(async () => {
  await edge.running.stop();
  await origin.stop();
  rmSync(directory, { recursive: true });
});

test("HLS: a playlist brings its first segments, each segment the two behind it, and players find hits", async () => {
  content.set("/v/i.m3u8", [
    "application/vnd.apple.mpegurl",
    `#EXTM3U\n${[1, 2, 3, 4, 5].map((n) => `#EXTINF:2,\n${n}.ts\n`).join("")}#EXT-X-ENDLIST\n`,
  ]);
  await play("/v/i.m3u8");
  await areAsked("/v/i.m3u8", "/v/1.ts", "/v/2.ts");
  expect((await play("/v/1.ts")).cacheStatus).toMatch(/^hit/);
  await areAsked("/v/3.ts");
  expect((await play("/v/2.ts")).cacheStatus).toMatch(/^hit/);
  await areAsked("/v/4.ts");
  expect((await play("/v/3.ts")).cacheStatus).toMatch(/^hit/);
  await areAsked("/v/5.ts");
  expect(await edge.metric("prefetch_total", { kind: "hls", result: "asked" })).toBe(5);
  expect(await edge.metric("prefetch_used_total")).toBe(3);
});

test("DASH counts as DASH, also for the segments behind the one that was asked for", async () => {
  content.set("/d/m.mpd", [
    "application/dash+xml",
    `<MPD mediaPresentationDuration="PT8S"><Period><AdaptationSet><SegmentTemplate duration="2" media="$Number$.m4s" initialization="init"/>
     <Representation id="a"/></AdaptationSet></Period></MPD>`,
  ]);
  const hls = await edge.metric("prefetch_total", { kind: "hls" });
  await play("/d/m.mpd");
  await areAsked("/d/m.mpd", "/d/init", "/d/1.m4s");
  expect((await play("/d/1.m4s")).cacheStatus).toMatch(/^hit/);
  await areAsked("/d/2.m4s", "/d/3.m4s");
  expect(await edge.metric("prefetch_total", { kind: "dash", result: "asked" })).toBe(4);
  expect(await edge.metric("prefetch_total", { kind: "hls" })).toBe(hls);
});

test("CMCD: a player's own hint is followed, in the query and in a field, and is no part of the object's name", async () => {
  const hint = (path: string): string => encodeURIComponent(`bl=21300,nor="${encodeURIComponent(path)}"`);
  await play(`/c/1.ts?CMCD=${hint("2.ts")}`);
  await areAsked(`/c/1.ts?CMCD=${hint("2.ts")}`, "/c/2.ts");
  expect((await play("/c/2.ts", { "cmcd-request": 'bl=900,nor="../e/3.ts"' })).cacheStatus).toMatch(/^hit/);
  await areAsked("/e/3.ts");
  // Another host's is none.
  await play("/e/3.ts", { "cmcd-request": 'nor="//other.example/4.ts"' });
  await areAsked();
  expect(await edge.metric("prefetch_total", { kind: "cmcd", result: "asked" })).toBe(2);
});

test("what a client has asked for already is no prefetch, used or wasted", async () => {
  content.set("/own/", ["text/html", '<link rel=stylesheet href="/own.css">']);
  const held = Promise.withResolvers<void>();
  const answer = origin.answer;
  origin.answer = (request, response, body) =>
    void (request.url === "/own.css" ? held.promise : Promise.resolve()).then(() =>
      answer(request, response, body),
    );
  const counts = async () => [
    await edge.metric("prefetch_fetched_total"),
    await edge.metric("prefetch_total", { kind: "html", result: "stored-already" }),
  ];
  const [fetched = 0, there = 0] = await counts();
  const style = play("/own.css");
  await until(() => asked().includes("/own.css"), "the style sheet is asked for");
  await play("/own/");
  await until(async () => (await edge.metric("prefetch_active")) === 1, "the page has named it");
  held.resolve();
  expect((await style).status).toBe(200);
  await areAsked("/own.css", "/own/");
  expect(await counts()).toEqual([fetched, there + 1]);
});

test("103 (RFC 8297): a navigation over HTTP/2 that waits hears what its page needed; others do not", async () => {
  const page = "/shop/";
  content.set(page, [
    "text/html",
    '<link rel=stylesheet href="/a.css"><script src="/b.js"></script><img src="/c.png">',
  ]);
  /** What the origin waits for before it answers. */
  let held = Promise.resolve();
  const answer = origin.answer;
  origin.answer = (request, response, body) => void held.then(() => answer(request, response, body));
  const client = connect(`https://127.0.0.1:${edge.running.tlsPort}`, {
    rejectUnauthorized: false,
    servername: HOST,
  });
  /** Status and Link of everything that came before the answer's content, in order. */
  const navigate = async (more: Record<string, string> = {}, onHints = () => {}) => {
    const stream = client.request({
      ":path": page,
      ":authority": HOST,
      "sec-fetch-mode": "navigate",
      ...more,
    });
    const seen: { status: number | undefined; link: unknown }[] = [];
    const take = (headers: IncomingHttpHeaders & { ":status"?: number }) =>
      seen.push({ status: headers[":status"], link: headers.link });
    stream.on("headers", take).on("headers", onHints).on("response", take).resume();
    await once(stream, "end");
    return seen;
  };
  try {
    expect(await navigate()).toEqual([{ status: 200, link: undefined }]);
    const heard = Promise.withResolvers<void>();
    held = heard.promise;
    expect(await navigate({}, heard.resolve)).toEqual([
      { status: 103, link: "</a.css>; rel=preload; as=style, </b.js>; rel=preload; as=script" },
      { status: 200, link: undefined },
    ]);
    expect(await navigate({ "sec-fetch-mode": "cors" })).toEqual([{ status: 200, link: undefined }]);
    // Over HTTP/1.1 some take an interim answer for the answer; browsers want none there.
    const raw = await rawExchange(
      edge.port,
      `GET ${page} HTTP/1.1\r\nHost: ${HOST}\r\nSec-Fetch-Mode: navigate\r\nConnection: close\r\n\r\n`,
    );
    expect(raw.match(/^HTTP\/1\.1 \d+/gm)).toEqual(["HTTP/1.1 200"]);
    expect(await edge.metric("early_hints_total")).toBe(1);
  } finally {
    client.close();
  }
});

/** HTTP/2 to origins: transport against a secure server of node:http2. */
import { once } from "node:events";
import {
  createSecureServer,
  type Http2SecureServer,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import type { OriginTarget } from "#kit";
import { systemClock } from "#kit/io";
import { installWan, Transport, type TransportRequest, type TransportSettings } from "#transport";
import { makeCertificate } from "../tools/certificates.ts";
import { clusterId, logger, peerKey, serverId, topologyOf, wanOf } from "./transport-support.ts";

const HOST = "www.shop.example";
const authority = makeCertificate({ names: ["test authority"], isAuthority: true });
const certificate = makeCertificate({ names: [HOST], issuer: authority });
const credentials = { key: certificate.keyPem, cert: certificate.certPem };

const ends: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

type Origin = {
  readonly server: Http2SecureServer;
  readonly sessions: ServerHttp2Session[];
  readonly port: number;
};

async function originWith(onStream: (stream: ServerHttp2Stream, path: string) => void): Promise<Origin> {
  const server = createSecureServer(credentials);
  const sessions: ServerHttp2Session[] = [];
  server.on("session", (session) => {
    sessions.push(session);
    session.on("error", () => {});
  });
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    onStream(stream, String(headers[":path"]));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  ends.push(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return { server, sessions, port: (server.address() as AddressInfo).port };
}

function transportTo(port: number, settings: Partial<TransportSettings> = {}, rttMs?: number) {
  const sites = [
    { id: "fra", role: "edge", ports: [1] },
    { id: "sfo", role: "origin", ports: [port] },
  ];
  if (rttMs !== undefined) {
    installWan(wanOf(sites, "fra", { "fra|sfo": { rttMs, bandwidthMbps: 1_000 } }));
    ends.push(() => installWan(undefined));
  }
  const transport = new Transport({
    selfServerId: serverId("fra-1"),
    selfClusterId: clusterId("fra"),
    topology: topologyOf(sites),
    peerKey,
    clock: systemClock,
    logger,
    settings: { ca: authority.certPem, ...settings },
  });
  ends.push(() => transport.close());
  const origin: OriginTarget = {
    scheme: "https",
    host: "127.0.0.1",
    port,
    hostHeader: HOST,
    protocol: "http/2",
  };
  const ask = async (path: string, more: Partial<TransportRequest> = {}) => {
    const response = await transport.request(
      { kind: "origin", origin },
      { method: "GET", path, headers: [], ...more },
    );
    const chunks: Buffer[] = [];
    for await (const chunk of response.body) chunks.push(chunk as Buffer);
    const { status, headers } = response;
    return { status, headers, trailers: response.trailers(), content: Buffer.concat(chunks) };
  };
  return { transport, ask };
}

test("a hundred requests at once share one connection; fields, contents and trailers come as they were sent", async () => {
  let most = 0;
  const held: ServerHttp2Stream[] = [];
  const asked: unknown[] = [];
  const { server, sessions, port } = await originWith((stream, path) => {
    if (path !== "/all") return;
    held.push(stream);
    most = Math.max(most, held.length);
    if (held.length < 100) return;
    for (const one of held.splice(0)) {
      one.respond({ ":status": 200, "set-cookie": ["a=1", "b=2"] }, { waitForTrailers: true });
      one.on("wantTrailers", () => one.sendTrailers({ "x-sum": "7" }));
      one.end("ok");
    }
  });
  server.on("stream", (stream, headers) => {
    if (headers[":path"] !== "/echo") return;
    asked.push([headers[":authority"], headers[":scheme"], headers["cookie"], headers["x-two"]]);
    stream.respond({ ":status": 201 });
    stream.pipe(stream);
  });
  const { ask } = transportTo(port);
  const answers = await Promise.all(Array.from({ length: 100 }, () => ask("/all")));
  expect(new Set(answers.map(({ status, content }) => `${status} ${String(content)}`))).toEqual(
    new Set(["200 ok"]),
  );
  expect([most, sessions.length]).toEqual([100, 1]);
  expect(answers[0]?.headers.filter(([name]) => name === "set-cookie")).toEqual([
    ["set-cookie", "a=1"],
    ["set-cookie", "b=2"],
  ]);
  expect(answers[0]?.trailers).toEqual([["x-sum", "7"]]);
  const echo = await ask("/echo", {
    method: "POST",
    body: Buffer.alloc(100_000, "x"),
    headers: [
      ["Cookie", "a=1"],
      ["Cookie", "b=2"],
      ["X-Two", "1"],
      ["X-Two", "2"],
      // Would end the whole connection.
      ["Connection", "x-gone"],
      ["Keep-Alive", "5"],
      ["HTTP2-Settings", "AAA"],
      ["TE", "gzip"],
    ],
  });
  expect([echo.status, echo.content.length]).toEqual([201, 100_000]);
  expect(asked).toEqual([[HOST, "https", "a=1; b=2", "1, 2"]]);
  expect(sessions.length).toBe(1);
});

test("windows let a large content fill a long path", async () => {
  const RTT_MS = 250;
  const bytes = 4 * 1024 * 1024;
  const content = Buffer.alloc(bytes, "abc");
  const { sessions, port } = await originWith((stream) => {
    stream.respond({ ":status": 200, "content-length": bytes });
    stream.end(content);
  });
  const { ask } = transportTo(port, {}, RTT_MS);
  const startedMs = performance.now();
  const answer = await ask("/");
  const ms = performance.now() - startedMs;
  expect(answer.content.equals(content)).toBe(true);
  // 200 Mbit/s over 96 ms are 2.4 MB on the way.
  expect(sessions[0]?.remoteSettings.initialWindowSize).toBeGreaterThan(2_400_000);
  // Within undici's own 256 KiB a round trip can bring no more than that.
  expect(ms).toBeLessThan((bytes / 262_144) * RTT_MS * 0.8);
});

test("what ends one request leaves the others; a silent connection is left, one that says goodbye is replaced", async () => {
  const { sessions, port } = await originWith((stream, path) => {
    if (path === "/silent") return;
    stream.respond({ ":status": 200 });
    if (path === "/slow") setTimeout(() => stream.end("slow"), 1_500).unref();
    else if (path === "/endless" || path === "/cut") stream.write("begin");
    else stream.end("ok");
    if (path === "/cut") setTimeout(() => stream.session?.socket.destroy(), 50);
  });
  const { ask } = transportTo(port, { attemptsMax: 1, hedging: { ratio: 0 } });
  const text = async (path: string) => String((await ask(path)).content);
  // Given up by the caller.
  const stop = new AbortController();
  const endless = ask("/endless", { signal: stop.signal });
  const slow = text("/slow");
  expect(await text("/")).toBe("ok");
  stop.abort();
  await expect(endless).rejects.toMatchObject({ code: "aborted" });
  expect(await slow).toBe("slow");
  expect(sessions.length).toBe(1);
  // Silence: the next request does not share its connection, and what is under way ends well.
  const going = text("/slow");
  await expect(ask("/silent", { timeouts: { headersMs: 500 } })).rejects.toMatchObject({
    code: "headers-timeout",
  });
  expect(await text("/")).toBe("ok");
  expect(await going).toBe("slow");
  expect(sessions.length).toBe(2);
  // GOAWAY.
  sessions[1]?.close();
  await once(sessions[1] as ServerHttp2Session, "close");
  expect(await Promise.all([text("/"), text("/slow")])).toEqual(["ok", "slow"]);
  expect(sessions.length).toBe(3);
  // A content without length whose connection is cut is no whole one.
  await expect(ask("/cut")).rejects.toMatchObject({ code: "connection-lost" });
  expect(await text("/")).toBe("ok");
});

test("an origin that does not speak HTTP/2 is not asked", async () => {
  const server = createTlsServer(credentials, (_, response) => response.end("ok"));
  await once(server.listen(0, "127.0.0.1"), "listening");
  ends.push(() => void server.close());
  const { ask } = transportTo((server.address() as AddressInfo).port);
  await expect(ask("/")).rejects.toMatchObject({ code: "tls-failed", retry: "safe" });
});

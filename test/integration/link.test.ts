/** Links over real sockets: TLS with certificates of both sides, undici's handlers on one end and a handler of ours on the other. */
import { once } from "node:events";
import {
  connect as connectTcp,
  createServer as createTcpServer,
  type AddressInfo,
  type Server,
  type Socket,
} from "node:net";
import { Readable } from "node:stream";
import { connect as connectTls, type ConnectionOptions, createServer } from "node:tls";
import { request } from "undici";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dial, LinkPool, type LinkRequest, LinkServer } from "#transport";
import { LINK_ALPN } from "../../transport/core/link/words.ts";
import { deluded, testAuthority } from "../tools/node-credentials.ts";
import { makeCertificate } from "../tools/certificates.ts";
import { authority, serverId, topologyOf } from "./transport-support.ts";

const topology = topologyOf([
  { id: "fra", role: "edge", ports: [1] },
  { id: "iad", role: "parent", ports: [2, 3] },
  { id: "sfo", role: "origin", ports: [4] },
]);
const trust = await authority.trust(topology, "iad-1");
const edge = await authority.trust(topology, "fra-1");
const LINKS = { handshakesMax: 16, handshakeTimeoutMs: 5_000, mayCome: () => true } as const;
/** What an edge shows to a parent, and expects of it. */
const shown = (to = "iad-1") =>
  edge.clientOptions({ serverId: serverId(to), roles: ["parent"] }, LINK_ALPN) ?? {};

const LARGE = Buffer.from(Array.from({ length: 1_500_000 }, (_, at) => (at * 7) >> 4));
/** Requests that are being answered, or were, by path. */
const seen = new Map<string, { readonly request: LinkRequest; isGone: boolean; content: Buffer[] }>();

function handle(link: LinkRequest): void {
  const { path } = link.head;
  const state = { request: link, isGone: false, content: [] as Buffer[] };
  seen.set(path, state);
  link.onGone = () => {
    state.isGone = true;
  };
  if (path === "/silent") return;
  if (link.body !== undefined) {
    link.body.on("data", (chunk: Buffer) => {
      state.content.push(chunk);
    });
    link.body.on("error", () => {});
    link.body.once("end", () => {
      link.writeHead(200, ["content-type", "text/plain"]);
      link.write(Buffer.from(`${Buffer.concat(state.content).byteLength} bytes`));
      link.end(["etag", '"whole"']);
    });
    return;
  }
  link.writeHead(200, ["set-cookie", "a=1", "set-cookie", "b=2", "x-authority", link.head.authority]);
  if (path === "/segments") {
    let left = 8;
    const next = (): void => {
      link.write(Buffer.alloc(1_448, left));
      if (--left > 0) setImmediate(() => setImmediate(next));
      else link.end();
    };
    next();
    return;
  }
  if (path === "/large") link.write(LARGE);
  else link.write(Buffer.from("small"));
  link.end();
}

const links = new LinkServer({ ...LINKS, trust, handle });
const listener = createTcpServer((socket) => links.accept(socket, Buffer.alloc(0)));
let port = 0;
const pools: LinkPool[] = [];

function poolTo(at: number, more: Partial<ConstructorParameters<typeof LinkPool>[0]> = {}): LinkPool {
  const tls = { servername: "iad-1", peer: shown() };
  const pool = new LinkPool({
    label: "a parent",
    connect: (signal) => dial({ host: "127.0.0.1", port: at, tls, signal }),
    ...more,
  });
  pools.push(pool);
  return pool;
}
const ask = (pool: LinkPool, path: string, more: Parameters<typeof request>[1] = {}) =>
  request(`http://www.test${path}`, { dispatcher: pool, ...more });

async function listening(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

beforeAll(async () => {
  port = await listening(listener);
});
afterAll(async () => {
  await Promise.all(pools.map((pool) => pool.destroy()));
  links.destroy();
  listener.close();
});

test("requests, repeated fields, content both ways, trailers", async () => {
  const pool = poolTo(port);
  const small = await ask(pool, "/small");
  expect([small.statusCode, await small.body.text()]).toEqual([200, "small"]);
  expect(small.headers).toMatchObject({ "set-cookie": ["a=1", "b=2"], "x-authority": "www.test" });
  const posted = await ask(pool, "/posted", {
    method: "POST",
    body: Readable.from([LARGE.subarray(0, 1_000_000), LARGE.subarray(1_000_000)]),
  });
  expect(await posted.body.text()).toBe("1500000 bytes");
  expect(posted.trailers).toEqual({ etag: '"whole"' });
  expect(Buffer.concat(seen.get("/posted")?.content ?? []).equals(LARGE)).toBe(true);
  expect(pool.counters).toMatchObject({ requests: 2, connectFailures: 0, lost: 0 });
});

test("a reader that stops holds up its own stream alone, and then gets every byte", async () => {
  const pool = poolTo(port, { sessionsMax: 1 });
  const large = await ask(pool, "/large");
  await once(large.body, "readable");
  // More than a window is left, and nobody reads.
  const [one, two] = await Promise.all([ask(pool, "/one"), ask(pool, "/two")]);
  expect([await one.body.text(), await two.body.text()]).toEqual(["small", "small"]);
  expect(Buffer.from(await large.body.arrayBuffer()).equals(LARGE)).toBe(true);
  expect(pool.sessions).toBe(1);
});

test("an answer that comes a segment at a time leaves in records that fill their segments", async () => {
  /** Bytes of each TLS record that the server sends, heads included. */
  const records: number[] = [];
  const proxy = createTcpServer((client) => {
    const server = connectTcp({ port, host: "127.0.0.1", noDelay: true });
    client.on("error", () => {}).once("close", () => server.destroy());
    server.on("error", () => {}).once("close", () => client.destroy());
    client.pipe(server);
    let held = Buffer.alloc(0);
    server.on("data", (bytes: Buffer) => {
      client.write(bytes);
      held = Buffer.concat([held, bytes]);
      while (held.length >= 5 && held.length >= 5 + held.readUInt16BE(3)) {
        records.push(5 + held.readUInt16BE(3));
        held = held.subarray(5 + held.readUInt16BE(3));
      }
    });
  });
  const pool = poolTo(await listening(proxy), { sessionsMax: 1 });
  await (await ask(pool, "/small")).body.text();
  records.length = 0;
  const answers = 20;
  for (let n = 0; n < answers; n++) {
    const { body } = await ask(pool, "/segments");
    expect(Buffer.from(await body.arrayBuffer())).toEqual(
      Buffer.concat(Array.from({ length: 8 }, (_, at) => Buffer.alloc(1_448, 8 - at))),
    );
  }
  const segments = records.reduce((sum, bytes) => sum + Math.ceil(bytes / 1_448), 0);
  // Nine each; a record for each piece is seventeen. A process that stands still for a millisecond costs one more.
  expect(segments).toBeLessThan(answers * 13);
  proxy.close();
});

test("what is given up is given up at the other end, and the session goes on", async () => {
  const pool = poolTo(port);
  const stop = new AbortController();
  const silent = ask(pool, "/silent", { signal: stop.signal });
  while (!seen.has("/silent")) await new Promise((resolve) => setTimeout(resolve, 5));
  stop.abort();
  await expect(silent).rejects.toThrow("aborted");
  while (seen.get("/silent")?.isGone !== true) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(await (await ask(pool, "/after")).body.text()).toBe("small");
  expect(pool.counters).toMatchObject({ connectFailures: 0, lost: 0 });
  await expect(ask(pool, "/silent", { headersTimeout: 50 })).rejects.toMatchObject({
    code: "UND_ERR_HEADERS_TIMEOUT",
  });
});

test("a session that is stuck holds nobody else up, one that is cut fails its own requests alone", async () => {
  // Before the listener stands something that stops passing bytes on for its first connection.
  const passed: Socket[] = [];
  const proxy = createTcpServer((socket) => {
    const onward = connectTcp(port, "127.0.0.1");
    socket.pipe(onward).pipe(socket);
    for (const one of [socket, onward]) one.on("error", () => {});
    passed.push(socket);
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const pool = poolTo((proxy.address() as AddressInfo).port, { sessionsMax: 2 });
  await (await ask(pool, "/first")).body.dump();
  passed[0]?.unpipe();
  passed[0]?.pause();
  // Not to be asked for again elsewhere.
  const stuck = ask(pool, "/stuck", { method: "POST", body: "once" });
  stuck.catch(() => {});
  // The ping comes after a quarter of a second, and is unanswered for a tenth and two round trips, however long those took here.
  while (pool.stuckSessions === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  for (let turn = 0; turn < 5; turn++)
    expect(await (await ask(pool, `/free/${turn}`)).body.text()).toBe("small");
  expect(passed).toHaveLength(2);
  passed[0]?.destroy();
  await expect(stuck).rejects.toMatchObject({ code: "UND_ERR_SOCKET" });
  expect(await (await ask(pool, "/again")).body.text()).toBe("small");
  expect(pool.counters.lost).toBe(1);
  proxy.close();
  for (const socket of passed) socket.destroy();
});

test("a peer that does not know links, or is none of ours, is told by its handshake, before a byte is sent to it", async () => {
  const http = createTcpServer((socket) => {
    socket.on("error", () => {}).once("data", () => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
  });
  const others = await testAuthority();
  const foreign = createServer((await others.trust(topology, "iad-1")).serverOptions(LINK_ALPN));
  const neighbour = createServer((await authority.trust(topology, "iad-2")).serverOptions(LINK_ALPN));
  const older = createServer({ ...trust.serverOptions(LINK_ALPN), ALPNProtocols: ["http/1.1"] });
  const nameless = createServer({ ...trust.serverOptions(LINK_ALPN), ALPNProtocols: undefined });
  const servers = [http, foreign, neighbour, older, nameless];
  try {
    for (const [server, why] of [
      [http, /wrong version number/i],
      [foreign, /certificate/i],
      [neighbour, /other-server/],
      [older, /alpn|protocol/i],
      [nameless, /it speaks something else/],
    ] as const) {
      let received = 0;
      server.on("secureConnection", (socket: Socket) => {
        socket
          .on("error", () => {})
          .on("data", ({ byteLength }: Buffer) => {
            received += byteLength;
          });
      });
      server.on("tlsClientError", () => {});
      const asked = ask(poolTo(await listening(server)), "/small");
      await expect(asked).rejects.toMatchObject({ code: "tls-failed", message: expect.stringMatching(why) });
      expect(received).toBe(0);
    }
  } finally {
    for (const server of servers) server.close();
  }
});

test("nobody comes in without a certificate of ours, with one of a role that asks nothing, or with another protocol", async () => {
  const before = links.counters.refused;
  const own = makeCertificate({ names: ["fra-1"] });
  const others = await testAuthority();
  const origin = await authority.trust(topology, "sfo-1").catch(() => undefined);
  const expired = await testAuthority({ validMs: -1 });
  const shownBy = (by: typeof edge) =>
    by.clientOptions({ serverId: serverId("iad-1"), roles: ["parent"] }, LINK_ALPN) ?? {};
  const attempts: ConnectionOptions[] = [
    { ALPNProtocols: [...LINK_ALPN] },
    { ALPNProtocols: [...LINK_ALPN], cert: own.certPem, key: own.keyPem },
    { ...shownBy(await others.trust(topology, "fra-1")) },
    { ...shownBy(deluded(await expired.credentials(topology, "fra-1"))) },
    { ...shown(), ALPNProtocols: ["h2"] },
    { ...shown(), ALPNProtocols: undefined },
    ...(origin === undefined ? [] : [{ ...shownBy(origin) }]),
  ];
  for (const options of attempts) {
    const socket = connectTls({ port, host: "127.0.0.1", ...options, rejectUnauthorized: false });
    socket.on("error", () => {});
    socket.resume();
    await new Promise((resolve) => socket.once("close", resolve));
  }
  expect(links.counters.refused - before).toBe(attempts.length);
  // What is no TLS.
  const plain = connectTcp(port, "127.0.0.1").on("error", () => {});
  plain.end("GET / HTTP/1.1\r\n\r\n");
  plain.resume();
  await once(plain, "close");
  expect(links.counters.refused - before).toBe(attempts.length + 1);
});

test("who is taken out of the topology loses its session, and gets no other; a certificate opens nothing beyond its end", async () => {
  let isMember = true;
  const strict = new LinkServer({ ...LINKS, trust, handle, mayCome: () => isMember });
  const server = createTcpServer((socket) => strict.accept(socket, Buffer.alloc(0)));
  const at = await listening(server);
  const pool = poolTo(at);
  await (await ask(pool, "/member")).body.dump();
  isMember = false;
  strict.recheck();
  while (strict.sessions + pool.sessions > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await expect(ask(pool, "/outcast")).rejects.toBeInstanceOf(Error);
  expect(strict.counters.refused).toBe(1);
  isMember = true;
  const brief = await testAuthority({ validMs: 6_000 });
  const soon = new LinkServer({ ...LINKS, trust: await brief.trust(topology, "iad-1"), handle });
  const soonServer = createTcpServer((socket) => soon.accept(socket, Buffer.alloc(0)));
  const peer = (await brief.trust(topology, "fra-1")).clientOptions(
    { serverId: serverId("iad-1"), roles: ["parent"] },
    LINK_ALPN,
  );
  const soonAt = await listening(soonServer);
  const ending = poolTo(soonAt, {
    connect: (signal) =>
      dial({ host: "127.0.0.1", port: soonAt, tls: { servername: "iad-1", peer }, signal }),
  });
  await (await ask(ending, "/brief")).body.dump();
  while (soon.sessions > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  expect(Object.fromEntries(soon.counters.ends)).toEqual({ done: 1 });
  server.close();
  soonServer.close();
}, 30_000);

test("who asks is known from the handshake", async () => {
  await (await ask(poolTo(port), "/who")).body.dump();
  expect(seen.get("/who")?.request).toMatchObject({ peer: "fra-1", remoteAddress: "127.0.0.1" });
});

test("a server that goes finishes what it has begun and takes nothing new", async () => {
  const leaving = new LinkServer({ ...LINKS, trust, handle });
  const server = createTcpServer((socket) => leaving.accept(socket, Buffer.alloc(0)));
  const pool = poolTo(await listening(server));
  seen.delete("/silent");
  const begun = ask(pool, "/silent");
  while (!seen.has("/silent")) await new Promise((resolve) => setTimeout(resolve, 5));
  server.close();
  leaving.drain();
  const link = seen.get("/silent")?.request;
  link?.writeHead(204, [], true);
  expect((await begun).statusCode).toBe(204);
  while (leaving.connections > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await expect(ask(pool, "/late")).rejects.toMatchObject({ code: "connect-failed" });
  expect(Object.fromEntries(leaving.counters.ends)).toEqual({ done: 1 });
});

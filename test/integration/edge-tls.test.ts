/** TLS at the edge: which certificate, swaps without restart, resumption between servers, what is refused and counted. */
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { type AddressInfo, connect as connectTcp, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type ConnectionOptions, createServer as createTlsServer, type TLSSocket } from "node:tls";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type EdgeSettings, TICKET_PERIOD_MS, TicketKeys, useTicketKeys } from "#edge";
import type { EpochMs } from "#kit";
import { makeCertificate, type TestCertificate } from "../tools/certificates.ts";
import { startEdge, type TestEdge, TestOrigin, until } from "./edge-support.ts";

const origin = new TestOrigin();
const directory = mkdtempSync(join(tmpdir(), "isochrone-tls-"));
const first = makeCertificate({ names: ["a.example"] });
const second = makeCertificate({ names: ["*.b.example", "b.example"] });
const edges: TestEdge[] = [];
const sockets: TLSSocket[] = [];

function keep(name: string, { certPem, keyPem }: Pick<TestCertificate, "certPem" | "keyPem">) {
  const pair = {
    certificateFile: join(directory, `${name}.crt`),
    keyFile: join(directory, `${name}.key`),
  };
  writeFileSync(pair.certificateFile, certPem);
  writeFileSync(pair.keyFile, keyPem);
  return pair;
}

async function start(
  options: {
    readonly unknownName?: "default" | "refuse";
    readonly secret?: Buffer;
    readonly settings?: Partial<EdgeSettings>;
  } = {},
): Promise<TestEdge & { readonly tlsPort: number }> {
  const edge = await startEdge(origin, options.settings, undefined, {
    host: "127.0.0.1",
    port: 0,
    pairs: [keep("first", first), keep("second", second)],
    unknownName: options.unknownName ?? "default",
    ticketSecret: options.secret ?? Buffer.alloc(32, 7),
  });
  edges.push(edge);
  return { ...edge, tlsPort: edge.running.tlsPort ?? 0 };
}

async function open(port: number, options: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false, ...options });
  sockets.push(socket);
  socket.on("error", () => {});
  await once(socket, "secureConnect");
  return socket;
}

/** The code of the error that ends an attempt to connect. */
async function refusal(port: number, options: ConnectionOptions): Promise<string> {
  const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false, ...options });
  sockets.push(socket);
  const [error] = (await once(socket, "error")) as [NodeJS.ErrnoException];
  return error.code ?? error.message;
}

async function get(socket: TLSSocket, host: string, path = "/"): Promise<string> {
  socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  let text = "";
  while (!(/transfer-encoding/i.test(text) ? text.endsWith("0\r\n\r\n") : text.endsWith("\r\n\r\nhello"))) {
    const [chunk] = (await once(socket, "data")) as [Buffer];
    text += chunk.toString("latin1");
  }
  return text;
}

beforeAll(() => origin.start());
beforeEach(() => {
  origin.answer = (_request, response) => {
    response.writeHead(200, { "cache-control": "max-age=60" });
    response.write("hello");
    response.end();
  };
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const edge of edges.splice(0)) await edge.running.stop();
});
afterAll(async () => {
  await origin.stop();
  rmSync(directory, { recursive: true });
});

test.each([
  ["a.example", first],
  ["x.b.example", second],
  ["b.example", second],
  ["unknown.example", first],
  [undefined, first],
])("a client that names %s gets the certificate for it", async (servername, expected) => {
  const { tlsPort } = await start();
  const socket = await open(tlsPort, servername === undefined ? {} : { servername });
  expect(socket.getPeerCertificate().fingerprint256).toBe(expected.fingerprint);
});

test("an unknown name is refused with an alert where the setting says so, and counted as that", async () => {
  const edge = await start({ unknownName: "refuse" });
  expect(await refusal(edge.tlsPort, { servername: "unknown.example" })).toMatch(/HANDSHAKE_FAILURE/);
  expect(await refusal(edge.tlsPort, {})).toMatch(/HANDSHAKE_FAILURE/);
  expect(await edge.metric("tls_handshake_failures_total", { reason: "name" })).toBe(2);
  const socket = await open(edge.tlsPort, { servername: "a.example" });
  expect(socket.getPeerCertificate().fingerprint256).toBe(first.fingerprint);
});

test("the scheme is https: for the key, for the origin", async () => {
  const edge = await start();
  const socket = await open(edge.tlsPort, { servername: "a.example" });
  const before = origin.seen.length;
  expect(await get(socket, "a.example", "/scheme")).toMatch(/^HTTP\/1\.1 200 /);
  expect(await get(socket, "a.example", "/scheme")).toMatch(/; hit/);
  expect(origin.seen[before]?.headers["x-forwarded-proto"]).toBe("https");
  // The same over plain HTTP is another resource (RFC 9110, section 4.2).
  const plain = connectTcp(edge.port, "127.0.0.1");
  plain.write("GET /scheme HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
  let text = "";
  for await (const chunk of plain as AsyncIterable<Buffer>) text += chunk.toString();
  expect(text).toMatch(/fwd=uri-miss/);
  expect(origin.seen.at(-1)?.headers["x-forwarded-proto"]).toBe("http");
});

test("hits go past the stream, in order, also to a client that reads late or has closed its side", async () => {
  const edge = await start();
  const body = "x".repeat(15_000);
  origin.answer = (_request, response) =>
    response.writeHead(200, { "cache-control": "max-age=60", "content-length": body.length }).end(body);
  const socket = await open(edge.tlsPort, { servername: "a.example" });
  const request = "GET /late HTTP/1.1\r\nHost: a.example\r\n\r\n";
  let text = "";
  let answers = 0;
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    for (let end = text.indexOf(body); end !== -1; end = text.indexOf(body)) {
      text = text.slice(end + body.length);
      answers++;
    }
  });
  for (let n = 1; n <= 5; n++) {
    socket.write(request);
    await until(() => answers === n, `answer ${n}`);
  }
  // One request at a time and no byte read, until the system takes no more.
  socket.pause();
  for (let n = 0; n < 600; n++) {
    socket.write(request);
    await new Promise((resolve) => setImmediate(resolve));
  }
  socket.write(request.repeat(3));
  socket.resume();
  await until(() => answers === 608, "all answers");
  // A request whose client then closes its side is answered, and the connection ends in order.
  socket.allowHalfOpen = true;
  socket.end(request);
  await once(socket, "end");
  expect(answers).toBe(609);
  expect(text).toBe("");
  expect(await edge.metric("requests_total", { outcome: "hit" })).toBe(608);
  expect(await edge.metric("tls_direct_connections_total")).toBe(1);
});

test("a connection whose hits went past the stream is handed to node:http with its bytes intact", async () => {
  const edge = await start();
  const socket = await open(edge.tlsPort, { servername: "a.example" });
  await get(socket, "a.example", "/over");
  expect(await get(socket, "a.example", "/over")).toMatch(/; hit/);
  socket.write("POST /over HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\n\r\nab");
  await new Promise((resolve) => setImmediate(resolve));
  socket.write("cd");
  let text = "";
  while (!text.endsWith("0\r\n\r\n")) text += String((await once(socket, "data"))[0]);
  expect(text).toMatch(/^HTTP\/1\.1 200 /);
  expect(origin.seen.at(-1)).toMatchObject({ method: "POST", body: "abcd" });
});

test.each(["TLSv1.1", "TLSv1"] as const)("%s is refused and counted", async (version) => {
  const edge = await start();
  const code = await refusal(edge.tlsPort, {
    minVersion: version,
    maxVersion: version,
    ciphers: "DEFAULT@SECLEVEL=0",
  });
  expect(code).toMatch(/PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL/);
  expect(await edge.metric("tls_handshake_failures_total", { reason: "version" })).toBe(1);
});

test.each(["TLSv1.2", "TLSv1.3"] as const)("%s is spoken, with forward secrecy", async (version) => {
  const edge = await start();
  const socket = await open(edge.tlsPort, { minVersion: version, maxVersion: version });
  expect(socket.getProtocol()).toBe(version);
  expect(socket.getCipher().name).toMatch(/^(?:ECDHE|TLS)_?.*(?:GCM|CHACHA20)/);
  const labels = { version: version.slice(4), resumed: "no" };
  // A client of TLS 1.3 is done half a round trip before the server.
  await until(async () => (await edge.metric("tls_handshakes_total", labels)) === 1, "the handshake counted");
});

test("an application protocol that is not spoken here is refused (RFC 7301, section 3.2)", async () => {
  const edge = await start();
  const code = await refusal(edge.tlsPort, { ALPNProtocols: ["spdy/3"] });
  expect(code).toMatch(/NO_APPLICATION_PROTOCOL/);
  expect(await edge.metric("tls_handshake_failures_total", { reason: "alpn" })).toBe(1);
});

test("plain HTTP on the TLS port is refused and counted", async () => {
  const edge = await start();
  const socket = connectTcp(edge.tlsPort, "127.0.0.1");
  socket.on("error", () => {});
  socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await once(socket, "close");
  expect(await edge.metric("tls_handshake_failures_total", { reason: "not-tls" })).toBe(1);
});

test("a client that says nothing is cut when its time is over", async () => {
  const edge = await start({ settings: { tlsHandshakeTimeoutMs: 150 } });
  const socket = connectTcp(edge.tlsPort, "127.0.0.1");
  await once(socket, "close");
  expect(await edge.metric("tls_handshake_failures_total", { reason: "timeout" })).toBe(1);
  expect(await edge.metric("tls_handshakes_active")).toBe(0);
});

test("handshakes at once are bounded; those that end make room", async () => {
  const edge = await start({ settings: { tlsHandshakesMax: 2 } });
  const silent = [connectTcp(edge.tlsPort, "127.0.0.1"), connectTcp(edge.tlsPort, "127.0.0.1")];
  await until(async () => (await edge.metric("tls_handshakes_active")) === 2, "two handshakes in flight");
  await refusal(edge.tlsPort, {});
  expect(await edge.metric("tls_handshake_failures_total", { reason: "overload" })).toBe(1);
  for (const socket of silent) socket.destroy();
  await until(async () => (await edge.metric("tls_handshakes_active")) === 0, "no handshake in flight");
  expect(await edge.metric("tls_handshake_failures_total", { reason: "client-gone" })).toBe(2);
  const socket = await open(edge.tlsPort);
  expect(await get(socket, "a.example")).toMatch(/^HTTP\/1\.1 200 /);
  expect(await edge.metric("tls_handshakes_active")).toBe(0);
});

test("a new certificate serves the next handshake, open connections go on, a bad one changes nothing", async () => {
  const edge = await start();
  const before = await open(edge.tlsPort, { servername: "a.example" });
  expect(await get(before, "a.example")).toMatch(/^HTTP\/1\.1 200 /);
  const renewed = makeCertificate({ names: ["a.example"] });
  keep("first", renewed);
  edge.running.reload?.();
  const after = await open(edge.tlsPort, { servername: "a.example" });
  expect(after.getPeerCertificate().fingerprint256).toBe(renewed.fingerprint);
  // Without a name: the default has changed too.
  expect((await open(edge.tlsPort)).getPeerCertificate().fingerprint256).toBe(renewed.fingerprint);
  expect(await get(before, "a.example")).toMatch(/^HTTP\/1\.1 200 /);
  expect(before.getPeerCertificate().fingerprint256).toBe(first.fingerprint);

  keep("first", { certPem: first.certPem, keyPem: second.keyPem });
  edge.running.reload?.();
  keep("first", { certPem: "nothing", keyPem: "nothing" });
  edge.running.reload?.();
  expect((await open(edge.tlsPort, { servername: "a.example" })).getPeerCertificate().fingerprint256).toBe(
    renewed.fingerprint,
  );
});

/** A session that can be resumed, and the connection that it came from closed. */
async function sessionOf(port: number, version: "TLSv1.2" | "TLSv1.3"): Promise<Buffer> {
  const socket = await open(port, { servername: "a.example", minVersion: version, maxVersion: version });
  let session: Buffer | undefined = version === "TLSv1.2" ? socket.getSession() : undefined;
  socket.on("session", (one: Buffer) => {
    session = one;
  });
  await get(socket, "a.example");
  await until(() => session !== undefined, "a session ticket");
  socket.destroy();
  return session!;
}

test.each(["TLSv1.2", "TLSv1.3"] as const)(
  "a %s session of one server is resumed at another with the same secret, also behind a new certificate",
  async (version) => {
    const one = await start();
    const two = await start();
    const other = await start({ secret: Buffer.alloc(32, 8) });
    const session = await sessionOf(one.tlsPort, version);
    const options: ConnectionOptions = {
      servername: "a.example",
      minVersion: version,
      maxVersion: version,
      session,
    };
    const resumed = await open(two.tlsPort, options);
    expect(resumed.isSessionReused()).toBe(true);
    expect(await get(resumed, "a.example")).toMatch(/^HTTP\/1\.1 200 /);
    expect(await two.metric("tls_handshakes_total", { resumed: "yes" })).toBe(1);
    expect((await open(other.tlsPort, options)).isSessionReused()).toBe(false);
    keep("first", makeCertificate({ names: ["a.example"] }));
    two.running.reload?.();
    expect((await open(two.tlsPort, options)).isSessionReused()).toBe(true);
  },
);

test.each(["TLSv1.2", "TLSv1.3"] as const)(
  "a ticket of the period before is resumed and replaced, an older one is not (%s)",
  async (maxVersion) => {
    let now = (50 * TICKET_PERIOD_MS) as EpochMs;
    const server = createTlsServer({ cert: first.certPem, key: first.keyPem, maxVersion }, (socket) => {
      socket.on("error", () => {});
      socket.end("hello");
    });
    const keys = new TicketKeys(Buffer.alloc(32, 7));
    expect(useTicketKeys(server, keys, () => now)).toBe(true);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const visit = async (session?: Buffer): Promise<{ isReused: boolean; ticket: Buffer | undefined }> => {
      const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false, session });
      let ticket: Buffer | undefined;
      socket.on("session", (told: Buffer) => (ticket = told));
      socket.resume();
      await once(socket, "secureConnect");
      const isReused = socket.isSessionReused();
      await once(socket, "close");
      return { isReused, ticket };
    };
    try {
      const { ticket } = await visit();
      expect((await visit(ticket)).isReused).toBe(true);
      now = (now + TICKET_PERIOD_MS) as EpochMs;
      const renewed = await visit(ticket);
      expect(renewed.isReused).toBe(true);
      expect((await visit(renewed.ticket ?? ticket)).isReused).toBe(true);
      // A server whose clock is behind reads what one that is ahead has made.
      now = (now - TICKET_PERIOD_MS) as EpochMs;
      expect((await visit(renewed.ticket ?? ticket)).isReused).toBe(true);
      now = (now + 2 * TICKET_PERIOD_MS) as EpochMs;
      expect((await visit(ticket)).isReused).toBe(false);
      // Damaged ones are no reason to end, whatever of them is.
      for (let at = 60; at < (ticket?.byteLength ?? 0); at += 17) {
        const damaged = Buffer.from(ticket ?? []);
        damaged[at] = (damaged[at] ?? 0) ^ 0xff;
        await visit(damaged).catch(() => {});
      }
      expect((await visit()).isReused).toBe(false);
    } finally {
      server.close();
    }
  },
);

test("ordinary clients keep their connection and resume", async () => {
  const edge = await start();
  const agent = new Agent({ keepAlive: true, rejectUnauthorized: false, servername: "x.b.example" });
  for (let n = 0; n < 3; n++) {
    const outgoing = request({ port: edge.tlsPort, host: "127.0.0.1", path: "/", agent });
    outgoing.end();
    const [response] = (await once(outgoing, "response")) as [NodeJS.ReadableStream];
    let text = "";
    for await (const chunk of response) text += String(chunk);
    expect(text).toBe("hello");
  }
  agent.destroy();
  expect(await edge.metric("tls_handshakes_total")).toBe(1);
});

test("a drain ends idle secure connections and refuses new ones", async () => {
  const edge = await start();
  const idle = await open(edge.tlsPort, { servername: "a.example" });
  await get(idle, "a.example");
  const closed = once(idle, "close");
  edges.splice(edges.indexOf(edge), 1);
  expect(await edge.running.stop()).toBe(0);
  await closed;
  expect(await refusal(edge.tlsPort, {})).toBe("ECONNREFUSED");
});

test("a port in use is one line, and a certificate that does not fit too", async () => {
  const holder = createServer().listen(0, "127.0.0.1");
  await once(holder, "listening");
  const { port } = holder.address() as AddressInfo;
  const tls = { host: "127.0.0.1", unknownName: "default", ticketSecret: Buffer.alloc(32) } as const;
  await expect(
    startEdge(origin, {}, undefined, { ...tls, port, pairs: [keep("fine", first)] }),
  ).rejects.toThrow(/Cannot listen on 127\.0\.0\.1:\d+: the address is in use/);
  holder.close();
  const mixed = keep("mixed", { certPem: first.certPem, keyPem: second.keyPem });
  await expect(startEdge(origin, {}, undefined, { ...tls, port: 0, pairs: [mixed] })).rejects.toThrow(
    /Cannot use certificate ".*mixed\.crt": the private key does not belong to the first certificate$/,
  );
});

import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, connect, createServer as createNetServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls, createServer as createPlainTlsServer } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import { propertyDocument, Random } from "#kit";
import { systemClock } from "#kit/io";
import { dial, installWan, NodeTrust, OriginResolver, openTunnel, RelayServer, Transport } from "#transport";
import { RELAY_ALPN } from "../../transport/core/relay-policy.ts";
import { deluded, testAuthority } from "../tools/node-credentials.ts";
import { makeCertificate } from "../tools/certificates.ts";
import { requireProgram } from "../tools/processes.ts";
import {
  authority,
  clusterId,
  close,
  Lab,
  listen,
  logger,
  peerKey,
  serverId,
  topologyOf,
  until,
  wanOf,
} from "./transport-support.ts";

const cleanups: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const sites = (port: number, originPort: number) => [
  { id: "fra", role: "edge", ports: [1] },
  { id: "nyc", role: "relay", ports: [port] },
  { id: "sfo", role: "origin", ports: [originPort] },
];
/** Also of a server that the relay's topology has not. */
const everybody = topologyOf([...sites(2, 3), { id: "who", role: "edge", ports: [4] }]);
const edgeTrust = await authority.trust(everybody, "fra-1");
const relayTrust = await authority.trust(everybody, "nyc-1");

/** Sends raw bytes as a server of ours, or as nobody, and collects the answer until the peer closes or the head is complete. */
async function raw(
  port: number,
  text: string,
  trust: NodeTrust | undefined = edgeTrust,
): Promise<{ head: string; socket: Socket }> {
  const peer = trust?.clientOptions({ serverId: serverId("nyc-1"), roles: ["relay"] }, RELAY_ALPN);
  const socket = peer ? connectTls({ ...peer, port, host: "127.0.0.1" }) : connect(port, "127.0.0.1");
  socket.on("error", () => {});
  cleanups.push(() => void socket.destroy());
  socket.write(text);
  let head = "";
  while (!head.includes("\r\n\r\n")) {
    const [chunk] = (await once(socket, "data")) as [Buffer];
    head += chunk.toString();
  }
  return { head, socket };
}

async function relayTo(settings = {}, dialBy?: typeof dial) {
  const origin = await listen((_request, response) => response.end("through"));
  const stranger = await listen((_request, response) => response.end("secret"));
  const relay = new RelayServer({
    trust: relayTrust,
    clock: systemClock,
    logger,
    settings,
    ...(dialBy !== undefined && { dial: dialBy }),
    onRequest: (_request, response) => response.writeHead(404).end(),
  });
  const { port } = await relay.listen("127.0.0.1", 0);
  cleanups.push(
    () => relay.drain(0),
    () => close(origin.server),
    () => close(stranger.server),
  );
  relay.setTopology(topologyOf(sites(port, origin.port)));
  return { relay, port, origin, stranger };
}

const connectRequest = (target: string): string => `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`;

const trapProperty = () =>
  propertyDocument.parse({
    propertyId: "trap",
    customerId: "c",
    hostnames: ["trap.example"],
    origins: [
      { scheme: "http", host: "localhost", port: 81 },
      { scheme: "http", host: "127.0.0.1", port: 1 },
    ],
  });

describe("relay", () => {
  test("carries a proven peer to a permitted target, both ways, and counts bytes", async () => {
    const { relay, port, origin } = await relayTo();
    const target = `127.0.0.1:${origin.port}`;
    const { head, socket } = await raw(port, connectRequest(target));
    expect(head).toMatch(/^HTTP\/1\.1 200 /);
    socket.write(`GET / HTTP/1.1\r\nHost: ${target}\r\nConnection: close\r\n\r\n`);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).toString()).toMatch(/through/);
    expect(relay.counters.bytesDown).toBe(Buffer.concat(chunks).length);
    await until(() => relay.counters.tunnels === 0);
    expect(relay.counters.tunnelsPeak).toBe(1);
  });

  test("refuses strangers, unlisted targets and every trick, with the reason", async () => {
    const { relay, port, origin, stranger } = await relayTo();
    relay.setProperty("trap", trapProperty());
    const good = `127.0.0.1:${origin.port}`;
    const bad = `127.0.0.1:${stranger.port}`;
    await raw(port, connectRequest(good));
    const who = await authority.trust(everybody, "who-1");
    const cases: [string, NodeTrust | "nobody", number, string][] = [
      // Without TLS; what used to prove a peer is nothing now.
      [connectRequest(good), "nobody", 403, "not-proven"],
      [
        `CONNECT ${good} HTTP/1.1\r\nHost: a\r\nIsochrone-Peer: fra-1;1;a;b\r\n\r\n`,
        "nobody",
        403,
        "not-proven",
      ],
      [connectRequest(bad), "nobody", 403, "not-proven"],
      [connectRequest(good), who, 403, "unknown-peer"],
      // A relay that asks a relay.
      [connectRequest(good), relayTrust, 403, "role-not-served"],
      [connectRequest(bad), edgeTrust, 403, "target-not-permitted"],
      [connectRequest(`127.0.0.1:${port}`), edgeTrust, 403, "target-is-relay"],
      [connectRequest("localhost:22"), edgeTrust, 403, "target-not-permitted"],
      // Listed by a property, and still a trap: a name for this machine, an edge of ours.
      [connectRequest("localhost:81"), edgeTrust, 403, "target-not-permitted"],
      [connectRequest("127.0.0.1:1"), edgeTrust, 403, "target-not-permitted"],
      [connectRequest("169.254.169.254:80"), edgeTrust, 403, "target-not-permitted"],
      [connectRequest("[::1]x:80"), edgeTrust, 400, "malformed-target"],
    ];
    for (const [text, trust, status, reason] of cases) {
      const { head } = await raw(port, text, trust === "nobody" ? new NodeTrust() : trust);
      expect(head).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
      expect(head).toContain(`Isochrone-Relay-Reason: ${reason}\r\n`);
    }
    // Absolute-form requests are no way around, and a second CONNECT on a connection is the target's matter.
    for (const trust of [edgeTrust, new NodeTrust()]) {
      const { head } = await raw(port, `GET http://${bad}/ HTTP/1.1\r\nHost: ${bad}\r\n\r\n`, trust);
      expect(head).toMatch(/^HTTP\/1\.1 404 /);
    }
    expect(stranger.accepted).toBe(0);
    expect(origin.accepted).toBe(1);
    expect(relay.counters.outcomes).toEqual(
      new Map([
        ["granted", 1],
        ["not-proven", 3],
        ["unknown-peer", 1],
        ["role-not-served", 1],
        ["target-not-permitted", 5],
        ["target-is-relay", 1],
        ["malformed-target", 1],
      ]),
    );
  });

  test("hears nothing of who has no certificate of ours: none, another authority's, one that ran out, another deployment's", async () => {
    const stateDirectory = mkdtempSync(join(tmpdir(), "isochrone-authority-"));
    cleanups.push(() => rmSync(stateDirectory, { recursive: true, force: true }));
    const own = await testAuthority({ stateDirectory });
    const relay = new RelayServer({
      trust: await own.trust(everybody, "nyc-1"),
      clock: systemClock,
      logger,
      settings: { handshakesMax: 2, headersTimeoutMs: 1_000 },
      onRequest: (_request, response) => response.writeHead(404).end(),
    });
    const { port } = await relay.listen("127.0.0.1", 0);
    cleanups.push(() => relay.drain(0));
    const origin = await listen((_request, response) => response.end("secret"));
    cleanups.push(() => close(origin.server));
    relay.setTopology(topologyOf(sites(port, origin.port)));
    const target = `127.0.0.1:${origin.port}`;
    /** What is heard when everything that the relay shows is believed. */
    const heard = async (trust: NodeTrust, more: object = {}): Promise<string> => {
      const shown = trust.clientOptions({ serverId: serverId("nyc-1"), roles: ["relay"] }, RELAY_ALPN);
      const believed = { rejectUnauthorized: false, checkServerIdentity: () => undefined };
      const socket = connectTls({ ...shown, ...believed, ...more, port, host: "127.0.0.1" });
      cleanups.push(() => void socket.destroy());
      socket.on("error", () => {});
      let text = "";
      socket.on("data", (bytes: Buffer) => (text += bytes.toString()));
      socket.write(connectRequest(target));
      await new Promise<void>((resolve) => socket.once("close", () => resolve()));
      return text;
    };
    const fra = await own.trust(everybody, "fra-1");
    expect(await heard(fra, { key: undefined, cert: undefined })).toBe("");
    expect(await heard(edgeTrust)).toBe("");
    const ended = await testAuthority({ stateDirectory, validMs: -60_000 });
    expect(await heard(deluded(await ended.credentials(everybody, "fra-1")))).toBe("");
    const other = topologyOf([{ id: "fra", role: "edge", ports: [1] }]);
    expect(await heard(await own.trust({ ...other, name: "other" as typeof other.name }, "fra-1"))).toBe("");
    expect(await heard(fra, { ALPNProtocols: undefined })).toBe("");
    expect(await heard(fra, { ALPNProtocols: ["http/1.1"] })).toBe("");
    expect(Object.fromEntries(relay.counters.peers)).toEqual({
      "handshake-failed": 4,
      "other-topology": 1,
      "no-protocol": 1,
    });
    expect(origin.accepted).toBe(0);
    expect(relay.counters.outcomes.size).toBe(0);
    // Who says nothing, or stops within the handshake, holds a place for a second; there are as many places as were set.
    const silent = connect(port, "127.0.0.1");
    const half = connect(port, "127.0.0.1");
    for (const one of [silent, half]) {
      one.on("error", () => {});
      cleanups.push(() => void one.destroy());
    }
    half.write(Buffer.from([0x16, 3, 1]));
    const gone = Promise.all([once(silent, "close"), once(half, "close")]);
    await until(() => relay.handshakes === 2);
    expect(await heard(fra)).toBe("");
    expect(relay.counters.peers.get("too-many-handshakes")).toBe(1);
    await gone;
    await until(() => relay.handshakes === 0);
    const { head } = await raw(port, connectRequest(target), fra);
    expect(head).toMatch(/ 200 /);
  });

  test("a renewal leaves open tunnels; one whose certificate ends, or whose peer is taken out, is ended", async () => {
    const { relay, port, origin } = await relayTo();
    const target = `127.0.0.1:${origin.port}`;
    const opened = await raw(port, connectRequest(target));
    relayTrust.set(await authority.credentials(everybody, "nyc-1"));
    edgeTrust.set(await authority.credentials(everybody, "fra-1"));
    const after = await raw(port, connectRequest(target));
    expect(relay.counters.tunnels).toBe(2);
    opened.socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    const [answer] = (await once(opened.socket, "data")) as [Buffer];
    expect(answer.toString()).toMatch(/through/);
    // Its authority is the relay's from now on; what was opened before is not asked again.
    const short = await testAuthority({ validMs: 1_500 });
    const lasting = relayTrust.credentials;
    relayTrust.set(await short.credentials(everybody, "nyc-1"));
    const brief = await raw(port, connectRequest(target), await short.trust(everybody, "fra-1"));
    if (lasting) relayTrust.set(lasting);
    await once(brief.socket, "close");
    expect(relay.counters.expiredClosed).toBe(1);
    expect(relay.counters.tunnels).toBe(2);
    const closed = Promise.all([once(opened.socket, "close"), once(after.socket, "close")]);
    relay.setTopology(topologyOf(sites(port, origin.port).slice(1)));
    await closed;
    expect(relay.counters.removedClosed).toBe(2);
    expect(relay.counters.tunnels).toBe(0);
  });

  test("a name that leads to a private network is refused whenever it does (DNS rebinding)", async () => {
    // Public when the document was looked at, and at every second question.
    let asked = 0;
    const resolver = new OriginResolver({
      clock: systemClock,
      settings: { ttlMsMin: 0, staleAtOnceMs: 0 },
      lookup: () =>
        Promise.resolve({ addresses: asked++ % 2 === 0 ? ["10.0.0.7"] : ["192.168.0.7"], ttlMs: 0 }),
    });
    const { relay, port } = await relayTo({}, (options) => dial({ ...options, resolver }));
    relay.setProperty("trap", {
      ...trapProperty(),
      origins: [{ scheme: "http", host: "rebind.example", port: 80 }],
    });
    for (let n = 0; n < 3; n++) {
      const { head } = await raw(port, connectRequest("rebind.example:80"));
      expect(head).toMatch(/^HTTP\/1\.1 403 [^]*target-not-permitted/);
    }
    expect(asked).toBeGreaterThan(1);
  });

  test("shares a bounded rate, keeps account by customer, and a slow reader holds nobody up", async () => {
    const body = Buffer.alloc(400_000, 7);
    const { relay, port, origin } = await relayTo({ bytesPerSecondMax: 2_000_000 });
    origin.server.removeAllListeners("request");
    origin.server.on("request", (_request, response) => response.end(body));
    relay.setProperty("trap", {
      ...trapProperty(),
      origins: [{ scheme: "http", host: "127.0.0.1", port: origin.port }],
    });
    const target = `127.0.0.1:${origin.port}`;
    const fetchAll = async (): Promise<number> => {
      const { socket } = await raw(port, connectRequest(target));
      socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
      let bytes = 0;
      for await (const chunk of socket) bytes += (chunk as Buffer).length;
      return bytes;
    };
    const stuck = await raw(port, connectRequest(target));
    stuck.socket.pause();
    stuck.socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    const got = await Promise.all([fetchAll(), fetchAll(), fetchAll()]);
    for (const bytes of got) expect(bytes).toBeGreaterThan(body.length);
    expect(relay.heldBack).toBeGreaterThan(3);
    stuck.socket.destroy();
    await until(() => relay.counters.tunnels === 0);
    const account = relay.accounts.all.get("c");
    expect(account).toMatchObject({ tunnels: 0, opened: 4, bytesUp: relay.counters.bytesUp });
    expect(account?.bytesDown).toBe(relay.counters.bytesDown);
  });

  test("limits tunnels by peer, ends idle ones, and reports a dead target", async () => {
    const { relay, port, origin } = await relayTo({ tunnelsPerPeerMax: 2, idleMs: 300 });
    const target = `127.0.0.1:${origin.port}`;
    const ask = async (): Promise<string> => (await raw(port, connectRequest(target))).head;
    expect(await ask()).toMatch(/ 200 /);
    expect(await ask()).toMatch(/ 200 /);
    expect(await ask()).toContain("too-many-tunnels-of-peer");
    await until(() => relay.counters.idleClosed === 2);
    expect(relay.counters.tunnels).toBe(0);
    origin.server.closeAllConnections();
    await new Promise<void>((resolve) => origin.server.close(() => resolve()));
    expect(await ask()).toMatch(/^HTTP\/1\.1 502 [^]*target-unreachable/);
    expect(relay.counters.tunnels).toBe(0);
  });

  test("drains: no new tunnel, open ones end after the grace", async () => {
    const { relay, port, origin } = await relayTo();
    const target = `127.0.0.1:${origin.port}`;
    const { socket } = await raw(port, connectRequest(target));
    const closed = once(socket, "close");
    const startedMs = performance.now();
    await Promise.all([relay.drain(200), closed]);
    expect(performance.now() - startedMs).toBeGreaterThan(150);
    expect(relay.counters.tunnels).toBe(0);
  });
});

describe("what is said right behind CONNECT", () => {
  const SECURED = { servername: "www.shop.example" };
  const certificate = makeCertificate({ names: [SECURED.servername] });

  const tunnelTo = (relayPort: number, targetPort: number, signal?: AbortSignal, timeoutMs = 10_000) => {
    const entry = topologyOf(sites(relayPort, targetPort)).clusters[1]?.servers[0];
    if (entry === undefined) throw new Error("the topology has no relay");
    return openTunnel({
      relay: entry,
      target: { host: "127.0.0.1", port: targetPort },
      tls: { ...SECURED, ca: certificate.certPem },
      trust: edgeTrust,
      timeoutMs,
      signal,
    });
  };

  test("is the handshake with the target, which no relay that reads a stream has to be asked for", async () => {
    const body = Buffer.from(Array.from({ length: 300_000 }, (_, at) => (at * 7) >> 3));
    const origin = createTlsServer(
      { key: certificate.keyPem, cert: certificate.certPem },
      (_request, response) => response.end(body),
    );
    await new Promise<void>((resolve) => origin.listen(0, "127.0.0.1", resolve));
    const { port } = origin.address() as AddressInfo;
    // Grants nothing before the handshake is there, and then in pieces, the last of them with the first bytes of the target.
    const relay = createPlainTlsServer(relayTrust.serverOptions(RELAY_ALPN), (peer) => {
      let heard = Buffer.alloc(0);
      const onData = (bytes: Buffer): void => {
        heard = Buffer.concat([heard, bytes]);
        const end = heard.indexOf("\r\n\r\n") + 4;
        if (end < 4 || heard[end] !== 0x16) return;
        peer.off("data", onData);
        peer.write("HTTP/1.1 200 OK\r\nIsochrone-Relay-");
        const target = connect(port, "127.0.0.1");
        target.on("error", () => {});
        peer.on("error", () => {}).once("close", () => target.destroy());
        target.write(heard.subarray(end));
        peer.pipe(target);
        target.once("data", (first: Buffer) => {
          peer.write(Buffer.concat([Buffer.from("Reason: granted\r\n\r\n"), first]));
          target.pipe(peer);
        });
      };
      peer.on("data", onData);
    });
    await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
    cleanups.push(
      () => void relay.close(),
      () => close(origin),
    );
    const secured = await tunnelTo((relay.address() as AddressInfo).port, port);
    secured.write(`GET / HTTP/1.1\r\nHost: ${SECURED.servername}\r\nConnection: close\r\n\r\n`);
    const chunks: Buffer[] = [];
    for await (const chunk of secured) chunks.push(chunk as Buffer);
    const answer = Buffer.concat(chunks);
    expect(answer.subarray(answer.indexOf("\r\n\r\n") + 4).equals(body)).toBe(true);
  });

  test("is dropped with the connection when the relay refuses, for the reason that it gives", async () => {
    const { relay, port, origin, stranger } = await relayTo();
    await expect(tunnelTo(port, stranger.port)).rejects.toMatchObject({
      code: "relay-refused",
      message: expect.stringContaining("target-not-permitted") as string,
    });
    // Neither a request nor a tunnel to a permitted target is taken from behind a refusal.
    const behind = [
      `GET /livez HTTP/1.1\r\nHost: a\r\n\r\n`,
      connectRequest(`127.0.0.1:${origin.port}`),
      Buffer.alloc(100_000, "x").toString(),
    ];
    for (const text of behind) {
      const { head, socket } = await raw(port, connectRequest(`127.0.0.1:${stranger.port}`) + text);
      let all = head;
      socket.on("data", (bytes: Buffer) => (all += bytes.toString()));
      await new Promise<void>((resolve) => {
        if (socket.closed) resolve();
        else socket.once("close", () => resolve());
      });
      expect(all.match(/HTTP\/1\.1/g)).toHaveLength(1);
      expect(all).toMatch(/^HTTP\/1\.1 403 [^]*target-not-permitted/);
    }
    expect([stranger.accepted, origin.accepted]).toEqual([0, 0]);
    expect(relay.counters.outcomes).toEqual(new Map([["target-not-permitted", 4]]));
    expect(relay.counters.bytesUp).toBe(0);
  });

  test("ends with the reason while the relay connects: given up, out of time, the relay gone", async () => {
    let asked = 0;
    const { relay, port, origin } = await relayTo({}, ({ signal }) => {
      asked++;
      return new Promise((_resolve, reject) => {
        signal?.addEventListener("abort", () => reject(new Error("stopped")));
      });
    });
    const stop = new AbortController();
    const stopped = tunnelTo(port, origin.port, stop.signal);
    await until(() => asked === 1);
    stop.abort();
    await expect(stopped).rejects.toMatchObject({ code: "aborted", source: "downstream" });
    await expect(tunnelTo(port, origin.port, AbortSignal.abort())).rejects.toMatchObject({ code: "aborted" });
    await expect(tunnelTo(port, origin.port, undefined, 500)).rejects.toMatchObject({
      code: "connect-timeout",
    });
    await until(() => relay.counters.tunnels === 0);
    const broken = tunnelTo(port, origin.port);
    await until(() => relay.counters.tunnels === 1);
    await Promise.all([relay.drain(0), expect(broken).rejects.toMatchObject({ code: "relay-broken" })]);
  });

  test("waits in bounds while the relay connects, and comes to the target in its order", async () => {
    const received: Buffer[] = [];
    let receivedBytes = 0;
    const sink = createNetServer((socket) =>
      socket.on("data", (bytes: Buffer) => {
        received.push(bytes);
        receivedBytes += bytes.length;
      }),
    );
    await new Promise<void>((resolve) => sink.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => void sink.close());
    const target = (sink.address() as AddressInfo).port;
    let connectNow = (): void => {};
    const may = new Promise<void>((resolve) => (connectNow = resolve));
    let isAsked = false;
    const { relay, port } = await relayTo({}, async (options) => {
      isAsked = true;
      await may;
      return await dial(options);
    });
    relay.setTopology(topologyOf(sites(port, target)));
    const peer = edgeTrust.clientOptions({ serverId: serverId("nyc-1"), roles: ["relay"] }, RELAY_ALPN);
    const socket = connectTls({ ...peer, port, host: "127.0.0.1" });
    socket.on("error", () => {}).resume();
    cleanups.push(() => void socket.destroy());
    const sent = Buffer.from(Array.from({ length: 1_000_000 }, (_, at) => (at * 13) >> 5));
    const TIMES = 32;
    socket.write(connectRequest(`127.0.0.1:${target}`));
    for (let n = 0; n < TIMES; n++) socket.write(sent);
    await until(() => isAsked);
    await new Promise((resolve) => setTimeout(resolve, 500));
    // What the kernel holds, and one mark of a socket.
    expect(socket.writableLength).toBeGreaterThan(sent.length);
    connectNow();
    await until(() => receivedBytes === TIMES * sent.length, 30_000);
    const all = Buffer.concat(received);
    for (let n = 0; n < TIMES; n++)
      expect(all.subarray(n * sent.length, (n + 1) * sent.length).equals(sent)).toBe(true);
    expect(relay.counters.bytesUp).toBe(TIMES * sent.length);
  });

  test("counts for the customer's share of a bounded rate", async () => {
    let receivedBytes = 0;
    const sink = createNetServer((socket) =>
      socket.on("data", (bytes: Buffer) => (receivedBytes += bytes.length)),
    );
    await new Promise<void>((resolve) => sink.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => void sink.close());
    const target = (sink.address() as AddressInfo).port;
    let asked = 0;
    let connectNow = (): void => {};
    const may = new Promise<void>((resolve) => (connectNow = resolve));
    const { relay, port } = await relayTo({ bytesPerSecondMax: 50_000 }, async (options) => {
      asked++;
      await may;
      return await dial(options);
    });
    relay.setTopology(topologyOf(sites(port, target)));
    const early = Buffer.alloc(40_000, 7);
    const open = (): void => {
      const peer = edgeTrust.clientOptions({ serverId: serverId("nyc-1"), roles: ["relay"] }, RELAY_ALPN);
      const socket = connectTls({ ...peer, port, host: "127.0.0.1" });
      socket.on("error", () => {}).resume();
      cleanups.push(() => void socket.destroy());
      socket.write(Buffer.concat([Buffer.from(connectRequest(`127.0.0.1:${target}`)), early]));
    };
    for (let n = 0; n < 3; n++) open();
    await until(() => asked === 3);
    await new Promise((resolve) => setTimeout(resolve, 200));
    connectNow();
    await until(() => receivedBytes === 3 * early.length, 30_000);
    expect(relay.counters.bytesUp).toBe(3 * early.length);
    // One fits into what the rate lets pass at once; who comes after it waits before it is read on.
    expect(relay.heldBack).toBeGreaterThan(0);
  });
});

/** A CA and a certificate for www.shop.example, or undefined where there is no openssl. */
function certificates(): { ca: string; key: string; cert: string } | undefined {
  const directory = mkdtempSync(join(tmpdir(), "isochrone-tls-"));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  const program = requireProgram("openssl");
  if (program === undefined) return undefined;
  const openssl = (...args: string[]): void => {
    execFileSync(program, args, { cwd: directory, stdio: "pipe" });
  };
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  openssl("req", "-x509", ...curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA");
  openssl(
    "req",
    "-x509",
    ...curve,
    "-keyout",
    "k.pem",
    "-out",
    "c.pem",
    "-subj",
    "/CN=www.shop.example",
    "-addext",
    "subjectAltName=DNS:www.shop.example",
    "-CA",
    "ca.pem",
    "-CAkey",
    "ca.key",
  );
  const read = (name: string): string => readFileSync(join(directory, name), "utf8");
  return { ca: read("ca.pem"), key: read("k.pem"), cert: read("c.pem") };
}

test("a TLS origin through a relay: verified end to end, refused under another name or authority", async ({
  skip,
}) => {
  const made = certificates();
  if (made === undefined) {
    skip("openssl is not installed");
    return;
  }
  const { ca, key, cert } = made;
  const server = createTlsServer({ key, cert, keepAliveTimeout: 60_000 }, (request, response) => {
    response.end(`secure ${request.headers.host ?? ""}`);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const origin = { server: server as never, port: (server.address() as AddressInfo).port, accepted: 0 };
  const lab = await Lab.start({
    origin,
    links: { "fra|sfo": 200, "fra|nyc": 20 },
    relayLegMs: 20,
    scheme: "https",
    hostHeader: "www.shop.example",
    settings: { ca },
  });
  cleanups.push(() => lab.close());
  lab.transport.start();
  await until(() => lab.transport.explainPath(lab.target).chosen.via === "nyc");
  expect(await lab.get("/")).toMatchObject({ status: 200, text: "secure www.shop.example", via: "nyc" });
  const other = (hostHeader: string, trust: string | undefined): Promise<unknown> => {
    const transport = new Transport({
      selfServerId: serverId("fra-1"),
      selfClusterId: clusterId("fra"),
      topology: lab.topology,
      peerKey,
      clock: systemClock,
      logger,
      settings: { ca: trust },
    });
    cleanups.push(() => transport.close());
    const target = { kind: "origin", origin: { ...lab.target.origin, hostHeader } } as const;
    return transport.request(target, { method: "GET", path: "/", headers: [] });
  };
  await expect(other("www.evil.example", ca)).rejects.toMatchObject({ code: "tls-failed" });
  await expect(other("www.shop.example", undefined)).rejects.toMatchObject({ code: "tls-failed" });
});

describe("dial in an emulated network", () => {
  const sites = (port: number) => [
    { id: "fra", role: "edge", ports: [1] },
    { id: "sfo", role: "origin", ports: [port] },
  ];

  test("a connection costs a round trip, a cut one times out, and healing lets it through", async () => {
    const origin = await listen((_request, response) => response.end());
    cleanups.push(() => close(origin.server));
    cleanups.push(() => installWan(undefined));
    const target = { host: "127.0.0.1", port: origin.port };
    installWan(wanOf(sites(origin.port), "fra", { "fra|sfo": 120 }));
    const startedMs = performance.now();
    (await dial(target)).destroy();
    expect(performance.now() - startedMs).toBeGreaterThanOrEqual(118);
    installWan(wanOf(sites(origin.port), "fra", { "fra|sfo": 120 }, [["sfo", "fra"]]));
    await expect(dial({ ...target, timeoutMs: 300 })).rejects.toMatchObject({
      code: "connect-timeout",
      retry: "safe",
    });
    expect(origin.accepted).toBe(1);
    const waiting = dial({ ...target, timeoutMs: 5_000 });
    installWan(wanOf(sites(origin.port), "fra", { "fra|sfo": 10 }));
    (await waiting).destroy();
    installWan(wanOf(sites(origin.port), "sfo", { "fra|sfo": 500 }));
    const ownMs = performance.now();
    (await dial(target)).destroy();
    expect(performance.now() - ownMs).toBeLessThan(200);
  });

  test("bandwidth is felt, order and bytes are kept, losses delay", async () => {
    const sent = Buffer.from(Array.from({ length: 500_000 }, (_, index) => (index * 7) % 256));
    const origin = await listen((_request, response) => response.end(sent));
    cleanups.push(() => close(origin.server));
    cleanups.push(() => installWan(undefined));
    const random = new Random(7);
    const fetchMs = async (link: {
      rttMs: number;
      lossRatio?: number;
      bandwidthMbps?: number;
    }): Promise<number> => {
      installWan(wanOf(sites(origin.port), "fra", { "fra|sfo": link }), () => random.float());
      const startedMs = performance.now();
      const connection = await dial({ host: "127.0.0.1", port: origin.port });
      connection.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
      const chunks: Buffer[] = [];
      for await (const chunk of connection) chunks.push(chunk as Buffer);
      const all = Buffer.concat(chunks);
      expect(all.subarray(all.indexOf("\r\n\r\n") + 4).equals(sent)).toBe(true);
      return performance.now() - startedMs;
    };
    const fast = await fetchMs({ rttMs: 20 });
    expect(fast).toBeGreaterThan(38);
    // 4 Mbit at 8 Mbit/s: half a second.
    expect(await fetchMs({ rttMs: 20, bandwidthMbps: 8 })).toBeGreaterThan(500);
    expect(await fetchMs({ rttMs: 20, lossRatio: 0.05 })).toBeGreaterThan(200);
  });
});

/** The UDP carrier over real sockets: keys from a TLS 1.3 session, another process at the other end, and a relay between that loses. */
import { type ChildProcess, fork } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo } from "node:net";
import { join } from "node:path";
import { connect, createServer, type TLSSocket } from "node:tls";
import { afterEach, expect, test } from "vitest";
import { Random } from "#kit";
import { HEADER_BYTES, TAG_BYTES } from "../../transport/core/udp/words.ts";
import { exportUdpSecret, PacketKeys, UdpEndpoint, udpNameOf } from "#transport";
import { makeCertificate } from "../tools/certificates.ts";

const HOST = "127.0.0.1";
const endings: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of endings.splice(0)) await end();
});

/** The server's process: opens a connection with the secret, and answers each request (4 bytes: how many) on its channel. */
async function startServer(secret: Buffer): Promise<number> {
  const child: ChildProcess = fork(join(import.meta.dirname, "../tools/udp-answerer.ts"), [
    secret.toString("hex"),
  ]);
  endings.push(() => child.kill());
  const [{ port }] = (await once(child, "message")) as [{ port: number }];
  return port;
}

/** Forwards both ways, and loses some of what comes from the server. */
async function lossyRelay(port: number, lossRatio: number): Promise<number> {
  const random = new Random("relay");
  const relay: Socket = createSocket("udp4");
  let client = 0;
  relay.on("message", (datagram, from) => {
    if (from.port !== port) {
      client = from.port;
      relay.send(datagram, port, HOST);
    } else if (random.float() >= lossRatio) relay.send(datagram, client, HOST);
  });
  relay.bind(0, HOST);
  await once(relay, "listening");
  endings.push(() => relay.close());
  return relay.address().port;
}

/** Asks for so many bytes on each of the channels at once; what came on each. */
async function fetchAll(
  secret: Buffer,
  port: number,
  bytes: number,
  channels: number,
  { host = HOST, isPlain = false } = {},
) {
  const endpoint = await UdpEndpoint.bind(host, 0, { isPlain });
  if (process.platform === "linux") expect(endpoint.isBatched).toBe(!isPlain);
  endings.push(() => endpoint.close());
  const hashes = Array.from({ length: channels }, () => ({ hash: createHash("sha256"), bytes: 0 }));
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let whole = 0;
  const link = endpoint.open({
    secret,
    role: "client",
    address: host,
    port,
    isRemoteValidated: true,
    onEvent: (event) => {
      if (event.kind === "closed") reject(new Error(`Connection ended: ${event.reason}`));
      if (event.kind !== "data") return;
      const came = hashes[event.channel] as (typeof hashes)[number];
      came.hash.update(event.bytes);
      came.bytes += event.bytes.length;
      if (came.bytes === bytes && ++whole === channels) resolve();
    },
  });
  if (link === undefined) throw new Error("No connection could be opened");
  const request = Buffer.alloc(4);
  request.writeUInt32BE(bytes);
  for (let channel = 0; channel < channels; channel++) link.send(channel, Buffer.from(request));
  await promise;
  return { digests: hashes.map(({ hash }) => hash.digest("hex")), endpoint, link };
}
/** A connection on whose channel 0 one answer after the other is asked for. */
async function opened(secret: Buffer, port: number) {
  const endpoint = await UdpEndpoint.bind(HOST, 0);
  endings.push(() => endpoint.close());
  let left = 0;
  let whole = (): void => {};
  const link = endpoint.open({
    secret,
    role: "client",
    address: HOST,
    port,
    isRemoteValidated: true,
    onEvent: (event) => {
      if (event.kind !== "data") return;
      left -= event.bytes.length;
      if (left === 0) whole();
    },
  });
  if (link === undefined) throw new Error("No connection could be opened");
  const ask = (bytes: number): Promise<void> => {
    const request = Buffer.alloc(4);
    request.writeUInt32BE(bytes);
    left = bytes;
    link.send(0, request);
    return new Promise((resolve) => (whole = resolve));
  };
  return { link, ask };
}
const expected = (channel: number, bytes: number): string =>
  createHash("sha256")
    .update(Buffer.alloc(bytes, `channel ${channel} `))
    .digest("hex");

test.each([false, true])(
  "another process answers, over a path that loses 3 % of its datagrams (one by one: %s)",
  {
    timeout: 60_000,
  },
  async (isPlain) => {
    const secret = randomBytes(32);
    const port = await lossyRelay(await startServer(secret), 0.03);
    const { digests, link } = await fetchAll(secret, port, 300_000, 8, { isPlain });
    expect(digests).toEqual(digests.map((_, channel) => expected(channel, 300_000)));
    expect(link.srttMs).toBeGreaterThan(0);
    expect(link.counters.receivedPackets).toBeGreaterThan(1_500);
  },
);

test("IPv6, in whatever form the address is written", { timeout: 60_000 }, async () => {
  const secret = randomBytes(32);
  const server = await UdpEndpoint.bind("::1", 0);
  endings.push(() => server.close());
  const asked: string[] = [];
  const answerer = server.open({
    secret,
    role: "server",
    address: "::1",
    port: 9,
    isRemoteValidated: false,
    onEvent: (event) => {
      if (event.kind === "data")
        answerer?.send(event.channel, Buffer.alloc(300_000, `channel ${event.channel} `));
      else asked.push(event.kind);
    },
  });
  const { digests } = await fetchAll(secret, server.port, 300_000, 4, { host: "0:0:0:0:0:0:0:1" });
  expect(digests).toEqual(digests.map((_, channel) => expected(channel, 300_000)));
  // Once, from port 9: who is told of in batches has the same text as who is told of by node:dgram.
  expect(asked.filter((kind) => kind === "moved")).toHaveLength(1);
});

test("a socket that closes tells the other sides, and a connection that has ended is forgotten", {
  timeout: 60_000,
}, async () => {
  const secret = randomBytes(32);
  const server = await UdpEndpoint.bind(HOST, 0);
  const client = await UdpEndpoint.bind(HOST, 0);
  endings.push(() => server.close());
  const events: string[] = [];
  const common = { secret, address: HOST, isRemoteValidated: true };
  server.open({
    ...common,
    role: "server",
    port: client.port,
    onEvent: (event) => void events.push(event.kind === "closed" ? event.reason : event.kind),
  });
  const link = client.open({ ...common, role: "client", port: server.port, onEvent: () => {} });
  link?.send(0, Buffer.from("last words"));
  await client.close();
  await expect.poll(() => events, { timeout: 20_000 }).toEqual(["data", "done"]);
  expect([server.connections, client.connections]).toEqual([0, 0]);
});

test("two ends of a TLS 1.3 session export one secret, others another", { timeout: 60_000 }, async () => {
  const { certPem: cert, keyPem: key } = makeCertificate({ names: ["udp.test"] });
  const server = createServer({ cert, key, minVersion: "TLSv1.3" });
  server.listen(0, HOST);
  await once(server, "listening");
  endings.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  const session = async (): Promise<[TLSSocket, TLSSocket]> => {
    const accepted = once(server, "secureConnection") as Promise<[TLSSocket]>;
    const client = connect({ host: HOST, port, rejectUnauthorized: false });
    await once(client, "secureConnect");
    const [socket] = await accepted;
    endings.push(() => client.destroy());
    return [client, socket];
  };
  const [client, other] = await session();
  const [stranger] = await session();
  const secret = exportUdpSecret(client, 1) as Buffer;
  expect(secret).toHaveLength(32);
  expect(exportUdpSecret(other, 1)).toEqual(secret);
  expect(exportUdpSecret(client, 2)).not.toEqual(secret);
  expect(exportUdpSecret(stranger, 1)).not.toEqual(secret);
  expect(udpNameOf(secret, "client")).not.toEqual(udpNameOf(secret, "server"));
});

test("a process that was late reads what has come before it takes its time for up", {
  timeout: 60_000,
}, async () => {
  const secret = randomBytes(32);
  const port = await startServer(secret);
  const { link, ask } = await opened(secret, port);
  for (let round = 0; round < 20; round++) await ask(20_000);
  const { probeTimeouts } = link.counters;
  const answered = ask(20_000);
  // The request leaves; then this process has no processor until its answer has come for long, and its timer is due.
  await new Promise((resolve) => setImmediate(resolve));
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2_000);
  await answered;
  expect(link.counters.probeTimeouts).toBe(probeTimeouts);
});

test("a stranger's datagrams reach nobody, and a name is opened once", { timeout: 60_000 }, async () => {
  const endpoint = await UdpEndpoint.bind(HOST, 0);
  endings.push(() => endpoint.close());
  const secret = randomBytes(32);
  const options = { secret, role: "server" as const, address: HOST, port: 9, isRemoteValidated: false };
  const link = endpoint.open({ ...options, onEvent: () => {} });
  expect(endpoint.open({ ...options, onEvent: () => {} })).toBeUndefined();
  const socket = createSocket("udp4");
  endings.push(() => socket.close());
  const forged = Buffer.alloc(100, 7);
  forged[0] = 0x54;
  Buffer.from(udpNameOf(secret, "server")).copy(forged, 1);
  for (const datagram of [randomBytes(40), Buffer.from("short"), forged])
    socket.send(datagram, endpoint.port, HOST);
  await expect
    .poll(() => [endpoint.counters.unknownDatagrams, link?.counters.droppedDatagrams], { timeout: 20_000 })
    .toEqual([2, 1]);
  expect(link?.counters.sentPackets).toBe(0);
  expect(endpoint.connections).toBe(1);
});

test("packets open under their number, epoch and head alone, and only late ones under an older key", () => {
  const secret = randomBytes(32);
  const client = new PacketKeys(secret, "client");
  const server = new PacketKeys(secret, "server");
  const sealed = (number: number, epoch: number): Uint8Array => {
    const packet = new Uint8Array(HEADER_BYTES + 20 + TAG_BYTES).fill(5);
    client.seal(packet, HEADER_BYTES, HEADER_BYTES + 20, number, epoch);
    return packet;
  };
  const opens = (packet: Uint8Array, number: number, epoch: number): boolean =>
    server.open(packet.slice(), HEADER_BYTES, packet.length, number, epoch);
  // A stranger's packet that claims the next epoch comes first, and makes its key.
  expect(opens(new Uint8Array(60), 0, 1)).toBe(false);
  const late = sealed(2 ** 40 + 3, 0);
  expect(opens(late, 2 ** 40 + 3, 0)).toBe(true);
  expect(opens(late, 2 ** 40 + 4, 0)).toBe(false);
  expect(opens(late, 3, 0)).toBe(false);
  expect(opens(late, 2 ** 40 + 3, 1)).toBe(false);
  expect(client.open(late.slice(), HEADER_BYTES, late.length, 2 ** 40 + 3, 0)).toBe(false);
  for (let at = 0; at < late.length; at++) {
    const changed = late.slice();
    changed[at] = (changed[at] as number) ^ 1;
    expect(opens(changed, 2 ** 40 + 3, 0)).toBe(false);
  }
  expect(opens(sealed(9, 1), 9, 1)).toBe(true);
  expect(opens(late, 2 ** 40 + 3, 0)).toBe(true);
  expect(opens(sealed(10, 6), 10, 6)).toBe(true);
  expect(opens(late, 2 ** 40 + 3, 0)).toBe(false);
});

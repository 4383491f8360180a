/** Peers over TCP and TLS that take much: long answers, slow readers, those who go on sending, those who shake no hand. */
import { once } from "node:events";
import { createSocket } from "node:dgram";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, describe, expect, it } from "vitest";
import { createLogger } from "#kit/io";
import { DnsCounters, DnsServer, hmac } from "#mapping";
import { HostedZone } from "../../mapping/core/zone/hosted-zone.ts";
import { TsigSigner } from "../../mapping/core/zone/tsig.ts";
import { makeCertificate } from "../tools/certificates.ts";
import { waitFor } from "../tools/processes.ts";
import { queryFor, zoneFrom } from "../tools/zones/hosted.ts";
import { keys } from "../tools/zones/transfer.ts";
import { context, query } from "../unit/mapping-dns/fixture.ts";

type Settings = NonNullable<Parameters<typeof DnsServer.listen>[0]["tcp"]>;

const RECORDS = 100_000;
const zone = HostedZone.of(
  zoneFrom(`$ORIGIN big.test.\n$TTL 300\n@ SOA ns h 1 2 1 4 30\n@ NS ns\ntext TXT "${"x".repeat(250)}"\n`),
);
/** Records of {@link endless} that were asked for. */
let made = 0;
/** The zone with the same record very often: 27 MB in a transfer, more than the system's buffers hold. */
const endless: HostedZone = Object.create(zone, {
  recordsWithSoaTwice: {
    value: function* () {
      const [record] = [...zone.recordsWithSoaTwice()].filter(({ type }) => type === 16);
      yield zone.soa;
      for (made = 0; made < RECORDS; made++) yield record;
      yield zone.soa;
    },
  },
}) as HostedZone;
const state = {
  ...context(),
  transfers: new Map([["big.test", { zone: endless, history: [], keyName: "xfer.example" }]]),
};

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function listen(
  tcp: Settings,
  more: Partial<Parameters<typeof DnsServer.listen>[0]> = {},
): Promise<DnsServer> {
  const server = await DnsServer.listen({
    address: "127.0.0.1",
    port: 0,
    context: () => state,
    counters: new DnsCounters(),
    logger: createLogger({ role: "nameserver", id: "test" }, { level: "silent" }),
    service: { tsig: { keys, hmac } },
    tcp,
    ...more,
  });
  closers.push(() => server.close());
  return server;
}
async function open(port: number, from = "127.0.0.1"): Promise<Socket> {
  const socket = connect({ port, host: "127.0.0.1", localAddress: from, allowHalfOpen: true });
  socket.on("error", () => {});
  closers.push(() => socket.destroy());
  await once(socket, "connect");
  return socket;
}
const framed = (bytes: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
const axfr = (): Buffer =>
  framed(
    new TsigSigner(keys.get("xfer.example")!, hmac, new Uint8Array()).sign(
      queryFor(["big", "test"], 252),
      Math.floor(Date.now() / 1_000),
    ),
  );

/** Reads messages to the end of the stream; `pause` is waited for after each megabyte. @returns records of each answer */
async function answersOf(
  socket: Socket,
  pause: () => Promise<void> = async () => {},
): Promise<readonly number[]> {
  const counts: number[] = [];
  let rest: Buffer = Buffer.alloc(0);
  let read = 0;
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
      counts.push(rest.readUInt16BE(2 + 6));
      rest = rest.subarray(2 + rest.readUInt16BE(0));
    }
    const before = read;
    read += chunk.length;
    if (read >> 20 !== before >> 20) await pause();
  }
  expect(rest.length).toBe(0);
  return counts;
}
const sum = (counts: readonly number[]): number => counts.reduce((all, one) => all + one, 0);

describe("a long transfer", () => {
  it("lets others have their answers meanwhile, and is made no faster than it is read", async () => {
    const { port } = await listen({});
    const socket = await open(port);
    socket.pause();
    socket.write(axfr());
    const other = createSocket("udp4");
    closers.push(() => other.close());
    await waitFor(() => made > 0, { timeoutMs: 10_000, what: "the transfer to begin" });
    for (let n = 0; n < 20; n++) {
      const answer = once(other, "message");
      other.send(query(), port, "127.0.0.1");
      await answer;
    }
    expect(made).toBeLessThan(RECORDS);
    expect(await stood()).toBeLessThan(RECORDS);
    // What is asked behind it is answered behind it, and a FIN ends the connection then.
    socket.end(framed(query()));
    const counts = await answersOf(socket);
    expect(sum(counts)).toBe(RECORDS + 2 + 2);
    expect(counts.at(-1)).toBe(2);
  });

  /** How many records are made when no more are, for who reads nothing. */
  async function stood(): Promise<number> {
    let before = -1;
    await waitFor(
      () => {
        const isSame = made === before;
        before = made;
        return isSame;
      },
      { timeoutMs: 30_000, what: "the transfer to wait for its reader" },
    );
    return before;
  }

  it("goes on for as long as it is read, also beyond the time for idle peers; who reads nothing is cut off", async () => {
    const server = await listen({ idleTimeoutMs: 1_500 });
    const slow = await open(server.port);
    slow.end(axfr());
    const counts = await answersOf(slow, () => new Promise((resolve) => setTimeout(resolve, 150)));
    expect(sum(counts)).toBe(RECORDS + 2);
    expect(server.socketCounters["tcp-timed-out"]).toBe(0);
    const stuck = await open(server.port);
    stuck.pause();
    stuck.write(axfr());
    await waitFor(() => server.socketCounters["tcp-timed-out"] === 1, {
      timeoutMs: 20_000,
      what: "who reads nothing to be cut off",
    });
  });
});

it("keeps nothing of what is sent after the last query that a connection may ask", async () => {
  const server = await listen({ queriesMax: 2, idleTimeoutMs: 60_000 });
  const socket = await open(server.port);
  socket.resume();
  socket.write(Buffer.concat([framed(query()), framed(query())]));
  await once(socket, "end");
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
  const before = process.memoryUsage().arrayBuffers;
  const piece = Buffer.alloc(1 << 20, 1);
  for (let n = 0; n < 24; n++) if (!socket.write(piece)) await once(socket, "drain");
  // What nobody keeps is given back a moment after it was collected.
  const isGivenBack = (): boolean => {
    collect();
    return process.memoryUsage().arrayBuffers < before + (8 << 20);
  };
  await waitFor(isGivenBack, { timeoutMs: 20_000, what: "what was sent to be given back" });
  expect(server.tcpConnections).toBe(1);
});

it("DNS over TLS: one address cannot take all connections by shaking no hand", async () => {
  const directory = mkdtempSync(join(tmpdir(), "isochrone-dot-"));
  closers.push(() => rmSync(directory, { recursive: true }));
  const files = { certificateFile: join(directory, "c.pem"), keyFile: join(directory, "k.pem") };
  const { certPem, keyPem } = makeCertificate({ names: ["ns.test"] });
  writeFileSync(files.certificateFile, certPem);
  writeFileSync(files.keyFile, keyPem);
  const server = await listen(
    { connectionsMax: 4, connectionsPerAddressMax: 3 },
    { tls: { host: "127.0.0.1", port: 0, files } },
  );
  const tlsPort = server.tlsPort ?? 0;
  const silent = await Promise.all(Array.from({ length: 8 }, () => open(tlsPort)));
  await waitFor(() => server.socketCounters["tls-refused"] === 5, {
    timeoutMs: 10_000,
    what: "five to be refused",
  });
  const socket = connectTls({
    socket: await open(tlsPort, "127.0.0.2"),
    servername: "ns.test",
    ca: certPem,
    ALPNProtocols: ["dot"],
  });
  closers.push(() => socket.destroy());
  await once(socket, "secureConnect");
  socket.write(framed(query()));
  const [answer] = (await once(socket, "data")) as [Buffer];
  expect(answer.readUInt16BE(2 + 6)).toBe(2);
  // A place that is left is free again.
  for (const one of silent) one.destroy();
  await waitFor(
    async () => {
      const socket = connectTls({ port: tlsPort, host: "127.0.0.1", servername: "ns.test", ca: certPem });
      const isServed = await Promise.race([
        once(socket, "secureConnect").then(() => true),
        once(socket, "close").then(() => false),
      ]).catch(() => false);
      socket.on("error", () => {}).destroy();
      return isServed;
    },
    { timeoutMs: 10_000, what: "a place" },
  );
});

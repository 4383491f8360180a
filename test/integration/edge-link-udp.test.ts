/**
 * An edge's front and a server's transport with UDP below the link, over real sockets and the emulated network: what is asked gets the same answers, whatever becomes of UDP.
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { Readable } from "node:stream";
import { afterEach, expect, test } from "vitest";
import { type Answer, EdgeMetrics, EdgeServer, type EdgeSettings, edgeDefaults } from "#edge";
import { systemClock } from "#kit/io";
import { installWan, PeerVerifier, Transport, type TransportSettings } from "#transport";
import { authority, clusterId, logger, peerKey, serverId, topologyOf, wanOf } from "./transport-support.ts";

const LONG = { timeout: 90_000 };
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const sitesOf = (port: number) => [
  { id: "fra", role: "edge", ports: [1] },
  { id: "iad", role: "parent", ports: [port] },
];
const edgeTrust = await authority.trust(topologyOf(sitesOf(2)), "fra-1");
const parentTrust = await authority.trust(topologyOf(sitesOf(2)), "iad-1");
const parent = { kind: "server", serverId: serverId("iad-1") } as const;
const record = { outcome: "hit", status: undefined, propertyId: undefined, upstream: undefined } as const;
const LARGE = Buffer.from(Array.from({ length: 3_000_000 }, (_, at) => (at * 7) >> 5));

/** `/N`: the first N bytes of LARGE, of which ranges may be asked. */
function handle({ head }: Parameters<ConstructorParameters<typeof EdgeServer>[0]["handle"]>[0]): Answer {
  const whole = LARGE.subarray(0, Number(head.target.slice(1)));
  const [, from] = /^bytes=(\d+)-/.exec(head.fields.find(([name]) => /^range$/i.test(name))?.[1] ?? "") ?? [];
  const content = whole.subarray(Number(from ?? 0));
  const fields: Answer["fields"] = [
    ["ETag", '"one"'],
    ...(from === undefined
      ? []
      : ([["Content-Range", `bytes ${from}-${whole.byteLength - 1}/${whole.byteLength}`]] as const)),
  ];
  return {
    status: from === undefined ? 200 : 206,
    fields,
    body: Readable.from(piecesOf(content)),
    bodyBytes: content.byteLength,
    record,
  };
}

function* piecesOf(content: Buffer): Generator<Buffer> {
  for (let at = 0; at < content.byteLength; at += 16_384) yield content.subarray(at, at + 16_384);
}

async function serverOf(settings: Partial<EdgeSettings> = {}) {
  const metrics = new EdgeMetrics();
  const server = new EdgeServer({
    handle,
    admin: () => undefined,
    verifier: new PeerVerifier({ key: peerKey, clock: systemClock }),
    settings: { ...edgeDefaults, drainTimeoutMs: 2_000, ...settings },
    clock: systemClock,
    metrics,
    logger,
    onServed: undefined,
    link: { trust: parentTrust, mayCome: () => true },
  });
  const port = await server.listen("127.0.0.1", 0);
  await server.openLinkUdp("localhost", port);
  cleanups.push(() => server.drain());
  const metric = async (name: string): Promise<number> => {
    const found = await metrics.registry.getSingleMetric(`isochrone_edge_${name}`)?.get();
    return (found?.values ?? []).reduce((sum, { value }) => sum + value, 0);
  };
  return { server, port, metric };
}

function transportTo(port: number, settings: Partial<TransportSettings> = {}): Transport {
  const transport = new Transport({
    selfServerId: serverId("fra-1"),
    selfClusterId: clusterId("fra"),
    topology: topologyOf(sitesOf(port)),
    peerKey,
    trust: edgeTrust,
    clock: systemClock,
    logger,
    settings,
  });
  cleanups.push(() => transport.close());
  return transport;
}

async function ask(transport: Transport, bytes: number) {
  const response = await transport.request(parent, {
    method: "GET",
    path: `/${bytes}`,
    headers: [["Host", "www.shop.example"]],
  });
  const pieces: Buffer[] = [];
  for await (const piece of response.body) pieces.push(piece as Buffer);
  const isGood = Buffer.concat(pieces).equals(LARGE.subarray(0, bytes));
  return { isGood, protocol: response.protocol, resumes: response.resumes() };
}

const udpOf = (transport: Transport) => transport.explainPath(parent).link?.udp;

/** Asks until UDP is found to pay, as `explain` says it. */
async function paying(transport: Transport): Promise<void> {
  for (let turn = 0; udpOf(transport)?.reason !== "pays"; turn++) {
    if (turn > 1_000) throw new Error(`UDP does not pay: ${JSON.stringify(udpOf(transport))}`);
    await Promise.all(Array.from({ length: 8 }, () => ask(transport, 40_000)));
  }
}

/** Distance and loss between the two. */
function distance(port: number, lossRatio: number): void {
  installWan(wanOf(sitesOf(port), "fra", { "fra|iad": { rttMs: 20, lossRatio } }));
  cleanups.push(() => installWan(undefined));
}

test(
  "over an emulated way that loses 2 % UDP is found to pay, and what it carries is whole",
  LONG,
  async () => {
    const { port, metric } = await serverOf();
    distance(port, 0.02);
    const transport = transportTo(port);
    await paying(transport);
    const all = await Promise.all(Array.from({ length: 100 }, () => ask(transport, 30_000)));
    expect(all.filter(({ isGood }) => !isGood)).toEqual([]);
    expect(all.filter(({ protocol }) => protocol === "link-udp").length).toBeGreaterThan(80);
    expect(udpOf(transport)?.lossRatio).toBeGreaterThan(0.005);
    expect(await metric("link_udp_requests_total")).toBeGreaterThan(80);
    const large = await Promise.all(Array.from({ length: 3 }, () => ask(transport, LARGE.byteLength)));
    expect(large.map(({ isGood }) => isGood)).toEqual([true, true, true]);
  },
);

test(
  "a server that takes the place of another one, on the next port, takes over with nothing lost",
  LONG,
  async () => {
    let running = await serverOf();
    let tcpPort = running.port;
    const proxy = createServer((socket) => {
      const onward = connect(tcpPort, "127.0.0.1");
      socket.pipe(onward).pipe(socket);
      for (const one of [socket, onward]) one.on("error", () => {}).once("close", () => socket.destroy());
    });
    proxy.listen(0, "127.0.0.1");
    await once(proxy, "listening");
    cleanups.push(() => proxy.close());
    // All by UDP as soon as it is open.
    const carriers = { packetsMin: 0, racesMin: 0, lossRatioMin: 0, raceEvery: 1_000 };
    const transport = transportTo((proxy.address() as AddressInfo).port, { carriers });
    await paying(transport);
    let isOver = false;
    let asked = 0;
    const failures: unknown[] = [];
    const one = async (): Promise<void> => {
      while (!isOver) {
        const got = await ask(transport, 30_000).catch((error: unknown) => error);
        if (!(typeof got === "object" && got !== null && "isGood" in got && got.isGood)) failures.push(got);
        asked++;
      }
    };
    const askers = Array.from({ length: 8 }, async () => await one());
    for (let turn = 0; turn < 3; turn++) {
      const next = await serverOf();
      tcpPort = next.port;
      const before = asked;
      await running.server.drain(500);
      running = next;
      await until(
        async () => (await next.metric("link_udp_requests_total")) > 20 && asked > before + 100,
        30_000,
      );
    }
    isOver = true;
    await Promise.all(askers);
    expect(failures).toEqual([]);
  },
);

test(
  "each server takes the first port that is free; where none is, links go on without UDP",
  LONG,
  async () => {
    const taken = createSocket("udp4");
    taken.bind(0, "127.0.0.1");
    await once(taken, "listening");
    cleanups.push(() => taken.close());
    const { port: from } = taken.address();
    const second = await serverOf({ linkUdp: { from, to: from + 20 } });
    const without = await serverOf({ linkUdp: { from, to: from } });
    const off = await serverOf({ linkUdp: "off" });
    await paying(transportTo(second.port, { carriers: { packetsMin: 0, racesMin: 0, lossRatioMin: 0 } }));
    expect(await second.metric("link_udp_connections")).toBe(1);
    for (const { port, metric } of [without, off]) {
      const transport = transportTo(port);
      await until(async () => (await ask(transport, 1_000)).protocol === "link");
      for (let n = 0; n < 20; n++)
        expect(await ask(transport, 1_000)).toMatchObject({ isGood: true, protocol: "link" });
      expect([udpOf(transport)?.reason, await metric("link_udp_total")]).toEqual(["none", 0]);
    }
    const refusing = transportTo(second.port, { linkUdp: false });
    await until(async () => (await ask(refusing, 1_000)).protocol === "link");
    for (let n = 0; n < 20; n++) expect((await ask(refusing, 1_000)).protocol).toBe("link");
    expect([udpOf(refusing), await second.metric("link_udp_total")]).toEqual([null, 1]);
  },
);

async function until(probe: () => boolean | Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await probe())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${probe.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

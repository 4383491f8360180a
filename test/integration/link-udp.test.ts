/**
 * Links over UDP, on real sockets: agreed on over TLS, chosen by what is measured, and left without losing a request. Between client and server stands something
 * that forwards datagrams, loses some, or swallows all.
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import { request } from "undici";
import { afterEach, describe, expect, test } from "vitest";
import { type MonotonicMs, Random } from "#kit";
import { dial, LinkPool, type LinkRequest, LinkServer, UdpDialer, UdpEndpoint } from "#transport";
import type { CarrierSettings } from "../../transport/core/carrier-choice.ts";
import { LINK_ALPN } from "../../transport/core/link/words.ts";
import { authority, serverId, topologyOf } from "./transport-support.ts";

const HOST = "127.0.0.1";
const topology = topologyOf([
  { id: "fra", role: "edge", ports: [1] },
  { id: "iad", role: "parent", ports: [2] },
]);
const parent = await authority.trust(topology, "iad-1");
const edge = await authority.trust(topology, "fra-1");

const endings: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
});

/** Every byte tells where it stands. */
const LARGE = Buffer.from(Array.from({ length: 12_000_000 }, (_, at) => (at * 7) >> 5));

/** `/bytes/N`: so many; `/wait/N`: so many when the gate opens; `/large/N`: so many of LARGE, piece by piece, `/large/N/stated` with its length; `/second/N/...`: at once who asks for it second. */
function handle(link: LinkRequest, gate: Promise<void>, isFirst: boolean): void {
  const [, kind, bytes, stated] = link.head.path.split("/");
  const answer = (): void => {
    if (link.isGone) return;
    link.writeHead(200, ["content-length", String(Number(bytes))]);
    link.write(Buffer.alloc(Number(bytes), "x"));
    link.end();
  };
  if (kind === "bytes") answer();
  else if (kind === "large") writeLarge(link, LARGE.subarray(0, Number(bytes)), stated !== undefined);
  else if (kind === "second") setTimeout(answer, isFirst ? 300 : 0);
  else if (kind === "wait") void gate.then(answer);
}

function writeLarge(link: LinkRequest, content: Buffer, isStated: boolean): void {
  link.writeHead(200, isStated ? ["content-length", String(content.byteLength)] : []);
  let at = 0;
  const write = (): void => {
    while (at < content.byteLength && !link.isGone) {
      const piece = content.subarray(at, at + 50_000);
      at += piece.byteLength;
      if (!link.write(piece)) return;
    }
    link.onDrain = undefined;
    link.end(["x-whole", "yes"]);
  };
  link.onDrain = write;
  write();
}

async function serverOf({ offersUdp = true } = {}) {
  const { promise: gate, resolve: openGate } = Promise.withResolvers<void>();
  const asked: { readonly path: string; readonly method: string }[] = [];
  const links = new LinkServer({
    trust: parent,
    mayCome: () => server.mayCome,
    handshakesMax: 16,
    handshakeTimeoutMs: 5_000,
    handle: (link) => {
      const isFirst = asked.every(({ path }) => path !== link.head.path);
      asked.push(link.head);
      handle(link, gate, isFirst);
    },
  });
  const udp = await UdpEndpoint.bind(HOST, 0);
  if (offersUdp) links.setUdp(udp);
  else await udp.close();
  const sockets = new Set<Socket>();
  const listener = createTcpServer((socket) => {
    sockets.add(socket);
    links.accept(socket, Buffer.alloc(0));
  });
  listener.listen(0, HOST);
  await once(listener, "listening");
  endings.push(() => {
    links.destroy();
    listener.close();
  });
  const server = {
    mayCome: true,
    links,
    asked,
    openGate,
    port: (listener.address() as AddressInfo).port,
    udp,
    /** As a process that dies. */
    kill: () => {
      for (const socket of sockets) socket.resetAndDestroy();
      links.destroy();
    },
  };
  return server;
}

/**
 * In the way of datagrams: what comes from the server gets lost by `lossRatio`, everything while `isSwallowing`; it comes `delayMs` later, and at
 * `bytesPerMs`, in a queue without end.
 */
async function wayTo(port: number) {
  const random = new Random("way");
  const socket = createSocket("udp4");
  const state = {
    port: 0,
    lossRatio: 0,
    isSwallowing: false,
    delayMs: 0,
    bytesPerMs: Infinity,
    downBytes: 0,
  };
  let freeAtMs = 0;
  let client = 0;
  let isClosed = false;
  socket.on("message", (datagram, from) => {
    if (from.port !== port) client = from.port;
    if (state.isSwallowing || (from.port === port && random.float() < state.lossRatio)) return;
    const isDown = from.port === port;
    const pass = (): void => {
      if (!isClosed) socket.send(datagram, isDown ? client : port, HOST);
    };
    let waitMs = state.delayMs;
    if (isDown) {
      state.downBytes += datagram.byteLength;
      freeAtMs = Math.max(performance.now(), freeAtMs) + datagram.byteLength / state.bytesPerMs;
      waitMs += freeAtMs - performance.now();
    }
    if (waitMs < 1) pass();
    else setTimeout(pass, waitMs);
  });
  socket.bind(0, HOST);
  await once(socket, "listening");
  endings.push(() => {
    isClosed = true;
    socket.close();
  });
  state.port = socket.address().port;
  return state;
}

/** All small requests by UDP as soon as it is open, a race for each 1,000th. */
const ALWAYS: Partial<CarrierSettings> = {
  packetsMin: 0,
  lossRatioMin: 0,
  racesMin: 0,
  raceEvery: 1_000,
};

function poolTo(
  tcpPort: number,
  way: { readonly port: number },
  settings: Partial<CarrierSettings> = ALWAYS,
) {
  const dialer = new UdpDialer();
  const peer = edge.clientOptions({ serverId: serverId("iad-1"), roles: ["parent"] }, LINK_ALPN);
  const pool = new LinkPool({
    label: "a parent",
    connect: (signal) => dial({ host: HOST, port: tcpPort, tls: { servername: "iad-1", peer }, signal }),
    udp: {
      connect: (options) => dialer.open({ ...options, host: HOST, tcpPort, port: way.port }),
      settings,
    },
  });
  endings.push(async () => {
    await pool.destroy();
    await dialer.close();
  });
  return pool;
}

async function ask(pool: LinkPool, path: string, more: Parameters<typeof request>[1] = {}): Promise<number> {
  const { body } = await request(`http://www.test${path}`, { dispatcher: pool, ...more });
  return (await body.arrayBuffer()).byteLength;
}

/** An answer for which one of the counters goes up: a busy machine may have others come by TLS. */
async function counted(pool: LinkPool, path: string, counter: "requests" | "moved") {
  for (let turn = 0; turn < 100; turn++) {
    const before = udpOf(pool).counters[counter];
    const answer = await request(`http://www.test${path}`, { dispatcher: pool });
    for (let look = 0; look < 50; look++) {
      if (udpOf(pool).counters[counter] > before) return answer;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    answer.body.on("error", () => {}).destroy();
  }
  throw new Error("nothing goes by UDP");
}
const moving = async (pool: LinkPool) => await counted(pool, `/large/${LARGE.byteLength}/stated`, "moved");

const udpOf = (pool: LinkPool) => pool.udp as NonNullable<typeof pool.udp>;

/** Asks until requests go by UDP. */
async function carried(pool: LinkPool): Promise<void> {
  const udp = udpOf(pool);
  for (let turn = 0; udp.counters.requests === 0 || udp.choice.reason(now()) !== "pays"; turn++) {
    if (turn > 400) throw new Error(`not by UDP: ${udp.choice.reason(now())}`);
    await ask(pool, "/bytes/1000");
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
const now = () => performance.now() as MonotonicMs;

async function until(probe: () => boolean | Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await probe())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${probe.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const LONG = { timeout: 60_000 };

describe("by UDP", () => {
  test("small safe requests, over a way that loses 3 %; what may change something by TLS", LONG, async () => {
    const server = await serverOf();
    const way = await wayTo(server.udp.port);
    way.lossRatio = 0.03;
    const pool = poolTo(server.port, way);
    await carried(pool);
    const before = server.links.counters.udpRequests;
    const all = await Promise.all(Array.from({ length: 200 }, () => ask(pool, "/bytes/20000")));
    expect(all).toEqual(all.map(() => 20_000));
    expect(server.links.counters.udpRequests - before).toBeGreaterThan(100);
    const { requests } = udpOf(pool).counters;
    expect(await ask(pool, "/bytes/10", { method: "POST", body: "four" })).toBe(10);
    expect(udpOf(pool).counters.requests).toBe(requests);
    expect(server.links.udpConnections).toBe(1);
  });

  test("as it is by default: on a way without loss by TLS, one request in many by both", LONG, async () => {
    const server = await serverOf();
    const pool = poolTo(server.port, await wayTo(server.udp.port), {});
    const { choice, counters } = udpOf(pool);
    await until(
      async () => await ask(pool, "/bytes/20000").then(() => choice.reason(now()) === "clean"),
      30_000,
    );
    const racesSoFar = (): number => choice.counters.won + choice.counters.lost;
    const before = { requests: counters.requests, races: racesSoFar() };
    for (let n = 0; n < 320; n++) expect(await ask(pool, "/bytes/1000")).toBe(1_000);
    const races = racesSoFar() - before.races;
    expect(races >= 2 && races <= 10).toBe(true);
    // Where TLS has answered already nothing is asked for by UDP.
    expect(counters.requests - before.requests).toBeLessThanOrEqual(races);
    expect(choice.counters.won).toBeGreaterThanOrEqual(8);
  });

  test("on a way without loss by UDP where it overtakes TLS", LONG, async () => {
    const server = await serverOf();
    const pool = poolTo(server.port, await wayTo(server.udp.port), { raceEvery: 4 });
    const { choice } = udpOf(pool);
    await until(
      async () => await ask(pool, "/bytes/20000").then(() => choice.reason(now()) === "clean"),
      30_000,
    );
    let asked = 0;
    await until(
      async () => await ask(pool, `/second/20000/${asked++}`).then(() => choice.reason(now()) === "pays"),
      40_000,
    );
    expect(choice.lossRatio).toBeLessThan(0.003);
  });

  test("as it is by default: on a way that loses 2 %, by UDP", LONG, async () => {
    const server = await serverOf();
    const way = await wayTo(server.udp.port);
    way.lossRatio = 0.02;
    const pool = poolTo(server.port, way, {});
    const { choice, counters } = udpOf(pool);
    await until(
      async () => await ask(pool, "/bytes/50000").then(() => choice.reason(now()) === "pays"),
      30_000,
    );
    const before = counters.requests;
    for (let n = 0; n < 64; n++) expect(await ask(pool, "/bytes/10000")).toBe(10_000);
    expect(counters.requests - before).toBeGreaterThan(32);
  });
});

describe("large answers", () => {
  const whole = async (pool: LinkPool, path: string): Promise<boolean> => {
    const { body, trailers } = await request(`http://www.test${path}`, { dispatcher: pool });
    const content = Buffer.from(await body.arrayBuffer());
    return content.equals(LARGE.subarray(0, content.byteLength)) && trailers["x-whole"] === "yes";
  };

  test.each([
    ["whose length is stated", "/stated"],
    ["whose length is not", ""],
  ])("%s go on by TLS, with no byte lost or twice", LONG, async (_what, stated) => {
    const server = await serverOf();
    const way = await wayTo(server.udp.port);
    way.lossRatio = 0.01;
    way.delayMs = 10;
    const pool = poolTo(server.port, way);
    await carried(pool);
    const { counters } = udpOf(pool);
    let asked = 0;
    const before = way.downBytes;
    // A busy machine may have some go by TLS from the start.
    await until(async () => {
      const all = Array.from({ length: 4 }, () => whole(pool, `/large/${LARGE.byteLength}${stated}`));
      asked += 4;
      expect(await Promise.all(all)).toEqual([true, true, true, true]);
      return counters.moved > 0;
    }, 40_000);
    expect(way.downBytes - before).toBeLessThan((asked / 4) * LARGE.byteLength);
    await until(() => server.links.streams === 0);
    expect([udpOf(pool).active, pool.active]).toEqual([0, 0]);
  });

  test("of many sizes, some of which end before they can go on elsewhere", LONG, async () => {
    const server = await serverOf();
    const way = await wayTo(server.udp.port);
    way.delayMs = 5;
    const pool = poolTo(server.port, way);
    await carried(pool);
    const sizes = [
      262_143, 262_144, 262_145, 263_000, 280_000, 300_000, 350_000, 400_000, 600_000, 1_200_000,
    ];
    for (const stated of ["/stated", ""]) {
      const all = sizes.map((bytes) => whole(pool, `/large/${bytes}${stated}`));
      expect(await Promise.all(all)).toEqual(all.map(() => true));
    }
    await until(() => pool.active === 0);
    const { choice, counters } = udpOf(pool);
    // But for those that UDP took with it, and those that were asked for by both, each was asked for once.
    if (choice.counters.silent === 0) expect(pool.counters.moved).toBe(0);
    const twice = counters.raced + counters.fallbacks + pool.counters.moved;
    const asked = server.asked.filter(({ path }) => path.startsWith("/large")).length;
    expect(asked).toBeLessThanOrEqual(2 * sizes.length + twice);
    expect([server.links.streams, udpOf(pool).active, pool.active]).toEqual([0, 0, 0]);
  });

  test(
    "a reader that stands still holds up its own answer alone; one that goes lets go of it on both carriers",
    LONG,
    async () => {
      const server = await serverOf();
      const way = await wayTo(server.udp.port);
      const pool = poolTo(server.port, way);
      await carried(pool);
      const slow = await moving(pool);
      for (let n = 0; n < 20; n++) expect(await ask(pool, "/bytes/1000")).toBe(1_000);
      const content = Buffer.from(await slow.body.arrayBuffer());
      expect(content.equals(LARGE)).toBe(true);
      const left = await moving(pool);
      left.body.on("error", () => {}).destroy();
      await until(() => server.links.streams === 0);
      expect([udpOf(pool).active, pool.active]).toEqual([0, 0]);
    },
  );
});

describe("when UDP does not come through", () => {
  test("from the start: no request waits for it, and it is left alone after a while", LONG, async () => {
    const server = await serverOf();
    const way = await wayTo(server.udp.port);
    way.isSwallowing = true;
    const pool = poolTo(server.port, way);
    const { choice, counters } = udpOf(pool);
    for (let turn = 0; choice.counters.blocked === 0; turn++) {
      expect(await ask(pool, "/bytes/1000")).toBe(1_000);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(counters).toMatchObject({ requests: 0, opened: 0 });
    expect(choice.reason(now())).toBe("paused");
    expect(await ask(pool, "/bytes/1000")).toBe(1_000);
    expect(server.links.counters).toMatchObject({ udpOpened: 1, udpRequests: 0 });
  });

  test("from the middle on: what waits is asked by TLS as well, and then all that comes", LONG, async () => {
    const server = await serverOf();
    const way = await wayTo(server.udp.port);
    const pool = poolTo(server.port, way);
    await carried(pool);
    const { choice, counters } = udpOf(pool);
    const waiting: Promise<number>[] = [];
    await until(() => {
      waiting.push(ask(pool, "/wait/1000"));
      return udpOf(pool).active >= 10;
    });
    await until(() => server.asked.filter(({ path }) => path === "/wait/1000").length >= waiting.length);
    way.isSwallowing = true;
    const late = Array.from({ length: 20 }, () => ask(pool, "/bytes/1000"));
    expect(await Promise.all(late)).toEqual(late.map(() => 1_000));
    await until(() => choice.counters.silent === 1);
    // Those that were asked for by then had the answer that something had come, and waited for their own.
    expect(counters.fallbacks + pool.counters.moved).toBeGreaterThan(0);
    server.openGate();
    expect(await Promise.all(waiting)).toEqual(waiting.map(() => 1_000));
    const before = counters.requests;
    for (let n = 0; n < 20; n++) expect(await ask(pool, "/bytes/1000")).toBe(1_000);
    expect([counters.requests, choice.reason(now())]).toEqual([before, "paused"]);
  });

  test("within an answer: it breaks off, as one that can be asked for again", LONG, async () => {
    const server = await serverOf();
    const way = await wayTo(server.udp.port);
    const pool = poolTo(server.port, way);
    await carried(pool);
    const { body } = await counted(pool, "/bytes/5000000", "requests");
    const broken = body.arrayBuffer();
    broken.catch(() => {});
    way.isSwallowing = true;
    await expect(broken).rejects.toMatchObject({ code: "udp-lost", retry: "safe" });
  });

  test("one that comes through is used again after its pause", LONG, async () => {
    const server = await serverOf();
    const way = await wayTo(server.udp.port);
    way.isSwallowing = true;
    const pool = poolTo(server.port, way, { ...ALWAYS, pauseMs: 100 });
    const { choice, counters } = udpOf(pool);
    await until(async () => await ask(pool, "/bytes/1000").then(() => choice.counters.blocked > 0));
    way.isSwallowing = false;
    await carried(pool);
    // Each time under keys of its own.
    expect(counters.opened).toBe(1);
    expect(server.links.counters.udpOpened).toBeGreaterThanOrEqual(2);
    expect(server.links.udpConnections).toBe(1);
  });

  test("one that is slower than TLS loses its races and is given up", LONG, async () => {
    const server = await serverOf();
    const way = await wayTo(server.udp.port);
    const pool = poolTo(server.port, way, { ...ALWAYS, raceEvery: 1, raceEveryUnsure: 1 });
    await until(async () => await ask(pool, "/bytes/1000").then(() => udpOf(pool).isOpen));
    way.delayMs = 60;
    const { choice } = udpOf(pool);
    await until(async () => await ask(pool, "/bytes/1000").then(() => choice.counters.slower === 1), 30_000);
    expect(choice.reason(now())).toBe("paused");
    expect(await ask(pool, "/bytes/1000")).toBe(1_000);
  });
});

test("one that is throttled is doubted, loses its races and is given up", LONG, async () => {
  const server = await serverOf();
  const way = await wayTo(server.udp.port);
  const pool = poolTo(server.port, way, { ...ALWAYS, racesMin: 8, raceEveryUnsure: 2 });
  await until(
    async () => await ask(pool, "/bytes/1000").then(() => udpOf(pool).choice.reason(now()) === "pays"),
  );
  way.bytesPerMs = 60;
  const { choice } = udpOf(pool);
  await until(async () => await ask(pool, "/bytes/50000").then(() => choice.counters.slower === 1), 30_000);
  expect(choice.counters.doubts).toBeGreaterThan(0);
  expect(choice.reason(now())).toBe("paused");
});

test(
  "whatever becomes of the way: every request is answered whole, or breaks off as UDP did, and nothing is left behind",
  LONG,
  async () => {
    const server = await serverOf();
    const way = await wayTo(server.udp.port);
    const pool = poolTo(server.port, way, { ...ALWAYS, raceEvery: 40, pauseMs: 50, pauseMsMax: 50 });
    await carried(pool);
    const random = new Random("whatever");
    let isOver = false;
    const counts = { whole: 0, broken: 0, aborted: 0 };
    const one = async (): Promise<void> => {
      const bytes = random.int(4) === 0 ? random.int(1_500_000) : random.int(40_000);
      const stop = new AbortController();
      const isAborted = random.int(6) === 0;
      if (isAborted) setTimeout(() => stop.abort(), random.int(40));
      try {
        const path = `/large/${bytes}${random.int(2) === 0 ? "/stated" : ""}`;
        const { body } = await request(`http://www.test${path}`, { dispatcher: pool, signal: stop.signal });
        const content = Buffer.from(await body.arrayBuffer());
        expect(content.equals(LARGE.subarray(0, bytes))).toBe(true);
        counts.whole++;
      } catch (error) {
        if (stop.signal.aborted) counts.aborted++;
        else {
          expect(error).toMatchObject({ code: "udp-lost" });
          counts.broken++;
        }
      }
    };
    const askers = Array.from({ length: 12 }, async () => {
      while (!isOver) await one();
    });
    for (let turn = 0; turn < 12; turn++) {
      way.isSwallowing = turn % 3 === 2;
      way.lossRatio = [0, 0.02, 0.1][random.int(3)] ?? 0;
      way.delayMs = random.int(3) * 5;
      await new Promise((resolve) => setTimeout(resolve, way.isSwallowing ? 900 : 500));
    }
    isOver = true;
    way.isSwallowing = false;
    await Promise.all(askers);
    expect(counts.whole).toBeGreaterThan(100);
    await until(() => server.links.streams + pool.active + udpOf(pool).active === 0);
    expect(udpOf(pool).counters.requests).toBeGreaterThan(5);
  },
);

describe("servers that come, go, or know no UDP", () => {
  test("one that does not offer it is never asked", LONG, async () => {
    const server = await serverOf({ offersUdp: false });
    const pool = poolTo(server.port, { port: 9 });
    for (let n = 0; n < 20; n++) expect(await ask(pool, "/bytes/1000")).toBe(1_000);
    expect([udpOf(pool).choice.reason(now()), udpOf(pool).counters.requests]).toEqual(["none", 0]);
    expect(server.links.counters).toMatchObject({ requests: 20, udpOpened: 0 });
  });

  test("one that takes leave finishes what it has begun by UDP, to the last byte", LONG, async () => {
    const server = await serverOf();
    const way = await wayTo(server.udp.port);
    way.lossRatio = 0.02;
    const pool = poolTo(server.port, way);
    await carried(pool);
    const waiting: Promise<number>[] = [];
    await until(() => {
      waiting.push(ask(pool, "/wait/60000"));
      return udpOf(pool).active >= 16;
    });
    await until(() => server.asked.filter(({ path }) => path === "/wait/60000").length >= waiting.length);
    // The last of it takes seconds.
    way.bytesPerMs = 300;
    server.links.drain();
    server.openGate();
    expect(await Promise.all(waiting)).toEqual(waiting.map(() => 60_000));
    await until(() => server.links.connections === 0, 20_000);
    expect([...server.links.counters.udpEnds.keys()]).toEqual(["done"]);
  });

  test("one that dies: what has no answer is asked again of who comes after it, by TLS", LONG, async () => {
    const dead = await serverOf();
    const living = await serverOf();
    const way = await wayTo(dead.udp.port);
    let port = dead.port;
    const dialer = new UdpDialer();
    const peer = edge.clientOptions({ serverId: serverId("iad-1"), roles: ["parent"] }, LINK_ALPN);
    const pool = new LinkPool({
      label: "a parent",
      connect: (signal) => dial({ host: HOST, port, tls: { servername: "iad-1", peer }, signal }),
      udp: {
        connect: (options) =>
          dialer.open({
            ...options,
            host: HOST,
            tcpPort: port,
            port: port === dead.port ? way.port : options.port,
          }),
        settings: ALWAYS,
      },
    });
    endings.push(async () => {
      await pool.destroy();
      await dialer.close();
    });
    await carried(pool);
    const waiting = Array.from({ length: 16 }, () => ask(pool, "/wait/1000"));
    await until(() => dead.asked.filter(({ path }) => path === "/wait/1000").length >= 16);
    port = living.port;
    living.openGate();
    way.isSwallowing = true;
    dead.kill();
    expect(await Promise.all(waiting)).toEqual(waiting.map(() => 1_000));
    // It was no fault of UDP: the next one may be asked for it at once.
    await carried(pool);
    await until(async () => await ask(pool, "/bytes/1000").then(() => living.links.counters.udpRequests > 0));
    expect(udpOf(pool).choice.counters).toMatchObject({ blocked: 0, silent: 0, slower: 0 });
  });

  test("who is taken out of the topology loses UDP with its session", LONG, async () => {
    const server = await serverOf();
    const pool = poolTo(server.port, await wayTo(server.udp.port));
    await carried(pool);
    server.mayCome = false;
    server.links.recheck();
    await until(() => server.links.connections === 0);
    await expect(ask(pool, "/bytes/1000")).rejects.toBeInstanceOf(Error);
  });

  test("datagrams of strangers are counted, and nothing else", LONG, async () => {
    const server = await serverOf();
    const pool = poolTo(server.port, await wayTo(server.udp.port));
    await carried(pool);
    const stranger = createSocket("udp4");
    endings.push(() => stranger.close());
    const random = new Random("stranger");
    const before = server.udp.counters.unknownDatagrams;
    for (let n = 0; n < 200; n++) {
      const datagram = Buffer.from(Array.from({ length: 1 + random.int(1_400) }, () => random.int(256)));
      stranger.send(datagram, server.udp.port, HOST);
      if (n % 20 === 0) expect(await ask(pool, "/bytes/1000")).toBe(1_000);
    }
    await until(() => server.udp.counters.unknownDatagrams - before === 200);
    expect([server.links.udpConnections, server.udp.connections]).toEqual([1, 1]);
  });
});

/** The connections of one path: which one a request gets, and when one is used no more. In memory, but for one test. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { duplexPair, type Duplex } from "node:stream";
import { afterEach, describe, expect, test, vi } from "vitest";
import { IsochroneError } from "#kit";
import {
  dial,
  type ExchangeHead,
  PathPool,
  Stop,
  type TransportSettings,
  transportDefaults,
} from "#transport";

/** The other end of a connection; answers are written by the test. */
class Peer {
  readonly end: Duplex;
  heads = 0;
  #onHead: (() => void) | undefined;

  constructor(end: Duplex) {
    this.end = end;
    end.on("data", (chunk: Buffer) => {
      this.heads += chunk.toString("latin1").split("\r\n\r\n").length - 1;
      this.#onHead?.();
    });
    end.on("error", () => {});
  }
  async asked(count: number): Promise<void> {
    while (this.heads < count) await new Promise<void>((resolve) => (this.#onHead = resolve));
  }
  answer(fields = ""): void {
    this.end.write(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n${fields}\r\nok`);
  }
}

let pool: PathPool;
afterEach(() => pool.close());

function setUp(settings: Partial<TransportSettings> = {}) {
  const peers: Peer[] = [];
  const reach: { isUp: boolean; code: string; stream?: Duplex } = { isUp: true, code: "connect-failed" };
  pool = new PathPool({
    label: "origin",
    settings: { ...transportDefaults, ...settings },
    connect: () => {
      if (!reach.isUp)
        return Promise.reject(
          new IsochroneError("no", { code: reach.code, source: "upstream", retry: "safe" }),
        );
      if (reach.stream !== undefined) return Promise.resolve(reach.stream);
      const [near, far] = duplexPair();
      peers.push(new Peer(far));
      return Promise.resolve(near);
    },
    onConnecting: () => {},
    onConnected: () => {},
  });
  return { peers, reach };
}

function ask(signal = new Stop()): Promise<ExchangeHead> {
  return pool.request({
    method: "GET",
    path: "/",
    headers: [["Host", "example.com"]],
    body: undefined,
    signal,
    connectMs: 5_000,
    headersMs: 5_000,
    bodyMs: 5_000,
  });
}
async function read(head: ExchangeHead): Promise<string> {
  let text = "";
  for await (const chunk of head.body) text += String(chunk);
  return text;
}
/** A whole exchange, over whichever connection; its head. */
async function exchange(peers: readonly Peer[]): Promise<ExchangeHead> {
  const before = peers.map(({ heads }) => heads);
  const asked = ask();
  await expect.poll(() => peers.some((peer, index) => peer.heads > (before[index] ?? 0))).toBe(true);
  peers.find((peer, index) => peer.heads > (before[index] ?? 0))?.answer();
  const head = await asked;
  await read(head);
  return head;
}

describe("a request gets", () => {
  test("the connection that was used last", async () => {
    const { peers } = setUp();
    const both = [ask(), ask()];
    await expect.poll(() => peers.length).toBe(2);
    await Promise.all(peers.map((peer) => peer.asked(1)));
    peers[0]?.answer();
    await read(await both[0]!);
    peers[1]?.answer();
    await read(await both[1]!);
    for (let n = 2; n < 5; n++) {
      const next = ask();
      await peers[1]?.asked(n);
      peers[1]?.answer();
      await read(await next);
    }
    expect(peers.map(({ heads }) => heads)).toEqual([1, 4]);
    expect(pool.counters).toMatchObject({ requests: 5, connects: 2 });
  });

  test("one that was opened ahead of need, of which no more are opened than wanted", async () => {
    const { peers } = setUp();
    pool.warm(2, performance.now());
    pool.warm(2, performance.now());
    await expect.poll(() => pool.connections).toBe(2);
    await exchange(peers);
    expect(pool.counters).toMatchObject({ connects: 2, warmed: 2 });
    pool.warm(2, performance.now());
    expect(pool.counters.connects).toBe(2);
  });

  test("none that was opened ahead of need and on which something came unasked: it would be taken for the answer", async () => {
    const { peers } = setUp();
    pool.warm(2, performance.now());
    await expect.poll(() => pool.connections).toBe(2);
    peers[1]?.end.end("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n");
    await expect.poll(() => pool.connections).toBe(1);
    expect((await exchange(peers)).status).toBe(200);
    expect(peers.map(({ heads }) => heads)).toEqual([1, 0]);
    // Such an origin is left alone for a while.
    pool.warm(2, performance.now());
    expect(pool.counters.connects).toBe(2);
  });

  test("none that was opened ahead of need again after one that was closed unused, until somebody asks", async () => {
    const { peers } = setUp();
    const askedAtMs = performance.now();
    pool.warm(1, askedAtMs);
    await expect.poll(() => pool.connections).toBe(1);
    peers[0]?.end.end();
    await expect.poll(() => pool.connections).toBe(0);
    const now = vi.spyOn(performance, "now").mockReturnValue(performance.now() + 60_000);
    try {
      pool.warm(1, askedAtMs);
      expect(pool.counters.connects).toBe(1);
      pool.warm(1, performance.now());
      expect(pool.counters.connects).toBe(2);
    } finally {
      now.mockRestore();
    }
  });

  test("the first that is free when all that may be open are busy", async () => {
    const { peers } = setUp({ connectionsPerPath: 1, waitingPerPath: 1 });
    const first = ask();
    const second = ask();
    await expect(ask()).rejects.toMatchObject({ code: "pool-full" });
    await expect.poll(() => peers[0]?.heads).toBe(1);
    peers[0]?.answer();
    await read(await first);
    await peers[0]?.asked(2);
    peers[0]?.answer();
    expect(await read(await second)).toBe("ok");
    expect(pool.counters).toMatchObject({ connects: 1, refusedFull: 1 });
  });
});

describe("a body", () => {
  /** The answer so far, sent in these pieces, each looked at before the next is sent. */
  async function answered(...pieces: readonly string[]): Promise<{ head: ExchangeHead; peer: Peer }> {
    const { peers } = setUp();
    const asked = ask();
    await expect.poll(() => peers[0]?.heads).toBe(1);
    const peer = peers[0] as Peer;
    for (const piece of pieces) {
      peer.end.write(piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
    return { head: await asked, peer };
  }
  const HEAD = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";

  test("that has come is taken whole, in as many pieces as it came", async () => {
    for (const pieces of [[`${HEAD}okay`], [HEAD, "ok", "ay"], [`${HEAD}oka`, "y"]]) {
      const { head } = await answered(...pieces);
      expect(head.isWhole()).toBe(true);
      expect(String(head.takeWhole())).toBe("okay");
      await pool.close();
    }
    const { head } = await answered("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    expect(head.takeWhole()?.byteLength).toBe(0);
  });

  test("that has come is a stream for whoever wants one, or taken out of it", async () => {
    const first = await answered(HEAD, "ok", "ay");
    expect(await read(first.head)).toBe("okay");
    const second = await answered(HEAD, "ok");
    const stream = second.head.body;
    expect(second.head.takeWhole()).toBeUndefined();
    second.peer.end.write("ay");
    await expect.poll(() => second.head.isWhole()).toBe(true);
    expect(String(second.head.takeWhole())).toBe("okay");
    expect(stream.readableLength).toBe(0);
  });

  test("that has broken off before anybody wanted it fails for whoever wants it then", async () => {
    const { head, peer } = await answered(HEAD, "ok");
    peer.end.end();
    await expect.poll(() => pool.connections).toBe(0);
    expect(head.takeWhole()).toBeUndefined();
    await expect(read(head)).rejects.toMatchObject({ code: "connection-lost" });
  });

  test("that nobody wants yet is held up from 128 KiB on, and goes on for whoever wants it", async () => {
    const PIECES = 128;
    const BYTES = PIECES * 16_384;
    const { head, peer } = await answered(`HTTP/1.1 200 OK\r\nContent-Length: ${BYTES}\r\n\r\n`);
    let taken = 0;
    for (let n = 0; n < PIECES; n++) peer.end.write("x".repeat(16_384), () => taken++);
    for (let turn = 0; turn < 1_000; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(taken).toBeGreaterThanOrEqual(8);
    expect(taken).toBeLessThan(24);
    expect((await read(head)).length).toBe(BYTES);
  });
});

describe("a connection is used no more", () => {
  test("after an exchange that was given up", async () => {
    const { peers } = setUp();
    const stop = new Stop();
    const given = ask(stop);
    await expect.poll(() => peers[0]?.heads).toBe(1);
    stop.abort(new Error("enough"));
    await expect(given).rejects.toMatchObject({ code: "aborted" });
    await exchange(peers);
    expect(peers.map(({ heads }) => heads)).toEqual([1, 1]);
    expect(pool.active).toBe(0);
  });

  test("after an answer that says so, or that breaks off", async () => {
    const { peers } = setUp();
    const first = ask();
    await expect.poll(() => peers[0]?.heads).toBe(1);
    peers[0]?.answer("Connection: close\r\n");
    await read(await first);
    const second = ask();
    await expect.poll(() => peers[1]?.heads).toBe(1);
    peers[1]?.end.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok");
    const head = await second;
    peers[1]?.end.end();
    await expect(read(head)).rejects.toMatchObject({ code: "connection-lost" });
    await exchange(peers);
    expect(peers.map(({ heads }) => heads)).toEqual([1, 1, 1]);
  });

  test("after a late answer, while another is free; of those left over as many are kept as are to be free", async () => {
    const { peers } = setUp();
    (await exchange(peers)).handleTiming(true);
    await exchange(peers);
    (await exchange(peers)).handleTiming(true);
    pool.warm(1, performance.now());
    await expect.poll(() => pool.connections).toBe(2);
    await exchange(peers);
    await exchange(peers);
    expect(peers.map(({ heads }) => heads)).toEqual([3, 2]);
    pool.warm(1, performance.now());
    expect(pool.counters.retired).toBe(0);
    pool.warm(0, performance.now());
    expect(pool.counters.retired).toBe(1);
  });
});

test("an answer without length ends for its reader, also when its head and its end lay in the stream together", async () => {
  const [near, far] = duplexPair();
  far.end("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n");
  await expect.poll(() => near.readableLength).toBeGreaterThan(0);
  setUp().reach.stream = near;
  const head = await ask();
  expect([head.status, await read(head)]).toEqual([408, ""]);
});

test("an origin that cannot be reached ahead of need is left alone for a while", async () => {
  const { peers, reach } = setUp();
  reach.isUp = false;
  pool.warm(1, performance.now());
  await expect.poll(() => pool.counters.connectFailures).toBe(1);
  reach.isUp = true;
  pool.warm(1, performance.now());
  expect(pool.counters.connects).toBe(1);
  // A request goes all the same.
  await exchange(peers);
  expect(pool.counters.connects).toBe(2);
});

test("one that silence met is opened again as soon as the path is well", async () => {
  const { reach } = setUp();
  reach.isUp = false;
  reach.code = "connect-timeout";
  pool.warm(1, performance.now());
  await expect.poll(() => pool.counters.connectFailures).toBe(1);
  reach.isUp = true;
  pool.warm(1, performance.now());
  await expect.poll(() => pool.connections).toBe(1);
});

test("closing ends those that wait as well", async () => {
  const { peers } = setUp({ connectionsPerPath: 1 });
  const both = [ask(), ask()];
  await expect.poll(() => peers[0]?.heads).toBe(1);
  const ended = Promise.allSettled(both);
  await pool.close();
  expect((await ended).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
});

test("one socket carries plain requests and others in turn", async () => {
  const server = createServer((request, response) => {
    let bytes = 0;
    request.on("data", (chunk: Buffer) => (bytes += chunk.byteLength));
    request.on("end", () => response.end(`${request.method} ${bytes}`));
  });
  const port = await new Promise<number>((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port)),
  );
  let sockets = 0;
  server.on("connection", () => sockets++);
  pool = new PathPool({
    label: "origin",
    settings: transportDefaults,
    connect: (signal) => dial({ host: "127.0.0.1", port, signal, readsDirectly: true }),
    onConnecting: () => {},
    onConnected: () => {},
  });
  const texts: string[] = [];
  for (const [method, body] of [
    ["GET", undefined],
    ["GET", undefined],
    ["POST", Buffer.alloc(100_000)],
    ["GET", undefined],
    ["POST", Buffer.alloc(3)],
  ] as const) {
    const head = await pool.request({
      method,
      path: "/",
      headers: [["Host", "example.com"]],
      body,
      signal: new Stop(),
      connectMs: 5_000,
      headersMs: 0,
      bodyMs: 0,
    });
    texts.push(await read(head));
    // It is free again when the turn of the event loop is over.
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  }
  server.close();
  expect(texts).toEqual(["GET 0", "GET 0", "POST 100000", "GET 0", "POST 3"]);
  expect(sockets).toBe(1);
});

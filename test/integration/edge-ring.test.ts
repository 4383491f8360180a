/** Connections that are read through io_uring: what only they can get wrong. All else is held by edge-both-ways.test.ts. */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createLogger } from "#kit/io";
import { EdgeMetrics, sharedRing } from "#edge";
import { startEdge, type TestEdge, TestOrigin } from "./edge-support.ts";

const lines: string[] = [];
const logger = createLogger(
  { role: "edge", id: "test" },
  { level: "warn", write: (line) => lines.push(line) },
);
const isThere = (await sharedRing(new EdgeMetrics(), logger)) !== undefined;
if (!isThere) console.log(`io_uring is not to be had here, its tests are skipped: ${lines.join("")}`);

const OBJECTS = "abcdefgh";
/** That of "c" is sent from where it is stored. */
const contentOf = (object: string): string => object.repeat(object === "c" ? 60_000 : 16_000);
const requestOf = (object: string): string => `GET /${object} HTTP/1.1\r\nHost: a\r\n\r\n`;
const REQUEST = requestOf("a");
/** Ticks of the event loop that a test waits for what takes a few, ms at most. */
const WAIT_MS = 5_000;

async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  const endsAt = performance.now() + WAIT_MS;
  while (!(await what())) {
    if (performance.now() > endsAt) throw new Error("waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe.skipIf(!isThere)("connections through io_uring", () => {
  let origin: TestOrigin;
  let edge: TestEdge;

  beforeAll(async () => {
    origin = new TestOrigin();
    origin.answer = (request, response) => {
      const content = contentOf(request.url?.slice(1) ?? "");
      response
        .writeHead(200, { "cache-control": "max-age=600", "content-length": content.length })
        .end(content);
    };
    await origin.start();
    edge = await startEdge(origin, { ioUring: "auto" });
    // The second answer is remembered, from the third on the ring sends it.
    const socket = await open();
    let count = 0;
    for (const object of OBJECTS) for (let time = 0; time < 3; time++) await ask(socket, object, ++count);
    socket.destroy();
    expect(await edge.metric("ring_sends_total")).toBeGreaterThan(0);
    expect(await edge.metric("ring_long_sends_total")).toBeGreaterThan(0);
  });
  afterAll(async () => {
    await edge.running.stop();
    await origin.stop();
  });

  const received = new WeakMap<Socket, string[]>();
  async function open(): Promise<Socket> {
    const socket = connect({ port: edge.port, host: "127.0.0.1", noDelay: true });
    const texts: string[] = [];
    received.set(socket, texts);
    socket.on("data", (bytes) => texts.push(bytes.toString("latin1")));
    socket.on("error", () => {});
    await once(socket, "connect");
    return socket;
  }
  const answersOf = (socket: Socket): string[] =>
    (received.get(socket) ?? []).join("").split("HTTP/1.1 200 OK\r\n").slice(1);
  /** The object that an answer is whole of. */
  const objectOf = (answer: string): string => {
    const [, content = ""] = answer.split("\r\n\r\n");
    return content === contentOf(content[0] ?? "") ? (content[0] ?? "") : "?";
  };
  const objectsOf = (socket: Socket): string => answersOf(socket).map(objectOf).join("");

  async function ask(socket: Socket, object: string, count: number): Promise<void> {
    socket.write(requestOf(object));
    await until(() => objectsOf(socket).endsWith(object) && answersOf(socket).length === count);
  }

  test("a client that reads late gets every answer whole and in order, one that has room in no slot too", async () => {
    const socket = await open();
    socket.pause();
    const COUNT = 600;
    const before = await edge.metric("ring_receives_total");
    // Each a segment of its own, so that each answer is alone; 10 MB are more than the system's buffers hold.
    let asked = "";
    for (let index = 0; index < COUNT; index++) {
      const object = OBJECTS[index % OBJECTS.length] ?? "";
      asked += object;
      socket.write(requestOf(object));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await edge.metric("ring_receives_total")).toBeGreaterThan(before + 10);
    socket.end();
    socket.resume();
    await once(socket, "end");
    expect(objectsOf(socket)).toBe(asked);
  });

  test("short answers of the long way leave through it, and nothing is written behind one before it has ended", async () => {
    const socket = await open();
    const before = await edge.metric("ring_sends_total");
    for (const [index, object] of ["i", "j", "k"].entries()) await ask(socket, object, index + 1);
    expect(await edge.metric("ring_sends_total")).toBeGreaterThanOrEqual(before + 3);
    // Of a pipeline only the last one has nothing behind it.
    socket.write(["l", "m", "n"].map(requestOf).join(""));
    socket.write(["a", "b", "o"].map(requestOf).join(""));
    await until(() => answersOf(socket).length === 9);
    await until(() => objectsOf(socket) === "ijklmnabo");
    socket.write(`GET /p HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    await once(socket, "end");
    expect(objectsOf(socket)).toBe("ijklmnabop");
    socket.destroy();
  });

  test("what comes behind a hit in another segment, and goes to node:http, finds its connection whole", async () => {
    const socket = await open();
    socket.write(REQUEST);
    socket.write("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
    for (let index = 0; index < 20; index++) socket.write("x".repeat(10_000));
    socket.write(REQUEST.replace("Host: a", "Host: a\r\nConnection: close"));
    await once(socket, "end");
    expect(objectsOf(socket)).toHaveLength(3);
    expect(objectsOf(socket)).toMatch(/^a.a$/);
    expect(origin.seen.at(-1)?.body.length).toBe(200_000);
  });

  test("connections that are cut at any moment leave nothing behind", async () => {
    const admin = await edge.metric("ring_connections");
    for (let round = 0; round < 10; round++) {
      const sockets = await Promise.all(Array.from({ length: 30 }, open));
      for (const [index, socket] of sockets.entries()) {
        if (index % 5 !== 0) socket.write(index % 3 === 0 ? REQUEST : REQUEST + REQUEST.slice(0, index));
        if (index % 5 === 1) socket.resetAndDestroy();
        if (index % 5 === 2) socket.end();
      }
      await new Promise((resolve) => setImmediate(resolve));
      for (const socket of sockets) socket.destroy();
    }
    await until(async () => (await edge.metric("ring_connections")) <= admin);
    const socket = await open();
    await ask(socket, "a", 1);
    socket.destroy();
  });
});

/** In a process of its own: here the package is loaded already. */
const WITHOUT_PACKAGE = `
  import { registerHooks } from "node:module";
  registerHooks({
    resolve(specifier, context, next) {
      if (specifier === "koffi") throw new Error("no binary for this machine");
      return next(specifier, context);
    },
  });
  const { EdgeMetrics, requireRing, sharedRing } = await import("#edge");
  const { createLogger } = await import("#kit/io");
  const lines = [];
  const logger = createLogger({ role: "edge", id: "test" }, { level: "warn", write: (line) => lines.push(line) });
  const first = await sharedRing(new EdgeMetrics(), logger);
  const metrics = new EdgeMetrics();
  const second = await sharedRing(metrics, logger);
  const { values } = await metrics.registry.getSingleMetric("isochrone_edge_ring_whole").get();
  const refusal = await requireRing().then(() => "none", (error) => error.message);
  const rings = [first, second].filter((ring) => ring !== undefined).length;
  console.log(JSON.stringify({ rings, lines, whole: values.map(({ value }) => value), refusal }));
`;

test("where the package is not to be had a warning says why, and connections go on through libuv", async () => {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--input-type=module", "-e", WITHOUT_PACKAGE],
    { cwd: join(import.meta.dirname, "..", "..") },
  );
  // A second server of the process has its figure and no second warning.
  expect(JSON.parse(stdout)).toEqual({
    rings: 0,
    lines: [expect.stringMatching(/io-uring-unavailable.*no binary for this machine.*libuv/)],
    whole: [0],
    refusal: expect.stringMatching(
      /^Cannot use io_uring, which --io-uring on asks for: .*; with --io-uring auto /,
    ),
  });
});

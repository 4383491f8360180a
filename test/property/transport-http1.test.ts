/**
 * Answers of HTTP/1.1 by two readers: our own, which reads the plain ones and gives the rest to undici, and undici alone. Whatever comes, in
 * whatever pieces, both say the same of it; and where undici uses a connection no more, we do not either.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import * as fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type HeaderList, PathPool, Stop, transportDefaults } from "#transport";
import { mutated } from "../tools/mutations.ts";

/** What one reader makes of an answer. */
interface Reading {
  readonly status: number | undefined;
  readonly headers: HeaderList;
  readonly interim: number;
  readonly content: string;
  readonly trailers: HeaderList;
  /** The code it ended with; undefined: in order. */
  readonly code: string | undefined;
  /** Whether another request went over the same connection. */
  readonly isReused: boolean;
}

let onPeer: (peer: Socket) => void = () => {};
const server = createServer({ noDelay: true, allowHalfOpen: true }, (peer) => onPeer(peer));
beforeAll(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});
afterAll(() => void server.close());

const turns = async (count: number): Promise<void> => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
};

/** What has come is read by then, ms. */
const PATIENCE_MS = 30;

/** `isOurs`: the request is plain. With content, though empty, it is undici's. */
async function read(
  bytes: Uint8Array,
  chunkBytes: number,
  ending: "open" | "end" | "reset",
  isOurs: boolean,
): Promise<Reading> {
  const peers: Socket[] = [];
  let requests = 0;
  onPeer = (peer) => {
    peer.on("data", (chunk: Buffer) => (requests += chunk.toString("latin1").split("\r\n\r\n").length - 1));
    peer.on("error", () => {});
    peer.on("end", () => peer.end());
    peers.push(peer);
  };
  const pool = new PathPool({
    label: "origin",
    settings: transportDefaults,
    connect: async () => {
      const socket = connect({
        port: (server.address() as AddressInfo).port,
        host: "127.0.0.1",
        noDelay: true,
      });
      await once(socket, "connect");
      return socket;
    },
    onConnecting: () => {},
    onConnected: () => {},
  });
  let interim = 0;
  const stop = new Stop();
  const ask = (signal: Stop) =>
    pool.request({
      method: "GET",
      path: "/",
      headers: [["Host", "example.com"]],
      body: isOurs ? undefined : new Uint8Array(0),
      signal,
      connectMs: 5_000,
      headersMs: 60_000,
      bodyMs: 60_000,
      onInterim: () => interim++,
    });
  const result = { status: undefined as number | undefined, headers: [] as HeaderList, content: "" };
  let code: string | undefined;
  let trailers: HeaderList = [];
  let isReused = false;
  let patience: NodeJS.Timeout | undefined;
  try {
    const asked = ask(stop);
    asked.then(({ body }) => body.on("error", () => {})).catch(() => {});
    while (requests === 0) await turns(1);
    const [peer] = peers as [Socket];
    for (let at = 0; at < bytes.byteLength; at += chunkBytes) {
      peer.write(bytes.subarray(at, at + chunkBytes));
      if (at % (7 * chunkBytes) === 0) await turns(1);
    }
    await turns(4);
    if (ending === "end") peer.end();
    if (ending === "reset") peer.resetAndDestroy();
    await turns(4);
    // What waits for more is ended; it says how far it had come.
    if (ending === "open") patience = setTimeout(() => stop.abort(undefined), PATIENCE_MS);
    const head = await asked;
    result.status = head.status;
    result.headers = head.headers;
    for await (const chunk of head.body) result.content += (chunk as Buffer).toString("latin1");
    trailers = head.trailers();
    clearTimeout(patience);
    if (ending === "open") {
      await turns(4);
      const again = ask(new Stop());
      again.catch(() => {});
      for (let turn = 0; turn < 50 && requests < 2; turn++) await turns(1);
      isReused = peers.length === 1;
    }
  } catch (error) {
    code = (error as { code?: string }).code ?? String(error);
  }
  clearTimeout(patience);
  await pool.close();
  for (const peer of peers) peer.destroy();
  return { ...result, interim, trailers, code, isReused };
}

const head = (...lines: string[]): string => `${lines.join("\r\n")}\r\n\r\n`;
const ANSWERS = [
  head("HTTP/1.1 200 OK", "Content-Type: text/plain", "Content-Length: 5", 'ETag: "a"') + "hello",
  head("HTTP/1.1 404 Not Found", "Content-Length: 0", "Connection: close", "Keep-Alive: timeout=5"),
  head("HTTP/1.1 200 OK", "Connection: keep-alive", "Keep-Alive: timeout=7, max=3", "Content-Length:3") +
    "abc",
  head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + "5\r\nhello\r\n00A\r\n0123456789\r\n0\r\n\r\n",
  head("HTTP/1.1 200 OK", "transfer-encoding: Chunked", "X-A:", "X-B: \t b") +
    "3;a=b\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
  head("HTTP/1.1 304 Not Modified", 'ETag: "x"'),
  head("HTTP/1.1 204 No Content", "Content-Length: 0"),
  head("HTTP/1.1 200 OK", "Server: till the end") + "everything",
  head("HTTP/1.1 103 Early Hints", "Link: </a>; rel=preload") +
    head("HTTP/1.1 200 OK", "Content-Length: 2") +
    "ok",
  head("HTTP/1.0 200 OK", "Content-Length: 2") + "ok",
  head("HTTP/1.1 200 OK", "Content-Length: 2", "X-Folded: a", " b") + "ok",
  head("HTTP/1.1 200 OK", "Content-Length: 2", "Content-Length: 2") + "ok",
  head("HTTP/1.1 200 OK", "Content-Length: 2", "Transfer-Encoding: chunked") + "2\r\nok\r\n0\r\n\r\n",
  head("HTTP/1.1 200 OK", "Content-Length: 1") + head("HTTP/1.1 200 OK", "Content-Length: 3") + "bad",
].map((text) => Buffer.from(text, "latin1"));

const isHeadWhole = (bytes: Uint8Array): boolean =>
  Buffer.from(bytes).toString("latin1").includes("\r\n\r\n");

const ending = fc.constantFrom("open" as const, "end" as const, "reset" as const);

test("the answers themselves, whole and octet by octet", async () => {
  for (const answer of ANSWERS)
    for (const chunkBytes of [1, 7, 1_000])
      for (const end of ["open", "end", "reset"] as const) {
        const ours = await read(answer, chunkBytes, end, true);
        expect(ours, `${chunkBytes} ${end} ${String(answer)}`).toEqual(
          await read(answer, chunkBytes, end, false),
        );
      }
}, 120_000);

test("mutated answers", async () => {
  const seen = { answered: 0, failed: 0, reused: 0 };
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        { weight: 5, arbitrary: fc.constantFrom(...ANSWERS).chain((bytes) => mutated(bytes)) },
        {
          weight: 1,
          arbitrary: fc.record({
            bytes: fc.constantFrom(...ANSWERS),
            chunkBytes: fc.integer({ min: 1, max: 200 }),
          }),
        },
      ),
      ending,
      async ({ bytes, chunkBytes }, end) => {
        const ours = await read(bytes, chunkBytes, end, true);
        const theirs = await read(bytes, chunkBytes, end, false);
        // Of half a head undici may have seen enough where we wait for its rest: both fail, each in its own way.
        const { code } = ours.code !== undefined && !isHeadWhole(bytes) ? ours : theirs;
        if (ours.code !== undefined) expect(theirs.code).toBeDefined();
        // undici lets line ends pass between two answers; here nothing may come that was not asked for.
        const isReused = ours.isReused && theirs.isReused;
        expect(ours).toEqual({ ...theirs, code, isReused });
        if (ours.code === undefined) seen.answered++;
        else seen.failed++;
        if (ours.isReused) seen.reused++;
      },
    ),
    { numRuns: 1_500 },
  );
  expect(Math.min(seen.answered, seen.failed, seen.reused)).toBeGreaterThan(20);
}, 240_000);

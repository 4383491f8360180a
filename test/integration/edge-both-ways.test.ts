/**
 * The flat path and node:http's parser are two readers of the same protocol: the same bytes, however they are cut into
 * segments, must get the same answers from both; and a connection that is read through io_uring (where there is one, else this one is
 * read as the first) gets them, too. Three edges, one with the flat path off, in front of one origin.
 */
import { once } from "node:events";
import { connect } from "node:net";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startEdge, type TestEdge, TestOrigin } from "./edge-support.ts";

let origin: TestOrigin;
let flat: TestEdge;
let node: TestEdge;
let ring: TestEdge;

const MODIFIED = "Tue, 01 Sep 2026 10:00:00 GMT";
const CONTENT = "0123456789".repeat(200);

/** Answers by the last segment of the path, the same for ever. */
function answer(url: string): readonly [status: number, fields: Record<string, string>, content: string] {
  const kind = url.replace(/\?.*$/, "").split("/").at(-1) ?? "";
  switch (kind) {
    case "fresh":
      return [200, { "cache-control": "max-age=600", etag: '"one"', "last-modified": MODIFIED }, CONTENT];
    case "small":
      return [200, { "cache-control": "max-age=600", "content-type": "text/plain" }, "small"];
    case "vary":
      return [200, { "cache-control": "max-age=600", vary: "Accept-Language" }, "varied"];
    case "stale":
      return [200, { "cache-control": "max-age=0, stale-while-revalidate=60", etag: '"s"' }, "stale"];
    case "large":
      return [200, { "cache-control": "max-age=600" }, CONTENT.repeat(150)];
    case "missing":
      return [404, { "cache-control": "max-age=600" }, "missing"];
    case "moved":
      return [301, { "cache-control": "max-age=600", location: "/elsewhere" }, ""];
    case "nothing":
      return [204, {}, ""];
    default:
      return [200, { "cache-control": "no-store" }, "once"];
  }
}

beforeAll(async () => {
  origin = new TestOrigin();
  origin.answer = (request, response) => {
    const [status, fields, content] = answer(request.url ?? "");
    response.sendDate = false;
    response.setHeader("date", new Date().toUTCString());
    if (content !== "") response.setHeader("content-length", content.length);
    response.writeHead(status, fields).end(request.method === "HEAD" ? "" : content);
  };
  await origin.start();
  flat = await startEdge(origin, { ioUring: "off" });
  ring = await startEdge(origin, { ioUring: "auto" });
  node = await startEdge(origin, {}, undefined, undefined, { isFlatPathOff: true });
});
afterAll(async () => {
  await flat.running.stop();
  await node.running.stop();
  await ring.running.stop();
  await origin.stop();
});

/** What may differ: the clock's ticks, and the name that the edge has from its port. Long content is told by its length. */
function normal(text: string): string {
  return text
    .replace(/edge-[0-9a-f]{8}/g, "edge")
    .replace(/(?:0123456789)+/g, (content) => `(${content.length} bytes)`)
    .replace(/^(Date|Age): .*$/gim, "$1: *")
    .replace(/; ttl=-?[0-9]+/g, "; ttl=*");
}

/** How long a connection may be silent before its text counts as all, ms. */
const SILENCE_MS = 1_500;

async function exchange(port: number, pieces: readonly string[]): Promise<string> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  await once(socket, "connect");
  let text = "";
  let end = "open";
  const closed = new Promise<void>((resolve) => {
    let timer = setTimeout(resolve, SILENCE_MS);
    socket.on("data", (bytes: Buffer) => {
      text += bytes.toString("latin1");
      clearTimeout(timer);
      timer = setTimeout(resolve, SILENCE_MS);
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      end = "closed";
      clearTimeout(timer);
      resolve();
    });
  });
  for (const piece of pieces) {
    if (piece === "" || socket.destroyed) continue;
    socket.write(Buffer.from(piece, "latin1"));
    // Enough for the edge, in this process, to take it as a segment of its own.
    await new Promise((resolve) => setImmediate(resolve));
  }
  await closed;
  socket.destroy();
  return `${normal(text)}<${end}>`;
}

async function both(pieces: readonly string[]): Promise<{ readonly flat: string; readonly node: string }> {
  const [one, other, third] = await Promise.all([
    exchange(flat.port, pieces),
    exchange(node.port, pieces),
    exchange(ring.port, pieces),
  ]);
  expect(third).toBe(one);
  return { flat: one, node: other };
}

const KINDS = [
  "fresh",
  "small",
  "vary",
  "stale",
  "large",
  "missing",
  "moved",
  "nothing",
  "once",
  "fresh?q=1",
  "a%20b/fresh",
  "x|y/small",
];

/** Lines that a browser or a tool may send; all canonical. */
const LINES = [
  "User-Agent: x/1.0 (a; b)",
  "Accept: */*",
  "Accept-Encoding: gzip, br",
  "Accept-Language: de",
  "Accept-Language: en;q=0.5",
  'If-None-Match: "one"',
  'If-None-Match: W/"one", "two"',
  'If-None-Match: "no"',
  "If-None-Match: *",
  `If-Modified-Since: ${MODIFIED}`,
  "If-Modified-Since: yesterday",
  `If-Unmodified-Since: ${MODIFIED}`,
  'If-Match: "one"',
  'If-Match: "other"',
  "Range: bytes=0-9",
  "Range: bytes=-5",
  "Range: bytes=1990-",
  "Range: bytes=5000-",
  "Range: bytes=0-0,5-6",
  "Range: lines=1-2",
  'If-Range: "one"',
  'If-Range: "other"',
  "Cache-Control: no-cache",
  "Cache-Control: max-age=0",
  "Cache-Control: only-if-cached",
  "Cache-Control: no-store",
  "Pragma: no-cache",
  "Connection: keep-alive",
  "Cookie: a=b; c=d",
  "Authorization: Basic eDp5",
  "Via: 1.1 other",
  "CDN-Loop: other",
  "X-Forwarded-For: 6.6.6.6",
  "Isochrone-Explain: 1",
  "X-Empty:",
  "X-Blank:   ",
  "X-Tab:\tvalue\t",
  "x-lower: v",
  "Max-Forwards: 3",
];

/** Lines at the border of the grammar, and those that only one of the readers knows. */
const ODD_LINES = [
  "Connection: close",
  "Connection: close, te",
  "Connection: X-Tab, keep-alive",
  "TE: trailers",
  "Expect: 100-continue",
  "Expect: x",
  "Upgrade: h2c",
  "Keep-Alive: timeout=5",
  "Content-Length: 0",
  "Content-Length: x",
  "Transfer-Encoding: identity",
  "Trailer: x",
  "Host: b",
  "X-Bad : v",
  "X-Nul: a\0b",
  "X-Cr: a\rb",
  "X-Latin: \xe9\xff",
  "X-Del: \x7f",
  "No-Colon",
  ": no name",
  " X-Fold: v",
  "X-Long: " + "v".repeat(9_000),
];

interface Request {
  readonly method: string;
  readonly kind: string;
  readonly version: string;
  readonly host: string;
  readonly lines: readonly string[];
  /** Whether its object is in the cache before. */
  readonly isWarm: boolean;
}

const request = (lines: readonly string[], isOdd: boolean): fc.Arbitrary<Request> =>
  fc.record({
    method: isOdd
      ? fc.constantFrom("GET", "GET", "HEAD", "POST", "OPTIONS", "get", "TRACE")
      : fc.constantFrom("GET", "GET", "GET", "HEAD"),
    kind: fc.constantFrom(...KINDS),
    version: isOdd ? fc.constantFrom("1.1", "1.1", "1.1", "1.0", "1.2", "2.0") : fc.constant("1.1"),
    host: isOdd
      ? fc.constantFrom("a", "a", "A.test:80", "", "a b", "a/b")
      : fc.constantFrom("a", "A.test", "a.test.", "b:8080"),
    lines: fc.array(fc.constantFrom(...lines), { maxLength: 5 }),
    isWarm: fc.boolean(),
  });

/**
 * Bytes of a run. Each request has an object of its own: node:http begins all requests of a segment at once, the flat path
 * one after the other, so that two for one object would be collapsed there and a hit here.
 */
function bytesOf(requests: readonly Request[], name: string): string {
  const heads = requests.map(({ method, kind, version, host, lines }, index) => {
    const all = [`Host: ${host}`, ...lines, ...(method === "POST" ? ["Content-Length: 5"] : [])];
    return `${method} /${name}/${index}/${kind} HTTP/${version}\r\n${all.join("\r\n")}\r\n\r\n${method === "POST" ? "hello" : ""}`;
  });
  return `${heads.join("")}GET /${name}/end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`;
}

/** Puts the objects that are to be warm into both caches. */
async function warm(requests: readonly Request[], name: string): Promise<void> {
  const heads = requests.map(({ kind, host, isWarm }, index) =>
    isWarm && /^[a-z.:0-9]+$/i.test(host)
      ? `GET /${name}/${index}/${kind} HTTP/1.1\r\nHost: ${host}\r\n\r\n`
      : "",
  );
  await both([`${heads.join("")}GET /${name}/end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`]);
}

/** Cuts at the given shares of the length, 0..1. */
function cutAt(bytes: string, shares: readonly number[]): readonly string[] {
  const places = [
    0,
    ...shares.map((share) => Math.floor(share * bytes.length)).toSorted((a, b) => a - b),
    bytes.length,
  ];
  return places.slice(1).map((to, index) => bytes.slice(places[index], to));
}

let runs = 0;
const cuts = fc.oneof(
  fc.constant([]),
  fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 6 }),
);

describe("the same bytes get the same answers both ways", () => {
  test("canonical requests: hits, misses, conditions, ranges, pipelines", async () => {
    let hits = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(request(LINES, false), { minLength: 1, maxLength: 6 }),
        cuts,
        async (requests, shares) => {
          const name = `c${(runs += 1)}`;
          await warm(requests, name);
          const answers = await both(cutAt(bytesOf(requests, name), shares));
          hits += answers.flat.match(/Cache-Status: edge; hit/g)?.length ?? 0;
          expect(answers.flat).toBe(answers.node);
        },
      ),
      { numRuns: 100 },
    );
    expect(hits).toBeGreaterThan(20);
  });

  test("requests at the border of the grammar, and behind them canonical ones", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.oneof(
            { weight: 3, arbitrary: request(LINES, false) },
            { weight: 2, arbitrary: request([...LINES, ...ODD_LINES], true) },
          ),
          { minLength: 1, maxLength: 4 },
        ),
        cuts,
        async (requests, shares) => {
          const name = `o${(runs += 1)}`;
          await warm(requests, name);
          const answers = await both(cutAt(bytesOf(requests, name), shares));
          expect(answers.flat).toBe(answers.node);
        },
      ),
      { numRuns: 100 },
    );
  });

  test("each odd line alone, first and second on its connection", async () => {
    for (const line of ODD_LINES)
      for (const before of [
        [],
        [{ method: "GET", kind: "small", version: "1.1", host: "a", lines: [], isWarm: true }],
      ]) {
        const odd: Request = {
          method: "GET",
          kind: "fresh",
          version: "1.1",
          host: "a",
          lines: [line],
          isWarm: true,
        };
        const answers = await both([bytesOf([...before, odd], `l${(runs += 1)}`)]);
        expect(answers.flat, line).toBe(answers.node);
      }
  });

  test("a pipeline cut at every byte is answered as the whole one", async () => {
    const plain = { version: "1.1", host: "a", lines: [], isWarm: true };
    const bytes = bytesOf(
      [
        { ...plain, method: "GET", kind: "fresh" },
        { ...plain, method: "HEAD", kind: "fresh", lines: ["Accept: */*"] },
        { ...plain, method: "POST", kind: "once" },
      ],
      "cut",
    );
    await both([bytes]);
    const whole = await both([bytes]);
    expect(whole.flat).toBe(whole.node);
    expect(whole.flat.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(4);
    for (let at = 1; at < bytes.length; at += 1) {
      const cut = await exchange(flat.port, [bytes.slice(0, at), bytes.slice(at)]);
      expect(cut, `cut at ${at}`).toBe(whole.flat);
    }
    expect(await exchange(flat.port, Array.from(bytes))).toBe(whole.flat);
  });
});

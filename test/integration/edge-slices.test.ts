/** Objects in slices on real sockets: what clients get, and what the origin is asked for and sends. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { contentOf, RangeOrigin } from "../tools/range-origin.ts";
import { fetchFrom, keepLoopBusy, rawExchange, startEdge, type TestEdge, until } from "./edge-support.ts";

const MEBIBYTE = 2 ** 20;
/** Slices of 64 KiB behave as those of 1 MiB do, in a sixteenth of the time. */
const SLICE = 64 * 1_024;
const SIZE = 10 * SLICE + 1_234;

let origin: RangeOrigin;
let edge: TestEdge;

async function begin(
  settings: Parameters<typeof startEdge>[1] = {},
  size = SIZE,
  disk?: string,
): Promise<void> {
  origin = new RangeOrigin(size);
  await origin.start();
  edge = await startEdge(origin, { sliceBytes: SLICE, ...settings }, disk);
}
let directory: string | undefined;
afterEach(async () => {
  await edge.running.stop();
  await origin.stop();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
  directory = undefined;
});

const get = (path: string, range?: string, more: Record<string, string> = {}) =>
  fetchFrom(edge.port, path, { headers: { ...(range !== undefined && { range }), ...more } });
const asked = () => origin.requests.map(({ range }) => range ?? "whole");

test("an answer that has begun has its slices while a busy process sheds new requests", async () => {
  await begin({ loopDelayTargetMs: 2 }, 100 * SLICE);
  using _busy = keepLoopBusy();
  const outgoing = request({
    host: "127.0.0.1",
    port: edge.port,
    path: "/a",
    headers: { range: `bytes=0-${99 * SLICE}` },
  }).end();
  const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
  expect(answer.statusCode).toBe(206);
  let shed = 0;
  let asked = 0;
  await until(async () => {
    const other = await get(`/${asked++}`, "bytes=0-0");
    shed = other.status === 503 && other.cacheStatus.includes("server-busy") ? shed + 1 : 0;
    return shed > 20;
  }, "new requests to be shed");
  const before = origin.requests.length;
  const chunks: Buffer[] = [];
  for await (const chunk of answer as AsyncIterable<Buffer>) chunks.push(chunk);
  expect(Buffer.concat(chunks).equals(contentOf(1, 0, 99 * SLICE))).toBe(true);
  expect(origin.requests.length).toBeGreaterThan(before);
});

describe("one range", () => {
  test("a byte of what is not stored costs the origin its slice, once", async () => {
    await begin();
    const at = 5 * SLICE + 77;
    const first = await get("/a", `bytes=${at}-${at}`);
    expect([first.status, first.headers["content-range"], first.headers["content-length"]]).toEqual([
      206,
      `bytes ${at}-${at}/${SIZE}`,
      "1",
    ]);
    expect(first.body).toEqual(contentOf(1, at, at));
    expect(first.cacheStatus).toMatch(/^fwd=uri-miss; fwd-status=206; ttl=[0-9]+; stored$/);
    expect(first.headers.etag).toBe('"v1"');
    const second = await get("/a", `bytes=${at + 1_000}-${at + 2_000}`);
    expect(second.body).toEqual(contentOf(1, at + 1_000, at + 2_000));
    expect(second.cacheStatus).toMatch(/^hit; ttl=/);
    expect(asked()).toEqual([`bytes=${5 * SLICE}-${6 * SLICE - 1}`]);
    expect(origin.sentBytes).toBe(SLICE);
    expect(await edge.metric("slices_total", { result: "streamed" })).toBe(1);
  });

  test("over several slices: the missing ones are fetched, in parallel, the present ones are not", async () => {
    await begin();
    await get("/a", `bytes=${2 * SLICE}-${2 * SLICE}`);
    const part = await get("/a", `bytes=${SLICE - 5}-${4 * SLICE + 5}`);
    expect(part.body.equals(contentOf(1, SLICE - 5, 4 * SLICE + 5))).toBe(true);
    expect(part.cacheStatus).toMatch(/^fwd=partial; fwd-status=206; ttl=[0-9]+; stored$/);
    expect(asked().toSorted()).toEqual(
      [2, 0, 1, 3, 4].map((n) => `bytes=${n * SLICE}-${(n + 1) * SLICE - 1}`).toSorted(),
    );
    expect((await get("/a", `bytes=${SLICE}-${2 * SLICE}`)).cacheStatus).toMatch(/^hit/);
    expect(origin.sentBytes).toBe(5 * SLICE);
  });

  test("the end by a suffix, the end by its place, beyond the end, and the whole by bytes=0-", async () => {
    await begin();
    const suffix = await get("/a", "bytes=-100");
    expect(suffix.headers["content-range"]).toBe(`bytes ${SIZE - 100}-${SIZE - 1}/${SIZE}`);
    expect(suffix.body).toEqual(contentOf(1, SIZE - 100, SIZE - 1));
    expect(origin.sentBytes).toBe(SLICE);
    // The last slice came with it.
    expect((await get("/a", `bytes=${10 * SLICE}-`)).body).toEqual(contentOf(1, 10 * SLICE, SIZE - 1));
    expect(origin.requests).toHaveLength(1);
    const beyond = await get("/a", `bytes=${SIZE}-`);
    expect([beyond.status, beyond.headers["content-range"]]).toEqual([416, `bytes */${SIZE}`]);
    expect(origin.requests).toHaveLength(1);
    const whole = await get("/a", "bytes=0-");
    expect(whole.status).toBe(206);
    expect(whole.body.equals(contentOf(1, 0, SIZE - 1))).toBe(true);
    // The last slice is not fetched again; the suffix brought the rest of the one before it for nothing.
    expect(origin.requests).toHaveLength(11);
    expect((await get("/a")).cacheStatus).toMatch(/^hit/);
    expect((await get("/a")).status).toBe(200);
  });

  test("beyond the end of what is not stored: the origin's 416", async () => {
    await begin();
    const beyond = await get("/a", `bytes=${SIZE + 5 * SLICE}-`);
    expect([beyond.status, beyond.headers["content-range"]]).toEqual([416, `bytes */${SIZE}`]);
    // It is no answer for anybody else, whatever lifetime it states, and does not end the collapsing of its key.
    const both = await Promise.all([get("/a"), get("/a")]);
    expect(both.map(({ status }) => status)).toEqual([200, 200]);
    expect(asked().slice(1)).toEqual(["whole"]);
  });

  test("an object of one slice is stored whole, also from a range", async () => {
    await begin({}, 1_000);
    expect((await get("/a", "bytes=10-19")).body).toEqual(contentOf(1, 10, 19));
    const whole = await get("/a");
    expect([whole.status, whole.cacheStatus.slice(0, 3), whole.headers["content-range"]]).toEqual([
      200,
      "hit",
      undefined,
    ]);
    expect(whole.body).toEqual(contentOf(1, 0, 999));
    expect(origin.requests).toHaveLength(1);
  });

  test("If-Range, If-None-Match and HEAD are answered from the head", async () => {
    await begin();
    await get("/a", "bytes=0-0");
    expect((await get("/a", "bytes=0-9", { "if-range": '"v1"' })).status).toBe(206);
    const other = await get("/a", "bytes=0-9", { "if-range": '"v0"' });
    expect([other.status, other.body.byteLength]).toEqual([200, SIZE]);
    expect((await get("/a", "bytes=0-9", { "if-none-match": '"v1"' })).status).toBe(304);
    const before = origin.requests.length;
    const head = await fetchFrom(edge.port, "/a", { method: "HEAD", headers: { range: "bytes=0-9" } });
    expect([head.status, head.headers["content-length"], head.body.byteLength]).toEqual([
      200,
      String(SIZE),
      0,
    ]);
    expect(origin.requests).toHaveLength(before);
  });

  test("an origin without ranges answers with the whole, which is stored", async () => {
    await begin({}, 3 * SLICE);
    origin.hasRanges = false;
    const first = await get("/a", "bytes=5-9");
    expect([first.status, first.headers["content-range"]]).toEqual([206, `bytes 5-9/${3 * SLICE}`]);
    expect(first.body).toEqual(contentOf(1, 5, 9));
    await until(async () => (await get("/a", "bytes=0-0")).cacheStatus.startsWith("hit"), "stored");
    expect(origin.requests).toHaveLength(1);
  });

  test("no leave to store: the client's own range goes through, and from then on at once", async () => {
    await begin();
    origin.fields = { "Cache-Control": "no-store" };
    for (let n = 0; n < 3; n++) {
      const part = await get("/a", "bytes=100000-100004");
      expect([part.status, part.body]).toEqual([206, contentOf(1, 100_000, 100_004)]);
      expect(part.cacheStatus).toBe("fwd=uri-miss; fwd-status=206; detail=no-store");
    }
    expect(asked()).toEqual([
      `bytes=${SLICE}-${2 * SLICE - 1}`,
      ...Array.from({ length: 3 }, () => "bytes=100000-100004"),
    ]);
  });
});

describe("a part that nothing strong ties to another", () => {
  const slice1 = `bytes=${SLICE}-${2 * SLICE - 1}`;

  test.each([
    ["a weak validator", { ETag: 'W/"v1"' }],
    ["no validator", { ETag: undefined }],
  ])(
    "%s: the slice asked for answers what lies within; else the client's own range is asked for, and kept",
    async (_name, fields) => {
      await begin();
      origin.fields = fields;
      const first = await get("/a", "bytes=100000-100004");
      expect([first.status, first.body]).toEqual([206, contentOf(1, 100_000, 100_004)]);
      expect(first.cacheStatus).toMatch(/^fwd=uri-miss; fwd-status=206; ttl=[0-9]+; stored$/);
      const within = await get("/a", `bytes=${SLICE}-${SLICE + 9},100000-100004`);
      expect(within.cacheStatus).toMatch(/^hit; ttl=/);
      expect(within.headers["content-type"]).toMatch(/^multipart/);
      // Over its end: nothing is put together.
      const over = await get("/a", `bytes=${2 * SLICE - 5}-${2 * SLICE + 4}`);
      expect(over.body).toEqual(contentOf(1, 2 * SLICE - 5, 2 * SLICE + 4));
      expect((await get("/a", `bytes=${2 * SLICE}-${2 * SLICE}`)).cacheStatus).toMatch(/^hit; ttl=/);
      // One a key: the first has gone. All clients of the same range wait for one request.
      const again = await Promise.all(Array.from({ length: 20 }, () => get("/a", "bytes=100000-100004")));
      for (const { body } of again) expect(body).toEqual(contentOf(1, 100_000, 100_004));
      expect(asked()).toEqual([slice1, `bytes=${2 * SLICE - 5}-${2 * SLICE + 4}`, "bytes=100000-100004"]);
      // The whole takes its place.
      expect((await get("/a")).body).toHaveLength(SIZE);
      expect((await get("/a", "bytes=0-9,-9")).cacheStatus).toMatch(/^hit/);
      expect(origin.requests).toHaveLength(4);
    },
  );

  test("several ranges at once of what is arriving; a part that breaks off is not kept", async () => {
    await begin();
    origin.fields = { ETag: undefined };
    const several = await get("/a", "bytes=0-9,1000-1009");
    expect(several.headers["content-type"]).toMatch(/^multipart/);
    expect(asked()).toEqual([`bytes=0-${SLICE - 1}`]);
    origin.reset();
    origin.cutAfterBytes = 80_000;
    origin.cuts = 1;
    await expect(get("/a", "bytes=100000-199999")).rejects.toThrow("aborted");
    const anew = await get("/a", "bytes=100000-199999");
    expect(anew.body.equals(contentOf(1, 100_000, 199_999))).toBe(true);
    expect(anew.cacheStatus).toMatch(/^fwd=uri-miss/);
    expect(origin.requests).toHaveLength(2);
  });

  test("while one arrives, those who ask for the whole wait for one request, not for the part", async () => {
    await begin();
    origin.fields = { ETag: undefined };
    const [head, content] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let pieces = 0;
    origin.pace = () => (pieces++ === 0 ? head.promise : content.promise);
    const first = get("/a", "bytes=100000-100004");
    await until(() => origin.requests.length === 1, "the part is asked for");
    const wholes = Array.from({ length: 50 }, () => get("/a"));
    await until(async () => (await edge.metric("collapsed_total")) === 50, "all wait for it");
    head.resolve();
    await until(() => origin.requests.length > 1, "the whole is asked for");
    content.resolve();
    for (const { body } of await Promise.all(wholes)) expect(body).toHaveLength(SIZE);
    expect((await first).body).toEqual(contentOf(1, 100_000, 100_004));
    expect(asked()).toEqual([slice1, "whole"]);
    // Whichever came last: the whole was answered after the part was asked for.
    expect((await get("/a")).cacheStatus).toMatch(/^hit/);
  });

  test("stale it is validated by its own range, served while that happens and when nobody answers", async () => {
    await begin({ failureMemoryMs: 0 });
    origin.fields = {
      ETag: undefined,
      "Last-Modified": new Date().toUTCString(),
      "Cache-Control": "max-age=0, stale-while-revalidate=60, stale-if-error=60",
    };
    await get("/a", "bytes=100000-100004");
    expect((await get("/a", "bytes=100001-100002")).cacheStatus).toMatch(/^hit; .*stale-while-revalidate/);
    await until(() => Promise.resolve(origin.requests.length === 2), "validated");
    expect(asked()).toEqual([slice1, slice1]);
    origin.fields = { "Cache-Control": "max-age=0, stale-if-error=60" };
    await until(
      async () =>
        (await get("/a", "bytes=100001-100002")).cacheStatus.startsWith("fwd=stale; fwd-status=304"),
      "validated by its tag",
    );
    await origin.stop();
    const stale = await get("/a", "bytes=100001-100002");
    expect(stale.cacheStatus).toMatch(/^hit; .*stale-if-error/);
    expect(stale.body).toEqual(contentOf(1, 100_001, 100_002));
    expect((await get("/a", "bytes=0-9")).status).toBe(502);
    expect((await get("/a")).status).toBe(502);
    await origin.start();
    origin.version = 2;
    await fetchFrom(edge.port, "/a", { method: "POST" });
    const changed = await get("/a", "bytes=100001-100002");
    expect(changed.cacheStatus).toMatch(/^fwd=stale; fwd-status=206; .*detail=invalidated/);
    expect(changed.body).toEqual(contentOf(2, 100_001, 100_002));
  });
});

test("a slice that the origin does not give is remembered, and the other slices are asked for", async () => {
  await begin({ failureMemoryMs: 60_000, sliceReadAheadMax: 0 });
  const slice = async (index: number): Promise<readonly [status: number, asked: number]> => {
    const { status } = await get("/a", `bytes=${index * SLICE}-${index * SLICE + 9}`);
    return [status, origin.requests.length];
  };
  await slice(0);
  origin.answer = (request) => {
    const isBad = request.headers.range?.startsWith(`bytes=${2 * SLICE}-`) === true;
    if (isBad) request.socket.destroy();
    return isBad;
  };
  const [status, before] = await slice(2);
  expect(status).toBe(502);
  expect(await slice(2)).toEqual([502, before]);
  expect(await edge.metric("failures_remembered_total")).toBeGreaterThan(0);
  expect(await slice(3)).toEqual([206, before + 1]);
  expect(await slice(2)).toEqual([502, before + 1]);
});

describe("several ranges", () => {
  test("parts in the order of asking, with their length stated", async () => {
    await begin();
    const part = await get("/a", `bytes=${3 * SLICE}-${3 * SLICE + 9},5-6,-2`);
    expect(part.status).toBe(206);
    expect(part.headers["content-range"]).toBeUndefined();
    const boundary = /^multipart\/byteranges; boundary=([0-9a-f]{32})$/.exec(
      part.headers["content-type"] ?? "",
    )?.[1];
    const piece = (first: number, last: number) =>
      `--${boundary}\r\nContent-Type: video/mp4\r\nContent-Range: bytes ${first}-${last}/${SIZE}\r\n\r\n` +
      `${contentOf(1, first, last).toString("latin1")}\r\n`;
    const expected = `${piece(3 * SLICE, 3 * SLICE + 9)}${piece(5, 6)}${piece(SIZE - 2, SIZE - 1)}--${boundary}--\r\n`;
    expect(part.body.toString("latin1")).toBe(expected);
    expect(part.headers["content-length"]).toBe(String(expected.length));
    expect(origin.requests).toHaveLength(3);
  });

  test("1,001 overlapping ranges in one request cost the object once, and so do 1,001 requests", async () => {
    await begin({ headerBytesMax: 64 * 1_024 });
    const firsts = Array.from({ length: 1_001 }, (_, n) => n * 600);
    const one = await get("/one", `bytes=${firsts.map((first) => `${first}-`).join(",")}`);
    expect(one.headers["content-range"]).toBe(`bytes 0-${SIZE - 1}/${SIZE}`);
    expect(one.body.equals(contentOf(1, 0, SIZE - 1))).toBe(true);
    expect(origin.sentBytes).toBe(SIZE);
    origin.reset();
    const many = await Promise.all(
      firsts.map((first) => get("/many", `bytes=${first}-${Math.min(SIZE, first + 5_000) - 1}`)),
    );
    for (const [n, part] of many.entries()) {
      const first = firsts[n] ?? 0;
      if (!part.body.equals(contentOf(1, first, Math.min(SIZE, first + 5_000) - 1)))
        expect.fail(`The range from ${first} is wrong`);
    }
    expect(origin.sentBytes).toBeLessThanOrEqual(SIZE);
    expect(new Set(asked()).size).toBe(origin.requests.length);
  });

  test("too many parts are refused, and nobody is asked for them", async () => {
    await begin();
    await get("/a", "bytes=0-0");
    const specs = Array.from({ length: 65 }, (_, n) => `${n * 1_000}-${n * 1_000}`).join(",");
    const refused = await get("/a", `bytes=${specs}`);
    expect([refused.status, refused.headers["content-range"]]).toEqual([416, `bytes */${SIZE}`]);
    expect(origin.requests).toHaveLength(1);
  });
});

describe("a whole", () => {
  test("is cut into slices while it streams, by one request, also for those who come meanwhile", async () => {
    await begin({ memoryBytes: 8 * MEBIBYTE });
    const answers = await Promise.all(Array.from({ length: 20 }, () => get("/a")));
    const whole = contentOf(1, 0, SIZE - 1);
    for (const answer of answers) {
      expect(answer.status).toBe(200);
      expect(answer.headers["content-length"]).toBe(String(SIZE));
      expect(answer.body.equals(whole)).toBe(true);
    }
    expect(asked()).toEqual(["whole"]);
    expect((await get("/a", `bytes=${9 * SLICE}-`)).cacheStatus).toMatch(/^hit/);
    expect(asked()).toEqual(["whole"]);
  });

  test("larger than the memory passes through it; its head outlives the slices that had to go", async () => {
    const size = 5 * MEBIBYTE;
    await begin({ memoryBytes: 2 * MEBIBYTE }, size);
    const answer = await get("/a");
    expect(answer.body.equals(contentOf(1, 0, size - 1))).toBe(true);
    expect(origin.sentBytes).toBe(size);
    expect(await edge.metric("cache_bytes")).toBeLessThanOrEqual(2 * MEBIBYTE);
    expect(await edge.metric("fill_bytes")).toBe(0);
    // Some of it is here, some is not, as the eviction policy has it; what is missing is asked for by the slice.
    origin.reset();
    for (let n = 0; n < 20; n++)
      expect((await get("/a", `bytes=${n * 4 * SLICE}-${n * 4 * SLICE}`)).cacheStatus).toMatch(
        /^(?:hit|fwd=partial)/,
      );
    expect(origin.requests.length).toBeGreaterThan(0);
    expect(origin.sentBytes).toBe(origin.requests.length * SLICE);
  });

  test("larger than the memory costs the origin once also for several readers: they stay together", async () => {
    const size = 8 * MEBIBYTE;
    await begin({ memoryBytes: 4 * MEBIBYTE }, size);
    const answers = await Promise.all(Array.from({ length: 5 }, () => get("/a")));
    for (const { body } of answers) expect(body.equals(contentOf(1, 0, size - 1))).toBe(true);
    // Not to the byte: who is held up for long falls out and asks for some slices by itself.
    expect(origin.sentBytes).toBeLessThan(1.5 * size);
  });

  test("is no longer asked for when its last reader has gone; what came is kept", async () => {
    await begin({}, 100 * MEBIBYTE);
    const text = await rawExchange(
      edge.port,
      `GET /a HTTP/1.1\r\nHost: 127.0.0.1:${edge.port}\r\nConnection: close\r\n\r\n`,
      (got) => got.length > 3 * MEBIBYTE,
    );
    expect(text).toMatch(/^HTTP\/1\.1 200 /);
    await until(async () => (await edge.metric("fills_active")) === 0, "the fill ends");
    expect(origin.sentBytes).toBeLessThan(50 * MEBIBYTE);
    const before = origin.requests.length;
    expect((await get("/a", "bytes=0-9")).cacheStatus).toMatch(/^hit/);
    expect(origin.requests).toHaveLength(before);
  });

  test("goes on in slices when the origin's connection dies half-way", async () => {
    await begin();
    // Also when transport has given up to resume: every connection dies, and slices are short enough to come through.
    origin.cutAfterBytes = 1.5 * SLICE;
    origin.cuts = 1_000;
    const answers = await Promise.all(Array.from({ length: 10 }, () => get("/a")));
    for (const answer of answers) expect(answer.body.equals(contentOf(1, 0, SIZE - 1))).toBe(true);
    expect(origin.cuts).toBeLessThan(998);
    expect(origin.sentBytes).toBeLessThan(SIZE + 5 * SLICE);
  });
});

test("on disk: larger than the memory, and after a restart, nothing is asked for again", async () => {
  directory = await mkdtemp(join(tmpdir(), "isochrone-slices-"));
  const size = 6 * MEBIBYTE + 77;
  // The key holds the host, and the port is another one after the restart.
  const at = (range?: string) => get("/a", range, { host: "a.example" });
  await begin({ memoryBytes: 2 * MEBIBYTE }, size, directory);
  await at("bytes=-1");
  expect((await at()).body.equals(contentOf(1, 0, size - 1))).toBe(true);
  origin.reset();
  expect((await at()).body.equals(contentOf(1, 0, size - 1))).toBe(true);
  // A part without a validator, too.
  const part = (range: string) => get("/part", range, { host: "a.example" });
  origin.fields = { ETag: undefined };
  await part("bytes=100000-100004");
  await part("bytes=100000-100004");
  origin.reset();
  await edge.running.stop();
  edge = await startEdge(origin, { sliceBytes: SLICE, memoryBytes: 2 * MEBIBYTE }, directory);
  const whole = await at();
  expect(whole.cacheStatus).toMatch(/^hit; ttl=/);
  expect(whole.body.equals(contentOf(1, 0, size - 1))).toBe(true);
  expect((await at(`bytes=0-9,${size - 9}-`)).cacheStatus).toMatch(/^hit/);
  const within = await part("bytes=100001-100002");
  expect([within.cacheStatus.slice(0, 4), within.body]).toEqual(["hit;", contentOf(1, 100_001, 100_002)]);
  expect(asked()).toEqual([]);
  expect((await part("bytes=0-9")).cacheStatus).toMatch(/^fwd=uri-miss/);
});

describe("another version in mid-object", () => {
  test("the answer breaks off, never mixed; the head is dropped and the next request gets the new version", async () => {
    await begin({ sliceReadAheadMax: 0 });
    await get("/a", "bytes=0-0");
    origin.version = 2;
    const text = await rawExchange(
      edge.port,
      `GET /a HTTP/1.1\r\nHost: 127.0.0.1:${edge.port}\r\nConnection: close\r\n\r\n`,
    );
    const content = text.slice(text.indexOf("\r\n\r\n") + 4);
    expect(text).toContain(`Content-Length: ${SIZE}\r\n`);
    expect(content).toHaveLength(SLICE);
    expect(Buffer.from(content, "latin1").equals(contentOf(1, 0, SLICE - 1))).toBe(true);
    expect(await edge.metric("slices_total", { result: "changed" })).toBe(1);
    const again = await get("/a");
    expect([again.headers.etag, again.body.equals(contentOf(2, 0, SIZE - 1))]).toEqual(['"v2"', true]);
  });

  test("seen before the answer has begun it is simply answered with the new version", async () => {
    await begin();
    await get("/a", "bytes=0-0");
    origin.version = 2;
    const part = await get("/a", `bytes=${4 * SLICE}-${4 * SLICE + 9}`);
    expect([part.status, part.headers.etag]).toEqual([206, '"v2"']);
    expect(part.body).toEqual(contentOf(2, 4 * SLICE, 4 * SLICE + 9));
  });

  test("a stale head is validated; the same version keeps its slices, another one costs one slice", async () => {
    await begin();
    origin.fields = { "Cache-Control": "max-age=0" };
    await get("/a", "bytes=0-9");
    origin.reset();
    expect((await get("/a", "bytes=10-19")).cacheStatus).toMatch(/^fwd=stale; fwd-status=304/);
    expect(origin.sentBytes).toBe(0);
    origin.version = 2;
    const changed = await get("/a", "bytes=10-19");
    expect(changed.body).toEqual(contentOf(2, 10, 19));
    expect(changed.cacheStatus).toMatch(/^fwd=stale; fwd-status=206/);
    expect(origin.sentBytes).toBe(SLICE);
  });

  test("a slice that cannot be had: 502 before the answer began, and the stored ones are served on", async () => {
    await begin();
    await get("/a", "bytes=0-9");
    await origin.stop();
    expect((await get("/a", "bytes=20-29")).cacheStatus).toMatch(/^hit/);
    const missing = await get("/a", `bytes=${6 * SLICE}-${6 * SLICE}`);
    expect([missing.status, missing.cacheStatus]).toEqual([502, "fwd=partial; detail=connect-failed"]);
    await origin.start();
  });
});

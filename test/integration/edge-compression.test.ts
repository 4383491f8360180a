/** Codings on real sockets: which form goes out to whom, what becomes of it in the background, and what is never compressed. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  brotliCompressSync,
  brotliDecompressSync,
  gunzipSync,
  gzipSync,
  zstdCompressSync,
  zstdDecompressSync,
} from "node:zlib";
import { hash } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type CacheKey, cacheKey, PLAIN_POLICY } from "#edge";
import { json, page, script } from "../tools/text-samples.ts";
import {
  type ClientResponse,
  fetchFrom,
  startEdge,
  type TestEdge,
  TestOrigin,
  until,
} from "./edge-support.ts";

const CHROME = "gzip, deflate, br, zstd";
const origin = new TestOrigin();
let edge: TestEdge;
let paths = 0;

/** What the origin says of a path: content and fields, by what it is asked. */
const resources = new Map<
  string,
  (asked: Readonly<Record<string, unknown>>) => {
    fields: Record<string, string>;
    body: Buffer;
    status?: number;
  }
>();

function publish(fields: Record<string, string>, body: Buffer, path = `/r${++paths}`): string {
  resources.set(path, () => ({ fields, body }));
  return path;
}

beforeAll(async () => {
  await origin.start();
  origin.answer = (request, response) => {
    const {
      fields,
      body,
      status = 200,
    } = resources.get(request.url ?? "")?.(request.headers) ?? {
      fields: {},
      body: Buffer.from("none"),
      status: 404,
    };
    response.writeHead(status, { "content-length": body.byteLength, ...fields });
    response.end(body);
  };
  edge = await startEdge(origin, { codingCpuShare: 1, decodedBytesMax: 4 * 2 ** 20 });
});
afterEach(() => {
  origin.seen.length = 0;
});
afterAll(async () => {
  await edge.running.close();
  await origin.stop();
});

const ask = async (
  path: string,
  headers: Record<string, string> = {},
  method = "GET",
): Promise<ClientResponse> =>
  await fetchFrom(edge.port, path, { headers: { host: "www.example", ...headers }, method });

/** Node knows the option for Brotli too; its types do not yet. */
const withDictionary = (dictionary: Buffer | undefined): object => ({ dictionary });

function plainOf({ headers, body }: ClientResponse, dictionary?: Buffer): Buffer {
  switch (headers["content-encoding"]) {
    case "br":
      return brotliDecompressSync(body);
    case "zstd":
      return zstdDecompressSync(body);
    case "gzip":
      return gunzipSync(body);
    case "dcb":
      return brotliDecompressSync(body.subarray(36), withDictionary(dictionary));
    case "dcz":
      return zstdDecompressSync(body.subarray(40), withDictionary(dictionary));
    case undefined:
    default:
      return body;
  }
}

/** Asks until an answer comes in `coding` with its length stated, which is a form that is kept. */
async function untilKept(
  path: string,
  headers: Record<string, string>,
  coding: string,
): Promise<ClientResponse> {
  let last: ClientResponse | undefined;
  await until(async () => {
    last = await ask(path, headers);
    return last.headers["content-encoding"] === coding && last.headers["content-length"] !== undefined;
  }, `${path} kept in ${coding}`);
  if (last === undefined) throw new Error("no answer");
  return last;
}

const keyOf = (path: string): CacheKey =>
  cacheKey({ scheme: "http", host: "www.example", target: path }, PLAIN_POLICY);

const SCRIPT = { "content-type": "text/javascript", "cache-control": "max-age=600", etag: '"s1"' };

describe("forms of what is stored", () => {
  test("a first answer is compressed as it goes by; asked for again it is compressed once, better, and served as any hit", async () => {
    const content = script(60_000);
    const path = publish(
      { ...SCRIPT, "accept-ranges": "bytes", "content-digest": "sha-256=:AAAA:" },
      content,
    );
    const first = await ask(path, { "accept-encoding": CHROME });
    expect(first.headers).toMatchObject({
      "content-encoding": "zstd",
      etag: 'W/"s1"',
      vary: "Accept-Encoding",
    });
    expect(first.headers["content-length"]).toBeUndefined();
    expect(first.headers["accept-ranges"]).toBeUndefined();
    expect(first.headers["content-digest"]).toBeUndefined();
    expect(plainOf(first)).toEqual(content);

    const kept = await untilKept(path, { "accept-encoding": CHROME }, "br");
    expect(plainOf(kept)).toEqual(content);
    expect(kept.body.byteLength).toBeLessThan(first.body.byteLength);
    expect(kept.cacheStatus).toMatch(/^hit; ttl=/);

    // The same for another spelling of the same codings, and then from the hot table.
    const hot = await edge.metric("hot_hits_total");
    const again = await ask(path, { "accept-encoding": "zstd,br , GZIP" });
    expect(again.body).toEqual(kept.body);
    expect(again.headers).toMatchObject({
      "content-encoding": "br",
      etag: 'W/"s1"',
      vary: "Accept-Encoding",
    });
    expect(await edge.metric("hot_hits_total")).toBe(hot + 1);
    expect(await edge.metric("coding_jobs_total", { coding: "br", result: "done" })).toBe(1);
    expect(origin.seen).toHaveLength(1);
    expect(origin.seen[0]?.headers["accept-encoding"]).toBe("gzip");
  });

  test("each client gets what it takes: by q, by absence, by identity", async () => {
    const content = json(20_000);
    const path = publish({ "content-type": "application/json", "cache-control": "max-age=600" }, content);
    await ask(path);
    for (const [accept, coding] of [
      ["gzip", "gzip"],
      ["br", "br"],
      ["x-gzip;q=0.5", "gzip"],
      ["br;q=0, gzip;q=0.1", "gzip"],
      ["*", "br"],
      ["identity, gzip;q=0.5", undefined],
      ["identity;q=1, *;q=0", undefined],
      ["deflate", undefined],
      ["", undefined],
    ] as const) {
      const answer =
        coding === undefined
          ? await ask(path, { "accept-encoding": accept })
          : await untilKept(path, { "accept-encoding": accept }, coding);
      expect(answer.headers["content-encoding"], accept).toBe(coding);
      expect(plainOf(answer), accept).toEqual(content);
      expect(answer.headers.vary, accept).toBe("Accept-Encoding");
    }
    const plain = await ask(path);
    expect(plain.headers["content-encoding"]).toBeUndefined();
    expect(plain.body).toEqual(content);
  });

  test("conditions match any form; ranges are of the stored one alone", async () => {
    const content = script(40_000);
    const modified = "Mon, 02 Nov 2026 00:00:00 GMT";
    const path = publish({ ...SCRIPT, "last-modified": modified }, content);
    await ask(path);
    await untilKept(path, { "accept-encoding": CHROME }, "br");
    for (const tag of ['W/"s1"', '"s1"']) {
      const answer = await ask(path, { "accept-encoding": CHROME, "if-none-match": tag });
      expect(answer.status).toBe(304);
      expect(answer.headers).toMatchObject({ etag: 'W/"s1"', vary: "Accept-Encoding" });
    }
    const plain = await ask(path, { "if-none-match": 'W/"s1"' });
    expect([plain.status, plain.headers.etag]).toEqual([304, '"s1"']);

    const range = { range: "bytes=100-199", "accept-encoding": CHROME };
    const part = await ask(path, range);
    expect([part.status, part.headers.etag, part.headers["content-encoding"]]).toEqual([
      206,
      '"s1"',
      undefined,
    ]);
    expect(part.body).toEqual(content.subarray(100, 200));
    const strong = await ask(path, { ...range, "if-range": '"s1"' });
    expect(strong.status).toBe(206);
    // The client may hold a part of the compressed form: neither its weak tag nor a date tells which.
    for (const ifRange of ['W/"s1"', modified]) {
      const whole = await ask(path, { ...range, "if-range": ifRange });
      expect(whole.status, ifRange).toBe(200);
      expect(plainOf(whole), ifRange).toEqual(content);
    }
    expect((await ask(path, { range: "bytes=100-199", "if-range": modified })).status).toBe(206);

    const head = await ask(path, { "accept-encoding": CHROME }, "HEAD");
    const get = await ask(path, { "accept-encoding": CHROME });
    for (const name of ["content-encoding", "content-length", "etag", "vary"])
      expect(head.headers[name], name).toBe(get.headers[name]);
  });

  test("what goes by the name is gone with the content: no form outlives its object", async () => {
    const path = publish(SCRIPT, script(30_000, 1));
    await ask(path);
    await untilKept(path, { "accept-encoding": CHROME }, "br");
    expect(edge.running.edge.store.delete(keyOf(path))).toBe(1);
    const content = script(30_000, 2);
    publish({ ...SCRIPT, etag: '"s2"' }, content, path);
    const next = await ask(path, { "accept-encoding": CHROME });
    expect(next.headers.etag).toBe('W/"s2"');
    expect(plainOf(next)).toEqual(content);
  });

  test("a form that was made is there after a restart, until its object is purged", async () => {
    const directory = await mkdtemp(join(tmpdir(), "isochrone-forms-"));
    const content = script(30_000, 3);
    const path = publish({ "content-type": "text/javascript", "cache-control": "max-age=600" }, content);
    let one = await startEdge(origin, { codingCpuShare: 1 }, directory);
    const headers = { host: "www.example", "accept-encoding": CHROME };
    const jobs = async (): Promise<number> => await one.metric("coding_jobs_total", { result: "done" });
    const restart = async (): Promise<void> => {
      await one.running.close();
      one = await startEdge(origin, { codingCpuShare: 1 }, directory);
    };
    await fetchFrom(one.port, path, { headers });
    await fetchFrom(one.port, path, { headers });
    await until(async () => (await jobs()) === 1, "the form is made");
    const made = await fetchFrom(one.port, path, { headers });
    await restart();
    const first = await fetchFrom(one.port, path, { headers });
    expect(first.headers).toMatchObject({
      "content-encoding": "br",
      "content-length": `${made.body.length}`,
    });
    expect(first.body).toEqual(made.body);
    expect(first.cacheStatus).toMatch(/hit/);
    expect(await jobs()).toBe(0);
    one.running.edge.store.delete(keyOf(path));
    await restart();
    expect((await fetchFrom(one.port, path, { headers })).cacheStatus).toMatch(/fwd=uri-miss/);
    await one.running.close();
    await rm(directory, { recursive: true });
  });

  test("forms count in the store's bytes", async () => {
    const { memory } = edge.running.edge.store;
    const path = publish(SCRIPT, script(50_000));
    await ask(path);
    const before = memory.bytes;
    const kept = await untilKept(path, { "accept-encoding": CHROME }, "br");
    expect(memory.bytes).toBeGreaterThan(before + kept.body.byteLength);
  });
});

describe("not compressed", () => {
  const text = page(5_000);
  test.each([
    ["no-transform", { "content-type": "text/html", "cache-control": "max-age=60, no-transform" }, text],
    [
      "sets a cookie",
      { "content-type": "text/html", "cache-control": "max-age=60", "set-cookie": "a=b" },
      text,
    ],
    [
      "made for a cookie",
      { "content-type": "text/html", "cache-control": "max-age=60", vary: "Cookie" },
      text,
    ],
    ["not stored", { "content-type": "text/html", "cache-control": "private" }, text],
    ["an image", { "content-type": "image/png", "cache-control": "max-age=60" }, text],
    ["an event stream", { "content-type": "text/event-stream", "cache-control": "max-age=60" }, text],
    ["of no type", { "cache-control": "max-age=60" }, text],
    [
      "in a coding that is not known",
      { "content-type": "text/html", "cache-control": "max-age=60", "content-encoding": "x-own" },
      text,
    ],
    ["short", { "content-type": "text/html", "cache-control": "max-age=60" }, text.subarray(0, 255)],
  ] as const)("%s", async (_name, fields, body) => {
    const path = publish({ ...fields, etag: '"n"' }, Buffer.from(body));
    for (let time = 0; time < 3; time++) {
      const answer = await ask(path, { "accept-encoding": CHROME });
      expect(answer.headers["content-encoding"]).toBe("content-encoding" in fields ? "x-own" : undefined);
      expect(answer.headers.etag).toBe('"n"');
      expect(answer.body).toEqual(Buffer.from(body));
    }
    expect(origin.seen[0]?.headers["accept-encoding"]).toBe("gzip");
  });

  test("for a request with credentials, or one that asks for no transformation", async () => {
    const path = publish({ ...SCRIPT, "cache-control": "public, max-age=60" }, script(20_000));
    await ask(path);
    await untilKept(path, { "accept-encoding": CHROME }, "br");
    for (const more of [{ authorization: "Basic YTpi" }, { "cache-control": "no-transform" }])
      for (let time = 0; time < 2; time++) {
        const answer = await ask(path, { "accept-encoding": CHROME, ...more });
        expect(answer.headers["content-encoding"]).toBeUndefined();
        expect(answer.headers.etag).toBe('"s1"');
      }
  });

  test("what goes past the cache is asked for with the client's own words", async () => {
    const path = publish({ "content-type": "text/html" }, page(3_000));
    const answer = await ask(path, { "accept-encoding": "br;q=0.9, x-own", connection: "close" }, "POST");
    expect(origin.seen[0]?.headers["accept-encoding"]).toBe("br;q=0.9, x-own");
    expect(answer.headers["content-encoding"]).toBeUndefined();
  });

  test("what cannot be made smaller goes out as it is, and is not tried again", async () => {
    const noise = Buffer.from(
      Array.from({ length: 8_000 }, (_, at) => hash("sha256", `${at}`, "hex")[0]?.charCodeAt(0) ?? 0),
    );
    const random = brotliCompressSync(noise);
    const path = publish({ "content-type": "text/plain", "cache-control": "max-age=60" }, random);
    await ask(path);
    const before = await edge.metric("coding_jobs_total");
    await until(
      async () => (await ask(path, { "accept-encoding": CHROME })).headers["content-encoding"] === undefined,
      "as it is",
    );
    for (let time = 0; time < 3; time++)
      expect((await ask(path, { "accept-encoding": CHROME })).body).toEqual(random);
    expect(await edge.metric("coding_jobs_total", { result: "useless" })).toBe(1);
    expect(await edge.metric("coding_jobs_total")).toBe(before + 1);
  });
});

describe("an origin that compresses", () => {
  test("its form is one of two that are stored; from it the better ones are made", async () => {
    const content = page(30_000);
    const path = `/r${++paths}`;
    resources.set(path, (asked) => {
      const fields = { "content-type": "text/html", "cache-control": "max-age=60", vary: "Accept-Encoding" };
      return asked["accept-encoding"] === "gzip"
        ? { fields: { ...fields, "content-encoding": "gzip", etag: '"g"' }, body: gzipSync(content) }
        : { fields: { ...fields, etag: '"i"' }, body: content };
    });
    const first = await ask(path, { "accept-encoding": CHROME });
    expect(first.headers).toMatchObject({ "content-encoding": "gzip", etag: '"g"', vary: "Accept-Encoding" });
    const kept = await untilKept(path, { "accept-encoding": CHROME }, "br");
    expect(kept.headers.etag).toBe('W/"g"');
    expect(kept.body.byteLength).toBeLessThan(first.body.byteLength);
    expect(plainOf(kept)).toEqual(content);
    expect((await ask(path, { "accept-encoding": "gzip" })).headers.etag).toBe('"g"');
    const plain = await ask(path);
    expect([plain.headers.etag, plain.headers["content-encoding"]]).toEqual(['"i"', undefined]);
    expect(origin.seen).toHaveLength(2);
  });

  test("who does not take its coding gets the content decoded, once for all", async () => {
    const content = page(30_000);
    const fields = {
      "content-type": "text/html",
      "cache-control": "max-age=60",
      "content-encoding": "gzip",
      etag: '"g"',
    };
    const path = publish(fields, gzipSync(content));
    await ask(path, { "accept-encoding": CHROME });
    for (const accept of [{}, { "accept-encoding": "identity" }, { "accept-encoding": "gzip;q=0" }]) {
      const plain = await ask(path, accept);
      expect(plain.headers["content-encoding"]).toBeUndefined();
      expect(plain.headers.etag).toBe('W/"g"');
      expect(plain.body).toEqual(content);
    }
    expect(await edge.metric("coded_total", { how: "decoded" })).toBe(1);
    expect(origin.seen).toHaveLength(1);
  });

  test.each([
    ["too-large", gzipSync(Buffer.alloc(8 * 2 ** 20))],
    ["too-large", zstdCompressSync(Buffer.alloc(64 * 2 ** 20))],
    ["malformed", gzipSync(script(9_000)).subarray(0, 1_000)],
  ])("what cannot be decoded within bounds is a 502 (%s)", async (reason, body) => {
    const coding = body[0] === 0x1f ? "gzip" : "zstd";
    const path = publish(
      { "content-type": "text/plain", "cache-control": "max-age=60", "content-encoding": coding },
      body,
    );
    const before = await edge.metric("decoding_refused_total", { reason });
    const { bytes } = edge.running.edge.store.memory;
    const answer = await ask(path, { "accept-encoding": "br" });
    expect(answer.status).toBe(502);
    expect(answer.headers["cache-control"]).toBe("no-store");
    expect(answer.body.toString()).toContain(`cannot be decoded from ${coding} (${reason})`);
    expect(await edge.metric("decoding_refused_total", { reason })).toBe(before + 1);
    // Nothing of what came out is kept.
    expect(edge.running.edge.store.memory.bytes).toBeLessThan(bytes + body.byteLength + 4_096);
  });
});

describe("dictionaries (RFC 9842)", () => {
  const takes = { "accept-encoding": `${CHROME}, dcb, dcz` };
  test("the next version of a script travels as its difference to the one that the client has", async () => {
    const old = script(150_000, 1);
    const next = script(150_000, 2);
    const fields = { ...SCRIPT, "use-as-dictionary": 'match="/app/*.js", match-dest=("script")' };
    publish(fields, old, "/app/1.js");
    publish({ ...fields, etag: '"s2"' }, next, "/app/2.js");
    const first = await ask("/app/1.js", takes);
    expect(first.headers["use-as-dictionary"]).toContain('match="/app/*.js"');
    expect(plainOf(first)).toEqual(old);
    await until(async () => (await edge.metric("dictionaries")) === 1, "kept as a dictionary");
    const has = { ...takes, "available-dictionary": `:${hash("sha256", old, "base64")}:` };
    const delta = await ask("/app/2.js", has);
    expect(delta.headers).toMatchObject({
      "content-encoding": "dcz",
      vary: "Accept-Encoding, Available-Dictionary",
    });
    expect(plainOf(delta, old)).toEqual(next);
    expect(delta.body.byteLength).toBeLessThan(1_000);
    const kept = await untilKept("/app/2.js", has, "dcb");
    expect(kept.body.subarray(0, 4)).toEqual(Buffer.from([0xff, 0x44, 0x43, 0x42]));
    expect(kept.body.subarray(4, 36).toString("base64")).toBe(hash("sha256", old, "base64"));
    expect(plainOf(kept, old)).toEqual(next);
    expect(kept.body.byteLength).toBeLessThan(1_000);
    // From the hot table too, and never to one who has another dictionary, or none.
    const hot = await edge.metric("hot_hits_total");
    await until(async () => {
      expect((await ask("/app/2.js", has)).body).toEqual(kept.body);
      return (await edge.metric("hot_hits_total")) > hot;
    }, "remembered");
    const other = { ...takes, "available-dictionary": `:${hash("sha256", "other", "base64")}:` };
    for (const headers of [other, takes, { ...has, "accept-encoding": CHROME }]) {
      const answer = await ask("/app/2.js", headers);
      expect(["br", "zstd"]).toContain(answer.headers["content-encoding"]);
      expect(plainOf(answer)).toEqual(next);
    }
    // Another site's dictionaries are none of this one's.
    const elsewhere = await ask("/app/2.js", { ...has, host: "other.example" });
    expect(elsewhere.headers["content-encoding"]).toBe("zstd");
  });

  test("the property marks what the origin does not; a version that has left the store still serves", async () => {
    const own = await startEdge(origin, { codingCpuShare: 1 }, undefined, undefined, {
      compression: { isEnabled: true, dictionaries: ["/lib/*.js"] },
    });
    try {
      const old = script(100_000, 1);
      const next = script(100_000, 2);
      publish(SCRIPT, old, "/lib/main.js");
      const get = async (headers: Record<string, string>) =>
        await fetchFrom(own.port, "/lib/main.js", { headers: { host: "www.example", ...headers } });
      const first = await get(takes);
      expect(first.headers["use-as-dictionary"]).toBe('match="/lib/*.js"');
      await until(async () => (await own.metric("dictionaries")) === 1, "kept as a dictionary");
      own.running.edge.store.clear();
      publish({ ...SCRIPT, etag: '"s2"' }, next, "/lib/main.js");
      const delta = await get({ ...takes, "available-dictionary": `:${hash("sha256", old, "base64")}:` });
      expect(delta.headers["content-encoding"]).toBe("dcz");
      expect(plainOf(delta, old)).toEqual(next);
    } finally {
      await own.running.close();
    }
  });
});

describe("load", () => {
  test("a client that leaves lets go of its compressor; beyond so many streams content goes out as it is", async () => {
    const own = await startEdge(origin, { codingStreamsMax: 1, codingQueueMax: 0 });
    try {
      const content = script(4_000_000);
      const path = publish({ "content-type": "text/javascript", "cache-control": "max-age=60" }, content);
      const socket = connect(own.port, "127.0.0.1");
      await once(socket, "connect");
      socket.pause();
      socket.write(`GET ${path} HTTP/1.1\r\nHost: www.example\r\nAccept-Encoding: gzip\r\n\r\n`);
      await until(async () => (await own.metric("coding_streams")) === 1, "compressing");
      const busy = await fetchFrom(own.port, path, {
        headers: { host: "www.example", "accept-encoding": "gzip" },
      });
      expect(busy.headers["content-encoding"]).toBeUndefined();
      expect(busy.body).toEqual(content);
      expect(await own.metric("coded_total", { how: "busy" })).toBe(1);
      socket.destroy();
      await until(async () => (await own.metric("coding_streams")) === 0, "let go");
    } finally {
      await own.running.close();
    }
  });

  test("switched off, everything is as the origin sent it and is asked for as the client asks", async () => {
    const own = await startEdge(origin, {}, undefined, undefined, {
      compression: { isEnabled: false, dictionaries: [] },
    });
    try {
      const content = script(20_000);
      const path = publish(SCRIPT, content);
      for (let time = 0; time < 3; time++) {
        const answer = await fetchFrom(own.port, path, {
          headers: { host: "www.example", "accept-encoding": CHROME },
        });
        expect([answer.headers["content-encoding"], answer.headers.vary, answer.headers.etag]).toEqual([
          undefined,
          undefined,
          '"s1"',
        ]);
        expect(answer.body).toEqual(content);
      }
      expect(origin.seen[0]?.headers["accept-encoding"]).toBe(CHROME);
    } finally {
      await own.running.close();
    }
  });
});

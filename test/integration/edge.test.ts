/** The edge alone on real sockets: what a client sees, what the origin sees, and which counters moved. */
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { fetchFrom, rawExchange, startEdge, type TestEdge, TestOrigin, until } from "./edge-support.ts";

let origin: TestOrigin;
let edge: TestEdge;
const stops: (() => Promise<unknown>)[] = [];

async function begin(settings: Parameters<typeof startEdge>[1] = {}, disk?: string): Promise<void> {
  edge = await startEdge(origin, settings, disk);
  stops.push(() => edge.running.stop());
}

beforeEach(async () => {
  origin = new TestOrigin();
  await origin.start();
});
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
  await origin.stop();
});

const cacheable = (seconds: number, body = "hello", headers: Record<string, string> = {}) => {
  origin.answer = (_request, response) => {
    response.writeHead(200, {
      "cache-control": `max-age=${seconds}`,
      "content-type": "text/plain",
      ...headers,
    });
    response.end(body);
  };
};

describe("store and reuse", () => {
  test("a miss is stored and then hit, with Age, Via and one Cache-Status member", async () => {
    await begin();
    cacheable(60);
    const miss = await fetchFrom(edge.port, "/a");
    expect(miss.status).toBe(200);
    expect(miss.cacheStatus).toMatch(/^fwd=uri-miss; fwd-status=200; ttl=(60|59); stored$/);
    const hit = await fetchFrom(edge.port, "/a");
    expect(hit.body.toString()).toBe("hello");
    expect(hit.cacheStatus).toMatch(/^hit; ttl=(60|59)$/);
    expect(hit.headers.age).toMatch(/^[01]$/);
    expect(hit.headers.via).toMatch(/^1\.1 edge-[0-9a-f]{8}$/);
    expect(origin.seen).toHaveLength(1);
    expect(origin.seen[0]?.headers["cdn-loop"]).toMatch(/^edge-/);
    expect(origin.seen[0]?.headers["x-forwarded-for"]).toBe("127.0.0.1");
    expect(await edge.metric("requests_total", { outcome: "hit" })).toBe(1);
    expect(await edge.metric("requests_total", { outcome: "uri-miss" })).toBe(1);
  });

  test("an answer that states no freshness is not stored and not serialised", async () => {
    await begin();
    await fetchFrom(edge.port, "/a");
    const second = await fetchFrom(edge.port, "/a");
    expect(second.cacheStatus).toBe("fwd=uri-miss; fwd-status=200; detail=no-freshness");
    expect(origin.seen).toHaveLength(2);
    expect(await edge.metric("not_stored_total", { reason: "no-freshness" })).toBe(2);
  });

  test("a stale answer is validated; 304 freshens it", async () => {
    await begin();
    origin.answer = (incoming, response) => {
      const headers = { etag: '"v1"', "cache-control": "max-age=0", "x-seen": String(origin.seen.length) };
      if (incoming.headers["if-none-match"] === '"v1"') response.writeHead(304, headers).end();
      else response.writeHead(200, headers).end("body");
    };
    await fetchFrom(edge.port, "/a");
    const second = await fetchFrom(edge.port, "/a");
    expect(second.body.toString()).toBe("body");
    expect(second.cacheStatus).toBe("fwd=stale; fwd-status=304; ttl=0; stored; detail=expired");
    expect(second.headers["x-seen"]).toBe("2");
    expect(origin.seen[1]?.headers["if-none-match"]).toBe('"v1"');
  });

  test("a client's condition is answered with 304 from the store, and does not go to the origin on a miss", async () => {
    await begin();
    cacheable(60, "hello", { etag: '"v1"' });
    const miss = await fetchFrom(edge.port, "/a", { headers: { "if-none-match": '"v1"' } });
    expect(miss.status).toBe(304);
    expect(origin.seen[0]?.headers["if-none-match"]).toBeUndefined();
    const hit = await fetchFrom(edge.port, "/a", { headers: { "if-none-match": 'W/"v1"' } });
    expect(hit.status).toBe(304);
    expect(hit.headers.etag).toBe('"v1"');
    expect(hit.headers["content-length"]).toBeUndefined();
    expect(origin.seen).toHaveLength(1);
  });

  test("HEAD is answered from a stored GET with its length and no content", async () => {
    await begin();
    cacheable(60, "hello", { "content-length": "5" });
    await fetchFrom(edge.port, "/a");
    const head = await fetchFrom(edge.port, "/a", { method: "HEAD" });
    expect(head.headers["content-length"]).toBe("5");
    expect(head.body).toHaveLength(0);
    expect(head.cacheStatus).toMatch(/^hit/);
    expect(origin.seen).toHaveLength(1);
  });

  test("variants are kept apart by the fields that Vary nominates", async () => {
    await begin();
    origin.answer = (incoming, response) => {
      response.writeHead(200, { "cache-control": "max-age=60", vary: "X-Kind" });
      response.end(String(incoming.headers["x-kind"]));
    };
    const ask = (kind: string) => fetchFrom(edge.port, "/a", { headers: { "x-kind": kind } });
    await ask("one");
    const other = await ask("two");
    expect(other.cacheStatus).toMatch(/^fwd=vary-miss/);
    expect((await ask("one")).body.toString()).toBe("one");
    expect((await ask("two")).body.toString()).toBe("two");
    expect(origin.seen).toHaveLength(2);
  });

  test("ranges are cut from the stored whole", async () => {
    await begin();
    cacheable(60, "0123456789", { "content-length": "10", etag: '"v"' });
    await fetchFrom(edge.port, "/a");
    const range = (value: string, more = {}) =>
      fetchFrom(edge.port, "/a", { headers: { range: value, ...more } });
    const part = await range("bytes=2-4");
    expect([part.status, part.headers["content-range"], part.body.toString()]).toEqual([
      206,
      "bytes 2-4/10",
      "234",
    ]);
    expect((await range("bytes=-3")).body.toString()).toBe("789");
    const none = await range("bytes=10-");
    expect([none.status, none.headers["content-range"]]).toEqual([416, "bytes */10"]);
    expect((await range("bytes=0-1", { "if-range": '"other"' })).status).toBe(200);
    const joined = await range("bytes=0-1,3-4");
    expect([joined.status, joined.headers["content-range"], joined.body.toString()]).toEqual([
      206,
      "bytes 0-4/10",
      "01234",
    ]);
    expect(origin.seen).toHaveLength(1);
  });

  test("an unsafe request invalidates what was stored, and Content-Location of the same origin", async () => {
    await begin();
    cacheable(60);
    await fetchFrom(edge.port, "/a");
    await fetchFrom(edge.port, "/b");
    origin.answer = (_request, response) => {
      response.writeHead(200, { "content-location": "/b" }).end();
    };
    const post = await fetchFrom(edge.port, "/a", { method: "POST", body: "data" });
    expect(post.cacheStatus).toBe("fwd=method; fwd-status=200; detail=method");
    expect(origin.seen[2]?.body).toBe("data");
    cacheable(60, "new");
    expect((await fetchFrom(edge.port, "/a")).body.toString()).toBe("new");
    const b = await fetchFrom(edge.port, "/b");
    expect(b.cacheStatus).toContain("detail=invalidated");
    expect(b.body.toString()).toBe("new");
  });
});

describe("collapse", () => {
  test("500 concurrent misses make one request to the origin, and all read the same stream", async () => {
    await begin();
    const body = randomBytes(200_000);
    const asked = Promise.withResolvers<() => void>();
    origin.answer = (_request, response) => {
      asked.resolve(() => {
        response.writeHead(200, { "cache-control": "max-age=60", "content-length": String(body.length) });
        response.write(body.subarray(0, 70_000));
        setImmediate(() => response.end(body.subarray(70_000)));
      });
    };
    const answers = Array.from({ length: 500 }, () => fetchFrom(edge.port, "/hot"));
    const go = await asked.promise;
    await until(async () => (await edge.metric("collapsed_total")) === 499, "499 requests wait");
    go();
    for (const answer of await Promise.all(answers)) expect(answer.body.equals(body)).toBe(true);
    expect(origin.seen).toHaveLength(1);
    expect(await edge.metric("requests_total", { outcome: "collapsed" })).toBe(499);
  }, 30_000);

  test("answers that may not be shared are fetched side by side, not one after the other", async () => {
    await begin();
    let open = 0;
    let openMax = 0;
    const waiting: (() => void)[] = [];
    origin.answer = (_request, response) => {
      open++;
      openMax = Math.max(openMax, open);
      waiting.push(() => {
        open--;
        response.writeHead(200, { "cache-control": "private" }).end(`for ${origin.seen.length}`);
      });
    };
    const answers = Array.from({ length: 20 }, () => fetchFrom(edge.port, "/mine"));
    await until(() => waiting.length === 1, "the first asks");
    await until(async () => (await edge.metric("collapsed_total")) === 19, "the others wait");
    waiting.shift()?.();
    await until(() => waiting.length === 19, "the others ask by themselves, all at once");
    for (const finish of waiting) finish();
    await Promise.all(answers);
    expect(origin.seen).toHaveLength(20);
    expect(openMax).toBe(19);
  });

  test("the client that began a fill may leave; those who wait are served", async () => {
    await begin();
    const asked = Promise.withResolvers<() => void>();
    origin.answer = (_request, response) => {
      asked.resolve(() => response.writeHead(200, { "cache-control": "max-age=60" }).end("late"));
    };
    const leaver = request({ host: "127.0.0.1", port: edge.port, path: "/a" });
    leaver.on("error", () => {});
    leaver.end();
    const go = await asked.promise;
    const waiter = fetchFrom(edge.port, "/a");
    await until(async () => (await edge.metric("collapsed_total")) === 1, "one waits");
    leaver.destroy();
    go();
    expect((await waiter).body.toString()).toBe("late");
    expect(origin.seen).toHaveLength(1);
  });

  test("a client that closes its side behind its requests is answered, unless an answer is long in coming", async () => {
    await begin();
    const held = Promise.withResolvers<() => void>();
    origin.answer = (incoming, response) => {
      if (incoming.url === "/never") held.resolve(() => response.end());
      // After the end has come.
      else setTimeout(() => response.writeHead(200, { "content-length": "4" }).end("late"), 100);
    };
    const ask = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: a.example\r\n\r\n`;
    const socket = connect({ host: "127.0.0.1", port: edge.port, allowHalfOpen: true });
    socket.end(ask("/a") + ask("/b"));
    let text = "";
    for await (const chunk of socket) text += String(chunk);
    expect(text.match(/HTTP\/1\.1 200 [^]*?\r\n\r\nlate/g)).toHaveLength(2);
    const gone = connect({ host: "127.0.0.1", port: edge.port, allowHalfOpen: true });
    gone.on("error", () => {});
    gone.resume().end(ask("/never"));
    await once(gone, "close");
    expect(gone.bytesRead).toBe(0);
    (await held.promise)();
  });

  test("an answer that breaks off is seen as broken and is not stored", async () => {
    await begin();
    origin.answer = (_request, response) => {
      response.writeHead(200, {
        "cache-control": "max-age=60",
        "content-length": "100",
        "accept-ranges": "none",
      });
      response.write("part");
      setImmediate(() => response.destroy());
    };
    await expect(fetchFrom(edge.port, "/a")).rejects.toThrow(/aborted|hang up|ECONNRESET/);
    cacheable(60, "whole");
    expect((await fetchFrom(edge.port, "/a")).body.toString()).toBe("whole");
    await until(
      async () => (await edge.metric("not_stored_total", { reason: "incomplete" })) === 1,
      "it is counted",
    );
  });
});

describe("stale", () => {
  test("stale-while-revalidate answers at once and validates once in the background", async () => {
    await begin();
    let version = 1;
    const release: (() => void)[] = [];
    origin.answer = (_request, response) => {
      const answer = () =>
        response
          .writeHead(200, {
            "cache-control": "max-age=1, stale-while-revalidate=60",
            age: version === 1 ? "1" : "0",
          })
          .end(`v${version}`);
      if (version === 1) answer();
      else release.push(answer);
    };
    await fetchFrom(edge.port, "/a");
    version = 2;
    const stale = await Promise.all([1, 2, 3].map(() => fetchFrom(edge.port, "/a")));
    for (const answer of stale) {
      expect(answer.body.toString()).toBe("v1");
      expect(answer.cacheStatus).toMatch(/^hit; ttl=0; detail=stale-while-revalidate$/);
    }
    await until(() => release.length === 1, "one revalidation");
    release[0]?.();
    await until(
      async () => (await fetchFrom(edge.port, "/a")).body.toString() === "v2",
      "the new one is served",
    );
    expect(origin.seen).toHaveLength(2);
  });

  test("with the origin dead what is stored is served, unless that is forbidden", async () => {
    await begin();
    cacheable(1, "kept", { age: "1" });
    await fetchFrom(edge.port, "/may");
    cacheable(1, "kept", { age: "1", "cache-control": "max-age=1, must-revalidate" });
    await fetchFrom(edge.port, "/must");
    await origin.stop();
    const may = await fetchFrom(edge.port, "/may");
    expect([may.status, may.body.toString()]).toEqual([200, "kept"]);
    expect(may.cacheStatus).toMatch(/^hit; ttl=0; detail=stale-if-error-/);
    const must = await fetchFrom(edge.port, "/must");
    expect(must.status).toBe(502);
    expect(must.cacheStatus).toMatch(/^fwd=stale; detail=/);
    const never = await fetchFrom(edge.port, "/never-seen");
    expect(never.status).toBe(502);
    expect(await edge.metric("requests_total", { outcome: "hit-stale" })).toBe(1);
    await origin.start();
  }, 30_000);

  test("a 503 is covered by the stored answer", async () => {
    await begin();
    cacheable(1, "kept", { age: "1" });
    await fetchFrom(edge.port, "/a");
    origin.answer = (_request, response) => response.writeHead(503).end("down");
    const answer = await fetchFrom(edge.port, "/a");
    expect([answer.status, answer.body.toString()]).toEqual([200, "kept"]);
    expect(answer.cacheStatus).toBe("hit; ttl=0; detail=stale-if-error-status-503");
  });
});

describe("streams", () => {
  test("an upload is streamed while it is sent, and answered while it goes on", async () => {
    await begin();
    origin.isStreaming = true;
    origin.answer = (incoming, response) => {
      response.writeHead(200);
      incoming.pipe(response);
    };
    const upload = request({ port: edge.port, method: "POST", path: "/echo" });
    upload.write("first");
    const [response] = (await once(upload, "response")) as [IncomingMessage];
    const [chunk] = (await once(response, "data")) as [Buffer];
    expect(chunk.toString()).toBe("first");
    upload.end("second");
    let rest = "";
    for await (const more of response as AsyncIterable<Buffer>) rest += more.toString();
    expect(rest).toBe("second");
    expect(origin.seen[0]?.headers["transfer-encoding"]).toBe("chunked");
  });

  test("a slow reader holds the origin back: memory stays within a window", async () => {
    await begin({ memoryBytes: 2 ** 20 });
    const total = 64 * 2 ** 20;
    let sent = 0;
    origin.answer = (_request, response) => {
      response.writeHead(200, { "content-length": String(total) });
      const chunk = Buffer.alloc(65_536, "x");
      const more = (): void => {
        while (sent < total) {
          sent += chunk.length;
          if (!response.write(chunk)) {
            response.once("drain", more);
            return;
          }
        }
        response.end();
      };
      more();
    };
    const reader = request({ port: edge.port, path: "/large" });
    reader.end();
    const [response] = (await once(reader, "response")) as [IncomingMessage];
    response.pause();
    let before = -1;
    await until(async () => {
      const isStill = sent === before;
      before = sent;
      await new Promise((resolve) => setTimeout(resolve, 100));
      return isStill;
    }, "the origin is held back");
    expect(sent).toBeLessThan(total / 2);
    let received = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) received += chunk.length;
    expect(received).toBe(total);
  }, 30_000);

  test("an object over its share of the store is streamed and not stored", async () => {
    await begin({ memoryBytes: 2 ** 20 });
    origin.answer = (_request, response) => {
      response.writeHead(200, { "cache-control": "max-age=60" });
      response.end(Buffer.alloc(400_000));
    };
    expect((await fetchFrom(edge.port, "/a")).body).toHaveLength(400_000);
    await until(
      async () => (await edge.metric("not_stored_total", { reason: "too-large" })) === 1,
      "it is not stored",
    );
    expect(await edge.metric("cache_objects")).toBe(0);
    expect(await edge.metric("fill_bytes")).toBe(0);
  });

  test("content codings pass unchanged", async () => {
    await begin();
    const packed = gzipSync("text");
    origin.answer = (_request, response) => {
      response
        .writeHead(200, {
          "cache-control": "max-age=60",
          "content-encoding": "gzip",
          vary: "accept-encoding",
        })
        .end(packed);
    };
    const first = await fetchFrom(edge.port, "/a", { headers: { "accept-encoding": "gzip, br" } });
    const second = await fetchFrom(edge.port, "/a", { headers: { "accept-encoding": "br,gzip" } });
    expect(first.body.equals(packed) && second.body.equals(packed)).toBe(true);
    expect(second.cacheStatus).toMatch(/^hit/);
  });
});

describe("hostile input", () => {
  const cases: readonly (readonly [name: string, head: string, status: number])[] = [
    [
      "two Content-Length",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
      400,
    ],
    [
      "equal Content-Length twice",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
      400,
    ],
    [
      "Content-Length and chunked",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      400,
    ],
    [
      "odd Transfer-Encoding",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
      501,
    ],
    [
      "unknown Transfer-Encoding",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
      501,
    ],
    ["no Host", "GET / HTTP/1.1\r\n\r\n", 400],
    ["two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400],
    ["a Host with user information", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400],
    ["a Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400],
    ["TRACE", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405],
    ["CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405],
    ["an unknown expectation", "GET / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", 417],
    ["another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400],
    ["a huge header", `GET / HTTP/1.1\r\nHost: a\r\nX: ${"y".repeat(40_000)}\r\n\r\n`, 431],
    ["too many headers", `GET / HTTP/1.1\r\nHost: a\r\n${"X: y\r\n".repeat(300)}\r\n`, 431],
    ["ten thousand headers", `GET / HTTP/1.1\r\nHost: a\r\n${"X: y\r\n".repeat(10_000)}\r\n`, 431],
    ["a long target", `GET /${"y".repeat(9_000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 414],
    ["a bare CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400],
    ["an obsolete fold", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400],
    ["a blank before the colon", "GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n", 400],
    ["no HTTP at all", "\x16\x03\x01\x02\x00", 400],
  ];
  for (const [name, bytes, status] of cases) {
    test(`${name} is refused with ${status} and reaches nobody`, async () => {
      await begin();
      const text = await rawExchange(edge.port, bytes);
      expect(text).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
      expect(text.toLowerCase()).toContain("connection: close");
      expect(origin.seen).toHaveLength(0);
      const refused = await edge.metric("refused_total");
      expect(refused).toBe(1);
    });
  }

  test("framing and hop-by-hop fields are made anew, in both directions", async () => {
    await begin();
    origin.answer = (_request, response) => {
      response.writeHead(200, {
        connection: "keep-alive, x-secret",
        "x-secret": "1",
        "keep-alive": "timeout=9",
        "isochrone-generation": "9",
      });
      response.write("chunk");
      response.end();
    };
    const text = await rawExchange(
      edge.port,
      "POST /a HTTP/1.1\r\nHost: a\r\nConnection: close, X-Drop, Authorization\r\nX-Drop: 1\r\nAuthorization: Basic x\r\nTE: trailers\r\nUpgrade: h2c\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\nIsochrone-Tier: 1\r\nIsochrone-Owner: 1\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    const seen = origin.seen[0];
    expect(seen?.body).toBe("abc");
    const names = (seen?.rawHeaders ?? [])
      .filter((_value, index) => index % 2 === 0)
      .map((name) => name.toLowerCase());
    for (const gone of [
      "x-drop",
      "te",
      "upgrade",
      "keep-alive",
      "proxy-connection",
      "isochrone-tier",
      "isochrone-owner",
      "x-forwarded-host",
      "isochrone-peer",
    ])
      expect(names).not.toContain(gone);
    expect(seen?.headers.authorization).toBe("Basic x");
    expect(seen?.headers["x-forwarded-for"]).toBe("127.0.0.1");
    expect(names.filter((name) => name === "transfer-encoding" || name === "content-length")).toHaveLength(1);
    expect(text.toLowerCase()).not.toMatch(/x-secret|timeout=9|isochrone-generation/);
  });

  test("content of a GET goes no further", async () => {
    await begin();
    cacheable(60);
    const text = await rawExchange(
      edge.port,
      "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nevil!",
    );
    expect(text).toMatch(/^HTTP\/1\.1 200 /);
    expect(origin.seen[0]?.body).toBe("");
  });

  test("the absolute form outranks Host, and is the key", async () => {
    await begin();
    cacheable(60);
    await rawExchange(
      edge.port,
      "GET http://real.example/x HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n",
    );
    expect([origin.seen[0]?.url, origin.seen[0]?.headers.host]).toEqual(["/x", "real.example"]);
    const hit = await fetchFrom(edge.port, "/x", { headers: { host: "real.example" } });
    expect(hit.cacheStatus).toMatch(/^hit/);
  });

  test("a request that has passed this server before is refused", async () => {
    await begin();
    const first = await fetchFrom(edge.port, "/a");
    const own = /edge-[0-9a-f]{8}/.exec(String(first.headers.via))?.[0] ?? "";
    const looped = await fetchFrom(edge.port, "/b", { headers: { "cdn-loop": `other, ${own}` } });
    expect(looped.status).toBe(508);
    expect(await edge.metric("refused_total", { reason: "loop" })).toBe(1);
    // Two on one machine, whose ports were given to them, are two: the one may stand before the other.
    const before = await startEdge({ port: edge.port });
    expect((await fetchFrom(before.port, "/in-a-row")).status).toBe(200);
    await before.running.stop();
  });

  test("a slow header is given up", async () => {
    await begin({ headersTimeoutMs: 300, requestTimeoutMs: 300 });
    const text = await rawExchange(edge.port, "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    expect(text).toMatch(/^HTTP\/1\.1 408 /);
  });
});

describe("end of life", () => {
  test("drain finishes what is in flight and takes nothing new", async () => {
    await begin();
    const asked = Promise.withResolvers<() => void>();
    origin.answer = (_request, response) => asked.resolve(() => response.end("finished"));
    const inFlight = fetchFrom(edge.port, "/slow");
    const go = await asked.promise;
    const stopped = edge.running.stop();
    stops.length = 0;
    await until(async () => await isRefused(edge.port), "the listener is closed");
    go();
    const answer = await inFlight;
    expect(answer.body.toString()).toBe("finished");
    expect(answer.headers.connection).toBe("close");
    expect(await stopped).toBe(0);
  });
});

describe("disk", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "isochrone-disk-"));
    stops.push(() => rm(directory, { recursive: true, force: true }));
  });

  /** Changes one bit of the body that is stored under a path. */
  async function damage(path: string, body: string): Promise<void> {
    const [name = ""] = (await readdir(directory)).filter((file) => file.endsWith(".log"));
    const bytes = await readFile(join(directory, name));
    const at = bytes.indexOf(body, bytes.indexOf(`${path}"`)) + body.length - 1;
    expect(at).toBeGreaterThan(body.length);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    await writeFile(join(directory, name), bytes);
  }

  test("what was stored survives a restart; a damaged object is a miss and is counted", async () => {
    await begin({}, directory);
    cacheable(600, "on disk");
    const headers = { host: "www.example" };
    await fetchFrom(edge.port, "/good", { headers });
    await fetchFrom(edge.port, "/bad", { headers });
    await edge.running.stop();
    stops.splice(1);
    expect((await readdir(directory)).filter((name) => name.endsWith(".log"))).toHaveLength(1);
    await damage("/bad", "on disk");
    // What the store of one file an object left behind.
    await writeFile(join(directory, "torn.object"), "isochrone-object 1 zz");
    await begin({}, directory);
    expect(await edge.metric("disk_objects")).toBe(2);
    expect((await fetchFrom(edge.port, "/good", { headers })).cacheStatus).toMatch(/^hit/);
    expect((await fetchFrom(edge.port, "/bad", { headers })).cacheStatus).toMatch(/^fwd=uri-miss/);
    expect(await edge.metric("disk_damaged_total")).toBe(1);
    expect(await readdir(directory)).not.toContain("torn.object");
  });

  test("a full disk takes what was used in memory when it leaves it, or at an orderly end", async () => {
    const settings = { diskBytes: 2 ** 20, memoryBytes: 2 ** 20 };
    const headers = { host: "www.example" };
    const hits = async (kind: string, times: number): Promise<number> => {
      let count = 0;
      for (let number = 0; number < 10; number++)
        for (let time = 0; time < times; time++) {
          const { cacheStatus } = await fetchFrom(edge.port, `/${kind}/${number}`, { headers });
          if (cacheStatus.startsWith("hit")) count++;
        }
      return count;
    };
    await begin(settings, directory);
    cacheable(600, "x".repeat(20_000));
    for (let number = 0; (await edge.metric("disk_skipped_admission_total")) === 0; number++) {
      expect(number).toBeLessThan(200);
      await fetchFrom(edge.port, `/fill/${number}`);
    }
    expect(await hits("once", 1)).toBe(0);
    expect(await edge.metric("disk_skipped_admission_total")).toBeGreaterThan(8);
    expect(await hits("left", 2)).toBe(10);
    // Used more, so memory keeps them instead.
    for (let request = 0; request < 240; request++)
      await fetchFrom(edge.port, `/others/${Math.floor(request / 4)}`, { headers });
    expect(await hits("left", 1)).toBeGreaterThan(4);
    expect(await edge.metric("disk_reads_total")).toBeGreaterThan(4);
    expect(await hits("twice", 2)).toBe(10);
    await edge.running.stop();
    stops.splice(1);
    await begin(settings, directory);
    expect(await hits("twice", 1)).toBeGreaterThan(4);
    expect(await hits("once", 1)).toBeLessThan(3);
  });

  test("a hit from disk after a restart costs the origin nothing, and its bytes are whole", async () => {
    await begin({}, directory);
    const body = randomBytes(100_000).toString("hex");
    cacheable(600, body);
    const headers = { host: "www.example" };
    await fetchFrom(edge.port, "/a", { headers });
    await fetchFrom(edge.port, "/b", { headers });
    await edge.running.stop();
    stops.splice(1);
    await damage("/b", body);
    await begin({}, directory);
    const whole = await fetchFrom(edge.port, "/a", { headers });
    expect(whole.cacheStatus).toMatch(/^hit/);
    expect(whole.body.toString()).toBe(body);
    expect(origin.seen).toHaveLength(2);
    const damaged = await fetchFrom(edge.port, "/b", { headers });
    expect(damaged.cacheStatus).toMatch(/^fwd=uri-miss/);
    expect(damaged.body.toString()).toBe(body);
    expect(await edge.metric("disk_damaged_total")).toBe(1);
    expect(origin.seen).toHaveLength(3);
  });
});

async function isRefused(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return false;
  } catch {
    return true;
  } finally {
    socket.destroy();
  }
}

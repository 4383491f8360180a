/** The edge between clients and origins that bend the rules of HTTP/1.1: bytes as they are, on both sides. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { edgeDefaults } from "#edge";
import { fetchFrom, rawExchange, startEdge, type TestEdge, TestOrigin, until } from "./edge-support.ts";

/** An origin that answers each request head with bytes, and keeps the heads. */
class RawOrigin {
  readonly seen: string[] = [];
  answer: (socket: Socket, head: string) => void = (socket) => socket.destroy();
  readonly #sockets = new Set<Socket>();
  readonly #server: Server = createServer((socket) => {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.on("data", (bytes: Buffer) => {
      const head = bytes.toString("latin1");
      this.seen.push(head);
      this.answer(socket, head);
    });
  });
  port = 0;

  async start(): Promise<void> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.port = (this.#server.address() as AddressInfo).port;
  }
  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
  says(bytes: string): void {
    this.answer = (socket) => socket.write(Buffer.from(bytes, "latin1"));
  }
}

let origin: RawOrigin;
let edge: TestEdge;
beforeEach(async () => {
  origin = new RawOrigin();
  await origin.start();
  edge = await startEdge(origin);
});
afterEach(async () => {
  await edge.running.stop();
  await origin.stop();
});

const FRESH = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n";

/** What came, and whether the connection ended in order or by a reset. */
async function ended(request: string): Promise<{ readonly text: string; readonly isReset: boolean }> {
  const socket = connect(edge.port, "127.0.0.1");
  let text = "";
  let isReset = false;
  socket.on("data", (bytes: Buffer) => {
    text += bytes.toString("latin1");
  });
  socket.on("error", () => {
    isReset = true;
  });
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.write(request);
  await closed;
  return { text, isReset };
}

describe("long heads in pieces", () => {
  /** Each waits until the others have sent as much. */
  const CLIENTS = 100;
  const PIECE_BYTES = 3_000;
  const mark = (client: number, round: number): string =>
    `${client}.${round};`.repeat(3_000).slice(0, 12_000);

  test("each comes whole to who sends it, however many there are, of which some are cut, refused or handed over", async () => {
    const echo = new TestOrigin();
    await echo.start();
    echo.answer = ({ headers }, response) => response.end(String(headers["x-mark"]));
    const other = await startEdge(echo);
    const ask = async (client: number, round: number, settle: () => Promise<void>): Promise<string> => {
      const socket = connect(other.port, "127.0.0.1");
      let text = "";
      socket.on("error", () => {});
      socket.on("data", (bytes: Buffer) => {
        text += bytes.toString("latin1");
      });
      const closed = once(socket, "close");
      const kind = client % 4;
      const head = `GET /${client}.${round} HTTP/1.1\r\nHost: a\r\nX-Mark: ${mark(client, round)}`;
      const rest = kind === 1 ? "x".repeat(8_000) : kind === 2 ? "\r\nUpgrade: x" : "";
      const request = `${head}${rest}\r\nConnection: close\r\n\r\n`;
      for (let at = 0; at < request.length; at += PIECE_BYTES) {
        socket.write(request.slice(at, at + PIECE_BYTES));
        await settle();
        if (kind === 3 && at > 2 * PIECE_BYTES) socket.destroy();
      }
      await closed;
      return text;
    };
    try {
      for (let round = 0; round < 3; round++) {
        const settle = async (): Promise<void> => await new Promise((resolve) => setTimeout(resolve, 20));
        const answers = await Promise.all(
          Array.from({ length: CLIENTS }, async (_, client) => await ask(client, round, settle)),
        );
        for (const [client, text] of answers.entries()) {
          const kind = client % 4;
          if (kind === 3) expect(text).toBe("");
          else if (kind === 1) expect(text).toMatch(/^HTTP\/1\.1 431 /);
          else
            expect(text.endsWith(`\r\n\r\n${mark(client, round)}`), `${client}: ${text.slice(0, 200)}`).toBe(
              true,
            );
        }
      }
    } finally {
      await other.running.stop();
      await echo.stop();
    }
  });
});

describe("the last answer of a connection", () => {
  test.each([
    ["to an upload that is refused before it has come", "Content-Length: 2000000\r\n\r\n", 500],
    ["with more behind it", "Connection: close\r\nContent-Length: 0\r\n\r\n", 200],
  ])(
    "%s is not lost to a reset: what the client still sends is thrown away (RFC 9112, 9.6)",
    async (_what, fields, status) => {
      origin.says(`HTTP/1.1 ${status} -\r\nContent-Length: 0\r\n\r\n`);
      const socket = connect({ port: edge.port, host: "127.0.0.1", allowHalfOpen: true });
      let text = "";
      const errors: string[] = [];
      socket.on("error", ({ message }) => errors.push(message));
      socket.write(`POST / HTTP/1.1\r\nHost: a\r\n${fields}`);
      socket.write(Buffer.alloc(100_000, "x"));
      socket.on("data", (bytes: Buffer) => {
        text += bytes.toString("latin1");
      });
      await once(socket, "end");
      // A reset would answer the first of them, and fail the second.
      for (let turn = 0; turn < 2 && errors.length === 0; turn++)
        await new Promise((resolve) => socket.write(Buffer.alloc(1_000, "x"), resolve));
      const closed = once(socket, "close");
      socket.end();
      await closed;
      expect([text.slice(0, 13), errors]).toEqual([`HTTP/1.1 ${status} `, []]);
      expect(origin.seen.filter((head) => head.startsWith("POST "))).toHaveLength(1);
    },
  );
});

describe("the last answer of a connection, while the server drains", () => {
  /** How long the edge waits for a client to close. */
  const LINGER_MS = 2_000;
  const POST = "POST / HTTP/1.1\r\nHost: a\r\n";
  test.each([
    ["an upload that was answered early", `${POST}Content-Length: 2000000\r\n\r\n${"x".repeat(50_000)}`],
    ["a request with more behind it", `${POST}Connection: close\r\nContent-Length: 0\r\n\r\n`],
    ["a canonical request with more behind it", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"],
  ])("%s lingers for as long as ever, and the drain waits for it", async (_what, head) => {
    const content = new RawOrigin();
    await content.start();
    content.says("HTTP/1.1 500 -\r\nContent-Length: 0\r\n\r\n");
    const draining = await startEdge(content);
    const socket = connect({ port: draining.port, host: "127.0.0.1", allowHalfOpen: true });
    let text = "";
    let isReset = false;
    socket.on("error", () => {
      isReset = true;
    });
    socket.on("data", (bytes: Buffer) => {
      text += bytes.toString("latin1");
    });
    const beganMs = performance.now();
    socket.write(head);
    await once(socket, "end");
    const stopped = draining.running.stop().then(() => performance.now());
    // The edge cuts it in the end: no sooner than that, however late this is told.
    while (!isReset) {
      await new Promise((resolve) => socket.write("x", resolve));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(performance.now() - beganMs).toBeGreaterThanOrEqual(LINGER_MS);
    expect(text).toMatch(/^HTTP\/1\.1 500 /);
    expect((await stopped) - beganMs).toBeGreaterThanOrEqual(LINGER_MS);
    await content.stop();
  });
});

describe("origins", () => {
  test("content that ends with a reset of its connection is no whole: not stored, not ended in order (RFC 9112, 8)", async () => {
    origin.answer = (socket) => {
      socket.write(`${FRESH}\r\nhello`);
      setTimeout(() => socket.resetAndDestroy(), 30);
    };
    const chunked = await ended("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(chunked.text).toContain("5\r\nhello\r\n");
    expect(chunked.text).not.toContain("0\r\n\r\n");
    expect(await edge.metric("not_stored_total", { reason: "incomplete" })).toBe(1);
    expect(await edge.metric("cache_objects")).toBe(0);
    // HTTP/1.0 has no chunks: only a reset tells that something is missing.
    const old = await ended("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    expect(old.text).toContain("hello");
    expect(old.isReset).toBe(true);
    expect(origin.seen).toHaveLength(2);
  });

  test("content that ends with an orderly close is whole and stored", async () => {
    origin.answer = (socket) => socket.end(`${FRESH}\r\nhello`);
    await fetchFrom(edge.port, "/");
    const hit = await fetchFrom(edge.port, "/");
    expect(hit.cacheStatus).toMatch(/^hit/);
    expect(hit.body.toString()).toBe("hello");
  });

  test.each(["gzip, chunked", "x-gzip", "deflate", "gzip;a=1", "one, two", "xchunked"])(
    "the transfer coding %s, for which nobody asked, is no answer (RFC 9112, 7.4)",
    async (coding) => {
      origin.answer = (socket) =>
        socket.end(`${FRESH}Transfer-Encoding: ${coding}\r\n\r\n1\r\nx\r\n0\r\n\r\n`);
      const answer = await fetchFrom(edge.port, "/");
      expect(answer.status).toBe(502);
      expect(answer.cacheStatus).toContain("detail=bad-response");
      expect(await edge.metric("cache_objects")).toBe(0);
    },
  );

  test("one that no registry has codes nothing, ends with its connection and goes no further (RFC 9112, 6.3 and 7)", async () => {
    origin.answer = (socket) => socket.end(`${FRESH}Transfer-Encoding: Foo\r\n\r\n5\r\nhello`);
    for (const expected of [/stored/, /^hit/]) {
      const answer = await fetchFrom(edge.port, "/");
      expect(answer.cacheStatus).toMatch(expected);
      expect(answer.body.toString()).toBe("5\r\nhello");
      expect(answer.headers["transfer-encoding"] ?? "chunked").toBe("chunked");
    }
  });

  test("a 304 that no condition asked for is no answer; with the client's own condition it is not made up either", async () => {
    origin.says('HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n');
    const answer = await fetchFrom(edge.port, "/");
    expect(answer.status).toBe(502);
    expect(answer.cacheStatus).toContain("detail=unexpected-304");
  });

  test("Isochrone-Cache-Control speaks to this cache and no client sees it (RFC 9213)", async () => {
    origin.says(
      "HTTP/1.1 200 OK\r\nIsochrone-Cache-Control: max-age=60\r\nCache-Control: no-store\r\nIsochrone-Generation: 9\r\nContent-Length: 2\r\n\r\nok",
    );
    const miss = await fetchFrom(edge.port, "/");
    expect(miss.cacheStatus).toContain("ttl=60; stored");
    const hit = await fetchFrom(edge.port, "/");
    expect(hit.cacheStatus).toBe("hit; ttl=60");
    expect(Object.keys(hit.headers).filter((name) => name.startsWith("isochrone-"))).toEqual([]);
  });

  test("what varies by a field that the edge states itself is nobody else's", async () => {
    origin.says(`${FRESH}Vary: X-Forwarded-For\r\nContent-Length: 2\r\n\r\nok`);
    await fetchFrom(edge.port, "/");
    const second = await fetchFrom(edge.port, "/");
    expect(second.cacheStatus).toContain("detail=vary-any");
    expect(origin.seen).toHaveLength(2);
  });
});

describe("clients", () => {
  beforeEach(() => origin.says(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`));

  test("another major version is refused with 505 and reaches nobody", async () => {
    const text = await rawExchange(edge.port, "GET / HTTP/2.0\r\nHost: a\r\n\r\n");
    expect(text).toMatch(/^HTTP\/1\.1 505 /);
    expect(origin.seen).toHaveLength(0);
    expect(await edge.metric("refused_total", { reason: "version" })).toBe(1);
  });

  test("HTTP/1.0 without Host is for the one origin there is; HTTP/1.1 without is refused", async () => {
    const text = await rawExchange(edge.port, "GET /x HTTP/1.0\r\n\r\n");
    expect(text).toMatch(/^HTTP\/1\.1 200 /);
    expect(origin.seen[0]).toMatch(
      new RegExp(`^GET /x HTTP/1\\.1\r\nhost: 127\\.0\\.0\\.1:${origin.port}\r\n`, "i"),
    );
    expect(await rawExchange(edge.port, "GET /x HTTP/1.1\r\n\r\n")).toMatch(/^HTTP\/1\.1 400 /);
  });

  test("OPTIONS * and Max-Forwards: 0 are answered here, more forwards are counted down (RFC 9110, 7.6.2 and 9.3.7)", async () => {
    for (const head of ["OPTIONS * HTTP/1.1\r\n", "OPTIONS /x HTTP/1.1\r\nMax-Forwards: 0\r\n"]) {
      const text = await ended(`${head}Host: a\r\nConnection: close\r\n\r\n`);
      expect(text.text).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
      expect(text.text).toMatch(/\r\nAllow: GET, HEAD, POST/);
    }
    expect(origin.seen).toHaveLength(0);
    await ended("OPTIONS /x HTTP/1.1\r\nMax-Forwards: 3\r\nHost: a\r\nConnection: close\r\n\r\n");
    expect(origin.seen[0]).toContain("\r\nMax-Forwards: 2\r\n");
  });

  test("a target with characters of no URI is forwarded encoded, and is one key with its encoded form", async () => {
    origin.says(`${FRESH}Content-Length: 2\r\n\r\nok`);
    await ended('GET /a|b"%zz%41?q=[1]{<} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    expect(origin.seen[0]).toMatch(/^GET \/a%7Cb%22%25zz%41\?q=%5B1%5D%7B%3C%7D HTTP\/1\.1\r\n/);
    const hit = await fetchFrom(edge.port, "/a%7Cb%22%25zz%41?q=%5B1%5D%7B%3C%7D", {
      headers: { host: "a" },
    });
    expect(hit.cacheStatus).toMatch(/^hit/);
  });

  test("no claim of a client about itself or the framing goes on, however it is spelt", async () => {
    await ended(
      "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-Prefix: /evil\r\nX-Forwarded-Ssl: on\r\nX-Real-IP: 6.6.6.6\r\n" +
        "X_Forwarded_For: 6.6.6.6\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\nTrue-Client-IP: 6.6.6.6\r\nX-Own: 1\r\nIsochrone_Peer: x\r\n\r\n",
    );
    const [head = ""] = origin.seen;
    const names = head
      .split("\r\n")
      .slice(1)
      .map((line) => line.split(":")[0]?.toLowerCase());
    expect(names.filter((name) => name !== "")).toEqual([
      "host",
      "connection",
      "x-own",
      "x-forwarded-for",
      "x-forwarded-proto",
      "via",
      "cdn-loop",
      "surrogate-capability",
      "x-request-id",
    ]);
    expect(head).not.toContain("6.6.6.6");
  });
});

describe("interim answers (RFC 9110, 15.2)", () => {
  const HINT =
    "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Hint: 1\r\n\r\n";
  const FINAL = `${FRESH}Content-Length: 2\r\n\r\nok`;
  const PASSED =
    "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Hint: 1\r\n\r\nHTTP/1.1 200 OK\r\n";

  test("are passed on to who asked the origin, and are no part of what is stored", async () => {
    origin.says(`HTTP/1.1 102 Processing\r\n\r\n${HINT}${FINAL}`);
    const get = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    const miss = (await ended(get)).text;
    expect(miss.slice(0, PASSED.length + 27)).toBe(`HTTP/1.1 102 Processing\r\n\r\n${PASSED}`);
    const hit = (await ended(get)).text;
    expect(hit).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(hit).toMatch(/cache-status: [^\r]*; hit/i);
  });

  test("also for a request with content, which node:http reads", async () => {
    origin.answer = (socket, head) => {
      if (head.includes("abc")) socket.write(`${HINT}${FINAL}`);
    };
    const post = "POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
    expect((await ended(post)).text.slice(0, PASSED.length)).toBe(PASSED);
  });

  test("not to HTTP/1.0, not 100, and no more than eight", async () => {
    origin.says(`${HINT}${FINAL}`);
    expect((await ended("GET /old HTTP/1.0\r\nHost: a\r\n\r\n")).text).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    origin.says(`${HINT.repeat(20)}${FINAL}`);
    const { text } = await ended("GET /many HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    expect(text.match(/HTTP\/1\.1 103/g)).toHaveLength(8);
    expect(text).toContain("HTTP/1.1 200 OK\r\n");
  });
});

describe("what is stored for others", () => {
  test("a key has a bounded number of variants, however many an origin makes (RFC 9111, 4.1)", async () => {
    origin.says(`${FRESH}Vary: X-Kind\r\nContent-Length: 2\r\n\r\nok`);
    for (let kind = 0; kind < 40; kind++)
      await fetchFrom(edge.port, "/v", { headers: { "x-kind": String(kind) } });
    expect(await edge.metric("cache_objects")).toBe(32);
    const kept = await fetchFrom(edge.port, "/v", { headers: { "x-kind": "39" } });
    expect(kept.cacheStatus).toMatch(/^hit/);
    expect(origin.seen).toHaveLength(40);
  });

  test.each(["*", "Accept, *", Array.from({ length: 17 }, (_, n) => `x${n}`).join(", "), "a b"])(
    "an answer that varies by what cannot be told is not stored, and counted: Vary: %s",
    async (vary) => {
      origin.says(`${FRESH}Vary: ${vary}\r\nContent-Length: 2\r\n\r\nok`);
      for (let times = 0; times < 2; times++)
        expect((await fetchFrom(edge.port, "/v")).cacheStatus).toContain("detail=vary-any");
      expect(await edge.metric("not_stored_total", { reason: "vary-any" })).toBe(2);
      expect(await edge.metric("cache_objects")).toBe(0);
    },
  );

  test("what is not in the key does not reach an origin that repeats it, so nobody finds it in the store", async () => {
    origin.answer = (socket, head) => {
      const evil = /evil/i.test(head) ? "evil" : "good";
      socket.write(`${FRESH}Content-Length: 4\r\n\r\n${evil}`);
    };
    const names = ["Host", "Server", "Scheme", "Port", "Prefix", "Proto", "Path", "Ssl"].map(
      (name) => `X-Forwarded-${name}`,
    );
    for (const name of [
      ...names,
      "X-Host",
      "X-HTTP-Host-Override",
      "X-Original-Host",
      "X-Original-URL",
      "X-Rewrite-URL",
      "X-Url-Scheme",
      "X-HTTP-Method-Override",
      "Front-End-Https",
      // HTTP_PROXY of CGI programs (CVE-2016-5385).
      "Proxy",
      "Forwarded",
      "X_Forwarded_Host",
    ]) {
      const poisoned = await fetchFrom(edge.port, `/${name}`, { headers: { [name]: "evil" } });
      expect([name, poisoned.body.toString()]).toEqual([name, "good"]);
    }
  });

  test("markup of edge side includes is content like any other: as it came, and nothing that it names is asked for", async () => {
    const page =
      '<html><esi:include src="http://inner.example/secret"/><esi:vars>$(HTTP_COOKIE)</esi:vars></html>';
    origin.says(
      `${FRESH}Content-Type: text/html\r\nSurrogate-Control: content="ESI/1.0", max-age=60\r\nContent-Length: ${page.length}\r\n\r\n${page}`,
    );
    const claims = { cookie: "session=1", "surrogate-capability": 'x="ESI/1.0"' };
    for (const expected of [/^fwd=uri-miss/, /^hit/]) {
      const answer = await fetchFrom(edge.port, "/esi", { headers: claims });
      expect(answer.body.toString()).toBe(page);
      expect(answer.cacheStatus).toMatch(expected);
    }
    expect(origin.seen).toHaveLength(1);
    // What this server can do is its own to say.
    expect(origin.seen[0]).toMatch(/^surrogate-capability: isochrone="Surrogate\/1\.0"\r$/im);
    expect(origin.seen[0]).not.toContain("ESI");
  });

  test("a name whose origin is another name here: 508 for who asks, nothing stored (RFC 8586)", async () => {
    origin.answer = (socket, head) => {
      const onward = connect(edge.port, "127.0.0.1");
      onward.on("error", () => socket.destroy());
      onward.pipe(socket);
      onward.write(Buffer.from(head.replace(/^Host: .*$/im, "Host: other.example"), "latin1"));
    };
    expect((await fetchFrom(edge.port, "/loop", { headers: { host: "a.example" } })).status).toBe(508);
    expect(await edge.metric("refused_total", { reason: "loop" })).toBe(1);
    expect([origin.seen.length, await edge.metric("cache_objects")]).toEqual([1, 0]);
  });

  test("two caches that are each other's origin: 508 for who asks, nothing stored (RFC 8586)", async () => {
    // Another address, since the name of a server alone is made of it.
    const second = await startEdge({ port: edge.port }, {}, undefined, undefined, { host: "0.0.0.0" });
    // The origin of the first one is a relay to the second one.
    origin.answer = (socket, head) => {
      const onward = connect(second.port, "127.0.0.1");
      onward.on("error", () => socket.destroy());
      onward.pipe(socket);
      onward.write(Buffer.from(head, "latin1"));
    };
    const looped = await fetchFrom(second.port, "/loop");
    expect(looped.status).toBe(508);
    // It came back to the one that had it first, by way of the other.
    expect(await second.metric("refused_total", { reason: "loop" })).toBe(1);
    expect(await edge.metric("refused_total", { reason: "loop" })).toBe(0);
    expect([await edge.metric("cache_objects"), await second.metric("cache_objects")]).toEqual([0, 0]);
    await second.running.stop();
  });
});

test("a drain is not held up by connections that never sent anything", async () => {
  origin.says(`${FRESH}Content-Length: 2\r\n\r\nok`);
  const silent = connect(edge.port, "127.0.0.1");
  const half = connect(edge.port, "127.0.0.1");
  const closed = Promise.all(
    [silent, half].map((socket) => new Promise((resolve) => socket.once("close", resolve))),
  );
  for (const socket of [silent, half]) {
    socket.on("error", () => {});
    socket.resume();
    await once(socket, "connect");
  }
  half.write("GET / HT");
  // The edge has taken both when it answers a third.
  await fetchFrom(edge.port, "/");
  const startedMs = performance.now();
  expect(await edge.running.stop()).toBe(0);
  await closed;
  expect(performance.now() - startedMs).toBeLessThan(edgeDefaults.drainTimeoutMs / 5);
});

test("a patient drain answers a POST on the last connection that idles", async () => {
  const content = new TestOrigin();
  await content.start();
  content.answer = (request, response) => {
    if (request.method === "POST") setTimeout(() => response.end("posted"), 50);
    else response.end("got");
  };
  const draining = await startEdge(content);
  const socket = connect(draining.port, "127.0.0.1");
  let text = "";
  socket.setEncoding("latin1").on("data", (chunk: string) => (text += chunk));
  const closed = new Promise((resolve) => socket.on("error", () => {}).once("close", resolve));
  socket.write("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
  await until(() => text.includes("got"), "an answer");
  const stopped = draining.running.stop(60_000);
  socket.write("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\n\r\nx");
  await closed;
  expect(text).toMatch(/Connection: close\r\n[^]*posted/);
  expect(await stopped).toBe(0);
  await content.stop();
});

test("many who ask for what is on disk only share one read", async () => {
  const directory = await mkdtemp(join(tmpdir(), "isochrone-edge-"));
  const content = new TestOrigin();
  await content.start();
  content.answer = (_request, response) =>
    response.writeHead(200, { "cache-control": "max-age=60" }).end("y".repeat(100_000));
  const first = await startEdge(content, {}, directory);
  await fetchFrom(first.port, "/", { headers: { host: "a" } });
  await first.running.stop();
  const second = await startEdge(content, {}, directory);
  try {
    const answers = await Promise.all(
      Array.from({ length: 50 }, () => fetchFrom(second.port, "/", { headers: { host: "a" } })),
    );
    expect(
      answers.every(({ cacheStatus, body }) => cacheStatus.startsWith("hit") && body.length === 100_000),
    ).toBe(true);
    expect(await second.metric("disk_reads_total")).toBe(1);
    expect(content.seen).toHaveLength(1);
  } finally {
    await second.running.stop();
    await content.stop();
    await rm(directory, { recursive: true });
  }
});

test("an object that could not be written takes its older form off the disk", async () => {
  const directory = await mkdtemp(join(tmpdir(), "isochrone-edge-"));
  const content = new TestOrigin();
  await content.start();
  let size = 1_000;
  content.answer = (_request, response) =>
    response.writeHead(200, { "cache-control": "max-age=0", etag: `"${size}"` }).end("z".repeat(size));
  // The second form is larger than the whole disk store.
  const one = await startEdge(content, { diskBytes: 50_000 }, directory);
  try {
    await fetchFrom(one.port, "/");
    await until(async () => (await one.metric("disk_objects")) === 1, "the first form is on disk");
    size = 100_000;
    expect((await fetchFrom(one.port, "/")).body.length).toBe(100_000);
    await until(async () => (await one.metric("disk_skipped_total")) === 1, "the second form was skipped");
    expect(await one.metric("disk_objects")).toBe(0);
  } finally {
    await one.running.stop();
    await content.stop();
    await rm(directory, { recursive: true });
  }
});

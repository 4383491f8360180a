/** HTTP/2 at the edge: the same answers as over HTTP/1.1, the same strictness, and what ends a session that attacks. */
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type ClientHttp2Session, connect, constants, type IncomingHttpHeaders } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { edgeDefaults, type EdgeSettings } from "#edge";
import { Random } from "#kit";
import { makeCertificate } from "../tools/certificates.ts";
import { CheckedHttp2 } from "../tools/checked-http2.ts";
import { contentOf, digestOf, markOf } from "../tools/connection-behaviours.ts";
import { http2Behaviours } from "../tools/http2-behaviours.ts";
import {
  FLAG,
  FRAME,
  frame,
  FrameClient,
  getBlock,
  headerBlock,
  setting,
  uint32,
} from "../tools/http2-frames.ts";
import { startEdge, type TestEdge, TestOrigin, until } from "./edge-support.ts";

const origin = new TestOrigin();
const directory = mkdtempSync(join(tmpdir(), "isochrone-http2-"));
const certificate = makeCertificate({ names: ["a.example"] });
const pair = { certificateFile: join(directory, "a.crt"), keyFile: join(directory, "a.key") };
const edges: TestEdge[] = [];
const sessions: ClientHttp2Session[] = [];
const clients: FrameClient[] = [];
/** Whether the edge speaks the frames itself. */
let isDirect = false;

async function start(settings: Partial<EdgeSettings> = {}): Promise<TestEdge & { readonly tlsPort: number }> {
  const edge = await startEdge(origin, { ...settings, http2Direct: isDirect }, undefined, {
    host: "127.0.0.1",
    port: 0,
    pairs: [pair],
    unknownName: "default",
    ticketSecret: Buffer.alloc(32, 1),
  });
  edges.push(edge);
  return { ...edge, tlsPort: edge.running.tlsPort ?? 0 };
}

function session(port: number): ClientHttp2Session {
  const made = connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false, servername: "a.example" });
  made.on("error", () => {});
  sessions.push(made);
  return made;
}

interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

async function ask(
  client: ClientHttp2Session,
  path: string,
  headers: Record<string, string> = {},
  body?: string,
): Promise<Reply> {
  const stream = client.request(
    { ":path": path, ":authority": "a.example", ...headers },
    { endStream: body === undefined },
  );
  if (body !== undefined) stream.end(body);
  const [received] = (await once(stream, "response")) as [IncomingHttpHeaders & { ":status": number }];
  let text = "";
  for await (const chunk of stream) text += String(chunk);
  return { status: received[":status"], headers: received, body: text };
}

async function raw(port: number, settings?: Uint8Array): Promise<FrameClient> {
  const client = await FrameClient.open(port, settings);
  clients.push(client);
  return client;
}

/** What an honest client gets, on a connection of its own. */
async function isServed(port: number): Promise<boolean> {
  const client = session(port);
  const { status, body } = await ask(client, "/honest");
  client.close();
  return status === 200 && body === "hello";
}

beforeAll(async () => {
  writeFileSync(pair.certificateFile, certificate.certPem);
  writeFileSync(pair.keyFile, certificate.keyPem);
  await origin.start();
});
beforeEach(() => {
  origin.isStreaming = false;
  origin.answer = (_request, response) =>
    response.writeHead(200, { "cache-control": "max-age=60", "content-type": "text/plain" }).end("hello");
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.socket.destroy();
  for (const one of sessions.splice(0)) one.destroy();
  for (const edge of edges.splice(0)) await edge.running.stop();
});
afterAll(async () => {
  await origin.stop();
  rmSync(directory, { recursive: true });
});

interface Attack {
  readonly name: string;
  readonly reason: string;
  /** Where we speak the frames, which know no limits of nghttp2's. */
  readonly ownReason?: string;
  readonly settings?: Partial<EdgeSettings>;
  readonly begin?: (client: FrameClient) => void;
  readonly round: (client: FrameClient, n: number) => void;
}

const attacks: readonly Attack[] = [
  {
    name: "rapid reset (CVE-2023-44487)",
    reason: "rapid-reset",
    round: (client, n) => {
      for (let at = 0; at < 50; at++) {
        const id = 1 + 2 * (n * 50 + at);
        client.send(
          frame(FRAME.headers, FLAG.endStream | FLAG.endHeaders, id, getBlock("/reset")),
          frame(FRAME.rstStream, 0, id, uint32(constants.NGHTTP2_CANCEL)),
        );
      }
    },
  },
  {
    name: "resets that we are made to send (CVE-2025-8671)",
    reason: "protocol",
    ownReason: "rapid-reset",
    round: (client, n) => {
      for (let at = 0; at < 50; at++) {
        const id = 1 + 2 * (n * 50 + at);
        client.send(
          frame(FRAME.headers, FLAG.endStream | FLAG.endHeaders, id, getBlock(`/made/${id}`)),
          // An increment of nothing is a stream error (RFC 9113, section 6.9).
          frame(FRAME.windowUpdate, 0, id, uint32(0)),
        );
      }
    },
  },
  {
    name: "CONTINUATION without end (CVE-2024-27316)",
    reason: "header-flood",
    begin: (client) => client.send(frame(FRAME.headers, FLAG.endStream, 1, getBlock("/"))),
    round: (client, n) =>
      client.send(frame(FRAME.continuation, 0, 1, headerBlock([[`x-${n}`, "y".repeat(1_000)]]))),
  },
  {
    name: "pings (CVE-2019-9512)",
    reason: "ping-flood",
    round: (client) =>
      client.send(...Array.from({ length: 100 }, () => frame(FRAME.ping, 0, 0, Buffer.alloc(8)))),
  },
  {
    name: "settings (CVE-2019-9515)",
    reason: "settings-flood",
    round: (client) => client.send(...Array.from({ length: 20 }, () => frame(FRAME.settings, 0, 0))),
  },
  {
    name: "window updates",
    reason: "control-flood",
    round: (client) =>
      client.send(...Array.from({ length: 1_000 }, () => frame(FRAME.windowUpdate, 0, 0, uint32(1)))),
  },
  {
    name: "priorities (CVE-2019-9513)",
    reason: "control-flood",
    round: (client) =>
      client.send(
        ...Array.from({ length: 1_000 }, () => frame(FRAME.priority, 0, 3, Buffer.from([0, 0, 0, 0, 9]))),
      ),
  },
  {
    name: "empty content (CVE-2019-9518)",
    // nghttp2 counts these itself, and is first here.
    reason: "protocol",
    ownReason: "control-flood",
    begin: (client) =>
      client.send(
        frame(
          FRAME.headers,
          FLAG.endHeaders,
          1,
          headerBlock([
            [":method", "POST"],
            [":scheme", "https"],
            [":authority", "a.example"],
            [":path", "/empty"],
          ]),
        ),
      ),
    round: (client) => client.send(...Array.from({ length: 1_000 }, () => frame(FRAME.data, 0, 1))),
  },
  {
    name: "frames of no known type",
    reason: "control-flood",
    round: (client) =>
      client.send(...Array.from({ length: 1_000 }, () => frame(0xbb, 0, 0, Buffer.alloc(16)))),
  },
];

describe.each([
  ["frames of our own", true],
  ["frames by node:http2", false],
] as const)("%s", (_who, isOwn) => {
  beforeAll(() => {
    isDirect = isOwn;
  });

  test("interim answers come before the final one (RFC 9110, 15.2)", async () => {
    const edge = await start();
    origin.answer = (_request, response) => {
      response.writeEarlyHints({ link: ["</a.css>; rel=preload", "</b.js>; rel=preload"], "x-hint": "1" });
      response.writeHead(200, { "cache-control": "max-age=60" }).end("hello");
    };
    const stream = session(edge.tlsPort).request({ ":path": "/hints", ":authority": "a.example" });
    const seen: IncomingHttpHeaders[] = [];
    stream.on("headers", (headers: IncomingHttpHeaders) => seen.push(headers));
    await once(stream, "response");
    stream.close();
    expect(seen).toHaveLength(1);
    expect(seen[0]).toMatchObject({
      ":status": 103,
      link: "</a.css>; rel=preload, </b.js>; rel=preload",
      "x-hint": "1",
    });
  });

  test("a miss, then a hit that HTTP/1.1 shares, with lower-case fields and the length", async () => {
    const edge = await start();
    const client = session(edge.tlsPort);
    const miss = await ask(client, "/x");
    expect(miss).toMatchObject({ status: 200, body: "hello" });
    expect(miss.headers["cache-status"]).toMatch(/fwd=uri-miss/);
    const hit = await ask(client, "/x");
    expect(hit.headers).toMatchObject({ "content-length": "5", "content-type": "text/plain" });
    expect(hit.headers["cache-status"]).toMatch(/; hit; ttl=/);
    const seen = origin.seen.find(({ url }) => url === "/x");
    expect(seen?.headers).toMatchObject({ host: "a.example", "x-forwarded-proto": "https" });
    // RFC 9110, section 7.6.3.
    expect(seen?.headers.via).toMatch(/^2(?:\.0)? /);
    expect(await edge.metric("requests_total", { outcome: "hit" })).toBe(1);
    expect(await edge.metric("http2_sessions_total")).toBe(1);
  });

  test("content goes to the origin whole, and cookies in one line", async () => {
    const edge = await start();
    const client = session(edge.tlsPort);
    const content = "x".repeat(300_000);
    const stream = client.request({
      ":path": "/post",
      ":method": "POST",
      ":authority": "a.example",
      cookie: ["a=1", "b=2"],
    });
    stream.end(content);
    await once(stream, "response");
    stream.resume();
    const seen = origin.seen.at(-1);
    expect(seen).toMatchObject({ method: "POST", body: content });
    expect(seen?.headers.cookie).toBe("a=1; b=2");
  });

  test.each([
    ["x-line", "a\r\nb: c"],
    ["x-nul", "a\0b"],
    ["", "empty"],
    ["x y", "1"],
  ] as const)(
    "the field %j: %j, which nghttp2 drops and we refuse, reaches no origin",
    async (name, value) => {
      const edge = await start();
      const before = origin.seen.length;
      const client = await raw(edge.tlsPort);
      client.send(
        frame(
          FRAME.headers,
          FLAG.endStream | FLAG.endHeaders,
          1,
          getBlock("/drop", "a.example", [[name, value]]),
        ),
      );
      await until(() => client.of(FRAME.headers, 1).length > 0, "an answer");
      if (isOwn) {
        expect(await edge.metric("refused_total", { reason: "malformed" })).toBe(1);
        expect(origin.seen.length).toBe(before);
        return;
      }
      const seen = origin.seen.at(-1);
      expect(seen?.url).toBe("/drop");
      expect(seen?.rawHeaders.map((one) => one.toLowerCase())).not.toContain(name);
      expect(seen?.rawHeaders).not.toContain(value);
      expect(seen?.headers).not.toHaveProperty("b");
    },
  );

  test("content that is not as long as it says reaches no origin as a whole request", async () => {
    const edge = await start();
    const before = origin.seen.length;
    for (const [stated, sent] of [
      ["5", "123"],
      ["2", "12345"],
    ] as const) {
      const client = await raw(edge.tlsPort);
      const block = headerBlock([
        [":method", "POST"],
        [":scheme", "https"],
        [":authority", "a.example"],
        [":path", "/length"],
        ["content-length", stated],
      ]);
      client.send(
        frame(FRAME.headers, FLAG.endHeaders, 1, block),
        frame(FRAME.data, FLAG.endStream, 1, Buffer.from(sent)),
      );
      await until(() => client.isClosed || client.of(FRAME.rstStream, 1).length > 0, "a reset");
    }
    expect(origin.seen.length).toBe(before);
  });

  test("a reset without an error in the middle of content is no end of it", async () => {
    const edge = await start();
    origin.isStreaming = true;
    let isCut = false;
    let isWhole = false;
    origin.answer = (request) => {
      request.on("end", () => {
        isWhole = true;
      });
      request.on("close", () => {
        isCut = !request.complete;
      });
      request.on("error", () => {});
      request.resume();
    };
    const client = await raw(edge.tlsPort);
    const block = headerBlock([
      [":method", "POST"],
      [":scheme", "https"],
      [":authority", "a.example"],
      [":path", "/cut"],
    ]);
    client.send(
      frame(FRAME.headers, FLAG.endHeaders, 1, block),
      frame(FRAME.data, 0, 1, Buffer.from("half")),
    );
    const before = origin.seen.length;
    await until(() => origin.seen.length >= before && origin.seen.at(-1)?.url === "/cut", "the origin asked");
    client.send(frame(FRAME.rstStream, 0, 1, uint32(0)));
    await until(() => isCut, "the origin cut off");
    expect(isWhole).toBe(false);
  });

  test("a drain finishes streams in flight and sends GOAWAY", async () => {
    const edge = await start();
    let release = (): void => {};
    origin.answer = (_request, response) => {
      release = () => response.writeHead(200).end("late");
    };
    const client = session(edge.tlsPort);
    const answer = ask(client, "/late");
    await until(() => origin.seen.at(-1)?.url === "/late", "the origin asked");
    const goaway = once(client, "goaway");
    edges.splice(edges.indexOf(edge), 1);
    const stopped = edge.running.stop();
    await goaway;
    release();
    expect(await answer).toMatchObject({ status: 200, body: "late" });
    expect(await stopped).toBe(0);
  });

  test.each(
    isOwn ? attacks : attacks.filter(({ name }) => name.includes("rapid") || name.includes("CONTINUATION")),
  )("$name end the session, with the reason, and others are served", async (attack) => {
    const reason = isOwn ? (attack.ownReason ?? attack.reason) : attack.reason;
    const edge = await start(attack.settings);
    expect(await isServed(edge.tlsPort)).toBe(true);
    const client = await raw(edge.tlsPort);
    attack.begin?.(client);
    const ended = async (): Promise<boolean> =>
      (await edge.metric("http2_session_ends_total", { reason })) === 1;
    const deadlineMs = performance.now() + 8_000;
    for (let n = 0; !client.isClosed && performance.now() < deadlineMs; n++) {
      attack.round(client, n);
      if (n % 20 === 0) expect(await isServed(edge.tlsPort)).toBe(true);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(client.isClosed).toBe(true);
    await until(ended, `one session ended as ${reason}`);
    expect(await isServed(edge.tlsPort)).toBe(true);
  });

  // The other way runs short: what is asked of both is above.
  if (!isOwn) return;

  test("clients that use and misuse all of it at once have each frame right, and each byte its asker's", async () => {
    const edge = await start({ drainTimeoutMs: 1_000 });
    origin.answer = (request, response, content) => {
      const path = request.url ?? "";
      response.setHeader("etag", markOf(path));
      response.setHeader("cache-control", path.startsWith("/m/") ? "no-store" : "max-age=3600");
      const answer = request.method === "POST" ? digestOf(Buffer.from(content, "latin1")) : contentOf(path);
      response.setHeader("content-length", answer.length).end(answer);
    };
    const kinds = ["h2Streams", "h2Windows", "h2Resets", "h2Uploads", "h2Goaway", "h2Garbage"];
    let answered = 0;
    const ends = kinds.map(async (kind) => {
      const behaviour = http2Behaviours[kind];
      if (behaviour === undefined) throw new Error(`no behaviour ${kind}`);
      const random = new Random(`${kind} 1`);
      const connection = new CheckedHttp2(edge.tlsPort, random, behaviour.client(random));
      expect(await connection.opened(10_000)).toBe(true);
      await behaviour.act(connection, random);
      connection.socket.destroy();
      answered += connection.answered;
      const left = behaviour.isCutting === true ? [] : connection.waitingFor;
      return { kind, wrong: connection.wrong, left };
    });
    for (const end of await Promise.all(ends))
      expect(end).toEqual({ kind: end.kind, wrong: undefined, left: [] });
    expect(answered).toBeGreaterThan(300);
  });

  test("HEAD, 304, ranges and 404 are what they are over HTTP/1.1", async () => {
    const edge = await start();
    origin.answer = (request, response) =>
      request.url === "/none"
        ? response.writeHead(404, { "cache-control": "max-age=5" }).end()
        : response
            .writeHead(200, { "cache-control": "max-age=60", etag: '"1"', "content-length": "10" })
            .end(request.method === "HEAD" ? undefined : "0123456789");
    const client = session(edge.tlsPort);
    await ask(client, "/x");
    const head = await ask(client, "/x", { ":method": "HEAD" });
    expect(head).toMatchObject({ status: 200, body: "" });
    expect(head.headers["content-length"]).toBe("10");
    const notModified = await ask(client, "/x", { "if-none-match": '"1"' });
    expect(notModified).toMatchObject({ status: 304, body: "" });
    expect(notModified.headers["content-length"]).toBeUndefined();
    const part = await ask(client, "/x", { range: "bytes=2-4" });
    expect(part).toMatchObject({ status: 206, body: "234" });
    expect((await ask(client, "/none")).status).toBe(404);
  });

  test("content that waits for an origin, or comes behind the answer, is no flood", async () => {
    const edge = await start();
    origin.isStreaming = true;
    origin.answer = (request, response) => {
      // The first takes nothing, the second answers without the content.
      if (request.url === "/full") response.writeHead(413, { "content-length": "0" }).end();
      request.on("error", () => {});
    };
    const post = (path: string): Buffer =>
      frame(
        FRAME.headers,
        FLAG.endHeaders,
        1,
        headerBlock([
          [":method", "POST"],
          [":scheme", "https"],
          [":authority", "a.example"],
          [":path", path],
        ]),
      );
    const pieces = (count: number): readonly Buffer[] =>
      Array.from({ length: count }, () => frame(FRAME.data, 0, 1, Buffer.alloc(10_000, "x")));
    const waiting = await raw(edge.tlsPort);
    waiting.send(post("/slow"), ...pieces(20));
    const late = await raw(edge.tlsPort);
    late.send(post("/full"), ...pieces(2));
    await until(() => late.of(FRAME.rstStream, 1).length > 0, "the answer without the content");
    late.send(...pieces(12));
    // Totals are looked at once a second.
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    for (const client of [waiting, late]) {
      client.send(frame(FRAME.headers, FLAG.endStream | FLAG.endHeaders, 3, getBlock("/full")));
      await until(() => client.of(FRAME.headers, 3).length > 0, "an answer on the same connection");
      expect(client.goaway).toBeUndefined();
    }
  });

  test("content of a GET goes no further, and its stream comes to an end", async () => {
    const edge = await start();
    const client = session(edge.tlsPort);
    const answer = await ask(client, "/with", { ":method": "GET" }, "ignored");
    expect(answer).toMatchObject({ status: 200, body: "hello" });
    expect(origin.seen.at(-1)?.body).toBe("");
  });

  test("large answers arrive whole, many streams at once", async () => {
    const edge = await start();
    const large = Buffer.alloc(1_000_000, "abcdefg");
    origin.answer = (_request, response) =>
      response.writeHead(200, { "cache-control": "max-age=60" }).end(large);
    const client = session(edge.tlsPort);
    const all = await Promise.all([1, 2, 3, 4, 5, 6].map((n) => ask(client, `/large/${n % 2}`)));
    for (const { status, body } of all) {
      expect(status).toBe(200);
      expect(body.length).toBe(large.length);
    }
  });

  test.each([
    ["another host than :authority", [["host", "b.example"]], 400, "host", {}],
    [
      "two Host fields",
      [
        ["host", "a.example"],
        ["host", "a.example"],
      ],
      400,
      "host",
      {},
    ],
    ["a blank in the path", [], 400, "target", { ":path": "/a b" }],
    ["a fragment", [], 400, "target", { ":path": "/a#b" }],
    ["the scheme of plain HTTP", [], 400, "target", { ":scheme": "http" }],
    ["a host that is none", [], 400, "host", { ":authority": "a@b" }],
    ["TRACE", [], 405, "method", { ":method": "TRACE" }],
    ["a target that is too long", [], 414, "target", { ":path": `/${"x".repeat(9_000)}` }],
  ] as const)("%s is refused", async (_name, more, status, reason, pseudo) => {
    const edge = await start();
    const client = await raw(edge.tlsPort);
    const fields: Record<string, string> = {
      ":method": "GET",
      ":scheme": "https",
      ":authority": "a.example",
      ":path": "/",
      ...pseudo,
    };
    const before = origin.seen.length;
    client.send(
      frame(
        FRAME.headers,
        FLAG.endStream | FLAG.endHeaders,
        1,
        headerBlock([...Object.entries(fields), ...more]),
      ),
    );
    await until(
      () => client.of(FRAME.headers, 1).length + client.of(FRAME.rstStream, 1).length > 0,
      "an answer",
    );
    const [answer] = client.of(FRAME.headers, 1);
    // A parser that refuses the frames resets the stream (RFC 9113, section 8.1.1): also no request.
    if (answer !== undefined) {
      expect(await edge.metric("refused_total", { reason })).toBe(1);
      expect(await edge.metric("requests_total")).toBe(0);
      expect([status]).toContain(status);
    }
    expect(origin.seen.length).toBe(before);
  });

  test.each([
    ["connection", "close"],
    ["transfer-encoding", "chunked"],
    ["upgrade", "h2c"],
    ["X-Upper", "1"],
  ] as const)("the field %j: %j is no request", async (name, value) => {
    const edge = await start();
    const client = await raw(edge.tlsPort);
    const before = origin.seen.length;
    client.send(
      frame(
        FRAME.headers,
        FLAG.endStream | FLAG.endHeaders,
        1,
        getBlock("/field", "a.example", [[name, value]]),
      ),
    );
    await until(
      () => client.isClosed || client.of(FRAME.rstStream, 1).length + client.of(FRAME.headers, 1).length > 0,
      "a refusal",
    );
    expect(origin.seen.length).toBe(before);
  });

  test("more streams than allowed are refused, not queued", async () => {
    const edge = await start({ http2StreamsMax: 4, drainTimeoutMs: 100 });
    origin.answer = () => {};
    const client = await raw(edge.tlsPort);
    for (let n = 0; n < 8; n++)
      client.send(frame(FRAME.headers, FLAG.endStream | FLAG.endHeaders, 1 + 2 * n, getBlock(`/hold/${n}`)));
    await until(() => client.of(FRAME.rstStream).length >= 4, "four refusals");
    for (const { payload } of client.of(FRAME.rstStream))
      expect(payload.readUInt32BE(0)).toBe(constants.NGHTTP2_REFUSED_STREAM);
  });

  test("a client that never opens its window loses the stream, and the session stays", async () => {
    const edge = await start({ writeStallMs: 300 });
    // SETTINGS_INITIAL_WINDOW_SIZE 0.
    const client = await raw(edge.tlsPort, setting(4, 0));
    client.send(frame(FRAME.headers, FLAG.endStream | FLAG.endHeaders, 1, getBlock("/stalled")));
    await until(() => client.of(FRAME.rstStream, 1).length > 0, "the stream given up");
    expect(await edge.metric("http2_stream_cuts_total", { reason: "slow-reader" })).toBe(1);
    expect(client.isClosed).toBe(false);
    expect(await isServed(edge.tlsPort)).toBe(true);
  });

  test("a client that takes a little at a time keeps its stream", async () => {
    const edge = await start({ writeStallMs: 1_000 });
    origin.answer = (_request, response) => response.writeHead(200).end(Buffer.alloc(200_000));
    const client = await raw(edge.tlsPort, setting(4, 0));
    client.send(frame(FRAME.headers, FLAG.endStream | FLAG.endHeaders, 1, getBlock("/little")));
    client.send(frame(FRAME.windowUpdate, 0, 0, uint32(1_000_000)));
    // Longer than a stall may be: of the first piece most is still to come.
    for (let turn = 0; turn < 15; turn++) {
      client.send(frame(FRAME.windowUpdate, 0, 1, uint32(100)));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    client.send(frame(FRAME.windowUpdate, 0, 1, uint32(1_000_000)));
    const taken = (): number =>
      client.of(FRAME.data, 1).reduce((sum, { payload }) => sum + payload.length, 0);
    await until(() => taken() === 200_000 || client.of(FRAME.rstStream, 1).length > 0, "the end");
    expect(client.of(FRAME.rstStream, 1)).toEqual([]);
  });

  test("an idle session is asked to go", async () => {
    const edge = await start({ keepAliveTimeoutMs: 200 });
    const client = await raw(edge.tlsPort);
    await until(() => client.goaway !== undefined, "a GOAWAY");
    expect(client.goaway).toBe(constants.NGHTTP2_NO_ERROR);
    await until(
      async () => (await edge.metric("http2_session_ends_total", { reason: "idle" })) === 1,
      "counted",
    );
  });

  test("a header list beyond the limit is refused, not held", async () => {
    const edge = await start();
    const client = await raw(edge.tlsPort);
    const before = origin.seen.length;
    const many = Array.from({ length: 300 }, (_, n) => [`x-${n}`, "y"] as const);
    client.send(
      frame(FRAME.headers, FLAG.endStream | FLAG.endHeaders, 1, getBlock("/many", "a.example", many)),
    );
    await until(
      () => client.isClosed || client.of(FRAME.rstStream, 1).length + client.of(FRAME.headers, 1).length > 0,
      "a refusal",
    );
    expect(await edge.metric("refused_total", { reason: "header-fields" })).toBe(1);
    expect(origin.seen.length).toBe(before);
    expect(await isServed(edge.tlsPort)).toBe(true);
  });

  test("a client that does not acknowledge our settings is held to the header limit all the same", async () => {
    const edge = await start();
    const client = await raw(edge.tlsPort);
    const before = origin.seen.length;
    const limit = edgeDefaults.headerBytesMax;
    for (const [streamId, bytes] of [
      [1, limit - 500],
      [3, limit],
      [5, 3 * limit],
    ] as const) {
      const block = getBlock("/cookies", "a.example", [["cookie", "c".repeat(bytes)]]);
      client.send(frame(FRAME.headers, FLAG.endStream, streamId, block.subarray(0, 16_000)));
      for (let at = 16_000; at < block.length; at += 16_000)
        client.send(frame(FRAME.continuation, 0, streamId, block.subarray(at, at + 16_000)));
      client.send(frame(FRAME.continuation, FLAG.endHeaders, streamId));
      await until(() => client.of(FRAME.headers, streamId).length > 0, "an answer");
    }
    expect(origin.seen.length).toBe(before + 1);
    // Two answers of 431 (RFC 6585, section 5).
    expect(await edge.metric("refused_total", { reason: "header-fields" })).toBe(2);
  });
});

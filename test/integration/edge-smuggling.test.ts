/** Request smuggling: thousands of malformed requests through the edge to an origin that judges every byte it gets. */
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type DirtyForward, RecordingOrigin } from "../tools/hostile/recording-origin.ts";
import { DELIVERIES, runSmuggling } from "../tools/hostile/smuggling.ts";
import { readRequest, readResponses } from "../tools/hostile/strict-http.ts";
import { smugglingVectors } from "../tools/hostile/vectors.ts";
import { rawExchange, startEdge, type TestEdge, TestOrigin, until } from "./edge-support.ts";

describe("smuggling vectors", () => {
  let origin: RecordingOrigin;
  let edge: TestEdge;
  beforeAll(async () => {
    origin = new RecordingOrigin();
    await origin.start();
    edge = await startEdge(origin);
  });
  afterAll(async () => {
    await edge.running.stop();
    await origin.stop();
  });

  test("nothing that a strict reader refuses, or that the client did not send, is forwarded", async () => {
    // A third of the sweep over all bytes; `npm run lab -- smuggling` sends everything in every delivery.
    const vectors = smugglingVectors().filter((vector) => vector.class !== "sweep" || vector.id % 3 === 0);
    const named = new Map(vectors.map((vector) => [vector.id, vector]));
    const report = await runSmuggling({
      port: edge.port,
      origin,
      vectors,
      deliveries: ({ id }) => DELIVERIES.filter((_, index) => id % DELIVERIES.length === index),
      connections: 64,
    });
    const say = (found: readonly DirtyForward[]): string[] =>
      found.map(
        ({ id, rule, bytes }) =>
          `${rule} | ${named.get(id ?? -1)?.class}: ${named.get(id ?? -1)?.name} | ${bytes}`,
      );
    expect(say(report.dirty)).toEqual([]);
    expect(say(report.unclean)).toEqual([]);
    expect(say(report.dirtyAnswers)).toEqual([]);
    // A run in which nothing came through, or nothing was refused, would say nothing.
    expect(report.payloads).toBeGreaterThan(9_000);
    expect(report.forwarded).toBeGreaterThan(4_000);
    expect(report.byStatus["400"]).toBeGreaterThan(4_000);
    expect(report.byStatus["501"]).toBeGreaterThan(100);
    expect(report.unanswered).toBeLessThan(report.payloads / 20);
    expect(await edge.metric("refused_total", { reason: "malformed" })).toBeGreaterThan(4_000);
    expect(await edge.metric("refused_total", { reason: "framing" })).toBeGreaterThan(100);
    expect(await edge.metric("refused_total", { reason: "host" })).toBeGreaterThan(50);
  });

  test("what follows a refused request, or one that said close, is not processed (RFC 9112, 9.6)", async () => {
    const before = origin.forwarded;
    const second = "GET /v99999b HTTP/1.1\r\nHost: a\r\n\r\n";
    for (const [first, status] of [
      ["GET /v99999a HTTP/1.1\r\nHost: a b\r\n\r\n", 400],
      ["POST /v99999a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501],
      ["POST /v99999a HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1\r\n\r\nx", 417],
      ["TRACE /v99999a HTTP/1.1\r\nHost: a\r\n\r\n", 405],
    ] as const) {
      const text = await rawExchange(edge.port, first + second);
      const { responses, fault } = readResponses(text, () => false, true);
      expect(fault).toBeUndefined();
      expect(responses.map((response) => response.status)).toEqual([status]);
    }
    expect(origin.forwarded).toBe(before);
    const text = await rawExchange(
      edge.port,
      `GET /v00000a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n${second}`,
    );
    expect(readResponses(text, () => false, true).responses.map(({ status }) => status)).toEqual([200]);
    expect(origin.forwarded).toBe(before + 1);
  });
});

test.for([
  ["the flat path", false],
  ["node:http's parser", true],
] as const)(
  "%s: a malformed request waits for the answer before it, and never stands in the middle of it",
  async ([, isFlatPathOff]) => {
    const origin = new TestOrigin();
    await origin.start();
    let go: () => void = () => {};
    const half = "x".repeat(40_000);
    origin.answer = (_request, response) => {
      response.writeHead(200, { "content-length": String(2 * half.length) }).write(half);
      go = () => response.end(half);
    };
    const edge = await startEdge(origin, {}, undefined, undefined, { isFlatPathOff });
    try {
      const socket = connect(edge.port, "127.0.0.1");
      let text = "";
      const closed = new Promise((resolve) => socket.once("close", resolve));
      const begun = new Promise<void>((resolve) => {
        socket.on("data", (bytes: Buffer) => {
          text += bytes.toString("latin1");
          if (text.length > half.length) resolve();
        });
      });
      socket.on("error", () => {});
      socket.write("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
      await begun;
      socket.write("GET /b HTTP/1.1\r\nHost : a\r\n\r\n");
      // Node's parser has read it when it is counted; the flat path reads it when its turn comes.
      while (isFlatPathOff && (await edge.metric("refused_total", { reason: "malformed" })) === 0)
        await new Promise((resolve) => setImmediate(resolve));
      go();
      await closed;
      const { responses, fault } = readResponses(text, () => false, true);
      expect(fault).toBeUndefined();
      expect(responses.map(({ status, content }) => [status, content.length])).toEqual([
        [200, 2 * half.length],
        [400, 0],
      ]);
    } finally {
      await edge.running.stop();
      await origin.stop();
    }
  },
);

test("100 Continue comes before the answer it belongs to, also behind one that is slow", async () => {
  const origin = new TestOrigin();
  await origin.start();
  const waiting: (() => void)[] = [];
  origin.answer = (request, response) => {
    if (request.url === "/slow") waiting.push(() => response.end("slow"));
    else response.end("done");
  };
  const edge = await startEdge(origin);
  try {
    const text = rawExchange(
      edge.port,
      // The third one is refused: it is not told to go on.
      "GET /slow HTTP/1.1\r\nHost: a\r\nTE: x\r\nConnection: TE\r\n\r\n" +
        "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok" +
        "POST /y HTTP/1.1\r\nHost: a b\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    );
    await until(() => waiting.length === 1 && origin.seen.length >= 1, "the slow one is at the origin");
    waiting[0]?.();
    const { responses, fault } = readResponses(await text, () => false, true);
    expect(fault).toBeUndefined();
    const final = responses
      .filter(({ status }) => status !== 100)
      .map(({ status, content }) => [status, content.slice(0, 7)]);
    expect(final).toEqual([
      [200, "slow"],
      [200, "done"],
      [400, "Refused"],
    ]);
    expect(responses.at(-2)?.status).toBe(200);
  } finally {
    await edge.running.stop();
    await origin.stop();
  }
});

test("node:http's parser begins one request of a connection at a time, in order, and holds a hundred at most", async () => {
  const origin = new TestOrigin();
  await origin.start();
  let open = 0;
  let most = 0;
  origin.answer = (request, response) => {
    most = Math.max(most, (open += 1));
    setImmediate(() => {
      open -= 1;
      response.end(request.url);
    });
  };
  const edge = await startEdge(origin, {}, undefined, undefined, { isFlatPathOff: true });
  try {
    const bytes = Array.from({ length: 150 }, (_, index) => `GET /${index} HTTP/1.1\r\nHost: a\r\n\r\n`).join(
      "",
    );
    const { responses, fault } = readResponses(await rawExchange(edge.port, bytes), () => false, true);
    expect(fault).toBeUndefined();
    expect(responses.map(({ content }) => content)).toEqual([
      ...Array.from({ length: 100 }, (_, index) => `/${index}`),
      "",
    ]);
    expect(responses.at(-1)?.status).toBe(503);
    expect(responses.at(-1)?.fields).toContainEqual(["Retry-After", "1"]);
    expect(origin.seen).toHaveLength(100);
    expect(most).toBe(1);
    expect(await edge.metric("refused_total", { reason: "pipeline" })).toBe(1);
  } finally {
    await edge.running.stop();
    await origin.stop();
  }
});

describe("the strict reader itself", () => {
  const faultOf = (bytes: string): string | undefined => {
    const step = readRequest(bytes, 0, "strict");
    return step.kind === "fault" ? step.rule : step.kind;
  };
  test("takes what a sender may generate", () => {
    for (const bytes of [
      "GET /a?b=%20 HTTP/1.1\r\nHost: a:80\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 2\r\n\r\nok",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
      "OPTIONS * HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n",
    ])
      expect(faultOf(bytes)).toBe("request");
    expect(faultOf("GET / HTTP/1.1\r\nHost: a\r\n\r")).toBe("incomplete");
    expect(faultOf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nok")).toBe("incomplete");
  });
  test("refuses what it must, by the rule that is broken", () => {
    const post = (fields: string, rest = ""): string | undefined =>
      faultOf(`POST / HTTP/1.1\r\nHost: a\r\n${fields}\r\n${rest}`);
    expect(faultOf("GET / HTTP/1.1\nHost: a\r\n\r\n")).toBe("bare LF");
    expect(faultOf("GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n")).toBe("bare CR");
    expect(faultOf("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n")).toBe("target");
    expect(faultOf("GET /|x HTTP/1.1\r\nHost: a\r\n\r\n")).toBe("target");
    expect(faultOf("GET / HTTP/1.0\r\nHost: a\r\n\r\n")).toBe("version");
    expect(faultOf("GET / HTTP/1.1\r\n\r\n")).toBe("Host is not one field");
    expect(post("X : y\r\n")).toBe("field name is no token");
    expect(post("X: y\r\n z\r\n")).toBe("obs-fold");
    expect(post("X: \x01y\r\n")).toBe("field value");
    expect(post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n")).toBe(
      "both Transfer-Encoding and Content-Length",
    );
    expect(post("Content-Length: 1\r\nContent-Length: 1\r\n", "x")).toBe("framing field twice");
    expect(post("Content-Length: +1\r\n", "x")).toBe("Content-Length is no number");
    expect(post("Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n")).toBe("transfer coding");
    expect(post("Transfer-Encoding: chunked\r\n", "1;a\r\nx\r\n0\r\n\r\n")).toBe("chunk size");
    expect(post("Transfer-Encoding: chunked\r\n", "1\r\nxy\r\n0\r\n\r\n")).toBe("chunk data without CRLF");
    expect(post("Transfer-Encoding: chunked\r\n", "0\r\nA: b\r\n\r\n")).toBe("trailer");
  });
});

/** Error pages with references, debug tokens, and the ids that go along with a request. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { systemClock } from "#kit/io";
import type { EpochMs } from "#kit";
import { Diagnosis, makeDebugToken, parseReference } from "#edge";
import { fetchFrom, startEdge, type TestEdge, TestOrigin } from "./edge-support.ts";

const SECRET = "a-token-of-the-operator-0123456789";
const origin = new TestOrigin();
let edge: TestEdge;
let admin: number;
const before = process.env["ISOCHRONE_CONTROL_TOKEN"];

beforeAll(async () => {
  await origin.start();
  process.env["ISOCHRONE_CONTROL_TOKEN"] = SECRET;
  edge = await startEdge(origin, {}, undefined, undefined, { admin: { host: "127.0.0.1", port: 0 } });
  admin = edge.running.adminPort ?? 0;
});
afterAll(async () => {
  if (before === undefined) delete process.env["ISOCHRONE_CONTROL_TOKEN"];
  else process.env["ISOCHRONE_CONTROL_TOKEN"] = before;
  await edge.running.stop();
  await origin.stop();
});
afterEach(() => {
  origin.seen.length = 0;
});

const soon = (ms: number): EpochMs => (systemClock.epoch() + ms) as EpochMs;
const bearer = { authorization: `Bearer ${SECRET}` };

test("a failure has a reference that the server can explain, as text and as HTML", async () => {
  origin.answer = (request) => request.socket.destroy();
  for (const accept of ["*/*", "text/html,*/*;q=0.8"]) {
    const answer = await fetchFrom(edge.port, `/secret-${accept.length}?token=1`, {
      headers: { accept, traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" },
    });
    expect(answer.status).toBe(502);
    expect(answer.headers["content-type"]).toMatch(accept === "*/*" ? /^text\/plain/ : /^text\/html/);
    expect(answer.headers["cache-control"]).toBe("no-store");
    expect(answer.cacheStatus).toContain("fwd=uri-miss");
    const reference = /edge-[0-9a-f]+\.[A-Za-z0-9_-]{8,}/.exec(answer.body.toString())?.[0] ?? "";
    expect(parseReference(reference)?.server).toMatch(/^edge-/);
    const explained = await fetchFrom(admin, `/.isochrone/explain?ref=${reference}`, { headers: bearer });
    const { fault } = JSON.parse(explained.body.toString());
    expect(fault).toMatchObject({
      reference,
      status: 502,
      method: "GET",
      url: expect.stringMatching(/\/secret-[0-9]+$/),
      peer: null,
      clientAddress: "127.0.0.0",
      traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
    });
    expect(fault.message).toContain("127.0.0.1");
    // What the operator may know is not on the page.
    expect(answer.body.toString()).not.toContain(fault.message);
  }
});

test("a HEAD that fails has no content, and a reference that nobody made is not found", async () => {
  origin.answer = (request) => request.socket.destroy();
  const answer = await fetchFrom(edge.port, "/head", { method: "HEAD" });
  expect(answer.status).toBe(502);
  expect(answer.body.length).toBe(0);
  const unknown = await fetchFrom(admin, "/.isochrone/explain?ref=edge.aaaaaaaaaa", { headers: bearer });
  expect(JSON.parse(unknown.body.toString())).toMatchObject({ fault: null });
  expect((await fetchFrom(admin, "/.isochrone/explain?ref=..", { headers: bearer })).status).toBe(400);
  expect((await fetchFrom(admin, "/.isochrone/explain?ref=edge.aaaaaaaaaa")).status).toBe(401);
});

test("a valid debug token opens times, key and Akamai's fields; any other opens nothing", async () => {
  origin.answer = (_request, response) => {
    response.setHeader("Cache-Control", "max-age=60");
    response.end("ok");
  };
  const pragma = "akamai-x-cache-on, akamai-x-get-cache-key, akamai-x-check-cacheable";
  const ask = async (token: string) =>
    await fetchFrom(edge.port, "/debugged?a=1", { headers: { "isochrone-debug": token, pragma } });

  const missed = await ask(makeDebugToken(SECRET, soon(60_000), "*"));
  expect(missed.headers["server-timing"]).toMatch(/^cdn-cache;desc=MISS, edge;dur=[0-9.]+, upstream;dur=/);
  expect(missed.headers["x-check-cacheable"]).toBe("YES");
  expect(missed.headers["x-cache-key"]).toMatch(/\/debugged\?a=1$/);
  expect(missed.cacheStatus).toContain("key=");
  expect(missed.headers["isochrone-request-id"]).toBe(origin.seen[0]?.headers["x-request-id"]);
  expect(origin.seen[0]?.headers).not.toHaveProperty("isochrone-debug");

  const hit = await ask(makeDebugToken(SECRET, soon(60_000), "*"));
  expect(hit.headers["x-cache"]).toMatch(/^TCP_HIT from edge-[0-9a-f]+ \(isochrone\) \(-\)$/);

  const last = makeDebugToken(SECRET, soon(60_000), "*");
  const flipped = last.endsWith("A") ? "Q" : "A";
  for (const token of [
    makeDebugToken(SECRET, soon(-1_000), "*"),
    makeDebugToken("another secret", soon(60_000), "*"),
    makeDebugToken(SECRET, soon(60_000), "not-this-property"),
    `${last.slice(0, -1)}${flipped}`,
    "1",
  ]) {
    const plain = await ask(token);
    expect(plain.status).toBe(200);
    for (const name of ["server-timing", "x-cache", "x-cache-key", "isochrone-request-id"])
      expect(plain.headers).not.toHaveProperty(name);
    expect(plain.cacheStatus).not.toContain("key=");
  }
});

test("what a debugged request is told is not told to the next one", async () => {
  origin.answer = (_request, response) => {
    response.setHeader("Cache-Control", "max-age=60");
    response.end("ok");
  };
  const token = makeDebugToken(SECRET, soon(60_000), "*");
  for (let round = 0; round < 3; round++) {
    const debugged = await fetchFrom(edge.port, "/both", { headers: { "isochrone-debug": token } });
    const plain = await fetchFrom(edge.port, "/both");
    expect(debugged.headers).toHaveProperty("server-timing");
    expect(plain.headers).not.toHaveProperty("server-timing");
    expect(plain.cacheStatus).not.toContain("key=");
  }
});

test("a client's own request id and trace context reach the origin as they came", async () => {
  origin.answer = (_request, response) => void response.end("ok");
  const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  await fetchFrom(edge.port, "/ids", {
    headers: { "x-request-id": "mine", traceparent, tracestate: "vendor=1" },
  });
  expect(origin.seen[0]?.headers).toMatchObject({
    "x-request-id": "mine",
    traceparent,
    tracestate: "vendor=1",
  });
});

test("without an operator's token no debug token is taken, also one of an empty secret", () => {
  const diagnosis = new Diagnosis({ serverName: "edge", clock: systemClock, secret: "" });
  const token = makeDebugToken("", soon(60_000), "*");
  expect(diagnosis.scopeOf([["Isochrone-Debug", token]])).toBeUndefined();
});

test("explain says in which form a client gets what is stored, or why as it is stored", async () => {
  origin.answer = (_request, response) =>
    response
      .writeHead(200, { "content-type": "text/plain", "cache-control": "max-age=60" })
      .end("text ".repeat(1_000));
  const path = "/explained-form";
  const url = `http://www.example${path}`;
  await fetchFrom(edge.port, path, { headers: { host: "www.example" } });
  const form = async (...headers: readonly string[]) => {
    const query = new URLSearchParams([["url", url], ...headers.map((line) => ["header", line])]);
    const answer = await fetchFrom(admin, `/.isochrone/explain?${query}`, { headers: bearer });
    return JSON.parse(answer.body.toString()).form;
  };
  expect(await form("Accept-Encoding: br")).toEqual({
    coding: "br",
    from: "stream",
    reason: null,
    forms: [
      { coding: "br", isAccepted: true, state: "not-made", bytes: null },
      { coding: "zstd", isAccepted: false, state: "not-made", bytes: null },
      { coding: "gzip", isAccepted: false, state: "not-made", bytes: null },
    ],
  });
  for (const [headers, reason] of [
    [[], "not-accepted"],
    [["accept-encoding: br", "range: bytes=0-1"], "range"],
    [["accept-encoding: br", "authorization: Basic YQ=="], "credentials"],
    [["accept-encoding: br", "cache-control: no-transform"], "request-no-transform"],
  ] as const)
    expect(await form(...headers), reason).toMatchObject({ coding: "identity", from: "as-stored", reason });
});

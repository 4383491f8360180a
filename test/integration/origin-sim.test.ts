/** Goal: the scripted origin does on real sockets what its page promises. Method: one server on port 0, node:http clients. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { Agent, type IncomingHttpHeaders, request } from "node:http";
import { createConnection } from "node:net";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { xxh64Hex } from "#kit";
import { createLogger, systemClock } from "#kit/io";
import { OriginServer, patternBytes, patternOf } from "#origin-sim";
import { worldOfDisk } from "../unit/world/world-of-disk.ts";

const token = "origin-test-token";
const logger = createLogger({ role: "origin", id: "test" }, { write: () => {} });
const server = new OriginServer({ clock: systemClock, logger, world: worldOfDisk("demo"), token });
const agent = new Agent({ keepAlive: true });
let port = 0;

beforeAll(async () => {
  ({ port } = await server.listen("127.0.0.1", 0));
});
afterAll(async () => {
  agent.destroy();
  await server.close();
});

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

function ask(
  path: string,
  options: { host?: string; method?: string; headers?: Record<string, string>; body?: string | Buffer } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { host = "www.shop.example", method = "GET", headers = {}, body } = options;
    const sent = request(
      { agent, host: "127.0.0.1", port, path, method, headers: { host, ...headers } },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks),
          }),
        );
        response.on("error", reject);
      },
    );
    sent.on("error", reject);
    sent.end(body);
  });
}

const own = () => `127.0.0.1:${port}`;
const bearer = { authorization: `Bearer ${token}` };
async function admin(
  method: string,
  path: string,
  value?: unknown,
): Promise<{ status: number; json: Record<string, unknown> }> {
  const answer = await ask(path, {
    host: own(),
    method,
    headers: bearer,
    ...(value !== undefined && { body: JSON.stringify(value) }),
  });
  return { status: answer.status, json: JSON.parse(answer.body.toString()) as Record<string, unknown> };
}

describe("content by host", () => {
  test("each property has its kind, another host is misdirected", async () => {
    const home = await ask("/");
    expect(home.status).toBe(200);
    expect(home.headers).toMatchObject({
      "content-type": "text/html; charset=utf-8",
      "cache-control": "max-age=60",
      "surrogate-key": "html all",
      "cache-tag": "html,all",
      "accept-ranges": "bytes",
    });
    expect((await ask("/", { host: "app.shop.example" })).headers["cache-control"]).toBe("max-age=5");
    expect((await ask("/live/index.m3u8", { host: "live.media.example:80" })).body.toString()).toContain(
      "#EXT-X-MEDIA-SEQUENCE:",
    );
    expect((await ask("/", { host: "other.example" })).status).toBe(421);
    expect((await ask("/nothing")).status).toBe(404);
    expect((await ask("/", { host: own() })).status).toBe(200);
  });

  test("a conditional request is answered 304 with the stored metadata and no body", async () => {
    const first = await ask("/assets/style.css");
    for (const headers of [
      { "if-none-match": first.headers.etag ?? "" },
      { "if-modified-since": first.headers["last-modified"] ?? "" },
    ]) {
      const second = await ask("/assets/style.css", { headers });
      expect(second.status).toBe(304);
      expect(second.body.length).toBe(0);
      expect(second.headers).toMatchObject({ etag: first.headers.etag, "cache-control": "max-age=300" });
    }
    const next = await admin("POST", "/.isochrone/content", { version: 2 });
    expect(next.json).toEqual({ version: 2 });
    const changed = await ask("/assets/style.css", {
      headers: { "if-none-match": first.headers.etag ?? "" },
    });
    expect(changed.status).toBe(200);
    expect(changed.headers.etag).not.toBe(first.headers.etag);
    await admin("POST", "/.isochrone/content", { version: 1 });
  });

  test("HEAD has the head of GET and no body", async () => {
    const [get, head] = [await ask("/a.html"), await ask("/a.html", { method: "HEAD" })];
    expect(head.status).toBe(200);
    expect(head.body.length).toBe(0);
    expect(head.headers["content-length"]).toBe(String(get.body.length));
    expect(head.headers.etag).toBe(get.headers.etag);
  });

  test("ranges of a large object are the bytes of the pattern", async () => {
    const host = "dl.media.example";
    const pattern = patternOf(`${host}/file-10MiB.bin#1`, 10 * 1_024 * 1_024);
    const whole = await ask("/file-10MiB.bin", { host });
    expect(whole.headers["content-length"]).toBe(String(pattern.length));
    expect(xxh64Hex(whole.body)).toBe(xxh64Hex(patternBytes(pattern, 0, pattern.length)));
    const part = await ask("/file-10MiB.bin", {
      host,
      headers: { range: "bytes=5000000-5999999", "if-range": whole.headers.etag ?? "" },
    });
    expect(part.status).toBe(206);
    expect(part.headers["content-range"]).toBe("bytes 5000000-5999999/10485760");
    expect(part.body.equals(Buffer.from(patternBytes(pattern, 5_000_000, 1_000_000)))).toBe(true);
    const beyond = await ask("/file-10MiB.bin", { host, headers: { range: "bytes=10485760-" } });
    expect([beyond.status, beyond.headers["content-range"]]).toEqual([416, "bytes */10485760"]);
  });
});

describe("scripts", () => {
  test("status, Cache-Control, tags and fields on demand", async () => {
    const answer = await ask("/status/503?cc=max-age%3D5&tags=x&h=Retry-After:3");
    expect(answer.status).toBe(503);
    expect(answer.headers).toMatchObject({
      "cache-control": "max-age=5",
      "surrogate-key": "x",
      "retry-after": "3",
    });
    expect(answer.headers.etag).toBeUndefined();
    expect((await ask("/a.html?cc=")).headers["cache-control"]).toBeUndefined();
    expect((await ask("/delay/99999999")).status).toBe(400);
  });

  test("chunked has no length, bytes are exact, a delay is at least so long", async () => {
    const chunked = await ask("/chunked/bytes/1024");
    expect(chunked.headers["content-length"]).toBeUndefined();
    expect(chunked.headers["transfer-encoding"]).toBe("chunked");
    expect(chunked.body.length).toBe(1_024);
    const before = performance.now();
    await ask("/delay/120/bytes/1");
    expect(performance.now() - before).toBeGreaterThanOrEqual(118);
  });

  test("a reset comes before the head, or after so many bytes", async () => {
    await expect(ask("/reset")).rejects.toMatchObject({ code: "ECONNRESET" });
    const got = await new Promise<number>((resolve, reject) => {
      let bytes = 0;
      const path = "/reset/100000/bytes/200000";
      const sent = request({ host: "127.0.0.1", port, path, headers: { host: "www.shop.example" } });
      sent.on("response", (response) => {
        expect(response.headers["content-length"]).toBe("200000");
        response.on("data", (chunk: Buffer) => (bytes += chunk.length));
        response.on("error", () => {});
        response.on("end", () => reject(new Error("the body ended")));
      });
      sent.on("error", (error: NodeJS.ErrnoException) =>
        error.code === "ECONNRESET" ? resolve(bytes) : reject(error),
      );
      sent.end();
    });
    expect(got).toBe(100_000);
  });

  test("echo tells what arrived, with length and hash of the body", async () => {
    const body = "x".repeat(300_000);
    const answer = JSON.parse(
      (await ask("/echo?a=1", { method: "POST", headers: { "X-Case": "Kept" }, body })).body.toString(),
    ) as Record<string, unknown>;
    expect(answer).toMatchObject({
      method: "POST",
      target: "/echo?a=1",
      bodyBytes: 300_000,
      bodyXxh64: xxh64Hex(body),
    });
    expect(answer["headers"]).toContainEqual(["X-Case", "Kept"]);
  });

  test("variants differ by the field that Vary names", async () => {
    const [de, fr, deAgain] = await Promise.all(
      ["de", "fr", "de"].map((language) =>
        ask("/vary/accept-language/a.html", { headers: { "accept-language": language } }),
      ),
    );
    expect(de?.headers.vary).toBe("accept-language");
    expect(de?.headers.etag).toBe(deAgain?.headers.etag);
    expect(de?.headers.etag).not.toBe(fr?.headers.etag);
  });

  test("an unsafe method is taken and answered 204", async () => {
    expect((await ask("/a.html", { method: "DELETE" })).status).toBe(204);
    expect((await ask("/a.html", { method: "OPTIONS" })).headers.allow).toContain("GET");
  });
});

describe("admin", () => {
  test("is on the own address only, and changes need the token", async () => {
    expect((await ask("/livez", { host: own() })).body.toString()).toBe("ok\n");
    expect((await ask("/readyz", { host: own() })).status).toBe(200);
    expect((await ask("/livez")).status).toBe(404);
    expect((await ask("/.isochrone/requests", { host: own() })).status).toBe(401);
    expect(
      (await ask("/.isochrone/requests", { host: own(), headers: { authorization: "Bearer wrong" } })).status,
    ).toBe(401);
    expect((await ask("/metrics", { host: own() })).body.toString()).toContain(
      'isochrone_origin_requests_total{kind="static",status="200"}',
    );
  });

  test("counts requests by target, conditional ones apart", async () => {
    await admin("DELETE", "/.isochrone/requests");
    const { headers } = await ask("/count.html");
    await ask("/count.html", { headers: { "if-none-match": headers.etag ?? "" } });
    await ask("/count.html?x=1");
    const { json } = await admin("GET", "/.isochrone/requests?path=/count");
    expect(json).toMatchObject({
      total: 3,
      uncounted: 0,
      requests: [
        {
          method: "GET",
          host: "www.shop.example",
          target: "/count.html",
          count: 2,
          conditional: 1,
          notModified: 1,
          ranged: 0,
        },
        { method: "GET", target: "/count.html?x=1", count: 1 },
      ],
    });
  });

  test("faults are switched while it runs", async () => {
    expect(
      await admin("POST", "/.isochrone/faults", { kind: "status", status: 502, pathPrefix: "/f" }),
    ).toMatchObject({ status: 200, json: { fault: { kind: "status" } } });
    expect((await ask("/f.html")).status).toBe(502);
    expect((await ask("/g.html")).status).toBe(200);
    await admin("POST", "/.isochrone/faults", { kind: "reset" });
    await expect(ask("/g.html")).rejects.toMatchObject({ code: "ECONNRESET" });
    expect((await ask("/livez", { host: own() })).status).toBe(200);
    await admin("POST", "/.isochrone/faults", { kind: "hang" });
    const hung = request({ host: "127.0.0.1", port, path: "/g.html", headers: { host: "www.shop.example" } });
    hung.on("error", () => {});
    hung.end();
    await expect
      .poll(async () => (await ask("/metrics", { host: own() })).body.toString(), { timeout: 5_000 })
      .toContain("isochrone_origin_held_requests 1");
    hung.destroy();
    await expect
      .poll(async () => (await ask("/metrics", { host: own() })).body.toString(), { timeout: 5_000 })
      .toContain("isochrone_origin_held_requests 0");
    const refused = await admin("POST", "/.isochrone/faults", { kind: "boom" });
    expect([refused.status, refused.json["error"]]).toEqual([422, expect.stringContaining("kind: got")]);
    expect((await admin("GET", "/.isochrone/faults")).json).toEqual({
      fault: { kind: "hang" },
      requestsMet: 1,
    });
    await admin("POST", "/.isochrone/faults", { kind: null });
    expect((await ask("/g.html")).status).toBe(200);
  });

  test("bytes that are not HTTP do not end it", async () => {
    const socket = createConnection(port, "127.0.0.1");
    socket.on("error", () => {});
    socket.resume();
    socket.end("\u0000\u0001 not http\r\n\r\n");
    await once(socket, "close");
    expect((await ask("/")).status).toBe(200);
  });
});

describe("process", () => {
  const cli = new URL("../../cli/isochrone.js", import.meta.url).pathname;
  const start = (args: readonly string[]): ChildProcess =>
    spawn(process.execPath, [cli, "origin", ...args], { stdio: ["ignore", "pipe", "pipe"] });

  test("prints a ready line, serves, and ends with 0 on SIGTERM", async () => {
    const child = start(["--listen", "127.0.0.1:0"]);
    const exit = once(child, "exit");
    const lines = createInterface({ input: child.stdout! });
    const [line] = (await once(lines, "line")) as [string];
    const url = /^ready origin (http:\/\/127\.0\.0\.1:\d+) /.exec(line)?.[1];
    expect(url, line).toBeDefined();
    expect((await fetch(`${url}/bytes/10`)).status).toBe(200);
    child.kill("SIGTERM");
    expect(await exit).toEqual([0, null]);
  });

  test.each([
    [[], 2, "--listen: got"],
    [["--listen", "localhost:1"], 2, "expected ADDRESS:PORT"],
    [["--listen", "127.0.0.1:0", "--wold", "x"], 2, "--wold"],
    [["--listen", "127.0.0.1:0", "--world", "/nowhere.yaml"], 2, "no such file"],
    [["--listen", "127.0.0.1:0", "--world", cli], 2, "isochrone.js:"],
  ])("refuses %j with exit code %d and one line", async (args, code, words) => {
    const child = start(args);
    let errors = "";
    child.stderr?.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    expect((await once(child, "close"))[0]).toBe(code);
    expect(errors).toContain(words);
    expect(errors.trimEnd()).not.toContain("\n");
  });

  test("an address in use is told in one line", async () => {
    const child = start(["--listen", `127.0.0.1:${port}`]);
    let errors = "";
    child.stderr?.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    expect((await once(child, "close"))[0]).toBe(2);
    expect(errors).toMatch(
      /^isochrone origin: Cannot listen on 127\.0\.0\.1:\d+: the address is in use; .+\n$/,
    );
  });
});

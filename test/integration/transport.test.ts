import { Readable } from "node:stream";
import { afterEach, describe, expect, test } from "vitest";
import { clusterId, Lab, listen, type Listening, snapshotPaths, until } from "./transport-support.ts";

let lab: Lab | undefined;
afterEach(async () => {
  await lab?.close();
  lab = undefined;
});

const hello = (): Promise<Listening> =>
  listen((request, response) => {
    request.resume();
    response.end(`hello ${request.url}`);
  });

/** Direct 300 ms; through the relay 80 + 60 ms. */
const farAndNear = { "fra|sfo": 300, "fra|nyc": 80 };

describe("path choice on real sockets", () => {
  test("takes the relay within seconds when it is faster, and says so", async () => {
    lab = await Lab.start({ origin: await hello(), links: farAndNear });
    const { transport, target } = lab;
    const first = await lab.get("/first");
    expect(first).toMatchObject({
      status: 200,
      text: "hello /first",
      via: null,
      reason: "unmeasured-direct",
    });
    // One round trip to connect, one for the request.
    expect(first.ms).toBeGreaterThan(580);
    transport.start();
    const startedMs = performance.now();
    await until(() => transport.explainPath(target).chosen.via === "nyc");
    expect(performance.now() - startedMs).toBeLessThan(8_000);
    const relayed = await lab.get("/second");
    expect(relayed).toMatchObject({
      status: 200,
      text: "hello /second",
      via: "nyc",
      reason: "cheapest",
      attempts: 1,
    });
    expect(relayed.ms).toBeLessThan(280);
    const { candidates } = transport.explainPath(target);
    const direct = candidates.find((one) => one.via === null);
    const via = candidates.find((one) => one.via === "nyc");
    expect(direct?.srttMs).toBeGreaterThan(295);
    expect(direct?.srttMs).toBeLessThan(380);
    expect(via?.srttMs).toBeGreaterThan(138);
    expect(via?.srttMs).toBeLessThan(220);
    // Reports for the mapper: the relay itself, and the origin over both paths.
    const reports = transport
      .linkReports()
      .map(({ toClusterId, via: over }) => `${toClusterId}|${over ?? ""}`);
    expect(reports.sort()).toEqual(["nyc|", "sfo|", "sfo|nyc"]);
  });

  test("a cut relay is left without a lost idempotent request, and taken again after healing", async () => {
    lab = await Lab.start({
      origin: await hello(),
      links: farAndNear,
      settings: { paths: { holdDownMs: 500 } },
    });
    const { transport, target } = lab;
    transport.start();
    await until(() => transport.explainPath(target).chosen.via === "nyc");
    const results: Promise<{ status: number; via: string | null }>[] = [];
    const current = lab;
    const load = setInterval(() => results.push(current.get("/load")), 100);
    await until(() => results.length > 10);
    lab.cut(["fra", "nyc"]);
    const cutAtMs = performance.now();
    await until(() => transport.explainPath(target).chosen.via === null, 8_000);
    const leftAfterMs = performance.now() - cutAtMs;
    const before = results.length;
    await until(() => results.length > before + 10);
    clearInterval(load);
    const settled = await Promise.allSettled(results);
    expect(settled.filter((one) => one.status === "rejected")).toEqual([]);
    expect(leftAfterMs).toBeLessThan(5_000);
    // Lost races may have had it left before its probes were lost.
    await until(() => transport.explainPath(target).candidates.find((one) => one.via === "nyc")?.isFailed);
    // A failed path reports total loss.
    expect(transport.linkReports().find((one) => one.via === "nyc")?.lossRatio).toBe(1);
    lab.cut();
    await until(() => transport.explainPath(target).chosen.via === "nyc", 20_000);
    expect(await lab.get("/healed")).toMatchObject({ status: 200, via: "nyc" });
  });

  test("a relay that dies is left at once", async () => {
    lab = await Lab.start({ origin: await hello(), links: farAndNear });
    const { transport, target } = lab;
    transport.start();
    await until(() => transport.explainPath(target).chosen.via === "nyc");
    await lab.relay.drain(0);
    const after = await lab.get("/after");
    expect(after).toMatchObject({ status: 200, text: "hello /after", via: null });
    expect(after.attempts).toBeGreaterThanOrEqual(1);
    await until(() =>
      transport.explainPath(target).candidates.some((one) => one.via === "nyc" && one.isFailed),
    );
  });

  test("the map's candidates replace the topology's, direct always stays", async () => {
    lab = await Lab.start({ origin: await hello(), links: farAndNear });
    const { transport, target } = lab;
    expect(transport.explainPath(target).candidates.map((one) => one.via)).toEqual([null, "nyc"]);
    const pair = { fromClusterId: clusterId("fra"), toClusterId: clusterId("sfo") };
    transport.setSnapshot(
      snapshotPaths([{ ...pair, candidates: [{ via: null, rttMs: 300, lossRatio: 0 }] }]),
    );
    expect(transport.explainPath(target)).toMatchObject({
      chosen: { via: null, reason: "only-path" },
      candidates: [{ via: null, mapRttMs: 300 }],
    });
    const named = [{ via: clusterId("nyc"), rttMs: 140, lossRatio: 0 }];
    transport.setSnapshot(snapshotPaths([{ ...pair, candidates: named }]));
    expect(transport.explainPath(target).candidates).toMatchObject([
      { via: null },
      { via: "nyc", mapRttMs: 140 },
    ]);
  });
});

describe("connections", () => {
  test("are kept: 20 requests in turn use no more than two", async () => {
    const origin = await hello();
    lab = await Lab.start({ origin, links: {} });
    for (let n = 0; n < 20; n++) expect((await lab.get(`/${n}`)).text).toBe(`hello /${n}`);
    // A connection is free again one turn of the event loop after its response: the request right behind it opens a second.
    expect(origin.accepted).toBeLessThanOrEqual(2);
  });

  test("are kept through a relay as well", async () => {
    const origin = await hello();
    lab = await Lab.start({ origin, links: farAndNear });
    const { transport, target } = lab;
    transport.start();
    await until(() => transport.explainPath(target).chosen.via === "nyc");
    const before = origin.accepted;
    for (let n = 0; n < 10; n++) expect(await lab.get(`/${n}`)).toMatchObject({ via: "nyc" });
    expect(origin.accepted - before).toBeLessThanOrEqual(2);
  });

  test("an origin that closes between requests costs a repeat, not an error", async () => {
    const origin = await hello();
    origin.server.keepAliveTimeout = 0;
    lab = await Lab.start({ origin, links: {} });
    await lab.get("/1");
    origin.server.closeAllConnections();
    expect(await lab.get("/2")).toMatchObject({ status: 200, text: "hello /2" });
  });
});

describe("requests", () => {
  test("an abort ends the exchange at the origin too", async () => {
    let closed = false;
    const origin = await listen((request, response) => {
      request.resume();
      response.on("close", () => (closed = true));
    });
    lab = await Lab.start({ origin, links: {} });
    const stop = new AbortController();
    const asked = lab.get("/slow", { signal: stop.signal });
    setTimeout(() => stop.abort(), 50);
    await expect(asked).rejects.toMatchObject({ code: "aborted", retry: "never" });
    await until(() => closed);
  });

  test("a refused connection names the target, the reason, and is safe to repeat", async () => {
    const origin = await hello();
    lab = await Lab.start({ origin, links: {} });
    await new Promise<void>((resolve) => origin.server.close(() => resolve()));
    await expect(lab.get("/x")).rejects.toMatchObject({
      code: "connect-failed",
      retry: "safe",
      source: "upstream",
    });
    await expect(lab.get("/x")).rejects.toThrow(/127\.0\.0\.1:\d+: connect ECONNREFUSED/);
  });

  test("a non-idempotent request is never sent twice", async () => {
    let seen = 0;
    const origin = await listen((request) => {
      seen++;
      request.socket.destroy();
    });
    lab = await Lab.start({ origin, links: {} });
    const { transport, target } = lab;
    const post = transport.request(target, {
      method: "POST",
      path: "/",
      headers: [],
      body: Buffer.from("once"),
    });
    await expect(post).rejects.toMatchObject({ code: "connection-lost", retry: "never" });
    expect(seen).toBe(1);
  });

  test("framing and hop-by-hop fields are made anew; raw order of the answer is kept", async () => {
    let got: string[] = [];
    const origin = await listen((request, response) => {
      got = request.rawHeaders;
      request.resume();
      response.writeHead(200, ["B", "2", "A", "1", "Set-Cookie", "x=1", "Set-Cookie", "y=2"]);
      response.end("short");
    });
    lab = await Lab.start({ origin, links: {} });
    const { transport, target } = lab;
    const response = await transport.request(target, {
      method: "GET",
      path: "/",
      headers: [
        ["Host", "www.shop.example"],
        ["Connection", "close, X-Hop"],
        ["X-Hop", "1"],
        ["Transfer-Encoding", ",chunked"],
        ["Isochrone-Peer", "forged"],
        ["Accept", "*/*"],
      ],
    });
    // What came with the head can be had without waiting.
    expect(response.isWhole).toBe(true);
    expect(String(response.body.read())).toBe("short");
    const names = got.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase());
    expect(names.sort()).toEqual(["accept", "connection", "host"]);
    expect(got.slice(0, 2)).toEqual(["host", "www.shop.example"]);
    expect(got).toContain("keep-alive");
    expect(response.headers.slice(0, 4)).toEqual([
      ["B", "2"],
      ["A", "1"],
      ["Set-Cookie", "x=1"],
      ["Set-Cookie", "y=2"],
    ]);
  });

  test("64 MiB stream both ways through the relay with bounded memory", { timeout: 60_000 }, async () => {
    const total = 64 * 1024 * 1024;
    const chunk = Buffer.alloc(64 * 1024, 7);
    let received = 0;
    const origin = await listen((request, response) => {
      if (request.method === "HEAD") {
        response.end();
        return;
      }
      request.on("data", (bytes: Buffer) => (received += bytes.length));
      request.on("end", () => {
        let left = total;
        const more = (): void => {
          while (left > 0) {
            left -= chunk.length;
            if (!response.write(chunk)) {
              response.once("drain", more);
              return;
            }
          }
          response.end();
        };
        more();
      });
    });
    lab = await Lab.start({ origin, links: { "fra|sfo": 200, "fra|nyc": 10 } });
    const { transport, target } = lab;
    transport.start();
    await until(() => transport.explainPath(target).chosen.via === "nyc");
    let sent = 0;
    const upload = new Readable({
      read() {
        if (sent >= total) this.push(null);
        else {
          sent += chunk.length;
          this.push(chunk);
        }
      },
    });
    const before = process.memoryUsage().rss;
    let peak = before;
    const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 20);
    const response = await transport.request(target, {
      method: "POST",
      path: "/",
      headers: [],
      body: upload,
    });
    let downloaded = 0;
    // A slow reader: back-pressure has to reach the origin.
    for await (const bytes of response.body) {
      downloaded += (bytes as Buffer).length;
      if (downloaded % (4 * 1024 * 1024) < 64 * 1024) await new Promise((resolve) => setTimeout(resolve, 10));
    }
    clearInterval(watch);
    expect(response.path.via).toBe("nyc");
    expect([received, downloaded]).toEqual([total, total]);
    expect(peak - before).toBeLessThan(160 * 1024 * 1024);
    expect(lab.relay.counters.bytesUp).toBeGreaterThan(total);
  });

  test("a body that breaks off is resumed by Range and arrives whole", async () => {
    const whole = Buffer.from(Array.from({ length: 1_000_000 }, (_, index) => index % 251));
    const ranges: (string | undefined)[] = [];
    const origin = await listen((request, response) => {
      request.resume();
      const { range } = request.headers;
      if (request.method === "GET") ranges.push(range);
      const from = range === undefined ? 0 : Number(/^bytes=(\d+)-$/.exec(range)?.[1]);
      response.writeHead(range === undefined ? 200 : 206, {
        ETag: '"v1"',
        "Content-Length": whole.length - from,
        ...(range !== undefined && { "Content-Range": `bytes ${from}-${whole.length - 1}/${whole.length}` }),
      });
      if (range === undefined)
        response.write(whole.subarray(0, 300_000), () => setTimeout(() => request.socket.destroy(), 50));
      else response.end(whole.subarray(from));
    });
    lab = await Lab.start({ origin, links: {} });
    const { transport, target } = lab;
    const response = await transport.request(target, { method: "GET", path: "/big", headers: [] });
    expect(response.isWhole).toBe(false);
    const chunks: Buffer[] = [];
    for await (const bytes of response.body) chunks.push(bytes as Buffer);
    expect(Buffer.concat(chunks).equals(whole)).toBe(true);
    expect(response.resumes()).toBe(1);
    expect(ranges).toEqual([undefined, "bytes=300000-"]);
  });

  test("another representation is never glued on: the reader gets an error that is safe to repeat", async () => {
    const origin = await listen((request, response) => {
      request.resume();
      const isFirst = request.headers.range === undefined;
      response.writeHead(200, { ETag: isFirst ? '"v1"' : '"v2"', "Content-Length": 1_000 });
      if (isFirst) response.write(Buffer.alloc(400), () => setTimeout(() => request.socket.destroy(), 50));
      else response.end(Buffer.alloc(1_000));
    });
    lab = await Lab.start({ origin, links: {} });
    const { transport, target } = lab;
    const response = await transport.request(target, { method: "GET", path: "/", headers: [] });
    const read = async (): Promise<void> => {
      for await (const bytes of response.body) void bytes;
    };
    await expect(read()).rejects.toMatchObject({ code: "resume-refused", retry: "safe" });
  });
});

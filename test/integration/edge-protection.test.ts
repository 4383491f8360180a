/** What reaches an origin when many ask at once, when it fails, and when its answers are for one client only. */
import { connect } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { RangeOrigin } from "../tools/range-origin.ts";
import { fetchFrom, startEdge, type TestEdge, until } from "./edge-support.ts";

let origin: RangeOrigin;
let edge: TestEdge;

async function begin(settings: Parameters<typeof startEdge>[1] = {}, negativeTtlSeconds = 0): Promise<void> {
  origin = new RangeOrigin(1_000);
  await origin.start();
  edge = await startEdge(origin, settings, undefined, undefined, { negativeTtlSeconds });
}
afterEach(async () => {
  await edge.running.stop();
  await origin.stop();
});

const burst = async (count: number, path: (n: number) => string) =>
  await Promise.all(Array.from({ length: count }, (_, n) => fetchFrom(edge.port, path(n))));

describe("misses of one key", () => {
  test("1,000 at once are one request to the origin", async () => {
    await begin();
    let release = (): void => {};
    origin.answer = (_request, response) => {
      release = () => response.writeHead(200, { "cache-control": "max-age=60" }).end("one");
      return true;
    };
    const answers = burst(1_000, () => "/a");
    await until(async () => (await edge.metric("collapsed_total")) === 999, "all but the first wait", 20_000);
    release();
    for (const answer of await answers) expect(answer.body.toString()).toBe("one");
    expect(origin.requests).toHaveLength(1);
  });

  test("the first client leaves: those who wait get the same answer", async () => {
    await begin();
    let release = (): void => {};
    origin.answer = (_request, response) => {
      release = () => response.writeHead(200, { "cache-control": "max-age=60" }).end("late");
      return true;
    };
    const leader = connect(edge.port, "127.0.0.1");
    leader.write(`GET /a HTTP/1.1\r\nHost: 127.0.0.1:${edge.port}\r\n\r\n`);
    await until(() => origin.requests.length === 1, "the leader's request is at the origin");
    const joined = burst(50, () => "/a");
    await until(async () => (await edge.metric("collapsed_total")) === 50, "all wait");
    leader.destroy();
    await new Promise((resolve) => setImmediate(resolve));
    release();
    for (const answer of await joined) expect(answer.body.toString()).toBe("late");
    expect(origin.requests).toHaveLength(1);
    expect((await fetchFrom(edge.port, "/a")).cacheStatus).toMatch(/^hit/);
  });
});

describe("answers that cannot be shared", () => {
  test("a key that is known for it is not serialised; a new one is expected to be like its family", async () => {
    await begin();
    origin.fields = { "Cache-Control": "private" };
    /**
     * The origin keeps 40 requests, or all but the first one, until all have come: whether they did. A second attempt of a busy machine may
     * be one of them.
     */
    const together = async (path: string, isFirstAlone = false) => {
      let come = 0;
      let areAllHere = false;
      origin.pace = async () => {
        if (++come === 1 && isFirstAlone) {
          await new Promise((resolve) => setTimeout(resolve, 200));
          expect(come).toBeLessThanOrEqual(2);
          return;
        }
        for (let turns = 0; come < 40 && turns < 500; turns++)
          await new Promise((resolve) => setTimeout(resolve, 20));
        areAllHere = come >= 40;
      };
      await burst(40, () => path);
      return areAllHere;
    };
    // The first one waits for an answer; when it is not for them all others go at once.
    expect(await together("/api/0", true)).toBe(true);
    expect(await together("/api/0")).toBe(true);
    await burst(10, (n) => `/api/${n}`);
    expect(await together("/api/never-seen")).toBe(true);
    expect(await edge.metric("collapse_passed_by_total")).toBe(39);
    // One that can be shared: from then on the family is asked with care again.
    origin.fields = {};
    await fetchFrom(edge.port, "/api/shared");
    await burst(40, () => "/api/also-shared");
    expect(origin.requests.filter(({ path }) => path === "/api/also-shared")).toHaveLength(1);
  });
});

describe("errors", () => {
  test("a dead origin is not dialled for each request; it is heard again after a moment", async () => {
    // Longer than all that is asked before it ends takes on a busy machine.
    await begin({ failureMemoryMs: 1_500 });
    await origin.stop();
    const failed = await burst(200, () => "/a");
    for (const { status, cacheStatus } of failed)
      expect([status, cacheStatus]).toEqual([502, "fwd=uri-miss; detail=connect-failed"]);
    for (let n = 0; n < 20; n++) await fetchFrom(edge.port, "/a");
    expect(await edge.metric("upstream_requests_total", { result: "failure" })).toBe(1);
    expect(await edge.metric("failures_remembered_total")).toBeGreaterThanOrEqual(20);
    await origin.start();
    // Constant demand does not make the memory last.
    await until(async () => (await fetchFrom(edge.port, "/a")).status === 200, "the origin is asked again");
    expect(await edge.metric("upstream_requests_total", { result: "failure" })).toBeLessThan(20);
  });

  test("an error is kept for the lifetime that it states, without one for --negative-ttl", async () => {
    await begin({}, 60);
    let headers: Record<string, string> = {};
    origin.answer = (_request, response) => {
      response.writeHead(404, headers).end("no");
      return true;
    };
    await burst(30, () => "/none");
    expect((await fetchFrom(edge.port, "/none")).cacheStatus).toMatch(/^hit; ttl=/);
    headers = { "cache-control": "max-age=5" };
    await fetchFrom(edge.port, "/stated");
    expect((await fetchFrom(edge.port, "/stated")).cacheStatus).toMatch(/^hit; ttl=[0-5]$/);
    headers = { "cache-control": "no-store" };
    await fetchFrom(edge.port, "/never");
    expect((await fetchFrom(edge.port, "/never")).cacheStatus).toMatch(/^fwd=uri-miss/);
    expect(origin.requests.map(({ path }) => path)).toEqual(["/none", "/stated", "/never", "/never"]);
  });

  test("alone no error is kept that states no lifetime", async () => {
    await begin();
    origin.answer = (_request, response) => {
      response.writeHead(404).end("no");
      return true;
    };
    await fetchFrom(edge.port, "/none");
    expect((await fetchFrom(edge.port, "/none")).cacheStatus).toMatch(/^fwd=uri-miss/);
  });
});

/** Slow clients in short: limits of a second, a few hundred connections. The long form is `npm run lab -- slow-clients`. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hold } from "../tools/hostile/slow-clients.ts";
import { fetchFrom, startEdge, type TestEdge, TestOrigin } from "./edge-support.ts";

const LIMIT_MS = 1_000;
/** The server looks at its limits twice a second; the rest is for a machine that is busy with other things. */
const LATE_MS = 4_000;

let origin: TestOrigin;
let edge: TestEdge;
beforeAll(async () => {
  origin = new TestOrigin();
  await origin.start();
  origin.answer = (request, response) =>
    request.url === "/large"
      ? response.writeHead(200, { "cache-control": "max-age=60" }).end(Buffer.alloc(8 * 2 ** 20, "l"))
      : response.end("ok");
  edge = await startEdge(origin, {
    headersTimeoutMs: LIMIT_MS,
    bodyGraceMs: LIMIT_MS,
    writeStallMs: LIMIT_MS,
  });
});
afterAll(async () => {
  await edge.running.stop();
  await origin.stop();
});

const held = (opening: string, options: { readonly isReading: boolean; readonly drip: string }) =>
  hold({
    port: edge.port,
    connections: 200,
    opening: () => opening,
    drip: options.drip === "" ? undefined : { everyMs: 200, text: () => options.drip },
    isReading: options.isReading,
    watchMs: LIMIT_MS + LATE_MS,
    limitsMs: [],
    perSecond: 2_000,
  });

describe("slow clients", () => {
  test("a head that drips is ended with 408, whichever reader has it", async () => {
    for (const opening of [
      "GET /x HTTP/1.1\r\nHost: a\r\nX-Slow: ",
      "POST /x HTTP/1.1\r\nHost: a\r\nX-Slow: ",
    ]) {
      const before = await edge.metric("refused_total", { reason: "slow-head" });
      const report = await held(opening, { isReading: true, drip: "a" });
      expect(report).toMatchObject({ refused: 0, closed: 200, byStatus: { 408: 200 } });
      expect((await edge.metric("refused_total", { reason: "slow-head" })) - before).toBe(200);
    }
  });

  test("content that drips is ended with 408, holds no connection to the origin, and honest clients notice nothing", async () => {
    const dripping = held("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", {
      isReading: true,
      drip: "a",
    });
    let honest = 0;
    let isOver = false;
    void dripping.then(() => {
      isOver = true;
      return undefined;
    });
    while (!isOver) {
      expect((await fetchFrom(edge.port, `/honest/${honest}`)).status).toBe(200);
      expect((await fetchFrom(edge.port, `/honest/${honest}`, { method: "POST", body: "ok" })).status).toBe(
        200,
      );
      honest += 1;
    }
    const report = await dripping;
    expect(report).toMatchObject({ refused: 0, closed: 200, byStatus: { 408: 200 } });
    expect(await edge.metric("refused_total", { reason: "slow-body" })).toBe(200);
    expect(honest).toBeGreaterThan(10);
    // Some are let through to the origin early, in case they wait for an answer; never many.
    expect(origin.seen.filter(({ url }) => url === "/x").length).toBeLessThanOrEqual(32);
  });

  test("readers that stall are reset, also when all of the answer is in memory", async () => {
    await fetchFrom(edge.port, "/large", { headers: { host: "a" } });
    const report = await held("GET /large HTTP/1.1\r\nHost: a\r\n\r\n", { isReading: false, drip: "" });
    expect(report).toMatchObject({ refused: 0, closed: 200 });
    expect((await fetchFrom(edge.port, "/large", { headers: { host: "a" } })).body.length).toBe(8 * 2 ** 20);
  });
});

/** Collections of the whole heap by an edge that holds little, while contents pass through it. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ask } from "../tools/hostile/slow-clients.ts";
import { type IsochroneProcess, startIsochrone } from "../tools/processes.ts";

const BODY = Buffer.alloc(100 * 1_024, "0123456789abcdef");

/** Tells of each collection of the old generation as it is begun with the process. */
const TELLING = `
import { constants, PerformanceObserver } from "node:perf_hooks";
new PerformanceObserver((list) => {
  for (const { detail } of list.getEntries())
    if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) process.stderr.write("collected\\n");
}).observe({ entryTypes: ["gc"] });
`;

const origin = createServer((_request, response) => {
  response.writeHead(200, { "content-length": BODY.byteLength, "cache-control": "no-store" }).end(BODY);
});
let edge: IsochroneProcess;
beforeAll(async () => {
  await once(origin.listen(0, "127.0.0.1"), "listening");
  const { port } = origin.address() as AddressInfo;
  edge = await startIsochrone(["edge", "--listen", "127.0.0.1:0", "--origin", `http://127.0.0.1:${port}`], {
    env: { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(TELLING)}` },
  });
});
afterAll(async () => {
  await edge.stop();
  origin.close();
});

const collections = (): number => edge.stderr().match(/^collected$/gm)?.length ?? 0;

async function pass(count: number): Promise<void> {
  const statuses = await ask({
    port: Number(/^ready edge [^ ]*:([0-9]+) /.exec(edge.readyLine)?.[1]),
    connections: 16,
    pipelined: 1,
    count,
    bytes: (index) => `GET /${index} HTTP/1.1\r\nHost: passes.test\r\n\r\n`,
  });
  const { 200: passed = 0, 503: shed = 0 } = statuses;
  expect(passed + shed).toBe(count);
  expect(passed).toBeGreaterThan(0.9 * count);
}

test("contents that are not stored are let go of without a look through the whole heap for each dozen megabytes", async () => {
  await pass(500);
  // It looks at its memory once a second.
  await pause(2_500);
  await pass(500);
  const before = collections();
  await pass(4_000);
  // Of 400 MB there were 34 when the heap grew by three tenths at most.
  expect(collections() - before).toBeLessThan(15);
}, 120_000);

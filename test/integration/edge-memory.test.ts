/** One edge process under keys that nobody asks for twice. At length: `npm run bench -- unique-keys`. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HEAP_FLAGS } from "#edge";
import { ask } from "../tools/hostile/slow-clients.ts";
import { type IsochroneProcess, startIsochrone } from "../tools/processes.ts";
import { residentBytesOf } from "../tools/resident.ts";

const MEBIBYTE = 2 ** 20;
const CAP_BYTES = 32 * MEBIBYTE;
const BODY_BYTES = 16 * 1_024;
/** Four times what the store can hold. */
const KEYS = 8_000;

let origin: Worker;
let edge: IsochroneProcess;
let port = 0;
beforeAll(async () => {
  origin = new Worker(new URL("../tools/hostile/lab-origin.ts", import.meta.url));
  const [originPort] = (await once(origin, "message")) as [number];
  edge = await startIsochrone(
    [
      "edge",
      "--listen",
      "127.0.0.1:0",
      "--origin",
      `http://127.0.0.1:${originPort}`,
      "--memory",
      `${CAP_BYTES / MEBIBYTE}MiB`,
    ],
    { env: { MALLOC_ARENA_MAX: undefined, MALLOC_TRIM_THRESHOLD_: "262144" } },
  );
  port = Number(/^ready edge [^ ]*:([0-9]+) /.exec(edge.readyLine)?.[1]);
});
afterAll(async () => {
  const { code } = await edge.stop();
  expect(code).toBe(0);
  await origin.terminate();
});

const fill = async (name: string, count: number): Promise<void> => {
  const statuses = await ask({
    port,
    connections: 32,
    pipelined: 4,
    count,
    bytes: (index) => `GET /sized/${BODY_BYTES}/${name}/${index} HTTP/1.1\r\nHost: keys.test\r\n\r\n`,
  });
  // An origin that stands still for a while on a busy machine has some of them shed.
  const { 200: filled = 0, 503: shed = 0 } = statuses;
  expect(filled + shed).toBe(count);
  expect(filled).toBeGreaterThan(0.9 * count);
};

// /proc is Linux's, and so are malloc's variables.
describe.skipIf(!existsSync("/proc/self/environ"))("an edge that was started plainly", () => {
  test("has become one with its own heap flags, in the same process, and the operator's variables stand", () => {
    const flags = readFileSync(`/proc/${edge.pid}/cmdline`, "latin1").split("\0");
    expect(flags).toEqual(expect.arrayContaining([...HEAP_FLAGS]));
    const environment = readFileSync(`/proc/${edge.pid}/environ`, "latin1").split("\0");
    expect(environment).toContain("MALLOC_ARENA_MAX=1");
    expect(environment).toContain("MALLOC_TRIM_THRESHOLD_=262144");
    expect(environment).not.toContain("MALLOC_TRIM_THRESHOLD_=131072");
  });

  test("stays near its cap while unique keys of four times the cap come in", async () => {
    // The code is warm first: what compiling takes is no part of the store.
    await fill("warm", 500);
    const before = residentBytesOf(edge.pid);
    let most = 0;
    const sampler = setInterval(() => {
      most = Math.max(most, residentBytesOf(edge.pid));
    }, 50);
    await fill("unique", KEYS);
    clearInterval(sampler);
    const growth = Math.max(most, residentBytesOf(edge.pid)) - before;
    // It was filled at all, and it did not go on growing.
    expect(growth).toBeGreaterThan(CAP_BYTES * 0.3);
    expect(growth).toBeLessThan(CAP_BYTES * 1.6);
  }, 60_000);

  test("looks at its memory every second also when it has no descriptor left for that", async () => {
    const open = new Set(readdirSync(`/proc/${edge.pid}/fd`).map(Number));
    let firstFree = 0;
    while (open.has(firstFree)) firstFree++;
    const limit = (count: number): unknown =>
      execFileSync("prlimit", ["--pid", String(edge.pid), `--nofile=${count}:`]);
    limit(firstFree);
    await pause(2_500);
    limit(16_384);
    await fill("after", 100);
  }, 60_000);
});
